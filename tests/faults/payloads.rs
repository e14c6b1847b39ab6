//! Values of every alignment, niche and size arrive as they were sent, by every way there is.

use std::fmt::Debug;
use std::num::{NonZeroI8, NonZeroU64};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, Event, Mailbox, Payload, Priority, PublishError, Publisher, Topic};
use rkyv::api::high::{HighDeserializer, HighSerializer};
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::support::{Log, assert_settled};

const BLOCKS: usize = 64;
/// Payload bytes that fit the slots of the two buses: 128 and 512, less stamp and head.
const SHORT: usize = 64;
const LONG: usize = 448;

/// What rkyv itself makes archives with.
type Archiver<'a> = HighSerializer<AlignedVec, ArenaHandle<'a>, Error>;

/// A value that can be compared with what arrives.
pub(crate) trait Value:
    Event<Archived: Deserialize<Self, HighDeserializer<Error>>>
    + for<'a> Serialize<Archiver<'a>>
    + Clone
    + PartialEq
    + Debug
    + Send
    + Sync
{
}

impl<E> Value for E where
    E: Event<Archived: Deserialize<E, HighDeserializer<Error>>>
        + for<'a> Serialize<Archiver<'a>>
        + Clone
        + PartialEq
        + Debug
        + Send
        + Sync
{
}

pub(crate) fn read<E: Value>(archived: &E::Archived) -> E {
    let address = std::ptr::from_ref(archived).addr();
    assert!(address.is_multiple_of(align_of::<E::Archived>()), "a value is read where it is aligned");
    rkyv::deserialize::<E, Error>(archived).expect("it was encoded here")
}

/// Everything that `mailbox` holds.
fn pull<E: Value>(mailbox: &mut Mailbox<Topic<E>>) -> Vec<E> {
    std::iter::from_fn(|| mailbox.try_recv().ok()).map(|one| read::<E>(one.event().unwrap())).collect()
}

/// A bus whose slots are as short as they can be, and one with room.
fn builders() -> [BusBuilder; 4] {
    let small = || {
        let builder = Bus::builder().workers(2).max_queue_size(256).batch_max(64).prefault(false).types_max(8);
        builder.slot_bytes(128).blocks([(256, BLOCKS), (4_096, BLOCKS)]).payload_bytes_max(4_096)
    };
    [small(), small().single_publisher(), small().slot_bytes(512), small().slot_bytes(512).single_publisher()]
}

/// Sends the values by every way of publishing, to every way of receiving.
fn arrives<E: Value>(values: &[E]) {
    for builder in builders() {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let topic = Topic::<E>::new("value");
        let logs: [Log<E>; 4] = std::array::from_fn(|_| Log::new());
        let [inline, own, called, untyped] = logs.clone();
        let inline = bus.subscribe(topic).on_worker(0).handle(move |event, _| inline.add(read::<E>(event))).unwrap();
        let own = bus.subscribe(topic).on_worker(1).handle_on("own", move |event, _| own.add(read::<E>(event)));
        let own = own.unwrap();
        let untyped = bus.subscribe("value").on_worker(1).handle(move |payload, _| {
            assert!(payload.bytes().as_ptr().addr().is_multiple_of(16), "payloads begin on 16 bytes");
            // Validated, as if it came from outside: what is written without a look is a valid archive.
            untyped.add(read::<E>(payload.archived::<E>().expect("a valid archive")));
        });
        let untyped = untyped.unwrap();
        let mut mailbox = bus.subscribe(topic).mailbox().unwrap();
        let running = bus.subscribe(topic).run(async move |delivery| called.add(read::<E>(delivery.event().unwrap())));
        let mut running = pin!(running.unwrap());
        let mut publisher = bus.publisher().unwrap();
        let mut sent = Vec::new();
        let mut send = |publish: &mut dyn FnMut(&E) -> Result<(), PublishError>| {
            for value in values {
                publish(value).unwrap();
                sent.push(value.clone());
                simulation.run();
            }
        };
        send(&mut |value| publisher.publish(topic, value).map(drop));
        send(&mut |value| publisher.try_publish(topic, value).map(drop));
        send(&mut |value| publisher.event().metadata("k", "v").publish(topic, value).map(drop));
        send(&mut |value| {
            let mut future = pin!(publisher.publish_async(topic, value));
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result.map(drop),
                Poll::Pending => panic!("there is room"),
            }
        });
        send(&mut |value| publisher.publish_batch(topic, [value]).map(drop));
        // Archives made elsewhere are bytes like any others, and validated.
        send(&mut |value| {
            let archive = rkyv::to_bytes::<Error>(value).unwrap();
            publisher.publish("value", Payload::rkyv(&archive)).map(drop)
        });
        for _ in 0..2 {
            publisher.publish_batch(topic, values).unwrap();
            sent.extend_from_slice(values);
            simulation.run();
        }
        assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let pulled = pull(&mut mailbox);
        while bus.flush().is_err() {
            std::thread::yield_now();
        }
        for got in logs.iter().map(Log::take).chain([pulled]) {
            assert_eq!(got, sent);
        }
        lent(&simulation, &mut publisher, values);
        assert_settled(bus);
        assert_eq!(bus.metrics().free_blocks, 2 * BLOCKS);
        drop((inline, own, untyped));
    }
}

/// Writes archives straight into blocks: their bytes arrive as they were written, where a value can be read.
fn lent<E: Value>(simulation: &Simulation, publisher: &mut Publisher, values: &[E]) {
    let mut mailbox = simulation.bus().subscribe("lent").mailbox().unwrap();
    for value in values {
        let archive = rkyv::to_bytes::<Error>(value).unwrap();
        let mut loan = publisher.loan(archive.len()).unwrap();
        loan.bytes_mut().copy_from_slice(&archive);
        loan.publish(Priority::Normal, "lent").unwrap();
        simulation.run();
        let delivery = mailbox.try_recv().unwrap();
        let archive = Payload::rkyv(delivery.payload().bytes());
        assert_eq!(read::<E>(archive.archived::<E>().expect("aligned and whole")), *value);
    }
}

fn is_flat<E: Archive>() -> bool {
    E::COPY_OPTIMIZATION.is_enabled()
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Pair {
    id: u64,
    cents: u64,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Padded {
    small: u8,
    wide: u128,
    flag: bool,
    letter: char,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Empty;

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
enum Shape {
    Nothing,
    One(NonZeroU64),
    Named { letter: char, list: Vec<u16>, inner: Option<Box<Shape2>> },
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Shape2 {
    #[rkyv(with = rkyv::with::Niche)]
    absent: Option<Box<u64>>,
    #[rkyv(with = rkyv::with::Niche)]
    number: Option<NonZeroU64>,
}

#[test]
fn values_that_are_their_own_archive_arrive() {
    assert!(is_flat::<u64>() && is_flat::<char>() && is_flat::<NonZeroU64>() && is_flat::<[u128; 3]>());
    arrives(&[0, 1, u64::MAX, 0x0102_0304_0506_0708]);
    arrives(&[0, 1, u128::MAX, i128::MAX as u128]);
    arrives(&[0_i8, -1, i8::MIN]);
    arrives(&[false, true]);
    arrives(&['a', '\0', char::MAX, '\u{d7ff}', '\u{e000}']);
    arrives(&[f64::MIN_POSITIVE, -0.0, f64::INFINITY]);
    arrives(&[NonZeroU64::MIN, NonZeroU64::MAX]);
    arrives(&[NonZeroI8::MIN, NonZeroI8::MAX]);
    arrives(&[[1_u128, 2, 3], [u128::MAX; 3]]);
    arrives(&[Pair { id: 1, cents: 2 }, Pair { id: u64::MAX, cents: 0 }]);
}

#[test]
fn values_without_bytes_arrive() {
    assert!(is_flat::<()>() && is_flat::<[u64; 0]>());
    arrives(&[(), ()]);
    arrives(&[Empty, Empty]);
    arrives::<[u64; 0]>(&[[]]);
    arrives(&[std::marker::PhantomData::<String>]);
}

#[test]
fn values_with_niches_padding_and_pointers_arrive() {
    assert!(!is_flat::<Option<NonZeroU64>>() && !is_flat::<Box<u128>>() && !is_flat::<Padded>());
    arrives(&[None, NonZeroU64::new(7)]);
    arrives(&[Box::new(7_u128), Box::new(u128::MAX)]);
    arrives(&[None, Some(Box::new(7_u64))]);
    arrives(&[Some(Some(Box::new('x'))), Some(None), None]);
    arrives(&[Padded { small: 1, wide: u128::MAX, flag: true, letter: 'é' }]);
    arrives(&[(1_u8, u128::MAX, 2_u16), (u8::MAX, 0, u16::MAX)]);
    let absent = Shape2 { absent: None, number: None };
    let present = Shape2 { absent: Some(Box::new(7)), number: NonZeroU64::new(8) };
    arrives(&[absent.clone(), present.clone()]);
    arrives(&[
        Shape::Nothing,
        Shape::One(NonZeroU64::MAX),
        Shape::Named { letter: 'n', list: vec![], inner: None },
        Shape::Named { letter: char::MAX, list: vec![1; 300], inner: Some(Box::new(present)) },
    ]);
    arrives(&[String::new(), "inlined".to_owned(), "not inlined any more".repeat(40)]);
    arrives(&[vec![], vec![String::new()], vec!["a".repeat(100), "é".repeat(7)]]);
}

#[test]
fn values_as_long_as_a_slot_and_a_byte_longer_arrive() {
    assert!(is_flat::<[u8; SHORT]>());
    arrives(&[[1_u8; SHORT - 1], [2; SHORT - 1]]);
    arrives(&[[1_u8; SHORT], [2; SHORT]]);
    arrives(&[[1_u8; SHORT + 1], [2; SHORT + 1]]);
    arrives(&[[1_u8; LONG - 1], [2; LONG - 1]]);
    arrives(&[[1_u8; LONG], [2; LONG]]);
    arrives(&[[1_u8; LONG + 1], [2; LONG + 1]]);
    arrives(&[[1_u8; 4_096], [2; 4_096]]);
    // A list's archive is its bytes and eight more.
    let around = |bytes: usize| bytes - 9..bytes - 6;
    let lists: Vec<_> = around(SHORT).chain(around(LONG)).chain([4_088]).map(|bytes| vec![7_u8; bytes]).collect();
    arrives(&lists);
}

#[test]
fn a_value_longer_than_allowed_is_refused_by_every_way() {
    for builder in builders() {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let topic = Topic::<[u8; 4_097]>::new("value");
        let mailbox = bus.subscribe(topic).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let value = [1; 4_097];
        let refused = Err(PublishError::TooLarge { bytes: 4_097, max: 4_096 });
        assert_eq!(publisher.publish(topic, &value).map(drop), refused);
        assert_eq!(publisher.try_publish(topic, &value).map(drop), refused);
        assert_eq!(publisher.event().metadata("k", "v").publish(topic, &value).map(drop), refused);
        assert_eq!(publisher.publish_batch(topic, [&value]).map(drop), refused);
        assert_eq!(publisher.loan(4_097).map(drop), refused);
        simulation.run();
        assert!(mailbox.is_empty());
        assert_settled(bus);
        assert_eq!((bus.ledger().accepted, bus.metrics().refused.invalid), (0, 5));
    }
}

#[cfg(feature = "json")]
#[test]
fn values_that_came_as_json_arrive() {
    use ringmain::{Encoding, Json};

    #[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
    struct Everything {
        niche: NonZeroU64,
        maybe: Option<Box<u128>>,
        letter: char,
        flag: bool,
        unit: (),
        text: String,
    }
    const EVERYTHING: Topic<Everything> = Topic::new("everything");
    for builder in builders() {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        bus.codec(EVERYTHING, Json).unwrap();
        let mut mailbox = bus.subscribe(EVERYTHING).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for (niche, length) in [(1, 0), (u64::MAX, 7), (7, 600)] {
            let value = Everything {
                niche: NonZeroU64::new(niche).unwrap(),
                maybe: (length != 7).then(|| Box::new(u128::MAX)),
                letter: char::MAX,
                flag: true,
                unit: (),
                text: "\"é\n".repeat(length),
            };
            let json = serde_json::to_string(&value).unwrap();
            let mut archive = AlignedVec::<16>::new();
            let mut bytes = Vec::new();
            bus.transcode(EVERYTHING.name(), Payload::json(&json), Encoding::Rkyv, &mut bytes).unwrap();
            archive.extend_from_slice(&bytes);
            publisher.publish(EVERYTHING.name(), Payload::rkyv(&archive)).unwrap();
            simulation.run();
            let delivery = mailbox.try_recv().unwrap();
            assert_eq!(read::<Everything>(delivery.event().unwrap()), value);
            let mut back = Vec::new();
            bus.transcode(EVERYTHING.name(), delivery.meta().payload(), Encoding::Json, &mut back).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), json);
        }
        assert_settled(bus);
    }
}
