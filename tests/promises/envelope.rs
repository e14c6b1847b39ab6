//! Limits of the envelope: each is kept to the last entry and byte, and refused with the right words beyond.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Aggregate, Bus, EnvelopeError, EventId, FullPolicy, Outgoing, Payload, Priority, PublishError, Publisher,
    TopicError,
};

use super::support::{assert_books, assert_settled};

const BODY: Payload<'static> = Payload::plain_text("x");
/// Bytes of all fields, each with four bytes of its own, padded to 16.
const EXTENSION_MAX: usize = 16 * 1024;

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(1).when_full(FullPolicy::REJECT), 1).unwrap()
}

/// Publishes with `with` by itself and in a batch; both are refused with `expected` and counted, nothing is claimed.
fn refuses(expected: EnvelopeError, text: &str, with: impl Fn(Outgoing<'_>) -> Outgoing<'_>) {
    let simulation = simulation();
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let refused = PublishError::Envelope(expected);
    assert_eq!(with(publisher.event()).publish("a", BODY), Err(refused));
    assert_eq!(refused.to_string(), text);
    let mut batch = publisher.batch(Priority::Normal);
    assert_eq!(batch.add_with("a", BODY, &with), Err(refused));
    drop(batch);
    assert_eq!(bus.metrics().refused.invalid, 2);
    assert_eq!(bus.ledger().accepted, 0);
    publisher.publish("a", BODY).expect("the next event starts with a clean envelope");
    assert_settled(bus);
}

#[test]
fn sixteen_targets_and_thirty_two_metadata_entries_travel_and_one_more_is_refused() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut event = publisher.event();
    for nth in 0..16 {
        event = event.target(&format!("service-{nth}"));
    }
    for nth in 0..32 {
        event = event.metadata(&format!("key-{nth}"), &format!("value-{nth}"));
    }
    event.publish("a", BODY).unwrap();
    simulation.run();
    let delivery = mailbox.try_recv().unwrap();
    let meta = delivery.meta();
    assert!(meta.targets().map(|target| target.id()).eq((0..16).map(|nth| format!("service-{nth}"))));
    assert_eq!(meta.metadata().count(), 32);
    assert_eq!(meta.get("key-31"), Some("value-31"));
    drop(delivery);
    assert_settled(bus);

    refuses(EnvelopeError::TooMany { field: "targets", max: 16 }, "more than 16 targets; the limit is 16", |event| {
        (0..17).fold(event, |event, _| event.target("s"))
    });
    refuses(
        EnvelopeError::TooMany { field: "metadata entries", max: 32 },
        "more than 32 metadata entries; the limit is 32",
        |event| (0..33).fold(event, |event, nth| event.metadata(&nth.to_string(), "v")),
    );
}

#[test]
fn fields_are_bounded_one_by_one() {
    let long = "x".repeat(256);
    let field = |field, bytes| EnvelopeError::Field { field, bytes, max: 255 };
    refuses(field("target", 256), "target has 256 bytes, the limit is 255", |event| event.target(&long));
    refuses(field("metadata key", 256), "metadata key has 256 bytes, the limit is 255", |event| {
        event.metadata(&long, "v")
    });
    refuses(field("traceparent", 256), "traceparent has 256 bytes, the limit is 255", |event| {
        event.trace_parent(&long)
    });
    refuses(field("schema version", 256), "schema version has 256 bytes, the limit is 255", |event| {
        event.schema_text(&long)
    });
    refuses(field("source", 256), "source has 256 bytes, the limit is 255", |event| event.source(&long));
    refuses(field("aggregate kind", 256), "aggregate kind has 256 bytes, the limit is 255", |event| {
        event.aggregate(Aggregate { kind: &long, id: "1", version: 1 })
    });
    let id = "x".repeat(1_025);
    refuses(
        EnvelopeError::Field { field: "id", bytes: 1_025, max: 1_024 },
        "id has 1025 bytes, the limit is 1024",
        |event| event.foreign_id("s", &id),
    );
}

#[test]
fn an_extension_goes_to_its_limit_with_any_payload_and_no_further() {
    let simulation = simulation();
    let bus = simulation.bus();
    let free = bus.metrics().free_blocks;
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    // Four bytes of the field and one of the key's length, with a key of one byte.
    let longest = EXTENSION_MAX - 6;
    for value_bytes in [1, 150, 186, 187, 300, longest] {
        let value = "v".repeat(value_bytes);
        for payload_bytes in [0, 1, 192, 4_096, 1 << 20] {
            let body = vec![9; payload_bytes];
            publisher.event().metadata("k", &value).publish("a", Payload::raw(&body)).unwrap();
            simulation.run();
            let delivery = mailbox.try_recv().unwrap();
            assert_eq!(delivery.meta().get("k"), Some(&*value));
            assert!(delivery.payload().bytes() == body, "{payload_bytes} bytes behind {value_bytes}");
        }
    }
    assert_settled(bus);
    assert_eq!(bus.metrics().free_blocks, free);

    let value = "v".repeat(longest + 1);
    refuses(
        EnvelopeError::TooLong { bytes: EXTENSION_MAX + 16, max: EXTENSION_MAX },
        "the envelope's fields take 16400 bytes, the limit is 16384; move data into the payload",
        |event| event.metadata("k", &value),
    );
    refuses(
        EnvelopeError::TooLong { bytes: EXTENSION_MAX + 32, max: EXTENSION_MAX },
        "the envelope's fields take 16416 bytes, the limit is 16384; move data into the payload",
        |event| event.metadata("k", &value[1..]).correlation(EventId::from_bytes([0; 16])),
    );
}

#[test]
fn a_field_that_is_set_twice_has_the_last_value() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let ids = [EventId::from_bytes([1; 16]), EventId::from_bytes([2; 16])];
    let event = publisher.event().source("service:a").source("service:b").schema_text("1").schema_text("2");
    let event = event.correlation(ids[0]).correlation(ids[1]).causation(ids[1]).causation(ids[0]);
    event.trace_parent("a").trace_parent("b").publish("a", BODY).unwrap();
    simulation.run();
    let delivery = mailbox.try_recv().unwrap();
    let meta = delivery.meta();
    assert_eq!((meta.source(), meta.schema_text(), meta.trace_parent()), ("service:b", Some("2"), Some("b")));
    assert_eq!((meta.correlation(), meta.causation()), (Some(ids[1]), Some(ids[0])));
    drop(delivery);
    assert_settled(bus);
}

#[test]
fn names_that_break_the_rules_are_refused_with_the_place() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let long = "a".repeat(256);
    let deep = ["a"; 65].join(".");
    for (name, fault) in [
        ("", TopicError::Empty),
        ("a..b", TopicError::EmptySegment { at: 2 }),
        ("a.b*", TopicError::Character { byte: b'*', at: 3 }),
        (&long, TopicError::TooLong { bytes: 256 }),
        (&deep, TopicError::TooManySegments { segments: 65 }),
    ] {
        assert_eq!(publisher.publish(name, BODY), Err(PublishError::Topic(fault)));
        let loan = publisher.loan(300).unwrap();
        assert_eq!(loan.publish(Priority::Normal, name), Err(PublishError::Topic(fault)));
    }
    assert_eq!(bus.metrics().refused.invalid, 10);
    let source_too_long = |publisher: &mut Publisher| publisher.set_source("s".repeat(256).as_str()).map(drop);
    assert_eq!(source_too_long(&mut publisher), Err(PublishError::SourceTooLong { bytes: 256, max: 255 }));
    publisher.publish("a", BODY).unwrap();
    assert_settled(bus);
    assert_eq!(bus.metrics().free_blocks, 1_024 + 64 + 8);
}

#[test]
fn the_longest_durations_are_no_overflow() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    simulation.advance(Duration::from_secs(5));
    publisher.event().expires_after(Duration::MAX).publish("a", BODY).unwrap();
    publisher.event().not_before(Duration::MAX).publish("a", BODY).unwrap();
    simulation.advance(Duration::from_secs(1 << 31));
    simulation.run();
    assert!(mailbox.try_recv().is_ok(), "a deadline beyond all time never passes");
    assert!(mailbox.try_recv().is_err(), "a time beyond all time never comes");
    assert_settled(bus);
    assert_eq!(bus.ledger().scheduled, 1);
}

#[test]
fn the_source_of_an_event_beats_its_publishers_also_where_neither_has_a_number() {
    let simulation = Simulation::new(Bus::builder().workers(1).sources_max(1), 1).unwrap();
    let mut inbox = simulation.bus().subscribe("**").mailbox().unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    publisher.set_source("publisher").unwrap();
    publisher.event().publish("a", Payload::json("1")).unwrap();
    publisher.event().source("event").publish("a", Payload::json("1")).unwrap();
    publisher.event().source("service:ringmain").publish("a", Payload::json("1")).unwrap();
    simulation.run();
    for source in ["publisher", "event", "service:ringmain"] {
        assert_eq!(inbox.try_recv().unwrap().meta().source(), source);
    }
    assert_books(simulation.bus());
}
