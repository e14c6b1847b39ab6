//! A publisher may fail at any point: the lane is never stuck, everything else is delivered, and all blocks come back.

use std::cell::Cell;
use std::fmt;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, FullPolicy, Mailbox, Pattern, Payload, Priority, PublishError, Publisher, Topic};
use rkyv::rancor::{Fallible, Source};
use rkyv::ser::{Writer, WriterExt};
use rkyv::{Archive, Archived, Place, Serialize};

use super::support::{assert_settled, watched};

const LARGE: Payload<'static> = Payload::raw(&[7; 900]);
const SMALL: Payload<'static> = Payload::raw(b"small");

fn small_bus() -> BusBuilder {
    Bus::builder()
        .workers(2)
        .max_queue_size(16)
        .batch_max(16)
        .blocks([(1_000, 4)])
        .payload_bytes_max(1_000)
        .when_full(FullPolicy::REJECT)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Panics,
    Errs,
}

/// Writes `before` bytes, then fails if it is its turn, then writes the rest. The archive is its number.
struct Faulty {
    nth: u32,
    before: usize,
    fault: Option<Fault>,
}

const FAULTY: Topic<Faulty> = Topic::new("a.faulty");

#[derive(Debug)]
struct AskedFor;

impl fmt::Display for AskedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the test asks for it")
    }
}

impl std::error::Error for AskedFor {}

impl Archive for Faulty {
    type Archived = Archived<u32>;
    type Resolver = ();

    fn resolve(&self, (): (), out: Place<Self::Archived>) {
        self.nth.resolve((), out);
    }
}

impl<S: Fallible<Error: Source> + Writer + ?Sized> Serialize<S> for Faulty {
    fn serialize(&self, serializer: &mut S) -> Result<(), S::Error> {
        serializer.write(&vec![1; self.before])?;
        match self.fault {
            Some(Fault::Panics) => panic!("a panic that the test asks for"),
            Some(Fault::Errs) => return Err(S::Error::new(AskedFor)),
            None => {}
        }
        serializer.write(&[2; 20])?;
        serializer.align_for::<Self::Archived>().map(drop)
    }
}

/// Takes everything there is and returns the numbers of the `Faulty` among it.
fn drain(simulation: &Simulation, mailbox: &mut Mailbox<Topic<Faulty>>) -> Vec<u32> {
    simulation.run();
    let mut numbers = Vec::new();
    while let Ok(delivery) = mailbox.try_recv() {
        numbers.push(delivery.event().unwrap().to_native());
    }
    numbers
}

#[test]
fn an_encoder_that_fails_half_way_publishes_nothing_and_hurts_nothing() {
    // 10 bytes stay in the slot, 170 leave it half-way, 600 need a block.
    for before in [0, 10, 170, 600] {
        for fault in [Fault::Panics, Fault::Errs] {
            for at in [0, 1, 5] {
                let simulation = Simulation::new(small_bus(), 1).unwrap();
                let bus = simulation.bus();
                let mut mailbox = bus.subscribe(FAULTY).mailbox().unwrap();
                let mut publisher = bus.publisher().unwrap();
                let mut got = Vec::new();
                for nth in 0..8 {
                    let event = Faulty { nth, before, fault: (nth == at).then_some(fault) };
                    let result = catch_unwind(AssertUnwindSafe(|| publisher.publish(FAULTY, &event)));
                    match (nth == at).then_some(fault) {
                        None => drop(result.unwrap().unwrap()),
                        Some(Fault::Errs) => assert_eq!(result.unwrap(), Err(PublishError::Encode)),
                        Some(Fault::Panics) => assert!(result.is_err()),
                    }
                    got.extend(drain(&simulation, &mut mailbox));
                }
                assert_eq!(got, (0..8).filter(|&nth| nth != at).collect::<Vec<_>>());
                assert_eq!(bus.ledger().accepted, 7);
                assert_eq!(bus.metrics().refused.invalid, u64::from(fault == Fault::Errs));
                assert_eq!(bus.metrics().free_blocks, 4);
                assert_settled(bus);
            }
        }
    }
}

#[test]
fn an_encoder_that_fails_only_when_it_gets_its_block_loses_no_block() {
    /// Counts how often it was asked: the second time it has a block to write to.
    struct Second(Cell<u32>, Fault);
    impl Archive for Second {
        type Archived = ();
        type Resolver = ();
        fn resolve(&self, (): (), _: Place<()>) {}
    }
    impl<S: Fallible<Error: Source> + Writer + ?Sized> Serialize<S> for Second {
        fn serialize(&self, serializer: &mut S) -> Result<(), S::Error> {
            serializer.write(&[1; 400])?;
            self.0.set(self.0.get() + 1);
            match (self.0.get(), self.1) {
                (2, Fault::Panics) => panic!("a panic that the test asks for"),
                (2, Fault::Errs) => Err(S::Error::new(AskedFor)),
                _ => serializer.write(&[2; 400]),
            }
        }
    }
    const SECOND: Topic<Second> = Topic::new("a.second");
    for fault in [Fault::Panics, Fault::Errs] {
        let simulation = Simulation::new(small_bus(), 1).unwrap();
        let bus = simulation.bus();
        let mut mailbox = bus.subscribe(SECOND).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..10 {
            let event = Second(Cell::new(0), fault);
            let result = catch_unwind(AssertUnwindSafe(|| publisher.publish(SECOND, &event)));
            assert!(!matches!(result, Ok(Ok(_))));
            assert_eq!(bus.metrics().free_blocks, 4);
        }
        publisher.publish(SECOND, &Second(Cell::new(5), fault)).unwrap();
        simulation.run();
        assert!(mailbox.try_recv().is_ok());
        assert_settled(bus);
    }
}

#[test]
fn an_encoder_that_fails_in_a_batch_leaves_the_batch_as_it_was() {
    for before in [10, 170, 600] {
        for fault in [Fault::Panics, Fault::Errs] {
            let simulation = Simulation::new(small_bus(), 1).unwrap();
            let bus = simulation.bus();
            let mut mailbox = bus.subscribe(FAULTY).mailbox().unwrap();
            let mut publisher = bus.publisher().unwrap();
            let mut batch = publisher.batch(Priority::High);
            for nth in 0..4 {
                let event = Faulty { nth, before, fault: (nth == 2).then_some(fault) };
                let result = catch_unwind(AssertUnwindSafe(|| batch.add(FAULTY, &event)));
                assert_eq!(matches!(result, Ok(Ok(_))), nth != 2);
            }
            assert_eq!(batch.len(), 3);
            batch.publish().unwrap();
            assert_eq!(drain(&simulation, &mut mailbox), [0, 1, 3]);
            // A batch that goes down with the panic of its builder publishes nothing.
            let gone = catch_unwind(AssertUnwindSafe(|| {
                let mut batch = publisher.batch(Priority::High);
                batch.add(FAULTY, &Faulty { nth: 9, before, fault: None }).unwrap();
                batch.add(FAULTY, &Faulty { nth: 10, before, fault: Some(Fault::Panics) }).map(drop)
            }));
            assert!(gone.is_err());
            assert_eq!(bus.metrics().free_blocks, 4);
            publisher.publish(FAULTY, &Faulty { nth: 11, before, fault: None }).unwrap();
            assert_eq!(drain(&simulation, &mut mailbox), [11]);
            assert_settled(bus);
            assert_eq!(bus.metrics().free_blocks, 4);
        }
    }
}

#[test]
#[allow(clippy::forget_non_drop, reason = "whether a type has a Drop is what must not matter")]
fn a_forgotten_loan_outgoing_or_batch_publishes_nothing_and_keeps_no_block() {
    let simulation = Simulation::new(small_bus(), 1).unwrap();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let lose: [fn(&mut Publisher); 4] = [
        |publisher| {
            let mut loan = publisher.loan(900).unwrap();
            loan.bytes_mut().fill(1);
            forget(loan);
        },
        |publisher| forget(publisher.event().metadata("k", "v").not_before(Duration::from_secs(1))),
        |publisher| {
            let mut batch = publisher.batch(Priority::Normal);
            batch.add("a", LARGE).unwrap();
            batch.add("a", SMALL).unwrap();
            batch.add("a", LARGE).unwrap();
            forget(batch);
        },
        |publisher| {
            let mut batch = publisher.batch(Priority::Normal);
            batch.add("a", LARGE).unwrap();
            batch.add("a", SMALL).unwrap();
            drop(batch);
        },
    ];
    for round in 0..12 {
        lose[round % 4](&mut publisher);
        publisher.publish("a", SMALL).unwrap();
        assert_eq!(bus.metrics().free_blocks, 4, "the next event brings the blocks back, round {round}");
        lose[round % 4](&mut publisher);
        publisher.publish("a", LARGE).unwrap();
        lose[round % 4](&mut publisher);
        publisher.publish_batch("a", [SMALL, LARGE]).unwrap();
        simulation.run();
        for bytes in [5, 900, 5, 900] {
            let delivery = mailbox.try_recv().unwrap();
            assert_eq!(delivery.payload().bytes().len(), bytes);
            assert_eq!(delivery.meta().metadata().count(), 0);
        }
        assert!(mailbox.try_recv().is_err());
    }
    lose[0](&mut publisher);
    lose[2](&mut publisher);
    drop(publisher);
    assert_eq!(bus.metrics().free_blocks, 4, "a publisher that goes brings them back too");
    assert_settled(bus);
}

/// A waker that counts.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn fill(publisher: &mut Publisher) {
    while publisher.try_publish("a", SMALL).is_ok() {}
}

#[test]
fn a_publish_that_is_dropped_while_it_waits_has_published_nothing() {
    let simulation = Simulation::new(small_bus(), 1).unwrap();
    let bus = simulation.bus();
    let mut mailbox: Mailbox<Pattern> = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for payload in [SMALL, LARGE] {
        fill(&mut publisher);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        {
            // Never polled, polled once, polled twice.
            for polls in 0..3 {
                let mut future = pin!(publisher.publish_async("a", payload));
                for _ in 0..polls {
                    assert!(future.as_mut().poll(&mut context).is_pending());
                }
            }
        }
        assert_eq!(bus.metrics().free_blocks, 4, "a dropped future keeps no block");
        let waiting = {
            let mut future = pin!(publisher.publish_async("a", payload));
            assert!(future.as_mut().poll(&mut context).is_pending());
            simulation.run();
            assert!(count.0.load(Ordering::SeqCst) > 0, "it is woken when there is room");
            future.as_mut().poll(&mut context)
        };
        assert!(matches!(waiting, Poll::Ready(Ok(_))));
        simulation.run();
        let mut lengths = Vec::new();
        while let Ok(delivery) = mailbox.try_recv() {
            lengths.push(delivery.payload().bytes().len());
        }
        assert_eq!(lengths.len(), 17, "sixteen that filled the lane, and the one that waited");
        assert_eq!(lengths[16], payload.bytes().len());
        assert_settled(bus);
        assert_eq!(bus.metrics().free_blocks, 4);
    }
}

static FORGOTTEN: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_forgotten_waiting_publish_does_not_stop_the_publisher_or_the_lane() {
    watched(|| {
        let bus = small_bus().when_full(FullPolicy::wait(Duration::from_secs(30))).build().unwrap();
        let mut mailbox = bus.subscribe("a").capacity(1).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        // One event fills the mailbox; once the worker has passed it, it passes no more.
        publisher.publish("a", SMALL).unwrap();
        while bus.ledger().in_lanes > 0 {
            std::thread::yield_now();
        }
        fill(&mut publisher);
        let mut context = Context::from_waker(Waker::noop());
        let mut future = Box::pin(publisher.publish_async("a", LARGE));
        assert!(future.as_mut().poll(&mut context).is_pending());
        // A leak on purpose: where something still points to it, LeakSanitizer does not tell of it.
        FORGOTTEN.store(std::ptr::from_ref(&*future).addr(), Ordering::Relaxed);
        forget(future);
        let consumer = std::thread::spawn(move || {
            let mut count = 0;
            while let Ok(delivery) = mailbox.recv_deadline(Duration::from_secs(30)) {
                count += 1;
                if delivery.payload().bytes() == b"last" {
                    break;
                }
            }
            (count, mailbox)
        });
        publisher.publish("a", Payload::raw(b"last")).unwrap();
        let (count, _mailbox) = consumer.join().unwrap();
        assert_settled(&bus);
        assert_eq!(bus.ledger().accepted, count, "what was forgotten was not published");
        assert_eq!(bus.metrics().free_blocks, 4);
    });
}
