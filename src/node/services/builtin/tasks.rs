//! A queue of tasks: each `task.created` becomes an event for one service of the bus, whose workers do it at least once.
//!
//! ```text
//! task.created ──► task.queued ──► service "tasks" ──► one worker ──► task.completed
//!                                     │ waits, comes again               └► task.failed, and a dead letter
//! ```
//!
//! | event | data |
//! |---|---|
//! | `task.created` | `task_id`, a text or number; `task_type`; `priority`: 0 or `low`, 1 or `normal`, 2 or `high`, 3 or `critical`; anything else |
//! | `task.queued` | the same |
//! | `task.completed` | `task_id`, `result`, `duration_ms`, `completed_by` |
//! | `task.failed` | `task_id`, `error`, `attempts` |

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::super::health::Health;
use super::super::guarded::guarded;
use super::super::{Service, ServiceFailure, Work};
use crate::{
    Bus, Delivery, DeliveryMode, EventId, EventSource, Mailbox, Outcome, Pattern, Payload, Priority, PublishError,
    Publisher, RetryPolicy,
};

/// How much longer the bus waits for the word of a worker than the worker has for its task.
const MARGIN: Duration = Duration::from_secs(1);

/// Who works, and how hard it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOptions {
    /// The name of the service of the node. Default `task_processor`.
    pub name: String,
    /// The service of the bus that tasks are for. Default `tasks`.
    pub service: String,
    /// Tasks that are done at once. Each has a publisher of the bus. Default 4.
    pub workers: usize,
    /// How long one may take. Default 30 s.
    pub timeout: Duration,
    /// How often one is tried, and how long it waits in between. Then it is a dead letter. Default three attempts.
    pub retry: RetryPolicy,
    /// Tasks that may wait for a worker; beyond it they are dead letters. Default 1,024.
    pub waiting_max: usize,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            name: "task_processor".to_owned(),
            service: "tasks".to_owned(),
            workers: 4,
            timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            waiting_max: 1_024,
        }
    }
}

/// A task as a worker gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its id. A task that comes twice has the same.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// All that was said of it: a JSON object.
    pub data: String,
    /// Which attempt this is, from 1.
    pub attempt: u8,
}

/// Does tasks. Any `Fn(Task)` that returns such a future is one.
pub trait TaskWork: Send + Sync + 'static {
    /// Does one, and returns what came of it: JSON, or any text.
    ///
    /// # Errors
    /// Why it was not done, in words; it is tried again.
    fn work(&self, task: Task) -> Work<'_, Result<String, String>>;
}

impl<W, F> TaskWork for W
where
    W: Fn(Task) -> F + Send + Sync + 'static,
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    fn work(&self, task: Task) -> Work<'_, Result<String, String>> {
        Box::pin(self(task))
    }
}

/// What became of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskQueueCounts {
    /// Put into the queue.
    pub queued: u64,
    /// Done by a worker of this queue.
    pub completed: u64,
    /// Attempts of such a worker that failed.
    pub attempts_failed: u64,
    /// Given up after their attempts.
    pub failed: u64,
}

/// A queue of tasks. Its workers are instances of a service of the bus, beside which others may be: in the same process, or over the
/// network. Stopped, its tasks wait for it, the service having its place in the bus.
pub struct TaskQueue {
    bus: Bus,
    options: TaskOptions,
    work: Option<Arc<dyn TaskWork>>,
    publisher: tokio::sync::Mutex<Option<Publisher>>,
    counts: Arc<Mutex<TaskQueueCounts>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stopping: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TaskQueue {
    /// A queue whose tasks `work` does; with `None` it has no workers of its own.
    pub fn new(bus: &Bus, options: TaskOptions, work: Option<Arc<dyn TaskWork>>) -> Self {
        let (publisher, counts, running) = Default::default();
        Self { bus: bus.clone(), options, work, publisher, counts, running }
    }

    /// What became of tasks, since it was made.
    pub fn counts(&self) -> TaskQueueCounts {
        *locked(&self.counts)
    }

    fn begin(&self) -> Result<Running, ServiceFailure> {
        let failure = |error: &dyn fmt::Display| ServiceFailure::new(error.to_string());
        let TaskOptions { service, timeout, retry, waiting_max, .. } = &self.options;
        let found = self.bus.get_service(service);
        // Tasks wait for a worker for a day, more or less.
        let patient =
            RetryPolicy::default().attempts_max(100).delays(Duration::from_secs(1), Duration::from_secs(1_800));
        let service = match found {
            Ok(service) => service,
            Err(_) => {
                let service = self.bus.service(service.as_str()).retry(patient).capacity(*waiting_max);
                service.overflow(crate::Overflow::DropNewest).open().map_err(|error| failure(&error))?
            }
        };
        let stopping = watch::Sender::new(false);
        let mut workers = Vec::new();
        for nth in 1..=self.options.workers {
            let Some(work) = &self.work else { break };
            let name = format!("{}-{nth}", self.options.name);
            let mode = DeliveryMode::Reliable { timeout: timeout.saturating_add(MARGIN) };
            let wish = service.instance(name.as_str()).mode(mode).retry(*retry).capacity(1);
            let mailbox = wish.mailbox().map_err(|error| failure(&error))?;
            let worker = Worker {
                name,
                work: Arc::clone(work),
                publisher: self.bus.publisher().map_err(|error| failure(&error))?,
                counts: Arc::clone(&self.counts),
                timeout: *timeout,
                attempts_max: retry.attempts(),
            };
            workers.push(tokio::spawn(worker.run(mailbox, stopping.subscribe())));
        }
        Ok(Running { stopping, workers })
    }

    /// Puts the task of an event into the queue, if it is one.
    async fn queue(&self, event: &Delivery<Pattern>) -> Outcome {
        let meta = event.meta();
        if meta.topic() != "task.created" {
            return Outcome::Ack;
        }
        let (priority, data) = match (read(event), event.payload().text()) {
            (Ok((_, _, priority)), Some(data)) => (priority, data),
            (Err(said), _) => return Outcome::Reject(said),
            (Ok(_), None) => return Outcome::Reject("a task is a JSON object".to_owned()),
        };
        let mut publisher = self.publisher.lock().await;
        let Some(publisher) = publisher.as_mut() else { return Outcome::Release };
        let source = EventSource::service(&self.options.name);
        // An event that comes twice makes two of the same id.
        let id = EventId::from_foreign(source.as_str(), &meta.id().to_string());
        let queued = publisher.event().id(id).source(source.as_str()).priority(priority);
        let queued = queued.causation(meta.id()).correlation(meta.correlation().unwrap_or(meta.id()));
        let queued = queued.target(self.options.service.as_str());
        match queued.publish_async("task.queued", Payload::json(data)).await {
            Ok(_) => {
                locked(&self.counts).queued += 1;
                Outcome::Ack
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// The id, the type and the priority of a task.
fn read(event: &Delivery<Pattern>) -> Result<(String, String, Priority), String> {
    let data: Value = serde_json::from_slice(event.payload().bytes()).map_err(|error| format!("no JSON: {error}"))?;
    let text = |name: &str| match &data[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let id = text("task_id").ok_or("a task has a task_id, a text or a number")?;
    let priority = match &data["priority"] {
        Value::Null => Priority::Normal,
        Value::String(word) => word.parse().map_err(|error| format!("priority {word:?}: {error}"))?,
        value => match value.as_i64().ok_or_else(|| format!("priority {value} is no whole number"))? {
            ..=0 => Priority::Low,
            1 => Priority::Normal,
            2 => Priority::High,
            3.. => Priority::Critical,
        },
    };
    Ok((id, text("task_type").unwrap_or_default(), priority))
}

struct Worker {
    name: String,
    work: Arc<dyn TaskWork>,
    publisher: Publisher,
    counts: Arc<Mutex<TaskQueueCounts>>,
    timeout: Duration,
    attempts_max: u8,
}

impl Worker {
    /// Until it is told to stop; a task that is begun is done first.
    async fn run(mut self, mut mailbox: Mailbox<Pattern>, mut stopping: watch::Receiver<bool>) {
        loop {
            let next = tokio::select! {
                biased;
                _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
                next = mailbox.recv_async() => next,
            };
            let Ok(event) = next else { return };
            let outcome = self.take(&event).await;
            event.settle(&outcome);
        }
    }

    async fn take(&mut self, event: &Delivery<Pattern>) -> Outcome {
        let (id, kind, priority) = match read(event) {
            Ok(task) => task,
            Err(said) => return Outcome::Reject(said),
        };
        let attempt = event.meta().attempt();
        let data = event.payload().text().unwrap_or_default().to_owned();
        let (begun, work) = (Instant::now(), Arc::clone(&self.work));
        let task = Task { id: id.clone(), kind, data, attempt };
        let done = guarded(self.timeout, || work.work(task)).await.and_then(|done| done);
        let duration_ms = begun.elapsed().as_millis() as u64;
        let (topic, said, outcome) = match done {
            Ok(result) => {
                let result = serde_json::from_str(&result).unwrap_or(Value::String(result));
                let completed_by = &self.name;
                let said = json!({ "task_id": id, "result": result, "duration_ms": duration_ms, "completed_by": completed_by });
                ("task.completed", said, Outcome::Ack)
            }
            Err(error) if attempt < self.attempts_max => {
                locked(&self.counts).attempts_failed += 1;
                return Outcome::Failed(error);
            }
            Err(error) => {
                locked(&self.counts).attempts_failed += 1;
                ("task.failed", json!({ "task_id": id, "error": error, "attempts": attempt }), Outcome::Failed(error))
            }
        };
        // At least once: what cannot be said was not done.
        if let Err(error) = self.say(event, topic, priority, &said.to_string()).await {
            return Outcome::Failed(format!("it was done, and {topic} could not be published: {error}"));
        }
        let mut counts = locked(&self.counts);
        match outcome {
            Outcome::Ack => counts.completed += 1,
            _ => counts.failed += 1,
        }
        outcome
    }

    async fn say(
        &mut self,
        event: &Delivery<Pattern>,
        topic: &str,
        priority: Priority,
        said: &str,
    ) -> Result<EventId, PublishError> {
        let meta = event.meta();
        let source = EventSource::service(&self.name);
        let event = self.publisher.event().source(source.as_str()).priority(priority).causation(meta.id());
        let event = event.correlation(meta.correlation().unwrap_or(meta.id()));
        event.publish_async(topic, Payload::json(said)).await
    }
}

impl fmt::Debug for TaskQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (options, counts) = (&self.options, self.counts());
        f.debug_struct("TaskQueue").field("options", options).field("counts", &counts).finish_non_exhaustive()
    }
}

impl Service for TaskQueue {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn kind(&self) -> &str {
        "task queue"
    }

    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let publisher = self.bus.publisher().map_err(|error| ServiceFailure::new(error.to_string()))?;
            *self.publisher.lock().await = Some(publisher);
            *locked(&self.running) = Some(self.begin()?);
            Ok(())
        })
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let running = locked(&self.running).take();
            if let Some(Running { stopping, workers }) = running {
                stopping.send_replace(true);
                for worker in workers {
                    worker.await.map_err(|error| ServiceFailure::new(error.to_string()))?;
                }
            }
            *self.publisher.lock().await = None;
            Ok(())
        })
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            let service = match self.bus.get_service(&self.options.service) {
                Ok(service) => service.record(),
                Err(error) => return Health::Unhealthy(error.to_string()),
            };
            if locked(&self.running).as_ref().is_some_and(|running| running.workers.iter().any(JoinHandle::is_finished))
            {
                return Health::Unhealthy("a worker has ended".to_owned());
            }
            if service.instances.is_empty() && service.waiting > 0 {
                return Health::Degraded(format!("{} tasks wait, and there is no worker", service.waiting));
            }
            Health::Healthy
        })
    }

    fn events_max(&self) -> usize {
        1
    }

    fn handle<'s>(&'s self, events: &'s [Delivery<Pattern>]) -> Work<'s, Outcome> {
        Box::pin(async move {
            for event in events {
                match self.queue(event).await {
                    Outcome::Ack => {}
                    other => return other,
                }
            }
            Outcome::Ack
        })
    }
}
