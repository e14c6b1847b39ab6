//! A node that is part of another program.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use ringmain::node::health::Health;
use ringmain::node::services::builtin::Task;
use ringmain::node::services::{Service, ServiceFailure, Work};
use ringmain::store::{Durability, Query};
use ringmain::{DeliveryMode, EventId, Node, NodeError, NodeState, Outcome, Payload, ReplayPolicy, RunningNode};
use serde_json::json;

use crate::folder::Folder;
use crate::{Answer, PATIENCE};

/// A node in memory, at a free port.
fn node() -> RunningNode {
    let node = Node::builder().in_memory().listen("127.0.0.1:0").build().expect("it is valid");
    node.start().expect("it starts")
}

fn ask(node: &RunningNode, method: &str, path: &str, body: &str) -> Answer {
    let address = node.address().expect("it listens");
    crate::ask(address, method, path, &[("content-type", "application/json")], body.to_owned().into())
}

#[test]
fn every_setting_is_checked_and_each_fault_told_with_where_it_comes_from() {
    let refused = Node::builder().set("core.max_servces", 5).set("http.page_max", 0).in_memory().build();
    let told = refused.expect_err("both are wrong").to_string();
    assert_eq!(
        told,
        "program: there is no setting core.max_servces; did you mean core.max_services?\n\
         program: http.page_max = \"0\" is not a whole number from 1 to 100,000"
    );
    let open = Node::builder().in_memory().listen("0.0.0.0:0").build().expect("it is well-formed").start();
    assert!(matches!(open, Err(NodeError::Open { .. })), "{open:?}");
}

#[test]
fn what_a_program_publishes_is_kept_and_seen_over_http() {
    let folder = Folder::new("node-embedded");
    let builder = || Node::builder().data(&folder.0).listen("127.0.0.1:0");
    let node = builder().build().expect("it is valid").start().expect("it starts");
    assert_eq!(node.state(), NodeState::Running);
    node.bus().publish("orders.placed", Payload::json(r#"{"id":7}"#)).expect("there is room");
    // What is journaled and what is published durably come into the store by different ways.
    node.bus().flush().expect("nothing is stuck");
    let mut publisher = node.bus().publisher().expect("there is one");
    let event = publisher.event();
    event
        .publish_durable(node.durable(), Durability::Durable, "orders.paid", Payload::json("8"))
        .expect("the disk works");
    drop(publisher);
    node.bus().flush().expect("nothing is stuck");
    let seen = ask(&node, "GET", "/v1/events?type=orders.*", "").json();
    assert_eq!((&seen[0]["data"], &seen[1]["data"]), (&json!({"id": 7}), &json!(8)));
    let report = node.stop();
    assert!(report.is_clean(), "{report}");

    let node = builder().without_http().build().expect("it is valid").start().expect("it starts");
    assert_eq!(node.address(), None);
    let orders = Query::new().pattern(ringmain::Pattern::new("orders.*").expect("a pattern"));
    assert_eq!(orders.stream(&**node.store()).count(), 2);
}

/// Events come to whoever subscribes before the durable publisher has delivered what an earlier process left.
#[test]
fn what_comes_over_http_is_delivered_to_the_program() {
    let node = node();
    let mut inbox = node.bus().subscribe("orders.*").mailbox().expect("there is room");
    assert_eq!(ask(&node, "POST", "/v1/events", r#"{"type":"orders.placed","id":"x","data":[1]}"#).status, 202);
    let delivery = inbox.recv_deadline(PATIENCE).expect("it comes");
    assert_eq!((delivery.meta().original_id(), delivery.payload().text()), (Some("x"), Some("[1]")));
    delivery.ack();
    drop(inbox);
    assert!(node.stop().is_clean());
}

#[test]
fn what_the_program_has_published_is_known_when_it_comes_over_http() {
    let node = node();
    let (on_bus, durable) = (EventId::random(), EventId::random());
    let mut publisher = node.bus().publisher().expect("there is one");
    let event = publisher.event().id(on_bus).source("test");
    event.publish("orders.placed", Payload::json("7")).expect("there is room");
    let event = publisher.event().id(durable).source("test");
    let kept = event.publish_durable(node.durable(), Durability::Durable, "orders.placed", Payload::json("7"));
    kept.expect("there is room");
    drop(publisher);
    node.bus().flush().expect("nothing is stuck");
    let send = |id: EventId, data: u64| {
        let event = json!({"type": "orders.placed", "id": id.to_string(), "source": "test", "data": data});
        ask(&node, "POST", "/v1/events", &event.to_string())
    };
    for id in [on_bus, durable] {
        assert_eq!(send(id, 7).status, 202);
        assert!(send(id, 8).problem(409, "conflict").contains(&id.to_string()));
    }
    assert_eq!(ask(&node, "GET", "/v1/events?type=orders.*", "").json().as_array().map(Vec::len), Some(2));
    assert!(node.stop().is_clean());
}

#[test]
fn tasks_of_a_program_are_done_and_a_reload_that_fails_leaves_nothing() {
    let folder = Folder::new("node-tasks");
    let file = folder.0.join("ringmain.yaml");
    let declared = |handlers: &str| {
        format!("events:\n  subscriptions:\n    - event_type: task.created\n      handlers: [{handlers}]\n")
    };
    fs::write(&file, declared("task_processor")).expect("it can be written");
    let builder = Node::builder().in_memory().without_http().config_file(&file);
    let builder = builder.tasks(|task: Task| async move { Ok(task.kind) });
    // It takes no events, whatever it is called.
    let deaf = Worker { name: "notifier", needs: &[], fails: Arc::default(), told: Arc::default() };
    let node = builder.service(deaf).build().expect("it is valid");
    let (node, mut done) = node.start_with(|bus| bus.subscribe("task.completed").mailbox()).expect("it starts");
    let task = Payload::json(r#"{"task_id": 1, "task_type": "count"}"#);
    node.bus().publish("task.created", task).expect("there is room");
    let completed = done.recv_deadline(PATIENCE).expect("it is done");
    assert!(completed.payload().text().is_some_and(|text| text.contains(r#""result":"count""#)));
    completed.ack();

    let before: Vec<_> = node.services().list().iter().map(|service| service.name.clone()).collect();
    fs::write(&file, declared("task_processor, audit_logger, notifier")).expect("it can be written");
    let refused = node.reload().expect_err("one of them takes no events").to_string();
    assert!(refused.contains("takes no events"), "{refused}");
    let after: Vec<_> = node.services().list().iter().map(|service| service.name.clone()).collect();
    assert_eq!(after, before, "those that were made for it are gone again");
    fs::write(&file, declared("task_processor, audit_logger")).expect("it can be written");
    assert_eq!(node.reload().expect("it is valid").len(), 1);
    assert!(node.services().get("audit_logger").is_some());
    drop(done);
    assert!(node.stop().is_clean());
}

/// One that can be made to fail, and tells what is done to it.
#[derive(Clone)]
struct Worker {
    name: &'static str,
    needs: &'static [&'static str],
    fails: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Worker {
    fn tell(&self, what: &str) {
        self.told.lock().expect("nobody panics").push(format!("{} {what}", self.name));
    }
}

impl Service for Worker {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &str {
        "worker of a test"
    }

    fn needs(&self) -> &[&str] {
        self.needs
    }

    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        let fails = self.fails.load(Ordering::SeqCst);
        self.tell("starts");
        Box::pin(async move { if fails { Err(ServiceFailure::new("told to fail")) } else { Ok(()) } })
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        self.tell("stops");
        Box::pin(async { Ok(()) })
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async { Health::Healthy })
    }
}

#[test]
fn services_start_and_stop_with_the_node_and_over_http() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let worker = |name, needs| Worker { name, needs, fails: Arc::default(), told: Arc::clone(&told) };
    let (store, gateway) = (worker("store", &[]), worker("gateway", &["store"]));
    let builder = Node::builder().in_memory().listen("127.0.0.1:0").set("core.enable_auto_recovery", false);
    let node =
        builder.service(store).service(gateway.clone()).build().expect("it is valid").start().expect("it starts");
    let states = || {
        let state = |name: &str| ask(&node, "GET", &format!("/v1/services/{name}"), "").json()["state"].clone();
        [state("store"), state("gateway")]
    };
    assert_eq!(states(), ["running", "running"]);
    assert_eq!(ask(&node, "POST", "/v1/services/gateway/stop", "").json()["state"], "stopped");
    gateway.fails.store(true, Ordering::SeqCst);
    assert!(ask(&node, "POST", "/v1/services/gateway/start", "").problem(409, "conflict").contains("told to fail"));
    assert_eq!(states(), ["running", "failed"]);
    gateway.fails.store(false, Ordering::SeqCst);
    assert_eq!(ask(&node, "POST", "/v1/services/gateway/restart", "").json()["state"], "running");
    ask(&node, "POST", "/v1/services/gateway/explode", "").problem(404, "not-found");
    node.bus().flush().expect("nothing is stuck");
    let changes = ask(&node, "GET", "/v1/events?type=ringmain.service&limit=1000", "").json();
    let changes: Vec<_> = changes
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| format!("{} {}", event["data"]["name"], event["data"]["to"]))
        .collect();
    assert!(changes.contains(&r#""gateway" "failed""#.to_owned()), "{changes:?}");
    let acts = ask(&node, "GET", "/v1/audit?object=service+gateway", "").json();
    let acts: Vec<_> =
        acts["records"].as_array().expect("a list").iter().map(|record| record["action"].clone()).collect();
    assert_eq!(acts, ["service.stopped", "service.started", "service.started.failed", "service.restarted"]);
    assert!(node.stop().is_clean());
    let told = told.lock().expect("nobody panics");
    assert_eq!(told[..2], ["store starts", "gateway starts"]);
    assert_eq!(told[told.len() - 2..], ["gateway stops", "store stops"], "each before what it needs");
}

#[test]
fn dead_letters_are_seen_redriven_and_purged_over_http() {
    let node = node();
    let works = Arc::new(AtomicBool::new(false));
    let (told, heard) = mpsc::channel();
    let wish = node.bus().subscribe("orders.*").named("bank").mode(DeliveryMode::reliable());
    let subscription = wish.handle_on("bank", {
        let works = Arc::clone(&works);
        move |_, meta| {
            if !works.load(Ordering::SeqCst) {
                return Outcome::Reject("no such account".to_owned());
            }
            drop(told.send(meta.original_id().map(str::to_owned)));
            Outcome::Ack
        }
    });
    let subscription = subscription.expect("there is room");
    let events: Vec<_> = (1..=3).map(|n| json!({"type": "orders.placed", "id": format!("o-{n}")})).collect();
    assert_eq!(ask(&node, "POST", "/v1/events", &json!(events).to_string()).status, 202);
    assert!(node.durable().flush_deadline(PATIENCE), "all are settled");
    let letters = ask(&node, "GET", "/v1/dead-letters?subscription=bank", "").json()["dead_letters"].clone();
    let told_of: Vec<_> = letters
        .as_array()
        .expect("a list")
        .iter()
        .map(|letter| (letter["event"]["id"].clone(), letter["error"].clone()))
        .collect();
    assert_eq!(told_of, [1, 2, 3].map(|n| (json!(format!("o-{n}")), json!("no such account"))));
    assert_eq!(ask(&node, "GET", "/v1/dead-letters?type=other", "").json(), json!({"dead_letters": []}));
    let page = ask(&node, "GET", "/v1/dead-letters?limit=2", "");
    assert_eq!(ask(&node, "GET", &page.next().expect("there is more"), "").json()["dead_letters"][0]["id"], 3);

    works.store(true, Ordering::SeqCst);
    assert_eq!(ask(&node, "POST", "/v1/dead-letters/2/redrive", "").json(), json!({"redriven": 1}));
    assert_eq!(heard.recv_timeout(PATIENCE).expect("it comes again").as_deref(), Some("o-2"));
    ask(&node, "GET", "/v1/dead-letters/2", "").problem(404, "not-found");
    assert_eq!(ask(&node, "DELETE", "/v1/dead-letters/1", "").json(), json!({"purged": 1}));
    assert_eq!(ask(&node, "POST", "/v1/dead-letters/redrive?subscription=bank", "").json(), json!({"redriven": 1}));
    assert_eq!(heard.recv_timeout(PATIENCE).expect("it comes again").as_deref(), Some("o-3"));
    assert_eq!(ask(&node, "GET", "/v1/dead-letters", "").json(), json!({"dead_letters": []}));
    drop(subscription);
    assert!(node.stop().is_clean());
}

#[test]
fn a_replay_brings_past_events_to_who_takes_replays() {
    let node = node();
    let events: Vec<_> = (0..20).map(|n| json!({"type": "a.b", "data": n})).collect();
    assert_eq!(ask(&node, "POST", "/v1/events", &json!(events).to_string()).status, 202);
    assert!(node.durable().flush_deadline(PATIENCE));
    let mut report =
        node.bus().subscribe("a.*").named("report").replay(ReplayPolicy::Safe).mailbox().expect("there is room");
    let dry = ask(&node, "POST", "/v1/replays", r#"{"type":"a.*","rate":10,"dry_run":true}"#).json();
    assert_eq!((&dry["events"], &dry["subscriptions"]), (&json!(20), &json!(["report"])), "{dry}");
    assert!(
        ask(&node, "POST", "/v1/replays", r#"{"from":"soon"}"#).problem(400, "malformed-request").starts_with("from: ")
    );
    ask(&node, "POST", "/v1/replays", r#"{"subscription":"nobody"}"#).problem(409, "conflict");
    let begun = ask(&node, "POST", "/v1/replays", r#"{"type":"a.*","subscription":"report"}"#);
    assert_eq!(begun.status, 202, "{}", begun.body);
    for n in 0..20 {
        let delivery = report.recv_deadline(PATIENCE).expect("it comes again");
        assert_eq!((delivery.payload().text(), delivery.meta().is_replay()), (Some(&*n.to_string()), true));
        delivery.ack();
    }
    let path = format!("/v1/replays/{}", begun.json()["id"]);
    // It ends a moment after its last event.
    let done =
        std::iter::repeat_with(|| ask(&node, "GET", &path, "").json()).find(|replay| replay["state"] != "running");
    assert_eq!(
        done.map(|replay| (replay["state"].clone(), replay["published"].clone())),
        Some((json!("done"), json!(20)))
    );
    let slow = ask(&node, "POST", "/v1/replays", r#"{"type":"a.*","rate":0.01}"#).json();
    let path = format!("/v1/replays/{}", slow["id"]);
    assert_eq!(ask(&node, "DELETE", &path, "").status, 200);
    let ended =
        std::iter::repeat_with(|| ask(&node, "GET", &path, "").json()).find(|replay| replay["state"] != "running");
    assert_eq!(ended.map(|replay| replay["state"].clone()), Some(json!("cancelled")));
    drop(report);
    node.stop();
}

#[test]
fn ten_senders_at_once_lose_and_double_nothing() {
    let folder = Folder::new("node-senders");
    let node = Node::builder().data(&folder.0).listen("127.0.0.1:0").build().expect("it is valid");
    let node = node.start().expect("it starts");
    thread::scope(|scope| {
        for _ in 0..10 {
            // All send the same events, in pieces that overlap.
            scope.spawn(|| {
                for first in (0..50).step_by(5) {
                    let body = crate::numbered("same", first..first + 10).to_string();
                    assert_eq!(ask(&node, "POST", "/v1/events", &body).status, 202);
                }
            });
        }
    });
    let events = Query::new().pattern(ringmain::Pattern::new("same").expect("a pattern"));
    let mut ids: Vec<_> = events.stream(&**node.store()).map(|event| event.expect("it is whole").meta().id()).collect();
    assert_eq!(ids.len(), 55);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 55);
    assert!(node.stop().is_clean());
}

#[test]
fn it_is_not_ready_while_a_part_of_its_bus_fails() {
    let node = node();
    let ready = || {
        let answer = ask(&node, "GET", "/health/ready", "");
        (answer.status, answer.json()["health"].as_str().expect("a text").to_owned())
    };
    assert_eq!(ready(), (200, "healthy".to_owned()));
    // As a journal does whose store fails.
    let degraded = node.bus().degrade();
    assert_eq!(ready(), (503, "degraded".to_owned()));
    drop(degraded);
    assert_eq!(ready(), (200, "healthy".to_owned()));
    assert!(node.stop().is_clean());
}
