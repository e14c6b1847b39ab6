//! The control plane: subscriptions, routing tables and publisher places, under one lock that no event ever meets.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use crate::delivery::{
    RetryPolicy, Role, Route, ServiceHere, Sink, SubscriptionId, SubscriptionLedger, SubscriptionState, is_calling,
};
use crate::event::{Event, RustType, Topic};
use crate::metrics::{MailboxStages, RateWindow};
use crate::ring::{LANES, Pages, WORKERS_MAX};
use crate::routing::{PatternTrie, RuleSet};
use crate::sync::contain::contained;
use crate::sync::mutant::mutant;
use crate::sync::owned::OwnerId;
use crate::sync::primitive::{AtomicBool, Instant, Mutex, MutexGuard, spin_loop, thread};
use crate::worker::{Ended, Engine, Turn, Worker, WorkerTable, WorkerThreads, as_worker, on_worker_thread};

use super::codec::Codecs;
use super::dead_letters::RedriveJob;
use super::degraded::Degradations;
use super::rate_limit::RateLimits;
use super::spill::SpillPump;
use super::{FullPolicy, Publisher, ShutdownReport, SubscribeError};

/// Settings that outlive the builder.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) publishers_max: usize,
    pub(crate) batch_max: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) mailbox_capacity: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) handler_timeout: Duration,
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

    /// Whether the calling thread must not wait for room: a worker would wait for itself, and so would a test that drives
    /// them, and a handler behind a mailbox that is full.
    pub(crate) fn must_not_wait(&self) -> bool {
        matches!(self.driver, Driver::Manual(_)) || self.would_wait_for_itself()
    }

    /// Whether the calling thread would wait for itself: it is a worker, or runs the handler whose own full mailbox is what
    /// holds the lanes up.
    pub(crate) fn would_wait_for_itself(&self) -> bool {
        on_worker_thread() || self.is_held_up_by_this_thread()
    }

    /// Whether the calling thread is in a handler whose own full mailbox is what holds the lanes up.
    fn is_held_up_by_this_thread(&self) -> bool {
        // Under the lock, but only for handlers that found no room.
        is_calling() && self.control().subscriptions().any(|subscription| subscription.is_held_up_by_this_thread())
    }

    /// Whether the calling thread is in a handler behind a mailbox of this bus.
    pub(super) fn is_called_by_this_thread(&self) -> bool {
        is_calling() && {
            let control = self.control();
            control.subscriptions().chain(control.ending()).any(|subscription| subscription.calls().is_here())
        }
    }

    /// Runs one turn of `worker` in a bus that is driven by hand; `None` in any other. One that is idle looks around, as it
    /// would before it sleeps.
    pub(crate) fn turn(&self, worker: usize) -> Option<Turn> {
        match &self.driver {
            Driver::Threads => None,
            Driver::Manual(workers) => {
                self.step_redrives();
                self.step_spills();
                let mut workers = workers.lock().unwrap_or_else(PoisonError::into_inner);
                let worker = workers.get_mut(worker)?;
                if self.engine.failed.has(worker.index()) {
                    return Some(Turn::Finished);
                }
                Some(as_worker(|| worker.turn_by_hand()))
            }
        }
    }

    /// Runs turns by hand until every worker is idle. Nothing to do where threads run.
    pub(crate) fn drive_until_idle(&self) {
        while (0..self.engine.workers()).any(|worker| matches!(self.turn(worker), Some(Turn::Worked { .. }))) {}
    }

    /// Waits until `done`, looking ever less often; false after `limit`. Control plane only.
    pub(super) fn wait_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        let mut looks = 0_u32;
        loop {
            if done() {
                return true;
            }
            if begun.elapsed() >= limit {
                return false;
            }
            match looks {
                0..200 => spin_loop(),
                200..300 => thread::yield_now(),
                _ => thread::park_timeout(Duration::from_micros(u64::from(looks - 299).min(50) * 20)),
            }
            looks = looks.saturating_add(1);
        }
    }

    /// Waits until `worker` has taken over the table of `generation`.
    pub(super) fn acknowledged(&self, worker: usize, generation: u64) -> Result<(), WorkerStuck> {
        let table = &self.engine.tables[worker];
        if let Driver::Manual(workers) = &self.driver {
            // A handler that changes subscriptions while a test drives its worker cannot wait for it.
            if let Ok(mut workers) = workers.try_lock() {
                workers[worker].adopt();
            }
        }
        self.engine.parker.wake(1 << worker);
        let done = self
            .wait_until(self.settings.deadline, || table.acknowledged() >= generation || self.engine.has_left(worker));
        if done { Ok(()) } else { Err(WorkerStuck { worker }) }
    }

    /// The id of a topic name, made and routed when it is new. Returns 0 beyond `types_max`.
    pub(super) fn type_id(&self, name: &str) -> u32 {
        let directory = &self.engine.directory;
        if let Some(id) = directory.type_id(name) {
            return id;
        }
        let mut control = self.control();
        if let Some(id) = directory.type_id(name) {
            return id;
        }
        // The name is made known last: whoever finds its id without the lock finds its targets too.
        let id = directory.next_type_id();
        let mut keys = Vec::new();
        if id == 0 {
            if std::mem::replace(&mut control.overflowing, true) {
                return 0;
            }
            keys.extend(control.subscriptions.keys().copied());
        } else {
            control.patterns.matches_into(name, &mut keys);
        }
        let mut targets: ArrayVec<Vec<Arc<SubscriptionState>>, WORKERS_MAX> =
            control.tables.iter().map(|_| Vec::new()).collect();
        for key in keys {
            let subscription = &control.subscriptions[&key];
            if matches!(subscription.role, Role::Subscriber) && (id == 0 || subscription.filter.passes_type(name)) {
                targets[subscription.worker].push(Arc::clone(subscription));
            }
        }
        for (worker, targets) in targets.into_iter().enumerate() {
            let rules = control.rules_for(worker, Some(name).filter(|_| id != 0));
            let route = Some(Route::new(id, targets, rules)).filter(|route| !route.is_empty());
            let lanes = route.as_ref().map(Route::lanes);
            control.tables[worker].set(id, route);
            if let Some(lanes) = lanes {
                // Workers need not acknowledge: one that meets the new id looks for a newer table.
                self.engine.tables[worker].offer(control.tables[worker].clone());
                if control.reading[worker] {
                    self.engine.wants.set(id, worker, lanes);
                }
            }
        }
        let id = directory.intern_type(name);
        drop(control);
        // A stream of new types retires a table each. Handlers may go with them, so not under the lock.
        self.collect_tables();
        id
    }

    /// The id of a topic that is to carry `E`, or says that it carries another type.
    pub(super) fn bind<E: Event>(&self, topic: Topic<E>) -> Result<u32, SubscribeError> {
        let type_id = self.type_id(topic.name());
        let bound = self.engine.directory.bind(type_id, topic.name(), RustType::of::<E>());
        bound.map(|()| type_id).map_err(SubscribeError::TypeConflict)
    }

    /// Types that `subscription` may get events of, the overflow id 0 among them when it is in use.
    fn types_for(&self, subscription: &SubscriptionState) -> Vec<u32> {
        let directory = &self.engine.directory;
        if !matches!(subscription.role, Role::Subscriber) {
            return Vec::new();
        }
        if subscription.pattern.is_exact() && !directory.is_full() {
            let id = directory.type_id(subscription.pattern.as_str());
            return id.into_iter().filter(|_| subscription.wants_type(subscription.pattern.as_str())).collect();
        }
        let known = directory.types_known() as u32;
        let named = (1..=known).filter(|&id| directory.type_name(id).is_some_and(|name| subscription.wants_type(name)));
        named.chain(directory.is_full().then_some(0)).collect()
    }

    /// Adds a subscription, and returns when its worker has it: later publishes are seen.
    pub(super) fn add(
        &self,
        make: impl FnOnce(&Control, [u64; LANES]) -> SubscriptionState,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let (subscription, generation) = {
            let mut control = self.control();
            let subscription = Arc::new(make(&control, self.engine.lanes.ends()));
            let worker = subscription.worker;
            if control.keys.contains_key(&subscription.id) {
                let id = subscription.id;
                drop(control);
                return Err(SubscribeError::IdTaken { id });
            }
            if let Err(error) = control.admits(&subscription) {
                // Its handler is dropped by its user's code: not under the lock.
                drop(control);
                return Err(SubscribeError::Service(error));
            }
            let key = control.next_key;
            control.next_key += 1;
            if matches!(subscription.role, Role::Subscriber) {
                control.patterns.insert(&subscription.pattern, key);
            }
            control.keys.insert(subscription.id, key);
            control.subscriptions.insert(key, Arc::clone(&subscription));
            control.loads[worker] += 1;
            for id in self.types_for(&subscription) {
                let mut targets = targets_of(&control.tables[worker], id).to_vec();
                targets.push(Arc::clone(&subscription));
                let rules = control.rules_at(worker, id);
                control.tables[worker].set(id, Some(Route::new(id, targets, rules)));
            }
            self.seat(&mut control, &subscription);
            if subscription.is_attended() || subscription.is_timed() {
                control.tables[worker].attended.push(Arc::clone(&subscription));
            }
            let generation = self.engine.tables[worker].offer(control.tables[worker].clone());
            (subscription, generation)
        };
        if let Err(stuck) = self.acknowledged(subscription.worker, generation) {
            drop(self.remove(subscription.id, false));
            return Err(stuck.into());
        }
        if matches!(subscription.role, Role::Instance(_)) {
            // What has waited for one need not wait for its time.
            self.engine.alarms[subscription.worker].set(0, &self.engine.parker);
        }
        self.fold_ended();
        let mut control = self.control();
        control.reading[subscription.worker] = true;
        self.publish_wants(&control, &subscription);
        Ok(subscription)
    }

    /// Tells publishers what the worker of `subscription` wants of its types.
    fn publish_wants(&self, control: &Control, subscription: &SubscriptionState) {
        if matches!(subscription.role, Role::Service(_)) {
            self.publish_rules(control, subscription.worker);
        }
        let worker = subscription.worker;
        if control.reading[worker] {
            for id in self.types_for(subscription) {
                let lanes = control.tables[worker].route(id).map_or(0, Route::lanes);
                self.engine.wants.set(id, worker, lanes);
            }
        }
    }

    /// Takes a subscription out. With `wait`, returns when no handler call of it can begin any more.
    pub(super) fn remove(&self, id: SubscriptionId, wait: bool) -> Result<Option<Arc<SubscriptionState>>, WorkerStuck> {
        let mut orphans = Vec::new();
        let (subscription, generation) = {
            let mut control = self.control();
            let Some(key) = control.keys.remove(&id) else { return Ok(None) };
            let subscription = control.subscriptions.remove(&key).expect("keys and subscriptions go together");
            let worker = subscription.worker;
            let mut before = control.tables[worker].clone();
            before.ended.clear();
            if matches!(subscription.role, Role::Subscriber) {
                control.patterns.remove(&subscription.pattern, &key);
            }
            control.loads[worker] -= 1;
            for id in self.types_for(&subscription) {
                let mut targets = targets_of(&control.tables[worker], id).to_vec();
                targets.retain(|other| other.id != subscription.id);
                let route = Route::new(id, targets, control.rules_at(worker, id));
                control.tables[worker].set(id, Some(route).filter(|route| !route.is_empty()));
            }
            self.unseat(&mut control, &subscription, &mut orphans);
            self.publish_wants(&control, &subscription);
            control.tables[worker].attended.retain(|other| other.id != subscription.id);
            let ended = Ended::new(Arc::clone(&subscription), before);
            control.tables[worker].ended.push(Arc::new(ended));
            let generation = self.engine.tables[worker].offer(control.tables[worker].clone());
            control.ended_with[worker] = generation;
            control.ending.push((Arc::clone(&subscription), generation));
            for (left, from) in &mut control.ending {
                // Its worker brings a service what its instances have left until it has this table.
                if matches!(&left.role, Role::Instance(seat) if seat.service == subscription.id) {
                    *from = generation;
                }
            }
            (subscription, generation)
        };
        subscription.set_state(crate::delivery::State::Closed);
        if let Some(desk) = &subscription.desk {
            desk.close();
        }
        if let Sink::Mailbox(mailbox, _) = &subscription.sink {
            mailbox.close();
            // A thread of the bus may be in a call that does not end, and would give nothing back. If it is just taking an event,
            // it finds that it must not call.
            if subscription.is_own_consumer || subscription.has_thread() {
                mailbox.custody().abandon();
            }
        }
        let mut done = Ok(());
        if mutant!("unsubscribe.wait", wait => false) {
            done = self.acknowledged(subscription.worker, generation);
            if done.is_ok() && matches!(&subscription.sink, Sink::Mailbox(..)) {
                // A handler on a thread of its own, or in a future. A call that outlasts the deadline has long begun.
                subscription.calls().forbid(self.engine.barrier);
                self.wait_until(self.settings.deadline, || !subscription.calls().is_elsewhere());
            }
        }
        // The instances of a service end with it, also where its worker is stuck; that is waited for once.
        for instance in orphans {
            let wait = wait && done.is_ok();
            done = done.and(self.remove(instance, wait).map(drop));
        }
        done?;
        self.fold_ended();
        Ok(Some(subscription))
    }

    /// Closes the books of subscriptions that nobody works on any more.
    pub(super) fn fold_ended(&self) {
        let is_released = |subscription: &SubscriptionState, generation: u64| {
            self.engine.has_left(subscription.worker)
                || self.engine.tables[subscription.worker].acknowledged() >= generation
        };
        let released: Vec<_> = {
            let control = self.control();
            let ending =
                control.ending.iter().filter(|(subscription, generation)| is_released(subscription, *generation));
            ending.map(|(subscription, _)| Arc::clone(subscription)).collect()
        };
        for subscription in released {
            if self.leaves_to_service(&subscription) {
                continue;
            }
            // Discarding wakes who waits for room, which is user code: not under the lock.
            if let Sink::Mailbox(mailbox, _) = &subscription.sink {
                if mailbox.custody().is_abandoned() {
                    mailbox.discard();
                }
                if self.engine.has_left(subscription.worker) {
                    mailbox.lose_spilled();
                }
                mailbox.lose_worker();
            }
        }
        let (mut gone, mut counted) = (Vec::new(), Vec::new());
        {
            let mut control = self.control();
            for (worker, exchange) in self.engine.tables.iter().enumerate() {
                let is_counted = exchange.acknowledged() >= control.ended_with[worker] || self.engine.has_left(worker);
                if is_counted && !control.tables[worker].ended.is_empty() {
                    counted.push(std::mem::take(&mut control.tables[worker].ended));
                    if self.engine.has_left(worker) {
                        // The one that nobody takes over any more would keep their handlers, and a bus that one of them owns.
                        exchange.offer(control.tables[worker].clone());
                    }
                }
            }
            let mut kept = Vec::new();
            for (subscription, generation) in std::mem::take(&mut control.ending) {
                let released = is_released(&subscription, generation);
                // A consumer that is still there may go on taking what is queued, and another thread be at discarding it. One
                // look decides and is what is kept: a second one might find an event on its way.
                let returns = matches!(&subscription.sink, Sink::Mailbox(mailbox, _) if mailbox.is_returning());
                let ledger = subscription.ledger();
                if released && ledger.open() == 0 && !returns {
                    control.ended += ledger;
                    if let Sink::Mailbox(mailbox, _) = &subscription.sink {
                        control.has_ended_stages = true;
                        control.ended_stages.absorb(mailbox.stages());
                    }
                    control.ended_unbalanced += u64::from(!ledger.is_balanced());
                    self.forget(&mut control, &subscription);
                    gone.push(subscription);
                } else {
                    kept.push((subscription, generation));
                }
            }
            control.ending = kept;
        }
        // Handlers are dropped here, outside the lock; a panic in the drop of one goes no further.
        let _ = contained(|| drop(counted));
        for subscription in gone {
            let _ = contained(|| drop(subscription));
        }
        self.collect_tables();
    }

    /// Lets go of all handlers, once the bus is gone: one that owns a publisher would keep everything alive in a ring.
    pub(super) fn release_handlers(&self) {
        let released = {
            let mut control = self.control();
            control.keys.clear();
            for table in &mut control.tables {
                *table = WorkerTable::new();
            }
            let services = std::mem::take(&mut control.services);
            (std::mem::take(&mut control.subscriptions), std::mem::take(&mut control.ending), services)
        };
        for table in &self.engine.tables {
            table.offer(WorkerTable::new());
        }
        if let Driver::Manual(workers) = &self.driver {
            let workers = std::mem::take(&mut *workers.lock().unwrap_or_else(PoisonError::into_inner));
            let _ = contained(|| drop(workers));
        }
        let _ = contained(|| drop(released));
        let codecs = std::mem::take(&mut *self.codecs());
        for codec in codecs.into_values() {
            let _ = contained(|| drop(codec));
        }
        self.collect_tables();
    }

    /// Frees the tables that workers no longer use. A panic in the drop of a handler goes no further.
    fn collect_tables(&self) {
        for table in &self.engine.tables {
            let _ = contained(|| table.collect());
        }
    }
}

fn targets_of(table: &WorkerTable, type_id: u32) -> &[Arc<SubscriptionState>] {
    table.route(type_id).map_or(&[], Route::targets)
}
