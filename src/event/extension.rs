//! What few events carry: correlation, causation, aggregate, targets, trace, metadata. Flagged fields before the payload.
//!
//! A field is `tag u8, 0, length u16 (little-endian), bytes`; fields follow each other, the end is padded with zeros to 16
//! bytes. Unknown tags are skipped by their length, so that a newer writer does not break an older reader.

use std::fmt;

use super::{EventId, FrameError};
use crate::sync::mutant::mutant;

/// Bytes that all fields of one event may take.
pub(crate) const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Targets an event may name.
pub(crate) const TARGETS_MAX: usize = 16;
/// Metadata entries an event may carry.
pub(crate) const METADATA_MAX: usize = 32;

/// Names a field. 0 is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    TypeName = 1,
    Source = 2,
    Correlation = 3,
    Causation = 4,
    /// `version u64 LE, length of type u8, type, id`.
    Aggregate = 5,
    /// Instant u64 LE.
    NotBefore = 6,
    SchemaText = 7,
    TraceParent = 8,
    /// `priority u8, id`.
    Target = 9,
    /// `length of key u8, key, value`.
    Metadata = 10,
    OriginalId = 11,
    /// Its place in the store that it was read from, u64 LE. In no portable frame.
    Position = 12,
    /// The subscription that it is for alone, an id. In no portable frame.
    ReplayTo = 13,
    /// Its place in a lane, and who wrote that down: two numbers, u64 LE. In frames alone.
    Place = 14,
}

/// Which aggregate an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregate<'a> {
    /// What kind of thing changed, such as `order`.
    pub kind: &'a str,
    /// Which one.
    pub id: &'a str,
    /// The aggregate's version after this event, counted from 1.
    pub version: u64,
}

/// A service that an event is meant for.
///
/// ```
/// use ringmain::ServiceTarget;
/// let target = ServiceTarget::new("datastore").with_priority(1);
/// assert_eq!((target.id(), target.priority()), ("datastore", 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceTarget<'a> {
    id: &'a str,
    priority: u8,
}

impl<'a> ServiceTarget<'a> {
    /// The service of this id, with priority 0.
    pub const fn new(id: &'a str) -> Self {
        Self { id, priority: 0 }
    }

    /// Among several targets, higher ones come first.
    #[must_use]
    pub const fn with_priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// The service's id.
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// The target's priority among others.
    pub const fn priority(&self) -> u8 {
        self.priority
    }
}

impl<'a, T: AsRef<str> + ?Sized> From<&'a T> for ServiceTarget<'a> {
    fn from(id: &'a T) -> Self {
        Self::new(id.as_ref())
    }
}

/// An envelope field that breaks a limit. The event is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// All fields together are too long.
    TooLong {
        /// Bytes they would take.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// One field is too long.
    Field {
        /// Which.
        field: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too many targets or metadata entries.
    TooMany {
        /// Which.
        field: &'static str,
        /// The limit.
        max: usize,
    },
    /// The event would expire before it is due.
    DeadlineBeforeDue,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, max } => {
                write!(f, "the envelope's fields take {bytes} bytes, the limit is {max}; move data into the payload")
            }
            Self::Field { field, bytes, max } => write!(f, "{field} has {bytes} bytes, the limit is {max}"),
            Self::TooMany { field, max } => write!(f, "more than {max} {field}; the limit is {max}"),
            Self::DeadlineBeforeDue => {
                f.write_str("the deadline is before the not-before time, so the event could never be delivered")
            }
        }
    }
}

impl std::error::Error for EnvelopeError {}

/// Collects the fields of one event. Reused from event to event; grows once.
#[derive(Debug, Default)]
pub(crate) struct ExtensionBuffer {
    bytes: Vec<u8>,
    /// There is something to carry, or to say against it.
    touched: bool,
    targets: usize,
    metadata: usize,
    /// The topic's name is among the fields.
    named: bool,
    fault: Option<EnvelopeError>,
}

impl ExtensionBuffer {
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.touched {
            self.bytes.clear();
            *self = Self { bytes: std::mem::take(&mut self.bytes), ..Self::default() };
        }
    }

    /// Whether the topic's name has still to be added; says so once an event, however often it is tried.
    pub(crate) fn claim_name(&mut self) -> bool {
        !std::mem::replace(&mut self.named, true)
    }

    /// Whether there is nothing to carry and nothing to say against it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.touched
    }

    /// The flag of an event that names services it is for.
    pub(crate) fn flags(&self) -> u8 {
        if self.targets > 0 { super::FLAG_TARGETED } else { 0 }
    }

    /// Whether something is wrong that [`finish`](Self::finish) will say.
    pub(crate) fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    /// Remembers the first thing that is wrong, to be said when the event is published.
    pub(crate) fn reject(&mut self, fault: EnvelopeError) {
        self.touched = true;
        self.fault.get_or_insert(fault);
    }

    fn put(&mut self, tag: Tag, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let after = (self.bytes.len() + 4 + length).next_multiple_of(16);
        if after > EXTENSION_BYTES_MAX {
            self.reject(EnvelopeError::TooLong { bytes: after, max: EXTENSION_BYTES_MAX });
            return;
        }
        self.touched = true;
        let [low, high] = (length as u16).to_le_bytes();
        self.bytes.extend_from_slice(&[tag as u8, 0, low, high]);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    pub(crate) fn text(&mut self, tag: Tag, field: &'static str, text: &str, max: usize) {
        if text.len() > max {
            self.reject(EnvelopeError::Field { field, bytes: text.len(), max });
        } else {
            self.put(tag, &[text.as_bytes()]);
        }
    }

    pub(crate) fn id(&mut self, tag: Tag, id: EventId) {
        self.put(tag, &[id.as_bytes()]);
    }

    pub(crate) fn number(&mut self, tag: Tag, number: u64) {
        self.put(tag, &[&number.to_le_bytes()]);
    }

    pub(crate) fn aggregate(&mut self, aggregate: Aggregate<'_>) {
        match u8::try_from(aggregate.kind.len()) {
            Ok(kind_bytes) => self.put(
                Tag::Aggregate,
                &[&aggregate.version.to_le_bytes(), &[kind_bytes], aggregate.kind.as_bytes(), aggregate.id.as_bytes()],
            ),
            Err(_) => {
                self.reject(EnvelopeError::Field { field: "aggregate kind", bytes: aggregate.kind.len(), max: 255 })
            }
        }
    }

    pub(crate) fn target(&mut self, target: ServiceTarget<'_>) {
        self.targets += 1;
        if self.targets > TARGETS_MAX {
            self.reject(EnvelopeError::TooMany { field: "targets", max: TARGETS_MAX });
        } else if target.id.len() > 255 {
            self.reject(EnvelopeError::Field { field: "target", bytes: target.id.len(), max: 255 });
        } else {
            self.put(Tag::Target, &[&[target.priority], target.id.as_bytes()]);
        }
    }

    pub(crate) fn metadata(&mut self, key: &str, value: &str) {
        self.metadata += 1;
        match u8::try_from(key.len()) {
            _ if self.metadata > METADATA_MAX => {
                self.reject(EnvelopeError::TooMany { field: "metadata entries", max: METADATA_MAX })
            }
            Ok(key_bytes) => self.put(Tag::Metadata, &[&[key_bytes], key.as_bytes(), value.as_bytes()]),
            Err(_) => self.reject(EnvelopeError::Field { field: "metadata key", bytes: key.len(), max: 255 }),
        }
    }

    /// The fields, padded to a multiple of 16 bytes.
    pub(crate) fn finish(&mut self) -> Result<&[u8], EnvelopeError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(mutant!("extension.align", 16 => 8)), 0);
        Ok(&self.bytes)
    }
}

/// The fields of an event, in order.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(extension: &'a [u8]) -> Self {
        Self { rest: extension, at: 0 }
    }

    /// All values of `tag`, in order. A broken field ends the iteration.
    pub(crate) fn all(self, tag: Tag) -> impl Iterator<Item = &'a [u8]> {
        self.map_while(Result::ok).filter(move |(found, _)| *found == tag as u8).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let [tag, _, low, high, value @ ..] = self.rest else {
            let broken = self.rest.iter().any(|&byte| byte != 0);
            self.rest = &[];
            return broken.then_some(Err(FrameError::Extension { at: self.at }));
        };
        if *tag == 0 {
            self.rest = &[];
            return None;
        }
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let Some((value, rest)) = value.split_at_checked(mutant!("frame.field", length => length.min(value.len())))
        else {
            self.rest = &[];
            return Some(Err(FrameError::Extension { at: self.at }));
        };
        self.at += 4 + length;
        self.rest = rest;
        Some(Ok((*tag, value)))
    }
}

pub(crate) fn read_aggregate(value: &[u8]) -> Option<Aggregate<'_>> {
    let (version, rest) = value.split_first_chunk::<8>()?;
    let (&kind_bytes, rest) = rest.split_first()?;
    let (kind, id) = rest.split_at_checked(usize::from(kind_bytes))?;
    Some(Aggregate {
        kind: std::str::from_utf8(kind).ok()?,
        id: std::str::from_utf8(id).ok()?,
        version: u64::from_le_bytes(*version),
    })
}

pub(crate) fn read_target(value: &[u8]) -> Option<ServiceTarget<'_>> {
    let (&priority, id) = value.split_first()?;
    Some(ServiceTarget { id: std::str::from_utf8(id).ok()?, priority })
}

pub(crate) fn read_entry(value: &[u8]) -> Option<(&str, &str)> {
    let (&key_bytes, rest) = value.split_first()?;
    let (key, value) = rest.split_at_checked(usize::from(key_bytes))?;
    Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_and_padding_ends_them() {
        let mut buffer = ExtensionBuffer::default();
        buffer.id(Tag::Correlation, EventId::from_bytes([9; 16]));
        buffer.metadata("user", "ada");
        buffer.metadata("tenant", "");
        buffer.aggregate(Aggregate { kind: "order", id: "7", version: 3 });
        let bytes = buffer.finish().unwrap().to_vec();
        assert_eq!(bytes.len() % 16, 0);
        let fields = Fields::new(&bytes);
        assert_eq!(fields.clone().all(Tag::Correlation).next(), Some(&[9; 16][..]));
        let metadata: Vec<_> = fields.clone().all(Tag::Metadata).map(read_entry).collect();
        assert_eq!(metadata, [Some(("user", "ada")), Some(("tenant", ""))]);
        let aggregate = read_aggregate(fields.clone().all(Tag::Aggregate).next().unwrap()).unwrap();
        assert_eq!(aggregate, Aggregate { kind: "order", id: "7", version: 3 });
        assert_eq!(fields.count(), 4);
    }

    #[test]
    fn limits_are_said_once_and_first() {
        let mut buffer = ExtensionBuffer::default();
        for _ in 0..=TARGETS_MAX {
            buffer.target("s".into());
        }
        buffer.metadata(&"k".repeat(256), "v");
        assert_eq!(buffer.finish(), Err(EnvelopeError::TooMany { field: "targets", max: TARGETS_MAX }));
        buffer.clear();
        buffer.metadata("big", &"v".repeat(EXTENSION_BYTES_MAX));
        assert!(matches!(buffer.finish(), Err(EnvelopeError::TooLong { max: EXTENSION_BYTES_MAX, .. })));
    }

    #[test]
    fn a_buffer_whose_only_field_was_rejected_is_not_empty() {
        let mut buffer = ExtensionBuffer::default();
        assert!(buffer.is_empty());
        buffer.target((&"s".repeat(256)).into());
        assert!(!buffer.is_empty());
        assert_eq!(buffer.finish(), Err(EnvelopeError::Field { field: "target", bytes: 256, max: 255 }));
    }

    #[test]
    fn a_broken_field_is_an_error_and_ends_the_walk() {
        let bytes = [Tag::Target as u8, 0, 200, 0, b'x'];
        let walked: Vec<_> = Fields::new(&bytes).collect();
        assert_eq!(walked, [Err(FrameError::Extension { at: 0 })]);
    }
}
