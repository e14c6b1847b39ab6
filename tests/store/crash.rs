//! Power loss and the death of the process at every step of a workload: what was acknowledged is there, in order, nothing
//! is invented, half a batch never shows, and recovery may itself be cut short.
//!
//! `RINGMAIN_CRASH_IMAGES=200000` looks at more images.

use std::path::Path;

use ringmain::internals::store::sim::{Kept, Replay, SimDisk};

use crate::ordeal::{Images, crash, kinds};
use crate::support::{Chance, FOLDER, batch, hides, open, read_all, small};

const IMAGES_DEFAULT: u64 = 60_000;
const APPENDS: u64 = 40;
/// One workload of so many archives, too: an image with archives costs ten times as much as one without.
const ARCHIVES_EVERY: u64 = 4;
/// One image of so many is written on, and crashes again at every step of that.
const AGAIN_EVERY: u64 = 40;

/// What the log had promised, or been asked for, when so many effects had happened.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    effects: usize,
    /// The last position that a batch was handed in for.
    asked: u64,
    written: u64,
    durable: u64,
    /// Records before it may be gone.
    retired: u64,
}

/// Appends, syncs, rolls, archives and retires, by chance from a seed.
fn workload(seed: u64) -> (SimDisk, Vec<Promise>) {
    let mut chance = Chance(seed);
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    let mut promises = vec![Promise::default()];
    let mut promise = Promise { retired: 1, ..Promise::default() };
    for _ in 0..APPENDS {
        let records = 1 + chance.below(5);
        promise.asked += records;
        promises.push(Promise { effects: disk.effects(), ..promise });
        log.append(&batch(log.next_position(), records)).expect("the disk works");
        promise.written = promise.asked;
        promise.durable = promise.durable.max(log.durable());
        promises.push(Promise { effects: disk.effects(), ..promise });
        if chance.below(3) == 0 {
            promise.durable = log.sync().expect("the disk works");
            promises.push(Promise { effects: disk.effects(), ..promise });
            if chance.below(2) == 0 {
                log.mark_durable();
            }
        }
        if chance.below(12) == 0 {
            promise.retired = promise.retired.max(promise.written.saturating_sub(30));
            promises.push(Promise { effects: disk.effects(), ..promise });
            log.truncate_before(promise.retired).expect("the disk works");
        }
        if seed.is_multiple_of(ARCHIVES_EVERY) && chance.below(16) == 0 {
            promises.push(Promise { effects: disk.effects(), ..promise });
            if let Some(segment) = log.segments().iter().nth_back(1) {
                log.read(1).archive(&disk, Path::new(FOLDER), segment.first).expect("the disk works");
            }
        }
        if chance.below(25) == 0 {
            drop(log);
            log = open(&disk, small()).expect("the disk works").0;
        }
    }
    (disk, promises)
}

/// What is allowed of a log after a crash.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The first position is at most this.
    first_max: u64,
    last_min: u64,
    last_max: u64,
}

/// Checks a disk after a crash; says where its log goes on.
fn check(image: &SimDisk, bounds: Bounds, images: &mut Images, place: &dyn Fn() -> String) -> u64 {
    images.seen += 1;
    let (log, mut recovered) = open(image, small()).unwrap_or_else(|error| panic!("{}: {error}", place()));
    assert!(recovered.damages.is_empty(), "{}: a crash is no damage: {recovered:?}", place());
    let last = recovered.next - 1;
    let allowed = bounds.last_min..=bounds.last_max;
    assert!(allowed.contains(&last), "{}: {recovered:?}, allowed {allowed:?}", place());
    assert!(recovered.first <= bounds.first_max.max(1), "{}: {recovered:?}", place());
    let found = read_all(&log, recovered.first);
    assert_eq!(found.positions, (recovered.first..=last).collect::<Vec<_>>(), "{}", place());
    assert!(found.damages.is_empty(), "{}: {:?}", place(), found.damages);
    assert_eq!(found.batch_left, 0, "{}: half a batch", place());
    drop(log);
    let (_, again) = open(image, small()).unwrap_or_else(|error| panic!("{}: {error}", place()));
    recovered.removed.clear();
    assert_eq!(again, recovered, "{}: opening changes nothing but what was there twice", place());
    images.with_cut += u64::from(recovered.cut_bytes > 0);
    recovered.next
}

/// Writes on after a crash, and crashes at every step of that.
fn crash_again(image: &SimDisk, next: u64, bounds: Bounds, images: &mut Images, place: &dyn Fn() -> String) {
    let (mut log, _) = open(image, small()).expect("it could be opened before");
    log.append(&batch(next, 3)).unwrap_or_else(|error| panic!("{}: {error}", place()));
    let written = image.effects();
    log.sync().expect("the disk works");
    let synced = image.effects();
    drop(log);
    let mut replay = Replay::new(image);
    loop {
        let (at, pending) = (replay.at(), replay.pending());
        for kept in [Kept::Killed, Kept::Nothing, Kept::Oldest(pending / 2), Kept::Chance(at as u64 + next)] {
            let acknowledged = at >= synced || (kept == Kept::Killed && at >= written);
            // All that the first crash had left is older than the second one's effects.
            let last_min = if acknowledged { next + 2 } else { next - 1 };
            let bounds = Bounds { last_min, last_max: next + 2, ..bounds };
            check(&replay.image(kept), bounds, images, &|| format!("{}, again {kept:?} at {at}", place()));
        }
        if !replay.step() {
            break;
        }
    }
    images.again += 1;
}

/// A process that died, and a bit that flips: the record is missing and said to be, and nothing acknowledged is cut.
fn check_flip(image: &SimDisk, bounds: Bounds, chance: &mut Chance, images: &mut Images, place: &dyn Fn() -> String) {
    let files = image.files();
    let Some((path, length)) = files.get(chance.below(files.len().max(1) as u64) as usize) else { return };
    if *length == 0 {
        return;
    }
    let (byte, bit) = (chance.below(*length), chance.below(8));
    let place = || format!("{}, {} byte {byte} bit {bit}", place(), path.display());
    images.seen += 1;
    let image = image.flipped(path, byte, bit as u32);
    let (log, recovered) = open(&image, small()).unwrap_or_else(|error| panic!("{}: {error}", place()));
    let found = read_all(&log, recovered.first);
    for position in bounds.first_max.max(1)..=bounds.last_min {
        let is_said = hides(&found.damages, position) || hides(&recovered.damages, position);
        assert!(is_said || found.positions.contains(&position), "{}: {position} {recovered:?}", place());
    }
    assert!(recovered.next > bounds.last_min && !recovered.cut_may_be_written, "{}: {recovered:?}", place());
}

fn crash_everywhere(seed: u64) -> Images {
    let (disk, promises) = workload(seed);
    let mut chance = Chance(!seed);
    let mut images = Images::default();
    let mut replay = Replay::new(&disk);
    loop {
        let at = replay.at();
        let promise = promises[promises.partition_point(|promise| promise.effects <= at) - 1];
        let bounds = |kept| Bounds {
            first_max: promise.retired,
            last_min: if kept == Kept::Killed { promise.written } else { promise.durable },
            last_max: promise.asked,
        };
        for kept in kinds(&replay, 1..65, 4, &mut chance) {
            let place = || format!("seed {seed}, {kept:?} after {at} effects");
            let image = replay.image(kept);
            let next = check(&image, bounds(kept), &mut images, &place);
            if images.seen.is_multiple_of(AGAIN_EVERY) {
                crash_again(&image, next, bounds(kept), &mut images, &place);
            }
        }
        let place = || format!("seed {seed}, killed after {at} effects");
        check_flip(&replay.image(Kept::Killed), bounds(Kept::Killed), &mut chance, &mut images, &place);
        if !replay.step() {
            return images;
        }
    }
}

#[test]
fn no_crash_loses_or_invents_a_record() {
    crash(IMAGES_DEFAULT, crash_everywhere);
}
