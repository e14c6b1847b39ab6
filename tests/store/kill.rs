//! A process that appends is killed, again and again, on a real disk: what it had acknowledged is there.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ringmain::internals::store::{Log, LogOptions, RealDisk};

use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::support::{Chance, batch, read_all};

const KILLS: u64 = 50;
const THIS: &str = "kill::a_killed_process_loses_nothing_that_it_acknowledged";

fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = 32 << 10;
    options.record_bytes_max = 16 << 10;
    options
}

/// Appends until it is killed, and says each position when it is written.
fn child(folder: &Path) -> ! {
    let (mut log, recovered) = Log::open(Arc::new(RealDisk), folder, options()).expect("the disk works");
    let mut chance = Chance(recovered.next);
    let mut stdout = std::io::stdout().lock();
    loop {
        let next = log.next_position();
        let written = log.append(&batch(next, 1 + chance.below(6))).expect("the disk works");
        writeln!(stdout, "\nwritten {}", written.end - 1).expect("the parent reads");
        match chance.below(40) {
            0..4 => drop(log.sync().expect("the disk works")),
            4 => drop(log.truncate_before(next.saturating_sub(500)).expect("the disk works")),
            _ => {}
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("kill");
    let mut chance = Chance(7);
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let before = acknowledged;
        kill_after(1 + chance.below(120), THIS, &folder.0, |line| {
            let position = line.strip_prefix("written ").and_then(|position| position.parse().ok());
            acknowledged = position.unwrap_or(acknowledged);
            position.is_some()
        });
        assert!(acknowledged > before, "kill {kill}: it appended before it was killed");
        let (log, recovered) = Log::open(Arc::new(RealDisk), &folder.0, options()).expect("it can be opened");
        assert!(recovered.next > acknowledged, "kill {kill}: {recovered:?}, acknowledged {acknowledged}");
        assert!(recovered.damages.is_empty(), "kill {kill}: {recovered:?}");
        let found = read_all(&log, recovered.first);
        assert_eq!(found.positions, (recovered.first..recovered.next).collect::<Vec<_>>(), "kill {kill}");
        assert_eq!(found.batch_left, 0, "kill {kill}: half a batch");
    }
    assert!(acknowledged > KILLS * 50, "{acknowledged}");
}
