//! What a worker does when there is nothing to do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::sync::primitive::{spin_loop, thread};

/// Spins between two looks of a worker that rests.
const REST_SPINS: u32 = 4;

/// How a worker waits for work: the less it gives the processor away, the sooner it sees the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IdleStrategy {
    /// Looks again at once, for ever. Lowest latency; takes a whole core.
    BusySpin,
    /// Lets other threads run between looks. Takes a whole core when nobody else wants it.
    Yield,
    /// Spins, then yields, then sleeps in growing steps up to 1 ms. Publishers never pay for a wake-up.
    Backoff,
    /// Sleeps at once until a publisher wakes it, which costs that publisher some microseconds.
    Park,
    /// Spins briefly, yields briefly, then parks: the default. Where that does not pay, because events come further apart,
    /// it parks ever sooner; the first short sleep brings the spinning back.
    #[default]
    Adaptive,
}

impl IdleStrategy {
    /// All strategies.
    pub const ALL: [IdleStrategy; 5] = [Self::BusySpin, Self::Yield, Self::Backoff, Self::Park, Self::Adaptive];

    /// Its name on the command line, such as `busy-spin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BusySpin => "busy-spin",
            Self::Yield => "yield",
            Self::Backoff => "backoff",
            Self::Park => "park",
            Self::Adaptive => "adaptive",
        }
    }
}

impl IdleStrategy {
    /// What a worker that rests from a dense flow does between two looks; `None`: it does not rest, but sleeps at once.
    pub(super) fn pause(self) -> Option<fn()> {
        match self {
            Self::BusySpin | Self::Backoff | Self::Adaptive => Some(|| (0..REST_SPINS).for_each(|_| spin_loop())),
            Self::Yield => Some(thread::yield_now),
            Self::Park => None,
        }
    }
}

impl fmt::Display for IdleStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no idle strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIdleStrategyError(String);

impl fmt::Display for ParseIdleStrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no idle strategy; use busy-spin, yield, backoff, park or adaptive", self.0)
    }
}

impl std::error::Error for ParseIdleStrategyError {}

impl FromStr for IdleStrategy {
    type Err = ParseIdleStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.as_str() == text)
            .ok_or_else(|| ParseIdleStrategyError(text.chars().take(40).collect()))
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Look again.
    Again,
    /// Sleep this long without being woken, then look again.
    Nap(Duration),
    /// Sleep until woken.
    Park,
}

const SPINS: u32 = 200;
const YIELDS: u32 = 20;
/// Looks of the adaptive strategy before it parks, when they have not paid for long.
const LOOKS_MIN: u32 = 4;
/// A sleep shorter than this cost more than looking on would have.
const SHORT_SLEEP: Duration = Duration::from_micros(20);
const NAP_MAX_MICROS: u64 = 1_000;

/// Counts idle looks in a row.
#[derive(Debug)]
pub(super) struct Idle {
    strategy: IdleStrategy,
    looks: u32,
    /// Looks before the adaptive strategy parks.
    patience: u32,
}

impl Idle {
    pub(super) fn new(strategy: IdleStrategy) -> Self {
        Self { strategy, looks: 0, patience: SPINS + YIELDS }
    }

    #[inline]
    pub(super) fn worked(&mut self) {
        self.looks = 0;
    }

    /// Idle looks in a row.
    pub(super) fn looks(&self) -> u32 {
        self.looks
    }

    /// The worker has slept: whether it was worth it shows how long to look before the next sleep.
    pub(super) fn slept(&mut self, time: Duration) {
        self.patience = if time < SHORT_SLEEP { SPINS + YIELDS } else { (self.patience / 2).max(LOOKS_MIN) };
    }

    /// It is known that nothing is to be done for a while: who may sleep does so at once.
    pub(super) fn hold(&mut self) -> Rest {
        match self.strategy {
            IdleStrategy::Park | IdleStrategy::Adaptive => Rest::Park,
            IdleStrategy::BusySpin | IdleStrategy::Yield | IdleStrategy::Backoff => self.rest(),
        }
    }

    /// One more look found nothing.
    pub(super) fn rest(&mut self) -> Rest {
        self.looks = self.looks.wrapping_add(1);
        match self.strategy {
            IdleStrategy::BusySpin => spin_loop(),
            IdleStrategy::Yield => thread::yield_now(),
            IdleStrategy::Park => return Rest::Park,
            IdleStrategy::Adaptive if self.looks > self.patience => return Rest::Park,
            IdleStrategy::Backoff | IdleStrategy::Adaptive if self.looks <= SPINS => spin_loop(),
            IdleStrategy::Backoff | IdleStrategy::Adaptive if self.looks <= SPINS + YIELDS => thread::yield_now(),
            IdleStrategy::Adaptive => return Rest::Park,
            IdleStrategy::Backoff => {
                let step = (self.looks - SPINS - YIELDS).min(10);
                return Rest::Nap(Duration::from_micros((1 << step).min(NAP_MAX_MICROS)));
            }
        }
        Rest::Again
    }
}
