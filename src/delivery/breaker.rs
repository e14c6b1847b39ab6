//! When a reliable subscription is left alone for a while, because what it tries fails again and again.

use std::time::{Duration, SystemTime};

use crate::clock::Clock;
use crate::sync::breaker::{Breaker, BreakerLimits, BreakerLook, BreakerState, PROBES_MAX};

/// A circuit breaker as it stands. A copy: it does not change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerRecord {
    /// Whether attempts are made.
    pub state: BreakerState,
    /// Attempts that have failed since the last one that went well.
    pub failures: u32,
    /// When the last attempt failed, whatever went well since.
    pub last_failure: Option<SystemTime>,
    /// When it half opens, while it is open.
    pub half_opens_at: Option<SystemTime>,
}

impl BreakerRecord {
    pub(crate) fn new(look: BreakerLook, clock: &Clock) -> Self {
        let BreakerLook { state, failures, failed_at, half_opens_at } = look;
        let time = |instant: Option<u64>| instant.map(|instant| clock.system_time(instant));
        Self { state, failures, last_failure: time(failed_at), half_opens_at: time(half_opens_at) }
    }
}

/// What becomes of events that come while a circuit breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhileOpen {
    /// They are held in the mailbox, as by a paused subscription, until it half opens. The default.
    #[default]
    Hold,
    /// They are dead letters ([`DeadReason::BreakerOpen`](crate::DeadReason::BreakerOpen)) without an attempt. Those do not
    /// count for [`suspend_after`](crate::Subscribe::suspend_after).
    DeadLetter,
    /// For instances of a service: what waits in the mailbox goes on to other instances that can take it, also what waits to be
    /// tried again, and takes its failed attempts with it. What nobody takes stays until the breaker half opens.
    NextTarget,
}

/// When a circuit breaker opens, what becomes of events meanwhile, and how it closes again.
///
/// It opens at so many failures in a row, or when a share of the attempts within a window has failed. While it is open no attempt
/// is made. Then a few are, as probes: if they go well it closes, and at the first failure it opens again. Failed attempts are
/// failures, and attempts that took longer than the mode's timeout, whatever they came to; a rejected event is not: its
/// consumer works. Instants are kept to 66 µs.
///
/// ```
/// use ringmain::{Bus, BreakerPolicy, DeliveryMode};
/// use std::time::Duration;
///
/// let bus = Bus::builder().build()?;
/// let breaker = BreakerPolicy::default().failures_max(3).open_for(Duration::from_secs(10));
/// let _made = bus.subscribe("orders.*").mode(DeliveryMode::reliable()).breaker(breaker).handle(|_, _| ())?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    failures_max: u32,
    percent_max: u8,
    events_min: u32,
    window: Duration,
    open_for: Duration,
    probes: u8,
    pub(super) while_open: WhileOpen,
}

impl Default for BreakerPolicy {
    /// Opens at 5 failures in a row, or when 50 % of at least 20 attempts within 10 s failed; after 30 s one probe decides. Events
    /// are held meanwhile.
    fn default() -> Self {
        Self {
            failures_max: 5,
            percent_max: 50,
            events_min: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(30),
            probes: 1,
            while_open: WhileOpen::Hold,
        }
    }
}

impl BreakerPolicy {
    /// Failures in a row that open it, 1 to 1,000,000. Default 5.
    pub fn failures_max(mut self, failures: u32) -> Self {
        self.failures_max = failures;
        self
    }

    /// The percentage of failures that opens it, 1 to 100, once there were `events_min` attempts, 1 to 1,000,000, within
    /// `window`, 10 ms to an hour. Defaults 50, 20, 10 s. The window moves in tenths of itself.
    pub fn share_max(mut self, percent: u8, events_min: u32, window: Duration) -> Self {
        (self.percent_max, self.events_min, self.window) = (percent, events_min, window);
        self
    }

    /// How long it stays open, 1 ms to a day. Default 30 s.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Attempts let through when that is over, 1 to 100, which must all go well. Default 1.
    pub fn probes(mut self, probes: u8) -> Self {
        self.probes = probes;
        self
    }

    /// What becomes of events while it is open. Default: they are held.
    pub fn while_open(mut self, events: WhileOpen) -> Self {
        self.while_open = events;
        self
    }

    /// Failures in a row that open it.
    pub fn failures(&self) -> u32 {
        self.failures_max
    }

    /// The percentage of failures that opens it, of how many attempts at least, within which time.
    pub fn share(&self) -> (u8, u32, Duration) {
        (self.percent_max, self.events_min, self.window)
    }

    /// How long it stays open.
    pub fn open_time(&self) -> Duration {
        self.open_for
    }

    /// Attempts let through when that is over.
    pub fn probe_count(&self) -> u8 {
        self.probes
    }

    /// What becomes of events while it is open.
    pub fn meanwhile(&self) -> WhileOpen {
        self.while_open
    }

    /// Each setting: its name, value and limits.
    pub(crate) fn settings(&self) -> [(&'static str, u64, u64, u64); 6] {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        [
            ("failures_max of the breaker", u64::from(self.failures_max), 1, 1_000_000),
            ("percent of the breaker", u64::from(self.percent_max), 1, 100),
            ("events_min of the breaker", u64::from(self.events_min), 1, 1_000_000),
            ("window of the breaker in ms", ms(self.window), 10, 3_600_000),
            ("open_for of the breaker in ms", ms(self.open_for), 1, 24 * 3_600_000),
            ("probes of the breaker", u64::from(self.probes), 1, u64::from(PROBES_MAX)),
        ]
    }

    /// Whether events are to go on to the next target while it is open.
    pub(crate) fn goes_on(&self) -> bool {
        self.while_open == WhileOpen::NextTarget
    }

    pub(super) fn breaker(&self) -> Breaker {
        Breaker::new(BreakerLimits {
            failures_max: self.failures_max,
            per_mille_max: u32::from(self.percent_max) * 10,
            events_min: self.events_min,
            window_ns: self.window.as_nanos() as u64,
            open_ns: self.open_for.as_nanos() as u64,
            probes: self.probes,
        })
    }
}
