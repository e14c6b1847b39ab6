//! What a store on disk says of itself.

use std::path::Path;

use super::super::Position;
use super::super::log::{self, Disk, RealDisk};
use super::LogStore;

/// How much is in a [`LogStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogStoreStats {
    /// Positions of the first and the last event; `None` when there is none.
    pub positions: Option<(Position, Position)>,
    /// Events that can be read, as far as is known.
    pub events: u64,
    /// Files that the events are in.
    pub segments: usize,
    /// Bytes of events in them before compression, with what is written beside each. On the disk the last file takes the room
    /// reserved for it.
    pub event_bytes: u64,
    /// Whether room for one more file of state is set aside, for when the disk is full. It is from the first change of state on, where
    /// there is twice the room for it and the file system sets room aside.
    pub has_state_reserve: bool,
}

impl LogStore {
    /// Whether there is a store in a folder: files of events or of state, or a store that was opened there once and never
    /// written to. A folder that has something else beside a folder `table` is none.
    pub fn is_in(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        let names = |folder: &Path| RealDisk.list(folder).unwrap_or_default();
        let (events, state) = (names(folder), names(&folder.join(super::TABLE_FOLDER)));
        if events.iter().chain(&state).any(|name| log::is_file_of_log(name)) {
            return true;
        }
        state.is_empty() && folder.join(super::TABLE_FOLDER).is_dir() && events == [super::TABLE_FOLDER]
    }

    /// How much is in it, as queries see it now. Waits for no disk, and takes no time worth speaking of.
    pub fn stats(&self) -> LogStoreStats {
        let parts = self.shared.parts();
        let active = parts.active.as_ref().map(|active| (active.first, active.built.end));
        let ends = parts.sealed.iter().map(|part| (part.first, part.end)).chain(active);
        let events = self.shared.reader.segments().iter().map(|segment| segment.records).sum();
        let (mut stats, mut first) = (LogStoreStats { events, ..LogStoreStats::default() }, None);
        for (first_in, end) in ends {
            first = first.or(Position::new(first_in));
            stats.segments += 1;
            stats.event_bytes += end;
        }
        stats.has_state_reserve = self.shared.table.has_reserve();
        stats.positions = first.zip(Position::new(parts.last)).filter(|(first, last)| first <= last);
        stats
    }
}
