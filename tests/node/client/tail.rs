//! Events out, on the command line, as they come.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout};

use serde_json::{Value, json};

use super::{NOBODY, asking, finish, node, run, url};
use crate::folder::Folder;
use crate::guard::hash;
use crate::{Node, command, numbered};

/// A tail that runs, and its lines.
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(url: &str, flags: &[&str]) -> Self {
        let mut child = asking(url, &[&["tail"], flags].concat()).spawn().expect("the command starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("it comes").expect("it is text")
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.next()).expect("it is a CloudEvent")
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn what_is_there_and_what_comes_is_written_a_line_each() {
    let node = node();
    let publish = |event_type: &str, payload: &str| {
        run(&url(&node), &["publish", event_type, payload, "--source", "shop"], "").done();
    };
    publish("orders.placed", "{\"n\": 1}");
    publish("stock.taken", "{\"n\": 2}");
    let mut tail = Tail::start(&url(&node), &["orders.*", "users.*", "--after", "0"]);
    let first = tail.next();
    assert!(first.ends_with("  orders.placed  shop  {\"n\": 1}"), "{first}");
    // It is live: this was not there when it began.
    publish("users.joined", "\"Kim\\nLee\"");
    let second = tail.next();
    assert!(second.ends_with("  users.joined  shop  \"Kim\\nLee\""), "{second}");
    let position = second.split_whitespace().next().expect("it begins with its position");

    let again = run(&url(&node), &["tail", "orders.*", "users.*", "--after", "0", "--limit", "2", "--json"], "");
    let events: Vec<Value> = again.done().lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(events.iter().map(|event| &event["data"]).collect::<Vec<_>>(), [&json!({"n": 1}), &json!("Kim\nLee")]);
    assert_eq!((&events[1]["position"], &events[1]["specversion"]), (&json!(position), &json!("1.0")));
    let resumed = run(&url(&node), &["tail", "**", "--after", "1", "--limit", "1", "--json"], "");
    assert!(resumed.done().contains("\"position\":\"2\""), "{resumed:?}");
    drop(tail);
    node.stop();
}

#[test]
fn a_stream_that_is_cut_goes_on_behind_its_last_event_when_the_node_is_back() {
    let folder = Folder::new("client-cut");
    let node = Node::start(&folder.0, &[]);
    let address = node.address.to_string();
    node.publish(&numbered("a", 0..3));
    let mut tail = Tail::start(&format!("http://{address}"), &["a", "--after", "0", "--json"]);
    for n in 0..3 {
        assert_eq!(tail.event()["data"], n);
    }
    // Once as by a crash, once as by a restart.
    node.signal("-KILL");
    let (status, _) = node.ends();
    assert!(!status.success());
    let again = || Node::run(command(&["--listen", &address, "--data", &folder.0.display().to_string()]));
    let node = again();
    node.publish(&numbered("a", 3..5));
    assert_eq!([tail.event()["data"].clone(), tail.event()["data"].clone()], [3, 4]);
    node.stop();
    let node = again();
    node.publish(&numbered("a", 5..6));
    assert_eq!(tail.event()["data"], 5);
    node.stop();

    tail.child.kill().expect("it runs");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut tail.child.stderr.take().expect("it is piped"), &mut said).expect("it is text");
    assert!(said.contains("ringmain: cut after position ") && said.contains("it goes on from there"), "{said}");
    assert!(said.contains("the node goes away"), "{said}");
}

#[test]
fn what_will_never_come_ends_it() {
    let folder = Folder::new("client-tail-refused");
    let tokens = folder.0.join("tokens");
    fs::write(&tokens, format!("ci sha256:{} subscribe=build.**\n", hash("of-ci"))).expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--token-file", &tokens.display().to_string()]);
    let url = format!("http://{}", node.address);
    let tail = |flags: &[&str]| run(&url, &[&["tail"], flags].concat(), "").failed().to_owned();
    assert!(tail(&[]).contains("give one with --token-file"));
    assert!(tail(&["--token", "of-nobody"]).contains("not known"));
    let said = tail(&["orders.*", "--token", "of-ci"]);
    assert!(said.contains("orders.*"), "{said}");
    let said = tail(&["build.*", "--token", "of-ci", "--after", "1000"]);
    assert!(said.contains("position 1000 is behind the end of the store"), "{said}");
    let said = run("https://127.0.0.1:1", &["tail"], "").failed().to_owned();
    assert!(said.contains("https://127.0.0.1:1 is not http://"), "{said}");
    assert!(run(NOBODY, &["tail"], "").failed().contains("no node answers"));
    node.stop();
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let node = node();
    run(&url(&node), &["publish", "a", "1"], "").done();
    let mut child = asking(&url(&node), &["tail", "a", "--after", "0"]).spawn().expect("the command starts");
    drop(child.stdout.take());
    run(&url(&node), &["publish", "a", "2"], "").done();
    assert_eq!(finish(child, "").code, Some(0));
    node.stop();
}
