//! What does the store's log cost beside a plain file that does the same writes and syncs? And what does the store on it?
//!
//! Prints medians of interleaved rounds, and the median of each round's ratio. `RINGMAIN_BENCH_FOLDER` says where the files
//! go; `RINGMAIN_BENCH_ROUNDS` how many rounds there are, 5 without it; `--test` runs everything once and small.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringmain::internals::store::{
    Batch, CommitOptions, Committer, HEADER_BYTES, Kind, Log, LogOptions, NewRecord, Pending, RealDisk, Word,
};
use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query, StateChange, StateKind, StateStore};
use ringmain::{Aggregate, Bus, Frame, Payload};

const BODY: [u8; 256] = [0x5A; 256];
const RECORD_BYTES: usize = HEADER_BYTES + BODY.len();

/// What one way of doing one thing took.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    per_second: f64,
    p99: Duration,
}

fn main() {
    let small = env::args().any(|argument| argument == "--test");
    let rounds = env::var("RINGMAIN_BENCH_ROUNDS").map_or(5, |rounds| rounds.parse().expect("a number"));
    let rounds = if small { 1 } else { rounds };
    let few = |events: u64| if small { events / 100 } else { events };
    println!("events of {} bytes; medians of {rounds} rounds; p99 of one append or batch", BODY.len());
    println!("{:<34}{:>12}{:>12}{:>7}{:>12}{:>12}", "", "log /s", "file /s", "ratio", "log p99 us", "file p99 us");
    for (batch, events) in [(1, 200_000), (100, 1_000_000), (1_000, 1_000_000)] {
        let events = few(events).max(batch * 2);
        let name = format!("written, batches of {batch}");
        report(&name, rounds, || log_written(batch, events), || file_written(batch, events));
    }
    for (writers, in_flight, events) in [(1, 1, 3_000), (8, 1, 8_000), (8, 64, 200_000)] {
        let name = format!("durable, {writers} x {in_flight} in flight");
        let events = few(events).max(u64::from(writers) * 2);
        report(&name, rounds, || log_durable(writers, in_flight, events), || file_durable(writers, in_flight, events));
    }
    replay(few(1_000_000), rounds);
    store(few(1_000_000), rounds);
    state(few(1_000_000), rounds);
}

fn median<T: Copy>(samples: &[T], by: impl Fn(&T) -> f64) -> f64 {
    let mut sorted: Vec<f64> = samples.iter().map(by).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(name: &str, rounds: usize, mut log: impl FnMut() -> Sample, mut file: impl FnMut() -> Sample) {
    let pairs: Vec<(Sample, Sample)> = (0..rounds).map(|_| (log(), file())).collect();
    let us = |sample: Sample| sample.p99.as_secs_f64() * 1e6;
    println!(
        "{name:<34}{:>12.0}{:>12.0}{:>7.2}{:>12.0}{:>12.0}",
        median(&pairs, |pair| pair.0.per_second),
        median(&pairs, |pair| pair.1.per_second),
        median(&pairs, |pair| pair.0.per_second / pair.1.per_second),
        median(&pairs, |pair| us(pair.0)),
        median(&pairs, |pair| us(pair.1)),
    );
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let base = env::var_os("RINGMAIN_BENCH_FOLDER").map_or_else(env::temp_dir, PathBuf::from);
        let path = base.join(format!("ringmain-durability-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the folder can be made");
        Self(path)
    }

    fn log(&self) -> Log {
        Log::open(Arc::new(RealDisk), &self.0, LogOptions::default()).expect("the disk works").0
    }

    /// A file with room for so many records, as the log's segments have.
    fn file(&self, events: u64) -> File {
        use ringmain::internals::store::{Access, Disk};
        let path = self.0.join("file");
        let made = RealDisk.open(&path, Access::Create).expect("the file can be made");
        made.allocate(events * RECORD_BYTES as u64 + (1 << 20)).expect("there is room");
        made.sync_data().expect("the disk works");
        File::options().read(true).write(true).open(&path).expect("it is there")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder can be removed");
    }
}

fn batch(records: u64) -> Batch {
    let mut batch = Batch::new();
    let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body: &BODY };
    (0..records).for_each(|_| batch.push(&record).expect("it is short"));
    batch
}

fn sample(events: u64, begun: Instant, mut latencies: Vec<Duration>) -> Sample {
    let per_second = events as f64 / begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Sample { per_second, p99: latencies[(latencies.len() - 1) * 99 / 100] }
}

/// Calls it for each batch, timed.
fn timed(batches: u64, mut call: impl FnMut(u64)) -> Vec<Duration> {
    let once = |nth| {
        let begun = Instant::now();
        call(nth);
        begun.elapsed()
    };
    (0..batches).map(once).collect()
}

fn log_written(records: u64, events: u64) -> Sample {
    let folder = Folder::new();
    let mut log = folder.log();
    log.append(&batch(1)).expect("the disk works");
    let begun = Instant::now();
    // A batch is made for each append, as an event's bytes are.
    let latencies = timed(events / records, |_| {
        log.append(&batch(records)).expect("the disk works");
    });
    sample(events / records * records, begun, latencies)
}

fn file_written(records: u64, events: u64) -> Sample {
    let folder = Folder::new();
    let file = folder.file(events);
    let bytes = RECORD_BYTES as u64 * records;
    let begun = Instant::now();
    let latencies = timed(events / records, |nth| {
        file.write_all_at(&raw(records), nth * bytes).expect("the disk works");
    });
    sample(events / records * records, begun, latencies)
}

/// Records without a check.
fn raw(records: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..records {
        bytes.extend_from_slice(&(BODY.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; HEADER_BYTES - 8]);
        bytes.extend_from_slice(&BODY);
    }
    bytes
}

/// Lets each writer keep so many on the way, and times each from handing in to its end.
fn in_flight<P>(
    writers: u32,
    window: usize,
    events: u64,
    submit: impl Fn() -> P + Sync,
    wait: impl Fn(P) + Sync,
) -> Sample {
    let all = Mutex::new(Vec::new());
    let each = events / u64::from(writers);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let mut latencies = Vec::with_capacity(each as usize);
                let mut on_the_way: VecDeque<(Instant, P)> = VecDeque::new();
                for _ in 0..each {
                    if on_the_way.len() == window {
                        let (begun, one) = on_the_way.pop_front().expect("the window is full");
                        wait(one);
                        latencies.push(begun.elapsed());
                    }
                    on_the_way.push_back((Instant::now(), submit()));
                }
                for (begun, one) in on_the_way {
                    wait(one);
                    latencies.push(begun.elapsed());
                }
                all.lock().expect("nobody panicked").extend(latencies);
            });
        }
    });
    let latencies = all.into_inner().expect("nobody panicked");
    sample(each * u64::from(writers), begun, latencies)
}

fn log_durable(writers: u32, window: usize, events: u64) -> Sample {
    let folder = Folder::new();
    let committer = Committer::start(folder.log(), CommitOptions::default()).expect("there is a thread");
    committer.append(batch(1), Word::Durable).expect("the disk works");
    if window == 1 {
        let append = || {
            committer.append(batch(1), Word::Durable).expect("the disk works");
        };
        return in_flight(writers, 1, events, || (), |()| append());
    }
    let submit = || committer.submit(batch(1), Word::Durable).expect("it is open");
    in_flight(writers, window, events, submit, |pending: Pending| {
        pending.wait().expect("the disk works");
    })
}

/// The least that group commit on a file can be: whoever waits and finds nobody at it writes and syncs for all.
#[derive(Default)]
struct Group {
    waiting: Vec<u8>,
    offset: u64,
    /// Groups begun and synced.
    begun: u64,
    synced: u64,
}

fn file_durable(writers: u32, window: usize, events: u64) -> Sample {
    let folder = Folder::new();
    let file = folder.file(events);
    let group = Mutex::new(Group::default());
    let changed = Condvar::new();
    let submit = || {
        let record = raw(1);
        let mut group = group.lock().expect("nobody panicked");
        group.waiting.extend_from_slice(&record);
        group.begun + 1
    };
    let wait = |mine: u64| {
        let mut held = group.lock().expect("nobody panicked");
        while held.synced < mine {
            if held.begun > held.synced {
                held = changed.wait(held).expect("nobody panicked");
                continue;
            }
            let bytes = std::mem::take(&mut held.waiting);
            let offset = held.offset;
            held.offset += bytes.len() as u64;
            held.begun += 1;
            drop(held);
            file.write_all_at(&bytes, offset).expect("the disk works");
            file.sync_data().expect("the disk works");
            held = group.lock().expect("nobody panicked");
            held.synced = held.begun;
            changed.notify_all();
        }
    };
    in_flight(writers, window, events, submit, wait)
}

/// Reads everything back, and opens the log again.
fn replay(events: u64, rounds: usize) {
    let folder = Folder::new();
    let mut log = folder.log();
    for _ in 0..events / 100 {
        log.append(&batch(100)).expect("the disk works");
    }
    log.sync().expect("the disk works");
    let file = folder.file(events);
    for nth in 0..events / 100 {
        file.write_all_at(&raw(100), nth * 100 * RECORD_BYTES as u64).expect("the disk works");
    }
    report("replay, records", rounds, || replay_log(&log, events), || replay_file(&folder.0.join("file"), events));
    drop(log);
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        let log = folder.log();
        times.push(begun.elapsed());
        assert_eq!(log.next_position(), events + 1);
    }
    times.sort_unstable();
    println!("reopening {events} records, ended without closing: {:?}", times[times.len() / 2]);
}

fn replay_log(log: &Log, events: u64) -> Sample {
    let mut reader = log.read(1);
    let (mut records, mut bytes) = (0, 0);
    let begun = Instant::now();
    while let Some(record) = reader.next_record() {
        records += 1;
        bytes += black_box(record.expect("it is whole").body).len();
    }
    assert_eq!((records, bytes as u64), (events, events * BODY.len() as u64));
    sample(records, begun, vec![begun.elapsed()])
}

fn replay_file(path: &Path, events: u64) -> Sample {
    let file = File::open(path).expect("it is there");
    let mut chunk = vec![0; RECORD_BYTES * 800];
    let begun = Instant::now();
    let mut read = 0;
    while read < events {
        let records = (events - read).min(800);
        let bytes = &mut chunk[..records as usize * RECORD_BYTES];
        file.read_exact_at(bytes, read * RECORD_BYTES as u64).expect("the disk works");
        for record in bytes.chunks(RECORD_BYTES) {
            let length = u64::from_le_bytes(*record.first_chunk().expect("it is longer")) as usize;
            black_box(&record[HEADER_BYTES..HEADER_BYTES + length]);
        }
        read += records;
    }
    sample(events, begun, vec![begun.elapsed()])
}

/// Frames of 1,000 aggregates, of about as many bytes as a record's body above.
fn frames() -> Vec<Frame> {
    let bus = Bus::builder().build().expect("the limits are fine");
    let mut publisher = bus.publisher().expect("there is room for one");
    let frame = |nth: u64| {
        let id = nth.to_string();
        let aggregate = Aggregate { kind: "order", id: &id, version: 1 };
        publisher
            .event()
            .aggregate(aggregate)
            .to_frame("orders.placed", Payload::raw(&BODY[..100]))
            .expect("it is short")
    };
    let frames = (0..1_000).map(frame).collect();
    bus.shutdown().expect("nothing is under way");
    frames
}

/// Appends, by the word; then opens again what is there, loads an aggregate, reads everything.
fn store(events: u64, rounds: usize) {
    let frames = frames();
    println!("store, events of {} bytes, each of an aggregate", frames[0].bytes().len());
    println!("{:<34}{:>12}{:>12}", "", "store /s", "p99 us");
    let print = |name: &str, samples: &[Sample]| {
        let p99 = median(samples, |sample| sample.p99.as_secs_f64() * 1e6);
        println!("{name:<34}{:>12.0}{p99:>12.0}", median(samples, |sample| sample.per_second));
    };
    for batch in [1, 100, 1_000] {
        let samples: Vec<_> = (0..rounds).map(|_| store_written(&frames[..batch], events / 5)).collect();
        print(&format!("written, batches of {batch}"), &samples);
    }
    for writers in [1, 8] {
        let each = (events / 500).max(u64::from(writers));
        let samples: Vec<_> = (0..rounds).map(|_| store_durable(&frames, writers, each)).collect();
        print(&format!("durable, {writers} x 1 in flight"), &samples);
    }
    let folder = Folder::new();
    let kept = LogStore::open(&folder.0).expect("the disk works");
    for _ in 0..events / 1_000 {
        kept.append(&frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    let reopened = |name: &str, mut kept: LogStore, close: bool| {
        let mut times = Vec::new();
        for _ in 0..rounds {
            if close {
                kept.close().expect("the disk works");
            } else {
                drop(kept);
            }
            let begun = Instant::now();
            kept = LogStore::open(&folder.0).expect("the disk works");
            times.push(begun.elapsed());
            assert_eq!(kept.head().expect("it can be read").map(|head| head.get()), Some(events / 1_000 * 1_000));
        }
        times.sort_unstable();
        println!("reopening {events} events, {name}: {:?}", times[times.len() / 2]);
        kept
    };
    let kept = reopened("dropped", kept, false);
    let kept = reopened("closed", kept, true);
    let load = |nth: u64| {
        let page = kept.load("order", &nth.to_string(), 0).expect("it can be read");
        assert_eq!(page.events.len() as u64, events / 1_000);
    };
    let mut times = timed(100, load);
    times.sort_unstable();
    println!("one aggregate of {} events of {events}: {:?}", events / 1_000, times[times.len() / 2]);
    let begun = Instant::now();
    let mut read = 0;
    for event in Query::new().limit(Query::EVENTS_MAX).stream(&kept) {
        black_box(event.expect("it is whole"));
        read += 1;
    }
    println!("replay through queries: {:.0} events/s", f64::from(read) / begun.elapsed().as_secs_f64());
}

/// State too long to be kept in memory: put, read one by one and by pages, and opened again.
fn state(keys: u64, rounds: usize) {
    let folder = Folder::new();
    let mut kept = LogStore::open(&folder.0).expect("the disk works");
    let (kind, value) = (StateKind::own(1), [7; 300]);
    let key = |nth: u64| nth.to_be_bytes();
    println!("state, {keys} keys with {} bytes each", value.len());
    let begun = Instant::now();
    for first in (0..keys).step_by(1_000) {
        let keys: Vec<_> = (first..keys.min(first + 1_000)).map(key).collect();
        let changes: Vec<_> = keys.iter().map(|key| StateChange::Put { kind, key, value: &value }).collect();
        kept.apply(&changes, Durability::Written).expect("the disk works");
    }
    println!("put, 1,000 at once: {:.0} /s", keys as f64 / begun.elapsed().as_secs_f64());
    // A stride that meets them all, far from each other.
    let mut times = timed(keys.min(20_000), |nth| {
        let key = key(nth * 7_919 % keys);
        assert!(kept.get(kind, &key).expect("it can be read").is_some());
    });
    times.sort_unstable();
    println!("get: {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    let (begun, mut from, mut read) = (Instant::now(), Some(Box::default()), 0);
    while let Some(at) = from {
        let page = kept.list(kind, &at, 1_000).expect("it can be read");
        read += page.entries.len();
        from = page.next;
    }
    println!("list, 1,000 at once: {:.0} /s", read as f64 / begun.elapsed().as_secs_f64());
    let mut times = Vec::new();
    for _ in 0..rounds {
        kept.close().expect("the disk works");
        let begun = Instant::now();
        kept = LogStore::open(&folder.0).expect("the disk works");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!("reopening: {:?}", times[times.len() / 2]);
}

fn store_written(batch: &[Frame], events: u64) -> Sample {
    let folder = Folder::new();
    let store = LogStore::open(&folder.0).expect("the disk works");
    let batches = (events / batch.len() as u64).max(1);
    let begun = Instant::now();
    let latencies = timed(batches, |_| {
        store.append(batch, ExpectedVersion::Any, Durability::Written).expect("the disk works");
    });
    sample(batches * batch.len() as u64, begun, latencies)
}

fn store_durable(frames: &[Frame], writers: u32, events: u64) -> Sample {
    let folder = Folder::new();
    let store = LogStore::open(&folder.0).expect("the disk works");
    in_flight(
        writers,
        1,
        events,
        || (),
        |()| {
            store.append(&frames[..1], ExpectedVersion::Any, Durability::Durable).expect("the disk works");
        },
    )
}
