//! The reserved bytes that a bus reports are those that it holds: counted by the allocator.

use ringmain::{Bus, BusBuilder, DeliveryMode, Key, Mailbox, Overflow, Pattern, Payload, Subscription};

use crate::books::assert_settled;
use crate::{alone, assert_within_a_tenth, live};

/// What keeps subscriptions alive.
type Kept = (Vec<Subscription>, Vec<Mailbox<Pattern>>);

fn subscribe(bus: &Bus, of_each_kind: usize) -> Kept {
    let mut kept = Kept::default();
    for _ in 0..of_each_kind {
        kept.0.push(bus.subscribe("metered.*").handle(|_, _| ()).unwrap());
        kept.0.push(bus.subscribe("metered.*").handle_on("metered", |_, _| ()).unwrap());
        kept.1.push(bus.subscribe("metered.*").overflow(Overflow::DropNewest).mailbox().unwrap());
        let latest = bus.subscribe("metered.*").mode(DeliveryMode::LatestOnly).overflow(Overflow::DropNewest);
        kept.1.push(latest.latest_by(Key::Topic).mailbox().unwrap());
    }
    kept
}

/// Builds a bus, lets it meet `topics`, subscribes, and compares what it reports with what was taken meanwhile.
fn compare(what: &str, builder: BusBuilder, topics: usize, of_each_kind: usize) {
    let before = live();
    let bus = builder.build().unwrap();
    assert_within_a_tenth(&format!("{what}, built"), bus.memory().reserved_bytes() as u64, live() - before);
    let kept = subscribe(&bus, of_each_kind);
    let mut publisher = bus.publisher().unwrap();
    for nth in 0..topics {
        publisher.publish(format!("metered.topic-{nth}").as_str(), Payload::raw(b"")).unwrap();
    }
    // It keeps the names that it has met, and they are its own.
    drop(publisher);
    let found = live() - before;
    println!("{}", bus.memory());
    assert_within_a_tenth(&format!("{what}, in use"), bus.memory().reserved_bytes() as u64, found);
    assert_eq!(bus.memory().reserved_bytes(), bus.metrics().memory_reserved_bytes);
    drop(kept);
    bus.shutdown().unwrap();
    assert_settled(&bus);
    drop(bus);
    // Threads that are on their way out keep a little.
    let left = live().abs_diff(before);
    assert!(left < 64 << 10, "{what}: {left} bytes are left after the bus");
}

/// Of what there is, a little.
fn small() -> BusBuilder {
    let small = Bus::builder().workers(1).max_queue_size(64).slot_bytes(128).publishers_max(2).mailbox_capacity(16);
    small.payload_bytes_max(64).blocks([]).types_max(64).sources_max(64).scheduled_max(8)
}

#[test]
fn reported_bytes_are_those_that_are_held() {
    alone("reserved::reported_bytes_are_those_that_are_held", || {
        // What a process makes once.
        small().build().unwrap().shutdown().unwrap();
        compare("default", Bus::builder(), 1, 4);
        compare("small", small(), 1, 8);
        compare("big slots, many mailboxes", Bus::builder().slot_bytes(4_096).max_queue_size(2_000), 1, 32);
        compare("many topics", small().types_max(30_000).mailbox_capacity(64).workers(2), 20_000, 1);
    });
}

#[test]
fn dead_letters_are_in_the_memory_of_their_bus() {
    alone("reserved::dead_letters_are_in_the_memory_of_their_bus", || {
        let bus = Bus::builder().workers(1).mailbox_capacity(16).build().unwrap();
        let mode = DeliveryMode::reliable();
        let mailbox = bus.subscribe("metered").mode(mode).overflow(Overflow::DropNewest).mailbox().unwrap();
        let (before, reserved) = (live(), bus.memory().reserved_bytes());
        for _ in 0..2_016 {
            bus.publish("metered", Payload::raw(&[7; 1_000])).unwrap();
        }
        while bus.dead_letters().len() < 2_000 {
            std::thread::yield_now();
        }
        let grown = bus.memory().reserved_bytes() - reserved;
        assert_within_a_tenth("dead letters", grown as u64, live() - before);
        drop(mailbox);
        bus.shutdown().unwrap();
        assert_settled(&bus);
    });
}

#[test]
fn a_default_bus_reserves_less_than_40_mb() {
    for workers in 1..=4 {
        let bus = Bus::builder().workers(workers).build().unwrap();
        let memory = bus.memory();
        assert!(memory.reserved_bytes() < 40_000_000, "{workers} workers: {memory:?}");
        bus.shutdown().unwrap();
        assert_settled(&bus);
    }
}
