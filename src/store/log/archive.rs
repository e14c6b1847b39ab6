//! An archived segment: its file compressed block by block, so that a record in the middle is read without the rest.
//!
//! ```text
//! header 64 bytes │ block │ block │ ... │ a line a block: where it ends 8, its check 4 │ footer 32 bytes
//!
//! header: 0 magic 8 │ 8 version 2 │ 12 bytes of a block 4 │ 16 first position 8 │ 24 bytes of the segment 8 │ 60 check 4
//! footer: 0 offset of the first line 8 │ 8 lines 8 │ 16 check of the lines 4 │ 20 zeros 8 │ 28 check of the footer 4
//! ```
//!
//! Every block is a zstd frame of its own. A block that is not as it was written reads as zeros, and what was in it is found
//! missing by the records' own checks; what is in the other blocks is read. An archive takes the place of its segment only
//! after it was synced, read back, and found to be the same.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::disk::{Access, Disk, DiskFile};
use super::file::{Fault, File, retried, sync_folder};
use super::reader::LogReader;
use super::record::{HEADER_BYTES, check, put, take};
use super::segment::{self, Segment};

const MAGIC: [u8; 8] = *b"RINGMARC";
const VERSION: u16 = 1;
const EXTENSION: &str = ".logz";
/// Bytes of a segment in one block.
const BLOCK_BYTES: usize = 64 << 10;
const LINE_BYTES: usize = 12;
const FOOTER_BYTES: usize = 32;

/// The file of the archive of the segment with a first position.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    segment::path(folder, first).with_extension(&EXTENSION[1..])
}

/// The first position that a file's name says, if it is an archive's.
pub(super) fn first_of(name: &str) -> Option<u64> {
    segment::first_of(&format!("{}.log", name.strip_suffix(EXTENSION)?))
}

/// What an archive says of itself.
#[derive(Debug)]
struct Lines {
    segment_bytes: u64,
    block_bytes: usize,
    /// Where each block ends, and its check.
    blocks: Vec<(u64, u32)>,
}

/// A segment in its archive, read as if it were its file.
#[derive(Debug)]
struct Archive {
    file: File,
    lines: Lines,
    /// The block that was read last.
    held: Mutex<Option<(usize, Vec<u8>)>>,
}

/// Opens an archive for reading. One whose header or lines are not as they were written is an empty file.
pub(super) fn open(disk: &dyn Disk, folder: &Path, first: u64) -> Result<File, Fault> {
    let path = path(folder, first);
    let file = File::open(disk, &path, Access::Read)?;
    let archive = Archive::read(file, first)?;
    Ok(File::of(Box::new(archive), path))
}

impl Archive {
    fn read(file: File, first: u64) -> Result<Self, Fault> {
        let nothing = Lines { segment_bytes: 0, block_bytes: 1, blocks: Vec::new() };
        let lines = Lines::read(&file, first)?.unwrap_or(nothing);
        Ok(Self { file, lines, held: Mutex::new(None) })
    }

    /// A block as it was in the segment, or zeros in place of it.
    fn block(&self, block: usize) -> io::Result<Vec<u8>> {
        let begin = block.checked_sub(1).map_or(HEADER_BYTES as u64, |before| self.lines.blocks[before].0);
        let (end, wanted) = self.lines.blocks[block];
        let mut packed = vec![0; end.saturating_sub(begin) as usize];
        let read = self
            .file
            .read_at(&mut packed, begin)
            .map_err(|fault| io::Error::new(fault.source.kind(), fault.source.to_string()))?;
        let mut bytes = Vec::with_capacity(self.lines.bytes_of(block));
        if read == packed.len() && check(&packed) == wanted {
            unpack(&packed, self.lines.bytes_of(block), &mut bytes);
        }
        bytes.resize(self.lines.bytes_of(block), 0);
        Ok(bytes)
    }
}

impl Lines {
    /// `None` when they are not as they were written.
    fn read(file: &File, first: u64) -> Result<Option<Self>, Fault> {
        let (mut header, mut footer) = ([0; HEADER_BYTES], [0; FOOTER_BYTES]);
        let length = file.length()?;
        let Some(footer_at) = length.checked_sub(FOOTER_BYTES as u64).filter(|at| *at >= HEADER_BYTES as u64) else {
            return Ok(None);
        };
        let read = file.read_at(&mut header, 0)? + file.read_at(&mut footer, footer_at)?;
        let is_whole = |bytes: &[u8], at| check(&bytes[..at]).to_le_bytes() == bytes[at..];
        let is_ours = header[..8] == MAGIC && is_whole(&header, 60);
        if read < HEADER_BYTES + FOOTER_BYTES || !is_ours || !is_whole(&footer, 28) {
            return Ok(None);
        }
        let version = u16::from_le_bytes(take(&header, 8));
        if version != VERSION {
            let newer = format!("it has version {version}, this program reads {VERSION}; use a newer one");
            return Err(Fault::new("read", file.path(), io::Error::new(io::ErrorKind::Unsupported, newer)));
        }
        let block_bytes = u32::from_le_bytes(take(&header, 12)) as usize;
        let segment_bytes = u64::from_le_bytes(take(&header, 24));
        let (lines_at, lines) = (u64::from_le_bytes(take(&footer, 0)), u64::from_le_bytes(take(&footer, 8)));
        let fits = lines_at.checked_add(lines.saturating_mul(LINE_BYTES as u64)) == Some(footer_at);
        let covers = block_bytes > 0 && segment_bytes.div_ceil(block_bytes as u64) == lines;
        if u64::from_le_bytes(take(&header, 16)) != first || !fits || !covers {
            return Ok(None);
        }
        let mut table = vec![0; lines as usize * LINE_BYTES];
        if file.read_at(&mut table, lines_at)? < table.len() || check(&table) != u32::from_le_bytes(take(&footer, 16)) {
            return Ok(None);
        }
        let line = |line: &[u8]| (u64::from_le_bytes(take(line, 0)), u32::from_le_bytes(take(line, 8)));
        let blocks = table.chunks_exact(LINE_BYTES).map(line).collect();
        Ok(Some(Self { segment_bytes, block_bytes, blocks }))
    }

    /// Bytes that a block has once it is read.
    fn bytes_of(&self, block: usize) -> usize {
        (self.segment_bytes - block as u64 * self.block_bytes as u64).min(self.block_bytes as u64) as usize
    }
}

/// What a frame holds, if it is one.
fn unpack(packed: &[u8], bytes_max: usize, bytes: &mut Vec<u8>) {
    let whole = StreamingDecoder::new(packed).map(|decoder| decoder.take(bytes_max as u64).read_to_end(bytes));
    if !matches!(whole, Ok(Ok(_))) {
        bytes.clear();
    }
}

impl DiskFile for Archive {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.lines.segment_bytes || bytes.is_empty() {
            return Ok(0);
        }
        let (block, within) =
            ((offset / self.lines.block_bytes as u64) as usize, (offset % self.lines.block_bytes as u64) as usize);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let unpacked = match &mut *held {
            Some((nth, unpacked)) if *nth == block => unpacked,
            other => &mut other.insert((block, self.block(block)?)).1,
        };
        let length = bytes.len().min(unpacked.len() - within);
        bytes[..length].copy_from_slice(&unpacked[within..within + length]);
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.lines.segment_bytes)
    }
}

impl LogReader {
    /// Puts an archive in the place of the segment that begins at a position, unless it is the newest or is one already;
    /// says how many bytes of the disk that gave back. May run beside appending and reading, by one thread at a time.
    ///
    /// # Errors
    /// [`Fault`]: the segment is as it was.
    ///
    /// # Cost
    /// Reads the segment twice, and compresses it: some 30 MB a second.
    pub fn archive(&self, disk: &dyn Disk, folder: &Path, first: u64) -> Result<Option<u64>, Fault> {
        let Ok(segment) = self.shelf.segment(first) else { return Ok(None) };
        let is_newest = self.shelf.newest().is_some_and(|newest| newest.first == first);
        let path = segment::path(folder, first);
        if is_newest || segment.file.path() != path {
            return Ok(None);
        }
        let archived = match verified(disk, folder, &segment) {
            Ok(archived) if archived.1 < segment.file.length()? => archived,
            // What does not shrink stays as it is; what failed leaves no room taken.
            other => {
                remove(disk, &self::path(folder, first))?;
                return other.map(|_| None);
            }
        };
        let (file, archived) = archived;
        let filled = segment.filled().clone();
        self.shelf.replace(Arc::new(Segment::new(first, file, filled)));
        // Where this fails, the segment is found beside its archive when the log is opened, and counts.
        remove(disk, &path)?;
        sync_folder(disk, folder)?;
        Ok(Some(segment.file.length()?.saturating_sub(archived)))
    }
}

/// Writes a segment's archive, and reads it back; says how long it is.
fn verified(disk: &dyn Disk, folder: &Path, segment: &Segment) -> Result<(File, u64), Fault> {
    let archived = write(disk, folder, segment)?;
    let file = open(disk, folder, segment.first)?;
    if is_same(&segment.file, &file)? {
        return Ok((file, archived));
    }
    let changed = io::Error::new(io::ErrorKind::InvalidData, "the archive reads differently; it was removed");
    Err(Fault::new("archive", segment.file.path(), changed))
}

/// Writes a segment's archive, durably; says how long it is.
fn write(disk: &dyn Disk, folder: &Path, segment: &Segment) -> Result<u64, Fault> {
    let path = path(folder, segment.first);
    // One that was begun before.
    remove(disk, &path)?;
    let segment_bytes = segment.file.length()?;
    let file = File::open(disk, &path, Access::Create)?;
    let mut header = [0; HEADER_BYTES];
    put(&mut header, 0, MAGIC);
    put(&mut header, 8, VERSION.to_le_bytes());
    put(&mut header, 12, (BLOCK_BYTES as u32).to_le_bytes());
    put(&mut header, 16, segment.first.to_le_bytes());
    put(&mut header, 24, segment_bytes.to_le_bytes());
    let sum = check(&header[..60]);
    put(&mut header, 60, sum.to_le_bytes());
    file.write_all_at(&header, 0)?;
    let (mut end, mut lines) = (HEADER_BYTES as u64, Vec::new());
    let (mut at, mut bytes) = (0, vec![0; BLOCK_BYTES]);
    while at < segment_bytes {
        let length = segment.file.read_at(&mut bytes, at)?.min((segment_bytes - at) as usize);
        if length == 0 {
            return Err(Fault::new("read", segment.file.path(), io::ErrorKind::UnexpectedEof.into()));
        }
        let packed = compress_to_vec(&bytes[..length], CompressionLevel::Fastest);
        file.write_all_at(&packed, end)?;
        end += packed.len() as u64;
        lines.extend_from_slice(&end.to_le_bytes());
        lines.extend_from_slice(&check(&packed).to_le_bytes());
        at += length as u64;
    }
    let mut footer = [0; FOOTER_BYTES];
    put(&mut footer, 0, end.to_le_bytes());
    put(&mut footer, 8, ((lines.len() / LINE_BYTES) as u64).to_le_bytes());
    put(&mut footer, 16, check(&lines).to_le_bytes());
    let sum = check(&footer[..28]);
    put(&mut footer, 28, sum.to_le_bytes());
    lines.extend_from_slice(&footer);
    file.write_all_at(&lines, end)?;
    file.sync_data()?;
    sync_folder(disk, folder)?;
    Ok(end + lines.len() as u64)
}

fn is_same(one: &File, other: &File) -> Result<bool, Fault> {
    let length = one.length()?;
    if other.length()? != length {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut at = 0;
    while at < length {
        let (read, read_again) = (one.read_at(&mut ours, at)?, other.read_at(&mut theirs, at)?);
        if read == 0 || read != read_again || ours[..read] != theirs[..read] {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

/// Removes a file, if it is there.
pub(in crate::store) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), Fault> {
    match retried("remove", path, || disk.remove(path)) {
        Err(fault) if fault.source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
