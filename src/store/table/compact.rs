//! Compaction: what is live in the oldest segment is appended once more, then the segment goes; a part of it at a time.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError, TryLockError};

use super::super::log::{Batch, Damage, LogReader, ReadError, Still, Word};
use super::super::state::{StateChange, StateKind};
use super::error::CompactError;
use super::index::{PACE, Short};
use super::table::Table;

/// Bytes of a segment that are looked at in one step, unless one record is longer.
const STEP_BYTES_MAX: u64 = 256 << 10;
/// Steps that compaction may be behind before a change waits for its turn at it.
const STEPS_BEHIND_MAX: u64 = 16;

/// How far compaction is.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    scan: Option<Scan>,
    damages: Vec<Damage>,
    accepted: Vec<Damage>,
    /// Why the last step failed.
    failure: Option<CompactError>,
    copied_bytes: u64,
    retired_segments: u64,
    /// Those who copy the files of the log.
    holders: usize,
}

/// Nothing is compacted until this is dropped.
#[derive(Debug)]
pub(in crate::store) struct Uncompacted<'a>(&'a Table);

impl Drop for Uncompacted<'_> {
    fn drop(&mut self) {
        self.0.compactor().holders -= 1;
    }
}

/// The segment that is looked at.
#[derive(Debug)]
struct Scan {
    reader: LogReader,
    /// The first position of the next segment.
    end: u64,
    /// Bytes of its records.
    bytes: u64,
    /// Something in it cannot be read, and was accepted as lost.
    has_damage: bool,
}

/// Records that were live when they were looked at.
#[derive(Debug, Default)]
struct Live {
    records: Vec<LiveRecord>,
    bodies: Vec<u8>,
}

#[derive(Debug)]
struct LiveRecord {
    kind: StateKind,
    position: u64,
    body: Range<usize>,
    key_bytes: usize,
}

impl Compactor {
    pub(super) fn new(damages: Vec<Damage>) -> Self {
        Self { damages, ..Self::default() }
    }

    pub(super) fn damages(&self) -> &[Damage] {
        &self.damages
    }

    pub(super) fn accept_damage(&mut self) {
        self.accepted.append(&mut self.damages);
    }

    pub(super) fn failure(&self) -> Option<CompactError> {
        self.failure.clone()
    }

    /// Bytes that were copied, and segments that were removed.
    pub(super) fn work(&self) -> (u64, u64) {
        (self.copied_bytes, self.retired_segments)
    }
}

impl Scan {
    /// Looks at the next so many bytes, and says how many they were.
    fn look(&mut self, table: &Table, bytes_max: u64, live: &mut Live, known: &[Damage]) -> Result<u64, CompactError> {
        let mut looked = 0;
        while looked < bytes_max && self.reader.next_position() < self.end {
            match self.reader.next_record() {
                Some(Ok(record)) => {
                    looked += record.header.extent_bytes();
                    let position = record.header.position;
                    let change = StateChange::of(&record).expect("all that was read on opening were changes");
                    let (kind, key) = (change.kind(), change.key());
                    if change.value().is_some() && table.index().is_live(kind, key, position) {
                        let begin = live.bodies.len();
                        live.bodies.extend_from_slice(record.body);
                        let body = begin..live.bodies.len();
                        live.records.push(LiveRecord { kind, position, body, key_bytes: key.len() });
                    }
                }
                Some(Err(ReadError::Damaged(damage))) if known.contains(&damage) => self.has_damage = true,
                Some(Err(ReadError::Damaged(damage))) => return Err(CompactError::Damaged(damage)),
                Some(Err(ReadError::Disk(fault))) => return Err(CompactError::Read(fault)),
                Some(Err(ReadError::Retired { .. })) | None => unreachable!("only compaction removes segments"),
            }
        }
        Ok(looked)
    }
}

impl Live {
    /// The records as changes.
    fn changes(&self) -> impl Iterator<Item = (u64, StateChange<'_>)> {
        self.records.iter().map(|LiveRecord { kind, position, body, key_bytes }| {
            let body = &self.bodies[body.clone()];
            let (value, key) = body.split_at(body.len() - key_bytes);
            (*position, StateChange::Put { kind: *kind, key, value })
        })
    }
}

impl Table {
    /// Compacts every segment but the last, so that what was dead is gone from the disk. Others change and read meanwhile.
    ///
    /// # Errors
    /// [`CompactError`]. Call it again to go on.
    ///
    /// # Cost
    /// Reads the log, copies all that is live; a sync and a removed file a segment.
    pub fn compact(&self) -> Result<(), CompactError> {
        let ends = |table: &Self| {
            let segments = table.committer.log().segments();
            segments.first().zip(segments.last()).map(|(oldest, last)| (oldest.first, last.first))
        };
        let Some((_, end)) = ends(self) else { return Ok(()) };
        while ends(self).is_some_and(|(oldest, _)| oldest < end) {
            self.step(&mut self.compactor())?;
        }
        Ok(())
    }

    /// Keeps all files of the log until what it returns is dropped. Changes go on; the debt of compaction is paid by those after.
    pub(in crate::store) fn uncompacted(&self) -> Uncompacted<'_> {
        self.compactor().holders += 1;
        Uncompacted(self)
    }

    /// The log as it is now.
    pub(in crate::store) fn still(&self) -> Still {
        self.committer.read(1).still()
    }

    /// Does a share of compaction, if it is due, for changes of so many bytes.
    pub(super) fn pay(&self, bytes: u64) {
        let segment_bytes = self.options.segment_bytes;
        let mut behind = self.index_mut().owe(bytes, segment_bytes);
        let mut share = behind.min(self.step_bytes() + PACE * bytes);
        if behind < self.step_bytes() {
            return;
        }
        let Some(mut compactor) = self.turn(behind) else { return };
        while behind > 0 && share > 0 {
            match self.step(&mut compactor) {
                Ok(Some(looked)) => {
                    share = share.saturating_sub(looked);
                    behind = self.index_mut().pay(looked, segment_bytes);
                }
                // It is tried again when a step is due again; what failed is in the statistics.
                Ok(None) | Err(_) => {
                    self.index_mut().forgive();
                    return;
                }
            }
        }
    }

    /// The compactor, unless somebody else is at it and it is not far behind, or the log is copied.
    fn turn(&self, behind: u64) -> Option<MutexGuard<'_, Compactor>> {
        let compactor = match self.compactor.try_lock() {
            Ok(compactor) => compactor,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if behind < STEPS_BEHIND_MAX * self.step_bytes() => return None,
            Err(TryLockError::WouldBlock) => self.compactor(),
        };
        (compactor.holders == 0).then_some(compactor)
    }

    fn step_bytes(&self) -> u64 {
        STEP_BYTES_MAX.min(self.options.segment_bytes / 4)
    }

    /// Looks at a part of the oldest segment, and says how many bytes that were; none if there is but one segment.
    fn step(&self, compactor: &mut Compactor) -> Result<Option<u64>, CompactError> {
        let result = self.try_step(compactor);
        if let Err(CompactError::Damaged(damage)) = &result
            && !compactor.damages.contains(damage)
        {
            compactor.damages.push(damage.clone());
        }
        compactor.failure = result.as_ref().err().cloned();
        result
    }

    /// A step that fails has looked at nothing: the segment is looked at from its begin again.
    fn try_step(&self, compactor: &mut Compactor) -> Result<Option<u64>, CompactError> {
        if compactor.holders > 0 {
            return Err(CompactError::Held);
        }
        if let Some(damage) = compactor.damages.first() {
            return Err(CompactError::Damaged(damage.clone()));
        }
        let Some(mut scan) = compactor.scan.take().or_else(|| self.scan()) else { return Ok(None) };
        let mut live = Live::default();
        let looked = scan.look(self, self.step_bytes(), &mut live, &compactor.accepted)?;
        compactor.copied_bytes += self.copy(&live)?;
        if scan.reader.next_position() < scan.end {
            compactor.scan = Some(scan);
        } else {
            if scan.has_damage {
                compactor.copied_bytes += self.rescue(scan.end)?;
            }
            self.retire(scan)?;
            compactor.retired_segments += 1;
        }
        Ok(Some(looked))
    }

    /// The oldest segment, if it is not the last.
    fn scan(&self) -> Option<Scan> {
        let segments = self.committer.log().segments();
        let [oldest, next, ..] = &segments[..] else { return None };
        let reader = self.committer.read(oldest.first);
        Some(Scan { reader, end: next.first, bytes: oldest.bytes, has_damage: false })
    }

    /// Appends what is still live once more, and says how many bytes that were. No change is on its way meanwhile, so that
    /// what is live is so until it is copied.
    fn copy(&self, live: &Live) -> Result<u64, CompactError> {
        if live.records.is_empty() {
            return Ok(0);
        }
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let changes = {
            let index = self.index();
            let is_live =
                |(position, change): &(u64, StateChange<'_>)| index.is_live(change.kind(), change.key(), *position);
            live.changes().filter(is_live).map(|(_, change)| change).collect()
        };
        self.append(changes)
    }

    /// Keys whose records before a position cannot be read: those whose values are in memory are appended from there, the
    /// others have none from now on. Says how many bytes were appended.
    fn rescue(&self, end: u64) -> Result<u64, CompactError> {
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let kept = self.index_mut().give_up_before(end);
        self.append(
            kept.iter().map(|Short { kind, key, value }| StateChange::Put { kind: *kind, key, value }).collect(),
        )
    }

    /// Appends live records once more, while no change is on its way; says how many bytes that were.
    fn append(&self, mut changes: Vec<StateChange<'_>>) -> Result<u64, CompactError> {
        let batch_bytes_max = self.committer.log().options().batch_bytes_max();
        let (mut appended, mut body) = (0, Vec::new());
        while !changes.is_empty() {
            let mut batch = Batch::new();
            let mut count = 0;
            while let Some(change) = changes.get(count)
                && batch.extent_bytes() as u64 + change.extent_bytes() <= batch_bytes_max
            {
                batch.push(&change.record(&mut body)).expect("it was in the log already");
                count += 1;
            }
            appended += batch.extent_bytes() as u64;
            let spots = self.append_batch(batch, Word::Written).map_err(CompactError::Append)?;
            let mut index = self.index_mut();
            for (change, spot) in changes.drain(..count).zip(spots) {
                index.moved(change.kind(), change.key(), spot);
            }
        }
        Ok(appended)
    }

    /// Removes the segment that was looked at, when all is durable that made its records dead.
    fn retire(&self, scan: Scan) -> Result<(), CompactError> {
        let Scan { reader, end, bytes, .. } = scan;
        // The room of a file that is open is not free.
        drop(reader);
        let mut log = self.committer.log();
        log.sync().map_err(CompactError::Sync)?;
        log.truncate_before(end).map_err(CompactError::Retire)?;
        drop(log);
        self.index_mut().retired(bytes);
        Ok(())
    }
}
