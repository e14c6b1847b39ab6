//! The replay's thread: reads page after page, and publishes at its pace.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Bus, Priority, PublishError, Publisher, Rate, SubscriptionId};

use super::super::{EventStore, Query, StoredEventRef};
use super::pace::Pace;
use super::{OnProgress, ReplayError, Shared};

/// Events between two looks at the lane, at most.
const CHUNK_MAX: u64 = 256;
/// How long it rests while others fill the lane, or after its event was refused.
const REST: Duration = Duration::from_millis(1);
/// How long it waits for room in the lane before it looks whether it is cancelled.
const PATIENCE: Duration = Duration::from_millis(100);

/// Events that a replay may have in a lane.
fn share(max_queue_size: u64) -> u64 {
    (max_queue_size / 4).max(1)
}

/// Events between two looks at a lane of this size.
pub(super) fn chunk(max_queue_size: u64) -> u64 {
    share(max_queue_size).div_ceil(2).min(CHUNK_MAX)
}

pub(super) struct Runner {
    pub(super) bus: Bus,
    pub(super) publisher: Publisher,
    pub(super) store: Arc<dyn EventStore>,
    pub(super) query: Query,
    pub(super) only: Option<SubscriptionId>,
    pub(super) rate: Option<Rate>,
    pub(super) priority: Priority,
    pub(super) on_progress: Option<OnProgress>,
    pub(super) shared: Arc<Shared>,
    /// Events between two looks at the lane.
    pub(super) chunk: u64,
}

impl Runner {
    pub(super) fn run(mut self) -> Result<(), ReplayError> {
        // A panic of the store, or of who hears of the progress, is the end of the replay and not of what is said of it.
        let run = catch_unwind(AssertUnwindSafe(|| self.pages())).unwrap_or(Err(ReplayError::Panicked));
        let mut progress = self.shared.progress();
        progress.is_over = true;
        progress.is_failed = run.is_err();
        drop(progress);
        let told = catch_unwind(AssertUnwindSafe(|| self.tell())).map_err(|_| ReplayError::Panicked);
        run.and(told)
    }

    fn pages(&mut self) -> Result<(), ReplayError> {
        let (begun, mut nth) = (Instant::now(), 0_u64);
        let mut pace = self.rate.as_ref().map(Pace::new);
        // What its events give rise to may be appended as well: it would never end.
        let head = self.store.head().map_err(ReplayError::Read)?;
        let mut query = head.map(|head| self.query.clone().up_to(head));
        let store = Arc::clone(&self.store);
        while let Some(asked) = query {
            self.tell();
            let mut end = Ok(ControlFlow::Continue(()));
            let next = store.visit(&asked, &mut |event| {
                if nth > 0 && nth.is_multiple_of(self.chunk) {
                    self.tell();
                }
                if self.wait_for_turn(pace.as_mut(), begun, nth).is_break() {
                    end = Ok(ControlFlow::Break(()));
                } else {
                    end = self.publish(event);
                    nth += 1;
                }
                if matches!(end, Ok(ControlFlow::Continue(()))) {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            let next = next.map_err(ReplayError::Read)?;
            if end?.is_break() {
                self.shared.progress().is_cancelled = true;
                return Ok(());
            }
            query = next.map(|next| asked.behind(next));
        }
        Ok(())
    }

    /// Waits until the next event, the nth, is due, and the lane is no more than a quarter full. Breaks when it is cancelled.
    fn wait_for_turn(&self, pace: Option<&mut Pace>, begun: Instant, nth: u64) -> ControlFlow<()> {
        if self.shared.progress().is_cancelled {
            return ControlFlow::Break(());
        }
        if let Some(pace) = pace {
            let left = pace.wait(begun.elapsed());
            if !left.is_zero() && self.shared.rest(left) {
                return ControlFlow::Break(());
            }
            pace.go(begun.elapsed());
        }
        while nth.is_multiple_of(self.chunk) && self.is_crowded() {
            if self.shared.rest(REST) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn is_crowded(&self) -> bool {
        let metrics = self.bus.metrics();
        let lane = metrics.lanes.iter().find(|lane| lane.priority == self.priority);
        lane.is_some_and(|lane| lane.depth + self.chunk > share(metrics.max_queue_size))
    }

    /// Breaks when it is cancelled, or the bus shuts down.
    fn publish(&mut self, event: StoredEventRef<'_>) -> Result<ControlFlow<()>, ReplayError> {
        let position = event.position();
        loop {
            let frame = self.publisher.frame(event.frame()).at_position(position.get()).priority(self.priority);
            let frame = match self.only {
                Some(only) => frame.as_replay_to(only),
                None => frame.as_replay(),
            };
            let result = frame.publish_deadline(PATIENCE);
            let mut progress = self.shared.progress();
            match result {
                Ok(_) => progress.published += 1,
                Err(PublishError::Expired { .. }) => progress.expired += 1,
                Err(PublishError::ShuttingDown) => return Ok(ControlFlow::Break(())),
                Err(error) if error.is_temporary() => {
                    drop(progress);
                    // Some refusals come at once.
                    if self.shared.rest(REST) {
                        return Ok(ControlFlow::Break(()));
                    }
                    continue;
                }
                Err(error) => return Err(ReplayError::Publish { position, error }),
            }
            progress.position = Some(position);
            return Ok(ControlFlow::Continue(()));
        }
    }

    fn tell(&mut self) {
        let progress = *self.shared.progress();
        if let Some(hear) = &mut self.on_progress {
            hear(&progress);
        }
    }
}
