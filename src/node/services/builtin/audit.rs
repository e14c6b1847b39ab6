//! Records events in the audit trail: who published what, and when.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::super::health::Health;
use super::super::{Service, Work};
use crate::store::{AuditTrail, AuditedEvent};
use crate::{Delivery, Outcome, Pattern};

/// Events that are recorded at once: those of a topic in one append.
const EVENTS_MAX: usize = 256;

/// Records the events of its subscriptions in an audit trail, as [`AuditTrail::publishing`] does. They are settled when they are in
/// the store, so under reliable delivery none is without its record, and one may have two.
#[derive(Debug)]
pub struct AuditLogger {
    name: String,
    trail: AuditTrail,
    /// Why the last record was not taken.
    failing: Mutex<Option<String>>,
}

impl AuditLogger {
    /// Records in this trail. The name of the service is `audit_logger` in declared subscriptions.
    pub fn new(name: impl Into<String>, trail: AuditTrail) -> Self {
        Self { name: name.into(), trail, failing: Mutex::new(None) }
    }

    fn failing(&self) -> MutexGuard<'_, Option<String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for AuditLogger {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &str {
        "audit logger"
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            let failing = self.failing().clone();
            failing.map_or(Health::Healthy, |error| Health::Degraded(format!("events are not recorded: {error}")))
        })
    }

    fn events_max(&self) -> usize {
        EVENTS_MAX
    }

    fn handle<'s>(&'s self, events: &'s [Delivery<Pattern>]) -> Work<'s, Outcome> {
        Box::pin(async move {
            let (trail, events): (_, Vec<_>) =
                (self.trail.clone(), events.iter().map(|event| AuditedEvent::of(&event.meta())).collect());
            let recorded = tokio::task::spawn_blocking(move || trail.record_published(events)).await;
            let error = match recorded {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            self.failing().clone_from(&error);
            error.map_or(Outcome::Ack, Outcome::Failed)
        })
    }
}
