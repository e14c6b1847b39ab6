//! How a node is made: where its configuration comes from, and what the program adds.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::config::settings::{HTTP_LISTEN, STORE_DATA, STORE_TYPE, Setting};
use super::super::config::{self, Config, ConfigError, Fault, Origin, Sources};
use super::super::services::Service;
use super::super::services::builtin::TaskWork;
use super::{NodeError, RunningNode, outside};
use crate::{Bus, BusBuilder};

/// A node that is configured, and does not run.
#[must_use = "it does nothing until `start`"]
pub struct Node {
    pub(super) config: Config,
    pub(super) sources: Sources,
    pub(super) services: Vec<Arc<dyn Service>>,
    pub(super) tasks: Option<Arc<dyn TaskWork>>,
    pub(super) bus: BusBuilder,
    pub(super) has_http: bool,
}

/// A node that is being configured: defaults, then a file, then the environment, then what is said here; later ones win.
#[must_use = "nothing is checked until `build`"]
pub struct NodeBuilder {
    sources: Sources,
    faults: Vec<Fault>,
    services: Vec<Arc<dyn Service>>,
    tasks: Option<Arc<dyn TaskWork>>,
    bus: BusBuilder,
    has_http: bool,
}

impl Node {
    /// Begins to configure a node.
    ///
    /// ```
    /// use ringmain::{Node, Payload};
    ///
    /// let node = Node::builder().in_memory().without_http().build()?.start()?;
    /// node.bus().publish("orders.placed", Payload::json(r#"{"id": 7}"#))?;
    /// node.bus().flush()?; // It is in the store.
    /// let page = node.store().query(&ringmain::store::Query::new().source("service:ringmain"))?;
    /// assert!(page.events.iter().any(|event| event.meta().topic() == "orders.placed"));
    /// assert!(node.stop().is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> NodeBuilder {
        let (sources, faults, services, tasks) = Default::default();
        NodeBuilder { sources, faults, services, tasks, bus: Bus::builder(), has_http: true }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts everything: store, bus, services, and, unless it is [without](NodeBuilder::without_http), its interface over HTTP.
    ///
    /// It has a runtime of its own, of two threads, and blocks while it starts; a task of another runtime calls it by `spawn_blocking`,
    /// so as not to hold up others.
    ///
    /// # Errors
    /// See [`NodeError`]; nothing runs then. A service that does not start is no error: it is started again, as configured.
    ///
    /// # Cost
    /// As [`BusBuilder::build`](crate::BusBuilder::build) and [`LogStoreBuilder::open`](crate::store::LogStoreBuilder::open); about
    /// ten threads.
    pub fn start(self) -> Result<RunningNode, NodeError> {
        self.start_with(|_| Ok::<_, Infallible>(())).map(|(node, ())| node)
    }

    /// As [`start`](Self::start), with a look at the bus before any event is delivered: what is subscribed here gets what an earlier
    /// process has acknowledged and not delivered. What it returns is handed on.
    ///
    /// ```
    /// use ringmain::{Node, Payload};
    ///
    /// let node = Node::builder().in_memory().without_http().build()?;
    /// let (node, mut orders) = node.start_with(|bus| bus.subscribe("orders.*").mailbox())?;
    /// node.bus().publish("orders.placed", Payload::json(r#"{"id": 7}"#))?;
    /// orders.recv()?.ack();
    /// # drop(orders);
    /// assert!(node.stop().is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`NodeError`]; its own error is [`NodeError::Program`].
    pub fn start_with<T, E>(
        self,
        subscribe: impl FnOnce(&Bus) -> Result<T, E> + Send,
    ) -> Result<(RunningNode, T), NodeError>
    where
        T: Send,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let subscribe = |bus: &Bus| subscribe(bus).map_err(|error| NodeError::Program(error.into()));
        outside(|| super::start::start(self, subscribe))
    }
}

impl NodeBuilder {
    /// Reads a file, of YAML. A node that runs reads it again when it is told to, or when the file changes.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Gives a setting by its name in a file, as `core.max_services`, and the text that would stand there.
    pub fn set(mut self, path: &str, value: impl fmt::Display) -> Self {
        match config::setting(path) {
            Ok(setting) => self.give(setting, Origin::Program, value),
            Err(unknown) => {
                self.faults.push(Fault::new(Origin::Program, unknown));
                self
            }
        }
    }

    /// Keeps events in this folder, `events.store.data`. Default `./ringmain-data`.
    pub fn data(self, folder: impl Into<PathBuf>) -> Self {
        self.give(&STORE_DATA, Origin::Program, folder.into().display())
    }

    /// Keeps events in memory, `events.store.type`: they are gone with the node.
    pub fn in_memory(self) -> Self {
        self.give(&STORE_TYPE, Origin::Program, "memory")
    }

    /// Listens there, `http.listen`: an IP address and a port. Default `127.0.0.1:8080`.
    pub fn listen(self, address: impl fmt::Display) -> Self {
        self.give(&HTTP_LISTEN, Origin::Program, address)
    }

    /// Listens nowhere.
    pub fn without_http(self) -> Self {
        Self { has_http: false, ..self }
    }

    /// Adds a service, which starts and stops with the node. It is registered behind those that were added before.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Does the tasks of the service `task_processor`, which a configuration names in its subscriptions. Without it no configuration may.
    ///
    /// ```
    /// use ringmain::Node;
    /// use ringmain::node::services::builtin::Task;
    ///
    /// let node = Node::builder().tasks(|task: Task| async move { Ok(format!("{} is done", task.id)) }).build()?;
    /// # Ok::<(), ringmain::ConfigError>(())
    /// ```
    pub fn tasks(self, work: impl TaskWork) -> Self {
        Self { tasks: Some(Arc::new(work)), ..self }
    }

    /// Sets what the configuration has no setting for: observers, pinning, the pool and so on. What it has one for goes by that.
    ///
    /// ```no_run
    /// # use ringmain::{Node, Notice};
    /// let node = Node::builder().bus(|bus| bus.observer(|notice: &Notice<'_>| eprintln!("{notice:?}"))).build()?;
    /// # Ok::<(), ringmain::ConfigError>(())
    /// ```
    pub fn bus(self, set: impl FnOnce(BusBuilder) -> BusBuilder) -> Self {
        Self { bus: set(self.bus), ..self }
    }

    pub(in super::super) fn give(
        mut self,
        setting: &'static Setting,
        origin: Origin,
        value: impl fmt::Display,
    ) -> Self {
        self.sources.given.push((setting, origin, value.to_string()));
        self
    }

    pub(in super::super) fn watch(mut self, folders: &[PathBuf]) -> Self {
        self.sources.watch.extend_from_slice(folders);
        self
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, and where.
    pub fn build(self) -> Result<Node, ConfigError> {
        let Self { sources, mut faults, services, tasks, bus, has_http } = self;
        match sources.load() {
            Ok(config) if faults.is_empty() => Ok(Node { config, sources, services, tasks, bus, has_http }),
            Ok(_) => Err(ConfigError::new(faults)),
            Err(error) => {
                faults.extend_from_slice(error.faults());
                Err(ConfigError::new(faults))
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder").field("sources", &self.sources).finish_non_exhaustive()
    }
}
