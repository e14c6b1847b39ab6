//! Events whose fields are malformed behind checksums that are right, as nobody appends them: `verify` says each, and whoever reads them
//! finds what is malformed missing, or as it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringmain::internals::store::{Batch, Kind, Log, LogOptions, NewRecord, RealDisk};
use ringmain::store::{EventStore, LogStore, Query};
use ringmain::{Aggregate, Bus, EventId, Frame, Payload};

use crate::folder::Folder;
use crate::store::ask;

/// Bytes of a frame before its fields.
const FRONT: usize = 64;

/// A frame with fields of every kind that an application gives.
fn whole() -> Frame {
    let bus = Bus::builder().workers(1).pin(false).build().expect("the default is valid");
    let mut publisher = bus.publisher().expect("there is one");
    let event = publisher.event().correlation(EventId::from_bytes([7; 16])).causation(EventId::from_bytes([8; 16]));
    let event = event.aggregate(Aggregate { kind: "order", id: "7", version: 1 }).metadata("user", "ada");
    let frame = event.to_frame("orders.placed", Payload::json(r#"{"cents":5}"#)).expect("it is valid");
    bus.shutdown().expect("nothing is in hand");
    frame
}

/// A frame's bytes with one of them changed, each in several ways; those that are no whole frame any more.
fn malformed(frame: &Frame) -> Vec<Vec<u8>> {
    let (bytes, payload) = (frame.bytes(), frame.payload().bytes().len());
    let changed = (0..bytes.len() - payload).flat_map(|at| {
        [0, 1, 0x7f, 0xff].map(|value| {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            bytes
        })
    });
    changed.filter(|bytes| Frame::copied_from(bytes).is_err()).collect()
}

/// Puts bodies into the log of a store as they are, each with a checksum of its own.
fn append(folder: &Folder, bodies: &[Vec<u8>]) {
    let mut options = LogOptions::default();
    // Of several files: all but the last get an index, of what they say.
    options.segment_bytes = 16 << 10;
    options.record_bytes_max = 4_096;
    let (mut log, _) = Log::open(Arc::new(RealDisk), &folder.0, options).expect("the disk works");
    for body in bodies {
        let mut batch = Batch::new();
        let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body };
        batch.push(&record).expect("it is short");
        log.append(&batch).expect("the disk works");
    }
    assert!(log.segments().len() > 1);
    log.close().expect("the disk works");
}

/// The positions that lines speak of.
fn positions(said: &str) -> BTreeSet<usize> {
    let after = said.lines().filter_map(|line| line.split("position ").nth(1)?.split(' ').next()?.parse().ok());
    after.collect()
}

#[test]
fn verify_says_each_event_that_is_no_whole_frame_although_its_checksum_is_right() {
    let folder = Folder::new("pipe-forged");
    let frame = whole();
    let forged = malformed(&frame);
    let of_fields = forged.iter().filter(|bytes| bytes[..FRONT] == frame.bytes()[..FRONT]).count();
    assert!(of_fields > 100 && forged.len() - of_fields > 20, "{of_fields} of {}", forged.len());
    append(&folder, &[vec![frame.bytes().to_vec()], forged.clone(), vec![frame.bytes().to_vec()]].concat());

    let verify = ask("verify", &folder.0, "");
    assert_eq!(verify.code(), Some(1), "{}", verify.stderr);
    let verdict = format!("{} places cannot be read\n", forged.len());
    assert!(verify.stdout.ends_with(&verdict), "{} is not {verdict}", verify.stdout);
    assert_eq!(positions(&verify.stderr), (2..forged.len() + 2).collect(), "{}", verify.stderr);
    assert!(verify.stderr.contains("is no whole frame") && verify.stderr.contains("cannot be read as an event"));

    for (command, flags) in [
        ("query", ""),
        ("query", "--on orders.*"),
        ("export", ""),
        ("stats", ""),
        ("causation", "07070707-0707-0707-0707-070707070707"),
        ("archive", "--dry-run"),
    ] {
        let run = ask(command, &folder.0, flags);
        assert!(run.code().is_some_and(|code| code < 2), "{command}: {:?} {}", run.code(), run.stderr);
        assert!(!run.stderr.contains("panicked"), "{command}: {}", run.stderr);
    }
    let store = LogStore::open(&folder.0).expect("what is in it is no reason not to open");
    for query in [
        Query::new(),
        Query::new().newest_first(),
        Query::new().aggregate("order", "7"),
        Query::new().correlation(EventId::from_bytes([7; 16])),
    ] {
        let (mut next, mut read) = (Some(query), 0);
        while let Some(query) = next.take() {
            let behind = match store.query(&query) {
                Ok(page) => {
                    // All that is told of an event, and the same as bytes.
                    read +=
                        page.events.iter().map(|event| Frame::of(&event.meta()).bytes().len().min(1)).sum::<usize>();
                    page.next
                }
                Err(error) => Some(*error.missing().expect("it is known which").start()),
            };
            next = behind.map(|behind| query.behind(behind));
        }
        assert!(read >= 2, "the whole ones are found");
    }
}
