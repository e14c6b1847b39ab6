//! Reading the log from a position on, beside appending, never beyond what is written.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::error::ReadError;
use super::file::{Fault, File};
use super::files::OpenFiles;
use super::record::{Cause, Header};
use super::segment::{Filled, INDEX_EVERY_BYTES, Segment};
use super::walk::{Damage, Step, Walk};

/// The segments of a log, oldest first: its writer adds and removes, readers find.
#[derive(Debug)]
pub(super) struct Shelf {
    segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) files: OpenFiles,
    /// Held while old segments are removed; why none are any more.
    pub(super) retiring: Mutex<Option<Fault>>,
}

impl Shelf {
    pub(super) fn new(segments: Vec<Arc<Segment>>, files: OpenFiles) -> Self {
        Self { segments: RwLock::new(segments), files, retiring: Mutex::default() }
    }

    /// The file of a segment that was found here; `None` if the segment was archived or removed since.
    pub(super) fn open(&self, segment: &Arc<Segment>) -> Result<Option<Arc<File>>, Fault> {
        match segment.open(&self.files) {
            Err(fault) if fault.source.kind() == ErrorKind::NotFound => {
                // Its file goes before it leaves the shelf.
                drop(self.retiring.lock().unwrap_or_else(PoisonError::into_inner));
                let is_there = self.segment(segment.first).is_ok_and(|there| Arc::ptr_eq(&there, segment));
                if is_there { Err(fault) } else { Ok(None) }
            }
            file => file.map(Some),
        }
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self) -> Option<Arc<Segment>> {
        self.segments().last().cloned()
    }

    /// The oldest segment, if all its records are before a position and it is not the only one.
    pub(super) fn oldest_before(&self, position: u64) -> Option<Arc<Segment>> {
        match &self.segments()[..] {
            [oldest, next, ..] if next.first <= position => Some(Arc::clone(oldest)),
            _ => None,
        }
    }

    pub(super) fn add(&self, segment: Arc<Segment>) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Puts a segment in the place of the one that begins where it does, if that is still there.
    pub(super) fn replace(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(nth) = segments.binary_search_by_key(&segment.first, |held| held.first) {
            segments[nth] = segment;
        }
    }

    pub(super) fn remove_oldest(&self) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(0);
    }

    /// The segment that begins at a position; else the first position of the oldest.
    pub(super) fn segment(&self, first: u64) -> Result<Arc<Segment>, u64> {
        let segments = self.segments();
        match segments.binary_search_by_key(&first, |segment| segment.first) {
            Ok(nth) => Ok(Arc::clone(&segments[nth])),
            Err(_) => Err(segments.first().map_or(1, |oldest| oldest.first)),
        }
    }

    /// What holds a position.
    pub(super) fn find(&self, position: u64) -> Found {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.first <= position);
        let next = segments.get(after);
        let Some(segment) = after.checked_sub(1).map(|nth| &segments[nth]) else {
            return next.map_or(Found::Nothing, |next| Found::Before(next.first));
        };
        let in_it = segment.filled().last >= position;
        match next {
            _ if in_it => Found::In(Arc::clone(segment)),
            Some(next) => Found::Gap(Arc::clone(segment), next.first),
            None => Found::Nothing,
        }
    }
}

/// Where a position is.
#[derive(Debug)]
pub(super) enum Found {
    In(Arc<Segment>),
    /// Between a segment's last and the next one's first.
    Gap(Arc<Segment>, u64),
    /// Before the first in the log.
    Before(u64),
    /// Beyond the last.
    Nothing,
}

/// A record, read in place from the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// The first position of its segment.
    pub segment: u64,
    /// Its offset there.
    pub offset: u64,
    /// What it says of itself.
    pub header: Header,
    /// Its body, whose first byte is at an address that is a multiple of 16.
    pub body: &'a [u8],
}

/// Records from a position on, in order. It may be used on another thread than the log's, and outlive the log.
#[derive(Debug)]
pub struct LogReader {
    pub(super) shelf: Arc<Shelf>,
    /// The position to be read next.
    next: u64,
    walk: Walk,
    segment: Option<(Arc<Segment>, Arc<File>)>,
    /// The offset in the segment that was last offered to its index.
    noted: u64,
    /// Where it let go of a segment: the next position, the segment's first, and its offset there.
    left_at: Option<(u64, u64, u64)>,
}

impl LogReader {
    pub(super) fn new(shelf: Arc<Shelf>, from: u64) -> Self {
        Self { shelf, next: from.max(1), walk: Walk::new(0, 0, 0, 0), segment: None, noted: 0, left_at: None }
    }

    /// What is kept open of the log, with room for what is beside it.
    pub(in crate::store) fn files(&self) -> &OpenFiles {
        &self.shelf.files
    }

    /// Another reader of the same log, from a position on.
    pub fn from(&self, position: u64) -> Self {
        Self::new(Arc::clone(&self.shelf), position)
    }

    /// Goes to a position, with the same memory.
    pub fn seek(&mut self, position: u64) {
        let position = position.max(1);
        if position != self.next {
            self.next = position;
            self.segment = None;
        }
    }

    /// Lets go of the file it reads and remembers where it was; says how many bytes of memory it keeps.
    pub(in crate::store) fn rest(&mut self) -> usize {
        if let Some((segment, _)) = self.segment.take().filter(|_| self.walk.expected() == self.next) {
            self.left_at = Some((self.next, segment.first, self.walk.offset()));
        }
        self.walk.memory_bytes()
    }

    /// The position that is read next.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// The next record that is written, or why it cannot be read; `None` where there is none yet. After an error the next
    /// call goes on behind what could not be read.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Cost
    /// Reads 32 to 256 KiB at once, the more the longer it goes on; computes a check over header and body. Allocates when a segment
    /// is entered, and for a record longer than any before.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        match self.advance() {
            Ok(Some((header, offset))) => {
                let (segment, body) = (self.walk.segment(), self.walk.body(&header, offset));
                Some(Ok(Record { segment, offset, header, body }))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    #[inline(always)]
    fn advance(&mut self) -> Result<Option<(Header, u64)>, ReadError> {
        loop {
            let Some((segment, file)) = &self.segment else {
                match self.shelf.find(self.next) {
                    Found::In(segment) => {
                        let Some(file) = self.shelf.open(&segment).map_err(ReadError::Disk)? else { continue };
                        let left_at = self.left_at.take().filter(|at| (at.0, at.1) == (self.next, segment.first));
                        let near = left_at.map(|(position, _, offset)| (position, offset));
                        let (position, offset) = near.unwrap_or_else(|| segment.near(self.next));
                        let end = segment.filled().end;
                        self.walk.move_to(segment.first, offset, position, end);
                        self.segment = Some((segment, file));
                        self.noted = offset;
                    }
                    Found::Gap(segment, next_first) => {
                        let missing = Some(self.next..=next_first - 1);
                        self.next = next_first;
                        let (file, offset) = (segment.path.clone(), segment.filled().end);
                        let nowhere = Damage { file, offset, bytes: 0, packed: None, missing, cause: Cause::Missing };
                        return Err(ReadError::Damaged(nowhere));
                    }
                    Found::Before(first) => {
                        let position = std::mem::replace(&mut self.next, first);
                        return Err(ReadError::Retired { position, first });
                    }
                    Found::Nothing => return Ok(None),
                }
                continue;
            };
            match self.walk.next(file, self.next).map_err(ReadError::Disk)? {
                Step::Record(header, at) => {
                    if at >= self.noted + INDEX_EVERY_BYTES {
                        // Known only now where the segment was not read when the log was opened.
                        segment.filled().note(header.position, at);
                        self.noted = at;
                    }
                    if header.position >= self.next {
                        self.next = header.position + 1;
                        return Ok(Some((header, at)));
                    }
                }
                Step::Control(_) => {}
                Step::Damaged(damage, _) => {
                    // Before the position that was asked for, nobody asked.
                    if self.walk.expected() > self.next
                        || (damage.missing.is_none() && self.walk.expected() == self.next)
                    {
                        self.next = self.walk.expected();
                        return Err(ReadError::Damaged(*damage));
                    }
                }
                Step::End { .. } => {
                    let Filled { end, last, .. } = *segment.filled();
                    if end > self.walk.end() {
                        self.walk.extend(end);
                        continue;
                    }
                    let file = Arc::clone(file);
                    if self.next > last && self.walk.expected() == self.next {
                        self.left_at = Some((self.next, segment.first, self.walk.offset()));
                    }
                    self.segment = None;
                    if self.next <= last {
                        // Nothing up to the end can be read.
                        let missing = Some(self.next..=last);
                        self.next = last + 1;
                        let offset = self.walk.offset();
                        let bytes = end.saturating_sub(offset);
                        return Err(ReadError::Damaged(Damage::of(&file, offset, bytes, missing, Cause::Header)));
                    }
                    if matches!(self.shelf.find(self.next), Found::Nothing) {
                        return Ok(None);
                    }
                }
            }
        }
    }
}
