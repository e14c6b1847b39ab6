//! The service that looks at the facts and says what was raised and what is over: in the log, as an event, and to a URL.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::super::health::Health;
use super::super::services::builtin::{LogLine, PostError, PostTarget, Poster, Sampler, to_stderr};
use super::super::services::{Service, ServiceFailure, Services, Work};
use super::book::{Alert, AlertBook, AlertChange};
use super::rule::{AlertRule, Facts};
use crate::{Bus, EventSource, Payload, Priority, Publisher};

/// Changes that may wait for the URL to take those before.
const POSTS_MAX: usize = 64;

/// What raises alerts, and who hears of them.
#[derive(Clone)]
pub struct AlertsOptions {
    /// The name of the service. Default `alerts`.
    pub name: String,
    /// Time between two looks. Default 5 s.
    pub every: Duration,
    /// Default [`AlertRule::defaults`].
    pub rules: Vec<AlertRule>,
    /// Alerts at a time. Default 1,000.
    pub alerts_max: usize,
    /// Changes that are kept to be read. Default 256.
    pub history_max: usize,
    /// Takes a line for each change. Default stderr.
    pub log: Option<LogLine>,
    /// Gets each change as JSON. Default none.
    pub webhook: Option<PostTarget>,
}

impl Default for AlertsOptions {
    fn default() -> Self {
        Self {
            name: "alerts".to_owned(),
            every: Duration::from_secs(5),
            rules: AlertRule::defaults(),
            alerts_max: 1_000,
            history_max: 256,
            log: Some(to_stderr()),
            webhook: None,
        }
    }
}

impl fmt::Debug for AlertsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertsOptions")
            .field("name", &self.name)
            .field("every", &self.every)
            .field("rules", &self.rules)
            .field("webhook", &self.webhook)
            .finish_non_exhaustive()
    }
}

/// Looks at a bus and its node's services, and says what is wrong and when that is over: an event
/// `ringmain.alert.firing` or `ringmain.alert.resolved` with `rule`, `subject`, `severity` and `value`, a line of the log, and a POST of the
/// same JSON.
#[derive(Debug)]
pub struct Alerts {
    bus: Bus,
    services: Option<Services>,
    options: AlertsOptions,
    poster: Option<Poster>,
    state: Arc<Mutex<State>>,
    /// The rules are others.
    changed: Arc<Notify>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct State {
    book: AlertBook,
    history: VecDeque<(SystemTime, AlertChange)>,
    /// What other rules have ended, to be said.
    over: Vec<AlertChange>,
    /// Changes of which the bus or the URL was not told, and why of the last one.
    unsaid: u64,
    failure: Option<String>,
    /// The zero of the book's clock.
    begun: Instant,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alerts {
    /// Looks at this bus, and at services where they are given.
    ///
    /// # Errors
    /// [`PostError::Url`].
    pub fn new(bus: &Bus, services: Option<Services>, options: AlertsOptions) -> Result<Self, PostError> {
        let poster = options.webhook.clone().map(Poster::new).transpose()?;
        let state = State {
            book: AlertBook::new(options.rules.clone(), options.alerts_max),
            history: VecDeque::new(),
            over: Vec::new(),
            unsaid: 0,
            failure: None,
            begun: Instant::now(),
        };
        let (state, changed, tasks) = (Arc::new(Mutex::new(state)), Arc::default(), Mutex::default());
        Ok(Self { bus: bus.clone(), services, options, poster, state, changed, tasks })
    }

    /// Alerts that are not over.
    pub fn alerts(&self) -> Vec<Alert> {
        locked(&self.state).book.alerts().cloned().collect()
    }

    /// What was raised and what was over, the oldest first.
    pub fn history(&self) -> Vec<(SystemTime, AlertChange)> {
        locked(&self.state).history.iter().cloned().collect()
    }

    /// Goes by other rules from now on. What was raised by a rule that is gone is over, and that is said, by the service when it runs.
    pub fn set_rules(&self, rules: Vec<AlertRule>) {
        let mut state = locked(&self.state);
        let now = state.begun.elapsed();
        let over = state.book.set_rules(now, rules);
        state.over.extend(over.iter().cloned());
        state.keep(over, self.options.history_max);
        drop(state);
        self.changed.notify_one();
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        locked(&self.tasks).iter().for_each(JoinHandle::abort);
    }
}

impl State {
    fn keep(&mut self, changes: Vec<AlertChange>, max: usize) {
        self.history.extend(changes.into_iter().map(|change| (SystemTime::now(), change)));
        let surplus = self.history.len().saturating_sub(max);
        self.history.drain(..surplus);
    }
}

/// Looks until it is aborted.
struct Watch {
    bus: Bus,
    services: Option<Services>,
    options: AlertsOptions,
    publisher: Publisher,
    posts: Option<mpsc::Sender<String>>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    sampler: Sampler,
}

impl Watch {
    async fn run(mut self) {
        let mut looks = interval_at(Instant::now() + self.options.every, self.options.every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = self.changed.notified() => {
                    let over = mem::take(&mut locked(&self.state).over);
                    over.iter().for_each(|change| self.say(change));
                    continue;
                }
            }
            let facts = Facts::of(&self.bus, &self.sampler.look(&self.bus), self.services.as_ref());
            let changes = {
                let mut state = locked(&self.state);
                let now = state.begun.elapsed();
                let changes = state.book.look(now, &facts);
                state.keep(changes.clone(), self.options.history_max);
                changes
            };
            for change in &changes {
                self.say(change);
            }
        }
    }

    fn say(&mut self, change: &AlertChange) {
        let AlertChange { rule, subject, state, value, severity, .. } = change;
        if let Some(log) = &self.options.log {
            log(&change.to_string());
        }
        let (state, severity) = (state.to_string(), severity.to_string());
        let said = json!({ "rule": rule, "subject": subject, "state": state, "severity": severity, "value": value });
        let said = said.to_string();
        let source = EventSource::service(&self.options.name);
        // A bus that has no room is among what alerts are about: the others hear of it.
        let event = self.publisher.event().source(source.as_str()).priority(Priority::High);
        let topic = format!("ringmain.alert.{state}");
        let published =
            event.try_publish(topic.as_str(), Payload::json(&said)).map(drop).map_err(|error| error.to_string());
        let posted = match &self.posts {
            Some(posts) => posts.try_send(said).map_err(|_| format!("{POSTS_MAX} wait for the webhook to take them")),
            None => Ok(()),
        };
        let mut state = locked(&self.state);
        if self.posts.is_none() {
            state.failure = None;
        }
        for error in [published, posted].into_iter().filter_map(Result::err) {
            state.unsaid += 1;
            state.failure = Some(error);
        }
    }
}

/// Posts one after the other.
async fn post(poster: Poster, mut posts: mpsc::Receiver<String>, state: Arc<Mutex<State>>) {
    while let Some(said) = posts.recv().await {
        let posted = poster.post("application/json", said.into_bytes()).await;
        let mut state = locked(&state);
        state.failure = posted.as_ref().err().map(ToString::to_string);
        state.unsaid += u64::from(posted.is_err());
    }
}

impl Service for Alerts {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn kind(&self) -> &str {
        "alerts"
    }

    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let publisher = self.bus.publisher().map_err(|error| ServiceFailure::new(error.to_string()))?;
            let mut tasks = Vec::new();
            let posts = self.poster.clone().map(|poster| {
                let (posts, to_send) = mpsc::channel(POSTS_MAX);
                tasks.push(tokio::spawn(post(poster, to_send, Arc::clone(&self.state))));
                posts
            });
            let watch = Watch {
                bus: self.bus.clone(),
                services: self.services.clone(),
                options: self.options.clone(),
                publisher,
                posts,
                state: Arc::clone(&self.state),
                changed: Arc::clone(&self.changed),
                sampler: Sampler::new(&self.bus),
            };
            tasks.push(tokio::spawn(watch.run()));
            *locked(&self.tasks) = tasks;
            Ok(())
        })
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        Box::pin(async {
            let tasks = mem::take(&mut *locked(&self.tasks));
            for task in tasks {
                task.abort();
                // Cancelled, as it was to be.
                drop(task.await);
            }
            Ok(())
        })
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            if locked(&self.tasks).iter().any(JoinHandle::is_finished) {
                return Health::Unhealthy("a task of it has ended".to_owned());
            }
            let state = locked(&self.state);
            match (&state.failure, state.book.untracked()) {
                (Some(failure), _) => Health::Degraded(format!(
                    "{} changes of alerts were not told, the last since {failure}",
                    state.unsaid
                )),
                (None, 0) => Health::Healthy,
                (None, _) => {
                    Health::Degraded(format!("there are {} alerts, and no room for more", self.options.alerts_max))
                }
            }
        })
    }
}
