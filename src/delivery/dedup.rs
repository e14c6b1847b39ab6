//! A window of what came lately: who comes again within it is a duplicate. Bounded in time and in count.

use std::time::Duration;

use crate::event::Meta;
use crate::sync::contain::contained;
use crate::sync::mutant::mutant;

use super::Key;

/// How long and how many events a subscription remembers, to drop what comes again.
///
/// ```
/// use ringmain::{Bus, DedupWindow, Payload};
/// use std::time::Duration;
///
/// let bus = Bus::builder().build()?;
/// let _made = bus.subscribe("orders.*").dedup(DedupWindow::default().time(Duration::from_secs(10))).handle(|_, _| ())?;
/// let mut publisher = bus.publisher()?;
/// let id = publisher.publish("orders.placed", Payload::json("{}"))?;
/// publisher.event().id(id).publish("orders.placed", Payload::json("{}"))?;
/// bus.flush()?;
/// let ledger = bus.ledger().subscriptions;
/// assert_eq!((ledger.delivered, ledger.dropped.duplicate), (1, 1));
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DedupWindow {
    time: Duration,
    keys_max: usize,
    by: Option<Key>,
}

/// A window may remember this many keys.
pub(crate) const KEYS_MAX: usize = 1 << 24;

impl Default for DedupWindow {
    /// A minute, 100,000 events, told apart by their id.
    fn default() -> Self {
        Self { time: Duration::from_secs(60), keys_max: 100_000, by: None }
    }
}

impl DedupWindow {
    /// How long an event is remembered; no time at all is [refused](crate::SubscribeError::WindowTime). Default 60 s.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Events remembered, 1 to 2^24; beyond them the oldest is forgotten. Each takes 40 to 48 bytes, reserved when the
    /// subscription is made. Default 100,000.
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }

    /// Tells events apart by this instead of by their id. An event without a key is never a duplicate.
    pub fn by(mut self, key: Key) -> Self {
        self.by = Some(key);
        self
    }

    /// How long an event is remembered, and how many are.
    pub fn size(&self) -> (Duration, usize) {
        (self.time, self.keys_max)
    }

    /// Whether it tells events apart by something else than their id.
    pub fn is_by_key(&self) -> bool {
        self.by.is_some()
    }

    /// Whether it has a time.
    pub(crate) fn has_time(&self) -> bool {
        !self.time.is_zero()
    }

    /// Events it is to remember.
    pub(crate) fn keys(&self) -> usize {
        self.keys_max
    }
}

/// What a subscription remembers of the events it got. Its worker's own.
#[derive(Debug)]
pub(crate) struct Dedup {
    seen: Seen,
    by: Option<Key>,
}

impl Dedup {
    /// `None` when the system has no memory for it.
    pub(crate) fn new(window: DedupWindow) -> Option<Self> {
        Some(Self { seen: Seen::new(&window)?, by: window.by })
    }

    /// What so many keys take.
    pub(crate) const fn bytes_for(keys: usize) -> u64 {
        (keys as u64).saturating_mul(size_of::<(u128, u64)>() as u64 + 2 * size_of::<u32>() as u64)
    }

    /// What it has reserved.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.seen.reserved_bytes()
    }

    /// Whether the event has not come within the window before. A key whose making panics is none.
    pub(crate) fn is_new(&mut self, meta: &Meta<'_>, now: u64) -> bool {
        let key = match &self.by {
            None => Some(u128::from_ne_bytes(*meta.id().as_bytes())),
            Some(by) => contained(|| by.of(meta)).flatten().map(u128::from),
        };
        key.is_none_or(|key| self.seen.is_new(key, now))
    }
}

/// Keys of 128 bits in the order they came, and a table over them. All memory is reserved when it is made.
#[derive(Debug)]
struct Seen {
    time: u64,
    /// The keys and when they came, a ring: `oldest` is the first of `count`.
    keys: Box<[(u128, u64)]>,
    oldest: usize,
    count: usize,
    /// Places in `keys` by hash, linear probing; `NONE` is free. Twice as many as keys, so that searches are short.
    table: Box<[u32]>,
}

const NONE: u32 = u32::MAX;

impl Seen {
    fn new(window: &DedupWindow) -> Option<Self> {
        let keys_max = window.keys_max.clamp(1, KEYS_MAX);
        let time_ns = u64::try_from(window.time.as_nanos()).unwrap_or(u64::MAX);
        Some(Self {
            time: mutant!("dedup.time", time_ns => time_ns / 2),
            keys: filled(keys_max, (0, 0))?,
            oldest: 0,
            count: 0,
            table: filled((2 * keys_max).next_power_of_two(), NONE)?,
        })
    }

    fn reserved_bytes(&self) -> usize {
        size_of_val(&*self.keys) + size_of_val(&*self.table)
    }

    /// Remembers `key`. False when it came within the window before; then it keeps its place in it.
    fn is_new(&mut self, key: u128, now: u64) -> bool {
        while self.count > 0 && now.saturating_sub(self.keys[self.oldest].1) >= self.time {
            self.forget_oldest();
        }
        let place = self.find(key);
        if self.table[place] != NONE {
            return false;
        }
        let place = if self.count == self.keys.len() {
            self.forget_oldest();
            self.find(key)
        } else {
            place
        };
        let at = (self.oldest + self.count) % self.keys.len();
        self.keys[at] = (key, now);
        self.count += 1;
        self.table[place] = at as u32;
        true
    }

    fn home(&self, key: u128) -> usize {
        let folded = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (folded >> (u64::BITS - self.table.len().trailing_zeros())) as usize
    }

    /// Where `key` is in the table, or the free place where it belongs.
    fn find(&self, key: u128) -> usize {
        let mut place = self.home(key);
        while self.table[place] != NONE && self.keys[self.table[place] as usize].0 != key {
            place = (place + 1) & (self.table.len() - 1);
        }
        place
    }

    fn forget_oldest(&mut self) {
        let mask = self.table.len() - 1;
        let mut hole = self.find(self.keys[self.oldest].0);
        self.table[hole] = NONE;
        // Whoever was pushed on by it moves up, or a search would end at the hole.
        let mut place = (hole + 1) & mask;
        while self.table[place] != NONE {
            let home = self.home(self.keys[self.table[place] as usize].0);
            if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(hole) & mask) {
                self.table[hole] = std::mem::replace(&mut self.table[place], NONE);
                hole = place;
            }
            place = (place + 1) & mask;
        }
        self.oldest = (self.oldest + 1) % self.keys.len();
        self.count -= 1;
    }
}

/// So many of `value`. `None` when the system has no memory for them.
fn filled<T: Clone>(count: usize, value: T) -> Option<Box<[T]>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    values.resize(count, value);
    Some(values.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_remembers_as_a_plain_list_would(
            keys_max in 1..9_usize, window in 1..50_u64, steps in proptest::collection::vec((0..12_u128, 0..20_u64), 0..400),
        ) {
            let window_of = DedupWindow::default().time(Duration::from_nanos(window)).keys_max(keys_max);
            let mut seen = Seen::new(&window_of).expect("a few words");
            let (mut list, mut now) = (VecDeque::<(u128, u64)>::new(), 0);
            for (key, gap) in steps {
                now += gap;
                list.retain(|&(_, came)| now - came < window);
                let is_new = list.iter().all(|&(other, _)| other != key);
                if is_new {
                    if list.len() == keys_max {
                        list.pop_front();
                    }
                    list.push_back((key, now));
                }
                prop_assert_eq!(seen.is_new(key, now), is_new);
            }
        }
    }
}
