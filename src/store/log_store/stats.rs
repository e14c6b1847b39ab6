//! What a store on disk says of itself.

use std::path::Path;

use super::super::Position;
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
}

impl LogStore {
    /// Whether there is a store in a folder: one that was opened there once.
    pub fn is_in(folder: impl AsRef<Path>) -> bool {
        folder.as_ref().join(super::TABLE_FOLDER).is_dir()
    }

    /// How much is in it, as queries see it now. Takes no time worth speaking of.
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
        stats.positions = first.zip(Position::new(parts.last)).filter(|(first, last)| first <= last);
        stats
    }
}
