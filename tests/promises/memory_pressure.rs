//! While the reserved memory is nearly full Low events are refused, and nothing else is; that it begins and ends is told.

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, DeliveryMode, FullPolicy, Health, Key, Payload, Priority, PublishError};

use super::support::{Log, assert_books, assert_settled, observed};

const BODY: Payload<'static> = Payload::plain_text("x");

/// Lanes of ten events, and ten large blocks.
fn watchful(share: f64) -> BusBuilder {
    let builder = Bus::builder().workers(1).max_queue_size(10).batch_max(10).when_full(FullPolicy::REJECT);
    builder.payload_bytes_max(1_000).blocks([(1_000, 10)]).memory_pressure(share)
}

fn simulated(builder: BusBuilder) -> (Simulation, Log<String>) {
    let (builder, notices) = observed(builder);
    (Simulation::new(builder, 1).unwrap(), notices)
}

fn pressed(fill_percent: u8, share_percent: u8) -> PublishError {
    PublishError::MemoryPressure { fill_percent, share_percent }
}

#[test]
fn low_is_refused_while_a_lane_is_filled_to_the_share_and_nothing_else_is() {
    for full in [Priority::Critical, Priority::High, Priority::Normal] {
        let (simulation, notices) = simulated(watchful(0.8));
        let bus = simulation.bus();
        let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.at(Priority::Low).publish("a", BODY).unwrap();
        for _ in 0..8 {
            assert_eq!((bus.metrics().memory_pressure, notices.len()), (false, 0));
            publisher.at(full).publish("a", BODY).unwrap();
        }
        let metrics = bus.metrics();
        assert_eq!((metrics.memory_pressure, metrics.memory_pressures, metrics.memory_fill), (true, 1, 0.8));
        assert_eq!(metrics.health(), Health::Degraded);
        let low = |publisher: &mut ringmain::Publisher| publisher.at(Priority::Low).publish("a", BODY);
        let refused = low(&mut publisher).unwrap_err();
        assert_eq!(refused, pressed(80, 80));
        assert!(refused.is_temporary());
        assert_eq!(
            refused.to_string(),
            "a low event was refused: the reserved memory is 80 % full, the limit for low is 80 %; try later, or raise the priority"
        );
        assert_eq!(publisher.at(Priority::Low).try_publish("b", BODY), Err(pressed(80, 80)));
        let mut batch = publisher.batch(Priority::Low);
        batch.add("a", BODY).unwrap();
        assert_eq!(batch.publish(), Err(pressed(80, 80)));
        for priority in [Priority::Critical, Priority::High, Priority::Normal] {
            publisher.at(priority).publish("a", BODY).expect("nobody else is refused");
        }
        let refused = bus.metrics().refused;
        assert_eq!((refused.memory_pressure, refused.total()), (3, 3));
        simulation.run();
        low(&mut publisher).expect("there is room again");
        assert_eq!(bus.metrics().health(), Health::Healthy);
        let notices = notices.take();
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert_eq!(notices[0], "MemoryPressure { begins: true, fill: 0.8 }");
        assert_eq!(notices[1], "MemoryPressure { begins: false, fill: 0.0 }");
        assert_settled(bus);
    }
}

#[test]
fn whoever_fills_a_lane_notices_without_being_asked() {
    // Shares below and above the half, at which publishers look in any case.
    for (share, events) in [(0.3, 3), (0.5, 5), (0.75, 8), (0.9, 9), (1.0, 10)] {
        for enveloped in [false, true] {
            let (simulation, notices) = simulated(watchful(share));
            let bus = simulation.bus();
            let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
            let mut publisher = bus.publisher().unwrap();
            let mut publish = || match enveloped {
                false => publisher.publish("a", BODY),
                true => publisher.event().metadata("user", "ada").publish("a", BODY),
            };
            for _ in 0..events {
                publish().unwrap();
                assert_eq!(notices.len(), 0, "{share}, {enveloped}");
            }
            // The next look is the next event's.
            assert_eq!(publish().is_ok(), events < 10);
            assert_eq!(notices.len(), 1, "{share}, {enveloped}");
            let low = publisher.at(Priority::Low).publish("a", BODY);
            assert!(matches!(low, Err(PublishError::MemoryPressure { .. })), "{low:?}");
            // However few events that are.
            assert_eq!(bus.metrics().health(), Health::Degraded, "{share}");
            assert_settled(bus);
        }
    }
}

#[test]
fn whoever_takes_the_block_that_fills_the_pool_notices() {
    let (simulation, notices) = simulated(watchful(0.3).max_queue_size(100));
    let bus = simulation.bus();
    let _reader = bus.subscribe("large").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for taken in 1..=3 {
        assert_eq!(notices.len(), 0, "{taken}");
        publisher.publish("large", Payload::raw(&[7; 900])).unwrap();
    }
    assert_eq!(notices.len(), 1);
    assert_settled(bus);
}

#[test]
fn the_pool_counts_and_the_end_comes_an_eighth_below_the_begin() {
    let (simulation, notices) = simulated(watchful(0.9));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("large").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for taken in 1..=9 {
        assert_eq!(notices.len(), 0, "{taken}");
        publisher.publish("large", Payload::raw(&[7; 900])).unwrap();
        simulation.run();
    }
    assert_eq!(notices.len(), 1);
    assert_eq!(publisher.at(Priority::Low).publish("a", BODY), Err(pressed(90, 90)));
    drop(mailbox.try_recv().unwrap());
    assert_eq!(publisher.at(Priority::Low).publish("a", BODY), Err(pressed(80, 90)), "it ends below seven eighths");
    drop(mailbox.try_recv().unwrap());
    publisher.at(Priority::Low).publish("a", BODY).unwrap();
    assert_eq!(notices.len(), 2);
    assert!(!bus.metrics().memory_pressure);
    while mailbox.try_recv().is_ok() {}
    assert_settled(bus);
}

#[test]
fn blocks_that_only_the_largest_events_may_have_are_theirs_to_fill() {
    let (simulation, notices) = simulated(watchful(0.9).blocks([(400, 100), (1_000, 2)]));
    let bus = simulation.bus();
    let _mailbox = bus.subscribe("large").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..2 {
        assert_eq!(notices.len(), 0);
        publisher.publish("large", Payload::raw(&[7; 900])).unwrap();
        simulation.run();
    }
    assert_eq!(bus.metrics().memory_fill, 1.0, "the next of them finds none");
    assert_eq!(notices.len(), 1);
    assert_books(bus);
}

#[test]
fn an_idle_worker_ends_it_although_nobody_asks() {
    let (simulation, notices) = simulated(watchful(0.5));
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish_batch("a", [BODY; 5]).unwrap();
    assert_eq!(notices.len(), 1, "a batch looks as well");
    simulation.run();
    assert_eq!(notices.len(), 2);
    assert_settled(bus);
}

#[test]
fn a_publish_that_would_wait_for_room_does_not_wait_for_memory() {
    super::support::watched(|| {
        let builder = watchful(0.5).when_full(FullPolicy::wait(std::time::Duration::from_secs(3_600)));
        let bus = builder.build().unwrap();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let _reader =
            bus.subscribe("a").handle(move |_: Payload<'_>, _: &ringmain::Meta<'_>| gone.recv().unwrap_or(())).unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.publish_batch("a", [BODY; 5]).unwrap();
        publisher.publish("a", BODY).unwrap();
        let refused = publisher.at(Priority::Low).publish("a", BODY);
        assert!(matches!(refused, Err(PublishError::MemoryPressure { share_percent: 50, .. })), "{refused:?}");
        drop(go);
        assert_settled(&bus);
    });
}

#[test]
fn without_a_share_there_is_no_pressure_and_a_share_has_limits() {
    let (builder, notices) = observed(Bus::builder().workers(1).max_queue_size(4).batch_max(4));
    let simulation = Simulation::new(builder, 1).unwrap();
    let _reader = simulation.bus().subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    publisher.publish_batch("a", [BODY; 4]).unwrap();
    publisher.at(Priority::Low).publish("a", BODY).unwrap();
    assert_eq!((simulation.bus().metrics().memory_fill, notices.len()), (1.0, 0));
    for share in [0.0, -1.0, 1.02, f64::NAN, f64::INFINITY] {
        let refused = Bus::builder().memory_pressure(share).build().unwrap_err().to_string();
        assert!(refused.contains("memory_pressure in percent is"), "{refused}");
    }
    assert_settled(simulation.bus());
}

#[test]
fn superseded_values_hold_no_memory_and_the_newest_stay_under_pressure() {
    let builder = Bus::builder().workers(1).blocks([(4_096, 8)]).payload_bytes_max(4_096).memory_pressure(0.5);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("price.*").mode(DeliveryMode::LatestOnly).latest_by(Key::Topic);
    let mut prices = wish.mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut publish = |topic: &str, nth: u8| {
        publisher.publish(topic, Payload::raw(&[nth; 3_000])).unwrap();
        simulation.run();
    };
    for nth in 0..50 {
        publish("price.tea", nth);
        publish("price.milk", nth);
    }
    let metrics = bus.metrics();
    assert_eq!((metrics.free_blocks, metrics.memory_pressure), (6, false), "a block a key");
    assert_eq!(metrics.ledger.subscriptions.dropped.superseded, 98);
    publish("price.salt", 50);
    publish("price.rice", 50);
    assert!(bus.metrics().memory_pressure);
    publish("price.tea", 51);
    let mut seen = Vec::new();
    while let Ok(price) = prices.try_recv() {
        seen.push((price.meta().topic().to_owned(), price.payload().bytes()[0]));
    }
    seen.sort();
    let newest = [("milk", 49), ("rice", 50), ("salt", 50), ("tea", 51)];
    assert_eq!(seen, newest.map(|(key, nth)| (format!("price.{key}"), nth)));
    let metrics = bus.metrics();
    assert_eq!((metrics.free_blocks, metrics.memory_pressure), (8, false));
    assert_settled(bus);
}
