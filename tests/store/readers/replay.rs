//! Replays of stores that lose, panic, and are fed by what is replayed.

use std::sync::mpsc;
use std::thread;

use ringmain::store::{ReplayError, ReplayProgress};
use ringmain::{Bus, FullPolicy, Payload, Priority, ReplayPolicy};

use super::*;
use crate::log_store::position;
use crate::moody::{Moody, Reply};

fn history(events: usize) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    append(&*store, &Writer::new().frames("a", events));
    store
}

#[test]
fn a_replay_that_is_fed_while_it_runs_ends() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = history(50);
    let _report = bus.subscribe("a").replay(ReplayPolicy::Safe).handle(|_, _| ()).unwrap();
    // As a handler does whose events a journal keeps in the same store: each page gives rise to another event.
    let (fed, frame) = (store.clone(), Writer::new().frame("a", |event| event));
    let feed = move |_: &ReplayProgress| append(&*fed, std::slice::from_ref(&frame));
    let replay = bus.replay(store.clone()).query(Query::new().limit(1)).on_progress(feed).start().unwrap();
    assert_eq!(replay.wait().unwrap().published, 50, "what was there when it began");
    assert!(store.head().unwrap() > Some(position(90)));
    crate::books::end(&bus);
}

#[test]
fn a_replay_of_what_was_removed_fails_and_says_how_much() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut report = bus.subscribe("a").replay(ReplayPolicy::Safe).mailbox().unwrap();
    let store = filled(60);
    store.keep(ALL).unwrap();
    let first = store.first().unwrap().unwrap().get();
    let replay = |query: Query| bus.replay(store.clone()).query(query).start().unwrap();
    let error = replay(Query::new().from_position(position(3))).wait().unwrap_err();
    let ReplayError::Read(error) = error else { panic!("{error}") };
    assert_eq!(removed(&error), (3, first - 1));
    assert_eq!(replay(Query::new()).wait().unwrap().published, 61 - first, "what there is");
    assert_eq!(report.recv_deadline(PATIENCE).unwrap().meta().position(), Some(first));
    crate::books::end(&bus);
}

#[test]
fn a_store_that_panics_ends_a_replay_and_that_is_said() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let _report = bus.subscribe("a").replay(ReplayPolicy::Safe).handle(|_, _| ()).unwrap();
    let store = Moody::new(|_, _| Reply::Take);
    append(&store, &Writer::new().frames("a", 3));
    let store = Arc::new(store.reading(|_, _, _| panic!("a panic that the test asks for")));
    let replay = bus.replay(store).start().unwrap();
    while !replay.progress().is_over {
        thread::yield_now();
    }
    assert!(replay.progress().is_failed);
    assert!(matches!(replay.wait(), Err(ReplayError::Panicked)));
    crate::books::end(&bus);
}

#[test]
fn a_replay_leaves_most_of_a_small_lane_to_others() {
    let bus = Bus::builder().workers(1).max_queue_size(16).when_full(FullPolicy::REJECT).build().unwrap();
    let (begun, begins) = mpsc::channel();
    let (open, opens) = mpsc::channel::<()>();
    let _report = bus.subscribe("a").replay(ReplayPolicy::Safe).handle(move |_, _| {
        let _ = begun.send(());
        let _ = opens.recv();
    });
    let replay = bus.replay(history(100)).start().unwrap();
    begins.recv_timeout(PATIENCE).unwrap();
    // It goes on as long as it finds room: wait until it has looked often.
    for _ in 0..1_000 {
        thread::yield_now();
        assert!(replay.progress().published <= 4 + 2, "{:?}", replay.progress());
    }
    let mut publisher = bus.publisher().unwrap();
    for nth in 0..10 {
        let low = publisher.at(Priority::Low).try_publish("b", Payload::plain_text("live"));
        assert!(low.is_ok(), "{nth}: {low:?}");
    }
    drop(open);
    assert_eq!(replay.wait().unwrap().published, 100);
    crate::books::end(&bus);
}
