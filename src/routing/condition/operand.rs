//! What fields are compared with, and how.

use std::cmp::Ordering;
use std::fmt;

use super::Priority;
use super::field::encoding_name;
use crate::event::{Encoding, EventId};

/// A value to compare a field with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operand {
    /// JSON's `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, compared exactly, with floats too.
    Integer(i128),
    /// A number. NaN equals nothing and is neither less nor greater than anything.
    Float(f64),
    /// A text, at most 1,024 bytes.
    Text(String),
}

macro_rules! operands {
    ($($type:ty => |$value:ident| $operand:expr;)*) => {$(
        impl From<$type> for Operand {
            fn from($value: $type) -> Self {
                $operand
            }
        }
    )*};
}

operands! {
    bool => |value| Self::Bool(value);
    u8 => |value| Self::Integer(value.into());
    u16 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    u64 => |value| Self::Integer(value.into());
    i32 => |value| Self::Integer(value.into());
    i64 => |value| Self::Integer(value.into());
    f64 => |value| Self::Float(value);
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    Priority => |value| Self::Text(value.as_str().to_owned());
    Encoding => |value| Self::Text(encoding_name(value).to_owned());
    EventId => |value| Self::Text(value.to_string());
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => write!(f, "{:?}", shortened(text)),
        }
    }
}

/// What an event has in a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    #[cfg_attr(not(any(test, feature = "json")), expect(dead_code, reason = "only JSON has it"))]
    Null,
    #[cfg_attr(not(any(test, feature = "json")), expect(dead_code, reason = "only JSON has them"))]
    Bool(bool),
    Integer(i128),
    #[cfg_attr(not(any(test, feature = "json")), expect(dead_code, reason = "only JSON has them"))]
    Float(f64),
    Text(&'a str),
    /// A text that may stand for a number or a boolean.
    Untyped(&'a str),
    Priority(Priority),
    /// There, and not comparable: an object, an array, a number beyond the range of a float.
    #[cfg_attr(not(any(test, feature = "json")), expect(dead_code, reason = "only JSON has them"))]
    Other,
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) | Self::Untyped(text) => f.write_str(&shortened(text)),
            Self::Priority(priority) => priority.fmt(f),
            Self::Other => f.write_str("an object or an array"),
        }
    }
}

/// The beginning of a text, for messages.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// The number that a text says, if it says one.
    fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(integer) => Some(Self::Integer(integer)),
            Err(_) => text.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::Float),
        }
    }

    /// By value: an integer is not rounded to a float.
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(&other)),
            (Self::Float(one), Self::Float(other)) => one.partial_cmp(&other),
            (Self::Integer(integer), Self::Float(float)) => compare_mixed(integer, float),
            (Self::Float(float), Self::Integer(integer)) => compare_mixed(integer, float).map(Ordering::reverse),
        }
    }
}

fn compare_mixed(integer: i128, float: f64) -> Option<Ordering> {
    // 2^127: the first float above every i128. Its negative is the least i128.
    const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if float.is_nan() {
        None
    } else if float >= BEYOND {
        Some(Ordering::Less)
    } else if float < -BEYOND {
        Some(Ordering::Greater)
    } else {
        let whole = integer.cmp(&(float.trunc() as i128));
        Some(
            whole
                .then_with(|| 0.0_f64.partial_cmp(&float.fract()).expect("the fraction of a finite float is a number")),
        )
    }
}

impl Seen<'_> {
    /// How it stands to `operand`; None where they cannot be compared. Equal is all that booleans and null can be.
    fn compare(self, operand: &Operand) -> Option<Ordering> {
        let number = match operand {
            Operand::Integer(integer) => Number::Integer(*integer),
            Operand::Float(float) => Number::Float(*float),
            Operand::Null => return matches!(self, Self::Null).then_some(Ordering::Equal),
            Operand::Bool(value) => {
                let found = match self {
                    Self::Bool(found) => found,
                    Self::Untyped(text) => text.parse().ok()?,
                    _ => return None,
                };
                return (found == *value).then_some(Ordering::Equal);
            }
            Operand::Text(text) => {
                return match self {
                    Self::Text(found) | Self::Untyped(found) => Some(found.cmp(text)),
                    Self::Priority(found) => Some(found.cmp(&text.parse().ok()?)),
                    _ => None,
                };
            }
        };
        match self {
            Self::Integer(found) => Number::Integer(found).compare(number),
            Self::Float(found) => Number::Float(found).compare(number),
            Self::Untyped(text) => Number::parse(text)?.compare(number),
            _ => None,
        }
    }

    pub(super) fn equals(self, operand: &Operand) -> bool {
        self.compare(operand) == Some(Ordering::Equal)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Untyped(text) => Some(text),
            Self::Priority(priority) => Some(priority.as_str()),
            _ => None,
        }
    }
}

/// How a field is compared. All that takes one value keeps it as an array, so that all can be looked at alike.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Comparison {
    Equals([Operand; 1]),
    NotEquals([Operand; 1]),
    Less([Operand; 1]),
    Greater([Operand; 1]),
    Contains([Operand; 1]),
    StartsWith([Operand; 1]),
    Exists,
    OneOf(Vec<Operand>),
}

impl Comparison {
    pub(super) fn operands(&self) -> &[Operand] {
        match self {
            Self::Equals(one)
            | Self::NotEquals(one)
            | Self::Less(one)
            | Self::Greater(one)
            | Self::Contains(one)
            | Self::StartsWith(one) => one,
            Self::Exists => &[],
            Self::OneOf(operands) => operands,
        }
    }

    /// Whether its operands are values that the field may have, not parts of them.
    pub(super) fn takes_whole_values(&self) -> bool {
        !matches!(self, Self::Contains(_) | Self::StartsWith(_))
    }

    /// Whether what was seen passes.
    pub(super) fn holds(&self, seen: Seen<'_>) -> bool {
        let both_texts = |operand: &Operand, relation: fn(&str, &str) -> bool| match (seen.text(), operand) {
            (Some(text), Operand::Text(part)) => relation(text, part),
            _ => false,
        };
        match self {
            Self::Equals([operand]) => seen.equals(operand),
            Self::NotEquals([operand]) => !seen.equals(operand),
            Self::Less([operand]) => seen.compare(operand) == Some(Ordering::Less),
            Self::Greater([operand]) => seen.compare(operand) == Some(Ordering::Greater),
            Self::Contains([operand]) => both_texts(operand, |text, part| text.contains(part)),
            Self::StartsWith([operand]) => both_texts(operand, |text, part| text.starts_with(part)),
            Self::Exists => true,
            Self::OneOf(operands) => operands.iter().any(|operand| seen.equals(operand)),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals([operand]) => write!(f, "equals {operand}"),
            Self::NotEquals([operand]) => write!(f, "does not equal {operand}"),
            Self::Less([operand]) => write!(f, "is less than {operand}"),
            Self::Greater([operand]) => write!(f, "is greater than {operand}"),
            Self::Contains([operand]) => write!(f, "contains {operand}"),
            Self::StartsWith([operand]) => write!(f, "starts with {operand}"),
            Self::Exists => f.write_str("exists"),
            Self::OneOf(operands) => {
                f.write_str("is one of [")?;
                for (at, operand) in operands.iter().enumerate() {
                    write!(f, "{}{operand}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_compare_by_value_where_rounding_would_not_tell() {
        let two_to_53 = 9_007_199_254_740_992_i128;
        let compare = |integer, float| Number::Integer(integer).compare(Number::Float(float));
        assert_eq!(compare(two_to_53, two_to_53 as f64), Some(Ordering::Equal));
        assert_eq!(compare(two_to_53 + 1, two_to_53 as f64), Some(Ordering::Greater));
        assert_eq!(compare(-two_to_53 - 1, -(two_to_53 as f64)), Some(Ordering::Less));
        assert_eq!(compare(1, 1.5), Some(Ordering::Less));
        assert_eq!(compare(-1, -1.5), Some(Ordering::Greater));
        assert_eq!(compare(0, -0.0), Some(Ordering::Equal));
        assert_eq!(compare(i128::MAX, f64::INFINITY), Some(Ordering::Less));
        assert_eq!(compare(i128::MIN, f64::NEG_INFINITY), Some(Ordering::Greater));
        assert_eq!(compare(i128::MAX, i128::MAX as f64), Some(Ordering::Less), "the float is 2^127");
        assert_eq!(compare(i128::MIN, i128::MIN as f64), Some(Ordering::Equal));
        assert_eq!(compare(0, f64::NAN), None);
        assert_eq!(Number::Float(1.5).compare(Number::Integer(1)), Some(Ordering::Greater));
    }

    #[test]
    fn a_text_without_a_type_is_read_as_what_it_is_compared_with() {
        let equals = |text, operand: Operand| Comparison::Equals([operand]).holds(Seen::Untyped(text));
        assert!(equals("7", 7.into()) && equals("7", 7.0.into()) && equals("7", "7".into()) && equals("7.0", 7.into()));
        assert!(equals("true", true.into()) && !equals("true", false.into()) && !equals("yes", true.into()));
        assert!(!equals("inf", f64::INFINITY.into()) && !equals("seven", 7.into()) && !equals("null", Operand::Null));
        let typed = Comparison::Equals([7.into()]);
        assert!(!typed.holds(Seen::Text("7")), "a text is no number");
        assert!(Comparison::Less([10.into()]).holds(Seen::Untyped("9")), "as numbers");
        assert!(!Comparison::Less(["10".into()]).holds(Seen::Untyped("9")), "as texts");
    }

    #[test]
    fn what_cannot_be_compared_is_neither_equal_nor_less_nor_greater() {
        for (seen, operand) in [
            (Seen::Integer(1), "1".into()),
            (Seen::Text("a"), 1.into()),
            (Seen::Bool(true), 1.into()),
            (Seen::Bool(false), true.into()),
            (Seen::Null, 0.into()),
            (Seen::Other, Operand::Null),
            (Seen::Float(1.0), f64::NAN.into()),
        ] {
            assert!(!Comparison::Equals([operand.clone()]).holds(seen), "{seen:?} {operand}");
            assert!(!Comparison::Less([operand.clone()]).holds(seen), "{seen:?} {operand}");
            assert!(!Comparison::Greater([operand.clone()]).holds(seen), "{seen:?} {operand}");
            assert!(Comparison::NotEquals([operand.clone()]).holds(seen), "{seen:?} {operand}");
        }
    }
}
