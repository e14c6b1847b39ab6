//! Only the newest, as it ought to be: what a reader of the newest events may miss, and what it must find in the end.

use std::collections::HashMap;

use ringmain::Overflow;

use crate::keys::Likeness;
use crate::world::{Event, LANES, World, lane_of};

/// What a subscription to the newest events keeps.
#[derive(Debug)]
pub(crate) struct Newest {
    /// Of each key, or of all events together.
    pub(crate) by: Option<Likeness>,
    pub(crate) keys_max: usize,
    /// The lanes that events of each key came in, a bit each.
    lanes: HashMap<Option<u64>, u8>,
    /// The last one put in of each key and what it has superseded, until somebody takes it: where puts are followed.
    puts: HashMap<Option<u64>, (usize, u64)>,
    /// Those taken that had come due: of what waited before them nothing shows that they have superseded it.
    came_due: Vec<usize>,
    pub(crate) superseded: u64,
    /// Something may have gone that nobody tells of.
    pub(crate) is_vague: bool,
}

impl Newest {
    pub(crate) fn new(by: Option<Likeness>, keys_max: usize) -> Self {
        let (lanes, puts) = (HashMap::new(), HashMap::new());
        Self { by, keys_max, lanes, puts, came_due: Vec::new(), superseded: 0, is_vague: false }
    }
}

impl World {
    fn likeness(&self, nth: usize, index: usize) -> Option<u64> {
        let by = self.subs[nth].newest.as_ref().and_then(|newest| newest.by).unwrap_or(Likeness::All);
        by.of(&self.events[index])
    }

    /// The bus says that an event waits as the newest of its key.
    pub(crate) fn put_newest(&mut self, nth: usize, index: usize) {
        let (key, now) = (self.likeness(nth, index), self.now);
        let Self { events, subs, census, .. } = self;
        let overflow = subs[nth].overflow();
        let Some(newest) = &mut subs[nth].newest else { return };
        let before = newest.puts.insert(key, (index, 0));
        if let Some((before, skipped)) = before {
            newest.is_vague |= overflow == Some(Overflow::DropOldest)
                || events[before].deadline.is_some_and(|deadline| now > deadline);
            newest.superseded += 1;
            newest.puts.insert(key, (index, skipped + 1));
            census.count("superseded");
        }
    }

    /// A reader of the newest events gets one.
    pub(crate) fn take_newest(&mut self, nth: usize, index: usize, skipped: Option<u64>) -> Result<(), String> {
        let (key, lane, now) = (self.likeness(nth, index), lane_of(self.events[index].spec.priority), self.now);
        let follows = self.follows_cells;
        let of_key = |world: &Self, other: usize| world.likeness(nth, other) == key;
        if let Some(at) = self.subs[nth].loose.iter().position(|&loose| loose == index) {
            self.subs[nth].loose.swap_remove(at);
            if let Some(newest) = &mut self.subs[nth].newest {
                newest.came_due.push(index);
            }
        } else {
            let at = self.subs[nth].expected[lane].iter().position(|&expected| expected == index);
            let at = at.ok_or("it is out of date, or not for this subscription")?;
            let before: Vec<_> = self.subs[nth].expected[lane].drain(..=at).take(at).collect();
            for before in before.into_iter().rev() {
                if of_key(self, before) {
                    self.subs[nth].skipped.events += 1;
                } else {
                    self.subs[nth].expected[lane].push_front(before);
                }
            }
        }
        let Self { subs, events, census, .. } = self;
        let Some(newest) = subs[nth].newest.as_mut().filter(|_| follows) else { return Ok(()) };
        let put = newest.puts.remove(&key);
        if newest.is_vague || events[index].deadline.is_some_and(|deadline| now > deadline) {
            return Ok(());
        }
        if let Some(skipped) = skipped.filter(|&skipped| skipped > 0) {
            census.count("read the newest of several");
            if put.map(|(_, skipped)| skipped) != Some(skipped) {
                return Err(format!("it skipped {skipped}, and {put:?} was put in last"));
            }
        }
        match put {
            Some((last, _)) if last == index => Ok(()),
            other => Err(format!("{other:?} is newer")),
        }
    }

    /// Notes that an event of some key came, or is to come, in this lane.
    pub(crate) fn meets(&mut self, nth: usize, index: usize) {
        let (key, lane) = (self.likeness(nth, index), lane_of(self.events[index].spec.priority));
        if let Some(newest) = &mut self.subs[nth].newest {
            *newest.lanes.entry(key).or_default() |= 1 << lane;
        }
    }

    /// At the end, when its mailbox is empty: a reader of the newest events has seen the last one of each key.
    pub(crate) fn check_newest(&self, nth: usize) -> Result<(), String> {
        let sub = &self.subs[nth];
        let Some(newest) = &sub.newest else { return Ok(()) };
        let is_lossy = sub.overflow() != Some(Overflow::Block) || sub.dedup.is_some();
        let is_late = |index: usize| self.events[index].deadline.is_some_and(|deadline| self.now > deadline);
        if sub.is_vague || newest.is_vague || is_lossy {
            return Ok(());
        }
        if let Some((_, (index, _))) = newest.puts.iter().find(|(_, (index, _))| !is_late(*index)) {
            return Err(format!("event {index} is the newest of its key, and nobody has seen it"));
        }
        for lane in 0..LANES {
            let mut newer = Vec::new();
            for &index in sub.expected[lane].iter().rev() {
                let key = self.likeness(nth, index);
                // One of another lane may have been newer.
                let lanes = newest.lanes.get(&key).copied().unwrap_or(0);
                let is_last = !newer.contains(&key) && !is_late(index) && lanes & !(1 << lane) == 0;
                if is_last && !self.may_have_made_way(nth, index) {
                    return Err(format!("event {index} is the newest of its key, and was never seen"));
                }
                newer.push(key);
            }
        }
        Ok(())
    }
    /// Whether an event that was accepted at once may have been superseded by one that came due.
    fn may_have_made_way(&self, nth: usize, index: usize) -> bool {
        let sub = &self.subs[nth];
        let Some(newest) = &sub.newest else { return false };
        let key = self.likeness(nth, index);
        let is_like = |&other: &usize| self.likeness(nth, other) == key;
        // Nobody saw that one either: it was late when its turn came.
        let is_gone = |&other: &usize| {
            !self.pending.contains(&other) && self.events[other].deadline.is_some_and(|deadline| self.now > deadline)
        };
        newest.came_due.iter().filter(|other| is_like(other)).any(|&other| self.may_precede(index, other))
            || sub.loose.iter().filter(|other| is_like(other)).any(is_gone)
    }

    /// Whether an event that was accepted at once may be before one of its lane that came due and was seen.
    fn may_precede(&self, index: usize, due: usize) -> bool {
        let (lane, event) = (lane_of(self.events[index].spec.priority), &self.events[due]);
        // What is accepted at once is in its lane as it was accepted.
        let is_behind = |other: &Event| {
            other.due.is_none() && lane_of(other.spec.priority) == lane && other.sequence > event.sequence
        };
        index < event.known_since && !self.events[..=index].iter().any(is_behind)
    }
}
