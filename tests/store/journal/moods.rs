//! Journals of stores that refuse, panic, and cannot be read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::thread;
use std::time::Duration;

use ringmain::store::{AppendError, Journal, JournalError, JournalState, ReadError};
use ringmain::{Bus, Frame, Payload};

use super::{PATIENCE, hear, listening, numbers, pattern, publish, texts};
use crate::books::assert_settled;
use crate::log_store::position;
use crate::moody::{Moody, Reply};

fn holds(events: &[Frame], text: &str) -> bool {
    events.iter().any(|event| event.payload().text() == Some(text))
}

#[test]
fn an_event_that_the_store_can_never_take_is_dropped_and_those_round_it_go_on() {
    let (bus, heard) = listening(Bus::builder().workers(1));
    let store = Arc::new(Moody::new(|_, events| match holds(events, "poison") {
        true => Reply::Say(AppendError::Refused("it is poison".into())),
        false => Reply::Take,
    }));
    let journal = bus.journal(store.clone()).start().unwrap();
    publish(&bus, "a", 0..50);
    bus.publish("a", Payload::plain_text("poison")).unwrap();
    publish(&bus, "a", 50..100);
    bus.flush_deadline(PATIENCE).unwrap();
    assert!(hear(&heard, "dropped: ").contains("it is poison"));
    assert_eq!(texts(&store.store), numbers(0..100));
    let counts = journal.close().unwrap();
    assert_eq!((counts.written, counts.refused), (100, 1));
    assert!(counts.is_balanced());
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

/// Lets the first append go on when the test says so.
fn gated() -> (impl Fn(u64) + Send + Sync + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, begins) = mpsc::channel();
    let (open, opens) = mpsc::channel();
    let opens = Mutex::new(opens);
    let wait = move |nth| {
        if nth == 1 {
            begun.send(()).unwrap();
            opens.lock().unwrap().recv().unwrap();
        }
    };
    (wait, begins, open)
}

/// Publishes while the journal appends one event, so that all of these are its next batch.
fn publish_one_batch(bus: &Bus, range: std::ops::Range<usize>, begins: &mpsc::Receiver<()>, open: &mpsc::Sender<()>) {
    publish(bus, "a", 0..1);
    begins.recv_timeout(PATIENCE).unwrap();
    publish(bus, "a", range);
    // All of them are in the mailbox when an event behind them is handled.
    let (told, passed) = mpsc::channel();
    let marker = bus.subscribe("z").handle(move |_, _| told.send(()).unwrap()).unwrap();
    bus.publish("z", Payload::plain_text("passed")).unwrap();
    passed.recv_timeout(PATIENCE).unwrap();
    drop(marker);
    open.send(()).unwrap();
}

#[test]
fn what_cannot_be_read_does_not_keep_it_from_finding_what_the_store_has_already() {
    let (bus, heard) = listening(Bus::builder().workers(1));
    let (wait, begins, open) = gated();
    // The commit of the second append is not answered, and its first event cannot be read since.
    let store = Moody::new(move |nth, _| {
        wait(nth);
        match nth {
            2 => Reply::TakeAndSay(AppendError::InDoubt("no answer".into())),
            _ => Reply::Take,
        }
    });
    let hidden = position(2);
    let store = Arc::new(store.reading(move |_, _, page| match page.events.first() {
        Some(event) if event.position() == hidden => {
            Err(ReadError::NoEvent { position: hidden, error: Frame::copied_from(b"").unwrap_err() })
        }
        _ => Ok(page),
    }));
    let journal = bus.journal(store.clone()).pattern(pattern("a")).retry_every(PATIENCE).start().unwrap();
    publish_one_batch(&bus, 1..9, &begins, &open);
    hear(&heard, "failed: ");
    journal.retry();
    assert!(hear(&heard, "failed: ").contains("position 2"), "what is passed over is said");
    hear(&heard, "returned, 0 dropped");
    publish(&bus, "a", 9..11);
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(texts(&store.store), numbers(0..11), "none is kept twice");
    assert_eq!(journal.close().unwrap().written, 11);
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn a_store_that_parks_the_thread_costs_no_wake_up() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (wait, begins, open) = gated();
    let store = Arc::new(Moody::new(move |nth, _| {
        wait(nth);
        Reply::Take
    }));
    let journal = bus.journal(store.clone()).pattern(pattern("a")).start().unwrap();
    publish_one_batch(&bus, 1..2, &begins, &open);
    bus.flush_deadline(PATIENCE).expect("it looks for what came while the store had the thread");
    assert_eq!(journal.close().unwrap().written, 2);
    crate::books::end(&bus);
}

#[test]
fn a_store_that_panics_is_a_store_that_fails() {
    for is_taken in [false, true] {
        let (bus, heard) = listening(Bus::builder().workers(1));
        let store = Arc::new(Moody::new(move |nth, _| match nth {
            1 if is_taken => Reply::TakeAndPanic,
            1 => panic!("a panic that the test asks for"),
            _ => Reply::Take,
        }));
        let journal = bus.journal(store.clone()).retry_every(PATIENCE).start().unwrap();
        publish(&bus, "a", 0..20);
        assert!(hear(&heard, "failed: ").contains("the store panicked: a panic that the test asks for"));
        assert!(matches!(journal.state(), JournalState::Retrying(_)), "{:?}", journal.state());
        journal.retry();
        hear(&heard, "returned, 0 dropped");
        bus.flush_deadline(PATIENCE).unwrap();
        assert_eq!(texts(&store.store), numbers(0..20), "each once, in order");
        let counts = journal.close().unwrap();
        assert!(counts.is_balanced() && counts.written == 20, "{counts:?}");
        assert_settled(&bus);
        bus.shutdown().unwrap();
    }
}

#[test]
fn no_more_goes_on_in_memory_than_may_also_when_a_batch_fails() {
    let (bus, heard) = listening(Bus::builder().workers(1));
    let (wait, begins, open) = gated();
    let fails = Arc::new(AtomicBool::new(true));
    let is_failing = Arc::clone(&fails);
    let store = Arc::new(Moody::new(move |nth, _| {
        wait(nth);
        match nth > 1 && is_failing.load(Ordering::Relaxed) {
            true => Reply::Say(AppendError::Failed("it is away".into())),
            false => Reply::Take,
        }
    }));
    let journal = bus.journal(store.clone()).pattern(pattern("a")).keep_in_memory(5).retry_every(PATIENCE);
    let journal = journal.start().unwrap();
    publish_one_batch(&bus, 1..101, &begins, &open);
    hear(&heard, "failed: ");
    bus.flush_deadline(PATIENCE).expect("nobody waits for the store");
    let counts = journal.counts();
    assert_eq!((counts.in_memory, counts.dropped, counts.written), (5, 95, 1), "{counts:?}");
    fails.store(false, Ordering::Relaxed);
    journal.retry();
    hear(&heard, "dropped: ");
    hear(&heard, "returned, 95 dropped");
    assert_eq!(texts(&store.store), numbers(0..6));
    drop(journal);
    crate::books::end(&bus);
}

#[test]
fn a_store_that_failed_is_tried_again_before_all_that_waits_is_taken() {
    let (bus, heard) = listening(Bus::builder().workers(1));
    let (wait, begins, open) = gated();
    let known: Arc<OnceLock<Weak<Journal>>> = Arc::default();
    let (told, tells) = mpsc::channel();
    let journal = Arc::clone(&known);
    let store = Arc::new(Moody::new(move |nth, _| {
        wait(nth);
        if nth == 1 {
            return Reply::Say(AppendError::Failed("it is away".into()));
        }
        let journal = journal.get().and_then(Weak::upgrade);
        // The test has heard enough of the first.
        let _ = told.send(journal.map(|journal| journal.counts().taken));
        Reply::Take
    }));
    let journal = bus.journal(store.clone()).pattern(pattern("a")).batch_max(16).keep_in_memory(5_000);
    let journal = Arc::new(journal.retry_every(Duration::from_nanos(1)).start().unwrap());
    known.set(Arc::downgrade(&journal)).unwrap();
    publish_one_batch(&bus, 1..1_001, &begins, &open);
    let taken = tells.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(taken < 100, "{taken} events were taken before the store was tried again");
    hear(&heard, "failed: ");
    hear(&heard, "returned, 0 dropped");
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(texts(&store.store), numbers(0..1_001));
    drop(journal);
    crate::books::end(&bus);
}

#[test]
fn a_flood_does_not_keep_it_from_a_store_that_works_again() {
    for is_resumed in [false, true] {
        let (bus, heard) = listening(Bus::builder().workers(1));
        let fails = Arc::new(AtomicBool::new(true));
        let is_failing = Arc::clone(&fails);
        let store = Arc::new(Moody::new(move |_, _| match is_failing.load(Ordering::Relaxed) {
            true => Reply::Say(AppendError::Failed("it is away".into())),
            false => Reply::Take,
        }));
        let journal = bus.journal(store.clone()).keep_in_memory(100).retry_every(PATIENCE).start().unwrap();
        publish(&bus, "a", 0..200);
        hear(&heard, "failed: ");
        hear(&heard, "dropped: ");
        let is_over = AtomicBool::new(false);
        let (told, flows) = mpsc::channel();
        let returned = thread::scope(|scope| {
            let flood = || {
                let mut publisher = bus.publisher().unwrap();
                for number in 0.. {
                    publisher.publish("a", Payload::plain_text("more")).unwrap();
                    if number == 20_000 {
                        told.send(()).unwrap();
                    }
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            };
            scope.spawn(flood);
            flows.recv().unwrap();
            fails.store(false, Ordering::Relaxed);
            match is_resumed {
                true => journal.resume(store.clone()),
                false => journal.retry(),
            }
            let returned = heard.recv_timeout(PATIENCE);
            is_over.store(true, Ordering::Relaxed);
            returned
        });
        let returned = returned.expect("it returns to the store under the flood");
        assert!(returned.starts_with("returned, "), "{returned}");
        bus.flush_deadline(PATIENCE).unwrap();
        let counts = journal.close().unwrap();
        assert!(counts.is_balanced() && counts.in_memory == 0, "{counts:?}");
        assert_eq!(counts.written, texts(&store.store).len() as u64);
        assert_settled(&bus);
        bus.shutdown().unwrap();
    }
}

#[test]
fn a_journal_that_is_closed_on_a_worker_says_that_nobody_waited() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let journal = bus.journal(Arc::new(Moody::new(|_, _| Reply::Take))).start().unwrap();
    let journal = Mutex::new(Some(journal));
    let (told, heard) = mpsc::channel();
    let closing = bus.subscribe("close").handle(move |_, _| {
        let journal = journal.lock().unwrap().take().unwrap();
        told.send(journal.close().map_err(|error| error.to_string())).unwrap();
    });
    let closing = closing.unwrap();
    bus.publish("close", Payload::plain_text("now")).unwrap();
    let closed = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(closed.unwrap_err(), "a worker cannot wait for a journal to end; close it from another thread");
    drop(closing);
    crate::books::end(&bus);
}

#[test]
fn a_journal_that_would_not_rest_does_not_start() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = Arc::new(Moody::new(|_, _| Reply::Take));
    let refused = bus.journal(store).retry_every(Duration::ZERO).start().unwrap_err();
    assert!(matches!(refused, JournalError::Zero { setting: "retry_every" }), "{refused}");
    assert_eq!(refused.to_string(), "retry_every is zero, and it would never rest; give it a time");
    crate::books::end(&bus);
}
