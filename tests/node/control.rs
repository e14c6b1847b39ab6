//! What an admin sees and does over HTTP.

use std::fs;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::{Answer, Node, numbered};

fn put(node: &Node, path: &str, body: &Value) -> Answer {
    node.ask("PUT", path, &[("content-type", "application/json")], body.to_string())
}

fn ids(answer: &Answer) -> Vec<String> {
    let rules = answer.json()["rules"].as_array().expect("a list").clone();
    rules.iter().map(|rule| rule["id"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn rules_are_changed_recorded_and_there_after_a_restart() {
    let folder = Folder::new("node-rules");
    let node = Node::start(&folder.0, &[]);
    let large = json!({
        "id": "large", "filter": {"event_types": ["orders.*"]}, "targets": ["fraud"], "priority": 5,
        "conditions": [{"field": "payload.total", "greater_than": 1000}],
    });
    let added = node.send("/v1/rules", "application/json", &large.to_string());
    assert_eq!((added.status, added.header("location")), (201, "/v1/rules/large"), "{}", added.body);
    assert_eq!(added.json()["conditions"], large["conditions"]);
    node.send("/v1/rules", "application/json", &large.to_string()).problem(409, "conflict");
    let all = json!({"id": "all", "targets": ["archive"]});
    assert_eq!(node.send("/v1/rules", "application/json", &all.to_string()).status, 201);
    assert_eq!(
        put(&node, "/v1/rules/all", &json!({"id": "all", "targets": ["archive"], "enabled": false})).status,
        200
    );
    assert!(put(&node, "/v1/rules/all", &large).problem(400, "malformed-request").contains("an id does not change"));
    let none = json!({"id": "none", "targets": []});
    assert!(
        node.send("/v1/rules", "application/json", &none.to_string())
            .problem(400, "malformed-request")
            .contains("target")
    );
    assert_eq!(ids(&node.get("/v1/rules")), ["large", "all"]);
    node.stop();

    let node = Node::start(&folder.0, &[]);
    let rules = node.get("/v1/rules");
    assert_eq!(ids(&rules), ["large", "all"], "in the order of their evaluation");
    assert_eq!(rules.json()["rules"][1]["enabled"], false);
    assert_eq!(node.ask("DELETE", "/v1/rules/all", &[], "").status, 204);
    node.ask("DELETE", "/v1/rules/all", &[], "").problem(404, "not-found");
    assert_eq!(put(&node, "/v1/rules", &json!({"rules": [{"id": "only", "targets": ["a"]}]})).status, 200);
    node.signal("-KILL");
    node.ends();

    let node = Node::start(&folder.0, &[]);
    assert_eq!(ids(&node.get("/v1/rules")), ["only"]);
    let records = node.get("/v1/audit?action=rule.*&actor=http").json()["records"].clone();
    let acts: Vec<_> = records.as_array().expect("a list").iter().map(|record| record["action"].clone()).collect();
    // Also of what failed: that it was tried.
    let (added, removed) = ("rule.added", "rule.removed");
    assert_eq!(acts, [added, added, added, "rule.changed", added, removed, removed]);
    node.stop();
}

#[test]
fn an_event_is_explained_and_other_rules_are_tried_before_they_are_taken() {
    let folder = Folder::new("node-explain");
    let node = Node::start(&folder.0, &[]);
    let rule =
        json!({"id": "large", "targets": ["fraud"], "conditions": [{"field": "payload.total", "greater_than": 1000}]});
    assert_eq!(node.send("/v1/rules", "application/json", &rule.to_string()).status, 201);
    let explained =
        node.send("/v1/rules/explain", "application/json", r#"{"type":"orders.placed","data":{"total":7}}"#);
    let explained = explained.json();
    assert_eq!((&explained["rules"][0]["rule"], &explained["rules"][0]["matches"]), (&json!("large"), &json!(false)));
    assert!(explained["rules"][0]["reason"].as_str().is_some_and(|reason| reason.contains("payload.total is 7")));
    assert!(explained["subscriptions"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "journal")));
    assert_eq!(node.events("type=orders.*").len(), 0, "it is not published");

    let orders: Vec<_> =
        [500, 1_500, 2_500].iter().map(|total| json!({"type": "orders.placed", "data": {"total": total}})).collect();
    node.publish(&orders.clone().into());
    let other = json!([{"id": "large", "targets": ["fraud"], "conditions": [{"field": "payload.total", "greater_than": 2000}]}]);
    let diff = node
        .send("/v1/rules/diff", "application/json", &json!({"rules": other, "type": "orders.*"}).to_string())
        .json();
    assert_eq!((&diff["samples"], &diff["changes"].as_array().map(Vec::len)), (&json!(3), &Some(1)), "{diff}");
    assert_eq!((&diff["changes"][0]["before"], &diff["changes"][0]["after"]), (&json!(["fraud"]), &json!([])));
    let given =
        node.send("/v1/rules/diff", "application/json", &json!({"rules": other, "events": orders}).to_string()).json();
    assert_eq!(given["changes"].as_array().map(Vec::len), Some(1));
    assert_eq!(node.get("/v1/rules").json()["rules"][0]["conditions"][0]["greater_than"], 1_000, "nothing is changed");
    node.stop();
}

#[test]
fn subscriptions_are_seen_and_the_journal_is_not_paused() {
    let folder = Folder::new("node-subscriptions");
    let node = Node::start(&folder.0, &[]);
    node.publish(&numbered("a", 0..3));
    let subscriptions = node.get("/v1/subscriptions").json()["subscriptions"].clone();
    let journal =
        subscriptions.as_array().expect("a list").iter().find(|one| one["name"] == "journal").expect("it is there");
    let path = format!("/v1/subscriptions/{}", journal["id"].as_str().expect("a text"));
    assert_eq!(node.get(&path).json()["pattern"], "*");
    assert!(node.ask("POST", &format!("{path}/pause"), &[], "").problem(409, "conflict").contains("keeps the events"));
    node.ask("POST", &format!("{path}/stop"), &[], "").problem(404, "not-found");
    node.get("/v1/subscriptions/0").problem(404, "not-found");
    node.stop();
}

#[test]
fn a_configuration_is_seen_with_origins_and_replaced_whole_or_not_at_all() {
    let folder = Folder::new("node-config");
    let file = folder.0.join("ringmain.yaml");
    fs::write(&file, "http:\n  page_max: 10\n").expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--config", &file.display().to_string()]);
    let setting = |name: &str| {
        let config = node.get("/v1/config").json();
        let settings = config["settings"].as_array().expect("a list").clone();
        let setting = settings.iter().find(|setting| setting["name"] == name).expect("there is one").clone();
        (setting["value"].as_str().expect("a text").to_owned(), setting["origin"].as_str().expect("a text").to_owned())
    };
    let (value, origin) = setting("http.page_max");
    assert_eq!((&*value, origin.ends_with("ringmain.yaml:2:13")), ("10", true), "{origin}");
    assert_eq!(setting("http.listen").1, "flag --listen");
    assert_eq!(setting("core.max_services").1, "default");

    let replaced = node.ask("PUT", "/v1/config", &[("content-type", "application/yaml")], "http:\n  page_max: 20\n");
    assert_eq!(replaced.json(), json!({"changes": [{"setting": "http.page_max", "from": "10", "to": "20"}]}));
    let replaced = put(&node, "/v1/config", &json!({"http": {"page_max": 30}}));
    assert_eq!(replaced.json()["changes"][0]["to"], "30");
    let refused = put(&node, "/v1/config", &json!({"http": {"page_max": 40, "pages": 1}, "core": {"max_services": 0}}));
    refused.problem(400, "faulty-configuration");
    assert_eq!(refused.json()["errors"].as_array().map(Vec::len), Some(2));
    put(&node, "/v1/config", &json!({"events": {"bus": {"workers": 1}}})).problem(400, "faulty-configuration");
    assert_eq!(setting("http.page_max"), ("30".to_owned(), "body:1:21".to_owned()));
    let actions = node.get("/v1/audit?action=config.**").json();
    assert_eq!(actions["records"].as_array().map(Vec::len), Some(6), "{actions}");
    let changed = (&actions["records"][0]["before"], &actions["records"][0]["after"]);
    assert_eq!(changed, (&json!("http.page_max: 10"), &json!("http.page_max: 20")));
    // What is no setting may be a secret at the wrong place.
    let misplaced = json!({"http": {"page_max": 50}, "notify": {"secret": "s3cr3t"}});
    put(&node, "/v1/config", &misplaced).problem(400, "faulty-configuration");
    let commented = "http:\n  page_max: 50 # s3cr3t\n";
    assert_eq!(node.ask("PUT", "/v1/config", &[("content-type", "application/yaml")], commented).status, 200);
    let told = node.get("/v1/events?type=ringmain.**").body;
    assert!(told.contains("config.replaced") && !told.contains("s3cr3t"), "{told}");
    node.stop();
}

#[test]
fn a_service_of_another_process_is_known_for_as_long_as_its_lease_lasts() {
    let folder = Folder::new("node-lease");
    let node = Node::start(&folder.0, &[]);
    let register = |lease_s: u64| {
        let new = json!({"name": "gateway", "address": format!("127.0.0.1:{}", 9_000 + lease_s), "lease_s": lease_s});
        node.send("/v1/services", "application/json", &new.to_string())
    };
    let instances = || node.get("/v1/services").json()["instances"].as_array().expect("a list").clone();
    let long = register(3_600);
    assert_eq!(long.status, 201, "{}", long.body);
    assert_eq!(register(1).status, 201);
    assert_eq!(instances().len(), 2);
    register(0).problem(400, "malformed-request");
    // The short one lapses, and nobody has to look for it.
    let (mut after, mut seen) = (0, Vec::new());
    while seen.last() != Some(&json!(["lapsed", "127.0.0.1:9001"])) {
        for event in node.events(&format!("type=ringmain.service.instance&after={after}&wait=60")) {
            after = event["position"].as_str().and_then(|text| text.parse().ok()).unwrap_or(after);
            seen.push(json!([event["data"]["to"], event["data"]["address"]]));
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(instances().len(), 1);
    let path = format!("/v1/leases/{}", long.json()["lease"].as_str().expect("a text"));
    assert_eq!(node.ask("PUT", &path, &[], "").status, 200);
    assert_eq!(node.ask("DELETE", &path, &[], "").status, 204);
    node.ask("PUT", &path, &[], "").problem(404, "not-found");
    assert_eq!(instances().len(), 0);
    let audit = node.get("/v1/audit?object=service+gateway");
    let records = audit.json()["records"].clone();
    let acts: Vec<_> = records.as_array().expect("a list").iter().map(|record| record["action"].clone()).collect();
    let registered = "instance.registered";
    assert_eq!(
        acts,
        [registered, registered, registered, "instance.registered.failed", "instance.renewed", "instance.unregistered"]
    );
    assert!(!audit.body.contains(long.json()["lease"].as_str().expect("a text")), "a lease is a secret");
    node.stop();
}

#[test]
fn what_is_not_there_is_not_found() {
    let folder = Folder::new("node-nothing");
    let node = Node::start(&folder.0, &[]);
    for path in ["/v1/services/a", "/v1/dead-letters/1", "/v1/dead-letters/a", "/v1/replays/1", "/v1/rules/a"] {
        node.get(path).problem(404, "not-found");
    }
    for path in ["/v1/services/a/start", "/v1/dead-letters/1/redrive"] {
        node.ask("POST", path, &[], "").problem(404, "not-found");
    }
    let list = |path: &str, name: &str| assert_eq!(node.get(path).json(), json!({name: []}));
    list("/v1/dead-letters", "dead_letters");
    list("/v1/replays", "replays");
    node.ask("DELETE", "/v1/dead-letters", &[], "").problem(400, "malformed-request");
    assert_eq!(node.ask("DELETE", "/v1/dead-letters?all=true", &[], "").json(), json!({"purged": 0}));
    node.send("/v1/replays", "application/json", "{}").problem(409, "conflict");
    node.stop();
}

/// What the description says is what the node answers.
#[test]
fn the_description_has_every_method_and_status() {
    let folder = Folder::new("node-openapi");
    let node = Node::start(&folder.0, &[]);
    let document = node.get("/openapi.json").json();
    for (path, operations) in document["paths"].as_object().expect("it has paths") {
        // It has no end; its own tests ask it.
        let is_stream = path == "/v1/events/stream";
        let at = path.replace("{id}", "1").replace("{name}", "a").replace("{verb}", "start");
        let allow = node.ask("PATCH", &at, &[], "");
        allow.problem(405, "method-not-allowed");
        let mut allowed: Vec<_> =
            allow.header("allow").split(',').filter(|method| *method != "HEAD").map(str::to_lowercase).collect();
        let mut described: Vec<_> = operations.as_object().expect("they are named").keys().cloned().collect();
        allowed.sort();
        described.sort();
        assert_eq!(described, allowed, "{path}");
        for (method, operation) in operations.as_object().expect("they are named") {
            for (query, media_type, body) in
                [("", "application/json", "{}"), ("?x=1", "application/json", "{"), ("", "text/x", "")]
            {
                if is_stream && query.is_empty() {
                    continue;
                }
                let headers = [("content-type", media_type)];
                let answer = node.ask(&method.to_uppercase(), &format!("{at}{query}"), &headers, body);
                let status = &operation["responses"][answer.status.to_string()];
                assert!(!status.is_null(), "{method} {at}{query} answers {}: {}", answer.status, answer.body);
            }
        }
    }
    node.stop();
}
