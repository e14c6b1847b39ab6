//! Steps of consumers: pull, keep for a while, settle.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmain::{Outcome, Settled, TryRecvError};

use crate::parties::{DELIBERATE, Hand, any_outcome};
use crate::scenario::{Grip, Scenario};
use crate::subjects::some_time;

impl Scenario {
    /// A consumer takes a few events, and settles some of them at once.
    pub(crate) fn pull(&mut self) {
        let consumers: Vec<_> = (0..self.parties.len())
            .filter(|&at| matches!(self.parties[at].grip, Grip::Mailbox(_) | Grip::Future(_)))
            .collect();
        if consumers.is_empty() {
            return;
        }
        let at = self.draw.pick(&consumers);
        let most = 1 + self.draw.below(6);
        for _ in 0..most {
            let keeps = self.draw.one_in(4);
            if !self.pull_one(at) {
                return;
            }
            if !keeps {
                let last = self.hands.len() - 1;
                self.settle_one(last);
            }
        }
    }

    /// Whether something is in hand now.
    fn pull_one(&mut self, at: usize) -> bool {
        let party = &mut self.parties[at];
        let nth = party.nth;
        match &mut party.grip {
            Grip::Inline(_) | Grip::Nobody | Grip::Service(_) | Grip::Requester(_) => false,
            Grip::Mailbox(mailbox) => {
                let queued = mailbox.len();
                let pulled = mailbox.pull(&self.world, nth);
                let left = mailbox.len();
                let (live, paused) = self.world.with(|world| (world.subs[nth].is_live, world.subs[nth].is_paused));
                let closed = !live || self.is_closed();
                match pulled {
                    Ok(hand) => {
                        self.count("pulled");
                        if paused && !closed {
                            self.check(Err(format!("mailbox {nth} is paused, and gave something")));
                        }
                        self.hands.push(hand);
                        return true;
                    }
                    Err(TryRecvError::Empty) if paused && !closed => self.count("pulled nothing: paused"),
                    Err(TryRecvError::Empty) if !closed => {
                        let held = self.world.with(|world| world.subs[nth].is_held_back(world.now));
                        if left > 0 && held {
                            self.count("pulled nothing: held back");
                        } else if left > 0 {
                            self.check(Err(format!("mailbox {nth} has {left} queued, and gives nothing")));
                        }
                    }
                    Err(TryRecvError::Closed) if closed => {}
                    Err(error) => self.check(Err(format!("mailbox {nth} with {queued} queued: {error}"))),
                }
                false
            }
            Grip::Future(future) => {
                let poll =
                    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
                let poll = poll.unwrap_or_else(|panic| {
                    if panic.downcast_ref::<&str>() != Some(&DELIBERATE) {
                        resume_unwind(panic);
                    }
                    Poll::Ready(true)
                });
                self.count("future polled");
                let (over, calls) =
                    self.world.with(|world| (world.is_closed || !world.subs[nth].is_live, world.subs[nth].is_calling));
                match poll {
                    Poll::Pending => {
                        if over && !calls {
                            self.check(Err(format!("future {nth} goes on after its end")));
                        }
                    }
                    Poll::Ready(panicked) => {
                        self.world.with(|world| {
                            world.instance_ends(nth, None);
                            world.subs[nth].end();
                            world.gives_back(nth);
                        });
                        self.parties.swap_remove(at);
                        if panicked {
                            self.count("future panicked");
                        } else if !over {
                            self.check(Err(format!("future {nth} ended by itself")));
                        }
                    }
                }
                false
            }
        }
    }

    pub(crate) fn pull_all(&mut self) {
        let mut at = 0;
        while at < self.parties.len() {
            let before = self.parties.len();
            while at < self.parties.len() && self.pull_one(at) {}
            if self.parties.len() == before {
                at += 1;
            }
        }
    }

    /// Settles something that was kept.
    pub(crate) fn settle(&mut self) {
        if !self.hands.is_empty() {
            let at = self.draw.below(self.hands.len());
            self.count("held delivery settled late");
            self.settle_one(at);
        }
    }

    pub(crate) fn settle_all(&mut self) {
        while !self.hands.is_empty() {
            self.settle_one(self.hands.len() - 1);
        }
    }

    pub(crate) fn settle_one(&mut self, at: usize) {
        let Hand { nth, index, token, delivery } = self.hands.swap_remove(at);
        let outcome = match self.draw.below(10) {
            0..=3 => Some(Outcome::Ack),
            4..=7 => Some(any_outcome(&mut self.draw)),
            _ => None,
        };
        let releases_are_known = self.world.with(|world| world.knows_releases(nth, index));
        let outcome = outcome.filter(|outcome| releases_are_known || *outcome != Outcome::Release);
        self.note(format_args!("{nth} says of {index}: {outcome:?}"));
        let is_in_time = self.world.with(|world| match &outcome {
            None => world.dropped(nth, index, token),
            Some(_) if world.subs[nth].is_late(index, token) => world.dropped(nth, index, token),
            Some(outcome) => {
                world.finished(nth, index, outcome);
                true
            }
        });
        let settled = delivery.settle(outcome.as_ref());
        if settled.is_some_and(|settled| (settled == Settled::Counted) != is_in_time) {
            self.check(Err(format!("{nth} says {outcome:?} of {index}, in time {is_in_time}, and it is {settled:?}")));
        }
    }

    /// Somebody takes more time for an event, or less.
    pub(crate) fn extend(&mut self) {
        if self.hands.is_empty() {
            return;
        }
        let at = self.draw.below(self.hands.len());
        let time = if self.draw.one_in(8) { Duration::MAX } else { some_time(&mut self.draw) };
        let Hand { nth, index, token, delivery } = &self.hands[at];
        let extended = delivery.extend(time);
        let right = self.world.with(|world| {
            let sub = &world.subs[*nth];
            let is_in_time = !sub.is_late(*index, *token);
            if is_in_time && sub.trials.is_some() {
                world.extended(*nth, *index, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                world.census.count("extended");
            }
            is_in_time == extended
        });
        if !right {
            self.check(Err(format!("subscription {nth} had event {index} extended: {extended}")));
        }
    }

    /// Who holds something knows whether a word of it counts, and nobody has it for longer than it may.
    pub(crate) fn check_hands(&mut self, all_have_looked: bool) {
        let lying = self.hands.iter().find(|hand| {
            let is_late = self.world.with(|world| world.subs[hand.nth].is_late(hand.index, hand.token));
            hand.delivery.is_current() == is_late
        });
        let lying = lying.map(|hand| (hand.nth, hand.index, hand.delivery.is_current()));
        if let Some((nth, index, is_current)) = lying {
            self.check(Err(format!("subscription {nth} holds event {index}, and its word counts: {is_current}")));
        }
        if all_have_looked && !self.is_closed() {
            let overdue = self.world.with(|world| {
                let now = world.now;
                let is_late =
                    |sub: &crate::sub::Sub| sub.is_live && sub.trials.as_ref().is_some_and(|it| it.has_overdue(now));
                world.subs.iter().position(is_late)
            });
            if let Some(nth) = overdue {
                self.check(Err(format!("nothing is taken away from subscription {nth}")));
            }
        }
    }
}
