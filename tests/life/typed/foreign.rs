//! Bytes that somebody else encoded are checked before they are read, and never crash a reader.

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{Bus, DecodeError, Encoding, Notice, Payload, Subscription, Topic};
use rkyv::rancor::{Error, Fallible, Source};
use rkyv::{Archive, Serialize};

use crate::support::{Seen, assert_books, simulate};

#[derive(Archive, Serialize, Clone, Debug)]
struct Order {
    id: u64,
    wide: u128,
    urgent: bool,
    unit: char,
    note: Option<Box<str>>,
    lines: Vec<String>,
}

const ORDER: Topic<Order> = Topic::new("orders.placed");

fn order() -> Order {
    Order {
        id: 7,
        wide: 1 << 100,
        urgent: true,
        unit: 'é',
        note: Some("a note that is too long to lie inline".into()),
        lines: vec!["short".to_owned(), "a line that is too long to lie inline".to_owned(), String::new()],
    }
}

fn archive() -> Vec<u8> {
    rkyv::to_bytes::<Error>(&order()).unwrap().to_vec()
}

/// Reads every field, so that a wrong pointer would be followed.
fn touch(order: &ArchivedOrder) -> usize {
    let lines: usize = order.lines.iter().map(|line| line.chars().count()).sum();
    let note = order.note.as_ref().map_or(0, |note| note.chars().count());
    lines + note + order.unit.to_native().len_utf8() + usize::from(order.urgent) + order.id.to_native() as usize % 2
}

/// A bus with a typed inline handler and a typed mailbox, and what was said of events that could not be read.
struct Readers {
    simulation: Simulation,
    inline: Subscription,
    undecodable: Seen<(String, DecodeError)>,
}

impl Readers {
    fn new() -> Self {
        let undecodable = Seen::default();
        let builder = Bus::builder().workers(1).max_queue_size(64).batch_max(64).blocks([(1 << 20, 2)]).observer({
            let undecodable = undecodable.clone();
            move |notice: &Notice<'_>| {
                if let Notice::Undecodable { name, error, .. } = notice {
                    undecodable.push((name.to_string(), *error));
                }
            }
        });
        let simulation = simulate(builder);
        let inline =
            simulation.bus().subscribe(ORDER).named("inline").handle(|order, _| assert!(touch(order) > 0)).unwrap();
        Self { simulation, inline, undecodable }
    }

    /// Publishes under the topic's name and returns what reading it came to, the same inline and from a mailbox.
    fn read(&self, payload: Payload<'_>) -> Result<usize, DecodeError> {
        let bus = self.simulation.bus();
        let mut mailbox = bus.subscribe(ORDER).mailbox().unwrap();
        bus.publish(ORDER.name(), payload).unwrap();
        self.simulation.run();
        let delivery = mailbox.try_recv().unwrap();
        let pulled = delivery.event().map(touch);
        drop(delivery);
        match self.undecodable.take().as_slice() {
            [] => assert!(pulled.is_ok()),
            [(name, error)] => assert_eq!((name.as_str(), Err(*error)), ("inline", pulled)),
            more => panic!("{more:?}"),
        }
        pulled
    }
}

#[test]
fn an_archive_from_outside_is_validated_and_read() {
    let readers = Readers::new();
    let expected = {
        let bytes = rkyv::to_bytes::<Error>(&order()).unwrap();
        touch(rkyv::access::<ArchivedOrder, Error>(&bytes).unwrap())
    };
    assert_eq!(readers.read(Payload::rkyv(&archive())), Ok(expected));
    assert_books(readers.simulation.bus());
}

#[test]
fn another_encoding_is_counted_failed_observed_and_the_worker_goes_on() {
    let readers = Readers::new();
    for (payload, encoding) in [
        (Payload::json("{}"), Encoding::Json),
        (Payload::plain_text("x"), Encoding::Text),
        (Payload::raw(b"x"), Encoding::Bytes),
        (Payload::protobuf(b""), Encoding::Protobuf),
    ] {
        let refused = readers.read(payload).unwrap_err();
        assert_eq!(refused, DecodeError::Encoding { found: Some(encoding) });
        assert!(refused.to_string().contains(&format!("{encoding:?}")), "{refused}");
    }
    readers.simulation.bus().publish(ORDER, &order()).unwrap();
    readers.simulation.run();
    let record = readers.inline.record();
    assert_eq!((record.delivery_count, record.error_count), (1, 4));
    assert_books(readers.simulation.bus());
}

#[test]
fn truncated_archives_are_errors() {
    let readers = Readers::new();
    let bytes = archive();
    for length in 0..bytes.len() {
        // The root stands last, so what is left may by chance be another valid value; it is never read out of bounds.
        if let Err(error) = readers.read(Payload::rkyv(&bytes[..length])) {
            assert_eq!(error, DecodeError::Invalid { bytes: length });
        }
    }
    let shorter_than_the_root = size_of::<ArchivedOrder>() - 1;
    for length in 0..=shorter_than_the_root {
        assert!(readers.read(Payload::rkyv(&bytes[..length])).is_err(), "{length} bytes hold no root");
    }
    assert!(readers.inline.record().error_count > shorter_than_the_root as u64);
    assert_books(readers.simulation.bus());
}

#[test]
fn misaligned_archives_are_errors() {
    let readers = Readers::new();
    for shift in 1..16 {
        let bytes = [vec![0; shift], archive()].concat();
        assert!(readers.read(Payload::rkyv(&bytes)).is_err(), "shifted by {shift}");
    }
    assert_books(readers.simulation.bus());
}

#[test]
fn archives_of_another_type_are_errors() {
    let readers = Readers::new();
    let others = [
        rkyv::to_bytes::<Error>(&vec![u64::MAX; 100]).unwrap().to_vec(),
        rkyv::to_bytes::<Error>(&"a text that does not lie inline at all".to_owned()).unwrap().to_vec(),
        rkyv::to_bytes::<Error>(&[u128::MAX; 16]).unwrap().to_vec(),
        vec![0xff; 4_096],
    ];
    for bytes in others {
        assert_eq!(readers.read(Payload::rkyv(&bytes)), Err(DecodeError::Invalid { bytes: bytes.len() }));
    }
    assert_books(readers.simulation.bus());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_never_crash_a_reader(flips in prop::collection::vec((0_usize..4_096, 0_u8..8), 1..6)) {
        let readers = Readers::new();
        let mut bytes = archive();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        if let Err(error) = readers.read(Payload::rkyv(&bytes)) {
            prop_assert_eq!(error, DecodeError::Invalid { bytes: bytes.len() });
        }
        assert_books(readers.simulation.bus());
    }

    #[test]
    fn any_bytes_never_crash_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let readers = Readers::new();
        if let Err(error) = readers.read(Payload::rkyv(&bytes)) {
            prop_assert_eq!(error, DecodeError::Invalid { bytes: bytes.len() });
        }
        assert_books(readers.simulation.bus());
    }
}

#[derive(Archive, Serialize)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + Fallible<Error: Source>))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext + Fallible<Error: Source>)))]
struct Nest(#[rkyv(omit_bounds)] Option<Box<Nest>>);

fn nested(depth: usize) -> Nest {
    (0..depth).fold(Nest(None), |inner, _| Nest(Some(Box::new(inner))))
}

fn depth_of(nest: &ArchivedNest) -> usize {
    std::iter::successors(Some(nest), |nest| nest.0.as_deref()).count() - 1
}

#[test]
fn deep_nesting_from_outside_is_an_error_and_our_own_is_not_limited() {
    const NEST: Topic<Nest> = Topic::new("nest");
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let depths = Seen::default();
    let made = bus.subscribe(NEST).handle({
        let depths = depths.clone();
        move |nest, _| depths.push(depth_of(nest))
    });
    let mut publisher = bus.publisher().unwrap();
    for depth in [0, 10, 60] {
        let bytes = rkyv::to_bytes::<Error>(&nested(depth)).unwrap();
        publisher.publish(NEST.name(), Payload::rkyv(&bytes)).unwrap();
    }
    simulation.run();
    assert_eq!(depths.take(), [0, 10, 60]);
    publisher.publish(NEST, &nested(200)).unwrap();
    simulation.run();
    assert_eq!(depths.take(), [200], "what this process encoded is trusted");

    // Each box points to the eight bytes before it, by a relative offset: a bomb of 100,000 levels needs no stack to make.
    let one = rkyv::to_bytes::<Error>(&nested(1)).unwrap();
    let (inner, outer) = one.split_at(one.len() - size_of::<ArchivedNest>());
    let five: Vec<u8> = [inner.to_vec(), outer.repeat(5)].concat();
    assert_eq!(Payload::rkyv(&five).archived::<Nest>().map(depth_of), Ok(5), "the bomb is built as it should be");
    let levels = (1_000_000 - inner.len()) / outer.len();
    let bomb: Vec<u8> = [inner.to_vec(), outer.repeat(levels)].concat();
    for bytes in [rkyv::to_bytes::<Error>(&nested(100)).unwrap().to_vec(), bomb] {
        publisher.publish(NEST.name(), Payload::rkyv(&bytes)).unwrap();
        let mut mailbox = bus.subscribe(NEST).mailbox().unwrap();
        publisher.publish(NEST.name(), Payload::rkyv(&bytes)).unwrap();
        simulation.run();
        let delivery = mailbox.try_recv().unwrap();
        assert_eq!(delivery.event().map(depth_of), Err(DecodeError::Invalid { bytes: bytes.len() }));
        assert_eq!(delivery.meta().payload().archived::<Nest>().map(depth_of), delivery.event().map(depth_of));
    }
    let record = made.unwrap().record();
    assert_eq!((record.delivery_count, record.error_count), (4, 4));
    assert_books(bus);
}
