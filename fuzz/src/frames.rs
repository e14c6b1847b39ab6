//! Frames: bytes that nobody vouches for are refused or read, never worse; what was written is what is read.

use arbitrary::{Arbitrary, Unstructured};
use ringmain::internals::{FrameError, read_frame};
use ringmain::{Aggregate, Encoding, EventId, Priority};

mod portable;

const HEADER_BYTES: usize = 56;
const ALIGN: usize = 8;

/// Tags of fields, and the first that no version knows.
const TYPE_NAME: u8 = 1;
const SOURCE: u8 = 2;
const CORRELATION: u8 = 3;
const CAUSATION: u8 = 4;
const AGGREGATE: u8 = 5;
const NOT_BEFORE: u8 = 6;
const SCHEMA_TEXT: u8 = 7;
const TRACE_PARENT: u8 = 8;
const TARGET: u8 = 9;
const METADATA: u8 = 10;
const ORIGINAL_ID: u8 = 11;
/// Those that no portable frame has.
const POSITION: u8 = 12;
const REPLAY_TO: u8 = 13;
/// Only in frames of a journal.
const PLACE: u8 = 14;
const UNKNOWN: u8 = 15;

/// Reads `data` as a frame, and a frame built out of `data`, and compares with a reader of its own.
///
/// # Panics
///
/// If they disagree.
pub fn check(data: &[u8]) {
    check_bytes(data);
    portable::check(data);
    // Too few bytes for a case are no case.
    let _ = run(&mut Unstructured::new(data));
}

/// Whatever the bytes are: the lengths in the header decide what is short.
fn check_bytes(data: &[u8]) {
    let read = at_alignment(data, 0, read_frame);
    match lengths(data) {
        Some((extension, payload)) if data.len() - HEADER_BYTES >= extension + payload => {
            assert!(!matches!(read, Err(FrameError::Short { .. })), "all bytes are there: {read:?}");
        }
        Some((extension, payload)) => {
            let error = FrameError::Short { bytes: data.len() - HEADER_BYTES, needed: extension + payload };
            assert_eq!(read, Err(error));
        }
        None => assert_eq!(read, Err(FrameError::Short { bytes: data.len(), needed: HEADER_BYTES })),
    }
}

/// Bytes of extension and payload by the header.
fn lengths(data: &[u8]) -> Option<(usize, usize)> {
    let header = data.first_chunk::<HEADER_BYTES>()?;
    let [.., a, b, c, d] = header[..44] else { unreachable!("the header is longer") };
    let extension = u16::from_ne_bytes([header[44], header[45]]);
    Some((usize::from(extension), u32::from_ne_bytes([a, b, c, d]) as usize))
}

/// Calls `read` with a copy of `bytes` that lies `off` bytes behind an aligned address.
fn at_alignment<R>(bytes: &[u8], off: usize, read: impl FnOnce(&[u8]) -> R) -> R {
    let mut room = vec![0; bytes.len() + 2 * ALIGN];
    let start = room.as_ptr().align_offset(ALIGN) + off;
    let place = &mut room[start..start + bytes.len()];
    place.copy_from_slice(bytes);
    read(place)
}

#[derive(Debug, Arbitrary)]
struct Header {
    id: [u8; 16],
    time: u64,
    deadline: u64,
    type_id: u32,
    source_id: u32,
    schema: u16,
    priority: u8,
    encoding: u8,
    attempt: u8,
    flags: u8,
    check: u32,
}

/// A field, as it lies in the extension.
type Field = (u8, Vec<u8>);

fn run(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let header = Header::arbitrary(bytes)?;
    let fields: Vec<Field> = (0..bytes.int_in_range(0..=8)?).map(|_| draw_field(bytes)).collect::<Result<_, _>>()?;
    let payload_bytes = bytes.int_in_range(0..=64)?;
    let padded = bytes.ratio(7, 8)?;
    let frame = write(&header, &fields, payload_bytes, padded);

    let read = at_alignment(&frame, 0, read_frame);
    assert_eq!(read.as_deref(), Ok(&*expected(&header, &fields, payload_bytes)), "{header:?} with {fields:?}");

    let off = bytes.int_in_range(1..=ALIGN - 1)?;
    assert!(at_alignment(&frame, off, read_frame).is_err(), "a misaligned frame was read");
    let cut = bytes.choose_index(frame.len())?;
    check_bytes(&frame[..cut]);
    check_broken_field(frame, &fields, bytes)
}

/// A field that says to be longer than the extension is found, and said to be where it is.
fn check_broken_field(mut frame: Vec<u8>, fields: &[Field], bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    let broken = bytes.choose_index(fields.len())?;
    let at: usize = fields[..broken].iter().map(|(_, value)| 4 + value.len()).sum();
    frame[HEADER_BYTES + at + 2..][..2].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(at_alignment(&frame, 0, read_frame), Err(FrameError::Extension { at }));
    Ok(())
}

/// A field of some kind, mostly well-formed.
fn draw_field(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Field> {
    let tag = bytes.int_in_range(TYPE_NAME..=UNKNOWN)?;
    if !bytes.ratio(7, 8)? {
        return Ok((tag, draw_bytes(bytes)?.to_vec()));
    }
    let value = match tag {
        CORRELATION | CAUSATION => <[u8; 16]>::arbitrary(bytes)?.to_vec(),
        PLACE => <[u8; 32]>::arbitrary(bytes)?.to_vec(),
        NOT_BEFORE => u64::arbitrary(bytes)?.to_le_bytes().to_vec(),
        AGGREGATE => {
            let version = u64::arbitrary(bytes)?.to_le_bytes();
            [&version[..], &draw_entry(bytes)?].concat()
        }
        METADATA => draw_entry(bytes)?,
        UNKNOWN => draw_bytes(bytes)?.to_vec(),
        _ => draw_text(bytes)?.into(),
    };
    Ok((tag, value))
}

fn draw_bytes<'a>(bytes: &mut Unstructured<'a>) -> arbitrary::Result<&'a [u8]> {
    let length = bytes.int_in_range(0..=40)?;
    bytes.bytes(length.min(bytes.len()))
}

fn draw_text<'a>(bytes: &mut Unstructured<'a>) -> arbitrary::Result<&'a str> {
    let drawn = draw_bytes(bytes)?;
    let valid = std::str::from_utf8(drawn).map_or_else(|error| error.valid_up_to(), str::len);
    std::str::from_utf8(&drawn[..valid]).map_err(|_| arbitrary::Error::IncorrectFormat)
}

/// Two texts, the first with its length before it.
fn draw_entry(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let (key, value) = (draw_text(bytes)?, draw_text(bytes)?);
    Ok([&[key.len() as u8], key.as_bytes(), value.as_bytes()].concat())
}

fn write(header: &Header, fields: &[Field], payload_bytes: usize, padded: bool) -> Vec<u8> {
    let mut extension = Vec::new();
    for (tag, value) in fields {
        let [low, high] = (value.len() as u16).to_le_bytes();
        extension.extend([*tag, 0, low, high]);
        extension.extend(value);
    }
    if padded {
        extension.resize(extension.len().next_multiple_of(16), 0);
    }
    let mut frame = header.id.to_vec();
    frame.extend(header.time.to_ne_bytes());
    frame.extend(header.deadline.to_ne_bytes());
    frame.extend(header.type_id.to_ne_bytes());
    frame.extend(header.source_id.to_ne_bytes());
    frame.extend((payload_bytes as u32).to_ne_bytes());
    frame.extend((extension.len() as u16).to_ne_bytes());
    frame.extend(header.schema.to_ne_bytes());
    frame.extend([header.priority, header.encoding, header.attempt, header.flags]);
    frame.extend(header.check.to_ne_bytes());
    assert_eq!(frame.len(), HEADER_BYTES);
    frame.extend(extension);
    frame.resize(frame.len() + payload_bytes, 0xA5);
    frame
}

/// What reading must say. The last field of a tag counts, or none if that one is malformed.
fn expected(header: &Header, fields: &[Field], payload_bytes: usize) -> String {
    let last = |tag| fields.iter().rev().find(|(found, _)| *found == tag).map(|(_, value)| &**value);
    let text = |tag| last(tag).and_then(|value| std::str::from_utf8(value).ok());
    let id = |tag| last(tag).and_then(|value| Some(EventId::from_bytes(value.try_into().ok()?)));
    let priorities = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
    let encodings = [Encoding::Bytes, Encoding::Rkyv, Encoding::Json, Encoding::Text, Encoding::Protobuf];
    let aggregate = last(AGGREGATE).filter(|value| value.len() > 8).and_then(|value| {
        let (kind, id) = entry(&value[8..])?;
        Some(Aggregate { kind, id, version: u64::from_le_bytes(value[..8].try_into().ok()?) })
    });
    // Instants count from the start of 2026 on the clock that frames are read with.
    let not_before = last(NOT_BEFORE).and_then(|value| {
        Some(1_767_225_600_000_000_000_u64.saturating_add_signed(i64::from_le_bytes(value.try_into().ok()?)))
    });
    let entries = fields.iter().filter(|(tag, value)| match *tag {
        TARGET => !value.is_empty() && std::str::from_utf8(&value[1..]).is_ok(),
        METADATA => entry(value).is_some(),
        _ => false,
    });
    format!(
        "Meta {{ id: {:?}, topic: {:?}, source: {:?}, priority: {:?}, sequence: 0, .. }} \
         {:?} {:?} {:?} {aggregate:?} {:?} {:?} {:?} {not_before:?} {} {payload_bytes}",
        EventId::from_bytes(header.id),
        text(TYPE_NAME).unwrap_or(""),
        text(SOURCE).unwrap_or(""),
        priorities[usize::from(header.priority) % 4],
        encodings.get(usize::from(header.encoding)),
        id(CORRELATION),
        id(CAUSATION),
        text(SCHEMA_TEXT),
        text(TRACE_PARENT),
        text(ORIGINAL_ID),
        entries.count(),
    )
}

/// The two texts of an entry.
fn entry(value: &[u8]) -> Option<(&str, &str)> {
    let (length, texts) = value.split_first()?;
    let key = texts.get(..usize::from(*length))?;
    Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(&texts[key.len()..]).ok()?))
}
