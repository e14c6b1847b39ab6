//! What a bus tells about itself in figures.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, DeliveryMode, FullPolicy, Health, Payload, Priority, PublishError, RetryPolicy};

use crate::support::{assert_books, simulate};

const NOTHING: Payload<'static> = Payload::raw(b"");

fn publish(simulation: &Simulation, priority: Priority, count: usize) {
    let mut publisher = simulation.bus().publisher().unwrap();
    for _ in 0..count {
        publisher.at(priority).publish("a", NOTHING).unwrap();
    }
}

#[test]
fn counts_say_what_was_published_delivered_failed_dropped_and_refused() {
    let builder = Bus::builder().workers(1).max_queue_size(16).batch_max(16).payload_bytes_max(64).scheduled_max(1);
    let simulation = simulate(builder.publishers_max(2).when_full(FullPolicy::REJECT.shed_low_above(50)));
    let bus = simulation.bus();
    let before = bus.metrics();
    assert_eq!((before.messages_published, before.success_rate, before.error_rate), (0, 1.0, 0.0));
    let made = bus.subscribe("a").handle(|_, meta| if meta.priority() == Priority::High { Err("no") } else { Ok(()) });
    let made = made.unwrap();
    let paused = bus.subscribe("a").handle(|_, _| {}).unwrap();
    bus.pause(paused.id()).unwrap();
    let _idle = bus.subscribe("idle").mailbox().unwrap();
    publish(&simulation, Priority::Normal, 6);
    publish(&simulation, Priority::High, 2);
    simulation.run();
    bus.publish("nobody", NOTHING).unwrap();

    let mut publisher = bus.publisher().unwrap();
    assert!(matches!(publisher.publish("a", Payload::raw(&[0; 65])), Err(PublishError::TooLarge { .. })));
    assert!(matches!(publisher.publish("a b", NOTHING), Err(PublishError::Topic(_))));
    let hour = Duration::from_secs(3_600);
    publisher.event().not_before(hour).publish("a", NOTHING).unwrap();
    let full = publisher.event().not_before(hour).publish("a", NOTHING);
    assert_eq!(full, Err(PublishError::ScheduleFull { max: 1 }));
    for _ in 0..9 {
        publisher.at(Priority::Low).publish("a", NOTHING).unwrap();
    }
    let shed = publisher.at(Priority::Low).publish("a", NOTHING);
    assert_eq!(shed, Err(PublishError::Shed { depth: 9, watermark: 8 }));
    for _ in 0..16 {
        publisher.publish("a", NOTHING).unwrap();
    }
    assert!(matches!(publisher.publish("a", NOTHING), Err(PublishError::Full { .. })));
    let waited = publisher.publish_deadline("a", NOTHING, Duration::ZERO);
    assert!(matches!(waited, Err(PublishError::Full { .. })), "nothing waits in a simulation: {waited:?}");

    let metrics = bus.metrics();
    assert_eq!(metrics.messages_published, 8 + 1 + 1 + 9 + 16);
    assert_eq!((metrics.messages_delivered, metrics.messages_failed, metrics.messages_dropped), (6, 2, 8));
    assert_eq!((metrics.success_rate, metrics.error_rate), (6.0 / 16.0, 10.0 / 16.0));
    let refused = metrics.refused;
    assert_eq!((refused.full, refused.timed_out, refused.shed, refused.invalid), (2, 0, 1, 2));
    assert_eq!((refused.shutting_down, refused.pool_exhausted, refused.schedule_full), (0, 0, 1));
    assert_eq!(refused.total(), 6);
    assert_eq!((metrics.current_queue_depth, metrics.max_queue_size, metrics.subscriptions), (16, 16, 3));
    let depths: Vec<_> = metrics.lanes.iter().map(|lane| (lane.priority, lane.depth)).collect();
    assert_eq!(depths, [(Priority::Critical, 0), (Priority::High, 0), (Priority::Normal, 16), (Priority::Low, 9)]);
    assert_eq!(metrics.ledger, bus.ledger());
    drop(made);
    assert_books(bus);
}

#[test]
fn publishes_that_waited_in_vain_and_blocks_that_were_missing_are_counted() {
    let bus = Bus::builder().workers(1).blocks([(1 << 20, 1)]).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let big = [0; 5_000];
    publisher.publish("a", Payload::raw(&big)).unwrap();
    let held = mailbox.recv().unwrap();
    let refused = publisher.publish_deadline("a", Payload::raw(&big), Duration::from_millis(2));
    assert!(matches!(refused, Err(PublishError::PoolExhausted { bytes: 5_000 })), "{refused:?}");
    let metrics = bus.metrics();
    assert_eq!((metrics.refused.pool_exhausted, metrics.free_blocks), (1, 0));
    drop(held);
    bus.flush().unwrap();
    assert_eq!(bus.metrics().free_blocks, 1);
    crate::support::shut_down_clean(&bus);
}

#[test]
fn rates_are_events_per_second_of_the_time_between_readings() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
    bus.metrics();
    for _ in 0..10 {
        publish(&simulation, Priority::Normal, 40);
        publish(&simulation, Priority::Low, 10);
        simulation.run();
        simulation.advance(Duration::from_millis(100));
        bus.metrics();
    }
    let metrics = bus.metrics();
    assert!((450.0..=550.0).contains(&metrics.throughput), "{}", metrics.throughput);
    let rates: Vec<_> = metrics.lanes.iter().map(|lane| lane.rate).collect();
    assert!((360.0..=440.0).contains(&rates[2]) && (90.0..=110.0).contains(&rates[3]), "{rates:?}");
    assert_eq!(rates[..2], [0.0, 0.0]);
    simulation.advance(Duration::from_secs(10));
    bus.metrics();
    simulation.advance(Duration::from_secs(10));
    let metrics = bus.metrics();
    assert_eq!(metrics.throughput, 0.0);
    assert!(metrics.throughput_last_minute > 0.0);
    drop(made);
    assert_books(bus);
}

#[test]
fn latencies_are_summed_up_by_lane_worker_and_stage() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    let inline = bus.subscribe("a").on_worker(1).handle(|_, _| {}).unwrap();
    let mut mailbox = bus.subscribe("a").on_worker(1).mailbox().unwrap();
    publish(&simulation, Priority::Critical, 10);
    publish(&simulation, Priority::Low, 30);
    simulation.advance(Duration::from_millis(2));
    simulation.run();
    simulation.advance(Duration::from_millis(1));
    while mailbox.try_recv().is_ok() {}
    let metrics = bus.metrics();
    let latency = &metrics.delivery_latency;
    assert_eq!((latency.queue.count, latency.handler.count, latency.total.count), (40, 40, 80));
    // Histogram cells are at most 0.8 % wide.
    let near = |told: u64, truth: u64| told >= truth && told <= truth + truth / 100;
    assert!(near(latency.queue.p50_ns, 2_000_000) && near(latency.queue.max_ns, 2_000_000), "{:?}", latency.queue);
    assert!(near(latency.total.p95_ns, 3_000_000) && latency.total.max_ns == 3_000_000, "{:?}", latency.total);
    let totals: Vec<_> = metrics.lanes.iter().map(|lane| lane.latency.total.count).collect();
    assert_eq!(totals, [20, 0, 0, 60]);
    let workers: Vec<_> = metrics.workers.iter().map(|worker| worker.total.count).collect();
    assert_eq!(workers, [0, 40]);
    assert_eq!(bus.latency_histogram(Priority::Low).len(), 60);
    assert_eq!(bus.latency_histogram(Priority::High).len(), 0);
    assert!(latency.total.to_string().starts_with("80 recorded: p50 "), "{}", latency.total);
    for lane in &metrics.lanes {
        assert!(lane.wait_max_events > 0, "starvation is bounded by a number");
    }
    drop(inline);
    assert_books(bus);
}

#[test]
fn a_lane_at_four_fifths_of_its_limit_is_degraded() {
    let simulation = simulate(Bus::builder().workers(1).max_queue_size(100).batch_max(100));
    let bus = simulation.bus();
    let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
    assert_eq!(bus.metrics().health(), Health::Healthy);
    publish(&simulation, Priority::Low, 79);
    publish(&simulation, Priority::High, 79);
    assert_eq!(bus.metrics().health(), Health::Healthy);
    publish(&simulation, Priority::Low, 1);
    assert_eq!(bus.metrics().health(), Health::Degraded);
    simulation.run();
    assert_eq!(bus.metrics().health(), Health::Healthy);
    drop(made);
    assert_books(bus);
}

#[test]
fn a_p95_of_a_tenth_of_a_second_is_degraded() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
    publish(&simulation, Priority::Normal, 90);
    simulation.advance(Duration::from_millis(99));
    simulation.run();
    assert_eq!(bus.metrics().health(), Health::Healthy);
    publish(&simulation, Priority::Normal, 10);
    simulation.advance(Duration::from_millis(100));
    simulation.run();
    assert_eq!(bus.metrics().health(), Health::Degraded);
    drop(made);
    assert_books(bus);
}

#[test]
fn memory_is_reserved_at_build_and_grows_with_mailboxes_only() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    let reserved = || bus.metrics().memory_reserved_bytes;
    let built = reserved();
    // Four lanes of 16,384 slots of 256 bytes, and the default blocks.
    assert!(built >= 4 * 16_384 * 256 + (1_024 << 12) + (64 << 16) + (8 << 20), "{built}");
    let inline = bus.subscribe("a").handle(|_, _| {}).unwrap();
    publish(&simulation, Priority::Normal, 1_000);
    simulation.run();
    let names = reserved() - built;
    assert!(names < 32 << 10, "a topic, a source and a subscription take {names} bytes");
    publish(&simulation, Priority::Normal, 1_000);
    simulation.run();
    assert_eq!(reserved(), built + names);
    let before = bus.memory();
    let mailbox = bus.subscribe("a").capacity(1_024).mailbox().unwrap();
    let mailboxes = bus.memory().mailboxes_bytes;
    // Cells of 256 bytes, five indices of four bytes each, and four histograms of 36 KiB.
    let exact = 1_024 * (256 + 5 * 4) + 4 * 36_864;
    assert!((exact..exact + 8_192).contains(&mailboxes), "{mailboxes}, not {exact}");
    assert_eq!(before.mailboxes_bytes, 0);
    assert_eq!(bus.metrics().memory_reserved_bytes, bus.memory().reserved_bytes());
    drop(mailbox);
    assert_eq!(bus.memory(), before);
    drop(inline);
    assert!((built..built + names).contains(&reserved()));
    assert_books(bus);
}

#[test]
fn latencies_of_a_mailbox_outlive_it() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let total = || bus.metrics().delivery_latency.total;
    let mut expected = 0;
    for (round, priority) in [Priority::High, Priority::Normal, Priority::High].into_iter().enumerate() {
        let mut mailbox = bus.subscribe("a").mailbox().unwrap();
        publish(&simulation, priority, 10);
        simulation.run();
        simulation.advance(Duration::from_millis(1 + round as u64));
        while mailbox.try_recv().is_ok() {}
        expected += 10;
        let before = (total(), bus.latency_histogram(priority));
        assert_eq!((before.0.count, before.0.max_ns), (expected, (1 + round as u64) * 1_000_000));
        drop(mailbox);
        assert_eq!((total(), bus.latency_histogram(priority)), before, "nothing is lost or counted twice");
    }
    let lanes = bus.metrics().lanes;
    let counts = lanes.iter().map(|lane| (lane.priority, lane.latency.total.count));
    assert!(counts.eq([(Priority::Critical, 0), (Priority::High, 20), (Priority::Normal, 10), (Priority::Low, 0)]));
    assert_books(bus);
}

#[test]
fn an_acknowledgement_is_measured_from_the_first_attempt_to_the_last() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let retry = RetryPolicy::default().delays(Duration::ZERO, Duration::ZERO);
    let mut mailbox = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).mailbox().unwrap();
    publish(&simulation, Priority::High, 3);
    simulation.run();
    simulation.advance(Duration::from_millis(500));
    mailbox.try_recv().unwrap().ack();
    let twice = mailbox.try_recv().unwrap();
    simulation.advance(Duration::from_millis(20));
    twice.fail("not yet");
    mailbox.try_recv().unwrap().reject("never");
    simulation.advance(Duration::from_millis(10));
    simulation.run();
    mailbox.try_recv().unwrap().ack();
    let before = bus.metrics().delivery_latency.ack;
    drop(mailbox);
    let metrics = bus.metrics();
    assert_eq!(metrics.delivery_latency.ack, before, "it outlives its mailbox");
    assert_eq!(before.count, 2, "what is not acknowledged has no such time");
    assert!((30_000_000..31_000_000).contains(&before.max_ns), "{before}: what waits in the mailbox is not in it");
    let lanes: Vec<_> = metrics.lanes.iter().map(|lane| lane.latency.ack.count).collect();
    assert_eq!(lanes, [0, 2, 0, 0]);
    assert_books(bus);
}
