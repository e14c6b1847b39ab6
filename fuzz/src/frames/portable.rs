//! Portable frames: read only when every rule is kept, and written in one way only.

use arbitrary::{Arbitrary, Unstructured};
use ringmain::{Frame, Topic};

use super::{
    AGGREGATE, CAUSATION, CORRELATION, Field, METADATA, NOT_BEFORE, ORIGINAL_ID, PLACE, POSITION, REPLAY_TO,
    SCHEMA_TEXT, SOURCE, TARGET, TRACE_PARENT, TYPE_NAME, draw_field, entry,
};

const MARK: &[u8; 8] = b"rmframe\x01";
const TARGETED: u8 = 8;
/// Flags that a frame may have or not: it is a replay; it was kept to be published.
const FREE: u8 = 16 | 32;

/// # Panics
///
/// If bytes are read that break a rule, or refused although they keep all.
pub(super) fn check(data: &[u8]) {
    if let Ok(frame) = Frame::copied_from(data) {
        check_again(&frame);
    }
    // Too few bytes for a case are no case.
    let _ = run(&mut Unstructured::new(data));
}

/// What was read can be written, read and written again.
fn check_again(frame: &Frame) {
    let written = Frame::of(&frame.meta());
    let read = Frame::read(written.bytes()).expect("a frame that was written can be read");
    assert_eq!(Frame::of(&read.meta()), written);
}

/// The header's fields that a reader looks at.
struct Front {
    id: [u8; 16],
    times: [u64; 2],
    ids: [u32; 2],
    schema: u16,
    /// Priority, encoding, attempt, flags.
    small: [u8; 4],
    check: u32,
}

impl Front {
    /// Mostly one that may be.
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let mut front = Self {
            id: Arbitrary::arbitrary(bytes)?,
            times: Arbitrary::arbitrary(bytes)?,
            ids: [0; 2],
            schema: Arbitrary::arbitrary(bytes)?,
            small: Arbitrary::arbitrary(bytes)?,
            check: 0,
        };
        if bytes.ratio(15, 16)? {
            let [priority, encoding, attempt, flags] = front.small;
            front.small = [priority % 4, encoding % 5, attempt, flags & (TARGETED | FREE)];
        } else if bytes.ratio(1, 2)? {
            (front.ids, front.check) = (Arbitrary::arbitrary(bytes)?, Arbitrary::arbitrary(bytes)?);
        }
        Ok(front)
    }

    fn is_right(&self, fields: &[Field]) -> bool {
        let [priority, encoding, _, flags] = self.small;
        let targeted = if fields.iter().any(|(tag, _)| *tag == TARGET) { TARGETED } else { 0 };
        (self.ids, self.check) == ([0; 2], 0) && priority < 4 && encoding < 5 && flags & !FREE == targeted
    }
}

fn run(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut front = Front::draw(bytes)?;
    let mut fields: Vec<Field> = Vec::new();
    if bytes.ratio(15, 16)? {
        fields.push((TYPE_NAME, b"a.b-1".to_vec()));
    }
    for _ in 0..bytes.int_in_range(0..=8)? {
        fields.push(draw_field(bytes)?);
    }
    if bytes.ratio(7, 8)? {
        // Twice the same is one fault among many; most cases are to have none.
        let mut seen = [false; 256];
        fields.retain(|(tag, _)| !is_single(*tag) || !std::mem::replace(&mut seen[usize::from(*tag)], true));
        let targeted = fields.iter().any(|(tag, _)| *tag == TARGET);
        front.small[3] = front.small[3] & !TARGETED | if targeted { TARGETED } else { 0 };
    }
    let payload = vec![0xA5; bytes.int_in_range(0..=64)?];
    let frame = write(&front, &fields, &payload);
    let is_right = front.is_right(&fields) && are_right(&fields);
    match Frame::copied_from(&frame) {
        Ok(read) => {
            assert!(is_right, "a frame that breaks a rule was read: {fields:?}");
            check_again(&read);
            let canonical = write(&front, &in_order(&fields), &payload);
            assert_eq!(Frame::of(&read.meta()).bytes(), canonical, "{fields:?}");
        }
        Err(error) => assert!(!is_right, "{error}: {fields:?}"),
    }
    Ok(())
}

fn is_single(tag: u8) -> bool {
    tag <= ORIGINAL_ID && tag != TARGET && tag != METADATA
}

fn are_right(fields: &[Field]) -> bool {
    let count = |tag| fields.iter().filter(|(found, _)| *found == tag).count();
    let once = (TYPE_NAME..=ORIGINAL_ID).filter(|tag| is_single(*tag)).all(|tag| count(tag) <= 1);
    once && count(TYPE_NAME) == 1 && fields.iter().all(|(tag, value)| is_well_formed(*tag, value))
}

fn is_well_formed(tag: u8, value: &[u8]) -> bool {
    let is_text = std::str::from_utf8(value).is_ok();
    match tag {
        TYPE_NAME => std::str::from_utf8(value).is_ok_and(|name| Topic::check(name).is_ok()),
        CORRELATION | CAUSATION => value.len() == 16,
        NOT_BEFORE => value.len() == 8,
        AGGREGATE => value.get(8..).is_some_and(|names| entry(names).is_some()),
        TARGET => value.get(1..).is_some_and(|id| std::str::from_utf8(id).is_ok()),
        METADATA => entry(value).is_some(),
        SOURCE | SCHEMA_TEXT | TRACE_PARENT | ORIGINAL_ID => is_text,
        POSITION | REPLAY_TO => false,
        PLACE => value.len() == 32,
        _ => true,
    }
}

/// Single fields by tag, the source among them always, then the others as they come, without places in lanes.
fn in_order(fields: &[Field]) -> Vec<Field> {
    let (mut singles, others): (Vec<Field>, Vec<Field>) = fields.iter().cloned().partition(|(tag, _)| is_single(*tag));
    if singles.iter().all(|(tag, _)| *tag != SOURCE) {
        singles.push((SOURCE, Vec::new()));
    }
    singles.sort_by_key(|(tag, _)| *tag);
    singles.into_iter().chain(others.into_iter().filter(|(tag, _)| *tag != PLACE)).collect()
}

fn write(front: &Front, fields: &[Field], payload: &[u8]) -> Vec<u8> {
    let mut extension = Vec::new();
    for (tag, value) in fields {
        let [low, high] = (value.len() as u16).to_le_bytes();
        extension.extend([*tag, 0, low, high]);
        extension.extend(value);
    }
    extension.resize(extension.len().next_multiple_of(16), 0);
    let mut frame = MARK.to_vec();
    frame.extend(front.id);
    frame.extend(front.times.iter().flat_map(|time| time.to_le_bytes()));
    frame.extend(front.ids.iter().flat_map(|id| id.to_le_bytes()));
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend((extension.len() as u16).to_le_bytes());
    frame.extend(front.schema.to_le_bytes());
    frame.extend(front.small);
    frame.extend(front.check.to_le_bytes());
    frame.extend(extension);
    frame.extend(payload);
    frame
}
