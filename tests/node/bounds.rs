//! What one client can take of the node, and what is counted of those who wanted more.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, PATIENCE, command};

fn started(folder: &Folder, environment: &[(&str, &str)]) -> Node {
    let mut command = command(&["--listen", "127.0.0.1:0", "--data", &folder.0.join("data").display().to_string()]);
    command.envs(environment.iter().copied());
    Node::run(command)
}

/// How often something was refused for a reason.
fn refused(node: &Node, reason: &str) -> u64 {
    let metrics = node.get("/metrics").body;
    let line = format!("ringmain_http_refused_total{{reason=\"{reason}\"}} ");
    let count = metrics.lines().find_map(|other| other.strip_prefix(&line));
    count.unwrap_or_else(|| panic!("{line}: {metrics}")).parse().expect("a number")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
    }
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    stream
}

#[test]
fn refusals_are_counted_by_reason() {
    let folder = Folder::new("node-counted");
    let node = started(&folder, &[]);
    node.get("/nothing").problem(404, "not-found");
    node.ask("PATCH", "/v1/events", &[], "").problem(405, "method-not-allowed");
    node.send("/v1/events", "application/json", "{").problem(400, "malformed-event");
    node.send("/v1/events", "text/x", "").problem(415, "unsupported-media-type");
    node.ask("GET", "/v1/events", &[("origin", "https://evil.example")], "").problem(403, "foreign-origin");
    node.get("/v1/events/stream?after=x").problem(400, "malformed-request");
    let mut unreadable = connect(&node);
    unreadable.write_all(b"this is no request\r\n\r\n").expect("it reads");
    let _ = unreadable.read_to_end(&mut Vec::new());
    let once = ["not-found", "method-not-allowed", "malformed-event", "unsupported-media-type"];
    for reason in once.into_iter().chain(["foreign-origin", "malformed-request"]) {
        assert_eq!(refused(&node, reason), 1, "{reason}");
    }
    until("what is no request is counted", || refused(&node, "headers-unreadable") == 1);
    assert_eq!((refused(&node, "unauthorized"), refused(&node, "failed")), (0, 0));
    node.stop();
}

#[test]
fn headers_are_no_longer_than_the_buffer_of_a_connection() {
    let folder = Folder::new("node-headers");
    let node = started(&folder, &[]);
    let headers = |bytes: usize| node.ask("GET", "/health/live", &[("x-long", &"x".repeat(bytes))], "").status;
    assert_eq!((headers(32 << 10), headers(256 << 10)), (200, 431));
    node.stop();
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut() {
    let folder = Folder::new("node-unread");
    let node = started(&folder, &[("RINGMAIN_HTTP_WRITE_TIMEOUT", "100ms"), ("RINGMAIN_HTTP_PAGE_BYTES_MAX", "64MiB")]);
    // More than the sockets of both sides hold.
    let event = json!({"type": "long", "data": "x".repeat(900 << 10)});
    for _ in 0..24 {
        node.publish(&json!([event]));
    }
    let mut unread = connect(&node);
    write!(unread, "GET /v1/events?type=long HTTP/1.1\r\nhost: {}\r\n\r\n", node.address).expect("it reads");
    until("it is cut", || refused(&node, "answer-unread") == 1);
    let mut came = Vec::new();
    let _ = unread.read_to_end(&mut came);
    assert!(came.len() < 24 * (900 << 10), "{}", came.len());
    node.stop();
}

#[test]
fn bodies_that_anybody_can_send_leave_room_for_those_of_others() {
    let folder = Folder::new("node-unsigned");
    let (file, secret) = (folder.0.join("ringmain.yaml"), folder.0.join("secret"));
    fs::write(&secret, "of-git\n").expect("it can be written");
    let webhook = format!("webhooks:\n  - name: git\n    secret_file: {}\n", secret.display());
    fs::write(&file, format!("http:\n  bodies_bytes_max: 1MiB\n{webhook}")).expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--config", &file.display().to_string()]);
    // Not signed at all, it is refused before it has come.
    let path = "/v1/webhooks/git";
    let mut unsigned = connect(&node);
    write!(unsigned, "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\r\n", node.address)
        .expect("it reads");
    let mut status = [0; 12];
    unsigned.read_exact(&mut status).expect("it is answered");
    assert_eq!(&status, b"HTTP/1.1 401");

    let half_sent = || {
        let mut half = connect(&node);
        let head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\nx-hub-signature-256: sha256=00", node.address);
        write!(half, "{head}\r\ncontent-length: 250000\r\n\r\n").expect("it reads");
        half.write_all(&vec![b'x'; 249_000]).expect("it reads");
        half.set_nonblocking(true).expect("it can be set");
        half
    };
    let mut half = half_sent();
    let other = || node.ask("POST", path, &[("x-hub-signature-256", "sha256=00")], vec![b'y'; 200_000]).status;
    until("it has its room", || {
        let status = other();
        // Those that came at the same time can have taken its room.
        if half.peek(&mut [0]).is_ok() {
            half = half_sent();
        }
        assert!([401, 503].contains(&status), "{status}");
        status == 503 && half.peek(&mut [0]).is_err()
    });
    let event = json!({"type": "long", "data": "x".repeat(700 << 10)});
    node.publish(&json!([event]));
    drop(half);
    until("its room is given back", || other() == 401);
    node.stop();
}

#[test]
fn a_page_of_the_audit_trail_ends_before_it_is_too_long() {
    let folder = Folder::new("node-audit-bytes");
    let node = started(&folder, &[("RINGMAIN_HTTP_PAGE_BYTES_MAX", "2KiB")]);
    for n in 0..10 {
        let rule = json!({"id": format!("r{n}"), "name": "x".repeat(200), "targets": ["a"]});
        let added = node.send("/v1/rules", "application/json", &rule.to_string());
        assert_eq!(added.status, 201, "{}", added.body);
    }
    let (mut path, mut objects, mut pages) = (Some("/v1/audit?action=rule.*".to_owned()), Vec::new(), 0);
    while let Some(page) = path {
        let answer = node.get(&page);
        let records = answer.json()["records"].as_array().expect("a list").clone();
        assert!(answer.body.len() <= (2 << 10) + 2 || records.len() == 1, "{}", answer.body.len());
        objects.extend(records.iter().map(|record| record["object"].as_str().expect("a text").to_owned()));
        pages += 1;
        path = answer.next();
    }
    assert_eq!(objects, (0..10).map(|n| format!("rule r{n}")).collect::<Vec<_>>());
    assert!(pages > 2, "{pages}");
    node.stop();
}
