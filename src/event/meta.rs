//! Everything about an event but its payload, read in place.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::extension::{Fields, Tag, read_aggregate, read_entry, read_target};
use super::{
    Aggregate, Directory, Encoding, EventId, FLAG_REPLAY, FrameError, Header, Payload, Priority, ServiceTarget,
};

/// The metadata of an event in a handler's hands. Borrowed from the frame: reading a field costs what it says.
#[derive(Clone, Copy)]
pub struct Meta<'a> {
    header: &'a Header,
    extension: &'a [u8],
    payload: &'a [u8],
    sequence: u64,
    /// Attempts at this delivery that failed before.
    failures: u8,
    directory: &'a Directory,
}

impl<'a> Meta<'a> {
    /// Reads a frame: `body` starts with a header, `rest` is what lies behind it or in its block.
    #[inline(always)]
    pub(crate) fn new(
        header: &'a Header,
        rest: &'a [u8],
        sequence: u64,
        directory: &'a Directory,
    ) -> Result<Self, FrameError> {
        let (extension, payload) = header.split(rest)?;
        Ok(Self { header, extension, payload, sequence, failures: 0, directory })
    }

    /// The same of an event that was tried before.
    #[inline(always)]
    pub(crate) fn after(self, failures: u8) -> Self {
        Self { failures, ..self }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &'a Header {
        self.header
    }

    /// The envelope's fields beyond the header, as they travel.
    pub(crate) fn extension(&self) -> &'a [u8] {
        self.extension
    }

    /// The event's place in its lane. It dies with the process; per priority it counts up.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The event's id.
    pub fn id(&self) -> EventId {
        self.header.event_id()
    }

    /// The id the event had outside, when that was no UUID.
    pub fn original_id(&self) -> Option<&'a str> {
        self.text(Tag::OriginalId)
    }

    /// The dotted name of the event's type.
    pub fn topic(&self) -> &'a str {
        self.directory.type_name(self.header.type_id).or_else(|| self.text(Tag::TypeName)).unwrap_or("")
    }

    /// Who published.
    pub fn source(&self) -> &'a str {
        // The publisher's own stands first, and the event's behind it.
        let in_frame = || std::str::from_utf8(self.fields().all(Tag::Source).last()?).ok();
        self.directory.source_name(self.header.source_id).or_else(in_frame).unwrap_or("")
    }

    /// The event's priority.
    #[inline]
    pub fn priority(&self) -> Priority {
        Priority::of_lane(3 - (self.header.priority & 3) as usize)
    }

    /// When the event was created, in UTC.
    pub fn timestamp(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.unix_ns())
    }

    /// When the event was created, in nanoseconds of Unix time.
    pub fn unix_ns(&self) -> u64 {
        self.directory.unix_ns(self.header.time)
    }

    /// How long ago the event was created.
    pub fn age(&self) -> Duration {
        let elapsed = self.directory.now().wrapping_sub(self.header.time) as i64;
        Duration::from_nanos(elapsed.max(0) as u64)
    }

    /// How the payload's bytes are to be read; `None` for a tag this version does not know.
    pub fn encoding(&self) -> Option<Encoding> {
        Encoding::from_tag(self.header.encoding)
    }

    /// The payload as it is. An unknown encoding shows as raw bytes.
    pub fn payload(&self) -> Payload<'a> {
        Payload::with_encoding(self.encoding().unwrap_or(Encoding::Bytes), self.payload)
    }

    /// The schema version as a number, 1 unless set.
    pub fn schema_version(&self) -> u16 {
        self.header.schema
    }

    /// The schema version as a text, when one was set.
    pub fn schema_text(&self) -> Option<&'a str> {
        self.text(Tag::SchemaText)
    }

    /// What this event belongs to.
    pub fn correlation(&self) -> Option<EventId> {
        self.event_id(Tag::Correlation)
    }

    /// The event that caused this one.
    pub fn causation(&self) -> Option<EventId> {
        self.event_id(Tag::Causation)
    }

    /// The aggregate that changed.
    pub fn aggregate(&self) -> Option<Aggregate<'a>> {
        self.field(Tag::Aggregate).and_then(read_aggregate)
    }

    /// Time left until nobody wants the event any more; `None` when it never expires.
    pub fn expires_in(&self) -> Option<Duration> {
        let deadline = self.header.deadline;
        (deadline != 0).then(|| Duration::from_nanos(deadline.saturating_sub(self.directory.now())))
    }

    /// Which attempt at delivery this is, from 1.
    pub fn attempt(&self) -> u8 {
        self.header.attempt.saturating_add(self.failures)
    }

    /// Whether the event happened before and comes again out of a history, so that what it led to then must not happen
    /// twice.
    pub fn is_replay(&self) -> bool {
        self.header.has(FLAG_REPLAY)
    }

    /// Its place in the store that it was read from; `None` of an event that came to the bus otherwise. Not in frames.
    pub fn position(&self) -> Option<u64> {
        self.field(Tag::Position)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The subscription that a replay is for alone.
    pub(crate) fn replay_to(&self) -> Option<EventId> {
        self.event_id(Tag::ReplayTo)
    }

    /// Instant after which nobody wants the event, in nanoseconds of Unix time; 0 = none.
    pub(crate) fn deadline_unix_ns(&self) -> u64 {
        match self.header.deadline {
            0 => 0,
            deadline => self.directory.unix_ns(deadline),
        }
    }

    /// Instant before which the event is not due, in nanoseconds of Unix time.
    pub(crate) fn due_unix_ns(&self) -> Option<u64> {
        let due = self.field(Tag::NotBefore)?.try_into().ok().map(u64::from_le_bytes)?;
        Some(self.directory.unix_ns(due))
    }

    /// Services the event is meant for; none means all.
    pub fn targets(&self) -> impl Iterator<Item = ServiceTarget<'a>> {
        self.fields().all(Tag::Target).filter_map(read_target)
    }

    /// The W3C `traceparent` the event travels with.
    pub fn trace_parent(&self) -> Option<&'a str> {
        self.text(Tag::TraceParent)
    }

    /// Free entries, in the order they were set.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.fields().all(Tag::Metadata).filter_map(read_entry)
    }

    /// The value of one entry.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.metadata().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// When the event was due, if it was published with a not-before time; in UTC.
    pub fn not_before(&self) -> Option<SystemTime> {
        self.due_unix_ns().map(|due| SystemTime::UNIX_EPOCH + Duration::from_nanos(due))
    }

    fn fields(&self) -> Fields<'a> {
        Fields::new(self.extension)
    }

    fn field(&self, tag: Tag) -> Option<&'a [u8]> {
        // The builder's last word counts, as for the fields of the header.
        if self.extension.is_empty() { None } else { self.fields().all(tag).last() }
    }

    fn text(&self, tag: Tag) -> Option<&'a str> {
        self.field(tag).and_then(|value| std::str::from_utf8(value).ok())
    }

    fn event_id(&self, tag: Tag) -> Option<EventId> {
        self.field(tag)?.try_into().ok().map(EventId::from_bytes)
    }
}

/// Reads a whole frame from bytes that nobody vouches for, touching every field. For fuzzing: the same code reads
/// slots, cells and (later) files.
///
/// # Errors
/// When the bytes are no frame.
#[doc(hidden)]
pub fn read_frame(body: &[u8]) -> Result<String, FrameError> {
    let directory = Directory::new(0, 0, crate::clock::Clock::manual());
    let header = Header::read(body)?;
    let meta = Meta::new(header, &body[super::HEADER_BYTES..], 0, &directory)?;
    if let Some(Err(broken)) = meta.fields().find(Result::is_err) {
        return Err(broken);
    }
    let entries = meta.metadata().count() + meta.targets().count();
    Ok(format!(
        "{meta:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {entries} {}",
        meta.encoding(),
        meta.correlation(),
        meta.causation(),
        meta.aggregate(),
        meta.schema_text(),
        meta.trace_parent(),
        meta.original_id(),
        meta.not_before().and_then(|due| due.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|due| due.as_nanos()),
        meta.payload().bytes().len(),
    ))
}

impl fmt::Debug for Meta<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("id", &self.id())
            .field("topic", &self.topic())
            .field("source", &self.source())
            .field("priority", &self.priority())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}
