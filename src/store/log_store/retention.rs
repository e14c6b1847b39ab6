//! What becomes of old events: they are archived, and removed where that is asked for, when all who read on have passed them.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::Position;
use super::super::log::{Fault, RetireError, SegmentInfo, SyncError, remove};
use super::LogStore;
use super::part::Part;
use super::shared::Shared;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a [`LogStore`] keeps events, and in what form. It acts on segments as a whole: on one whose every event is old,
/// never on the newest. How old an event is, is told by the wall clock at its append and now.
///
/// Events that somebody who reads on has not come to are not removed: durable subscriptions and publishers, projections and process
/// managers keep a [`Bookmark`](super::super::Bookmark) as [`StateKind::CURSOR`](super::super::StateKind::CURSOR), and those in the same store are waited for, also where nobody reads on any
/// more: [forget](super::super::DurableSubscription::forget) what is not needed, or say
/// [for how long](Self::remove_unread_after) or [for how much](Self::unread_bytes_max) they are waited for. Whoever comes too late hears
/// of it by [`ReadError::Removed`](super::super::ReadError::Removed).
///
/// Neither are events that an aggregate is made of, of a kind that has [`keep_history`](super::super::EventStore::keep_history), as each
/// that a repository has saved, as long as no snapshot has them; unless [that is asked for](Self::remove_unsnapshotted).
/// [`LogStore::held`] says who is waited for.
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
    remove_unread_after: Option<Duration>,
    unread_bytes_max: Option<u64>,
    remove_unsnapshotted: bool,
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
        Self {
            archive_after: None,
            remove_after: None,
            bytes_max: None,
            remove_unread_after: None,
            unread_bytes_max: None,
            remove_unsnapshotted: false,
        }
    }

    /// Compresses events of this age: queries and replay read them, slower. Default 90 days.
    #[must_use]
    pub const fn archive_after(self, age: Duration) -> Self {
        Self { archive_after: Some(age), ..self }
    }

    /// Removes events of this age for good. An aggregate whose events are all removed is at the version of its snapshot.
    /// Default: none is removed.
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

    /// Of what is to be removed, removes events of this age also where somebody has not come to them. Default: they are waited for.
    #[must_use]
    pub const fn remove_unread_after(self, age: Duration) -> Self {
        Self { remove_unread_after: Some(age), ..self }
    }

    /// Of what is to be removed, removes the oldest events also where somebody has not come to them, while there are more than so many
    /// bytes of events. Default: they are waited for.
    #[must_use]
    pub const fn unread_bytes_max(self, bytes: u64) -> Self {
        Self { unread_bytes_max: Some(bytes), ..self }
    }

    /// Of what is to be removed, removes also events that an aggregate is made of and that no snapshot has. A repository cannot load
    /// an aggregate that has lost some of its events, and says so; one that has lost all is new again. Default: they are kept.
    #[must_use]
    pub const fn remove_unsnapshotted(self) -> Self {
        Self { remove_unsnapshotted: true, ..self }
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
    /// The position of the last of them.
    pub removed_to: Option<Position>,
    /// Of those, how many somebody who reads on had not come to, and hears of.
    pub unread_events: u64,
    /// Segments that were to be removed, and are kept for somebody who reads on, or for an aggregate: [`LogStore::held`].
    pub held_segments: usize,
    /// Where the one stands who reads on and is furthest behind; `None` = before the first event, or where no segment is held, or nobody
    /// reads on.
    pub held_at: Option<Position>,
}

impl Upkeep {
    /// Whether anything was archived or removed.
    pub(in crate::store) const fn has_done(&self) -> bool {
        self.archived_segments > 0 || self.removed_segments > 0
    }

    /// With what was done after it.
    pub(in crate::store) fn and(self, later: Self) -> Self {
        Self {
            archived_segments: self.archived_segments + later.archived_segments,
            archived_bytes: self.archived_bytes + later.archived_bytes,
            removed_segments: self.removed_segments + later.removed_segments,
            removed_events: self.removed_events + later.removed_events,
            removed_to: later.removed_to.or(self.removed_to),
            unread_events: self.unread_events + later.unread_events,
            ..later
        }
    }
}

/// Who is told of what was done.
#[derive(Default)]
pub(super) struct Told {
    /// What nobody was told of.
    untold: Upkeep,
    tell: Option<Box<dyn FnMut(Upkeep) + Send>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("untold", &self.untold).finish_non_exhaustive()
    }
}

impl Retention {
    const fn removes(&self) -> bool {
        self.remove_after.is_some() || self.bytes_max.is_some()
    }

    pub(super) const fn removes_unsnapshotted(&self) -> bool {
        self.remove_unsnapshotted
    }
}

impl LogStore {
    /// What the store did to old events by its own when it last looked; see also
    /// [`upkeep_fault`](Self::upkeep_fault).
    pub fn last_upkeep(&self) -> Upkeep {
        self.shared.indexer.last_upkeep()
    }

    /// What [`keep`](Self::keep) would do now: `archived_bytes` are those of events in the segments that would be compressed, some
    /// of which may stay as they are because they do not shrink. Changes nothing.
    ///
    /// # Errors
    /// When cursors or events cannot be read.
    ///
    /// # Cost
    /// Reads the cursors, and where there are kinds of aggregates the events that would be removed.
    pub fn due(&self, retention: Retention) -> Result<Upkeep, Fault> {
        let segments = self.shared.reader.segments();
        let (archived, due) = self.shared.due(retention, &segments)?;
        Ok(Upkeep {
            archived_segments: archived.len(),
            archived_bytes: archived.iter().map(|nth| segments[*nth].bytes).sum(),
            ..due
        })
    }

    /// Has whoever wants to know told of what was done to old events, in place of who was told before: first, in one piece, of what was
    /// done since the store was opened and nobody was told of. It is called on the thread that does it, also that of the store: be
    /// short, and do not append to the store in it.
    pub fn on_upkeep(&self, mut tell: impl FnMut(Upkeep) + Send + 'static) {
        let mut told = self.shared.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = std::mem::take(&mut told.untold);
        if untold.has_done() {
            tell(untold);
        }
        told.tell = Some(Box::new(tell));
    }

    /// Does to old events what a retention says, now. The store does the same by [its own](super::LogStoreBuilder::retention)
    /// when it is opened, whenever a segment is full, and once an hour. While a [backup](Self::backup) is made nothing is done.
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
    /// Which segments are to be archived, and what is to be removed.
    pub(super) fn due(&self, retention: Retention, segments: &[SegmentInfo]) -> Result<(Vec<usize>, Upkeep), Fault> {
        // A wall clock that was set forwards makes nothing old.
        let now = self.disk.unix_now_ns().min(self.disk.steady_now_ns());
        let newest_in = |nth: usize| {
            let written = segments[nth].written_unix_ns.as_ref().map(|written| *written.end());
            // One of which nothing can be read, or whose clock was ahead, is not younger than what comes behind it.
            written.filter(|written| *written <= now).or_else(|| {
                let behind = segments[nth + 1..].iter().filter_map(|segment| segment.written_unix_ns.as_ref());
                behind.map(|written| *written.start()).find(|written| *written <= now)
            })
        };
        let is_old = |nth: usize, age: Option<Duration>| {
            let age = age.map_or(u128::MAX, |age| age.as_nanos());
            newest_in(nth).is_some_and(|newest| u128::from(now.saturating_sub(newest)) >= age)
        };
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut due = Upkeep::default();
        let is_above = |max: Option<u64>, bytes: u64| max.is_some_and(|max| bytes > max);
        let behind = if retention.removes() { self.furthest_behind()? } else { None };
        for (segment, nth) in segments.iter().zip(0..segments.len().saturating_sub(1)) {
            if !is_above(retention.bytes_max, bytes) && !is_old(nth, retention.remove_after) {
                break;
            }
            let next = segments[nth + 1].first;
            let is_given_up = is_above(retention.unread_bytes_max, bytes) || is_old(nth, retention.remove_unread_after);
            let left = behind.map_or(0, |behind| next.saturating_sub(segment.first.max(behind + 1)));
            let is_unread = left > 0 && !is_given_up;
            if due.held_segments > 0
                || is_unread
                || (!retention.remove_unsnapshotted && self.needed(segment, next)?.is_some())
            {
                due.held_segments += 1;
                due.held_at = behind.and_then(Position::new);
            } else {
                due.removed_segments += 1;
                due.removed_events += segment.records;
                due.unread_events += left;
            }
            bytes -= segment.bytes;
        }
        let is_due = |nth: &usize| is_old(*nth, retention.archive_after);
        let archived = (due.removed_segments..segments.len()).filter(is_due);
        Ok((archived.filter(|nth| self.reader.is_archivable(segments[*nth].first)).collect(), due))
    }

    /// Ends early, between two segments, when it is to stop.
    pub(super) fn keep(
        &self,
        retention: Retention,
        is_to_stop: &dyn Fn() -> bool,
        tell: impl FnMut(&Upkeep),
    ) -> Result<Upkeep, Fault> {
        let mut told = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Upkeep::default();
        let kept = self.keep_alone(retention, is_to_stop, tell, &mut done);
        // What was done before something failed was done.
        if done.has_done() {
            match &mut told.tell {
                Some(tell) => tell(done),
                None => told.untold = told.untold.and(done),
            }
        }
        kept.map(|()| done)
    }

    fn keep_alone(
        &self,
        retention: Retention,
        is_to_stop: &dyn Fn() -> bool,
        mut tell: impl FnMut(&Upkeep),
        done: &mut Upkeep,
    ) -> Result<(), Fault> {
        if self.is_backed_up() {
            return Ok(());
        }
        let segments = self.reader.segments();
        let (archived, due) = self.due(retention, &segments)?;
        (done.held_segments, done.held_at) = (due.held_segments, due.held_at);
        if let Some(next) = segments.get(due.removed_segments).filter(|_| due.removed_segments > 0) {
            // What is removed because of them is not there to make them again: cursors and snapshots.
            self.table.sync().map_err(|SyncError(fault)| fault)?;
            done.removed_segments = self.remove_before(next.first)?;
            done.removed_events = segments[..done.removed_segments].iter().map(|segment| segment.records).sum();
            done.removed_to = Position::new(segments[done.removed_segments].first - 1);
            done.unread_events = due.unread_events;
        }
        // One that cannot be read or written keeps no other from it.
        let mut failed = None;
        for nth in archived {
            if is_to_stop() || self.is_backed_up() {
                break;
            }
            match self.reader.archive(&*self.disk, &self.folder, segments[nth].first) {
                Ok(Some(bytes)) => {
                    done.archived_segments += 1;
                    done.archived_bytes += bytes;
                    tell(done);
                }
                Ok(None) => {}
                Err(fault) if fault.is_full() => return Err(fault),
                Err(fault) => drop(failed.get_or_insert(fault)),
            }
        }
        failed.map_or(Ok(()), Err)
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
