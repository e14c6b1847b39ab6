//! A throttled bus passes no more events than its rate, wastes none of it while there is work, and holds up neither Critical
//! events nor its own end.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{Bus, FullPolicy, IdleStrategy, Payload, Priority, PublishError, Rate};

use super::support::{Draw, Log, assert_balanced, assert_books, assert_settled, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Ten events a second, in bursts of three.
fn slow() -> Rate {
    Rate::per_second(10.0).burst(3)
}

#[test]
fn the_rest_waits_in_the_lanes_and_publishers_feel_it() {
    let builder = Bus::builder().workers(1).max_queue_size(8).when_full(FullPolicy::REJECT).throttle(slow());
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let seen = Log::new();
    let log = seen.clone();
    let _reader = bus.subscribe("a").handle(move |_, meta| log.add(meta.sequence())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..8 {
        publisher.publish("a", BODY).unwrap();
    }
    assert_eq!(simulation.run(), 3, "a burst");
    for _ in 0..3 {
        publisher.publish("a", BODY).unwrap();
    }
    assert!(matches!(publisher.publish("a", BODY), Err(PublishError::Full { depth: 8, .. })));
    simulation.advance(ms(100) - Duration::from_nanos(1));
    assert_eq!(simulation.run(), 0, "not before its time");
    simulation.advance(Duration::from_nanos(1));
    assert_eq!(simulation.run(), 1);
    bus.flush().expect_err("a flush waits for it as well");
    simulation.advance(ms(100));
    assert_eq!(simulation.turn(0), Some(1));
    simulation.advance(ms(10_000));
    assert_eq!(simulation.run(), 3, "no more than a burst is made up for");
    assert_eq!(bus.metrics().throttled, 4, "stops that were new ones");
    assert_balanced(bus);
    simulation.advance(ms(10_000));
    simulation.run();
    assert_settled(bus);
    assert_eq!(seen.take(), (0..11).collect::<Vec<_>>());
}

#[test]
fn critical_events_pass_a_spent_throttle_and_cost_it_nothing() {
    let simulation = Simulation::new(Bus::builder().workers(1).throttle(slow()), 1).unwrap();
    let bus = simulation.bus();
    let seen = Log::new();
    let log = seen.clone();
    let _reader = bus.subscribe("a").handle(move |_, meta| log.add(meta.priority())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Critical] {
        for _ in 0..5 {
            publisher.at(priority).publish("a", BODY).unwrap();
        }
    }
    assert_eq!(simulation.run(), 8);
    assert_eq!(seen.take(), [[Priority::Critical; 5].as_slice(), &[Priority::High; 3]].concat());
    for _ in 0..5 {
        publisher.at(Priority::Critical).publish("a", BODY).unwrap();
    }
    assert_eq!(simulation.run(), 5);
    simulation.advance(ms(300));
    assert_eq!(simulation.run(), 3);
    assert_balanced(bus);
}

#[test]
fn workers_share_the_rate_and_what_is_not_their_business_is_free() {
    let simulation = Simulation::new(Bus::builder().workers(2).throttle(slow()), 7).unwrap();
    let bus = simulation.bus();
    let _one = bus.subscribe("a").on_worker(0).handle(|_, _| ()).unwrap();
    let mut two = bus.subscribe("b").on_worker(1).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..20 {
        publisher.publish("a", BODY).unwrap();
        publisher.publish("b", BODY).unwrap();
    }
    let handed = |bus: &Bus| {
        let books = bus.ledger().subscriptions;
        books.delivered + books.queued
    };
    simulation.run();
    assert_eq!(handed(bus), 3);
    for round in 1..=37 {
        simulation.advance(ms(100));
        simulation.run();
        assert_eq!(handed(bus), 3 + round);
    }
    assert_eq!(bus.ledger().in_lanes, 0);
    assert_eq!(std::iter::from_fn(|| two.try_recv().ok().map(drop)).count(), 20);
    assert_settled(bus);
}

#[test]
fn a_full_mailbox_keeps_nothing_of_the_rate() {
    let simulation = Simulation::new(Bus::builder().workers(1).throttle(slow()), 7).unwrap();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").capacity(1).mailbox().unwrap();
    let _other = bus.subscribe("b").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..3 {
        publisher.at(Priority::High).publish("a", BODY).unwrap();
    }
    publisher.publish("b", BODY).unwrap();
    publisher.publish("b", BODY).unwrap();
    assert_eq!(simulation.run(), 3, "one into the mailbox, and both of the others");
    assert_eq!(simulation.run(), 0);
    simulation.advance(ms(100));
    drop(mailbox.try_recv().unwrap());
    assert_eq!(simulation.run(), 1);
    simulation.advance(ms(100));
    drop(mailbox.try_recv().unwrap());
    assert_eq!(simulation.run(), 1);
    drop(mailbox.try_recv().unwrap());
    assert_settled(bus);
}

#[test]
fn what_names_a_service_is_throttled_like_what_is_subscribed_to() {
    let simulation = Simulation::new(Bus::builder().workers(2).throttle(slow()), 7).unwrap();
    let bus = simulation.bus();
    let service = bus.service("billing").on_worker(1).open().unwrap();
    let mut inbox = service.instance("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..8 {
        publisher.event().target("billing").publish("nobody.subscribed", BODY).unwrap();
    }
    let mut taken = || std::iter::from_fn(|| inbox.try_recv().ok().map(|delivery| delivery.ack())).count();
    simulation.run();
    assert_eq!(taken(), 3, "a burst");
    for _ in 0..5 {
        simulation.advance(ms(100));
        simulation.run();
        assert_eq!(taken(), 1);
    }
    assert_settled(bus);
}

#[test]
fn a_shutdown_drains_as_fast_as_it_can() {
    let throttle = Rate::per_second(0.001);
    let simulation = Simulation::new(Bus::builder().workers(1).throttle(throttle), 1).unwrap();
    let _reader = simulation.bus().subscribe("a").handle(|_, _| ()).unwrap();
    simulation.bus().publisher().unwrap().publish_batch("a", [BODY; 50]).unwrap();
    simulation.run();
    let report = simulation.bus().shutdown().unwrap();
    assert!(report.is_clean() && report.delivered == 50, "{report:?}");
    assert_books(simulation.bus());
    for idle in IdleStrategy::ALL {
        watched(move || {
            let bus = Bus::builder().workers(2).idle(idle).throttle(throttle).build().unwrap();
            let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
            bus.publisher().unwrap().publish_batch("a", [BODY; 50]).unwrap();
            let report = bus.shutdown_deadline(Duration::from_secs(120)).unwrap();
            assert!(report.is_clean() && report.delivered == 50, "{idle}: {report:?}");
        });
    }
}

#[test]
fn a_worker_that_sleeps_for_the_throttle_wakes_at_its_time() {
    for idle in IdleStrategy::ALL {
        watched(move || {
            let rate = Rate::per_second(1_000.0).burst(5);
            let bus = Bus::builder().workers(2).idle(idle).throttle(rate).build().unwrap();
            let _one = bus.subscribe("a").on_worker(0).handle(|_, _| ()).unwrap();
            let _two = bus.subscribe("b").on_worker(1).handle(|_, _| ()).unwrap();
            let mut publisher = bus.publisher().unwrap();
            let begun = Instant::now();
            for _ in 0..10 {
                publisher.publish("a", BODY).unwrap();
                publisher.publish("b", BODY).unwrap();
            }
            // Nobody but the clock wakes them.
            bus.flush_deadline(Duration::from_secs(120)).unwrap();
            assert!(begun.elapsed() >= ms(15), "{idle}: 20 events in {:?}", begun.elapsed());
            assert_settled(&bus);
        });
    }
}

proptest! {
    #[test]
    fn no_stretch_of_time_passes_more_than_the_rate_and_none_of_it_is_wasted(
        seed in any::<u64>(), burst in 1..40_u32, workers in 1..4_usize, turn_max in 1..50_usize,
    ) {
        const INTERVAL: u64 = 1_000;
        let builder = Bus::builder().workers(workers).turn_max(turn_max).when_full(FullPolicy::REJECT);
        let builder = builder.max_queue_size(2_000).blocks([]).payload_bytes_max(64).types_max(100).sources_max(100);
        let simulation = Simulation::new(builder.throttle(Rate::per_second(1e6).burst(burst)), seed).unwrap();
        let bus = simulation.bus();
        let topics = ["a", "b", "c"];
        let _readers: Vec<_> = topics
            .iter()
            .enumerate()
            .map(|(nth, topic)| bus.subscribe(*topic).on_worker(nth % workers).handle(|_, _| ()).unwrap())
            .collect();
        let mut publisher = bus.publisher().unwrap();
        let mut draw = Draw(seed);
        let (mut waiting, mut critical, mut delivered) = (0, 0, 0);
        let mut credit = u64::from(burst) * INTERVAL;
        for _ in 0..60 {
            for _ in 0..draw.below(30) {
                let priority = draw.priority();
                publisher.at(priority).publish(topics[draw.below(3) as usize], BODY).unwrap();
                *(if priority == Priority::Critical { &mut critical } else { &mut waiting }) += 1;
            }
            simulation.run();
            let passes = waiting.min(credit / INTERVAL);
            credit -= passes * INTERVAL;
            waiting -= passes;
            delivered += passes + std::mem::take(&mut critical);
            prop_assert_eq!(bus.ledger().subscriptions.delivered, delivered);
            let pause = draw.below(12_000);
            simulation.advance(Duration::from_nanos(pause));
            credit = (credit + pause).min(u64::from(burst) * INTERVAL);
        }
        assert_books(bus);
    }
}
