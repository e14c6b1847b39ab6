//! Stores in memory and on disk, a store of state that dies at a chosen write, and a writer of events.

use std::cell::Cell;
#[cfg(feature = "postgres")]
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, LogStore, MemoryStore, StateChange, StateError,
    StateStore,
};
use ringmain::testing::Simulation;
use ringmain::{Bus, Frame, Outgoing, Payload, Publisher};

use super::folder::Folder;
use crate::delegated::delegated;

/// Each promise is kept on every store: made into a test in memory, one on disk, and one in PostgreSQL where `ci/with-postgres` has a
/// server.
macro_rules! on_every_store {
    ($($promise:ident),* $(,)?) => {
        mod in_memory {
            $(#[test]
            fn $promise() {
                super::$promise(&crate::support::Ground::Memory);
            })*
        }
        mod on_disk {
            $(#[test]
            fn $promise() {
                let name = concat!(module_path!(), "-", stringify!($promise)).replace("::", "-");
                super::$promise(&crate::support::Ground::disk(&name));
            })*
        }
        #[cfg(feature = "postgres")]
        mod in_postgres {
            $(#[test]
            fn $promise() {
                if let Some(ground) = crate::support::Ground::postgres() {
                    super::$promise(&ground);
                }
            })*
        }
    };
}
pub(crate) use on_every_store;

/// Keeps events and state.
pub(crate) trait Store: EventStore + StateStore {}

impl<S: EventStore + StateStore> Store for S {}

/// Where stores are made.
pub(crate) enum Ground {
    Memory,
    /// Each in a folder of its own in this one.
    Disk(Folder, Cell<u64>),
    /// Each in a schema of its own of the database of this URL.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

impl Ground {
    pub(crate) fn disk(name: &str) -> Self {
        Self::Disk(Folder::new(name), Cell::new(0))
    }

    /// `None`, said aloud, where there is no server.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Option<Self> {
        let url = std::env::var("RINGMAIN_POSTGRES_URL").ok();
        if url.is_none() {
            let said = "postgres: SKIP: RINGMAIN_POSTGRES_URL names no server; see ci/with-postgres";
            // Not by the macro, which a test that passes keeps to itself.
            drop(writeln!(std::io::stderr(), "{said}"));
        }
        url.map(Self::Postgres)
    }

    /// An empty store.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory => Arc::new(MemoryStore::new()),
            Self::Disk(folder, stores) => {
                stores.set(stores.get() + 1);
                Arc::new(open(&folder.0.join(stores.get().to_string())))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                static STORES: AtomicU64 = AtomicU64::new(0);
                // Relaxed: a ticket.
                let schema = format!("sourcing_{}_{}", std::process::id(), STORES.fetch_add(1, Ordering::Relaxed));
                let store = ringmain::store::PostgresStore::builder(url).schema(schema).connections_max(2).open();
                Arc::new(store.expect("the server takes it"))
            }
        }
    }
}

/// A store that takes little room on the disk.
pub(crate) fn open(folder: &Path) -> LogStore {
    let small = LogStore::builder(folder).segment_bytes(1 << 20).event_bytes_max(64 << 10);
    small.snapshot_state_bytes_max(64 << 10).state_batch_bytes_max(256 << 10).open().expect("the disk works")
}

/// Where a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Before the write of this number, from 0.
    Before(u64),
    /// When it was made, before anybody knows.
    After(u64),
}

/// State that outlives a process, which dies at one of its writes: that one and all after it fail.
pub(crate) struct Mortal {
    state: Arc<dyn Store>,
    death: Option<Death>,
    /// What it dies of; one that lives on only fails.
    dies: fn(),
    writes: AtomicU64,
    is_revived: AtomicBool,
}

impl Mortal {
    pub(crate) fn new(state: &Arc<dyn Store>, death: Option<Death>) -> Arc<Self> {
        Self::dying(state, death, || ())
    }

    pub(crate) fn dying(state: &Arc<dyn Store>, death: Option<Death>, dies: fn()) -> Arc<Self> {
        Arc::new(Self {
            state: Arc::clone(state),
            death,
            dies,
            writes: AtomicU64::new(0),
            is_revived: AtomicBool::new(false),
        })
    }

    /// It did not die: its disk failed for a while.
    pub(crate) fn revive(&self) {
        self.is_revived.store(true, Ordering::Relaxed);
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Counts a write. Says whether it is made, and whether anybody hears of it.
    fn write(&self) -> (bool, bool) {
        let nth = self.writes.fetch_add(1, Ordering::Relaxed);
        match self.death.filter(|_| !self.is_revived.load(Ordering::Relaxed)) {
            Some(Death::Before(death)) => (nth < death, nth < death),
            Some(Death::After(death)) => (nth <= death, nth < death),
            None => (true, true),
        }
    }
}

impl StateStore for Mortal {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        let (is_made, is_heard) = self.write();
        if is_made {
            self.state.apply(changes, durability)?;
        }
        if is_heard {
            return Ok(());
        }
        (self.dies)();
        Err(StateError::Failed("the process died".into()))
    }

    delegated!(state: get, list, state_durability, lease);
}

/// Events that outlive the same process, whose appends count among its writes.
pub(crate) struct MortalEvents(pub(crate) Arc<dyn Store>, pub(crate) Arc<Mortal>);

impl EventStore for MortalEvents {
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let (is_made, is_heard) = self.1.write();
        let died = || Err(AppendError::Failed("the process died".into()));
        let appended = if is_made { self.0.append(events, expected, durability) } else { died() };
        if is_heard { appended } else { died() }
    }

    delegated!(0: sync, query, save_snapshot, load_snapshot, keep_history, head, wait_behind, durability);
}

/// Appends events to a store.
pub(crate) struct Writer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    _bus: Simulation,
}

impl Writer {
    pub(crate) fn new(ground: &Ground) -> Self {
        Self::of(ground.store())
    }

    pub(crate) fn of(store: Arc<dyn Store>) -> Self {
        let bus = Simulation::new(
            Bus::builder().workers(1).max_queue_size(16).blocks([(4096, 2)]).payload_bytes_max(4000),
            1,
        )
        .unwrap();
        let publisher = bus.bus().publisher().unwrap();
        Self { store, publisher, _bus: bus }
    }

    pub(crate) fn frame(&mut self, topic: &str, text: &str) -> Frame {
        self.publisher.event().to_frame(topic, Payload::plain_text(text)).unwrap()
    }

    pub(crate) fn append(&mut self, topic: &str, text: &str) -> Frame {
        self.append_with(topic, text, |event| event)
    }

    pub(crate) fn append_with(
        &mut self,
        topic: &str,
        text: &str,
        with: impl FnOnce(Outgoing<'_>) -> Outgoing<'_>,
    ) -> Frame {
        let frame = with(self.publisher.event()).to_frame(topic, Payload::plain_text(text)).unwrap();
        let word = self.store.durability();
        self.store.append(std::slice::from_ref(&frame), ExpectedVersion::Any, word).unwrap();
        frame
    }
}
