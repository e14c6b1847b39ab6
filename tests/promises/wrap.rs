//! Sequences wrap: at the end of 32 and of 64 bits everything goes on as anywhere else, with the smallest lanes too.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, Delivery, FullPolicy, Mailbox, Overflow, Pattern, Payload, Priority, PublishError};

use super::support::{Draw, Log, TICK, Tick, assert_balanced, assert_settled, seen, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

/// Each place where a sequence wraps, or looks as if it did, with each of the smallest lanes.
fn everywhere(test: impl Fn(u64, usize, BusBuilder)) {
    for first in [u64::MAX - 3, u32::MAX as u64 - 3, i64::MAX as u64 - 3, u64::MAX, 0] {
        for capacity in 1..=3 {
            for publishers in [1, 63] {
                let builder = Bus::builder().max_queue_size(capacity).batch_max(capacity).publishers_max(publishers);
                let builder = builder.workers(2).blocks([(2_000, 8)]).payload_bytes_max(2_000);
                test(first, capacity, builder.when_full(FullPolicy::REJECT).first_sequence(first));
            }
        }
    }
}

/// The first `count` sequences from `first` on.
fn sequences(first: u64, count: u64) -> Vec<u64> {
    (0..count).map(|nth| first.wrapping_add(nth)).collect()
}

fn sequence(delivery: &Delivery<Pattern>) -> u64 {
    delivery.meta().sequence()
}

#[test]
fn events_keep_their_order_and_number_over_a_wrap() {
    everywhere(|first, capacity, builder| {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let log = Log::new();
        let writer = log.clone();
        let _inline = bus.subscribe(TICK).on_worker(0).handle(move |tick, meta| writer.add(seen(tick, meta))).unwrap();
        let mut mailbox = bus.subscribe(TICK.name()).on_worker(1).capacity(4).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let mut pulled = Vec::new();
        let mut published = 0;
        for _ in 0..20 {
            let mut filled = 0;
            while let Ok(_id) = publisher.publish(TICK, &Tick { from: 0, nth: published }) {
                published += 1;
                filled += 1;
            }
            assert_eq!(filled, capacity, "the lane holds its limit, no more and no less");
            let full = PublishError::Full {
                priority: Priority::Normal,
                depth: capacity as u64,
                limit: capacity as u64,
                gated_by: Some(0),
            };
            assert_eq!(publisher.publish(TICK, &Tick { from: 0, nth: 0 }), Err(full));
            assert_eq!(bus.ledger().in_lanes, capacity as u64);
            simulation.run();
            while let Ok(delivery) = mailbox.try_recv() {
                pulled.push(sequence(&delivery));
            }
            assert_balanced(bus);
        }
        let expected = sequences(first, u64::from(published));
        assert_eq!(pulled, expected);
        let log = log.take();
        assert!(log.iter().map(|event| event.1).eq(expected));
        assert!(log.iter().map(|event| event.3).eq(0..published));
        assert_settled(bus);
        assert_eq!(bus.ledger().claimed, u64::from(published));
    });
}

#[test]
fn batches_and_blocks_cross_a_wrap_whole() {
    everywhere(|first, capacity, builder| {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let mut mailbox = bus.subscribe("a").capacity(4).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let large = [8; 1_500];
        let mut got = Vec::new();
        for _ in 0..10 {
            publisher.publish_batch("a", vec![Payload::raw(&large); capacity]).unwrap();
            assert!(publisher.publish_batch("a", [BODY]).is_err());
            simulation.run();
            while let Ok(delivery) = mailbox.try_recv() {
                assert_eq!(delivery.payload().bytes(), large);
                got.push(sequence(&delivery));
            }
        }
        assert_eq!(got, sequences(first, 10 * capacity as u64));
        assert_settled(bus);
        assert_eq!(bus.metrics().free_blocks, 8);
    });
}

#[test]
fn a_subscription_made_at_a_wrap_sees_what_comes_later_only() {
    everywhere(|first, capacity, builder| {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let mut publisher = bus.publisher().unwrap();
        let mut mailboxes: Vec<(u64, Mailbox<Pattern>)> = Vec::new();
        for nth in 0..8 {
            let start = first.wrapping_add(nth);
            let overflow = Overflow::DropOldest;
            let mailbox = bus.subscribe("a").on_worker(nth as usize % 2).capacity(8).overflow(overflow).mailbox();
            mailboxes.push((start, mailbox.unwrap()));
            publisher.publish("a", BODY).unwrap();
            if capacity == 1 || nth % 2 == 1 {
                simulation.run();
            }
        }
        simulation.run();
        for (nth, (start, mailbox)) in mailboxes.iter_mut().enumerate() {
            let mut got = Vec::new();
            while let Ok(delivery) = mailbox.try_recv() {
                got.push(sequence(&delivery));
            }
            assert_eq!(got, sequences(*start, 8 - nth as u64));
        }
        assert_settled(bus);
    });
}

#[test]
fn a_blocked_lane_resumes_over_a_wrap() {
    everywhere(|first, capacity, builder| {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let mut mailbox = bus.subscribe("a").capacity(1).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let mut got = Vec::new();
        for _ in 0..10 {
            while publisher.publish("a", BODY).is_ok() {
                simulation.run();
            }
            assert_eq!(bus.ledger().in_lanes, capacity as u64);
            let delivery = mailbox.try_recv().unwrap();
            got.push(sequence(&delivery));
            drop(delivery);
            simulation.run();
        }
        while let Ok(delivery) = mailbox.try_recv() {
            got.push(sequence(&delivery));
            drop(delivery);
            simulation.run();
        }
        assert_eq!(got, sequences(first, got.len() as u64));
        assert_eq!(got.len(), 10 + capacity);
        assert_settled(bus);
    });
}

#[test]
fn every_lane_and_the_schedule_wrap_alike() {
    everywhere(|first, _, builder| {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let log = Log::new();
        let writer = log.clone();
        let handler = move |_: Payload<'_>, meta: &ringmain::Meta<'_>| writer.add((meta.priority(), meta.sequence()));
        let _all = bus.subscribe("*").handle(handler).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let mut draw = Draw(first);
        let mut published = [0_u64; 4];
        for _ in 0..60 {
            let priority = draw.priority();
            let event = publisher.at(priority);
            let event = if draw.one_in(3) { event.not_before(Duration::from_millis(1)) } else { event };
            published[priority as usize] += 1;
            event.publish("a", BODY).unwrap();
            simulation.advance(Duration::from_millis(1));
            simulation.run();
        }
        let log = log.take();
        for priority in Priority::ALL {
            let own: Vec<_> = log.iter().filter(|event| event.0 == priority).map(|event| event.1).collect();
            assert_eq!(own, sequences(first, published[priority as usize]));
        }
        assert_settled(bus);
    });
}

#[test]
fn threads_meet_at_a_wrap() {
    watched(|| {
        // Enough to come past the wrap; each event of a lane this short is a hand-over between threads.
        const EACH: u32 = 200;
        for first in [u64::MAX - 3, u32::MAX as u64 - 3, u64::MAX - 500] {
            for capacity in 1..=3 {
                let builder = Bus::builder().workers(2).max_queue_size(capacity).batch_max(capacity);
                let bus = builder.first_sequence(first).build().unwrap();
                let logs: Vec<_> = (0..2)
                    .map(|worker| {
                        let log = Log::new();
                        let writer = log.clone();
                        let wish = bus.subscribe(TICK).on_worker(worker);
                        (wish.handle(move |tick, meta| writer.add(seen(tick, meta))).unwrap(), log)
                    })
                    .collect();
                let publishers: Vec<_> = (0..3)
                    .map(|from| {
                        let mut publisher = bus.publisher().unwrap();
                        std::thread::spawn(move || {
                            for nth in 0..EACH {
                                publisher.publish(TICK, &Tick { from, nth }).unwrap();
                            }
                        })
                    })
                    .collect();
                publishers.into_iter().for_each(|one| one.join().unwrap());
                assert_settled(&bus);
                let logs: Vec<_> = logs.iter().map(|(_, log)| log.take()).collect();
                assert_eq!(logs[0], logs[1]);
                assert!(logs[0].iter().map(|event| event.1).eq(sequences(first, u64::from(3 * EACH))));
                for from in 0..3 {
                    assert!(logs[0].iter().filter(|event| event.2 == from).map(|event| event.3).eq(0..EACH));
                }
            }
        }
    });
}
