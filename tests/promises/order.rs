//! One order a lane for everybody; each publisher's order and causality kept; Critical overtakes.

use std::sync::{Arc, Barrier};

use ringmain::testing::Simulation;
use ringmain::{Bus, Payload, Priority, Subscription, Topic};

use super::support::{Draw, Log, Seen, TICK, Tick, assert_settled, seen, watched};

const EFFECT: Topic<Tick> = Topic::new("clock.effect");

/// Two logging subscriptions on each of four workers: one typed, one by pattern.
fn listeners(bus: &Bus) -> Vec<(Subscription, Log<Seen>)> {
    (0..8)
        .map(|nth| {
            let log = Log::new();
            let writer = log.clone();
            let subscribe = bus.subscribe(TICK).on_worker(nth % 4).named(format!("listener {nth}"));
            let made = subscribe.handle(move |tick, meta| writer.add(seen(tick, meta))).unwrap();
            (made, log)
        })
        .collect()
}

/// All logs agree lane by lane, sequences are contiguous, and each publisher's events are in its order.
fn assert_one_order(logs: Vec<Vec<Seen>>, published: usize) {
    for priority in Priority::ALL {
        let lane = |log: &Vec<Seen>| log.iter().filter(|event| event.0 == priority).copied().collect::<Vec<_>>();
        let first = lane(&logs[0]);
        for (nth, (_, sequence, ..)) in first.iter().enumerate() {
            assert_eq!(*sequence, nth as u64, "the {priority} lane has a gap");
        }
        for other in &logs[1..] {
            assert_eq!(lane(other), first, "two subscriptions saw the {priority} lane in different orders");
        }
        for from in 0..4 {
            let own: Vec<_> = first.iter().filter(|event| event.2 == from).map(|event| event.3).collect();
            assert!(own.is_sorted(), "publisher {from} published {own:?} at {priority}");
        }
    }
    assert!(logs.iter().all(|log| log.len() == published), "every subscription sees every event once");
}

#[test]
fn every_subscription_on_every_worker_sees_one_order_per_lane() {
    watched(|| {
        const EACH: u32 = 3_000;
        let bus = Bus::builder().workers(4).max_queue_size(512).batch_max(64).build().unwrap();
        let listeners = listeners(&bus);
        let start = Arc::new(Barrier::new(3));
        let publishers: Vec<_> = (0..3)
            .map(|from| {
                let (mut publisher, start) = (bus.publisher().unwrap(), Arc::clone(&start));
                std::thread::spawn(move || {
                    let mut draw = Draw(u64::from(from));
                    start.wait();
                    for nth in 0..EACH {
                        publisher.at(draw.priority()).publish(TICK, &Tick { from, nth }).unwrap();
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert_settled(&bus);
        assert_one_order(listeners.iter().map(|(_, log)| log.take()).collect(), 3 * EACH as usize);
    });
}

#[test]
fn the_order_is_the_same_however_workers_are_scheduled() {
    for seed in 0..20 {
        let simulation = Simulation::new(Bus::builder().workers(4).turn_max(5), seed).unwrap();
        let bus = simulation.bus();
        let listeners = listeners(bus);
        let mut publishers: Vec<_> = (0..4).map(|_| bus.publisher().unwrap()).collect();
        for nth in 0..400 {
            let from = (simulation.draw() % 4) as u32;
            let priority = Priority::ALL[(simulation.draw() % 4) as usize];
            publishers[from as usize].at(priority).publish(TICK, &Tick { from, nth }).unwrap();
            if simulation.draw().is_multiple_of(3) {
                simulation.step();
            }
        }
        simulation.run();
        assert_settled(bus);
        assert_one_order(listeners.iter().map(|(_, log)| log.take()).collect(), 400);
    }
}

#[test]
fn a_mailbox_has_the_order_that_an_inline_handler_sees() {
    let simulation = Simulation::new(Bus::builder().workers(2), 3).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    let writer = log.clone();
    let _inline = bus.subscribe(TICK).on_worker(0).handle(move |tick, meta| writer.add(seen(tick, meta))).unwrap();
    let mut mailbox = bus.subscribe(TICK).on_worker(1).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for nth in 0..200 {
        let priority = Priority::ALL[(simulation.draw() % 4) as usize];
        publisher.at(priority).publish(TICK, &Tick { from: 0, nth }).unwrap();
    }
    simulation.run();
    let mut pulled = Vec::new();
    while let Ok(delivery) = mailbox.try_recv() {
        pulled.push(seen(delivery.event().unwrap(), &delivery.meta()));
    }
    assert_settled(bus);
    // Both drain by the same rule from the same backlog, so even the lanes interleave alike.
    assert_eq!(pulled, log.take());
    assert_eq!(pulled.len(), 200);
}

#[test]
fn what_a_handler_publishes_at_its_priority_comes_after_what_it_handled() {
    watched(|| {
        const EVENTS: u32 = 2_000;
        let bus = Bus::builder().workers(4).build().unwrap();
        let mut reply = bus.publisher().unwrap();
        let _cause = bus
            .subscribe(TICK)
            .on_worker(0)
            .handle(move |tick, _| {
                let effect = Tick { from: 1, nth: tick.nth.to_native() };
                reply.publish(EFFECT, &effect).map(drop)
            })
            .unwrap();
        let logs: Vec<_> = (0..4)
            .map(|worker| {
                let log = Log::new();
                let writer = log.clone();
                let watch = bus.subscribe("clock.*").on_worker(worker);
                let watch =
                    watch.handle(move |_, meta| writer.add((meta.sequence(), meta.topic().to_owned(), meta.id())));
                (watch.unwrap(), log)
            })
            .collect();
        let mut publisher = bus.publisher().unwrap();
        for nth in 0..EVENTS {
            publisher.publish(TICK, &Tick { from: 0, nth }).unwrap();
        }
        bus.flush().unwrap();
        assert_settled(&bus);
        let logs: Vec<_> = logs.iter().map(|(_, log)| log.take()).collect();
        assert!(logs.iter().all(|log| *log == logs[0]), "all workers see causes and effects in one order");
        assert_eq!(logs[0].len(), 2 * EVENTS as usize);
        let mut open = 0_i64;
        for (_, topic, _) in &logs[0] {
            open += if topic == TICK.name() { 1 } else { -1 };
            assert!(open >= 0, "an effect came before its cause");
        }
    });
}

#[test]
fn critical_overtakes_what_was_published_before_it() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    let writer = log.clone();
    let _all = bus.subscribe("*").handle(move |payload, _| writer.add(payload.text().unwrap().to_owned())).unwrap();
    let mut mailbox = bus.subscribe("*").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for (priority, text) in [
        (Priority::Low, "low"),
        (Priority::Normal, "normal"),
        (Priority::High, "high"),
        (Priority::Normal, "normal 2"),
        (Priority::Critical, "critical"),
    ] {
        publisher.at(priority).publish("a.b", Payload::plain_text(text)).unwrap();
    }
    simulation.run();
    let mut pulled = Vec::new();
    while let Ok(delivery) = mailbox.try_recv() {
        pulled.push(delivery.payload().text().unwrap().to_owned());
    }
    assert_settled(bus);
    let expected = ["critical", "high", "normal", "normal 2", "low"];
    assert_eq!(log.take(), expected);
    assert_eq!(pulled, expected, "a mailbox lets the urgent ones overtake too");
}
