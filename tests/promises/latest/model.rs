//! Whatever is published, taken and held, in whatever order: a consumer finds what a naive map holds.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{Delivery, Overflow, Pattern, Payload, Priority, TryRecvError};

use super::{by_topic, latest, ledger, small};
use crate::support::{Draw, assert_settled};

const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// To this topic, at this priority, with a payload in a block or without.
    Publish(usize, usize, bool),
    /// Takes and settles.
    Take,
    /// Takes and keeps.
    Hold,
    /// Settles one of those kept.
    LetGo(usize),
    Pause(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..TOPICS.len(), 0..4_usize, prop::bool::weighted(0.2)).prop_map(|(t, p, l)| Step::Publish(t, p, l)),
        3 => Just(Step::Take),
        1 => Just(Step::Hold),
        1 => (0..8_usize).prop_map(Step::LetGo),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

/// What waits, by key: its number and how many it took the place of.
#[derive(Debug, Default)]
struct Model {
    waits: BTreeMap<usize, (u64, u64)>,
    published: u64,
    superseded: u64,
    overflow: u64,
    taken: u64,
}

impl Model {
    fn publish(&mut self, key: usize, keys_max: usize) -> u64 {
        let number = self.published;
        self.published += 1;
        if let Some((newest, skipped)) = self.waits.get_mut(&key) {
            (*newest, *skipped) = (number, *skipped + 1);
            self.superseded += 1;
        } else if self.waits.len() == keys_max {
            self.overflow += 1;
        } else {
            self.waits.insert(key, (number, 0));
        }
        number
    }
}

/// The number of an event, of which its payload is made.
fn number(delivery: &Delivery<Pattern>) -> u64 {
    let bytes = delivery.payload().bytes();
    assert!(bytes.chunks_exact(8).all(|chunk| chunk == &bytes[..8]), "torn: {bytes:?}");
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn payload(number: u64, large: bool) -> Vec<u8> {
    number.to_le_bytes().repeat(if large { 60 } else { 1 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_consumer_finds_what_a_map_of_the_newest_holds(
        keyed in any::<bool>(),
        keys in 1_usize..6,
        first_sequence in prop_oneof![Just(0_u64), Just(u64::MAX - 20)],
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let keys_max = if keyed { keys } else { 1 };
        // Blocks for all who wait, one to be put, and those held: eight.
        let builder = small().blocks([(512, 16)]).first_sequence(first_sequence);
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let wish = if keyed { by_topic(bus).keys_max(keys) } else { latest(bus) };
        let mut inbox = wish.overflow(Overflow::DropNewest).capacity(8).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let (mut model, mut held, mut paused) = (Model::default(), Vec::new(), false);
        for step in steps {
            match step {
                Step::Publish(topic, priority, large) => {
                    let body = payload(model.publish(if keyed { topic } else { 0 }, keys_max), large);
                    let priority = Priority::ALL[priority];
                    publisher.at(priority).publish(TOPICS[topic], Payload::raw(&body)).unwrap();
                    simulation.run();
                }
                Step::Take | Step::Hold => {
                    let delivery = match inbox.try_recv() {
                        Ok(delivery) => delivery,
                        Err(error) => {
                            prop_assert_eq!(error, TryRecvError::Empty);
                            prop_assert!(paused || model.waits.is_empty(), "{:?} is missing", model.waits);
                            continue;
                        }
                    };
                    prop_assert!(!paused, "taken while paused");
                    let topic = TOPICS.iter().position(|topic| *topic == delivery.meta().topic()).unwrap();
                    let waited = model.waits.remove(&if keyed { topic } else { 0 });
                    prop_assert_eq!(Some((number(&delivery), delivery.skipped())), waited);
                    model.taken += 1;
                    if matches!(step, Step::Hold) && held.len() < 8 {
                        held.push((number(&delivery), delivery));
                    }
                }
                Step::LetGo(nth) if nth < held.len() => drop(held.swap_remove(nth)),
                Step::LetGo(_) => {}
                Step::Pause(pause) => {
                    paused = pause;
                    if pause { bus.pause(inbox.id()) } else { bus.resume(inbox.id()) }.unwrap();
                }
            }
            for (was, delivery) in &held {
                prop_assert_eq!(number(delivery), *was, "what is held has changed");
            }
            let (found, settled) = (ledger(bus), model.taken - held.len() as u64);
            prop_assert_eq!((found.queued, found.in_flight), (model.waits.len() as u64, held.len() as u64));
            prop_assert_eq!((found.matched, found.delivered), (model.published, settled));
            prop_assert_eq!((found.dropped.superseded, found.dropped.overflow), (model.superseded, model.overflow));
            prop_assert_eq!(inbox.len(), model.waits.len());
        }
        held.clear();
        bus.resume(inbox.id()).unwrap();
        while let Ok(delivery) = inbox.try_recv() {
            let topic = TOPICS.iter().position(|topic| *topic == delivery.meta().topic()).unwrap();
            let waited = model.waits.remove(&if keyed { topic } else { 0 });
            prop_assert_eq!(Some((number(&delivery), delivery.skipped())), waited);
        }
        prop_assert!(model.waits.is_empty(), "{:?} is missing", model.waits);
        prop_assert_eq!(bus.metrics().free_blocks, 16);
        assert_settled(bus);
    }

    #[test]
    fn under_every_policy_what_is_published_is_taken_superseded_or_dropped_and_counted(
        policy in prop_oneof![Just(Overflow::Block), Just(Overflow::DropNewest), Just(Overflow::DropOldest)],
        keys_max in 1_usize..5,
        seed in any::<u64>(),
    ) {
        let simulation = Simulation::new(small().blocks([(512, 64)]), seed).unwrap();
        let bus = simulation.bus();
        let mut inbox = by_topic(bus).keys_max(keys_max).capacity(2).overflow(policy).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let mut draw = Draw(seed);
        let (mut published, mut taken, mut skipped, mut held) = (0, 0, 0, Vec::new());
        for step in 0..300 {
            if step < 200 && !draw.one_in(3) {
                let body = payload(published, draw.one_in(8));
                let topic = TOPICS[draw.below(5) as usize];
                let sent = publisher.at(draw.priority()).try_publish(topic, Payload::raw(&body));
                published += u64::from(sent.is_ok());
            }
            if !draw.one_in(3) {
                simulation.turn(0);
            }
            if draw.one_in(3) && let Ok(delivery) = inbox.try_recv() {
                taken += 1;
                skipped += delivery.skipped();
                held.push(delivery);
            }
            if held.len() > 4 || draw.one_in(2) && !held.is_empty() {
                held.swap_remove(draw.below(held.len() as u64) as usize);
            }
        }
        held.clear();
        loop {
            simulation.run();
            let Ok(delivery) = inbox.try_recv() else { break };
            taken += 1;
            skipped += delivery.skipped();
        }
        let found = ledger(bus);
        prop_assert_eq!((found.matched, found.delivered), (published, taken));
        prop_assert_eq!(taken + found.dropped.superseded + found.dropped.overflow, published);
        match policy {
            Overflow::DropOldest => prop_assert!(skipped <= found.dropped.superseded),
            _ => prop_assert_eq!(skipped, found.dropped.superseded),
        }
        prop_assert!(policy != Overflow::Block || found.dropped.overflow == 0);
        prop_assert_eq!(bus.metrics().free_blocks, 64);
        assert_settled(bus);
    }
}
