//! Reliable delivery as it ought to be: how often each event was tried, who has it, and where it came to its end.

use std::collections::HashMap;

use ringmain::{DeadReason, Outcome};

use crate::keys::Likeness;
use crate::world::{World, lane_of};

/// Due times are kept to so many bits less than a nanosecond.
const TICK_SHIFT: u32 = 18;
/// Ends of calls to so many.
const CALL_TICK_SHIFT: u32 = 16;

/// The longest wait.
const WAIT_MAX_NS: u64 = 10 * 24 * 3_600 * 1_000_000_000;

pub(crate) fn tick(instant: u64) -> u64 {
    instant >> TICK_SHIFT
}

/// What a subscription asked for.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) timeout_ns: u64,
    pub(crate) attempts_max: u8,
    pub(crate) releases_max: u16,
    pub(crate) first_delay_ns: u64,
    pub(crate) delay_max_ns: u64,
    pub(crate) order: Option<Likeness>,
    pub(crate) suspend_after: u32,
}

impl Rule {
    fn delay_limit_ns(&self, failures: u8) -> u64 {
        let doublings = u32::from(failures.saturating_sub(1));
        self.first_delay_ns.saturating_mul(1 << doublings.min(40)).min(self.delay_max_ns)
    }
}

/// Where an event is that its subscription has seen, or has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a consumer's hands until this instant.
    InHand {
        due: u64,
    },
    /// It comes again between these instants.
    Waiting {
        from: u64,
        by: u64,
    },
    /// It is to be a dead letter, for this reason and after so many attempts.
    Dying(DeadReason, u32),
    /// A dead letter on its way back.
    Returning,
    Acked,
    Dead,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    pub(crate) place: Place,
    pub(crate) failures: u8,
    pub(crate) takes: u16,
    /// It may have been taken less often than that.
    pub(crate) is_unsure: bool,
    /// Names the last attempt.
    pub(crate) token: u64,
}

impl Fate {
    /// Of an event that has not been seen.
    pub(crate) const NEW: Self = Self { place: Place::Acked, failures: 0, takes: 0, is_unsure: false, token: 0 };
}

/// The events of one subscription.
#[derive(Debug)]
pub(crate) struct Trials {
    pub(crate) rule: Rule,
    pub(crate) fates: HashMap<usize, Fate>,
    /// Events in hands.
    held: Vec<usize>,
    /// Deliveries that were taken away, and are still read: each may keep a cell, also when its event is over.
    pub(crate) taken_away: usize,
    /// Events that wait, or did when last looked at.
    waiting: Vec<usize>,
    tokens: u64,
    /// In a row.
    pub(crate) deaths: u32,
    pub(crate) letters: u64,
    pub(crate) retried: u64,
    pub(crate) late: u64,
    /// Words that came too late when the books of the subscription may have been closed.
    pub(crate) late_after: u64,
    pub(crate) redriven: u64,
    /// Letters on their way back when the workers began to turn.
    pub(crate) returning_before: u64,
}

impl Trials {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            fates: HashMap::new(),
            held: Vec::new(),
            taken_away: 0,
            waiting: Vec::new(),
            tokens: 0,
            deaths: 0,
            letters: 0,
            retried: 0,
            late: 0,
            late_after: 0,
            redriven: 0,
            returning_before: 0,
        }
    }

    fn release_hold(&mut self, index: usize) {
        self.held.retain(|&held| held != index);
    }

    /// Whether the attempt that `token` names still counts.
    pub(crate) fn is_current(&self, index: usize, token: u64) -> bool {
        self.fates.get(&index).is_some_and(|fate| fate.token == token && matches!(fate.place, Place::InHand { .. }))
    }

    /// Events in hands, and until when.
    pub(crate) fn in_hand(&self) -> impl Iterator<Item = (usize, u64)> {
        self.held.iter().filter_map(|&index| match self.fates[&index].place {
            Place::InHand { due } => Some((index, due)),
            _ => None,
        })
    }

    /// Letters on their way back.
    pub(crate) fn returning(&self) -> impl Iterator<Item = usize> {
        self.fates.iter().filter(|(_, fate)| matches!(fate.place, Place::Returning)).map(|(&index, _)| index)
    }

    /// What nobody has in hand: it belongs to this subscription no more.
    pub(crate) fn left_behind(&mut self) -> impl Iterator<Item = (usize, Place)> {
        let is_left = |place| matches!(place, Place::Waiting { .. } | Place::Returning);
        self.waiting.clear();
        self.fates.extract_if(move |_, fate| is_left(fate.place)).map(|(index, fate)| (index, fate.place))
    }

    /// These wait no more.
    pub(crate) fn forget_waiting<T>(&mut self, gone: &[(usize, T)]) {
        self.waiting.retain(|waiting| gone.iter().all(|(index, _)| index != waiting));
    }

    /// Events that have not come to an end, as far as is known.
    pub(crate) fn open(&self) -> impl Iterator<Item = usize> {
        let is_open = |place| !matches!(place, Place::Acked | Place::Dead);
        self.fates.iter().filter(move |(_, fate)| is_open(fate.place)).map(|(&index, _)| index)
    }

    /// At least and at most so many events wait for their time now, when the worker has just looked and nothing is held back
    /// behind others of its key.
    pub(crate) fn waiting(&mut self, now: u64) -> (u64, u64) {
        let fates = &self.fates;
        self.waiting.retain(|index| matches!(fates[index].place, Place::Waiting { .. }));
        let (mut least, mut most) = (0, 0);
        for index in &self.waiting {
            if let Place::Waiting { from, by } = fates[index].place {
                least += u64::from(tick(from) > tick(now));
                most += u64::from(tick(by) > tick(now));
            }
        }
        (least, most)
    }

    /// Hands whose time is over although their holders may still speak.
    pub(crate) fn has_overdue(&self, now: u64) -> bool {
        self.held.iter().any(|index| matches!(self.fates[index].place, Place::InHand { due } if is_over(due, now)))
    }
}

/// Whether an attempt that was to be over by `due` is taken away by a worker that looks now.
pub(crate) fn is_over(due: u64, now: u64) -> bool {
    due.div_ceil(1 << TICK_SHIFT) <= tick(now)
}

/// Whether a call that was to be over by `due` is over to a worker that looks now.
pub(crate) fn is_call_over(due: u64, now: u64) -> bool {
    due.div_ceil(1 << CALL_TICK_SHIFT) <= now >> CALL_TICK_SHIFT
}

impl World {
    pub(crate) fn trials(&mut self, nth: usize) -> &mut Trials {
        self.subs[nth].trials.as_mut().expect("asked of reliable subscriptions only")
    }

    /// Workers are about to turn, or one of them: they take away what has been in hand for too long.
    pub(crate) fn take_overdue(&mut self, worker: Option<usize>) {
        let now = self.now;
        for nth in 0..self.subs.len() {
            let sub = &mut self.subs[nth];
            if let Some(pace) = &mut sub.pace {
                pace.turned_away = 0;
            }
            if let Some(trials) = &mut sub.trials {
                trials.returning_before = trials.returning().count() as u64;
            }
            let is_looked_after = sub.is_live && worker.is_none_or(|worker| worker == sub.worker);
            if let Some((due, is_overrun @ false)) = &mut sub.call
                && is_looked_after
                && !self.is_stopped
                && is_call_over(*due, now)
            {
                *is_overrun = true;
                sub.timed_out += 1;
                self.census.count("call cancelled");
            }
            let Some(trials) = sub.trials.as_mut().filter(|_| is_looked_after && !self.is_stopped) else { continue };
            let mut lost = Vec::new();
            for &index in &trials.held {
                if matches!(trials.fates[&index].place, Place::InHand { due } if is_over(due, now)) {
                    lost.push(index);
                }
            }
            // When their workers notice is known as long as time stands still.
            self.overruns.is_possible &= lost.is_empty();
            for index in lost {
                trials.release_hold(index);
                trials.taken_away += 1;
                sub.in_hand -= 1;
                sub.timed_out += 1;
                if let Some(breaker) = &mut sub.breaker {
                    breaker.record(now, Some(false));
                }
                let fate = trials.fates.get_mut(&index).expect("it is in hand");
                fate.failures += 1;
                if fate.failures >= trials.rule.attempts_max {
                    fate.place = Place::Dying(DeadReason::TimedOut, u32::from(fate.failures));
                    self.dying.push((nth, index));
                } else {
                    // At the next look, at the earliest.
                    let by = now.saturating_add(trials.rule.delay_limit_ns(fate.failures).max(1 << TICK_SHIFT));
                    fate.place = Place::Waiting { from: now, by };
                    trials.waiting.push(index);
                    trials.retried += 1;
                }
                self.census.count("taken away");
            }
        }
    }

    /// A consumer gets an event for an attempt. Returns its name, and how often the event has failed before.
    /// `said`: the attempt that it is said to be.
    pub(crate) fn attempt(&mut self, nth: usize, index: usize, said: u8) -> Result<(u64, u8), String> {
        let (now, mut before) = (self.now, None);
        let place = self.trials(nth).fates.get(&index).map(|fate| fate.place);
        match place {
            None => match self.lands(nth, index, said) {
                Some(fate) => before = Some(fate),
                None => self.first_sight(nth, index)?,
            },
            Some(Place::Waiting { from, .. }) if tick(now) < tick(from) => return Err("it came too early".to_owned()),
            Some(Place::Waiting { .. } | Place::Returning) => {}
            Some(place) => return Err(format!("it came although it is {place:?}")),
        }
        self.check_alone(nth, index)?;
        let call_max_ns = self.subs[nth].call_max_ns.unwrap_or(u64::MAX);
        let trials = self.trials(nth);
        trials.tokens += 1;
        let due = now.saturating_add(trials.rule.timeout_ns.min(call_max_ns));
        let fate = trials.fates.entry(index).or_insert(before.unwrap_or(Fate::NEW));
        if matches!(fate.place, Place::Returning) {
            (fate.failures, fate.takes, fate.is_unsure) = (0, 0, false);
        }
        (fate.place, fate.token) = (Place::InHand { due }, trials.tokens);
        fate.takes += 1;
        let told = (fate.token, fate.failures);
        trials.waiting.retain(|&waiting| waiting != index);
        trials.held.push(index);
        self.subs[nth].in_hand += 1;
        self.census.count(if told.1 > 0 { "tried again" } else { "tried" });
        Ok(told)
    }

    /// Takes an event out of what is to come, and with it what will not come any more.
    fn first_sight(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let now = self.now;
        if self.subs[nth].instance().is_some() {
            return self.leaves_service(nth, index);
        }
        let Self { events, subs, .. } = self;
        let (sub, lane) = (&mut subs[nth], lane_of(events[index].spec.priority));
        if let Some(at) = sub.loose.iter().position(|&loose| loose == index) {
            sub.loose.swap_remove(at);
            return Ok(());
        }
        let position = sub.expected[lane].iter().position(|&expected| expected == index);
        let position = position.ok_or("it is not to get this event, or not again")?;
        let order = sub.trials.as_ref().and_then(|trials| trials.rule.order);
        let key = order.and_then(|order| order.of(&events[index]));
        let mut kept = Vec::new();
        for before in sub.expected[lane].drain(..=position).take(position).collect::<Vec<_>>() {
            // Where only keys keep their order, what is behind another key comes before that.
            if order.is_some() && (key.is_none() || order.and_then(|order| order.of(&events[before])) != key) {
                kept.push(before);
            } else if !sub.skip(&events[before], now) {
                return Err(format!("event {before} before it never came"));
            }
        }
        kept.into_iter().rev().for_each(|before| sub.expected[lane].push_front(before));
        Ok(())
    }

    /// Of a key whose order is kept one event is on its way.
    fn check_alone(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let Self { events, subs, now, .. } = self;
        let trials = subs[nth].trials.as_ref().expect("it is reliable");
        let Some(order) = trials.rule.order else { return Ok(()) };
        let Some(key) = order.of(&events[index]) else { return Ok(()) };
        for (&other, fate) in &trials.fates {
            // What waits may have expired meanwhile, which nobody tells.
            let is_on_its_way = match fate.place {
                Place::InHand { .. } | Place::Dying(..) => true,
                Place::Waiting { .. } => events[other].deadline.is_none_or(|deadline| *now <= deadline),
                Place::Returning | Place::Acked | Place::Dead => false,
            };
            if other != index && is_on_its_way && order.of(&events[other]) == Some(key) {
                return Err(format!("event {other} of the same key is {:?}", fate.place));
            }
        }
        Ok(())
    }

    /// The holder of a current attempt is about to say `outcome`.
    pub(crate) fn settling(&mut self, nth: usize, index: usize, outcome: &Outcome) {
        let (now, is_stopped) = (self.now, self.is_stopped);
        let sub = &mut self.subs[nth];
        if !sub.trials.as_ref().is_some_and(|trials| trials.held.contains(&index)) {
            return self.broken(format!("subscription {nth} says {outcome:?} of event {index}, which it has not got"));
        }
        let is_closed = sub.is_closed || is_stopped;
        sub.in_hand -= 1;
        let place = sub.trials.as_ref().map(|trials| trials.fates[&index].place);
        if let Some(Place::InHand { due }) = place {
            sub.record(now, due, outcome);
        }
        let trials = sub.trials.as_mut().expect("it is reliable");
        trials.release_hold(index);
        let rule = &trials.rule;
        let fate = trials.fates.get_mut(&index).expect("it is in hand");
        let failures = fate.failures + 1;
        let releases = fate.takes.saturating_sub(1).saturating_sub(u16::from(fate.failures));
        let dying = |reason, attempts| Place::Dying(reason, u32::from(attempts));
        let (place, kind) = match outcome {
            Outcome::Ack => {
                sub.acked += 1;
                trials.deaths = 0;
                (Place::Acked, "said: acknowledged")
            }
            Outcome::Reject(_) => (dying(DeadReason::Rejected, failures), "said: rejected"),
            Outcome::Release if releases >= rule.releases_max => {
                (dying(DeadReason::ReleasesExhausted, fate.failures), "said: released too often")
            }
            Outcome::Release if is_closed => (dying(DeadReason::Closed, fate.failures), "said: released, at the end"),
            Outcome::Release => (Place::Waiting { from: now, by: now }, "said: released"),
            _ if failures >= rule.attempts_max => {
                (dying(DeadReason::AttemptsExhausted, failures), "said: failed at last")
            }
            _ if is_closed => (dying(DeadReason::Closed, failures), "said: failed, at the end"),
            Outcome::RetryAfter(delay) => {
                let due = now.saturating_add((delay.as_nanos() as u64).min(WAIT_MAX_NS));
                (Place::Waiting { from: due, by: due }, "said: retry after")
            }
            _ => {
                let by = now.saturating_add(rule.delay_limit_ns(failures));
                (Place::Waiting { from: now, by }, "said: failed")
            }
        };
        fate.place = place;
        if matches!(place, Place::Waiting { .. }) {
            trials.retried += 1;
            trials.waiting.push(index);
            fate.failures += u8::from(*outcome != Outcome::Release);
        }
        if matches!(place, Place::Dying(..)) {
            self.dying.push((nth, index));
        }
        self.census.count(kind);
    }

    /// The holder of an attempt gives itself more time, or less.
    pub(crate) fn extended(&mut self, nth: usize, index: usize, time_ns: u64) {
        let due = self.now.saturating_add(time_ns.min(WAIT_MAX_NS));
        if let Some(fate) = self.trials(nth).fates.get_mut(&index) {
            fate.place = Place::InHand { due };
        }
    }
}
