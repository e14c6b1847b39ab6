//! Events in, from the command line.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use ringmain::RunningNode;
use serde_json::{Value, json};

use super::{asking, finish, node, run, url};
use crate::folder::Folder;
use crate::guard::hash;
use crate::{Node, numbered};

fn events(node: &RunningNode, pattern: &str) -> Vec<Value> {
    let address = node.address().expect("it listens");
    let path = format!("/v1/events?limit=1000&type={pattern}");
    crate::ask(address, "GET", &path, &[], "".into()).json().as_array().expect("it is an array").clone()
}

#[test]
fn an_event_is_published_as_its_flags_say_and_its_id_written() {
    let node = node();
    let flags = ["publish", "orders.placed", "{\"id\": 7}", "--id", "o-7", "--source", "shop", "--priority", "high"];
    assert_eq!(run(&url(&node), &flags, "").done(), "o-7\n");
    assert_eq!(run(&url(&node), &flags, "").done(), "o-7\n", "sent again it is acknowledged again");
    let [event] = &events(&node, "orders.*")[..] else { panic!("it is there once") };
    assert_eq!(
        (&event["id"], &event["source"], &event["priority"], &event["data"]),
        (&json!("o-7"), &json!("shop"), &json!("high"), &json!({"id": 7}))
    );

    let given = run(&url(&node), &["publish", "disk.used", "-", "--text"], "81 %\n");
    let bare = run(&url(&node), &["publish", "disk.full"], "");
    let [used, full] = &events(&node, "disk.*")[..] else { panic!("both are there") };
    assert_eq!((&used["data"], used["id"].as_str()), (&json!("81 %\n"), given.done().strip_suffix('\n')));
    assert_eq!((full.get("data"), full["id"].as_str()), (None, bare.done().strip_suffix('\n')));
    assert!(node.stop().is_clean());
}

#[test]
fn an_event_that_is_none_is_refused_with_what_to_do() {
    let node = node();
    let other = run(&url(&node), &["publish", "orders placed", "1"], "");
    assert!(other.failed().contains("type"), "{other:?}");
    let own = run(&url(&node), &["publish", "ringmain.audit.x", "1"], "");
    assert!(own.failed().contains("the node's own"), "{own:?}");
    let text = run(&url(&node), &["publish", "notes.taken", "buy tea"], "");
    assert_eq!(text.code, Some(2), "{text:?}");
    assert!(text.stderr.contains("the payload is no JSON") && text.stderr.contains("--text"), "{text:?}");
    for beside in [&["1"][..], &["--source", "shop"], &["--priority", "critical"], &["--id", "x"]] {
        let both = run(&url(&node), &[&["publish", "-"], beside].concat(), "{\"type\":\"a\"}\n");
        assert_eq!(both.code, Some(2), "{both:?}");
        assert!(both.stderr.contains("each line says its own"), "{both:?}");
    }
    run(&url(&node), &["publish", "a", "1", "--id", "x"], "").done();
    let taken = run(&url(&node), &["publish", "a", "2", "--id", "x"], "");
    assert!(taken.failed().contains("another event of the id \"x\""), "{taken:?}");
    assert_eq!(events(&node, "notes.*").len(), 0);
    assert!(node.stop().is_clean());
}

#[test]
fn of_the_lines_of_a_batch_each_that_is_refused_is_named_and_the_others_are_published() {
    let node = node();
    let lines = "{\"type\":\"a\",\"id\":\"1\"}\n{\"typ\":\"a\"}\n\n{\"type\":\"ringmain.x\"}\n{\"type\":\"a\",\"id\":\"2\"}\n\
                 {\"type\":\"a\",\"id\":\"1\",\"data\":7}\n{\"type\":\"a\",\"id\":\"3\"}\n";
    let sent = run(&url(&node), &["publish", "-"], lines);
    assert_eq!((sent.code, &*sent.stdout), (Some(1), "1\n2\n3\n"), "{sent:?}");
    let said: Vec<_> = sent.stderr.lines().collect();
    assert!(said[0].starts_with("ringmain: line 2 is malformed: `type` is missing; send {\"type\""), "{said:?}");
    assert!(said[1].starts_with("ringmain: line 4 was refused: events of the type ringmain.x"), "{said:?}");
    assert!(said[2].starts_with("ringmain: line 6 was refused: there is another event of the id \"1\""), "{said:?}");
    assert_eq!(said[3], "ringmain: 3 events published, 1 lines malformed, 2 refused");
    let ids: Vec<_> = events(&node, "a").iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, [json!("1"), json!("2"), json!("3")]);
    assert!(node.stop().is_clean());
}

#[test]
fn more_lines_than_a_node_takes_at_once_are_all_published_in_their_order() {
    let folder = Folder::new("client-many");
    let node = Node::start(&folder.0, &[]);
    let all = numbered("many", 0..3_000);
    let lines: String = all.as_array().expect("an array").iter().map(|event| format!("{event}\n")).collect();
    let sent = run(&format!("http://{}", node.address), &["publish", "-"], &lines);
    assert_eq!(sent.done().lines().count(), 3_000);
    assert_eq!(sent.stderr, "ringmain: 3,000 events published, 0 lines malformed, 0 refused\n");
    assert_eq!(node.data("many"), (0..3_000).map(|n| json!(n)).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn whoever_writes_line_by_line_is_answered_line_by_line() {
    let node = node();
    let mut child = asking(&url(&node), &["publish", "-"]).spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut ids = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    for n in 0..3 {
        writeln!(stdin, "{{\"type\":\"a\",\"id\":\"e-{n}\"}}").expect("it reads");
        assert_eq!(ids.next().expect("it answers").expect("it is text"), format!("e-{n}"));
    }
    child.stdin = Some(stdin);
    assert_eq!(finish(child, "").code, Some(0));
    assert!(node.stop().is_clean());
}

#[test]
fn a_token_comes_from_a_flag_a_file_or_the_environment() {
    let folder = Folder::new("client-tokens");
    let (tokens, file) = (folder.0.join("tokens"), folder.0.join("ci.token"));
    fs::write(&tokens, format!("ci sha256:{} publish=build.**\n", hash("of-ci"))).expect("it can be written");
    fs::write(&file, "of-ci\n").expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--token-file", &tokens.display().to_string()]);
    let url = format!("http://{}", node.address);
    let without = run(&url, &["publish", "build.done"], "");
    assert!(without.failed().contains("give one with --token-file, or in RINGMAIN_TOKEN"), "{without:?}");
    run(&url, &["publish", "build.done", "--token", "of-ci"], "").done();
    run(&url, &["publish", "build.done", "--token-file", &file.display().to_string()], "").done();
    let environment = |token: &str| {
        let mut command = asking(&url, &["publish", "build.done", "--token-file", &file.display().to_string()]);
        command.env("RINGMAIN_TOKEN", token).spawn().expect("the command starts")
    };
    finish(environment("of-nobody"), "").done();
    let mut command = asking(&url, &["publish", "build.done"]);
    finish(command.env("RINGMAIN_TOKEN", "of-ci").spawn().expect("the command starts"), "").done();
    let other = run(&url, &["publish", "orders.placed", "--token", "of-ci"], "");
    assert!(other.failed().contains("may not publish events of the type orders.placed"), "{other:?}");
    assert!(!other.stderr.contains("of-ci"), "{other:?}");
    let nowhere = run(&url, &["health", "--token-file", "/nowhere"], "");
    assert!(nowhere.failed().contains("the token in /nowhere cannot be read"), "{nowhere:?}");
    node.stop();
}
