//! The control plane: subscriptions, routing tables and publisher places, under one lock that no event ever meets.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ahash::AHashMap;

use crate::delivery::{RetryPolicy, Route, ServiceHere, SubscriptionId, SubscriptionLedger, SubscriptionState};
use crate::metrics::{MailboxStages, RateWindow};
use crate::ring::{LANES, Pages};
use crate::routing::{PatternTrie, RuleSet};
use crate::sync::owned::OwnerId;
use crate::sync::primitive::{ArrayQueue, AtomicBool, Mutex, MutexGuard, thread};
use crate::worker::{Engine, Worker, WorkerTable, WorkerThreads};

use super::codec::Codecs;
use super::dead_letters::RedriveJob;
use super::degraded::Degradations;
use super::rate_limit::RateLimits;
use super::spill::SpillPump;
use super::{FullPolicy, Publisher, ShutdownReport};

mod members;
mod waiting;

/// Settings that outlive the builder.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) publishers_max: usize,
    pub(crate) batch_max: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) mailbox_capacity: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) handler_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    /// Redrives under way at once.
    pub(crate) redrives_max: usize,
    pub(crate) deadline: Duration,
    pub(crate) full_policy: FullPolicy,
    pub(crate) source: String,
    pub(crate) stamps: crate::worker::StampPolicy,
    /// Seeds ids, so that a simulation repeats; `None` asks the operating system.
    pub(crate) id_seed: Option<u64>,
    pub(crate) first_sequence: u64,
    pub(crate) critical_burst_max: u32,
    pub(crate) exclusive: bool,
    pub(crate) types_max: usize,
    pub(crate) sources_max: usize,
    /// What mailboxes are made of.
    pub(crate) pages: Pages,
}

/// Who turns the workers.
pub(crate) enum Driver {
    /// Threads of their own.
    Threads,
    /// A test, by hand.
    Manual(Mutex<Vec<Worker>>),
}

/// What all handles of one bus share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: Settings,
    pub(super) limits: Arc<RateLimits>,
    pub(crate) driver: Driver,
    /// Publishers that `Bus::publish` lends out for a call. Empty when no `Bus` is left.
    pub(super) spare: ArrayQueue<Publisher>,
    /// There are redrives to bring on, in a bus that is driven by hand; a turn takes no lock to find out that there are none. Where
    /// threads run: redrives that the thread for them has not seen.
    pub(super) has_redrives: AtomicBool,
    pub(super) degradations: Arc<Degradations>,
    /// The same as `has_redrives` of what is to be read back from stores.
    pub(super) has_spills: AtomicBool,
    pub(super) control: Mutex<Control>,
    codecs: Mutex<Codecs>,
}

/// State of the control plane.
pub(crate) struct Control {
    /// All subscriptions, in the order they were made.
    subscriptions: BTreeMap<u64, Arc<SubscriptionState>>,
    keys: AHashMap<SubscriptionId, u64>,
    patterns: PatternTrie<u64>,
    next_key: u64,
    /// All services, in the order they were made.
    pub(super) services: Vec<Arc<ServiceHere>>,
    pub(super) rules: RuleSet,
    /// The newest table of each worker; workers hold clones.
    tables: Vec<WorkerTable>,
    /// Subscriptions of each worker.
    loads: Vec<usize>,
    owners: Vec<OwnerId>,
    /// Workers that have taken over a table once, and so read the lanes.
    reading: Vec<bool>,
    /// Unsubscribed, but the worker may still be at it or a consumer holds deliveries; with the generation to wait for.
    ending: Vec<(Arc<SubscriptionState>, u64)>,
    /// The generation of each worker's table with which the last subscription ended.
    ended_with: Vec<u64>,
    /// The books of subscriptions that are gone.
    pub(super) ended: SubscriptionLedger,
    pub(super) ended_unbalanced: u64,
    /// Latencies of mailboxes that are gone. Written under the control plane's lock only.
    ended_stages: MailboxStages,
    /// Some mailbox is gone.
    has_ended_stages: bool,
    /// Topics beyond `types_max` have been met, and id 0 leads to every subscription.
    overflowing: bool,
    /// One bit a free publisher place.
    free_publishers: u64,
    publishers_made: u64,
    pub(super) threads: Option<WorkerThreads>,
    /// Redrives under way.
    pub(super) redrives: Vec<Arc<RedriveJob>>,
    /// In a bus that is driven by hand: who reads back from stores.
    pub(super) spills: Vec<Arc<Mutex<SpillPump>>>,
    /// A thread brings them on, or is about to.
    pub(super) has_redrive_thread: bool,
    pub(super) handler_threads: Vec<thread::JoinHandle<()>>,
    /// Somebody shuts the bus down, or has.
    pub(super) is_shutting_down: bool,
    pub(super) report: Option<ShutdownReport>,
    pub(super) published_rate: RateWindow,
    pub(super) lane_rates: [RateWindow; LANES],
}

/// A worker did not answer in time: a handler on it has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerStuck {
    pub(crate) worker: usize,
}

impl Control {
    /// Keeps the handle of a thread, for the shutdown to join.
    pub(super) fn keep_thread(&mut self, handle: thread::JoinHandle<()>) {
        // A handle that is kept keeps the stack of a thread that is gone.
        self.handler_threads.retain(|thread| !thread.is_finished());
        self.handler_threads.push(handle);
    }

    pub(crate) fn new(owners: Vec<OwnerId>, publishers: usize, ended_stages: MailboxStages, rules: RuleSet) -> Self {
        let workers = owners.len();
        Self {
            subscriptions: BTreeMap::new(),
            keys: AHashMap::new(),
            patterns: PatternTrie::new(),
            next_key: 0,
            services: Vec::new(),
            rules,
            tables: (0..workers).map(|_| WorkerTable::new()).collect(),
            loads: vec![0; workers],
            owners,
            reading: vec![false; workers],
            ending: Vec::new(),
            ended_with: vec![0; workers],
            ended: SubscriptionLedger::default(),
            ended_unbalanced: 0,
            ended_stages,
            has_ended_stages: false,
            overflowing: false,
            publishers_made: 0,
            free_publishers: u64::MAX >> (64 - publishers),
            threads: None,
            redrives: Vec::new(),
            spills: Vec::new(),
            has_redrive_thread: false,
            handler_threads: Vec::new(),
            is_shutting_down: false,
            report: None,
            published_rate: RateWindow::new(),
            lane_rates: std::array::from_fn(|_| RateWindow::new()),
        }
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Arc<SubscriptionState>> {
        self.subscriptions.values()
    }

    pub(super) fn find(&self, id: SubscriptionId) -> Option<&Arc<SubscriptionState>> {
        self.subscriptions.get(self.keys.get(&id)?)
    }

    pub(super) fn ending(&self) -> impl Iterator<Item = &Arc<SubscriptionState>> {
        self.ending.iter().map(|(subscription, _)| subscription)
    }

    /// Latencies of mailboxes that are gone, as they stand now; `None` while there are none.
    pub(super) fn ended_stages(&self) -> Option<MailboxStages> {
        self.has_ended_stages.then(|| self.ended_stages.copy())
    }

    /// The routes of a type, those workers' that have one.
    pub(super) fn routes(&self, type_id: u32) -> impl Iterator<Item = &Route> {
        self.tables.iter().filter_map(move |table| table.route(type_id))
    }

    pub(super) fn table(&self, worker: usize) -> &WorkerTable {
        &self.tables[worker]
    }

    pub(super) fn table_mut(&mut self, worker: usize) -> &mut WorkerTable {
        &mut self.tables[worker]
    }

    /// Whether `worker` reads the lanes.
    pub(super) fn is_reading(&self, worker: usize) -> bool {
        self.reading[worker]
    }

    /// The worker with the fewest subscriptions.
    pub(super) fn least_loaded(&self) -> usize {
        (0..self.loads.len()).min_by_key(|&worker| self.loads[worker]).unwrap_or(0)
    }

    pub(super) fn owner(&self, worker: usize) -> OwnerId {
        self.owners[worker]
    }

    /// Subscriptions that were made so far.
    pub(super) fn subscriptions_made(&self) -> u64 {
        self.next_key
    }

    /// A free place, and how many publishers came before.
    pub(super) fn take_publisher(&mut self) -> Option<(usize, u64)> {
        let place = self.free_publishers.trailing_zeros() as usize;
        self.free_publishers &= self.free_publishers.checked_sub(1)?;
        self.publishers_made += 1;
        Some((place, self.publishers_made))
    }

    pub(super) fn give_publisher(&mut self, place: usize) {
        self.free_publishers |= 1 << place;
    }
}

impl Shared {
    pub(crate) fn new(
        engine: Arc<Engine>,
        settings: Settings,
        limits: RateLimits,
        driver: Driver,
        control: Control,
    ) -> Self {
        let spare = ArrayQueue::new(settings.publishers_max);
        Self {
            engine,
            settings,
            spare,
            has_redrives: AtomicBool::new(false),
            degradations: Degradations::new(),
            has_spills: AtomicBool::new(false),
            limits: Arc::new(limits),
            driver,
            control: Mutex::new(control),
            codecs: Mutex::default(),
        }
    }

    /// The control plane's lock. User code never runs under it, so it is never poisoned by a panic of theirs.
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn codecs(&self) -> MutexGuard<'_, Codecs> {
        self.codecs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the handle of a handler's thread, for the shutdown to join.
    pub(super) fn keep_thread(&self, handle: thread::JoinHandle<()>) {
        self.control().keep_thread(handle);
    }
}
