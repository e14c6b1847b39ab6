//! What `ringmain dlq` promises: what was given up can be seen, is tried again once at least, and goes when told.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::folder::Folder;
use crate::store::{ask, ids, run};
use crate::{Run, finish};

fn command(data: &Path, flags: &str) -> Command {
    let mut words = flags.split_whitespace();
    let mut program = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    program.args(["dlq", words.next().expect("a command"), "--data"]).arg(data).args(words);
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// `ringmain dlq` with its command, its folder and flags.
pub(crate) fn dlq(data: &Path, flags: &str) -> Run {
    run(command(data, flags), "")
}

/// A store with the dead letters of so many events, `n1` and so on, of which every third is an order.
fn dead(data: &Path, events: u64) {
    let input: String = (1..=events)
        .map(|at| {
            let topic = if at % 3 == 0 { "orders.placed" } else { "other" };
            format!("{{\"type\":\"{topic}\",\"id\":\"n{at}\",\"data\":{at},\"traceparent\":\"t\"}}\n")
        })
        .collect();
    let flags = format!("--mode reliable --fail-rate 1 --summary json --data {}", data.display());
    let piped = crate::run(&flags, input);
    assert_eq!((piped.code(), piped.counts(["dead_lettered"])), (Some(0), [events]), "{}", piped.stderr);
}

fn listed(data: &Path, flags: &str) -> Vec<Value> {
    let run = dlq(data, &format!("list --json {flags}"));
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    run.events()
}

#[test]
fn what_a_pipe_gives_up_is_in_the_store_with_its_story() {
    let folder = Folder::new("dlq-list");
    dead(&folder.0, 9);
    assert_eq!(ids(&ask("query", &folder.0, "")).len(), 9, "the journal has them as well");
    let letters = listed(&folder.0, "");
    assert_eq!(letters.len(), 9);
    for (nth, letter) in letters.iter().enumerate() {
        assert_eq!(letter["id"], nth as u64 + 1);
        assert_eq!((&letter["reason"], &letter["attempts"]), (&"attempts exhausted".into(), &3.into()));
        assert_eq!((&letter["subscription"], &letter["error"]), (&"**".into(), &"--fail-rate hit it".into()));
        assert_eq!(
            letter["event"]["data"],
            letter["event"]["id"].as_str().expect("an id")[1..].parse::<u64>().expect("ours")
        );
    }
    assert_eq!(listed(&folder.0, "--on orders.*").len(), 3);
    assert_eq!(listed(&folder.0, "--subscription nobody").len(), 0);
    assert_eq!(listed(&folder.0, "--limit 2").len(), 2);
    let table = dlq(&folder.0, "list --limit 1").stdout;
    assert!(table.contains("  **  attempts exhausted, attempts 3: --fail-rate hit it\n"), "{table}");
    let shown = dlq(&folder.0, "show 2").stdout;
    assert!(shown.starts_with("letter        2\ndied          2"), "{shown}");
    assert!(shown.contains("\nreason        attempts exhausted\nattempts      3, the first 2"), "{shown}");
    let event: Value = serde_json::from_str(shown.lines().last().expect("a line")).expect("it is JSON");
    assert_eq!(event, letters[1]["event"]);
    let missing = dlq(&folder.0, "show 99");
    assert_eq!(
        (missing.code(), &*missing.stderr),
        (Some(1), "ringmain: there is no dead letter 99; list those there are\n")
    );
}

#[test]
fn what_is_redriven_is_written_and_gone_and_may_be_piped_again() {
    let folder = Folder::new("dlq-redrive");
    dead(&folder.0, 9);
    let of_letters = |letters: &[Value]| -> Vec<String> {
        letters.iter().map(|letter| letter["event"]["id"].as_str().expect("an id").to_owned()).collect()
    };
    let before = listed(&folder.0, "");
    let two = dlq(&folder.0, "redrive 4 2");
    assert_eq!((two.code(), &*two.stderr), (Some(0), "ringmain: 2 dead letters redriven, 7 left\n"));
    assert_eq!(ids(&two), [3, 1].map(|nth: usize| of_letters(&before)[nth].clone()));
    let gone = dlq(&folder.0, "redrive 1 4 5");
    assert_eq!((gone.code(), gone.events().len()), (Some(1), 1), "it ends at the one that is not there");
    assert!(gone.stderr.contains("there is no dead letter 4; list those there are"), "{}", gone.stderr);
    let orders = dlq(&folder.0, "redrive --on orders.* --rate 1000");
    assert!(orders.events().iter().all(|event| event["type"] == "orders.placed"), "{}", orders.stdout);
    let left = listed(&folder.0, "");
    let rest = dlq(&folder.0, "redrive --all");
    assert_eq!(ids(&rest), of_letters(&left));
    assert_eq!(listed(&folder.0, "").len(), 0);
    let again = crate::run(&format!("--mode reliable --summary json --data {}", folder.0.display()), rest.stdout);
    assert_eq!(
        again.counts(["delivered", "dead_lettered"]),
        [2 * left.len() as u64, 0],
        "to stdout and to the journal"
    );
}

#[test]
fn a_letter_whose_line_nobody_takes_stays() {
    let folder = Folder::new("dlq-nobody");
    dead(&folder.0, 3_000);
    let mut child = command(&folder.0, "redrive --all").spawn().expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("UTF-8");
    drop(stdout);
    let run = finish(child);
    assert_eq!(run.code(), Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("stdout cannot be written"), "{}", run.stderr);
    let left = listed(&folder.0, "").len();
    assert!(left > 0 && run.stderr.contains(" left\n"), "{left}: {}", run.stderr);
}

#[test]
fn letters_are_purged_by_name_and_by_what_they_are() {
    let folder = Folder::new("dlq-purge");
    dead(&folder.0, 9);
    let purge = |flags: &str| dlq(&folder.0, &format!("purge {flags}")).stdout;
    assert_eq!(purge("1 2 77"), "2 dead letters purged, 7 left\n", "one that is gone is no error");
    let orders = listed(&folder.0, "--on orders.*").len();
    assert_eq!(purge("--on orders.*"), format!("{orders} dead letters purged, {} left\n", 7 - orders));
    assert_eq!(purge("--subscription nobody"), format!("0 dead letters purged, {} left\n", 7 - orders));
    assert_eq!(purge("--all"), format!("{} dead letters purged, 0 left\n", 7 - orders));
    assert_eq!(ask("verify", &folder.0, "").code(), Some(0));
    let nothing = folder.0.join("nothing");
    let refused = dlq(&nothing, "list");
    assert_eq!(
        (refused.code(), refused.stderr.contains("there is no store in ")),
        (Some(1), true),
        "{}",
        refused.stderr
    );
}
