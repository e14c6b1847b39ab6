//! What `ringmain store` promises: what is acknowledged is kept, what is kept is found, and it leaves as it came.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query, StoredEvent};
use ringmain::{Aggregate, Bus, EventId, Payload};
use serde_json::{Value, json};

use crate::folder::Folder;
use crate::proof::say;
use crate::{Run, finish};

/// `ringmain store` with its command, its folder and flags separated by spaces, all streams piped.
pub(crate) fn store(command: &str, data: &Path, flags: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    program.args(["store", command, "--data"]).arg(data).args(flags.split_whitespace());
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

pub(crate) fn run(mut command: Command, input: impl Into<Vec<u8>>) -> Run {
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.into();
    // A process that ends early does not read the rest.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let run = finish(child);
    feeder.join().expect("feeding does not panic");
    run
}

pub(crate) fn append(data: &Path, flags: &str, input: impl Into<Vec<u8>>) -> Run {
    run(store("append", data, flags), input)
}

pub(crate) fn ask(command: &str, data: &Path, flags: &str) -> Run {
    run(store(command, data, flags), "")
}

pub(crate) fn ids(run: &Run) -> Vec<String> {
    run.events().iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// Lines of which each is another kind of event.
const LINES: &str = r#"{"specversion":"1.0","id":"a1","source":"/shop","type":"orders.placed","time":"2026-01-01T10:00:00Z","data":{"cents":5}}
{"specversion":"1.0","id":"a2","source":"/shop","type":"orders.paid","time":"2026-01-02T10:00:00.000000001Z","subject":"s","tenant":"é","retries":3,"late":true,"aggregatetype":"order","aggregateid":"7/x","aggregateversion":"1","schemaversion":"2"}
{"specversion":"1.0","id":"00000000-0000-7000-8000-000000000003","source":"/bank","type":"payments.seen","time":"1960-01-01T00:00:00Z","correlationid":"00000000-0000-7000-8000-00000000000c","data_base64":"AAEC","datacontenttype":"application/protobuf"}
{"specversion":"1.0","id":"a4","source":"/bank","type":"payments.done","correlationid":"00000000-0000-7000-8000-00000000000c","causationid":"00000000-0000-7000-8000-000000000003","schemaversion":"2.1-beta","data":"text","datacontenttype":"text/plain"}
{"specversion":"1.0","id":"a5","source":"/shop","type":"orders.paid","time":"2026-01-03T10:00:00Z","priority":"critical","aggregatetype":"order","aggregateid":"7/x","aggregateversion":"2","data_base64":"AAEC"}
"#;

#[test]
fn an_event_is_acknowledged_by_its_id_while_stdin_stays_open() {
    let folder = Folder::new("pipe-ack");
    let mut child = store("append", &folder.0, "--ack").spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    for at in 0..5 {
        writeln!(stdin, r#"{{"specversion":"1.0","id":"e{at}","source":"s","type":"a"}}"#).expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("UTF-8");
        assert_eq!(line, format!("e{at}\n"));
    }
    drop(stdin);
    let run = finish(child);
    assert_eq!((run.code(), &*run.stderr), (Some(0), "ringmain: 5 events appended, 0 lines malformed, 0 refused\n"));
    assert_eq!(ids(&ask("query", &folder.0, "")), ["e0", "e1", "e2", "e3", "e4"]);
}

#[test]
fn ids_are_acknowledged_in_the_order_of_the_input_and_all_is_found_in_it() {
    let folder = Folder::new("pipe-order");
    let input: String = (0..5_000).map(|at| format!("{{\"type\":\"a.b\",\"id\":\"n{at}\"}}\n")).collect();
    let run = append(&folder.0, "--ack", input);
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    let wanted: Vec<_> = (0..5_000).map(|at| format!("n{at}")).collect();
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), wanted);
    let found = ask("query", &folder.0, "");
    assert_eq!(ids(&found), wanted, "without --limit it is all");
    let positions: Vec<_> = found.events().iter().map(|event| event["position"].clone()).collect();
    assert_eq!(positions, (1..=5_000).map(|at| json!(at.to_string())).collect::<Vec<_>>());
    let limited = ask("query", &folder.0, "--limit 3 --newest-first");
    assert_eq!(ids(&limited), ["n4999", "n4998", "n4997"]);
}

#[test]
fn a_query_finds_what_its_flags_say() {
    let folder = Folder::new("pipe-query");
    assert_eq!(append(&folder.0, "", LINES).code(), Some(0));
    let third = "00000000-0000-7000-8000-000000000003";
    for (flags, wanted) in [
        ("--on orders.*", &["a1", "a2", "a5"][..]),
        ("--on orders.paid --source /shop", &["a2", "a5"]),
        ("--source /bank", &[third, "a4"]),
        ("--aggregate order/7/x", &["a2", "a5"]),
        ("--correlation 00000000-0000-7000-8000-00000000000c", &[third, "a4"]),
        ("--after 4", &["a5"]),
        ("--after 3 --newest-first", &["a2", "a1"]),
        ("--since 2026-01-01T00:00:00Z --until 2026-01-03T00:00:00Z", &["a1", "a2"]),
        ("--on nothing", &[]),
    ] {
        let run = ask("query", &folder.0, flags);
        assert_eq!(
            (run.code(), &*ids(&run)),
            (Some(0), &wanted.iter().map(|&id| id.to_owned()).collect::<Vec<_>>()[..]),
            "{flags}"
        );
    }
    let tree = ask("causation", &folder.0, "00000000-0000-7000-8000-00000000000c");
    let lines: Vec<_> = tree.stdout.lines().collect();
    assert!(lines[0].starts_with("payments.seen ") && lines[1].starts_with("└─ payments.done "), "{}", tree.stdout);
    let none = ask("causation", &folder.0, third);
    assert_eq!((none.code(), none.stderr.contains("no event has the correlation")), (Some(1), true));
}

/// Everything that an event tells. What has no time of its own, or one before 1970, was created when it was imported.
fn told(event: &StoredEvent) -> impl PartialEq + std::fmt::Debug + use<> {
    let (meta, payload) = (event.meta(), event.payload());
    let metadata: BTreeMap<_, _> = meta.metadata().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    (
        (meta.id(), meta.original_id().map(str::to_owned), meta.topic().to_owned(), meta.source().to_owned()),
        (!metadata.contains_key("time")).then(|| meta.unix_ns()),
        meta.aggregate().map(|of| (of.kind.to_owned(), of.id.to_owned(), of.version)),
        (meta.correlation(), meta.causation(), meta.priority()),
        (meta.schema_version(), meta.schema_text().map(str::to_owned)),
        (payload.encoding(), payload.bytes().to_owned()),
        metadata,
    )
}

#[test]
fn what_is_exported_and_imported_is_the_same_to_the_byte() {
    let folder = Folder::new("pipe-export");
    let [first, second, file] = ["first", "second", "events.ndjson"].map(|name| folder.0.join(name));
    assert_eq!(append(&first, "", LINES).code(), Some(0));
    // What only a program can store.
    let bus = Bus::builder().workers(1).pin(false).build().expect("the defaults are valid");
    let mut publisher = bus.publisher().expect("it runs");
    let aggregate = Aggregate { kind: "order", id: "7/x", version: 3 };
    let odd =
        publisher.event().aggregate(aggregate).metadata("Trace-Id", "7").metadata("x:y", "z").metadata("metadata", "m");
    let odd = odd.schema_version(9).metadata("aggregateid", "mine").to_frame("orders.odd", Payload::raw(b"\xff\x00"));
    let typed = publisher.event().to_frame("orders.typed", Payload::rkyv(&[7; 24]));
    let frames = [odd.expect("it is valid"), typed.expect("it is valid")];
    let log = LogStore::open(&first).expect("it is closed");
    log.append(&frames, ExpectedVersion::Any, Durability::Written).expect("it has room");
    log.close().expect("the disk works");
    bus.shutdown().expect("it runs");

    let exported = ask("export", &first, &format!("--output {}", file.display()));
    assert_eq!((exported.code(), exported.stdout.as_str()), (Some(0), ""), "{}", exported.stderr);
    let imported = ask("import", &second, &file.display().to_string());
    assert_eq!(imported.code(), Some(0), "{}", imported.stderr);
    let again = ask("export", &second, "");
    assert_eq!(again.stdout, fs::read_to_string(&file).expect("it was written"));

    let [one, two] = [&first, &second].map(|folder| {
        let store = LogStore::open(folder).expect("it is closed");
        let page = store.query(&Query::new()).expect("it can be read");
        page.events.iter().map(told).collect::<Vec<_>>()
    });
    assert_eq!(one.len(), 7);
    assert_eq!(one, two);
    let refused = ask("export", &folder.0.join("first"), &format!("--output {}", file.display()));
    assert_eq!((refused.code(), refused.stderr.contains("cannot be made")), (Some(1), true), "{}", refused.stderr);
}

#[test]
fn malformed_lines_are_named_and_the_rest_goes_on_unless_strict() {
    let folder = Folder::new("pipe-malformed");
    let input = "{\"type\":\"a\",\"id\":\"1\"}\nnonsense\n{\"type\":\"a\",\"id\":\"2\"}\n";
    let run = append(&folder.0, "--ack", input);
    assert_eq!((run.code(), &*run.stdout), (Some(0), "1\n2\n"));
    assert!(run.stderr.starts_with("ringmain: line 2 is malformed: "), "{}", run.stderr);
    assert!(run.stderr.ends_with("2 events appended, 1 lines malformed, 0 refused\n"), "{}", run.stderr);
    let strict = append(&folder.0, "--ack --strict", input);
    assert_eq!((strict.code(), &*strict.stdout), (Some(2), "1\n"), "what came before is kept");
    assert_eq!(ids(&ask("query", &folder.0, "")), ["1", "2", "1"]);
}

#[test]
fn a_folder_without_a_store_is_refused_and_stays_as_it_is() {
    let folder = Folder::new("pipe-nothing");
    let missing = folder.0.join("missing");
    for command in ["query", "export", "stats", "verify"] {
        for data in [&missing, &folder.0] {
            let run = ask(command, data, "");
            let wanted =
                format!("there is no store in {0}; `ringmain store append --data {0}` makes one", data.display());
            assert_eq!((run.code(), run.stderr.contains(&wanted)), (Some(1), true), "{command}: {}", run.stderr);
        }
    }
    assert!(!missing.exists() && fs::read_dir(&folder.0).expect("it is there").next().is_none());
}

#[test]
fn two_processes_do_not_have_one_store() {
    let folder = Folder::new("pipe-locked");
    let mut child = store("append", &folder.0, "--ack").spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    writeln!(stdin, r#"{{"type":"a"}}"#).expect("it reads");
    stdout.read_line(&mut String::new()).expect("UTF-8");
    let run = ask("query", &folder.0, "");
    assert_eq!(
        (run.code(), run.stderr.contains("is in use: another process has this store open")),
        (Some(1), true),
        "{}",
        run.stderr
    );
    drop(stdin);
    assert_eq!(finish(child).code(), Some(0));
}

#[test]
fn stats_say_how_much_there_is() {
    let folder = Folder::new("pipe-stats");
    assert_eq!(append(&folder.0, "", LINES).code(), Some(0));
    let stats = ask("stats", &folder.0, "--json");
    let stats: Value = serde_json::from_str(&stats.stdout).expect("it is JSON");
    let wanted = json!([5, 1, 5, 1]);
    assert_eq!(json!([stats["events"], stats["first_position"], stats["last_position"], stats["segments"]]), wanted);
    assert!(stats["event_bytes"].as_u64().expect("a number") > 5 * 64, "{stats}");
    let table = ask("stats", &folder.0, "").stdout;
    assert!(table.starts_with("events     5 at positions 1 to 5\nappended   2"), "{table}");
    assert!(table.contains("\nopened     in ") && table.ends_with(", all of it whole\n"), "{table}");
}

#[test]
fn old_events_are_compressed_and_removed_when_that_is_asked_for() {
    let folder = Folder::new("pipe-archive");
    let data = "x".repeat(50_000);
    let input: String =
        (0..400).map(|at| format!("{{\"type\":\"a\",\"id\":\"n{at}\",\"data\":\"{data}\"}}\n")).collect();
    assert_eq!(append(&folder.0, "--segment-bytes 8388608", input).code(), Some(0));
    let none = ask("archive", &folder.0, "");
    assert_eq!(
        none.stdout, "0 files compressed, 0 B given back; 0 events in 0 files removed\n",
        "nothing is 90 days old"
    );
    let all = ask("query", &folder.0, "").stdout;
    let some = ask("archive", &folder.0, "--older-than 0s");
    assert!(
        some.stdout.starts_with("2 files compressed, 15.") && some.stdout.ends_with("; 0 events in 0 files removed\n"),
        "{}",
        some.stdout
    );
    assert_eq!(ask("query", &folder.0, "").stdout, all, "found as before");
    assert_eq!(ask("verify", &folder.0, "").code(), Some(0));
    let removed = ask("archive", &folder.0, "--max-bytes 5000000").stdout;
    assert!(removed.contains("events in 2 files removed"), "{removed}");
    let left = ask("query", &folder.0, "").stdout;
    assert!(!left.is_empty() && all.ends_with(&left), "the newest are there");
}

#[test]
fn what_passes_a_pipe_is_kept_where_that_is_asked_for() {
    let folder = Folder::new("pipe-journal");
    let input: String = (0..3_000).map(|at| format!("{{\"type\":\"a\",\"id\":\"n{at}\",\"data\":{at}}}\n")).collect();
    let piped = crate::run(&format!("--quiet --summary json --on nothing --data {}", folder.0.display()), input);
    assert_eq!(piped.code(), Some(0), "{}", piped.stderr);
    assert_eq!(
        piped.counts(["published", "delivered", "unmatched"]),
        [3_000, 3_000, 0],
        "the journal is a subscription"
    );
    let wanted: Vec<_> = (0..3_000).map(|at| format!("n{at}")).collect();
    assert_eq!(ids(&ask("query", &folder.0, "")), wanted);
    assert_eq!(ask("verify", &folder.0, "").code(), Some(0));
    // Nobody reads the lines: they are kept all the same.
    let input: String = (0..30_000).map(|at| format!("{{\"type\":\"a\",\"id\":\"m{at}\"}}\n")).collect();
    let mut child = crate::pipe(&format!("--data {}", folder.0.display())).spawn().expect("the binary starts");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads to the end");
    drop(stdin);
    assert_eq!(finish(child).code(), Some(0));
    assert_eq!(ids(&ask("query", &folder.0, "")).len(), 33_000);
    let file = folder.0.join("file");
    fs::write(&file, "").expect("it can be written");
    let refused = crate::run(&format!("--data {}", file.display()), "{\"type\":\"a\"}\n");
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
}

#[test]
fn what_cannot_be_read_is_named_and_passed_over() {
    let folder = Folder::new("pipe-damage");
    assert_eq!(append(&folder.0, "", LINES).code(), Some(0));
    let mut files = fs::read_dir(&folder.0).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    let segment = files.find(|path| path.extension().is_some_and(|end| end == "log")).expect("a segment");
    let mut bytes = fs::read(&segment).expect("it can be read");
    let place = bytes.windows(11).position(|bytes| bytes == b"orders.paid").expect("the second event is in it");
    bytes[place] ^= 1;
    fs::write(&segment, bytes).expect("it can be written");
    let verify = ask("verify", &folder.0, "");
    assert_eq!((verify.code(), &*verify.stdout), (Some(1), "4 events read, 1 places cannot be read\n"));
    assert!(verify.stderr.contains("positions 2 to 2"), "{}", verify.stderr);
    let stats = ask("stats", &folder.0, "");
    assert!(stats.stdout.contains("1 places cannot be read"), "{}", stats.stdout);
    assert!(stats.stderr.contains("`ringmain store verify --data"), "{}", stats.stderr);
    for flags in ["", "--newest-first"] {
        let query = ask("query", &folder.0, flags);
        assert_eq!((query.code(), query.events().len()), (Some(1), 4), "{}", query.stderr);
        assert!(query.stderr.contains("positions 2 to 2"), "{}", query.stderr);
    }
}

/// Killed again and again on one folder: all that was acknowledged is there, once, in order.
#[test]
fn a_killed_append_loses_nothing_that_it_acknowledged() {
    let kills = env::var("RINGMAIN_KILLS").map_or(60, |kills| kills.parse().expect("a number"));
    let folder = Folder::new("pipe-kill");
    let mut acknowledged: Vec<String> = Vec::new();
    let mut next = 0_u64;
    // A cheap generator: what matters is that moments differ.
    let mut chance = 7_u64;
    for kill in 0..kills {
        let mut child = store("append", &folder.0, "--ack --segment-bytes 8388608").spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        let begin = next;
        let feeder = thread::spawn(move || {
            let mut next = begin;
            // Until it is dead, or has enough to be killed amid of.
            while next < begin + 200
                && writeln!(stdin, "{{\"type\":\"a.b\",\"id\":\"k{next}\",\"data\":{next}}}").is_ok()
            {
                next += 1;
            }
            (next, stdin)
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let before = acknowledged.len();
        for _ in 0..=chance >> 58 {
            acknowledged.push(stdout.next().expect("it runs").expect("UTF-8"));
        }
        child.kill().expect("it runs");
        // What is in the pipe was acknowledged too.
        acknowledged.extend(stdout.map(|line| line.expect("whole lines only")));
        child.wait().expect("it was started");
        // Its stdin is open until it is dead.
        (next, _) = feeder.join().expect("feeding does not panic");
        assert!(acknowledged.len() > before, "kill {kill}");
    }
    let verify = ask("verify", &folder.0, "");
    assert_eq!(verify.code(), Some(0), "{}{}", verify.stdout, verify.stderr);
    let found = ids(&ask("query", &folder.0, ""));
    let number = |id: &String| id[1..].parse::<u64>().expect("ours");
    assert!(found.is_sorted_by(|one, two| number(one) < number(two)), "each once, in order");
    let mut found = found.into_iter();
    let lost: Vec<_> = acknowledged.iter().filter(|&id| !found.any(|there| there == *id)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
    say(&format!("kills: {kills}"));
    println!("{} events acknowledged, {next} written to it", acknowledged.len());
}

#[test]
fn ids_that_no_line_gives_are_made_and_acknowledged() {
    let folder = Folder::new("pipe-made");
    let run = append(&folder.0, "--ack --durability written", "{\"type\":\"a\"}\n");
    let id: EventId = run.stdout.trim_end().parse().expect("a UUID");
    assert_eq!(ids(&ask("query", &folder.0, "")), [id.to_string()]);
}
