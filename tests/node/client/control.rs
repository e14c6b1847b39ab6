//! What is seen and done from the command line.

use std::fs;

use ringmain::node::services::Service;
use ringmain::{Node, ReplayPolicy};
use serde_json::json;

use super::{node, run, url};
use crate::PATIENCE;
use crate::folder::Folder;

struct Gateway;

impl Service for Gateway {
    fn name(&self) -> &str {
        "gateway"
    }

    fn kind(&self) -> &str {
        "service of a test"
    }
}

#[test]
fn the_health_of_a_node_is_an_exit_code_and_a_line_a_part() {
    let node = Node::builder().in_memory().listen("127.0.0.1:0").service(Gateway).build().expect("it is valid");
    let node = node.start().expect("it starts");
    let shown = run(&url(&node), &["health"], "");
    let lines: Vec<_> = shown.done().lines().collect();
    assert_eq!(lines[0], format!("{} is ready, running", url(&node)));
    let parts: Vec<_> = lines[1..].iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(parts[1..5], ["bus healthy", "store healthy", "live healthy", "service gateway healthy running"]);
    assert_eq!(run(&url(&node), &["health", "--json"], "").json()["status"], "ready");

    // As a journal does whose store fails.
    let degraded = node.bus().degrade();
    let shown = run(&url(&node), &["health"], "");
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(shown.stdout.starts_with(&format!("{} is not ready, running\nnode", url(&node))), "{shown:?}");
    drop(degraded);
    run(&url(&node), &["health"], "").done();
    assert!(node.stop().is_clean());
}

#[test]
fn services_are_listed_stopped_started_and_restarted() {
    let node = Node::builder().in_memory().listen("127.0.0.1:0").service(Gateway).build().expect("it is valid");
    let node = node.start().expect("it starts");
    let does = |flags: &[&str]| {
        let run = run(&url(&node), &[&["services"], flags].concat(), "");
        run.done().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(does(&[])[..3], ["gateway", "running", "healthy"]);
    assert_eq!(does(&["stop", "gateway"])[..2], ["gateway", "stopped"]);
    assert_eq!(node.services().get("gateway").map(|service| service.state.to_string()).as_deref(), Some("stopped"));
    assert_eq!(does(&["start", "gateway"])[..2], ["gateway", "running"]);
    assert_eq!(does(&["restart", "gateway"])[..2], ["gateway", "running"]);
    let told = run(&url(&node), &["services", "stop", "gateway", "--json"], "").json();
    assert_eq!((&told["name"], &told["state"]), (&json!("gateway"), &json!("stopped")));
    assert_eq!(run(&url(&node), &["services", "--json"], "").json()["services"][0]["state"], "stopped");
    let unknown = run(&url(&node), &["services", "start", "gate/way"], "");
    assert!(unknown.failed().contains("gate/way"), "{unknown:?}");
    assert!(node.stop().is_clean());
}

#[test]
fn rules_are_listed_explained_and_other_ones_tried() {
    let folder = Folder::new("client-rules");
    let node = node();
    assert_eq!(
        run(&url(&node), &["rules", "list"], "").done(),
        "there are no rules: every subscription gets what its pattern matches\n"
    );
    let rule = json!({
        "id": "large", "filter": {"event_types": ["orders.*"]}, "targets": ["fraud"], "priority": 5,
        "conditions": [{"field": "payload.total", "greater_than": 1000}],
    });
    let address = node.address().expect("it listens");
    let headers = [("content-type", "application/json")];
    assert_eq!(crate::ask(address, "POST", "/v1/rules", &headers, rule.to_string().into()).status, 201);
    assert_eq!(run(&url(&node), &["rules", "list"], "").done(), "large  on  5  orders.*  -> fraud\n");

    let event = |total: u64| json!({"type": "orders.placed", "data": {"total": total}}).to_string();
    let shown = run(&url(&node), &["rules", "explain", &event(7)], "");
    assert!(shown.done().starts_with("rule  large  -  "), "{shown:?}");
    assert!(shown.stdout.contains("payload.total is 7") && shown.stdout.contains("journal"), "{shown:?}");
    let told = run(&url(&node), &["rules", "explain", "-", "--json"], &event(1_001)).json();
    assert_eq!(told["rules"][0]["matches"], true);
    let wrong = run(&url(&node), &["rules", "explain", "orders.placed"], "");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let malformed = run(&url(&node), &["rules", "explain", "{}"], "");
    assert!(malformed.failed().contains("`type` is missing"), "{malformed:?}");

    for total in [500, 1_500, 2_500] {
        run(
            &url(&node),
            &["publish", "orders.placed", &json!({"total": total}).to_string(), "--id", &format!("o-{total}")],
            "",
        )
        .done();
    }
    let file = folder.0.join("rules.json");
    let same = run(&url(&node), &["rules", "list", "--json"], "");
    fs::write(&file, same.done()).expect("it can be written");
    let diff = |flags: &[&str]| run(&url(&node), &[&["rules", "diff"], flags].concat(), "");
    let path = file.display().to_string();
    assert_eq!(diff(&[&path, "--type", "orders.*"]).done(), "0 of 3 events would go elsewhere\n");
    fs::write(&file, same.stdout.replace("1000", "2000")).expect("it can be written");
    assert_eq!(
        diff(&[&path, "--type", "orders.*"]).done(),
        "o-1500  orders.placed  fraud -> nobody\n1 of 3 events would go elsewhere\n"
    );
    assert_eq!(
        diff(&[&path, "--type", "orders.*", "--limit", "1", "--json"]).json(),
        json!({"samples": 1, "changes": []})
    );
    assert_eq!(
        run(&url(&node), &["rules", "list"], "").done(),
        "large  on  5  orders.*  -> fraud\n",
        "nothing is changed"
    );
    fs::write(&file, "rules:").expect("it can be written");
    assert_eq!(diff(&[&path]).code, Some(2));
    assert!(diff(&["/nowhere"]).failed().contains("/nowhere cannot be read"));
    assert!(node.stop().is_clean());
}

#[test]
fn a_replay_is_estimated_begun_waited_for_and_ended() {
    let node = node();
    let replay = |flags: &[&str]| run(&url(&node), &[&["replay"], flags].concat(), "");
    assert_eq!(replay(&["list"]).done(), "there are no replays\n");
    let lines: String = (0..20).map(|n| format!("{{\"type\":\"a.b\",\"data\":{n}}}\n")).collect();
    run(&url(&node), &["publish", "-"], &lines).done();
    assert!(node.durable().flush_deadline(PATIENCE));
    assert!(replay(&["begin"]).failed().contains("replay"), "nobody takes one");
    let mut report =
        node.bus().subscribe("a.*").named("report").replay(ReplayPolicy::Safe).mailbox().expect("there is room");

    let dry = replay(&["begin", "--type", "a.*", "--rate", "10", "--dry-run"]);
    assert!(dry.done().starts_with("20 events would be replayed, "), "{dry:?}");
    assert!(dry.stdout.ends_with(", to report; at this rate that takes 1.9 s\n"), "{dry:?}");
    let done = replay(&["begin", "--type", "a.*", "--subscription", "report", "--wait", "--json"]).json();
    assert_eq!((&done["state"], &done["published"]), (&json!("done"), &json!(20)));
    for n in 0..20 {
        let delivery = report.recv_deadline(PATIENCE).expect("it comes again");
        assert_eq!((delivery.payload().text(), delivery.meta().is_replay()), (Some(&*n.to_string()), true));
        delivery.ack();
    }
    let slow = replay(&["begin", "--type", "a.*", "--rate", "0.01", "--json"]).json();
    let id = slow["id"].to_string();
    assert!(replay(&["show", &id]).done().starts_with(&format!("{id}  running  ")));
    replay(&["cancel", &id]).done();
    // It ends a moment later.
    let ended =
        std::iter::repeat_with(|| replay(&["show", &id, "--json"]).json()).find(|told| told["state"] != "running");
    assert_eq!(ended.map(|told| told["state"].clone()), Some(json!("cancelled")));
    let list = replay(&["list"]);
    assert_eq!(list.done().lines().count(), 2, "{list:?}");
    assert!(replay(&["show", "99"]).failed().contains("there is no replay \"99\""));
    drop(report);
    node.stop();
}
