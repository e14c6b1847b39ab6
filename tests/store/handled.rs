//! Windows of handled events: what comes again counts once, also where the process was killed in between.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::EventId;
use ringmain::store::{
    Durability, HandledError, HandledWindow, LogStore, MemoryStore, StateChange, StateKind, StateStore,
};

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
    let window = open("a");
    open("aa").apply(event(9), at(100), &[], word).unwrap();
    for (number, seconds) in [(1, 100), (2, 101), (3, 102)] {
        window.apply(event(number), at(seconds), &[], word).unwrap();
    }
    drop(window);
    let window = open("a");
    let contained = |now| (1..=9).filter(|number| window.contains(event(*number), at(now))).collect::<Vec<_>>();
    assert_eq!((contained(102), window.len()), (vec![1, 2, 3], 3));
    assert_eq!((contained(110), contained(111)), (vec![2, 3], vec![3]));
    assert_eq!(contained(90), [1, 2, 3], "a clock that was set back makes nothing old");
    window.apply(event(1), at(110), &[], word).unwrap();
    assert_eq!((contained(110), window.len()), (vec![1, 2, 3], 3), "its first time is over and forgotten");
    for number in [4, 5] {
        window.apply(event(number), at(110), &[], word).unwrap();
    }
    assert_eq!((contained(110), window.len()), (vec![1, 3, 4, 5], 4), "the oldest makes room");
    assert_eq!(state.list(StateKind::HANDLED, &[], 10).unwrap().entries.len(), 5, "and is gone from the store");
    let long = HandledWindow::open(&"x".repeat(256), Arc::clone(&state)).unwrap_err();
    assert!(matches!(long, HandledError::NameTooLong { bytes: 256, max: 255 }), "{long:?}");
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
        if window.contains(event(number), at(1)) {
            continue;
        }
        let sum = (sum(&*state) + u64::from(number)).to_le_bytes();
        let added = StateChange::Put { kind: StateKind::own(1), key: b"sum", value: &sum };
        window.apply(event(number), at(1), &[added], Durability::Durable).unwrap();
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
