//! An event as bytes that mean the same in another process and on another day.
//!
//! ```text
//!   │ mark 8 │ header 56 │ extension 16.. │ payload │
//! ```
//!
//! It is laid out as in a lane, so one reader serves both. What only this process knows is written out: topic and source
//! are names in the extension, instants are nanoseconds of Unix time, all integers are little-endian. Flags that vouch for
//! the payload, or speak of this bus's latency, are cleared. There is no checksum: whoever keeps frames has one around
//! them.

use std::fmt;
use std::mem::offset_of;
use std::sync::{Arc, LazyLock};

use rkyv::util::AlignedVec;

use super::codec::{PAYLOAD_ALIGN, validate};
use super::extension::{EXTENSION_BYTES_MAX, Fields, Tag};
use super::{
    DecodeError, Directory, Encoding, Event, EventSource, FLAG_OUTBOX, FLAG_REPLAY, FLAG_STAMPED, FLAG_TARGETED,
    FrameError, HEADER_BYTES, Header, Meta, NAME_BYTES_MAX, Payload,
};

mod cell;
mod read;

pub(crate) use cell::CellFrame;

/// What a frame starts with; the last byte is the version of the format.
const MARK: [u8; 8] = *b"rmframe\x01";
/// Bytes before the extension.
const FRONT_BYTES: usize = MARK.len() + HEADER_BYTES;
/// Where fields of the header are that change with the payload.
const PAYLOAD_BYTES_AT: usize = MARK.len() + offset_of!(Header, payload_bytes);
const SCHEMA_AT: usize = MARK.len() + offset_of!(Header, schema);
const ENCODING_AT: usize = MARK.len() + offset_of!(Header, encoding);
const FLAGS_AT: usize = MARK.len() + offset_of!(Header, flags);
/// Bytes of the extension: those of the event, and two names that it may have had as numbers.
const PORTABLE_EXTENSION_BYTES_MAX: usize =
    (EXTENSION_BYTES_MAX + 2 * FIELD_BYTES + NAME_BYTES_MAX + EventSource::BYTES_MAX + FIELD_BYTES + PLACE_BYTES)
        .next_multiple_of(PAYLOAD_ALIGN);
/// Bytes of a field before its value.
const FIELD_BYTES: usize = 4;
/// Bytes of a place in a lane: who wrote it, the sequence, and instants of the bus: when it was published, 0 = not known, and its
/// deadline.
const PLACE_BYTES: usize = 32;
/// Single fields of an event end before this tag.
const TAGS: usize = Tag::OriginalId as usize + 1;

/// Reads frames: no type or source has a number, instants are Unix nanoseconds.
static PORTABLE: LazyLock<Directory> = LazyLock::new(Directory::portable);

/// An event as bytes to keep or to send: what is in a store, a file, a message to another process. Cheap to clone.
///
/// It has everything that [`Meta`] tells but [`sequence`](Meta::sequence), which dies with its lane. Two frames of one
/// event have the same bytes.
///
/// ```
/// use ringmain::{Bus, Frame, Payload};
/// let bus = Bus::builder().build()?;
/// let mut inbox = bus.subscribe("orders.*").mailbox()?;
/// let mut publisher = bus.publisher()?;
/// publisher.event().metadata("user", "ada").publish("orders.placed", Payload::json(r#"{"id": 7}"#))?;
///
/// let frame = Frame::of(&inbox.recv()?.meta());
/// let bytes = frame.bytes().to_vec(); // To a file, and some day back from it.
///
/// let frame = Frame::copied_from(&bytes)?;
/// assert_eq!(frame.meta().topic(), "orders.placed");
/// assert_eq!(frame.meta().get("user"), Some("ada"));
/// publisher.publish_frame(&frame)?;
/// assert_eq!(inbox.recv()?.payload().text(), Some(r#"{"id": 7}"#));
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Clone)]
pub struct Frame(Arc<Kept>);

struct Kept {
    header: Header,
    bytes: AlignedVec<PAYLOAD_ALIGN>,
}

/// A frame that was read and found right, where it lies.
#[derive(Clone, Copy)]
pub struct FrameRef<'a> {
    header: Header,
    bytes: &'a [u8],
}

impl Frame {
    /// The frame of an event.
    ///
    /// # Cost
    /// Allocates, and copies extension and payload.
    pub fn of(meta: &Meta<'_>) -> Self {
        Self::made(meta, None)
    }

    /// The frame of an event in a bus's hands, with its [`sequence`](Meta::sequence) and the number of whoever writes that down: so
    /// that it finds the event again in what it kept, as a [journal](crate::SpillSource) does for a subscription that could not keep up.
    ///
    /// # Cost
    /// As [`of`](Self::of).
    pub fn in_lane(meta: &Meta<'_>, writer: u64) -> Self {
        let header = meta.header();
        let published = if header.has(FLAG_STAMPED) { header.time } else { 0 };
        let mut place = [0; PLACE_BYTES];
        let numbers = [writer, meta.sequence(), published, header.deadline];
        place.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(bytes, number)| *bytes = number.to_le_bytes());
        Self::made(meta, Some(place))
    }

    /// The sequence of the event in its lane, where this writer wrote it down: see [`in_lane`](Self::in_lane).
    pub fn sequence_by(&self, writer: u64) -> Option<u64> {
        let [by, sequence, ..] = self.place()?;
        (by == writer).then_some(sequence)
    }

    /// Its place in a lane, if it was written down there.
    fn place(&self) -> Option<[u64; PLACE_BYTES / 8]> {
        let meta = self.meta();
        let place = Fields::new(meta.extension()).all(Tag::Place).last()?;
        let numbers: [[u8; 8]; PLACE_BYTES / 8] = place.as_chunks().0.try_into().ok()?;
        Some(numbers.map(u64::from_le_bytes))
    }

    fn made(meta: &Meta<'_>, place: Option<[u8; PLACE_BYTES]>) -> Self {
        let mut bytes = AlignedVec::with_capacity(bytes_of(meta, place));
        write(meta, place, |part| bytes.extend_from_slice(part));
        Self::keep(bytes)
    }

    /// Writes the frame of an event to the end of `buffer`. Returns its length in bytes.
    ///
    /// To be read in place it has to start on a 16-byte boundary: pad between frames.
    pub fn write(meta: &Meta<'_>, buffer: &mut Vec<u8>) -> usize {
        let before = buffer.len();
        buffer.reserve(bytes_of(meta, None));
        write(meta, None, |part| buffer.extend_from_slice(part));
        buffer.len() - before
    }

    /// Reads a frame where it lies: `bytes` are all of it, and start on a 16-byte boundary. Lengths and every field are
    /// checked, once; nobody has to vouch for them. The payload is checked where it is read as a type.
    ///
    /// # Errors
    /// When the bytes are no frame; the error says what is wrong, and where.
    pub fn read(bytes: &[u8]) -> Result<FrameRef<'_>, FrameError> {
        check_aligned(bytes)?;
        let header = read::check(bytes)?;
        Ok(FrameRef { header, bytes })
    }

    /// As [`read`](Self::read), of bytes that were taken from a frame, and of which a checksum just said that they are as they were then.
    /// Mark, version, header and lengths are checked, and the envelope's fields are not asked again whether they are well formed.
    ///
    /// Where that is not so nothing is unsafe: a field that is malformed is then found missing where it is read, or as it is.
    ///
    /// # Errors
    /// As [`read`](Self::read), of what is checked.
    #[inline]
    pub fn read_vouched(bytes: &[u8]) -> Result<FrameRef<'_>, FrameError> {
        check_aligned(bytes)?;
        let header = read::check_front(bytes)?;
        Ok(FrameRef { header, bytes })
    }

    /// As [`read`](Self::read), of bytes that start anywhere: they are copied.
    ///
    /// # Errors
    /// When the bytes are no frame.
    pub fn copied_from(bytes: &[u8]) -> Result<Self, FrameError> {
        read::check(bytes)?;
        Ok(Self::copy(bytes))
    }

    fn copy(bytes: &[u8]) -> Self {
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        Self::keep(aligned)
    }

    fn keep(bytes: AlignedVec<PAYLOAD_ALIGN>) -> Self {
        let header = read::header(&bytes).expect("a frame begins with a whole header");
        Self(Arc::new(Kept { header, bytes }))
    }

    /// The frame as one that was read. Checks nothing again.
    pub fn view(&self) -> FrameRef<'_> {
        FrameRef { header: self.0.header, bytes: &self.0.bytes }
    }

    /// Everything about the event. [`sequence`](Meta::sequence) is 0; ages go by the system's wall clock.
    pub fn meta(&self) -> Meta<'_> {
        meta_of(&self.0.header, &self.0.bytes)
    }

    /// The payload as it is.
    pub fn payload(&self) -> Payload<'_> {
        self.view().payload()
    }

    /// The event as `E`, read in place and validated at each call.
    ///
    /// # Errors
    /// When the payload is in another encoding, or no valid archive of `E`.
    pub fn event<E: Event>(&self) -> Result<&E::Archived, DecodeError> {
        self.view().event::<E>()
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The same event, marked as appended to be published from the store: who starts a
    /// durable publisher (feature `store`) on it publishes what is marked and may not have been delivered.
    #[must_use]
    pub fn for_outbox(&self) -> Self {
        let mut bytes = AlignedVec::with_capacity(self.bytes().len());
        bytes.extend_from_slice(self.bytes());
        bytes[FLAGS_AT] |= FLAG_OUTBOX;
        Self::keep(bytes)
    }

    /// Whether it was appended to be published from the store.
    pub fn is_for_outbox(&self) -> bool {
        self.view().is_for_outbox()
    }

    /// The same event with another payload, of another version of its schema: all else of the envelope stays.
    ///
    /// ```
    /// # use ringmain::{Bus, Payload};
    /// # let bus = Bus::builder().build()?;
    /// # let mut publisher = bus.publisher()?;
    /// let old = publisher.event().to_frame("orders.placed", Payload::json(r#"{"euros": 19}"#))?;
    /// let new = old.with_payload(2, Payload::json(r#"{"cents": 1900}"#)).expect("it is short");
    /// assert_eq!((new.meta().id(), new.meta().schema_version()), (old.meta().id(), 2));
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the payload has 4 GiB or more.
    pub fn with_payload(&self, schema_version: u16, payload: Payload<'_>) -> Result<Self, FrameError> {
        let value = payload.bytes().len() as u64;
        let payload_bytes = u32::try_from(value).map_err(|_| FrameError::Header { field: "payload_bytes", value })?;
        let Kept { header, bytes: old } = &*self.0;
        let front = FRONT_BYTES + usize::from(header.extension_bytes);
        let mut bytes = AlignedVec::with_capacity(front + payload.bytes().len());
        bytes.extend_from_slice(&old[..front]);
        bytes[PAYLOAD_BYTES_AT..][..4].copy_from_slice(&payload_bytes.to_le_bytes());
        bytes[SCHEMA_AT..][..2].copy_from_slice(&schema_version.to_le_bytes());
        bytes[ENCODING_AT] = payload.encoding() as u8;
        bytes.extend_from_slice(payload.bytes());
        Ok(Self::keep(bytes))
    }
}

/// Whether a payload behind this begin can be read where it lies.
#[inline]
fn check_aligned(bytes: &[u8]) -> Result<(), FrameError> {
    let by = bytes.as_ptr().addr() % PAYLOAD_ALIGN;
    if by == 0 { Ok(()) } else { Err(FrameError::Misaligned { by }) }
}

/// Everything about the event of a frame that was checked.
#[inline]
fn meta_of<'a>(header: &'a Header, bytes: &'a [u8]) -> Meta<'a> {
    Meta::new(header, &bytes[FRONT_BYTES..], 0, &PORTABLE).expect("the lengths were checked")
}

impl<'a> FrameRef<'a> {
    /// Everything about the event. [`sequence`](Meta::sequence) is 0; ages go by the system's wall clock.
    pub fn meta(&self) -> Meta<'_> {
        meta_of(&self.header, self.bytes)
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The payload as it is.
    pub fn payload(&self) -> Payload<'a> {
        let encoding = Encoding::from_tag(self.header.encoding).unwrap_or(Encoding::Bytes);
        Payload::with_encoding(encoding, &self.bytes[FRONT_BYTES + usize::from(self.header.extension_bytes)..])
    }

    /// The event as `E`, read in place and validated at each call.
    ///
    /// # Errors
    /// When the payload is in another encoding, or no valid archive of `E`.
    pub fn event<E: Event>(&self) -> Result<&'a E::Archived, DecodeError> {
        match Encoding::from_tag(self.header.encoding) {
            Some(Encoding::Rkyv) => validate::<E>(self.payload().bytes()),
            found => Err(DecodeError::Encoding { found }),
        }
    }

    /// Whether it was appended to be published from the store.
    pub fn is_for_outbox(&self) -> bool {
        self.header.has(FLAG_OUTBOX)
    }

    /// A frame of its own with these bytes.
    pub fn to_frame(&self) -> Frame {
        Frame::copy(self.bytes)
    }
}

impl<'a> From<&'a Frame> for FrameRef<'a> {
    fn from(frame: &'a Frame) -> Self {
        frame.view()
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.meta()).finish()
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameRef").field(&self.meta()).finish()
    }
}

/// Whether an event has at most one field of this tag. Where it was set more than once, the last one counts.
const fn is_single(tag: u8) -> bool {
    (tag as usize) < TAGS && tag != Tag::Target as u8 && tag != Tag::Metadata as u8
}

/// Whether the field speaks of this process alone, or of one store.
const fn is_local(tag: u8) -> bool {
    tag == Tag::Position as u8 || tag == Tag::ReplayTo as u8
}

/// Calls `visit` with tag and value of every field of the portable extension: single ones by tag, then the others as they
/// come, and last its place in a lane, if it is to have one.
fn each_field(meta: &Meta<'_>, place: Option<[u8; PLACE_BYTES]>, mut visit: impl FnMut(u8, &[u8])) {
    let fields = || Fields::new(meta.extension()).map_while(Result::ok);
    let mut last = [None; TAGS];
    for (tag, value) in fields().filter(|(tag, _)| is_single(*tag)) {
        last[usize::from(tag)] = Some(value);
    }
    let due = meta.due_unix_ns().map(u64::to_le_bytes);
    last[Tag::TypeName as usize] = Some(meta.topic().as_bytes());
    last[Tag::Source as usize] = Some(meta.source().as_bytes());
    last[Tag::NotBefore as usize] = due.as_ref().map(<[u8; 8]>::as_slice);
    for (tag, value) in last.into_iter().enumerate() {
        if let Some(value) = value {
            visit(tag as u8, value);
        }
    }
    for (tag, value) in fields().filter(|(tag, _)| !is_single(*tag) && !is_local(*tag) && *tag != Tag::Place as u8) {
        visit(tag, value);
    }
    if let Some(place) = place {
        visit(Tag::Place as u8, &place);
    }
}

/// Bytes of the extension without padding, and flags that follow from it.
fn extension_of(meta: &Meta<'_>, place: Option<[u8; PLACE_BYTES]>) -> (usize, u8) {
    let (mut bytes, mut flags) = (0, 0);
    each_field(meta, place, |tag, value| {
        bytes += FIELD_BYTES + value.len();
        flags |= if tag == Tag::Target as u8 { FLAG_TARGETED } else { 0 };
    });
    (bytes, flags)
}

fn bytes_of(meta: &Meta<'_>, place: Option<[u8; PLACE_BYTES]>) -> usize {
    FRONT_BYTES + extension_of(meta, place).0.next_multiple_of(PAYLOAD_ALIGN) + meta.payload().bytes().len()
}

/// Calls `put` with the parts of a frame, in order.
fn write(meta: &Meta<'_>, place: Option<[u8; PLACE_BYTES]>, mut put: impl FnMut(&[u8])) {
    let (extension_bytes, flags) = extension_of(meta, place);
    let padded = extension_bytes.next_multiple_of(PAYLOAD_ALIGN);
    let header = meta.header();
    let flags = flags | header.flags & (FLAG_REPLAY | FLAG_OUTBOX);
    put(&MARK);
    put(&header.id);
    put(&meta.unix_ns().to_le_bytes());
    put(&meta.deadline_unix_ns().to_le_bytes());
    // No type and no source has a number.
    put(&[0; 8]);
    put(&header.payload_bytes.to_le_bytes());
    put(&(padded as u16).to_le_bytes());
    put(&header.schema.to_le_bytes());
    put(&[meta.priority() as u8, header.encoding, meta.attempt(), flags]);
    put(&[0; 4]);
    each_field(meta, place, |tag, value| {
        let [low, high] = (value.len() as u16).to_le_bytes();
        put(&[tag, 0, low, high]);
        put(value);
    });
    put(&[0; PAYLOAD_ALIGN][..padded - extension_bytes]);
    put(meta.payload().bytes());
}

#[cfg(test)]
mod tests;
