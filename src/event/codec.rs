//! Rust values to payload bytes and back, by rkyv: encoded once, read in place ever after.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;

use rkyv::api::{access_with_context, serialize_using};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::sharing::Unshare;
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;
use rkyv::{Archive, Serialize};

use super::{Encoding, FLAG_LOCAL, Header};

/// The deepest nesting that bytes from outside may have.
const DEPTH_MAX: usize = 64;
/// Where payloads start, and so the strictest alignment an archived value may ask for.
pub(crate) const PAYLOAD_ALIGN: usize = 16;

/// A value that can be the payload of a [`Topic`](crate::Topic): anything with rkyv's derives.
///
/// ```
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct OrderPlaced { id: u64, cents: u64 }
/// # fn is_event<E: ringmain::Event>() {}
/// # is_event::<OrderPlaced>();
/// ```
///
/// The trait is implemented for every such type and cannot be implemented by hand. Payloads that this process encoded are
/// read without validation, so rkyv traits written by hand instead of derived must be right; debug builds check each
/// archive. Archived types with shared
/// pointers (`Rc`, `Arc`) are written out once a pointer; cycles are not supported.
pub trait Event:
    Archive<Archived: Sync + for<'a> CheckBytes<Check<'a>>> + for<'a> Serialize<Encoder<'a>> + 'static
{
}

impl<E> Event for E
where
    E: Archive + for<'a> Serialize<Encoder<'a>> + 'static,
    E::Archived: Sync + for<'a> CheckBytes<Check<'a>>,
{
}

/// What rkyv serialises with. Named in bounds only.
#[doc(hidden)]
pub type Encoder<'a> = Strategy<Serializer<Destination<'a>, ArenaHandle<'a>, Unshare>, Failure>;

/// What rkyv validates with. Named in bounds only.
#[doc(hidden)]
pub type Check<'a> = Strategy<Validator<ArchiveValidator<'a>, SharedValidator>, Failure>;

/// Bytes of fixed length to encode into. Past their end it only counts, so that the length needed is known.
#[doc(hidden)]
#[derive(Debug)]
pub struct Destination<'a> {
    bytes: &'a mut [u8],
    written: usize,
}

impl Positional for Destination<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.written
    }
}

impl<E> Writer<E> for Destination<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        let end = self.written + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.written..end) {
            place.copy_from_slice(bytes);
        }
        self.written = end;
        Ok(())
    }
}

/// Why a payload was not encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeFault {
    /// The destination is too short.
    Needs(usize),
    /// The value's own `Serialize` refused.
    Refused,
}

/// Something that can be written as a payload: a reference to an [`Event`], or a [`Payload`](super::Payload).
pub trait Encode {
    /// How readers will read it.
    fn encoding(&self) -> Encoding;

    /// Flags that the frame gets.
    fn flags(&self) -> u8;

    /// Writes the payload to the front of `out` (aligned to 16) and returns its length.
    fn encode(&self, out: &mut [u8], arena: &mut Arena) -> Result<usize, EncodeFault>;
}

impl<E: Event> Encode for &E {
    fn encoding(&self) -> Encoding {
        Encoding::Rkyv
    }

    fn flags(&self) -> u8 {
        FLAG_LOCAL
    }

    #[inline]
    fn encode(&self, out: &mut [u8], arena: &mut Arena) -> Result<usize, EncodeFault> {
        const { assert!(align_of::<E::Archived>() <= PAYLOAD_ALIGN, "payloads are aligned to 16 bytes") };
        let room = out.len();
        let destination = Destination { bytes: out, written: 0 };
        let mut serializer = Serializer::new(destination, arena.acquire(), Unshare);
        serialize_using::<_, Failure>(*self, &mut serializer).map_err(|Failure| EncodeFault::Refused)?;
        let Destination { bytes, written } = serializer.into_writer();
        if written > room {
            return Err(EncodeFault::Needs(written));
        }
        // What is encoded here is read without validation. rkyv's derives make it valid; an implementation by hand is
        // checked in debug builds.
        debug_assert!(
            check::<E>(&bytes[..written], None).is_ok(),
            "{}'s rkyv implementation writes archives that it does not accept",
            std::any::type_name::<E>()
        );
        Ok(written)
    }
}

/// Why a payload could not be read as the type its subscription asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload is in another encoding than rkyv.
    Encoding {
        /// Its encoding, or `None` when its tag is unknown.
        found: Option<Encoding>,
    },
    /// The bytes are no valid archive of the type: truncated, misaligned, nested deeper than 64, or another type's.
    Invalid {
        /// Length of the payload.
        bytes: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding { found: Some(found) } => write!(
                f,
                "the payload is {found:?}, this subscription reads rkyv; subscribe to the topic's name to read it as it is"
            ),
            Self::Encoding { found: None } => f.write_str("the payload's encoding is unknown to this version"),
            Self::Invalid { bytes } => {
                write!(f, "the payload of {bytes} bytes is no valid archive of the topic's type")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// The Rust type that the bus has bound to a topic, as far as it knows one. Only the bus makes one: it is what lets a
/// payload be read without validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownAs(Option<TypeId>);

impl KnownAs {
    pub(crate) const UNKNOWN: Self = Self(None);

    /// Which events may be read as `E` without validation.
    #[inline(always)]
    pub(crate) fn trust<E: 'static>(self) -> Trust<E> {
        Trust { flag: if self.0 == Some(TypeId::of::<E>()) { FLAG_LOCAL } else { 0 }, event: PhantomData }
    }

    /// Call only with what the directory has bound.
    pub(crate) fn bound(rust: TypeId) -> Self {
        Self(Some(rust))
    }
}

/// The flag of events that may be read as `E` without validation, or none.
pub(crate) struct Trust<E> {
    flag: u8,
    event: PhantomData<fn(E)>,
}

impl<E> Clone for Trust<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Trust<E> {}

/// Reads a payload in place. Bytes that this process encoded are trusted, others are validated.
#[inline(always)]
pub(crate) fn read_archived<'a, E: Event>(
    header: &Header,
    payload: &'a [u8],
    trust: Trust<E>,
) -> Result<&'a E::Archived, DecodeError> {
    if header.has(trust.flag) {
        // SAFETY: FLAG_LOCAL is only set when this process encoded, by rkyv, a value of the Rust type that the bus registered
        // for the event's type id, and `trust` has that flag only where this type is E. Payloads start 16-aligned, and
        // `Encode for &E` refuses to compile for stricter types.
        return Ok(unsafe { rkyv::access_unchecked::<E::Archived>(payload) });
    }
    if header.encoding != Encoding::Rkyv as u8 {
        return Err(DecodeError::Encoding { found: Encoding::from_tag(header.encoding) });
    }
    validate::<E>(payload)
}

/// Checks bytes from outside: bounds, alignment, every value, depth.
#[cold]
pub(crate) fn validate<E: Event>(payload: &[u8]) -> Result<&E::Archived, DecodeError> {
    check::<E>(payload, const { NonZeroUsize::new(DEPTH_MAX) })
}

fn check<E: Event>(payload: &[u8], depth: Option<NonZeroUsize>) -> Result<&E::Archived, DecodeError> {
    let mut context = Validator::new(ArchiveValidator::with_max_depth(payload, depth), SharedValidator::new());
    access_with_context::<E::Archived, _, Failure>(payload, &mut context)
        .map_err(|Failure| DecodeError::Invalid { bytes: payload.len() })
}
