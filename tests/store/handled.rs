//! Windows of handled events: what comes again counts once, also where the process was killed in between.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::store::{
    Begun, Durability, HandledError, HandledWindow, LeaseError, LogStore, MemoryStore, NameError, StateChange,
    StateError, StateKind, StateStore,
};
use ringmain::{Bus, DeliveryMode, EventId, Outcome, Payload};

use crate::books::assert_settled;
use crate::delegated::delegated;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::support::Chance;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn event(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

fn store(folder: &Path) -> Arc<LogStore> {
    Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().expect("it can be opened"))
}

#[test]
fn a_window_in_memory_is_bounded_in_time_and_count() {
    window_is_bounded_in_time_and_count(Arc::new(MemoryStore::new()));
}

#[test]
fn a_window_on_disk_is_bounded_in_time_and_count() {
    let folder = Folder::new("handled");
    window_is_bounded_in_time_and_count(store(&folder.0));
}

fn window_is_bounded_in_time_and_count(state: Arc<dyn StateStore>) {
    let open = |name: &str| {
        let window = HandledWindow::open(name, Arc::clone(&state)).unwrap();
        window.time(Duration::from_secs(10)).events_max(4)
    };
    let word = state.state_durability();
    let keep = |window: &HandledWindow, number, seconds| {
        let Begun::First(handling) = window.begin(event(number), at(seconds)).unwrap() else { panic!("{number}") };
        handling.keep(&[], word).unwrap();
    };
    let window = open("a");
    keep(&open("aa"), 9, 100);
    for (number, seconds) in [(1, 100), (2, 101), (3, 102)] {
        keep(&window, number, seconds);
    }
    let second = HandledWindow::open("a", Arc::clone(&state)).unwrap_err();
    assert!(matches!(second, HandledError::Name(NameError::Lease(LeaseError::Taken { .. }))), "{second:?}");
    drop(window);
    let window = open("a");
    let contained = |now| (1..=9).filter(|number| window.contains(event(*number), at(now))).collect::<Vec<_>>();
    assert_eq!((contained(102), window.len()), (vec![1, 2, 3], 3));
    assert_eq!((contained(110), contained(111)), (vec![2, 3], vec![3]));
    assert_eq!(contained(90), [1, 2, 3], "a clock that was set back makes nothing old");
    keep(&window, 1, 110);
    assert_eq!((contained(110), window.len()), (vec![1, 2, 3], 3), "its first time is over and forgotten");
    for number in [4, 5] {
        keep(&window, number, 110);
    }
    assert_eq!((contained(110), window.len()), (vec![1, 3, 4, 5], 4), "the oldest makes room");
    assert_eq!(state.list(StateKind::HANDLED, &[], 10).unwrap().entries.len(), 5, "and is gone from the store");
    let long = HandledWindow::open(&"x".repeat(256), Arc::clone(&state)).unwrap_err();
    assert!(matches!(long, HandledError::Name(NameError::TooLong { bytes: 256, max: 255 })), "{long:?}");
}

#[test]
fn of_many_threads_with_the_same_event_one_handles_it() {
    const THREADS: usize = 4;
    const ROUNDS: u8 = 200;
    let window = HandledWindow::open("a", Arc::new(MemoryStore::new())).unwrap();
    let (begun, calls, at_once) = (Barrier::new(THREADS), AtomicU32::new(0), AtomicU32::new(0));
    let handle = || {
        for round in 0..ROUNDS {
            begun.wait();
            loop {
                match window.begin(event(round), at(1)).unwrap() {
                    Begun::Handled => break,
                    Begun::UnderWay => thread::yield_now(),
                    Begun::First(handling) => {
                        assert_eq!(at_once.fetch_add(1, Relaxed), 0, "nobody else is at it");
                        let nth = calls.fetch_add(1, Relaxed);
                        thread::yield_now();
                        at_once.fetch_sub(1, Relaxed);
                        // The first of a round fails, and somebody takes it then.
                        if nth % 2 == 1 {
                            handling.keep(&[], Durability::Accepted).unwrap();
                        }
                    }
                }
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(handle))));
    assert_eq!((calls.into_inner(), window.len()), (2 * u32::from(ROUNDS), ROUNDS.into()));
}

/// A store whose answer to a change is lost on the way: made or not, as `is_made` says, it is an error.
struct Lossy {
    store: MemoryStore,
    is_lossy: AtomicBool,
    is_made: AtomicBool,
}

impl StateStore for Lossy {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        if self.is_made.load(Relaxed) {
            self.store.apply(changes, durability)?;
        }
        if self.is_lossy.load(Relaxed) { Err(StateError::Failed("the answer was lost".into())) } else { Ok(()) }
    }

    delegated!(store: get, list, state_durability, lease);
}

#[test]
fn after_a_write_that_failed_the_store_says_whether_the_event_was_handled() {
    for is_made in [false, true] {
        let (is_lossy, store) = (AtomicBool::new(true), MemoryStore::new());
        let state = Arc::new(Lossy { store, is_lossy, is_made: AtomicBool::new(is_made) });
        let window = HandledWindow::open("a", state.clone()).unwrap();
        let Begun::First(handling) = window.begin(event(1), at(1)).unwrap() else { panic!("it is new") };
        assert!(matches!(window.begin(event(1), at(1)).unwrap(), Begun::UnderWay));
        assert!(matches!(handling.keep(&[], Durability::Accepted).unwrap_err(), StateError::Failed(_)));
        state.is_lossy.store(false, Relaxed);
        state.is_made.store(true, Relaxed);
        let mut calls = 0;
        for _ in 0..2 {
            let outcome = window.once(event(1), at(1), Durability::Accepted, || calls += 1);
            assert_eq!(outcome, Outcome::Ack);
        }
        assert_eq!((calls, window.len()), (u32::from(!is_made), 1), "made: {is_made}");
    }
}

#[test]
fn a_handler_of_a_bus_handles_an_event_once_over_restarts() {
    let folder = Folder::new("handled-bus");
    let calls = Arc::new(AtomicU32::new(0));
    let mut event = None;
    for life in 1..=3 {
        let window = HandledWindow::open("bank", store(&folder.0)).unwrap();
        let bus = Bus::builder().workers(1).build().unwrap();
        let counted = Arc::clone(&calls);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
        let subscription = wish.handle_on("bank", move |_: Payload<'_>, meta: &ringmain::Meta<'_>| {
            window.once(meta.id(), meta.timestamp(), Durability::Written, || {
                // The first attempt fails, so what is not acknowledged is not kept.
                if counted.fetch_add(1, Relaxed) == 0 { Err("not now") } else { Ok(()) }
            })
        });
        let subscription = subscription.unwrap();
        let mut publisher = bus.publisher().unwrap();
        let frame = event.get_or_insert_with(|| publisher.event().to_frame("a", Payload::json("1")).unwrap());
        publisher.publish_frame(&*frame).unwrap();
        drop(publisher);
        bus.flush_deadline(Duration::from_secs(60)).unwrap();
        assert_settled(&bus);
        let ledger = subscription.ledger();
        assert_eq!((ledger.delivered, ledger.dead_lettered), (1, 0), "life {life}: {ledger:?}");
        bus.shutdown().unwrap();
        drop((subscription, bus));
    }
    assert_eq!(calls.load(Relaxed), 2);
}

const THIS: &str = "handled::an_event_that_a_killed_process_had_handled_counts_once";
const EVENTS: u8 = 200;

fn sum(state: &dyn StateStore) -> u64 {
    let found = state.get(StateKind::own(1), b"sum").unwrap();
    found.map_or(0, |sum| u64::from_le_bytes((*sum).try_into().unwrap()))
}

/// Handles all events from the first on, those that were not handled before: adds each one's number to a sum.
fn handle_all(folder: &Path, mut handled_one: impl FnMut()) -> u64 {
    let state = store(folder);
    let window = HandledWindow::open("sum", Arc::clone(&state) as _).unwrap();
    for number in 1..=EVENTS {
        let Begun::First(handling) = window.begin(event(number), at(1)).unwrap() else { continue };
        let sum = (sum(&*state) + u64::from(number)).to_le_bytes();
        let added = StateChange::Put { kind: StateKind::own(1), key: b"sum", value: &sum };
        handling.keep(&[added], Durability::Durable).unwrap();
        handled_one();
    }
    sum(&*state)
}

#[test]
fn an_event_that_a_killed_process_had_handled_counts_once() {
    if let Some(folder) = child_folder() {
        let mut stdout = std::io::stdout().lock();
        handle_all(Path::new(&folder), || writeln!(stdout, "\nhandled").unwrap());
        return;
    }
    let folder = Folder::new("handled-kill");
    let mut chance = Chance(5);
    let mut handled = 0;
    for _ in 0..8 {
        kill_after(1 + chance.below(20), THIS, &folder.0, |line| {
            let is_one = line == "handled";
            handled += u64::from(is_one);
            is_one
        });
    }
    assert!((8..=u64::from(EVENTS)).contains(&handled), "{handled}: none was handled twice");
    let all: u64 = (1..=u64::from(EVENTS)).sum();
    assert_eq!(handle_all(&folder.0, || ()), all);
    assert_eq!(handle_all(&folder.0, || panic!("all were handled")), all);
}
