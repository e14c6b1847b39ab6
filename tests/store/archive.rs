//! Segments that are archived take less room, and read as they did.

use std::path::Path;

use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::{AppendError, Batch, Kind, Log, LogOptions, NewRecord};

use crate::support::{FOLDER, batch, hides, open, read_all, small};

/// Segments of several blocks.
pub(crate) fn large() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = 256 << 10;
    options.record_bytes_max = 3_000;
    options
}

pub(crate) fn filled(options: LogOptions, segments: usize) -> (SimDisk, Log) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, options).expect("the disk works");
    while log.segments().len() < segments {
        log.append(&batch(log.next_position(), 8)).expect("the disk works");
    }
    log.sync().expect("the disk works");
    (disk, log)
}

pub(crate) fn archive_all(disk: &SimDisk, log: &Log) -> usize {
    let archive = |first| log.read(1).archive(disk, Path::new(FOLDER), first).expect("the disk works");
    log.segments().iter().filter(|segment| archive(segment.first).is_some()).count()
}

#[test]
fn archived_segments_read_as_they_did_before_and_after_reopening() {
    for options in [small(), large()] {
        let (disk, mut log) = filled(options, 4);
        let mut early = log.read(1);
        let first = early.next_record().expect("there is one").expect("it is whole").header.position;
        let before = read_all(&log, 1);
        let places: Vec<_> = {
            let mut reader = log.read(1);
            std::iter::from_fn(|| {
                reader
                    .next_record()
                    .map(|record| record.expect("it is whole"))
                    .map(|record| (record.segment, record.offset, record.header.position))
            })
            .collect()
        };
        assert_eq!(archive_all(&disk, &log), 3, "all but the newest");
        assert_eq!(archive_all(&disk, &log), 0, "once");
        let archived =
            disk.files().iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "logz")).count();
        assert_eq!((archived, disk.files().len()), (3, 4));
        assert_eq!(read_all(&log, 1).positions, before.positions);
        assert_eq!(
            early.next_record().expect("there is one").expect("it is whole").header.position,
            first + 1,
            "who read goes on"
        );
        let mut lookup = log.read(1).lookup();
        for (segment, offset, position) in &places {
            assert_eq!(lookup.record(*segment, *offset).expect("it is there").header.position, *position);
        }
        log.append(&batch(log.next_position(), 8)).expect("the disk works");
        let segments = log.segments();
        drop(log);
        let (log, recovered) = open(&disk, options).expect("the disk works");
        assert!(recovered.damages.is_empty(), "{recovered:?}");
        assert_eq!(log.segments(), segments, "what is known of them is the same");
        assert_eq!(read_all(&log, 1).positions, (1..log.next_position()).collect::<Vec<_>>());
    }
}

#[test]
fn an_archive_takes_less_room_where_events_are_alike() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, large()).expect("the disk works");
    while log.segments().len() < 2 {
        let body = format!(r#"{{"type":"orders.placed","id":"{}","cents":1999}}"#, log.next_position());
        let mut one = Batch::new();
        one.push(&NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body: body.as_bytes() })
            .expect("it is short");
        log.append(&one).expect("the disk works");
    }
    let bytes = disk.files()[0].1;
    let freed =
        log.read(1).archive(&disk, Path::new(FOLDER), 1).expect("the disk works").expect("it is not the newest");
    assert!(freed > bytes / 2, "{freed} of {bytes}");
    assert_eq!(disk.files()[0].1, bytes - freed);
}

#[test]
fn a_flipped_bit_hides_one_block_at_most_and_is_said() {
    let (disk, log) = filled(large(), 2);
    let last = log.segments()[0].last;
    let in_block = log.segments()[0].records / 3;
    archive_all(&disk, &log);
    drop(log);
    let (path, length) = disk.files()[0].clone();
    // Every byte of the header, the lines and the footer; of the blocks some.
    let ends = (0..64).chain(length - 32 - 4 * 12..length);
    let mut unreadable = 0;
    for byte in ends.clone().chain((64..length - 80).step_by(997)) {
        let image = disk.flipped(&path, byte, (byte % 8) as u32);
        let (log, recovered) = open(&image, large()).expect("damage is no reason not to open");
        let found = read_all(&log, 1);
        let lost: Vec<u64> = (1..log.next_position()).filter(|position| !found.positions.contains(position)).collect();
        let is_said = |position: &u64| hides(&found.damages, *position) || hides(&recovered.damages, *position);
        assert!(lost.iter().all(is_said), "byte {byte}: {lost:?}");
        assert!(lost.iter().all(|position| *position <= last), "byte {byte}");
        if ends.clone().any(|end| end == byte) {
            unreadable += u64::from(lost.len() as u64 == last);
        } else {
            assert!(!lost.is_empty() && (lost.len() as u64) < in_block, "byte {byte}: {} of {last}", lost.len());
        }
    }
    assert!(unreadable > 100, "without its lines an archive says nothing: {unreadable}");
}

#[test]
fn a_log_whose_newest_segment_is_an_archive_goes_on_behind_it() {
    let (disk, log) = filled(small(), 3);
    archive_all(&disk, &log);
    let newest = disk
        .files()
        .iter()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "log"))
        .expect("it is there")
        .0
        .clone();
    let last = log.segments()[1].last;
    drop(log);
    let image = disk.without(&newest);
    let (mut log, recovered) = open(&image, small()).expect("the disk works");
    assert_eq!((recovered.next, recovered.damages.len()), (last + 1, 1), "its successor was there: it is missed");
    log.append(&batch(last + 1, 3)).expect("the disk works");
    assert_eq!(read_all(&log, 1).positions, (1..=last + 3).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_leaves_the_segment_as_it_was() {
    let (disk, mut log) = filled(large(), 3);
    let before = disk.files();
    disk.set_capacity_bytes(before.iter().map(|(_, bytes)| bytes).sum::<u64>() + 10_000);
    let fault = log.read(1).archive(&disk, Path::new(FOLDER), 1).expect_err("there is no room");
    assert!(fault.is_full(), "{fault}");
    assert_eq!(read_all(&log, 1).positions, (1..log.next_position()).collect::<Vec<_>>());
    disk.set_capacity_bytes(u64::MAX);
    assert!(log.read(1).archive(&disk, Path::new(FOLDER), 1).expect("there is room").is_some());
    assert!(!matches!(log.append(&batch(log.next_position(), 1)), Err(AppendError::Disk(_))));
}
