//! What a log promises while nothing fails.

use std::sync::Arc;

use proptest::prelude::*;
use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::{
    AppendError, Batch, Kind, Log, LogOptions, NewRecord, OpenError, ReadError, RealDisk,
};

use crate::folder::Folder;
use crate::support::{FOLDER, batch, body, open, read_all, small};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_appended_is_read_before_and_after_reopening(
        lengths in prop::collection::vec((1u64..6, any::<bool>(), any::<bool>()), 1..40),
        from in 1u64..300,
    ) {
        let disk = SimDisk::new();
        let (mut log, recovered) = open(&disk, small()).expect("the disk works");
        prop_assert_eq!(recovered.next, 1);
        let mut next = 1;
        for (records, sync, reopen) in lengths {
            let positions = log.append(&batch(next, records)).expect("the disk works");
            prop_assert_eq!(&positions, &(next..next + records));
            next += records;
            if sync {
                prop_assert_eq!(log.sync().expect("the disk works"), next - 1);
                log.mark_durable();
            }
            if reopen {
                drop(log);
                let (again, recovered) = open(&disk, small()).expect("the disk works");
                prop_assert_eq!((recovered.first, recovered.next, recovered.cut_bytes), (1, next, 0));
                let synced = if sync { next - 1 } else { 0 };
                prop_assert!(recovered.durable >= synced, "{} < {}", recovered.durable, synced);
                prop_assert!(recovered.damages.is_empty());
                log = again;
            }
        }
        let found = read_all(&log, from);
        prop_assert_eq!(found.positions, (from..next).collect::<Vec<_>>());
        prop_assert!(found.damages.is_empty());
        log.close().expect("the disk works");
        let (log, recovered) = open(&disk, small()).expect("the disk works");
        prop_assert_eq!(recovered.durable, next - 1);
        prop_assert_eq!(read_all(&log, 0).positions.len() as u64, next - 1);
    }
}

#[test]
fn a_real_disk_holds_a_log() {
    let folder = Folder::new("real");
    let path = folder.0.join("made").join("on the way");
    let disk = Arc::new(RealDisk);
    let (mut log, _) = Log::open(disk.clone(), &path, small()).expect("the disk works");
    for first in (1..400).step_by(3) {
        log.append(&batch(first, 3)).expect("the disk works");
    }
    assert_eq!(log.sync().expect("the disk works"), 399);
    log.mark_durable();
    assert!(log.free_bytes().expect("the disk works") > 0);
    let segments = log.segments();
    assert!(segments.len() > 10);
    assert_eq!(segments.iter().map(|segment| segment.records).sum::<u64>(), 399);
    let refused = Log::open(disk.clone(), &path, small()).expect_err("the folder is taken");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(log);
    let (mut log, recovered) = Log::open(disk, &path, small()).expect("the disk works");
    assert_eq!((recovered.next, recovered.durable, recovered.cut_bytes), (400, 399, 0));
    assert_eq!(log.segments(), segments);
    let removed = log.truncate_before(200).expect("the disk works");
    assert!(removed > 0);
    let first = log.segments()[0].first;
    assert!((1..=200).contains(&first));
    assert_eq!(read_all(&log, first).positions, (first..400).collect::<Vec<_>>());
}

#[test]
fn a_reader_follows_an_appender_over_segments() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    let mut reader = log.read(1);
    assert!(reader.next_record().is_none(), "nothing was appended");
    for position in 1..=200 {
        log.append(&batch(position, 1)).expect("the disk works");
        let record = reader.next_record().expect("one was appended").expect("it is whole");
        assert_eq!((record.header.position, record.body), (position, &body(position)[..]));
        assert!(reader.next_record().is_none(), "only one was appended");
    }
    drop(log);
    assert_eq!(reader.next_position(), 201);
    assert!(reader.next_record().is_none(), "a reader outlives its log");
}

#[test]
fn a_reader_beside_a_thread_that_appends_sees_each_record_once() {
    const RECORDS: u64 = 3_000;
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    let mut reader = log.read(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for position in (1..=RECORDS).step_by(5) {
                log.append(&batch(position, 5)).expect("the disk works");
            }
        });
        let mut position = 1;
        while position <= RECORDS {
            match reader.next_record() {
                Some(record) => {
                    let record = record.expect("it is whole");
                    assert_eq!((record.header.position, record.body), (position, &body(position)[..]));
                    position += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    });
}

#[test]
fn retention_removes_whole_segments_and_says_so_to_readers() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    for first in (1..=300).step_by(4) {
        log.append(&batch(first, 4)).expect("the disk works");
    }
    let segments = log.segments();
    let fifth = segments[4].first;
    assert_eq!(log.truncate_before(fifth - 1).expect("the disk works"), 3);
    assert_eq!(log.truncate_before(fifth).expect("the disk works"), 1);
    let mut reader = log.read(1);
    match reader.next_record() {
        Some(Err(ReadError::Retired { position: 1, first })) => assert_eq!(first, fifth),
        other => panic!("{other:?}"),
    }
    assert_eq!(reader.next_record().expect("it is there").expect("it is whole").header.position, fifth);
    assert_eq!(log.truncate_before(u64::MAX).expect("the disk works"), segments.len() - 5, "the last segment stays");
    drop(log);
    let (log, recovered) = open(&disk, small()).expect("the disk works");
    assert_eq!((recovered.segments, recovered.next), (1, 301));
    assert_eq!(log.segments()[0].last, 300);
}

#[test]
fn what_is_too_long_is_refused_with_the_limit_and_harms_nothing() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    let of = |bodies: &[&[u8]]| {
        let mut batch = Batch::new();
        for body in bodies {
            let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body };
            batch.push(&record).expect("the format has room");
        }
        batch
    };
    let body = [7; 3_001];
    log.append(&of(&[&body[..3_000]])).expect("it is not longer than the limit");
    match log.append(&of(&[&body])) {
        Err(AppendError::RecordTooLong { bytes: 3_001, max: 3_000 }) => {}
        other => panic!("{other:?}"),
    }
    let max = log.options().batch_bytes_max();
    match log.append(&of(&[&body[..2_000], &body[..2_000]])) {
        Err(AppendError::BatchTooLong { bytes: 4_128, max: limit }) => assert_eq!(limit, max),
        other => panic!("{other:?}"),
    }
    let positions = log.append(&of(&[&body[..1_840], &body[..1_920]])).expect("it just fits");
    assert_eq!(positions, 2..4);
    assert_eq!(log.append(&Batch::new()).expect("nothing is asked for"), 4..4);
    for (segment_bytes, record_bytes_max) in [(4_095, 10), (4_097, 10), (4_096, 0), (4_096, 3_841), (5 << 30, 10)] {
        let mut options = LogOptions::default();
        options.segment_bytes = segment_bytes;
        options.record_bytes_max = record_bytes_max;
        let refused = Log::open(Arc::new(SimDisk::new()), FOLDER, options).expect_err("it is out of range");
        assert!(matches!(refused, OpenError::Option(_)), "{refused}");
    }
}
