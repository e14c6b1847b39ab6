//! Events out, over HTTP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, PATIENCE, numbered};

#[test]
fn pages_follow_each_other_without_a_gap_and_end() {
    let folder = Folder::new("node-pages");
    let node = Node::start(&folder.0, &[]);
    node.publish(&numbered("a.b", 0..25));
    node.publish(&numbered("other", 0..5));
    node.publish(&numbered("a.c", 25..30));
    let (mut path, mut seen) = (Some("/v1/events?type=a.*&limit=7".to_owned()), Vec::new());
    while let Some(page) = path {
        let answer = node.get(&page);
        let events = answer.json().as_array().expect("an array").clone();
        assert!(events.len() <= 7);
        seen.extend(events.iter().map(|event| event["data"].as_u64().expect("a number")));
        path = answer.next();
    }
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    let newest: Vec<_> =
        node.events("type=a.*&limit=3&order=newest").iter().map(|event| event["data"].clone()).collect();
    assert_eq!(newest, [29, 28, 27]);
    assert_eq!(node.events("source=test&limit=1000").len(), 35);
    assert_eq!(node.events("source=nobody").len(), 0);
    let last = node.events("type=a.c&order=newest&limit=1")[0]["position"].as_str().expect("a text").to_owned();
    assert_eq!(node.events(&format!("type=a.*&after={last}")).len(), 0);
    node.stop();
}

#[test]
fn an_answer_ends_before_it_is_too_long() {
    let folder = Folder::new("node-page-bytes");
    let mut command = crate::command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    let node = Node::run({
        command.env("RINGMAIN_HTTP_PAGE_BYTES_MAX", "4KiB");
        command
    });
    node.publish(&(0..10).map(|n| json!({"type": "a", "data": format!("{n}{}", "x".repeat(1_500))})).collect());
    let (mut path, mut seen) = (Some("/v1/events?type=a".to_owned()), 0);
    while let Some(page) = path {
        let answer = node.get(&page);
        assert!(answer.body.len() <= 4 << 10, "{}", answer.body.len());
        let events = answer.json().as_array().expect("an array").clone();
        assert!(!events.is_empty() && events.len() < 3);
        seen += events.len();
        path = answer.next();
    }
    assert_eq!(seen, 10);
    node.stop();
}

/// A node where one query may wait at a time.
fn one_may_wait(folder: &Folder) -> Node {
    let mut command = crate::command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    command.env("RINGMAIN_HTTP_WAITING_MAX", "1").env("RINGMAIN_HTTP_WAIT_MAX", "1h");
    Node::run(command)
}

/// Returns when the place of the one who may wait is taken for longer than it takes to look.
fn until_one_waits(node: &Node) {
    while node.get("/v1/events?type=nothing&wait=1").status != 503 {}
}

#[test]
fn who_goes_away_gives_up_the_place_of_one_who_waits() {
    let folder = Folder::new("node-wait-gone");
    let node = one_may_wait(&folder);
    let waits = Mutex::new(None);
    thread::scope(|scope| {
        let gone = scope.spawn(|| {
            loop {
                let mut stream = TcpStream::connect(node.address).expect("it listens");
                *waits.lock().expect("nobody panics") = Some(stream.try_clone().expect("a socket"));
                let request = "GET /v1/events?type=never&wait=3600 HTTP/1.1";
                write!(stream, "{request}\r\nhost: {}\r\nconnection: close\r\n\r\n", node.address).expect("it reads");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("it is closed");
                // Somebody else only looked whether there is a place.
                if !answer.starts_with("HTTP/1.1 503") {
                    return answer;
                }
            }
        });
        until_one_waits(&node);
        let waits = waits.lock().expect("nobody panics").take().expect("there is one");
        waits.shutdown(Shutdown::Both).expect("it is open");
        assert_eq!(gone.join().expect("it has gone"), "");
    });
    let begun = Instant::now();
    while node.get("/v1/events?type=never&wait=1").status == 503 {
        assert!(begun.elapsed() < PATIENCE, "the place is not given back");
    }
    node.stop();
}

#[test]
fn the_media_type_of_a_page_is_what_is_accepted_by_its_name() {
    const BATCH: &str = "application/cloudevents-batch+json";
    const JSON: &str = "application/json";
    let folder = Folder::new("node-accept");
    let node = Node::start(&folder.0, &[]);
    for (accept, media_type) in [
        ("*/*", JSON),
        (BATCH, BATCH),
        ("text/html, Application/CloudEvents-Batch+JSON ; q=0.5", BATCH),
        ("application/cloudevents-batch+json;q=0", JSON),
        ("application/cloudevents-batch+json;q=0.4, application/json;q=0.9", JSON),
        ("application/cloudevents-batch+jsonx", JSON),
        ("text/x; of=application/cloudevents-batch+json", JSON),
    ] {
        let answer = node.ask("GET", "/v1/events", &[("accept", accept)], "");
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type), "{accept}");
    }
    node.stop();
}

#[test]
fn who_waits_hears_of_the_next_event_and_the_end_of_the_node() {
    let folder = Folder::new("node-wait");
    let node = one_may_wait(&folder);
    let waits = |pattern: &str| loop {
        let answer = node.get(&format!("/v1/events?type={pattern}&wait=3600"));
        // Somebody else only looked whether there is a place.
        if answer.status != 503 {
            return answer;
        }
    };
    thread::scope(|scope| {
        let waiting = scope.spawn(|| waits("late.*"));
        until_one_waits(&node);
        node.publish(&numbered("early", 0..3));
        node.publish(&numbered("late.x", 0..1));
        let answer = waiting.join().expect("it is answered");
        assert_eq!(answer.json().as_array().map(Vec::len), Some(1), "{}", answer.body);
        let forever = scope.spawn(|| waits("never"));
        until_one_waits(&node);
        node.signal("-TERM");
        let answer = forever.join().expect("it is answered");
        assert_eq!((answer.status, &*answer.body), (200, "[]"));
    });
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(0), "{said:?}");
}
