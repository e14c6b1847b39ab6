//! The job `ringmain store`: lines into a store in a folder, and out of it.
//!
//! ```text
//! stdin, FILE ──► lines ──► frames ──► append ══ LogStore ══► query ──► lines ──► stdout, FILE
//!                   │                    │                      │
//!                   └ malformed: named   └ --ack: ids           └ what cannot be read: named, passed over
//! ```

mod append;
pub mod flags;
mod inspect;
mod read;

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use self::flags::Store;
use super::progress::Progress;
use crate::store::{LogStore, Retention};

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
        Store::Causation(flags) => inspect::causation(flags),
    };
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
enum Failure {
    /// Nobody reads stdout any more, which is how a pipeline ends.
    NobodyReads,
    /// What went wrong, for stderr.
    Said(String),
}

impl Failure {
    fn said(what: impl ToString) -> Self {
        Self::Said(what.to_string())
    }

    fn of_stdout(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Said(format!("stdout cannot be written: {error}")),
        }
    }
}

/// Opens a store that is there: a wrong name would otherwise make an empty one.
fn open_existing(folder: &Path) -> Result<LogStore, Failure> {
    if !LogStore::is_in(folder) {
        let folder = folder.display();
        return Err(Failure::Said(format!(
            "there is no store in {folder}; `ringmain store append --data {folder}` makes one"
        )));
    }
    LogStore::builder(folder).retention(Retention::forever()).open().map_err(Failure::said)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    io::stdout().lock().write_all(text).map_err(|error| Failure::of_stdout(&error))
}
