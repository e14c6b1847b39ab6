//! The job `ringmain store`: lines into a store in a folder, and out of it.
//!
//! ```text
//! stdin, FILE ──► lines ──► frames ──► append ══ LogStore ══► query ──► lines ──► stdout, FILE
//!                   │                    │                      │
//!                   └ malformed: named   └ --ack: ids           └ what cannot be read: named, passed over
//! ```

mod append;
pub mod flags;
mod help;
pub(super) mod inspect;
mod known;
pub(super) mod pace;
mod read;
mod replay;
pub(super) mod values;

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use self::flags::Store;
use super::human::grouped;
use super::progress::Progress;
use crate::store::{LogStore, LogStoreBuilder, OpenError, Retention};

/// Exit code for what could not be read, written or opened, and for events that cannot be read.
const FAILED: u8 = 1;
/// Exit code for a malformed line under `--strict`.
const MALFORMED: u8 = 2;

/// Runs the command and returns its exit code.
pub fn run(command: &Store) -> ExitCode {
    let result = match command {
        Store::Append(flags) => append::append(flags),
        Store::Import(flags) => append::import(flags),
        Store::Query(flags) => read::query(flags),
        Store::Export(flags) => read::export(flags),
        Store::Stats(flags) => inspect::stats(flags),
        Store::Verify(flags) => inspect::verify(flags),
        Store::Archive(flags) => inspect::archive(flags),
        Store::Replay(flags) => replay::replay(flags),
        Store::Compact(flags) => inspect::compact(flags),
        Store::Causation(flags) => inspect::causation(flags),
    };
    ended(result)
}

/// The exit code of a command; what went wrong is said.
pub(super) fn ended(result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(code) => code.into(),
        Err(Failure::NobodyReads) => 0.into(),
        Err(Failure::Said(what)) => {
            Progress::silent().say(&format!("ringmain: {what}\n"));
            FAILED.into()
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody reads stdout any more, which is how a pipeline ends.
    NobodyReads,
    /// What went wrong, for stderr.
    Said(String),
}

impl Failure {
    pub(super) fn said(what: impl ToString) -> Self {
        Self::Said(what.to_string())
    }

    pub(super) fn of_stdout(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Said(format!("stdout cannot be written: {error}")),
        }
    }
}

/// Opens a store that is there: a wrong name would otherwise make an empty one.
pub(super) fn open_existing(folder: &Path) -> Result<LogStore, Failure> {
    if !LogStore::is_in(folder) {
        let folder = folder.display();
        return Err(Failure::Said(format!(
            "there is no store in {folder}; `ringmain store append --data {folder}` makes one"
        )));
    }
    open(LogStore::builder(folder).retention(Retention::forever())).map_err(Failure::Said)
}

/// Opens a store, or says why not.
pub(super) fn open(builder: LogStoreBuilder) -> Result<LogStore, String> {
    builder.open().map_err(|error| match error {
        OpenError::Locked { folder } => {
            let folder = folder.display();
            format!("{folder} is in use: another process has this store open; wait until it has ended, or end it")
        }
        error => error.to_string(),
    })
}

/// Says what was found of a store that is to be written to.
pub(super) fn say_recovered(store: &LogStore, progress: &Progress) {
    say_cut(store, progress);
    for damage in &store.recovered().damages {
        progress.say(&format!("ringmain: {damage}\n"));
    }
    for damage in store.state_damages() {
        progress.say(&format!("ringmain: of snapshots and state: {damage}\n"));
    }
}

/// Says what was cut off, and what a crash had left of archiving. Returns whether something acknowledged may be lost.
fn say_cut(store: &LogStore, progress: &Progress) -> bool {
    let cut = [("", store.recovered()), ("of snapshots and state: ", store.state_recovered())];
    for (of, recovered) in cut.into_iter().filter(|(_, recovered)| recovered.cut_bytes > 0) {
        let bytes = grouped(recovered.cut_bytes);
        let what = match recovered.cut_may_be_written {
            true => {
                "the machine went down before they were synced, and what was acknowledged as written may be among them"
            }
            false => "a write that was not acknowledged ended in the middle",
        };
        progress.say(&format!("ringmain: {of}{bytes} bytes at the end were cut off: {what}\n"));
    }
    for file in &store.recovered().removed {
        let file = file.display();
        progress.say(&format!("ringmain: {file} was removed: its events are there twice, archiving was cut short\n"));
    }
    cut.iter().any(|(_, recovered)| recovered.cut_may_be_written)
}

pub(super) fn print(text: &[u8]) -> Result<(), Failure> {
    io::stdout().lock().write_all(text).map_err(|error| Failure::of_stdout(&error))
}
