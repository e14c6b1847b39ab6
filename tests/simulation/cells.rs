//! Mailboxes as they ought to be filled, to the event: followed in scenarios whose bus tells of every event that goes
//! into one.

use std::collections::VecDeque;

use ringmain::{EventId, Overflow};

use crate::sub::Way;
use crate::world::{LANES, World, lane_of};

/// Events in the cells of a mailbox, a lane.
pub(crate) type Queues = [VecDeque<usize>; LANES];

fn len(queues: &Queues) -> u64 {
    queues.iter().map(|queue| queue.len() as u64).sum()
}

impl World {
    /// The bus says that an event went into the mailbox of subscription `nth`.
    pub(crate) fn put(&mut self, nth: usize, id: EventId) {
        let Some(index) = self.index_of(id) else {
            return self.broken(format!("{id} went into mailbox {nth}, and nobody published it"));
        };
        if let Err(what) = self.let_in(nth, index) {
            return self.broken(format!("event {index} went into mailbox {nth}: {what}"));
        }
        self.put_newest(nth, index);
        let lane = lane_of(self.events[index].spec.priority);
        let sub = &mut self.subs[nth];
        let (Some(queues), Way::Mailbox(cells, overflow)) = (&mut sub.cells, sub.way) else { return };
        if len(queues) + sub.in_hand == cells {
            // Of those that are no more urgent the oldest of the least urgent makes way.
            let victim = (lane..LANES).rev().find_map(|lane| queues[lane].pop_front());
            if victim.is_none() || overflow != Overflow::DropOldest {
                return self.broken(format!("event {index} went into the full mailbox {nth}"));
            }
            self.census.count("made way in a mailbox");
        }
        queues[lane].push_back(index);
    }

    /// The mailbox of subscription `nth` holds so many events. Where some have gone because they were late, it is not
    /// followed any more: in which lanes they were is not known.
    pub(crate) fn recount(&mut self, nth: usize, queued: u64) {
        let sub = &mut self.subs[nth];
        if sub.cells.as_ref().is_some_and(|queues| len(queues) != queued) {
            sub.cells = None;
        }
    }

    /// A consumer has got an event: was it the next of its lane?
    pub(crate) fn take(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let lane = lane_of(self.events[index].spec.priority);
        let Some(queues) = &mut self.subs[nth].cells else { return Ok(()) };
        while let Some(next) = queues[lane].pop_front() {
            if next == index {
                return Ok(());
            }
            if self.events[next].deadline.is_none_or(|deadline| self.now <= deadline) {
                return Err(format!("event {next} should have been the next in its mailbox"));
            }
        }
        Err("it should not be in its mailbox".to_owned())
    }
}
