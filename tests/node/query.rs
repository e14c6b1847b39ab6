//! Events out, over HTTP.

use std::thread;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, numbered};

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

#[test]
fn who_waits_hears_of_the_next_event_and_the_end_of_the_node() {
    let folder = Folder::new("node-wait");
    let node = Node::start(&folder.0, &[]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| node.events("type=late.*&wait=60"));
        node.publish(&numbered("early", 0..3));
        node.publish(&numbered("late.x", 0..1));
        assert_eq!(waiting.join().expect("it is answered").len(), 1);
        let forever = scope.spawn(|| node.get("/v1/events?type=never&wait=60"));
        node.signal("-TERM");
        node.hears("it ends");
        // It may have come in before the end, or not any more.
        if let Ok(answer) = forever.join() {
            assert_eq!((answer.status, &*answer.body), (200, "[]"));
        }
    });
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(0), "{said:?}");
}
