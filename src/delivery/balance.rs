//! Balance: which instance of a service gets an event.
//!
//! | strategy | who comes first | then |
//! |---|---|---|
//! | round robin | | in turn |
//! | least connections | fewest events taken and not settled | in turn |
//! | weighted random | drawn, as often as the weight says | |
//! | health based | healthy before degraded | in turn |
//! | priority based | healthy before degraded, then the higher priority | in turn |
//! | affinity | the one that the event's key belongs to | |
//!
//! An unhealthy instance gets nothing under any strategy, nor does one without room. A pick looks at each instance once or
//! twice, and allocates nothing. The worker that owns the service is the only one to pick, so nothing here is shared.

mod affinity;

use std::cmp::Reverse;
use std::fmt;

use crate::chance;
use crate::event::{Meta, Priority};
use crate::sync::contain::{Kept, contained};
use crate::sync::mutant::mutant;

use super::Key;

/// How an instance of a service says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServiceHealth {
    /// As it should be.
    #[default]
    Healthy,
    /// It works, but not well: it comes after healthy ones where the strategy looks at health.
    Degraded,
    /// It gets nothing.
    Unhealthy,
}

/// What a balancer sees of an instance when it picks.
///
/// ```
/// use ringmain::{ServiceHealth, InstanceView};
/// let mut instance = InstanceView::new(1);
/// assert!(instance.is_available());
/// instance.health = ServiceHealth::Unhealthy;
/// assert!(!instance.is_available());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceView {
    /// Names the instance for as long as it is part of the service. Keys belong to ids, wherever in the list they stand.
    pub id: u64,
    /// How it says it is.
    pub health: ServiceHealth,
    /// Its share of a weighted draw; 0 gets nothing there.
    pub weight: u32,
    /// Higher comes first where the strategy looks at it.
    pub priority: i32,
    /// Events its consumer has taken and not settled.
    pub in_flight: u32,
    /// Events that wait in its mailbox.
    pub queued: u32,
    /// Whether its mailbox takes another event.
    pub has_room: bool,
}

impl InstanceView {
    /// An idle, healthy instance of weight 1 and priority 0.
    pub const fn new(id: u64) -> Self {
        Self { id, health: ServiceHealth::Healthy, weight: 1, priority: 0, in_flight: 0, queued: 0, has_room: true }
    }

    /// Whether it may be picked: it is not unhealthy, and has room.
    pub const fn is_available(&self) -> bool {
        self.has_room && !matches!(self.health, ServiceHealth::Unhealthy)
    }

    fn is_healthy(&self) -> bool {
        self.health == ServiceHealth::Healthy
    }
}

/// Picks the instance of a service that gets an event. For strategies of one's own; see [`Balance::custom`].
///
/// ```
/// use ringmain::{Balance, Balancer, InstanceView, Meta, Picker};
///
/// /// Every hundredth event goes to the newest instance, the others where they are least in the way.
/// struct Canary { count: u64, others: Picker }
///
/// impl Balancer for Canary {
///     fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
///         self.count += 1;
///         let (newest, others) = instances.split_last()?;
///         if self.count % 100 == 0 && newest.is_available() {
///             return Some(others.len());
///         }
///         self.others.pick(event, others)
///     }
/// }
///
/// let strategy = Balance::custom(Canary { count: 0, others: Balance::LeastConnections.picker(1) });
/// # let _ = strategy;
/// ```
pub trait Balancer: Send {
    /// The index in `instances` of the one that gets the event; None when it should go to none of them now. One that is not
    /// [available](InstanceView::is_available) counts as None, and so does a panic.
    ///
    /// Called on a worker, for each event of the service: keep it short, and do not block.
    fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize>;
}

impl<B: Balancer> Balancer for Kept<B> {
    fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        (**self).pick(event, instances)
    }
}

/// How a service spreads events over its instances. Default: round robin.
#[derive(Default)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest events in its mailbox and in its consumer's hands; among equals one after the other.
    LeastConnections,
    /// Drawn at random, each as often as its weight says.
    WeightedRandom,
    /// Healthy ones one after the other; degraded ones when no healthy one has room.
    HealthBased,
    /// The highest priority that has room, healthy before degraded; among equals one after the other.
    PriorityBased {
        /// Events less urgent than this leave the instances of the highest priority to those that are not, as long as a
        /// healthy one below has room. None: all events are alike.
        top_for: Option<Priority>,
    },
    /// Events with the same key go to the same instance while it is not unhealthy. When it falls ill its keys, and no
    /// others, move to the rest, and back when it is well; when it is full they wait for it. Events without the key go one
    /// after the other.
    Affinity(Key),
    /// A strategy of one's own.
    Custom(Box<dyn Balancer>),
}

impl Balance {
    /// Instances a service may have.
    pub const INSTANCES_MAX: usize = 64;

    /// A strategy of one's own.
    pub fn custom(balancer: impl Balancer + 'static) -> Self {
        Self::Custom(Box::new(Kept::new(balancer)))
    }

    /// The strategy at work. What it draws at random it draws from `seed`.
    pub fn picker(self, seed: u64) -> Picker {
        Picker { strategy: self, next: 0, random: seed }
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("RoundRobin"),
            Self::LeastConnections => f.write_str("LeastConnections"),
            Self::WeightedRandom => f.write_str("WeightedRandom"),
            Self::HealthBased => f.write_str("HealthBased"),
            Self::PriorityBased { top_for } => f.debug_struct("PriorityBased").field("top_for", top_for).finish(),
            Self::Affinity(key) => f.debug_tuple("Affinity").field(key).finish(),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// A [`Balance`] at work: it knows whose turn it is.
#[derive(Debug)]
pub struct Picker {
    strategy: Balance,
    /// Where the search begins: behind the one picked last.
    next: usize,
    random: u64,
}

impl Balancer for Picker {
    /// Of more than [`Balance::INSTANCES_MAX`] instances only the first are looked at.
    fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        let instances = &instances[..instances.len().min(Balance::INSTANCES_MAX)];
        match &mut self.strategy {
            Balance::RoundRobin => self.best(instances, |_| ()),
            Balance::LeastConnections => {
                self.best(instances, |one| Reverse(u64::from(one.in_flight) + u64::from(one.queued)))
            }
            Balance::WeightedRandom => self.draw(instances),
            Balance::HealthBased => self.best(instances, InstanceView::is_healthy),
            Balance::PriorityBased { top_for } => {
                let spares_top = top_for.is_some_and(|least| event.priority() < least);
                let alive = instances.iter().filter(|one| one.health != ServiceHealth::Unhealthy);
                let top = alive.map(|one| one.priority).max();
                self.best(instances, |one| {
                    let is_spared = spares_top && Some(one.priority) == top;
                    (one.is_healthy(), !is_spared, one.priority)
                })
            }
            Balance::Affinity(key) => match contained(|| key.of(event)).flatten() {
                Some(hash) => affinity::owner(hash, instances).filter(|&owner| instances[owner].has_room),
                None => self.best(instances, |_| ()),
            },
            Balance::Custom(balancer) => {
                let picked = contained(|| balancer.pick(event, instances)).flatten();
                picked.filter(|&picked| instances.get(picked).is_some_and(InstanceView::is_available))
            }
        }
    }
}

impl Picker {
    /// Whether it picks one whenever one is available.
    pub(super) fn takes_any(&self) -> bool {
        match self.strategy {
            Balance::RoundRobin | Balance::LeastConnections | Balance::HealthBased | Balance::PriorityBased { .. } => {
                true
            }
            Balance::WeightedRandom | Balance::Affinity(_) | Balance::Custom(_) => false,
        }
    }

    /// Whether it looks at how much instances have to do.
    pub(super) fn reads_load(&self) -> bool {
        matches!(self.strategy, Balance::LeastConnections | Balance::Custom(_))
    }

    /// The available instance of the highest rank; among equals the first behind the one picked last.
    fn best<K: Ord>(&mut self, instances: &[InstanceView], rank: impl Fn(&InstanceView) -> K) -> Option<usize> {
        // The list may have become shorter since.
        let begin = if self.next < instances.len() { self.next } else { 0 };
        let mut best: Option<(K, usize)> = None;
        for at in (begin..instances.len()).chain(0..begin) {
            if !instances[at].is_available() {
                continue;
            }
            let rank = rank(&instances[at]);
            if best.as_ref().is_none_or(|(highest, _)| rank > *highest) {
                best = Some((rank, at));
            }
        }
        let (_, at) = best?;
        self.next = mutant!("balance.turn", at + 1 => at);
        Some(at)
    }

    /// An available instance, drawn by weight.
    fn draw(&mut self, instances: &[InstanceView]) -> Option<usize> {
        let weight = |one: &InstanceView| if one.is_available() { u64::from(one.weight) } else { 0 };
        let total: u64 = instances.iter().map(weight).sum();
        let mut drawn = chance::choice(chance::next(&mut self.random), u128::from(total));
        instances.iter().position(|one| {
            let weight = weight(one);
            let is_it = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            is_it
        })
    }
}

#[cfg(test)]
mod tests;
