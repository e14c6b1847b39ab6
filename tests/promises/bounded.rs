//! Lanes, payloads, pool, schedule and batches have limits, and each refuses with its numbers, its reason and its count.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, EventBusConfig, EventId, FullPolicy, Overflow, Payload, Priority, PublishError, Publisher,
    Refused, Topic,
};
use rkyv::rancor::Fallible;
use rkyv::ser::Writer;
use rkyv::{Archive, Place, Serialize};

use super::support::{assert_balanced, assert_settled, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

fn lanes_of(limit: usize) -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(limit).batch_max(limit)
}

/// Only these refusals were counted.
fn assert_refused(bus: &Bus, count: impl FnOnce(&mut Refused)) {
    let mut expected = Refused::default();
    count(&mut expected);
    assert_eq!(bus.metrics().refused, expected);
}

#[test]
fn full_lane_refuses_at_once_with_its_numbers() {
    type Verb = fn(&mut Publisher) -> Result<EventId, PublishError>;
    let publish: Verb = |publisher| publisher.publish("a", BODY);
    let try_publish: Verb = |publisher| publisher.try_publish("a", BODY);
    for (policy, verb) in [(FullPolicy::REJECT, publish), (FullPolicy::wait(Duration::from_secs(9)), try_publish)] {
        let simulation = Simulation::new(lanes_of(4).when_full(policy), 1).unwrap();
        let bus = simulation.bus();
        let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..4 {
            verb(&mut publisher).unwrap();
        }
        let refused = verb(&mut publisher).unwrap_err();
        let full = PublishError::Full { priority: Priority::Normal, depth: 4, limit: 4, gated_by: Some(0) };
        assert_eq!(refused, full);
        assert!(refused.is_temporary());
        let text = refused.to_string();
        assert!(text.contains("normal lane holds 4 events, the limit is 4, and worker 0"), "{text}");
        publisher.at(Priority::High).publish("a", BODY).expect("other lanes have room");
        assert_refused(bus, |refused| refused.full = 1);
        simulation.run();
        verb(&mut publisher).expect("there is room again");
        assert_settled(bus);
    }
}

/// A bus of one worker whose handler waits for the sender at each event, and says when it is in there.
fn held(builder: BusBuilder) -> (Bus, ringmain::Subscription, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let bus = builder.build().unwrap();
    let (go, gone) = mpsc::channel();
    let (inside, entered) = mpsc::channel();
    let handler = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
        // Both ends are gone when the test is over.
        let _ = inside.send(());
        let _ = gone.recv();
    };
    let made = bus.subscribe("a").handle(handler).unwrap();
    (bus, made, go, entered)
}

#[test]
fn full_lane_refuses_without_blocking_even_a_loan_and_a_batch() {
    watched(|| {
        let (bus, _handler, go, entered) = held(lanes_of(3).when_full(FullPolicy::REJECT));
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..3 {
            publisher.publish("a", BODY).unwrap();
        }
        entered.recv().unwrap();
        let full = |result: Result<(), PublishError>| {
            assert!(matches!(result, Err(PublishError::Full { depth: 3, limit: 3, .. })), "{result:?}");
        };
        full(publisher.publish("a", BODY).map(drop));
        full(publisher.loan(500).unwrap().publish(Priority::Normal, "a").map(drop));
        full(publisher.publish_batch("a", [BODY, BODY]).map(drop));
        assert_refused(&bus, |refused| refused.full = 3);
        drop(go);
        assert_settled(&bus);
    });
}

#[test]
fn full_lane_makes_publishers_wait_and_time_out_under_wait() {
    watched(|| {
        let limit = Duration::from_millis(30);
        let (bus, _handler, go, entered) = held(lanes_of(2).when_full(FullPolicy::wait(limit)));
        let mut publisher = bus.publisher().unwrap();
        publisher.publish("a", BODY).unwrap();
        publisher.publish("a", BODY).unwrap();
        entered.recv().unwrap();
        let begun = Instant::now();
        let refused = publisher.publish("a", BODY).unwrap_err();
        assert!(begun.elapsed() >= limit, "it gave up after {:?}", begun.elapsed());
        assert_eq!(refused, PublishError::TimedOut { priority: Priority::Normal, after: limit, gated_by: Some(0) });
        assert!(refused.to_string().contains("look at the handlers of worker 0"), "{refused}");
        assert_refused(&bus, |refused| refused.timed_out = 1);
        // With more patience it gets in as soon as the handler lets go.
        let waiting = std::thread::spawn(move || publisher.publish_deadline("a", BODY, Duration::from_secs(30)));
        go.send(()).unwrap();
        drop(go);
        waiting.join().unwrap().unwrap();
        assert_settled(&bus);
        assert_eq!(bus.ledger().accepted, 3);
    });
}

#[test]
fn low_is_shed_above_the_watermark_and_nothing_else_is() {
    let builder = lanes_of(10).when_full(FullPolicy::REJECT.shed_low_above(50));
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for priority in [Priority::Critical, Priority::High, Priority::Normal] {
        for _ in 0..10 {
            publisher.at(priority).publish("a", BODY).unwrap();
        }
    }
    // Depths 0 to 5 are at or below the watermark.
    for _ in 0..6 {
        publisher.at(Priority::Low).publish("a", BODY).unwrap();
    }
    let shed = PublishError::Shed { depth: 6, watermark: 5 };
    assert_eq!(publisher.at(Priority::Low).publish("a", BODY), Err(shed));
    assert!(shed.to_string().contains("holds 6 events, the watermark is 5"), "{shed}");
    assert!(shed.is_temporary(), "the text says to try later, so a caller's retry must think so too");
    let mut batch = publisher.batch(Priority::Low);
    batch.add("a", BODY).unwrap();
    assert_eq!(batch.publish(), Err(shed), "a batch is shed like a single event");
    assert_refused(bus, |refused| refused.shed = 2);
    simulation.run();
    publisher.at(Priority::Low).publish("a", BODY).unwrap();
    assert_settled(bus);
}

#[test]
fn payloads_are_accepted_to_the_last_byte_of_the_limit_and_no_further() {
    // 256-byte slots have room for 192 bytes; what is longer goes through a block.
    for limit in [100, 191, 192, 193, 4_096, 10_000] {
        let builder = lanes_of(16).when_full(FullPolicy::REJECT).payload_bytes_max(limit).blocks([(10_000, 4)]);
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let mut mailbox = bus.subscribe("a").mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let body: Vec<u8> = (0..=limit).map(|byte| byte as u8).collect();
        for bytes in [0, 1, limit - 1, limit] {
            publisher.publish("a", Payload::raw(&body[..bytes])).unwrap();
            let mut loan = publisher.loan(bytes).unwrap();
            loan.bytes_mut().copy_from_slice(&body[..bytes]);
            loan.publish(Priority::Normal, "a").unwrap();
            simulation.run();
            for _ in 0..2 {
                assert_eq!(mailbox.try_recv().unwrap().payload(), Payload::raw(&body[..bytes]));
            }
        }
        let too_large = PublishError::TooLarge { bytes: limit + 1, max: limit };
        assert_eq!(publisher.publish("a", Payload::raw(&body)), Err(too_large));
        assert_eq!(publisher.loan(limit + 1).map(drop), Err(too_large));
        let mut batch = publisher.batch(Priority::Normal);
        assert_eq!(batch.add("a", Payload::raw(&body)), Err(too_large));
        drop(batch);
        let text = too_large.to_string();
        assert!(
            text.contains(&format!("{} bytes, the limit is {limit}; raise payload_bytes_max", limit + 1)),
            "{text}"
        );
        assert_refused(bus, |refused| refused.invalid = 3);
        assert_eq!(bus.metrics().free_blocks, 4);
        assert_settled(bus);
    }
}

/// Says that it is longer than any frame can be, without the memory to prove it.
struct Endless;

impl Archive for Endless {
    type Archived = ();
    type Resolver = ();
    fn resolve(&self, (): (), _: Place<()>) {}
}

impl<S: Fallible + Writer + ?Sized> Serialize<S> for Endless {
    fn serialize(&self, serializer: &mut S) -> Result<(), S::Error> {
        let piece = vec![0; 1 << 20];
        (0..4_097).try_for_each(|_| serializer.write(&piece))
    }
}

#[test]
fn lengths_near_and_beyond_32_bits_are_refused_before_anything_is_claimed() {
    const ENDLESS: Topic<Endless> = Topic::new("a");
    let simulation = Simulation::new(lanes_of(4).when_full(FullPolicy::REJECT), 1).unwrap();
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let max = 1 << 20;
    let lengths = [max + 1, u32::MAX as usize - 1, u32::MAX as usize, u32::MAX as usize + 1, usize::MAX];
    for bytes in lengths {
        assert_eq!(publisher.loan(bytes).map(drop), Err(PublishError::TooLarge { bytes, max }));
    }
    let bytes = 4_097 << 20;
    assert_eq!(publisher.publish(ENDLESS, &Endless), Err(PublishError::TooLarge { bytes, max }));
    assert_refused(bus, |refused| refused.invalid = lengths.len() as u64 + 1);
    assert_eq!(bus.ledger().claimed, 0);
    assert_eq!(bus.metrics().free_blocks, 1_024 + 64 + 8);
    publisher.publish("a", BODY).unwrap();
    assert_settled(bus);
}

#[test]
fn an_exhausted_pool_refuses_what_needs_a_block_and_nothing_else() {
    let builder = lanes_of(16).when_full(FullPolicy::REJECT).payload_bytes_max(1_000).blocks([(1_000, 2)]);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let large = Payload::raw(&[7; 900]);
    publisher.publish("a", large).unwrap();
    publisher.publish("a", large).unwrap();
    let exhausted = PublishError::PoolExhausted { bytes: 900 };
    assert_eq!(publisher.publish("a", large), Err(exhausted));
    assert_eq!(publisher.loan(900).map(drop), Err(exhausted));
    assert_eq!(publisher.publish_batch("a", [BODY, large]), Err(exhausted));
    assert!(exhausted.is_temporary());
    assert!(exhausted.to_string().contains("no free block for a payload of 900 bytes"), "{exhausted}");
    publisher.publish("a", BODY).expect("what fits a slot needs no block");
    assert_refused(bus, |refused| refused.pool_exhausted = 3);
    assert_eq!(bus.metrics().free_blocks, 0);
    simulation.run();
    assert_eq!(publisher.publish("a", large), Err(exhausted), "the mailbox holds the blocks");
    drop(mailbox.try_recv().unwrap());
    publisher.publish("a", large).expect("a settled delivery gives its block back");
    simulation.run();
    while mailbox.try_recv().is_ok() {}
    assert_settled(bus);
    assert_eq!(bus.metrics().free_blocks, 2);
}

#[test]
fn publishers_wait_for_a_block_under_wait() {
    watched(|| {
        let builder = lanes_of(16).payload_bytes_max(1_000).blocks([(1_000, 1)]);
        let bus = builder.when_full(FullPolicy::wait(Duration::from_secs(30))).build().unwrap();
        let mut mailbox = bus.subscribe("a").overflow(Overflow::DropNewest).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.publish("a", Payload::raw(&[1; 900])).unwrap();
        let first = mailbox.recv_deadline(Duration::from_secs(30)).unwrap();
        let (ready, waiting) = mpsc::channel();
        let publish = std::thread::spawn(move || {
            let refused = publisher.try_publish("a", Payload::raw(&[2; 900]));
            ready.send(refused).unwrap();
            publisher.publish("a", Payload::raw(&[2; 900])).unwrap();
        });
        assert_eq!(waiting.recv().unwrap(), Err(PublishError::PoolExhausted { bytes: 900 }));
        drop(first);
        publish.join().unwrap();
        assert_eq!(mailbox.recv_deadline(Duration::from_secs(30)).unwrap().payload().bytes(), [2; 900]);
        assert_settled(&bus);
        assert_refused(&bus, |refused| refused.pool_exhausted = 1);
    });
}

#[test]
fn a_full_schedule_refuses_and_says_so() {
    let simulation = Simulation::new(lanes_of(16).scheduled_max(2), 1).unwrap();
    let bus = simulation.bus();
    let free = bus.metrics().free_blocks;
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut later = || publisher.event().not_before(Duration::from_secs(1)).publish("a", BODY);
    later().unwrap();
    later().unwrap();
    let refused = later().unwrap_err();
    assert_eq!(refused, PublishError::ScheduleFull { max: 2 });
    assert!(refused.is_temporary());
    assert_eq!(refused.to_string(), "2 events wait for their time already; raise scheduled_max");
    assert_refused(bus, |refused| refused.schedule_full = 1);
    assert_balanced(bus);
    assert_eq!(bus.ledger().scheduled, 2);
    simulation.advance(Duration::from_secs(1));
    simulation.run();
    later().expect("there is room again");
    simulation.advance(Duration::from_secs(1));
    assert_settled(bus);
    assert_eq!(bus.metrics().free_blocks, free);
}

#[test]
fn a_batch_that_is_too_long_or_mixed_or_scheduled_is_refused_and_counted() {
    let simulation = Simulation::new(lanes_of(16).batch_max(3), 1).unwrap();
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let too_long = PublishError::BatchTooLong { events: 4, max: 3 };
    assert_eq!(publisher.publish_batch("a", [BODY; 4]), Err(too_long));
    assert!(too_long.to_string().contains("a batch of 4 events, the limit is 3"), "{too_long}");
    let mut batch = publisher.batch(Priority::High);
    let mixed = PublishError::MixedPriority { batch: Priority::High, event: Priority::Low };
    assert_eq!(batch.add_with("a", BODY, |event| event.priority(Priority::Low)), Err(mixed));
    let later = batch.add_with("a", BODY, |event| event.not_before(Duration::from_secs(1)));
    assert_eq!(later, Err(PublishError::ScheduledInBatch));
    assert!(batch.is_empty());
    batch.add("a", BODY).unwrap();
    batch.publish().expect("what was refused left the batch as it was");
    assert_refused(bus, |refused| refused.invalid = 3);
    assert_settled(bus);
    assert_eq!(bus.ledger().accepted, 1);
}

#[test]
fn a_small_lane_needs_no_second_setting() {
    let config = EventBusConfig { max_queue_size: 5, ..EventBusConfig::default() };
    let simulation = Simulation::new(config.into(), 1).unwrap();
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish_batch("a", [BODY; 5]).unwrap();
    let too_long = PublishError::BatchTooLong { events: 6, max: 5 };
    assert_eq!(publisher.publish_batch("a", [BODY; 6]), Err(too_long), "a batch that could never fit says so");
    assert_settled(bus);
    let asked_for = Bus::builder().max_queue_size(5).batch_max(6).build().unwrap_err();
    assert_eq!(asked_for.to_string(), "the bus cannot be built: batch_max is 6; it goes from 1 to 5");
}

#[test]
fn publishers_beyond_the_limit_are_refused_until_one_is_dropped() {
    let simulation = Simulation::new(lanes_of(4).publishers_max(2), 1).unwrap();
    let bus = simulation.bus();
    let first = bus.publisher().unwrap();
    let _second = first.try_clone().unwrap();
    let refused = bus.publisher().unwrap_err();
    assert_eq!(refused, PublishError::NoPublisher { max: 2 });
    assert!(refused.to_string().contains("all 2 publishers are taken"), "{refused}");
    assert_eq!(bus.publish("a", BODY), Err(refused));
    drop(first);
    bus.publish("a", BODY).unwrap();
    assert_settled(bus);
}
