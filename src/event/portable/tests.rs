//! The bytes of one frame, one by one: what an older version wrote must stay readable, on every machine.

use super::*;
use crate::clock::Clock;
use crate::event::{Aggregate, EventId, ExtensionBuffer, FLAG_LOCAL, FLAG_STAMPED, Priority};

/// A frame as version 1 of the format has it.
const VERSION_1: &[&[u8]] = &[
    b"rmframe\x01",
    &[0xab; 16],
    &0x1122_3344_5566_7788_u64.to_le_bytes(),
    &0x1122_3344_5566_7799_u64.to_le_bytes(),
    // Numbers of topic and source.
    &[0; 8],
    // Bytes of payload and extension, schema.
    &[3, 0, 0, 0, 80, 0, 2, 1],
    // Priority, encoding, attempt, flags.
    &[2, 3, 4, 24],
    &[0; 4],
    &[1, 0, 3, 0],
    b"a.b",
    &[2, 0, 6, 0],
    b"me:you",
    &[4, 0, 16, 0],
    &[0xcd; 16],
    &[5, 0, 15, 0],
    &[9, 0, 0, 0, 0, 0, 0, 0],
    b"\x05order7",
    &[9, 0, 2, 0],
    b"\x05s",
    &[10, 0, 3, 0],
    b"\x01kv",
    // Padding.
    &[0; 11],
    b"pay",
];

#[test]
fn version_1_is_written_and_read_as_ever() {
    let golden = VERSION_1.concat();
    let frame = Frame::copied_from(&golden).unwrap();
    let meta = frame.meta();
    assert_eq!((meta.topic(), meta.source(), meta.id()), ("a.b", "me:you", EventId::from_bytes([0xab; 16])));
    assert_eq!((meta.unix_ns(), meta.deadline_unix_ns()), (0x1122_3344_5566_7788, 0x1122_3344_5566_7799));
    assert_eq!((meta.schema_version(), meta.priority(), meta.attempt()), (0x102, Priority::High, 4));
    assert_eq!((meta.causation(), meta.correlation()), (Some(EventId::from_bytes([0xcd; 16])), None));
    assert_eq!(meta.aggregate(), Some(Aggregate { kind: "order", id: "7", version: 9 }));
    assert_eq!(meta.targets().map(|target| (target.id(), target.priority())).collect::<Vec<_>>(), [("s", 5)]);
    assert_eq!((meta.get("k"), meta.payload().text(), meta.is_replay()), (Some("v"), Some("pay"), true));
    assert_eq!(Frame::of(&meta).bytes(), golden);
}

#[test]
fn what_only_this_process_knows_does_not_leave_it() {
    let directory = Directory::new(4, 4, Clock::manual());
    let mut extension = ExtensionBuffer::default();
    extension.text(Tag::Source, "source", "the publisher's", 255);
    extension.id(Tag::Causation, EventId::from_bytes([1; 16]));
    extension.id(Tag::Causation, EventId::from_bytes([0xcd; 16]));
    let extension = extension.finish().unwrap().to_vec();
    let header = Header {
        type_id: directory.intern_type("a.b"),
        source_id: directory.intern_source("me:you"),
        time: 5,
        deadline: 7,
        check: 0xdead_beef,
        ..Header::BLANK.with_payload(extension.len(), 3, Encoding::Text, FLAG_LOCAL | FLAG_STAMPED | FLAG_REPLAY)
    };
    let rest = [&extension[..], b"pay"].concat();
    let frame = Frame::of(&Meta::new(&header, &rest, 77, &directory).unwrap());
    let read = read::check(frame.bytes()).unwrap();
    assert_eq!((read.type_id, read.source_id, read.check, read.flags), (0, 0, 0, FLAG_REPLAY));
    let new_year = 1_767_225_600_000_000_000;
    assert_eq!((read.time, read.deadline), (new_year + 5, new_year + 7));
    let meta = frame.meta();
    assert_eq!((meta.topic(), meta.source(), meta.sequence()), ("a.b", "me:you", 0));
    assert_eq!(meta.causation(), Some(EventId::from_bytes([0xcd; 16])), "the last word counts");
}
