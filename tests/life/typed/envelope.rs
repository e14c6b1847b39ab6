//! Every field of an envelope comes back, inline and from a mailbox; and the small types read and print themselves.

use std::time::{Duration, UNIX_EPOCH};

use ringmain::{
    Aggregate, Bus, Encoding, EnvelopeError, EventId, EventSource, Meta, Outgoing, Payload, Priority, PublishError,
    Topic,
};

use crate::support::{Seen, assert_books, simulate};

const CREATED_NS: u64 = 1_800_000_000_123_456_789;

fn correlation() -> EventId {
    EventId::from_bytes([1; 16])
}

fn causation() -> EventId {
    EventId::from_bytes([2; 16])
}

fn fill<'p>(event: Outgoing<'p>, long: &str) -> Outgoing<'p> {
    event
        .priority(Priority::High)
        .foreign_id("shop", "order-17")
        .created_at_unix_ns(CREATED_NS)
        .source("service:shop")
        .correlation(correlation())
        .causation(causation())
        .aggregate(Aggregate { kind: "order", id: "17", version: 3 })
        .expires_after(Duration::from_secs(60))
        .attempt(2)
        .schema_version(4)
        .schema_text("4.1.0-beta")
        .target("billing")
        .target("stock")
        .trace_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .metadata("tenant", "acme")
        .metadata("note", long)
}

/// Everything a reader can see, as one text.
fn read(meta: &Meta<'_>, long: &str) -> String {
    assert_eq!(meta.id(), EventId::from_foreign("shop", "order-17"));
    assert_eq!(meta.original_id(), Some("order-17"));
    assert_eq!((meta.topic(), meta.source(), meta.priority()), ("orders.placed", "service:shop", Priority::High));
    assert_eq!(meta.unix_ns(), CREATED_NS);
    assert_eq!(meta.timestamp(), UNIX_EPOCH + Duration::from_nanos(CREATED_NS));
    assert_eq!((meta.correlation(), meta.causation()), (Some(correlation()), Some(causation())));
    assert_eq!(meta.aggregate(), Some(Aggregate { kind: "order", id: "17", version: 3 }));
    assert_eq!(meta.expires_in(), Some(Duration::from_secs(60)));
    assert_eq!((meta.attempt(), meta.schema_version(), meta.schema_text()), (2, 4, Some("4.1.0-beta")));
    assert_eq!(meta.targets().map(|target| target.id()).collect::<Vec<_>>(), ["billing", "stock"]);
    assert_eq!(meta.trace_parent(), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!(meta.metadata().collect::<Vec<_>>(), [("tenant", "acme"), ("note", long)]);
    assert_eq!((meta.get("tenant"), meta.get("nothing")), (Some("acme"), None));
    assert_eq!((meta.encoding(), meta.payload().text()), (Some(Encoding::Json), Some("{}")));
    format!("{meta:?}")
}

#[test]
fn every_field_comes_back_inline_and_from_a_mailbox() {
    for long in [String::new(), "x".repeat(100), "x".repeat(10_000)] {
        let simulation = simulate(Bus::builder().workers(1).slot_bytes(1_024));
        simulation.step_wall_clock(CREATED_NS - 1_000);
        simulation.advance(Duration::from_secs(1));
        let bus = simulation.bus();
        let seen = Seen::default();
        let made = bus.subscribe("orders.*").handle({
            let (seen, long) = (seen.clone(), long.clone());
            move |_, meta| seen.push(read(meta, &long))
        });
        let mut mailbox = bus.subscribe("orders.*").mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        fill(publisher.event(), &long).publish("orders.placed", Payload::json("{}")).unwrap();
        let mut batch = publisher.batch(Priority::High);
        batch.add_with("orders.placed", Payload::json("{}"), |event| fill(event, &long)).unwrap();
        batch.publish().unwrap();
        simulation.run();
        let pulled: Vec<_> =
            std::iter::from_fn(|| mailbox.try_recv().ok()).map(|one| read(&one.meta(), &long)).collect();
        assert_eq!(seen.take(), pulled);
        assert_eq!((pulled.len(), made.unwrap().record().error_count), (2, 0));
        assert_books(bus);
    }
}

#[test]
fn an_event_without_an_envelope_has_plain_defaults() {
    const NUMBER: Topic<u64> = Topic::new("number");
    let simulation = simulate(Bus::builder().workers(1).name("plain"));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe(NUMBER).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let id = publisher.publish(NUMBER, &1).unwrap();
    simulation.advance(Duration::from_secs(2));
    simulation.run();
    let delivery = mailbox.try_recv().unwrap();
    let meta = delivery.meta();
    assert_eq!((meta.id(), meta.topic(), meta.source()), (id, "number", "service:plain"));
    assert_eq!((meta.priority(), meta.attempt(), meta.schema_version()), (Priority::Normal, 1, 1));
    assert_eq!((meta.age(), meta.expires_in(), meta.sequence()), (Duration::from_secs(2), None, 0));
    assert_eq!((meta.original_id(), meta.schema_text(), meta.trace_parent()), (None, None, None));
    assert_eq!((meta.correlation(), meta.causation(), meta.aggregate()), (None, None, None));
    assert_eq!((meta.targets().count(), meta.metadata().count()), (0, 0));
    assert_eq!(meta.encoding(), Some(Encoding::Rkyv));
    drop(delivery);
    assert_books(bus);
}

#[test]
fn an_envelope_does_not_leak_into_the_next_event() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    fill(publisher.event(), "x").publish("a", Payload::json("{}")).unwrap();
    let bad = fill(publisher.event(), "x").target(&"s".repeat(256)).publish("a", Payload::json("{}"));
    assert_eq!(bad, Err(PublishError::Envelope(EnvelopeError::Field { field: "target", bytes: 256, max: 255 })));
    publisher.publish("a", Payload::json("{}")).unwrap();
    simulation.run();
    drop(mailbox.try_recv().unwrap());
    let delivery = mailbox.try_recv().unwrap();
    let meta = delivery.meta();
    assert_eq!((meta.metadata().count(), meta.targets().count(), meta.correlation()), (0, 0, None));
    assert_eq!((meta.priority(), meta.schema_version(), meta.attempt()), (Priority::Normal, 1, 1));
    drop(delivery);
    assert_books(bus);
}

#[test]
fn a_publisher_keeps_its_source_and_gives_it_to_its_clone() {
    let simulation = simulate(Bus::builder().workers(1).name("shop"));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let nothing = Payload::raw(b"");
    publisher.publish("a", nothing).unwrap();
    publisher.set_source(EventSource::filesystem("watcher")).unwrap();
    let mut clone = publisher.try_clone().unwrap();
    clone.publish("a", nothing).unwrap();
    publisher.event().source("other").publish("a", nothing).unwrap();
    publisher.publish("a", nothing).unwrap();
    let too_long = "s".repeat(256);
    assert_eq!(
        publisher.set_source(too_long.as_str()).map(drop),
        Err(PublishError::SourceTooLong { bytes: 256, max: EventSource::BYTES_MAX })
    );
    publisher.publish("a", nothing).unwrap();
    simulation.run();
    let sources: Vec<_> =
        std::iter::from_fn(|| mailbox.try_recv().ok()).map(|one| one.meta().source().to_owned()).collect();
    assert_eq!(sources, ["service:shop", "filesystem:watcher", "other", "filesystem:watcher", "filesystem:watcher"]);
    assert_eq!(EventSource::system("clock").kind(), Some("system"));
    assert_eq!(EventSource::named("anybody").kind(), None);
    assert_eq!(EventSource::service("x").to_string(), "service:x");
    assert_books(bus);
}

#[test]
fn ids_and_priorities_print_and_parse() {
    let id: EventId = "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap();
    assert_eq!(id.to_string(), "0190163d-8694-739b-aea5-966c26f8ad91");
    assert_eq!("0190163D8694739BAEA5966C26F8AD91".parse(), Ok(id));
    assert_eq!(EventId::from_bytes(*id.as_bytes()), id);
    assert_eq!(EventId::from(u128::from(id)), id);
    assert_eq!(format!("{id:>38}").len(), 38);
    assert_ne!(EventId::random(), EventId::random());
    let refused = "order-17".parse::<EventId>().unwrap_err();
    assert!(refused.to_string().contains("\"order-17\""), "{refused}");
    for priority in Priority::ALL {
        assert_eq!(priority.to_string().parse(), Ok(priority));
        assert_eq!(priority.as_str(), priority.to_string());
    }
    assert!("urgent".parse::<Priority>().unwrap_err().to_string().contains("\"urgent\""));
    assert!(Priority::Critical > Priority::High && Priority::Normal > Priority::Low);
    assert_eq!(Priority::default(), Priority::Normal);
}
