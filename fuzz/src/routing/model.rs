//! The sequential model of a bus: lists of subscriptions and queues of events, and nothing clever.

use std::collections::VecDeque;
use std::rc::Rc;

use ringmain::internals::ring::LANES;
use ringmain::{Ledger, Overflow, SubscriptionLedger};

use super::TOPICS;
use crate::patterns::is_match;

/// Events that a worker handles in a turn.
pub(super) const TURN_MAX: usize = 5;
/// Turns of lanes 1 to 3 in a round.
const WEIGHTS: [u32; LANES] = [0, 8, 4, 1];

/// An event as a subscriber sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) nth: u64,
    /// By its place in `TOPICS`.
    pub(super) topic: usize,
    pub(super) lane: usize,
    pub(super) sequence: u64,
    pub(super) payload: Vec<u8>,
}

/// Handlers fail now and then, by the number of the event.
pub(super) fn fails(nth: u64) -> bool {
    nth % 7 == 3
}

/// Which events a subscription asks for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Bits of topics.
    topics: u8,
    /// Bits of lanes.
    lanes: u8,
    /// Only events of even number, by a predicate.
    even: bool,
}

impl Wish {
    pub(super) fn new(pattern: &str, category: Option<&str>, lanes: u8, even: bool) -> Self {
        let wanted = |topic: &str| {
            category.is_none_or(|category| topic.split('.').next() == Some(category)) && is_match(pattern, topic)
        };
        let topics = TOPICS.iter().enumerate().fold(0, |all, (nth, topic)| all | u8::from(wanted(topic)) << nth);
        Self { topics, lanes, even }
    }

    fn wants_topic(&self, topic: usize) -> bool {
        self.topics & (1 << topic) != 0
    }

    fn wants_lane(&self, lane: usize) -> bool {
        self.lanes & (1 << lane) != 0
    }

    fn passes(&self, event: &Event) -> bool {
        !self.even || event.nth.is_multiple_of(2)
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    wish: Wish,
    worker: usize,
    /// Events made before it.
    since: u64,
    pub(super) is_paused: bool,
    /// It gets no more.
    pub(super) has_ended: bool,
    pub(super) mailbox: Option<Mailbox>,
    pub(super) ledger: SubscriptionLedger,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    capacity: usize,
    overflow: Overflow,
    queues: [VecDeque<Rc<Event>>; LANES],
    in_hand: usize,
    order: Order,
}

impl Mailbox {
    pub(super) fn new(capacity: usize, overflow: Overflow) -> Self {
        let capacity = capacity.next_power_of_two();
        Self { capacity, overflow, queues: Default::default(), in_hand: 0, order: Order::default() }
    }

    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    fn is_full(&self) -> bool {
        self.queued() + self.in_hand >= self.capacity
    }
}

impl Subscription {
    fn wants(&self, event: &Event) -> bool {
        !self.has_ended
            && event.nth > self.since
            && self.wish.wants_lane(event.lane)
            && self.wish.wants_topic(event.topic)
    }

    /// Whether its full mailbox keeps the event in the lane.
    fn blocks(&self, event: &Event) -> bool {
        let full = self.mailbox.as_ref().is_some_and(|it| it.overflow == Overflow::Block && it.is_full());
        full && self.wants(event) && self.wish.passes(event)
    }

    /// Takes an event that it wants. True when a handler sees it.
    fn deliver(&mut self, event: &Rc<Event>) -> bool {
        let ledger = &mut self.ledger;
        if !self.wish.passes(event) {
            ledger.filtered += 1;
            return false;
        }
        ledger.matched += 1;
        let Some(mailbox) = &mut self.mailbox else {
            *match (self.is_paused, fails(event.nth)) {
                (true, _) => &mut ledger.dropped.paused,
                (false, true) => &mut ledger.failed,
                (false, false) => &mut ledger.delivered,
            } += 1;
            return !self.is_paused;
        };
        if mailbox.is_full() {
            ledger.dropped.overflow += 1;
            let less_urgent = (event.lane..LANES).rev().find(|&lane| !mailbox.queues[lane].is_empty());
            let Some(lane) = less_urgent.filter(|_| mailbox.overflow == Overflow::DropOldest) else { return false };
            mailbox.queues[lane].pop_front();
        }
        mailbox.queues[event.lane].push_back(Rc::clone(event));
        false
    }

    /// What a consumer gets.
    pub(super) fn receive(&mut self) -> Option<Rc<Event>> {
        if self.is_paused && !self.has_ended {
            return None;
        }
        let mailbox = self.mailbox.as_mut()?;
        let lane = mailbox.order.pick(|lane| !mailbox.queues[lane].is_empty())?;
        mailbox.order.served(lane);
        mailbox.in_hand += 1;
        mailbox.queues[lane].pop_front()
    }

    pub(super) fn settle(&mut self, well: bool) {
        self.mailbox.as_mut().expect("deliveries come from mailboxes").in_hand -= 1;
        *(if well { &mut self.ledger.delivered } else { &mut self.ledger.failed }) += 1;
    }

    /// The consumer is gone, and what it had not taken with it.
    pub(super) fn abandon(&mut self) {
        if let Some(mailbox) = &mut self.mailbox {
            self.ledger.dropped.closed += mailbox.queued() as u64;
            mailbox.queues = Default::default();
        }
    }

    pub(super) fn books(&self) -> SubscriptionLedger {
        let mut books = self.ledger;
        if let Some(mailbox) = &self.mailbox {
            (books.queued, books.in_flight) = (mailbox.queued() as u64, mailbox.in_hand as u64);
        }
        books
    }
}

/// The order of lanes while no burst of lane 0 is long enough to be interrupted.
#[derive(Debug)]
struct Order {
    credits: [u32; LANES],
}

impl Default for Order {
    fn default() -> Self {
        Self { credits: WEIGHTS }
    }
}

impl Order {
    fn pick(&mut self, has_some: impl Fn(usize) -> bool) -> Option<usize> {
        let ready: [bool; LANES] = std::array::from_fn(has_some);
        let mut lanes = (0..LANES).filter(|&lane| ready[lane]);
        let first = lanes.next()?;
        if first == 0 || lanes.next().is_none() {
            return Some(first);
        }
        let next = |credits: &[u32; LANES]| (0..LANES).find(|&lane| ready[lane] && credits[lane] > 0);
        next(&self.credits).or_else(|| {
            self.credits = WEIGHTS;
            next(&self.credits)
        })
    }

    fn served(&mut self, lane: usize) {
        self.credits[lane] = self.credits[lane].saturating_sub(1);
    }
}

#[derive(Debug, Default)]
struct Worker {
    /// It had a subscription once, and reads the lanes ever since.
    is_active: bool,
    lanes: [VecDeque<Rc<Event>>; LANES],
    order: Order,
}

/// A lane that takes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) depth: u64,
    pub(super) gated_by: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    workers: Vec<Worker>,
    /// By their keys.
    pub(super) subscriptions: Vec<Subscription>,
    limit: usize,
    first: u64,
    claimed: [u64; LANES],
    /// Topics with a place in the routing table, and how many may have one.
    known: Vec<usize>,
    known_max: usize,
    /// Events made, published or not.
    pub(super) made: u64,
    /// The books of subscriptions that are forgotten.
    forgotten: SubscriptionLedger,
    accepted: u64,
    unmatched: u64,
}

impl Model {
    pub(super) fn new(workers: usize, limit: usize, first: u64, known_max: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Worker::default()).collect(),
            subscriptions: Vec::new(),
            limit,
            first,
            claimed: [0; LANES],
            known: Vec::new(),
            known_max,
            made: 0,
            forgotten: SubscriptionLedger::default(),
            accepted: 0,
            unmatched: 0,
        }
    }

    /// Begins a case with what the one before left: nothing but what was counted, and whose turn it is.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.books().subscriptions;
        self.subscriptions.clear();
        self.made = 0;
    }

    fn live(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().filter(|it| !it.has_ended)
    }

    /// The worker that a subscription without a wish goes to.
    fn least_loaded(&self) -> usize {
        let load = |worker: &usize| self.live().filter(|it| it.worker == *worker).count();
        (0..self.workers.len()).min_by_key(load).unwrap_or(0)
    }

    /// Adds a subscription; returns its key and worker.
    pub(super) fn subscribe(&mut self, wish: Wish, worker: Option<usize>, mailbox: Option<Mailbox>) -> (usize, usize) {
        let worker = worker.unwrap_or_else(|| self.least_loaded());
        self.workers[worker].is_active = true;
        let key = self.subscriptions.len();
        let made = Subscription {
            wish,
            worker,
            since: self.made,
            is_paused: false,
            has_ended: false,
            mailbox,
            ledger: SubscriptionLedger::default(),
        };
        self.subscriptions.push(made);
        (key, worker)
    }

    /// A subscription ends, and with it what its worker has not come to.
    pub(super) fn end(&mut self, key: usize) {
        let subscription = &mut self.subscriptions[key];
        let lanes = &self.workers[subscription.worker].lanes;
        for event in lanes.iter().flatten() {
            if subscription.wants(event) && subscription.wish.passes(event) {
                subscription.ledger.matched += 1;
                subscription.ledger.dropped.closed += 1;
            } else if subscription.wants(event) {
                subscription.ledger.filtered += 1;
            }
        }
        subscription.has_ended = true;
    }

    /// Whether an event of this topic and lane takes a slot: a topic without a place in the table does as soon as there is
    /// any subscription for the lane.
    fn is_wanted(&mut self, topic: usize, lane: usize) -> bool {
        if !self.known.contains(&topic) && self.known.len() < self.known_max {
            self.known.push(topic);
        }
        let is_known = self.known.contains(&topic);
        self.live().any(|it| it.wish.wants_lane(lane) && (!is_known || it.wish.wants_topic(topic)))
    }

    fn depth(&self, lane: usize) -> (u64, usize) {
        let depths = self.workers.iter().enumerate().filter(|(_, worker)| worker.is_active);
        let deepest = depths.map(|(nth, worker)| (worker.lanes[lane].len() as u64, std::cmp::Reverse(nth))).max();
        deepest.map_or((0, 0), |(depth, worker)| (depth, worker.0))
    }

    /// Publishes events of one lane in one piece, or says why not.
    pub(super) fn publish(
        &mut self,
        lane: usize,
        events: impl IntoIterator<Item = (u64, usize, Vec<u8>)>,
    ) -> Result<(), Full> {
        let events: Vec<_> = events.into_iter().collect();
        let count = events.len() as u64;
        let wanted: Vec<_> = events.into_iter().filter(|(_, topic, _)| self.is_wanted(*topic, lane)).collect();
        let (depth, gated_by) = self.depth(lane);
        if !wanted.is_empty() && depth as usize + wanted.len() > self.limit {
            return Err(Full { depth, gated_by });
        }
        self.accepted += count;
        self.unmatched += count - wanted.len() as u64;
        for (nth, topic, payload) in wanted {
            let sequence = self.first.wrapping_add(self.claimed[lane]);
            self.claimed[lane] += 1;
            let event = Rc::new(Event { nth, topic, lane, sequence, payload });
            for worker in self.workers.iter_mut().filter(|worker| worker.is_active) {
                worker.lanes[lane].push_back(Rc::clone(&event));
            }
        }
        Ok(())
    }

    /// One turn of a worker. Returns what its handlers see, in order, and the number of events passed.
    pub(super) fn turn(&mut self, worker: usize) -> (Vec<(usize, Rc<Event>)>, usize) {
        let mut seen = Vec::new();
        let mut passed = 0;
        let mut suspended = [false; LANES];
        let worker_index = worker;
        let worker = &mut self.workers[worker];
        while passed < TURN_MAX {
            let Some(lane) = worker.order.pick(|lane| !suspended[lane] && !worker.lanes[lane].is_empty()) else {
                break;
            };
            let event = worker.lanes[lane].front().expect("a lane that has some was picked");
            let own = |it: &&mut Subscription| it.worker == worker_index;
            if self.subscriptions.iter_mut().filter(own).any(|it| it.blocks(event)) {
                suspended[lane] = true;
                continue;
            }
            for (key, it) in self.subscriptions.iter_mut().enumerate().filter(|(_, it)| it.worker == worker_index) {
                if it.wants(event) && it.deliver(event) {
                    seen.push((key, Rc::clone(event)));
                }
            }
            worker.lanes[lane].pop_front();
            worker.order.served(lane);
            passed += 1;
        }
        (seen, passed)
    }

    pub(super) fn books(&self) -> Ledger {
        let mut books = Ledger::default();
        books.accepted = self.accepted;
        books.unmatched = self.unmatched;
        books.routed = self.accepted - self.unmatched;
        books.claimed = self.claimed.iter().sum();
        books.in_lanes = (0..LANES).map(|lane| self.depth(lane).0).sum();
        books.subscriptions = self.forgotten;
        for subscription in &self.subscriptions {
            books.subscriptions += subscription.books();
        }
        books
    }
}
