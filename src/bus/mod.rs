//! The facade: what a user holds. It marries the floors below and adds no data path of its own.
//!
//! Set up with [`Bus::builder`], publish through a [`Publisher`], receive through subscriptions, end with
//! [`Bus::shutdown`].

#![forbid(unsafe_code)]

mod announce;
mod batch;
mod build_error;
mod builder;
mod codec;
mod config;
mod control;
mod dead_letters;
mod degraded;
mod explain;
mod flush;
mod hang;
mod mailbox_memory;
mod memory;
mod publisher;
mod rate_limit;
mod report;
mod request;
mod reserve;
mod router;
mod rules;
mod seats;
mod service;
mod service_error;
mod shutdown;
mod spill;
mod subscribe;
mod subscribe_error;
mod subscription;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Notice;
use crate::sync::mutant::mutant;

pub use batch::Batch;
pub use build_error::{BuildError, BuildFault};
pub use builder::BusBuilder;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "protobuf")]
pub use codec::Protobuf;
pub use codec::{EventSerializer, SerializeError};
pub use config::{EventBusConfig, create_event_bus, create_event_bus_with_config};
pub use dead_letters::{DeadLetters, Redrive, RedriveError, RedriveReport, RepublishError};
pub use degraded::Degraded;
pub use explain::{Explanation, Path, Verdict};
pub use flush::Flush;
pub use memory::Memory;
pub use publisher::{FullPolicy, Loan, Outgoing, OutgoingFrame, PublishError, Publisher, Subject};
pub use rate_limit::{RateLimit, RateLimitError, RateLimitStatus};
pub use report::{Health, LaneMetrics, Metrics, Refused, StageLatency};
pub use request::{Answer, RequestError, Requester};
pub use router::EventRouter;
pub use rules::{Rules, RulesError};
pub use service::{InstanceRecord, Service, ServiceBuilder, ServiceRecord};
pub use service_error::ServiceError;
pub use shutdown::{BusState, FlushError, ShutdownReport};
pub use subscribe::{IntoInterest, Subscribe};
pub use subscribe_error::SubscribeError;
pub use subscription::Subscription;

pub(crate) use control::{Control, Driver, Shared};

/// An event bus. Cheap to clone: clones are the same bus. When the last one is dropped, the bus shuts down.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
}

impl Bus {
    /// Starts building a bus. Every setting has a default.
    pub fn builder() -> BusBuilder {
        BusBuilder::default()
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { inner: Arc::new(Inner { shared }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// A publisher of one's own, for one thread or task at a time.
    ///
    /// # Errors
    /// When `publishers_max` are alive already, or the bus is shutting down.
    pub fn publisher(&self) -> Result<Publisher, PublishError> {
        Publisher::new(Arc::clone(self.shared()))
    }

    /// Publishes from any thread or task, by a publisher borrowed for the call. Follows the bus's
    /// [`FullPolicy`]. A publisher of one's own is faster, and keeps the order of its events.
    ///
    /// # Errors
    /// As [`Publisher::publish`]; [`PublishError::NoPublisher`] when all are taken.
    pub fn publish<S: Subject<P>, P: crate::event::Encode + Copy>(
        &self,
        topic: S,
        payload: P,
    ) -> Result<crate::EventId, PublishError> {
        self.lend()?.publisher().publish(topic, payload)
    }

    /// Lends a publisher for a call.
    fn lend(&self) -> Result<Lent<'_>, PublishError> {
        let publisher = match self.shared().spare.pop() {
            Some(publisher) => publisher,
            None => self.publisher().inspect_err(|error| match error {
                PublishError::ShuttingDown | PublishError::WorkerFailed { .. } => {
                    self.shared().engine.turned_away.add(1)
                }
                _ => self.shared().engine.unplaced.add(1),
            })?,
        };
        Ok(Lent { bus: self, publisher: Some(publisher) })
    }

    /// Tells the observers of this bus: for what is built upon it, such as a journal.
    pub fn notify(&self, notice: &Notice<'_>) {
        self.shared().engine.notice(notice);
    }

    /// Waits until everything accepted so far is settled: read by every worker, and gone through its mailboxes; and until the
    /// [sink](crate::DeadLetterSink) of dead letters, if there is one, has heard of what died of it. At most the default deadline (5 s). Events that are scheduled, or held by a paused subscription, are not waited for.
    ///
    /// # Errors
    /// When it takes longer; at once when called on a worker, or by a handler on a thread of its own or in a future, which
    /// would wait for its own event.
    pub fn flush(&self) -> Result<(), FlushError> {
        self.flush_deadline(self.shared().settings.deadline)
    }

    /// As [`flush`](Self::flush), waiting at most `limit`.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_deadline(&self, limit: Duration) -> Result<(), FlushError> {
        self.shared().flush(limit)
    }

    /// Refuses publishers, delivers what was accepted, and joins the workers; at most the default deadline (5 s).
    /// Idempotent: later calls return the same report.
    ///
    /// # Errors
    /// As [`shutdown_deadline`](Self::shutdown_deadline).
    pub fn shutdown(&self) -> Result<ShutdownReport, FlushError> {
        self.shutdown_deadline(self.shared().settings.deadline)
    }

    /// As [`shutdown`](Self::shutdown), with another deadline. What is not delivered by then is counted as left over.
    ///
    /// # Errors
    /// When called on a worker, which cannot wait for itself; or when somebody else's shutdown, which goes on, takes
    /// longer.
    pub fn shutdown_deadline(&self, limit: Duration) -> Result<ShutdownReport, FlushError> {
        self.shared().shutdown(limit)
    }
}

/// Handles of the same bus are equal.
impl PartialEq for Bus {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Bus {}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// A publisher lent for a call. Dropped, it is given back.
struct Lent<'b> {
    bus: &'b Bus,
    /// Present until it is given back.
    publisher: Option<Publisher>,
}

impl Lent<'_> {
    fn publisher(&mut self) -> &mut Publisher {
        self.publisher.as_mut().expect("it is given back with the drop")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(publisher) = self.publisher.take() else { return };
        // It always fits: the queue has a place for every publisher there can be.
        drop(mutant!("publisher.spare", self.bus.shared().spare.push(publisher) => Err(publisher)));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Each of them holds what is shared.
        while self.shared.spare.pop().is_some() {}
        self.shared.abandon();
    }
}
