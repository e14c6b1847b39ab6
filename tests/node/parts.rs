//! The parts of a node together: folders that are watched, live streams, metrics, webhooks, declared subscriptions.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, PATIENCE, numbered};

#[test]
fn what_happens_in_a_watched_folder_is_published() {
    let folder = Folder::new("node-watch");
    let watched = folder.0.join("docs");
    fs::create_dir(&watched).expect("it can be made");
    let node = Node::start(&folder.0.join("data"), &["--watch", &watched.display().to_string()]);
    let services = node.get("/v1/services").json()["services"].clone();
    let watcher = services
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["name"] == "watch-docs")
        .expect("it is there")
        .clone();
    assert_eq!((&watcher["state"], &watcher["health"]), (&json!("running"), &json!("healthy")), "{watcher}");
    fs::write(watched.join("a.txt"), "hello").expect("it can be written");
    let events = node.events("type=filesystem.**&wait=60");
    assert!(events[0]["data"].to_string().contains("a.txt"), "{events:?}");
    node.stop();
}

/// Reads an event stream to the line of this event's data.
fn stream(node: &Node, query: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(node.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    write!(stream, "GET /v1/events/stream?{query} HTTP/1.1\r\nhost: {}\r\n\r\n", node.address).expect("it reads");
    BufReader::new(stream)
}

fn next_data(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).expect("it is told") > 0, "it has not ended");
        if let Some(data) = line.strip_prefix("data:") {
            return data.trim().to_owned();
        }
    }
}

#[test]
fn a_stream_brings_history_and_what_comes_and_ends_with_the_node() {
    let folder = Folder::new("node-stream");
    let node = Node::start(&folder.0, &[]);
    node.publish(&numbered("a.b", 0..3));
    let mut events = stream(&node, "type=a.*&after=0");
    let numbers = |events: &mut BufReader<TcpStream>, count: usize| -> Vec<_> {
        let event = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
        (0..count).map(|_| event(next_data(events))["data"].clone()).collect()
    };
    assert_eq!(numbers(&mut events, 3), [0, 1, 2]);
    node.publish(&numbered("a.b", 3..5));
    assert_eq!(numbers(&mut events, 2), [3, 4]);
    node.stop();
    let mut rest = String::new();
    events.read_to_string(&mut rest).expect("it ends, and is not cut");
    assert!(rest.ends_with("\r\n0\r\n\r\n") || rest == "0\r\n\r\n", "{rest:?}");
}

#[test]
fn metrics_are_there_for_prometheus_under_the_configured_name() {
    let folder = Folder::new("node-metrics");
    let mut command = crate::command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    command.env("RINGMAIN_METRICS_NAMESPACE", "mcp");
    let node = Node::run(command);
    node.publish(&numbered("a.b", 0..7));
    node.events("type=a.*&wait=1");
    let metrics = node.get("/metrics");
    assert_eq!((metrics.status, metrics.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.body.contains("mcp_events_published_total{event_type=\"a.b\"} 7"), "{}", metrics.body);
    node.stop();
}

#[test]
fn a_signed_webhook_is_an_event_and_another_is_none() {
    let folder = Folder::new("node-webhook");
    let (file, secret) = (folder.0.join("ringmain.yaml"), folder.0.join("secret"));
    fs::write(&secret, "It's a Secret to Everybody\n").expect("it can be written");
    fs::write(&file, format!("webhooks:\n  - name: git\n    secret_file: {}\n    id_header: x-id\n", secret.display()))
        .expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--config", &file.display().to_string()]);
    // Of this body, by this secret, as the documentation of a known sender has it.
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let send = |name: &str, signature: &str, body: &'static str| {
        let headers = [("x-hub-signature-256", signature), ("content-type", "text/plain"), ("x-id", "d-1")];
        node.ask("POST", &format!("/v1/webhooks/{name}"), &headers, body)
    };
    assert_eq!(send("git", signature, "Hello, World!").json(), json!({"ids": ["d-1"], "durability": "durable"}));
    assert_eq!(send("git", signature, "Hello, World!").status, 202, "sent again, it is there once");
    send("git", signature, "Hello, World?").problem(401, "unauthorized");
    send("other", signature, "Hello, World!").problem(404, "not-found");
    assert_eq!(node.data("external.webhook.**"), ["Hello, World!"]);
    assert_eq!(node.ask("POST", "/v1/services/git/stop", &[], "").status, 200);
    send("git", signature, "Hello, World!").problem(503, "unavailable");
    node.stop();
}

#[test]
fn declared_subscriptions_begin_and_end_with_a_reload_and_all_or_none() {
    let folder = Folder::new("node-declared");
    let file = folder.0.join("ringmain.yaml");
    let declared = |pattern: &str| {
        format!("events:\n  subscriptions:\n    - event_type: \"{pattern}\"\n      handlers: [audit_logger]\n")
    };
    fs::write(&file, declared("orders.*")).expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--config", &file.display().to_string()]);
    let names = || {
        let subscriptions = node.get("/v1/subscriptions").json()["subscriptions"].clone();
        let names = subscriptions
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["name"].as_str().expect("a text").to_owned());
        names.filter(|name| name.starts_with("audit_logger")).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["audit_logger: orders.*"]);
    node.publish(&json!([{"type": "orders.placed", "id": "o-1"}]));
    let labels = "event_type=\"orders.placed\",handler=\"audit_logger\"";
    let handled = format!("ringmain_events_processed_total{{{labels},status=\"success\"}} 1");
    let begun = Instant::now();
    while !node.get("/metrics").body.lines().any(|line| line == handled) {
        assert!(begun.elapsed() < PATIENCE, "{handled}");
    }
    fs::write(file.with_extension("new"), declared("payments.*")).expect("it can be written");
    fs::rename(file.with_extension("new"), &file).expect("it can be put there");
    node.signal("-HUP");
    node.hears("events.subscriptions: audit_logger: orders.* -> audit_logger: payments.*");
    assert_eq!(names(), ["audit_logger: payments.*"]);
    node.stop();
}
