//! Services: names that events are sent to, by rules or by the events themselves, and the instances that share their work.

use std::fmt;
use std::sync::Arc;

use crate::delivery::{
    Balance, BreakerRecord, BreakerState, DeliveryMode, Key, Overflow, ReplayPolicy, RetryPolicy, Role, ServiceHealth,
    ServiceHere, SubscriptionId, SubscriptionLedger, SubscriptionState, takes_events,
};
use crate::event::{Event, Topic};
use crate::routing::Pattern;

use super::service_error::ServiceError;
use super::subscribe::{Part, Subscribe};
use super::subscribe_error::SubscribeError;
use super::{Bus, IntoInterest, Shared};

/// Attempts at finding an instance that an event gets, unless the service says how many.
const ATTEMPTS: u8 = 10;

impl Bus {
    /// Begins a service of this name, 1 to 255 bytes. End it with [`open`](ServiceBuilder::open).
    ///
    /// ```
    /// use ringmain::{Balance, Bus, Payload, RoutingRule};
    ///
    /// let bus = Bus::builder().build()?;
    /// let billing = bus.service("billing").balance(Balance::LeastConnections).open()?;
    /// let _a = billing.instance("a").handle_on("billing-a", |_, meta| println!("a: {}", meta.topic()))?;
    /// let _b = billing.instance("b").handle_on("billing-b", |_, meta| println!("b: {}", meta.topic()))?;
    ///
    /// bus.rules().add(RoutingRule::new("orders").types(["orders.*"]).to("billing"))?;
    /// bus.publish("orders.placed", Payload::json("{}"))?; // By the rule.
    /// bus.publisher()?.event().target("billing").publish("refund", Payload::raw(b""))?; // By its target.
    /// bus.flush()?;
    /// assert_eq!(billing.record().ledger.delivered, 2);
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn service(&self, name: impl Into<String>) -> ServiceBuilder {
        let retry = RetryPolicy::default().attempts_max(ATTEMPTS);
        let subscribe = self.subscribe("*").named(name).mode(DeliveryMode::reliable()).retry(retry);
        ServiceBuilder { subscribe, balance: Balance::default() }
    }

    /// The service of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get_service(&self, name: &str) -> Result<Service, ServiceError> {
        let found = self.shared().control().service(name).map(|here| Arc::clone(&here.service));
        let state = found.ok_or_else(|| ServiceError::NotFound { name: name.to_owned() })?;
        Ok(Service { shared: Arc::clone(self.shared()), state })
    }

    /// All services, in the order they were made.
    pub fn services(&self) -> Vec<ServiceRecord> {
        self.shared().control().services.iter().map(|here| record(here)).collect()
    }

    /// Says how an instance of a service is. When it returns, the service picks by it: one that is unhealthy gets nothing more,
    /// and what is in its mailbox stays there. On a worker thread it does not wait for that, and the next event of the worker
    /// finds it.
    ///
    /// # Errors
    /// When there is no such service or instance, or the worker does not answer in time.
    pub fn update_service_health(
        &self,
        service: &str,
        instance: &str,
        health: ServiceHealth,
    ) -> Result<(), ServiceError> {
        self.shared().set_health(service, instance, health)
    }
}

/// A service under way.
#[must_use = "there is no service until `open` is called"]
pub struct ServiceBuilder {
    subscribe: Subscribe<Pattern>,
    balance: Balance,
}

impl ServiceBuilder {
    /// How its events are spread over its instances. Default: round robin.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Events with the same key go to the same instance while it is healthy: [`Balance::Affinity`].
    pub fn affinity(self, key: Key) -> Self {
        self.balance(Balance::Affinity(key))
    }

    /// How often an event is offered that no instance can take, and how long it waits in between; then it is a dead letter with
    /// [`DeadReason::NoInstance`](crate::DeadReason::NoInstance). Default: ten attempts, with the delays of
    /// [`RetryPolicy`]: half a minute, more or less.
    ///
    /// It does not wait to the end where an instance takes it before: one that is new, resumed or well again, whose circuit breaker
    /// closes or half opens, or that has room; where the strategy draws by weight, goes by keys or is one's own, room is found at
    /// the next offer.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.subscribe = self.subscribe.retry(policy);
        self
    }

    /// Events that may wait for an instance, rounded up to a power of two. Default 1,024 (`mailbox_capacity`).
    pub fn capacity(mut self, events: usize) -> Self {
        self.subscribe = self.subscribe.capacity(events);
        self
    }

    /// What happens when so many wait and no instance has room: the lane waits, which is the default, or under
    /// [`Overflow::DropNewest`] the event is a dead letter.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.subscribe = self.subscribe.overflow(policy);
        self
    }

    /// Whether its instances are given replays, as [`Subscribe::replay`](crate::Subscribe::replay) says. Default: never.
    pub fn replay(mut self, policy: ReplayPolicy) -> Self {
        self.subscribe = self.subscribe.replay(policy);
        self
    }

    /// The worker it belongs to, with its instances. Default: the one with the fewest subscriptions.
    pub fn on_worker(mut self, worker: usize) -> Self {
        self.subscribe = self.subscribe.on_worker(worker);
        self
    }

    /// Makes the service. When it returns, events published from now on find it.
    ///
    /// # Errors
    /// [`ServiceError::Exists`] and others of [`ServiceError`], in [`SubscribeError::Service`]; see there.
    pub fn open(self) -> Result<Service, SubscribeError> {
        let shared = self.subscribe.shared();
        let state = self.subscribe.part(Part::Service(self.balance)).service()?;
        Ok(Service { shared, state })
    }
}

impl fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder").field("balance", &self.balance).finish_non_exhaustive()
    }
}

/// A service of a bus. Cheap to clone. Dropped, the service stays; [`end`](Self::end) ends it.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
    state: Arc<SubscriptionState>,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Begins an instance of this name, 1 to 255 bytes, which reads payloads as they are. It is a subscription like others, but
    /// gets what the service picks it for, and by [reliable](DeliveryMode::reliable) delivery unless told otherwise. It needs a
    /// mailbox.
    ///
    /// While its [circuit breaker](Subscribe::breaker) is open events go to others, and while that is half open one at a time may
    /// come to it; what is in its mailbox stays there, or goes on to others under
    /// [`WhileOpen::NextTarget`](crate::WhileOpen::NextTarget).
    ///
    /// An instance that ends gives what waits in its mailbox back to the service, also what waits to be tried again; what its
    /// consumer has in hand becomes a dead letter unless it is acknowledged.
    pub fn instance(&self, name: impl Into<String>) -> Subscribe<Pattern> {
        self.begin("*", name)
    }

    /// As [`instance`](Self::instance), for a service that gets events of one topic only: those of others it cannot read, and
    /// rejects.
    pub fn instance_of<E: Event>(&self, topic: Topic<E>, name: impl Into<String>) -> Subscribe<Topic<E>> {
        self.begin(topic, name)
    }

    fn begin<T: IntoInterest>(&self, what: T, name: impl Into<String>) -> Subscribe<T::Interest> {
        let name = name.into();
        let subscribe = Subscribe::new(&self.shared, what).named(format!("{}/{name}", self.state.name));
        let service = Arc::clone(&self.state);
        let part = Part::Instance { service, name, weight: 1, priority: 0 };
        subscribe.mode(DeliveryMode::reliable()).part(part)
    }

    /// The service as it stands.
    pub fn record(&self) -> ServiceRecord {
        let found = self.shared.control().service(self.name()).filter(|here| here.service.id == self.state.id).cloned();
        record(&found.unwrap_or_else(|| Arc::new(ServiceHere::new(Arc::clone(&self.state)))))
    }

    /// Ends the service and its instances. What waits for an instance, and in the mailboxes of those that nobody takes from any
    /// more, is given up as dead letters. Rules that name it stay, and send it nothing.
    ///
    /// # Errors
    /// When it has ended already, on a worker thread, or when a worker does not answer in time.
    pub fn end(self) -> Result<(), SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        let id = self.state.id;
        self.shared.remove(id, true)?.map(drop).ok_or(SubscribeError::NotFound(id))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A service as it stands. A copy: it does not change any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceRecord {
    /// Its name.
    pub name: String,
    /// Its own subscription, which holds what no instance can take.
    pub subscription: SubscriptionId,
    /// The worker it belongs to.
    pub worker: usize,
    /// How it spreads events, as text.
    pub balance: String,
    /// Events that wait for an instance.
    pub waiting: u64,
    /// The circuit breaker of the service as a whole, which is the sum of its instances': open while all of theirs are, half
    /// open while none is closed and one is half open. An instance without one counts as closed; `None` where none has one. Failures
    /// are those of all, and the times the latest failure and the first to half open.
    pub breaker: Option<BreakerRecord>,
    /// Its own counts and those of its instances, as far as they have not ended. An event that waited for an instance is matched
    /// twice, and passed on once.
    pub ledger: SubscriptionLedger,
    /// Its instances, in the order they were made.
    pub instances: Vec<InstanceRecord>,
}

/// An instance of a service as it stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InstanceRecord {
    /// Its name.
    pub name: String,
    /// Its subscription.
    pub subscription: SubscriptionId,
    /// How it says it is.
    pub health: ServiceHealth,
    /// Its circuit breaker, when it has one.
    pub breaker: Option<BreakerRecord>,
    /// Whether it takes events at all: it is neither paused nor suspended, and its circuit breaker lets an attempt be made.
    pub takes_events: bool,
    /// Its share of a weighted draw.
    pub weight: u32,
    /// Higher comes first where the strategy looks at it.
    pub priority: i32,
    /// All counts.
    pub ledger: SubscriptionLedger,
}

fn record(here: &ServiceHere) -> ServiceRecord {
    let own = here.service.ledger();
    let mut ledger = own;
    let instance = |one: &Arc<SubscriptionState>| {
        let Role::Instance(seat) = &one.role else { return None };
        let (name, health) = (seat.name.clone(), seat.health());
        let (weight, priority, books) = (seat.weight, seat.priority, one.ledger());
        ledger += books;
        let (subscription, breaker, takes_events) = (one.id, one.breaker_record(), takes_events(one));
        Some(InstanceRecord { name, subscription, health, breaker, takes_events, weight, priority, ledger: books })
    };
    let instances: Vec<_> = here.instances.iter().filter_map(instance).collect();
    ServiceRecord {
        name: here.name().to_owned(),
        subscription: here.service.id,
        worker: here.service.worker,
        balance: here.rota().map_or_else(String::new, |rota| rota.balance().to_owned()),
        waiting: own.open(),
        breaker: breaker_of(&instances),
        ledger,
        instances,
    }
}

/// The sum of the circuit breakers of a service's instances.
fn breaker_of(instances: &[InstanceRecord]) -> Option<BreakerRecord> {
    let breakers = || instances.iter().filter_map(|instance| instance.breaker);
    let is_any = |state: BreakerState| breakers().any(|breaker| breaker.state == state);
    let mut sum = breakers().next()?;
    sum.state = if is_any(BreakerState::Closed) || breakers().count() < instances.len() {
        BreakerState::Closed
    } else if is_any(BreakerState::HalfOpen) {
        BreakerState::HalfOpen
    } else {
        BreakerState::Open
    };
    sum.failures = breakers().fold(0, |failures, breaker| failures.saturating_add(breaker.failures));
    sum.last_failure = breakers().filter_map(|breaker| breaker.last_failure).max();
    sum.half_opens_at = breakers().filter_map(|breaker| breaker.half_opens_at).min();
    sum.half_opens_at = sum.half_opens_at.filter(|_| sum.state == BreakerState::Open);
    Some(sum)
}
