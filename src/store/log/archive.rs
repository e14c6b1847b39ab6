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
//! missing by the records' own checks; what is in the other blocks is read. An archive that says sizes that none has is an
//! empty one: what it says is believed only as far as there is room for it.

use std::io;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::disk::{Access, Disk, DiskFile};
use super::file::{Fault, File, sync_folder};
use super::inflated;
use super::options::LogOptions;
use super::record::{HEADER_BYTES, check, put, take};
use super::retire::remove;
use super::segment;

const MAGIC: [u8; 8] = *b"RINGMARC";
const VERSION: u16 = 1;
const EXTENSION: &str = ".logz";
/// Bytes of a segment in one block.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of a block once it is compressed, at most: a little more than before where nothing repeats.
const PACKED_BYTES_MAX: u64 = 2 * BLOCK_BYTES as u64;
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

/// Whether this is the name of an archive.
pub(super) fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == &EXTENSION[1..])
}

/// What an archive says of itself.
#[derive(Debug, Default)]
struct Lines {
    segment_bytes: u64,
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
pub(super) fn open(disk: &dyn Disk, path: &Path, first: u64) -> Result<File, Fault> {
    let file = File::open(disk, path, Access::Read)?;
    let lines = Lines::read(&file, first)?.unwrap_or_default();
    Ok(File::of(Box::new(Archive { file, lines, held: Mutex::new(None) }), path.to_owned()))
}

impl Archive {
    /// A block as it was in the segment, or zeros in place of it.
    fn block(&self, block: usize) -> io::Result<Vec<u8>> {
        let Range { start, end } = self.lines.packed(block);
        let mut packed = vec![0; (end - start) as usize];
        let read = self
            .file
            .read_at(&mut packed, start)
            .map_err(|fault| io::Error::new(fault.source.kind(), fault.source.to_string()))?;
        let bytes = self.lines.bytes_of(block);
        let is_whole = read == packed.len() && check(&packed) == self.lines.blocks[block].1;
        Ok(is_whole.then(|| unpack(&packed, bytes)).flatten().unwrap_or_else(|| vec![0; bytes]))
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
        let block_bytes = u32::from_le_bytes(take(&header, 12));
        let segment_bytes = u64::from_le_bytes(take(&header, 24));
        let (lines_at, lines) = (u64::from_le_bytes(take(&footer, 0)), u64::from_le_bytes(take(&footer, 8)));
        let fits = lines_at.checked_add(lines.saturating_mul(LINE_BYTES as u64)) == Some(footer_at);
        let covers = block_bytes == BLOCK_BYTES as u32
            && segment_bytes <= LogOptions::SEGMENT_BYTES_MAX
            && segment_bytes.div_ceil(BLOCK_BYTES as u64) == lines;
        if u64::from_le_bytes(take(&header, 16)) != first || !fits || !covers {
            return Ok(None);
        }
        let mut table = vec![0; lines as usize * LINE_BYTES];
        if file.read_at(&mut table, lines_at)? < table.len() || check(&table) != u32::from_le_bytes(take(&footer, 16)) {
            return Ok(None);
        }
        let line = |line: &[u8]| (u64::from_le_bytes(take(line, 0)), u32::from_le_bytes(take(line, 8)));
        let blocks: Vec<_> = table.chunks_exact(LINE_BYTES).map(line).collect();
        let mut begin = HEADER_BYTES as u64;
        for (end, _) in &blocks {
            if end.checked_sub(begin).is_none_or(|packed| packed > PACKED_BYTES_MAX) || *end > lines_at {
                return Ok(None);
            }
            begin = *end;
        }
        Ok(Some(Self { segment_bytes, blocks }))
    }

    /// Where a block is in the file.
    fn packed(&self, block: usize) -> Range<u64> {
        let begin = block.checked_sub(1).map_or(HEADER_BYTES as u64, |before| self.blocks[before].0);
        begin..self.blocks[block].0
    }

    /// Bytes that a block has once it is read.
    fn bytes_of(&self, block: usize) -> usize {
        (self.segment_bytes - block as u64 * BLOCK_BYTES as u64).min(BLOCK_BYTES as u64) as usize
    }
}

/// What a frame holds, if it is one of so many bytes. The decoder would make whatever the frame says, so it is not asked for
/// one that would become more.
fn unpack(mut packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
    if !inflated::becomes(packed, bytes) {
        return None;
    }
    // It panics at some frames that no encoder makes.
    let unpacked = catch_unwind(move || {
        let mut decoder = FrameDecoder::new();
        decoder.init(&mut packed).ok()?;
        decoder.decode_blocks(&mut packed, BlockDecodingStrategy::All).ok()?;
        decoder.collect()
    });
    unpacked.ok().flatten().filter(|unpacked| unpacked.len() == bytes)
}

impl DiskFile for Archive {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.lines.segment_bytes || bytes.is_empty() {
            return Ok(0);
        }
        let (block, within) = ((offset / BLOCK_BYTES as u64) as usize, (offset % BLOCK_BYTES as u64) as usize);
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

    fn packed(&self, offset: u64, bytes: u64) -> Option<Range<u64>> {
        let block =
            |offset: u64| ((offset / BLOCK_BYTES as u64) as usize).min(self.lines.blocks.len().saturating_sub(1));
        if self.lines.blocks.is_empty() {
            return Some(0..self.file.length().unwrap_or_default());
        }
        let last = (offset + bytes).saturating_sub(1).max(offset);
        Some(self.lines.packed(block(offset)).start..self.lines.packed(block(last)).end)
    }
}

/// Writes a segment's archive, durably; says how long it is.
pub(super) fn write(disk: &dyn Disk, folder: &Path, first: u64, segment: &File) -> Result<u64, Fault> {
    let path = path(folder, first);
    // One that was begun before.
    remove(disk, &path)?;
    let segment_bytes = segment.length()?;
    let file = File::open(disk, &path, Access::Create)?;
    let mut header = [0; HEADER_BYTES];
    put(&mut header, 0, MAGIC);
    put(&mut header, 8, VERSION.to_le_bytes());
    put(&mut header, 12, (BLOCK_BYTES as u32).to_le_bytes());
    put(&mut header, 16, first.to_le_bytes());
    put(&mut header, 24, segment_bytes.to_le_bytes());
    let sum = check(&header[..60]);
    put(&mut header, 60, sum.to_le_bytes());
    file.write_all_at(&header, 0)?;
    let (mut end, mut lines) = (HEADER_BYTES as u64, Vec::new());
    let (mut at, mut bytes) = (0, vec![0; BLOCK_BYTES]);
    while at < segment_bytes {
        let length = segment.read_at(&mut bytes, at)?.min((segment_bytes - at) as usize);
        if length == 0 {
            return Err(Fault::new("read", segment.path(), io::ErrorKind::UnexpectedEof.into()));
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
