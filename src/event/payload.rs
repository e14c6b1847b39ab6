//! A payload as bytes with an encoding: what dynamic events carry and untyped subscriptions see.

use super::codec::{Encode, EncodeFault};
use super::{DecodeError, Encoding, Event};
use rkyv::ser::allocator::Arena;

/// Borrowed payload bytes and how to read them.
///
/// ```
/// use ringmain::{Encoding, Payload};
/// let order = Payload::json(r#"{"id": 7}"#);
/// assert_eq!(order.encoding(), Encoding::Json);
/// assert_eq!(order.text(), Some(r#"{"id": 7}"#));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// JSON text. It is carried as it is: parse errors show where it is parsed.
    pub const fn json(text: &'a str) -> Self {
        Self { encoding: Encoding::Json, bytes: text.as_bytes() }
    }

    /// UTF-8 text.
    pub const fn plain_text(text: &'a str) -> Self {
        Self { encoding: Encoding::Text, bytes: text.as_bytes() }
    }

    /// Uninterpreted bytes.
    pub const fn raw(bytes: &'a [u8]) -> Self {
        Self { encoding: Encoding::Bytes, bytes }
    }

    /// An encoded protobuf message.
    pub const fn protobuf(message: &'a [u8]) -> Self {
        Self { encoding: Encoding::Protobuf, bytes: message }
    }

    /// An rkyv archive made elsewhere. Typed readers validate it, at each reading.
    ///
    /// What is valid is safe to read, but may be forged: a look-up in a forged hash table (`HashMap`, `HashSet`) may never
    /// return, for rkyv does not check where its entries lie. Go through such a table instead, or send a `BTreeMap`.
    pub const fn rkyv(archive: &'a [u8]) -> Self {
        Self { encoding: Encoding::Rkyv, bytes: archive }
    }

    pub(crate) const fn with_encoding(encoding: Encoding, bytes: &'a [u8]) -> Self {
        Self { encoding, bytes }
    }

    /// How to read the bytes.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes as text, when the encoding is JSON or text and they are UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        match self.encoding {
            Encoding::Json | Encoding::Text => std::str::from_utf8(self.bytes).ok(),
            _ => None,
        }
    }

    /// The bytes as an archived `E`, validated at each call.
    ///
    /// # Errors
    /// When the encoding is not rkyv, or the bytes are no valid archive of `E`.
    pub fn archived<E: Event>(&self) -> Result<&'a E::Archived, DecodeError> {
        if self.encoding != Encoding::Rkyv {
            return Err(DecodeError::Encoding { found: Some(self.encoding) });
        }
        super::codec::validate::<E>(self.bytes)
    }
}

impl Encode for Payload<'_> {
    #[inline]
    fn encoding(&self) -> Encoding {
        self.encoding
    }

    #[inline]
    fn flags(&self) -> u8 {
        0
    }

    #[inline(always)]
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self.bytes)
    }

    #[inline]
    fn encode(&self, out: &mut [u8], _arena: &mut Arena) -> Result<usize, EncodeFault> {
        let needed = self.bytes.len();
        out.get_mut(..needed).ok_or(EncodeFault::Needs(needed))?.copy_from_slice(self.bytes);
        Ok(needed)
    }
}
