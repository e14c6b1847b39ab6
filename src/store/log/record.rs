//! A record: 64 bytes of header with a check of their own, then the body, then zeros up to a multiple of 16 bytes.
//!
//! ```text
//!  0 mark 4   4 version 2  6 kind 2    8 flags 4    12 lane 4
//! 16 position 8           24 durable 8
//! 32 written, ns 8        40 sequence 8
//! 48 left in batch 4  52 body bytes 4  56 check of body and zeros 4  60 check of the header 4
//! ```
//!
//! All numbers are little-endian, both checks are CRC32C. The header's check begins from the place of the record, its segment
//! and its offset there, so that a copy of a record inside the body of another is no record. The mark and the place of the
//! numbers that say how long a record is stay as they are in all versions of the format.

use std::fmt;

/// Bytes of a header. Records, and so bodies, begin at multiples of [`ALIGN`].
pub const HEADER_BYTES: usize = 64;
/// Bytes whose multiple each record's place and length in a file is.
pub const ALIGN: usize = 16;
/// The version of the format that is written, and the only one that is read.
pub const VERSION: u16 = 1;

/// What a search for the next record after damage looks for. No text, and no small number in either byte order.
const MARK: u32 = 0xD7A3_9C5E;
const CHECK_AT: usize = HEADER_BYTES - 4;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u16);

impl Kind {
    /// No record of the log's user: ends what was written at once, and says up to which position it is durable. The next
    /// record takes its place.
    pub(super) const END: Self = Self(0);
    /// No record of the log's user: the end of a segment, with what is in it.
    pub(super) const SEAL: Self = Self(1);
    /// No record of the log's user: what follows was written since the machine was started, and as what it says so.
    pub(super) const BOOT: Self = Self(2);
    /// Kinds from here on are the user's, below are the log's own.
    const USER: u16 = 16;
    /// An event.
    pub const EVENT: Self = Self(Self::USER);
    /// A table's: a key has this value from here on.
    pub const PUT: Self = Self(Self::USER + 1);
    /// A table's: a key has no value from here on.
    pub const REMOVE: Self = Self(Self::USER + 2);

    /// Whether it is the log's own, takes no position and is not given to readers.
    pub(super) const fn is_control(self) -> bool {
        self.0 < Self::USER
    }

    /// The number that is written.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Where a record lies: it is no record anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// First position of its segment.
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Place {
    /// What a check of a header here begins from.
    fn seed(self) -> u32 {
        let mixed = self.segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.offset.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed >> 32) as u32
    }
}

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The version of the format.
    pub version: u16,
    /// What it is.
    pub kind: Kind,
    /// The user's.
    pub flags: u32,
    /// The lane the event came by.
    pub lane: u32,
    /// Place in the global order, from 1.
    pub position: u64,
    /// The position up to which all was durable when this was written.
    pub durable: u64,
    /// When it was written, in nanoseconds since 1970 by the wall clock.
    pub written_unix_ns: u64,
    /// The event's sequence in its lane.
    pub sequence: u64,
    /// Records of the same batch that come after it.
    pub batch_left: u32,
    /// Bytes of the body, without the zeros after it.
    pub body_bytes: u32,
    pub(super) body_check: u32,
}

/// What is wrong with bytes that should be a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The header's check, or a length or position in it, is wrong.
    Header,
    /// The body's check is wrong.
    Body,
    /// It is whole, and of a version of the format that this program does not know.
    UnknownVersion(u16),
    /// The header of the segment is wrong. Records in it may be whole.
    SegmentHeader,
    /// A compressed segment is cut short, its table of blocks is not as it was written, or it says sizes that none has.
    Archive,
    /// Records of these positions are nowhere: a file is missing, or was put here from elsewhere.
    Missing,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header of a record is damaged"),
            Self::Body => f.write_str("the body of a record is damaged"),
            Self::UnknownVersion(version) => {
                write!(f, "a record has version {version}, this program reads {VERSION}; use a newer one")
            }
            Self::SegmentHeader => f.write_str("the header of a segment is damaged"),
            Self::Archive => f.write_str("the table of a compressed segment is damaged"),
            Self::Missing => f.write_str("records are missing"),
        }
    }
}

/// A body's length with the zeros after it.
pub(super) const fn padded(body_bytes: u64) -> u64 {
    body_bytes.next_multiple_of(ALIGN as u64)
}

/// The check of a body with its zeros, or of anything else.
pub(super) fn check(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Writes the check of 64 bytes to their end.
pub(super) fn seal(place: Place, bytes: &mut [u8; HEADER_BYTES]) {
    let check = crc32c::crc32c_append(place.seed(), &bytes[..CHECK_AT]);
    put(bytes, CHECK_AT, check.to_le_bytes());
}

/// What the check of anything comes to that has its own check behind it.
const RESIDUE: u32 = 0x4867_4BC7;

/// Whether 64 bytes end with their check. All of them are eight words, which are checked sooner than sixty bytes.
#[inline]
pub(super) fn is_sealed(place: Place, bytes: &[u8; HEADER_BYTES]) -> bool {
    crc32c::crc32c_append(place.seed(), bytes) == RESIDUE
}

pub(super) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the number lies within")
}

pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, number: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&number);
}

/// Whether a header may begin with these bytes.
pub(super) fn begins_with_mark(bytes: &[u8]) -> bool {
    bytes.first_chunk() == Some(&MARK.to_le_bytes())
}

impl Header {
    /// Bytes of the whole record.
    pub fn extent_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + padded(u64::from(self.body_bytes))
    }

    pub(super) fn encode(&self, place: Place) -> [u8; HEADER_BYTES] {
        let mut bytes = self.encode_unsealed();
        seal(place, &mut bytes);
        bytes
    }

    /// Without a check: its place is not known yet.
    pub(super) fn encode_unsealed(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, MARK.to_le_bytes());
        put(&mut bytes, 4, self.version.to_le_bytes());
        put(&mut bytes, 6, self.kind.0.to_le_bytes());
        put(&mut bytes, 8, self.flags.to_le_bytes());
        put(&mut bytes, 12, self.lane.to_le_bytes());
        put(&mut bytes, 16, self.position.to_le_bytes());
        put(&mut bytes, 24, self.durable.to_le_bytes());
        put(&mut bytes, 32, self.written_unix_ns.to_le_bytes());
        put(&mut bytes, 40, self.sequence.to_le_bytes());
        put(&mut bytes, 48, self.batch_left.to_le_bytes());
        put(&mut bytes, 52, self.body_bytes.to_le_bytes());
        put(&mut bytes, 56, self.body_check.to_le_bytes());
        bytes
    }

    /// The header at a place, of any version, if its check is right.
    pub(super) fn decode(place: Place, bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if !begins_with_mark(bytes) || !is_sealed(place, bytes) {
            return None;
        }
        Some(Self::unchecked(bytes))
    }

    /// What the bytes say, be it true or not.
    pub(super) fn unchecked(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            version: u16::from_le_bytes(take(bytes, 4)),
            kind: Kind(u16::from_le_bytes(take(bytes, 6))),
            flags: u32::from_le_bytes(take(bytes, 8)),
            lane: u32::from_le_bytes(take(bytes, 12)),
            position: u64::from_le_bytes(take(bytes, 16)),
            durable: u64::from_le_bytes(take(bytes, 24)),
            written_unix_ns: u64::from_le_bytes(take(bytes, 32)),
            sequence: u64::from_le_bytes(take(bytes, 40)),
            batch_left: u32::from_le_bytes(take(bytes, 48)),
            body_bytes: u32::from_le_bytes(take(bytes, 52)),
            body_check: u32::from_le_bytes(take(bytes, 56)),
        }
    }

    /// A record of the log's own behind a position, when all up to another was durable.
    pub(super) fn control(kind: Kind, position: u64, durable: u64, body: &[u8]) -> Self {
        Self {
            version: VERSION,
            kind,
            flags: 0,
            lane: 0,
            position,
            durable,
            written_unix_ns: 0,
            sequence: 0,
            batch_left: 0,
            body_bytes: body.len() as u32,
            body_check: check(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Place = Place { segment: 7, offset: 1_024 };

    proptest! {
        #[test]
        fn a_header_reads_as_it_was_written_and_nowhere_else(
            numbers in any::<(u16, u16, u32, u32, u64, u64)>(),
            more in any::<(u64, u64, u32, u32, u32)>(),
            elsewhere in 1u64..1 << 40,
        ) {
            let header = Header {
                version: numbers.0, kind: Kind(numbers.1), flags: numbers.2, lane: numbers.3,
                position: numbers.4, durable: numbers.5, written_unix_ns: more.0, sequence: more.1,
                batch_left: more.2, body_bytes: more.3, body_check: more.4,
            };
            let bytes = header.encode(HERE);
            prop_assert_eq!(Header::decode(HERE, &bytes), Some(header));
            let offset = HERE.offset + elsewhere * ALIGN as u64;
            prop_assert_eq!(Header::decode(Place { offset, ..HERE }, &bytes), None);
        }
    }

    #[test]
    fn what_has_its_own_check_behind_it_comes_to_the_residue_and_with_a_flipped_bit_does_not() {
        for length in [0, 1, 15, 60, 61, 64, 4_096, 65_537] {
            for seed in [0, HERE.seed(), u32::MAX] {
                let mut bytes: Vec<u8> = (0..length).map(|at| (at * 31 + 7) as u8).collect();
                bytes.extend(crc32c::crc32c_append(seed, &bytes).to_le_bytes());
                assert_eq!(crc32c::crc32c_append(seed, &bytes), RESIDUE, "{length} bytes from {seed}");
                // Every bit of what is short, and some of each byte's of what is long.
                for bit in (0..bytes.len() * 8).step_by(1 + length / 50) {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    assert_ne!(crc32c::crc32c_append(seed, &bytes), RESIDUE, "{length} bytes, bit {bit}");
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
    }

    #[test]
    fn each_flipped_bit_of_a_header_is_found() {
        let header = Header::control(Kind::END, 9, 9, &[]);
        let bytes = header.encode(HERE);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(HERE, &flipped), None, "bit {bit}");
        }
    }
}
