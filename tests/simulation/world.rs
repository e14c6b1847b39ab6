//! What ought to happen: a sequential model of the bus, told of everything that is published and subscribed, and asked
//! about everything that is delivered.
//!
//! It knows no lane, slot or worker. For each subscription it keeps the events that must come, in order; what is skipped
//! needs an excuse (a deadline that has passed, a pause, a mailbox that drops), and the excuses are counted against the
//! books of the bus.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use ringmain::{EventId, Priority, PublishError};

use crate::census::Census;
use crate::letters::Letters;
use crate::limits::Limit;
use crate::overrun::Overruns;
use crate::pace::Pace;
use crate::pressure::Pressure;
use crate::requests::Asking;
use crate::rules::Rule;
use crate::services::Surety;
use crate::sub::Sub;
use crate::subjects::Spec;
use crate::unnamed::Answering;

pub(crate) const LANES: usize = 4;

pub(crate) fn lane_of(priority: Priority) -> usize {
    3 - priority as usize
}

/// An event that was accepted.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) spec: Spec,
    pub(crate) source: String,
    pub(crate) deadline: Option<u64>,
    pub(crate) due: Option<u64>,
    /// As its first reader saw it.
    pub(crate) sequence: Option<u64>,
    /// Events that had been accepted then: the others are behind it.
    pub(crate) known_since: usize,
    pub(crate) is_relayed: bool,
    /// Scheduled: the subscriptions that it was offered to when it came due, and whether their filters pass it.
    pub(crate) offered: Vec<(usize, bool)>,
    pub(crate) attempts: u32,
}

impl Event {
    pub(crate) fn new(
        id: EventId,
        spec: &Spec,
        source: String,
        deadline: Option<u64>,
        due: Option<u64>,
        is_relayed: bool,
    ) -> Self {
        let (spec, offered) = (spec.clone(), Vec::new());
        Self { id, spec, source, deadline, due, sequence: None, known_since: 0, is_relayed, offered, attempts: 0 }
    }
}

/// Everything there is, as the model sees it.
pub(crate) struct World {
    /// The manual clock's instant.
    pub(crate) now: u64,
    pub(crate) first_sequence: u64,
    pub(crate) limit: u64,
    /// Not all topics have a number: those without are put into lanes although nobody wants them.
    pub(crate) overflows_types: bool,
    pub(crate) scheduled_max: usize,
    pub(crate) is_closed: bool,
    /// Its workers have left.
    pub(crate) is_stopped: bool,
    pub(crate) letters: Letters,
    /// Subscriptions and events of which a dead letter is to be told of within this step.
    pub(crate) dying: Vec<(usize, usize)>,
    /// The bus tells of every event that goes into a mailbox.
    pub(crate) follows_cells: bool,
    pub(crate) is_turning: bool,
    pub(crate) overruns: Overruns,
    pub(crate) events: Vec<Event>,
    pub(crate) by_id: HashMap<EventId, usize>,
    /// Events whose ids are not known.
    pub(crate) unnamed: Vec<usize>,
    pub(crate) answering: Option<Answering>,
    pub(crate) asking: Option<Asking>,
    pub(crate) subs: Vec<Sub>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) limits: Vec<Limit>,
    /// Every source has a number.
    pub(crate) knows_sources: bool,
    pub(crate) pressure: Option<Pressure>,
    /// Of all workers together, and what each has had of it.
    pub(crate) throttle: Option<(Pace, HashSet<(usize, usize)>)>,
    /// The numbers of services by their names, the last one of each.
    pub(crate) services: HashMap<&'static str, usize>,
    /// Scheduled, and not known to have come due.
    pub(crate) pending: Vec<usize>,
    pub(crate) unmatched: u64,
    /// Workers have looked at so many events, but for those that wait for their time.
    pub(crate) routed: usize,
    /// What came due and may be in a lane.
    pub(crate) entered: Vec<usize>,
    /// Events that came due in one of several turns: whether anybody wanted them then is not known.
    pub(crate) vague: u64,
    /// At most so many events are in each lane.
    pub(crate) load: [u64; LANES],
    /// Refusals, by what the bus calls them.
    pub(crate) refused: HashMap<&'static str, u64>,
    /// Refusals of answers, of which the reason is not told.
    pub(crate) refused_untold: u64,
    /// The first half of the last id of each publisher.
    last_ids: HashMap<usize, u64>,
    pub(crate) census: Census,
    pub(crate) violation: Option<String>,
    hash: DefaultHasher,
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(
        first_sequence: u64,
        limit: u64,
        overflows_types: bool,
        scheduled_max: usize,
        letters: Letters,
    ) -> Self {
        Self {
            now: 1,
            first_sequence,
            limit,
            overflows_types,
            scheduled_max,
            is_closed: false,
            is_stopped: false,
            letters,
            dying: Vec::new(),
            follows_cells: false,
            is_turning: false,
            overruns: Overruns::default(),
            events: Vec::new(),
            by_id: HashMap::new(),
            unnamed: Vec::new(),
            answering: None,
            asking: None,
            subs: Vec::new(),
            rules: Vec::new(),
            limits: Vec::new(),
            knows_sources: false,
            pressure: None,
            throttle: None,
            services: HashMap::new(),
            pending: Vec::new(),
            unmatched: 0,
            routed: 0,
            entered: Vec::new(),
            vague: 0,
            load: [0; LANES],
            refused: HashMap::new(),
            refused_untold: 0,
            last_ids: HashMap::new(),
            census: Census::default(),
            violation: None,
            hash: DefaultHasher::new(),
            trace: None,
        }
    }

    /// One line of what happened: part of the trace that two runs of a seed must share.
    pub(crate) fn note(&mut self, line: impl fmt::Display) {
        if let Some(trace) = &mut self.trace {
            trace.push(line.to_string());
        }
        // A hash takes whatever is written to it.
        let _ = fmt::write(&mut Hashed(&mut self.hash), format_args!("{line}"));
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// A promise is broken. Not a panic: the bus would contain it.
    pub(crate) fn broken(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("BROKEN {what}"));
        self.violation.get_or_insert(what);
    }

    /// An event was accepted.
    pub(crate) fn accepted(&mut self, id: EventId, spec: &Spec, publisher: Option<usize>, source: &str, relayed: bool) {
        let index = self.events.len();
        self.note(format_args!("accepted {index} {id} {} {} by {publisher:?}", spec.topic, spec.priority));
        if self.by_id.insert(id, index).is_some() {
            self.broken(format!("id {id} came twice"));
        }
        if let (Some(publisher), None) = (publisher, spec.id) {
            let first = (u128::from(id) >> 64) as u64;
            let last = self.last_ids.insert(publisher, first).unwrap_or(0);
            if first < last {
                self.broken(format!("id {id} of publisher {publisher} is older than the one before"));
            }
        }
        if spec.id.is_some_and(|asked| asked != id) {
            self.broken(format!("event {index} got another id than it was given"));
        }
        self.bears_pressure(spec.priority);
        let after = |time: Option<std::time::Duration>| time.map(|time| self.now + time.as_nanos() as u64);
        let (deadline, due) = (after(spec.expires_after), after(spec.not_before));
        let source = spec.source.unwrap_or(source).to_owned();
        self.enter(Event::new(id, spec, source, deadline, due, relayed));
    }

    /// An accepted event is on its way to whoever is to get it.
    pub(crate) fn enter(&mut self, event: Event) {
        self.census.count("accepted");
        let index = self.events.len();
        if event.due.is_some() {
            self.census.count("scheduled");
            self.pending.push(index);
            self.events.push(event);
            self.check_limits(index);
            return;
        }
        self.events.push(event);
        self.check_limits(index);
        let mut matched = self.send_to_services(index, Surety::Sent);
        let event = &self.events[index];
        let mut met = Vec::new();
        for (nth, sub) in self.subs.iter_mut().enumerate() {
            if !sub.wants(event) {
                continue;
            }
            matched = true;
            if sub.passes(event) {
                sub.expected[lane_of(event.spec.priority)].push_back(index);
                sub.fresh.0 += 1;
                met.push(nth);
            } else {
                sub.fresh.1 += 1;
            }
        }
        if matched || self.overflows_types {
            self.load[lane_of(event.spec.priority)] += 1;
        }
        if !matched {
            self.unmatched += 1;
            self.census.count("unmatched");
        }
        met.into_iter().for_each(|nth| self.meet(nth, index));
        self.answer_accepted(index);
    }

    /// An event is on its way to a subscription.
    pub(crate) fn meet(&mut self, nth: usize, index: usize) {
        self.meets(nth, index);
        if let Some(window) = &mut self.subs[nth].dedup
            && let Some(key) = window.by.of(&self.events[index])
        {
            *window.met.entry(key).or_default() += 1;
        }
    }

    /// A subscription lets an event in: is it no duplicate?
    pub(crate) fn let_in(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let now = self.now;
        let Some(window) = self.subs[nth].dedup.as_mut().filter(|window| window.is_wide) else { return Ok(()) };
        let Some(key) = window.by.of(&self.events[index]) else { return Ok(()) };
        match window.let_in.insert(key, now) {
            Some(before) if now - before < window.time_ns => Err(format!("one of its key came at {before}")),
            _ => Ok(()),
        }
    }

    /// A publish of `events` like `spec` was refused: is that right?
    pub(crate) fn refused(&mut self, spec: &Spec, events: u64, error: &PublishError) {
        self.note(format_args!("refused {error:?}"));
        let lane = lane_of(spec.priority);
        let (kind, reason, right) = match *error {
            PublishError::Full { depth, limit, priority, .. } => {
                let right = self.load[lane] + events > self.limit && depth <= limit && limit == self.limit;
                ("refused: full", "full", right && priority == spec.priority)
            }
            PublishError::Shed { depth, watermark } => {
                let right = spec.priority == Priority::Low && depth > watermark && self.load[lane] > watermark;
                ("refused: shed", "shed", right)
            }
            PublishError::MemoryPressure { fill_percent, share_percent } => {
                let refuses = |pressure: &Pressure| pressure.refuses(fill_percent, share_percent);
                let right = spec.priority == Priority::Low && self.pressure.as_ref().is_some_and(refuses);
                ("refused: memory pressure", "memory_pressure", right)
            }
            PublishError::ShuttingDown => ("refused: shutting down", "shutting_down", self.is_closed),
            PublishError::TooLarge { .. } => ("refused: too large", "invalid", spec.content.is_too_large()),
            PublishError::Envelope(_) => ("refused: envelope", "invalid", spec.is_broken()),
            PublishError::PoolExhausted { .. } => ("refused: no block", "pool_exhausted", true),
            PublishError::ScheduleFull { .. } => {
                let right = self.pending.len() >= self.scheduled_max && spec.not_before.is_some();
                ("refused: schedule full", "schedule_full", right)
            }
            PublishError::RateLimited { limit, .. } => {
                ("refused: over a limit", "rate_limited", events > 1 || self.is_over_limit(limit, spec))
            }
            PublishError::BatchOverRate { .. } => ("refused: batch over a limit", "rate_limited", true),
            PublishError::ScheduledInBatch => ("refused: scheduled in batch", "invalid", spec.not_before.is_some()),
            PublishError::MixedPriority { batch, event } => {
                ("refused: mixed batch", "invalid", batch != event && event == spec.priority)
            }
            PublishError::NoPublisher { .. } => ("refused: no publisher", "no_publisher", true),
            _ => ("refused for no known reason", "invalid", false),
        };
        self.census.count(kind);
        *self.refused.entry(reason).or_default() += 1;
        if !right {
            let load = self.load;
            self.broken(format!("refused without reason: {error}; lanes hold at most {load:?}; {spec:?}"));
        }
    }

    /// Letters on their way back to subscriptions that are there, as far as is known; and of those that have expired, so that
    /// they may be gone.
    pub(crate) fn returning(&self) -> (usize, usize) {
        let is_late = |index: usize| self.events[index].deadline.is_some_and(|deadline| self.now > deadline);
        let reliable = self.subs.iter().filter(|sub| sub.is_live).filter_map(|sub| sub.trials.as_ref());
        let late: Vec<_> = reliable.flat_map(|trials| trials.returning().map(is_late)).collect();
        let expired = late.iter().filter(|&&late| late).count();
        (late.len() - expired, expired)
    }

    pub(crate) fn index_of(&self, id: EventId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }
}

/// Hashes what is formatted into it.
struct Hashed<'a>(&'a mut DefaultHasher);

impl fmt::Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
