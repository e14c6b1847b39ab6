//! Why a line is no event: what is wrong, with which value, and what to send instead.

use std::fmt;

use super::human::grouped;
use crate::TopicError;

/// A fault of one line. `Display` is one line of printable text, however hostile the input.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngressError {
    /// The line is longer than the limit.
    TooLong {
        /// Its length without the line feed.
        bytes: u64,
        /// The limit.
        line_bytes_max: usize,
    },
    /// The line is not UTF-8.
    NotUtf8 {
        /// The first byte that does not belong, counted from 1.
        column: usize,
    },
    /// The line is not JSON, or JSON that no reader could represent.
    Json {
        /// Where reading stopped, in bytes from 1.
        column: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The line is JSON, but no object.
    NotObject {
        /// What it is instead.
        found: &'static str,
    },
    /// Objects and arrays are nested too deeply.
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// The object has too many members.
    TooManyMembers {
        /// The limit.
        members_max: usize,
    },
    /// A member stands in the object twice.
    Duplicate {
        /// Its name.
        member: String,
    },
    /// A member that the line must have is not there, or null.
    Missing {
        /// Its name.
        member: String,
        /// What asks for it.
        needed_by: NeededBy,
    },
    /// A member that must be a string is something else.
    NotString {
        /// Its name.
        member: String,
        /// Its JSON text.
        found: String,
    },
    /// An attribute is the empty string.
    Empty {
        /// Its name.
        member: String,
    },
    /// An attribute holds a control character.
    Control {
        /// Its name.
        member: String,
        /// The character.
        character: char,
    },
    /// The line follows another version of CloudEvents.
    SpecVersion {
        /// That version.
        found: String,
    },
    /// The type is no type name.
    Type {
        /// The member it stands in.
        member: String,
        /// Its text.
        found: String,
        /// The rule it breaks.
        fault: TopicError,
    },
    /// The priority is none of the four.
    Priority {
        /// The member it stands in.
        member: String,
        /// Its JSON text.
        found: String,
    },
    /// The time cannot be read.
    Time {
        /// Its text.
        found: String,
        /// Why not.
        what: &'static str,
    },
    /// The line has `data` and `data_base64`.
    BothData,
    /// `data_base64` is not base64.
    Base64 {
        /// Why not.
        what: String,
    },
    /// The name of a member is no attribute name.
    AttributeName {
        /// The name.
        member: String,
    },
    /// An extension attribute is no string, boolean or 32-bit integer.
    AttributeValue {
        /// Its name.
        member: String,
        /// Its JSON text.
        found: String,
    },
}

/// What asks for a member that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeededBy {
    /// The line has `specversion`, so it is a CloudEvent.
    CloudEvent,
    /// The line has none, so it is the short form.
    ShortForm,
    /// `--type` names the member.
    TypeField,
    /// `--priority-field` names the member.
    PriorityField,
}

/// At most 40 characters of `text`, control and invisible ones escaped.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARACTERS_MAX: usize = 40;
        for (at, character) in self.0.chars().enumerate() {
            if at == CHARACTERS_MAX {
                return f.write_str("…");
            }
            match character {
                '"' | '\'' | '\\' => write!(f, "{character}")?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for IngressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, line_bytes_max } => write!(
                f,
                "the line is {} bytes, the limit is {}; send less data a line",
                grouped(*bytes),
                grouped(*line_bytes_max as u64)
            ),
            Self::NotUtf8 { column } => write!(f, "not UTF-8 at byte {column}; send UTF-8, and bytes as `data_base64`"),
            Self::Json { column, what } => write!(f, "not usable JSON at byte {column}: {what}"),
            Self::NotObject { found } => {
                write!(f, "the line is {found}; send one JSON object a line")
            }
            Self::TooDeep { depth_max } => {
                write!(f, "the line nests deeper than {depth_max} objects and arrays; flatten it")
            }
            Self::TooManyMembers { members_max } => {
                write!(f, "the line has more than {} members; nest them in `data`", grouped(*members_max as u64))
            }
            Self::Duplicate { member } => write!(f, "`{}` stands in the line twice; send it once", Shown(member)),
            Self::Missing { member, needed_by } => {
                write!(f, "`{}` is missing; ", Shown(member))?;
                f.write_str(match needed_by {
                    NeededBy::CloudEvent => "a line with `specversion` is a CloudEvent and must have it",
                    NeededBy::ShortForm => {
                        "send {\"type\": .., \"data\": ..} or a CloudEvent, or name the field that holds the type with --type"
                    }
                    NeededBy::TypeField => "--type asks for this field in every line",
                    NeededBy::PriorityField => "--priority-field asks for this field in every line",
                })
            }
            Self::NotString { member, found } => {
                write!(f, "`{}` is {}; it must be a string", Shown(member), Shown(found))
            }
            Self::Empty { member } => write!(f, "`{}` is empty; give it a value or leave it out", Shown(member)),
            Self::Control { member, character } => {
                write!(f, "`{}` has the control character {character:?}; remove it", Shown(member))
            }
            Self::SpecVersion { found } => write!(f, "`specversion` is \"{}\"; only \"1.0\" is known", Shown(found)),
            Self::Type { member, found, fault } => {
                write!(f, "`{}` \"{}\" is no type: {fault}", Shown(member), Shown(found))
            }
            Self::Priority { member, found } => {
                write!(f, "`{}` is {}; use critical, high, normal or low", Shown(member), Shown(found))
            }
            Self::Time { found, what } => {
                write!(f, "`time` \"{}\" cannot be read: {what}", Shown(found))
            }
            Self::BothData => f.write_str("the line has `data` and `data_base64`; send one of them"),
            Self::Base64 { what } => write!(f, "`data_base64` is not base64: {what}"),
            Self::AttributeName { member } => write!(
                f,
                "`{}` is no attribute name (lower-case letters and digits); put it into `data`",
                Shown(member)
            ),
            Self::AttributeValue { member, found } => write!(
                f,
                "`{}` is {}; an attribute is a string, a boolean or a 32-bit integer; put it into `data`",
                Shown(member),
                Shown(found)
            ),
        }
    }
}

impl std::error::Error for IngressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_value_is_cut_and_escaped() {
        let member = format!("\u{1b}[31m\u{202e}{}", "x".repeat(100_000));
        let text = IngressError::Duplicate { member }.to_string();
        assert_eq!(
            text,
            format!("`\\u{{1b}}[31m\\u{{202e}}{}…` stands in the line twice; send it once", "x".repeat(34))
        );
    }
}
