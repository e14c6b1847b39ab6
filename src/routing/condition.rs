//! Conditions of a routing rule: comparisons of an event's fields with values, joined by all, any and not.
//!
//! | field | what is compared |
//! |---|---|
//! | `type`, `category` | the topic's name, its first segment |
//! | `source`, `encoding` | texts; encodings are `bytes`, `rkyv`, `json`, `text`, `protobuf` |
//! | `priority` | `low` < `normal` < `high` < `critical` |
//! | `schema`, `schema_text` | the schema version as a number, and as the text that was set |
//! | `attempt`, `payload_bytes` | numbers |
//! | `id`, `correlation`, `causation` | UUIDs as texts in lower case |
//! | `original_id`, `trace_parent` | texts |
//! | `aggregate.kind`, `aggregate.id`, `aggregate.version` | texts, and a number |
//! | `metadata.KEY` | an entry's value; compared with a number or a boolean it is read as one |
//! | `payload`, `payload.PATH` | a value in a JSON payload; needs the feature `json` |
//!
//! A path is keys and array indices joined by dots, such as `order.items.0.price`; a key that holds a dot cannot be named.

mod field;
#[cfg(feature = "json")]
mod json;
mod operand;
mod parts;
mod reading;

use std::fmt;

use self::field::{Field, FieldFault};
use self::operand::{Comparison, Seen};
use super::rule::RuleError;
use crate::event::Priority;

pub use self::operand::Operand;
pub use self::parts::ConditionParts;
pub(super) use self::reading::Path;
pub(crate) use self::reading::Reading;

/// Conditions a rule may have, groups among them.
pub(super) const CONDITIONS_MAX: usize = 64;
/// Levels of a condition; a comparison has one, a group one more than the deepest it holds.
pub(super) const DEPTH_MAX: usize = 8;
/// Values one `one_of` may list.
const VALUES_MAX: usize = 64;
/// Bytes of a text to compare with.
const VALUE_BYTES_MAX: usize = 1_024;
/// Bytes of a field's name.
const FIELD_BYTES_MAX: usize = 512;

/// Something that an event meets or does not: a comparison of one field, or a group.
///
/// ```
/// use ringmain::{Condition, Priority};
///
/// let large_or_urgent = Condition::any([
///     Condition::payload("order.total").greater_than(1_000),
///     Condition::field("priority").greater_than(Priority::Normal),
/// ]);
/// let from_abroad = !Condition::metadata("country").one_of(["de", "at"]);
/// # let _ = (large_or_urgent, from_abroad);
/// ```
///
/// A field the event does not have fails every comparison, `not_equals` too; `!` turns that round, so `!…equals(x)` also
/// holds where the field is missing. A payload that is no JSON has no fields. One that is longer than
/// [`condition_payload_bytes_max`](crate::BusBuilder::condition_payload_bytes_max) is not read, and no comparison of its fields
/// holds then, nor does `!` of one: what else a group says decides. Values that cannot be
/// compared are as fields that are missing: a text is neither less nor greater than a number.
///
/// Fields and limits are checked when the condition's rule becomes part of a [`RuleSet`](crate::RuleSet); the table of
/// fields is at [`Condition::field`].
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Tree);

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Leaf(Box<Leaf>),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
struct Leaf {
    /// The field as it was named.
    name: String,
    field: Result<Field, FieldFault>,
    comparison: Comparison,
}

impl Condition {
    /// Holds when each of `conditions` does; also when there are none.
    pub fn all(conditions: impl IntoIterator<Item = Condition>) -> Self {
        Self(Tree::All(conditions.into_iter().collect()))
    }

    /// Holds when one of `conditions` does; with none it never does.
    pub fn any(conditions: impl IntoIterator<Item = Condition>) -> Self {
        Self(Tree::Any(conditions.into_iter().collect()))
    }

    /// Begins a comparison of the field of this name.
    ///
    /// Texts: `type`, `category` (the type's first segment), `source`, `encoding` (`bytes`, `rkyv`, `json`, `text`,
    /// `protobuf`), `schema_text`, `id`, `correlation`, `causation` (UUIDs in lower case), `original_id`, `trace_parent`,
    /// `aggregate.kind`, `aggregate.id`. Numbers: `schema`, `attempt`, `payload_bytes`, `aggregate.version`. `priority` is
    /// ordered from `low` to `critical`. `metadata.KEY` and `payload.PATH` are as [`metadata`](Self::metadata) and
    /// [`payload`](Self::payload).
    pub fn field(name: impl Into<String>) -> OnField {
        OnField(name.into())
    }

    /// Begins a comparison of a metadata entry. Its value is a text; compared with a number or a boolean it is read as one.
    pub fn metadata(key: &str) -> OnField {
        OnField(format!("metadata.{key}"))
    }

    /// Begins a comparison of a value in a JSON payload, at a path of keys and array indices joined by dots; an empty path
    /// is the whole payload. Of a key that stands twice in an object the last counts.
    ///
    /// # Cost
    /// An event's payload is read once for all rules of its type, when the first of them asks for it: all of it, and what a path goes
    /// through once more for each of its keys. That allocates where keys or texts hold escapes, and where the rules of a type name
    /// more than 32 paths. A rule's conditions that read no payload are asked first.
    pub fn payload(path: &str) -> OnField {
        OnField(if path.is_empty() { "payload".to_owned() } else { format!("payload.{path}") })
    }

    /// Whether the event meets it.
    pub(super) fn holds(&self, event: &Reading<'_>) -> bool {
        self.says(event, false)
    }

    /// What it says of the event, where `unknown` is said of a payload that is not read: so that no `not` around it makes it hold.
    fn says(&self, event: &Reading<'_>, unknown: bool) -> bool {
        match &self.0 {
            Tree::All(conditions) => conditions.iter().all(|condition| condition.says(event, unknown)),
            Tree::Any(conditions) => conditions.iter().any(|condition| condition.says(event, unknown)),
            Tree::Not(condition) => !condition.says(event, !unknown),
            Tree::Leaf(leaf) if matches!(leaf.field, Ok(Field::Payload(_))) && event.is_too_long() => unknown,
            Tree::Leaf(leaf) => leaf.holds(event),
        }
    }

    /// Adds each path by which it reads the payload.
    pub(super) fn add_paths(&self, paths: &mut Vec<Path>) {
        match &self.0 {
            Tree::All(conditions) | Tree::Any(conditions) => {
                conditions.iter().for_each(|condition| condition.add_paths(paths));
            }
            Tree::Not(condition) => condition.add_paths(paths),
            Tree::Leaf(leaf) => {
                if let Ok(Field::Payload(path)) = &leaf.field {
                    paths.push(path.clone());
                }
            }
        }
    }

    /// Whether it reads the payload.
    pub(super) fn reads_payload(&self) -> bool {
        match &self.0 {
            Tree::All(conditions) | Tree::Any(conditions) => conditions.iter().any(Self::reads_payload),
            Tree::Not(condition) => condition.reads_payload(),
            Tree::Leaf(leaf) => matches!(leaf.field, Ok(Field::Payload(_))),
        }
    }

    /// The smallest part that the event fails: within a group of which all must hold, the first that does not. None when
    /// the event meets the condition.
    pub(super) fn first_failing(&self, event: &Reading<'_>) -> Option<&Self> {
        match &self.0 {
            Tree::All(conditions) => conditions.iter().find_map(|condition| condition.first_failing(event)),
            _ => (!self.holds(event)).then_some(self),
        }
    }

    /// Adds each field that it compares, with what the event has there.
    pub(super) fn see_fields(&self, event: &Reading<'_>, seen: &mut Vec<(String, Option<String>)>) {
        match &self.0 {
            Tree::All(conditions) | Tree::Any(conditions) => {
                conditions.iter().for_each(|condition| condition.see_fields(event, seen));
            }
            Tree::Not(condition) => condition.see_fields(event, seen),
            Tree::Leaf(leaf) => seen.push((leaf.name.clone(), leaf.value_seen(event))),
        }
    }

    /// Checks fields, values and limits. `count` is how many conditions the rule has so far.
    pub(super) fn check(&self, rule: &str, depth: usize, count: &mut usize) -> Result<(), RuleError> {
        *count += 1;
        if *count > CONDITIONS_MAX {
            return Err(RuleError::TooMany {
                rule: rule.to_owned(),
                what: "conditions",
                count: *count,
                max: CONDITIONS_MAX,
            });
        }
        if depth > DEPTH_MAX {
            return Err(RuleError::TooDeep { rule: rule.to_owned(), depth_max: DEPTH_MAX });
        }
        match &self.0 {
            Tree::All(conditions) | Tree::Any(conditions) => {
                conditions.iter().try_for_each(|condition| condition.check(rule, depth + 1, count))
            }
            Tree::Not(condition) => condition.check(rule, depth + 1, count),
            Tree::Leaf(leaf) => leaf.check(rule),
        }
    }
}

impl std::ops::Not for Condition {
    type Output = Self;

    /// Holds when this one does not.
    fn not(self) -> Self {
        match self.0 {
            Tree::Not(condition) => *condition,
            tree => Self(Tree::Not(Box::new(Self(tree)))),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |f: &mut fmt::Formatter<'_>, word, conditions: &[Condition]| {
            write!(f, "{word} of (")?;
            for (at, condition) in conditions.iter().enumerate() {
                write!(f, "{}{condition}", if at == 0 { "" } else { ", " })?;
            }
            f.write_str(")")
        };
        match &self.0 {
            Tree::All(conditions) => group(f, "all", conditions),
            Tree::Any(conditions) => group(f, "any", conditions),
            Tree::Not(condition) => write!(f, "not ({condition})"),
            Tree::Leaf(leaf) => write!(f, "{} {}", leaf.name, leaf.comparison),
        }
    }
}

impl Leaf {
    fn holds(&self, event: &Reading<'_>) -> bool {
        match &self.field {
            #[cfg(feature = "json")]
            Ok(Field::Payload(path)) => {
                event.value(path).is_some_and(|value| json::holds(value.get(), &self.comparison))
            }
            Ok(field) => field.read(event.meta(), |seen| self.comparison.holds(seen)).unwrap_or(false),
            Err(_) => false,
        }
    }

    fn value_seen(&self, event: &Reading<'_>) -> Option<String> {
        match self.field.as_ref().ok()? {
            #[cfg(feature = "json")]
            Field::Payload(path) => event.value(path).map(|value| operand::shortened(value.get())),
            field => field.read(event.meta(), |seen| seen.to_string()),
        }
    }

    fn check(&self, rule: &str) -> Result<(), RuleError> {
        let rule = || rule.to_owned();
        if self.name.len() > FIELD_BYTES_MAX {
            let bytes = self.name.len();
            return Err(RuleError::TooLong { rule: rule(), what: "field's name", bytes, max: FIELD_BYTES_MAX });
        }
        let name = || self.name.clone();
        let field = match &self.field {
            Ok(Field::Payload(_)) if !cfg!(feature = "json") => {
                return Err(RuleError::NoJson { rule: rule(), field: name() });
            }
            Ok(field) => field,
            Err(FieldFault::Unknown) => return Err(RuleError::UnknownField { rule: rule(), field: name() }),
            Err(FieldFault::EmptySegment) => return Err(RuleError::EmptySegment { rule: rule(), field: name() }),
        };
        let operands = self.comparison.operands();
        if operands.len() > VALUES_MAX {
            return Err(RuleError::TooMany { rule: rule(), what: "values", count: operands.len(), max: VALUES_MAX });
        }
        for operand in operands {
            let Operand::Text(text) = operand else { continue };
            if text.len() > VALUE_BYTES_MAX {
                let bytes = text.len();
                return Err(RuleError::TooLong { rule: rule(), what: "value", bytes, max: VALUE_BYTES_MAX });
            }
        }
        if let (Some(allowed), true) = (field.values(), self.comparison.takes_whole_values()) {
            let fits = |operand: &&Operand| match operand {
                Operand::Text(text) => allowed.contains(&text.as_str()),
                _ => false,
            };
            if let Some(wrong) = operands.iter().find(|operand| !fits(operand)) {
                return Err(RuleError::Value {
                    rule: rule(),
                    field: name(),
                    value: wrong.to_string(),
                    allowed: allowed.join(", "),
                });
            }
        }
        Ok(())
    }
}

/// A field that waits for what it is compared with. Made by [`Condition::field`] and its likes.
///
/// Values are texts, booleans, integers, floats, priorities, encodings and event ids; [`Operand::Null`] is JSON's `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a field alone is no condition: say what it is compared with"]
pub struct OnField(String);

impl OnField {
    /// The field is there and equal to `value`. Integers and floats compare by their value.
    pub fn equals(self, value: impl Into<Operand>) -> Condition {
        self.is(Comparison::Equals([value.into()]))
    }

    /// The field is there and not equal to `value`.
    pub fn not_equals(self, value: impl Into<Operand>) -> Condition {
        self.is(Comparison::NotEquals([value.into()]))
    }

    /// The field is less than `value`: both numbers, both texts (by their bytes), or both priorities.
    pub fn less_than(self, value: impl Into<Operand>) -> Condition {
        self.is(Comparison::Less([value.into()]))
    }

    /// The field is greater than `value`: both numbers, both texts (by their bytes), or both priorities.
    pub fn greater_than(self, value: impl Into<Operand>) -> Condition {
        self.is(Comparison::Greater([value.into()]))
    }

    /// The field is a text that holds the text `value`, or a JSON array one of whose elements equals `value`.
    pub fn contains(self, value: impl Into<Operand>) -> Condition {
        self.is(Comparison::Contains([value.into()]))
    }

    /// The field is a text that begins with `text`.
    pub fn starts_with(self, text: impl Into<String>) -> Condition {
        self.is(Comparison::StartsWith([Operand::Text(text.into())]))
    }

    /// The field is there, whatever it is: JSON's `null` counts.
    pub fn exists(self) -> Condition {
        self.is(Comparison::Exists)
    }

    /// The field equals one of `values`; at most 64.
    pub fn one_of<T: Into<Operand>>(self, values: impl IntoIterator<Item = T>) -> Condition {
        self.is(Comparison::OneOf(values.into_iter().map(Into::into).collect()))
    }

    fn is(self, comparison: Comparison) -> Condition {
        let field = Field::parse(&self.0);
        Condition(Tree::Leaf(Box::new(Leaf { name: self.0, field, comparison })))
    }
}
