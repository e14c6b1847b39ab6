//! Services of a node: what runs beside the bus, is started and stopped with it, and is looked after while it runs.
//!
//! ```text
//! Services ──command──► supervisor ──► start, stop, health of each service, in tasks of their own
//!    ▲                      │ reconciles what is wanted with what is
//!    └──── statuses ◄───────┴──► ServiceChange, one for every step a service takes
//! ```
//!
//! A service runs while it is wanted and all it needs run. So one that is stopped stops those that need it first, and they come
//! back with it; nothing has to remember an order.

pub mod builtin;
mod error;
mod guarded;
mod state;
mod subscriptions;
mod supervisor;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use self::error::{ServiceFailure, ServicesError};
pub use self::state::{HealthRecord, ServiceChange, ServiceState, ServiceStatus};
pub use self::subscriptions::{Applied, SubscriptionWish, Subscriptions, SubscriptionsError};
use self::supervisor::{Command, Supervisor};
use super::health::Health;
use crate::{Delivery, Outcome, Pattern};

/// Work of a service that is awaited.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What runs beside the bus. Its methods are called one at a time, except for `health`, which may come at any time, and `handle`, which
/// is called for several subscriptions at once.
pub trait Service: Send + Sync + 'static {
    /// Its name, unique in the node: letters, digits, `-`, `_` and `.`.
    fn name(&self) -> &str;

    /// What it is, for people: `filesystem watcher`.
    fn kind(&self) -> &str;

    /// Services that have to run while this one does. They are registered before it.
    fn needs(&self) -> &[&str] {
        &[]
    }

    /// Begins its work; returns when it can take some. One that only answers has nothing to begin.
    ///
    /// # Errors
    /// Why it cannot; it is tried again as the node is configured.
    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async { Ok(()) })
    }

    /// Ends its work; returns when nothing of it runs any more. Also called after a failure.
    ///
    /// # Errors
    /// What could not be ended; it counts as stopped all the same.
    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async { Ok(()) })
    }

    /// How it is. Asked on an interval while it runs; one that does not answer in time is unhealthy.
    fn health(&self) -> Work<'_, Health> {
        Box::pin(async { Health::Healthy })
    }

    /// Events that it takes at once from a subscription that names it; 0 where it takes none. Default 0.
    fn events_max(&self) -> usize {
        0
    }

    /// Handles events of one subscription, at least one and at most [`events_max`](Self::events_max). What it returns holds for all of
    /// them. Its future is dropped when its time is over; a panic counts as a failure.
    fn handle<'s>(&'s self, events: &'s [Delivery<Pattern>]) -> Work<'s, Outcome> {
        let _ = events;
        Box::pin(async { Outcome::Reject("it takes no events".to_owned()) })
    }
}

/// How services are looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesOptions {
    /// Services that can be registered. Default 100.
    pub services_max: usize,
    /// Time between two checks of health. Default 30 s.
    pub check_every: Duration,
    /// How long an answer about health may take. Default 5 s.
    pub check_timeout: Duration,
    /// How long a start or a stop may take. Default 30 s.
    pub step_timeout: Duration,
    /// Checks that are kept of each service. Default 120.
    pub history_max: usize,
    /// Checks in a row that find a service unhealthy before it is started again. Default 3.
    pub unhealthy_max: u32,
    /// Whether a service that fails is started again. Default true.
    pub recovery: bool,
    /// How often it is started again before it is given up. Default 3. A healthy check makes the count begin anew.
    pub recovery_attempts_max: u32,
    /// The wait before it is started again, doubled each time. Default 1 s.
    pub backoff: Duration,
    /// The longest wait. Default 30 s.
    pub backoff_max: Duration,
}

impl Default for ServicesOptions {
    fn default() -> Self {
        Self {
            services_max: 100,
            check_every: Duration::from_secs(30),
            check_timeout: Duration::from_secs(5),
            step_timeout: Duration::from_secs(30),
            history_max: 120,
            unhealthy_max: 3,
            recovery: true,
            recovery_attempts_max: 3,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// The services of a node. Cheap to clone: clones are the same services.
#[derive(Debug, Clone)]
pub struct Services {
    commands: mpsc::UnboundedSender<Command>,
    statuses: watch::Receiver<Arc<Vec<ServiceStatus>>>,
}

impl Services {
    /// Begins to look after services, in a task of the runtime that this is called on. `told` hears of every step.
    pub fn supervise(options: ServicesOptions, told: impl FnMut(ServiceChange) + Send + 'static) -> Self {
        let (commands, orders) = mpsc::unbounded_channel();
        let (publish, statuses) = watch::channel(Arc::new(Vec::new()));
        let supervisor = Supervisor::new(options, commands.downgrade(), publish, Box::new(told));
        tokio::spawn(supervisor.run(orders));
        Self { commands, statuses }
    }

    /// Registers a service, which is not started by that.
    ///
    /// # Errors
    /// [`ServicesError`]: the name is taken or no name, a service that it needs is not there, or there are too many.
    pub async fn register(&self, service: Arc<dyn Service>) -> Result<(), ServicesError> {
        self.ask(|answer| Command::Register(service, answer)).await
    }

    /// Stops a service and forgets it.
    ///
    /// # Errors
    /// [`ServicesError`]: there is none of that name, or others need it.
    pub async fn unregister(&self, name: &str) -> Result<(), ServicesError> {
        self.ask(|answer| Command::Unregister(name.to_owned(), answer)).await
    }

    /// Starts a service and returns when it runs; at once if it does.
    ///
    /// # Errors
    /// [`ServicesError`]: there is none of that name, it or one that it needs failed, or one that it needs is stopped.
    pub async fn start(&self, name: &str) -> Result<(), ServicesError> {
        self.ask(|answer| Command::Start(name.to_owned(), answer)).await
    }

    /// Stops a service, those that need it first, and returns when it has ended; at once if it does not run.
    ///
    /// # Errors
    /// [`ServicesError`]: there is none of that name.
    pub async fn stop(&self, name: &str) -> Result<(), ServicesError> {
        self.ask(|answer| Command::Stop(name.to_owned(), answer)).await
    }

    /// Stops a service and starts it again, with those that need it, and returns when it runs.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart(&self, name: &str) -> Result<(), ServicesError> {
        self.ask(|answer| Command::Restart(name.to_owned(), answer)).await
    }

    /// Asks all that run how they are, now, and returns when all have answered or their time is over.
    pub async fn check_now(&self) {
        drop(self.ask(Command::Check).await);
    }

    /// Looks after them in another way from now on: what is asked of them later finds it so.
    pub fn set_options(&self, options: ServicesOptions) {
        // Services that have ended are looked after no more.
        drop(self.commands.send(Command::Options(options)));
    }

    /// Stops all of them, each after those that need it, and ends the supervision. What has not ended within `limit` is named.
    pub async fn shutdown(&self, limit: Duration) -> Vec<String> {
        drop(tokio::time::timeout(limit, self.ask(Command::Shutdown)).await);
        let left = self.list();
        left.iter().filter(|status| !status.state.is_at_rest()).map(|status| status.name.clone()).collect()
    }

    /// All of them, as they are, in the order in which they were registered.
    pub fn list(&self) -> Arc<Vec<ServiceStatus>> {
        Arc::clone(&self.statuses.borrow())
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<ServiceStatus> {
        self.list().iter().find(|status| status.name == name).cloned()
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), ServicesError>>) -> Command,
    ) -> Result<(), ServicesError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).map_err(|_| ServicesError::Ended)?;
        answered.await.unwrap_or(Err(ServicesError::Ended))
    }
}
