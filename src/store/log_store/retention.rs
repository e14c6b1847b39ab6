//! What becomes of old events: they are archived, and removed where that is asked for.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::log::{Fault, RetireError, SegmentInfo, remove};
use super::LogStore;
use super::part::Part;
use super::shared::Shared;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a [`LogStore`] keeps events, and in what form. It acts on segments as a whole: on one whose every event is old,
/// never on the newest. How old an event is, is told by the wall clock at its append and now.
///
/// ```
/// use ringmain::store::Retention;
/// use std::time::Duration;
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let year = Retention::default().archive_after(30 * day).remove_after(365 * day);
/// # let _ = year;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    archive_after: Option<Duration>,
    remove_after: Option<Duration>,
    bytes_max: Option<u64>,
}

impl Default for Retention {
    /// Events are archived after 90 days, and kept for ever.
    fn default() -> Self {
        Self { archive_after: Some(90 * DAY), ..Self::forever() }
    }
}

impl Retention {
    /// Events stay as they are.
    pub const fn forever() -> Self {
        Self { archive_after: None, remove_after: None, bytes_max: None }
    }

    /// Compresses events of this age: queries and replay read them, slower. Default 90 days.
    #[must_use]
    pub const fn archive_after(self, age: Duration) -> Self {
        Self { archive_after: Some(age), ..self }
    }

    /// Removes events of this age for good, also those that a durable subscription or publisher has not come to. An aggregate whose events are all removed is at the version of its snapshot; one
    /// without a snapshot is new again. Default: none is removed.
    #[must_use]
    pub const fn remove_after(self, age: Duration) -> Self {
        Self { remove_after: Some(age), ..self }
    }

    /// Removes the oldest events for good while there are more than so many bytes of events, not counting what archiving
    /// saves. Default: none is removed.
    #[must_use]
    pub const fn bytes_max(self, bytes: u64) -> Self {
        Self { bytes_max: Some(bytes), ..self }
    }
}

/// What was done to old events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Upkeep {
    /// Segments that were archived.
    pub archived_segments: usize,
    /// Bytes of the disk that this gave back.
    pub archived_bytes: u64,
    /// Segments that were removed.
    pub removed_segments: usize,
    /// Events in them.
    pub removed_events: u64,
}

impl LogStore {
    /// What [`keep`](Self::keep) would do now: `archived_bytes` are those of events in the segments that would be compressed, some
    /// of which may stay as they are because they do not shrink. Changes nothing, and reads no event.
    pub fn due(&self, retention: Retention) -> Upkeep {
        let segments = self.shared.reader.segments();
        let (removed, archived) = self.shared.due(retention, &segments);
        Upkeep {
            archived_segments: archived.len(),
            archived_bytes: archived.iter().map(|nth| segments[*nth].bytes).sum(),
            removed_segments: removed,
            removed_events: segments[..removed].iter().map(|segment| segment.records).sum(),
        }
    }

    /// Does to old events what a retention says, now. The store does the same by [its own](super::LogStoreBuilder::retention)
    /// when it is opened, whenever a segment is full, and once an hour.
    ///
    /// # Errors
    /// When the disk fails; part of it may have been done.
    ///
    /// # Cost
    /// Compresses some 30 MB a second, beside appending and reading.
    pub fn keep(&self, retention: Retention) -> Result<Upkeep, Fault> {
        self.keep_telling(retention, |_| {})
    }

    /// As [`keep`](Self::keep); tells what is done so far each time when a segment was compressed.
    ///
    /// # Errors
    /// As `keep`.
    pub fn keep_telling(&self, retention: Retention, tell: impl FnMut(&Upkeep)) -> Result<Upkeep, Fault> {
        self.shared.keep(retention, &|| false, tell)
    }
}

impl Shared {
    /// How many segments are to be removed, and which of the others are to be archived.
    fn due(&self, retention: Retention, segments: &[SegmentInfo]) -> (usize, Vec<usize>) {
        let now = self.disk.unix_now_ns();
        let newest_in = |nth: usize| {
            let written =
                |nth: usize| segments.get(nth).and_then(|segment: &SegmentInfo| segment.written_unix_ns.clone());
            // One of which nothing can be read is not younger than what comes behind it.
            written(nth).map(|written| *written.end()).or(written(nth + 1).map(|written| *written.start()))
        };
        let is_old = |nth: usize, age: Option<Duration>| {
            let age = age.map_or(u128::MAX, |age| age.as_nanos());
            newest_in(nth).is_some_and(|newest| u128::from(now.saturating_sub(newest)) >= age)
        };
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut removed = 0;
        for (nth, segment) in segments.iter().enumerate().take(segments.len().saturating_sub(1)) {
            let is_too_much = retention.bytes_max.is_some_and(|max| bytes > max);
            if !is_too_much && !is_old(nth, retention.remove_after) {
                break;
            }
            bytes -= segment.bytes;
            removed += 1;
        }
        let is_due = |nth: &usize| is_old(*nth, retention.archive_after);
        let archived = (removed..segments.len()).filter(is_due);
        (removed, archived.filter(|nth| self.reader.is_archivable(segments[*nth].first)).collect())
    }

    /// Ends early, between two segments, when it is to stop.
    pub(super) fn keep(
        &self,
        retention: Retention,
        is_to_stop: &dyn Fn() -> bool,
        mut tell: impl FnMut(&Upkeep),
    ) -> Result<Upkeep, Fault> {
        let _alone = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Upkeep::default();
        let segments = self.reader.segments();
        let (removed, archived) = self.due(retention, &segments);
        if let Some(next) = segments.get(removed).filter(|_| removed > 0) {
            done.removed_segments = self.remove_before(next.first)?;
            done.removed_events = segments[..done.removed_segments].iter().map(|segment| segment.records).sum();
        }
        // One that cannot be read or written keeps no other from it.
        let mut failed = None;
        for nth in archived {
            if is_to_stop() {
                break;
            }
            match self.reader.archive(&*self.disk, &self.folder, segments[nth].first) {
                Ok(Some(bytes)) => {
                    done.archived_segments += 1;
                    done.archived_bytes += bytes;
                    tell(&done);
                }
                Ok(None) => {}
                Err(fault) if fault.is_full() => return Err(fault),
                Err(fault) => drop(failed.get_or_insert(fault)),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// Removes the segments before a position, and what is known of them; says how many there were.
    fn remove_before(&self, position: u64) -> Result<usize, Fault> {
        // First from sight: who finds nothing of an aggregate any more has to ask its snapshot.
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let (gone, left): (Vec<_>, Vec<_>) = parts.sealed.iter().cloned().partition(|part| part.first < position);
        parts.sealed = Arc::new(left);
        drop(parts);
        self.versions().forget();
        let removed = self.reader.truncate_before(&*self.disk, &self.folder, position);
        // What is left where that failed is found when the store is opened again.
        let oldest = self.reader.segments().first().map_or(position, |segment| segment.first);
        for part in gone.into_iter().filter(|part| part.first < oldest) {
            // It does no harm where it cannot be removed: the next opening does.
            let path = Part::index_path(&self.folder, part.first);
            let _ = remove(&*self.disk, &path);
            self.reader.files().forget(&path);
        }
        removed.map_err(|RetireError(fault)| fault)
    }
}
