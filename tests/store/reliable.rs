//! Reliable subscriptions: attempts are counted in the store, so that an event that kills its process, again and again, is a dead letter at
//! the end, and those behind it are handled.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::store::{
    Attempted, DeadLetterQueue, Durability, DurableSubscription, DurableSubscriptionError, EventStore, ExpectedVersion,
    HandledWindow, LeaseError, LogStore, MemoryStore, Query, ReliableSubscription, ReliableSubscriptionError,
    StateChange, StateError, StateStore, StoredEvent,
};
use ringmain::{DeadReason, Frame, Outcome, Payload, RetryPolicy};

use crate::conformance::Writer;
use crate::delegated::delegated;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};

const NO_DELAY: Duration = Duration::ZERO;

/// A clock that is set by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn at(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds)))
    }

    fn set(&self, seconds: u64) {
        self.0.store(seconds, Relaxed);
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Relaxed))
    }
}

fn frames(count: usize) -> Vec<Frame> {
    let mut writer = Writer::new();
    let mut frame = |nth: usize| writer.frame_of("a", Payload::plain_text(&nth.to_string()), |event| event);
    (1..=count).map(&mut frame).collect()
}

fn append(store: &dyn EventStore, frames: &[Frame]) {
    store.append(frames, ExpectedVersion::Any, store.durability()).unwrap();
}

fn letters(store: &Arc<MemoryStore>) -> DeadLetterQueue {
    DeadLetterQueue::open("letters", store.clone()).unwrap()
}

fn open(store: &Arc<MemoryStore>, queue: &DeadLetterQueue, retry: RetryPolicy, hand: &Hand) -> ReliableSubscription {
    let builder = DurableSubscription::builder(store.clone(), store.clone(), "billing");
    let hand = hand.clone();
    builder.open_reliable(queue.clone()).unwrap().retry(retry).clock(move || hand.now())
}

fn tried(attempts: u8) -> RetryPolicy {
    RetryPolicy::default().attempts_max(attempts).delays(NO_DELAY, NO_DELAY)
}

fn failed(event: &StoredEvent, attempt: u8) -> Result<(), String> {
    Err(format!("{} {attempt}", event.payload().text().unwrap()))
}

#[test]
fn an_event_that_fails_too_often_is_a_dead_letter_and_those_behind_it_are_handled() {
    let (store, hand) = (Arc::new(MemoryStore::new()), Hand::at(100));
    let frames = frames(4);
    append(&*store, &frames);
    let queue = letters(&store);
    let mut billing = open(&store, &queue, tried(2), &hand);
    assert_eq!(billing.try_handle(|_, _| ()).unwrap(), Some(Attempted::Acked));
    assert_eq!(billing.try_handle(failed).unwrap(), Some(Attempted::Retry { due: hand.now() }));
    hand.set(101);
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(billing.try_handle(failed).unwrap(), Some(Attempted::Dead { letter: 1, reason }));
    let rejected = billing.try_handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap();
    assert_eq!(rejected, Some(Attempted::Dead { letter: 2, reason: DeadReason::Rejected }));
    let panicked = billing.try_handle(|_, _| -> () { panic!("the handler is broken") }).unwrap();
    assert!(matches!(panicked, Some(Attempted::Retry { .. })));
    assert_eq!(billing.try_handle(|event, attempt| assert_eq!((event.frame(), attempt), (&frames[3], 2))).unwrap(), {
        Some(Attempted::Acked)
    });
    assert_eq!(billing.try_handle(|_, _| ()).unwrap(), None);
    assert_eq!(billing.acknowledged().map(|position| position.get()), Some(4));

    let [spent, rejected] = &queue.list(None, 10).unwrap()[..] else { panic!("there are two") };
    assert_eq!((spent.frame(), rejected.frame()), (&frames[1], &frames[2]), "with all their bytes");
    assert_eq!((spent.subscription_name(), spent.reason(), spent.attempts()), ("billing", reason, 2));
    assert_eq!((spent.error(), spent.error_bytes()), (Some("2 2"), 3));
    assert_eq!((spent.first_attempt(), spent.died()), (Some(Hand::at(100).now()), Hand::at(101).now()));
    assert_eq!((rejected.error(), rejected.attempts()), (Some("no such account"), 1));
}

#[test]
fn what_an_event_was_tried_and_when_it_is_due_survive_the_process() {
    let (store, hand) = (Arc::new(MemoryStore::new()), Hand::at(100));
    append(&*store, &frames(1));
    let queue = letters(&store);
    let open = || open(&store, &queue, tried(3), &hand);
    let later = Duration::from_secs(50);
    let first = open().try_handle(|_, _| Outcome::RetryAfter(later)).unwrap();
    assert_eq!(first, Some(Attempted::Retry { due: Hand::at(150).now() }));
    hand.set(149);
    let mut billing = open();
    assert_eq!(billing.try_handle(|_, _| ()).unwrap(), None, "it waits, also in the next process");
    assert_eq!(billing.next_due(), Some(Hand::at(150).now()));
    let timed_out = billing.handle_deadline(Duration::from_millis(1), |_, _| ()).unwrap_err();
    assert!(
        matches!(timed_out, ReliableSubscriptionError::Subscription(DurableSubscriptionError::TimedOut { .. })),
        "{timed_out:?}"
    );
    drop(billing);
    hand.set(150);
    let mut attempts = Vec::new();
    let second = open().try_handle(|_, attempt| {
        attempts.push(attempt);
        Outcome::RetryAfter(later)
    });
    assert_eq!(second.unwrap(), Some(Attempted::Retry { due: Hand::at(200).now() }));
    hand.set(7);
    let third = open().try_handle(|_, attempt| {
        attempts.push(attempt);
        Outcome::RetryAfter(later)
    });
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(third.unwrap(), Some(Attempted::Dead { letter: 1, reason }), "a clock that was set back ends a delay");
    assert_eq!(attempts, [2, 3]);
    assert_eq!(open().try_handle(|_, _| ()).unwrap(), None);
}

#[test]
fn what_is_released_counts_as_no_attempt_and_not_for_ever() {
    let (store, hand) = (Arc::new(MemoryStore::new()), Hand::at(100));
    append(&*store, &frames(1));
    let queue = letters(&store);
    for release in 1..=3 {
        // Each time in another process.
        let mut billing = open(&store, &queue, tried(1).releases_max(2), &hand);
        let attempted = billing.try_handle(|_, attempt| {
            assert_eq!(attempt, 1);
            Outcome::Release
        });
        let attempted = attempted.unwrap().unwrap();
        let is_over = attempted == Attempted::Dead { letter: 1, reason: DeadReason::ReleasesExhausted };
        assert_eq!(is_over, release == 3, "{attempted:?}");
    }
}

#[test]
fn what_comes_again_at_another_position_is_handled_once() {
    let (store, hand) = (Arc::new(MemoryStore::new()), Hand::at(100));
    let frames = frames(2);
    append(&*store, &[&frames[..], &frames[..1]].concat());
    let queue = letters(&store);
    let open = || {
        let window = HandledWindow::open("billing", store.clone()).unwrap();
        open(&store, &queue, tried(2), &hand).dedup(window)
    };
    let mut billing = open();
    assert!(matches!(billing.try_handle(failed).unwrap(), Some(Attempted::Retry { .. })));
    assert_eq!(billing.try_handle(|_, _| ()).unwrap(), Some(Attempted::Acked), "what has failed was not handled");
    assert_eq!(billing.try_handle(|_, _| ()).unwrap(), Some(Attempted::Acked));
    drop(billing);
    let again = open().try_handle(|_, _| -> () { panic!("it was handled") }).unwrap();
    assert_eq!(again, Some(Attempted::Repeated));
}

#[test]
fn a_name_has_one_owner_and_its_letters_are_in_its_store() {
    let (store, hand) = (Arc::new(MemoryStore::new()), Hand::default());
    let queue = letters(&store);
    let billing = open(&store, &queue, tried(1), &hand);
    let builder = || DurableSubscription::builder(store.clone(), store.clone(), "billing");
    let second = builder().open_reliable(queue).unwrap_err();
    assert!(
        matches!(
            second,
            ReliableSubscriptionError::Subscription(DurableSubscriptionError::Lease(LeaseError::Taken { .. }))
        ),
        "{second:?}"
    );
    drop(billing);
    let elsewhere = DeadLetterQueue::open("letters", Arc::new(MemoryStore::new())).unwrap();
    let refused = builder().open_reliable(elsewhere).unwrap_err();
    assert!(matches!(refused, ReliableSubscriptionError::OtherStore), "{refused:?}");
}

/// A store of state that fails, and changes nothing, after so many changes.
struct Failing {
    store: MemoryStore,
    left: AtomicU64,
}

impl StateStore for Failing {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        taken.map_err(|_| StateError::Failed("the disk is gone".into()))?;
        self.store.apply(changes, durability)
    }

    fn state_durability(&self) -> Durability {
        Durability::Accepted
    }

    delegated!(store: get, list, lease);
}

#[test]
fn whichever_write_fails_each_event_is_settled_once_and_no_attempt_is_made_without_being_counted() {
    // Event 1 is acknowledged: attempt, acknowledgement. 2 fails twice: attempt, wait, attempt, letter, acknowledgement. 3 is rejected.
    for (nth, is_new_process) in (0..12).flat_map(|nth| [(nth, false), (nth, true)]) {
        let state = Arc::new(Failing { store: MemoryStore::new(), left: AtomicU64::new(u64::MAX) });
        let events = Arc::new(MemoryStore::new());
        append(&*events, &frames(3));
        let queue = DeadLetterQueue::open("letters", state.clone()).unwrap();
        let open = || {
            let builder = DurableSubscription::builder(events.clone(), state.clone(), "billing");
            builder.open_reliable(queue.clone()).unwrap().retry(tried(2))
        };
        let mut billing = Some(open());
        // To open it may take a write, too.
        state.left.store(nth, Relaxed);
        let (mut handled, mut failures, mut settled) = (Vec::new(), 0, Vec::new());
        loop {
            let attempted = billing.as_mut().unwrap().try_handle(|event, attempt| {
                let text = event.payload().text().unwrap().to_owned();
                handled.push((text.clone(), attempt));
                match &*text {
                    "1" => Outcome::Ack,
                    "2" => Outcome::Failed("no".to_owned()),
                    _ => Outcome::Reject("never".to_owned()),
                }
            });
            match attempted {
                Ok(None) => break,
                Ok(Some(attempted)) => settled.push(attempted),
                Err(_) => {
                    failures += 1;
                    state.left.store(u64::MAX, Relaxed);
                    if is_new_process {
                        drop(billing.take());
                        billing = Some(open());
                    }
                }
            }
        }
        assert_eq!(failures, u32::from(nth < 10), "{nth}: all writes are met");
        let found: Vec<_> = queue.list(None, 10).unwrap();
        let found: Vec<_> =
            found.iter().map(|letter| (letter.frame().payload().text().unwrap(), letter.reason())).collect();
        assert_eq!(
            found,
            [("2", DeadReason::AttemptsExhausted), ("3", DeadReason::Rejected)],
            "{nth} {is_new_process}: each once"
        );
        let attempts_at =
            |text: &str| handled.iter().filter(|(of, _)| of == text).map(|(_, nth)| *nth).collect::<Vec<_>>();
        assert_eq!(attempts_at("2"), [1, 2], "{nth} {is_new_process}: {handled:?}");
        // One that was acknowledged comes again where the word of it was not kept and nobody remembers it.
        assert!(attempts_at("1").len() <= if is_new_process { 2 } else { 1 }, "{handled:?}");
    }
}

const THIS: &str = "reliable::an_event_that_kills_its_process_comes_to_an_end_and_those_behind_it_are_handled";
const EVENTS: usize = 12;
const POISON: [&str; 2] = ["5", "6"];
const ATTEMPTS: u8 = 3;

fn store(folder: &Path) -> Arc<LogStore> {
    Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().expect("it can be opened"))
}

/// Handles all events, and dies of some.
fn child(folder: &Path) {
    let store = store(folder);
    let queue = DeadLetterQueue::open("letters", store.clone()).unwrap();
    let billing = DurableSubscription::builder(store.clone(), store, "billing").open_reliable(queue).unwrap();
    let mut billing = billing.retry(tried(ATTEMPTS));
    let mut stdout = std::io::stdout().lock();
    while billing.next_due().is_some() || billing.acknowledged().is_none_or(|at| at.get() < EVENTS as u64) {
        let attempted = billing.try_handle(|event, attempt| {
            let text = event.payload().text().unwrap();
            writeln!(stdout, "\ntrying {text} {attempt}").unwrap();
            if POISON.contains(&text) {
                std::process::abort();
            }
        });
        if attempted.unwrap() == Some(Attempted::Acked) {
            writeln!(stdout, "\nacked").unwrap();
        }
    }
    writeln!(stdout, "\nall").unwrap();
}

#[test]
fn an_event_that_kills_its_process_comes_to_an_end_and_those_behind_it_are_handled() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
        return;
    }
    let folder = Folder::new("reliable-poison");
    let frames = frames(EVENTS);
    append(&*store(&folder.0), &frames);
    let (mut tried, mut starts, mut is_over) = (Vec::new(), 0, false);
    while !is_over {
        starts += 1;
        assert!(starts <= 10, "the crash loop ends: {tried:?}");
        kill_after(0, THIS, &folder.0, |line| {
            if let Some((text, attempt)) = line.strip_prefix("trying ").and_then(|rest| rest.split_once(' ')) {
                tried.push((text.to_owned(), attempt.parse::<u8>().unwrap()));
            }
            is_over |= line == "all";
            false
        });
    }
    assert_eq!(starts, POISON.len() * usize::from(ATTEMPTS) + 1);
    for nth in 1..=EVENTS {
        let text = nth.to_string();
        let attempts: Vec<_> = tried.iter().filter(|(of, _)| *of == text).map(|(_, attempt)| *attempt).collect();
        let expected = if POISON.contains(&&*text) { vec![1, 2, 3] } else { vec![1] };
        assert_eq!(attempts, expected, "event {nth}");
    }
    let queue = DeadLetterQueue::open("letters", store(&folder.0)).unwrap();
    let found = queue.list(None, 10).unwrap();
    assert_eq!(found.len(), POISON.len());
    for (letter, frame) in found.iter().zip(&frames[4..]) {
        assert_eq!(letter.frame().bytes(), frame.bytes());
        assert_eq!((letter.reason(), letter.attempts()), (DeadReason::AttemptsExhausted, ATTEMPTS.into()));
        assert_eq!(letter.error(), Some("the process ended in attempt 3"));
        assert!(letter.first_attempt().is_some_and(|first| first < letter.died()));
    }
}

const KILLED: &str = "reliable::a_killed_process_loses_no_event_and_no_attempt";

/// Rejects every fifth event, lets every third fail once, until it is killed.
fn killed_child(folder: &Path) -> ! {
    let store = store(folder);
    let queue = DeadLetterQueue::open("letters", store.clone()).unwrap();
    let billing = DurableSubscription::builder(store.clone(), store, "billing").open_reliable(queue).unwrap();
    let mut billing = billing.retry(RetryPolicy::default().attempts_max(100).delays(NO_DELAY, NO_DELAY));
    let mut stdout = std::io::stdout().lock();
    loop {
        let mut handled = None;
        let attempted = billing.try_handle(|event, attempt| {
            let position = event.position().get();
            handled = Some(position);
            writeln!(stdout, "\ntried {position} {attempt}").unwrap();
            match position {
                position if position % 5 == 0 => Outcome::Reject("a fifth".to_owned()),
                position if position % 3 == 0 && attempt == 1 => Outcome::Failed("a third".to_owned()),
                _ => Outcome::Ack,
            }
        });
        match attempted.unwrap() {
            Some(Attempted::Acked) => writeln!(stdout, "\nacked {}", handled.unwrap()).unwrap(),
            Some(Attempted::Dead { .. }) => writeln!(stdout, "\ndead {}", handled.unwrap()).unwrap(),
            Some(_) => {}
            // It was faster than whoever is to kill it.
            None => std::process::exit(0),
        }
    }
}

#[test]
fn a_killed_process_loses_no_event_and_no_attempt() {
    if let Some(folder) = child_folder() {
        killed_child(Path::new(&folder));
    }
    const KILLS: u64 = 6;
    let folder = Folder::new("reliable-kill");
    append(&*store(&folder.0), &frames(600));
    let (mut acked, mut dead, mut last) = (BTreeSet::new(), BTreeSet::new(), (0, 0));
    for kill in 0..KILLS {
        kill_after(1 + 17 * kill, KILLED, &folder.0, |line| {
            let words: Vec<_> = line.split(' ').collect();
            let number = |word: &str| word.parse::<u64>().unwrap();
            match words[..] {
                ["tried", position, attempt] => {
                    let now = (number(position), number(attempt));
                    assert!(now > last, "{now:?} after {last:?}: no event and no attempt is gone back to");
                    assert!(now.0 <= last.0 + 1, "{now:?} after {last:?}: no event is left out");
                    last = now;
                }
                ["acked", position] => assert!(acked.insert(number(position))),
                ["dead", position] => assert!(dead.insert(number(position))),
                _ => return false,
            }
            true
        });
    }
    let store = store(&folder.0);
    let queue = DeadLetterQueue::open("letters", store.clone()).unwrap();
    let found = queue.list(None, usize::MAX).unwrap();
    let ids: Vec<_> = Query::new().stream(&*store).map(|event| event.unwrap().meta().id()).collect();
    let found: Vec<_> = found
        .iter()
        .map(|letter| ids.iter().position(|id| *id == letter.frame().meta().id()).unwrap() as u64 + 1)
        .collect();
    assert!(found.iter().all(|position| position % 5 == 0) && found.is_sorted_by(|one, next| one < next), "{found:?}");
    assert!(dead.iter().all(|position| found.contains(position)));
    assert!(acked.len() as u64 > KILLS && found.len() > 2, "{} {}", acked.len(), found.len());
}
