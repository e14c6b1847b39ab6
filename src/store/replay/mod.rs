//! Replay: events of a store come to the bus again, beside live traffic.
//!
//! ```text
//!   store ──► query ──► replay's own thread and publisher, at a rate ──► Low lane ──► subscriptions that take replays
//!                                                                                     (all of them, or one by its name)
//! ```
//!
//! * Events come in the order of the query, whatever their priorities were: all of them travel in one lane, Low unless told otherwise. More
//!   urgent live events go before them, and they fill no more than a quarter of the lane.
//! * Each is marked: [`Meta::is_replay`](crate::Meta::is_replay), and [`Meta::position`](crate::Meta::position). Only
//!   subscriptions that have [said that it does no harm](crate::Subscribe::replay) are given it.

mod error;
mod pace;
mod run;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Bus, Priority, Rate, ReplayPolicy, SubscriptionId, SubscriptionRecord};

use super::{EventStore, Position, Query};
use run::{Runner, chunk};

pub use error::ReplayError;

type OnProgress = Box<dyn FnMut(&ReplayProgress) + Send>;

/// A replay under way: all events of the store, to all who take replays, as fast as they take them, unless it is told otherwise.
#[must_use = "nothing is replayed until `start`"]
pub struct ReplayBuilder {
    bus: Bus,
    store: Arc<dyn EventStore>,
    query: Query,
    name: Option<String>,
    rate: Option<Rate>,
    priority: Priority,
    on_progress: Option<OnProgress>,
}

impl Bus {
    /// Begins a replay of events of a store.
    ///
    /// ```
    /// use ringmain::store::{Durability, EventStore, ExpectedVersion, MemoryStore, Query};
    /// use ringmain::{Bus, Pattern, Payload, Rate, ReplayPolicy};
    /// use std::sync::Arc;
    ///
    /// let bus = Bus::builder().build()?;
    /// let store = Arc::new(MemoryStore::new());
    /// let order = bus.publisher()?.event().to_frame("orders.placed", Payload::json(r#"{"id": 7}"#))?;
    /// store.append(&[order], ExpectedVersion::Any, Durability::Accepted)?;
    ///
    /// let mut report = bus.subscribe("orders.*").named("report").replay(ReplayPolicy::Safe).mailbox()?;
    /// let orders = Query::new().pattern(Pattern::new("orders.*")?);
    /// let replay = || bus.replay(store.clone()).query(orders.clone()).to_subscription("report");
    /// assert_eq!(replay().rate(Rate::per_second(10.0)).dry_run()?.events, 1);
    /// assert_eq!(replay().start()?.wait()?.published, 1);
    /// assert!(report.recv()?.meta().is_replay());
    /// # bus.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replay(&self, store: Arc<dyn EventStore>) -> ReplayBuilder {
        ReplayBuilder {
            bus: self.clone(),
            store,
            query: Query::new(),
            name: None,
            rate: None,
            priority: Priority::Low,
            on_progress: None,
        }
    }
}

/// What a replay would do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReplayEstimate {
    /// Events that it would publish.
    pub events: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// The first of them, in the order of the query.
    pub first: Option<Position>,
    /// The last.
    pub last: Option<Position>,
    /// The names of the subscriptions that take replays, or of the one it is for.
    pub subscriptions: Vec<String>,
    /// The time that its rate asks for; `None` without a rate.
    pub takes: Option<Duration>,
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayProgress {
    /// Events that were published.
    pub published: u64,
    /// Events that were left out: their deadlines have passed.
    pub expired: u64,
    /// The last event that was published or left out.
    pub position: Option<Position>,
    /// Whether it has ended: it is through, was cancelled, or has failed.
    pub is_over: bool,
    /// Whether it was cancelled, or the bus was shut down.
    pub is_cancelled: bool,
    /// Whether it has failed; [`Replay::wait`] says why.
    pub is_failed: bool,
}

impl ReplayBuilder {
    /// Replays what a query means, in its order: a range of positions or of time, a pattern, a source and so on. Its limit is
    /// that of a page.
    pub fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// Replays to the one subscription of this name. Default: to all that take replays.
    pub fn to_subscription(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Replays at most so fast; what a full lane or a slow store has held up for more than 10 ms does not come at once behind it. Default:
    /// as fast as its lane moves.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// The lane that all of its events travel in. Default Low.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Tells how far it has come, at the beginning of each page of the query, after its last event, and at most 256 events apart.
    /// It is called on the replay's thread.
    pub fn on_progress(mut self, hear: impl FnMut(&ReplayProgress) + Send + 'static) -> Self {
        self.on_progress = Some(Box::new(hear));
        self
    }

    /// Says what it would do, and does nothing.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`ReplayError::Read`].
    ///
    /// # Cost
    /// Reads every event that is meant.
    pub fn dry_run(self) -> Result<ReplayEstimate, ReplayError> {
        let subscriptions = self.check()?.into_iter().map(|record| record.name).collect();
        let (mut events, mut bytes, mut first, mut last) = (0_u64, 0, None, None);
        let read = self.query.visit(&*self.store, |event| {
            events += 1;
            bytes += event.frame().bytes().len() as u64;
            first = first.or(Some(event.position()));
            last = Some(event.position());
            ControlFlow::Continue(())
        });
        read.map_err(ReplayError::Read)?;
        let takes = self.rate.map(|rate| {
            let waits = events.saturating_sub(u64::from(rate.burst_max())) as f64;
            Duration::try_from_secs_f64(waits / rate.events_per_second()).unwrap_or(Duration::MAX)
        });
        Ok(ReplayEstimate { events, bytes, first, last, subscriptions, takes })
    }

    /// Begins to replay, on a thread of its own: what is in the store when it begins. What is appended meanwhile is not replayed, or a
    /// replay whose events give rise to others in the same store would never end.
    ///
    /// Events that a [`Retention`](super::Retention) removes before they are read end it, as [`ReadError::Removed`](super::ReadError::Removed)
    /// says; so does a query [from a position](Query::from_position) that is not there any more.
    ///
    /// # Errors
    /// See [`ReplayError`]: nobody takes replays, or there is no publisher or thread for it.
    pub fn start(self) -> Result<Replay, ReplayError> {
        let recipients = self.check()?;
        let Self { bus, store, query, name, rate, priority, on_progress } = self;
        let only: Option<SubscriptionId> = name.and(recipients.first()).map(|record| record.id);
        let publisher = bus.publisher().map_err(ReplayError::Publisher)?;
        let shared = Arc::new(Shared::default());
        let chunk = chunk(bus.metrics().max_queue_size);
        let runner = Runner {
            bus,
            publisher,
            store,
            query,
            only,
            rate,
            priority,
            on_progress,
            shared: Arc::clone(&shared),
            chunk,
        };
        let thread = thread::Builder::new().name("ringmain-replay".into()).spawn(move || runner.run());
        let thread = thread.map_err(|error| ReplayError::Thread(error.to_string()))?;
        Ok(Replay { shared, thread: Some(thread) })
    }

    /// Who is given its events.
    fn check(&self) -> Result<Vec<SubscriptionRecord>, ReplayError> {
        if let Some(rate) = &self.rate {
            rate.check().map_err(ReplayError::Rate)?;
        }
        let mut records = self.bus.subscriptions();
        if let Some(name) = &self.name {
            records.retain(|record| record.name == *name);
            return match &records[..] {
                [only] if only.replay == ReplayPolicy::Safe => Ok(records),
                [_] => Err(ReplayError::NotSafe { name: name.clone() }),
                found => Err(ReplayError::Subscription { name: name.clone(), found: found.len() }),
            };
        }
        records.retain(|record| record.replay == ReplayPolicy::Safe);
        if records.is_empty() { Err(ReplayError::Nobody) } else { Ok(records) }
    }
}

impl fmt::Debug for ReplayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBuilder").field("query", &self.query).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A replay that runs. Dropped, it is cancelled.
pub struct Replay {
    shared: Arc<Shared>,
    /// Present until it was waited for.
    thread: Option<JoinHandle<Result<(), ReplayError>>>,
}

/// What a replay's handle and its thread share.
#[derive(Default)]
struct Shared {
    progress: Mutex<ReplayProgress>,
    cancelled: Condvar,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, ReplayProgress> {
        // Changed by steps that do not panic.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, unless it is cancelled. Returns whether it is.
    fn rest(&self, time: Duration) -> bool {
        let rested = self.cancelled.wait_timeout_while(self.progress(), time, |progress| !progress.is_cancelled);
        rested.unwrap_or_else(PoisonError::into_inner).0.is_cancelled
    }
}

impl Replay {
    /// How far it has come.
    pub fn progress(&self) -> ReplayProgress {
        *self.shared.progress()
    }

    /// Ends it after the event that it is at.
    pub fn cancel(&self) {
        self.shared.progress().is_cancelled = true;
        self.shared.cancelled.notify_all();
    }

    /// Waits until it is over. Its last events may still be in their lane.
    ///
    /// # Errors
    /// See [`ReplayError`]; [`progress`](Self::progress) before tells how far it came.
    pub fn wait(mut self) -> Result<ReplayProgress, ReplayError> {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or(Err(ReplayError::Panicked))?;
        }
        Ok(self.progress())
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.cancel();
        if let Some(thread) = self.thread.take() {
            // Nobody is left to hear how it went.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
