//! A subscription that cannot keep up reads from the journal what it could not take, each event once and in order, and rejoins; a fast
//! one beside it does not wait for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::{Failure, SimDisk};
use ringmain::store::{Durability, EventStore, JournalState, LogStore, MemoryStore, OpenError};
use ringmain::{
    Bus, DeliveryMode, Frame, Mailbox, Meta, Notice, Pattern, Payload, Priority, SubscribeError, SubscriptionLedger,
    TryRecvError,
};

use crate::books::{assert_books, assert_settled};
use crate::folder::Folder;
use crate::log_store::{open, small};
use crate::support::Shareable;

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events, unless `RINGMAIN_SPILL_EVENTS` says how many.
const EVENTS: u64 = 50_000;
/// Between two events.
const PERIOD: Duration = Duration::from_micros(4);
/// How much faster than the slow one everything is.
const FASTER: u64 = 10;

/// The 99th percentile of a fast one beside it, of what it is without: what one slow of a hundred may do, too.
const P99_RATIO_MAX: f64 = 1.5;

/// What became of a run.
struct Ran {
    /// The 99th percentile of the time from publish to the fast handler.
    p99: Duration,
    /// Events that the slow one had when all were published.
    had: u64,
}

/// Publishes so many events to a fast subscription, and to one that takes a tenth of what the fast one has had.
fn run(events: u64, slow: bool) -> Ran {
    let folder = Folder::new(if slow { "spill" } else { "spill-without" });
    let bus = Bus::builder().workers(1).build().unwrap();
    let store: Arc<dyn EventStore> = Arc::new(LogStore::open(&folder.0).unwrap());
    let journal = bus.journal(store).capacity(1 << 16).start().unwrap();
    let (handled, ages) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (counts, times) = (Arc::clone(&handled), Arc::clone(&ages));
    let fast = bus.subscribe("a").named("fast").handle(move |_, meta| {
        if counts.fetch_add(1, Ordering::Release) % 16 == 0 {
            times.lock().unwrap().push(meta.age());
        }
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let consumer = slow.then(|| {
        let spilling = bus.subscribe("a").named("slow").spill(journal.spill_source()).mailbox().unwrap();
        let (handled, is_over) = (Arc::clone(&handled), Arc::clone(&is_over));
        std::thread::spawn(move || take_all(spilling, events, &handled, &is_over))
    });
    let mut publisher = bus.publisher().unwrap();
    let begun = Instant::now();
    for number in 0..events {
        while begun.elapsed() < PERIOD * number as u32 {
            std::hint::spin_loop();
        }
        publisher.publish_deadline("a", Payload::plain_text(&number.to_string()), PATIENCE).unwrap();
    }
    while handled.load(Ordering::Acquire) < events {
        std::thread::yield_now();
    }
    is_over.store(true, Ordering::Release);
    let had = consumer.map_or(0, |consumer| consumer.join().unwrap());
    // The disk may be behind.
    bus.flush_deadline(PATIENCE * 10).unwrap();
    assert_settled(&bus);
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.dropped.total(), ledger.spilled), (0, 0), "{ledger:#?}");
    assert_eq!(fast.unwrap().ledger().delivered, events);
    assert_eq!(journal.close().unwrap().written, events, "no event is written twice");
    bus.shutdown().unwrap();
    let mut ages = std::mem::take(&mut *ages.lock().unwrap());
    ages.sort_unstable();
    Ran { p99: ages[ages.len() * 99 / 100], had }
}

/// Takes all events, no faster than a tenth of what others have had until those are through. Returns how many it had then.
fn take_all(mut mailbox: Mailbox<Pattern>, events: u64, handled: &AtomicU64, is_over: &AtomicBool) -> u64 {
    let mut had = 0;
    for number in 0..events {
        while !is_over.load(Ordering::Acquire) && handled.load(Ordering::Acquire) < number * FASTER {
            std::thread::park_timeout(Duration::from_micros(50));
        }
        had += u64::from(!is_over.load(Ordering::Acquire));
        let event = mailbox.recv_deadline(PATIENCE).unwrap_or_else(|error| panic!("event {number}: {error}"));
        assert_eq!(event.payload().text().unwrap().parse(), Ok(number), "each once, in order");
    }
    assert_eq!(mailbox.try_recv().map(drop), Err(TryRecvError::Empty));
    had
}

#[test]
fn a_slow_subscription_gets_every_event_once_and_in_order_and_a_fast_one_beside_it_does_not_wait() {
    let of = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let (events, rounds) = (of("RINGMAIN_SPILL_EVENTS", EVENTS), of("RINGMAIN_SPILL_ROUNDS", 1));
    let mut ratios: Vec<f64> = (0..rounds)
        .map(|_| {
            let (without, with) = (run(events, false), run(events, true));
            assert!(with.had < events / 2, "it had {} of {events} when the fast one was through", with.had);
            let ratio = with.p99.as_secs_f64() / without.p99.as_secs_f64();
            println!(
                "spill: {events} events at {FASTER} times its speed, each once and in order; p99 of a fast one {:?} with it, {:?} without: {ratio:.2}",
                with.p99, without.p99
            );
            ratio
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    // One round of few events says nothing of a p99.
    if rounds >= 3 {
        let median = ratios[ratios.len() / 2];
        assert!(median <= P99_RATIO_MAX, "the p99 of a fast one is {median:.2} of what it is without the slow one");
    }
}

fn publish(bus: &Bus, topic: &str, numbers: std::ops::Range<u64>) {
    let mut publisher = bus.publisher().unwrap();
    for number in numbers {
        publisher.publish(topic, Payload::plain_text(&number.to_string())).unwrap();
    }
}

fn numbers(mailbox: &mut Mailbox<Pattern>, events: u64) -> Vec<u64> {
    let number = |_| mailbox.recv_deadline(PATIENCE).unwrap().payload().text().unwrap().parse().unwrap();
    (0..events).map(number).collect()
}

/// A bus that says what becomes of a spill.
fn listening() -> (Bus, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let bus = Bus::builder().workers(2).observer(move |notice: &Notice<'_>| {
        let text = match notice {
            Notice::Spilling { .. } => "spilling".to_owned(),
            Notice::Rejoined { events, .. } => format!("rejoined after {events}"),
            Notice::SpillFailed { error, .. } => format!("unread: {error}"),
            Notice::SpillLost { events, .. } => format!("lost {events}"),
            Notice::StorageFailed { .. } => "failed".to_owned(),
            Notice::StorageReturned { .. } => "returned".to_owned(),
            _ => return,
        };
        // The test may have heard enough.
        let _ = told.lock().unwrap().send(text);
    });
    (bus.build().unwrap(), heard)
}

/// Opens the store of a disk again, once whoever reads back what is spilled has let go of it.
fn open_again(disk: &SimDisk) -> LogStore {
    loop {
        match open_on(disk.shared(), small()) {
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            opened => return opened.expect("the disk works"),
        }
    }
}

fn hear(heard: &mpsc::Receiver<String>, begins: &str) -> String {
    loop {
        let text = heard.recv_timeout(PATIENCE).unwrap();
        if text.starts_with(begins) {
            return text;
        }
    }
}

#[test]
fn it_rejoins_when_it_has_caught_up_and_lapses_again() {
    let (bus, heard) = listening();
    let store = Arc::new(MemoryStore::new());
    let journal = bus.journal(store).durability(Durability::Accepted).start().unwrap();
    let mut slow = bus.subscribe("a.*").capacity(16).spill(journal.spill_source()).mailbox().unwrap();
    for lapse in 0..5 {
        let first = lapse * 1_000;
        publish(&bus, "a.b", first..first + 1_000);
        hear(&heard, "spilling");
        assert_eq!(numbers(&mut slow, 1_000), (first..first + 1_000).collect::<Vec<_>>());
        hear(&heard, "rejoined");
    }
    assert_settled(&bus);
    assert_eq!(bus.ledger().subscriptions.dropped.total(), 0);
    drop(journal);
    bus.shutdown().unwrap();
}

#[test]
fn what_it_reads_back_is_the_event_as_it_was_published() {
    let bus = Bus::builder().workers(1).slot_bytes(256).build().unwrap();
    let journal = bus.journal(Arc::new(MemoryStore::new())).durability(Durability::Accepted).start().unwrap();
    let mut all = bus.subscribe("**").capacity(1 << 12).mailbox().unwrap();
    let mut slow = bus.subscribe("**").capacity(2).spill(journal.spill_source()).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let long = "x".repeat(9_000);
    for number in 0..300_u64 {
        let event =
            publisher.event().priority(Priority::ALL[number as usize % 4]).metadata("number", &number.to_string());
        let event = event.source("somebody").expires_after(PATIENCE).not_before(Duration::from_nanos(1));
        let text = if number % 7 == 0 { &long } else { "short" };
        event.publish(["a.b", "c"][number as usize % 2], Payload::plain_text(text)).unwrap();
    }
    let frame = |mailbox: &mut Mailbox<Pattern>| Frame::of(&mailbox.recv_deadline(PATIENCE).unwrap().meta());
    let mut published: Vec<_> = (0..300).map(|_| frame(&mut all)).collect();
    let mut read: Vec<_> = (0..300).map(|_| frame(&mut slow)).collect();
    // Stable: the order within a priority stays.
    published.sort_by_key(|frame| frame.meta().priority());
    read.sort_by_key(|frame| frame.meta().priority());
    let text = |meta: &Meta<'_>| format!("{:?} {} {} {:?}", meta.id(), meta.topic(), meta.source(), meta.get("number"));
    // The wall clock may have been followed meanwhile.
    let is_about = |a: SystemTime, b: SystemTime| {
        a.duration_since(b).or_else(|_| b.duration_since(a)).unwrap() < Duration::from_secs(1)
    };
    for (read, published) in read.iter().zip(&published) {
        let (meta, was) = (read.meta(), published.meta());
        assert_eq!((text(&meta), meta.priority()), (text(&was), was.priority()));
        assert_eq!(read.payload(), published.payload());
        assert!(is_about(meta.timestamp(), was.timestamp()), "{meta:?}, {was:?}");
        assert!(is_about(meta.not_before().unwrap(), was.not_before().unwrap()), "{meta:?}, {was:?}");
        let (left, was_left) = (meta.expires_in().unwrap(), was.expires_in().unwrap());
        assert!(left.abs_diff(was_left) < Duration::from_secs(1), "{left:?}, {was_left:?}");
    }
    drop(journal);
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn handlers_on_threads_and_reliable_ones_read_back_too_and_a_shutdown_waits_for_them() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::reliable()] {
        let bus = Bus::builder().workers(2).build().unwrap();
        let journal = bus.journal(Arc::new(MemoryStore::new())).durability(Durability::Accepted).start().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let slow = bus.subscribe("a").capacity(8).mode(mode).spill(journal.spill_source());
        let slow =
            slow.handle_on("slow", move |payload, _| sees.lock().unwrap().push(payload.text().unwrap().to_owned()));
        publish(&bus, "a", 0..2_000);
        let report = bus.shutdown_deadline(PATIENCE).unwrap();
        assert!(report.is_clean(), "{mode:?}: {report:?}");
        let expected: Vec<_> = (0..2_000).map(|number| number.to_string()).collect();
        assert_eq!(*seen.lock().unwrap(), expected, "{mode:?}");
        drop((slow, journal));
        assert_books(&bus);
    }
}

#[test]
fn what_was_published_durably_is_read_where_it_was_kept_first_and_in_its_place() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = Arc::new(open(&SimDisk::new()));
    let journal = bus.journal(store.clone()).start().unwrap();
    let durable = bus.durable(store, Arc::new(MemoryStore::new())).start().unwrap();
    let mut slow = bus.subscribe("a").capacity(4).spill(journal.spill_source()).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut positions = Vec::new();
    for number in 0..200 {
        let text = number.to_string();
        if number % 3 == 0 {
            let event =
                publisher.event().publish_durable(&durable, Durability::Written, "a", Payload::plain_text(&text));
            positions.push(Some(event.unwrap().get()));
            // It is in the lane, behind those before it.
            while durable.counts().delivered < positions.iter().flatten().count() as u64 {
                std::thread::yield_now();
            }
        } else {
            publisher.publish("a", Payload::plain_text(&text)).unwrap();
            positions.push(None);
        }
    }
    for (number, position) in positions.into_iter().enumerate() {
        let event = slow.recv_deadline(PATIENCE).unwrap();
        let meta = event.meta();
        assert_eq!((event.payload().text().unwrap(), meta.position()), (&*number.to_string(), position));
    }
    drop(durable);
    assert_eq!(journal.close().unwrap().already_stored, 67);
    assert_settled(&bus);
    assert_eq!(bus.ledger().subscriptions.dropped.total(), 0);
    bus.shutdown().unwrap();
}

#[test]
fn a_journal_that_keeps_less_than_the_subscription_wants_is_refused() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let journal = bus.journal(Arc::new(MemoryStore::new())).durability(Durability::Accepted);
    let journal = journal.pattern(Pattern::new("orders.**").unwrap()).pattern(Pattern::new("carts.*").unwrap());
    let journal = journal.start().unwrap();
    let subscribe = |pattern: &str| bus.subscribe(pattern).spill(journal.spill_source()).mailbox().map(drop);
    assert_eq!(subscribe("orders.*.paid"), Ok(()));
    assert_eq!(subscribe("carts.left"), Ok(()));
    for pattern in ["carts.**", "**", "bills.paid"] {
        assert_eq!(subscribe(pattern), Err(SubscribeError::NotCovered { pattern: pattern.to_owned() }));
    }
    drop(journal);
    assert_books(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn a_disk_that_fails_while_events_are_spilled_loses_none_once_the_store_is_back() {
    let disk = SimDisk::new();
    let (bus, heard) = listening();
    let store = Arc::new(open(&disk));
    let journal = bus.journal(store.clone()).batch_max(50).retry_every(PATIENCE).start().unwrap();
    let mut slow = bus.subscribe("a").capacity(8).spill(journal.spill_source()).mailbox().unwrap();
    publish(&bus, "a", 0..500);
    hear(&heard, "spilling");
    while journal.counts().written < 500 {
        std::thread::yield_now();
    }
    drop(store);
    let is_lost = || matches!(journal.state(), JournalState::Lost(_));
    let mut published = 500;
    while !is_lost() {
        // Whoever reads back what is spilled may be the one to meet it.
        disk.fail_at(1, Failure::Device);
        publish(&bus, "a", published..published + 1);
        published += 1;
        while journal.counts().written < published && !is_lost() {
            std::thread::yield_now();
        }
    }
    publish(&bus, "a", published..1_000);
    hear(&heard, "failed");
    journal.resume(Arc::new(open_again(&disk)));
    hear(&heard, "returned");
    assert_eq!(numbers(&mut slow, 1_000), (0..1_000).collect::<Vec<_>>());
    assert_settled(&bus);
    drop(journal);
    bus.shutdown().unwrap();
}

#[test]
fn what_the_journal_drops_is_lost_said_and_counted() {
    let disk = SimDisk::new();
    let (bus, heard) = listening();
    let store = Arc::new(open(&disk));
    let builder = bus.journal(store.clone()).batch_max(8).keep_in_memory(100).retry_every(PATIENCE);
    let journal = builder.start().unwrap();
    let mut slow = bus.subscribe("a").capacity(8).spill(journal.spill_source()).mailbox().unwrap();
    disk.fail_at(1, Failure::Device);
    publish(&bus, "a", 0..1);
    hear(&heard, "failed");
    drop(store);
    publish(&bus, "a", 1..1_000);
    while journal.counts().dropped < 900 {
        std::thread::yield_now();
    }
    journal.resume(Arc::new(open_again(&disk)));
    hear(&heard, "returned");
    // Those in the mailbox, and those in the journal's memory; the others are nowhere.
    assert_eq!(numbers(&mut slow, 100), (0..100).collect::<Vec<_>>());
    let lost = hear(&heard, "lost");
    bus.flush_deadline(PATIENCE).unwrap();
    let ledger = bus.subscription(slow.id()).unwrap().ledger;
    assert_eq!((ledger.dropped.lost, lost.as_str()), (900, "lost 900"), "{ledger:#?}");
    publish(&bus, "a", 1_000..1_001);
    assert_eq!(numbers(&mut slow, 1), [1_000], "it goes on");
    assert_settled(&bus);
    drop(journal);
    bus.shutdown().unwrap();
}

#[test]
fn a_journal_that_has_ended_leaves_what_it_wrote_to_be_read_and_the_rest_is_lost() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let journal = bus.journal(Arc::new(MemoryStore::new())).durability(Durability::Accepted).start().unwrap();
    let mut slow = bus.subscribe("a").capacity(8).spill(journal.spill_source()).mailbox().unwrap();
    publish(&bus, "a", 0..500);
    while journal.counts().written < 500 {
        std::thread::yield_now();
    }
    journal.close().unwrap();
    assert_eq!(numbers(&mut slow, 500), (0..500).collect::<Vec<_>>());
    bus.flush_deadline(PATIENCE).unwrap();
    publish(&bus, "a", 500..700);
    let begun = Instant::now();
    let is_told = |ledger: &SubscriptionLedger| ledger.dropped.lost + ledger.dropped.overflow == 192;
    while !is_told(&bus.ledger().subscriptions) {
        assert!(begun.elapsed() < PATIENCE, "{:#?}", bus.ledger().subscriptions);
        std::thread::yield_now();
    }
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.spilled, ledger.queued), (0, 8), "{ledger:#?}");
    bus.shutdown().unwrap();
    assert_books(&bus);
}
