//! What an event is found by, as one number.

use crate::EventId;

/// A hash of an aggregate's kind and id, or of a correlation. Two that differ may have the same one: who finds a record
/// looks whether it is the one that was meant. It is the same on every machine, since files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) struct Term(u64);

impl Term {
    pub(in crate::store) fn aggregate(kind: &str, id: &str) -> Self {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        Self::of(1, [&(kind.len() as u32).to_le_bytes(), kind.as_bytes(), id.as_bytes()])
    }

    pub(in crate::store) fn correlation(id: EventId) -> Self {
        Self::of(2, [id.as_bytes(), &[], &[]])
    }

    pub(super) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// FNV-1a over a tag and the parts, then the finish of MurmurHash3, so that both halves depend on every byte.
    fn of(tag: u8, parts: [&[u8]; 3]) -> Self {
        let mut hash = 0xCBF2_9CE4_8422_2325;
        for byte in std::iter::once(&tag).chain(parts.into_iter().flatten()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        Self(hash ^ (hash >> 33))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_those_that_files_have() {
        // Written down once: another hash would find nothing in files of before.
        assert_eq!(Term::aggregate("order", "7").number(), 0xD51C_EF7C_8AB0_D61D);
        assert_eq!(Term::correlation(EventId::from_bytes([7; 16])).number(), 0xD051_5CE7_AEA6_9F47);
        assert_ne!(Term::aggregate("a", "bc"), Term::aggregate("ab", "c"));
    }
}
