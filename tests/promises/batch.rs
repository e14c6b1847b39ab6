//! A batch is accepted in one piece or not at all, and appears whole.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, FullPolicy, Payload, Priority, PublishError, TopicError};

use super::support::{Draw, Log, TICK, Tick, assert_balanced, assert_settled, seen, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

#[test]
fn a_batch_with_room_for_all_but_one_publishes_none() {
    for size in 1..=8_u64 {
        for room in 0..=8_u64 {
            let builder = Bus::builder().workers(2).max_queue_size(8).batch_max(8).when_full(FullPolicy::REJECT);
            let simulation = Simulation::new(builder, 1).unwrap();
            let bus = simulation.bus();
            let log = Log::new();
            let writer = log.clone();
            let _reader = bus.subscribe("a").handle(move |_, meta| writer.add((meta.sequence(), meta.id()))).unwrap();
            let mut publisher = bus.publisher().unwrap();
            for _ in room..8 {
                publisher.publish("a", BODY).unwrap();
            }
            let used = 8 - room;
            let result = publisher.publish_batch("a", vec![BODY; size as usize]);
            if size <= room {
                let ids = result.unwrap();
                simulation.run();
                let expected: Vec<_> = (used..used + size).zip(ids).collect();
                assert_eq!(log.take().split_off(used as usize), expected, "contiguous and in order");
            } else {
                let full = PublishError::Full { priority: Priority::Normal, depth: used, limit: 8, gated_by: Some(0) };
                assert_eq!(result, Err(full));
                assert_eq!(bus.ledger().claimed, used, "nothing of it is claimed");
                simulation.run();
                assert_eq!(log.take().len() as u64, used);
                publisher.publish_batch("a", vec![BODY; size as usize]).expect("there is room now");
                simulation.run();
                let sequences: Vec<_> = log.take().into_iter().map(|(sequence, _)| sequence).collect();
                assert_eq!(sequences, (used..used + size).collect::<Vec<_>>());
            }
            assert_settled(bus);
        }
    }
}

#[test]
fn a_batch_appears_whole_between_the_events_of_others() {
    watched(|| {
        const BATCHES: u32 = 400;
        const SIZE: u32 = 9;
        let bus = Bus::builder().workers(2).max_queue_size(64).batch_max(64).build().unwrap();
        let log = Log::new();
        let writer = log.clone();
        let _reader = bus.subscribe(TICK).on_worker(1).handle(move |tick, meta| writer.add(seen(tick, meta))).unwrap();
        let start = Arc::new(Barrier::new(3));
        let threads: Vec<_> = (0..3)
            .map(|from| {
                let (mut publisher, start) = (bus.publisher().unwrap(), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    for nth in 0..BATCHES {
                        if from == 2 {
                            publisher.publish(TICK, &Tick { from, nth }).unwrap();
                        } else {
                            let ticks: Vec<_> = (0..SIZE).map(|at| Tick { from, nth: nth * SIZE + at }).collect();
                            publisher.publish_batch(TICK, &ticks).unwrap();
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_settled(&bus);
        let events = log.take();
        assert_eq!(events.len() as u32, BATCHES * (2 * SIZE + 1));
        let mut nth = 0;
        while nth < events.len() {
            let (_, sequence, from, first) = events[nth];
            assert_eq!(sequence, nth as u64);
            if from == 2 {
                nth += 1;
                continue;
            }
            for at in 0..SIZE {
                let (_, _, same, number) = events[nth + at as usize];
                assert_eq!((same, number), (from, first + at), "another event is inside a batch");
            }
            nth += SIZE as usize;
        }
    });
}

#[test]
fn a_batch_with_an_invalid_event_can_go_without_it_and_publish_batch_goes_not_at_all() {
    let simulation = Simulation::new(Bus::builder().workers(1).payload_bytes_max(5_000), 1).unwrap();
    let bus = simulation.bus();
    let free = bus.metrics().free_blocks;
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let large = vec![1; 5_001];
    let payloads = [BODY, Payload::raw(&large[..1_000]), Payload::raw(&large), BODY];
    let refused = publisher.publish_batch("a", payloads);
    assert_eq!(refused, Err(PublishError::TooLarge { bytes: 5_001, max: 5_000 }));
    assert_eq!(bus.ledger().accepted, 0, "none of them is published");
    assert_eq!(bus.metrics().free_blocks, free);

    let mut batch = publisher.batch(Priority::Normal);
    batch.add("a", BODY).unwrap();
    assert_eq!(batch.add("", BODY), Err(PublishError::Topic(TopicError::Empty)));
    let broken = batch.add_with("a", BODY, |event| event.metadata("k", &"v".repeat(20_000)));
    assert!(matches!(broken, Err(PublishError::Envelope(_))), "{broken:?}");
    batch.add("a", BODY).unwrap();
    assert_eq!(batch.publish().unwrap().len(), 2);
    simulation.run();
    assert!(mailbox.try_recv().is_ok() && mailbox.try_recv().is_ok() && mailbox.try_recv().is_err());
    assert_settled(bus);
}

#[test]
fn a_batch_of_mixed_priority_is_refused_and_one_priority_keeps_its_lane() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for batch_priority in Priority::ALL {
        for event in Priority::ALL {
            let mut batch = publisher.batch(batch_priority);
            batch.add("a", BODY).unwrap();
            let result = batch.add_with("a", BODY, |outgoing| outgoing.priority(event));
            if event == batch_priority {
                result.unwrap();
                batch.publish().unwrap();
                simulation.run();
                for _ in 0..2 {
                    assert_eq!(mailbox.try_recv().unwrap().meta().priority(), batch_priority);
                }
            } else {
                let mixed = PublishError::MixedPriority { batch: batch_priority, event };
                assert_eq!(result, Err(mixed));
                assert_eq!(
                    mixed.to_string(),
                    format!("a {event} event in a {batch_priority} batch; a batch has one priority")
                );
                drop(batch);
            }
            assert!(mailbox.try_recv().is_err(), "a batch that is dropped publishes nothing");
        }
    }
    assert_settled(bus);
}

#[test]
fn large_payloads_and_envelopes_travel_in_a_batch() {
    let simulation = Simulation::new(Bus::builder().workers(3), 1).unwrap();
    let bus = simulation.bus();
    let free = bus.metrics().free_blocks;
    let mut mailboxes: Vec<_> = (0..3).map(|worker| bus.subscribe("a").on_worker(worker).mailbox().unwrap()).collect();
    let mut publisher = bus.publisher().unwrap();
    let mut draw = Draw(4);
    let bodies: Vec<Vec<u8>> = [0, 1, 16, 192, 193, 4_096, 70_000, 1 << 20, 3]
        .map(|bytes| (0..bytes).map(|_| draw.below(256) as u8).collect())
        .to_vec();
    let mut batch = publisher.batch(Priority::High);
    for (nth, body) in bodies.iter().enumerate() {
        batch.add_with("a", Payload::raw(body), |event| event.metadata("nth", &nth.to_string())).unwrap();
        batch.add("nobody.wants", Payload::raw(body)).unwrap();
    }
    let ids = batch.publish().unwrap();
    assert_eq!(ids.len(), 2 * bodies.len());
    assert_balanced(bus);
    assert_eq!((bus.ledger().routed, bus.ledger().unmatched), (bodies.len() as u64, bodies.len() as u64));
    for mailbox in &mut mailboxes {
        for (nth, body) in bodies.iter().enumerate() {
            let delivery = mailbox.try_recv().unwrap();
            assert!(delivery.payload().bytes() == body.as_slice(), "payload {nth}");
            assert_eq!(delivery.meta().get("nth"), Some(&*nth.to_string()));
            assert_eq!((delivery.meta().sequence(), delivery.meta().id()), (nth as u64, ids[2 * nth]));
        }
    }
    assert_settled(bus);
    assert_eq!(bus.metrics().free_blocks, free);
}

#[test]
fn a_batch_waits_for_room_for_all_of_it() {
    watched(|| {
        let bus = Bus::builder().workers(1).max_queue_size(8).batch_max(8).build().unwrap();
        let mut mailbox = bus.subscribe("a").capacity(1).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.set_full_policy(FullPolicy::wait(Duration::from_secs(30)));
        let publishing = std::thread::spawn(move || {
            for _ in 0..40 {
                publisher.publish_batch("a", [BODY; 8]).unwrap();
                publisher.publish("a", BODY).unwrap();
            }
        });
        for sequence in 0..360 {
            assert_eq!(mailbox.recv_deadline(Duration::from_secs(30)).unwrap().meta().sequence(), sequence);
        }
        publishing.join().unwrap();
        assert_settled(&bus);
    });
}

#[test]
fn an_empty_batch_publishes_nothing() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    assert_eq!(publisher.batch(Priority::Low).publish(), Ok(Vec::new()));
    assert_settled(simulation.bus());
    assert_eq!(simulation.bus().ledger().accepted, 0);
}
