//! Opening what a disk has left, whatever that is: never a panic, a hang or more memory than there are files, and what was
//! acknowledged and lies before the damage is read as it was.

mod damage;
mod stores;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arbitrary::Unstructured;
use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::{Batch, Kind, Log, LogOptions, NewRecord, OpenError, ReadError, Recovered};

use damage::{Damaged, damaged};

const FOLDER: &str = "log";

/// Makes a log, a table or a store from `data`, damages its files as `data` says, and opens and reads what is left.
///
/// # Panics
///
/// If that panics, does not end, loses what lies before the damage, or finds what was never there.
pub fn check(data: &[u8]) {
    // Too few bytes for a case are no case.
    let _ = run(&mut Unstructured::new(data));
}

fn run(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    match bytes.int_in_range(0..=7_u8)? {
        0 => stores::table(bytes),
        1 => stores::store(bytes),
        _ => log(bytes),
    }
}

/// Segments of a few records, so that a few records are several segments.
fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = 4_096;
    options.record_bytes_max = 3_000;
    options
}

/// The body of the record at a position.
fn body(position: u64) -> Vec<u8> {
    let length = position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
    (0..length).map(|at| position.wrapping_mul(31).wrapping_add(at * at) as u8).collect()
}

fn batch(first: u64, records: u64) -> Batch {
    let mut batch = Batch::new();
    for position in first..first + records {
        let body = body(position);
        let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: position, body: &body };
        batch.push(&record).expect("the body is short");
    }
    batch
}

fn open(disk: &SimDisk) -> Result<(Log, Recovered), OpenError> {
    Log::open(Arc::new(disk.clone()), Path::new(FOLDER), options())
}

fn log(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).expect("the disk works");
    for _ in 0..bytes.int_in_range(1..=24)? {
        let records = bytes.int_in_range(1..=4)?;
        log.append(&batch(log.next_position(), records)).expect("the disk works");
    }
    let (reader, archived) = (log.read(1), bytes.arbitrary::<u16>()?);
    for (_, segment) in log.segments().iter().enumerate().filter(|(nth, _)| (archived >> (nth % 16)) & 1 == 1) {
        reader.archive(&disk, Path::new(FOLDER), segment.first).expect("the disk works");
    }
    let acknowledged = log.next_position();
    let (places, ends) = (places(&log), ends(&log));
    log.close().expect("the disk works");

    let Damaged { disk, before, is_forged, told } = damaged(&disk, Path::new(FOLDER), &places, bytes)?;
    let Ok((mut log, recovered)) = open(&disk) else { return Ok(()) };
    let (steps_max, found) = (steps_max(&disk), read(&log, is_forged, steps_max(&disk)));
    for position in 1..acknowledged {
        let is_before = ends.get(&position).is_some_and(|(file, end)| before.is_before(*file, *end));
        assert!(!is_before || found.contains(&position), "position {position} is gone: {told:#?} {recovered:#?}");
    }
    assert!(is_forged || before.is_foreign || found.iter().all(|position| *position < acknowledged), "{told:#?}");
    // What is acknowledged now is there when it is opened again.
    let next = log.next_position();
    if log.append(&batch(next, 2)).is_err() || log.close().is_err() {
        return Ok(());
    }
    let Ok((log, _)) = open(&disk) else { panic!("it was open a moment ago") };
    let again = read(&log, is_forged, steps_max + 64);
    assert!(again.contains(&next) && again.contains(&(next + 1)), "{next} is gone: {told:#?} {again:?}");
    assert!(found.iter().all(|position| again.contains(position)), "not read any more: {told:#?}");
    Ok(())
}

/// Where each record lies: the first position of its segment, and where it ends there.
fn places(log: &Log) -> BTreeMap<u64, (u64, u64)> {
    let (mut reader, mut places) = (log.read(1), BTreeMap::new());
    while let Some(record) = reader.next_record() {
        let record = record.expect("nothing is damaged yet");
        places.insert(record.header.position, (record.segment, record.offset + record.header.extent_bytes()));
    }
    places
}

/// The same, where a record ends with its batch: of one that has lost its end all is lost, as of one that was never ended.
fn ends(log: &Log) -> BTreeMap<u64, (u64, u64)> {
    let (mut reader, mut last_of) = (log.read(1), Vec::new());
    while let Some(record) = reader.next_record() {
        let header = record.expect("nothing is damaged yet").header;
        last_of.push((header.position, header.position + u64::from(header.batch_left)));
    }
    let places = places(log);
    last_of.into_iter().map(|(position, last)| (position, places[&last])).collect()
}

/// What can be read of a disk takes no more steps than this: each goes over 16 bytes at least, or to the next file.
fn steps_max(disk: &SimDisk) -> usize {
    // A compressed block of 64 KiB may stand for records of that.
    disk.files().iter().map(|(_, bytes)| (*bytes as usize + (64 << 10)) / 16 + 16).sum()
}

/// The positions of all that can be read, each of which is as it was written.
fn read(log: &Log, is_forged: bool, steps_max: usize) -> Vec<u64> {
    let (mut reader, mut found, mut steps) = (log.read(1), Vec::new(), 0);
    while let Some(next) = reader.next_record() {
        steps += 1;
        assert!(steps <= steps_max, "reading does not end");
        match next {
            Ok(record) => {
                let position = record.header.position;
                assert!(found.last().is_none_or(|last| *last < position), "positions rise");
                assert!(is_forged || record.body == body(position), "position {position} is not as it was written");
                found.push(position);
            }
            Err(ReadError::Damaged(damage)) => drop(damage.to_string()),
            Err(ReadError::Retired { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    found
}
