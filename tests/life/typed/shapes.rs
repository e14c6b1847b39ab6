//! Payloads of every shape come back as they went in, whichever way they travel.

use std::num::NonZeroU64;

use ringmain::{Bus, Event, Payload, Priority, PublishError, SubscribeError, Topic};
use rkyv::{Archive, Serialize};

use crate::support::{Seen, assert_books, shut_down_clean, simulate};

#[derive(Archive, Serialize, Clone, Debug, PartialEq)]
struct Everything {
    niche: NonZeroU64,
    maybe: Option<NonZeroU64>,
    boxed: Option<Box<u64>>,
    wide: u128,
    text: String,
    list: Vec<String>,
    kind: Kind,
}

#[derive(Archive, Serialize, Clone, Debug, PartialEq)]
enum Kind {
    Unit,
    Tuple(u8, String),
    Named { of: Vec<u16> },
}

fn everything(size: usize) -> Everything {
    Everything {
        niche: NonZeroU64::new(size as u64 + 1).unwrap(),
        maybe: NonZeroU64::new(size as u64 % 2),
        boxed: (!size.is_multiple_of(3)).then(|| Box::new(size as u64)),
        wide: u128::MAX - size as u128,
        text: "é".repeat(size),
        list: (0..size % 50).map(|nth| "x".repeat(nth)).collect(),
        kind: match size % 3 {
            0 => Kind::Unit,
            1 => Kind::Tuple(size as u8, "t".repeat(size)),
            _ => Kind::Named { of: (0..size as u16).collect() },
        },
    }
}

fn agrees(archived: &ArchivedEverything, value: &Everything) -> bool {
    archived.niche == value.niche
        && archived.maybe.as_ref().map(|one| one.get()) == value.maybe.map(NonZeroU64::get)
        && archived.boxed.as_ref().map(|one| one.to_native()) == value.boxed.as_deref().copied()
        && archived.wide == value.wide
        && archived.text == value.text
        && archived.list == value.list
        && match (&archived.kind, &value.kind) {
            (ArchivedKind::Unit, Kind::Unit) => true,
            (ArchivedKind::Tuple(byte, text), Kind::Tuple(b, t)) => byte == b && text == t,
            (ArchivedKind::Named { of }, Kind::Named { of: o }) => of.iter().eq(o.iter()),
            _ => false,
        }
}

const EVERYTHING: Topic<Everything> = Topic::new("shapes.everything");
/// In a slot, and in blocks of 4 KiB, 64 KiB and 1 MiB.
const SIZES: [usize; 8] = [0, 1, 2, 5, 500, 1_001, 20_000, 200_002];

#[test]
fn every_shape_comes_back_through_slots_blocks_mailboxes_and_batches() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let values: Vec<_> = SIZES.into_iter().map(everything).collect();
    let wrong: Seen<usize> = Seen::default();
    let check = |values: Vec<Everything>| {
        let (wrong, mut next) = (wrong.clone(), 0);
        move |archived: &ArchivedEverything| {
            if !agrees(archived, &values[next % values.len()]) {
                wrong.push(next);
            }
            next += 1;
        }
    };
    let mut inline = check(values.clone());
    let inline = bus.subscribe(EVERYTHING).on_worker(0).handle(move |event, _| inline(event)).unwrap();
    let mut own = check(values.clone());
    let own = bus.subscribe(EVERYTHING).on_worker(1).handle_on("own", move |event, _| own(event)).unwrap();
    let mut mailbox = bus.subscribe(EVERYTHING).on_worker(1).mailbox().unwrap();
    let mut untyped = bus.subscribe("shapes.*").on_worker(0).mailbox().unwrap();

    let mut publisher = bus.publisher().unwrap();
    for value in &values {
        publisher.publish(EVERYTHING, value).unwrap();
    }
    publisher.publish_batch(EVERYTHING, &values).unwrap();
    let mut checked = check(values.clone());
    let mut checked_untyped = check(values.clone());
    for nth in 0..2 * values.len() {
        let delivery = mailbox.recv().unwrap();
        checked(delivery.event().unwrap());
        let delivery = untyped.recv().unwrap();
        checked_untyped(delivery.payload().archived::<Everything>().unwrap());
        assert_eq!(delivery.payload().bytes().as_ptr() as usize % 16, 0, "payload {nth} is aligned");
        if nth % 2 == 0 {
            drop(delivery);
        } else {
            delivery.fail("every other");
        }
    }
    bus.flush().unwrap();
    assert_eq!(wrong.take(), [0; 0]);
    assert_eq!((inline.record().delivery_count, own.record().delivery_count), (16, 16));
    shut_down_clean(&bus);
}

#[test]
fn small_and_empty_types_travel_too() {
    const UNIT: Topic<()> = Topic::new("shapes.unit");
    const NICHE: Topic<NonZeroU64> = Topic::new("shapes.niche");
    const NEST: Topic<Option<Box<u128>>> = Topic::new("shapes.nest");
    const LIST: Topic<Vec<String>> = Topic::new("shapes.list");
    const TEXT: Topic<String> = Topic::new("shapes.text");
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut unit = bus.subscribe(UNIT).mailbox().unwrap();
    let mut niche = bus.subscribe(NICHE).mailbox().unwrap();
    let mut nest = bus.subscribe(NEST).mailbox().unwrap();
    let mut list = bus.subscribe(LIST).mailbox().unwrap();
    let mut text = bus.subscribe(TEXT).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish(UNIT, &()).unwrap();
    publisher.publish(NICHE, &NonZeroU64::MAX).unwrap();
    publisher.publish(NEST, &Some(Box::new(u128::MAX))).unwrap();
    publisher.publish(NEST, &None).unwrap();
    publisher.publish(LIST, &vec!["a".to_owned(), "b".repeat(300)]).unwrap();
    publisher.publish(TEXT, &String::new()).unwrap();
    simulation.run();
    assert_eq!(unit.try_recv().unwrap().event(), Ok(&()));
    assert_eq!(niche.try_recv().unwrap().event().unwrap().get(), u64::MAX);
    assert_eq!(nest.try_recv().unwrap().event().unwrap().as_ref().unwrap().to_native(), u128::MAX);
    assert!(nest.try_recv().unwrap().event().unwrap().is_none());
    assert_eq!(list.try_recv().unwrap().event().unwrap().as_slice(), ["a".to_owned(), "b".repeat(300)]);
    assert_eq!(text.try_recv().unwrap().event().unwrap().as_str(), "");
    assert_books(bus);
}

#[test]
fn a_typed_event_is_read_where_it_lies() {
    const NUMBER: Topic<u64> = Topic::new("shapes.number");
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let places = Seen::default();
    let made = bus.subscribe(NUMBER).handle({
        let places = places.clone();
        move |event, meta| {
            places.push((std::ptr::from_ref(event).addr(), meta.payload().bytes().as_ptr().addr(), event.to_native()));
        }
    });
    let mut publisher = bus.publisher().unwrap();
    publisher.publish(NUMBER, &7).unwrap();
    publisher.publish(NUMBER, &8).unwrap();
    simulation.run();
    let places = places.take();
    assert_eq!(places.iter().map(|(.., value)| *value).collect::<Vec<_>>(), [7, 8]);
    for (event, payload, _) in places {
        assert_eq!(event, payload, "the archive is the payload itself");
    }
    drop(made.unwrap());
    assert_books(bus);
}

#[test]
fn a_topic_carries_one_rust_type() {
    const ORDER: Topic<u64> = Topic::new("orders.placed");
    const OTHER: Topic<String> = Topic::new("orders.placed");
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let made = bus.subscribe(ORDER).handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let refused = publisher.publish(OTHER, &String::new()).unwrap_err();
    assert!(matches!(refused, PublishError::TypeConflict(_)));
    let said = refused.to_string();
    for word in ["\"orders.placed\"", "u64", "String"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(matches!(bus.subscribe(OTHER).handle(|_, _| {}), Err(SubscribeError::TypeConflict(_))));
    assert!(matches!(bus.subscribe(OTHER).mailbox(), Err(SubscribeError::TypeConflict(_))));
    publisher.publish(ORDER, &1).unwrap();
    // The name alone asks for no type.
    publisher.publish("orders.placed", Payload::json("{}")).unwrap();
    let mut any = bus.subscribe("orders.placed").mailbox().unwrap();
    publisher.publish(ORDER, &2).unwrap();
    simulation.run();
    assert_eq!(any.try_recv().unwrap().payload().archived::<u64>().unwrap().to_native(), 2);
    assert_eq!((made.record().delivery_count, made.record().error_count), (2, 1));
    assert_eq!(bus.metrics().refused.invalid, 1);
    // Another bus knows nothing of this one's types.
    let other = simulate(Bus::builder().workers(1));
    let _typed = other.bus().subscribe(OTHER).handle(|_, _| {}).unwrap();
    assert_books(bus);
}

#[test]
fn the_first_publish_ties_the_type_too() {
    const FIRST: Topic<u64> = Topic::new("first");
    const SECOND: Topic<i64> = Topic::new("first");
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish(FIRST, &1).unwrap();
    assert!(matches!(bus.subscribe(SECOND).mailbox(), Err(SubscribeError::TypeConflict(_))));
    let mut batch = publisher.batch(Priority::Normal);
    assert!(matches!(batch.add(SECOND, &1), Err(PublishError::TypeConflict(_))));
    assert!(batch.is_empty());
    drop(batch);
    assert!(matches!(bus.publish(SECOND, &1), Err(PublishError::TypeConflict(_))));
    assert_books(bus);
}

/// Fails to serialise on demand.
struct Fickle(bool);

#[test]
fn a_value_that_refuses_to_be_serialised_is_an_error_and_no_event() {
    #[derive(Archive, Serialize)]
    struct Holder(#[rkyv(with = Refusing)] Fickle);
    struct Refusing;
    impl rkyv::with::ArchiveWith<Fickle> for Refusing {
        type Archived = <u8 as Archive>::Archived;
        type Resolver = <u8 as Archive>::Resolver;
        fn resolve_with(field: &Fickle, (): Self::Resolver, out: rkyv::Place<Self::Archived>) {
            u8::from(field.0).resolve((), out);
        }
    }
    impl<S: rkyv::rancor::Fallible<Error: rkyv::rancor::Source> + ?Sized> rkyv::with::SerializeWith<Fickle, S>
        for Refusing
    {
        fn serialize_with(field: &Fickle, _: &mut S) -> Result<(), S::Error> {
            if field.0 { rkyv::rancor::fail!(std::fmt::Error) } else { Ok(()) }
        }
    }
    fn is_event<E: Event>() {}
    is_event::<Holder>();
    const HOLDER: Topic<Holder> = Topic::new("holder");
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let made = bus.subscribe(HOLDER).handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    assert_eq!(publisher.publish(HOLDER, &Holder(Fickle(true))), Err(PublishError::Encode));
    publisher.publish(HOLDER, &Holder(Fickle(false))).unwrap();
    simulation.run();
    assert_eq!(made.record().delivery_count, 1);
    assert_eq!(bus.metrics().refused.invalid, 1);
    assert_books(bus);
}
