//! Failure mode 30: events and cursors on one disk, with rolling and retention, and the power fails or the process dies at every
//! step. What was acknowledged is there, a cursor stands where it stood, nothing goes that it has not passed, and what is
//! appended after the crash comes. Recovery may itself be cut short.
//!
//! `RINGMAIN_CRASH_IMAGES=200000` looks at more images.

use std::ops::RangeInclusive;

use ringmain::EventId;
use ringmain::internals::store::sim::{Kept, Replay};
use ringmain::store::{Durability, LogStore};

use super::*;
use crate::ordeal::{Images, crash, kinds};
use crate::support::Chance;

const IMAGES_DEFAULT: u64 = 15_000;
const APPENDS: u64 = 40;
/// One image of so many is worked on, and crashes again at every step of that.
const AGAIN_EVERY: u64 = 200;

/// Where the cursors are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    /// In the store of the events.
    Same,
    /// In another, on the same disk.
    Another,
}

/// Segments of about a dozen events, and files of state that are read in no time.
fn tight(disk: &SimDisk, folder: &str) -> Arc<LogStore> {
    let builder = LogStore::builder(folder).segment_bytes(4_096).event_bytes_max(3_000);
    let builder = builder.state_batch_bytes_max(1_000).snapshot_state_bytes_max(64);
    Arc::new(open_on(disk.shared(), builder).expect("the disk works"))
}

fn state_of(disk: &SimDisk, store: &Arc<LogStore>, beside: Beside) -> Arc<dyn StateStore> {
    match beside {
        Beside::Same => store.clone(),
        Beside::Another => tight(disk, "cursors"),
    }
}

/// What was acknowledged when so many effects had happened, and what was asked for by then.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    effects: usize,
    asked: u64,
    written: u64,
    durable: u64,
    /// Of the cursor.
    passed_asked: u64,
    passed: u64,
    /// Events before it may be gone.
    first_max: u64,
}

/// What a workload left.
struct Run {
    disk: SimDisk,
    promises: Vec<Promise>,
    ids: Vec<EventId>,
    /// Events that no store has yet.
    fresh: Vec<Frame>,
    removed_segments: u64,
}

/// Appends with either word, pulls, acknowledges, removes what is old and opens again, by chance from a seed.
fn workload(seed: u64, beside: Beside) -> Run {
    let (mut chance, disk, mut writer) = (Chance(seed), SimDisk::new(), Writer::new());
    let mut store = tight(&disk, "events");
    let mut billing = subscribe(&store, state_of(&disk, &store, beside));
    let (mut promise, mut ids, mut removed_segments) = (Promise { first_max: 1, ..Promise::default() }, Vec::new(), 0);
    let mut promises = vec![promise];
    let mut promised = |promise: &Promise| promises.push(Promise { effects: disk.effects(), ..*promise });
    for _ in 0..APPENDS {
        let frames = writer.frames("a", 1 + chance.below(3) as usize);
        ids.extend(frames.iter().map(|frame| frame.meta().id()));
        let word = if chance.below(4) == 0 { Durability::Durable } else { Durability::Written };
        promise.asked = ids.len() as u64;
        promised(&promise);
        store.append(&frames, ExpectedVersion::Any, word).expect("the disk works");
        promise.written = promise.asked;
        promise.durable = if word == Durability::Durable { promise.asked } else { promise.durable };
        promised(&promise);
        let mut last = None;
        for _ in 0..chance.below(4) {
            last = match billing.try_recv() {
                Err(DurableSubscriptionError::Read(ReadError::Removed { .. })) if beside == Beside::Another => last,
                received => received.expect("the disk works").or(last),
            };
        }
        if let Some(last) = last.filter(|_| chance.below(3) > 0) {
            // Behind it may be what it was told is gone.
            promise.passed_asked = last.position().max(billing.looked_at().expect("it has looked")).get();
            promised(&promise);
            billing.ack(last.position()).expect("the disk works");
            promise.passed = billing.acknowledged().expect("it has").get();
            promised(&promise);
        }
        if chance.below(10) == 0 {
            promise.first_max = if beside == Beside::Same { promise.passed } else { promise.written } + 1;
            promised(&promise);
            removed_segments += store.keep(ALL).expect("the disk works").removed_segments as u64;
            promise.first_max = store.first().expect("the disk works").map_or(1, |first| first.get());
            promised(&promise);
        }
        if chance.below(20) == 0 {
            drop((billing, store));
            store = tight(&disk, "events");
            billing = subscribe(&store, state_of(&disk, &store, beside));
        }
    }
    drop((billing, store));
    Run { disk, promises, ids, fresh: writer.frames("a", 4), removed_segments }
}

/// What is allowed after a crash.
#[derive(Debug, Clone)]
struct Bounds {
    last: RangeInclusive<u64>,
    passed: RangeInclusive<u64>,
    first_max: u64,
}

/// Opens it all on a disk after a crash, appends before anybody reads on, and reads on. Returns the last event that was left.
fn check(
    image: &SimDisk,
    beside: Beside,
    bounds: &Bounds,
    ids: &[EventId],
    fresh: &[Frame],
    place: &str,
) -> (u64, bool) {
    let store = tight(image, "events");
    let recovered = store.recovered();
    assert!(
        recovered.damages.is_empty() && store.state_damages().is_empty(),
        "{place}: a crash is no damage: {recovered:?}"
    );
    let is_cut = recovered.cut_bytes + store.state_recovered().cut_bytes > 0;
    let left = Query::new().stream(&*store).map(|event| event.unwrap());
    let left: Vec<_> = left.map(|event| (event.position().get(), event.meta().id())).collect();
    let last = store.head().unwrap().map_or(0, |head| head.get());
    let first = left.first().map_or(last + 1, |(first, _)| *first);
    assert!(bounds.last.contains(&last), "{place}: {last} is the last, {bounds:?}");
    assert!(first <= bounds.first_max, "{place}: {first} is the first, {bounds:?}");
    let expected = (first..=last).map(|at| (at, ids[at as usize - 1]));
    assert_eq!(left, expected.collect::<Vec<_>>(), "{place}: nothing is missing or invented");
    append(&*store, fresh);
    let state = state_of(image, &store, beside);
    let opened = DurableSubscription::builder(store.clone(), state, "billing").open();
    let mut billing = opened.unwrap_or_else(|error| panic!("{place}: {error}"));
    let from = billing.acknowledged().map_or(0, |at| at.get());
    // Where none was acknowledged it may be lost, and a new one begins with what there is.
    let is_new = *bounds.passed.start() == 0 && from + 1 == first;
    assert!(is_new || bounds.passed.contains(&from), "{place}: the cursor is at {from}, {bounds:?}");
    let (mut come, mut is_said) = (Vec::new(), false);
    loop {
        match billing.try_recv() {
            Ok(Some(event)) => come.push(event.meta().id()),
            Ok(None) => break,
            Err(DurableSubscriptionError::Read(error)) => {
                assert_eq!((removed(&error), beside), ((from + 1, first - 1), Beside::Another), "{place}");
                is_said = true;
            }
            Err(error) => panic!("{place}: {error}"),
        }
    }
    // One who has acknowledged nothing may be new, and begins with what there is.
    assert!(is_said || from == 0 || first <= from + 1, "{place}: {first} is the first, the cursor is at {from}");
    let begin = first.max(from + 1);
    let expected = (begin..=last).map(|at| ids[at as usize - 1]).chain(fresh.iter().map(|frame| frame.meta().id()));
    assert_eq!(come, expected.collect::<Vec<_>>(), "{place}");
    (last, is_cut)
}

/// Appends and removes after a crash, and crashes at every step of that.
fn crash_again(
    image: &SimDisk,
    beside: Beside,
    bounds: &Bounds,
    last: u64,
    run: &Run,
    images: &mut Images,
    place: &str,
) {
    let (now, later) = run.fresh.split_at(2);
    let ids: Vec<_> =
        run.ids[..last as usize].iter().copied().chain(now.iter().map(|frame| frame.meta().id())).collect();
    let store = tight(image, "events");
    let acknowledged: Vec<_> = now
        .chunks(1)
        .map(|frame| {
            append(&*store, frame);
            image.effects()
        })
        .collect();
    store.keep(ALL).expect("the disk works");
    drop(store);
    let mut replay = Replay::new(image);
    loop {
        let (at, pending) = (replay.at(), replay.pending());
        let least = last + acknowledged.iter().filter(|effects| **effects <= at).count() as u64;
        // A cursor that was lost holds nothing.
        let bounds = Bounds { last: least..=last + 2, first_max: last + 2, ..bounds.clone() };
        for kept in [Kept::Killed, Kept::Nothing, Kept::Oldest(pending / 2), Kept::Chance(at as u64)] {
            let place = format!("{place}, again {kept:?} at {at}");
            images.with_cut += u64::from(check(&replay.image(kept), beside, &bounds, &ids, later, &place).1);
            images.seen += 1;
        }
        if !replay.step() {
            break;
        }
    }
    images.again += 1;
}

fn crash_everywhere(seed: u64) -> Images {
    let mut images = Images::default();
    for beside in [Beside::Same, Beside::Another] {
        let run = workload(seed, beside);
        let Run { disk, promises, ids, fresh, removed_segments } = &run;
        images.retired_segments += removed_segments;
        let (mut chance, mut replay) = (Chance(!seed), Replay::new(disk));
        loop {
            let at = replay.at();
            let promise = promises[promises.partition_point(|promise| promise.effects <= at) - 1];
            for kept in kinds(&replay, [1, 64, 65], 3, &mut chance) {
                let place = format!("seed {seed}, {beside:?}, {kept:?} after {at} effects");
                let is_killed = kept == Kept::Killed;
                let bounds = Bounds {
                    last: if is_killed { promise.written } else { promise.durable }..=promise.asked,
                    passed: if is_killed { promise.passed } else { 0 }..=promise.passed_asked,
                    first_max: promise.first_max,
                };
                let (last, is_cut) = check(&replay.image(kept), beside, &bounds, ids, fresh, &place);
                images.seen += 1;
                images.with_cut += u64::from(is_cut);
                if images.seen.is_multiple_of(AGAIN_EVERY) {
                    crash_again(&replay.image(kept), beside, &bounds, last, &run, &mut images, &place);
                }
            }
            if !replay.step() {
                break;
            }
        }
    }
    images
}

#[test]
fn no_crash_takes_an_event_from_who_reads_on() {
    let (images, workloads) = crash(IMAGES_DEFAULT, crash_everywhere);
    assert!(images.retired_segments > workloads / 2, "{images:?}");
}
