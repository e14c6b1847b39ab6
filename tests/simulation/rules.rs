//! Rules as they ought to be obeyed, and steps that change them while the bus runs.

use ringmain::{Condition, Pattern, Priority, RoutingRule};

use crate::draw::Draw;
use crate::requests::QUERY;
use crate::scenario::Scenario;
use crate::services::SERVICES;
use crate::subjects::{PATTERNS, SOURCES};
use crate::world::{Event, World};

/// Ids of rules.
const RULES: [&str; 4] = ["a", "b", "c", "d"];

fn of_requests(text: &str) -> bool {
    Pattern::new(text).is_ok_and(|pattern| pattern.matches(QUERY.name()))
}

/// One rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    id: &'static str,
    types: Vec<&'static str>,
    least: Priority,
    source: Option<&'static str>,
    /// Only events that say who.
    named: bool,
    to: Vec<&'static str>,
    rank: i32,
    enabled: bool,
}

impl Rule {
    /// One of a scenario with requests is for none of their events.
    fn draw(draw: &mut Draw, has_requests: bool) -> Self {
        let types = (0..draw.below(3)).map(|_| draw.pick(&PATTERNS));
        let mut types: Vec<_> =
            if has_requests { types.filter(|text| !of_requests(text)).collect() } else { types.collect() };
        if has_requests && types.is_empty() {
            types.push("stock");
        }
        let to = (0..1 + draw.below(2)).map(|_| draw.pick(&SERVICES)).collect();
        Self {
            id: draw.pick(&RULES),
            types,
            least: draw.pick(&[Priority::Low, Priority::Low, Priority::Normal, Priority::High]),
            source: draw.one_in(6).then(|| draw.pick(&SOURCES)),
            named: draw.one_in(6),
            to,
            rank: draw.below(3) as i32,
            enabled: !draw.one_in(5),
        }
    }

    fn rule(&self) -> RoutingRule {
        let mut rule = RoutingRule::new(self.id).priority(self.rank).enabled(self.enabled).priority_min(self.least);
        if !self.types.is_empty() {
            rule = rule.types(self.types.iter().copied());
        }
        if let Some(source) = self.source {
            rule = rule.sources([source]);
        }
        if self.named {
            rule = rule.when(Condition::metadata("user").equals("ada"));
        }
        self.to.iter().fold(rule, |rule, &service| rule.to(service))
    }

    /// Whether it may match events of this one's topic and priority.
    pub(crate) fn is_for_type(&self, event: &Event) -> bool {
        let matches = |text: &&str| Pattern::new(text).is_ok_and(|pattern| pattern.matches(event.spec.topic));
        self.enabled && event.spec.priority >= self.least && (self.types.is_empty() || self.types.iter().any(matches))
    }

    pub(crate) fn matches(&self, event: &Event) -> bool {
        self.is_for_type(event)
            && self.source.is_none_or(|source| source == event.source)
            && (!self.named || event.spec.metadata == Some("ada"))
    }

    pub(crate) fn sends_to(&self, service: &str) -> bool {
        self.to.contains(&service)
    }
}

impl Scenario {
    /// Adds, changes, enables, disables or removes a rule.
    pub(crate) fn change_rules(&mut self) {
        let rule = Rule::draw(&mut self.draw, self.has_requests);
        let (id, verb) = (rule.id, self.draw.below(6));
        let known = self.world.with(|world| world.rules.iter().position(|one| one.id == id));
        let rules = self.bus().rules();
        let result = match verb {
            0 | 1 => rules.add(rule.rule()),
            2 => rules.change(rule.rule()),
            3 => rules.enable(id),
            4 => rules.disable(id),
            _ => rules.remove(id),
        };
        self.note(format_args!("rules, {verb}: {rule:?}, {result:?}"));
        let is_right = result.is_ok() == (known.is_none() == (verb < 2)) || self.is_closed();
        if !is_right {
            return self.check(Err(format!("rules, {verb} of {id}: {result:?}")));
        }
        if result.is_err() {
            return;
        }
        self.count(match verb {
            0 | 1 => "rule added",
            2 => "rule changed",
            3 | 4 => "rule enabled or disabled",
            _ => "rule removed",
        });
        self.world.with(|world| change(world, known, verb, rule));
    }
}

fn change(world: &mut World, known: Option<usize>, verb: usize, rule: Rule) {
    match (known, verb) {
        (None, _) => world.rules.push(rule),
        (Some(at), 2) => world.rules[at] = rule,
        (Some(at), 3 | 4) => world.rules[at].enabled = verb == 3,
        (Some(at), _) => drop(world.rules.remove(at)),
    }
    world.services_change();
}
