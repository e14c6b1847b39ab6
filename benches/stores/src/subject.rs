//! Those that are compared, each used as its documentation says.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query};
use ringmain::{Aggregate, Bus, Frame, Payload};
use rusqlite::{Connection, params};

/// Aggregates that the events are of.
const AGGREGATES: u64 = 1_000;
/// Bytes of an event.
const EVENT_BYTES: usize = 256;

/// An event, as each of them takes it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) aggregate: u32,
    pub(crate) frame: Frame,
}

/// One event of each aggregate.
pub(crate) fn events() -> Vec<Event> {
    let bus = Bus::builder().build().expect("the limits are fine");
    let mut publisher = bus.publisher().expect("there is room for one");
    let mut event = |nth: u64, payload: usize| {
        let id = nth.to_string();
        let aggregate = Aggregate { kind: "order", id: &id, version: 1 };
        let payload = Payload::raw(&[0x5A; EVENT_BYTES][..payload]);
        let frame = publisher.event().aggregate(aggregate).to_frame("orders.placed", payload).expect("it is short");
        Event { aggregate: nth as u32, frame }
    };
    let head = event(100, 0).frame.bytes().len();
    let events = (0..AGGREGATES).map(|nth| event(nth, EVENT_BYTES - head)).collect();
    bus.shutdown().expect("nothing is under way");
    events
}

/// What an append means when it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// In the operating system: it survives the process.
    Written,
    /// Synced.
    Durable,
}

/// What keeps events.
pub(crate) trait Subject: Sync {
    /// Opens what is in this folder, to be used with this word.
    fn open(folder: &Path, word: Word) -> Self;

    /// Appends these at once.
    fn append(&self, events: &[Event]);

    /// Reads all, in order: how many there are, and the bytes of them.
    fn replay(&self) -> (u64, u64);
}

/// Ours.
#[derive(Debug)]
pub(crate) struct Ringmain {
    pub(crate) store: LogStore,
    word: Durability,
}

impl Subject for Ringmain {
    fn open(folder: &Path, word: Word) -> Self {
        let word = if word == Word::Durable { Durability::Durable } else { Durability::Written };
        Self { store: LogStore::open(folder).expect("the disk works"), word }
    }

    fn append(&self, events: &[Event]) {
        let frames: Vec<Frame> = events.iter().map(|event| event.frame.clone()).collect();
        self.store.append(&frames, ExpectedVersion::Any, self.word).expect("the disk works");
    }

    fn replay(&self) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        let read = Query::new().limit(Query::EVENTS_MAX).visit(&self.store, |event| {
            count += 1;
            bytes += event.frame().bytes().len() as u64;
            ControlFlow::Continue(())
        });
        read.expect("it is whole");
        (count, bytes)
    }
}

/// SQLite, with a WAL.
#[derive(Debug)]
pub(crate) struct Sqlite(Mutex<Connection>);

impl Subject for Sqlite {
    fn open(folder: &Path, word: Word) -> Self {
        let connection = Connection::open(folder.join("events.sqlite")).expect("the disk works");
        let synchronous = if word == Word::Durable { "FULL" } else { "NORMAL" };
        let pragmas = format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -65536; \
             PRAGMA mmap_size = 1073741824; \
             CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, aggregate INTEGER NOT NULL, body BLOB NOT NULL); \
             CREATE INDEX IF NOT EXISTS of_aggregate ON events (aggregate);"
        );
        connection.execute_batch(&pragmas).expect("the disk works");
        Self(Mutex::new(connection))
    }

    fn append(&self, events: &[Event]) {
        let mut connection = self.0.lock().expect("nobody panicked");
        let transaction = connection.transaction().expect("it is the only one");
        let mut insert =
            transaction.prepare_cached("INSERT INTO events (aggregate, body) VALUES (?1, ?2)").expect("it is SQL");
        for event in events {
            insert.execute(params![event.aggregate, event.frame.bytes()]).expect("the disk works");
        }
        drop(insert);
        transaction.commit().expect("the disk works");
    }

    fn replay(&self) -> (u64, u64) {
        let connection = self.0.lock().expect("nobody panicked");
        let mut select = connection.prepare("SELECT body FROM events ORDER BY position").expect("it is SQL");
        let mut rows = select.query([]).expect("the disk works");
        let (mut count, mut bytes) = (0, 0);
        while let Some(row) = rows.next().expect("the disk works") {
            let body = row.get_ref(0).expect("there is one column");
            count += 1;
            bytes += body.as_blob().expect("it is a blob").len() as u64;
        }
        (count, bytes)
    }
}

/// fjall: a keyspace of events, one of what each aggregate has.
pub(crate) struct Fjall {
    database: Database,
    events: Keyspace,
    aggregates: Keyspace,
    mode: PersistMode,
    next: AtomicU64,
}

impl Subject for Fjall {
    fn open(folder: &Path, word: Word) -> Self {
        let database = Database::builder(folder).open().expect("the disk works");
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default).expect("the disk works");
        let mode = if word == Word::Durable { PersistMode::SyncData } else { PersistMode::Buffer };
        Self { events: keyspace("events"), aggregates: keyspace("aggregates"), database, mode, next: AtomicU64::new(0) }
    }

    fn append(&self, events: &[Event]) {
        // Relaxed: positions are drawn, nothing is found by them.
        let first = self.next.fetch_add(events.len() as u64, Ordering::Relaxed);
        let mut batch = self.database.batch().durability(Some(self.mode));
        for (event, position) in events.iter().zip(first..) {
            let mut of_aggregate = [0; 12];
            of_aggregate[..4].copy_from_slice(&event.aggregate.to_be_bytes());
            of_aggregate[4..].copy_from_slice(&position.to_be_bytes());
            batch.insert(&self.events, position.to_be_bytes(), event.frame.bytes());
            batch.insert(&self.aggregates, of_aggregate, []);
        }
        batch.commit().expect("the disk works");
    }

    fn replay(&self) -> (u64, u64) {
        self.events.iter().fold((0, 0), |(count, bytes), pair| {
            let (_, body) = pair.into_inner().expect("the disk works");
            (count + 1, bytes + body.len() as u64)
        })
    }
}

/// A file with a length before each event, with room from the start, without a check, an index or a limit: the least that can be done.
#[derive(Debug)]
pub(crate) struct Plain {
    file: File,
    word: Word,
    end: AtomicU64,
}

/// The room it has: more than any question needs.
const ROOM: u64 = 1 << 30;

impl Subject for Plain {
    fn open(folder: &Path, word: Word) -> Self {
        let path = folder.join("events");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.expect("the disk works");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, ROOM).expect("there is room");
        file.sync_all().expect("the disk works");
        Self { file, word, end: AtomicU64::new(0) }
    }

    fn append(&self, events: &[Event]) {
        let mut bytes = Vec::with_capacity(events.len() * (EVENT_BYTES + 8));
        for event in events {
            bytes.extend_from_slice(&(event.frame.bytes().len() as u64).to_le_bytes());
            bytes.extend_from_slice(event.frame.bytes());
        }
        // Relaxed: each has its own place, and those that sync wait for each other elsewhere.
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(&bytes, at).expect("the disk works");
        if self.word == Word::Durable {
            self.file.sync_data().expect("the disk works");
        }
    }

    fn replay(&self) -> (u64, u64) {
        let end = self.end.load(Ordering::Relaxed);
        let mut reader = BufReader::with_capacity(1 << 18, &self.file);
        std::io::Seek::rewind(&mut reader).expect("it is a file");
        let (mut count, mut bytes, mut at) = (0, 0, 0);
        let mut event = Vec::new();
        while at < end {
            let mut length = [0; 8];
            reader.read_exact(&mut length).expect("it is there");
            let length = u64::from_le_bytes(length);
            event.resize(length as usize, 0);
            reader.read_exact(&mut event).expect("it is there");
            (count, bytes, at) = (count + 1, bytes + length, at + 8 + length);
        }
        (count, bytes)
    }
}
