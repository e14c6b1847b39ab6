//! Answering one query: segment after segment, by postings or by reading, until the page is full.

use std::ops::ControlFlow::{self, Break, Continue};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::{Frame, FrameError, FrameRef};

use super::super::index::Posting;
use super::super::log::{self, Damage, LogReader, Lookup, Record};
use super::super::{Order, Position, Query, ReadError, StoredEventRef};
use super::part::{Part, Plan, Sought};
use super::readers::Reader;
use super::shared::Shared;

/// Events that one call looks at. A page that ends for this says where to go on.
const LOOK_MAX: usize = 65_536;
/// Bytes of events after which a page ends.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Positions that are read forward at once where the order is backward.
const CHUNK_MIN: u64 = 64;
const CHUNK_MAX: u64 = 1_024;

/// Ends the query, and says behind which position it goes on, if anywhere.
type Flow = ControlFlow<Option<u64>>;

/// A query under way.
struct Look<'q> {
    query: &'q Query,
    /// Who is lent what is meant.
    look: &'q mut dyn FnMut(StoredEventRef<'_>) -> ControlFlow<()>,
    newest_first: bool,
    /// Every event between them is meant.
    means_all: bool,
    /// Positions that can be meant.
    first: u64,
    last: u64,
    /// Events that are still to be lent, at most.
    left: usize,
    /// Who looks has seen enough.
    is_over: bool,
    /// The last that was lent.
    lent: Option<Position>,
    bytes: usize,
    looked_at: usize,
    /// The last position that was looked at.
    reached: u64,
}

/// Lends the next page of a query; says where to go on.
pub(super) fn visit(
    shared: &Shared,
    query: &Query,
    look: &mut dyn FnMut(StoredEventRef<'_>) -> ControlFlow<()>,
) -> Result<Option<Position>, ReadError> {
    let left = query.events_max()?;
    let Some((first, last)) = query.positions() else { return Ok(None) };
    let (parts, active, first, last) = {
        let parts = shared.parts();
        let Some(oldest) = parts.first() else { return Ok(None) };
        query.check_first(Position::new(oldest).expect("positions count from 1"))?;
        let (first, last) = (first.get().max(oldest), last.get().min(parts.last));
        let sought = Sought::of(query, first..=last);
        let active = parts.active.as_ref().filter(|active| active.first <= last);
        let active = active.map(|active| (active.first, parts.last, sought.plan_built(&active.built)));
        (Arc::clone(&parts.sealed), active, first, last)
    };
    if first > last {
        return Ok(None);
    }
    let newest_first = query.order() == Order::NewestFirst;
    let (is_over, lent, bytes, looked_at, reached) = (false, None, 0, 0, first - 1);
    let means_all = query.means_all();
    let mut look =
        Look { query, look, newest_first, means_all, first, last, left, is_over, lent, bytes, looked_at, reached };
    let next = look.run(shared, &parts, active);
    // The next call meets what is wrong.
    next.or_else(|error| look.lent.map(Some).ok_or(error))
}

impl Look<'_> {
    fn run(
        &mut self,
        shared: &Shared,
        parts: &[Arc<Part>],
        mut active: Option<(u64, u64, Plan)>,
    ) -> Result<Option<Position>, ReadError> {
        let sought = Sought::of(self.query, self.first..=self.last);
        let begin = parts.partition_point(|part| part.last < self.first);
        let end = parts.partition_point(|part| part.first <= self.last);
        let mut sealed = parts.get(begin..end).unwrap_or(&[]).iter();
        let mut used = shared.readers.take(&shared.reader, self.first);
        let Reader { log: reader, lookup } = &mut *used;
        loop {
            let part = if self.newest_first && active.is_some() {
                None
            } else if self.newest_first {
                sealed.next_back()
            } else {
                sealed.next()
            };
            let (first, last, plan) = match (part, active.take()) {
                (Some(part), left) => {
                    active = left;
                    (part.first, part.last, part.plan(&sought, shared))
                }
                (None, Some(active)) => active,
                (None, None) => return Ok(None),
            };
            let range = first.max(self.first)..=last.min(self.last);
            if range.is_empty() {
                continue;
            }
            let flow = match plan {
                Plan::Skip => Continue(()),
                Plan::Scan if self.newest_first => self.scan_back(reader, lookup, range)?,
                Plan::Scan => self.scan(reader, range)?,
                Plan::Postings(postings) => {
                    let is_cut = (range.start() > &first, range.end() < &last);
                    match self.postings(reader, lookup, (first, &postings, is_cut), range.clone())? {
                        Some(flow) => flow,
                        // The index says something else than the segment.
                        None => {
                            part.into_iter().for_each(|part| part.distrust(shared));
                            match self.newest_first {
                                true => self.scan_back(reader, lookup, range)?,
                                false => self.scan(reader, range)?,
                            }
                        }
                    }
                }
            };
            if let Break(next) = flow {
                return Ok(next.and_then(Position::new));
            }
        }
    }

    fn means(&self, frame: &FrameRef<'_>) -> bool {
        self.means_all || self.query.means_meta(&frame.meta())
    }

    /// Lends an event if it is meant.
    fn take(&mut self, record: &Record<'_>) -> Result<(), FrameError> {
        self.looked_at += 1;
        self.reached = record.header.position;
        let frame: FrameRef<'_> = Frame::read_vouched(record.body)?;
        if self.means(&frame) {
            let position = Position::new(record.header.position).expect("positions count from 1");
            let recorded_at = UNIX_EPOCH + Duration::from_nanos(record.header.written_unix_ns);
            self.bytes += record.body.len();
            self.left -= 1;
            self.lent = Some(position);
            self.is_over = (self.look)(StoredEventRef::new(position, recorded_at, frame)).is_break();
        }
        Ok(())
    }

    /// Whether the page ends here, behind what was looked at up to a position.
    fn after(&self, position: u64) -> Flow {
        let is_full = self.is_over || self.left == 0 || self.looked_at >= LOOK_MAX || self.bytes >= PAGE_BYTES_MAX;
        if !is_full {
            return Continue(());
        }
        let end = if self.newest_first { self.first } else { self.last };
        Break((position != end).then_some(position))
    }

    /// Positions cannot be read: the page ends before them, and where there is nothing before them it is the error.
    fn before(&self, missing: &RangeInclusive<u64>, error: ReadError) -> Result<Flow, ReadError> {
        let before = match self.newest_first {
            true => Some(missing.end() + 1).filter(|next| *next <= self.last),
            false => Some(missing.start() - 1).filter(|next| *next >= self.first),
        };
        before.map(|position| Break(Some(position))).ok_or(error)
    }

    /// Segments up to the one that begins with `first` were removed meanwhile. Who reads forward hears of those that were still
    /// to be read, unless nothing before them was and the query does not say where to begin.
    fn removed(&self, first: u64) -> Result<Flow, ReadError> {
        let (from, is_begun) = (self.reached + 1, self.reached >= self.first);
        let first = Position::new(first).expect("positions count from 1");
        if self.newest_first || (!is_begun && self.query.check_first(first).is_ok()) {
            return Ok(Continue(()));
        }
        let removed = Position::new(from).filter(|from| *from < first);
        removed.map_or(Ok(Continue(())), |from| {
            self.before(&(from.get()..=first.get() - 1), ReadError::Removed { from, first })
        })
    }

    /// Reads forward through a part of the log.
    fn scan(&mut self, reader: &mut LogReader, range: RangeInclusive<u64>) -> Result<Flow, ReadError> {
        reader.seek(*range.start());
        while reader.next_position() <= *range.end() {
            match reader.next_record() {
                None => break,
                Some(Ok(record)) if record.header.position > *range.end() => break,
                Some(Ok(record)) => {
                    let position = record.header.position;
                    if let Err(error) = self.take(&record) {
                        return self.before(&(position..=position), no_event(position, error));
                    }
                    if let Break(next) = self.after(position) {
                        return Ok(Break(next));
                    }
                }
                Some(Err(log::ReadError::Damaged(damage))) => match damage.missing.clone() {
                    Some(missing) if missing.start() <= range.end() => {
                        return self.before(&missing, ReadError::Damaged(damage));
                    }
                    _ => {}
                },
                Some(Err(log::ReadError::Retired { first, .. })) => match self.removed(first)? {
                    Continue(()) => {}
                    end => return Ok(end),
                },
                Some(Err(log::ReadError::Disk(fault))) => return Err(ReadError::Disk(fault)),
            }
        }
        Ok(Continue(()))
    }

    /// Reads backward through a part of the log: chunks from its end, each forward to see what is in it, then from its last
    /// record on.
    fn scan_back(
        &mut self,
        reader: &mut LogReader,
        lookup: &mut Lookup,
        range: RangeInclusive<u64>,
    ) -> Result<Flow, ReadError> {
        let chunk = (self.left as u64).clamp(CHUNK_MIN, CHUNK_MAX);
        let mut top = *range.end();
        loop {
            let bottom = top.saturating_sub(chunk - 1).max(*range.start());
            let mut found = Vec::new();
            let mut unread = None;
            reader.seek(bottom);
            while reader.next_position() <= top {
                match reader.next_record() {
                    None => break,
                    Some(Ok(record)) if record.header.position > top => break,
                    Some(Ok(record)) => {
                        let position = record.header.position;
                        self.looked_at += 1;
                        match Frame::read_vouched(record.body) {
                            Ok(frame) if !self.means(&frame) => {}
                            Ok(_) => found.push((position, record.segment, record.offset)),
                            Err(error) => {
                                unread = Some((position..=position, no_event(position, error)));
                                found.clear();
                            }
                        }
                    }
                    Some(Err(log::ReadError::Damaged(damage))) => match damage.missing.clone() {
                        Some(missing) if *missing.start() <= top => {
                            unread = Some((missing, ReadError::Damaged(damage)));
                            found.clear();
                        }
                        _ => {}
                    },
                    Some(Err(log::ReadError::Retired { .. })) => {}
                    Some(Err(log::ReadError::Disk(fault))) => return Err(ReadError::Disk(fault)),
                }
            }
            for (position, segment, offset) in found.into_iter().rev() {
                self.looked_at -= 1;
                let record = match lookup.record(segment, offset) {
                    // Removed since it was seen, with all that is older.
                    Err(log::ReadError::Retired { .. }) => return Ok(Continue(())),
                    Err(log::ReadError::Disk(fault)) => return Err(ReadError::Disk(fault)),
                    Err(log::ReadError::Damaged(damage)) => {
                        let missing = damage.missing.clone().or(Some(position..=position));
                        return Err(ReadError::Damaged(Damage { missing, ..damage }));
                    }
                    Ok(record) => record,
                };
                self.take(&record).map_err(|error| no_event(position, error))?;
                if let Break(next) = self.after(position) {
                    return Ok(Break(next));
                }
            }
            if let Some((missing, error)) = unread {
                // What is missing from the chunk's begin on may begin before it: it is said once, as a whole.
                return match (error, bottom > *range.start() && missing.contains(&bottom)) {
                    (ReadError::Damaged(damage), true) => {
                        let whole = whole_damage(reader, *range.start(), bottom)?.unwrap_or(damage);
                        let missing = whole.missing.clone().unwrap_or(missing);
                        self.before(&missing, ReadError::Damaged(whole))
                    }
                    (error, _) => self.before(&missing, error),
                };
            }
            match self.after(bottom) {
                Continue(()) if bottom > *range.start() => top = bottom - 1,
                flow => return Ok(flow),
            }
        }
    }

    /// Reads records from their places in one segment; `None` when one of them is nowhere. `is_cut` says whether the range
    /// leaves out some of the segment's begin, and of its end.
    fn postings(
        &mut self,
        reader: &mut LogReader,
        lookup: &mut Lookup,
        (segment, postings, is_cut): (u64, &[Posting], (bool, bool)),
        range: RangeInclusive<u64>,
    ) -> Result<Option<Flow>, ReadError> {
        let mut place = |offset| Place::find(reader, lookup, segment, offset);
        let begin = if is_cut.0 { cut(postings, *range.start(), &mut place)? } else { 0 };
        let postings = &postings[begin..];
        let end = if is_cut.1 { cut(postings, range.end() + 1, &mut place)? } else { postings.len() };
        let mut meant = postings[..end].iter();
        loop {
            let next = if self.newest_first { meant.next_back() } else { meant.next() };
            let Some(posting) = next else { return Ok(Some(Continue(()))) };
            match lookup.record(segment, posting.offset) {
                Ok(record) => {
                    let position = record.header.position;
                    if let Err(error) = self.take(&record) {
                        return self.before(&(position..=position), no_event(position, error)).map(Some);
                    }
                    if let Break(next) = self.after(position) {
                        return Ok(Some(Break(next)));
                    }
                }
                Err(log::ReadError::Damaged(_)) => match Place::find(reader, lookup, segment, posting.offset)? {
                    Place::Damaged(damage, missing) => {
                        return self.before(&missing, ReadError::Damaged(damage)).map(Some);
                    }
                    Place::At(_) | Place::Nowhere => return Ok(None),
                },
                Err(log::ReadError::Retired { first, .. }) => return self.removed(first).map(Some),
                Err(log::ReadError::Disk(fault)) => return Err(ReadError::Disk(fault)),
            }
        }
    }
}

/// What is at an offset.
enum Place {
    /// A record with this position.
    At(u64),
    /// Records of these positions, which cannot be read.
    Damaged(Damage, RangeInclusive<u64>),
    /// No record begins there.
    Nowhere,
}

impl Place {
    fn find(reader: &mut LogReader, lookup: &mut Lookup, segment: u64, offset: u64) -> Result<Self, ReadError> {
        match lookup.record(segment, offset) {
            Ok(record) => return Ok(Self::At(record.header.position)),
            Err(log::ReadError::Damaged(_)) => {}
            Err(log::ReadError::Retired { .. }) => return Ok(Self::Nowhere),
            Err(log::ReadError::Disk(fault)) => return Err(ReadError::Disk(fault)),
        }
        // What lies around it tells which positions are missing.
        reader.seek(segment);
        loop {
            match reader.next_record() {
                Some(Ok(record)) if record.segment == segment && record.offset <= offset => {}
                Some(Err(log::ReadError::Damaged(damage))) if damage.offset + damage.bytes <= offset => {}
                Some(Err(log::ReadError::Damaged(damage))) => {
                    let covers = damage.offset <= offset;
                    return Ok(match damage.missing.clone().filter(|_| covers) {
                        Some(missing) => Self::Damaged(damage, missing),
                        None => Self::Nowhere,
                    });
                }
                Some(Err(log::ReadError::Disk(fault))) => return Err(ReadError::Disk(fault)),
                Some(Ok(_) | Err(log::ReadError::Retired { .. })) | None => return Ok(Self::Nowhere),
            }
        }
    }
}

/// The damage that a position is missing for, found by reading from another on.
fn whole_damage(reader: &mut LogReader, from: u64, position: u64) -> Result<Option<Damage>, ReadError> {
    reader.seek(from);
    while reader.next_position() <= position {
        match reader.next_record() {
            Some(Err(log::ReadError::Damaged(damage))) => {
                if damage.missing.as_ref().is_some_and(|missing| missing.contains(&position)) {
                    return Ok(Some(damage));
                }
            }
            Some(Err(log::ReadError::Disk(fault))) => return Err(ReadError::Disk(fault)),
            Some(Ok(_) | Err(log::ReadError::Retired { .. })) => {}
            None => break,
        }
    }
    Ok(None)
}

/// How many postings are before a position.
fn cut(
    postings: &[Posting],
    position: u64,
    place: &mut impl FnMut(u64) -> Result<Place, ReadError>,
) -> Result<usize, ReadError> {
    let (mut low, mut high) = (0, postings.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let at = match place(postings[middle].offset)? {
            Place::At(at) => at,
            Place::Damaged(_, missing) => *missing.start(),
            // Found again, and said, where the records are read.
            Place::Nowhere => position,
        };
        if at < position { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn no_event(position: u64, error: FrameError) -> ReadError {
    ReadError::NoEvent { position: Position::new(position).expect("positions count from 1"), error }
}
