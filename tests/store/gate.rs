//! What a batch's gate is told, and when; and records read from the places it is told.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use ringmain::internals::store::sim::{Failure, SimDisk};
use ringmain::internals::store::{
    Batch, Cause, CommitError, CommitOptions, Committer, Gate, LogReader, NewRecord, Pending, Placed, ReadError, Word,
};

use crate::support::{FOLDER, batch, body, open, small};

/// What happened, in order.
type Seen = Arc<Mutex<Vec<String>>>;

/// Admits or refuses, and writes down what it is told.
#[derive(Debug)]
struct Noting {
    name: char,
    admits: bool,
    seen: Seen,
    reader: Arc<LogReader>,
}

#[derive(Debug)]
struct No(char);

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused", self.0)
    }
}

impl Error for No {}

impl Noting {
    fn note(&self, what: &str) {
        self.seen.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

impl Gate for Noting {
    fn admit(&mut self) -> Result<(), Arc<dyn Error + Send + Sync>> {
        self.note("admit");
        if self.admits { Ok(()) } else { Err(Arc::new(No(self.name))) }
    }

    fn staged(&mut self) {
        self.note("staged");
    }

    fn written(&mut self, _: &Batch, placed: &Placed) {
        let mut reader = self.reader.from(placed.positions.start);
        assert!(reader.next_record().is_some_and(|record| record.is_ok()), "what is said to be written can be read");
        self.note("written");
    }

    fn lost(&mut self) {
        self.note("lost");
    }
}

/// Hands batches of one record in while nothing can be written, so that several are written together; `-` before a name lets its
/// gate refuse.
fn hand_in(committer: &Committer, seen: &Seen, names: &str, then: impl FnOnce()) -> Vec<Pending> {
    let reader = Arc::new(committer.read(1));
    let held = committer.log();
    let mut admits = true;
    let mut pendings = Vec::new();
    for name in names.chars() {
        if name == '-' {
            admits = false;
            continue;
        }
        let gate = Noting { name, admits, seen: Arc::clone(seen), reader: Arc::clone(&reader) };
        pendings.push(committer.submit_gated(Box::new(gate), batch(1, 1), Word::Written).expect("it is open"));
        admits = true;
    }
    then();
    drop(held);
    pendings
}

#[test]
fn a_gate_is_asked_in_the_order_of_the_log_and_told_before_anybody_else() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small()).expect("the disk works");
    let committer = Committer::start(log, CommitOptions::default()).expect("there is a thread");
    let seen = Seen::default();
    let told: Vec<_> = hand_in(&committer, &seen, "ab-cd", || {}).into_iter().map(Pending::wait).collect();
    let [Ok(a), Ok(b), Err(CommitError::Refused(c)), Ok(d)] = &told[..] else { panic!("{told:?}") };
    assert_eq!([a, b, d].map(|placed| placed.positions.start), [1, 2, 3], "a refused batch takes no position");
    assert!(matches!(c.downcast_ref(), Some(No('c'))), "the gate's own error comes through");
    let seen = seen.lock().unwrap();
    let of = |what: &str| -> String { seen.iter().filter_map(|line| line.strip_prefix(what)).collect() };
    assert_eq!(
        (of("admit "), of("staged "), of("written "), of("lost ")),
        ("abcd".into(), "abd".into(), "abd".into(), "".into())
    );
    let at = |line: &str| seen.iter().position(|seen| seen == line).expect("it happened");
    for (before, after) in
        [("admit b", "staged b"), ("staged b", "admit c"), ("staged d", "written d"), ("written a", "written b")]
    {
        assert!(at(before) < at(after), "{seen:?}");
    }
}

#[test]
fn a_refusal_is_not_told_for_what_was_never_written() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small()).expect("the disk works");
    let committer = Committer::start(log, CommitOptions::default()).expect("there is a thread");
    committer.append(batch(1, 1), Word::Durable).expect("the disk works");
    let seen = Seen::default();
    let told: Vec<_> = hand_in(&committer, &seen, "a-bc", || disk.fail_at(1, Failure::Device))
        .into_iter()
        .map(Pending::wait)
        .collect();
    assert!(told.iter().all(|told| matches!(told, Err(CommitError::Append(_)))), "{told:?}");
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&"admit a".to_owned()) && seen.contains(&"lost a".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("written")), "{seen:?}");
    let count = |what: &str| seen.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("staged"), count("lost"), "{seen:?}");
}

/// Notes where its batch is.
#[derive(Debug)]
struct Placing(Arc<Mutex<Vec<(u64, u64, u64)>>>);

impl Gate for Placing {
    fn admit(&mut self) -> Result<(), Arc<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn staged(&mut self) {}

    fn written(&mut self, batch: &Batch, placed: &Placed) {
        let places = placed.positions.clone().zip(batch.offsets(placed.offset));
        self.0.lock().unwrap().extend(places.map(|(position, offset)| (position, placed.segment, offset)));
    }

    fn lost(&mut self) {}
}

#[test]
fn each_record_is_read_from_the_place_that_was_told_and_from_no_other() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, small()).expect("the disk works");
    let committer = Committer::start(log, CommitOptions::default()).expect("there is a thread");
    let places = Arc::default();
    let mut next = 1;
    for records in (1..7).cycle().take(60) {
        let gate = Box::new(Placing(Arc::clone(&places)));
        next = committer.append_gated(gate, batch(next, records), Word::Written).expect("the disk works").positions.end;
    }
    let mut long = Batch::new();
    let long_body = vec![7; 2_000];
    let record =
        NewRecord { kind: ringmain::internals::store::Kind::EVENT, flags: 0, lane: 0, sequence: 0, body: &long_body };
    long.push(&record).expect("it is short enough");
    committer.append_gated(Box::new(Placing(Arc::clone(&places))), long, Word::Written).expect("the disk works");
    let mut lookup = committer.read(1).lookup();
    let places = places.lock().unwrap();
    assert_eq!(places.iter().map(|place| place.0).collect::<Vec<_>>(), (1..=next).collect::<Vec<_>>());
    let segments: std::collections::BTreeSet<_> = places.iter().map(|place| place.1).collect();
    assert!(segments.len() > 3, "{segments:?}");
    for (position, segment, offset) in places.iter().rev() {
        let record = lookup.record(*segment, *offset).expect("it is there");
        assert_eq!((record.header.position, record.segment, record.offset), (*position, *segment, *offset));
        let expected = if *position == next { long_body.clone() } else { body(*position).into_owned() };
        assert_eq!(record.body, expected);
        assert_eq!(record.body.as_ptr().addr() % 16, 0, "a body is aligned");
    }
    let (_, segment, offset) = *places.last().expect("there are places");
    for nowhere in [0, offset + 16, offset + 64 + 2_000, 1 << 30] {
        let refused = lookup.record(segment, nowhere).expect_err("there is no record");
        assert!(matches!(&refused, ReadError::Damaged(damage) if damage.missing.is_none()), "{nowhere}: {refused:?}");
    }
    let refused = lookup.record(segment + 1, 64).expect_err("there is no such segment");
    assert!(matches!(refused, ReadError::Retired { first: 1, .. }), "{refused:?}");
}

#[test]
fn a_damaged_record_is_said_with_its_position_where_it_is_read_alone() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    log.append(&batch(1, 3)).expect("the disk works");
    log.close().expect("the disk works");
    let (path, _) = disk.files().pop().expect("there is a file");
    let image = disk.flipped(&path, 64 + 64, 0);
    assert!(!body(1).is_empty(), "the flipped byte is the body's first");
    let (log, _) = open(&image, small()).expect("damage is no reason not to open");
    let refused = log.read(1).lookup().record(1, 64).expect_err("it is damaged");
    let ReadError::Damaged(damage) = refused else { panic!("{refused:?}") };
    assert_eq!((damage.cause, damage.missing, damage.offset), (Cause::Body, Some(1..=1), 64));
    assert!(damage.file.starts_with(FOLDER));
}
