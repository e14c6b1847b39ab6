//! Frames: an event as bytes says all that the event said, is published again as the same event, and bytes that nobody
//! vouches for are refused by an error.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{
    Aggregate, Bus, BusBuilder, Encoding, Event, EventId, Frame, FrameError, FullPolicy, Mailbox, Meta, Outgoing,
    Pattern, Payload, Priority, PublishError, Publisher, ReplayPolicy, ServiceTarget, Topic,
};

use super::support::{assert_books, assert_settled};

/// Bytes before the extension, and where fields of the header lie.
const FRONT: usize = 64;
const DEADLINE: usize = 32;
const PAYLOAD_BYTES: usize = 48;
const EXTENSION_BYTES: usize = 52;
const FLAGS: usize = 59;

#[derive(rkyv::Archive, rkyv::Serialize)]
struct OrderPlaced {
    id: u64,
    items: Vec<String>,
}

const ORDER_PLACED: Topic<OrderPlaced> = Topic::new("orders.placed");

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(1).when_full(FullPolicy::REJECT), 1).unwrap()
}

/// A bus that is quickly made, for many cases.
fn small() -> BusBuilder {
    Bus::builder().workers(1).publishers_max(2).max_queue_size(16).payload_bytes_max(1024).blocks([(4096, 2)])
}

fn order() -> OrderPlaced {
    OrderPlaced { id: 7, items: vec!["tea".into(), "a cup that is longer than a short string".into()] }
}

/// Everything an event says of itself, but for what goes on with the time.
#[derive(Debug, PartialEq)]
struct Told {
    id: EventId,
    names: [String; 2],
    optional: [Option<String>; 3],
    unix_ns: u64,
    due: Option<SystemTime>,
    priority: Priority,
    schema: u16,
    attempt: u8,
    links: [Option<EventId>; 2],
    aggregate: Option<(String, String, u64)>,
    targets: Vec<(String, u8)>,
    metadata: Vec<(String, String)>,
    encoding: Option<Encoding>,
    payload: Vec<u8>,
    expires: bool,
    is_replay: bool,
}

fn told(meta: &Meta<'_>) -> Told {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Told {
        id: meta.id(),
        names: [meta.topic().to_owned(), meta.source().to_owned()],
        optional: [owned(meta.original_id()), owned(meta.schema_text()), owned(meta.trace_parent())],
        unix_ns: meta.unix_ns(),
        due: meta.not_before(),
        priority: meta.priority(),
        schema: meta.schema_version(),
        attempt: meta.attempt(),
        links: [meta.correlation(), meta.causation()],
        aggregate: meta.aggregate().map(|of| (of.kind.to_owned(), of.id.to_owned(), of.version)),
        targets: meta.targets().map(|target| (target.id().to_owned(), target.priority())).collect(),
        metadata: meta.metadata().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        encoding: meta.encoding(),
        payload: meta.payload().bytes().to_vec(),
        expires: meta.expires_in().is_some(),
        is_replay: meta.is_replay(),
    }
}

/// What a test sets in an envelope; `None` leaves a field out.
#[derive(Debug, Clone)]
struct Set {
    ids: [Option<u128>; 3],
    texts: [Option<String>; 4],
    aggregate: Option<(String, String, u64)>,
    targets: Vec<(String, u8)>,
    metadata: Vec<(String, String)>,
    numbers: (u8, u16, u8),
    unix_ns: Option<u64>,
    expires_after: Option<Duration>,
    payload: Vec<u8>,
    /// Whether the fields are set to something else before: the last word counts.
    twice: bool,
}

fn any_set() -> impl Strategy<Value = Set> {
    let text = || "[a-zé ]{0,12}";
    let ids = [(); 3].map(|()| proptest::option::of(any::<u128>()));
    let texts = [(); 4].map(|()| proptest::option::of(text()));
    // A date between 1970 and 2255, so that the clock of the test can show it.
    let unix_ns = proptest::option::of(0..9_000_000_000_000_000_000_u64);
    let expires = proptest::option::of((1..u64::MAX).prop_map(Duration::from_nanos));
    let lists =
        (proptest::collection::vec((text(), any::<u8>()), 0..4), proptest::collection::vec((text(), text()), 0..4));
    let aggregate = proptest::option::of((text(), text(), any::<u64>()));
    let payload = proptest::collection::vec(any::<u8>(), 0..600);
    let numbers = (0_u8..4, any::<u16>(), any::<u8>());
    (ids, texts, aggregate, lists, numbers, unix_ns, expires, payload, any::<bool>()).prop_map(
        |(ids, texts, aggregate, (targets, metadata), numbers, unix_ns, expires_after, payload, twice)| Set {
            ids,
            texts,
            aggregate,
            targets,
            metadata,
            numbers,
            unix_ns,
            expires_after,
            payload,
            twice,
        },
    )
}

fn apply<'p>(set: &Set, mut event: Outgoing<'p>) -> Outgoing<'p> {
    let [id, correlation, causation] = set.ids.map(|id| id.map(EventId::from));
    let [source, original, schema, trace] = &set.texts;
    if set.twice {
        event = event.correlation(EventId::random()).causation(EventId::random()).source("first").schema_text("0");
        event = event.trace_parent("first").aggregate(Aggregate { kind: "first", id: "0", version: 9 });
    }
    let (priority, version, attempt) = set.numbers;
    event = event.priority(Priority::ALL[usize::from(priority)]).schema_version(version).attempt(attempt);
    event = original.iter().fold(event, |event, text| event.foreign_id("there", text));
    event = id.into_iter().fold(event, Outgoing::id);
    event = correlation.into_iter().fold(event, Outgoing::correlation);
    event = causation.into_iter().fold(event, Outgoing::causation);
    event = source.iter().fold(event, |event, text| event.source(text));
    event = schema.iter().fold(event, |event, text| event.schema_text(text));
    event = trace.iter().fold(event, |event, text| event.trace_parent(text));
    event = set
        .aggregate
        .iter()
        .fold(event, |event, (kind, id, version)| event.aggregate(Aggregate { kind, id, version: *version }));
    event = set.unix_ns.into_iter().fold(event, Outgoing::created_at_unix_ns);
    event = set.expires_after.into_iter().fold(event, Outgoing::expires_after);
    event = set
        .targets
        .iter()
        .fold(event, |event, (id, priority)| event.target(ServiceTarget::new(id).with_priority(*priority)));
    set.metadata.iter().fold(event, |event, (key, value)| event.metadata(key, value))
}

proptest! {
    #[test]
    fn a_frame_says_all_that_the_event_said_and_is_published_as_the_same_event(set in any_set()) {
        // Numbers for two names at most: some events carry names, some numbers.
        let simulation = Simulation::new(small().types_max(1).sources_max(1), 1).unwrap();
        let bus = simulation.bus();
        let mut inbox = bus.subscribe("**").mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        apply(&set, publisher.event()).publish("a.b", Payload::raw(&set.payload)).unwrap();
        simulation.run();
        let first = inbox.try_recv().unwrap();
        let frame = Frame::of(&first.meta());
        prop_assert_eq!(told(&frame.meta()), told(&first.meta()));

        let read = Frame::read(frame.bytes()).unwrap();
        prop_assert_eq!(told(&read.meta()), told(&first.meta()));
        prop_assert_eq!(Frame::of(&read.meta()), frame.clone(), "a frame of a frame is the same");
        let mut buffer = vec![1];
        prop_assert_eq!(Frame::write(&first.meta(), &mut buffer), frame.bytes().len());
        prop_assert_eq!(&buffer[1..], frame.bytes());
        prop_assert_eq!(Frame::copied_from(&buffer[1..]).unwrap(), frame.clone());

        publisher.frame(&frame).publish().unwrap();
        simulation.run();
        let again = inbox.try_recv().unwrap();
        prop_assert_eq!(told(&again.meta()), Told { attempt: 1, ..told(&first.meta()) });
        assert_books(bus);
    }

    #[test]
    fn bytes_that_nobody_vouches_for_are_refused_or_read(
        set in any_set(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let simulation = Simulation::new(small(), 1).unwrap();
        let mut publisher = simulation.bus().publisher().unwrap();
        let frame = apply(&set, publisher.event()).to_frame("a.b", Payload::raw(&set.payload)).unwrap();
        let mut bytes = frame.bytes().to_vec();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(length.map_or(bytes.len(), |length| length.index(bytes.len() + 1)));
        if let Ok(read) = Frame::copied_from(&bytes) {
            let before = told(&read.meta());
            prop_assert_eq!(told(&Frame::of(&read.meta()).meta()), before);
        }
        // Whoever vouches for them may be wrong: what is malformed is missing, and nothing else comes of it.
        let (room, place) = aligned(&bytes);
        let (read, vouched) = (Frame::read(&room[place.clone()]), Frame::read_vouched(&room[place]));
        match (read, vouched) {
            (Ok(read), vouched) => prop_assert_eq!(told(&read.meta()), told(&vouched.unwrap().meta())),
            (Err(_), Ok(vouched)) => {
                told(&Frame::of(&vouched.meta()).meta());
                let _ = publisher.publish_frame(&vouched.to_frame());
                simulation.run();
            }
            (Err(_), Err(_)) => {}
        }
        assert_books(simulation.bus());
    }
}

/// The bytes where a frame can be read in place.
fn aligned(bytes: &[u8]) -> (Vec<u8>, Range<usize>) {
    let mut room = vec![0; bytes.len() + 16];
    let start = room.as_ptr().align_offset(16);
    let place = start..start + bytes.len();
    room[place.clone()].copy_from_slice(bytes);
    (room, place)
}

#[test]
fn bytes_that_a_checksum_vouches_for_are_not_asked_twice_what_their_fields_say() {
    let simulation = simulation();
    let frame = frame(&mut simulation.bus().publisher().unwrap());
    let (room, place) = aligned(frame.bytes());
    let vouched = Frame::read_vouched(&room[place]).unwrap();
    assert_eq!((vouched.bytes(), vouched.meta().topic()), (frame.bytes(), "a.b"));

    let (mut room, place) = aligned(frame.bytes());
    room[place.start + FRONT + 5] = 0xff;
    let bytes = &room[place];
    assert_eq!(Frame::read(bytes).unwrap_err(), FrameError::Field { tag: 1, at: 0 });
    let vouched = Frame::read_vouched(bytes).unwrap();
    assert_eq!((vouched.meta().topic(), vouched.payload().text()), ("", Some("x")), "it is no text");

    for (at, value) in [(0, b'x'), (7, 2), (40, 1), (FLAGS, 64), (EXTENSION_BYTES, 0), (PAYLOAD_BYTES, 2)] {
        let (mut room, place) = aligned(frame.bytes());
        room[place.start + at] = value;
        let bytes = &room[place];
        assert_eq!(Frame::read_vouched(bytes).unwrap_err(), Frame::read(bytes).unwrap_err(), "byte {at}");
    }
    let (room, place) = aligned(frame.bytes());
    assert!(matches!(Frame::read_vouched(&room[place.start..place.end - 1]), Err(FrameError::Short { .. })));
    assert!(matches!(Frame::read_vouched(&room[place.start + 1..place.end]), Err(FrameError::Misaligned { by: 1 })));
    assert_books(simulation.bus());
}

fn frame(publisher: &mut Publisher) -> Frame {
    publisher.event().to_frame("a.b", Payload::plain_text("x")).unwrap()
}

/// The error that a frame gets after `change`.
fn refusal(frame: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> (FrameError, String) {
    let mut bytes = frame.bytes().to_vec();
    change(&mut bytes);
    let error = Frame::copied_from(&bytes).unwrap_err();
    (error, error.to_string())
}

#[test]
fn each_fault_of_a_frame_is_named_with_its_place() {
    let simulation = simulation();
    let frame = frame(&mut simulation.bus().publisher().unwrap());
    let bytes = frame.bytes().len();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| refusal(&frame, change);

    assert_eq!(refused(&|bytes| bytes[0] = b'x').0, FrameError::Mark);
    let (error, text) = refused(&|bytes| bytes[7] = 2);
    assert_eq!(error, FrameError::Version { found: 2, known: 1 });
    assert_eq!(text, "the frame has format version 2, this program knows 1; read it with a newer one");
    assert_eq!(refused(&|bytes| bytes.clear()).0, FrameError::Short { bytes: 0, needed: FRONT });
    let cut = FrameError::Short { bytes: bytes - 1, needed: bytes };
    assert_eq!(refused(&|bytes| bytes.truncate(bytes.len() - 1)).0, cut);
    let long = FrameError::Long { bytes: bytes + 1, needed: bytes };
    assert_eq!(refused(&|bytes| bytes.push(0)).0, long);
    assert_eq!(long.to_string(), format!("{} bytes were given as a frame of {bytes}", bytes + 1));
    for (at, field) in [(40, "type id"), (44, "source id"), (56, "priority"), (57, "encoding"), (60, "check")] {
        let value = 77;
        assert_eq!(refused(&|bytes| bytes[at] = value).0, FrameError::Header { field, value: value.into() }, "{at}");
    }
    for flags in [1, 2, 4, 8, 64] {
        // Among them: read the payload unvalidated, and services where there are none.
        let error = FrameError::Header { field: "flags", value: flags.into() };
        assert_eq!(refused(&|bytes| bytes[FLAGS] = flags).0, error);
    }
    let length = FrameError::Header { field: "length of the extension", value: 0xff20 };
    assert_eq!(refused(&|bytes| bytes[EXTENSION_BYTES + 1] = 0xff).0, length);
    assert_eq!(refused(&|bytes| bytes[FRONT] = 200).0, FrameError::NoTopic);
    assert_eq!(refused(&|bytes| bytes[FRONT + 5] = b'*').0, FrameError::Field { tag: 1, at: 0 });
    assert_eq!(refused(&|bytes| bytes[FRONT + 7] = 1).0, FrameError::Field { tag: 1, at: 7 });
    let huge = refused(&|bytes| bytes[PAYLOAD_BYTES..][..4].fill(0xff)).0;
    assert!(matches!(huge, FrameError::Short { needed, .. } if needed > u32::MAX as usize), "{huge:?}");
    assert_books(simulation.bus());
}

#[test]
fn a_frame_in_the_wrong_place_is_refused_and_can_be_copied() {
    let simulation = simulation();
    let frame = frame(&mut simulation.bus().publisher().unwrap());
    let mut room = vec![0; frame.bytes().len() + 32];
    let start = room.as_ptr().align_offset(16) + 8;
    room[start..][..frame.bytes().len()].copy_from_slice(frame.bytes());
    let misplaced = &room[start..][..frame.bytes().len()];
    assert_eq!(Frame::read(misplaced).unwrap_err(), FrameError::Misaligned { by: 8 });
    assert_eq!(Frame::copied_from(misplaced).unwrap(), frame);
    assert_books(simulation.bus());
}

#[test]
fn a_typed_payload_is_validated_when_it_comes_from_a_frame() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let frame = publisher.event().to_frame(ORDER_PLACED, &order()).unwrap();
    let archived = frame.event::<OrderPlaced>().unwrap();
    assert_eq!((archived.id.to_native(), archived.items.len()), (7, 2));

    let mut inbox = bus.subscribe(ORDER_PLACED).mailbox().unwrap();
    publisher.publish_frame(&frame).unwrap();
    // The length of the first item, far beyond the frame's end.
    let mut bytes = frame.bytes().to_vec();
    let root = bytes.len() - size_of::<<OrderPlaced as rkyv::Archive>::Archived>();
    bytes[root + 8..].fill(0x7f);
    let forged = Frame::copied_from(&bytes).unwrap();
    assert!(forged.event::<OrderPlaced>().is_err());
    publisher.publish_frame(&forged).unwrap();
    simulation.run();
    assert_eq!(inbox.try_recv().unwrap().event().unwrap().id, 7);
    assert!(inbox.try_recv().unwrap().event().is_err(), "no frame can have its payload read unvalidated");
    assert_books(bus);
}

fn received(simulation: &Simulation, inbox: &mut Mailbox<Pattern>) -> Told {
    simulation.run();
    told(&inbox.try_recv().unwrap().meta())
}

#[test]
fn a_replay_is_marked_and_stays_marked() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("**").replay(ReplayPolicy::Safe).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let frame = frame(&mut publisher);
    publisher.publish_frame(&frame).unwrap();
    assert!(!received(&simulation, &mut inbox).is_replay);
    publisher.frame(&frame).as_replay().try_publish().unwrap();
    simulation.run();
    let replayed = inbox.try_recv().unwrap();
    assert!(replayed.meta().is_replay());
    let kept = Frame::of(&replayed.meta());
    publisher.frame(&kept).publish_deadline(Duration::from_secs(1)).unwrap();
    assert!(received(&simulation, &mut inbox).is_replay);
    assert_books(bus);
}

#[test]
fn a_frame_whose_deadline_has_passed_is_refused_as_expired() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("**").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let event = publisher.event().expires_after(Duration::from_secs(60));
    let frame = event.to_frame("a.b", Payload::plain_text("x")).unwrap();
    simulation.advance(Duration::from_secs(59));
    publisher.publish_frame(&frame).unwrap();
    assert!(received(&simulation, &mut inbox).expires);
    simulation.advance(Duration::from_secs(3));
    let refused = publisher.publish_frame(&frame).unwrap_err();
    assert_eq!(refused, PublishError::Expired { ago: Duration::from_secs(2) });
    assert_eq!(
        refused.to_string(),
        "the frame's deadline passed 2s ago, so it would never be delivered; publish it as a new event"
    );
    assert!(!refused.is_temporary());
    assert_eq!(bus.metrics().refused.invalid, 1);
    assert_settled(bus);
    // A deadline beyond all time is one that never comes.
    let mut bytes = frame.bytes().to_vec();
    bytes[DEADLINE..][..8].fill(0xff);
    publisher.publish_frame(&Frame::copied_from(&bytes).unwrap()).unwrap();
    assert!(received(&simulation, &mut inbox).expires);
}

#[test]
fn a_frame_of_an_event_that_is_not_due_waits_for_its_time_and_one_that_was_due_does_not() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("**").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let event = publisher.event().not_before(Duration::from_secs(60));
    let frame = event.to_frame("a.b", Payload::plain_text("x")).unwrap();
    let due = frame.meta().not_before();
    publisher.publish_frame(&frame).unwrap();
    simulation.run();
    assert!(inbox.try_recv().is_err());
    simulation.advance(Duration::from_secs(60));
    assert_eq!(received(&simulation, &mut inbox).due, due);
    simulation.advance(Duration::from_secs(60));
    publisher.publish_frame(&frame).unwrap();
    assert_eq!(received(&simulation, &mut inbox).due, due, "it still tells when it was due");
    assert_books(bus);
}

#[test]
fn a_frame_crosses_to_a_bus_with_another_clock_and_other_numbers() {
    let here = simulation();
    let there = simulation();
    let mut publisher = here.bus().publisher().unwrap();
    for name in ["x", "y", "a.b"] {
        publisher.publish(name, Payload::json("1")).unwrap();
    }
    let frame = apply_all(&mut publisher);
    there.advance(Duration::from_secs(1_000));
    there.step_wall_clock(frame.meta().unix_ns() + 5);
    let mut inbox = there.bus().subscribe("**").mailbox().unwrap();
    there.bus().publisher().unwrap().publish_frame(&frame).unwrap();
    assert_eq!(received(&there, &mut inbox), told(&frame.meta()));
    [here.bus(), there.bus()].into_iter().for_each(assert_books);
}

fn apply_all(publisher: &mut Publisher) -> Frame {
    let event = publisher.event().source("agent:7").priority(Priority::High).target("datastore");
    event.expires_after(Duration::from_secs(9)).to_frame(ORDER_PLACED, &order()).unwrap()
}

#[test]
fn a_long_payload_and_a_long_envelope_fit_a_frame() {
    fn is_event<E: Event>(_: &E) {}
    let simulation = simulation();
    let mut publisher = simulation.bus().publisher().unwrap();
    let order = OrderPlaced { id: 1, items: vec!["x".repeat(100_000)] };
    is_event(&order);
    let event = publisher.event().metadata("long", &"v".repeat(16_000));
    let frame = event.to_frame(ORDER_PLACED, &order).unwrap();
    assert_eq!(frame.event::<OrderPlaced>().unwrap().items[0].len(), 100_000);
    assert_eq!(frame.meta().get("long").unwrap().len(), 16_000);
    assert_books(simulation.bus());
}
