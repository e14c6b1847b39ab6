//! Settings: their defaults agree, and everything that is wrong is said at once.

use std::time::Duration;

use ringmain::{
    BuildFault, Bus, BusBuilder, DeadLetterFilter, DeliveryMode, EventBusConfig, Metrics, Notice, Payload,
    PublishError, RetryPolicy, create_event_bus, create_event_bus_with_config,
};

use crate::support::{PATIENCE, Seen, assert_books, shut_down_clean, simulate};

/// What can be seen of the settings of a bus from outside.
fn shape(metrics: &Metrics) -> (u64, usize, usize, usize, Vec<u64>) {
    let waits = metrics.lanes.iter().map(|lane| lane.wait_max_events).collect();
    (metrics.max_queue_size, metrics.workers.len(), metrics.memory_reserved_bytes, metrics.free_blocks, waits)
}

#[test]
fn the_default_config_builds_the_bus_that_the_builder_builds() {
    let config = EventBusConfig::default();
    assert_eq!((config.max_queue_size, config.delivery_timeout), (10_000, Duration::from_secs(5)));
    assert_eq!((config.max_retry_attempts, config.dead_letter_queue_size), (3, 5_000));
    assert_eq!(config.metrics_interval, Duration::from_secs(5));
    assert_eq!(
        (config.slow_handler_threshold, config.handler_timeout),
        (Duration::from_millis(50), Duration::from_secs(30))
    );
    let buses = [
        Bus::builder().build().unwrap(),
        BusBuilder::default().build().unwrap(),
        create_event_bus().unwrap(),
        create_event_bus_with_config(config).unwrap(),
        BusBuilder::from(EventBusConfig::default()).build().unwrap(),
    ];
    let shapes: Vec<_> = buses.iter().map(|bus| shape(&bus.metrics())).collect();
    assert!(shapes.iter().all(|one| *one == shapes[0]), "{shapes:?}");
    assert_eq!(shapes[0].0, 10_000);
    assert_eq!(shapes[0].3, 1_024 + 64 + 8);
    for bus in &buses {
        shut_down_clean(bus);
    }
}

#[test]
fn each_setting_of_the_config_takes_effect() {
    // Long enough for a subscription on a busy machine.
    const LIMIT: Duration = Duration::from_millis(300);
    let slow = Seen::default();
    let config = EventBusConfig {
        max_queue_size: 1_024,
        delivery_timeout: LIMIT,
        slow_handler_threshold: Duration::ZERO,
        max_retry_attempts: 1,
        dead_letter_queue_size: 2,
        ..EventBusConfig::default()
    };
    let builder = BusBuilder::from(config).workers(1).observer({
        let slow = slow.clone();
        move |notice: &Notice<'_>| {
            if let Notice::SlowHandler { name, .. } = notice {
                slow.push(name.to_string());
            }
        }
    });
    let bus = builder.build().unwrap();
    let made = bus.subscribe("a").named("any").handle(|_, _| {}).unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(slow.take(), ["any"]);
    assert_eq!(bus.metrics().max_queue_size, 1_024);
    let mut publisher = bus.publisher().unwrap();
    let failing = bus.subscribe("c").mode(DeliveryMode::reliable()).handle(|_, _| Err::<(), _>("never")).unwrap();
    for _ in 0..3 {
        publisher.publish("c", Payload::raw(b"")).unwrap();
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    let attempts: Vec<_> = letters.iter().map(|letter| letter.attempts()).collect();
    assert_eq!(
        (attempts, bus.dead_letters().counts().discarded),
        (vec![1, 1], 1),
        "one attempt each, two letters kept"
    );
    drop(failing);
    let mailbox = bus.subscribe("b").mailbox().unwrap();
    let refused = loop {
        if let Err(error) = publisher.publish("b", Payload::raw(b"")) {
            break error;
        }
    };
    assert!(matches!(refused, PublishError::TimedOut { after, .. } if after == LIMIT), "{refused:?}");
    let flushed = bus.flush().unwrap_err();
    assert!(matches!(flushed, ringmain::FlushError::TimedOut { after, .. } if after == LIMIT));
    drop((mailbox, made));
    bus.shutdown_deadline(PATIENCE).unwrap();
    assert_books(&bus);
}

#[test]
fn every_fault_is_reported_at_once_with_its_text() {
    let builder = Bus::builder()
        .name("")
        .workers(17)
        .publishers_max(64)
        .slot_bytes(100)
        .max_queue_size(0)
        .batch_max(0)
        .turn_max(0)
        .coalesce_max(Duration::from_secs(1))
        .critical_burst_max(0)
        .mailbox_capacity(0)
        .types_max(0)
        .sources_max(0)
        .scheduled_max(usize::MAX)
        .payload_bytes_max(0)
        .retry(RetryPolicy::default().attempts_max(101).releases_max(3_901))
        .blocks([(1, 0)]);
    let error = builder.build().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the bus cannot be built: "), "{text}");
    for said in [
        "workers is 17; it goes from 1 to 16",
        "publishers_max is 64; it goes from 1 to 63",
        "slot_bytes is 100; it goes from 128 to 65536",
        "slot_bytes is 100; it is a multiple of 64",
        "max_queue_size is 0; it goes from 1 to 67108864",
        "batch_max is 0; it goes from 1 to ",
        "turn_max is 0; it goes from 1 to 1048576",
        "coalesce_max in nanoseconds is 1000000000; it goes from 0 to 1000000",
        "critical_burst_max is 0; it goes from 1 to 1048576",
        "mailbox_capacity is 0; it goes from 1 to 16777216",
        "types_max is 0; it goes from 1 to 1048576",
        "sources_max is 0; it goes from 1 to 1048576",
        "scheduled_max is 18446744073709551615; it goes from 0 to 1048576",
        "attempts_max is 101; it goes from 1 to 100",
        "releases_max is 3901; it goes from 0 to 3900",
        "payload_bytes_max is 0; it goes from 1 to 1073741824",
        "bytes of a block is 1; it goes from 64 to 2147483648",
        "number of blocks is 0; it goes from 1 to 16777216",
        "the name has 0 bytes; it has from 1 to 100, none of them zero",
    ] {
        assert!(text.contains(said), "{said:?} in {text:?}");
    }
    assert_eq!(error.faults().len(), 19, "{text}");
}

#[test]
fn settings_that_contradict_each_other_are_named_both() {
    let contradiction = |builder: BusBuilder| match builder.build().unwrap_err().faults() {
        [BuildFault::Contradiction { first, second, .. }] => (*first, *second),
        other => panic!("{other:?}"),
    };
    assert_eq!(contradiction(Bus::builder().blocks([])), ("payload_bytes_max", "blocks"));
    assert_eq!(contradiction(Bus::builder().payload_bytes_max(1 << 21)), ("payload_bytes_max", "blocks"));
    let both = Bus::builder().single_publisher().publishers_max(2);
    assert_eq!(contradiction(both), ("single_publisher", "publishers_max"));
    let batches = Bus::builder().max_queue_size(100).batch_max(101).build().unwrap_err();
    assert_eq!(
        batches.faults(),
        [BuildFault::OutOfRange { setting: "batch_max", value: 101, min: 1, max: 100 }],
        "a batch has to fit its lane"
    );
    for name in ["x".repeat(101), "a\0b".to_owned()] {
        let bytes = name.len();
        assert_eq!(Bus::builder().name(name).build().unwrap_err().faults(), [BuildFault::Name { bytes }]);
    }
}

#[test]
fn limits_themselves_are_allowed() {
    let least = Bus::builder().workers(1).publishers_max(1).slot_bytes(128).max_queue_size(1).batch_max(1).turn_max(1);
    let least = least.critical_burst_max(1).mailbox_capacity(1).types_max(1).sources_max(1).scheduled_max(0);
    let simulation = simulate(least.payload_bytes_max(1).blocks([]).name("x"));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    assert_eq!(bus.publisher().map(drop), Err(PublishError::NoPublisher { max: 1 }));
    for byte in 0..10 {
        publisher.publish("a", Payload::raw(&[byte])).unwrap();
        simulation.run();
        assert_eq!(mailbox.try_recv().unwrap().payload().bytes(), [byte]);
    }
    assert_eq!(
        publisher.event().not_before(PATIENCE).publish("a", Payload::raw(b"")),
        Err(PublishError::NoBlock { bytes: 16, max: 0 }),
        "without blocks nothing can wait for its time"
    );
    assert_books(bus);
}

#[test]
fn a_single_publisher_is_the_only_one_and_schedules_nothing() {
    let simulation = simulate(Bus::builder().workers(1).single_publisher());
    let bus = simulation.bus();
    let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    assert_eq!(bus.publisher().map(drop), Err(PublishError::NoPublisher { max: 1 }));
    assert_eq!(publisher.try_clone().map(drop), Err(PublishError::NoPublisher { max: 1 }));
    let scheduled = publisher.event().not_before(PATIENCE).publish("a", Payload::raw(b""));
    assert_eq!(scheduled, Err(PublishError::ScheduleFull { max: 0 }));
    for _ in 0..100 {
        publisher.publish("a", Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!(made.record().delivery_count, 100);
    drop(publisher);
    bus.publisher().unwrap();
    assert_books(bus);
}

#[test]
fn a_publisher_lent_by_the_bus_is_given_back() {
    let simulation = simulate(Bus::builder().workers(1).publishers_max(1));
    let bus = simulation.bus();
    bus.publish("a", Payload::raw(b"")).unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    let mut own = bus.publisher().unwrap();
    own.publish("a", Payload::raw(b"")).unwrap();
    assert_eq!(bus.publish("a", Payload::raw(b"")), Err(PublishError::NoPublisher { max: 1 }));
    drop(own);
    bus.publish("a", Payload::raw(b"")).unwrap();
    assert_books(bus);
}
