//! Another configuration for a node that runs.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, numbered};

/// A node with a file of settings, beside its data.
fn configured(folder: &Folder, text: &str) -> (Node, PathBuf) {
    let file = folder.0.join("ringmain.yaml");
    fs::write(&file, text).expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--config", &file.display().to_string()]);
    (node, file)
}

/// Puts another file in its place, as a whole.
fn replace(file: &PathBuf, text: &str) {
    let other = file.with_extension("new");
    fs::write(&other, text).expect("it can be written");
    fs::rename(&other, file).expect("it can be put there");
}

#[test]
fn an_invalid_file_changes_nothing_and_says_why() {
    let folder = Folder::new("node-reload-invalid");
    let (node, file) = configured(&folder, "http:\n  page_max: 10\n");
    replace(&file, "http:\n  page_max: 20\n  pages: 3\n");
    node.signal("-HUP");
    assert!(node.hears("ringmain.yaml:3:10").contains("there is no setting http.pages"));
    node.hears("everything is as it was");
    assert!(node.get("/v1/events?limit=11").problem(400, "malformed-request").contains("from 1 to 10"));
    // One that is valid, and only a restart takes.
    replace(&file, "http:\n  page_max: 20\nevents:\n  bus:\n    workers: 1\n");
    assert!(node.hears("workers").contains("restart it"));
    node.hears("everything is as it was");
    assert!(node.get("/v1/events?limit=11").problem(400, "malformed-request").contains("from 1 to 10"));
    let mut told = node.data("ringmain.config");
    // The node may have seen the file before it heard the signal.
    told.dedup();
    let faults: Vec<_> = told.iter().map(|told| told["faults"][0].as_str().expect("a fault")).collect();
    assert_eq!(faults.len(), 2, "{told:?}");
    assert!(faults[0].contains("http.pages") && faults[1].contains("events.bus.workers"), "{faults:?}");
    node.stop();
}

#[test]
fn a_valid_file_is_taken_under_load_and_nothing_is_lost() {
    let folder = Folder::new("node-reload-load");
    let (node, file) = configured(&folder, "http:\n  page_max: 10\n");
    let sent = thread::scope(|scope| {
        let (tell, taken) = mpsc::sync_channel(0);
        let sender = scope.spawn(|| {
            let mut sent = 0;
            // Until nobody hears it any more.
            let tell = tell;
            loop {
                node.publish(&numbered("load", sent..sent + 5));
                sent += 5;
                if tell.send(()).is_err() {
                    return sent;
                }
            }
        });
        let some_are_taken = || (0..5).for_each(|_| taken.recv().expect("they are taken"));
        for (from, to) in [(10, 20), (20, 30), (30, 1_000)] {
            some_are_taken();
            replace(&file, &format!("http:\n  page_max: {to}\n"));
            node.signal("-HUP");
            // While it is read and taken, the next ones are on their way.
            some_are_taken();
            node.hears(&format!("http.page_max: {from} -> {to}"));
        }
        some_are_taken();
        drop(taken);
        sender.join().expect("all were taken")
    });
    assert!(sent >= 7 * 25, "{sent}");
    let seen: Vec<_> = node.data("load").iter().map(|data| data.as_u64().expect("a number")).collect();
    assert_eq!(seen, (0..sent).collect::<Vec<_>>());
    assert_eq!(
        node.data("ringmain.config")[2]["changes"],
        json!([{"setting": "http.page_max", "from": "30", "to": "1000"}])
    );
    node.stop();
}

/// Nobody has said that it changed: it is looked at.
#[test]
fn a_file_that_is_emptied_is_not_taken_and_what_comes_then_is() {
    let folder = Folder::new("node-reload-empty");
    let (node, file) = configured(&folder, "http:\n  page_max: 10\n");
    fs::write(&file, "").expect("it can be written");
    assert!(node.hears("ringmain.yaml:1:1").contains("it is empty, and the node runs by settings that it had"));
    node.hears("everything is as it was");
    assert!(node.get("/v1/events?limit=11").problem(400, "malformed-request").contains("from 1 to 10"));
    node.signal("-HUP");
    node.hears("it is empty");
    fs::write(&file, "http:\n  page_max: 20\n").expect("it can be written");
    node.hears("http.page_max: 10 -> 20");
    fs::write(&file, "{}\n").expect("it can be written");
    node.hears("http.page_max: 20 -> 1000");
    fs::write(&file, "").expect("it can be written");
    node.signal("-HUP");
    node.hears("the configuration is as it was");
    node.stop();
}

#[test]
fn tasks_that_nobody_does_are_not_taken() {
    let folder = Folder::new("node-reload-tasks");
    let tasks = "events:\n  subscriptions:\n    - event_type: task.*\n      handlers: [audit_logger, task_processor]\n";
    let (node, file) = configured(&folder, "");
    replace(&file, tasks);
    node.signal("-HUP");
    assert!(node.hears("names task_processor").contains("NodeBuilder::tasks"));
    node.hears("everything is as it was");
    node.get("/v1/services/audit_logger").problem(404, "not-found");
    node.stop();
    let (data, file) = (folder.0.join("data").display().to_string(), file.display().to_string());
    let refused = crate::command(&["--listen", "127.0.0.1:0", "--data", &data, "--config", &file]).output();
    let refused = refused.expect("it ends");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nobody here does tasks"));
}
