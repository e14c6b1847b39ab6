//! State of the user's as bytes, and records of our own around it.

use std::error::Error;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// State that is kept as bytes between one step and the next, also by another process of a later version: read what older
/// versions wrote.
///
/// ```
/// use std::error::Error;
/// use ringmain::sourcing::Persist;
///
/// struct Counter(u64);
///
/// impl Persist for Counter {
///     fn to_bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
///         Ok(self.0.to_le_bytes().to_vec())
///     }
///
///     fn of_bytes(bytes: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
///         Ok(Self(u64::from_le_bytes(bytes.try_into()?)))
///     }
/// }
/// # assert_eq!(Counter::of_bytes(&Counter(7).to_bytes()?)?.0, 7);
/// # Ok::<(), Box<dyn Error + Send + Sync>>(())
/// ```
pub trait Persist: Sized {
    /// The state as bytes; with what is kept around it, at most 1 MiB.
    ///
    /// # Errors
    /// When it cannot be written.
    fn to_bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. The bytes may start at any address.
    ///
    /// # Errors
    /// When the bytes are no such state.
    fn of_bytes(bytes: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>>;
}

/// What a record begins with: what it is, and the version of its layout last.
pub(super) type Mark = [u8; 16];

/// A record: its mark, then its archive.
pub(super) fn write<T>(mark: &Mark, record: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let archive = rkyv::to_bytes::<rancor::Error>(record).expect("a record of texts, numbers and bytes is archived");
    [mark, &*archive].concat()
}

/// Reads a record; `None` when it is none, or of a layout that is not known.
pub(super) fn read<T>(mark: &Mark, bytes: &[u8]) -> Option<T>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>> + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    let archive = bytes.strip_prefix(mark)?;
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    rkyv::from_bytes::<T, rancor::Error>(&aligned).ok()
}

/// The key of one of many, under a name: the name's length, the name, the id.
pub(super) fn key(name: &str, id: &str) -> Vec<u8> {
    [prefix(name).as_slice(), id.as_bytes()].concat()
}

/// What all keys under a name begin with. The name is short enough: who has one has checked it.
pub(super) fn prefix(name: &str) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes()].concat()
}

/// Bytes that names may have.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// Bytes that ids may have.
pub(super) const ID_BYTES_MAX: usize = 512;
