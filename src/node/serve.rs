//! The job `ringmain serve`: a node, until a signal ends it.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::args::Serve;
use super::config::settings::{HTTP_LISTEN, HTTP_TOKEN_FILE, STORE_DATA};
use super::config::{Change, ConfigError, Origin};
use super::core::{Core, Node, NodeBuilder, RunningNode};
use super::progress::Progress;
use crate::Notice;

/// How often it is looked whether the file of the configuration is another.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Exit code for a node that could not start, or that left something behind.
const FAILED: u8 = 1;
/// Exit code for flags and configurations that are wrong.
const WRONG: u8 = 2;

/// Runs the job until a signal ends it, and returns its exit code.
pub fn run(flags: &Serve) -> ExitCode {
    let node = match builder(flags).build() {
        Ok(node) => node,
        Err(error) => {
            error.faults().iter().for_each(say);
            return WRONG.into();
        }
    };
    match node.start() {
        Ok(node) => serve(node, flags.config.clone()),
        Err(error) => {
            say(error);
            FAILED.into()
        }
    }
}

fn builder(flags: &Serve) -> NodeBuilder {
    let mut builder = Node::builder().bus(|bus| bus.observer(tell)).watch(&flags.watch);
    if let Some(file) = &flags.config {
        builder = builder.config_file(file);
    }
    if let Some(address) = &flags.listen {
        builder = builder.give(&HTTP_LISTEN, Origin::Flag("--listen"), address);
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

/// The signals that it hears, from before it says that it listens.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal means.
#[derive(PartialEq, Eq)]
enum Heard {
    End,
    Reload,
}

impl Signals {
    fn hear() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::End,
            _ = self.interrupt.recv() => Heard::End,
            _ = self.hang_up.recv() => Heard::Reload,
        }
    }
}

fn serve(node: RunningNode, file: Option<PathBuf>) -> ExitCode {
    let runtime = node.runtime();
    let heard = {
        let _runtime = runtime.enter();
        Signals::hear()
    };
    let mut signals = match heard {
        Ok(signals) => signals,
        Err(error) => {
            say(format!("signals cannot be heard: {error}"));
            return FAILED.into();
        }
    };
    if let Some(address) = node.address() {
        // Whoever started it may have gone without reading.
        let _ = writeln!(io::stdout().lock(), "listening on http://{address}");
    }
    runtime.block_on(until_ended(&mut signals, node.core(), file));
    say("it ends: what was taken is brought to its end; a second signal ends it at once");
    runtime.spawn(async move {
        while signals.next().await != Heard::End {}
        say("a second signal: it ends at once, and what was acknowledged is delivered after the next start");
        exit(FAILED.into());
    });
    let report = node.stop();
    report.left.iter().for_each(say);
    if report.is_clean() { ExitCode::SUCCESS } else { FAILED.into() }
}

/// Until a signal ends it. The configuration is read again when a signal says so, and when its file is another.
async fn until_ended(signals: &mut Signals, core: &Arc<Core>, file: Option<PathBuf>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = file.as_deref().and_then(version);
    loop {
        tokio::select! {
            heard = signals.next() => match heard {
                Heard::End => return,
                Heard::Reload => {
                    seen = file.as_deref().and_then(version);
                    reload(core).await;
                }
            },
            _ = look.tick(), if file.is_some() => {
                let now = file.as_deref().and_then(version);
                // A file that is away for a moment is being replaced.
                if now.is_some() && now != seen {
                    seen = now;
                    reload(core).await;
                }
            }
        }
    }
}

/// What tells one version of a file from another.
fn version(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn reload(core: &Arc<Core>) {
    let core = Arc::clone(core);
    match tokio::task::spawn_blocking(move || core.reload()).await {
        Ok(reloaded) => tell_reloaded(reloaded),
        Err(error) => say(error),
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
