//! The built-in services of a node, as its configuration asks for them, and the subscriptions that bring them events.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::super::super::alert::{AlertRule, Alerts, AlertsOptions, Condition};
use super::super::super::config::Config;
use super::super::super::config::settings::{
    ALERTS_P95, METRICS_INTERVAL, NOTIFY_SECRET_FILE, NOTIFY_URL_FILE, PROCESSING_TIMEOUT, STORE_DATA,
};
#[cfg(feature = "prometheus")]
use super::super::super::prometheus::EventMetrics;
use super::super::{
    Applied, Service, ServiceChange, ServiceState, Services, ServicesError, SubscriptionWish, Subscriptions,
    SubscriptionsError,
};
use super::{
    AuditLogger, CollectorOptions, FilesystemWatcher, MetricsCollector, Notifier, NotifierOptions, PostError,
    PostTarget, Secret, TaskOptions, TaskQueue, TaskWork, WatcherOptions,
};
use crate::Bus;
use crate::store::AuditTrail;

/// What brings events to the clients of a node, of themselves: nothing has to be subscribed for them.
const BROADCAST: &str = "websocket_broadcast";

/// Why services are not there as they are configured.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuiltinsError {
    /// A file that has a URL or a secret cannot be read, or is empty.
    File {
        /// Which setting names it.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What the file has is no URL.
    Url(PostError),
    /// Events are to go to the queue of tasks, and nobody does any.
    NoWorkers,
    /// A service was refused.
    Service(ServicesError),
    /// A subscription was refused.
    Subscriptions(SubscriptionsError),
}

impl fmt::Display for BuiltinsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { setting, reason } => write!(f, "the file that {setting} names: {reason}"),
            Self::Url(error) => write!(f, "the file that {} names: {error}", NOTIFY_URL_FILE.path),
            Self::NoWorkers => f.write_str(
                "events.subscriptions names task_processor, and nobody here does tasks: they would wait for ever; a program \
                 that has a node in it gives it workers (NodeBuilder::tasks)",
            ),
            Self::Service(error) => error.fmt(f),
            Self::Subscriptions(error) => error.fmt(f),
        }
    }
}

impl Error for BuiltinsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { .. } | Self::NoWorkers => None,
            Self::Url(error) => Some(error),
            Self::Service(error) => Some(error),
            Self::Subscriptions(error) => Some(error),
        }
    }
}

/// The built-in services of a node. Those that subscriptions name are made when they are first named, unless the program has brought its
/// own under that name; watchers, the collector and alerts are there always.
pub struct Builtins {
    bus: Bus,
    trail: AuditTrail,
    supervisor: Services,
    target: Option<PostTarget>,
    tasks: Option<Arc<dyn TaskWork>>,
    collector: Arc<MetricsCollector>,
    alerts: Arc<Alerts>,
    /// By their names.
    services: Mutex<BTreeMap<String, Arc<dyn Service>>>,
    subscriptions: Arc<Mutex<Subscriptions>>,
    #[cfg(feature = "prometheus")]
    event_metrics: EventMetrics,
    changes: mpsc::UnboundedSender<(String, bool)>,
}

impl Builtins {
    /// Makes what the configuration asks for; nothing of it runs yet. `others` are the services of the program, and `tasks` does tasks:
    /// without it none may be declared.
    ///
    /// # Errors
    /// See [`BuiltinsError`].
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(
        bus: &Bus,
        trail: AuditTrail,
        supervisor: &Services,
        config: &Config,
        others: &[Arc<dyn Service>],
        tasks: Option<Arc<dyn TaskWork>>,
    ) -> Result<Self, BuiltinsError> {
        let target = target(config)?;
        let every = config.time(&METRICS_INTERVAL).expect("it has a default");
        let options = CollectorOptions { history_every: every, ..CollectorOptions::default() };
        let collector = Arc::new(MetricsCollector::new(bus, options));
        let options = AlertsOptions { rules: rules(config), webhook: target.clone(), ..AlertsOptions::default() };
        let alerts = Alerts::new(bus, Some(supervisor.clone()), options).map_err(BuiltinsError::Url)?;
        let alerts = Arc::new(alerts);
        let own = [Arc::clone(&collector) as Arc<dyn Service>, Arc::clone(&alerts) as _];
        let mut services: BTreeMap<_, _> =
            own.into_iter().map(|service| (service.name().to_owned(), service)).collect();
        services.extend(watchers(bus, config));
        services.extend(others.iter().map(|service| (service.name().to_owned(), Arc::clone(service))));
        let limit = config.time(&PROCESSING_TIMEOUT).expect("it has a default");
        let subscriptions = Subscriptions::new(bus, limit);
        #[cfg(feature = "prometheus")]
        let event_metrics = EventMetrics::default();
        #[cfg(feature = "prometheus")]
        let subscriptions = {
            let metrics = event_metrics.clone();
            subscriptions.observed(move |event_type, service, is_success, took| {
                metrics.handled(event_type, service, is_success, took);
            })
        };
        let subscriptions = Arc::new(Mutex::new(subscriptions));
        let (changes, mut heard) = mpsc::unbounded_channel::<(String, bool)>();
        let told = Arc::clone(&subscriptions);
        tokio::spawn(async move {
            while let Some((service, runs)) = heard.recv().await {
                told.lock().await.set_running(&service, runs);
            }
        });
        let (bus, supervisor, services) = (bus.clone(), supervisor.clone(), Mutex::new(services));
        Ok(Self {
            bus,
            trail,
            supervisor,
            target,
            tasks,
            collector,
            alerts,
            services,
            subscriptions,
            #[cfg(feature = "prometheus")]
            event_metrics,
            changes,
        })
    }

    /// What is counted by type of event: what its services handle, and what else somebody counts there.
    #[cfg(feature = "prometheus")]
    pub fn event_metrics(&self) -> &EventMetrics {
        &self.event_metrics
    }

    /// How the bus has been.
    pub fn collector(&self) -> &Arc<MetricsCollector> {
        &self.collector
    }

    /// What is wrong.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    /// Registers and starts its services, then brings about the subscriptions. One that does not start is tried again, as configured.
    ///
    /// # Errors
    /// See [`BuiltinsError`].
    pub async fn start(&self, config: &Config) -> Result<Applied, BuiltinsError> {
        let services: Vec<_> = self.services.lock().await.values().cloned().collect();
        for service in services {
            // Those of the program are registered before.
            if self.supervisor.get(service.name()).is_none() {
                self.run(service).await?;
            }
        }
        self.apply(config).await
    }

    async fn run(&self, service: Arc<dyn Service>) -> Result<(), BuiltinsError> {
        let name = service.name().to_owned();
        self.supervisor.register(service).await.map_err(BuiltinsError::Service)?;
        drop(self.supervisor.start(&name).await);
        Ok(())
    }

    /// Brings about what a configuration says, all of it or nothing: subscriptions, see [`Subscriptions::apply`], for which services are
    /// made that are named for the first time; and the steps of the metrics' history.
    ///
    /// # Errors
    /// See [`BuiltinsError`].
    pub async fn apply(&self, config: &Config) -> Result<Applied, BuiltinsError> {
        let limit = config.time(&PROCESSING_TIMEOUT).expect("it has a default");
        let mut wishes = SubscriptionWish::of(config.subscriptions(), limit);
        wishes.retain(|wish| wish.service != BROADCAST);
        let mut services = self.services.lock().await;
        let mut made: BTreeMap<String, Arc<dyn Service>> = BTreeMap::new();
        for name in wishes.iter().map(|wish| wish.service.as_str()).filter(|name| !services.contains_key(*name)) {
            if !made.contains_key(name) {
                made.extend(self.make(name)?.map(|service| (name.to_owned(), service)));
            }
        }
        let mut subscriptions = self.subscriptions.lock().await;
        let mut running = Vec::new();
        let applied = async {
            for (name, service) in &made {
                self.run(Arc::clone(service)).await?;
                running.push(name);
            }
            let find = |name: &str| services.get(name).or_else(|| made.get(name)).cloned();
            subscriptions.apply(&wishes, find).await.map_err(BuiltinsError::Subscriptions)
        };
        let applied = match applied.await {
            Ok(applied) => applied,
            Err(error) => {
                // As if it had not been tried.
                for name in running {
                    drop(self.supervisor.unregister(name).await);
                }
                return Err(error);
            }
        };
        services.extend(made);
        self.collector.set_history_every(config.time(&METRICS_INTERVAL).expect("it has a default"));
        let is_running = |status: super::super::ServiceStatus| status.state == ServiceState::Running;
        for wish in &applied.begun {
            if !self.supervisor.get(&wish.service).is_some_and(is_running) {
                subscriptions.set_running(&wish.service, false);
            }
        }
        Ok(applied)
    }

    /// One that subscriptions name.
    fn make(&self, name: &str) -> Result<Option<Arc<dyn Service>>, BuiltinsError> {
        Ok(match name {
            "audit_logger" => Some(Arc::new(AuditLogger::new(name, self.trail.clone()))),
            "notifier" => {
                let options = NotifierOptions { webhook: self.target.clone(), ..NotifierOptions::default() };
                Some(Arc::new(Notifier::new(options).map_err(BuiltinsError::Url)?))
            }
            "task_processor" => {
                let tasks = Arc::clone(self.tasks.as_ref().ok_or(BuiltinsError::NoWorkers)?);
                Some(Arc::new(TaskQueue::new(&self.bus, TaskOptions::default(), Some(tasks))))
            }
            _ => None,
        })
    }

    /// Hears of the steps of services: the events of one that does not run wait.
    pub fn hear(&self, change: &ServiceChange) {
        if let ServiceChange::State { name, from, to, .. } = change
            && (*from == ServiceState::Running) != (*to == ServiceState::Running)
        {
            // Once its end has come there is nobody to hear it.
            drop(self.changes.send((name.clone(), *to == ServiceState::Running)));
        }
    }

    /// Ends the subscriptions, and waits for at most `limit` until their services have handled what was published. Returns how many had
    /// more to do. Before the services are stopped; those of one that does not run [stay](Subscriptions::end).
    pub async fn end(&self, limit: Duration) -> usize {
        self.subscriptions.lock().await.end(limit).await
    }
}

impl fmt::Debug for Builtins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builtins")
            .field("collector", &self.collector)
            .field("alerts", &self.alerts)
            .finish_non_exhaustive()
    }
}

/// Where notifications and alerts are posted.
fn target(config: &Config) -> Result<Option<PostTarget>, BuiltinsError> {
    let line = |setting: &'static super::super::super::config::settings::Setting| {
        let fault = |reason: String| BuiltinsError::File { setting: setting.path, reason };
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => Err(fault(format!("{} is empty", path.display()))),
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) => Err(fault(format!("{} cannot be read: {error}", path.display()))),
        };
        config.path(setting).map(read).transpose()
    };
    let secret = line(&NOTIFY_SECRET_FILE)?.map(Secret::new);
    Ok(line(&NOTIFY_URL_FILE)?.map(|url| PostTarget { secret, ..PostTarget::new(url) }))
}

/// The rules of alerts, with the objective that is configured.
fn rules(config: &Config) -> Vec<AlertRule> {
    let mut rules = AlertRule::defaults();
    for rule in &mut rules {
        if let Condition::Slow { objective } = &mut rule.condition {
            *objective = config.time(&ALERTS_P95).expect("it has a default");
        }
    }
    rules
}

/// A watcher for each folder, called after it.
fn watchers(bus: &Bus, config: &Config) -> BTreeMap<String, Arc<dyn Service>> {
    let mut watchers: BTreeMap<String, Arc<dyn Service>> = BTreeMap::new();
    for folder in config.watch() {
        let last =
            folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
        let letter = |letter: char| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '-' };
        let last: String = last.unwrap_or_else(|| "folder".to_owned()).chars().map(letter).take(40).collect();
        let names = (1..).map(|nth| if nth == 1 { format!("watch-{last}") } else { format!("watch-{last}-{nth}") });
        let mut names = names.filter(|name| !watchers.contains_key(name));
        let Some(name) = names.next() else { continue };
        let excluded = config.path(&STORE_DATA).map(Path::to_owned).into_iter().collect();
        let options = WatcherOptions { excluded, ..WatcherOptions::new(name.as_str(), folder) };
        watchers.insert(name, Arc::new(FilesystemWatcher::new(bus, options)));
    }
    watchers
}
