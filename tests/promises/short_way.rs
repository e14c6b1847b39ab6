//! Plain events take a shorter way into their lane. It keeps every promise of the long one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, FullPolicy, IdleStrategy, Payload, Priority, PublishError, Topic};
use rkyv::rancor::Fallible;
use rkyv::{Archive, Archived, Place, Serialize};

use super::support::{Log, TICK, Tick, assert_books, assert_settled, watched};

/// The two forms of a publisher: one writes into the slot, the other copies into it.
fn forms(builder: impl Fn() -> BusBuilder) -> [BusBuilder; 2] {
    [builder(), builder().single_publisher()]
}

/// Says how often it was written, and panics where it is told to.
struct Watched {
    written: Arc<AtomicUsize>,
    panics: bool,
}

const WATCHED: Topic<Watched> = Topic::new("watched");

impl Archive for Watched {
    type Archived = Archived<u64>;
    type Resolver = ();

    fn resolve(&self, (): (), out: Place<Self::Archived>) {
        0xdead_u64.resolve((), out);
        assert!(!self.panics, "a panic that the test asks for");
    }
}

impl<S: Fallible + ?Sized> Serialize<S> for Watched {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Shuts the bus down while it is written.
struct Last(Bus);

const LAST: Topic<Last> = Topic::new("last");

impl Archive for Last {
    type Archived = Archived<u64>;
    type Resolver = ();

    fn resolve(&self, (): (), out: Place<Self::Archived>) {
        0_u64.resolve((), out);
        assert!(self.0.shutdown().unwrap().is_clean());
    }
}

impl<S: Fallible + ?Sized> Serialize<S> for Last {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        Ok(())
    }
}

#[test]
fn an_event_whose_encoding_outlasts_the_bus_is_refused_and_not_lost() {
    watched(|| {
        for builder in forms(|| Bus::builder().workers(1)) {
            let bus = builder.build().unwrap();
            let _made = bus.subscribe("**").handle(|_: Payload<'_>, _: &_| ()).unwrap();
            let mut publisher = bus.publisher().unwrap();
            publisher.publish(TICK, &Tick { from: 0, nth: 0 }).unwrap();
            let refused = publisher.publish(LAST, &Last(bus.clone()));
            assert!(matches!(refused, Err(PublishError::ShuttingDown)), "{refused:?}");
            let ledger = bus.ledger();
            assert_eq!((ledger.accepted, ledger.subscriptions.delivered, ledger.in_lanes), (1, 1, 0));
            assert_settled(&bus);
        }
    });
}

#[test]
fn a_panic_while_an_event_is_written_leaves_no_event_and_the_lane_as_it_was() {
    for builder in forms(|| Bus::builder().workers(1).max_queue_size(4)) {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let seen = Log::new();
        let log = seen.clone();
        let _ticks = bus.subscribe("**").handle(move |_: Payload<'_>, meta: &_| log.add(meta.sequence())).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let written = Arc::new(AtomicUsize::new(0));
        for nth in 0..20 {
            publisher.publish(WATCHED, &Watched { written: Arc::clone(&written), panics: false }).unwrap();
            let panicking = Watched { written: Arc::clone(&written), panics: true };
            let publish = || publisher.publish(WATCHED, &panicking);
            assert!(catch_unwind(AssertUnwindSafe(publish)).is_err());
            publisher.publish(TICK, &Tick { from: 0, nth }).unwrap();
            simulation.run();
        }
        assert_eq!(seen.take(), (0..40).collect::<Vec<_>>());
        assert_eq!(written.load(Ordering::Relaxed), 40);
        assert_settled(bus);
    }
}

#[test]
fn a_full_lane_refuses_what_will_not_wait_before_it_is_encoded() {
    for builder in forms(|| Bus::builder().workers(1).max_queue_size(2).when_full(FullPolicy::REJECT)) {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let _made = bus.subscribe(WATCHED).handle(|_, _| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let written = Arc::new(AtomicUsize::new(0));
        let event = Watched { written: Arc::clone(&written), panics: false };
        for _ in 0..2 {
            publisher.publish(WATCHED, &event).unwrap();
        }
        for _ in 0..5 {
            for refused in [
                publisher.publish(WATCHED, &event),
                publisher.try_publish(WATCHED, &event),
                publisher.at(Priority::Normal).try_publish(WATCHED, &event),
                publisher.event().metadata("with", "envelope").try_publish(WATCHED, &event),
            ] {
                assert!(matches!(refused, Err(PublishError::Full { depth: 2, limit: 2, .. })), "{refused:?}");
            }
        }
        assert_eq!(written.load(Ordering::Relaxed), 2);
        assert_eq!(bus.metrics().refused.full, 20);
        simulation.run();
        publisher.try_publish(WATCHED, &event).unwrap();
        simulation.run();
        assert_settled(bus);
    }
}

#[test]
fn what_nobody_wants_is_accepted_beside_a_full_lane() {
    for builder in forms(|| Bus::builder().workers(1).max_queue_size(2).when_full(FullPolicy::REJECT)) {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let mut publisher = bus.publisher().unwrap();
        publisher.publish(TICK, &Tick { from: 0, nth: 0 }).expect("no worker reads yet, and nobody wants it");
        let _made = bus.subscribe("wanted").handle(|_: Payload<'_>, _: &_| ()).unwrap();
        for _ in 0..2 {
            publisher.publish("wanted", Payload::raw(b"")).unwrap();
        }
        assert!(publisher.try_publish("wanted", Payload::raw(b"")).is_err());
        publisher.try_publish(TICK, &Tick { from: 0, nth: 1 }).unwrap();
        publisher.publish(TICK, &Tick { from: 0, nth: 2 }).unwrap();
        assert_eq!((bus.ledger().unmatched, bus.ledger().routed), (3, 2));
        simulation.run();
        assert_settled(bus);
    }
}

#[test]
fn a_payload_known_to_be_too_large_is_refused_as_such_although_its_lane_is_full() {
    const WORDS: Topic<[u64; 9]> = Topic::new("words");
    const TEXT: Topic<String> = Topic::new("text");
    let builder = || {
        let small = Bus::builder().workers(1).max_queue_size(4).batch_max(4);
        small.payload_bytes_max(64).when_full(FullPolicy::REJECT)
    };
    for builder in forms(builder) {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let _made = bus.subscribe("**").handle(|_: Payload<'_>, _: &_| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let (fits, long, text) = ([0; 64], [0; 65], "t".repeat(100));
        for _ in 0..4 {
            publisher.publish("raw", Payload::raw(&fits)).unwrap();
        }
        let full = |result: Result<_, PublishError>| matches!(result, Err(PublishError::Full { depth: 4, .. }));
        assert!(full(publisher.publish("raw", Payload::raw(&fits))));
        assert!(full(publisher.try_publish("raw", Payload::raw(&fits))));
        // How long these are is known without encoding them, and no room would help.
        let too_large = |bytes| Err(PublishError::TooLarge { bytes, max: 64 });
        assert_eq!(publisher.publish("raw", Payload::raw(&long)), too_large(65));
        assert_eq!(publisher.try_publish("raw", Payload::raw(&long)), too_large(65));
        assert_eq!(publisher.try_publish("new", Payload::raw(&long)), too_large(65));
        assert_eq!(publisher.event().attempt(2).try_publish("raw", Payload::raw(&long)), too_large(65));
        assert_eq!(publisher.try_publish(WORDS, &[0; 9]), too_large(72));
        // A full lane is not encoded for.
        assert!(full(publisher.try_publish(TEXT, &text)));
        let refused = bus.metrics().refused;
        assert_eq!((refused.full, refused.invalid, refused.total()), (3, 5, 8));
        simulation.run();
        assert!(matches!(publisher.try_publish(TEXT, &text), Err(PublishError::TooLarge { max: 64, .. })));
        assert_settled(bus);
        assert_eq!(bus.ledger().accepted, 4);
    }
}

#[test]
fn padding_is_zero_whatever_the_slot_held_before() {
    #[derive(Archive, Serialize)]
    struct Padded {
        byte: u8,
        word: u64,
    }
    const PADDED: Topic<Padded> = Topic::new("padded");
    for builder in forms(|| Bus::builder().workers(1).max_queue_size(2).slot_bytes(128)) {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let seen = Log::new();
        let log = seen.clone();
        let _made = bus
            .subscribe("padded")
            .handle(move |payload: Payload<'_>, _: &_| log.add(payload.bytes().to_vec()))
            .unwrap();
        let _noise = bus.subscribe("noise").handle(|_: Payload<'_>, _: &_| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..8 {
            publisher.publish("noise", Payload::raw(&[0xff; 64])).unwrap();
            simulation.run();
        }
        for _ in 0..4 {
            publisher.publish(PADDED, &Padded { byte: 1, word: 2 }).unwrap();
            simulation.run();
        }
        let expected = [&[1][..], &[0; 7], &2_u64.to_le_bytes()].concat();
        assert_eq!(seen.take(), vec![expected; 4]);
        assert_settled(bus);
    }
}

#[test]
fn every_length_arrives_as_it_was_sent_in_a_slot_or_a_block() {
    for builder in forms(|| Bus::builder().workers(1).max_queue_size(4).slot_bytes(256)) {
        let simulation = Simulation::new(builder.blocks([(1_024, 4)]).payload_bytes_max(1_024), 1).unwrap();
        let bus = simulation.bus();
        let seen = Log::new();
        let log = seen.clone();
        let _made = bus
            .subscribe("bytes")
            .handle(move |payload: Payload<'_>, _: &_| log.add(payload.bytes().to_vec()))
            .unwrap();
        let mut publisher = bus.publisher().unwrap();
        for bytes in 0..400_usize {
            let payload: Vec<u8> = (0..bytes).map(|at| (at ^ bytes) as u8).collect();
            publisher.publish("bytes", Payload::raw(&payload)).unwrap();
            simulation.run();
            assert_eq!(seen.take(), vec![payload]);
        }
        assert_settled(bus);
    }
}

#[test]
fn the_latest_topic_is_not_taken_for_another_and_its_source_may_change() {
    const NAME: &str = "same.name";
    const FIRST: Topic<u32> = Topic::new(NAME);
    const SECOND: Topic<u64> = Topic::new(NAME);
    for builder in forms(|| Bus::builder().workers(1)) {
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let seen = Log::new();
        let log = seen.clone();
        let _made = bus
            .subscribe("**")
            .handle(move |payload: Payload<'_>, meta: &ringmain::Meta<'_>| {
                log.add((meta.topic().to_owned(), meta.source().to_owned(), payload.bytes().len()));
            })
            .unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.set_source("one").unwrap();
        publisher.publish(FIRST, &1).unwrap();
        assert!(matches!(publisher.publish(SECOND, &1), Err(PublishError::TypeConflict(_))));
        publisher.publish(FIRST, &2).unwrap();
        publisher.publish(NAME, Payload::raw(b"123")).unwrap();
        publisher.publish(&NAME[..4], Payload::raw(b"12")).unwrap();
        publisher.set_source("two").unwrap();
        publisher.publish(&NAME[..4], Payload::raw(b"1")).unwrap();
        publisher.publish(FIRST, &3).unwrap();
        assert!(matches!(publisher.publish("", Payload::raw(b"")), Err(PublishError::Topic(_))));
        simulation.run();
        let expected = [
            (NAME, "one", 4),
            (NAME, "one", 4),
            (NAME, "one", 3),
            ("same", "one", 2),
            ("same", "two", 1),
            (NAME, "two", 4),
        ];
        let expected = expected.map(|(topic, source, bytes)| (topic.to_owned(), source.to_owned(), bytes));
        assert_eq!(seen.take(), expected);
        assert_settled(bus);
    }
}

#[test]
fn a_sleeper_that_holds_a_full_lane_is_woken_by_refusals_each_time_anew() {
    // Worker 1 wants none of the events that fill the lane, and the timers, which put them there, do not wake it.
    const LIMIT: usize = 16;
    watched(|| {
        let bus = Bus::builder().workers(2).max_queue_size(LIMIT).idle(IdleStrategy::Park).build().unwrap();
        let _wanted = bus.subscribe("wanted").handle(|_: Payload<'_>, _: &_| ()).unwrap();
        let _other = bus.subscribe("other").handle(|_: Payload<'_>, _: &_| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..40 {
            for _ in 0..LIMIT {
                let soon = publisher.event().not_before(Duration::from_millis(1));
                soon.publish("wanted", Payload::raw(b"")).unwrap();
            }
            while bus.ledger().scheduled > 0 {
                std::thread::yield_now();
            }
            while let Err(refused) = publisher.try_publish("wanted", Payload::raw(b"")) {
                assert!(matches!(refused, PublishError::Full { .. }), "{refused:?}");
                std::thread::yield_now();
            }
            bus.flush().unwrap();
        }
        assert!(bus.metrics().refused.full > 0, "the sleeper never held the lane");
        assert_settled(&bus);
    });
}

#[test]
fn results_of_publishing_are_a_few_words() {
    assert!(size_of::<Result<ringmain::EventId, PublishError>>() <= 6 * size_of::<usize>());
}

/// Without padding: it is its own archive.
#[derive(Clone, Copy, Archive, Serialize)]
struct Flat {
    at: u64,
    side: [bool; 2],
    tag: [u8; 6],
}

/// Without padding, and yet its archive is longer than the value.
#[derive(Clone, Copy, Archive, Serialize)]
#[rkyv(attr(repr(C, align(16))))]
struct Widened {
    at: u64,
}

/// Nothing at all.
#[derive(Clone, Copy, Archive, Serialize)]
struct Empty;

#[test]
fn values_arrive_whole_whether_they_are_their_own_archive_or_not() {
    const FLAT: Topic<Flat> = Topic::new("flat");
    const WIDENED: Topic<Widened> = Topic::new("widened");
    const EMPTY: Topic<Empty> = Topic::new("empty");
    const WORDS: Topic<[u64; 3]> = Topic::new("words");
    for builder in forms(|| Bus::builder().workers(1)) {
        let simulation = Simulation::new(builder, 3).unwrap();
        let bus = simulation.bus();
        let mut flat = bus.subscribe(FLAT).mailbox().unwrap();
        let mut widened = bus.subscribe(WIDENED).mailbox().unwrap();
        let mut empty = bus.subscribe(EMPTY).mailbox().unwrap();
        let mut words = bus.subscribe(WORDS).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        // Something for a shorter archive to show through.
        publisher.publish("noise", Payload::raw(&[0xff; 128])).unwrap();
        publisher.publish(FLAT, &Flat { at: 7, side: [true, false], tag: *b"abcdef" }).unwrap();
        publisher.publish(WIDENED, &Widened { at: 9 }).unwrap();
        publisher.publish(EMPTY, &Empty).unwrap();
        publisher.publish(WORDS, &[1, 2, 3]).unwrap();
        simulation.run();
        let delivery = flat.try_recv().unwrap();
        let event = delivery.event().unwrap();
        assert_eq!((event.at.to_native(), event.side, event.tag), (7, [true, false], *b"abcdef"));
        assert_eq!(delivery.meta().payload().bytes().len(), size_of::<ArchivedFlat>());
        let delivery = widened.try_recv().unwrap();
        assert_eq!(delivery.event().unwrap().at.to_native(), 9);
        assert_eq!(delivery.meta().payload().bytes().len(), size_of::<ArchivedWidened>());
        assert!(size_of::<ArchivedWidened>() > size_of::<Widened>());
        let delivery = empty.try_recv().unwrap();
        assert!(delivery.event().is_ok() && delivery.meta().payload().bytes().is_empty());
        assert_eq!(words.try_recv().unwrap().event().unwrap().map(|word| word.to_native()), [1, 2, 3]);
        // Deliveries are still held.
        assert_books(bus);
        drop((flat, widened, empty, words));
    }
}
