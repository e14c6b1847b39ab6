//! An audit trail: who did what to what, and when, as events of a store.
//!
//! ```text
//!   trail.by("ada").add_rule(rule) ──► record: appended, as durable as the store can ──► the rule is added ──► done
//!                                        │ not appended                                    │ fails
//!                                        ▼                                                 ▼
//!                                   nothing is done: NotRecorded                     a second record says so
//! ```
//!
//! A record is an event: its topic is `ringmain.audit.` and the action, its source the actor, its aggregate the object, so that a store
//! finds it by each of them. Versions of an aggregate follow each other without gaps, and a version has one winner however many
//! processes write. A store changes and removes no event but by its retention.

mod act;
mod actor;
mod change;
mod error;
mod publishing;
mod query;
mod retention;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Aggregate, Bus, EventId, Frame, Notice, Payload, Publisher};

use super::{AppendError, EventStore, ExpectedVersion, Query};

pub use act::AuditAct;
pub use actor::AuditActor;
pub use error::{AuditError, AuditedError};
pub use publishing::{AuditGranularity, AuditPublishing, AuditPublishingCounts, AuditedEvent};
pub use query::{AuditQuery, AuditRecord, AuditRecords};
pub use retention::AuditRetention;

/// The kind of the aggregates that objects are.
const KIND: &str = "ringmain.audit";
/// What topics of records begin with.
const TOPIC: &str = "ringmain.audit.";
/// How often a record is appended while others of its object come first.
const ATTEMPTS_MAX: u32 = 256;

/// Writes records of what is done to a bus, and by it, to a store. Cheap to clone: clones are the same trail. It holds the bus.
///
/// [`by`](Self::by) names an actor, through whom rules, rate limits, subscriptions and dead letters are changed: each leaves one record, which is
/// in the store before anything is changed. So there is no change without a record; when the store does not take one, nothing
/// is done. An action that fails leaves a second one, of the same action with `.failed` behind it. A process that dies between the record
/// and the change has recorded what was not done.
///
/// What the embedder does otherwise is in the trail if it [says so](AuditActor::act). [`AuditQuery`] reads the trail, without a bus if need
/// be; every [`Query`](super::Query) of events does. Who can append to the store can append what looks like a record, too.
///
/// ```
/// use ringmain::store::{AuditAct, AuditQuery, AuditTrail, MemoryStore};
/// use ringmain::{Bus, RoutingRule};
/// use std::sync::Arc;
///
/// let bus = Bus::builder().build()?;
/// let store = Arc::new(MemoryStore::new()); // One that lasts: a `LogStore`, or a `PostgresStore` for several processes.
/// let trail = AuditTrail::over(&bus, store.clone())?;
///
/// let ada = trail.by("ada");
/// ada.add_rule(RoutingRule::new("large-orders").types(["orders.*"]).to("freight"))?;
/// ada.disable_rule("large-orders")?;
/// ada.act(AuditAct::new("configured", "greeting").before("hello").after("good morning"), || Ok::<_, std::io::Error>(()))?;
///
/// for record in AuditQuery::new().actor("ada").object("rule large-orders").stream(&*store) {
///     println!("{}", record?);
/// }
/// let actions = AuditQuery::new().stream(&*store).map(|record| record.map(|record| record.action()));
/// assert_eq!(actions.collect::<Result<Vec<_>, _>>()?, ["rule.added", "rule.disabled", "configured"]);
/// # drop((ada, trail));
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// A record is one query and one append, for which the caller waits: do not call it on a worker. One publisher of the bus.
#[derive(Clone)]
pub struct AuditTrail(Arc<Trail>);

struct Trail {
    bus: Bus,
    store: Arc<dyn EventStore>,
    publisher: Mutex<Publisher>,
    /// Held from looking at what is before to the end of the change.
    changing: Mutex<()>,
    counts: Mutex<AuditCounts>,
}

/// What a trail has come to since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditCounts {
    /// Records that the store took.
    pub recorded: u64,
    /// Actions that were not done since the store did not take their records.
    pub refused: u64,
    /// Actions that failed after they were recorded.
    pub failed: u64,
    /// Those of them whose second record the store did not take.
    pub unsaid: u64,
}

impl AuditTrail {
    /// The trail of a bus in a store: a new one, or one that goes on.
    ///
    /// # Errors
    /// When the bus has no publisher left.
    pub fn over(bus: &Bus, store: Arc<dyn EventStore>) -> Result<Self, AuditError> {
        let publisher = Mutex::new(bus.publisher().map_err(AuditError::Record)?);
        let (changing, counts) = Default::default();
        Ok(Self(Arc::new(Trail { bus: bus.clone(), store, publisher, changing, counts })))
    }

    /// Whoever acts: a user, a service, a job. 1 to 255 bytes.
    pub fn by(&self, actor: impl Into<String>) -> AuditActor {
        AuditActor::new(self.clone(), actor.into())
    }

    /// What it has come to.
    pub fn counts(&self) -> AuditCounts {
        *self.0.counts()
    }
}

impl Trail {
    fn counts(&self) -> MutexGuard<'_, AuditCounts> {
        // Numbers, each whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends one record.
    fn record(&self, actor: &str, act: &AuditAct, cause: Option<EventId>) -> Result<EventId, AuditError> {
        let entry = Entry { act, actor, cause, created_unix_ns: None };
        Ok(self.append(&[entry])?[0])
    }

    /// Appends records of one object, all or none. Returns their ids.
    fn append(&self, entries: &[Entry<'_>]) -> Result<Vec<EventId>, AuditError> {
        let Some(object) = entries.first().map(|entry| entry.act.object()) else { return Ok(Vec::new()) };
        let mut frames = self.frames(entries, 0, &[])?;
        let ids: Vec<_> = frames.iter().map(|frame| frame.meta().id()).collect();
        let mut attempts = 1;
        loop {
            let version = self.version(object)?;
            frames = self.frames(entries, version, &ids)?;
            match self.store.append(&frames, ExpectedVersion::Exact(version), self.store.durability()) {
                Ok(_) => break,
                Err(error) if error.is_conflict() => {}
                // The store knows when it is asked.
                Err(AppendError::InDoubt(error)) => match self.is_there(object, ids[0]) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(_) => return Err(AuditError::Append(AppendError::InDoubt(error))),
                },
                Err(error) => return Err(AuditError::Append(error)),
            }
            if attempts == ATTEMPTS_MAX {
                return Err(AuditError::Busy { object: object.to_owned(), attempts });
            }
            attempts += 1;
        }
        self.counts().recorded += entries.len() as u64;
        Ok(ids)
    }

    /// Whether a record is among the last of an object: others may have come behind it.
    fn is_there(&self, object: &str, id: EventId) -> Result<bool, AuditError> {
        let query = Query::new().aggregate(KIND, object).newest_first();
        for event in query.stream(&*self.store).take(2 * super::BATCH_EVENTS_MAX) {
            if event.map_err(AuditError::Read)?.meta().id() == id {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The version of an object: of its last record.
    fn version(&self, object: &str) -> Result<u64, AuditError> {
        let query = Query::new().aggregate(KIND, object).newest_first().limit(1);
        let latest = query.stream(&*self.store).next().transpose().map_err(AuditError::Read)?;
        Ok(latest.and_then(|event| Some(event.meta().aggregate()?.version)).unwrap_or(0))
    }

    fn frames(&self, entries: &[Entry<'_>], version: u64, ids: &[EventId]) -> Result<Vec<Frame>, AuditError> {
        // What it is in the middle of when it panics is begun anew.
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let frames = entries.iter().zip(version + 1..).enumerate().map(|(nth, (entry, version))| {
            let Entry { act, actor, cause, created_unix_ns } = entry;
            let aggregate = Aggregate { kind: KIND, id: act.object(), version };
            let mut event = publisher.event().source(actor).aggregate(aggregate);
            if let Some(cause) = *cause {
                event = event.causation(cause);
            }
            if let Some(id) = ids.get(nth) {
                event = event.id(*id);
            }
            if let Some(unix_ns) = *created_unix_ns {
                event = event.created_at_unix_ns(unix_ns);
            }
            let topic = format!("{TOPIC}{}", act.action());
            event.to_frame(topic.as_str(), Payload::json(&act.change())).map_err(AuditError::Record)
        });
        frames.collect()
    }

    /// Tells observers of a record that is not there.
    fn tell(&self, name: &str, event: EventId, reason: &str) {
        self.bus.notify(&Notice::StorageDropped { name, event, reason });
    }
}

/// A record to be.
struct Entry<'a> {
    act: &'a AuditAct,
    actor: &'a str,
    cause: Option<EventId>,
    /// When it was done, if that is not now.
    created_unix_ns: Option<u64>,
}

impl fmt::Debug for AuditTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditTrail").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
