//! The job `ringmain serve`: a node, until a signal ends it.

use std::fmt::Display;
use std::io::{self, Write};
use std::mem;
use std::panic::resume_unwind;
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::args::Serve;
use super::config::settings::{HTTP_LISTEN, HTTP_TOKEN_FILE, STORE_DATA, STORE_STATE_RESERVE};
use super::config::{Change, ConfigError, ConfigFile, Origin};
use super::core::{Core, Node, NodeBuilder, NodeError};
use super::progress::Progress;
use crate::Notice;

/// How often it is looked whether the file of the configuration is another; two looks have to agree.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Exit code for a node that could not start, or that left something behind.
const FAILED: u8 = 1;
/// Exit code for flags and configurations that are wrong.
const WRONG: u8 = 2;

/// Runs the job until a signal ends it, and returns its exit code.
pub fn run(flags: &Serve) -> ExitCode {
    // As it is before it is read: what changes meanwhile is another version.
    let file = flags.config.clone().map(ConfigFile::new);
    let node = match builder(flags).bus(|bus| bus.observer(tell)).build() {
        Ok(node) => node,
        Err(error) => return wrong(&error),
    };
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(NodeError::Runtime(error.to_string()));
            return FAILED.into();
        }
    };
    runtime.block_on(async {
        match Signals::hear() {
            Ok(signals) => serve(node, file, signals).await,
            Err(error) => {
                say(format!("signals cannot be heard: {error}"));
                FAILED.into()
            }
        }
    })
}

/// Says what is wrong with a configuration.
pub(super) fn wrong(error: &ConfigError) -> ExitCode {
    error.faults().iter().for_each(say);
    WRONG.into()
}

/// A node by these flags.
pub(super) fn builder(flags: &Serve) -> NodeBuilder {
    let mut builder = Node::builder().watch(&flags.watch);
    if let Some(file) = &flags.config {
        builder = builder.config_file(file);
    }
    if let Some(address) = &flags.listen {
        builder = builder.give(&HTTP_LISTEN, Origin::Flag("--listen"), address);
    }
    if let Some(is_kept) = &flags.state_reserve {
        builder = builder.give(&STORE_STATE_RESERVE, Origin::Flag("--state-reserve"), is_kept);
    }
    for (setting, flag, path) in
        [(&STORE_DATA, "--data", &flags.data), (&HTTP_TOKEN_FILE, "--token-file", &flags.token_file)]
    {
        if let Some(path) = path {
            builder = builder.give(setting, Origin::Flag(flag), path.display());
        }
    }
    builder
}

/// What somebody who runs it has to know of.
fn tell(notice: &Notice<'_>) {
    match notice {
        Notice::StorageFailed { .. }
        | Notice::StorageReturned { .. }
        | Notice::WorkerHung { .. }
        | Notice::WorkerRestarted { .. }
        | Notice::WorkerFailed { .. }
        | Notice::Suspended { .. }
        | Notice::Undeliverable { .. }
        | Notice::DeadLettersOverflow { .. } => say(format!("{notice:?}")),
        _ => {}
    }
}

fn say(what: impl Display) {
    Progress::silent().say(&format!("ringmain: {what}\n"));
}

/// The signals that it hears, from before it begins anything to its end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// One has ended it.
    ends: bool,
    /// One has asked for the file to be read, which was not done yet.
    reloads: bool,
}

impl Signals {
    fn hear() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            ends: false,
            reloads: false,
        })
    }

    /// Waits for the next one. The second that ends it does so here.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {
                self.reloads = true;
                return;
            }
        }
        if self.ends {
            say("a second signal: it ends at once, and what was acknowledged is delivered after the next start");
            exit(FAILED.into());
        }
        self.ends = true;
        say("it ends: what was taken is brought to its end; a second signal ends it at once");
    }

    /// Does what blocks, and hears signals meanwhile: one is taken up when it is done.
    async fn beside<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let mut work = spawn_blocking(work);
        loop {
            tokio::select! {
                done = &mut work => return done.unwrap_or_else(|error| resume_unwind(error.into_panic())),
                () = self.next() => {}
            }
        }
    }
}

async fn serve(node: Node, file: Option<ConfigFile>, mut signals: Signals) -> ExitCode {
    let node = match signals.beside(|| node.start()).await {
        Ok(node) => node,
        Err(error) => {
            say(error);
            return FAILED.into();
        }
    };
    node.core().found.iter().flat_map(|found| &found.said).for_each(say);
    if let Some(address) = node.address().filter(|_| !signals.ends) {
        // Whoever started it may have gone without reading.
        let _ = writeln!(io::stdout().lock(), "listening on http://{address}");
    }
    until_ended(&mut signals, node.core(), file).await;
    let report = signals.beside(|| node.stop()).await;
    report.left.iter().for_each(say);
    if report.is_clean() { ExitCode::SUCCESS } else { FAILED.into() }
}

/// Until a signal ends it. The configuration is read again when a signal says so, and when its file is another.
async fn until_ended(signals: &mut Signals, core: &Arc<Core>, mut file: Option<ConfigFile>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !signals.ends {
        let core = Arc::clone(core);
        if mem::take(&mut signals.reloads) {
            file.iter_mut().for_each(ConfigFile::mark);
            tell_reloaded(signals.beside(move || core.reload()).await);
            continue;
        }
        tokio::select! {
            () = signals.next() => {}
            _ = look.tick(), if file.is_some() => {
                if let Some(read) = file.as_mut().and_then(ConfigFile::look) {
                    tell_reloaded(signals.beside(move || core.reload_read(read)).await);
                }
            }
        }
    }
}

fn tell_reloaded(reloaded: Result<Vec<Change>, ConfigError>) {
    match reloaded {
        Ok(changes) if changes.is_empty() => say("the configuration is as it was"),
        Ok(changes) => changes.iter().for_each(say),
        Err(error) => {
            error.faults().iter().for_each(say);
            say("the configuration was not taken; everything is as it was");
        }
    }
}
