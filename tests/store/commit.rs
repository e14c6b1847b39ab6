//! Many threads, one log: each is told what came of its own batch, and when.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use ringmain::internals::store::sim::{Failure, Kept, Replay, SimDisk};
use ringmain::internals::store::{AppendError, Batch, CommitError, CommitOptions, Committer, Kind, NewRecord, Word};

use crate::support::{open, small};

fn start(disk: &SimDisk, options: CommitOptions) -> Committer {
    let (log, _) = open(disk, small()).expect("the disk works");
    Committer::start(log, options).expect("there is a thread")
}

/// A batch of one record that says whose it is.
fn of(writer: u32, nth: u64) -> Batch {
    let mut batch = Batch::new();
    let body = [writer as u8; 100];
    let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: writer, sequence: nth, body: &body };
    batch.push(&record).expect("it is short");
    batch
}

/// Positions that survive power loss now.
fn durable(disk: &SimDisk) -> u64 {
    let mut replay = Replay::new(disk);
    while replay.step() {}
    open(&replay.image(Kept::Nothing), small()).expect("it can be opened").1.next - 1
}

#[test]
fn each_writer_is_told_its_own_positions_in_its_own_order() {
    const WRITERS: u32 = 4;
    const BATCHES: u64 = 300;
    let disk = SimDisk::new();
    let committer = start(&disk, CommitOptions::default());
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (committer, told) = (&committer, &told);
            scope.spawn(move || {
                let mut last = 0;
                let mut on_the_way = Vec::new();
                for nth in 0..BATCHES {
                    let word = if nth % 10 == 0 { Word::Durable } else { Word::Written };
                    if writer % 2 == 0 {
                        let positions = committer.append(of(writer, nth), word).expect("the disk works").positions;
                        assert!(positions.start > last, "positions rise");
                        last = positions.start;
                        told.lock().expect("nobody panicked").push((positions.start, writer, nth));
                    } else {
                        on_the_way.push((nth, committer.submit(of(writer, nth), word).expect("it is open")));
                    }
                }
                for (nth, pending) in on_the_way {
                    let positions = pending.wait().expect("the disk works").positions;
                    assert!(positions.start > last, "positions follow the order of handing in");
                    last = positions.start;
                    told.lock().expect("nobody panicked").push((positions.start, writer, nth));
                }
            });
        }
    });
    let mut reader = committer.read(1);
    let mut told = told.into_inner().expect("nobody panicked");
    told.sort_unstable();
    assert_eq!(told.len() as u64, u64::from(WRITERS) * BATCHES);
    for (position, writer, nth) in told {
        let header = reader.next_record().expect("it is there").expect("it is whole").header;
        assert_eq!((header.position, header.lane, header.sequence), (position, writer, nth));
    }
    committer.close().expect("the disk works");
}

#[test]
fn durable_is_told_when_it_is_and_not_before() {
    let disk = SimDisk::new();
    let committer = start(&disk, CommitOptions::default());
    let written = committer.append(of(0, 0), Word::Written).expect("the disk works");
    assert_eq!((written.positions, durable(&disk)), (1..2, 0));
    let synced = committer.append(of(0, 1), Word::Durable).expect("the disk works");
    assert_eq!((synced.positions, durable(&disk)), (2..3, 2));
    let pending = committer.submit(of(0, 2), Word::Durable).expect("it is open");
    assert_eq!((pending.wait().expect("the disk works").positions, durable(&disk)), (3..4, 3));
    committer.append(of(0, 3), Word::Written).expect("the disk works");
    committer.close().expect("the disk works");
    assert_eq!(durable(&disk), 4, "closing makes all durable");
}

#[test]
fn a_failure_reaches_everybody_who_waits() {
    let disk = SimDisk::new();
    let committer = start(&disk, CommitOptions::default());
    committer.append(of(0, 0), Word::Durable).expect("the disk works");
    let pending: Vec<_> = {
        // While the log is held nothing is committed, so that all of them wait.
        let _log = committer.log();
        disk.fail_at(2, Failure::Device);
        (1..20).map(|nth| committer.submit(of(0, nth), Word::Durable).expect("it is open")).collect()
    };
    for pending in pending {
        match pending.wait() {
            // Before them the end may be marked, so that it is their write that fails.
            Err(CommitError::Sync(error)) => assert_eq!(error.0.operation, "sync"),
            Err(CommitError::Append(AppendError::Disk(fault))) => assert!(["sync", "write"].contains(&fault.operation)),
            other => panic!("{other:?}"),
        }
    }
    committer.append(of(0, 20), Word::Written).expect_err("the log takes nothing more");
    committer.close().expect_err("it cannot be made durable");
    assert_eq!(durable(&disk), 1);
}

#[test]
fn a_batch_that_is_too_long_is_refused_alone() {
    let disk = SimDisk::new();
    let committer = start(&disk, CommitOptions::default());
    let mut long = Batch::new();
    let body = [0; 3_001];
    let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body: &body };
    long.push(&record).expect("the format has room");
    let pending = {
        let _log = committer.log();
        [of(0, 0), long, of(0, 1)].map(|batch| committer.submit(batch, Word::Written).expect("it is open"))
    };
    let [first, long, second] = pending.map(|pending| pending.wait());
    assert_eq!((first.expect("it fits").positions, second.expect("it fits").positions), (1..2, 2..3));
    assert!(matches!(long, Err(CommitError::Append(AppendError::RecordTooLong { bytes: 3_001, max: 3_000 }))));
}

#[test]
fn a_full_queue_refuses_or_waits_and_loses_nothing() {
    let disk = SimDisk::new();
    let mut options = CommitOptions::default();
    options.queue_bytes_max = 1_000;
    let committer = start(&disk, options);
    let held = committer.log();
    // One group may be on its way to the log that is held; after that the queue fills up.
    let mut pending = Vec::new();
    let refused = loop {
        match committer.try_submit(of(0, 0), Word::Written) {
            Ok(one) => pending.push(one),
            Err((error, _)) if pending.len() > 5 => break error,
            Err(_) => thread::yield_now(),
        }
    };
    assert!(matches!(refused, CommitError::Busy { max: 1_000, waiting_bytes: 833.. }), "{refused}");
    let waker = Waker::noop();
    let mut context = Context::from_waker(waker);
    {
        let mut entering = pin!(committer.append_async(of(1, 0), Word::Durable));
        while committer.try_submit(of(0, 0), Word::Written).map(|one| pending.push(one)).is_ok() {}
        assert!(entering.as_mut().poll(&mut context).is_pending(), "there is no room");
        drop(held);
        let placed = loop {
            match entering.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => break outcome.expect("the disk works"),
                Poll::Pending => thread::yield_now(),
            }
        };
        assert_eq!(placed.positions.start, pending.len() as u64 + 1, "it came last");
    }
    let count = pending.len() as u64;
    for (nth, one) in pending.into_iter().enumerate() {
        assert_eq!(one.wait().expect("the disk works").positions.start, nth as u64 + 1);
    }
    assert_eq!(durable(&disk), count + 1);
}

#[test]
fn what_was_handed_in_before_a_drop_is_appended() {
    let disk = SimDisk::new();
    let committer = Arc::new(start(&disk, CommitOptions::default()));
    let pending: Vec<_> = (0..50).map(|nth| committer.submit(of(0, nth), Word::Written).expect("it is open")).collect();
    drop(committer);
    let last = pending.into_iter().map(|one| one.wait().expect("the disk works").positions.start).last();
    assert_eq!(last, Some(50));
    let (log, _) = open(&disk, small()).expect("the folder is free again");
    let mut reader = log.read(50);
    assert!(matches!(reader.next_record(), Some(Ok(record)) if record.header.sequence == 49));
    assert!(reader.next_record().is_none());
}
