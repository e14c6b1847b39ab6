//! Which number a key has: a table of the worker's own, in which a key that needs its number no more makes way for a new one.

use crate::ring::memory::{OutOfMemory, boxed};

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    /// `NONE` = the entry is empty.
    number: u32,
}

/// Numbers of keys, below `keys_max`. No two keys have one at the same time.
#[derive(Debug)]
pub(super) struct Keys {
    /// Each key lies at its home or behind it, with no empty entry between. Half of them are empty at least.
    entries: Box<[Entry]>,
    /// Where the key of each number lies; `NONE` = it has none.
    places: Box<[u32]>,
    /// The number to look at next when one is needed.
    hand: u32,
}

/// Entries for so many keys.
const fn entries(keys_max: usize) -> usize {
    keys_max.saturating_mul(2).next_power_of_two()
}

impl Keys {
    /// # Errors
    /// When the system has not so much memory.
    pub(super) fn new(keys_max: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            entries: boxed(entries(keys_max), |_| Entry { key: 0, number: NONE })?,
            places: boxed(keys_max, |_| NONE)?,
            hand: 0,
        })
    }

    pub(super) const fn bytes_for(keys_max: usize) -> u64 {
        let places = (keys_max as u64).saturating_mul(size_of::<u32>() as u64);
        (entries(keys_max) as u64).saturating_mul(size_of::<Entry>() as u64).saturating_add(places)
    }

    /// The number that `key` has.
    pub(super) fn number(&self, key: u64) -> Option<u32> {
        let number = self.entries[self.find(key)].number;
        (number != NONE).then_some(number)
    }

    /// Gives `key`, which has none, the number of another one that `is_idle`, or that no key has had.
    ///
    /// # Cost
    /// As many looks as numbers in turn are not idle; where many keys have one home, as many more as there are.
    pub(super) fn enter(&mut self, key: u64, is_idle: impl Fn(u32) -> bool) -> Option<u32> {
        let number = (0..self.places.len()).find_map(|_| {
            let number = self.hand;
            self.hand = if number as usize + 1 == self.places.len() { 0 } else { number + 1 };
            is_idle(number).then_some(number)
        })?;
        self.forget(number);
        let place = self.find(key);
        self.entries[place] = Entry { key, number };
        self.places[number as usize] = place as u32;
        Some(number)
    }

    /// Where `key` lies or would.
    fn find(&self, key: u64) -> usize {
        let mut place = self.home(key);
        loop {
            let entry = &self.entries[place];
            if entry.number == NONE || entry.key == key {
                return place;
            }
            place = self.after(place);
        }
    }

    /// Keys that are numbers of something, which differ in few bits, are spread too.
    fn home(&self, key: u64) -> usize {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> (u64::BITS - self.entries.len().ilog2())) as usize
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    /// Entries from `from` on to `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }

    /// Empties the entry of `number`, and moves up those behind it that would not be found any more.
    fn forget(&mut self, number: u32) {
        let place = std::mem::replace(&mut self.places[number as usize], NONE);
        if place == NONE {
            return;
        }
        let mut empty = place as usize;
        let mut next = self.after(empty);
        while self.entries[next].number != NONE {
            let entry = self.entries[next];
            if self.distance(self.home(entry.key), next) >= self.distance(empty, next) {
                self.entries[empty] = entry;
                self.places[entry.number as usize] = empty as u32;
                empty = next;
            }
            next = self.after(next);
        }
        self.entries[empty].number = NONE;
    }
}
