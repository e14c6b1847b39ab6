//! The kernel fails the nth write or sync of a process, or kills it there, for every n: what it had acknowledged is there, what it
//! was refused is said, and the store can be opened again. By strace, on a real disk.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query};
use ringmain::{Bus, Payload};

use crate::books::Asked;
use crate::folder::Folder;
use crate::killed::{CHILD_FOLDER, child_folder};

const THIS: &str = "strace::a_call_that_fails_costs_nothing_that_was_acknowledged";
/// Appends of a child; enough for several segments.
const APPENDS: u64 = 12;
/// Of one or two events each.
const EVENT_BYTES: usize = 900;
/// More than the calls of any child.
const CALLS_MAX: u32 = 200;

fn open(folder: &Path) -> LogStore {
    LogStore::builder(folder).segment_bytes(4_096).event_bytes_max(3_000).open().expect("it can be opened")
}

/// Appends and says each event that is durable; after an error, whether the store takes anything more.
fn child(folder: &Path) {
    let mut stdout = std::io::stdout().lock();
    let mut say = |line: String| writeln!(stdout, "\n{line}").expect("the parent reads");
    let store = match LogStore::builder(folder).segment_bytes(4_096).event_bytes_max(3_000).open() {
        Ok(store) => store,
        Err(error) => return say(format!("not opened: {error}")),
    };
    let bus = Asked(Bus::builder().workers(1).build().expect("a bus"));
    let mut publisher = bus.publisher().expect("a publisher");
    let padding = "x".repeat(EVENT_BYTES);
    let mut next = store.head().expect("the disk works").map_or(0, |head| head.get());
    for _ in 0..APPENDS {
        let frames: Vec<_> = (0..1 + next % 2)
            .map(|nth| {
                let text = format!("{} {padding}", next + nth);
                publisher.event().to_frame("a", Payload::plain_text(&text)).expect("it is short")
            })
            .collect();
        match store.append(&frames, ExpectedVersion::Any, Durability::Durable) {
            Ok(_) => next += frames.len() as u64,
            Err(error) => {
                say(format!("refused: {error}"));
                let again = store.append(&frames, ExpectedVersion::Any, Durability::Durable);
                return say(format!("again: {}", if again.is_ok() { "taken" } else { "refused" }));
            }
        }
        say(format!("durable {next}"));
    }
    say("done".to_owned());
}

/// What a child said.
#[derive(Debug, Default)]
struct Said {
    durable: u64,
    refused: Option<String>,
    taken_again: bool,
    is_done: bool,
}

/// Runs a child whose calls of this kind meet this, the nth of each thread.
fn run(folder: &Path, call: &str, inject: &str, nth: u32) -> Said {
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:{inject}:when={nth}"))
        .arg(env::current_exe().expect("the test is a program"))
        .args(["--exact", THIS, "--nocapture", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .stderr(Stdio::null())
        .output()
        .expect("strace can be started");
    let mut said = Said::default();
    for line in String::from_utf8_lossy(&traced.stdout).lines() {
        if let Some(durable) = line.strip_prefix("durable ") {
            said.durable = durable.parse().expect("a number");
        } else if let Some(error) = line.strip_prefix("refused: ").or(line.strip_prefix("not opened: ")) {
            said.refused = Some(error.to_owned());
        }
        said.taken_again |= line == "again: taken";
        said.is_done |= line == "done";
    }
    said
}

/// Whether strace is there and may trace: it says so where not.
fn has_strace() -> bool {
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let is_there = probe.is_ok_and(|status| status.success());
    if !is_there {
        // To stderr itself: a test's own is shown only when it fails.
        let _ = writeln!(std::io::stderr(), "strace: SKIP: there is none, or it may trace nothing; see ci/setup");
    }
    is_there
}

/// Every event of the store, which holds those that were acknowledged, and none that was not appended.
fn check(folder: &Path, said: &Said, what: &str) {
    let store = open(folder);
    let texts = Query::new().stream(&store).map(|event| event.unwrap_or_else(|error| panic!("{what}: {error}")));
    let numbers: Vec<u64> = texts
        .map(|event| event.payload().text().and_then(|text| text.split(' ').next()?.parse().ok()).expect("a number"))
        .collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{what}: each once, in order");
    let kept = numbers.len() as u64;
    assert!(kept >= said.durable, "{what}: {kept} are there, {} were acknowledged", said.durable);
    assert!(kept <= said.durable + 2, "{what}: {kept} are there, more than the batch under way");
}

#[test]
fn a_call_that_fails_costs_nothing_that_was_acknowledged() {
    if let Some(folder) = child_folder() {
        return child(Path::new(&folder));
    }
    if !has_strace() {
        return;
    }
    for (call, inject) in [
        ("fdatasync", "error=EIO"),
        ("fdatasync", "signal=KILL"),
        ("pwrite64", "error=EIO"),
        ("pwrite64", "error=ENOSPC"),
        // A write that writes nothing, and says so.
        ("pwrite64", "retval=0"),
        ("pwrite64", "signal=KILL"),
    ] {
        let mut met = 0;
        for nth in 1..=CALLS_MAX {
            let what = format!("{inject} at the {nth}. {call}");
            let folder = Folder::new("strace");
            let said = run(&folder.0, call, inject, nth);
            check(&folder.0, &said, &what);
            if said.is_done {
                break;
            }
            met += 1;
            assert!(nth < CALLS_MAX, "{what}: it has no end");
            if !inject.starts_with("signal") {
                let error = said.refused.clone().unwrap_or_else(|| panic!("{what}: it was not said: {said:?}"));
                assert!(error.contains("cannot ") || error.contains("os error") || error.contains("room"), "{error}");
                // A full disk may end nothing: then it goes on when there is room.
                let may_go_on = inject == "error=ENOSPC";
                assert!(!said.taken_again || may_go_on, "{what}: what failed is believed later");
            }
        }
        assert!(met >= APPENDS as u32 / 2, "{inject} {call}: only {met} calls were met");
    }
}
