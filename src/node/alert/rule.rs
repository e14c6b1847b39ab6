//! When an alert is raised: conditions, and the facts that they are held against.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::super::health::Health;
use super::super::services::builtin::MetricsSample;
use super::super::services::{ServiceState, Services};
use crate::{BreakerRecord, BreakerState, Bus, Priority};

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look at it.
    Warning,
    /// Somebody has to act.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// A service, or the bus, is not healthy. The subject is its name, `bus` for the bus.
    Unwell {
        /// Only what is unhealthy, and not what is degraded.
        only_unhealthy: bool,
    },
    /// The circuit breaker of a subscription is open. The subject is its name.
    BreakerOpen,
    /// More dead letters came. The subject is `dead letters`.
    DeadLetters {
        /// More than so many.
        over: u64,
        /// In this time.
        within: Duration,
    },
    /// 95 % of deliveries were not this fast, between two looks. The subject is the priority.
    Slow {
        /// Slower than this.
        objective: Duration,
    },
    /// A lane is full to this share. The subject is the priority.
    Deep {
        /// From 0 to 1.
        share: f64,
    },
}

/// When an alert is raised, and when it is over.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRule {
    /// Its name, unique among the rules.
    pub id: String,
    /// What is wrong.
    pub condition: Condition,
    /// How long it has to be wrong without a break. Zero: at once.
    pub lasts: Duration,
    /// How long it has to be right without a break before it is over. Zero: at once.
    pub resolves_after: Duration,
    /// How urgent it is.
    pub severity: Severity,
}

impl AlertRule {
    /// A rule of this name: a warning after 10 s, over after 30 s.
    pub fn new(id: impl Into<String>, condition: Condition) -> Self {
        let (lasts, resolves_after) = (Duration::from_secs(10), Duration::from_secs(30));
        Self { id: id.into(), condition, lasts, resolves_after, severity: Severity::Warning }
    }

    /// The rules of a node that is told nothing else: services that are degraded, and critical those that are unhealthy; open breakers; ten
    /// dead letters in five minutes; p95 over 1 ms for a minute; lanes at 80 %.
    pub fn defaults() -> Vec<Self> {
        let ten_letters = Condition::DeadLetters { over: 9, within: Duration::from_secs(300) };
        let millisecond = Condition::Slow { objective: Duration::from_millis(1) };
        vec![
            Self::new("degraded", Condition::Unwell { only_unhealthy: false }),
            Self {
                severity: Severity::Critical,
                lasts: Duration::ZERO,
                ..Self::new("unhealthy", Condition::Unwell { only_unhealthy: true })
            },
            Self { lasts: Duration::ZERO, ..Self::new("breaker-open", Condition::BreakerOpen) },
            Self { lasts: Duration::ZERO, ..Self::new("dead-letters", ten_letters) },
            Self { lasts: Duration::from_secs(60), ..Self::new("slow", millisecond) },
            Self { severity: Severity::Critical, ..Self::new("deep", Condition::Deep { share: 0.8 }) },
        ]
    }
}

/// What is known at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Services that are wanted, and the bus under `bus`.
    pub health: Vec<(String, Health)>,
    /// Subscriptions whose breaker is open.
    pub open_breakers: Vec<String>,
    /// Dead letters, ever.
    pub dead_letters: u64,
    /// p95 of deliveries since the last look, where there were any.
    pub p95: Vec<(Priority, Duration)>,
    /// How full lanes are, from 0.
    pub fill: Vec<(Priority, f64)>,
}

impl Facts {
    /// Of a bus, in the stretch of time that the sample is of, and of services.
    pub fn of(bus: &Bus, sample: &MetricsSample, services: Option<&Services>) -> Self {
        let of_bus = match sample.health {
            crate::Health::Healthy => Health::Healthy,
            crate::Health::Degraded => {
                Health::Degraded("a lane is deep, deliveries are slow, memory is short, or a part does less".to_owned())
            }
            crate::Health::Failed => Health::Unhealthy("a worker stands still, and nothing is accepted".to_owned()),
        };
        let services = services.map(Services::list).unwrap_or_default();
        // What it was before it was stopped it is no longer.
        let services = services.iter().filter(|service| {
            !matches!(service.state, ServiceState::Registered | ServiceState::Stopping | ServiceState::Stopped)
        });
        let services = services.map(|service| (service.name.clone(), service.health.clone()));
        let is_open = |breaker: BreakerRecord| breaker.state == BreakerState::Open;
        let records = bus.subscriptions().into_iter().filter(|record| record.breaker.is_some_and(is_open));
        let delivered = sample.lanes.iter().filter(|lane| lane.latency.count > 0);
        Self {
            health: services.chain([("bus".to_owned(), of_bus)]).collect(),
            open_breakers: records.map(|record| record.name).collect(),
            dead_letters: sample.dead_letters_total,
            p95: delivered.map(|lane| (lane.priority, Duration::from_nanos(lane.latency.p95_ns))).collect(),
            fill: sample.lanes.iter().map(|lane| (lane.priority, lane.fill)).collect(),
        }
    }

    /// Of what a condition holds, and how it is; `new_letters` are those that came in the time of the condition.
    pub(super) fn breaching(&self, condition: &Condition, new_letters: u64) -> BTreeMap<String, String> {
        match condition {
            Condition::Unwell { only_unhealthy } => {
                let is_unwell = |health: &Health| match health {
                    Health::Healthy => false,
                    Health::Degraded(_) => !only_unhealthy,
                    Health::Unhealthy(_) => true,
                };
                let unwell = self.health.iter().filter(|(_, health)| is_unwell(health));
                unwell.map(|(name, health)| (name.clone(), health.to_string())).collect()
            }
            Condition::BreakerOpen => {
                self.open_breakers.iter().map(|name| (name.clone(), "its circuit breaker is open".to_owned())).collect()
            }
            Condition::DeadLetters { over, within } => {
                let said = || ("dead letters".to_owned(), format!("{new_letters} in {within:?}"));
                (new_letters > *over).then(said).into_iter().collect()
            }
            Condition::Slow { objective } => {
                let slow = self.p95.iter().filter(|(_, p95)| p95 > objective);
                slow.map(|(lane, p95)| (lane.to_string(), format!("p95 is {p95:?}, the objective {objective:?}")))
                    .collect()
            }
            Condition::Deep { share } => {
                let deep = self.fill.iter().filter(|(_, fill)| fill >= share);
                deep.map(|(lane, fill)| (lane.to_string(), format!("{:.0} % full", fill * 100.0))).collect()
            }
        }
    }
}
