//! The operations of the store: its log on the disk of the system, in a folder of its own.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::{env, fs, process};

use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Position, Query, StoredEventRef};
use ringmain::{Aggregate, Bus, Frame, Pattern, Payload};

use crate::operations::{Operation, Rounds, operation};

/// Events of a page.
const PAGE: u64 = 512;
/// Aggregates that the events are of, and how many each has.
const AGGREGATES: u64 = 64;
const VERSIONS: u64 = 64;
const EVENTS: u64 = AGGREGATES * VERSIONS;
/// Bytes of an event.
const EVENT_BYTES: usize = 256;
const BATCH: u64 = 16;

/// All of them, of events of 256 bytes that belong to aggregates.
pub(crate) const OPERATIONS: &[Operation] = &[
    operation("store-visit", "an event lent by a store, of a page of 512", PAGE, |rounds, _| {
        read(rounds, &Query::new());
    }),
    operation("store-visit-topic", "the same, asked for by a topic that all have", PAGE, |rounds, _| {
        let pattern = Pattern::new("orders.*").expect("it is one");
        read(rounds, &Query::new().pattern(pattern));
    }),
    operation("store-get", "one event by its position", 1, get),
    operation("store-append-16", "an event of 16 appended at once, written", BATCH, append),
];

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("instructions-{}", process::id()));
        fs::create_dir_all(&path).expect("the folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder can be removed");
    }
}

/// One event of each aggregate, of a version.
fn frames(version: u64) -> Vec<Frame> {
    let bus = Bus::builder().build().expect("the limits are fine");
    let mut publisher = bus.publisher().expect("there is room for one");
    let mut frame = |nth: u64, payload: usize| {
        let id = format!("{nth:03}");
        let aggregate = Aggregate { kind: "order", id: &id, version };
        let payload = Payload::raw(&[0x5A; EVENT_BYTES][..payload]);
        publisher.event().aggregate(aggregate).to_frame("orders.placed", payload).expect("it is short")
    };
    let head = frame(0, 0).bytes().len();
    let frames = (0..AGGREGATES).map(|nth| frame(nth, EVENT_BYTES - head)).collect();
    bus.shutdown().expect("nothing is under way");
    frames
}

fn filled(folder: &Folder) -> LogStore {
    let store = LogStore::open(&folder.0).expect("the disk works");
    for version in 1..=VERSIONS {
        store.append(&frames(version), ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    store
}

/// Where the page of a round begins: page after page, and again from the first.
fn begin(at: &mut u64, events: u64) -> Position {
    let position = Position::new(*at % EVENTS + 1).expect("positions count from 1");
    *at += events;
    position
}

/// How many events of a page the store lends.
fn lent(store: &LogStore, page: &Query) -> u64 {
    let mut count = 0;
    let mut look = |event: StoredEventRef<'_>| {
        count += 1;
        black_box(event.frame().bytes().len());
        ControlFlow::Continue(())
    };
    store.visit(page, &mut look).expect("it is whole");
    count
}

fn read(rounds: Rounds, query: &Query) {
    let folder = Folder::new();
    let store = filled(&folder);
    let mut at = 0;
    let lend = || lent(&store, &query.clone().from_position(begin(&mut at, PAGE)).limit(PAGE as usize));
    rounds.run(|| {}, lend, || {});
}

fn get(rounds: Rounds, _seed: u64) {
    let folder = Folder::new();
    let store = filled(&folder);
    let mut at = 0;
    let get = || {
        // A prime, so that it is each time another place.
        let position = begin(&mut at, 1_009);
        let page = Query::new().from_position(position).to_position(position).limit(1);
        black_box(store.query(&page).expect("it is whole")).events.len() as u64
    };
    rounds.run(|| {}, get, || {});
}

fn append(rounds: Rounds, _seed: u64) {
    let folder = Folder::new();
    let store = LogStore::open(&folder.0).expect("the disk works");
    let frames = &frames(1)[..BATCH as usize];
    let append = || {
        store.append(frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
        BATCH
    };
    rounds.run(|| {}, append, || {});
}
