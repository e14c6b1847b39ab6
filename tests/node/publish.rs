//! Events in, over HTTP.

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, numbered};

const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/shop","type":"orders.placed","data":{"id":7}}"#;

#[test]
fn an_event_comes_in_by_each_mode_of_cloud_events_and_is_the_same() {
    let folder = Folder::new("node-modes");
    let node = Node::start(&folder.0, &[]);
    let structured = node.send("/v1/events", "Application/CloudEvents+JSON; charset=utf-8", EVENT);
    assert_eq!((structured.status, structured.json()), (202, json!({"ids": ["e-1"], "durability": "durable"})));
    let batch = format!("[{}, {}]", EVENT.replace("e-1", "e-2"), EVENT.replace("e-1", "e-3"));
    let batch = node.send("/v1/events", "application/cloudevents-batch+json", &batch);
    assert_eq!((batch.status, batch.json()["ids"].clone()), (202, json!(["e-2", "e-3"])));
    let attributes =
        [("ce-specversion", "1.0"), ("ce-id", "e-4"), ("ce-source", "/shop"), ("ce-type", "orders.placed")];
    let headers = [&attributes[..], &[("content-type", "application/json")]].concat();
    let binary = node.ask("POST", "/v1/events", &headers, r#"{"id":7}"#);
    assert_eq!((binary.status, binary.json()["ids"].clone()), (202, json!(["e-4"])));
    let short = node.send("/v1/events", "application/json", r#"{"type":"orders.placed","data":{"id":7}}"#);
    assert_eq!(short.status, 202);

    let events = node.events("type=orders.*");
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().expect("a text")).collect();
    assert_eq!(ids[..4], ["e-1", "e-2", "e-3", "e-4"]);
    assert_eq!(json!([ids[4]]), short.json()["ids"], "what has no id is given one");
    for event in &events {
        assert_eq!((&event["data"], &event["specversion"]), (&json!({"id": 7}), &json!("1.0")));
    }
    assert!(events[..4].iter().all(|event| event["source"] == "/shop"));
    node.stop();
}

#[test]
fn an_event_that_is_sent_again_is_acknowledged_and_there_once() {
    let folder = Folder::new("node-again");
    let node = Node::start(&folder.0, &[]);
    let first = node.publish(&numbered("a", 0..5));
    assert_eq!(node.publish(&numbered("a", 0..8)).len(), 8);
    let twice = json!([{"type": "b", "id": "b", "data": 1}, {"type": "b", "id": "b", "data": 1}]);
    assert_eq!(node.publish(&twice), ["b", "b"]);
    assert_eq!((node.data("a"), node.data("b")), ((0..8).map(|n| json!(n)).collect(), vec![json!(1)]));

    // Whoever did not hear the answer asks the next process.
    node.signal("-KILL");
    node.ends();
    let node = Node::start(&folder.0, &[]);
    assert_eq!(node.publish(&numbered("a", 0..5)), first);
    assert_eq!(node.data("a").len(), 8);
    node.stop();
}

#[test]
fn an_id_is_that_of_one_event() {
    let folder = Folder::new("node-other");
    let node = Node::start(&folder.0, &[]);
    node.publish(&numbered("a", 0..3));
    let send = |events: &serde_json::Value| node.send("/v1/events", "application/json", &events.to_string());
    let other =
        json!([{"type": "a", "id": "new", "source": "test"}, {"type": "a", "id": "a-1", "source": "test", "data": 7}]);
    let refused = send(&other).problem(409, "conflict");
    assert!(refused.contains("another event of the id \"a-1\""), "{refused}");
    send(&json!({"type": "b", "id": "a-1", "source": "test", "data": 1})).problem(409, "conflict");
    let twice = json!([{"type": "c", "id": "c", "data": 1}, {"type": "c", "id": "c", "data": 2}]);
    send(&twice).problem(409, "conflict");
    assert_eq!((node.data("a"), node.data("c").len()), ((0..3).map(|n| json!(n)).collect(), 0), "none of those");
    let elsewhere = json!({"type": "a", "id": "a-1", "source": "elsewhere", "data": 7});
    assert_eq!(send(&elsewhere).status, 202, "an id counts together with its source");

    node.signal("-KILL");
    node.ends();
    let node = Node::start(&folder.0, &[]);
    node.send("/v1/events", "application/json", &other.to_string()).problem(409, "conflict");
    assert_eq!(node.publish(&numbered("a", 0..3)).len(), 3);
    assert_eq!(node.data("a").len(), 4);
    node.stop();
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let folder = Folder::new("node-batch");
    let node = Node::start(&folder.0, &[]);
    let answer = node.send("/v1/events", "application/json", r#"[{"type":"a"},{"typ":"b"},{"type":"c c"}]"#);
    let detail = answer.problem(400, "malformed-event");
    assert_eq!(
        detail,
        "2 events are malformed, the first is event 1: `type` is missing; send {\"type\": .., \"data\": ..} or a CloudEvent"
    );
    assert_eq!(answer.json()["errors"][1]["index"], 2);
    assert_eq!(node.events("type=a").len(), 0);
    assert_eq!(node.publish(&json!([])), Vec::<String>::new());
    node.publish(&numbered("full", 0..1_024));
    let answer = node.send("/v1/events", "application/json", &numbered("more", 0..1_025).to_string());
    assert!(answer.problem(413, "too-large").contains("http.batch_max"));
    assert_eq!((node.data("full").len(), node.events("type=more").len()), (1_024, 0));
    node.stop();
}

#[test]
fn every_refusal_is_a_problem_that_says_what_to_do() {
    let folder = Folder::new("node-problems");
    let node = Node::start(&folder.0, &[]);
    let send = |media_type, body| node.send("/v1/events", media_type, body);
    assert!(send("application/json", "{").problem(400, "malformed-event").contains("not usable JSON at byte 2"));
    assert!(send("application/json", "7").problem(400, "malformed-event").contains("send one JSON object"));
    assert!(
        send("application/cloudevents+json", r#"{"type":"a","specversion":"0.3"}"#)
            .problem(400, "malformed-event")
            .contains("only \"1.0\"")
    );
    assert!(send("text/plain", EVENT).problem(415, "unsupported-media-type").contains("application/cloudevents+json"));
    assert!(
        send("application/json", r#"{"type":"ringmain.audit.rule.added"}"#)
            .problem(403, "forbidden")
            .contains("the node's own")
    );
    let long = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(2 << 20));
    assert!(send("application/json", &long).problem(413, "too-large").contains("payload_bytes_max"));
    let longer = "x".repeat(5 << 20);
    assert!(send("application/json", &longer).problem(413, "too-large").contains("http.body_bytes_max"));
    assert!(node.get("/v1/event").problem(404, "not-found").contains("/openapi.json"));
    let other = node.ask("DELETE", "/v1/events", &[], "");
    other.problem(405, "method-not-allowed");
    assert_eq!(other.header("allow"), "GET,HEAD,POST");
    assert!(node.get("/v1/events?typ=a").problem(400, "malformed-request").contains("they are: type, source"));
    assert!(node.get("/v1/events?type=a..b").problem(400, "malformed-request").contains("empty segment"));
    assert!(node.get("/v1/events?limit=0").problem(400, "malformed-request").contains("from 1 to 1000"));
    node.stop();
}
