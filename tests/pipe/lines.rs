//! What single lines become.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::run;

/// The event of the only line, without what the bus adds to a CloudEvent.
fn passed(line: &str) -> Value {
    let run = run("--summary json", line);
    assert_eq!(run.code(), Some(0));
    let mut events = run.events();
    assert_eq!(events.len(), 1, "{line}: {}", run.stderr);
    let mut event = events.remove(0);
    let members = event.as_object_mut().expect("an object");
    assert_eq!(members.remove("subscription"), Some(json!("**")));
    assert!(members.contains_key("priority"));
    event
}

#[test]
fn a_cloud_event_comes_out_as_it_went_in() {
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    for line in [
        json!({"specversion": "1.0", "id": "A234", "source": "https://example.com/shop", "type": "com.example.placed",
            "priority": "critical", "time": "2018-04-05T17:31:00.500000001Z", "subject": "order \"7\" é",
            "dataschema": "urn:s", "datacontenttype": "application/json; charset=utf-8", "correlationid": "c-1",
            "causationid": "c-0", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tenant": "café", "version": -2, "sampled": true, "off": false, "number": "41", "empty": "", "topic": "x",
            "data": {"n": [1, 2.50, null, "\n"]}}),
        json!({"specversion": "1.0", "id": id, "source": "s", "type": "a", "priority": "low", "correlationid": id,
            "causationid": id, "time": "1901-02-03T04:05:06.000000000Z"}),
        json!({"specversion": "1.0", "id": id.to_uppercase(), "source": "s", "type": "a", "priority": "high",
            "correlationid": id.to_uppercase(), "causationid": id.replace('-', ""), "data": null}),
        json!({"specversion": "1.0", "id": "1", "source": "s", "type": "a", "priority": "normal",
            "datacontenttype": "text/plain", "data": "no \"JSON\""}),
        json!({"specversion": "1.0", "id": "1", "source": "s", "type": "a", "priority": "normal",
            "datacontenttype": "application/octet-stream", "data_base64": "AP8="}),
        json!({"specversion": "1.0", "id": "1", "source": "s", "type": "a", "priority": "normal",
            "datacontenttype": "image/png", "data_base64": ""}),
    ] {
        assert_eq!(passed(&line.to_string()), line);
    }
    let plain = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "a"});
    let mut with_priority = plain.clone();
    with_priority["priority"] = json!("normal");
    assert_eq!(passed(&plain.to_string()), with_priority, "only the priority is added");
}

#[test]
fn the_short_form_becomes_a_cloud_event() {
    let event = passed(r#"{"type":"orders.placed","data":{"id": 7},"tenant":"t1"}"#);
    for (name, value) in [
        ("specversion", json!("1.0")),
        ("type", json!("orders.placed")),
        ("source", json!("pipe")),
        ("priority", json!("normal")),
        ("data", json!({"id": 7})),
        ("tenant", json!("t1")),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["id"].as_str().map(str::len), Some(36));
    assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
    assert_eq!(event.as_object().expect("an object").len(), 8, "{event}");
}

#[test]
fn the_source_of_a_line_beats_the_flag() {
    let run = run("--source shop --summary json", "{\"type\":\"a\"}\n{\"type\":\"a\",\"source\":\"web\"}\n");
    let sources: Vec<_> = run.events().iter().map(|event| event["source"].clone()).collect();
    assert_eq!(sources, ["shop", "web"]);
}

#[test]
fn a_malformed_line_is_named_and_counted_and_the_rest_goes_on() {
    let input = "{\"type\":\"a\",\"data\":1}\n\nnonsense\n{\"data\":1}\n{\"type\":\"a\",\"data\":2}\n";
    let run = run("--summary json", input);
    assert_eq!(run.code(), Some(0));
    let data: Vec<_> = run.events().iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, [1, 2]);
    let (_, messages) = run.summary();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("ringmain: line 3 is malformed: not usable JSON at byte 1"), "{}", messages[0]);
    assert!(messages[1].starts_with("ringmain: line 4 is malformed: `type` is missing"), "{}", messages[1]);
    assert_eq!(run.counts(["published", "malformed", "refused", "delivered"]), [2, 2, 0, 2]);
}

#[test]
fn strict_stops_at_the_first_malformed_line_with_exit_code_2_and_delivers_what_came_before() {
    let run = run("--strict --summary json", "{\"type\":\"a\"}\nnonsense\nmore\n{\"type\":\"a\"}\n");
    assert_eq!(run.code(), Some(2));
    assert_eq!(run.events().len(), 1);
    assert_eq!(run.summary().1.len(), 1);
    assert_eq!(run.counts(["published", "malformed", "delivered"]), [1, 1, 1]);
}

#[test]
fn an_event_beyond_the_limits_of_the_bus_is_refused_by_its_line_number() {
    let too_large = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(1 << 20));
    let long_source = format!(r#"{{"type":"a","source":"{}"}}"#, "s".repeat(256));
    let attributes: String = (0..33).map(|at| format!(r#","x{at}":{at}"#)).collect();
    let crowded = format!(r#"{{"type":"a"{attributes}}}"#);
    let run = run("--summary json --strict", format!("{too_large}\n{long_source}\n{crowded}\n{{\"type\":\"a\"}}\n"));
    assert_eq!(run.code(), Some(0), "a refused event is no malformed line");
    let (_, messages) = run.summary();
    assert_eq!(
        messages,
        [
            "ringmain: line 1 was refused: payload is 1048578 bytes, the limit is 1048576; raise payload_bytes_max",
            "ringmain: line 2 was refused: source has 256 bytes, the limit is 255",
            "ringmain: line 3 was refused: more than 32 metadata entries; the limit is 32",
        ]
    );
    assert_eq!(run.counts(["published", "malformed", "refused", "delivered"]), [1, 0, 3, 1]);
}

#[test]
fn what_nobody_subscribed_to_is_counted_as_unmatched() {
    let input = "{\"type\":\"a.b\"}\n{\"type\":\"c\"}\n{\"type\":\"a.x\"}\n{\"type\":\"a.b.c\"}\n{\"type\":\"c\"}\n";
    let run = run("--on a.* --on *.b --summary json", input);
    let seen: Vec<_> =
        run.events().iter().map(|event| (event["subscription"].clone(), event["type"].clone())).collect();
    for pair in [("a.*", "a.b"), ("a.*", "a.x"), ("*.b", "a.b")] {
        assert!(seen.contains(&(json!(pair.0), json!(pair.1))), "{pair:?}");
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(run.counts(["published", "unmatched", "delivered"]), [5, 3, 3]);
}

#[test]
fn a_priority_field_sets_the_priority_of_every_line() {
    let input = concat!(
        "{\"type\":\"a\",\"level\":\"critical\",\"priority\":\"low\"}\n",
        "{\"type\":\"a\",\"level\":\"low\"}\n",
        "{\"type\":\"a\",\"level\":\"info\"}\n",
        "{\"type\":\"a\"}\n",
    );
    let run = run("--priority-field level --summary json", input);
    let mut priorities: Vec<_> = run.events().iter().map(|event| event["priority"].to_string()).collect();
    priorities.sort_unstable();
    assert_eq!(priorities, ["\"critical\"", "\"low\""]);
    assert_eq!(run.counts(["published", "malformed"]), [2, 2]);
}

#[test]
fn the_messages_of_a_real_build_pass_by_the_type_field() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipe-build");
    fs::create_dir_all(directory.join("src")).expect("a directory for tests");
    let manifest = "[package]\nname = \"built\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(directory.join("Cargo.toml"), manifest).expect("written");
    fs::write(directory.join("src/lib.rs"), "fn unused() {}\n").expect("written");
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let build = Command::new(cargo)
        .args(["build", "--offline", "--quiet", "--message-format=json", "--target-dir", "target"])
        .current_dir(&directory)
        .output()
        .expect("cargo runs");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let sent: Vec<Value> = build
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert!(sent.iter().any(|message| message["reason"] == "compiler-message"), "the crate has a warning");

    let run = run("--type reason --source cargo --summary json", build.stdout);
    assert_eq!(run.code(), Some(0));
    let events = run.events();
    assert_eq!(events.len(), sent.len());
    for (event, message) in events.iter().zip(&sent) {
        assert_eq!((&event["type"], &event["data"]), (&message["reason"], message));
        assert_eq!(event["source"], "cargo");
    }
}

#[test]
fn unfit_characters_of_a_type_field_become_dashes_and_a_line_without_one_is_malformed() {
    let input = "{\"event\":\"Login failed: kim\"}\n{\"event\":7}\n{\"other\":\"x\"}\n";
    let run = run("--type event --on Login-failed--* --on Login-failed--kim --summary json", input);
    assert_eq!(run.code(), Some(2), "`Login-failed--*` is no pattern: {}", run.stderr);
    let run = crate::run("--type event --on Login-failed--kim --summary json", input);
    assert_eq!(run.events()[0]["data"], json!({"event": "Login failed: kim"}));
    assert_eq!(run.counts(["published", "malformed", "delivered"]), [1, 2, 1]);
}
