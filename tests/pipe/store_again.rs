//! What `ringmain store` does a second time: imports what is there, replays, archives, compacts; and what a crash leaves.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringmain::store::{DurableSubscription, LogStore, Position, Retention};
use serde_json::Value;

use crate::folder::Folder;
use crate::store::{append, ask, ids, run, store};
use crate::volume::made;
use crate::{Run, finish};

fn lines(first: u64, last: u64) -> String {
    (first..=last).map(|at| format!("{{\"type\":\"a.b\",\"id\":\"n{at}\",\"data\":{at}}}\n")).collect()
}

fn import(data: &Path, flags: &str, input: impl Into<Vec<u8>>) -> Run {
    run(store("import", data, flags), input)
}

#[test]
fn importing_a_file_twice_keeps_one_of_each_event() {
    let folder = Folder::new("pipe-import-twice");
    let [data, file] = ["data", "events.ndjson"].map(|name| folder.0.join(name));
    fs::write(&file, lines(1, 3_000)).expect("it can be written");
    let name = file.display().to_string();
    // One that was stopped: some of it is there, and one line stands twice.
    assert_eq!(append(&data, "", lines(1, 1_700)).code(), Some(0));
    let first = ask("import", &data, &name);
    let said = "ringmain: 1,300 events appended, 1,700 were there already, 0 lines malformed, 0 refused\n";
    assert_eq!((first.code(), &*first.stderr), (Some(0), said));
    let again = ask("import", &data, &name);
    let said = "ringmain: 0 events appended, 3,000 were there already, 0 lines malformed, 0 refused\n";
    assert_eq!((again.code(), &*again.stderr), (Some(0), said));
    let wanted: Vec<_> = (1..=3_000).map(|at| format!("n{at}")).collect();
    assert_eq!(ids(&ask("query", &data, "")), wanted);
    // Also among its own lines; what has no id is new each time.
    let twice = import(&data, "", lines(3_000, 3_001).repeat(2) + "{\"type\":\"a\"}\n{\"type\":\"a\"}\n");
    let said = "ringmain: 3 events appended, 3 were there already, 0 lines malformed, 0 refused\n";
    assert_eq!((twice.code(), &*twice.stderr), (Some(0), said));
    let all = ask("import", &data, &format!("--all {name}"));
    assert_eq!(all.stderr, "ringmain: 3,000 events appended, 0 lines malformed, 0 refused\n");
    let stats: Value = serde_json::from_str(&ask("stats", &data, "--json").stdout).expect("it is JSON");
    assert_eq!(stats["events"], 6_003);
    let full = import(&data, "--ids-max 3003", lines(9_000, 9_001));
    assert_eq!(full.code(), Some(1));
    assert!(full.stderr.contains("more than 3,003 events") && full.stderr.contains("--all"), "{}", full.stderr);
}

#[test]
fn a_replay_is_marked_and_a_dry_run_says_how_long_it_takes() {
    let folder = Folder::new("pipe-replay");
    let input = lines(1, 40)
        + "{\"specversion\":\"1.0\",\"id\":\"old\",\"source\":\"s\",\"type\":\"c\",\"time\":\"2001-01-01T00:00:00Z\",\"replay\":true}\n";
    assert_eq!(append(&folder.0, "", input).code(), Some(0));
    let all = ask("replay", &folder.0, "");
    assert_eq!((all.code(), all.events().len()), (Some(0), 41), "{}", all.stderr);
    for (nth, event) in all.events().iter().enumerate() {
        assert_eq!((&event["replay"], &event["position"]), (&Value::Bool(true), &Value::String((nth + 1).to_string())));
    }
    assert_eq!(all.stdout.matches("\"replay\"").count(), 41, "once, also where it was replayed before");
    let some = ask("replay", &folder.0, "--from 3 --to 7 --type a.*");
    assert_eq!(ids(&some), ["n3", "n4", "n5", "n6", "n7"]);
    assert_eq!(ids(&ask("replay", &folder.0, "--to 2002-01-01T00:00:00Z")), ["old"]);
    assert_eq!(ids(&ask("replay", &folder.0, "--from 2002-01-01T00:00:00Z --to 41")).len(), 40);
    let dry = ask("replay", &folder.0, "--type a.b --rate 10 --dry-run");
    let said = dry.stdout;
    assert!(said.starts_with("40 events would be replayed, ") && said.contains("from position 1 to 40; "), "{said}");
    assert!(said.ends_with("at 10 a second that takes 3.9 s\n"), "{said}");
    assert_eq!(ask("replay", &folder.0, "--from 99 --dry-run").stdout, "0 events would be replayed, 0 B\n");
    let begun = Instant::now();
    assert_eq!(ask("replay", &folder.0, "--from 1 --to 21 --rate 100").events().len(), 21);
    assert!(begun.elapsed() >= Duration::from_millis(200), "20 events behind the first: {:?}", begun.elapsed());
}

#[test]
fn a_slow_replay_hands_each_line_over_when_it_is_due() {
    let folder = Folder::new("pipe-replay-slow");
    assert_eq!(append(&folder.0, "", lines(1, 3)).code(), Some(0));
    let mut child = store("replay", &folder.0, "--rate 0.001").spawn().expect("the binary starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("UTF-8");
    assert!(line.contains("\"n1\""), "the first is not held back for the second: {line}");
    child.kill().expect("it waits");
    child.wait().expect("it was started");
}

#[test]
fn archive_says_what_it_will_do_and_does_it() {
    let folder = Folder::new("pipe-archive-dry");
    let data = "x".repeat(50_000);
    let input: String =
        (0..400).map(|at| format!("{{\"type\":\"a\",\"id\":\"n{at}\",\"data\":\"{data}\"}}\n")).collect();
    assert_eq!(append(&folder.0, "--segment-bytes 8388608", input).code(), Some(0));
    let dry = ask("archive", &folder.0, "--older-than 0s --dry-run");
    assert!(dry.stdout.starts_with("2 files of 16.0 MiB"), "{}", dry.stdout);
    assert!(dry.stdout.contains("zstd, its fastest level; 0 events in 0 files will be removed"), "{}", dry.stdout);
    let done = ask("archive", &folder.0, "--older-than 0s");
    assert_eq!(done.stderr, format!("ringmain: {}", dry.stdout), "it says so before");
    assert!(done.stdout.starts_with("2 files compressed, 15."), "{}", done.stdout);
    let none = ask("archive", &folder.0, "--older-than 0s --dry-run");
    assert!(none.stdout.starts_with("0 files of 0 B"), "{}", none.stdout);
    // Who asks for what was removed is told, and given the rest.
    assert_eq!(ask("archive", &folder.0, "--max-bytes 5000000").code(), Some(0));
    let left = ask("query", &folder.0, "");
    let rest = ask("query", &folder.0, "--after 1");
    assert_eq!((left.code(), rest.code()), (Some(0), Some(1)));
    assert!(
        rest.stdout == left.stdout && rest.stderr.contains(" were removed before they were read"),
        "{}",
        rest.stderr
    );
}

#[test]
fn archive_says_what_it_keeps_and_for_whom_until_it_is_told_not_to() {
    let folder = Folder::new("pipe-archive-held");
    let data = "x".repeat(50_000);
    let input: String =
        (0..600).map(|at| format!("{{\"type\":\"a\",\"id\":\"n{at}\",\"data\":\"{data}\"}}\n")).collect();
    assert_eq!(append(&folder.0, "--segment-bytes 8388608", input).code(), Some(0));
    let events = Arc::new(LogStore::builder(&folder.0).retention(Retention::forever()).open().expect("the disk works"));
    let subscribe = |name: &str, at: u64| {
        let builder = DurableSubscription::builder(events.clone(), events.clone(), name);
        drop(builder.begin_behind(Position::new(at)).open().expect("the disk works"));
    };
    subscribe("billing", 10);
    // It has passed the first file.
    subscribe("mail", 200);
    drop(events);
    let dry = ask("archive", &folder.0, "--remove-older-than 0s --dry-run").stdout;
    let lines: Vec<_> = dry.lines().collect();
    assert!(lines[0].ends_with("; 0 events in 0 files will be removed"), "{dry}");
    let one = "at positions 1 to 167 are kept for durable subscription \"billing\", which is at position 10";
    assert!(lines[1].ends_with(one), "{dry}");
    let both = [
        "durable subscription \"mail\", which is at position 200",
        "durable subscription \"billing\", which is at position 10",
    ];
    assert!(lines[2].ends_with(&format!(" are kept for {}", both.join(", and for "))), "{dry}");
    assert_eq!(lines.len(), 3, "{dry}");
    let done = ask("archive", &folder.0, "--remove-older-than 0s").stdout;
    assert_eq!(done.lines().skip(1).collect::<Vec<_>>(), lines[1..], "{done}");
    let told = ask("archive", &folder.0, "--remove-older-than 0s --remove-unread-older-than 0s").stdout;
    assert!(told.ends_with(" files removed\n") && !told.contains(" 0 events in 0 files removed"), "{told}");
    let rest = ask("query", &folder.0, "");
    assert!(rest.events().len() < 300 && rest.code() == Some(0));
}

#[test]
fn compacting_says_what_it_came_to() {
    let folder = Folder::new("pipe-compact");
    assert_eq!(append(&folder.0, "", lines(1, 3)).code(), Some(0));
    let run = ask("compact", &folder.0, "");
    assert_eq!((run.code(), &*run.stdout), (Some(0), "0 B of snapshots and state became 0 B, 0 files removed\n"));
    assert_eq!(ask("verify", &folder.0, "").code(), Some(0));
}

#[test]
fn a_store_that_is_in_use_is_refused_by_every_command() {
    let folder = Folder::new("pipe-in-use");
    let mut child = store("append", &folder.0, "--ack").spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    writeln!(stdin, r#"{{"type":"a"}}"#).expect("it reads");
    stdout.read_line(&mut String::new()).expect("UTF-8");
    let mut refused = 0;
    for command in ["append", "query", "export", "import", "stats", "verify", "archive", "replay", "compact"] {
        let run = ask(command, &folder.0, "");
        let wanted = format!("ringmain: {} is in use: another process has this store open", folder.0.display());
        assert!(run.code() == Some(1) && run.stderr.starts_with(&wanted), "{command}: {}", run.stderr);
        refused += 1;
    }
    for flags in ["list", "show 1", "redrive --all", "purge --all"] {
        let run = crate::dlq::dlq(&folder.0, flags);
        assert!(run.code() == Some(1) && run.stderr.contains(" is in use: "), "{flags}: {}", run.stderr);
        refused += 1;
    }
    let run = crate::run(&format!("--data {}", folder.0.display()), "");
    assert!(run.code() == Some(1) && run.stderr.contains(" is in use: "), "{}", run.stderr);
    assert_eq!(refused, 13);
    drop(stdin);
    assert_eq!(finish(child).code(), Some(0));
}

#[test]
fn pipe_says_what_it_found_of_the_store_and_takes_the_size_of_segments() {
    let folder = Folder::new("pipe-found");
    let flags = format!("--quiet --summary json --segment-bytes 8388608 --data {}", folder.0.display());
    assert_eq!(crate::run(&flags, lines(1, 100)).code(), Some(0));
    let files = || fs::read_dir(&folder.0).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    let segment = files().find(|path| path.extension().is_some_and(|end| end == "log")).expect("a segment");
    assert_eq!(fs::metadata(&segment).expect("it is there").len(), 8 << 20);
    let mut bytes = fs::read(&segment).expect("it can be read");
    let place = bytes.windows(3).rposition(|bytes| bytes == b"n50").expect("an event is in it");
    bytes[place] ^= 1;
    fs::write(&segment, bytes).expect("it can be written");
    let run = crate::run(&flags, lines(101, 102));
    let (_, said) = run.summary();
    assert_eq!((run.code(), said.len()), (Some(0), 1), "{}", run.stderr);
    assert!(said[0].starts_with("ringmain: the body of a record is damaged: "), "{}", said[0]);
    assert!(said[0].contains(" from byte "), "{}", said[0]);
    let refused = crate::run("--segment-bytes 8388608", "");
    assert_eq!(refused.code(), Some(2), "without --data it means nothing: {}", refused.stderr);
}

/// As many events as RINGMAIN_ROUNDTRIP_EVENTS says go through two stores, and come out the same to the byte. Needs some
/// 700 bytes of disk an event, in the folder for temporary files, and nothing else grows with their number but ids.
#[test]
fn a_round_trip_of_many_events_is_the_same_to_the_byte() {
    let events = env::var("RINGMAIN_ROUNDTRIP_EVENTS").map_or(100_000, |number| number.parse().expect("a number"));
    let folder = Folder::new("pipe-roundtrip");
    let [one, two] = ["one", "two"].map(|name| folder.0.join(name));
    let begun = Instant::now();
    let told = |what: &str| println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
    // Never as a whole in memory.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ci/make-events");
    let mut maker =
        Command::new(script).arg(events.to_string()).stdout(Stdio::piped()).spawn().expect("the script runs");
    let mut importing = store("import", &one, "");
    let imported = importing.stdin(maker.stdout.take().expect("piped")).output().expect("the binary starts");
    assert!(maker.wait().expect("it was started").success() && imported.status.success(), "{imported:?}");
    told("imported");
    let mut exporter = store("export", &one, "").stderr(Stdio::null()).spawn().expect("the binary starts");
    let mut copying = store("import", &two, "");
    let copied = copying.stdin(exporter.stdout.take().expect("piped")).output().expect("the binary starts");
    assert!(exporter.wait().expect("it was started").success() && copied.status.success(), "{copied:?}");
    told("exported and imported");
    let [mut first, mut second] = [&one, &two].map(|data| {
        let mut command = store("export", data, "");
        command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
    });
    let (mut ours, mut theirs) = (first.stdout.take().expect("piped"), second.stdout.take().expect("piped"));
    let (mut lines, mut bytes) = (0_u64, 0_u64);
    let (mut piece, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = ours.read(&mut piece).expect("it can be read");
        theirs.read_exact(&mut other[..length]).expect("it has as much");
        assert!(piece[..length] == other[..length], "they differ within {length} bytes from byte {bytes}");
        if length == 0 {
            break;
        }
        lines += piece[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes += length as u64;
    }
    assert_eq!(theirs.read(&mut other).expect("it can be read"), 0, "nothing more");
    assert!(first.wait().expect("it runs").success() && second.wait().expect("it runs").success());
    told("exported twice and compared");
    assert_eq!(lines, events);
    println!("{events} events, {bytes} bytes of lines");
}

#[test]
fn what_is_made_is_what_is_imported() {
    // The made events have no ids: each import of them is new.
    let folder = Folder::new("pipe-made-twice");
    for _ in 0..2 {
        assert_eq!(import(&folder.0, "", made(50)).code(), Some(0));
    }
    assert_eq!(ask("query", &folder.0, "").events().len(), 100);
}

#[test]
fn a_pipe_whose_reader_ends_is_no_error_of_a_replay() {
    let folder = Folder::new("pipe-replay-end");
    assert_eq!(append(&folder.0, "", lines(1, 20_000)).code(), Some(0));
    let mut child = store("replay", &folder.0, "").spawn().expect("the binary starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("UTF-8");
    let run = thread::spawn(move || finish(child)).join().expect("it does not panic");
    assert_eq!((run.code(), &*run.stderr), (Some(0), ""));
}
