//! How a run ends: by its input, by its reader, by what cannot be written.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::thread;

use crate::{finish, pipe, run};

#[test]
fn no_input_is_no_error() {
    let run = run("--summary json", "");
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), ""));
    let (summary, _) = run.summary();
    assert_eq!(run.counts(["published", "delivered"]), [0, 0]);
    assert_eq!((&summary["ledger_balanced"], &summary["events_per_second"]), (&true.into(), &0.0.into()));
}

#[test]
fn the_table_is_the_default_summary_and_no_progress_is_shown_where_nobody_looks() {
    let run = run("", "{\"type\":\"a\"}\n");
    assert!(
        run.stderr.starts_with("events                      deliveries\n  published             1"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("ledger   balanced\n"), "{}", run.stderr);
}

#[test]
fn a_line_is_delivered_while_stdin_stays_open() {
    let mut child = pipe("").spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    for at in 0..3 {
        writeln!(stdin, r#"{{"type":"a","data":{at}}}"#).expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("UTF-8");
        assert!(line.ends_with(&format!("\"data\":{at}}}\n")), "{line}");
    }
    drop(stdin);
    assert_eq!(finish(child).code(), Some(0));
}

#[test]
fn a_reader_that_has_enough_ends_the_run_quietly() {
    for flags in ["", "--on ** --on a"] {
        let mut child = pipe(flags).spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        // Until the process is gone; what it has written does not fit into the pipe to a reader that stopped.
        let feeder = thread::spawn(move || while stdin.write_all(b"{\"type\":\"a\"}\n").is_ok() {});
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("UTF-8");
        assert!(line.ends_with("}\n"), "{line}");
        drop(stdout);
        let run = finish(child);
        feeder.join().expect("feeding does not panic");
        assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""), "{flags}");
    }
}

#[test]
fn a_full_disk_is_said_with_exit_code_1() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut child = pipe("").stdout(full).spawn().expect("the binary starts");
    child.stdin.take().expect("piped").write_all(b"{\"type\":\"a\"}\n").expect("it reads");
    let run = finish(child);
    assert_eq!(run.code(), Some(1));
    assert_eq!(run.stderr, "ringmain: stdout cannot be written: No space left on device (os error 28)\n");
}

#[test]
fn unreadable_input_is_said_with_exit_code_1_and_a_summary() {
    let directory = File::open("/").expect("every system has a root");
    let run = finish(pipe("--summary json").stdin(Stdio::from(directory)).spawn().expect("the binary starts"));
    assert_eq!(run.code(), Some(1));
    assert_eq!(run.summary().1, ["ringmain: stdin cannot be read: Is a directory (os error 21)"]);
}

#[test]
fn wrong_flags_end_with_exit_code_2_and_help() {
    for (flags, part) in [
        ("--on a..b", "the pattern has an empty segment at byte 2"),
        ("--idle sleep", "[possible values: busy-spin, yield, backoff, park, adaptive]"),
        ("--workers 17", "17 is not in 1..=16"),
        ("--capacity 0", "0 is not in 1..=1000000"),
    ] {
        let run = run(flags, "");
        assert_eq!(run.code(), Some(2), "{flags}");
        assert!(run.stderr.contains(part) && run.stderr.contains("--help"), "{}", run.stderr);
    }
}
