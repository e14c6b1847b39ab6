//! Limits of the whole bus as they ought to be kept: how fast events may be published, and how fast they go through.

use std::collections::HashMap;

use ringmain::{Pattern, RateLimit};

use crate::draw::Draw;
use crate::pace::Pace;
use crate::scenario::Scenario;
use crate::sub::Way;
use crate::subjects::{PATTERNS, SOURCES, Spec};
use crate::world::{World, lane_of};

#[derive(Debug, Clone, Copy)]
enum Scope {
    Type(&'static str),
    EachType(&'static str),
    Source(&'static str),
    EachSource,
}

/// One limit on publishing, and what each kind of event has had of it.
#[derive(Debug)]
pub(crate) struct Limit {
    scope: Scope,
    pace: Pace,
    queues: bool,
    kinds: HashMap<String, Pace>,
}

impl Limit {
    fn draw(draw: &mut Draw, knows_sources: bool) -> Self {
        let scope = match draw.below(4) {
            0 => Scope::Type(draw.pick(&PATTERNS)),
            1 => Scope::EachType(draw.pick(&PATTERNS)),
            2 if knows_sources => Scope::Source(draw.pick(&SOURCES)),
            _ => Scope::EachSource,
        };
        Self { scope, pace: Pace::draw(draw, true), queues: draw.one_in(3), kinds: HashMap::new() }
    }

    fn limit(&self) -> RateLimit {
        let (rate, _) = self.pace.rate();
        let limit = match self.scope {
            Scope::Type(pattern) => RateLimit::of_type(pattern, rate),
            Scope::EachType(pattern) => RateLimit::of_each_type(pattern, rate),
            Scope::Source(source) => RateLimit::of_source(source, rate),
            Scope::EachSource => RateLimit::of_each_source(rate),
        };
        if self.queues { limit.queue() } else { limit }
    }

    /// What keeps the rate of events of this topic and source, if it is a limit on them.
    fn pace_of(&mut self, topic: &str, source: &str) -> Option<&mut Pace> {
        let matches = |pattern: &str| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(topic));
        let kind = match self.scope {
            Scope::Type(pattern) => matches(pattern).then_some(""),
            Scope::EachType(pattern) => matches(pattern).then_some(topic),
            Scope::Source(of) => (of == source).then_some(""),
            Scope::EachSource => Some(source),
        }?;
        Some(self.kinds.entry(kind.to_owned()).or_insert_with(|| self.pace.fresh()))
    }
}

impl World {
    /// An event was accepted: the limits allowed it.
    pub(crate) fn check_limits(&mut self, index: usize) {
        let Self { events, limits, now, .. } = self;
        let (event, mut broken) = (&events[index], None);
        for (nth, limit) in limits.iter_mut().enumerate() {
            if let Some(Err(what)) = limit.pace_of(event.spec.topic, &event.source).map(|pace| pace.pass(*now)) {
                broken.get_or_insert(format!("event {index} was accepted over limit {nth}: {what}"));
            }
        }
        if let Some(what) = broken {
            self.broken(what);
        }
    }

    /// A publish of one event was refused by limit `nth`: is that right? Of one whose source is not known nobody can say.
    pub(crate) fn is_over_limit(&mut self, nth: usize, spec: &Spec) -> bool {
        let (now, shares) = (self.now, self.overflows_types);
        let Some(limit) = self.limits.get_mut(nth) else { return false };
        match limit.scope {
            Scope::Source(_) | Scope::EachSource => true,
            Scope::EachType(_) if shares => true,
            Scope::Type(_) | Scope::EachType(_) => {
                limit.pace_of(spec.topic, "").is_some_and(|pace| !pace.has_room(now))
            }
        }
    }

    /// A handler on a worker that is called in the lane gets an event: once for each worker it passed the throttle.
    pub(crate) fn passes_throttle(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let Self { subs, events, throttle, now, is_closed, census, .. } = self;
        let (sub, Some((pace, passed))) = (&subs[nth], throttle) else { return Ok(()) };
        let is_critical = lane_of(events[index].spec.priority) == 0;
        if sub.way != Way::Inline || is_critical || *is_closed || !passed.insert((sub.worker, index)) {
            return Ok(());
        }
        census.count("passed a throttle");
        pace.pass(*now).map_err(|what| format!("it passed the throttle: {what}"))
    }
}

impl Scenario {
    /// Other limits on publishing, or none.
    pub(crate) fn change_limits(&mut self) {
        let knows_sources = self.world.with(|world| world.knows_sources);
        let limits = self.draw.pick(&[0, 0, 1, 2]);
        let limits: Vec<_> = (0..limits).map(|_| Limit::draw(&mut self.draw, knows_sources)).collect();
        self.note(format_args!("limits: {limits:?}"));
        let result = self.bus().set_rate_limits(limits.iter().map(Limit::limit));
        self.check(result.map_err(|error| error.to_string()));
        self.count("limits on publishing set");
        self.world.with(|world| world.limits = limits);
    }
}
