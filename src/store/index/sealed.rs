//! The index of a sealed segment, as a file of its own beside it.
//!
//! ```text
//!   header 64 │ filter, fences, checks, names: the front, read once │ blocks of 256 entries, read when looked up
//!   entry     = term 8, offset / 16: 4, version 4; sorted by term, then offset
//!   filter    = a Bloom filter of the terms, 8 of its bits an entry
//!   fence     = the first term of each block, so that a look-up reads one block, or as many as its entries fill
//! ```
//!
//! Little-endian. Header, front and each block have a CRC32C.

use std::error;
use std::fmt;

use super::building::{Building, OFFSET_UNIT};
use super::{Names, Posting, Term};

const MAGIC: [u8; 8] = *b"RINGMIDX";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 16;
const BLOCK_ENTRIES: usize = 256;
/// Bits of the filter that a term sets and that each look-up needs set.
const PROBES: u32 = 4;
/// Bits of the filter for each entry: with four probes one look-up in forty reads a block in vain.
const BITS_PER_ENTRY: usize = 8;

/// Not the bytes that were written, or of another version: the index is to be made again from its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct IndexDamaged;

impl fmt::Display for IndexDamaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the index of a segment is damaged, or of another version of the format")
    }
}

impl error::Error for IndexDamaged {}

/// What is kept in memory of an index in a file.
#[derive(Debug)]
pub(in crate::store) struct Sealed {
    entries: u64,
    filter: Vec<u64>,
    /// The first term of each block, and the block's check.
    blocks: Vec<(Term, u32)>,
    blocks_at: u64,
    topics: Names,
    sources: Names,
}

/// Reads bytes of the file at an offset; `Ok(false)` where it has not so many.
pub(in crate::store) trait ReadAt<E>: Fn(&mut [u8], u64) -> Result<bool, E> {}
impl<E, F: Fn(&mut [u8], u64) -> Result<bool, E>> ReadAt<E> for F {}

impl Sealed {
    /// The file's bytes for the index of the segment that begins at `first` and has `end` bytes of records.
    pub(in crate::store) fn encode(index: &Building, first: u64, end: u64) -> Vec<u8> {
        let entries = index.sorted();
        let mut filter = vec![0u64; (entries.len() * BITS_PER_ENTRY).div_ceil(64).max(1)];
        for entry in &entries {
            bits(entry.term, filter.len()).for_each(|(word, mask)| filter[word] |= mask);
        }
        let mut blocks = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        let mut fences = Vec::new();
        for block in entries.chunks(BLOCK_ENTRIES) {
            let begin = blocks.len();
            for entry in block {
                blocks.extend_from_slice(&entry.term.number().to_le_bytes());
                blocks.extend_from_slice(&entry.offset.to_le_bytes());
                blocks.extend_from_slice(&entry.version.to_le_bytes());
            }
            fences.push((block[0].term, crc32c::crc32c(&blocks[begin..])));
        }
        let mut file = vec![0; HEADER_BYTES];
        filter.iter().for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
        fences.iter().for_each(|(term, _)| file.extend_from_slice(&term.number().to_le_bytes()));
        fences.iter().for_each(|(_, check)| file.extend_from_slice(&check.to_le_bytes()));
        let names_at = file.len();
        index.topics.encode(&mut file);
        index.sources.encode(&mut file);
        let front = Front {
            first,
            end,
            entries: entries.len() as u64,
            filter_words: filter.len() as u32,
            names_bytes: (file.len() - names_at) as u32,
        };
        let check = crc32c::crc32c(&file[HEADER_BYTES..]);
        file[..HEADER_BYTES].copy_from_slice(&front.encode(check));
        file.extend_from_slice(&blocks);
        file
    }

    /// Reads header and front of the index of the segment that begins at `first` and has `end` bytes of records.
    ///
    /// # Errors
    /// Those of `read`; inside, that the file is no such index.
    pub(in crate::store) fn open<E>(
        first: u64,
        end: u64,
        read: impl ReadAt<E>,
    ) -> Result<Result<Self, IndexDamaged>, E> {
        let mut header = [0; HEADER_BYTES];
        if !read(&mut header, 0)? {
            return Ok(Err(IndexDamaged));
        }
        let Some((front, check)) = Front::decode(&header).filter(|(front, _)| front.first == first && front.end == end)
        else {
            return Ok(Err(IndexDamaged));
        };
        let mut bytes = vec![0; front.bytes()];
        if !read(&mut bytes, HEADER_BYTES as u64)? || crc32c::crc32c(&bytes) != check {
            return Ok(Err(IndexDamaged));
        }
        Ok(Self::from_front(&front, &bytes).ok_or(IndexDamaged))
    }

    fn from_front(front: &Front, bytes: &[u8]) -> Option<Self> {
        let (filter, rest) = bytes.split_at_checked(front.filter_words as usize * 8)?;
        let (fences, rest) = rest.split_at_checked(front.blocks() * 8)?;
        let (checks, mut names) = rest.split_at_checked(front.blocks() * 4)?;
        let words = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>();
        let checks = checks.as_chunks().0.iter().map(|check| u32::from_le_bytes(*check));
        Some(Self {
            entries: front.entries,
            filter: words(filter),
            blocks: words(fences).into_iter().map(Term::from_number).zip(checks).collect(),
            blocks_at: (HEADER_BYTES + bytes.len()) as u64,
            topics: Names::decode(&mut names)?,
            sources: Names::decode(&mut names)?,
        })
    }

    /// Where records with this term are, oldest first.
    ///
    /// # Errors
    /// Those of `read`; inside, that a block is not as it was written.
    ///
    /// # Cost
    /// Reads 4 KiB, and more for more than a few hundred records; nothing where the filter says there are none.
    pub(in crate::store) fn find<E>(
        &self,
        term: Term,
        read: impl ReadAt<E>,
    ) -> Result<Result<Vec<Posting>, IndexDamaged>, E> {
        let mut found = Vec::new();
        if !bits(term, self.filter.len()).all(|(word, mask)| self.filter[word] & mask != 0) {
            return Ok(Ok(found));
        }
        // One block earlier: the term may begin within it.
        let first = self.blocks.partition_point(|(fence, _)| *fence < term).saturating_sub(1);
        let mut bytes = [0; BLOCK_ENTRIES * ENTRY_BYTES];
        for (nth, (fence, check)) in self.blocks.iter().enumerate().skip(first) {
            if *fence > term {
                break;
            }
            let length = (self.entries as usize - nth * BLOCK_ENTRIES).min(BLOCK_ENTRIES) * ENTRY_BYTES;
            let block = &mut bytes[..length];
            let is_whole = read(block, self.blocks_at + (nth * BLOCK_ENTRIES * ENTRY_BYTES) as u64)?;
            if !is_whole || crc32c::crc32c(block) != *check {
                return Ok(Err(IndexDamaged));
            }
            let entries = block.as_chunks::<ENTRY_BYTES>().0.iter().map(decode);
            found.extend(entries.filter(|(here, _)| *here == term).map(|(_, posting)| posting));
        }
        Ok(Ok(found))
    }

    /// Bytes that it takes in memory, more or less.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.filter.len() * 8 + self.blocks.len() * 16 + self.topics.bytes() + self.sources.bytes()
    }

    pub(in crate::store) fn topics(&self) -> &Names {
        &self.topics
    }

    pub(in crate::store) fn sources(&self) -> &Names {
        &self.sources
    }
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> (Term, Posting) {
    let [term, rest] = entry.as_chunks().0 else { unreachable!("an entry is two words") };
    let rest = u64::from_le_bytes(*rest);
    let posting = Posting { offset: u64::from(rest as u32) * OFFSET_UNIT, version: (rest >> 32) as u32 };
    (Term::from_number(u64::from_le_bytes(*term)), posting)
}

/// The words and bits of a filter that a term stands for.
fn bits(term: Term, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let (low, high) = (term.number() as u32, (term.number() >> 32) as u32);
    let bits = words as u64 * 64;
    (0..PROBES).map(move |nth| {
        // Two hashes make as many as are needed.
        let probe = u64::from(low.wrapping_add(nth.wrapping_mul(high | 1)));
        let bit = (probe * bits) >> 32;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

/// What the header says.
#[derive(Debug, Clone, Copy)]
struct Front {
    first: u64,
    end: u64,
    entries: u64,
    filter_words: u32,
    names_bytes: u32,
}

impl Front {
    fn blocks(&self) -> usize {
        (self.entries as usize).div_ceil(BLOCK_ENTRIES)
    }

    /// Bytes between the header and the blocks.
    fn bytes(&self) -> usize {
        self.filter_words as usize * 8 + self.blocks() * 12 + self.names_bytes as usize
    }

    fn encode(&self, check: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, number: &[u8]| bytes[at..at + number.len()].copy_from_slice(number);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(16, &self.first.to_le_bytes());
        put(24, &self.end.to_le_bytes());
        put(32, &self.entries.to_le_bytes());
        put(40, &self.filter_words.to_le_bytes());
        put(44, &self.names_bytes.to_le_bytes());
        put(56, &check.to_le_bytes());
        let own = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The front, and the check of its bytes.
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<(Self, u32)> {
        let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("it lies within the header"));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let is_ours = bytes[..8] == MAGIC && bytes[8..10] == VERSION.to_le_bytes();
        let front =
            Self { first: long(16), end: long(24), entries: long(32), filter_words: word(40), names_bytes: word(44) };
        (is_ours && crc32c::crc32c(&bytes[..60]) == word(60) && front.filter_words > 0).then(|| (front, word(56)))
    }
}
