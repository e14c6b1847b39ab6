//! A service: a name that events go to, and the instances among which its worker spreads them.
//!
//! ```text
//!                              ┌──► instance a: a mailbox
//!   worker ──pick──────────────┼──► instance b
//!      │ nobody can take it    └──► instance c
//!      ▼                            ▲
//!   the service's own mailbox ──────┘ tried again in its time, then a dead letter
//! ```
//!
//! The service and each of its instances are subscriptions that no pattern leads to.

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::event::Meta;
use crate::sync::mutant::mutant;
use crate::sync::owned::{OwnedCell, Owner, OwnerId};
use crate::sync::primitive::{AtomicBool, AtomicU8, Ordering};

use super::{
    Balance, Balancer, InstanceView, Outcome, Picker, ServiceHealth, Sink, State, SubscriptionId, SubscriptionState,
};

/// Services a bus may have: routes name them by their places among those of a worker.
pub(crate) const SERVICES_MAX: usize = 64;

/// Who sends a subscription events.
pub(crate) enum Role {
    /// Its pattern and filters say which it gets.
    Subscriber,
    /// It holds what none of its instances can take.
    Service(Rota),
    /// Its service picks it.
    Instance(Seat),
}

/// What makes a subscription a service.
pub(crate) struct Rota {
    spread: OwnedCell<Spread>,
    balance: String,
    /// Events stay in the mailbox of an instance whose circuit breaker is open, though they may go on. The worker's.
    is_stranded: AtomicBool,
    /// What comes of an event that no instance can take; made once, so that refusing allocates nothing.
    pub(crate) no_instance: Outcome,
}

struct Spread {
    picker: Picker,
    search: Search,
}

/// How far the worker has looked for instances for the events that wait at the service. Instances are bits, in their order.
///
/// A strategy may leave events waiting though instances have room, and must not be asked about all of them in each turn: a
/// round asks about each of them once, and the next begins when another instance has become available.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Search {
    /// The cell where the round goes on.
    pub(crate) cell: usize,
    /// Who was available when the round began.
    asked: u64,
    /// It has brought an event to an instance, which may have room for others that were asked about before.
    has_found: bool,
    /// Who has been available ever since the last round, and got nothing in it.
    refused: u64,
}

impl Search {
    /// Begins a round, or goes on with the one that was begun.
    pub(crate) fn resume(&mut self, available: u64) {
        if self.cell == 0 {
            *self = Self { asked: available, ..Self::default() };
        }
    }

    /// The event in this cell went to an instance, or to none.
    pub(crate) fn has_asked(&mut self, cell: usize, is_found: bool) {
        self.cell = cell + 1;
        self.has_found |= is_found;
    }

    /// There may be something for those who were refused: another round follows this one.
    pub(crate) fn ask_again(&mut self) {
        (self.has_found, self.refused) = (true, 0);
    }

    /// The round is over: each event was asked about.
    pub(crate) fn end(&mut self) {
        *self = Self { refused: if self.has_found { 0 } else { self.asked }, ..Self::default() };
    }
}

impl Rota {
    pub(crate) fn new(worker: OwnerId, picker: Picker, balance: String) -> Self {
        let no_instance = Outcome::Failed("no healthy instance has room".to_owned());
        let spread = OwnedCell::new(worker, Spread { picker, search: Search::default() });
        Self { spread, balance, is_stranded: AtomicBool::new(false), no_instance }
    }

    /// Whether events that may go on from an instance found nobody who takes them when the worker looked.
    pub(crate) fn is_stranded(&self) -> bool {
        // Relaxed: the worker's own.
        self.is_stranded.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stranded(&self, is_stranded: bool) {
        // Relaxed: the worker's own.
        self.is_stranded.store(is_stranded, Ordering::Relaxed);
    }

    /// The strategy, for people.
    pub(crate) fn balance(&self) -> &str {
        &self.balance
    }
}

/// What makes a subscription an instance.
pub(crate) struct Seat {
    pub(crate) service: SubscriptionId,
    pub(crate) name: String,
    /// Names it for affinity: a hash of its name, so that an instance that comes back has its keys again.
    pub(crate) number: u64,
    pub(crate) weight: u32,
    pub(crate) priority: i32,
    health: AtomicU8,
}

impl Seat {
    pub(crate) fn new(service: SubscriptionId, name: String, number: u64, weight: u32, priority: i32) -> Self {
        Self { service, name, number, weight, priority, health: AtomicU8::new(ServiceHealth::Healthy as u8) }
    }

    pub(crate) fn health(&self) -> ServiceHealth {
        // Relaxed: whoever sets it waits for the worker to take a table over, which orders it.
        match self.health.load(Ordering::Relaxed) {
            0 => ServiceHealth::Healthy,
            1 => ServiceHealth::Degraded,
            _ => ServiceHealth::Unhealthy,
        }
    }

    pub(crate) fn set_health(&self, health: ServiceHealth) {
        // Relaxed: see `health`.
        self.health.store(health as u8, Ordering::Relaxed);
    }
}

/// A service as its worker knows it. Part of a routing table: it does not change.
#[derive(Clone)]
pub(crate) struct ServiceHere {
    pub(crate) service: Arc<SubscriptionState>,
    pub(crate) instances: Vec<Arc<SubscriptionState>>,
    /// Instances that ended with events in their mailboxes.
    pub(crate) leaving: Vec<Arc<SubscriptionState>>,
}

impl ServiceHere {
    pub(crate) fn new(service: Arc<SubscriptionState>) -> Self {
        Self { service, instances: Vec::new(), leaving: Vec::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.service.name
    }

    /// The service's own part.
    pub(crate) fn rota(&self) -> Option<&Rota> {
        match &self.service.role {
            Role::Service(rota) => Some(rota),
            Role::Subscriber | Role::Instance(_) => None,
        }
    }

    /// Worker: the instance that gets the event; `None` when none can take it now.
    ///
    /// # Cost
    /// A look at each instance, at most 64; no lock, no allocation.
    pub(crate) fn pick(&self, meta: &Meta<'_>, owner: &mut Owner) -> Option<&Arc<SubscriptionState>> {
        let spread = &self.rota()?.spread;
        let reads_load = spread.get_mut(owner)?.picker.reads_load();
        let views = self.instances.iter().take(Balance::INSTANCES_MAX).map(|instance| view(instance, reads_load));
        let views: ArrayVec<InstanceView, { Balance::INSTANCES_MAX }> = views.collect();
        let picked = spread.get_mut(owner)?.picker.pick(meta, &views)?;
        self.instances.get(picked)
    }

    /// Worker: whether an instance takes whatever comes, as far as that can be known without picking one.
    pub(crate) fn has_instance(&self, owner: &mut Owner) -> bool {
        !self.service.is_paused() && self.takes_any(owner) && self.is_available()
    }

    /// Worker: whether its strategy finds room wherever there is any.
    pub(crate) fn takes_any(&self, owner: &mut Owner) -> bool {
        self.rota().and_then(|rota| rota.spread.get_mut(owner)).is_some_and(|spread| spread.picker.takes_any())
    }

    /// Whether one of its instances could take an event.
    pub(crate) fn is_available(&self) -> bool {
        self.available() != 0
    }

    /// Which of its instances could take an event, a bit each.
    pub(crate) fn available(&self) -> u64 {
        let instances = self.instances.iter().take(Balance::INSTANCES_MAX).enumerate();
        instances.fold(0, |bits, (nth, instance)| bits | u64::from(view(instance, false).is_available()) << nth)
    }

    /// Worker: how far it has looked for instances for what waits.
    pub(crate) fn search<'a>(&'a self, owner: &'a mut Owner) -> Option<&'a mut Search> {
        self.rota()?.spread.get_mut(owner).map(|spread| &mut spread.search)
    }

    /// Worker: whether an instance may take what waits, that has not just been refused it by the strategy.
    pub(crate) fn is_called(&self, owner: &mut Owner) -> bool {
        let available = if self.service.is_paused() { 0 } else { self.available() };
        self.search(owner).is_some_and(|search| {
            search.refused &= available;
            available != search.refused
        })
    }
}

/// What the picker sees of an instance.
fn view(instance: &SubscriptionState, reads_load: bool) -> InstanceView {
    let (Role::Instance(seat), Sink::Mailbox(mailbox, _)) = (&instance.role, &instance.sink) else {
        return InstanceView { has_room: false, ..InstanceView::new(0) };
    };
    let (queued, in_flight) = if reads_load { mailbox.load() } else { (0, 0) };
    InstanceView {
        health: if takes_events(instance) {
            mutant!("service.health", seat.health() => ServiceHealth::Healthy)
        } else {
            ServiceHealth::Unhealthy
        },
        weight: seat.weight,
        priority: seat.priority,
        in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        queued: u32::try_from(queued).unwrap_or(u32::MAX),
        // Each event has a cell of its own: an instance is never latest-only.
        has_room: mailbox.custody().cells().has_room(),
        ..InstanceView::new(seat.number)
    }
}

/// Whether an instance takes events at all, whatever its health: it is neither paused, suspended nor at its end, and its
/// circuit breaker lets an attempt be made.
pub(crate) fn takes_events(instance: &SubscriptionState) -> bool {
    let Sink::Mailbox(mailbox, _) = &instance.sink else { return false };
    instance.state() == State::Active && !mailbox.is_paused() && !mailbox.custody().is_closed() && mailbox.admits()
}

/// Whether an instance, though it takes no events now, is one that its service may leave an event with: it has not ended,
/// and nobody calls it unhealthy.
pub(crate) fn may_hold(instance: &SubscriptionState) -> bool {
    let (Role::Instance(seat), Sink::Mailbox(mailbox, _)) = (&instance.role, &instance.sink) else { return false };
    seat.health() != ServiceHealth::Unhealthy && !mailbox.custody().is_closed()
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscriber => f.write_str("Subscriber"),
            Self::Service(rota) => write!(f, "Service({})", rota.balance),
            Self::Instance(seat) => write!(f, "Instance({})", seat.name),
        }
    }
}
