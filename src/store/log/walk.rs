//! From record to record through a segment, and over what is damaged to the next that is whole.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use rkyv::util::AlignedVec;

use super::file::{Fault, File};
use super::record::{ALIGN, Cause, HEADER_BYTES, Header, Kind, Place, VERSION, begins_with_mark, check};

/// Bytes that are read at once where the walk begins. Each time it goes on they are twice as many, up to the greatest number: who looks at
/// little reads little.
const CHUNK_BYTES_MIN: usize = 32 * 1_024;
const CHUNK_BYTES: usize = 256 * 1_024;

/// A part of the log that cannot be read. It stays as it is, and what follows is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment's file.
    pub file: PathBuf,
    /// Where it begins in the segment: in its file, or in what the file's archive is made of.
    pub offset: u64,
    /// How long it is: up to the next record that is whole, or to the end.
    pub bytes: u64,
    /// Of an archive, the bytes of its file that hold that.
    pub packed: Option<Range<u64>>,
    /// The positions whose records cannot be read.
    pub missing: Option<RangeInclusive<u64>>,
    /// What is wrong.
    pub cause: Cause,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, packed, missing, cause } = self;
        write!(f, "{cause}: {} from byte ", file.display())?;
        match packed {
            None => write!(f, "{offset}, {bytes} bytes")?,
            Some(Range { start, end }) => {
                write!(f, "{start}, {} bytes, which are {bytes} from {offset} uncompressed", end - start)?;
            }
        }
        match missing {
            Some(missing) => write!(f, ", positions {} to {}", missing.start(), missing.end()),
            None => f.write_str(", no position is missing"),
        }
    }
}

impl std::error::Error for Damage {}

impl Damage {
    /// Damage in a file that is open.
    pub(super) fn of(file: &File, offset: u64, bytes: u64, missing: Option<RangeInclusive<u64>>, cause: Cause) -> Self {
        Self { file: file.path().to_owned(), offset, bytes, packed: file.packed(offset, bytes), missing, cause }
    }
}

/// One step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// A record of the user, at an offset.
    Record(Header, u64),
    /// A record of the log itself.
    Control(Header),
    /// Something that cannot be read; for a record that is whole and of an unknown version, its header.
    Damaged(Box<Damage>, Option<Header>),
    /// No further record. Bytes beyond the one given are all zero.
    End { garbage_end: u64 },
}

/// A window on a file, whose bytes are aligned in memory as in the file.
#[derive(Debug, Default)]
struct Window {
    bytes: AlignedVec<ALIGN>,
    start: u64,
    length: usize,
    /// Bytes that were to be read the last time.
    chunk: usize,
}

impl Window {
    /// Bytes of the file from an offset on, at least so many unless `end` comes before.
    #[inline(always)]
    fn get(&mut self, file: &File, offset: u64, bytes: usize, end: u64) -> Result<&[u8], Fault> {
        let bytes = bytes.min((end - offset) as usize);
        let is_held = offset >= self.start && offset - self.start + bytes as u64 <= self.length as u64;
        if !is_held {
            self.load(file, offset, bytes, end)?;
        }
        Ok(&self.bytes[(offset - self.start) as usize..self.length])
    }

    /// Goes to an offset.
    #[cold]
    fn load(&mut self, file: &File, offset: u64, bytes: usize, end: u64) -> Result<(), Fault> {
        let goes_on = offset > self.start && offset <= self.start + self.length as u64;
        self.chunk = if goes_on { (self.chunk * 2).min(CHUNK_BYTES) } else { CHUNK_BYTES_MIN };
        let load = self.chunk.max(bytes).min((end - offset) as usize);
        if self.bytes.len() < load {
            self.bytes.resize(load, 0);
        }
        self.start = offset;
        self.length = file.read_at(&mut self.bytes[..load], offset)?;
        Ok(())
    }
}

/// A place in a segment, and what comes next there.
#[derive(Debug)]
pub(super) struct Walk {
    window: Window,
    segment: u64,
    offset: u64,
    /// The position of the next record.
    expected: u64,
    end: u64,
}

impl Walk {
    /// At a record, or where one will be; `end` is where reading ends.
    pub(super) fn new(segment: u64, offset: u64, expected: u64, end: u64) -> Self {
        Self { window: Window::default(), segment, offset, expected, end }
    }

    /// To another segment, with the same memory.
    pub(super) fn move_to(&mut self, segment: u64, offset: u64, expected: u64, end: u64) {
        *self = Self { window: std::mem::take(&mut self.window), segment, offset, expected, end };
        self.window.length = 0;
    }

    /// More was appended.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = end;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.window.bytes.capacity()
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// The next record, or what is there instead. Of records before `wanted` only the header is looked at: they have no body.
    #[inline(always)]
    pub(super) fn next(&mut self, file: &File, wanted: u64) -> Result<Step, Fault> {
        let at = self.offset;
        let header = match self.header(file, at)? {
            Some(header) if self.fits(&header, at, 0) => header,
            _ => return self.search(file),
        };
        let extent = header.extent_bytes();
        self.offset += extent;
        if header.position < wanted && !header.kind.is_control() {
            self.expected += 1;
            return Ok(Step::Record(header, at));
        }
        let whole = self.window.get(file, at, extent as usize, self.end)?;
        let is_whole = whole.get(HEADER_BYTES..extent as usize).is_some_and(|body| check(body) == header.body_check);
        if header.kind.is_control() {
            if is_whole {
                return Ok(Step::Control(header));
            }
            return Ok(Step::Damaged(self.damage(file, at, None, Cause::Body), None));
        }
        self.expected += 1;
        let missing = Some(header.position..=header.position);
        if !is_whole {
            return Ok(Step::Damaged(self.damage(file, at, missing, Cause::Body), None));
        }
        if header.version != VERSION {
            let cause = Cause::UnknownVersion(header.version);
            return Ok(Step::Damaged(self.damage(file, at, missing, cause), Some(header)));
        }
        Ok(Step::Record(header, at))
    }

    /// The body of the record that the last step gave.
    pub(super) fn body(&self, header: &Header, at: u64) -> &[u8] {
        let begin = (at - self.window.start) as usize + HEADER_BYTES;
        &self.window.bytes[begin..begin + header.body_bytes as usize]
    }

    #[cold]
    fn damage(&self, file: &File, at: u64, missing: Option<RangeInclusive<u64>>, cause: Cause) -> Box<Damage> {
        Box::new(Damage::of(file, at, self.offset - at, missing, cause))
    }

    /// The header at an offset, if it is one.
    #[inline(always)]
    fn header(&mut self, file: &File, at: u64) -> Result<Option<Header>, Fault> {
        if at + HEADER_BYTES as u64 > self.end {
            return Ok(None);
        }
        let bytes = self.window.get(file, at, HEADER_BYTES, self.end)?;
        Ok(bytes.first_chunk().and_then(|bytes| Header::decode(Place { segment: self.segment, offset: at }, bytes)))
    }

    /// Whether a header can be what comes next, after so many positions that were lost at most.
    fn fits(&self, header: &Header, at: u64, lost_max: u64) -> bool {
        // A record of the log itself names the last position before it.
        let next = if header.kind.is_control() { header.position.wrapping_add(1) } else { header.position };
        next >= self.expected
            && next - self.expected <= lost_max
            && header.extent_bytes() <= self.end - at
            && (!matches!(header.kind, Kind::END | Kind::BOOT) || header.body_bytes == 0)
    }

    /// From something that is no record to the next that is one.
    #[cold]
    fn search(&mut self, file: &File) -> Result<Step, Fault> {
        let from = self.offset;
        let mut at = from;
        let mut garbage_end = from;
        while at < self.end {
            let chunk = self.window.get(file, at, CHUNK_BYTES, self.end)?;
            if chunk.is_empty() {
                break;
            }
            let mut marked = None;
            for (nth, granule) in chunk.chunks(ALIGN).enumerate() {
                if granule.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let offset = at + (nth * ALIGN) as u64;
                garbage_end = offset + granule.len() as u64;
                if offset > from && begins_with_mark(granule) {
                    marked = Some(offset);
                    break;
                }
            }
            let Some(marked) = marked else {
                at += chunk.len() as u64;
                continue;
            };
            let lost_max = (marked - from) / HEADER_BYTES as u64;
            if let Some(header) = self.header(file, marked)?.filter(|header| self.fits(header, marked, lost_max)) {
                let next = header.position + u64::from(header.kind.is_control());
                let missing = (next > self.expected).then(|| self.expected..=next - 1);
                self.expected = next;
                self.offset = marked;
                return Ok(Step::Damaged(self.damage(file, from, missing, Cause::Header), None));
            }
            at = marked + ALIGN as u64;
        }
        Ok(Step::End { garbage_end })
    }
}
