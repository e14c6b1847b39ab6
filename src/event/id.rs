//! Event ids: UUIDs, made without a system call, a lock or an allocation.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

use uuid::Uuid;

/// A UUID. Ids that ringmain makes are version 7, so they sort by time; any UUID is accepted from outside.
// Aligned, so that it goes through results as two words: it would lie beside their tag, to be shifted byte by byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(align(8))]
pub struct EventId([u8; 16]);

impl EventId {
    /// A random (version 4) id, for what is made rarely: correlations, keys. Asks the operating system for entropy.
    pub fn random() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }

    /// The `nth` of the ids that belong to `seed`, in place of a random one, so that a simulation repeats.
    pub(crate) fn seeded(seed: u64, nth: u64) -> Self {
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            (seed, nth, which).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        Self(uuid::Builder::from_random_bytes((half(0) << 64 | half(1)).to_be_bytes()).into_uuid().into_bytes())
    }

    /// The id of an event from outside whose own id is no UUID: version 5 over `source` and `id`, so that the same
    /// event gets the same id each time it arrives.
    pub fn from_foreign(source: &str, id: &str) -> Self {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
        Self(Uuid::new_v5(&namespace, id.as_bytes()).into_bytes())
    }

    /// The id with these bytes, most significant first.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, most significant first.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<u128> for EventId {
    #[inline]
    fn from(value: u128) -> Self {
        Self(value.to_be_bytes())
    }
}

impl From<EventId> for u128 {
    fn from(id: EventId) -> Self {
        u128::from_be_bytes(id.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 36];
        f.pad(Uuid::from_bytes(self.0).as_hyphenated().encode_lower(&mut text))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

/// A text that is no UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseEventIdError(String);

impl fmt::Display for ParseEventIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no UUID; EventId::from_foreign makes an id from any text", self.0)
    }
}

impl std::error::Error for ParseEventIdError {}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text)
            .map(|uuid| Self(uuid.into_bytes()))
            .map_err(|_| ParseEventIdError(text.chars().take(60).collect()))
    }
}

const NS_PER_MILLI: u64 = 1_000_000;
/// Version 7, where it lies in the upper half of an id.
const VERSION: u64 = 0x7000;

/// Makes version 7 ids for one publisher: 48 bits of milliseconds, 12 of their fraction, 62 random ones.
#[derive(Debug)]
pub(crate) struct IdSource {
    state: u64,
    /// The first eight bytes of ids, little end first: milliseconds, version, fraction of the latest time given, swapped.
    first: u64,
    /// Unix nanoseconds at which the millisecond of the last time given began, and its number.
    milli_begun: u64,
    milli: u64,
}

impl IdSource {
    /// Seeded by the operating system.
    pub(crate) fn new() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self::seeded(high ^ low.rotate_left(32))
    }

    /// Seeded by hand, so that a simulation repeats.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { state: seed, first: VERSION.swap_bytes(), milli_begun: 0, milli: 0 }
    }

    /// Sets the time of the ids to come. A few instructions while the millisecond stays the same.
    #[inline]
    pub(crate) fn at(&mut self, unix_ns: u64) {
        let mut into = unix_ns.wrapping_sub(self.milli_begun);
        if into >= NS_PER_MILLI {
            into = self.turn_to_milli_of(unix_ns);
        }
        // Below a million, so that the product fits.
        let fraction = into as u32 * 4096 / NS_PER_MILLI as u32;
        // Never back: ids of one publisher keep their order when the wall clock is set back.
        let first = self.first.swap_bytes().max((self.milli << 16) | VERSION | u64::from(fraction));
        self.first = first.swap_bytes();
    }

    /// Returns how far into its millisecond the time is.
    #[cold]
    fn turn_to_milli_of(&mut self, unix_ns: u64) -> u64 {
        self.milli = unix_ns / NS_PER_MILLI;
        let into = unix_ns % NS_PER_MILLI;
        self.milli_begun = unix_ns - into;
        into
    }

    /// The next id. About 1 ns.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> EventId {
        // wyrand: one multiplication a number, equidistributed enough for 62 bits that only have to differ.
        self.state = self.state.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.state) * u128::from(self.state ^ 0xe703_7ed1_a0b4_28db);
        let random = (product >> 64) as u64 ^ product as u64;
        // Two bits of the ninth byte say that it is a UUID.
        let second = random & !0xc0 | 0x80;
        EventId((u128::from(second) << 64 | u128::from(self.first)).to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_version_7_and_sort_by_time() {
        let mut source = IdSource::seeded(7);
        let mut seen = HashSet::new();
        let mut last = EventId::from_bytes([0; 16]);
        // Miri looks at each step, and takes its time.
        let steps = if cfg!(miri) { 60 } else { 20_000 };
        for step in 0..steps {
            source.at(1_700_000_000_000_000_000 + step * 1_000);
            let id = source.next();
            let uuid = Uuid::from_bytes(*id.as_bytes());
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            assert!(seen.insert(id));
            assert!(id > last, "an event of a later microsecond has a greater id");
            last = id;
        }
    }

    #[test]
    fn an_id_tells_its_time_wherever_it_stands_in_its_millisecond() {
        let begun = 1_700_000_000_000_000_000;
        let mut source = IdSource::seeded(7);
        for ns in [0, 1, 244, 245, 999_999, 1_000_000, 1_000_245, 86_400_000_000_000, 86_400_000_999_999] {
            source.at(begun + ns);
            let high = u128::from(source.next()) >> 64;
            assert_eq!(high >> 16, u128::from((begun + ns) / 1_000_000), "{ns}");
            assert_eq!(high & 0xfff, u128::from((begun + ns) % 1_000_000 * 4096 / 1_000_000), "{ns}");
        }
        source.at(begun);
        let high = u128::from(source.next()) >> 64;
        assert_eq!(high >> 16, u128::from((begun + 86_400_000_000_000) / 1_000_000), "never back");
        source.at(begun + 86_400_001_000_000);
        let high = u128::from(source.next()) >> 64;
        assert_eq!(high >> 16, u128::from((begun + 86_400_001_000_000) / 1_000_000), "and on again");
    }

    #[test]
    fn a_foreign_id_is_stable_and_depends_on_its_source() {
        assert_eq!(EventId::from_foreign("a", "17"), EventId::from_foreign("a", "17"));
        assert_ne!(EventId::from_foreign("a", "17"), EventId::from_foreign("b", "17"));
        assert!("17".parse::<EventId>().is_err());
    }
}
