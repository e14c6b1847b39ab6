//! Event type names: what one may be made of, and how a foreign name becomes one.
//!
//! A name is dotted segments of ASCII letters, digits, `_` and `-`; none empty.

use std::borrow::Cow;
use std::fmt;

use super::human::grouped;

/// A type name is at most this many bytes.
pub const TYPE_BYTES_MAX: usize = 255;
/// A type name is at most this many dotted segments.
pub const TYPE_SEGMENTS_MAX: usize = 64;

/// Why a text is no type name.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeFault {
    /// A character that no segment may hold.
    Character {
        /// The character.
        character: char,
        /// Its place, counted in bytes from 1.
        column: usize,
    },
    /// Two dots in a row, or a dot at an end.
    EmptySegment {
        /// The place of the missing segment, counted in bytes from 1.
        column: usize,
    },
    /// More than [`TYPE_BYTES_MAX`] bytes.
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// More than [`TYPE_SEGMENTS_MAX`] segments.
    TooManySegments {
        /// How many segments it has.
        segments: usize,
    },
}

impl fmt::Display for TypeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Character { character, column } => {
                write!(f, "has {character:?} at byte {column}; use letters, digits, `_` and `-` in dotted segments")
            }
            Self::EmptySegment { column } => {
                write!(f, "has an empty segment at byte {column}; put a name between dots")
            }
            Self::TooLong { bytes } => {
                write!(f, "is {} bytes, the limit is {TYPE_BYTES_MAX}; shorten it", grouped(bytes as u64))
            }
            Self::TooManySegments { segments } => {
                write!(f, "has {segments} segments, the limit is {TYPE_SEGMENTS_MAX}; use fewer dots")
            }
        }
    }
}

impl std::error::Error for TypeFault {}

const fn in_segment(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Says whether `name` is a type name, and if not, the first fault.
///
/// # Errors
/// The limit that is broken, or the character that does not belong and where it stands.
pub fn check(name: &str) -> Result<(), TypeFault> {
    if name.len() > TYPE_BYTES_MAX {
        return Err(TypeFault::TooLong { bytes: name.len() });
    }
    let mut segments = 1;
    let mut segment_start = 0;
    for (at, byte) in name.bytes().enumerate() {
        if byte == b'.' {
            if at == segment_start {
                return Err(TypeFault::EmptySegment { column: at + 1 });
            }
            segment_start = at + 1;
            segments += 1;
        } else if !in_segment(byte) {
            let character = name[at..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
            return Err(TypeFault::Character { character, column: at + 1 });
        }
    }
    if segment_start == name.len() {
        return Err(TypeFault::EmptySegment { column: segment_start + 1 });
    }
    if segments > TYPE_SEGMENTS_MAX {
        return Err(TypeFault::TooManySegments { segments });
    }
    Ok(())
}

/// Makes a type name of any text: every character that a name may not have becomes `-`, and so does
/// an empty segment. A name stays as it is, without a copy.
///
/// # Errors
/// Only the limits on length and segments; the text is not cut to fit.
pub fn sanitise(text: &str) -> Result<Cow<'_, str>, TypeFault> {
    match check(text) {
        Ok(()) => return Ok(Cow::Borrowed(text)),
        // A character of several bytes becomes one `-`, so the length is judged afterwards.
        Err(TypeFault::TooLong { .. }) if !text.is_ascii() => {}
        Err(fault @ (TypeFault::TooLong { .. } | TypeFault::TooManySegments { .. })) => {
            return Err(fault);
        }
        Err(_) => {}
    }
    let mut name = String::with_capacity(text.len() + 1);
    for segment in text.split('.') {
        if !name.is_empty() {
            name.push('.');
        }
        if segment.is_empty() {
            name.push('-');
        }
        name.extend(segment.chars().map(|c| if c.is_ascii() && in_segment(c as u8) { c } else { '-' }));
    }
    check(&name)?;
    Ok(Cow::Owned(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as a sentence would say it, slow and obvious.
    fn is_name(text: &str) -> bool {
        let segments: Vec<&str> = text.split('.').collect();
        text.len() <= 255
            && segments.len() <= 64
            && segments
                .iter()
                .all(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
    }

    #[test]
    fn names_and_faults() {
        assert_eq!(check("orders.placed"), Ok(()));
        assert_eq!(check("A-1_b"), Ok(()));
        assert_eq!(check(""), Err(TypeFault::EmptySegment { column: 1 }));
        assert_eq!(check(".a"), Err(TypeFault::EmptySegment { column: 1 }));
        assert_eq!(check("a."), Err(TypeFault::EmptySegment { column: 3 }));
        assert_eq!(check("a..b"), Err(TypeFault::EmptySegment { column: 3 }));
        assert_eq!(check("a b"), Err(TypeFault::Character { character: ' ', column: 2 }));
        assert_eq!(check("aé"), Err(TypeFault::Character { character: 'é', column: 2 }));
        assert_eq!(check(&"a".repeat(255)), Ok(()));
        assert_eq!(check(&"a".repeat(256)), Err(TypeFault::TooLong { bytes: 256 }));
        assert_eq!(check(&vec!["a"; 64].join(".")), Ok(()));
        assert_eq!(check(&vec!["a"; 65].join(".")), Err(TypeFault::TooManySegments { segments: 65 }));
    }

    #[test]
    fn foreign_names_become_type_names() {
        for (text, name) in [
            ("orders.placed", "orders.placed"),
            ("Order Placed", "Order-Placed"),
            ("a/b:c", "a-b-c"),
            ("Größe", "Gr--e"),
            ("", "-"),
            (".", "-.-"),
            ("a..b", "a.-.b"),
            (".a.", "-.a.-"),
        ] {
            assert_eq!(sanitise(text).as_deref(), Ok(name), "{text:?}");
        }
        assert!(matches!(sanitise("orders.placed"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn limits_hold_after_the_change_of_characters() {
        // 200 characters of two bytes each are 200 dashes, which fit.
        assert_eq!(sanitise(&"é".repeat(200)).as_deref(), Ok("-".repeat(200).as_str()));
        assert_eq!(sanitise(&"é".repeat(256)), Err(TypeFault::TooLong { bytes: 256 }));
        assert_eq!(sanitise(&" ".repeat(256)), Err(TypeFault::TooLong { bytes: 256 }));
        assert_eq!(sanitise(&".".repeat(64)), Err(TypeFault::TooManySegments { segments: 65 }));
        assert_eq!(sanitise(&".".repeat(200)), Err(TypeFault::TooLong { bytes: 401 }));
    }

    proptest! {
        #[test]
        fn the_check_agrees_with_the_plain_rule(text in "[a-z.é -]{0,12}|[a.]{120,260}") {
            prop_assert_eq!(check(&text).is_ok(), is_name(&text));
        }

        #[test]
        fn what_sanitise_gives_is_a_name_of_the_same_shape(text in "\\PC{0,40}|[a. é]{240,270}") {
            let plain: Vec<String> = text
                .split('.')
                .map(|s| match s {
                    "" => "-".to_owned(),
                    s => s.chars().map(|c| if is_name(c.encode_utf8(&mut [0; 4])) { c } else { '-' }).collect(),
                })
                .collect();
            let plain = plain.join(".");
            match sanitise(&text) {
                Ok(name) => prop_assert_eq!(name.as_ref(), plain.as_str()),
                Err(_) => prop_assert!(!is_name(&plain)),
            }
        }
    }
}
