//! The job `ringmain store`: lines into a store in a folder, and out of it.
//!
//! ```text
//! stdin, FILE ──► lines ──► frames ──► append ══ LogStore ══► query ──► lines ──► stdout, FILE
//!                   │                    │                      │
//!                   └ malformed: named   └ --ack: ids           └ what cannot be read: named, passed over
//! ```

mod append;
pub mod flags;
pub(super) mod found;
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
pub(super) const FAILED: u8 = 1;
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
    let store = open(LogStore::builder(folder).retention(Retention::forever())).map_err(Failure::Said)?;
    for line in found::mended(&store) {
        Progress::silent().say(&format!("ringmain: {line}\n"));
    }
    Ok(store)
}

/// As [`open_existing`], for a command that does not look at everything: it says how much cannot be read.
pub(super) fn open_to_read(folder: &Path) -> Result<LogStore, Failure> {
    let store = open_existing(folder)?;
    let places = found::damaged(&store).len() as u64;
    if places > 0 {
        let (places, folder) = (grouped(places), folder.display());
        Progress::silent().say(&format!(
            "ringmain: {places} places cannot be read, which `ringmain store verify --data {folder}` names\n"
        ));
    }
    Ok(store)
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

/// Says all that was found of a store that is to be written to.
pub(super) fn say_recovered(store: &LogStore, progress: &Progress) {
    for line in found::mended(store).into_iter().chain(found::damaged(store)) {
        progress.say(&format!("ringmain: {line}\n"));
    }
}

pub(super) fn print(text: &[u8]) -> Result<(), Failure> {
    io::stdout().lock().write_all(text).map_err(|error| Failure::of_stdout(&error))
}
