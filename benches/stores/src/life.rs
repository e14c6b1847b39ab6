//! What only ours is asked: how long it takes to open what a process has left, and to let old events go.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use ringmain::store::{EventStore, LogStore, Retention};

use crate::folder::Folder;
use crate::rounds::Effort;
use crate::subject::{Ringmain, Subject, Word, events};

/// What is said when the store is filled.
const FILLED: &str = "filled";
/// Opening takes no longer, however many events there are.
const REOPEN_MAX: Duration = Duration::from_secs(1);
/// Letting half a million events go takes no longer.
const RETIRE_MAX: Duration = Duration::from_millis(100);

/// Fills a store, says so, and waits: for its end, which comes as a kill, or as the end of its input.
pub(crate) fn fill_and_wait(folder: &Path, total: u64) -> ExitCode {
    let events = events();
    let ours = Ringmain::open(folder, Word::Written);
    (0..total / events.len() as u64).for_each(|_| ours.append(&events));
    println!("{FILLED}");
    io::stdout().flush().expect("somebody listens");
    let read = io::stdin().read_line(&mut String::new());
    // It was killed before, or is to close.
    read.expect("the input can be read");
    ours.store.close().expect("the disk works");
    ExitCode::SUCCESS
}

/// Has another process fill a store, and end by being killed, or by closing.
fn fill(folder: &Folder, total: u64, is_killed: bool) {
    let itself = env::current_exe().expect("the system knows this program");
    let mut child = Command::new(itself)
        .arg("--fill")
        .arg(folder.path())
        .args(["--events", &total.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be run again");
    let mut said = String::new();
    BufReader::new(child.stdout.take().expect("it was asked for")).read_line(&mut said).expect("it says something");
    assert_eq!(said.trim_end(), FILLED);
    if is_killed {
        child.kill().expect("it is ours");
    }
    // Its input ends with this.
    let status = child.wait().expect("it is ours");
    assert_eq!(status.success(), !is_killed, "{status}");
}

/// Opens what was closed, and what a killed process left.
pub(crate) fn reopen(effort: Effort, base: &Folder) {
    println!();
    for (total, is_killed) in [(1_000_000, false), (1_000_000, true), (10_000_000, false), (10_000_000, true)] {
        let total = effort.events(total);
        let mut times = Vec::new();
        // It takes long to fill, and is no race.
        for _ in 0..effort.rounds.min(3) {
            let folder = Folder::new(base.path());
            fill(&folder, total, is_killed);
            let begun = Instant::now();
            let store = LogStore::open(folder.path()).expect("the disk works");
            times.push(begun.elapsed());
            assert_eq!(store.head().expect("it can be read").map(|head| head.get()), Some(total), "nothing is lost");
        }
        let how = if is_killed { "killed" } else { "closed" };
        say(&format!("reopening {total} events, {how}"), times, REOPEN_MAX);
    }
}

/// Removes old events.
pub(crate) fn retire(effort: Effort, base: &Folder) {
    let total = effort.events(2_000_000);
    let events = events();
    let mut times = Vec::new();
    let mut removed = 0;
    for _ in 0..effort.rounds.min(3) {
        let folder = Folder::new(base.path());
        let ours = Ringmain::open(folder.path(), Word::Written);
        (0..total / events.len() as u64).for_each(|_| ours.append(&events));
        let bytes = ours.store.stats().event_bytes;
        let begun = Instant::now();
        let upkeep = ours.store.keep(Retention::forever().bytes_max(bytes / 4 * 3)).expect("the disk works");
        times.push(begun.elapsed());
        removed = upkeep.removed_events;
    }
    say(&format!("retiring {removed} of {total} events"), times, RETIRE_MAX);
}

fn say(what: &str, mut times: Vec<Duration>, max: Duration) {
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let verdict = if median <= max { "reached" } else { "missed" };
    println!("{what}: {median:.1?}, at most {worst:.1?}; to be {max:?}: {verdict}");
}
