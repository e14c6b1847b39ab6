//! Rate limits on publishing: how fast events of a type, or from a source, may come.
//!
//! A bus has a list of them, which may be replaced while it runs. Publishers keep a reference to the list, and a flag in their
//! own place tells them of a newer one; which limits are on a topic and source they look up once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::delivery::{Rate, RateError};
use crate::event::{Directory, EventSource};
use crate::routing::PatternError;
use crate::worker::Engine;

use super::Bus;

mod rules;

use rules::Rule;
pub(super) use rules::{Ids, Rules, Spent, Which};

/// Limits a bus may have: a bit each.
const LIMITS_MAX: usize = 64;
/// How fast events of a type or from a source may be published. Every event of them counts, whoever publishes it and
/// whether anybody subscribed to it or not; one that is refused for another reason does not.
///
/// Over the limit a publish is refused ([`reject`](Self::reject), the default) or waits ([`queue`](Self::queue)).
///
/// ```
/// use ringmain::{Bus, Payload, PublishError, Rate, RateLimit};
/// let bus = Bus::builder()
///     .rate_limit(RateLimit::of_type("orders.**", Rate::per_second(1_000.0).burst(2)))
///     .rate_limit(RateLimit::of_each_source(Rate::per_second(10_000.0).burst(100)).queue())
///     .build()?;
/// bus.publish("orders.placed", Payload::plain_text("1"))?;
/// bus.publish("orders.paid", Payload::plain_text("1"))?;
/// let refused = bus.publish("orders.placed", Payload::plain_text("2"));
/// assert!(matches!(refused, Err(PublishError::RateLimited { limit: 0, .. })));
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    scope: Scope,
    rate: Rate,
    queues: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Type(String),
    EachType(String),
    Source(String),
    EachSource,
}

impl RateLimit {
    fn new(scope: Scope, rate: Rate) -> Self {
        Self { scope, rate, queues: false }
    }

    /// On all events together whose topic matches a pattern, which is a topic's name at the simplest.
    pub fn of_type(pattern: impl Into<String>, rate: Rate) -> Self {
        Self::new(Scope::Type(pattern.into()), rate)
    }

    /// On the events of each topic that matches a pattern, every topic for itself. Topics beyond
    /// [`types_max`](crate::BusBuilder::types_max) have one such limit together.
    pub fn of_each_type(pattern: impl Into<String>, rate: Rate) -> Self {
        Self::new(Scope::EachType(pattern.into()), rate)
    }

    /// On the events of one source, by its exact text.
    pub fn of_source(source: impl Into<EventSource>, rate: Rate) -> Self {
        Self::new(Scope::Source(source.into().as_str().to_owned()), rate)
    }

    /// On the events of each source, every source for itself. Sources beyond
    /// [`sources_max`](crate::BusBuilder::sources_max) have one such limit together.
    pub fn of_each_source(rate: Rate) -> Self {
        Self::new(Scope::EachSource, rate)
    }

    /// Refuses what is over the limit, with [`PublishError::RateLimited`](crate::PublishError::RateLimited). The default.
    #[must_use]
    pub fn reject(self) -> Self {
        Self { queues: false, ..self }
    }

    /// Lets a publish that is over the limit wait as at a full lane: as long as its [`FullPolicy`](crate::FullPolicy) or
    /// deadline says, never on a worker. A future is woken by worker 0.
    #[must_use]
    pub fn queue(self) -> Self {
        Self { queues: true, ..self }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Type(pattern) => write!(f, "all of {pattern}: {}", self.rate),
            Scope::EachType(pattern) => write!(f, "each type of {pattern}: {}", self.rate),
            Scope::Source(source) => write!(f, "source {source}: {}", self.rate),
            Scope::EachSource => write!(f, "each source: {}", self.rate),
        }
    }
}

/// Why a list of rate limits cannot be kept. `limit` is a place in the list, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitError {
    /// A rate out of range.
    Rate {
        /// Which limit.
        limit: usize,
        /// Why.
        error: RateError,
    },
    /// A text that is no pattern.
    Pattern {
        /// Which limit.
        limit: usize,
        /// Why.
        error: PatternError,
    },
    /// A source longer than a source may be.
    SourceTooLong {
        /// Which limit.
        limit: usize,
        /// Its bytes.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// The bus knows `sources_max` sources already, and this one is not among them: its events cannot be told apart.
    SourceUnknown {
        /// Which limit.
        limit: usize,
        /// The most sources there are.
        max: usize,
    },
    /// More limits than a bus may have.
    TooMany {
        /// How many.
        limits: usize,
        /// The most.
        max: usize,
    },
}

impl fmt::Display for RateLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { limit, error } => write!(f, "rate limit {limit}: {error}"),
            Self::Pattern { limit, error } => write!(f, "rate limit {limit}: {error}"),
            Self::SourceTooLong { limit, bytes, max } => {
                write!(f, "rate limit {limit}: its source has {bytes} bytes, the limit is {max}")
            }
            Self::SourceUnknown { limit, max } => write!(
                f,
                "rate limit {limit}: the bus knows {max} sources, and its source is none of them; raise sources_max, or set the limit at build"
            ),
            Self::TooMany { limits, max } => {
                write!(f, "{limits} rate limits, at most {max} are kept; join some by a pattern")
            }
        }
    }
}

impl std::error::Error for RateLimitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rate { error, .. } => Some(error),
            Self::Pattern { error, .. } => Some(error),
            Self::SourceTooLong { .. } | Self::SourceUnknown { .. } | Self::TooMany { .. } => None,
        }
    }
}

/// A rate limit of a bus, and what it has come to since it was set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RateLimitStatus {
    /// The limit.
    pub limit: RateLimit,
    /// How often it kept an event back: once for each that it refused, and for each look of one that waits.
    pub held_back: u64,
    /// Events under a limit for each source or type whose source or type has no number of its own, and so shared one.
    pub shared: u64,
}

/// The limits of a bus as they stand now.
#[derive(Debug)]
pub(crate) struct RateLimits {
    rules: Mutex<Arc<Rules>>,
}

impl RateLimits {
    pub(super) fn new(limits: Vec<RateLimit>, directory: &Directory) -> Result<Self, Vec<RateLimitError>> {
        let rules = Rules::new(limits, directory)?;
        Ok(Self { rules: Mutex::new(Arc::new(rules)) })
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, limits: Vec<RateLimit>, engine: &Engine) -> Result<(), RateLimitError> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = Rules::new(limits, &engine.directory).map_err(|mut errors| errors.swap_remove(0))?;
        *rules = Arc::new(newer);
        engine.publishers.iter().for_each(|publisher| publisher.tell());
        Ok(())
    }

    /// What the limiters take.
    pub(super) fn bytes(&self) -> usize {
        self.rules().rules.iter().map(|rule| size_of::<Rule>() + rule.limiters.bytes()).sum()
    }
}

impl Bus {
    /// The rate limits on publishing, in their order, and what they have come to.
    pub fn rate_limits(&self) -> Vec<RateLimitStatus> {
        let rules = self.shared().limits.rules();
        let status = |rule: &Rule| RateLimitStatus {
            limit: rule.limit.clone(),
            held_back: rule.held_back.get(),
            shared: rule.shared.get(),
        };
        rules.rules.iter().map(status).collect()
    }

    /// Replaces all rate limits on publishing. Those set before are gone, with what they had seen: each new one begins
    /// with a whole burst. What is published after this returned is under the new ones, and so is what waits.
    ///
    /// # Errors
    /// See [`RateLimitError`]; the limits stay as they were.
    ///
    /// # Cost
    /// Control plane: takes a lock, and each publisher takes it once after a change.
    pub fn set_rate_limits(&self, limits: impl IntoIterator<Item = RateLimit>) -> Result<(), RateLimitError> {
        let engine = &self.shared().engine;
        self.shared().limits.replace(limits.into_iter().collect(), engine)?;
        engine.gate.open_all();
        Ok(())
    }
}

/// How long from now until an instant to come, at least a nanosecond.
pub(super) fn left(until: u64, now: u64) -> Duration {
    Duration::from_nanos(until.saturating_sub(now).max(1))
}
