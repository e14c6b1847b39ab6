//! Which topics and sources a segment has, and how many records of each.

use std::collections::BTreeMap;

/// Names that are counted; of more it is only known that there are others.
const NAMES_MAX: usize = 4_096;

/// Names with how often each was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Names {
    counts: BTreeMap<Box<str>, u64>,
    /// Records whose names are not among the counted ones.
    others: u64,
}

impl Names {
    pub(super) fn add(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
        } else if self.counts.len() < NAMES_MAX && u16::try_from(name.len()).is_ok() {
            self.counts.insert(name.into(), 1);
        } else {
            self.others += 1;
        }
    }

    /// At most how many records have a name that is meant.
    pub(in crate::store) fn at_most(&self, is_meant: impl Fn(&str) -> bool) -> u64 {
        let meant = self.counts.iter().filter(|(name, _)| is_meant(name));
        meant.map(|(_, count)| count).sum::<u64>() + self.others
    }

    /// At most how many records have this name.
    pub(in crate::store) fn at_most_of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0) + self.others
    }

    /// Bytes that it takes in memory, more or less.
    pub(super) fn bytes(&self) -> usize {
        self.counts.keys().map(|name| name.len() + 40).sum()
    }

    /// `number of names u32, others u64`, then of each name `length u16, count u64, bytes`; little-endian.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.counts.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.others.to_le_bytes());
        for (name, count) in &self.counts {
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
    }

    /// Takes names off the front of bytes; `None` if there are none.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let number = u32::from_le_bytes(*take(bytes)?);
        let mut names = Self { others: u64::from_le_bytes(*take(bytes)?), ..Self::default() };
        for _ in 0..number {
            let length = usize::from(u16::from_le_bytes(*take(bytes)?));
            let count = u64::from_le_bytes(*take(bytes)?);
            let (name, rest) = bytes.split_at_checked(length)?;
            names.counts.insert(std::str::from_utf8(name).ok()?.into(), count);
            *bytes = rest;
        }
        Some(names)
    }
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(number)
}
