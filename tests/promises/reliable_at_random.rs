//! Reliable delivery under whatever its consumers do, from a seed: each event ends in exactly one place.
//!
//! Two subscriptions: a mailbox, whose deliveries are settled in any way, late, twice removed or not at all, and a handler on
//! the worker that returns any outcome. `RINGMAIN_SEED=n` replays one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DeadLetterFilter, DeadReason, Delivery, DeliveryMode, EventId, Key, Mailbox, Outcome, Pattern, Payload,
    Priority, RetryPolicy, Settled, SubscriptionId,
};

use super::support::{Draw, Log, assert_books};

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_millis(50);

/// What became of one event at one subscription, as its consumer knows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Fate {
    acknowledged: u32,
    attempts: Vec<u8>,
}

struct World {
    seed: u64,
    simulation: Simulation,
    draw: Draw,
    inbox: Option<Mailbox<Pattern>>,
    inbox_id: SubscriptionId,
    inline_id: SubscriptionId,
    held: Vec<Delivery<Pattern>>,
    published: Vec<EventId>,
    /// Of the mailbox and of the handler.
    fates: [BTreeMap<EventId, Fate>; 2],
    /// What the handler has seen and said.
    inline: Log<(EventId, u8, bool)>,
    redriven: u64,
}

fn outcome(draw: &mut Draw) -> Outcome {
    match draw.below(12) {
        0..=4 => Outcome::Ack,
        5..=7 => Outcome::Failed("no".to_owned()),
        8 | 9 => Outcome::RetryAfter(MS * draw.below(30) as u32),
        10 => Outcome::Release,
        _ => Outcome::Reject("never".to_owned()),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let builder = Bus::builder().workers(1).max_queue_size(32).blocks([(512, 6)]).payload_bytes_max(512);
        let simulation = Simulation::new(builder.first_sequence(u64::MAX - 20), seed).unwrap();
        let retry = RetryPolicy::default().attempts_max(1 + draw.below(4) as u8).releases_max(2).delays(MS, 8 * MS);
        let wish = || {
            let wish = simulation.bus().subscribe("**").mode(DeliveryMode::Reliable { timeout: TIMEOUT }).retry(retry);
            wish.capacity(8)
        };
        let ordered = draw.one_in(2);
        let inbox = if ordered { wish().ordered_by(Key::Topic) } else { wish() };
        let inbox = inbox.mailbox().unwrap();
        let inline = Log::new();
        let (said, mut choose) = (inline.clone(), Draw(!seed));
        let handler = wish().handle(move |_, meta| {
            let outcome = outcome(&mut choose);
            said.add((meta.id(), meta.attempt(), outcome == Outcome::Ack));
            outcome
        });
        Self {
            seed,
            draw,
            inbox_id: inbox.id(),
            inline_id: handler.unwrap().forever(),
            inbox: Some(inbox),
            held: Vec::new(),
            published: Vec::new(),
            fates: Default::default(),
            inline,
            redriven: 0,
            simulation,
        }
    }

    fn bus(&self) -> &Bus {
        self.simulation.bus()
    }

    fn publish(&mut self) {
        // Some fit a slot, some need a block, and there are fewer blocks than events.
        let text = "x".repeat(if self.draw.one_in(4) { 400 } else { 20 });
        let topic = ["a", "b", "c"][self.draw.below(3) as usize];
        let mut publisher = self.bus().publisher().unwrap();
        let priority = Priority::ALL[self.draw.below(4) as usize];
        if let Ok(id) = publisher.event().priority(priority).try_publish(topic, Payload::plain_text(&text)) {
            self.published.push(id);
        }
    }

    fn settle(&mut self, delivery: Delivery<Pattern>) {
        let (id, attempt) = (delivery.meta().id(), delivery.meta().attempt());
        assert!(delivery.payload().text().is_some_and(|text| text.bytes().all(|byte| byte == b'x')));
        let (is_current, outcome) = (delivery.is_current(), outcome(&mut self.draw));
        let settled = delivery.settle(&outcome);
        assert_eq!(settled == Settled::Counted, is_current, "nothing else runs here");
        if settled == Settled::Counted {
            let fate = self.fates[0].entry(id).or_default();
            fate.acknowledged += u32::from(outcome == Outcome::Ack);
            fate.attempts.push(attempt);
        }
    }

    fn step(&mut self) {
        match self.draw.below(16) {
            0..=4 => self.publish(),
            5..=7 => drop(self.simulation.turn(0)),
            8 | 9 => {
                if let Some(Ok(delivery)) = self.inbox.as_mut().map(Mailbox::try_recv) {
                    self.settle(delivery);
                }
            }
            10 => {
                if let Some(Ok(delivery)) = self.inbox.as_mut().map(Mailbox::try_recv) {
                    self.held.push(delivery);
                }
            }
            11 | 12 if !self.held.is_empty() => {
                let nth = self.draw.below(self.held.len() as u64) as usize;
                let delivery = self.held.swap_remove(nth);
                if self.draw.one_in(3) && delivery.extend(TIMEOUT * 2) {
                    assert!(delivery.is_current());
                    self.held.push(delivery);
                } else {
                    self.settle(delivery);
                }
            }
            13 => self.simulation.advance(MS * self.draw.below(40) as u32),
            14 if self.draw.one_in(6) => {
                let id = if self.draw.one_in(2) { self.inbox_id } else { self.inline_id };
                self.bus().pause(id).unwrap();
                self.bus().resume(id).unwrap();
            }
            15 if self.draw.one_in(3) => {
                let report = self.bus().dead_letters().redrive_all(&DeadLetterFilter::new().limit(1), Duration::ZERO);
                self.redriven += report.redriven as u64;
            }
            _ => {}
        }
        assert_books(self.bus());
    }

    /// Goes on until nothing is under way.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.simulation.run();
            while let Some(delivery) = self.held.pop() {
                self.settle(delivery);
            }
            while let Ok(delivery) = self.inbox.as_mut().expect("it is there").try_recv() {
                self.settle(delivery);
            }
            self.simulation.advance(5 * MS);
            let ledger = self.bus().ledger();
            if ledger.subscriptions.open() + ledger.in_lanes == 0 {
                return;
            }
        }
        panic!("seed {}: it does not come to rest: {:#?}", self.seed, self.bus().ledger());
    }

    fn check(&mut self) {
        let seed = self.seed;
        for (id, attempt, is_acknowledged) in self.inline.take() {
            let fate = self.fates[1].entry(id).or_default();
            fate.acknowledged += u32::from(is_acknowledged);
            fate.attempts.push(attempt);
        }
        let letters = self.bus().dead_letters().list(&DeadLetterFilter::new());
        for (fates, id) in self.fates.iter().zip([self.inbox_id, self.inline_id]) {
            let dead: Vec<_> =
                letters.iter().filter(|letter| letter.subscription() == id).map(|letter| letter.meta().id()).collect();
            for event in &self.published {
                let acknowledged = fates.get(event).map_or(0, |fate| fate.acknowledged);
                let died = dead.iter().filter(|died| *died == event).count() as u32;
                assert_eq!(acknowledged + died, 1, "seed {seed}: {event} is in no place, or in two: {fates:?}");
            }
        }
        let record = |id| self.bus().subscription(id).unwrap().ledger;
        let (inbox, inline) = (record(self.inbox_id), record(self.inline_id));
        let published = self.published.len() as u64;
        for ledger in [inbox, inline] {
            assert_eq!(ledger.matched, ledger.delivered + ledger.dead_lettered, "seed {seed}: {ledger:#?}");
        }
        assert_eq!(inbox.matched + inline.matched, 2 * published + self.redriven, "seed {seed}");
        assert!(self.bus().dead_letters().counts().is_balanced());
        assert_books(self.bus());
    }
}

#[test]
fn each_event_ends_in_exactly_one_place_whatever_its_consumers_do() {
    let seeds = match std::env::var("RINGMAIN_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..300).collect(),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
        world.finish();
        world.check();
    }
}

#[test]
fn a_consumer_that_vanishes_leaves_each_event_delivered_or_dead() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        drop(world.inbox.take());
        world.simulation.run();
        for delivery in std::mem::take(&mut world.held) {
            world.settle(delivery);
        }
        world.simulation.advance(TIMEOUT * 10);
        world.simulation.run();
        assert_books(world.bus());
        let letters = world.bus().dead_letters().list(&DeadLetterFilter::new().subscription(world.inbox_id));
        let ended: Vec<_> = letters.iter().map(|letter| letter.meta().id()).collect();
        for (event, fate) in &world.fates[0] {
            let died = ended.iter().filter(|died| *died == event).count() as u32;
            assert!(fate.acknowledged + died <= 1, "seed {seed}: {event} is in two places");
        }
        assert!(letters.iter().all(|letter| letter.reason() != DeadReason::TimedOut || letter.attempts() > 0));
        let ledger = world.bus().ledger().subscriptions;
        assert!(ledger.is_balanced(), "seed {seed}: {ledger:#?}");
    }
}
