//! What logs, tables and stores all go through: each call to the disk fails in turn, and a crash at every step leaves every kind
//! of disk.

use std::env;
use std::ops::AddAssign;

use ringmain::internals::store::sim::{Failure, Kept, Replay, SimDisk};

use crate::proof::say;
use crate::support::Chance;

/// Lets each call to the disk fail in turn; gives all operations that the workload was told had failed.
fn fail_each_call(failure: Failure, workload: impl Fn(&SimDisk) -> Vec<&'static str>) -> Vec<&'static str> {
    let undisturbed = SimDisk::new();
    workload(&undisturbed);
    let mut said = Vec::new();
    for nth in 1..=undisturbed.operations() {
        let disk = SimDisk::new();
        disk.fail_at(nth, failure);
        said.extend(workload(&disk));
    }
    said.sort_unstable();
    said.dedup();
    said
}

/// Each kind of failure at each call of a workload that goes on after it: what is said of it.
pub(crate) fn survive_every_failure(workload: impl Fn(&SimDisk) -> Vec<&'static str> + Copy) {
    let all = [
        "allocate room for",
        "create",
        "create the folder",
        "list",
        "lock",
        "measure",
        "open",
        "read",
        "remove",
        "sync",
        "sync the folder",
        "truncate",
        "write",
    ];
    let said = fail_each_call(Failure::Device, workload);
    assert_eq!(said, all, "every kind of call failed, and was said to");
    let said = fail_each_call(Failure::Full, workload);
    assert!(said.contains(&"allocate room for") && said.contains(&"write"), "{said:?}");
    assert_eq!(fail_each_call(Failure::Interrupted, workload), ["sync", "sync the folder"]);
    assert_eq!(fail_each_call(Failure::Short, workload), [""; 0], "a short read or write goes unnoticed");
}

/// Disks after crashes that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Images {
    pub(crate) seen: u64,
    pub(crate) with_cut: u64,
    /// Of those, crashed again while what was left was worked on.
    pub(crate) again: u64,
    pub(crate) retired_segments: u64,
}

impl AddAssign<&Images> for Images {
    fn add_assign(&mut self, more: &Images) {
        self.seen += more.seen;
        self.with_cut += more.with_cut;
        self.again += more.again;
        self.retired_segments += more.retired_segments;
    }
}

/// Crashes one workload after another, by their seeds, until there are so many images, or as many as the environment says
/// (`RINGMAIN_CRASH_IMAGES`), from the seed on that it says (`RINGMAIN_CRASH_FIRST`). Returns them, and how many workloads.
pub(crate) fn crash(images_default: u64, crash_everywhere: impl Fn(u64) -> Images) -> (Images, u64) {
    let wanted = env::var("RINGMAIN_CRASH_IMAGES").map_or(images_default, |count| count.parse().expect("a number"));
    let first = env::var("RINGMAIN_CRASH_FIRST").map_or(0, |seed| seed.parse().expect("a number"));
    let (mut images, mut workloads) = (Images::default(), 0);
    while images.seen < wanted {
        images += &crash_everywhere(first + workloads);
        workloads += 1;
    }
    say(&format!("images: {}", images.seen));
    println!("{images:?} of {workloads} workloads");
    assert!(images.with_cut > wanted / 100 && images.again > wanted / 1_000, "{images:?}");
    (images, workloads)
}

/// Every kind of disk that a crash may leave where the replay stands: of those by chance so many, and the last write torn after
/// `torn` bytes and at each sector.
pub(crate) fn kinds(
    replay: &Replay,
    torn: impl IntoIterator<Item = usize>,
    by_chance: u64,
    chance: &mut Chance,
) -> Vec<Kept> {
    let pending = replay.pending();
    let mut kinds = vec![Kept::Killed, Kept::Nothing];
    kinds.extend((1..pending).map(Kept::Oldest));
    if let Some(length) = replay.newest_write_bytes() {
        let bytes = torn.into_iter().filter(|bytes| *bytes < length).chain((512..length).step_by(512));
        kinds.extend(bytes.map(|bytes| Kept::Torn { effects: pending, bytes }));
    }
    if pending > 1 {
        kinds.extend((0..by_chance).map(|_| Kept::Chance(chance.below(u64::MAX))));
    }
    kinds
}
