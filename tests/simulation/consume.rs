//! Steps of consumers: pull, keep for a while, settle.

use std::task::{Context, Poll, Waker};

use ringmain::TryRecvError;

use crate::scenario::{Grip, Scenario};

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
            Grip::Inline(_) | Grip::Nobody => false,
            Grip::Mailbox(mailbox) => {
                let queued = mailbox.len();
                let pulled = mailbox.pull(&self.world, nth);
                let (live, paused) = self.world.with(|world| (world.subs[nth].is_live, world.subs[nth].is_paused));
                let closed = !live || self.is_closed();
                match pulled {
                    Ok(hand) => {
                        self.count("pulled");
                        if paused && !closed {
                            self.check(Err(format!("mailbox {nth} is paused, and gave something")));
                        }
                        self.hands.push((nth, hand));
                        return true;
                    }
                    Err(TryRecvError::Empty) if paused && !closed => self.count("pulled nothing: paused"),
                    Err(TryRecvError::Empty) if !closed => {}
                    Err(TryRecvError::Closed) if closed => {}
                    Err(error) => self.check(Err(format!("mailbox {nth} with {queued} queued: {error}"))),
                }
                false
            }
            Grip::Future(future) => {
                let poll = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                self.count("future polled");
                let over = self.world.with(|world| world.is_closed || !world.subs[nth].is_live);
                match poll {
                    Poll::Pending => {
                        if over {
                            self.check(Err(format!("future {nth} goes on after its end")));
                        }
                    }
                    Poll::Ready(()) => {
                        self.world.with(|world| world.subs[nth].end());
                        self.parties.swap_remove(at);
                        if !over {
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

    fn settle_one(&mut self, at: usize) {
        let (nth, hand) = self.hands.swap_remove(at);
        let fails = self.draw.one_in(5);
        hand.settle(fails);
        self.world.with(|world| {
            let sub = &mut world.subs[nth];
            sub.in_hand -= 1;
            if fails {
                sub.failed += 1;
            } else {
                sub.acked += 1;
            }
        });
    }
}
