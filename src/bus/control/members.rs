//! Subscriptions come and go: their types, their places in the tables, and their books when they end.

use std::sync::{Arc, PoisonError};

use arrayvec::ArrayVec;

use crate::delivery::{Role, Route, Sink, SubscriptionId, SubscriptionState};
use crate::event::{Event, RustType, Topic};
use crate::ring::{LANES, WORKERS_MAX};
use crate::sync::contain::contained;
use crate::sync::mutant::mutant;
use crate::worker::{Ended, WorkerTable};

use super::super::SubscribeError;
use super::{Control, Driver, Shared, WorkerStuck};

impl Shared {
    /// The id of a topic name, made and routed when it is new. Returns 0 beyond `types_max`.
    pub(in crate::bus) fn type_id(&self, name: &str) -> u32 {
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
    pub(in crate::bus) fn bind<E: Event>(&self, topic: Topic<E>) -> Result<u32, SubscribeError> {
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
    pub(in crate::bus) fn add(
        &self,
        make: impl FnOnce(&Control, [u64; LANES]) -> SubscriptionState,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let (subscription, generation) = {
            let mut control = self.control();
            let starts = mutant!("subscribe.starts", self.engine.lanes.ends() => [self.settings.first_sequence; LANES]);
            let subscription = Arc::new(make(&control, starts));
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
    pub(in crate::bus) fn remove(
        &self,
        id: SubscriptionId,
        wait: bool,
    ) -> Result<Option<Arc<SubscriptionState>>, WorkerStuck> {
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
    pub(in crate::bus) fn fold_ended(&self) {
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
    pub(in crate::bus) fn release_handlers(&self) {
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
