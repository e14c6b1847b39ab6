//! Loading and saving: one append, snapshots that can be missing or unreadable, conflicts that are decided again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use ringmain::sourcing::{ExecuteError, LoadError, Repository, Root, SaveError};
use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, LogStore, Page, Query, ReadError, Retention,
    Snapshot, Upcasters,
};
use ringmain::testing::Simulation;
use ringmain::{Bus, EventId, Frame, Payload};

use super::context::{Context, ContextRefusal, create, rename};
use super::folder::Folder;
use super::support::{Ground, Store, on_every_store};
use crate::delegated::delegated;

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(1), 1).unwrap()
}

fn repository(simulation: &Simulation, store: Arc<dyn EventStore>) -> Repository<Context> {
    Repository::new(store, simulation.bus().publisher().unwrap())
}

/// A store that counts the events it gave, and can let another writer win.
struct Watched {
    store: Arc<dyn Store>,
    events_read: AtomicU64,
    /// Appends to lose yet.
    rivals: AtomicU64,
}

impl Watched {
    fn new(ground: &Ground) -> Arc<Self> {
        Arc::new(Self { store: ground.store(), events_read: AtomicU64::new(0), rivals: AtomicU64::new(0) })
    }
}

impl EventStore for Watched {
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let rivals = self.rivals.load(Ordering::Relaxed);
        if rivals > 0 {
            self.rivals.store(rivals - 1, Ordering::Relaxed);
            self.store.append(events, expected, durability)?;
        }
        self.store.append(events, expected, durability)
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        let page = self.store.query(query)?;
        self.events_read.fetch_add(page.events.len() as u64, Ordering::Relaxed);
        Ok(page)
    }

    delegated!(store: sync, save_snapshot, load_snapshot, keep_history, head, wait_behind, durability);
}

on_every_store! {
    a_snapshot_is_taken_every_ten_versions_and_saves_reading_what_is_before_it,
    a_command_is_decided_again_when_another_writer_was_faster,
    what_was_saved_is_loaded,
    two_that_create_the_same_are_told_apart_by_the_store,
    every_command_of_racing_writers_happens_once,
    an_event_that_cannot_be_read_is_named_with_its_position,
    events_of_older_versions_are_brought_on_before_the_aggregate_reads_them,
}

fn what_was_saved_is_loaded(ground: &Ground) {
    let (simulation, store) = (simulation(), ground.store());
    let mut contexts = repository(&simulation, store.clone());
    assert_eq!(contexts.load("7").unwrap().version(), 0);
    let mut root = Root::new("7");
    root.create(&create("plans")).unwrap();
    root.execute(&rename("dreams", 5)).unwrap();
    let story = EventId::random();
    contexts.set_correlation(Some(story));
    let saved = contexts.save(&mut root).unwrap().unwrap();
    assert_eq!((saved.version, saved.positions.end().get()), (2, 2));
    assert!(root.uncommitted().is_empty() && root.saved_version() == 2);
    assert!(contexts.save(&mut root).unwrap().is_none(), "there is nothing to save");

    let loaded = contexts.load("7").unwrap();
    assert_eq!((loaded.version(), loaded.state()), (2, root.state()));
    let kept = store.query(&Query::new().correlation(story)).unwrap().events;
    assert_eq!(
        kept.iter().map(|event| event.meta().topic()).collect::<Vec<_>>(),
        ["context.created", "context.updated"]
    );
    assert_eq!(kept[1].meta().aggregate(), Some(ringmain::Aggregate { kind: "context", id: "7", version: 2 }));
}

fn a_snapshot_is_taken_every_ten_versions_and_saves_reading_what_is_before_it(ground: &Ground) {
    let (simulation, store) = (simulation(), Watched::new(ground));
    let mut contexts = repository(&simulation, store.clone());
    contexts.execute("7", &create("plans")).unwrap();
    for version in 2..=9 {
        contexts.execute("7", &rename("dreams", version)).unwrap();
    }
    assert!(store.load_snapshot("context", "7").unwrap().is_none());
    // Three at once step over the tenth.
    let mut root = contexts.load("7").unwrap();
    for version in 10..=12 {
        root.execute(&rename("deeds", version)).unwrap();
    }
    assert!(contexts.save(&mut root).unwrap().unwrap().snapshot_error.is_none());
    assert_eq!(store.load_snapshot("context", "7").unwrap().unwrap().version(), 12);
    contexts.execute("7", &rename("done", 13)).unwrap();

    store.events_read.store(0, Ordering::Relaxed);
    let loaded = contexts.load("7").unwrap();
    assert_eq!(store.events_read.load(Ordering::Relaxed), 1);
    assert_eq!((loaded.version(), &*loaded.state().name, loaded.state().created_at), (13, "done", 1));

    // One that cannot be read any more is as good as none.
    let unreadable = Snapshot::new("context", "7", 13, Payload::rkyv(&[0xff; 3]));
    store.save_snapshot(&unreadable).unwrap();
    let made_of_events = contexts.load("7").unwrap();
    assert_eq!((made_of_events.version(), made_of_events.state()), (13, loaded.state()));

    let mut never = repository(&simulation, store.clone()).snapshot_every(0);
    for version in 1..=20 {
        never.execute("8", &if version == 1 { create("plans") } else { rename("x", version) }).unwrap();
    }
    assert!(store.load_snapshot("context", "8").unwrap().is_none());
}

fn a_command_is_decided_again_when_another_writer_was_faster(ground: &Ground) {
    let (simulation, store) = (simulation(), Watched::new(ground));
    let mut contexts = repository(&simulation, store.clone()).attempts_max(3);
    contexts.execute("7", &create("plans")).unwrap();
    store.rivals.store(2, Ordering::Relaxed);
    assert_eq!(contexts.execute("7", &rename("dreams", 5)).unwrap().version(), 4, "two rivals came first");
    store.rivals.store(3, Ordering::Relaxed);
    let given_up = contexts.execute("7", &rename("dreams", 6)).unwrap_err();
    assert!(
        matches!(given_up, ExecuteError::Save(SaveError::Append(AppendError::Conflict { expected: 6, found: 7, .. }))),
        "{given_up:?}"
    );
    let refused = contexts.execute("8", &rename("dreams", 6)).unwrap_err();
    assert!(matches!(refused, ExecuteError::Refused(ContextRefusal::NoSuchContext)), "{refused:?}");
}

fn two_that_create_the_same_are_told_apart_by_the_store(ground: &Ground) {
    let (simulation, store) = (simulation(), ground.store());
    let mut contexts = repository(&simulation, store.clone());
    let (mut first, mut second) = (Root::new("7"), Root::new("7"));
    first.create(&create("plans")).unwrap();
    second.create(&create("dreams")).unwrap();
    contexts.save(&mut first).unwrap();
    let refused = contexts.save(&mut second).unwrap_err();
    assert!(matches!(refused, SaveError::Append(AppendError::AlreadyExists { version: 1, .. })), "{refused:?}");
    assert_eq!(second.uncommitted().len(), 1, "what was not saved stays");
    assert_eq!(contexts.load("7").unwrap().state().name, "plans");
}

fn every_command_of_racing_writers_happens_once(ground: &Ground) {
    const WRITERS: u64 = 3;
    const COMMANDS: u64 = 20;
    let (simulation, store) = (simulation(), ground.store());
    repository(&simulation, store.clone()).execute("7", &create("plans")).unwrap();
    let barrier = Barrier::new(WRITERS as usize);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut contexts = repository(&simulation, store.clone()).attempts_max(u32::MAX);
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for command in 0..COMMANDS {
                    contexts.execute("7", &rename("x", 100 * (writer + 1) + command)).unwrap();
                }
            });
        }
    });
    let contexts = repository(&simulation, store.clone());
    assert_eq!(contexts.load("7").unwrap().version(), 1 + WRITERS * COMMANDS);
}

fn an_event_that_cannot_be_read_is_named_with_its_position(ground: &Ground) {
    let (simulation, store) = (simulation(), ground.store());
    let mut contexts = repository(&simulation, store.clone());
    contexts.execute("7", &create("plans")).unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    let mut strange = |version| {
        let aggregate = ringmain::Aggregate { kind: "context", id: "7", version };
        publisher.event().aggregate(aggregate).to_frame("context.burnt", Payload::json("{}")).unwrap()
    };
    let (unknown, skipping) = (strange(2), strange(4));
    store.append(&[unknown], ExpectedVersion::Exact(1), Durability::Accepted).unwrap();
    let error = contexts.load("7").unwrap_err();
    assert!(matches!(error, LoadError::Event { .. }));
    assert_eq!(error.to_string(), "the event at position 2 could not be read: context.burnt is no event of a context");

    let gap = ground.store();
    let mut contexts = repository(&simulation, gap.clone());
    contexts.execute("7", &create("plans")).unwrap();
    gap.append(&[skipping], ExpectedVersion::Any, Durability::Accepted).unwrap();
    let error = contexts.load("7").unwrap_err();
    assert!(matches!(error, LoadError::Gap { found: 4, needed: 2, .. }), "{error:?}");
}

fn events_of_older_versions_are_brought_on_before_the_aggregate_reads_them(ground: &Ground) {
    let (simulation, store) = (simulation(), ground.store());
    repository(&simulation, store.clone()).execute("7", &create("plans")).unwrap();
    let described = |old: &Frame| Ok(old.with_payload(2, old.payload())?);
    let known = Upcasters::builder().step("context.created", 1, described).build().unwrap();
    let contexts = repository(&simulation, store.clone()).upcasters(Arc::new(known));
    assert_eq!(contexts.load("7").unwrap().state().name, "plans");

    let unknown = Upcasters::builder().current("context.created", 2).build().unwrap();
    let contexts = repository(&simulation, store.clone()).upcasters(Arc::new(unknown));
    let refused = contexts.load("7").unwrap_err();
    let LoadError::Event { position, error } = &refused else { panic!("{refused:?}") };
    assert_eq!(position.get(), 1);
    assert!(error.to_string().contains("has schema version 1, known are 2 to 2"), "{error}");
}

/// Everything is old.
const ALL: Retention = Retention::forever().remove_after(Duration::ZERO);

/// A store of many segments with an aggregate of 12 versions, whose snapshot is of version 10 if any; other events are round them.
fn retired(name: &str, snapshot_every: u64) -> (Folder, Simulation, Arc<LogStore>) {
    let folder = Folder::new(name);
    let small =
        LogStore::builder(&folder.0).segment_bytes(8_192).event_bytes_max(2_000).retention(Retention::forever());
    let store = Arc::new(small.snapshot_state_bytes_max(1_024).open().unwrap());
    let simulation = simulation();
    let mut contexts = repository(&simulation, store.clone()).snapshot_every(snapshot_every);
    let mut publisher = simulation.bus().publisher().unwrap();
    for version in 1..=12 {
        contexts.execute("7", &if version == 1 { create("plans") } else { rename("dreams", version) }).unwrap();
        let others: Vec<_> =
            (0..10).map(|_| publisher.event().to_frame("x", Payload::raw(&[0; 400])).unwrap()).collect();
        store.append(&others, ExpectedVersion::Any, Durability::Accepted).unwrap();
    }
    (folder, simulation, store)
}

#[test]
fn retention_keeps_what_a_repository_needs_to_load_its_aggregates() {
    let (_folder, simulation, store) = retired("kept-for-repository", 10);
    let done = store.keep(ALL).unwrap();
    assert!(done.removed_segments > 0 && done.held_segments > 0, "what the snapshot has goes: {done:?}");
    let contexts = repository(&simulation, store.clone());
    assert_eq!(contexts.load("7").unwrap().version(), 12);
    let held = store.held(ALL).unwrap();
    assert_eq!(held[0].holders[0].to_string(), "context \"7\", which has no snapshot of its version 11");

    let (_folder, simulation, store) = retired("kept-without-snapshot", 0);
    assert_eq!(store.keep(ALL).unwrap().removed_segments, 0);
    assert_eq!(repository(&simulation, store.clone()).load("7").unwrap().version(), 12);
}

#[test]
fn an_aggregate_that_has_lost_events_is_not_loaded_and_it_is_said_which() {
    let (_folder, simulation, store) = retired("lost-without-snapshot", 0);
    // Some of it goes.
    let half = store.stats().event_bytes / 2;
    store.keep(Retention::forever().bytes_max(half).remove_unsnapshotted()).unwrap();
    let mut contexts = repository(&simulation, store.clone());
    let error = contexts.load("7").unwrap_err();
    let LoadError::Removed { kind: "context", needed: 1, left: Some((left, position)), .. } = error else {
        panic!("{error:?}")
    };
    assert!((2..=12).contains(&left), "{left}");
    let said = format!(
        "context \"7\" cannot be loaded: its events from version 1 on to {} were removed; the first that is left has version {left}, at \
         position {position}; restore",
        left - 1
    );
    assert!(error.to_string().starts_with(&said), "{error}");
    let refused = contexts.execute("7", &rename("deeds", 13)).unwrap_err();
    assert!(matches!(refused, ExecuteError::Load(LoadError::Removed { .. })), "{refused:?}");

    // All that its snapshot has is gone, and the snapshot cannot be read any more.
    let (_folder, simulation, store) = retired("lost-snapshot", 12);
    store.save_snapshot(&Snapshot::new("context", "7", 12, Payload::rkyv(&[0xff; 3]))).unwrap();
    while store.stats().positions.is_some_and(|(first, _)| first.get() < 133) {
        let mut publisher = simulation.bus().publisher().unwrap();
        let other = publisher.event().to_frame("x", Payload::raw(&[0; 400])).unwrap();
        store.append(&[other], ExpectedVersion::Any, Durability::Accepted).unwrap();
        store.keep(ALL).unwrap();
    }
    let error = repository(&simulation, store.clone()).load("7").unwrap_err();
    assert!(matches!(error, LoadError::Removed { needed: 1, left: None, .. }), "{error:?}");
    assert!(error.to_string().contains("were removed, and its snapshot cannot be restored; restore"), "{error}");
}
