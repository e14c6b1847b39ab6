//! Every question runs for every subject, nothing is lost, and what is printed can be read by a program.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::thread::available_parallelism;

fn rivals(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rivals")).args(arguments).output().expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it prints UTF-8")
}

/// The names in one part of `--list`.
fn listed(part: &str) -> BTreeSet<String> {
    let output = rivals(&["--list"]);
    let lines = text(&output.stdout).lines().skip_while(|line| *line != part).skip(1);
    lines
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

#[test]
fn every_question_is_answered_by_every_subject_that_can() {
    let plot = std::env::temp_dir().join(format!("rivals-smoke-{}.svg", std::process::id()));
    let output = rivals(&["--smoke", "--json", "--plot", plot.to_str().expect("a plain name")]);
    let two_cores = available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    if !two_cores {
        assert!(text(&output.stderr).contains("needs two cores"), "{}", text(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut answered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text(&output.stdout).lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is an object");
        let field = |name: &str| line[name].as_str().expect("a string").to_owned();
        let least = if field("question") == "idle-switches" { 0.0 } else { f64::MIN_POSITIVE };
        assert!(line["median"].as_f64().is_some_and(|median| median >= least), "{line}");
        assert!(matches!(field("regime").as_str(), "near" | "far"));
        answered.entry(field("question")).or_default().insert(field("subject"));
    }
    assert_eq!(answered.keys().cloned().collect::<BTreeSet<_>>(), listed("questions:"));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let everybody = listed("subjects:");
    let bare = names(&["bare-ring", "bare-ring-single"]);
    let four_workers = names(&["ringmain-4-workers"]);
    let single = names(&["ringmain-single", "bare-ring-single", "rtrb", "disruptor-single", "bus"]);
    for (question, subjects) in &answered {
        let expected = match question.as_str() {
            "throughput-2-1" => &(&everybody - &single) - &four_workers,
            "paced-1k" | "paced-1k-cpu" => &everybody - &bare,
            "critical-flood" | "critical-flood-dispatch" => &(&everybody - &bare) - &four_workers,
            "non-matching-patterns" => names(&["ringmain", "ringmain-single"]),
            "idle" | "idle-switches" => names(&["ringmain"]),
            many if many.starts_with("many-subscriptions") => {
                names(&["ringmain", "ringmain-single", "tokio-broadcast", "bus"])
            }
            _ => &everybody - &four_workers,
        };
        assert_eq!(*subjects, expected, "{question}");
    }
    let svg = std::fs::read_to_string(&plot).expect("it wrote the plot");
    std::fs::remove_file(&plot).expect("it is ours");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for question in ["paced-100k", "paced-1k", "pingpong", "critical-flood"] {
        assert!(svg.contains(question), "{question}");
    }
}

#[test]
fn targets_are_held_against_what_was_measured() {
    let output = rivals(&["--smoke", "--json", "--targets", "--question", "one-core", "--subject", "ringmain"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let parse = |line| serde_json::from_str::<serde_json::Value>(line).expect("each line is an object");
    let lines = text(&output.stdout).lines().map(parse);
    let (held, measured): (Vec<_>, Vec<_>) = lines.partition(|line| line.get("target").is_some());
    assert!(!measured.is_empty());
    let p17: Vec<_> = held.iter().filter(|row| row["target"] == "P17").collect();
    assert!(matches!(p17[..], [row] if row["verdict"] == "open" && row["measured"].is_null()), "{p17:?}");
    // Without the other side there is no quotient, and no verdict either.
    assert!(held.iter().all(|row| row["verdict"] == "open"), "{held:?}");
}

#[test]
fn a_wrong_name_is_refused_before_anything_is_measured() {
    for arguments in [["--question", "throughput-9-9"], ["--subject", "carrier-pigeon"], ["--rounds", "0"]] {
        let output = rivals(&arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    }
}
