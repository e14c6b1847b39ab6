//! Brings what was acknowledged from the log to the lanes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::{Bus, Notice, PublishError, Publisher};

use super::super::guard::guarded;
use super::super::{EventStore, Position, Query, ReadError, StoredEventRef};
use super::end::Ended;
use super::{FOREVER, Shared};

/// How long it waits for a lane before it looks whether it is to end, and before it reads again what failed.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long it rests after a refusal that another attempt may not meet.
const REST: Duration = Duration::from_millis(1);

/// The reader's thread.
pub(super) struct Deliverer {
    bus: Bus,
    publisher: Publisher,
    store: Arc<dyn EventStore>,
    name: String,
    shared: Arc<Shared>,
    /// The store could not be read the last time.
    is_failing: bool,
}

impl Deliverer {
    pub(super) fn new(
        bus: Bus,
        publisher: Publisher,
        store: Arc<dyn EventStore>,
        name: String,
        shared: Arc<Shared>,
    ) -> Self {
        Self { bus, publisher, store, name, shared, is_failing: false }
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = Ended(&shared, |inner| inner.is_delivered = true);
        loop {
            let inner =
                self.shared.wait_while(FOREVER, |inner| inner.counts.delivered_to >= inner.ready && !inner.is_ending());
            let (from, to, is_ending) = (inner.counts.delivered_to, inner.ready, inner.is_ending());
            drop(inner);
            let Some(to) = to.filter(|to| from.is_none_or(|from| from < *to)) else { break };
            match self.deliver(from, to) {
                Ok(ControlFlow::Continue(())) => self.is_failing = false,
                Ok(ControlFlow::Break(())) => break,
                Err(_) if is_ending => break,
                Err(error) => self.skip(&error),
            }
        }
    }

    /// Delivers a page. Breaks when nothing more can be brought to the lanes.
    fn deliver(&mut self, from: Option<Position>, to: Position) -> Result<ControlFlow<()>, ReadError> {
        let query = Query::new().to_position(to).reading_on(from);
        let (store, mut flow) = (Arc::clone(&self.store), ControlFlow::Continue(()));
        let look = &mut |event: StoredEventRef<'_>| {
            if event.frame().is_for_outbox() {
                flow = self.publish(event);
            }
            flow
        };
        // Each event is counted when it was published: where a store panics between two, nothing is half done.
        let next = guarded(|| store.visit(&query, look), ReadError::Failed)?;
        if flow.is_continue() {
            // A page may have looked further than its last event.
            self.shared.change(|inner| inner.counts.delivered_to = next.or(Some(to)));
        }
        Ok(flow)
    }

    fn publish(&mut self, event: StoredEventRef<'_>) -> ControlFlow<()> {
        let position = event.position();
        loop {
            let frame = self.publisher.frame(event.frame()).at_position(position.get());
            let result = frame.publish_deadline(PATIENCE);
            let mut progress = self.shared.inner();
            let is_ending = progress.is_ending();
            let counts = &mut progress.counts;
            match result {
                Ok(_) => counts.delivered += 1,
                Err(PublishError::Expired { .. }) => counts.expired += 1,
                // The next start delivers it.
                Err(PublishError::ShuttingDown | PublishError::WorkerFailed { .. }) => return ControlFlow::Break(()),
                Err(error) if error.is_temporary() && is_ending => return ControlFlow::Break(()),
                Err(error) if error.is_temporary() => {
                    drop(progress);
                    // Some refusals come at once.
                    drop(self.shared.wait_while(REST, |inner| !inner.is_ending()));
                    continue;
                }
                Err(error) => {
                    counts.undeliverable += 1;
                    drop(progress);
                    let (meta, reason) = (event.meta(), error.to_string());
                    let (event, topic, position) = (meta.id(), meta.topic(), position.get());
                    self.bus.notify(&Notice::Undeliverable {
                        name: &self.name,
                        event,
                        topic,
                        position,
                        reason: &reason,
                    });
                    progress = self.shared.inner();
                }
            }
            progress.counts.delivered_to = Some(position);
            // The next start delivers the others.
            return if progress.is_late() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
    }

    /// What cannot be read cannot be delivered: it is said and left out. Where it is not known what that is, it is read again.
    fn skip(&mut self, error: &ReadError) {
        let behind = error.behind();
        let from = self.shared.inner().counts.delivered_to;
        let lost = behind.map_or(0, |behind| behind.get() - from.map_or(0, Position::get));
        if !std::mem::replace(&mut self.is_failing, behind.is_none()) {
            let error = error.to_string();
            self.bus.notify(&Notice::StorageFailed { name: &self.name, error: &error, waiting: lost });
        }
        match behind {
            Some(behind) => self.shared.change(|inner| {
                inner.counts.unreadable += lost;
                inner.counts.delivered_to = Some(behind);
            }),
            None => drop(self.shared.wait_while(PATIENCE, |inner| !inner.is_ending())),
        }
    }
}
