//! Conditions taken apart and put together: to write them down, and to make them again of what was written.

use super::operand::{Comparison, Operand};
use super::{Condition, OnField, Tree};

/// What a condition is made of.
///
/// ```
/// use ringmain::{Condition, ConditionParts};
/// let large = Condition::payload("total").greater_than(1_000);
/// let ConditionParts::Field { name, comparison, values } = large.to_parts() else { panic!("it is a comparison") };
/// assert_eq!((name.as_str(), comparison.as_str(), values.len()), ("payload.total", "greater_than", 1));
/// assert_eq!(Condition::from_parts(ConditionParts::Field { name, comparison, values }), Some(large));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConditionParts {
    /// Each of them holds.
    All(Vec<Condition>),
    /// One of them holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A comparison of a field.
    Field {
        /// The field, as in [`Condition::field`].
        name: String,
        /// What is compared: the name of the function of [`OnField`] that made it, such as `equals`.
        comparison: String,
        /// With what: one value; none for `exists`, any number for `one_of`.
        values: Vec<Operand>,
    },
}

impl Condition {
    /// What it is made of.
    pub fn to_parts(&self) -> ConditionParts {
        match &self.0 {
            Tree::All(conditions) => ConditionParts::All(conditions.clone()),
            Tree::Any(conditions) => ConditionParts::Any(conditions.clone()),
            Tree::Not(condition) => ConditionParts::Not(condition.clone()),
            Tree::Leaf(leaf) => ConditionParts::Field {
                name: leaf.name.clone(),
                comparison: name(&leaf.comparison).to_owned(),
                values: leaf.comparison.operands().to_vec(),
            },
        }
    }

    /// The condition of these parts; `None` when there is no such comparison, or not with so many values. Fields and limits are
    /// checked where it becomes part of a rule.
    pub fn from_parts(parts: ConditionParts) -> Option<Self> {
        let (field, comparison, values) = match parts {
            ConditionParts::All(conditions) => return Some(Self::all(conditions)),
            ConditionParts::Any(conditions) => return Some(Self::any(conditions)),
            ConditionParts::Not(condition) => return Some(!*condition),
            ConditionParts::Field { name, comparison, values } => (OnField(name), comparison, values),
        };
        let one = || <[Operand; 1]>::try_from(values.clone()).ok();
        Some(field.is(match comparison.as_str() {
            "equals" => Comparison::Equals(one()?),
            "not_equals" => Comparison::NotEquals(one()?),
            "less_than" => Comparison::Less(one()?),
            "greater_than" => Comparison::Greater(one()?),
            "contains" => Comparison::Contains(one()?),
            "starts_with" => Comparison::StartsWith(one().filter(|[text]| matches!(text, Operand::Text(_)))?),
            "exists" if values.is_empty() => Comparison::Exists,
            "one_of" => Comparison::OneOf(values),
            _ => return None,
        }))
    }
}

/// The function that makes it.
fn name(comparison: &Comparison) -> &'static str {
    match comparison {
        Comparison::Equals(_) => "equals",
        Comparison::NotEquals(_) => "not_equals",
        Comparison::Less(_) => "less_than",
        Comparison::Greater(_) => "greater_than",
        Comparison::Contains(_) => "contains",
        Comparison::StartsWith(_) => "starts_with",
        Comparison::Exists => "exists",
        Comparison::OneOf(_) => "one_of",
    }
}
