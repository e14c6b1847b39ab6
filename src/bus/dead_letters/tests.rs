//! Dead letters through the bus: sent again as new events, told to a sink, bounded by settings.

use std::any::TypeId;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::delivery::Death;
use crate::event::KnownAs;
use crate::testing::Simulation;
use crate::{
    Aggregate, BuildFault, Bus, BusBuilder, DeadLetter, DeadLetterFilter, DeadReason, DeliveryMode, EventId,
    FullPolicy, Mailbox, Meta, Outcome, Pattern, Payload, Priority, PublishError, Publisher, RepublishError, Topic,
};

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Placed {
    id: u64,
    note: String,
}

/// As deep as its number says: outside what is read of foreign bytes.
#[derive(rkyv::Archive, rkyv::Serialize)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
struct Deep(#[rkyv(omit_bounds)] Option<Box<Deep>>);

const PLACED: Topic<Placed> = Topic::new("orders.placed");
const DEEP: Topic<Deep> = Topic::new("deep");

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(16).blocks([(4_096, 4)]).payload_bytes_max(4_096).publishers_max(4)
}

fn simulation() -> Simulation {
    Simulation::new(small(), 1).unwrap()
}

/// Lets the event die at a subscription that may read it as `known_as`.
fn bury(bus: &Bus, meta: Meta<'_>, known_as: KnownAs) -> u64 {
    bus.shared().engine.dead_letters.put(&Death {
        meta,
        subscription: crate::SubscriptionId(EventId::from_bytes([7; 16])),
        name: "billing",
        known_as,
        reason: DeadReason::AttemptsExhausted,
        attempts: 5,
        error: Some("no"),
        first_attempt: 1,
    })
}

/// Takes the next event out of `inbox` and lets it die.
fn bury_next(simulation: &Simulation, inbox: &mut Mailbox<Pattern>) -> u64 {
    simulation.run();
    let delivery = inbox.try_recv().expect("it was published");
    bury(simulation.bus(), delivery.meta(), KnownAs::UNKNOWN)
}

fn bury_one(simulation: &Simulation, publisher: &mut Publisher) -> u64 {
    let mut inbox = simulation.bus().subscribe("**").mailbox().unwrap();
    publisher.publish("a.b", Payload::json("1")).unwrap();
    bury_next(simulation, &mut inbox)
}

#[test]
fn a_republished_letter_is_a_new_event_with_the_old_ones_story() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("**").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let correlation = EventId::random();
    let old = publisher
        .event()
        .foreign_id("till", "no uuid")
        .priority(Priority::High)
        .source("service:till")
        .correlation(correlation)
        .causation(EventId::random())
        .aggregate(Aggregate { kind: "order", id: "7", version: 3 })
        .expires_after(std::time::Duration::from_secs(1))
        .attempt(4)
        .schema_version(2)
        .schema_text("2.1")
        .target("warehouse")
        .trace_parent("00-ab-cd-01")
        .metadata("user", "ada")
        .metadata("tenant", "")
        .publish("orders.placed", Payload::json(r#"{"id": 7}"#))
        .unwrap();
    let id = bury_next(&simulation, &mut inbox);
    simulation.advance(std::time::Duration::from_secs(2));
    let letters = bus.dead_letters();
    let new = letters.republish(id, &mut publisher).unwrap();
    simulation.run();
    let delivery = inbox.try_recv().expect("it has no deadline any more");
    let meta = delivery.meta();
    assert_ne!(new, old);
    assert_eq!((meta.id(), meta.causation(), meta.correlation()), (new, Some(old), Some(correlation)));
    assert_eq!((meta.topic(), meta.source(), meta.priority()), ("orders.placed", "service:till", Priority::High));
    assert_eq!((meta.schema_version(), meta.schema_text(), meta.attempt()), (2, Some("2.1"), 1));
    assert_eq!(meta.aggregate(), Some(Aggregate { kind: "order", id: "7", version: 3 }));
    assert_eq!((meta.trace_parent(), meta.original_id(), meta.expires_in()), (Some("00-ab-cd-01"), None, None));
    assert_eq!(meta.targets().map(|target| target.id()).collect::<Vec<_>>(), ["warehouse"]);
    assert_eq!(meta.metadata().collect::<Vec<_>>(), [("user", "ada"), ("tenant", "")]);
    assert_eq!(meta.payload(), Payload::json(r#"{"id": 7}"#));
    assert_eq!(letters.republish(id, &mut publisher), Err(RepublishError::NotFound { id }));
    let counts = letters.counts();
    assert_eq!((counts.total, counts.redriven, counts.held), (1, 1, 0));
    assert!(counts.is_balanced() && letters.is_empty());
}

#[test]
fn an_edited_letter_goes_where_it_is_sent() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut typed = bus.subscribe(PLACED).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let id = bury_one(&simulation, &mut publisher);
    let old = bus.dead_letters().get(id).unwrap().meta().id();
    let mended = Placed { id: 8, note: "mended".to_owned() };
    bus.dead_letters().republish_as(id, &mut publisher, PLACED, &mended).unwrap();
    simulation.run();
    let delivery = typed.try_recv().unwrap();
    assert_eq!((delivery.event().unwrap().id.to_native(), delivery.meta().causation()), (8, Some(old)));
}

#[test]
fn a_typed_event_is_read_in_place_in_its_letter_and_after_it() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut typed = bus.subscribe(PLACED).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish(PLACED, &Placed { id: 7, note: "a note that is no short text".to_owned() }).unwrap();
    simulation.run();
    let id = bury(bus, typed.try_recv().unwrap().meta(), KnownAs::bound(TypeId::of::<Placed>()));
    let letter = bus.dead_letters().get(id).unwrap();
    assert_eq!(letter.event::<Placed>().unwrap().note, "a note that is no short text");
    assert!(letter.event::<Vec<String>>().is_err(), "another type's archive is looked at first");
    bus.dead_letters().republish(id, &mut publisher).unwrap();
    simulation.run();
    assert_eq!(typed.try_recv().unwrap().event().unwrap().id, 7);
}

#[test]
fn a_republished_event_is_trusted_as_the_first_was_but_not_under_another_topic() {
    let simulation = simulation();
    let bus = simulation.bus();
    const OTHER: Topic<Deep> = Topic::new("other");
    let mut typed = bus.subscribe(DEEP).mailbox().unwrap();
    let mut other = bus.subscribe(OTHER).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let deep = (0..100).fold(Deep(None), |inner, _| Deep(Some(Box::new(inner))));
    for _ in 0..2 {
        publisher.publish(DEEP, &deep).unwrap();
        simulation.run();
        bury(bus, typed.try_recv().unwrap().meta(), KnownAs::UNKNOWN);
    }
    bus.dead_letters().republish(1, &mut publisher).unwrap();
    let letter = bus.dead_letters().get(2).unwrap();
    bus.dead_letters().republish_as(2, &mut publisher, "other", letter.meta().payload()).unwrap();
    simulation.run();
    assert!(typed.try_recv().unwrap().event().is_ok());
    assert!(other.try_recv().unwrap().event().is_err(), "who knows what the payload is there");

    let elsewhere = self::simulation();
    let mut inbox = elsewhere.bus().subscribe(DEEP).mailbox().unwrap();
    publisher.publish(DEEP, &deep).unwrap();
    simulation.run();
    let id = bury(bus, typed.try_recv().unwrap().meta(), KnownAs::UNKNOWN);
    bus.dead_letters().republish(id, &mut elsewhere.bus().publisher().unwrap()).unwrap();
    elsewhere.run();
    assert!(inbox.try_recv().unwrap().event().is_err(), "another bus may have another type there");
}

#[test]
fn a_letter_that_is_refused_stays() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let id = bury_one(&simulation, &mut publisher);
    let _reader = bus.subscribe("a.b").mailbox().unwrap();
    publisher.set_full_policy(FullPolicy::REJECT);
    while publisher.publish("a.b", Payload::json("1")).is_ok() {}
    let letters = bus.dead_letters();
    let refused = letters.republish(id, &mut publisher);
    assert!(matches!(refused, Err(RepublishError::Publish { error: PublishError::Full { .. }, .. })), "{refused:?}");
    let refused = letters.republish_as(id, &mut publisher, "no topic", Payload::json("1"));
    assert!(matches!(refused, Err(RepublishError::Publish { error: PublishError::Topic(_), .. })), "{refused:?}");
    assert_eq!((letters.len(), letters.counts().redriven), (1, 0));
    simulation.run();
    assert_eq!(letters.republish(77, &mut publisher), Err(RepublishError::NotFound { id: 77 }));
    letters.republish(id, &mut publisher).unwrap();
    assert!(letters.is_empty() && letters.counts().is_balanced());
}

#[test]
fn every_setting_of_dead_letters_that_cannot_be_is_said() {
    let error = Bus::builder()
        .dead_letters_max(1 << 25)
        .dead_letter_bytes_max(3)
        .dead_letter_expiry(Duration::ZERO)
        .build()
        .unwrap_err();
    let named = |fault: &BuildFault| match fault {
        BuildFault::OutOfRange { setting, value, .. } => Some((*setting, *value)),
        _ => None,
    };
    let faults: Vec<_> = error.faults().iter().filter_map(named).collect();
    let expiry = ("dead_letter_expiry in nanoseconds", 0);
    assert_eq!(faults, [("dead_letters_max", 1 << 25), ("dead_letter_bytes_max", 3), expiry]);
}

#[test]
fn a_sink_has_heard_of_all_letters_when_the_shutdown_returns_and_on_no_worker() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let heard = Arc::clone(&heard);
        move |letter: &Arc<DeadLetter>| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            heard.lock().unwrap().push((letter.id(), thread));
            assert_ne!(letter.id(), 1, "on purpose: it goes no further");
        }
    };
    let bus = small().name("post").dead_letter_sink(sink).build().unwrap();
    let mut inbox = bus.subscribe("**").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..3 {
        publisher.publish("a", Payload::json("1")).unwrap();
        bury(&bus, inbox.recv().unwrap().meta(), KnownAs::UNKNOWN);
    }
    drop(inbox);
    let letters = bus.dead_letters();
    let report = bus.shutdown().unwrap();
    assert!(report.is_clean(), "{report:?}");
    let thread = || "post-letters".to_owned();
    assert_eq!(*heard.lock().unwrap(), [(1, thread()), (2, thread()), (3, thread())]);
    assert_eq!(letters.list(&DeadLetterFilter::new()).len(), 3, "they can be read afterwards");
    let refused = letters.republish(1, &mut publisher);
    assert_eq!(refused, Err(RepublishError::Publish { id: 1, error: PublishError::ShuttingDown }));
    assert_eq!(letters.purge(&DeadLetterFilter::new().subscription_named("billing")), 3);
}

#[test]
fn a_flush_waits_for_the_sink_and_the_sink_itself_does_not() {
    let (letting, let_go) = mpsc::channel();
    let (let_go, heard) = (Mutex::new(let_go), Arc::new(Mutex::new(Vec::new())));
    let of_sink = Arc::new(Mutex::new(None::<Bus>));
    let sink = {
        let (heard, bus) = (Arc::clone(&heard), Arc::clone(&of_sink));
        move |letter: &Arc<DeadLetter>| {
            let_go.lock().unwrap().recv().unwrap();
            let bus = bus.lock().unwrap().clone().unwrap();
            bus.flush_deadline(Duration::from_secs(60)).unwrap();
            heard.lock().unwrap().push(letter.id());
        }
    };
    let bus = small().dead_letter_sink(sink).build().unwrap();
    *of_sink.lock().unwrap() = Some(bus.clone());
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
    let bank = wish.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap();
    for _ in 0..2 {
        bus.publish("a", Payload::json("1")).unwrap();
    }
    let refused = bus.flush_deadline(Duration::from_millis(200)).unwrap_err().to_string();
    let text = "after 200ms the sink of dead letters had not heard of all of them; give it more time";
    // A worker that takes longer than that is named first.
    assert!(refused == text || refused.contains("were still in lanes"), "{refused}");
    (0..2).for_each(|_| letting.send(()).unwrap());
    bus.flush_deadline(Duration::from_secs(60)).unwrap();
    assert_eq!((heard.lock().unwrap().as_slice(), bank.ledger().dead_lettered), ([1, 2].as_slice(), 2));
    of_sink.lock().unwrap().take();
    bus.shutdown().unwrap();
}

#[test]
fn the_handle_moves_between_threads() {
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<crate::DeadLetters>();
    is_shared::<Arc<DeadLetter>>();
}
