//! How the parts of a node come up, each after what it stands on.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

use super::super::config::Config;
use super::super::config::settings as names;
use super::super::http::{Door, Server};
use super::super::services::builtin::{Builtins, BuiltinsError};
use super::super::services::{Service, Services, ServicesOptions};
use super::super::store::found::Found;
use super::announce::{self, Announcer};
use super::kept::Kept;
use super::noting::Noting;
use super::{
    Core, Flow, KnownIds, Node, NodeError, NodeState, Parts, Pulse, Registrations, Replays, RunningNode, rules, stop,
    webhooks,
};
use crate::store::{AuditTrail, DeadLetterQueue, Durability, EventStore};
use crate::{Bus, BusBuilder, FullPolicy, IdleStrategy, RetryPolicy};

/// What its parts are called: its threads, its events' source, its cursor, its queue of dead letters.
const NAME: &str = "ringmain";
/// The name that the commands of `ringmain dlq` look for.
const LETTERS: &str = super::super::dlq::QUEUE;
/// Threads of its runtime. They answer and wait; events are moved by the bus's own threads.
const RUNTIME_THREADS: usize = 2;
/// The longest wait between two attempts, unless the first one is longer.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

pub(super) fn start<T>(
    node: Node,
    subscribe: impl FnOnce(&Bus) -> Result<T, NodeError>,
) -> Result<(RunningNode, T), NodeError> {
    let Node { config, sources, services, tasks, bus, has_http } = node;
    // What may be refused for its configuration is, before anything is opened.
    let door = has_http.then(|| Door::new(&config)).transpose()?;
    let runtime = runtime()?;
    let Kept { store, state_store, log, is_in_memory } = Kept::open(&config)?;
    let found = log.as_deref().map(Found::of);
    let letters_max = number(&config, &names::DEAD_LETTERS_MAX);
    let letters = DeadLetterQueue::open_with(LETTERS, Arc::clone(&state_store), letters_max, Durability::Written);
    let letters = letters.map_err(NodeError::Letters)?;
    let bus = settled(bus, &config).dead_letters_max(0).dead_letter_sink(letters.clone());
    let bus = bus.build().map_err(NodeError::Bus)?;
    let kept = rules::restored(&*state_store).map_err(|error| NodeError::Rules(error.to_string()))?;
    rules::enforce(&bus, kept).map_err(|error| NodeError::Rules(error.to_string()))?;
    let known = KnownIds::read(&*store, number(&config, &names::HTTP_KNOWN_IDS_MAX)).map_err(NodeError::Read)?;
    let known = Arc::new(known);
    let store: Arc<dyn EventStore> = Arc::new(Noting::new(store, Arc::clone(&known)));
    let journal = bus.journal(Arc::clone(&store)).start().map_err(NodeError::Journal)?;
    let trail = AuditTrail::over(&bus, Arc::clone(&store)).map_err(NodeError::Audit)?;
    let framer = Mutex::new(bus.publisher().map_err(NodeError::Publisher)?);
    let mut announcer = Announcer::new(bus.publisher().map_err(NodeError::Publisher)?);
    let webhooks = webhooks::of(&config).map_err(NodeError::Services)?;
    let services: Vec<_> =
        services.into_iter().chain(webhooks.iter().map(|one| Arc::clone(one) as Arc<dyn Service>)).collect();
    // They hear of each other: a service that does not run is given no events.
    let heard: Arc<OnceLock<Arc<Builtins>>> = Arc::default();
    let supervised = {
        let (_runtime, heard) = (runtime.enter(), Arc::clone(&heard));
        Services::supervise(services_options(&config), move |change| {
            if let Some(builtins) = heard.get() {
                builtins.hear(&change);
            }
            announcer.service(&change);
        })
    };
    let builtins = runtime.block_on(async {
        let builtins = Arc::new(Builtins::new(&bus, trail.clone(), &supervised, &config, &services, tasks)?);
        let builtins = Arc::clone(heard.get_or_init(|| builtins));
        for service in services {
            let name = service.name().to_owned();
            supervised.register(service).await.map_err(BuiltinsError::Service)?;
            // What fails is told as an event, and tried again.
            drop(supervised.start(&name).await);
        }
        builtins.start(&config).await.map(|_| builtins)
    });
    let builtins = builtins.map_err(|error| NodeError::Services(error.to_string()))?;
    let flow = Flow::default();
    let counting = flow.count(&bus).ok();
    let registrations = Registrations::new(&bus);
    runtime.spawn(Arc::clone(&registrations).watch());
    let subscribed = subscribe(&bus)?;
    // What an earlier process has left is delivered from here on, so behind all that subscribe.
    let durable = bus.durable(Arc::clone(&store), Arc::clone(&state_store)).named(NAME);
    let durable = durable.start().map_err(NodeError::Durable)?;
    let core = Arc::new(Core {
        store,
        state_store,
        durable,
        letters,
        trail,
        services: supervised,
        builtins,
        webhooks,
        registrations,
        runtime: runtime.handle().clone(),
        known,
        replays: Replays::default(),
        flow,
        found,
        log,
        pulse: Pulse::default(),
        is_in_memory,
        framer,
        sources,
        config: watch::Sender::new(Arc::new(config)),
        state: watch::Sender::new(NodeState::Starting),
        reloading: Mutex::new(()),
        keeping_rules: Mutex::new(()),
        bus,
    });
    let mut parts = Parts { runtime, http: None, journal, _flow: counting };
    if let Some(door) = door {
        match Server::open(door, &core, parts.runtime.handle()) {
            Ok(server) => parts.http = Some(server),
            Err(error) => {
                // Nobody is to be waited for.
                drop(subscribed);
                stop::stop(&core, parts);
                return Err(error);
            }
        }
    }
    if let Some(found) = &core.found {
        announce::store(&core.bus, found);
    }
    core.state.send_replace(NodeState::Running);
    announce::node(&core.bus, NodeState::Running);
    let address = parts.http.as_ref().map(Server::address);
    Ok((RunningNode { parts: Some(parts), core, address }, subscribed))
}

fn runtime() -> Result<Runtime, NodeError> {
    let builder = runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("ringmain-node")
        .enable_all()
        .build();
    builder.map_err(|error| NodeError::Runtime(error.to_string()))
}

fn number(config: &Config, setting: &'static names::Setting) -> usize {
    config.number(setting).and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX)
}

pub(super) fn deadline(config: &Config) -> Duration {
    config.time(&names::SHUTDOWN_DEADLINE).expect("it has a default")
}

/// The bus as it is configured.
fn settled(bus: BusBuilder, config: &Config) -> BusBuilder {
    let time = |setting| config.time(setting).expect("it has a default");
    let idle = config.text(&names::BUS_IDLE).and_then(|name| name.parse::<IdleStrategy>().ok()).unwrap_or_default();
    let attempts = u8::try_from(number(config, &names::RETRY_ATTEMPTS)).unwrap_or(u8::MAX);
    let retry = RetryPolicy::default();
    let retry = retry
        .attempts_max(attempts)
        .delays(time(&names::RETRY_BACKOFF), RETRY_DELAY_MAX.max(time(&names::RETRY_BACKOFF)));
    // Its runtime and its store need the cores as well, so workers are not pinned to them.
    let bus = bus.name(NAME).pin(false).announce(true).idle(idle);
    let bus = match config.number(&names::BUS_WORKERS) {
        Some(_) => bus.workers(number(config, &names::BUS_WORKERS)),
        None => bus,
    };
    bus.max_queue_size(number(config, &names::BUS_BUFFER_SIZE))
        .batch_max(number(config, &names::BUS_BUFFER_SIZE).min(crate::store::BATCH_EVENTS_MAX))
        .deadline(time(&names::BUS_DEADLINE))
        .when_full(FullPolicy::wait(time(&names::BUS_DEADLINE)))
        .payload_bytes_max(number(config, &names::BUS_PAYLOAD_BYTES_MAX))
        .slow_handler_threshold(time(&names::BUS_SLOW_HANDLER))
        .turn_max(number(config, &names::PROCESSING_BATCH_SIZE))
        .handler_timeout(time(&names::PROCESSING_TIMEOUT))
        .attempt_timeout(time(&names::BUS_DEADLINE))
        .retry(retry)
        .enable_debug(config.is_on(&names::DEBUG))
}

pub(super) fn services_options(config: &Config) -> ServicesOptions {
    let attempts = config.number(&names::RECOVERY_ATTEMPTS_MAX).and_then(|number| u32::try_from(number).ok());
    ServicesOptions {
        services_max: number(config, &names::SERVICES_MAX),
        check_every: config.time(&names::HEALTH_INTERVAL).expect("it has a default"),
        recovery: config.is_on(&names::AUTO_RECOVERY),
        recovery_attempts_max: attempts.expect("it has a default"),
        ..ServicesOptions::default()
    }
}
