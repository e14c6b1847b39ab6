//! Why a rule cannot be part of a set.

use std::error::Error;
use std::fmt;

use crate::routing::PatternError;

/// A rule that breaks the rules. The set is not made; the one before stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// Two rules have this id.
    DuplicateId {
        /// The id.
        rule: String,
    },
    /// The set has no rule of this id.
    Unknown {
        /// The id.
        rule: String,
    },
    /// More rules than a set takes.
    TooManyRules {
        /// Rules given.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The rule names no service.
    NoTargets {
        /// Its id.
        rule: String,
    },
    /// A text that must not be empty.
    Empty {
        /// The rule's id, or its name where the id is empty.
        rule: String,
        /// Which text.
        what: &'static str,
    },
    /// A text that is too long.
    TooLong {
        /// The rule's id; empty where the id is the text.
        rule: String,
        /// Which text.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A list that is too long.
    TooMany {
        /// The rule's id.
        rule: String,
        /// Which list.
        what: &'static str,
        /// Its length; of conditions those read before it was given up.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A condition with too many levels.
    TooDeep {
        /// The rule's id.
        rule: String,
        /// The limit.
        depth_max: usize,
    },
    /// An event type that is no pattern.
    Pattern {
        /// The rule's id.
        rule: String,
        /// The event type.
        pattern: String,
        /// What is wrong with it.
        error: PatternError,
    },
    /// A condition on a field that events do not have.
    UnknownField {
        /// The rule's id.
        rule: String,
        /// The field.
        field: String,
    },
    /// A path or key with nothing where a word should be.
    EmptySegment {
        /// The rule's id.
        rule: String,
        /// The field.
        field: String,
    },
    /// A value that the field can never have.
    Value {
        /// The rule's id.
        rule: String,
        /// The field.
        field: String,
        /// The value.
        value: String,
        /// Those it can have.
        allowed: String,
    },
    /// A condition on a payload, and no way to read one.
    NoJson {
        /// The rule's id.
        rule: String,
        /// The field.
        field: String,
    },
}

pub(super) fn check_bytes(rule: &str, what: &'static str, text: &str, max: usize) -> Result<(), RuleError> {
    let bytes = text.len();
    if bytes > max { Err(RuleError::TooLong { rule: rule.to_owned(), what, bytes, max }) } else { Ok(()) }
}

pub(super) fn check_count(rule: &str, what: &'static str, count: usize, max: usize) -> Result<(), RuleError> {
    if count > max { Err(RuleError::TooMany { rule: rule.to_owned(), what, count, max }) } else { Ok(()) }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId { rule } => write!(f, "two rules have the id {rule:?}; give one of them another"),
            Self::Unknown { rule } => write!(f, "there is no rule of the id {rule:?}; add it first"),
            Self::TooManyRules { count, max } => {
                write!(f, "{count} rules, the limit is {max}; join rules by listing several types or targets in one")
            }
            Self::NoTargets { rule } => write!(f, "rule {rule:?} names no target; name a service that gets the events"),
            Self::Empty { rule, what } => write!(f, "rule {rule:?} has an empty {what}; name one"),
            Self::TooLong { rule, what, bytes, max } if rule.is_empty() => {
                write!(f, "a {what} has {bytes} bytes, the limit is {max}; shorten it")
            }
            Self::TooLong { rule, what, bytes, max } => {
                write!(f, "rule {rule:?}: a {what} has {bytes} bytes, the limit is {max}; shorten it")
            }
            Self::TooMany { rule, what, count, max } => {
                write!(f, "rule {rule:?} has {count} {what}, the limit is {max}; split the rule")
            }
            Self::TooDeep { rule, depth_max } => {
                write!(f, "rule {rule:?}: a condition has more than {depth_max} levels; flatten it or split the rule")
            }
            Self::Pattern { rule, pattern, error } => write!(f, "rule {rule:?}: the event type {pattern:?}: {error}"),
            Self::UnknownField { rule, field } => write!(
                f,
                "rule {rule:?}: events have no field {field:?}; use a header field such as type, source, priority or \
                 schema, or metadata.KEY or payload.PATH"
            ),
            Self::EmptySegment { rule, field } => {
                write!(
                    f,
                    "rule {rule:?}: the field {field:?} has an empty part; name something between and behind its dots"
                )
            }
            Self::Value { rule, field, value, allowed } => {
                write!(f, "rule {rule:?}: {field} is never {value}; it is one of {allowed}")
            }
            Self::NoJson { rule, field } => write!(
                f,
                "rule {rule:?}: {field} is in the payload, which is read with the feature `json`; build ringmain with it"
            ),
        }
    }
}

impl Error for RuleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pattern { error, .. } => Some(error),
            _ => None,
        }
    }
}
