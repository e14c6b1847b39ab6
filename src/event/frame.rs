//! The hot header: 64 bytes with the slot's stamp, the same in a lane, a mailbox cell and a portable frame.

use std::fmt;

use super::{EventId, Priority};

/// Bytes of the header that follows the stamp.
pub(crate) const HEADER_BYTES: usize = 56;
/// The payload was encoded by this process from the Rust type of its topic: it is read without validation.
pub(crate) const FLAG_LOCAL: u8 = 1;
/// `time` was taken for this very event: latencies are measured from it.
pub(crate) const FLAG_STAMPED: u8 = 2;
/// The stamp policy chose the event: its handlers are timed, whatever `time` says.
pub(crate) const FLAG_MEASURED: u8 = 4;

/// The event names services that it is for.
pub(crate) const FLAG_TARGETED: u8 = 8;
/// The event happened before and comes again out of a history.
pub(crate) const FLAG_REPLAY: u8 = 16;
/// Of a portable frame: it was appended to a store to be published from there.
pub(crate) const FLAG_OUTBOX: u8 = 32;

/// How a payload's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Encoding {
    /// Uninterpreted bytes.
    Bytes = 0,
    /// An rkyv archive of the topic's Rust type, root last.
    Rkyv = 1,
    /// JSON text.
    Json = 2,
    /// UTF-8 text.
    Text = 3,
    /// A protobuf message.
    Protobuf = 4,
}

impl Encoding {
    /// The encoding with this tag.
    pub(crate) const fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            0 => Self::Bytes,
            1 => Self::Rkyv,
            2 => Self::Json,
            3 => Self::Text,
            4 => Self::Protobuf,
            _ => return None,
        })
    }
}

/// What every reader needs, in the order of its use. All integers are native-endian in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) id: [u8; 16],
    /// Instant of creation (nanoseconds of the bus clock).
    pub(crate) time: u64,
    /// Instant after which nobody wants the event; 0 = none.
    pub(crate) deadline: u64,
    /// Type id given by the bus; 0 = the name is in the extension.
    pub(crate) type_id: u32,
    /// Source id given by the bus; 0 = the name is in the extension.
    pub(crate) source_id: u32,
    pub(crate) payload_bytes: u32,
    /// A multiple of 16.
    pub(crate) extension_bytes: u16,
    pub(crate) schema: u16,
    pub(crate) priority: u8,
    pub(crate) encoding: u8,
    pub(crate) attempt: u8,
    pub(crate) flags: u8,
    /// In a lane or mailbox the ring's block word; where the frame leaves memory, room for a checksum.
    pub(crate) check: u32,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == align_of::<u64>());

impl Header {
    /// Of an event without id, time, topic and payload.
    pub(crate) const BLANK: Self = Self {
        id: [0; 16],
        time: 0,
        deadline: 0,
        type_id: 0,
        source_id: 0,
        payload_bytes: 0,
        extension_bytes: 0,
        schema: 1,
        priority: Priority::Normal as u8,
        encoding: 0,
        attempt: 1,
        flags: 0,
        check: 0,
    };

    /// With an extension and a payload of so many bytes.
    #[inline(always)]
    pub(crate) fn with_payload(self, extension_bytes: usize, bytes: usize, encoding: Encoding, flags: u8) -> Self {
        Self {
            extension_bytes: extension_bytes as u16,
            payload_bytes: bytes as u32,
            encoding: encoding as u8,
            flags: self.flags | flags,
            ..self
        }
    }

    /// The header as it lies at the start of a body.
    #[inline(always)]
    pub(crate) fn as_words(&self) -> &[u64; HEADER_BYTES / 8] {
        // SAFETY: Header is repr(C), as aligned and as long as the words (asserted above), has no padding and only
        // integers.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    /// The header that lies at the start of a body.
    #[inline(always)]
    pub(crate) fn of_words(words: &[u64; HEADER_BYTES / 8]) -> &Self {
        // SAFETY: as in `as_words`; every bit pattern is a valid integer.
        unsafe { &*std::ptr::from_ref(words).cast() }
    }

    /// The header as the words that it lies in, made in registers: [`as_words`](Self::as_words) needs it in memory.
    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; HEADER_BYTES / size_of::<u64>()] {
        // In one piece: taken byte by byte, the compiler would put it together byte by byte.
        let id = u128::from_ne_bytes(self.id);
        let (low, high) = (id as u64, (id >> 64) as u64);
        let (first, second) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        [
            first,
            second,
            self.time,
            self.deadline,
            word(self.type_id, self.source_id),
            word(self.payload_bytes, half_word(self.extension_bytes, self.schema)),
            word(u32::from_ne_bytes([self.priority, self.encoding, self.attempt, self.flags]), self.check),
        ]
    }

    /// Reads the header in place.
    ///
    /// # Errors
    /// When `body` is too short or not aligned as a `u64` is.
    #[inline(always)]
    pub(crate) fn read(body: &[u8]) -> Result<&Self, FrameError> {
        if body.len() < HEADER_BYTES || !body.as_ptr().cast::<Self>().is_aligned() {
            return Err(FrameError::Short { bytes: body.len(), needed: HEADER_BYTES });
        }
        // SAFETY: long enough and aligned; Header has only integers, for which every bit pattern is valid.
        Ok(unsafe { &*body.as_ptr().cast::<Self>() })
    }

    #[inline(always)]
    pub(crate) fn event_id(&self) -> EventId {
        EventId::from_bytes(self.id)
    }

    /// Bytes of extension and payload.
    #[inline(always)]
    pub(crate) fn rest_bytes(&self) -> usize {
        usize::from(self.extension_bytes) + self.payload_bytes as usize
    }

    #[inline(always)]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Cuts extension and payload out of the bytes behind the header (or in the block).
    ///
    /// # Errors
    /// When the header speaks of more bytes than there are.
    #[inline(always)]
    pub(crate) fn split<'a>(&self, rest: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), FrameError> {
        let extension = usize::from(self.extension_bytes);
        let needed = self.rest_bytes();
        match rest.get(..needed) {
            Some(rest) => Ok(rest.split_at(extension)),
            None => Err(FrameError::Short { bytes: rest.len(), needed }),
        }
    }
}

/// Two neighbours in memory as one word.
#[inline(always)]
const fn word(first: u32, second: u32) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    (high as u64) << 32 | low as u64
}

#[inline(always)]
const fn half_word(first: u16, second: u16) -> u32 {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    (high as u32) << 16 | low as u32
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer bytes than the header asks for, or not aligned.
    Short {
        /// Bytes there are.
        bytes: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The extension ends inside a field.
    Extension {
        /// Where the broken field starts, in bytes from the start of the extension.
        at: usize,
    },
    /// The bytes do not begin as a frame does.
    Mark,
    /// A version of the format that this program does not know.
    Version {
        /// The version found.
        found: u8,
        /// The version known.
        known: u8,
    },
    /// The bytes do not start on a 16-byte boundary, so the payload cannot be read where it lies.
    Misaligned {
        /// How far behind a boundary they start, in bytes.
        by: usize,
    },
    /// More bytes than the header speaks of.
    Long {
        /// Bytes there are.
        bytes: usize,
        /// Bytes of the frame.
        needed: usize,
    },
    /// A field of the header has a value that no frame has.
    Header {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A field of the extension is malformed, too long, or there once too often.
    Field {
        /// The field's tag.
        tag: u8,
        /// Where it starts, in bytes from the start of the extension.
        at: usize,
    },
    /// The extension does not name the topic.
    NoTopic,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { bytes, needed } => write!(f, "the frame has {bytes} bytes, its header needs {needed}"),
            Self::Extension { at } => write!(f, "the frame's extension is broken at byte {at}"),
            Self::Mark => f.write_str("the bytes do not begin with the mark of a frame"),
            Self::Version { found, known } => {
                write!(f, "the frame has format version {found}, this program knows {known}; read it with a newer one")
            }
            Self::Misaligned { by } => {
                write!(f, "the frame starts {by} bytes behind a 16-byte boundary; copy it with Frame::copied_from")
            }
            Self::Long { bytes, needed } => write!(f, "{bytes} bytes were given as a frame of {needed}"),
            Self::Header { field, value } => write!(f, "the frame's header has {value} as {field}, which no frame has"),
            Self::Field { tag, at } => {
                write!(f, "field {tag} at byte {at} of the frame's extension is malformed, too long or repeated")
            }
            Self::NoTopic => f.write_str("the frame does not name its topic"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_the_bytes_of_the_header(bytes in proptest::array::uniform(any::<[u8; 8]>())) {
            let bytes: [[u8; 8]; HEADER_BYTES / 8] = bytes;
            let words = bytes.map(u64::from_ne_bytes);
            let bytes = bytes.concat();
            let header = Header {
                id: bytes[..16].try_into().unwrap(),
                time: words[2],
                deadline: words[3],
                type_id: u32::from_ne_bytes(bytes[32..36].try_into().unwrap()),
                source_id: u32::from_ne_bytes(bytes[36..40].try_into().unwrap()),
                payload_bytes: u32::from_ne_bytes(bytes[40..44].try_into().unwrap()),
                extension_bytes: u16::from_ne_bytes(bytes[44..46].try_into().unwrap()),
                schema: u16::from_ne_bytes(bytes[46..48].try_into().unwrap()),
                priority: bytes[48],
                encoding: bytes[49],
                attempt: bytes[50],
                flags: bytes[51],
                check: u32::from_ne_bytes(bytes[52..].try_into().unwrap()),
            };
            prop_assert_eq!(header.words(), words);
            prop_assert_eq!(*header.as_words(), words);
            prop_assert_eq!(Header::of_words(&words), &header);
        }
    }
}
