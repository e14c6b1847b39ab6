//! Patterns: which topic names a subscription wants, and the matcher that decides it.
//!
//! A pattern is a list of segments joined by dots:
//!
//! | segment | matches |
//! |---|---|
//! | `orders` | this segment, case-sensitively; ASCII letters, digits, `_` and `-` |
//! | `*` | exactly one segment, whatever it is |
//! | `**` | any number of segments, none included; may stand anywhere |
//!
//! A pattern that is `*` and nothing else matches every name, as `**` does. A wildcard fills its segment: `ord*` is
//! refused.
//!
//! # How it matches
//!
//! The pattern is a small automaton, read by keeping the set of its live states as bits. Bit `i` says: the first `i`
//! segments of the pattern can match the part of the name read so far. For `a.**.b` and the name `a.x.b`:
//!
//! ```text
//!                 before `a`      before `**`     before `b`      all matched
//!    start            0
//!    read a                           1      ───►     2             `**` may stay empty
//!    read x                           1      ───►     2             `**` takes x; b does not match
//!    read b                           1      ───►     2               3         = a match
//! ```
//!
//! A state is looked at once a segment of the name, so the cost is at most name segments × (pattern segments + 1),
//! whatever the pattern: there is no backtracking to blow up.

use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// A parsed and validated pattern over topic names, such as `orders.*` or `**.failed`.
///
/// A clone shares the parsed form. Two patterns are equal when their texts are: `*` and `**` match the same names and
/// are not equal.
///
/// ```
/// use ringmain::Pattern;
///
/// let pattern = Pattern::new("orders.**.failed")?;
/// assert!(pattern.matches("orders.failed"));
/// assert!(pattern.matches("orders.eu.payment.failed"));
/// assert!(!pattern.matches("orders.eu"));
/// # Ok::<(), ringmain::PatternError>(())
/// ```
#[derive(Clone)]
pub struct Pattern(Arc<Parsed>);

struct Parsed {
    text: Box<str>,
    /// What the text means: a lone `*` is `Run` here, and `**.**` is one `Run`. So no `Run` follows another.
    segments: Box<[Segment]>,
    /// Bit `i` is set when segment `i` is `Run`.
    runs: u128,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text.
    Literal(Box<str>),
    /// `*`: exactly one segment.
    One,
    /// `**`: any number of segments.
    Run,
}

// States are the numbers 0..=SEGMENTS_MAX.
const _: () = assert!(Pattern::SEGMENTS_MAX < u128::BITS as usize);

impl Pattern {
    /// Most segments a pattern may have.
    pub const SEGMENTS_MAX: usize = 64;

    /// Most bytes the text of a pattern may have.
    pub const PATTERN_BYTES_MAX: usize = 1024;

    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// A limit that is exceeded, else the leftmost fault, with its byte offset. See [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > Self::PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len(), bytes_max: Self::PATTERN_BYTES_MAX });
        }
        let count = text.split('.').count();
        if count > Self::SEGMENTS_MAX {
            return Err(PatternError::TooManySegments { segments: count, segments_max: Self::SEGMENTS_MAX });
        }

        let mut segments = Vec::with_capacity(count);
        let mut runs = 0;
        let mut offset = 0;
        for part in text.split('.') {
            let segment = match Segment::parse(part, offset)? {
                Segment::One if text == "*" => Segment::Run,
                segment => segment,
            };
            offset += part.len() + 1;
            if segment == Segment::Run {
                if segments.last() == Some(&Segment::Run) {
                    continue;
                }
                runs |= 1 << segments.len();
            }
            segments.push(segment);
        }
        Ok(Self(Arc::new(Parsed { text: text.into(), segments: segments.into(), runs })))
    }

    /// The text it was made of.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether it has no wildcard, and so matches one name only: its own text.
    pub fn is_exact(&self) -> bool {
        !self.0.text.contains('*')
    }

    /// Whether `name` matches.
    ///
    /// Any string may be asked for; what stands between two dots is a segment, even if it is empty.
    ///
    /// # Cost
    ///
    /// At most name segments × (pattern segments + 1) steps. Never blocks, allocates or recurses.
    pub fn matches(&self, name: &str) -> bool {
        self.walk(name, || {})
    }

    /// Whether every name that `other` matches is matched by this one, too.
    ///
    /// ```
    /// use ringmain::Pattern;
    /// let orders = Pattern::new("orders.**")?;
    /// assert!(orders.covers(&Pattern::new("orders.*.failed")?));
    /// assert!(!orders.covers(&Pattern::new("**.failed")?));
    /// # Ok::<(), ringmain::PatternError>(())
    /// ```
    ///
    /// # Cost
    /// Of the control plane: it allocates, and takes longer the more `**` there are.
    pub fn covers(&self, other: &Self) -> bool {
        covers::covers(self, other)
    }

    /// The meaning of the text, segment by segment; no [`Segment::Run`] follows another.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    /// The matcher. Calls `visited` for each state it looks at, so that a test can count the work.
    fn walk(&self, name: &str, mut visited: impl FnMut()) -> bool {
        let mut live = self.begin();
        // By bytes: a search that is made for long texts takes longer to begin than most segments are.
        for read in name.as_bytes().split(|byte| *byte == b'.') {
            live = self.step(live, Some(read), &mut visited);
            if live == 0 {
                return false;
            }
        }
        self.accepts(live)
    }

    /// The live states before anything is read.
    fn begin(&self) -> u128 {
        self.pass_runs(1)
    }

    /// A run may stay empty, so to stand before it is to stand behind it too.
    fn pass_runs(&self, states: u128) -> u128 {
        states | (states & self.0.runs) << 1
    }

    /// Whether one of the live states has matched all.
    fn accepts(&self, live: u128) -> bool {
        live >> self.0.segments.len() == 1
    }

    /// The live states after a segment of a name; `None` is one that no literal is equal to.
    fn step(&self, mut live: u128, read: Option<&[u8]>, visited: &mut impl FnMut()) -> u128 {
        let mut next = 0;
        while live != 0 {
            let state = live.trailing_zeros();
            live &= live - 1;
            visited();
            let stay = 1 << state;
            let advance = 2 << state;
            next |= match self.0.segments.get(state as usize) {
                Some(Segment::Run) => stay,
                Some(Segment::One) => advance,
                Some(Segment::Literal(text)) if read.is_some_and(|read| text.as_bytes() == read) => advance,
                // Another literal, or the pattern is used up and the name is not.
                Some(Segment::Literal(_)) | None => 0,
            };
        }
        self.pass_runs(next)
    }
}

impl Segment {
    /// Parses `part`, which starts `offset` bytes into its pattern.
    fn parse(part: &str, offset: usize) -> Result<Self, PatternError> {
        match part {
            "" => return Err(PatternError::EmptySegment { offset }),
            "*" => return Ok(Self::One),
            "**" => return Ok(Self::Run),
            _ => {}
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match part.char_indices().find(|&(_, c)| !allowed(c)) {
            None => Ok(Self::Literal(part.into())),
            Some((_, '*')) => Err(PatternError::PartialWildcard { segment: part.into(), offset }),
            Some((at, character)) => Err(PatternError::ForbiddenCharacter { character, offset: offset + at }),
        }
    }

    /// The segment as it is written.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::One => "*",
            Self::Run => "**",
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.as_str()).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// Why a text is not a pattern. Offsets are bytes from the start of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// The text is empty.
    Empty,
    /// The text has more bytes than [`Pattern::PATTERN_BYTES_MAX`].
    TooLong {
        /// Bytes of the text.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The text has more segments than [`Pattern::SEGMENTS_MAX`].
    TooManySegments {
        /// Segments of the text.
        segments: usize,
        /// The limit.
        segments_max: usize,
    },
    /// A dot begins or ends the text or follows another.
    EmptySegment {
        /// Where the segment should have begun.
        offset: usize,
    },
    /// A `*` shares its segment with something else.
    PartialWildcard {
        /// The segment.
        segment: Box<str>,
        /// Where the segment begins.
        offset: usize,
    },
    /// A character that no segment may hold.
    ForbiddenCharacter {
        /// The character.
        character: char,
        /// Where it stands.
        offset: usize,
    },
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the pattern is empty; write `**` to match every topic"),
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "the pattern is {bytes} bytes, the limit is {bytes_max}; shorten it")
            }
            Self::TooManySegments { segments, segments_max } => {
                write!(f, "the pattern has {segments} segments, the limit is {segments_max}; replace some by `**`")
            }
            Self::EmptySegment { offset } => {
                write!(f, "the pattern has an empty segment at byte {offset}; remove the extra dot")
            }
            Self::PartialWildcard { segment, offset } => write!(
                f,
                "the segment {segment:?} at byte {offset} mixes a wildcard with other text; \
                 a segment is a word, `*` (one segment) or `**` (any number)"
            ),
            Self::ForbiddenCharacter { character, offset } => write!(
                f,
                "the pattern has {character:?} at byte {offset}; \
                 use ASCII letters, digits, `_`, `-`, and `.` between segments"
            ),
        }
    }
}

impl Error for PatternError {}

mod covers;

#[cfg(test)]
pub(super) mod tests;
