//! The node: what hosts a bus, keeps its events, looks after its services, and is configured, watched and stopped as one.
//!
//! ```text
//!   NodeBuilder ──build──► Node ──start──► RunningNode ──stop──► StopReport
//!    flags, file            config          │
//!                                           ├─ store ◄── journal ◄── bus ◄── durable publisher ◄── HTTP
//!                                           ├─ services, and what becomes of them as events
//!                                           └─ configuration: reload, and what changed as an event
//! ```

mod announce;
mod builder;
mod flow;
mod kept;
mod known;
mod noting;
mod pulse;
mod registrations;
mod reload;
mod replays;
mod rules;
mod start;
mod stop;
mod webhooks;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

pub use self::builder::{Node, NodeBuilder};
pub(super) use self::flow::Flow;
pub(super) use self::known::{Known, KnownIds};
use self::pulse::Pulse;
pub(super) use self::registrations::Registrations;
pub(super) use self::replays::{ReplayStatus, Replays};
pub use self::stop::StopReport;
use super::config::settings::STORE_DURABILITY;
#[cfg(feature = "sourcing")]
use super::config::settings::STORE_SNAPSHOTS;
use super::config::{Change, Config, ConfigError, Sources};
use super::health::Health;
use super::http::Server;
use super::human;
use super::services::Services;
use super::services::builtin::{Builtins, WebhookIngress};
use super::store::found::Found;
#[cfg(feature = "sourcing")]
use crate::sourcing;
use crate::store::{
    AuditError, AuditTrail, DeadLetterQueue, DeadLetterQueueError, Durability, DurableError, DurablePublisher,
    EventStore, Journal, JournalError, LogStore, ReadError, StateStore,
};
use crate::{BuildError, Bus, Metrics, PublishError, Publisher, Subscription};

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NodeState {
    /// Its parts are being started.
    Starting,
    /// It takes events.
    Running,
    /// It takes nothing more, and brings what it took to its end.
    Stopping,
    /// It has ended.
    Stopped,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        })
    }
}

/// What the parts of a node share.
pub(super) struct Core {
    pub(super) bus: Bus,
    pub(super) store: Arc<dyn EventStore>,
    pub(super) state_store: Arc<dyn StateStore>,
    pub(super) durable: DurablePublisher,
    pub(super) letters: DeadLetterQueue,
    pub(super) trail: AuditTrail,
    pub(super) services: Services,
    pub(super) builtins: Arc<Builtins>,
    pub(super) webhooks: Vec<Arc<WebhookIngress>>,
    pub(super) registrations: Arc<Registrations>,
    pub(super) known: Arc<KnownIds>,
    pub(super) replays: Replays,
    pub(super) flow: Flow,
    /// What was found of the store when it was opened, where it is in files.
    pub(super) found: Option<Found>,
    /// The store, where it is in files.
    log: Option<Arc<LogStore>>,
    pulse: Pulse,
    /// Nothing outlives the node.
    is_in_memory: bool,
    /// Makes frames of what comes from outside.
    framer: Mutex<Publisher>,
    runtime: Handle,
    sources: Sources,
    config: watch::Sender<Arc<Config>>,
    state: watch::Sender<NodeState>,
    /// One reload at a time.
    reloading: Mutex<()>,
    keeping_rules: Mutex<()>,
}

impl Core {
    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    pub(super) fn state(&self) -> NodeState {
        *self.state.borrow()
    }

    pub(super) fn framer(&self) -> MutexGuard<'_, Publisher> {
        // A publisher begins each event anew.
        self.framer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an event over the network has when it is acknowledged.
    pub(super) fn word(&self) -> Durability {
        match self.config().text(&STORE_DURABILITY) {
            Some("written") => Durability::Written,
            _ => Durability::Durable,
        }
    }

    /// p95 of the last deliveries, in nanoseconds; 0 where nobody knows it.
    pub(super) fn p95_ns(&self) -> u64 {
        self.builtins.collector().newest().map_or(0, |sample| sample.latency.p95_ns)
    }

    /// How its bus is.
    pub(super) fn bus_health(&self, metrics: &Metrics) -> Health {
        let p95_ns = self.p95_ns();
        match metrics.health_at(p95_ns) {
            crate::Health::Healthy => Health::Healthy,
            crate::Health::Degraded => Health::Degraded(degraded(metrics, p95_ns)),
            crate::Health::Failed => Health::Unhealthy("a worker stands still, and the bus accepts nothing".to_owned()),
        }
    }

    /// What is said of it: what is only in memory is accepted, whatever the store pretends.
    pub(super) fn word_told(&self, word: Durability) -> Durability {
        if self.is_in_memory { Durability::Accepted } else { word }
    }
}

/// Why a bus is not as well as it should be.
fn degraded(metrics: &Metrics, p95_ns: u64) -> String {
    let (depth, limit) = (metrics.current_queue_depth, metrics.max_queue_size);
    let reasons = [
        (depth * 5 >= limit * 4).then(|| format!("a lane is at {depth} of {limit} events")),
        (p95_ns >= 100_000_000).then(|| format!("95 of 100 deliveries take up to {}", human::nanoseconds(p95_ns))),
        (metrics.degraded > 0).then(|| "a part of it does not work, such as a store that fails".to_owned()),
    ];
    let reasons: Vec<_> = reasons.into_iter().flatten().collect();
    if reasons.is_empty() { "memory is nearly full".to_owned() } else { reasons.join("; ") }
}

/// A node that runs. Dropped, it stops as by [`stop`](Self::stop), and nobody hears what was left.
pub struct RunningNode {
    /// What is taken down by the stop.
    parts: Option<Parts>,
    core: Arc<Core>,
    address: Option<SocketAddr>,
}

/// What a node holds that others do not.
struct Parts {
    runtime: Runtime,
    http: Option<Server>,
    journal: Journal,
    /// Counts what flows, as long as there is room for another subscription.
    _flow: Option<Subscription>,
}

impl RunningNode {
    /// Its bus: to publish, and to subscribe. What is published here is in the [store](Self::store) soon after, and is by
    /// [`Bus::flush`].
    pub fn bus(&self) -> &Bus {
        &self.core.bus
    }

    /// Its store, which has every event of the bus.
    pub fn store(&self) -> &Arc<dyn EventStore> {
        &self.core.store
    }

    /// Publishes into the store first, and from there: returned is acknowledged.
    pub fn durable(&self) -> &DurablePublisher {
        &self.core.durable
    }

    /// The aggregates of a kind in its store, with a snapshot each time `events.store.snapshot_frequency` versions are full. One a thread.
    ///
    /// # Errors
    /// When the bus has no publisher left.
    #[cfg(feature = "sourcing")]
    pub fn repository<A: sourcing::Aggregate>(&self) -> Result<sourcing::Repository<A>, PublishError> {
        let versions = self.config().number(&STORE_SNAPSHOTS).expect("it has a default");
        let repository = sourcing::Repository::new(Arc::clone(self.store()), self.bus().publisher()?);
        Ok(repository.snapshot_every(versions))
    }

    /// Its services.
    pub fn services(&self) -> &Services {
        &self.core.services
    }

    /// Where it is in its life.
    pub fn state(&self) -> NodeState {
        self.core.state()
    }

    /// Where it listens; `None` when it does not.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.core.config()
    }

    /// Reads the configuration again, and takes what is different: all of it, or nothing. Returns what changed.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that only a restart takes; the node goes on as it was.
    ///
    /// # Cost
    /// Blocks: a task of a runtime calls it by `spawn_blocking`, so as not to hold up others.
    pub fn reload(&self) -> Result<Vec<Change>, ConfigError> {
        outside(|| self.core.reload())
    }

    /// Takes nothing more, brings what it took to its end, and stops: services, durable publisher, bus, journal, store. It takes as
    /// long as `http.shutdown_deadline` says at most, and a moment; what is left then is in the report.
    ///
    /// # Cost
    /// Blocks, and so does the drop: a task of a runtime does either by `spawn_blocking`, so as not to hold up others.
    pub fn stop(mut self) -> StopReport {
        self.end()
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn end(&mut self) -> StopReport {
        let stop = |parts| outside(|| stop::stop(&self.core, parts));
        self.parts.take().map_or_else(StopReport::default, stop)
    }
}

/// Does what waits for the node's own runtime. No runtime lets its threads wait for another: called on one, it is done on a thread beside.
fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if Handle::try_current().is_err() {
        return work();
    }
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNode")
            .field("state", &self.state())
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Why a node did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeError {
    /// The store cannot be opened; this is why.
    Store(String),
    /// The system has no threads for a runtime; this is what it says.
    Runtime(String),
    /// Dead letters cannot be kept.
    Letters(DeadLetterQueueError),
    /// The bus cannot be built.
    Bus(BuildError),
    /// What it is made of has no publisher left.
    Publisher(PublishError),
    /// Events cannot be kept.
    Journal(JournalError),
    /// Events cannot be published from the store.
    Durable(DurableError),
    /// What is done cannot be recorded.
    Audit(AuditError),
    /// The store cannot be read.
    Read(ReadError),
    /// Services are not as they are configured; this is why.
    Services(String),
    /// The rules that are kept cannot be put in force; this is why.
    Rules(String),
    /// What the program did with the bus while it started has failed.
    Program(Box<dyn Error + Send + Sync>),
    /// It would be open to others than this machine, without tokens or without TLS.
    Open {
        /// Where it was to listen.
        address: SocketAddr,
        /// What is missing.
        missing: &'static str,
    },
    /// The tokens cannot be read; this is why.
    Tokens(String),
    /// It cannot listen there; this is what the system says.
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: String,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) | Self::Tokens(error) | Self::Rules(error) | Self::Services(error) => f.write_str(error),
            Self::Runtime(error) => write!(f, "there are no threads: {error}"),
            Self::Letters(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
            Self::Publisher(error) => error.fmt(f),
            Self::Journal(error) => error.fmt(f),
            Self::Durable(error) => error.fmt(f),
            Self::Audit(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Program(error) => error.fmt(f),
            Self::Open { address, missing } => write!(
                f,
                "{address} can be reached from other machines, and {missing}; listen on 127.0.0.1 or [::1], behind a proxy if need be"
            ),
            Self::Listen { address, error } => write!(f, "{address} cannot be listened on: {error}"),
        }
    }
}

impl Error for NodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Letters(error) => Some(error),
            Self::Bus(error) => Some(error),
            Self::Publisher(error) => Some(error),
            Self::Journal(error) => Some(error),
            Self::Durable(error) => Some(error),
            Self::Audit(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Program(error) => Some(&**error),
            _ => None,
        }
    }
}

/// What is left of a time.
struct Left(std::time::Instant);

impl Left {
    fn of(limit: Duration) -> Self {
        Self(std::time::Instant::now() + limit)
    }

    fn time(&self) -> Duration {
        self.0.saturating_duration_since(std::time::Instant::now())
    }
}
