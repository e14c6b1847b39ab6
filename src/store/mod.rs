//! Events that outlive their process: an [`EventStore`] keeps frames in one global order and finds them again.
//!
//! ```text
//!   publisher.event() ──► Frame ──► append(batch, expected version, durability) ──► positions 1, 2, 3 …
//!                                      │ all of the batch, or nothing
//!                                      ▼
//!                 ┌──── position ────┬── aggregate, version ──┬── topic ──┬── correlation ──┐
//!   query, load ──┤ 1, 2, 3, 4, …    │ ("order", "7"): 1, 2   │           │                 │──► pages ──► StoredEvent
//!                 └──────────────────┴────────────────────────┴───────────┴─────────────────┘
//!   snapshots: ("order", "7") at version 10
//! ```
//!
//! * A **position** is a place in the order of all events of a store, counted from 1 without gaps. It never changes.
//! * A **version** is a place among the events of one aggregate, counted from 1. A writer says which version it expects to
//!   find, and fails when another writer was faster: optimistic concurrency.
//! * Reading is by pages, and by [`Events`], which reads page after page. A page's end is a position, so that reading goes
//!   on where it was however many events were appended meanwhile.
//!
//! A [`StateStore`] keeps small state beside the events: cursors, sagas, read models. A [`DeadLetterQueue`] keeps in it what
//! subscriptions gave up on, a [`Schedule`] what is to be published at a
//! time, a [`HandledWindow`] what was handled and may come again, [`StoredSubscriptions`] who wants what. Whoever reads on under a name
//! has it alone: [`StateStore::lease`]. An [`AuditTrail`] keeps among the events who did what.
//!
//! [`Upcasters`] bring events of older schema versions to the current one when they are read.
//!
//! [`MemoryStore`] keeps everything in memory, for tests and for what may be lost; [`LogStore`] in a folder;
//! `PostgresStore`, with the feature `postgres`, in a database that several processes share. Every store passes the same tests.
//!
//! ```
//! use ringmain::store::{Durability, EventStore, ExpectedVersion, MemoryStore, Query};
//! use ringmain::{Aggregate, Bus, Pattern, Payload};
//!
//! let bus = Bus::builder().build()?;
//! let mut publisher = bus.publisher()?;
//! let store = MemoryStore::new();
//!
//! let placed = publisher
//!     .event()
//!     .aggregate(Aggregate { kind: "order", id: "7", version: 1 })
//!     .to_frame("orders.placed", Payload::json(r#"{"cents": 1999}"#))?;
//! let appended = store.append(&[placed.clone()], ExpectedVersion::New, Durability::Accepted)?;
//! assert_eq!(appended.version(), Some(1));
//! publisher.publish_frame(&placed)?; // Kept first, then told.
//!
//! let orders = Query::new().pattern(Pattern::new("orders.*")?);
//! for event in orders.stream(&store) {
//!     let event = event?;
//!     println!("{} {}: {:?}", event.position(), event.meta().topic(), event.payload().text());
//! }
//! # bus.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod append;
mod audit;
pub(crate) mod backup;
mod bookmark;
mod causation;
mod cursor;
mod durable;
mod event_store;
mod guard;
mod handled;
mod index;
mod journal;
mod lease;
mod letters;
pub(crate) mod log;
pub(crate) mod log_store;
mod memory;
mod memory_state;
mod name;
mod positions;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod read_error;
mod reliable;
mod replay;
mod schedule;
mod snapshot;
mod spill;
mod state;
mod steady;
mod stored_subscriptions;
mod subscription;
pub(crate) mod table;
mod tail;
mod upcast;

pub use append::{AppendError, Appended, BATCH_EVENTS_MAX, Durability, ExpectedVersion};
pub use audit::{
    AuditAct, AuditActor, AuditCounts, AuditError, AuditGranularity, AuditPublishing, AuditPublishingCounts,
    AuditQuery, AuditRecord, AuditRecords, AuditRetention, AuditTrail, AuditedError, AuditedEvent,
};
pub use backup::{Backup, BackupError, BackupProgress, RestoreError, RestoredStore};
pub use bookmark::Bookmark;
pub use causation::{CausationLink, CausationNode, CausationTree};
pub use cursor::CursorError;
pub use durable::{DurableBuilder, DurableCounts, DurableError, DurablePending, DurablePublisher};
pub use event_store::{EventStore, Position, StoredEvent, StoredEventRef, SyncError};
pub use handled::{Begun, HandledError, HandledWindow, Handling};
pub use journal::{Journal, JournalBuilder, JournalCounts, JournalError, JournalState};
pub use lease::{Lease, LeaseError, Leased, Leases};
pub use letters::{DeadLetterQueue, DeadLetterQueueCounts, DeadLetterQueueError, StoredLetter};
pub use log::{Cause, Damage, Fault, OpenError, OptionOutOfRange, Recovered};
pub use log_store::{
    Compaction, Held, Holder, IndexFault, LogStore, LogStoreBuilder, LogStoreStats, Opening, Retention, Upkeep,
};
pub use memory::MemoryStore;
pub use name::NameError;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresError, PostgresFault, PostgresStore, PostgresStoreBuilder};
pub use query::{Events, Order, Page, Query};
pub use read_error::ReadError;
pub use reliable::{Attempted, ReliableSubscription, ReliableSubscriptionError};
pub use replay::{Replay, ReplayBuilder, ReplayError, ReplayEstimate, ReplayProgress};
pub use schedule::{PublishedDue, Schedule, ScheduleError, ScheduledEvent};
pub use snapshot::{Snapshot, SnapshotError};
pub use state::{
    STATE_BATCH_BYTES_MAX, STATE_CHANGES_MAX, STATE_KEY_BYTES_MAX, STATE_PAGE_BYTES, STATE_PAGE_MAX,
    STATE_VALUE_BYTES_MAX, StateChange, StateError, StateKind, StatePage, StateReadError, StateStore, StateValue,
};
pub use steady::steady_now;
pub use stored_subscriptions::{Restored, StoredSubscription, StoredSubscriptions, StoredSubscriptionsError};
pub use subscription::{DurableSubscription, DurableSubscriptionBuilder, DurableSubscriptionError};
pub use upcast::{UpcastError, UpcasterFault, Upcasters, UpcastersBuilder, UpcastersError};
