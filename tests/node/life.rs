//! How a node begins and ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, PATIENCE, command, numbered};

#[test]
fn after_a_restart_the_history_is_there() {
    let folder = Folder::new("node-restart");
    let node = Node::start(&folder.0, &[]);
    node.publish(&numbered("a", 0..100));
    node.stop();
    let node = Node::start(&folder.0, &[]);
    assert_eq!(node.data("a"), (0..100).map(|n| json!(n)).collect::<Vec<_>>());
    let states: Vec<_> = node.data("ringmain.node").iter().map(|data| data["state"].clone()).collect();
    assert_eq!(states, ["running", "stopping", "running"], "its own life is told in events");
    node.stop();
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = Folder::new("node-kill");
    let node = Node::start(&folder.0, &[]);
    for round in 0..5 {
        node.publish(&numbered("a", round * 10..(round + 1) * 10));
    }
    node.signal("-KILL");
    node.ends();
    let node = Node::start(&folder.0, &[]);
    assert_eq!(node.data("a"), (0..50).map(|n| json!(n)).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn in_memory_it_keeps_nothing_and_says_so() {
    let folder = Folder::new("node-memory");
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    command.current_dir(&folder.0).env("EVENT_STORE_TYPE", "memory");
    let node = Node::run(command);
    let answer = node.send("/v1/events", "application/json", r#"{"type":"a","id":"1"}"#);
    assert_eq!(answer.json(), json!({"ids": ["1"], "durability": "accepted"}));
    assert_eq!(node.events("type=a").len(), 1);
    node.stop();
    assert_eq!(folder.0.read_dir().expect("it is there").count(), 0);
}

/// A request whose body is half sent, so that the node waits for the rest.
fn half_sent(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let body = r#"{"type":"late","#;
    let head = format!("POST /v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n", node.address);
    write!(stream, "{head}content-length: 24\r\nexpect: 100-continue\r\n\r\n").expect("it reads");
    // The handler has begun when it asks for the body.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).expect("it asks for the body");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("it reads");
    stream
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let folder = Folder::new("node-drain");
    let node = Node::start(&folder.0, &[]);
    let mut stream = half_sent(&node);
    node.signal("-TERM");
    node.hears("it ends");
    stream.write_all(br#""data":7}"#).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers, and closes");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(0), "{said:?}");
    let node = Node::start(&folder.0, &[]);
    assert_eq!(node.data("late"), [7]);
    node.stop();
}

#[test]
fn a_request_that_does_not_end_is_cut_at_the_deadline_and_said() {
    let folder = Folder::new("node-deadline");
    let mut command = command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    command.env("RINGMAIN_HTTP_SHUTDOWN_DEADLINE", "200ms");
    let node = Node::run(command);
    let _stream = half_sent(&node);
    node.signal("-INT");
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(1));
    assert!(said.iter().any(|line| line.contains("1 connections were cut")), "{said:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = Folder::new("node-second");
    let mut command = command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    command.env("RINGMAIN_HTTP_SHUTDOWN_DEADLINE", "1h");
    let node = Node::run(command);
    let _stream = half_sent(&node);
    node.signal("-TERM");
    node.hears("it ends");
    node.signal("-TERM");
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(1));
    assert!(said.iter().any(|line| line.contains("a second signal")), "{said:?}");
}

#[test]
fn what_cannot_start_says_why() {
    let folder = Folder::new("node-refused");
    let data = folder.0.display().to_string();
    let refused = |flags: &[&str]| {
        let output = command(flags).stdin(Stdio::null()).output().expect("it ends");
        assert!(output.stdout.is_empty(), "it does not say that it listens");
        (output.status.code(), String::from_utf8(output.stderr).expect("it is text"))
    };
    let (code, said) = refused(&["--listen", "0.0.0.0:0", "--data", &data]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains(
            "0.0.0.0:0 can be reached from other machines, and it has no tokens (http.token_file) and no TLS"
        ),
        "{said}"
    );
    assert_eq!(folder.0.read_dir().expect("it is there").count(), 0, "nothing was begun");
    let (code, said) = refused(&["--listen", "here", "--data", &data]);
    assert_eq!(code, Some(2));
    assert!(said.contains("flag --listen: http.listen = \"here\" is not an IP address and a port"), "{said}");

    let node = Node::start(&folder.0, &[]);
    let (code, said) = refused(&["--listen", "127.0.0.1:0", "--data", &data]);
    assert_eq!(code, Some(1));
    assert!(said.contains("in use: another process has this store open"), "{said}");
    let other = Folder::new("node-refused-other");
    let (code, said) = refused(&["--listen", &node.address.to_string(), "--data", &other.0.display().to_string()]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("{} cannot be listened on", node.address)), "{said}");
    node.stop();
}

#[test]
fn it_says_whether_it_is_ready() {
    let folder = Folder::new("node-ready");
    let node = Node::start(&folder.0, &[]);
    assert_eq!((node.get("/health/live").status, node.get("/health/live").json()), (200, json!({"status": "live"})));
    let ready = node.get("/health/ready");
    assert_eq!(
        (ready.status, &ready.json()["status"], &ready.json()["node"]),
        (200, &json!("ready"), &json!("running"))
    );
    node.stop();
}

#[test]
fn room_for_state_is_kept_unless_it_is_not_to_be() {
    let folder = Folder::new("node-reserve");
    let reserve = folder.0.join("table/reserve");
    let rule = |id| json!({"id": id, "targets": ["bank"]}).to_string();
    let node = Node::start(&folder.0, &[]);
    assert_eq!(node.send("/v1/rules", "application/json", &rule("one")).status, 201);
    assert!(reserve.exists(), "by default");
    node.stop();
    let node = Node::start(&folder.0, &["--state-reserve", "no"]);
    assert!(!reserve.exists());
    assert_eq!(node.send("/v1/rules", "application/json", &rule("two")).status, 201);
    assert!(!reserve.exists());
    let settings = node.get("/v1/config").json()["settings"].clone();
    let settings = settings.as_array().expect("they are listed");
    let setting = settings.iter().find(|setting| setting["name"] == "events.store.state_reserve").expect("it is one");
    assert_eq!((&setting["value"], &setting["origin"]), (&json!("false"), &json!("flag --state-reserve")));
    node.stop();
}
