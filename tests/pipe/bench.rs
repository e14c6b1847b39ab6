//! `ringmain bench`: every question answered, every event arrived, a plot that browsers read. Nothing is asked of times.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::{Run, finish};

const IDLE: [&str; 5] = ["busy-spin", "yield", "backoff", "park", "adaptive"];

fn bench(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    command.arg("bench").args(flags.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> Run {
    finish(command.spawn().expect("the binary starts"))
}

/// A file that this test alone uses, not there yet.
fn fresh(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It is there only after an earlier run.
    let _ = fs::remove_file(&path);
    path
}

/// Every figure there can be.
fn all_questions() -> BTreeSet<String> {
    let latency = IDLE.iter().flat_map(|idle| [10_000, 1_000].map(|pace| format!("latency/{idle}/{pace}")));
    let throughput = ["many", "single"]
        .iter()
        .flat_map(|form| ["every", "1-in-64"].map(|stamps| format!("throughput/{form}/{stamps}")));
    let others = ["round_trip/line", "round_trip/event", "latency/adaptive/10000/unpinned", "wake/1000"];
    latency.chain(throughput).chain(others.map(str::to_owned)).collect()
}

fn texts<'a>(lines: &'a [Value], record: &str, field: &str) -> Vec<&'a str> {
    let lines = lines.iter().filter(|line| line["record"] == record);
    lines.map(|line| line[field].as_str().unwrap_or_else(|| panic!("{field} in {line}"))).collect()
}

/// Checks that tags open and close in pairs, and returns how often `<path class="line s?" data-idle=..` names each strategy.
fn lines_of(svg: &str) -> Vec<(&'static str, usize)> {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("each tag ends");
        assert!(tag.matches('"').count().is_multiple_of(2) && !text.contains('"'), "quotes come in pairs: {piece}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).expect("each tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "tags close in order");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "each point is a number");
    IDLE.into_iter().map(|idle| (idle, svg.matches(&format!("data-idle=\"{idle}\"")).count())).collect()
}

#[test]
fn every_declared_question_is_answered_and_every_event_arrives() {
    let plot = fresh("bench-all.svg");
    let run = run(bench("--seconds 3 --json --plot").arg(&plot));
    assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""));
    let lines = run.events();
    let (machine, figures) = (&lines[0], lines.iter().filter(|line| line["record"] == "figure"));
    assert_eq!(machine["record"], "machine");

    let answered = texts(&lines, "figure", "question");
    assert_eq!(machine["questions"], Value::from(answered.clone()));
    let left_out = texts(&lines, "left_out", "what");
    let asked: BTreeSet<_> = answered.iter().chain(&left_out).map(|&name| name.to_owned()).collect();
    assert!(asked.is_superset(&all_questions()), "{asked:?}");

    let rounds = machine["rounds"].as_u64().expect("a count");
    for figure in figures {
        let number = |field: &str| figure[field].as_f64().unwrap_or_else(|| panic!("{field} in {figure}"));
        let (low, median, high) = (number("low"), number("median"), number("high"));
        assert!(0.0 < low && low <= median && median <= high, "{figure}");
        assert_eq!(figure["rounds"].as_array().map(Vec::len), Some(rounds as usize), "{figure}");
        assert_eq!(figure["events_published"], figure["events_delivered"], "{figure}");
        assert_eq!(number("events_delivered") > 0.0, figure["question"] != "round_trip/line", "{figure}");
    }
    assert!(texts(&lines, "recommendation", "setting").iter().any(|setting| setting.starts_with("idle")));
    assert!(texts(&lines, "recommendation", "reason").iter().all(|reason| reason.contains(char::is_numeric)));

    let spins = usize::from(answered.contains(&"latency/busy-spin/1000"));
    let expected = [("busy-spin", 2 * spins), ("yield", 2), ("backoff", 2), ("park", 2), ("adaptive", 2)];
    let svg = fs::read_to_string(&plot).expect("the plot is written");
    assert_eq!(lines_of(&svg), expected, "a line a strategy for each of the two paces");
    for part in ["Latency percentiles by idle strategy", ">10,000 events/s<", ">1,000 events/s<", "µs<", ">99.9<"] {
        assert!(svg.contains(part), "{part} is missing in\n{svg}");
    }
}

#[test]
fn one_core_is_measured_without_what_takes_two_and_says_so() {
    let cores = core_affinity::get_core_ids().expect("the system tells the cores");
    // The child has the cores of the thread that starts it.
    let pinned = thread::spawn(move || {
        assert!(core_affinity::set_for_current(cores[0]), "an allowed core can be pinned to");
        run(&mut bench("--seconds 3"))
    });
    let run = pinned.join().expect("it runs");
    assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""));
    let table = run.stdout.as_str();
    for part in [
        ", 1 core, ",
        "; nothing is pinned\n",
        "all delivered\n",
        "\n  adaptive ",
        "\nthroughput, ",
        "\nrecommended here\n",
        "\nleft out\n  round_trip/line                   goes between two cores; this process may use 1\n",
        "\n  latency/busy-spin/1000            a spinning worker would keep the publisher from its core;",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    assert!(!table.contains("\n  busy-spin "), "{table}");
}

#[test]
fn a_plot_that_cannot_be_written_is_said_before_anything_is_measured() {
    // If it measured first, this would take ten minutes.
    for (path, reason) in [("/nonexistent/plot.svg", "No such file or directory"), ("/", "Is a directory")] {
        let run = run(bench("--seconds 600 --plot").arg(path));
        assert_eq!((run.code(), run.stdout.as_str()), (Some(1), ""));
        let begin = format!("ringmain: --plot \"{path}\" cannot be written: {reason}");
        assert!(run.stderr.starts_with(&begin), "{}", run.stderr);
        assert!(
            run.stderr.ends_with("; name a file that you may write, in a directory that exists\n"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_report_that_cannot_be_written_is_said_and_the_plot_replaces_what_was_there() {
    let plot = fresh("bench-full.svg");
    fs::write(&plot, "before".repeat(100_000)).expect("the directory is there");
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let run = run(bench("--seconds 3 --plot").arg(&plot).stdout(full));
    assert_eq!(run.code(), Some(1));
    assert_eq!(run.stderr, "ringmain: stdout cannot be written: No space left on device (os error 28)\n");
    lines_of(&fs::read_to_string(&plot).expect("the plot is written"));
}

#[test]
fn wrong_flags_name_the_value_and_the_limit() {
    for (flags, part) in [
        ("--seconds 2", "invalid value '2' for '--seconds <N>': 2 is not in 3..=600"),
        ("--seconds 601", "601 is not in 3..=600"),
        ("--seconds soon", "invalid value 'soon' for '--seconds <N>'"),
        ("--plot", "a value is required for '--plot <FILE>'"),
        ("--idle park", "unexpected argument '--idle'"),
    ] {
        let run = run(&mut bench(flags));
        assert_eq!((run.code(), run.stdout.as_str()), (Some(2), ""), "{flags}");
        assert!(run.stderr.contains(part) && run.stderr.contains("--help"), "{}", run.stderr);
    }
}

#[test]
fn help_teaches_the_flags_and_how_to_read_the_figures() {
    let run = run(&mut bench("--help"));
    assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""));
    for part in
        ["--seconds <N>", "[default: 30]", "--plot <FILE>", "--json", "Examples:", "Reading:", "near", "Exit codes:"]
    {
        assert!(run.stdout.contains(part), "{part} is missing in\n{}", run.stdout);
    }
}
