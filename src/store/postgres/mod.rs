//! A store in PostgreSQL: for events that several processes write, or that are to be where the other data is.
//!
//! ```text
//!   append:  lock the head ──► check the version ──► insert ──► move the head, notify ──► commit
//!              │ one writer at a time: whoever comes next begins behind the commit
//!              ▼
//!   positions 1, 2, 3 … without gaps, in the order of the commits: who has read up to a position has missed nothing before it
//! ```
//!
//! A commit that was not answered may be made yet. Whoever reads next waits for that on the lock of the head, and so does a store that
//! is opened: what it looks for it finds then, or never.
//!
//! Calls block, and what they wait for runs on a thread of the store's own.

mod append;
mod bridge;
mod builder;
mod error;
mod leases;
mod link;
mod migrate;
mod query;
mod snapshots;
mod states;
mod tail;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Frame;

use super::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, Leases, Page, Position, Query, ReadError, Snapshot,
    SnapshotError, SyncError,
};

use bridge::Bridge;
use leases::Session;
use link::Link;
use tail::Tail;

pub use builder::PostgresStoreBuilder;
pub use error::{PostgresError, PostgresFault};

/// An [`EventStore`] and [`StateStore`](super::StateStore) in a schema of a PostgreSQL database. Any number of processes may use it at
/// once.
///
/// Appends go one after the other: each begins when the one before it has been committed. So positions have no gaps and rise in the
/// order of the commits, and who has read up to a position has missed nothing before it.
///
/// [`Durability::Written`] and [`Durability::Durable`] are the same here: the server has synced the commit.
/// [`Durability::Accepted`] does not wait for that, and is lost when the server dies within the next moment; what is lost is the end
/// of the order, never something before an event that is kept. Where the server says that it syncs nothing (`fsync = off`), the
/// strongest word is [`Durability::Written`], and holds as long as the machine of the server does.
///
/// # Cost
/// Blocks the calling thread: a read takes one exchange with the server, an append five and a commit. What is asked runs on one thread
/// of the store, over at most [`connections_max`](PostgresStoreBuilder::connections_max) connections. Each call copies what it
/// sends. Connections are not encrypted.
///
/// ```no_run
/// use ringmain::store::{EventStore, PostgresStore};
///
/// let store = PostgresStore::open("postgres://shop@db.internal/shop")?;
/// println!("{:?}", store.head()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PostgresStore {
    link: Arc<Link>,
    tail: Tail,
    /// Names that are taken, and by whom for those who ask.
    leases: Leases,
    owner: String,
    session: Arc<Session>,
    bridge: Arc<Bridge>,
    durability: Durability,
    call_max: Duration,
}

impl PostgresStore {
    /// Opens the store of this database with the default settings, and makes its tables where they are not there. See
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`PostgresStoreBuilder::open`].
    pub fn open(url: impl Into<String>) -> Result<Self, PostgresError> {
        Self::builder(url).open()
    }

    /// Begins a store in the database that `url` names: `postgres://user:password@host:port/database`, or `key=value` pairs as libpq
    /// takes them.
    pub fn builder(url: impl Into<String>) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(url.into())
    }

    /// Runs a call on the thread of the store, and waits for it. It may be made twice to the same end: where the server has ended a
    /// connection that was kept, which is found out by using it, it is made once more over a new one.
    fn call<T: Send + 'static, F: Future<Output = Result<T, PostgresFault>> + Send>(
        &self,
        doing: &'static str,
        mut call: impl FnMut(Arc<Link>) -> F + Send + 'static,
    ) -> Result<T, PostgresFault> {
        let (link, limit) = (Arc::clone(&self.link), self.call_max);
        self.bridge.run(async move {
            let twice = async {
                match call(Arc::clone(&link)).await {
                    Err(fault) if fault.is_of_connection() => {
                        link.connect_anew();
                        call(Arc::clone(&link)).await
                    }
                    done => done,
                }
            };
            let done = tokio::time::timeout(limit, twice).await;
            done.unwrap_or_else(|_| Err(PostgresFault::timed_out(doing, limit)))
        })?
    }

    fn read<T: Send + 'static, F: Future<Output = Result<T, PostgresFault>> + Send>(
        &self,
        doing: &'static str,
        call: impl FnMut(Arc<Link>) -> F + Send + 'static,
    ) -> Result<T, ReadError> {
        self.call(doing, call).map_err(|fault| ReadError::Failed(Box::new(fault)))
    }
}

impl EventStore for PostgresStore {
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        if durability > self.durability {
            return Err(AppendError::Durability { asked: durability, kept: self.durability });
        }
        let expected = super::append::check(events, expected)?;
        append::check_bytes(events, self.link.batch_bytes_max)?;
        let batch = append::Batch::new(events, expected, durability);
        let (link, limit) = (Arc::clone(&self.link), self.call_max);
        let in_doubt = |fault| AppendError::InDoubt(Box::new(fault));
        let appended = self.bridge.run(async move { append::append(&link, batch, limit).await });
        let appended = appended.map_err(in_doubt).flatten();
        if let Err(AppendError::InDoubt(_)) = appended {
            self.link.doubt();
        }
        appended
    }

    fn sync(&self) -> Result<(), SyncError> {
        let synced = self.call("sync events", |link| async move { link.sync().await });
        synced.map_err(|fault| SyncError::Failed(Box::new(fault)))
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        let limit = query.events_max()?;
        let Some(asked) = query::Asked::of(query, limit) else { return Ok(Page { events: Vec::new(), next: None }) };
        let asked = Arc::new(asked);
        let rows = self.read("read events", move |link| {
            let asked = Arc::clone(&asked);
            async move { query::rows(&link, &asked).await }
        })?;
        query::page(query, limit, rows)
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let kept = snapshot.clone();
        let found = self.call("keep a snapshot", move |link| {
            let kept = kept.clone();
            async move { snapshots::save(&link, &kept).await }
        });
        let found = found.map_err(|fault| SnapshotError::Failed(Box::new(fault)))?;
        super::snapshot::check(snapshot, found)
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        let of: [Arc<str>; 2] = [kind.into(), id.into()];
        let row = self.read("load a snapshot", move |link| {
            let [kind, id] = of.clone();
            async move { snapshots::load(&link, &kind, &id).await }
        })?;
        row.map(|row| row.read(kind, id)).transpose()
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        self.read("read the head", |link| async move { link.head().await }).map(Position::new)
    }

    /// The first call begins to listen, on a connection of its own; while that is lost, the store is asked four times a second.
    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        let behind = position.map_or(0, Position::get);
        self.tail.wait(&self.bridge, &self.link, behind, limit, || self.head())
    }

    fn durability(&self) -> Durability {
        self.durability
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.link.schema).finish_non_exhaustive()
    }
}
