//! Journals: what matches is in the store, once and in order, whatever the store does meanwhile; and the books say where the rest is.

use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ringmain::internals::store::sim::{Failure, SimDisk};
use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, JournalError, JournalState, MemoryStore, Query,
    ReadError,
};
use ringmain::{Bus, BusBuilder, Frame, Notice, Overflow, Pattern, Payload, Priority, PublishError};

use crate::books::{assert_books, assert_settled, end};
use crate::delegated::delegated;
use crate::log_store::open;

mod moods;

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

/// What a journal has said, as text.
fn listening(builder: BusBuilder) -> (Bus, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let bus = builder.observer(move |notice: &Notice<'_>| {
        let text = match notice {
            Notice::StorageFailed { error, .. } => format!("failed: {error}"),
            Notice::StorageReturned { dropped, .. } => format!("returned, {dropped} dropped"),
            Notice::StorageDropped { reason, .. } => format!("dropped: {reason}"),
            _ => return,
        };
        // The test may have heard enough.
        let _ = told.lock().unwrap().send(text);
    });
    (bus.build().unwrap(), heard)
}

fn hear(heard: &mpsc::Receiver<String>, begins: &str) -> String {
    let text = heard.recv_timeout(PATIENCE).unwrap();
    assert!(text.starts_with(begins), "{text:?} does not begin with {begins:?}");
    text
}

/// The texts of all events of a store, in order.
fn texts(store: &dyn EventStore) -> Vec<String> {
    let event =
        |event: Result<ringmain::store::StoredEvent, ReadError>| event.unwrap().payload().text().unwrap().to_owned();
    Query::new().stream(store).map(event).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn publish(bus: &Bus, topic: &str, range: std::ops::Range<usize>) {
    let mut publisher = bus.publisher().unwrap();
    for number in range {
        publisher.publish(topic, Payload::plain_text(&number.to_string())).unwrap();
    }
}

/// A store in memory that appends only what it is let.
struct Slow {
    store: MemoryStore,
    /// Appends that may begin, and those that have.
    appends: Mutex<(u64, u64)>,
    changed: Condvar,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self { store: MemoryStore::new(), appends: Mutex::new((0, 0)), changed: Condvar::new() })
    }

    fn let_go(&self) {
        self.appends.lock().unwrap().0 = u64::MAX;
        self.changed.notify_all();
    }

    /// Waits until so many appends have begun.
    fn await_begun(&self, appends: u64) {
        let begun = self.appends.lock().unwrap();
        let waited = self.changed.wait_timeout_while(begun, PATIENCE, |(_, begun)| *begun < appends).unwrap().1;
        assert!(!waited.timed_out(), "no append began");
    }
}

impl EventStore for Slow {
    fn append(&self, events: &[Frame], expected: ExpectedVersion, word: Durability) -> Result<Appended, AppendError> {
        let mut appends = self.appends.lock().unwrap();
        appends.1 += 1;
        self.changed.notify_all();
        let nth = appends.1;
        drop(self.changed.wait_while(appends, |(may, _)| *may < nth).unwrap());
        self.store.append(events, expected, word)
    }

    delegated!(store: sync, query, save_snapshot, load_snapshot, keep_history, head, wait_behind, durability);
}

#[test]
fn what_matches_any_pattern_is_kept_once_and_in_order() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let store = Arc::new(open(&SimDisk::new()));
    let journal = bus.journal(store.clone()).pattern(pattern("orders.*")).pattern(pattern("*.placed")).start().unwrap();
    for number in 0..3_000 {
        let topic = ["orders.placed", "orders.paid", "carts.placed", "carts.left"][number % 4];
        bus.publish(topic, Payload::plain_text(&number.to_string())).unwrap();
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let wanted: Vec<_> = (0..3_000).filter(|number| number % 4 != 3).map(|number| number.to_string()).collect();
    assert_eq!(texts(&*store), wanted, "after a flush everything is in the store");
    let event = Query::new().limit(1).stream(&*store).next().unwrap().unwrap();
    assert_eq!((event.meta().topic(), event.meta().priority()), ("orders.placed", Priority::Normal));
    let record = bus.subscription(journal.id()).unwrap();
    assert_eq!((record.name.as_str(), record.ledger.delivered), ("journal", 2_250));
    assert_settled(&bus);
    let counts = journal.close().unwrap();
    assert_eq!((counts.taken, counts.written, counts.waiting), (2_250, 2_250, 0));
    assert!(counts.is_balanced());
    assert!(bus.subscriptions().is_empty());
    bus.shutdown().unwrap();
}

#[test]
fn a_journal_writes_what_was_accepted_before_the_bus_shut_down() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = Slow::new();
    let journal = bus.journal(store.clone()).durability(Durability::Accepted).start().unwrap();
    publish(&bus, "a", 0..500);
    store.await_begun(1);
    bus.shutdown().unwrap();
    store.let_go();
    assert_eq!(journal.close().unwrap().written, 500);
    assert_eq!(texts(&store.store), numbers(0..500));
    assert_books(&bus);
}

#[test]
fn a_store_that_is_too_slow_gates_its_lane_and_loses_nothing() {
    let bus = Bus::builder().workers(1).max_queue_size(64).publishers_max(2).build().unwrap();
    let store = Slow::new();
    let builder = bus.journal(store.clone()).durability(Durability::Accepted).capacity(16).batch_max(8);
    let journal = builder.start().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut accepted = 0;
    let refused = loop {
        match publisher.publish_deadline("a", Payload::plain_text(&accepted.to_string()), Duration::from_millis(200)) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, PublishError::TimedOut { gated_by: Some(0), .. }), "{refused}");
    let refused = publisher.try_publish("a", Payload::plain_text("no")).unwrap_err();
    assert!(matches!(refused, PublishError::Full { gated_by: Some(0), .. }), "{refused}");
    assert_eq!(journal.counts().written, 0);
    store.let_go();
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(texts(&store.store), numbers(0..accepted));
    assert_eq!(journal.close().unwrap().written, accepted as u64);
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn a_store_that_is_too_slow_drops_where_it_is_told_to_and_counts_each() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = Slow::new();
    let builder = bus.journal(store.clone()).durability(Durability::Accepted).capacity(16).batch_max(8);
    let journal = builder.overflow(Overflow::DropNewest).start().unwrap();
    publish(&bus, "a", 0..1);
    store.await_begun(1);
    publish(&bus, "a", 1..1_000);
    // The worker has passed them when an event behind them is handled.
    let (told, heard) = mpsc::channel();
    let marker = bus.subscribe("z").handle(move |_, _| told.send(()).unwrap()).unwrap();
    publish(&bus, "z", 0..1);
    heard.recv_timeout(PATIENCE).unwrap();
    store.let_go();
    bus.flush_deadline(PATIENCE).unwrap();
    let ledger = bus.subscription(journal.id()).unwrap().ledger;
    let counts = journal.counts();
    assert_eq!(ledger.delivered + ledger.dropped.overflow, 1_001, "{ledger:?}");
    assert!(ledger.dropped.overflow > 900, "{ledger:?}");
    assert_eq!((counts.written, texts(&store.store).len() as u64), (ledger.delivered, ledger.delivered));
    assert_settled(&bus);
    drop((journal, marker));
    bus.shutdown().unwrap();
}

#[test]
fn while_the_disk_is_full_events_wait_and_are_written_when_there_is_room() {
    let disk = SimDisk::new();
    let (bus, heard) = listening(Bus::builder().workers(1));
    let store = Arc::new(open(&disk));
    let journal = bus.journal(store.clone()).batch_max(10).retry_every(PATIENCE).start().unwrap();
    publish(&bus, "a", 0..100);
    bus.flush_deadline(PATIENCE).unwrap();
    disk.set_capacity_bytes(disk.files().iter().map(|(_, bytes)| bytes).sum());
    publish(&bus, "a", 100..200);
    assert!(hear(&heard, "failed: ").contains("make room"));
    assert!(matches!(journal.state(), JournalState::Retrying(_)));
    disk.set_capacity_bytes(u64::MAX);
    journal.retry();
    hear(&heard, "returned, 0 dropped");
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(texts(&*store), numbers(0..200));
    assert_eq!(journal.close().unwrap().written, 200);
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

/// The device fails at the nth call after the first hundred events; the store is opened again then.
fn fail_and_resume(nth: u64, keep: usize) -> bool {
    let disk = SimDisk::new();
    let (bus, heard) = listening(Bus::builder().workers(1));
    let store = Arc::new(open(&disk));
    let builder = bus.journal(store.clone()).batch_max(50).durability(Durability::Durable);
    let journal = builder.keep_in_memory(keep).retry_every(PATIENCE).start().unwrap();
    publish(&bus, "a", 0..100);
    bus.flush_deadline(PATIENCE).unwrap();
    disk.fail_at(nth, Failure::Device);
    publish(&bus, "a", 100..200);
    let failed = loop {
        let is_flushed = bus.flush_deadline(Duration::from_millis(20)).is_ok();
        match heard.try_recv() {
            Ok(text) => {
                assert!(text.starts_with("failed: "), "{text}");
                break true;
            }
            Err(_) if is_flushed => break false,
            Err(_) => {}
        }
    };
    drop(store);
    if failed {
        // It lets go of the store before it says so.
        assert!(matches!(journal.state(), JournalState::Lost(_) | JournalState::Retrying(_)), "{:?}", journal.state());
        if matches!(journal.state(), JournalState::Lost(_)) {
            journal.resume(Arc::new(open(&disk)));
        } else {
            journal.retry();
        }
        hear(&heard, "returned, 0 dropped");
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let counts = journal.close().unwrap();
    assert_eq!((counts.written, counts.dropped), (200, 0), "call {nth}");
    assert_settled(&bus);
    bus.shutdown().unwrap();
    assert_eq!(texts(&open(&disk)), numbers(0..200), "call {nth}: each once, in order");
    failed
}

#[test]
fn a_disk_that_fails_at_any_call_costs_no_event_and_doubles_none_once_the_store_is_opened_again() {
    let failed = (1..=20).filter(|nth| fail_and_resume(*nth, 0)).count();
    assert!(failed > 10, "{failed}");
}

#[test]
fn events_that_go_on_in_memory_are_written_when_the_store_is_back() {
    // Some calls are those of the thread that writes indices.
    let failed = (1..=20).filter(|nth| fail_and_resume(*nth, 1_000)).count();
    assert!(failed > 3, "{failed}");
}

#[test]
fn what_goes_on_in_memory_is_bounded_and_each_drop_is_counted() {
    let disk = SimDisk::new();
    let (bus, heard) = listening(Bus::builder().workers(1).max_queue_size(64));
    let store = Arc::new(open(&disk));
    let builder = bus.journal(store.clone()).capacity(16).batch_max(8).keep_in_memory(100).retry_every(PATIENCE);
    let journal = builder.start().unwrap();
    disk.fail_at(1, Failure::Device);
    publish(&bus, "a", 0..1);
    hear(&heard, "failed: ");
    publish(&bus, "a", 1..1_000);
    bus.flush_deadline(PATIENCE).expect("nobody waits for the store");
    hear(&heard, "dropped: the store fails");
    let counts = journal.counts();
    assert_eq!((counts.in_memory, counts.waiting, counts.dropped), (100, 100, 900));
    assert!(counts.is_balanced());
    let ledger = bus.subscription(journal.id()).unwrap().ledger;
    assert_eq!((ledger.delivered, ledger.failed), (100, 900), "a drop is no delivery");
    drop(store);
    journal.resume(Arc::new(open(&disk)));
    hear(&heard, "returned, 900 dropped");
    publish(&bus, "a", 1_000..1_010);
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(journal.close().unwrap().written, 110);
    assert_eq!(texts(&open(&disk)), [numbers(0..100), numbers(1_000..1_010)].concat());
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn an_event_that_no_append_takes_is_refused_alone() {
    let (bus, heard) = listening(Bus::builder().workers(1));
    let store = Arc::new(open(&SimDisk::new()));
    let journal = bus.journal(store.clone()).start().unwrap();
    let long = "x".repeat(3_000);
    for text in ["before", &long, "behind"] {
        bus.publish("a", Payload::plain_text(text)).unwrap();
    }
    bus.flush_deadline(PATIENCE).unwrap();
    hear(&heard, "dropped: the events have");
    assert_eq!(texts(&*store), ["before", "behind"]);
    let counts = journal.close().unwrap();
    assert_eq!((counts.written, counts.refused), (2, 1));
    assert!(counts.is_balanced());
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn a_journal_that_is_closed_while_its_store_fails_says_what_it_lost() {
    let disk = SimDisk::new();
    let (bus, heard) = listening(Bus::builder().workers(1));
    let journal = bus.journal(Arc::new(open(&disk))).batch_max(8).retry_every(PATIENCE).start().unwrap();
    disk.fail_at(1, Failure::Device);
    publish(&bus, "a", 0..1);
    hear(&heard, "failed: ");
    publish(&bus, "a", 1..20);
    let (told, behind) = mpsc::channel();
    let marker = bus.subscribe("z").handle(move |_, _| told.send(()).unwrap()).unwrap();
    publish(&bus, "z", 0..1);
    behind.recv_timeout(PATIENCE).unwrap();
    let lost = journal.close().unwrap_err();
    assert!(
        matches!(&lost, JournalError::Left { events: 21, error } if error.contains("open the store again")),
        "{lost}"
    );
    assert_settled(&bus);
    drop(marker);
    bus.shutdown().unwrap();
}

#[test]
fn a_journal_that_cannot_keep_its_word_does_not_start() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = Arc::new(MemoryStore::new());
    let refused = bus.journal(store.clone()).start().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "events were to be written, this store keeps them accepted at best; ask for less, or use a store on disk"
    );
    let refused = bus.journal(store.clone()).durability(Durability::Accepted).batch_max(0).start().unwrap_err();
    assert_eq!(refused.to_string(), "batch_max is 0, it can be 1 to 1024");
    let refused = bus.journal(store.clone()).durability(Durability::Accepted).capacity(0).batch_max(1).start();
    assert!(matches!(refused, Err(JournalError::Setting { setting: "batch_max", max: 0, .. })), "{refused:?}");
    assert!(bus.subscriptions().is_empty());
    end(&bus);
}
