//! The hot header: 64 bytes with the slot's stamp, the same in a lane, a mailbox cell and (later) the store.

use std::fmt;

use super::EventId;

/// Bytes of the header that follows the stamp.
pub(crate) const HEADER_BYTES: usize = 56;
/// The payload was encoded by this process from the Rust type of its topic: it is read without validation.
pub(crate) const FLAG_LOCAL: u8 = 1;
/// `time` was taken for this very event: latencies are measured from it.
pub(crate) const FLAG_STAMPED: u8 = 2;
/// The stamp policy chose the event: its handlers are timed, whatever `time` says.
pub(crate) const FLAG_MEASURED: u8 = 4;

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

const _: () = assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == 8);

impl Header {
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

    /// Reads the header in place.
    ///
    /// # Errors
    /// When `body` is too short or not aligned to 8 bytes.
    #[inline(always)]
    pub(crate) fn read(body: &[u8]) -> Result<&Self, FrameError> {
        if body.len() < HEADER_BYTES || !body.as_ptr().cast::<Self>().is_aligned() {
            return Err(FrameError::Short { bytes: body.len(), needed: HEADER_BYTES });
        }
        // SAFETY: long enough and aligned; Header has only integers, for which every bit pattern is valid.
        Ok(unsafe { &*body.as_ptr().cast::<Self>() })
    }

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
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { bytes, needed } => write!(f, "the frame has {bytes} bytes, its header needs {needed}"),
            Self::Extension { at } => write!(f, "the frame's extension is broken at byte {at}"),
        }
    }
}

impl std::error::Error for FrameError {}
