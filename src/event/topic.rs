//! Topics: the name of an event type, with the Rust type of its payload.

use std::fmt;
use std::marker::PhantomData;

/// Segments a name or pattern may have.
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Bytes a topic name may have.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// A dotted name such as `orders.placed`, tied to the payload type `E`.
///
/// Segments are ASCII letters, digits, `_` and `-`; at most 64 segments and 255 bytes. In a `const` the name is
/// checked by the compiler:
///
/// ```
/// use ringmain::Topic;
/// # #[derive(rkyv::Archive, rkyv::Serialize)] struct OrderPlaced { id: u64 }
/// const ORDER_PLACED: Topic<OrderPlaced> = Topic::new("orders.placed");
/// assert_eq!(ORDER_PLACED.name(), "orders.placed");
/// ```
///
/// ```compile_fail
/// # use ringmain::Topic;
/// const WRONG: Topic<()> = Topic::new("orders..placed");
/// ```
pub struct Topic<E: ?Sized> {
    name: &'static str,
    payload: PhantomData<fn(&E)>,
}

impl<E: ?Sized> Topic<E> {
    /// A topic. Use it in a `const`, so that a name that breaks the rules does not compile.
    ///
    /// # Panics
    /// When the name breaks the rules and is not evaluated by the compiler.
    pub const fn new(name: &'static str) -> Self {
        match check_name(name) {
            Ok(()) => Self { name, payload: PhantomData },
            Err(TopicError::Empty) => panic!("a topic name needs at least one segment"),
            Err(TopicError::TooLong { .. }) => panic!("a topic name has at most 255 bytes"),
            Err(TopicError::TooManySegments { .. }) => panic!("a topic name has at most 64 segments"),
            Err(TopicError::EmptySegment { .. }) => panic!("a topic name has no empty segments"),
            Err(TopicError::Character { .. }) => {
                panic!("segments of a topic name are ASCII letters, digits, `_` and `-`")
            }
        }
    }

    /// The dotted name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl Topic<()> {
    /// Says whether `name` may name a topic, for names that come from outside.
    ///
    /// ```
    /// use ringmain::{Topic, TopicError};
    /// assert_eq!(Topic::check("orders.placed"), Ok(()));
    /// assert_eq!(Topic::check("orders..placed"), Err(TopicError::EmptySegment { at: 7 }));
    /// ```
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub const fn check(name: &str) -> Result<(), TopicError> {
        check_name(name)
    }
}

impl<E: ?Sized> Clone for Topic<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: ?Sized> Copy for Topic<E> {}

impl<E: ?Sized> fmt::Debug for Topic<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

/// The first segment of a topic's name, where it is one that the source systems share. Filters take it, or any other text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Category {
    /// `filesystem`: files created, modified, deleted.
    Filesystem,
    /// `database`: records, schemas, transactions.
    Database,
    /// `external`: webhooks, API calls, notifications.
    External,
    /// `mcp`: the Model Context Protocol.
    Mcp,
    /// `service`: coordination, health, configuration, lifecycle.
    Service,
    /// `system`: the daemon's own life and maintenance.
    System,
}

impl Category {
    /// The segment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Database => "database",
            Self::External => "external",
            Self::Mcp => "mcp",
            Self::Service => "service",
            Self::System => "system",
        }
    }
}

impl From<Category> for String {
    fn from(category: Category) -> Self {
        category.as_str().to_owned()
    }
}

/// A name that breaks the rules of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// No name at all.
    Empty,
    /// Longer than 255 bytes.
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than 64 segments.
    TooManySegments {
        /// How many.
        segments: usize,
    },
    /// Nothing between two dots, or before the first or after the last.
    EmptySegment {
        /// Where, in bytes from the start.
        at: usize,
    },
    /// A byte that is no ASCII letter, digit, `_` or `-`.
    Character {
        /// The byte.
        byte: u8,
        /// Where, in bytes from the start.
        at: usize,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the topic name is empty; name at least one segment, as in `orders.placed`"),
            Self::TooLong { bytes } => write!(f, "the topic name has {bytes} bytes, the limit is {NAME_BYTES_MAX}"),
            Self::TooManySegments { segments } => {
                write!(f, "the topic name has {segments} segments, the limit is {SEGMENTS_MAX}")
            }
            Self::EmptySegment { at } => write!(f, "the topic name has an empty segment at byte {at}"),
            Self::Character { byte, at } => write!(
                f,
                "the topic name has '{}' at byte {at}; segments are ASCII letters, digits, `_` and `-`",
                byte.escape_ascii()
            ),
        }
    }
}

impl std::error::Error for TopicError {}

/// Checks a topic name against the rules.
pub(crate) const fn check_name(name: &str) -> Result<(), TopicError> {
    check_name_bytes(name.as_bytes())
}

/// The same of bytes that may be no text: a name is ASCII.
pub(crate) const fn check_name_bytes(bytes: &[u8]) -> Result<(), TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    if bytes.len() > NAME_BYTES_MAX {
        return Err(TopicError::TooLong { bytes: bytes.len() });
    }
    if bytes.len() < SEGMENTS_MAX && is_plainly_a_name(bytes) {
        return Ok(());
    }
    let mut segments = 1;
    let mut empty = true;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'.' if empty => return Err(TopicError::EmptySegment { at }),
            b'.' => {
                segments += 1;
                empty = true;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => empty = false,
            byte => return Err(TopicError::Character { byte, at }),
        }
        at += 1;
    }
    if empty {
        return Err(TopicError::EmptySegment { at });
    }
    if segments > SEGMENTS_MAX {
        return Err(TopicError::TooManySegments { segments });
    }
    Ok(())
}

/// Whether a name of 8 bytes or more, and too few to have too many segments, keeps the rules: eight bytes at once. Each look begins at the
/// last byte of the one before it, so that two dots in a row are in one of them.
const fn is_plainly_a_name(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else { return false };
    let (mut rest, end) = (bytes, u64::from_le_bytes(*last));
    if bytes[0] == b'.' || bytes[bytes.len() - 1] == b'.' || !are_of_a_name(end) {
        return false;
    }
    while let Some((eight, _)) = rest.split_first_chunk() {
        if !are_of_a_name(u64::from_le_bytes(*eight)) {
            return false;
        }
        rest = rest.split_at(7).1;
    }
    true
}

/// Whether eight bytes may stand in a name in a row.
const fn are_of_a_name(eight: u64) -> bool {
    const HIGH: u64 = all(0x80);
    // The high bit of each byte that is not less, and of each that is the same, of bytes that are ASCII.
    const fn not_below(eight: u64, byte: u8) -> u64 {
        eight + all(0x80 - byte)
    }
    const fn is(eight: u64, byte: u8) -> u64 {
        !((eight ^ all(byte)) + all(0x7F))
    }
    if eight & HIGH != 0 {
        return false;
    }
    let lower = eight | all(0x20);
    let letters = not_below(lower, b'a') & !not_below(lower, b'z' + 1);
    let digits = not_below(eight, b'0') & !not_below(eight, b'9' + 1);
    let dots = is(eight, b'.');
    let others = is(eight, b'_') | is(eight, b'-');
    (letters | digits | dots | others) & HIGH == HIGH && dots & (dots >> 8) & HIGH == 0
}

/// Eight times the same byte.
const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rules, one after the other.
    fn keeps_the_rules(name: &[u8]) -> bool {
        let segments: Vec<&[u8]> = name.split(|byte| *byte == b'.').collect();
        let is_character = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let is_segment = |segment: &&[u8]| !segment.is_empty() && segment.iter().all(is_character);
        name.len() <= NAME_BYTES_MAX && segments.len() <= SEGMENTS_MAX && segments.iter().all(is_segment)
    }

    proptest! {
        #[test]
        fn a_name_is_one_if_it_keeps_the_rules(name in "[a-zA-Z0-9_-]{0,9}([.][a-zA-Z0-9_.-]{0,20}){0,5}") {
            prop_assert_eq!(check_name(&name).is_ok(), keeps_the_rules(name.as_bytes()));
        }
    }

    #[test]
    fn every_byte_is_judged_alike_at_every_place() {
        for length in 1..=20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut name = vec![b'a'; length];
                    name[at] = byte;
                    assert_eq!(
                        check_name_bytes(&name).is_ok(),
                        keeps_the_rules(&name),
                        "{byte:#x} at {at} of {length}"
                    );
                    // Two dots in a row, wherever they are.
                    if byte == b'.' && at > 0 {
                        name[at - 1] = b'.';
                        assert!(check_name_bytes(&name).is_err(), "two dots before {at} of {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_refused_with_the_place_of_the_fault() {
        assert_eq!(check_name("orders.placed"), Ok(()));
        assert_eq!(check_name("a-1_B.x"), Ok(()));
        assert_eq!(check_name(""), Err(TopicError::Empty));
        assert_eq!(check_name("a..b"), Err(TopicError::EmptySegment { at: 2 }));
        assert_eq!(check_name(".a"), Err(TopicError::EmptySegment { at: 0 }));
        assert_eq!(check_name("a."), Err(TopicError::EmptySegment { at: 2 }));
        assert_eq!(check_name("a.*"), Err(TopicError::Character { byte: b'*', at: 2 }));
        assert_eq!(check_name(&"a".repeat(256)), Err(TopicError::TooLong { bytes: 256 }));
        assert_eq!(check_name(&["a"; 65].join(".")), Err(TopicError::TooManySegments { segments: 65 }));
    }
}
