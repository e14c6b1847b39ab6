//! The control plane's part in services and rules: their places in the tables of workers.

use std::sync::Arc;

use crate::delivery::{
    Balance, Role, Route, SERVICES_MAX, ServiceHealth, ServiceHere, Sink, SubscriptionId, SubscriptionState,
};
use crate::routing::{RuleError, RuleSet, TypeRules};
use crate::worker::on_worker_thread;

use super::Shared;
use super::control::{Control, WorkerStuck};
use super::service_error::ServiceError;

impl Control {
    /// The services of a worker, in the order of their places.
    fn services_of(&self, worker: usize) -> impl Iterator<Item = &Arc<ServiceHere>> {
        self.services.iter().filter(move |service| service.service.worker == worker)
    }

    /// The service of this name.
    pub(super) fn service(&self, name: &str) -> Option<&Arc<ServiceHere>> {
        self.services.iter().find(|service| service.name() == name)
    }

    fn service_mut(&mut self, id: SubscriptionId) -> Option<&mut ServiceHere> {
        self.services.iter_mut().find(|service| service.service.id == id).map(Arc::make_mut)
    }

    /// The rules that events of the type `name` can match on `worker`; without a name those of all types that have no id.
    pub(super) fn rules_for(&self, worker: usize, name: Option<&str>) -> TypeRules<u8> {
        // As many as a table has at most.
        let place = |target: &str| self.services_of(worker).position(|service| service.name() == target);
        self.rules.for_type(name, |target| place(target).map(|place| place as u8))
    }

    /// The rules in a route as it stands.
    pub(super) fn rules_at(&self, worker: usize, type_id: u32) -> TypeRules<u8> {
        self.table(worker).route(type_id).map_or_else(TypeRules::default, |route| route.rules().clone())
    }

    /// Whether a service, or an instance of one, may be added.
    pub(super) fn admits(&self, new: &SubscriptionState) -> Result<(), ServiceError> {
        match &new.role {
            Role::Subscriber => Ok(()),
            Role::Service(_) if self.service(&new.name).is_some() => {
                Err(ServiceError::Exists { name: new.name.clone() })
            }
            Role::Service(_) if self.services.len() >= SERVICES_MAX => Err(ServiceError::TooMany { max: SERVICES_MAX }),
            Role::Service(_) => Ok(()),
            Role::Instance(seat) => {
                let service = self.services.iter().find(|service| service.service.id == seat.service);
                let service = service.ok_or_else(|| ServiceError::Ended { instance: seat.name.clone() })?;
                let max = Balance::INSTANCES_MAX;
                if service.instances.len() >= max {
                    return Err(ServiceError::TooManyInstances { service: service.name().to_owned(), max });
                }
                let is_same = |other: &Arc<SubscriptionState>| matches!(&other.role, Role::Instance(other) if other.name == seat.name);
                if service.instances.iter().any(is_same) {
                    let (service, instance) = (service.name().to_owned(), seat.name.clone());
                    return Err(ServiceError::InstanceExists { service, instance });
                }
                Ok(())
            }
        }
    }
}

impl Shared {
    /// Gives a new service or instance its place. A subscription of another kind has none.
    pub(super) fn seat(&self, control: &mut Control, new: &Arc<SubscriptionState>) {
        match &new.role {
            Role::Subscriber => {}
            Role::Service(_) => {
                self.engine.services_known.add(&new.name);
                control.services.push(Arc::new(ServiceHere::new(Arc::clone(new))));
                self.place_services(control, new.worker);
                self.compile_rules(control, new.worker);
            }
            Role::Instance(seat) => {
                if let Some(service) = control.service_mut(seat.service) {
                    service.instances.push(Arc::clone(new));
                }
                self.place_services(control, new.worker);
            }
        }
    }

    /// Takes a service or instance out of its place. An instance goes on leaving as long as there is something in its mailbox;
    /// of a service `orphans` get the instances.
    pub(super) fn unseat(
        &self,
        control: &mut Control,
        old: &Arc<SubscriptionState>,
        orphans: &mut Vec<SubscriptionId>,
    ) {
        match &old.role {
            Role::Subscriber => {}
            Role::Service(_) => {
                if let Some(at) = control.services.iter().position(|service| service.service.id == old.id) {
                    let service = control.services.remove(at);
                    self.engine.services_known.remove(service.name());
                    orphans.extend(service.instances.iter().map(|instance| instance.id));
                }
                self.place_services(control, old.worker);
                self.compile_rules(control, old.worker);
            }
            Role::Instance(seat) => {
                if let Some(service) = control.service_mut(seat.service) {
                    service.instances.retain(|other| other.id != old.id);
                    service.leaving.push(Arc::clone(old));
                }
                self.place_services(control, old.worker);
            }
        }
    }

    /// Whether what an instance that ended has left goes back to its service; tells the worker that it may.
    pub(super) fn leaves_to_service(&self, old: &SubscriptionState) -> bool {
        let Role::Instance(seat) = &old.role else { return false };
        let is_there = self.control().services.iter().any(|service| service.service.id == seat.service);
        let leaves = is_there && !self.engine.has_left(old.worker);
        if leaves && matches!(&old.sink, Sink::Mailbox(mailbox, _) if mailbox.custody().is_abandoned()) {
            self.engine.alarms[old.worker].set(0, &self.engine.parker);
        }
        leaves
    }

    /// Nothing is left of an instance.
    pub(super) fn forget(&self, control: &mut Control, old: &SubscriptionState) {
        let Role::Instance(seat) = &old.role else { return };
        if let Some(service) = control.service_mut(seat.service) {
            service.leaving.retain(|other| other.id != old.id);
            self.place_services(control, old.worker);
            self.engine.tables[old.worker].offer(control.table(old.worker).clone());
        }
    }

    /// Compiles the services of `worker` into its table.
    fn place_services(&self, control: &mut Control, worker: usize) {
        control.table_mut(worker).services = control.services_of(worker).cloned().collect();
    }

    /// Compiles the rules into the routes of `worker`.
    fn compile_rules(&self, control: &mut Control, worker: usize) {
        let directory = &self.engine.directory;
        let named = 1..=directory.types_known() as u32;
        for id in named.chain(directory.is_full().then_some(0)) {
            let rules = control.rules_for(worker, directory.type_name(id));
            let old = control.table(worker).route(id);
            if rules.is_empty() && old.is_none_or(|route| route.rules().is_empty()) {
                continue;
            }
            let route = Route::new(id, old.map_or(&[][..], Route::targets).to_vec(), rules);
            control.table_mut(worker).set(id, Some(route).filter(|route| !route.is_empty()));
        }
    }

    /// Tells publishers what the services of `worker` want.
    pub(super) fn publish_rules(&self, control: &Control, worker: usize) {
        let (engine, table) = (&self.engine, control.table(worker));
        if !control.is_reading(worker) {
            return;
        }
        engine.wants.set(engine.wants.named(), worker, if table.services.is_empty() { 0 } else { 0b1111 });
        let directory = &engine.directory;
        for id in (1..=directory.types_known() as u32).chain(directory.is_full().then_some(0)) {
            engine.wants.set(id, worker, table.route(id).map_or(0, Route::lanes));
        }
    }

    /// Puts other rules into force, and returns when all workers have them.
    pub(super) fn change_rules<E: From<RuleError> + From<WorkerStuck>>(
        &self,
        change: impl FnOnce(&RuleSet) -> Result<RuleSet, RuleError>,
    ) -> Result<(), E> {
        let offered: Vec<_> = {
            let mut control = self.control();
            control.rules = change(&control.rules)?.reading_at_most(control.rules.payload_bytes_max());
            let workers: Vec<_> =
                (0..self.engine.workers()).filter(|&worker| control.services_of(worker).next().is_some()).collect();
            let offer = |worker| {
                self.compile_rules(&mut control, worker);
                (worker, self.engine.tables[worker].offer(control.table(worker).clone()))
            };
            workers.into_iter().map(offer).collect()
        };
        let mut done = Ok(());
        for (worker, generation) in offered {
            // One that is stuck goes by the change when it is free again, so that publishers are told all the same.
            done = done.and(self.acknowledged(worker, generation));
            self.publish_rules(&self.control(), worker);
        }
        done.map_err(E::from)
    }

    /// Sets the health of an instance, and returns when the worker of its service picks by it.
    pub(super) fn set_health(&self, service: &str, instance: &str, health: ServiceHealth) -> Result<(), ServiceError> {
        let (worker, generation) = {
            let control = self.control();
            let here = control.service(service).ok_or_else(|| ServiceError::NotFound { name: service.to_owned() })?;
            let mut seats = here.instances.iter().filter_map(|one| match &one.role {
                Role::Instance(seat) => Some(seat),
                Role::Subscriber | Role::Service(_) => None,
            });
            let seat = seats.find(|seat| seat.name == instance).ok_or_else(|| ServiceError::NoInstance {
                service: service.to_owned(),
                instance: instance.to_owned(),
            })?;
            seat.set_health(health);
            let worker = here.service.worker;
            (worker, self.engine.tables[worker].offer(control.table(worker).clone()))
        };
        // What waited for an instance need not wait for its time.
        self.engine.alarms[worker].set(0, &self.engine.parker);
        if !on_worker_thread() {
            self.acknowledged(worker, generation)?;
        }
        Ok(())
    }
}
