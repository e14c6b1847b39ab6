//! Values of every alignment and niche, by the ways that keep them elsewhere: until their time, as the newest, where a mailbox
//! leaves them, in a store that is replayed and read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    DeliveryMode, Frame, Pattern, Priority, Publisher, SpillError, SpillPage, SpillReader, SpillSource, SpilledEvent,
    Topic,
};

use super::payload_paths::{MINUTE, each, next};
use super::payloads::{Value, read};

fn scheduled<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    let mut inbox = simulation.bus().subscribe(topic).mailbox().unwrap();
    publisher.event().not_before(MINUTE).metadata("k", "v").publish(topic, value).unwrap();
    simulation.run();
    assert!(inbox.is_empty() && simulation.bus().ledger().scheduled == 1);
    simulation.advance(MINUTE);
    simulation.run();
    next(&mut inbox)
}

fn newest<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    let mut inbox = simulation.bus().subscribe(topic).mode(DeliveryMode::LatestOnly).mailbox().unwrap();
    for _ in 0..3 {
        publisher.publish(topic, value).unwrap();
        simulation.run();
    }
    let newest = next(&mut inbox);
    assert!(inbox.is_empty(), "the others were superseded");
    newest
}

/// Where events are kept as a worker read them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpilledEvent>>>);

struct Reading(Kept, usize);

impl SpillSource for Kept {
    fn covers(&self, _: &Pattern) -> bool {
        true
    }

    fn read_from(&self, _: &[(Priority, u64)]) -> Box<dyn SpillReader> {
        Box::new(Reading(self.clone(), 0))
    }
}

impl SpillReader for Reading {
    fn next_page(&mut self, _: Duration) -> Result<SpillPage, SpillError> {
        let kept = self.0.0.lock().unwrap();
        let events = kept[self.1..].to_vec();
        self.1 = kept.len();
        let complete_before = kept.last().map(|last| (Priority::Normal, last.sequence.wrapping_add(1)));
        Ok(SpillPage { events, complete_before: complete_before.into_iter().collect() })
    }
}

fn left_elsewhere<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    let bus = simulation.bus();
    let kept = Kept::default();
    let keeps = kept.clone();
    let _keeps = bus.subscribe(topic).named("kept").on_worker(0).handle(move |_, meta| {
        let event =
            SpilledEvent { sequence: meta.sequence(), position: meta.position(), frame: Frame::in_lane(meta, 1) };
        keeps.0.lock().unwrap().push(event);
    });
    let slow = bus.subscribe(topic).named("slow").capacity(1).on_worker(1).spill(Arc::new(kept));
    let mut inbox = slow.mailbox().unwrap();
    for _ in 0..3 {
        publisher.publish(topic, value).unwrap();
    }
    simulation.run();
    assert!(bus.subscription(inbox.id()).unwrap().ledger.spilled > 0, "there is room for one");
    // Who asks for the next is who has it read back.
    let mut values = Vec::new();
    for _ in 0..1_000 {
        if let Ok(delivery) = inbox.try_recv() {
            values.push(read::<E>(delivery.event().expect("an archive of its type")));
            delivery.ack();
        }
        simulation.advance(Duration::from_millis(2));
        simulation.run();
        if values.len() == 3 {
            assert!(values[..2].iter().all(|one| one == value));
            return values.remove(2);
        }
    }
    panic!("{} of 3 came", values.len());
}

#[cfg(feature = "sourcing")]
fn told_again<E: Value>(simulation: &Simulation, topic: Topic<E>, publisher: &mut Publisher, value: &E) -> E {
    use ringmain::ReplayPolicy;
    use ringmain::store::{Durability, DurableSubscription, EventStore, ExpectedVersion, MemoryStore};

    let bus = simulation.bus();
    let store = Arc::new(MemoryStore::new());
    let frame = publisher.event().metadata("k", "v").to_frame(topic, value).unwrap();
    store.append(&[frame], ExpectedVersion::Any, Durability::Accepted).unwrap();
    let mut reader = DurableSubscription::builder(store.clone(), store.clone(), "reader").open().unwrap();
    let stored = reader.try_recv().unwrap().expect("there is one");
    assert_eq!(read::<E>(stored.event::<E>().unwrap()), *value);
    let mut inbox = bus.subscribe(topic).replay(ReplayPolicy::Safe).mailbox().unwrap();
    let replay = bus.replay(store).start().unwrap();
    while inbox.is_empty() {
        // Its rate goes by the bus's clock.
        simulation.advance(Duration::from_millis(1));
        simulation.run();
        std::thread::yield_now();
    }
    assert_eq!(replay.wait().unwrap().published, 1);
    next(&mut inbox)
}

fn arrives_from_elsewhere<E: Value>(values: &[E]) {
    each(values, scheduled);
    each(values, newest);
    each(values, left_elsewhere);
    #[cfg(feature = "sourcing")]
    each(values, told_again);
}

#[test]
fn values_with_niches_arrive_from_where_they_are_kept() {
    use std::num::NonZeroU64;

    arrives_from_elsewhere(&[NonZeroU64::MIN, NonZeroU64::MAX]);
    arrives_from_elsewhere(&[None, NonZeroU64::new(7)]);
    arrives_from_elsewhere(&[None, Some(Box::new(7_u64))]);
    arrives_from_elsewhere(&[Box::new(7_u128), Box::new(u128::MAX)]);
    arrives_from_elsewhere(&[(), ()]);
}

#[test]
fn values_of_every_length_arrive_from_where_they_are_kept() {
    arrives_from_elsewhere(&[u128::MAX, 1]);
    arrives_from_elsewhere(&[[1_u128, 2, 3]]);
    arrives_from_elsewhere(&[String::new(), "inlined".to_owned(), "not inlined any more".repeat(40)]);
}
