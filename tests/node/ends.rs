//! What was taken is not lost where a node ends, and where the next one begins.

use std::fs;
use std::sync::mpsc;
use std::time::Instant;

use ringmain::store::{AuditQuery, Durability, LogStore};
use ringmain::{Node, NodeBuilder, NodeError, NodeState, Payload, RunningNode};
use serde_json::json;

use crate::folder::Folder;
use crate::{Node as Process, PATIENCE, numbered};

/// The audit logger hears of orders.
const AUDITED: &str = "events:\n  subscriptions:\n    - event_type: orders.*\n      handlers: [audit_logger]\n";

fn node(folder: &Folder) -> NodeBuilder {
    Node::builder().data(folder.0.join("data")).without_http().set("http.shutdown_deadline", "10m")
}

/// Publishes orders, which are in the store then.
fn publish(node: &RunningNode, numbers: std::ops::Range<u32>) {
    let mut publisher = node.bus().publisher().expect("there is one");
    for number in numbers {
        let (event, data) = (publisher.event(), number.to_string());
        let kept = event.publish_durable(node.durable(), Durability::Written, "orders.placed", Payload::json(&data));
        kept.expect("the disk works");
    }
}

/// Waits until something is so.
fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it comes to be so");
    }
}

#[test]
fn what_is_only_in_the_log_comes_to_services_before_they_end() {
    const EVENTS: u32 = 1_000;
    let folder = Folder::new("node-end-log");
    let file = folder.0.join("ringmain.yaml");
    fs::write(&file, AUDITED).expect("it can be written");
    let builder = node(&folder).config_file(&file).set("events.bus.buffer_size", 8);
    let node = builder.build().expect("it is valid").start().expect("it starts");
    // Holds up its lane until the node says that it ends.
    let (open, gate) = mpsc::channel::<()>();
    let slow = node.bus().subscribe("orders.*").capacity(1).handle_on("slow", move |_, _| _ = gate.recv());
    let slow = slow.expect("there is room");
    let mut open = Some(open);
    let ends = node.bus().subscribe("ringmain.node").handle(move |_, meta| {
        if meta.get("state") == Some("stopping") {
            drop(open.take());
        }
    });
    let ends = ends.expect("there is room");
    publish(&node, 0..EVENTS);
    assert!(node.durable().counts().delivered < 100, "the others are in the log alone");
    let report = node.stop();
    assert!(report.is_clean(), "{report}");
    drop((slow, ends));
    let store = LogStore::open(folder.0.join("data")).expect("it was closed");
    assert_eq!(AuditQuery::new().object("topic orders.placed").stream(&store).count(), EVENTS as usize);
}

#[test]
fn what_waits_for_a_service_that_is_stopped_comes_again() {
    let folder = Folder::new("node-end-stopped");
    let file = folder.0.join("ringmain.yaml");
    fs::write(&file, AUDITED).expect("it can be written");
    let start = || Process::start(&folder.0.join("data"), &["--config", &file.display().to_string()]);
    let audited = |node: &Process| {
        let records = node.get("/v1/audit?object=topic+orders.placed").json()["records"].clone();
        records.as_array().expect("a list").len()
    };
    let node = start();
    assert_eq!(node.ask("POST", "/v1/services/audit_logger/stop", &[], "").status, 200);
    let is_paused = || {
        let subscriptions = node.get("/v1/subscriptions").json()["subscriptions"].clone();
        let all = subscriptions.as_array().expect("a list");
        all.iter().any(|one| one["name"] == "audit_logger: orders.*" && one["paused"] == true)
    };
    until(is_paused);
    node.publish(&numbered("orders.placed", 0..3));
    assert_eq!(audited(&node), 0);
    node.signal("-TERM");
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(1), "{said:?}");
    assert!(said.iter().any(|line| line.contains("3 events wait for services that do not run")), "{said:?}");

    let node = start();
    until(|| audited(&node) == 3);
    assert_eq!(node.get("/v1/dead-letters").json(), json!({"dead_letters": []}), "and nowhere else");
    node.stop();
}

#[test]
fn who_subscribes_while_it_starts_gets_what_an_earlier_process_has_left() {
    let folder = Folder::new("node-end-left");
    let builder = || node(&folder).build().expect("it is valid");
    // Nobody reads, and nobody waits for that.
    let earlier = node(&folder).set("http.shutdown_deadline", "1ms").build().expect("it is valid");
    let (earlier, unread) =
        earlier.start_with(|bus| bus.subscribe("orders.*").capacity(1).mailbox()).expect("it starts");
    publish(&earlier, 0..20);
    assert!(!earlier.stop().is_clean());
    drop(unread);

    let (node, mut inbox) = builder().start_with(|bus| bus.subscribe("orders.*").mailbox()).expect("it starts");
    for number in 0..20 {
        let delivery = inbox.recv_deadline(PATIENCE).expect("it comes");
        assert_eq!(delivery.payload().text(), Some(&*number.to_string()));
        delivery.ack();
    }
    drop(inbox);
    assert!(node.stop().is_clean());

    let refused = builder().start_with(|_| Err::<(), _>("there is no such table"));
    assert!(matches!(&refused, Err(NodeError::Program(error)) if error.to_string() == "there is no such table"));
    drop(refused);
    builder().start().expect("it has let go of the store").stop();
}

/// No runtime lets its threads wait for another one.
#[tokio::test]
async fn it_starts_and_stops_inside_of_a_runtime() {
    let builder = || Node::builder().in_memory().listen("127.0.0.1:0").build().expect("it is valid");
    let node = builder().start().expect("it starts");
    assert_eq!(node.reload().expect("nothing is wrong"), []);
    assert_eq!(node.state(), NodeState::Running);
    assert!(node.stop().is_clean());
    let dropped = builder().start().expect("it starts");
    let bus = dropped.bus().clone();
    drop(dropped);
    assert_eq!(bus.state(), ringmain::BusState::Stopped);
    let taken = builder().start().expect("it starts");
    let address = taken.address().expect("it listens");
    let refused = Node::builder().in_memory().listen(address).build().expect("it is valid").start();
    assert!(matches!(refused, Err(NodeError::Listen { .. })), "{refused:?}");
}
