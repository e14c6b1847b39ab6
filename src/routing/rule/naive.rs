//! Rules against an evaluator written a second time, without any of the product's code: plain trees, looked at one by one.

mod random;

use proptest::collection::vec;
use proptest::prelude::*;

use self::random::{conditions, events, rules};
use super::sample::Sample;
use super::{RoutingRule, RuleSet};
use crate::Condition;
use crate::event::{Encoding, Priority};
use crate::routing::Operand;

/// JSON as a tree, with how its texts are written.
#[derive(Debug, Clone)]
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String, bool),
    Array(Vec<Json>),
    /// A key may stand twice.
    Object(Vec<(&'static str, bool, Json)>),
}

impl Json {
    fn quoted(text: &str, escaped: bool) -> String {
        let units = |c: char| if escaped { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
        format!("\"{}\"", text.chars().map(units).collect::<String>())
    }

    fn written(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text, escaped) => Self::quoted(text, *escaped),
            Self::Array(items) => format!("[{}]", items.iter().map(Self::written).collect::<Vec<_>>().join(" , ")),
            Self::Object(members) => {
                let member = |(key, escaped, value): &(&str, bool, Self)| {
                    format!(" {} :{}", Self::quoted(key, *escaped), value.written())
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::Array(items) => items.iter().enumerate().find(|(at, _)| at.to_string() == **first)?.1.at(rest),
            Self::Object(members) => members.iter().rev().find(|(key, ..)| key == first)?.2.at(rest),
            _ => None,
        }
    }

    fn plain(&self) -> Plain {
        match self {
            Self::Null => Plain::Null,
            Self::Bool(value) => Plain::Bool(*value),
            Self::Number(value) => Plain::Number(*value),
            Self::Text(text, _) => Plain::Text(text.clone()),
            Self::Array(items) => Plain::List(items.iter().map(Self::plain).collect()),
            Self::Object(_) => Plain::Object,
        }
    }
}

/// What a field holds, or what it is compared with.
#[derive(Debug, Clone, PartialEq)]
enum Plain {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// A text that is also the number or boolean it spells.
    Loose(String),
    List(Vec<Plain>),
    Object,
}

#[derive(Debug, Clone)]
enum Test {
    Equals(Plain),
    NotEquals(Plain),
    Less(Plain),
    Greater(Plain),
    Contains(Plain),
    Starts(String),
    Exists,
    OneOf(Vec<Plain>),
}

#[derive(Debug, Clone)]
enum Spec {
    All(Vec<Spec>),
    Any(Vec<Spec>),
    Not(Box<Spec>),
    Leaf(&'static str, Test),
}

#[derive(Debug, Clone)]
struct SpecRule {
    types: Vec<&'static str>,
    sources: Vec<&'static str>,
    priorities: Vec<Priority>,
    conditions: Vec<Spec>,
    priority: i32,
    enabled: bool,
}

#[derive(Debug, Clone)]
struct SpecEvent {
    sample: Sample,
    /// None: the payload is not JSON, whatever its encoding says.
    json: Option<Json>,
}

const ENCODINGS: [Encoding; 3] = [Encoding::Bytes, Encoding::Json, Encoding::Text];
const PRIORITIES: [&str; 4] = ["low", "normal", "high", "critical"];

impl SpecEvent {
    fn field(&self, name: &str) -> Option<Plain> {
        let sample = &self.sample;
        let text = |text: &str| Some(Plain::Text(text.to_owned()));
        if let Some(key) = name.strip_prefix("metadata.") {
            return sample
                .metadata
                .iter()
                .find(|(found, _)| found == key)
                .map(|(_, value)| Plain::Loose(value.clone()));
        }
        if let Some(path) = name.strip_prefix("payload") {
            let path: Vec<&str> = path.split('.').skip(1).collect();
            return Some(self.json.as_ref()?.at(&path)?.plain());
        }
        match name {
            "type" => text(&sample.topic),
            "category" => text(sample.topic.split('.').next()?),
            "source" if sample.source.is_empty() => None,
            "source" => text(&sample.source),
            "priority" => text(PRIORITIES[sample.priority as usize]),
            "encoding" => text(["bytes", "json", "text"][ENCODINGS.iter().position(|&one| one == sample.encoding)?]),
            "schema" => Some(Plain::Number(sample.schema.into())),
            "aggregate.kind" => text(&sample.aggregate.as_ref()?.0),
            "aggregate.version" => Some(Plain::Number(sample.aggregate.as_ref()?.2 as f64)),
            name => unreachable!("no field of this test: {name}"),
        }
    }

    fn matches(&self, rule: &SpecRule) -> bool {
        rule.enabled
            && (rule.types.is_empty() || rule.types.iter().any(|one| type_matches(one, &self.sample.topic)))
            && (rule.sources.is_empty() || rule.sources.contains(&self.sample.source.as_str()))
            && (rule.priorities.is_empty() || rule.priorities.contains(&self.sample.priority))
            && rule.conditions.iter().all(|condition| self.meets(condition))
    }

    fn meets(&self, condition: &Spec) -> bool {
        match condition {
            Spec::All(conditions) => conditions.iter().all(|one| self.meets(one)),
            Spec::Any(conditions) => conditions.iter().any(|one| self.meets(one)),
            Spec::Not(one) => !self.meets(one),
            Spec::Leaf(field, test) => self.field(field).is_some_and(|seen| passes(field, &seen, test)),
        }
    }
}

fn type_matches(pattern: &str, name: &str) -> bool {
    fn segments(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], rest) => rest.is_empty(),
            (["**", behind @ ..], _) => segments(behind, name) || (!name.is_empty() && segments(pattern, &name[1..])),
            ([_, ..], []) => false,
            ([one, behind @ ..], [read, rest @ ..]) => (*one == "*" || one == read) && segments(behind, rest),
        }
    }
    let parts: Vec<&str> = name.split('.').collect();
    match pattern.split('.').collect::<Vec<_>>()[..] {
        ["*"] => true,
        [category] if category != "**" => parts[0] == category,
        ref wanted => segments(wanted, &parts),
    }
}

/// -1, 0, 1, or None where the two cannot be compared.
fn order(field: &str, seen: &Plain, with: &Plain) -> Option<i32> {
    let sign = |less: bool, equal: bool| Some(if less { -1 } else { i32::from(!equal) });
    match (seen, with) {
        (Plain::Text(one), Plain::Text(other)) if field == "priority" => {
            let rank = |name: &String| PRIORITIES.iter().position(|one| one == name);
            sign(rank(one)? < rank(other)?, one == other)
        }
        (Plain::Text(one) | Plain::Loose(one), Plain::Text(other)) => sign(one < other, one == other),
        (Plain::Number(one), Plain::Number(other)) => sign(one < other, one == other),
        (Plain::Loose(text), Plain::Number(other)) => {
            let one: f64 = text.parse().ok()?;
            sign(one < *other, one == *other)
        }
        _ => None,
    }
}

fn equal(field: &str, seen: &Plain, with: &Plain) -> bool {
    match (seen, with) {
        (Plain::Null, Plain::Null) => true,
        (Plain::Bool(one), Plain::Bool(other)) => one == other,
        (Plain::Loose(text), Plain::Bool(other)) => *text == other.to_string(),
        _ => order(field, seen, with) == Some(0),
    }
}

fn passes(field: &str, seen: &Plain, test: &Test) -> bool {
    let both = |part: &Plain, relation: fn(&str, &str) -> bool| match (seen, part) {
        (Plain::Text(text) | Plain::Loose(text), Plain::Text(part)) => relation(text, part),
        _ => false,
    };
    match test {
        Test::Equals(with) => equal(field, seen, with),
        Test::NotEquals(with) => !equal(field, seen, with),
        Test::Less(with) => order(field, seen, with) == Some(-1),
        Test::Greater(with) => order(field, seen, with) == Some(1),
        Test::Contains(with) => match seen {
            Plain::List(items) => items.iter().any(|item| equal(field, item, with)),
            _ => both(with, |text, part| text.contains(part)),
        },
        Test::Starts(text) => both(&Plain::Text(text.clone()), |text, part| text.starts_with(part)),
        Test::Exists => true,
        Test::OneOf(all) => all.iter().any(|one| equal(field, seen, one)),
    }
}

// From here on: the same things as the product takes them.

impl From<Plain> for Operand {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Null => Self::Null,
            Plain::Bool(value) => value.into(),
            Plain::Number(value) if value.fract() == 0.0 => (value as i64).into(),
            Plain::Number(value) => value.into(),
            Plain::Text(text) => text.into(),
            Plain::Loose(_) | Plain::List(_) | Plain::Object => unreachable!("nothing is compared with it"),
        }
    }
}

fn condition(spec: &Spec) -> Condition {
    match spec.clone() {
        Spec::All(all) => Condition::all(all.iter().map(condition)),
        Spec::Any(all) => Condition::any(all.iter().map(condition)),
        Spec::Not(one) => !condition(&one),
        Spec::Leaf(field, test) => match (Condition::field(field), test) {
            (field, Test::Equals(with)) => field.equals(with),
            (field, Test::NotEquals(with)) => field.not_equals(with),
            (field, Test::Less(with)) => field.less_than(with),
            (field, Test::Greater(with)) => field.greater_than(with),
            (field, Test::Contains(with)) => field.contains(with),
            (field, Test::Starts(text)) => field.starts_with(text),
            (field, Test::Exists) => field.exists(),
            (field, Test::OneOf(all)) => field.one_of(all),
        },
    }
}

fn rule(id: usize, spec: &SpecRule) -> RoutingRule {
    let mut rule = RoutingRule::new(format!("r{id}")).types(spec.types.iter().copied());
    rule = rule.sources(spec.sources.iter().copied()).priorities(spec.priorities.iter().copied());
    rule = rule.priority(spec.priority).enabled(spec.enabled).to(format!("s{}", id % 3));
    spec.conditions.iter().map(condition).fold(rule, RoutingRule::when)
}

/// Rules and events of a case, less than; under Miri each takes seconds.
const RULES: usize = if cfg!(miri) { 3 } else { 12 };
const EVENTS: usize = if cfg!(miri) { 2 } else { 6 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 512 }))]

    #[test]
    fn conditions_hold_as_the_naive_evaluator_says(specs in vec(conditions(), 1..RULES), events in vec(events(), 1..EVENTS)) {
        let alone = |(id, spec)| RoutingRule::new(format!("r{id}")).to("s").when(condition(spec));
        let set = RuleSet::new(specs.iter().enumerate().map(alone)).unwrap();
        for event in &events {
            let found: Vec<bool> = event.sample.with(|meta| {
                (0..specs.len()).map(|id| set.evaluate(meta).any(|rule| rule.id == format!("r{id}"))).collect()
            });
            prop_assert_eq!(found, specs.iter().map(|spec| event.meets(spec)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rules_match_as_the_naive_evaluator_says_and_in_its_order(
        specs in vec(rules(), 0..RULES),
        events in vec(events(), 1..EVENTS),
        toggled in any::<prop::sample::Index>(),
    ) {
        let set = RuleSet::new(specs.iter().enumerate().map(|(id, spec)| rule(id, spec))).unwrap();
        prop_assert_eq!(set.rules().len(), specs.len());
        check(&set, &specs, &events)?;

        let Some(spec) = specs.get(toggled.index(specs.len().max(1))) else { return Ok(()) };
        let id = toggled.index(specs.len());
        let changed = set.with_enabled(&format!("r{id}"), !spec.enabled).unwrap();
        let mut specs = specs.clone();
        specs[id].enabled = !specs[id].enabled;
        check(&changed, &specs, &events)?;
        specs.remove(id);
        prop_assert_eq!(changed.without(&format!("r{id}")).unwrap().rules().len(), specs.len());
    }
}

fn check(set: &RuleSet, specs: &[SpecRule], events: &[SpecEvent]) -> Result<(), TestCaseError> {
    // Ids of one digit and two sort as texts do.
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|&id| (-specs[id].priority, format!("r{id}")));
    for event in events {
        let expected: Vec<String> =
            order.iter().filter(|&&id| event.matches(&specs[id])).map(|id| format!("r{id}")).collect();
        event.sample.with(|meta| {
            let found: Vec<&str> = set.evaluate(meta).map(|rule| rule.id.as_str()).collect();
            prop_assert_eq!(&found, &expected);
            let explained: Vec<String> =
                set.explain(meta).into_iter().filter(|verdict| verdict.matches()).map(|verdict| verdict.rule).collect();
            prop_assert_eq!(&explained, &expected);

            // As a route of the type asks, and one of types without an id; both know two of the three services.
            let resolve = |target: &str| (target != "s0").then(|| target.to_owned());
            let here: Vec<&String> = expected.iter().filter(|id| id[1..].parse::<usize>().unwrap() % 3 != 0).collect();
            for name in [Some(meta.topic()), None] {
                let route = set.for_type(name, resolve);
                let event = route.reading(meta);
                let found: Vec<(&String, &[String])> =
                    route.evaluate(&event).map(|(rule, targets)| (&rule.id, targets)).collect();
                prop_assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), here.clone());
                for (id, targets) in &found {
                    prop_assert_eq!(*targets, &[format!("s{}", id[1..].parse::<usize>().unwrap() % 3)][..]);
                }
                prop_assert!(here.is_empty() || route.lanes() & (1 << meta.priority().lane()) != 0);
                prop_assert!(here.is_empty() || !route.is_empty());
            }
            prop_assert!(expected.is_empty() || set.applies_to_type(meta.topic()));
            Ok(())
        })?;
    }
    Ok(())
}
