//! The limits of a bus at one time: what each is on, and how much of it is left.

use std::sync::OnceLock;

use crate::delivery::Rate;
use crate::event::{Directory, EventSource};
use crate::metrics::SharedCounter;
use crate::routing::Pattern;
use crate::sync::limiter::Limiter;

use super::{LIMITS_MAX, RateLimit, RateLimitError, Scope};

/// Limiters of so many ids in a row are made together: with the limit for names the bus knows, for others when the first of them is met.
const RUN: usize = 256;

/// The limiters of one limit.
#[derive(Debug)]
pub(super) enum Limiters {
    One(Limiter),
    /// One for each id. Made in runs when they are met; id 0 is everybody's who has no number.
    Each {
        rate: Rate,
        runs: Box<[OnceLock<Box<[Limiter]>>]>,
    },
}

impl Limiters {
    /// For ids up to `ids_max`, of which so many are `known`.
    fn each(rate: Rate, ids_max: usize, known: usize) -> Self {
        let limiters = Self::Each { rate, runs: (0..(ids_max + 1).div_ceil(RUN)).map(|_| OnceLock::new()).collect() };
        (0..=known).step_by(RUN).for_each(|id| {
            limiters.of(id as u32);
        });
        limiters
    }

    /// The limiter of `id`. Allocates for a name that came after the limit, as that name has done.
    fn of(&self, id: u32) -> &Limiter {
        match self {
            Self::One(limiter) => limiter,
            Self::Each { rate, runs } => {
                let made = || (0..RUN).map(|_| rate.limiter().expect("checked when it was set")).collect();
                &runs[id as usize / RUN].get_or_init(made)[id as usize % RUN]
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Each { runs, .. } => {
                let made = runs.iter().filter(|run| run.get().is_some()).count();
                size_of_val(&**runs) + made * RUN * size_of::<Limiter>()
            }
        }
    }
}

#[derive(Debug)]
enum On {
    Type(Pattern),
    /// The number of the source; `None`: each.
    Source(Option<u32>),
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) limit: RateLimit,
    on: On,
    pub(super) limiters: Limiters,
    pub(super) held_back: SharedCounter,
    pub(super) shared: SharedCounter,
}

impl Rule {
    fn new(nth: usize, limit: RateLimit, directory: &Directory) -> Result<Self, RateLimitError> {
        let one = limit.rate.limiter().map_err(|error| RateLimitError::Rate { limit: nth, error })?;
        let on = match &limit.scope {
            Scope::Type(pattern) | Scope::EachType(pattern) => {
                On::Type(Pattern::new(pattern).map_err(|error| RateLimitError::Pattern { limit: nth, error })?)
            }
            Scope::Source(source) => {
                let (bytes, max) = (source.len(), EventSource::BYTES_MAX);
                if bytes > max {
                    return Err(RateLimitError::SourceTooLong { limit: nth, bytes, max });
                }
                match directory.intern_source(source) {
                    0 => return Err(RateLimitError::SourceUnknown { limit: nth, max: directory.sources_max() }),
                    id => On::Source(Some(id)),
                }
            }
            Scope::EachSource => On::Source(None),
        };
        let limiters = match &limit.scope {
            Scope::Type(_) | Scope::Source(_) => Limiters::One(one),
            Scope::EachType(_) => Limiters::each(limit.rate, directory.types_max(), directory.types_known()),
            Scope::EachSource => Limiters::each(limit.rate, directory.sources_max(), directory.sources_known()),
        };
        Ok(Self { limit, on, limiters, held_back: SharedCounter::default(), shared: SharedCounter::default() })
    }

    /// The limiter of an event, and whether it is one that those without a number share.
    fn limiter(&self, ids: Ids) -> (&Limiter, bool) {
        let id = match self.on {
            On::Type(_) => ids.type_id,
            On::Source(_) => ids.source_id,
        };
        (self.limiters.of(id), id == 0 && matches!(self.limiters, Limiters::Each { .. }))
    }
}

/// What of an event a limit goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) struct Ids {
    pub(in crate::bus) type_id: u32,
    pub(in crate::bus) source_id: u32,
}

/// A limit that kept an event back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) struct Spent {
    /// Its place in the list.
    pub(in crate::bus) limit: usize,
    /// From when on it lets the event pass, if no other comes first.
    pub(in crate::bus) until: u64,
    pub(in crate::bus) queues: bool,
}

/// Which limits are on an event, a bit each.
pub(in crate::bus) type Which = u64;

/// The limits of a bus at one time.
#[derive(Debug)]
pub(in crate::bus) struct Rules {
    pub(super) rules: Vec<Rule>,
}

impl Rules {
    pub(super) fn new(limits: Vec<RateLimit>, directory: &Directory) -> Result<Self, Vec<RateLimitError>> {
        if limits.len() > LIMITS_MAX {
            return Err(vec![RateLimitError::TooMany { limits: limits.len(), max: LIMITS_MAX }]);
        }
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for (nth, limit) in limits.into_iter().enumerate() {
            match Rule::new(nth, limit, directory) {
                Ok(rule) => rules.push(rule),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    pub(in crate::bus) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn which(&self, is_on: impl Fn(&On) -> bool) -> Which {
        self.rules.iter().enumerate().fold(0, |which, (nth, rule)| which | Which::from(is_on(&rule.on)) << nth)
    }

    /// Those on a topic.
    pub(in crate::bus) fn on_type(&self, name: &str) -> Which {
        self.which(|on| matches!(on, On::Type(pattern) if pattern.matches(name)))
    }

    /// Those on a source. A source without a number is under those for each source only.
    pub(in crate::bus) fn on_source(&self, id: u32) -> Which {
        self.which(|on| matches!(on, On::Source(source) if source.is_none_or(|source| source == id)))
    }

    fn each(&self, which: Which) -> impl Iterator<Item = (usize, &Rule)> {
        self.rules.iter().enumerate().filter(move |(nth, _)| which & 1 << nth != 0)
    }

    /// Lets an event pass all limits on it, or none.
    pub(in crate::bus) fn pass(&self, which: Which, ids: Ids, now: u64) -> Result<(), Spent> {
        for (nth, rule) in self.each(which) {
            let (limiter, is_shared) = rule.limiter(ids);
            if let Err(until) = limiter.pass(now) {
                rule.held_back.add(1);
                self.give_back(which & ((1 << nth) - 1), ids, now, now);
                return Err(Spent { limit: nth, until, queues: rule.limit.queues });
            }
            if is_shared {
                rule.shared.add(1);
            }
        }
        Ok(())
    }

    /// An event that has passed at `taken` was not published after all.
    pub(in crate::bus) fn give_back(&self, which: Which, ids: Ids, taken: u64, now: u64) {
        for (_, rule) in self.each(which) {
            rule.limiter(ids).0.give_back(1, taken, now);
        }
    }

    /// When so many events of these ids may pass a limit together, or the most that ever may.
    pub(in crate::bus) fn all_pass_at(&self, limit: usize, ids: Ids, events: u32, now: u64) -> Result<u64, u32> {
        let rule = &self.rules[limit];
        let burst = rule.limit.rate.burst_max();
        if events > burst { Err(burst) } else { Ok(rule.limiter(ids).0.all_pass_at(now, events)) }
    }

    /// Whether two events are under the same limiter of a limit that both are under.
    pub(in crate::bus) fn is_shared_by(&self, limit: usize, one: Ids, other: Ids) -> bool {
        std::ptr::eq(self.rules[limit].limiter(one).0, self.rules[limit].limiter(other).0)
    }
}
