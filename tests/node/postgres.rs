//! A node whose store is in PostgreSQL.
//!
//! They need a server: `ci/with-postgres cargo test --features full --test node postgres`. Without one they say SKIP.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, command, numbered};

/// A command whose store is a schema of the server; `None`, said aloud, where there is no server.
fn on_server() -> Option<impl Fn() -> Command> {
    let Ok(url) = std::env::var("RINGMAIN_POSTGRES_URL") else {
        let _ =
            writeln!(std::io::stderr(), "postgres: SKIP: RINGMAIN_POSTGRES_URL names no server; see ci/with-postgres");
        return None;
    };
    let schema = format!("node_{}", std::process::id());
    Some(move || {
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        command.env("EVENT_STORE_TYPE", "postgres").env("DATABASE_URL", &url);
        command.env("RINGMAIN_EVENTS_STORE_SCHEMA", &schema);
        command
    })
}

fn refused(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    String::from_utf8(output.stderr).expect("it is text")
}

#[test]
fn events_and_rules_are_in_the_database_and_survive_a_kill() {
    let Some(command) = on_server() else { return };
    let node = Node::run(command());
    let answer = node.send("/v1/events", "application/json", &numbered("a", 0..100).to_string());
    assert_eq!((answer.status, &answer.json()["durability"]), (202, &json!("durable")));
    let rule = json!({"id": "r", "targets": ["bank"]});
    assert_eq!(node.send("/v1/rules", "application/json", &rule.to_string()).status, 201);
    let second = refused(command());
    assert!(second.contains("is owned by"), "the database has one node's store: {second}");
    node.signal("-KILL");
    node.ends();

    let node = Node::run(command());
    assert_eq!(node.data("a"), (0..100).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(node.get("/v1/rules").json()["rules"][0]["id"], "r");
    assert_eq!(node.get("/v1/overview").json()["store"], json!(null));
    assert_eq!(node.get("/health/ready").status, 200);
    let told = node.get("/v1/config").body;
    assert!(
        told.contains("events.store.schema") && !told.contains("postgres://"),
        "the URL may have a password: {told}"
    );
    node.stop();
}

#[test]
fn a_database_that_is_not_named_or_not_there_is_said() {
    let folder = Folder::new("node-postgres");
    let on = |name: &str, value: &str| {
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        command.current_dir(&folder.0).env("EVENT_STORE_TYPE", "postgres").env(name, value);
        refused(command)
    };
    let said = on("NOTHING", "");
    assert!(said.contains("no database is named: set DATABASE_URL, or events.store.url_file"), "{said}");
    let said = on("RINGMAIN_EVENTS_STORE_URL_FILE", "missing");
    assert!(said.contains("the file that events.store.url_file names: missing cannot be read"), "{said}");
    // Nobody listens at the port of nothing.
    std::fs::write(folder.0.join("url"), "postgres://user:secret@127.0.0.1:1/none\n").expect("it can be written");
    let said = on("RINGMAIN_EVENTS_STORE_URL_FILE", "url");
    assert!(said.contains("PostgreSQL could not") && !said.contains("secret"), "{said}");
}
