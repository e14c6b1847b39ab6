//! Rust values to payload bytes and back, by rkyv: encoded once, read in place ever after.

use std::alloc::Layout;
use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use rkyv::api::access_with_context;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::sharing::Unshare;
use rkyv::ser::{Allocator, Positional, Serializer, Writer};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;
use rkyv::{Archive, Place, Serialize};

use super::{Encoding, FLAG_LOCAL, Header};

/// The deepest nesting that bytes from outside may have: so many values within each other, the root among them.
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
pub type Encoder<'a> = Strategy<Serializer<Destination<'a>, Meanwhile<'a>, Unshare>, Failure>;

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

/// Memory that a serialisation may need meanwhile. It takes hold of its arena when it is first asked, so that values
/// that ask for none, flat ones above all, do not pay for it.
#[doc(hidden)]
pub struct Meanwhile<'a> {
    arena: Option<&'a mut Arena>,
    handle: Option<ArenaHandle<'a>>,
}

impl<'a> Meanwhile<'a> {
    #[inline]
    fn new(arena: &'a mut Arena) -> Self {
        Self { arena: Some(arena), handle: None }
    }

    #[inline]
    fn handle(&mut self) -> &mut ArenaHandle<'a> {
        let Self { arena, handle } = self;
        handle.get_or_insert_with(|| arena.take().expect("the arena is taken once, for the handle").acquire())
    }
}

impl fmt::Debug for Meanwhile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").field("used", &self.handle.is_some()).finish_non_exhaustive()
    }
}

// SAFETY: all memory comes from the one handle, which keeps the contract; it stays the same once there is one.
unsafe impl<E> Allocator<E> for Meanwhile<'_> {
    #[inline]
    unsafe fn push_alloc(&mut self, layout: Layout) -> Result<NonNull<[u8]>, E> {
        // SAFETY: the caller's contract is the handle's.
        unsafe { self.handle().push_alloc(layout) }
    }

    #[inline]
    unsafe fn pop_alloc(&mut self, ptr: NonNull<u8>, layout: Layout) -> Result<(), E> {
        // SAFETY: the caller's contract is the handle's; what is popped here was pushed here.
        unsafe { self.handle().pop_alloc(ptr, layout) }
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

    /// The payload, when it lies in memory just as it is to be written.
    fn as_bytes(&self) -> Option<&[u8]>;

    /// Writes the payload to the front of `out` (aligned to 16) and returns its length.
    fn encode(&self, out: &mut [u8], arena: &mut Arena) -> Result<usize, EncodeFault>;
}

impl<E: Event> Encode for &E {
    #[inline]
    fn encoding(&self) -> Encoding {
        Encoding::Rkyv
    }

    #[inline]
    fn flags(&self) -> u8 {
        FLAG_LOCAL
    }

    #[inline(always)]
    fn as_bytes(&self) -> Option<&[u8]> {
        // An archived type may be longer than its value, by attributes of the derive.
        let is_flat = const { E::COPY_OPTIMIZATION.is_enabled() && size_of::<E>() == size_of::<E::Archived>() };
        if !is_flat {
            return None;
        }
        let value: &E = self;
        // SAFETY: where the optimisation is enabled, rkyv attests that the value has no padding and that each field lies where
        // and as it lies in the archive.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<E>()) };
        debug_assert!(
            !bytes.as_ptr().cast::<E::Archived>().is_aligned() || check::<E>(bytes, None).is_ok(),
            "{}'s rkyv implementation allows copies that it does not accept",
            std::any::type_name::<E>()
        );
        Some(bytes)
    }

    /// What is reached by pointers comes first, written piece by piece; then the root, which is resolved where it is to
    /// lie: a flat value is a few stores.
    #[inline]
    fn encode(&self, out: &mut [u8], arena: &mut Arena) -> Result<usize, EncodeFault> {
        const { assert!(align_of::<E::Archived>() <= PAYLOAD_ALIGN, "payloads are aligned to 16 bytes") };
        let destination = Destination { bytes: out, written: 0 };
        let mut serializer = Serializer::new(destination, Meanwhile::new(arena), Unshare);
        let resolver = E::serialize(self, Strategy::wrap(&mut serializer)).map_err(|Failure| EncodeFault::Refused)?;
        let Destination { bytes, written } = serializer.into_writer();
        let root = written.next_multiple_of(align_of::<E::Archived>());
        let end = root + size_of::<E::Archived>();
        let Some(place) = bytes.get_mut(written..end) else { return Err(EncodeFault::Needs(end)) };
        resolve(*self, resolver, place, written);
        // What is encoded here is read without validation. rkyv's derives make it valid; an implementation by hand is
        // checked in debug builds.
        debug_assert!(
            check::<E>(&bytes[..end], None).is_ok(),
            "{}'s rkyv implementation writes archives that it does not accept",
            std::any::type_name::<E>()
        );
        Ok(end)
    }
}

/// Writes the root of an archive to the end of `place`, which begins `before` bytes into the archive, and zeros before it.
// A function of its own, because its arguments cannot overlap: that lets the compiler leave zeros out that are
// overwritten anyway.
#[inline]
fn resolve<E: Event>(value: &E, resolver: E::Resolver, place: &mut [u8], before: usize) {
    let padding = place.len() - size_of::<E::Archived>();
    assert!(place[padding..].as_ptr().cast::<E::Archived>().is_aligned(), "payloads are written to 16-byte boundaries");
    // Padding in front of and inside the root is part of the archive, and no place for what was here before. Nothing that may
    // panic comes between this and the root, or no zero could be left out.
    place.fill(0);
    let root = place.as_mut_ptr().wrapping_add(padding).cast::<E::Archived>();
    // SAFETY: aligned, as was just asked; from here to the end of `place` are as many bytes as the archived value has,
    // and they are initialised.
    let root = unsafe { Place::new_unchecked(before + padding, root) };
    value.resolve(resolver, root);
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
    // The validator refuses the level that it is given.
    check::<E>(payload, const { NonZeroUsize::new(DEPTH_MAX + 1) })
}

fn check<E: Event>(payload: &[u8], depth: Option<NonZeroUsize>) -> Result<&E::Archived, DecodeError> {
    let mut context = Validator::new(ArchiveValidator::with_max_depth(payload, depth), SharedValidator::new());
    access_with_context::<E::Archived, _, Failure>(payload, &mut context)
        .map_err(|Failure| DecodeError::Invalid { bytes: payload.len() })
}
