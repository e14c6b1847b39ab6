//! Opening a table: its log is read once, from the begin to the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use super::super::log::{CommitOptions, Committer, Damage, Disk, Log, ReadError, Recovered};
use super::super::state::{StateChange, StateKind};
use super::compact::Compactor;
use super::error::OpenError;
use super::index::{Entry, Index, Spot};
use super::options::TableOptions;
use super::table::Table;

/// What was found when a table was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// Keys that have a value.
    pub keys: usize,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Bytes of all records.
    pub log_bytes: u64,
    /// What was found of its log. A key that was changed where there is damage has an older value, has none though one was
    /// put, or has one though it was removed. The table is not compacted until that is accepted: see
    /// [`Table::accept_damage`].
    pub recovered: Recovered,
}

impl Table {
    /// Opens the table in a folder, which is made if it is not there. Reads all of its log; changes nothing, but for a reserve that
    /// is not to be kept: it is removed.
    ///
    /// # Errors
    /// [`OpenError`]; damage is none, but said in [`Opened`].
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: impl Into<PathBuf>,
        options: TableOptions,
    ) -> Result<(Self, Opened), OpenError> {
        let log_options = options.log().map_err(OpenError::Option)?;
        let (log, recovered) = Log::open(disk, folder, log_options).map_err(OpenError::Log)?;
        if !options.reserve {
            log.remove_reserve();
        }
        let (index, damages) = read(&log, recovered.first, recovered.damages)?;
        let max = log_options.record_bytes_max.into();
        let too_long = |(_, entry): &(StateKind, &Entry)| entry.body_bytes() as u64 > max;
        if let Some((kind, entry)) = index.entries().find(too_long) {
            return Err(OpenError::TooLong { kind, bytes: entry.body_bytes(), max });
        }
        let opened = Opened {
            keys: index.keys(),
            live_bytes: index.live_bytes(),
            log_bytes: index.log_bytes(),
            recovered: Recovered { damages: damages.clone(), ..recovered },
        };
        let committer = Committer::start(log, CommitOptions::default());
        let table = Self {
            committer: committer.map_err(|error| OpenError::Thread(Arc::new(error)))?,
            options,
            changing: RwLock::default(),
            index: RwLock::new(index),
            compactor: Mutex::new(Compactor::new(damages)),
        };
        Ok((table, opened))
    }
}

/// Reads all records, and adds the damages that only reading finds.
fn read(log: &Log, first: u64, mut damages: Vec<Damage>) -> Result<(Index, Vec<Damage>), OpenError> {
    let mut index = Index::default();
    let mut reader = log.read(first);
    while let Some(next) = reader.next_record() {
        match next {
            Ok(record) => {
                let position = record.header.position;
                let change = StateChange::of(&record).ok_or(OpenError::Foreign { position })?;
                index.apply(&change, Spot::new(position, record.offset));
            }
            Err(ReadError::Disk(fault)) => return Err(OpenError::Disk(fault)),
            Err(ReadError::Damaged(damage)) => {
                let is_same = |known: &Damage| (&known.file, known.offset) == (&damage.file, damage.offset);
                damages.retain(|known| !is_same(known));
                damages.push(damage);
            }
            Err(ReadError::Retired { .. }) => unreachable!("it is read from the first position on"),
        }
    }
    index.set_log_bytes(log.segments().iter().map(|segment| segment.bytes).sum());
    Ok((index, damages))
}
