//! Bytes that nobody vouches for: a frame, or an error that says why not.

use super::{FIELD_BYTES, FRONT_BYTES, MARK, PLACE_BYTES, PORTABLE_EXTENSION_BYTES_MAX, is_local, is_single};
use crate::event::codec::PAYLOAD_ALIGN;
use crate::event::extension::{Fields, METADATA_MAX, TARGETS_MAX, Tag, read_entry, read_target};
use crate::event::{
    Encoding, EventSource, FLAG_OUTBOX, FLAG_REPLAY, FLAG_TARGETED, FrameError, Header, Priority, check_name_bytes,
};

const TYPE_NAME: u8 = Tag::TypeName as u8;
const SOURCE: u8 = Tag::Source as u8;
const CORRELATION: u8 = Tag::Correlation as u8;
const CAUSATION: u8 = Tag::Causation as u8;
const AGGREGATE: u8 = Tag::Aggregate as u8;
const NOT_BEFORE: u8 = Tag::NotBefore as u8;
const SCHEMA_TEXT: u8 = Tag::SchemaText as u8;
const TRACE_PARENT: u8 = Tag::TraceParent as u8;
const TARGET: u8 = Tag::Target as u8;
const METADATA: u8 = Tag::Metadata as u8;
const ORIGINAL_ID: u8 = Tag::OriginalId as u8;
const PLACE: u8 = Tag::Place as u8;

/// The header at the front of a frame; `None` when the bytes end within it.
#[inline]
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    // Of a fixed length, so that nothing is asked again of each number.
    let front: &[u8; FRONT_BYTES] = bytes.first_chunk()?;
    let mut rest = &front[MARK.len()..];
    Some(Header {
        id: take(&mut rest)?,
        time: u64::from_le_bytes(take(&mut rest)?),
        deadline: u64::from_le_bytes(take(&mut rest)?),
        type_id: u32::from_le_bytes(take(&mut rest)?),
        source_id: u32::from_le_bytes(take(&mut rest)?),
        payload_bytes: u32::from_le_bytes(take(&mut rest)?),
        extension_bytes: u16::from_le_bytes(take(&mut rest)?),
        schema: u16::from_le_bytes(take(&mut rest)?),
        priority: u8::from_le_bytes(take(&mut rest)?),
        encoding: u8::from_le_bytes(take(&mut rest)?),
        attempt: u8::from_le_bytes(take(&mut rest)?),
        flags: u8::from_le_bytes(take(&mut rest)?),
        check: u32::from_le_bytes(take(&mut rest)?),
    })
}

#[inline(always)]
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

/// Checks everything but the payload.
pub(super) fn check(bytes: &[u8]) -> Result<Header, FrameError> {
    let header = check_front(bytes)?;
    let has_targets = check_extension(&bytes[FRONT_BYTES..][..usize::from(header.extension_bytes)])?;
    if has_targets == header.has(FLAG_TARGETED) { Ok(header) } else { Err(refused("flags", header.flags)) }
}

/// Checks what lies before the extension, and all lengths it speaks of.
#[inline]
pub(super) fn check_front(bytes: &[u8]) -> Result<Header, FrameError> {
    if bytes.first_chunk() != Some(&MARK) {
        return Err(unmarked(bytes));
    }
    let short = |needed| FrameError::Short { bytes: bytes.len(), needed };
    let header = header(bytes).ok_or(short(FRONT_BYTES))?;
    check_header(&header)?;
    // Two lengths of at most 32 bits.
    let needed = (FRONT_BYTES as u64) + u64::from(header.extension_bytes) + u64::from(header.payload_bytes);
    match usize::try_from(needed) {
        Ok(needed) if bytes.len() == needed => Ok(header),
        Ok(needed) if bytes.len() > needed => Err(FrameError::Long { bytes: bytes.len(), needed }),
        needed => Err(short(needed.unwrap_or(usize::MAX))),
    }
}

/// What is wrong with bytes that do not begin with the mark.
#[cold]
fn unmarked(bytes: &[u8]) -> FrameError {
    let (mark, version) = MARK.split_at(MARK.len() - 1);
    if !bytes.starts_with(&mark[..mark.len().min(bytes.len())]) {
        return FrameError::Mark;
    }
    match bytes.get(mark.len()) {
        Some(&found) if bytes.len() >= FRONT_BYTES => FrameError::Version { found, known: version[0] },
        _ => FrameError::Short { bytes: bytes.len(), needed: FRONT_BYTES },
    }
}

#[cold]
fn refused(field: &'static str, value: impl Into<u64>) -> FrameError {
    FrameError::Header { field, value: value.into() }
}

#[inline]
fn check_header(header: &Header) -> Result<(), FrameError> {
    let Header { id: _, time: _, deadline: _, type_id, source_id, payload_bytes: _, extension_bytes, .. } = *header;
    let Header { schema: _, priority, encoding, attempt: _, flags, check, .. } = *header;
    if type_id != 0 {
        return Err(refused("type id", type_id));
    }
    if source_id != 0 {
        return Err(refused("source id", source_id));
    }
    let bytes = usize::from(extension_bytes);
    if !bytes.is_multiple_of(PAYLOAD_ALIGN) || bytes > PORTABLE_EXTENSION_BYTES_MAX {
        return Err(refused("length of the extension", extension_bytes));
    }
    if priority > Priority::Critical as u8 {
        return Err(refused("priority", priority));
    }
    if Encoding::from_tag(encoding).is_none() {
        return Err(refused("encoding", encoding));
    }
    if flags & !(FLAG_TARGETED | FLAG_REPLAY | FLAG_OUTBOX) != 0 {
        return Err(refused("flags", flags));
    }
    if check != 0 {
        return Err(refused("check", check));
    }
    Ok(())
}

/// Returns whether services are named.
fn check_extension(extension: &[u8]) -> Result<bool, FrameError> {
    let (mut at, mut seen) = (0, 0_u16);
    let (mut targets, mut metadata) = (0, 0);
    for field in Fields::new(extension) {
        let (tag, value) = field?;
        let is_within = match tag {
            TARGET => {
                targets += 1;
                targets <= TARGETS_MAX
            }
            METADATA => {
                metadata += 1;
                metadata <= METADATA_MAX
            }
            _ if is_single(tag) => {
                let is_first = seen & 1 << tag == 0;
                seen |= 1 << tag;
                is_first
            }
            _ => true,
        };
        if !is_within || !is_well_formed(tag, value) {
            return Err(FrameError::Field { tag, at });
        }
        at += FIELD_BYTES + value.len();
    }
    let padding = &extension[at..];
    if padding.len() >= PAYLOAD_ALIGN || padding.iter().any(|&byte| byte != 0) {
        return Err(FrameError::Extension { at });
    }
    if seen & 1 << TYPE_NAME == 0 { Err(FrameError::NoTopic) } else { Ok(targets > 0) }
}

/// Whether a publisher could have set the field to this value. A newer one may know more tags.
#[inline]
fn is_well_formed(tag: u8, value: &[u8]) -> bool {
    let text = |max| value.len() <= max && is_text(value);
    match tag {
        TYPE_NAME => check_name_bytes(value).is_ok(),
        SOURCE => text(EventSource::BYTES_MAX),
        CORRELATION | CAUSATION => value.len() == 16,
        AGGREGATE => is_aggregate(value),
        NOT_BEFORE => value.len() == 8,
        SCHEMA_TEXT | TRACE_PARENT => text(255),
        TARGET => read_target(value).is_some_and(|target| target.id().len() <= 255),
        METADATA => read_entry(value).is_some(),
        ORIGINAL_ID => text(1024),
        PLACE => value.len() == PLACE_BYTES,
        _ => !is_local(tag),
    }
}

/// Most texts are short and ASCII, which is seen sooner.
#[inline]
fn is_text(value: &[u8]) -> bool {
    value.is_ascii() || std::str::from_utf8(value).is_ok()
}

#[inline]
fn is_aggregate(value: &[u8]) -> bool {
    let Some(([.., kind_bytes], names)) = value.split_first_chunk::<9>() else { return false };
    names.split_at_checked(usize::from(*kind_bytes)).is_some_and(|(kind, id)| is_text(kind) && is_text(id))
}
