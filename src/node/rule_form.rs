//! Routing rules as JSON: over HTTP, and where they are kept.
//!
//! ```json
//! {
//!   "id": "large-orders",
//!   "filter": {"event_types": ["orders.*"], "priorities": ["critical", "high"]},
//!   "conditions": [{"any": [{"field": "payload.total", "greater_than": 1000}, {"field": "metadata.vip", "exists": true}]}],
//!   "targets": ["fraud-check"],
//!   "priority": 10
//! }
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Condition, ConditionParts, Operand, Priority, RoutingRule, RuleFilter};

/// Deeper than a condition of a rule can be: what is nested further is refused before it is read.
const DEPTH_MAX: usize = RoutingRule::DEPTH_MAX + 1;
/// Comparisons that have a value.
const COMPARISONS: [&str; 6] = ["equals", "not_equals", "less_than", "greater_than", "contains", "starts_with"];

/// A rule as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleForm {
    pub(super) id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    filter: FilterForm,
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    priority: i32,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterForm {
    #[serde(default)]
    event_types: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    priorities: Vec<String>,
}

const fn yes() -> bool {
    true
}

impl From<&RoutingRule> for RuleForm {
    fn from(rule: &RoutingRule) -> Self {
        let RuleFilter { event_types, sources, priorities } = rule.filter.clone();
        let priorities = priorities.into_iter().map(|priority| priority.as_str().to_owned()).collect();
        Self {
            id: rule.id.clone(),
            name: Some(rule.name.clone()),
            filter: FilterForm { event_types, sources, priorities },
            targets: rule.targets.clone(),
            priority: rule.priority,
            enabled: rule.enabled,
            conditions: rule.conditions.iter().map(written).collect(),
        }
    }
}

impl RuleForm {
    /// The rule, of which limits and patterns are checked where it is added.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn rule(self) -> Result<RoutingRule, String> {
        let Self { id, name, filter, targets, priority, enabled, conditions } = self;
        let FilterForm { event_types, sources, priorities } = filter;
        let parse = |text: &String| {
            text.parse::<Priority>()
                .map_err(|_| format!("{text:?} is no priority; they are critical, high, normal and low"))
        };
        let priorities = priorities.iter().map(parse).collect::<Result<_, _>>()?;
        let conditions = conditions.iter().map(|form| condition(form, 1)).collect::<Result<_, _>>()?;
        let filter = RuleFilter { event_types, sources, priorities };
        Ok(RoutingRule { name: name.unwrap_or_else(|| id.clone()), id, filter, targets, priority, enabled, conditions })
    }
}

fn written(condition: &Condition) -> Value {
    let group = |conditions: &[Condition]| Value::Array(conditions.iter().map(written).collect());
    let mut form = Map::new();
    match condition.to_parts() {
        ConditionParts::All(conditions) => drop(form.insert("all".to_owned(), group(&conditions))),
        ConditionParts::Any(conditions) => drop(form.insert("any".to_owned(), group(&conditions))),
        ConditionParts::Not(condition) => drop(form.insert("not".to_owned(), written(&condition))),
        ConditionParts::Field { name, comparison, values } => {
            let mut values: Vec<_> = values.iter().map(operand_written).collect();
            let value = match &*comparison {
                "exists" => Value::Bool(true),
                "one_of" => Value::Array(values),
                _ => values.pop().unwrap_or_default(),
            };
            form.insert("field".to_owned(), name.into());
            form.insert(comparison, value);
        }
    }
    Value::Object(form)
}

fn operand_written(operand: &Operand) -> Value {
    match operand {
        Operand::Null => Value::Null,
        Operand::Bool(value) => (*value).into(),
        // What no JSON number holds is compared as text.
        Operand::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(value), _) => value.into(),
            (_, Ok(value)) => value.into(),
            _ => value.to_string().into(),
        },
        Operand::Float(value) => (*value).into(),
        Operand::Text(text) => text.clone().into(),
    }
}

fn condition(form: &Value, depth: usize) -> Result<Condition, String> {
    if depth > DEPTH_MAX {
        return Err(format!("conditions are nested deeper than {}; flatten them", RoutingRule::DEPTH_MAX));
    }
    let shape = || {
        format!(
            "{form} is no condition; it is {{\"all\": [..]}}, {{\"any\": [..]}}, {{\"not\": {{..}}}} or a field with one of {}, one_of and exists",
            COMPARISONS.join(", ")
        )
    };
    let form = form.as_object().ok_or_else(shape)?;
    let group = |value: &Value| {
        let conditions = value.as_array().ok_or_else(shape)?;
        conditions.iter().map(|form| condition(form, depth + 1)).collect::<Result<Vec<_>, _>>()
    };
    let mut members = form.iter();
    let parts = match (form.get("field"), form.len(), members.next()) {
        (None, 1, Some((name, value))) => match &**name {
            "all" => ConditionParts::All(group(value)?),
            "any" => ConditionParts::Any(group(value)?),
            "not" => ConditionParts::Not(Box::new(condition(value, depth + 1)?)),
            _ => return Err(shape()),
        },
        (Some(Value::String(name)), 2, _) => {
            let (comparison, value) = form.iter().find(|(name, _)| *name != "field").ok_or_else(shape)?;
            let values = match (&**comparison, value) {
                ("exists", Value::Bool(true)) => Vec::new(),
                ("one_of", Value::Array(values)) => {
                    values.iter().map(operand).collect::<Option<_>>().ok_or_else(shape)?
                }
                (comparison, value) if COMPARISONS.contains(&comparison) => vec![operand(value).ok_or_else(shape)?],
                _ => return Err(shape()),
            };
            ConditionParts::Field { name: name.clone(), comparison: comparison.clone(), values }
        }
        _ => return Err(shape()),
    };
    Condition::from_parts(parts).ok_or_else(shape)
}

fn operand(value: &Value) -> Option<Operand> {
    Some(match value {
        Value::Null => Operand::Null,
        Value::Bool(value) => Operand::Bool(*value),
        Value::String(text) => Operand::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Operand::Integer(value.into()),
            (_, Some(value), _) => Operand::Integer(value.into()),
            (.., value) => Operand::Float(value?),
        },
        Value::Array(_) | Value::Object(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RoutingRule, String> {
        serde_json::from_str::<RuleForm>(text).map_err(|error| error.to_string())?.rule()
    }

    #[test]
    fn a_rule_that_is_written_is_read_as_the_same() {
        let rule = RoutingRule::new("large")
            .named("large orders")
            .types(["orders.*"])
            .sources(["service:shop"])
            .priorities([Priority::Critical, Priority::Low])
            .when(Condition::any([
                Condition::payload("total").greater_than(1_000),
                !Condition::metadata("vip").exists(),
                Condition::all([Condition::field("source").starts_with("a"), Condition::payload("x").equals(1.5)]),
            ]))
            .when(Condition::metadata("country").one_of(["de", "at"]))
            .to("fraud")
            .priority(-3)
            .enabled(false);
        let text = serde_json::to_string(&RuleForm::from(&rule)).expect("it has no map");
        assert_eq!(read(&text), Ok(rule));
    }

    #[test]
    fn what_is_left_out_is_as_it_is_by_default() {
        assert_eq!(read(r#"{"id": "all", "targets": ["a"]}"#), Ok(RoutingRule::new("all").to("a")));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_what_would_be() {
        for (text, wanted) in [
            (r#"{"targets": ["a"]}"#, "missing field `id`"),
            (r#"{"id": "a", "target": "b"}"#, "unknown field `target`"),
            (r#"{"id": "a", "filter": {"priorities": ["urgent"]}}"#, "\"urgent\" is no priority"),
            (r#"{"id": "a", "conditions": [{"field": "type"}]}"#, "is no condition"),
            (r#"{"id": "a", "conditions": [{"field": "type", "like": "b"}]}"#, "is no condition"),
            (r#"{"id": "a", "conditions": [{"field": "type", "equals": [1]}]}"#, "is no condition"),
            (r#"{"id": "a", "conditions": [{"field": "type", "exists": false}]}"#, "is no condition"),
            (r#"{"id": "a", "conditions": [{"field": "type", "starts_with": 7}]}"#, "is no condition"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.contains(wanted), "{told}");
        }
        let deep =
            format!(r#"{{"id": "a", "conditions": [{}{{"all": []}}{}]}}"#, r#"{"not": "#.repeat(20), "}".repeat(20));
        assert!(read(&deep).expect_err("it is too deep").contains("nested deeper"));
    }
}
