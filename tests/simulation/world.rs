//! What ought to happen: a sequential model of the bus, told of everything that is published and subscribed, and asked
//! about everything that is delivered.
//!
//! It knows no lane, slot or worker. For each subscription it keeps the events that must come, in order; what is skipped
//! needs an excuse (a deadline that has passed, a pause, a mailbox that drops), and the excuses are counted against the
//! books of the bus.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use ringmain::{EventId, Meta, Outcome, Overflow, Pattern, Priority, PublishError};

use crate::cells::Queues;
use crate::census::Census;
use crate::keys::Likeness;
use crate::letters::Letters;
use crate::newest::Newest;
use crate::subjects::{Content, Shape, Spec};
use crate::trials::Trials;

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
    offered: Vec<(usize, bool)>,
    attempts: u32,
}

/// How a subscription gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Inline,
    /// Cells, and what happens when they are taken.
    Mailbox(u64, Overflow),
}

/// What a handler makes of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Ack,
    Fail,
    Panic,
    Relay,
}

/// An event that a consumer gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) action: Action,
    pub(crate) index: usize,
    /// Names the attempt, under reliable delivery.
    pub(crate) token: u64,
}

/// What is dropped as a duplicate.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) by: Likeness,
    pub(crate) time_ns: u64,
    /// It forgets nothing within its time.
    pub(crate) is_wide: bool,
    /// Events of each key that are to come, or came.
    met: HashMap<u64, u64>,
    /// When one of each key was let in.
    let_in: HashMap<u64, u64>,
}

impl Window {
    pub(crate) fn new(by: Likeness, time_ns: u64, is_wide: bool) -> Self {
        Self { by, time_ns, is_wide, met: HashMap::new(), let_in: HashMap::new() }
    }
}

/// A subscription, and what it must still get.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) pattern: Pattern,
    /// A bit each.
    pub(crate) lanes: u8,
    pub(crate) source: Option<&'static str>,
    /// Ids that it divides are refused; with twice itself as a remainder, the predicate panics.
    pub(crate) divisor: Option<u128>,
    pub(crate) shape: Option<Shape>,
    pub(crate) way: Way,
    /// Its consumer is a handler on a worker.
    pub(crate) is_inline: bool,
    pub(crate) worker: usize,
    /// Of a reliable one.
    pub(crate) trials: Option<Trials>,
    /// Of one to the newest events only.
    pub(crate) newest: Option<Newest>,
    pub(crate) dedup: Option<Window>,
    /// Which events are not acknowledged: one in so many.
    pub(crate) moods: Option<(u128, Action)>,
    pub(crate) is_live: bool,
    /// What waits in its mailbox may be given up from now on.
    pub(crate) is_ending: bool,
    /// Its mailbox takes nothing back any more.
    pub(crate) is_closed: bool,
    /// A future's handler is under way.
    pub(crate) is_calling: bool,
    pub(crate) is_paused: bool,
    /// At some time since the bus was last at rest.
    pub(crate) was_paused: bool,
    pub(crate) expected: [VecDeque<usize>; LANES],
    /// Came due: their place in the lane is not known before somebody sees it.
    pub(crate) loose: Vec<usize>,
    last: [Option<u64>; LANES],
    /// What is in its mailbox, where that is followed.
    pub(crate) cells: Option<Queues>,
    /// Matched and filtered since the bus was last at rest.
    pub(crate) fresh: (u64, u64),
    pub(crate) matched: u64,
    pub(crate) filtered: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    pub(crate) in_hand: u64,
    pub(crate) skipped: Skipped,
    /// Some event may have come due before it subscribed, or after.
    pub(crate) is_vague: bool,
}

/// Events that must not come any more, and how many of them have which excuse; some have several.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Skipped {
    pub(crate) events: u64,
    pub(crate) late: u64,
    pub(crate) paused: u64,
    pub(crate) unreadable: u64,
}

impl Sub {
    pub(crate) fn new(
        pattern: Pattern,
        lanes: u8,
        source: Option<&'static str>,
        divisor: Option<u128>,
        shape: Option<Shape>,
        way: Way,
        moods: Option<(u128, Action)>,
    ) -> Self {
        Self {
            pattern,
            lanes,
            source,
            divisor,
            shape,
            way,
            is_inline: way == Way::Inline,
            worker: 0,
            trials: None,
            newest: None,
            dedup: None,
            moods,
            is_live: true,
            is_ending: false,
            is_closed: false,
            is_calling: false,
            is_paused: false,
            was_paused: false,
            expected: Default::default(),
            loose: Vec::new(),
            last: [None; LANES],
            cells: None,
            fresh: (0, 0),
            matched: 0,
            filtered: 0,
            acked: 0,
            failed: 0,
            in_hand: 0,
            skipped: Skipped::default(),
            is_vague: false,
        }
    }

    /// It is over; a mailbox may still be emptied.
    pub(crate) fn end(&mut self) {
        self.is_live = false;
        self.is_paused = false;
        (self.is_ending, self.is_closed) = (true, true);
        if self.is_inline {
            self.expected = Default::default();
            self.loose.clear();
        }
    }

    /// Whether a word about an event in this attempt comes too late.
    pub(crate) fn is_late(&self, index: usize, token: u64) -> bool {
        self.trials.as_ref().is_some_and(|trials| !trials.is_current(index, token))
    }

    /// What happens when its mailbox is full.
    pub(crate) fn overflow(&self) -> Option<Overflow> {
        match self.way {
            Way::Inline => None,
            Way::Mailbox(_, overflow) => Some(overflow),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.is_live && self.lanes & (1 << lane_of(event.spec.priority)) != 0 && self.pattern.matches(event.spec.topic)
    }

    fn passes(&self, event: &Event) -> bool {
        self.source.is_none_or(|source| source == event.source)
            && self.divisor.is_none_or(|divisor| !u128::from(event.id).is_multiple_of(divisor))
    }

    pub(crate) fn reads(&self, event: &Event) -> bool {
        self.shape.is_none() || self.shape == event.spec.content.shape()
    }

    /// Whether an event that a reliable subscription has not seen may be gone.
    pub(crate) fn is_excused(&self, event: &Event, now: u64) -> bool {
        event.deadline.is_some_and(|deadline| now > deadline) || self.may_be_twice(event)
    }

    fn may_be_twice(&self, event: &Event) -> bool {
        self.dedup.as_ref().is_some_and(|window| {
            window.by.of(event).is_some_and(|key| window.met.get(&key).is_some_and(|&met| met > 1))
        })
    }

    /// Takes note of an event that does not come. Whether it has an excuse.
    pub(crate) fn skip(&mut self, event: &Event, now: u64) -> bool {
        let late = event.deadline.is_some_and(|deadline| now > deadline);
        let paused = self.way == Way::Inline && self.was_paused;
        let unreadable = self.way == Way::Inline && !self.reads(event);
        let spilled = matches!(self.way, Way::Mailbox(_, Overflow::DropNewest | Overflow::DropOldest));
        let spilled = spilled && self.trials.is_none();
        let twice = self.may_be_twice(event);
        self.skipped.events += 1;
        self.skipped.late += u64::from(late);
        self.skipped.paused += u64::from(paused);
        self.skipped.unreadable += u64::from(unreadable);
        late || paused || unreadable || spilled || twice
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
    pub(crate) events: Vec<Event>,
    by_id: HashMap<EventId, usize>,
    pub(crate) subs: Vec<Sub>,
    /// Scheduled, and not known to have come due.
    pub(crate) pending: Vec<usize>,
    pub(crate) unmatched: u64,
    /// Events that came due in one of several turns: whether anybody wanted them then is not known.
    pub(crate) vague: u64,
    /// At most so many events are in each lane.
    load: [u64; LANES],
    /// Refusals, by what the bus calls them.
    pub(crate) refused: HashMap<&'static str, u64>,
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
            events: Vec::new(),
            by_id: HashMap::new(),
            subs: Vec::new(),
            pending: Vec::new(),
            unmatched: 0,
            vague: 0,
            load: [0; LANES],
            refused: HashMap::new(),
            last_ids: HashMap::new(),
            census: Census::default(),
            violation: None,
            hash: DefaultHasher::new(),
            trace: None,
        }
    }

    /// One line of what happened: part of the trace that two runs of a seed must share.
    pub(crate) fn note(&mut self, line: impl fmt::Display) {
        let line = line.to_string();
        self.hash.write(line.as_bytes());
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
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
        self.census.count("accepted");
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
        let after = |time: Option<std::time::Duration>| time.map(|time| self.now + time.as_nanos() as u64);
        let event = Event {
            id,
            source: spec.source.unwrap_or(source).to_owned(),
            deadline: after(spec.expires_after),
            due: after(spec.not_before),
            spec: spec.clone(),
            sequence: None,
            known_since: 0,
            is_relayed: relayed,
            offered: Vec::new(),
            attempts: 0,
        };
        if event.due.is_some() {
            self.census.count("scheduled");
            self.pending.push(index);
            self.events.push(event);
            return;
        }
        let mut matched = false;
        let mut met = Vec::new();
        for (nth, sub) in self.subs.iter_mut().enumerate() {
            if !sub.wants(&event) {
                continue;
            }
            matched = true;
            if sub.passes(&event) {
                sub.expected[lane_of(event.spec.priority)].push_back(index);
                sub.fresh.0 += 1;
                met.push(nth);
            } else {
                sub.fresh.1 += 1;
            }
        }
        if matched || self.overflows_types {
            self.load[lane_of(spec.priority)] += 1;
        }
        if !matched {
            self.unmatched += 1;
            self.census.count("unmatched");
        }
        self.events.push(event);
        met.into_iter().for_each(|nth| self.meet(nth, index));
    }

    /// An event is on its way to a subscription.
    fn meet(&mut self, nth: usize, index: usize) {
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
            PublishError::ShuttingDown => ("refused: shutting down", "shutting_down", self.is_closed),
            PublishError::TooLarge { .. } => ("refused: too large", "invalid", spec.content.is_too_large()),
            PublishError::Envelope(_) => ("refused: envelope", "invalid", spec.is_broken()),
            PublishError::PoolExhausted { .. } => ("refused: no block", "pool_exhausted", true),
            PublishError::ScheduleFull { .. } => {
                let right = self.pending.len() >= self.scheduled_max && spec.not_before.is_some();
                ("refused: schedule full", "schedule_full", right)
            }
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

    /// Before workers turn: offers what is due, which the keeper of the timers may put into the lanes.
    /// All of them, or this one. The first keeps the timers.
    pub(crate) fn before_turn(&mut self, worker: Option<usize>) {
        self.is_turning = true;
        self.take_overdue(worker);
        if self.is_closed || worker.is_some_and(|worker| worker > 0) {
            return;
        }
        let mut met = Vec::new();
        for &index in &self.pending {
            let event = &mut self.events[index];
            if event.due.is_none_or(|due| due > self.now) {
                continue;
            }
            event.attempts += 1;
            if event.attempts == 1 {
                self.load[lane_of(event.spec.priority)] += 1;
            }
            for (nth, sub) in self.subs.iter_mut().enumerate() {
                if !sub.wants(event) || event.offered.iter().any(|&(offered, _)| offered == nth) {
                    continue;
                }
                let passes = sub.passes(event);
                event.offered.push((nth, passes));
                sub.is_vague |= event.attempts > 1;
                if passes {
                    sub.loose.push(index);
                    met.push((nth, index));
                }
            }
        }
        met.into_iter().for_each(|(nth, index)| self.meet(nth, index));
    }

    /// Scheduled events that may have gone into a lane without the model knowing which of them did.
    pub(crate) fn unsure(&self) -> u64 {
        self.pending.iter().filter(|&&index| self.events[index].attempts > 0).count() as u64
    }

    /// After workers turned, with so many events still scheduled.
    pub(crate) fn after_turn(&mut self, scheduled: u64) {
        self.is_turning = false;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|&index| self.events[index].due.is_some_and(|due| due <= self.now));
        if due.is_empty() || scheduled != later.len() as u64 {
            if due.iter().any(|&index| self.events[index].attempts > 0) && !self.is_closed {
                self.census.count("scheduled waited for a full lane");
            }
            if scheduled < (due.len() + later.len()) as u64 {
                // Some went and some did not: which of them is not known.
                for &index in &due {
                    for &(nth, _) in &self.events[index].offered {
                        self.subs[nth].is_vague = true;
                    }
                }
            }
            self.pending = due;
            self.pending.extend(later);
            return;
        }
        self.pending = later;
        for index in due {
            let event = &mut self.events[index];
            self.census.count("scheduled came due");
            // Entered in one of several turns: somebody may have come or gone in between.
            let sure = event.attempts == 1;
            if !sure {
                self.vague += 1;
            } else if event.offered.is_empty() {
                self.unmatched += 1;
                self.census.count("unmatched");
            }
            for (nth, passes) in std::mem::take(&mut event.offered) {
                let sub = &mut self.subs[nth];
                sub.is_vague |= !sure;
                if passes {
                    sub.fresh.0 += 1;
                } else {
                    sub.fresh.1 += 1;
                }
            }
        }
    }

    /// Nothing is in a lane.
    pub(crate) fn lanes_are_empty(&mut self) {
        self.load = [0; LANES];
        // What is due may come at any moment.
        for &index in self.pending.iter().filter(|&&index| self.events[index].attempts > 0) {
            self.load[lane_of(self.events[index].spec.priority)] += 1;
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

    /// A subscription gets an event. Returns what it makes of it.
    pub(crate) fn see(&mut self, nth: usize, meta: &Meta<'_>, read: Option<Content>, skipped: Option<u64>) -> Sight {
        let id = meta.id();
        let Some(index) = self.index_of(id) else {
            self.broken(format!("subscription {nth} got {id}, which nobody published"));
            return Sight { action: Action::Ack, index: 0, token: 0 };
        };
        let now = self.now;
        self.note(format_args!("seen {index} by {nth} at {now} as {}", meta.sequence()));
        let sight = self.check_sight(nth, index, meta, read).and_then(|()| self.check_way(nth, index, meta, skipped));
        let token = sight.unwrap_or_else(|what| {
            let (event, sub) = (&self.events[index], &self.subs[nth]);
            let what = format!("subscription {nth}, event {index}: {what}; {event:?} {sub:?}");
            self.broken(what);
            0
        });
        let relayed = self.events[index].is_relayed;
        let action = match self.subs[nth].moods {
            Some((_, Action::Relay)) if relayed => Action::Ack,
            Some((one_in, action)) if (u128::from(id) >> 3).is_multiple_of(one_in) => action,
            _ => Action::Ack,
        };
        Sight { action, index, token }
    }

    /// A consumer has come to this outcome, and is about to say so.
    pub(crate) fn finished(&mut self, nth: usize, index: usize, outcome: &Outcome) {
        let sub = &mut self.subs[nth];
        if sub.trials.is_some() {
            return self.settling(nth, index, outcome);
        }
        sub.in_hand -= 1;
        if *outcome == Outcome::Ack {
            sub.acked += 1;
        } else {
            sub.failed += 1;
        }
    }

    /// A consumer is about to drop an event without a word. Returns whether that counts.
    pub(crate) fn dropped(&mut self, nth: usize, index: usize, token: u64) -> bool {
        let is_live = self.subs[nth].is_live;
        match &mut self.subs[nth].trials {
            None => self.finished(nth, index, &Outcome::Ack),
            Some(trials) if trials.is_current(index, token) => {
                self.settling(nth, index, &Outcome::Failed(String::new()));
            }
            Some(trials) => {
                *if is_live { &mut trials.late } else { &mut trials.late_after } += 1;
                self.census.count("too late");
                self.note(format_args!("{nth} is too late with {index}"));
                return false;
            }
        }
        true
    }

    /// What depends on how hard the subscription tries. Returns the name of a reliable attempt.
    fn check_way(&mut self, nth: usize, index: usize, meta: &Meta<'_>, skipped: Option<u64>) -> Result<u64, String> {
        let told = self.events[index].spec.attempt;
        if self.subs[nth].trials.is_some() {
            let (token, failures) = self.attempt(nth, index)?;
            return if meta.attempt() == told.saturating_add(failures) {
                Ok(token)
            } else {
                Err(format!("attempt {} of an event that has failed {failures} times", meta.attempt()))
            };
        }
        if meta.attempt() != told {
            return Err("its envelope changed".to_owned());
        }
        if !self.subs[nth].is_inline {
            self.subs[nth].in_hand += 1;
        }
        if self.subs[nth].newest.is_some() {
            return self.take_newest(nth, index, skipped).map(|()| 0);
        }
        self.check_next(nth, index)?;
        if self.subs[nth].is_inline {
            self.let_in(nth, index)?;
        }
        self.take(nth, index).map(|()| 0)
    }

    fn check_sight(&mut self, nth: usize, index: usize, meta: &Meta<'_>, read: Option<Content>) -> Result<(), String> {
        let now = self.now;
        let (first, accepted) = (self.first_sequence, self.events.len());
        let (event, sub) = (&mut self.events[index], &mut self.subs[nth]);
        let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        check(event.deadline.is_none_or(|deadline| now <= deadline), "delivered after its deadline")?;
        check(event.due.is_none_or(|due| now >= due), "delivered before its time")?;
        check(meta.topic() == event.spec.topic && meta.priority() == event.spec.priority, "topic or priority changed")?;
        check(meta.source() == event.source, "its source changed")?;
        check(meta.correlation() == event.spec.correlation, "its correlation changed")?;
        check(meta.get("user") == event.spec.metadata, "its envelope changed")?;
        let bytes = meta.payload().bytes();
        let same = match (&event.spec.content, &read) {
            (content, Some(read)) => read == content,
            (Content::Text(text), None) => meta.payload().text() == Some(text),
            (Content::Raw(raw), None) => bytes == raw,
            (Content::Small(_) | Content::Large(_), None) => !bytes.is_empty(),
        };
        check(same, "its payload changed")?;
        let place = meta.sequence().wrapping_sub(first);
        if event.sequence.is_none() {
            event.known_since = accepted;
        }
        check(*event.sequence.get_or_insert(place) == place, "two subscriptions saw it at two places of its lane")?;
        if sub.is_inline {
            check(sub.is_live, "the handler was called after its subscription had ended")?;
            check(!sub.is_paused, "the handler was called while it was paused")?;
            check(self.is_turning, "the handler was called while no worker turned")?;
        }
        Ok(())
    }

    /// Under best effort: it comes in its turn, and once.
    fn check_next(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let now = self.now;
        let (event, sub) = (&self.events[index], &mut self.subs[nth]);
        let (lane, place) = (lane_of(event.spec.priority), event.sequence);
        if sub.last[lane] >= place {
            return Err("it came again, or out of order".to_owned());
        }
        sub.last[lane] = place;
        if let Some(at) = sub.loose.iter().position(|&loose| loose == index) {
            sub.loose.swap_remove(at);
            return Ok(());
        }
        let position = sub.expected[lane].iter().position(|&expected| expected == index);
        let position = position.ok_or("it is not to get this event, or not again")?;
        let skipped: Vec<_> = sub.expected[lane].drain(..=position).take(position).collect();
        for skipped in skipped {
            let missed = &self.events[skipped];
            if !self.subs[nth].skip(missed, now) {
                return Err(format!("event {skipped} before it never came"));
            }
        }
        Ok(())
    }
}
