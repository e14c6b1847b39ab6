//! Whether the store is there: what a disk that failed has said, and whether a server answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::super::health::Health;
use super::Core;
use crate::store::EventStore;

/// How long a store on a server may take to answer, when it is asked how it is.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The question to a store whether it is there: one at a time, however many want to know.
#[derive(Default)]
pub(super) struct Pulse {
    /// Still without an answer, where whoever asked has not waited for it.
    asked: Mutex<Option<JoinHandle<Health>>>,
}

impl Pulse {
    async fn of(&self, store: &Arc<dyn EventStore>) -> Health {
        let answer = async {
            let mut asked = self.asked.lock().await;
            // An answer that nobody has waited for is old.
            asked.take_if(|question| question.is_finished());
            let question = asked.get_or_insert_with(|| {
                let store = Arc::clone(store);
                spawn_blocking(move || {
                    store.head().map_or_else(|error| Health::Unhealthy(error.to_string()), |_| Health::Healthy)
                })
            });
            let answer = question.await;
            *asked = None;
            answer
        };
        match timeout(ANSWER_MAX, answer).await {
            Ok(Ok(health)) => health,
            Ok(Err(panicked)) => Health::Unhealthy(panicked.to_string()),
            Err(_) => Health::Unhealthy(format!("it has not answered within {ANSWER_MAX:?}")),
        }
    }
}

impl Core {
    /// How its store is. One in files waits for no disk; one on a server is asked.
    pub(in super::super) async fn store_health(&self) -> Health {
        if self.is_in_memory {
            return Health::Healthy;
        }
        let Some(log) = &self.log else { return self.pulse.of(&self.store).await };
        if let Some(fault) = log.fault() {
            // Whoever asks need not know where it is.
            let (operation, said) = (fault.operation, &fault.source);
            return Health::Unhealthy(format!(
                "it could not {operation} a file ({said}), and keeps nothing more: start the node again when the disk works"
            ));
        }
        match self.found.as_ref().map_or(0, |found| found.damaged) {
            0 => Health::Healthy,
            places => Health::Degraded(format!("{places} places of the store could not be read when it was opened")),
        }
    }
}
