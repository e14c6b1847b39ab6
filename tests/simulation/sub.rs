//! A subscription as the model sees it, and what it must still get.

use std::collections::{HashMap, VecDeque};

use ringmain::{Overflow, Pattern, Priority};

use crate::breaker::Breaker;
use crate::cells::Queues;
use crate::keys::Likeness;
use crate::newest::Newest;
use crate::pace::Pace;
use crate::requests::Requests;
use crate::services::Role;
use crate::subjects::Shape;
use crate::trials::Trials;
use crate::unnamed::is_of_requests;
use crate::world::{Event, LANES, lane_of};

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

/// What is dropped as a duplicate.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) by: Likeness,
    pub(crate) time_ns: u64,
    /// It forgets nothing within its time.
    pub(crate) is_wide: bool,
    /// Events of each key that are to come, or came.
    pub(crate) met: HashMap<u64, u64>,
    /// When one of each key was let in.
    pub(crate) let_in: HashMap<u64, u64>,
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
    /// The test pulls from its mailbox.
    pub(crate) is_pulled: bool,
    pub(crate) worker: usize,
    pub(crate) role: Role,
    /// Of a reliable one.
    pub(crate) trials: Option<Trials>,
    pub(crate) breaker: Option<Breaker>,
    /// At most so many events, and no more.
    pub(crate) pace: Option<Pace>,
    /// Of one to the newest events only.
    pub(crate) newest: Option<Newest>,
    pub(crate) dedup: Option<Window>,
    /// Of a requester's, to its answers.
    pub(crate) requests: Option<Requests>,
    /// Which events are not acknowledged: one in so many.
    pub(crate) moods: Option<(u128, Action)>,
    pub(crate) is_live: bool,
    /// What waits in its mailbox may be given up from now on.
    pub(crate) is_ending: bool,
    /// Its mailbox takes nothing back any more.
    pub(crate) is_closed: bool,
    /// A future's handler is under way.
    pub(crate) is_calling: bool,
    /// How long a handler may have an event: in a future, or on a worker where scenarios have such.
    pub(crate) call_max_ns: Option<u64>,
    /// Of a call under way without attempts: when its time is over, and whether its worker has noticed.
    pub(crate) call: Option<(u64, bool)>,
    /// Attempts and calls that took too long.
    pub(crate) timed_out: u64,
    pub(crate) is_paused: bool,
    /// At some time since the bus was last at rest.
    pub(crate) was_paused: bool,
    pub(crate) expected: [VecDeque<usize>; LANES],
    /// Came due: their place in the lane is not known before somebody sees it.
    pub(crate) loose: Vec<usize>,
    pub(crate) last: [Option<u64>; LANES],
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
            is_pulled: false,
            worker: 0,
            role: Role::Subscriber,
            trials: None,
            breaker: None,
            pace: None,
            newest: None,
            dedup: None,
            requests: None,
            moods,
            is_live: true,
            is_ending: false,
            is_closed: false,
            is_calling: false,
            call_max_ns: None,
            call: None,
            timed_out: 0,
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

    /// Whether the time of a call under way is over, and its worker has noticed.
    pub(crate) fn is_overrun(&self) -> bool {
        self.call.is_some_and(|(_, is_overrun)| is_overrun)
    }

    /// What happens when its mailbox is full.
    pub(crate) fn overflow(&self) -> Option<Overflow> {
        match self.way {
            Way::Inline => None,
            Way::Mailbox(_, overflow) => Some(overflow),
        }
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.wants_kind(event.spec.topic, event.spec.priority)
    }

    /// Before its filter is asked.
    pub(crate) fn wants_kind(&self, topic: &str, priority: Priority) -> bool {
        matches!(self.role, Role::Subscriber)
            && self.is_live
            && self.lanes & (1 << lane_of(priority)) != 0
            && self.pattern.matches(topic)
    }

    pub(crate) fn passes(&self, event: &Event) -> bool {
        let correlation = event.spec.correlation;
        self.source.is_none_or(|source| source == event.source)
            && !(is_of_requests(event.spec.topic) && self.is_kept_from_requests())
            && self.divisor.is_none_or(|divisor| !u128::from(event.id).is_multiple_of(divisor))
            && self.requests.as_ref().is_none_or(|requests| correlation.is_some_and(|query| requests.is_asked(query)))
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
        late || paused || unreadable || spilled || twice || (self.turns_away() && self.trials.is_none())
    }
}
