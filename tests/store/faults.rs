//! The nth call to the disk fails, for every n: nothing acknowledged is lost, what failed is said, and the log can be
//! opened again and goes on.

use std::path::Path;

use ringmain::internals::store::sim::{Failure, Kept, Replay, SimDisk};
use ringmain::internals::store::{AppendError, Log, OpenError, ReadError};

use crate::ordeal::survive_every_failure;
use crate::support::{FOLDER, batch, open, read_all, small};

const RECORDS: u64 = 60;

/// What a workload met on its way.
#[derive(Debug, Default)]
struct Met {
    operations: Vec<&'static str>,
}

impl Met {
    fn open(&mut self, disk: &SimDisk) -> Log {
        loop {
            match open(disk, small()) {
                Ok((log, recovered)) => {
                    assert!(recovered.damages.is_empty(), "{recovered:?}");
                    return log;
                }
                Err(OpenError::Disk(fault)) => self.operations.push(fault.operation),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// The log after a failure: it takes nothing more, and what it had acknowledged is there when it is opened again.
    fn reopen(&mut self, disk: &SimDisk, mut log: Log, written: u64, operation: &'static str) -> Log {
        self.operations.push(operation);
        let next = log.next_position();
        let again = log.append(&batch(next, 1)).expect_err("it takes nothing more");
        assert!(matches!(&again, AppendError::Disk(fault) if fault.operation == operation), "{again}");
        let again = log.sync().expect_err("it syncs nothing more");
        assert_eq!(again.0.operation, operation);
        drop(log);
        let log = self.open(disk);
        assert!(log.next_position() > written, "{written} was acknowledged");
        log
    }
}

/// Appends until there are so many records, opening the log again after each failure; then all is durable.
fn workload(disk: &SimDisk) -> Vec<&'static str> {
    let mut met = Met::default();
    let mut log = met.open(disk);
    let mut turn = 0;
    while log.next_position() <= RECORDS {
        turn += 1;
        let next = log.next_position();
        match log.append(&batch(next, 3)) {
            Ok(_) => {}
            Err(AppendError::Disk(fault)) => log = met.reopen(disk, log, next - 1, fault.operation),
            Err(AppendError::Full(fault)) => {
                assert!(log.fault().is_none(), "the log is as it was");
                met.operations.push(fault.operation);
            }
            Err(other) => panic!("{other}"),
        }
        if turn % 7 == 0 {
            drop(log);
            log = met.open(disk);
        }
        let written = log.next_position() - 1;
        if turn % 4 == 0
            && let Err(error) = log.sync()
        {
            log = if log.fault().is_some() { met.reopen(disk, log, written, error.0.operation) } else { log };
        }
        log.mark_durable();
        if turn % 5 == 0
            && let Err(error) = log.truncate_before(written.saturating_sub(20))
        {
            met.operations.push(error.0.operation);
            log = if log.fault().is_some() { met.reopen(disk, log, written, error.0.operation) } else { log };
        }
        if turn % 6 == 0 {
            // Beside appending: a failure is no reason to open the log again.
            for segment in &log.segments() {
                let archived = log.read(1).archive(disk, Path::new(FOLDER), segment.first);
                met.operations.extend(archived.err().map(|fault| fault.operation));
            }
        }
    }
    let written = log.next_position() - 1;
    if let Err(error) = log.sync() {
        log = met.reopen(disk, log, written, error.0.operation);
        log.sync().expect("the disk works again");
    }
    let first = log.segments()[0].first;
    let mut reader = log.read(first);
    let mut position = first;
    loop {
        match reader.next_record() {
            Some(Ok(record)) => {
                assert_eq!(record.header.position, position);
                position += 1;
            }
            Some(Err(ReadError::Disk(fault))) => met.operations.push(fault.operation),
            Some(Err(other)) => panic!("{other}"),
            None => break,
        }
    }
    assert!(position > RECORDS, "all records are there");
    assert!(first > 1, "old ones were removed");
    // What is durable survives the power loss that follows.
    let mut replay = Replay::new(disk);
    while replay.step() {}
    let (log, recovered) = open(&replay.image(Kept::Nothing), small()).expect("the disk works again");
    assert!(recovered.next > RECORDS, "{recovered:?}");
    let found = read_all(&log, recovered.first);
    assert_eq!(found.positions, (recovered.first..recovered.next).collect::<Vec<_>>());
    met.operations
}

#[test]
fn a_failure_at_any_call_is_said_and_loses_nothing_acknowledged() {
    survive_every_failure(workload);
}

#[test]
fn a_full_disk_is_said_before_anything_is_written_and_the_log_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    disk.set_capacity_bytes(5_000);
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    let full = loop {
        let next = log.next_position();
        if let Err(full) = log.append(&batch(next, 2)) {
            break full;
        }
    };
    assert!(matches!(&full, AppendError::Full(fault) if fault.is_full()), "{full}");
    let next = log.next_position();
    assert_eq!(log.sync().expect("what is there can be synced"), next - 1);
    assert_eq!(read_all(&log, 1).positions, (1..next).collect::<Vec<_>>());
    drop(log);
    let (mut log, recovered) = open(&disk, small()).expect("a full disk is no reason not to open");
    assert_eq!((recovered.next, recovered.cut_bytes), (next, 0));
    assert!(matches!(log.append(&batch(next, 2)), Err(AppendError::Full(_))));
    disk.set_capacity_bytes(50_000);
    assert_eq!(log.append(&batch(next, 2)).expect("there is room"), next..next + 2);
    assert_eq!(read_all(&log, 1).positions, (1..next + 2).collect::<Vec<_>>());
}

#[test]
fn a_sync_that_failed_is_never_believed_later() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    log.append(&batch(1, 4)).expect("the disk works");
    disk.fail_at(1, Failure::Device);
    log.sync().expect_err("the sync fails");
    log.sync().expect_err("it is not tried again");
    drop(log);
    let lost = |disk: &SimDisk| {
        let mut replay = Replay::new(disk);
        while replay.step() {}
        open(&replay.image(Kept::Nothing), small()).expect("it can be opened").1.next
    };
    assert_eq!(lost(&disk), 1, "the disk has nothing");
    let (mut log, recovered) = open(&disk, small()).expect("it can be opened");
    assert_eq!((recovered.next, recovered.durable), (5, 0), "it can be read, and is not called durable");
    assert_eq!(log.sync().expect("the disk works again"), 4);
    assert_eq!(lost(&disk), 5, "it was written once more");
}
