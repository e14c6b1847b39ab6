//! A segment: one file of the log, named by its first position.
//!
//! ```text
//! header 64 bytes │ record │ record │ ... │ seal 128 bytes, then the file ends │ or zeros up to the length reserved
//! ```
//!
//! A segment that has a successor was synced before the successor was made. The seal says what is in the segment, so that
//! neither opening nor a question for a time has to read it.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::archive;
use super::disk::{Access, Boot, Disk};
use super::file::{Fault, File};
use super::files::OpenFiles;
use super::record::{HEADER_BYTES, Header, Kind, Place, VERSION, check, is_sealed, put, seal, take};

/// Bytes of a segment's own header.
pub(super) const SEGMENT_HEADER_BYTES: u64 = HEADER_BYTES as u64;
/// Bytes of a seal: a header and a body.
pub(super) const SEAL_BYTES: u64 = 2 * HEADER_BYTES as u64;
/// How far apart in the file the offsets are that are kept in memory.
pub(super) const INDEX_EVERY_BYTES: u64 = 64 * 1_024;
const MAGIC: [u8; 8] = *b"RINGMLOG";
const EXTENSION: &str = ".log";
const DIGITS: usize = 20;
/// No log comes so far: up to here, and for a segment behind it, can be counted without an overflow.
pub(super) const FIRST_MAX: u64 = 1 << 62;

/// The file of the segment with a first position.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:0DIGITS$}{EXTENSION}"))
}

/// The first position that a file's name says, if it is a segment's.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|first| is_number && *first > 0)
}

/// The 64 bytes that a segment begins with.
pub(super) fn header(first: u64, created_unix_ns: u64, boot: Option<Boot>) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    put(&mut bytes, 0, MAGIC);
    put(&mut bytes, 8, VERSION.to_le_bytes());
    put(&mut bytes, 16, first.to_le_bytes());
    put(&mut bytes, 24, created_unix_ns.to_le_bytes());
    put(&mut bytes, 32, number_of(boot).to_le_bytes());
    seal(Place { segment: first, offset: 0 }, &mut bytes);
    bytes
}

/// The start of the machine since which a segment was begun, if its header can be read and says so.
pub(super) fn begun_since(file: &File, first: u64) -> Result<Option<Boot>, Fault> {
    let mut bytes = [0; HEADER_BYTES];
    let is_whole = file.read_at(&mut bytes, 0)? == HEADER_BYTES && header_state(first, &bytes) == HeaderState::Whole;
    Ok(if is_whole { Boot::new(u64::from_le_bytes(take(&bytes, 32))) } else { None })
}

/// How a start of the machine is written, 0 where it is not known.
pub(super) fn number_of(boot: Option<Boot>) -> u64 {
    boot.map_or(0, Boot::get)
}

/// How a segment's own header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderState {
    Whole,
    UnknownVersion(u16),
    Damaged,
}

pub(super) fn header_state(first: u64, bytes: &[u8; HEADER_BYTES]) -> HeaderState {
    let version = u16::from_le_bytes(take(bytes, 8));
    if bytes[..8] != MAGIC || !is_sealed(Place { segment: first, offset: 0 }, bytes) {
        HeaderState::Damaged
    } else if version != VERSION {
        HeaderState::UnknownVersion(version)
    } else {
        HeaderState::Whole
    }
}

/// What is in a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Whole records.
    pub(super) records: u64,
    /// The times the oldest and the newest record were written, by a wall clock that may have been stepped.
    pub(super) written_unix_ns: Option<RangeInclusive<u64>>,
}

impl Content {
    pub(super) fn add(&mut self, written_unix_ns: u64) {
        self.records += 1;
        let (old, new) = match &self.written_unix_ns {
            Some(times) => (written_unix_ns.min(*times.start()), written_unix_ns.max(*times.end())),
            None => (written_unix_ns, written_unix_ns),
        };
        self.written_unix_ns = Some(old..=new);
    }

    /// The seal of a segment with this content, at its place.
    pub(super) fn seal(&self, last: u64, place: Place) -> [u8; SEAL_BYTES as usize] {
        let mut bytes = [0; SEAL_BYTES as usize];
        let (header, body) = bytes.split_at_mut(HEADER_BYTES);
        put(body, 0, self.records.to_le_bytes());
        if let Some(times) = &self.written_unix_ns {
            put(body, 8, times.start().to_le_bytes());
            put(body, 16, times.end().to_le_bytes());
        }
        header.copy_from_slice(&Header::control(Kind::SEAL, last, last, body).encode(place));
        bytes
    }

    /// What a seal says, with the last position, if it is one.
    fn unseal(bytes: &[u8; SEAL_BYTES as usize], place: Place) -> Option<(Self, u64)> {
        let header = Header::decode(place, bytes.first_chunk()?)?;
        let body = &bytes[HEADER_BYTES..];
        if header.kind != Kind::SEAL || header.version != VERSION || header.body_check != check(body) {
            return None;
        }
        let records = u64::from_le_bytes(take(body, 0));
        let times = u64::from_le_bytes(take(body, 8))..=u64::from_le_bytes(take(body, 16));
        Some((Self { records, written_unix_ns: (records > 0).then_some(times) }, header.position))
    }
}

/// A segment as readers see it, while records may be appended to it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// Of its file, or of its archive.
    pub(super) path: PathBuf,
    filled: Mutex<Filled>,
}

/// How far a segment is filled.
#[derive(Debug, Clone, Default)]
pub(super) struct Filled {
    /// Where the next record goes.
    pub(super) end: u64,
    /// The position of the last record, or that before the first.
    pub(super) last: u64,
    pub(super) content: Content,
    /// Positions and their offsets, rising, about [`INDEX_EVERY_BYTES`] apart.
    index: Vec<(u64, u64)>,
}

impl Filled {
    /// The same, if it ended elsewhere.
    pub(super) fn ending(self, end: u64, last: u64) -> Self {
        Self { end, last, ..self }
    }

    pub(super) fn new(first: u64) -> Self {
        Self { end: SEGMENT_HEADER_BYTES, last: first - 1, content: Content::default(), index: Vec::new() }
    }

    /// Remembers where a record lies, if nothing near it is remembered.
    pub(super) fn note(&mut self, position: u64, offset: u64) {
        let known = self.index.last().map_or(SEGMENT_HEADER_BYTES, |(_, offset)| *offset);
        if offset >= known + INDEX_EVERY_BYTES {
            self.index.push((position, offset));
        }
    }
}

impl Segment {
    pub(super) fn new(first: u64, path: PathBuf, filled: Filled) -> Self {
        Self { first, path, filled: Mutex::new(filled) }
    }

    /// Its file, which is kept open as long as there is room.
    pub(super) fn open(&self, files: &OpenFiles) -> Result<Arc<File>, Fault> {
        files.get(&self.path, |disk| match archive::is_named(&self.path) {
            true => archive::open(disk, &self.path, self.first),
            false => File::open(disk, &self.path, Access::Read),
        })
    }

    pub(super) fn filled(&self) -> MutexGuard<'_, Filled> {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A position not after the one given and its offset: where a search for it begins.
    pub(super) fn near(&self, position: u64) -> (u64, u64) {
        let filled = self.filled();
        let after = filled.index.partition_point(|(known, _)| *known <= position);
        after.checked_sub(1).map_or((self.first, SEGMENT_HEADER_BYTES), |nth| filled.index[nth])
    }
}

/// Opens a segment for reading; says how long its file is and how its header.
pub(super) fn open(disk: &dyn Disk, folder: &Path, first: u64) -> Result<(File, u64, HeaderState), Fault> {
    let file = match File::open(disk, &path(folder, first), Access::Read) {
        Err(fault) if fault.source.kind() == ErrorKind::NotFound => {
            archive::open(disk, &archive::path(folder, first), first)?
        }
        file => file?,
    };
    let length = file.length()?;
    let mut bytes = [0; HEADER_BYTES];
    let state = match file.read_at(&mut bytes, 0)? {
        HEADER_BYTES => header_state(first, &bytes),
        _ => HeaderState::Damaged,
    };
    Ok((file, length, state))
}

/// How far a segment is filled by what its seal says, if it ends with one.
pub(super) fn sealed(file: &File, first: u64, length: u64) -> Result<Option<Filled>, Fault> {
    let Some(end) = length.checked_sub(SEAL_BYTES).filter(|end| *end >= SEGMENT_HEADER_BYTES) else {
        return Ok(None);
    };
    let mut bytes = [0; SEAL_BYTES as usize];
    if file.read_at(&mut bytes, end)? < bytes.len() {
        return Ok(None);
    }
    let said = Content::unseal(&bytes, Place { segment: first, offset: end });
    // One whose check is right may say anything, but not more than there is room for.
    let fits = |last: u64| last.checked_sub(first - 1).is_some_and(|records| records <= end / HEADER_BYTES as u64);
    let said = said.filter(|(content, last)| fits(*last) && content.records <= last - (first - 1));
    Ok(said.map(|(content, last)| Filled { end, last, content, index: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_their_first_positions() {
        let path = path(Path::new("folder"), 42);
        assert_eq!(path, Path::new("folder/00000000000000000042.log"));
        assert_eq!(first_of("00000000000000000042.log"), Some(42));
        for other in ["42.log", "00000000000000000000.log", "00000000000000000042.txt", "+0000000000000000042.log"] {
            assert_eq!(first_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_is_whole_only_as_it_was_written() {
        let bytes = header(9, 1_000, Boot::new(5));
        assert_eq!(header_state(9, &bytes), HeaderState::Whole);
        assert_eq!(header_state(8, &bytes), HeaderState::Damaged, "of another segment");
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(header_state(9, &flipped), HeaderState::Damaged, "bit {bit}");
        }
        let mut newer = bytes;
        put(&mut newer, 8, 2u16.to_le_bytes());
        seal(Place { segment: 9, offset: 0 }, &mut newer);
        assert_eq!(header_state(9, &newer), HeaderState::UnknownVersion(2));
    }
}
