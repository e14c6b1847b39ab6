//! Many events: none lost, none doubled, in order, in little memory, and counted right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command};
use std::thread;

use serde_json::Value;

use crate::{finish, pipe, run};

const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "low"];
const RSS_KIB_MAX: u64 = 100_000;

/// How many events; RINGMAIN_PIPE_EVENTS asks for more, such as 1000000.
fn many() -> usize {
    std::env::var("RINGMAIN_PIPE_EVENTS").map_or(100_000, |number| number.parse().expect("a number"))
}

pub(crate) fn made(events: usize) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ci/make-events");
    let made = Command::new(script).arg(events.to_string()).output().expect("the script runs");
    assert!(made.status.success());
    String::from_utf8(made.stdout).expect("UTF-8")
}

/// The most memory that a living process had resident so far.
fn rss_max_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux says it");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Feeds `input` to a run of `flags` and gives its first `lines` lines of output, its peak of memory while its input
/// is still open, and the rest of the run.
fn feed(flags: &str, input: String, lines: usize) -> (Vec<Value>, u64, crate::Run) {
    let mut child = pipe(flags).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let feeder = thread::spawn(move || {
        stdin.write_all(input.as_bytes()).expect("it reads all");
        stdin
    });
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut events = Vec::with_capacity(lines);
    let mut line = String::new();
    while events.len() < lines {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("UTF-8") > 0, "only {} of {lines} lines came", events.len());
        events.push(serde_json::from_str(&line).expect(&line));
    }
    let stdin = feeder.join().expect("feeding does not panic");
    let rss = rss_max_kib(&child);
    drop(stdin);
    line.clear();
    assert_eq!(stdout.read_line(&mut line).expect("UTF-8"), 0, "one line too many: {line}");
    (events, rss, finish(child))
}

/// By subscription and priority, the lines of the input that come out, in order.
type Lines = BTreeMap<[String; 2], Vec<u64>>;

/// Adds what must come out of `input` to a subscription of `pattern`.
fn want(wanted: &mut Lines, input: &[Value], pattern: &str, matches: impl Fn(&str) -> bool) {
    for event in input.iter().filter(|event| matches(event["type"].as_str().expect("a type"))) {
        let priority = event["priority"].as_str().expect("a priority").to_owned();
        let line = event["data"]["line"].as_u64().expect("a line number");
        wanted.entry([pattern.to_owned(), priority]).or_default().push(line);
    }
}

#[test]
fn every_event_comes_out_once_for_each_subscription_in_order_within_100_mb() {
    let events = many();
    let text = made(events);
    let input: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mut wanted = Lines::new();
    want(&mut wanted, &input, "**", |_| true);
    want(&mut wanted, &input, "orders.*", |name| name.starts_with("orders."));
    let deliveries: usize = wanted.values().map(Vec::len).sum();

    let (output, rss, run) = feed("--on ** --on orders.* --summary json", text, deliveries);

    let mut seen = Lines::new();
    for event in &output {
        let line = event["data"]["line"].as_u64().expect("a line number");
        let sent = &input[line as usize - 1];
        for name in ["type", "source", "priority", "data"] {
            assert_eq!(event[name], sent[name], "line {line}");
        }
        let key = ["subscription", "priority"].map(|name| event[name].as_str().expect(name).to_owned());
        seen.entry(key).or_default().push(line);
    }
    // Not compared by assert_eq: it would print a million numbers.
    assert!(seen == wanted, "an event is lost, doubled or out of order");
    assert!(rss <= RSS_KIB_MAX, "{rss} KiB were resident");

    assert_eq!(run.code(), Some(0));
    let (summary, messages) = run.summary();
    assert_eq!(messages, Vec::<&str>::new());
    let zero = ["malformed", "refused", "unmatched", "failed", "retried", "dead_lettered", "dropped", "in_flight"];
    assert_eq!(run.counts(zero), [0; 8]);
    assert_eq!(run.counts(["published", "delivered"]), [events as u64, deliveries as u64]);
    assert_eq!(summary["ledger_balanced"], true);
    assert!(summary["events_per_second"].as_f64().expect("a number") > 0.0);
    let mut fields: Vec<_> = summary.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut promised =
        [&zero[..], &["published", "delivered", "ledger_balanced", "events_per_second", "latency_ns"]].concat();
    promised.sort_unstable();
    assert_eq!(fields, promised);
    let latencies = summary["latency_ns"].as_object().expect("an object");
    assert_eq!(latencies.len(), 5);
    for name in PRIORITIES.into_iter().chain(["all"]) {
        let row = latencies[name].as_object().expect(name);
        assert_eq!(row.len(), 5);
        let points = ["p50", "p95", "p99", "p999", "max"].map(|point| row[point].as_u64().expect(point));
        assert!(points[0] > 0 && points.is_sorted(), "{name}: {points:?}");
        assert!(points[4] <= latencies["all"]["max"].as_u64().expect("max"));
    }
}

#[test]
fn the_smallest_capacity_every_strategy_and_any_number_of_workers_lose_nothing() {
    let input = made(3_000);
    for flags in [
        "--capacity 1 --workers 1 --idle park",
        "--capacity 2 --workers 3 --idle adaptive",
        "--capacity 3 --workers 16 --idle backoff",
        "--workers 2 --idle yield",
        "--workers 2 --idle busy-spin",
    ] {
        let run = run(&format!("{flags} --on ** --on **.failed --on metrics.** --summary json"), input.as_str());
        let lines = run.events();
        let of = |name: &str| lines.iter().filter(|event| event["subscription"] == name).count() as u64;
        assert_eq!(of("**"), 3_000, "{flags}");
        assert_eq!(run.counts(["published", "delivered"]), [3_000, lines.len() as u64], "{flags}");
        let expected = |part: &str| input.lines().filter(|line| line.contains(part)).count() as u64;
        assert_eq!(of("**.failed"), expected(r#""type":"payments.failed""#), "{flags}");
        assert_eq!(of("metrics.**"), expected(r#""type":"metrics."#), "{flags}");
    }
}

#[test]
fn quiet_delivers_and_counts_and_writes_no_event() {
    let run = run("--quiet --summary json", made(2_000));
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), ""));
    assert_eq!(run.counts(["published", "delivered"]), [2_000, 2_000]);
}

#[test]
fn payloads_of_every_size_pass_through_few_blocks() {
    let mut input = String::new();
    // More of the largest than there are blocks for them.
    for at in 0..60 {
        let bytes = [1, 200, 5_000, 70_000, 1_000_000][at % 5];
        let priority = PRIORITIES[at % 4];
        writeln!(input, r#"{{"type":"big","priority":"{priority}","data":"{at}{}"}}"#, "x".repeat(bytes))
            .expect("text");
    }
    let run = run("--on ** --on big --summary json", input.as_str());
    assert_eq!(run.counts(["published", "delivered", "refused"]), [60, 120, 0]);
    let sent = |priority: &str| -> Vec<Value> {
        let lines = input.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|event| event["priority"] == priority).map(|event| event["data"].clone()).collect()
    };
    let lines = run.events();
    for priority in PRIORITIES {
        for subscription in ["**", "big"] {
            let of = lines.iter().filter(|e| e["priority"] == priority && e["subscription"] == subscription);
            assert!(of.map(|event| event["data"].clone()).eq(sent(priority)), "{priority} to {subscription}");
        }
    }
}

#[test]
fn more_types_and_sources_than_have_a_number_stay_within_100_mb() {
    let mut input = String::new();
    for at in 0..70_000 {
        writeln!(input, r#"{{"type":"t.n{at}","source":"s{at}"}}"#).expect("text");
    }
    let (output, rss, run) = feed("--summary json", input, 70_000);
    for (at, event) in output.iter().enumerate() {
        assert_eq!(
            (event["type"].as_str(), event["source"].as_str()),
            (Some(&*format!("t.n{at}")), Some(&*format!("s{at}")))
        );
    }
    assert!(rss <= RSS_KIB_MAX, "{rss} KiB were resident");
    assert_eq!(run.counts(["published", "delivered"]), [70_000, 70_000]);
}

#[test]
fn what_is_made_to_fail_is_tried_again_or_a_dead_letter_and_the_same_seed_fails_the_same() {
    let input = made(2_000);
    let counts = |flags: &str| {
        let run = run(&format!("{flags} --summary json"), input.as_str());
        assert_eq!(run.summary().0["ledger_balanced"], true);
        let [published, delivered, failed, retried, dead] =
            run.counts(["published", "delivered", "failed", "retried", "dead_lettered"]);
        assert_eq!(published, 2_000);
        let mut lines: Vec<_> = run.events().iter().map(|event| event["id"].to_string()).collect();
        assert_eq!(lines.len() as u64, delivered);
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len() as u64, delivered, "a line came twice");
        assert_eq!(run.counts(["in_flight", "dropped"]), [0, 0]);
        [delivered, failed, retried, dead]
    };
    let reliable = counts("--mode reliable --fail-rate 0.4 --seed 5");
    let [delivered, failed, retried, dead] = reliable;
    assert_eq!((delivered + dead, failed), (2_000, 0));
    // Expected: 1,120 retries (0.4 + 0.16 of them), 128 dead letters (0.064); six standard deviations either side.
    assert!((960..1_280).contains(&retried) && (62..194).contains(&dead), "{reliable:?}");
    assert_eq!(counts("--mode reliable --fail-rate 0.4 --seed 5"), reliable);
    assert_ne!(counts("--mode reliable --fail-rate 0.4 --seed 6"), reliable);
    let [delivered, failed, retried, dead] = counts("--fail-rate 0.4 --seed 5");
    assert_eq!((delivered + failed, retried, dead), (2_000, 0, 0));
    assert_eq!(counts("--mode reliable --fail-rate 1"), [0, 0, 4_000, 2_000]);
    assert_eq!(counts("--mode reliable"), [2_000, 0, 0, 0]);
}

#[test]
fn with_mode_latest_a_reader_that_stands_still_holds_nothing_up_and_finds_the_newest_line() {
    let mut child = pipe("--mode latest --summary json").spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input: String = (0..40_000).map(|n| format!("{{\"type\": \"price.tea\", \"data\": {n}}}\n")).collect();
    // Nobody reads stdout meanwhile.
    stdin.write_all(input.as_bytes()).expect("it reads all");
    drop(stdin);
    let run = finish(child);
    assert_eq!(run.summary().0["ledger_balanced"], true);
    let [published, delivered, dropped, failed, in_flight] =
        run.counts(["published", "delivered", "dropped", "failed", "in_flight"]);
    assert_eq!((published, delivered + dropped, failed, in_flight), (40_000, 40_000, 0, 0));
    assert!(dropped >= 20_000, "a lane holds 10,000, stdin and stdout few more: {dropped}");
    let lines: Vec<_> = run.events().iter().map(|event| event["data"].as_u64().expect("its number")).collect();
    assert_eq!((lines.len() as u64, lines.last()), (delivered, Some(&39_999)));
    assert!(lines.is_sorted());
}

#[test]
fn with_mode_latest_what_is_made_to_fail_is_failed_and_does_not_come_again() {
    let input: String = (0..2_000).map(|n| format!("{{\"type\": \"price.tea\", \"data\": {n}}}\n")).collect();
    let counts = |rate: &str| {
        let run = run(&format!("--mode latest --fail-rate {rate} --seed 5 --summary json"), input.as_str());
        assert_eq!(run.summary().0["ledger_balanced"], true);
        let [published, delivered, failed, retried, dead, dropped, in_flight] =
            run.counts(["published", "delivered", "failed", "retried", "dead_lettered", "dropped", "in_flight"]);
        assert_eq!((published, delivered + failed + dropped), (2_000, 2_000));
        assert_eq!((retried, dead, in_flight), (0, 0, 0), "the newest only: nothing is tried again");
        let lines: Vec<_> = run.events().iter().map(|event| event["data"].as_u64().expect("its number")).collect();
        assert!(lines.len() as u64 == delivered && lines.is_sorted());
        (delivered, failed)
    };
    // How many are read depends on how fast they are; each is failed, or none.
    let (delivered, failed) = counts("1");
    assert!(delivered == 0 && failed > 0);
    let (delivered, failed) = counts("0");
    assert!(delivered > 0 && failed == 0);
}
