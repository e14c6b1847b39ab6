//! Dead letters: the store as it ought to be filled, and steps that send letters again or throw them away.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmain::{DeadLetterFilter, EventId, RedriveError, RepublishError};

use crate::scenario::Scenario;
use crate::subjects::Spec;
use crate::world::World;

/// The store, as it ought to be.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// By id: whose, and of which event.
    held: BTreeMap<u64, (usize, usize)>,
    /// Those that went back to their subscriptions, and have maybe arrived.
    returning: BTreeMap<u64, (usize, usize)>,
    held_max: usize,
    total: u64,
    discarded: u64,
    pub(crate) redriven: u64,
    purged: u64,
}

impl Letters {
    pub(crate) fn new(held_max: usize) -> Self {
        Self { held_max, ..Self::default() }
    }

    pub(crate) fn put(&mut self, letter: u64, nth: usize, index: usize) {
        self.total += 1;
        self.keep(letter, nth, index);
    }

    fn keep(&mut self, letter: u64, nth: usize, index: usize) {
        self.held.insert(letter, (nth, index));
        while self.held.len() > self.held_max {
            self.held.pop_first();
            self.discarded += 1;
        }
    }
}

impl World {
    /// The bus says that a letter on its way back could not arrive: its subscription has ended.
    pub(crate) fn letter_returned(&mut self, letter: u64, id: EventId) {
        let Some((nth, index)) = self.letters.returning.remove(&letter) else {
            return self.broken(format!("letter {letter} came back, and was not on its way"));
        };
        let sub = &self.subs[nth];
        let may_close = sub.is_ending || sub.is_closed || !sub.is_live || self.is_closed;
        if !may_close || self.events[index].id != id {
            self.broken(format!("letter {letter} of event {index} came back from subscription {nth}, which is there"));
        }
        self.letters.redriven -= 1;
        self.trials(nth).redriven -= 1;
        self.letters.keep(letter, nth, index);
        self.stays(nth, index);
        self.comes_to_rest(nth, index);
        // What an instance has not had in hand when it ends is its service's, as far as is known.
        if let Some(service) = self.subs[nth].instance().map(|instance| instance.service)
            && let Some(at_large) = self.subs[service].at_large()
        {
            at_large.remove(&index);
        }
        self.census.count("letter returned");
    }
}

impl Scenario {
    /// Looks after the dead letters in one way or another.
    pub(crate) fn tend_letters(&mut self) {
        match self.draw.below(8) {
            0..4 => self.redrive(),
            4 | 5 => self.republish(),
            6 => self.purge(),
            _ => self.redrive_all(),
        }
    }

    fn some_letter(&mut self) -> Option<(u64, usize, usize)> {
        let nth = self.draw.below(8);
        self.world.with(|world| {
            let held = &world.letters.held;
            let (&id, &(sub, index)) = held.iter().nth(nth % held.len().max(1))?;
            Some((id, sub, index))
        })
    }

    fn redrive(&mut self) {
        let Some((id, nth, index)) = self.some_letter() else {
            let result = self.bus().dead_letters().redrive(u64::MAX);
            return self.check(match result {
                Err(RedriveError::NotFound { id: u64::MAX }) if !self.is_closed() => Ok(()),
                Err(RedriveError::ShuttingDown { id: u64::MAX }) if self.is_closed() => Ok(()),
                other => Err(format!("a letter that nobody wrote: {other:?}")),
            });
        };
        self.redrive_one(id, nth, index);
    }

    fn redrive_one(&mut self, id: u64, nth: usize, index: usize) {
        let letters = self.bus().dead_letters();
        if letters.get(id).is_none() {
            return self.check(Err(format!("letter {id} is not there")));
        }
        let (is_live, is_late) = self.world.with(|world| {
            world.letters.held.remove(&id);
            world.letters.returning.insert(id, (nth, index));
            world.goes_back(nth, index);
            world.letters.redriven += 1;
            world.trials(nth).redriven += 1;
            let event = &world.events[index];
            (world.subs[nth].is_live, event.deadline.is_some_and(|deadline| world.now > deadline))
        });
        let result = letters.redrive(id);
        self.note(format_args!("redrive {id} of {index} to {nth}: {result:?}"));
        let right = match result {
            Err(RedriveError::ShuttingDown { .. }) => self.is_closed(),
            _ if self.is_closed() => false,
            Ok(()) => is_live && !is_late,
            Err(RedriveError::Ended { .. }) => !is_live,
            Err(RedriveError::Expired { .. }) => is_late,
            Err(RedriveError::PoolExhausted { .. } | RedriveError::Busy { .. }) => true,
            Err(_) => false,
        };
        self.world.with(|world| {
            if result.is_ok() {
                world.census.count("redriven");
            } else {
                world.letters.returning.remove(&id);
                world.letters.redriven -= 1;
                world.trials(nth).redriven -= 1;
                world.letters.held.insert(id, (nth, index));
                world.stays(nth, index);
                world.census.count("not redriven");
            }
        });
        if !right {
            self.check(Err(format!("letter {id}: {result:?}, its subscription lives: {is_live}, late: {is_late}")));
        }
    }

    /// All letters of one subscription.
    fn redrive_all(&mut self) {
        let Some((_, nth, _)) = self.some_letter() else { return };
        let Some(id) = self.parties.iter().find(|party| party.nth == nth).map(|party| party.id) else { return };
        let filter = DeadLetterFilter::new().subscription(id).limit(4);
        let expected: Vec<_> = self.world.with(|world| {
            let mine = world.letters.held.iter().filter(|(_, (sub, _))| *sub == nth).take(4);
            mine.map(|(&id, &(_, index))| (id, index)).collect()
        });
        let listed: Vec<_> = self.bus().dead_letters().list(&filter).iter().map(|letter| letter.id()).collect();
        if !listed.iter().eq(expected.iter().map(|(id, _)| id)) {
            return self
                .check(Err(format!("subscription {nth} has the letters {expected:?}, and {listed:?} are listed")));
        }
        if self.world.with(|world| !world.subs[nth].is_live) {
            // Those of one that has ended stay; a bus that shuts down does not begin with them.
            let report = self.bus().dead_letters().redrive_all(&filter, Duration::ZERO).unwrap().wait();
            let is_over = self.world.with(|world| world.is_closed);
            let (stayed, left) = if is_over { (0, expected.len()) } else { (expected.len(), 0) };
            if (report.redriven, report.stayed.len(), report.left) != (0, stayed, left) {
                self.check(Err(format!("{report:?} of a subscription that has ended")));
            }
            return;
        }
        for (id, index) in expected {
            self.redrive_one(id, nth, index);
        }
    }

    fn republish(&mut self) {
        let Some((id, _, index)) = self.some_letter() else { return };
        let Some(mut speaker) = self.speaker() else { return };
        let result = self.bus().dead_letters().republish(id, &mut speaker.publisher);
        let (by, closed) = (speaker.nth, self.is_closed());
        self.speakers.push(speaker);
        self.note(format_args!("republish {id} of {index}: {result:?}"));
        self.world.with(|world| {
            let event = &world.events[index];
            let (spec, source) = (successor(&event.spec), event.source.clone());
            match result {
                Ok(event) if !closed => {
                    world.letters.held.remove(&id);
                    world.letters.redriven += 1;
                    world.census.count("republished");
                    world.accepted(event, &spec, Some(by), &source, true);
                }
                Err(RepublishError::Publish { error, .. }) => world.refused(&spec, 1, &error),
                other => world.broken(format!("letter {id} was published again: {other:?}")),
            }
        });
    }

    fn purge(&mut self) {
        let limit = 1 + self.draw.below(3);
        let purged = self.bus().dead_letters().purge(&DeadLetterFilter::new().limit(limit));
        let right = self.world.with(|world| {
            let ours = (0..limit).map_while(|_| world.letters.held.pop_first()).count();
            world.letters.purged += ours as u64;
            if ours > 0 {
                world.census.count("purged");
            }
            ours == purged
        });
        if !right {
            self.check(Err(format!("{purged} of at most {limit} letters were purged")));
        }
    }

    /// The store holds what it ought to, and tells it as it was.
    pub(crate) fn check_letters(&self) {
        let store = self.bus().dead_letters();
        let (counts, listed) = (store.counts(), store.list(&DeadLetterFilter::new()));
        let listed: Vec<_> = listed.iter().map(|letter| (letter.id(), letter.meta().id())).collect();
        let right = self.world.with(|world| {
            let World { letters, events, .. } = &*world;
            let ours = letters.held.iter().map(|(&id, &(_, index))| (id, events[index].id));
            counts.is_balanced()
                && counts.total == letters.total
                && counts.held == letters.held.len() as u64
                && (counts.returning == 0 || !world.is_stopped)
                && (counts.discarded, counts.redriven + counts.returning, counts.purged)
                    == (letters.discarded, letters.redriven, letters.purged)
                && ours.eq(listed.iter().copied())
        });
        if !right {
            let ours = self.world.with(|world| format!("{:?}", world.letters));
            self.check(Err(format!("the store holds {counts:?}, {listed:?}, and not {ours}")));
        }
    }
}

/// What a letter's event says when it is published again.
fn successor(spec: &Spec) -> Spec {
    Spec { id: None, source: None, expires_after: None, not_before: None, attempt: 1, created_at: None, ..spec.clone() }
}
