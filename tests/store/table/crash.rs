//! Power loss and the death of the process at every step of a workload with rolling and compaction: what was acknowledged is
//! there, what was removed is not, changes made together show together, and a compaction that was cut short is begun again.
//!
//! `RINGMAIN_CRASH_IMAGES=200000` looks at more images.

use std::ops::RangeInclusive;

use ringmain::internals::store::Word;
use ringmain::internals::store::sim::{Kept, Replay, SimDisk};

use super::support::{Map, Owned, apply, open, read_all, small};
use crate::ordeal::{Images, crash, kinds};
use crate::support::Chance;

const IMAGES_DEFAULT: u64 = 10_000;
const APPLIED: usize = 100;
/// One image of so many is compacted, and crashes again at every step of that.
const AGAIN_EVERY: u64 = 100;

/// What the table had promised, or been asked for, when so many effects had happened: numbers of states.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    effects: usize,
    asked: usize,
    written: usize,
    durable: usize,
}

/// What a workload left.
struct Run {
    disk: SimDisk,
    /// What the table held after so many applied changes.
    states: Vec<Map>,
    promises: Vec<Promise>,
    retired_segments: u64,
}

/// Changes, syncs, rolls, compacts and opens again, by chance from a seed.
fn workload(seed: u64) -> Run {
    let mut chance = Chance(seed);
    let disk = SimDisk::new();
    let (mut table, _) = open(&disk, small()).expect("the disk works");
    let mut states = vec![Map::new()];
    let mut promise = Promise::default();
    let mut promises = vec![promise];
    let mut retired_segments = 0;
    for _ in 0..APPLIED {
        let changes: Vec<_> = (0..1 + chance.below(3)).map(|_| Owned::by_chance(&mut chance)).collect();
        let mut state = states[promise.written].clone();
        changes.iter().for_each(|change| change.apply(&mut state));
        states.push(state);
        promise.asked += 1;
        promises.push(Promise { effects: disk.effects(), ..promise });
        let word = if chance.below(4) == 0 { Word::Durable } else { Word::Written };
        apply(&table, &changes, word).expect("the disk works");
        promise.written = promise.asked;
        if word == Word::Durable {
            promise.durable = promise.asked;
        }
        promises.push(Promise { effects: disk.effects(), ..promise });
        if chance.below(25) == 0 {
            table.compact().expect("the disk works");
        }
        if chance.below(20) == 0 {
            retired_segments += table.stats().retired_segments;
            drop(table);
            table = open(&disk, small()).expect("the disk works").0;
        }
    }
    retired_segments += table.stats().retired_segments;
    Run { disk, states, promises, retired_segments }
}

/// Checks a disk after a crash; says which state it is in.
fn check(
    image: &SimDisk,
    states: &[Map],
    allowed: RangeInclusive<usize>,
    images: &mut Images,
    place: &dyn Fn() -> String,
) -> usize {
    images.seen += 1;
    let (table, opened) = open(image, small()).unwrap_or_else(|error| panic!("{}: {error}", place()));
    assert!(opened.recovered.damages.is_empty(), "{}: a crash is no damage: {opened:?}", place());
    images.with_cut += u64::from(opened.recovered.cut_bytes > 0);
    let found = read_all(&table);
    let state = allowed.clone().rev().find(|state| states[*state] == found);
    state.unwrap_or_else(|| {
        let known = states.iter().position(|state| *state == found);
        panic!("{}: it is in state {known:?}, allowed are {allowed:?}: {found:?}", place())
    })
}

/// Compacts and changes after a crash, and crashes at every step of that.
fn crash_again(image: &SimDisk, state: &Map, seed: u64, images: &mut Images, place: &dyn Fn() -> String) {
    let mut chance = Chance(seed);
    let change = Owned::by_chance(&mut chance);
    let mut changed = state.clone();
    change.apply(&mut changed);
    let states = [state.clone(), changed];
    let (table, _) = open(image, small()).expect("it could be opened before");
    table.compact().unwrap_or_else(|error| panic!("{}: {error}", place()));
    apply(&table, &[change], Word::Written).expect("the disk works");
    let written = image.effects();
    table.sync().expect("the disk works");
    let synced = image.effects();
    table.compact().expect("the disk works");
    drop(table);
    let mut replay = Replay::new(image);
    loop {
        let (at, pending) = (replay.at(), replay.pending());
        for kept in [Kept::Killed, Kept::Nothing, Kept::Oldest(pending / 2), Kept::Chance(at as u64 ^ seed)] {
            let is_acknowledged = at >= synced || (kept == Kept::Killed && at >= written);
            let place = || format!("{}, again {kept:?} at {at}", place());
            check(&replay.image(kept), &states, usize::from(is_acknowledged)..=1, images, &place);
        }
        if !replay.step() {
            break;
        }
    }
    images.again += 1;
}

fn crash_everywhere(seed: u64) -> Images {
    let Run { disk, states, promises, retired_segments } = workload(seed);
    let mut chance = Chance(!seed);
    let mut images = Images { retired_segments, ..Images::default() };
    let mut replay = Replay::new(&disk);
    loop {
        let at = replay.at();
        let promise = promises[promises.partition_point(|promise| promise.effects <= at) - 1];
        for kept in kinds(&replay, [1, 17, 64, 65, 80], 3, &mut chance) {
            let place = || format!("seed {seed}, {kept:?} after {at} effects");
            let least = if kept == Kept::Killed { promise.written } else { promise.durable };
            let image = replay.image(kept);
            let state = check(&image, &states, least..=promise.asked, &mut images, &place);
            if images.seen.is_multiple_of(AGAIN_EVERY) {
                crash_again(&image, &states[state], chance.below(u64::MAX), &mut images, &place);
            }
        }
        if !replay.step() {
            return images;
        }
    }
}

#[test]
fn no_crash_loses_a_change_or_brings_back_what_was_removed() {
    let (images, workloads) = crash(IMAGES_DEFAULT, crash_everywhere);
    assert!(images.retired_segments > 5 * workloads, "{images:?}");
}
