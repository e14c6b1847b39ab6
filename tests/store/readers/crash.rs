//! Failure mode 30: events and cursors on one disk, and the power fails at every step. What was acknowledged is there, a cursor stands
//! where it stood, and what is appended after the crash comes.
//!
//! `RINGMAIN_CRASH_IMAGES=200000` looks at more images.

use std::env;

use ringmain::EventId;
use ringmain::internals::store::sim::{Kept, Replay};
use ringmain::store::{Durability, LogStore};

use super::*;
use crate::ordeal::kinds;
use crate::support::Chance;

const IMAGES_DEFAULT: u64 = 1_500;
const APPENDS: u64 = 12;

/// Where the cursors are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    /// In the store of the events.
    Same,
    /// In another, on the same disk.
    Another,
}

fn state_of(disk: &SimDisk, store: &Arc<LogStore>, beside: Beside) -> Arc<dyn StateStore> {
    let builder = LogStore::builder("cursors").segment_bytes(4_096).event_bytes_max(3_000);
    let builder = builder.state_batch_bytes_max(64 << 10).snapshot_state_bytes_max(64 << 10);
    match beside {
        Beside::Same => store.clone(),
        Beside::Another => Arc::new(open_on(disk.shared(), builder).expect("the disk works")),
    }
}

/// What was acknowledged when so many effects had happened, and what was asked for by then.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    effects: usize,
    acknowledged: u64,
    asked: u64,
}

/// Appends with either word, pulls and acknowledges, by chance from a seed.
fn workload(seed: u64, beside: Beside) -> (SimDisk, Vec<Promise>, Vec<EventId>) {
    let (mut chance, disk, mut writer) = (Chance(seed), SimDisk::new(), Writer::new());
    let store = open(&disk);
    let mut billing = subscribe(&store, state_of(&disk, &store, beside));
    let (mut promises, mut promise, mut ids) = (vec![Promise::default()], Promise::default(), Vec::new());
    for _ in 0..APPENDS {
        let frames = writer.frames("a", 1 + chance.below(3) as usize);
        ids.extend(frames.iter().map(|frame| frame.meta().id()));
        let word = if chance.below(4) == 0 { Durability::Durable } else { Durability::Written };
        store.append(&frames, ExpectedVersion::Any, word).expect("the disk works");
        let mut last = None;
        for _ in 0..chance.below(4) {
            last = billing.try_recv().expect("the disk works").or(last);
        }
        let Some(last) = last.filter(|_| chance.below(3) > 0) else { continue };
        promise.asked = last.position().get();
        promises.push(Promise { effects: disk.effects(), ..promise });
        billing.ack(last.position()).expect("the disk works");
        promise.acknowledged = promise.asked;
        promises.push(Promise { effects: disk.effects(), ..promise });
    }
    (disk, promises, ids)
}

/// Opens it all on a disk after a crash, appends before anybody reads on, and reads on.
fn check(image: &SimDisk, beside: Beside, promise: Promise, kept: Kept, ids: &[EventId], place: &str) {
    let store = open(image);
    let left: Vec<_> = Query::new().stream(&*store).map(|event| event.unwrap().meta().id()).collect();
    assert_eq!(left, ids[..left.len()], "{place}: nothing is invented");
    let mut writer = Writer::new();
    // Ids that no event of the workload has.
    writer.frames("a", 4 * APPENDS as usize);
    let fresh = writer.frames("a", 2);
    append(&*store, &fresh);
    let state = state_of(image, &store, beside);
    let opened = DurableSubscription::builder(store.clone(), state, "billing").open();
    let mut billing = opened.unwrap_or_else(|error| panic!("{place}: {error}"));
    let from = billing.acknowledged().map_or(0, |at| at.get());
    let least = if kept == Kept::Killed { promise.acknowledged } else { 0 };
    assert!((least..=promise.asked).contains(&from), "{place}: the cursor is at {from}, {promise:?}");
    let come: Vec<_> = std::iter::from_fn(|| billing.try_recv().unwrap()).map(|event| event.meta().id()).collect();
    let expected = left[from as usize..].iter().copied().chain(fresh.iter().map(|frame| frame.meta().id()));
    assert_eq!(come, expected.collect::<Vec<_>>(), "{place}");
}

#[test]
fn no_crash_takes_an_event_from_who_reads_on() {
    let wanted = env::var("RINGMAIN_CRASH_IMAGES").map_or(IMAGES_DEFAULT, |count| count.parse().expect("a number"));
    let (mut seen, mut seed) = (0, 0);
    while seen < wanted {
        for beside in [Beside::Same, Beside::Another] {
            let (disk, promises, ids) = workload(seed, beside);
            let (mut chance, mut replay) = (Chance(!seed), Replay::new(&disk));
            loop {
                let at = replay.at();
                let promise = promises[promises.partition_point(|promise| promise.effects <= at) - 1];
                for kept in kinds(&replay, [], 2, &mut chance) {
                    let place = format!("seed {seed}, {beside:?}, {kept:?} after {at} effects");
                    check(&replay.image(kept), beside, promise, kept, &ids, &place);
                    seen += 1;
                }
                if !replay.step() {
                    break;
                }
            }
        }
        seed += 1;
    }
    println!("{seen} images of {seed} workloads");
}
