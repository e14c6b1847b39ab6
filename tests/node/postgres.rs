//! A node whose store is in PostgreSQL.
//!
//! They need a server: `ci/with-postgres cargo test --features full --test node postgres`. Without one they say SKIP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::json;

use crate::folder::Folder;
use crate::{Node, command, numbered};

/// A server that runs for the tests; `None`, said aloud, where there is none.
fn server() -> Option<String> {
    let url = std::env::var("RINGMAIN_POSTGRES_URL").ok();
    if url.is_none() {
        let _ =
            writeln!(std::io::stderr(), "postgres: SKIP: RINGMAIN_POSTGRES_URL names no server; see ci/with-postgres");
    }
    url
}

/// A command whose store is a schema of the server.
fn on_server() -> Option<impl Fn() -> Command> {
    let url = server()?;
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

/// The way to a server, which may be closed.
struct Way {
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    is: Is,
    open: Vec<TcpStream>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Is {
    #[default]
    Open,
    /// Whoever comes is turned away, as by a server that was stopped.
    Closed,
    /// Nothing comes through, and nobody hangs up.
    Silent,
}

impl Way {
    fn to(url: &str) -> Self {
        let port = url.rsplit(':').next().and_then(|end| end.split('/').next()).expect("it names a port").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let own = listener.local_addr().expect("it listens").port();
        let url = url.replace(&format!(":{port}/"), &format!(":{own}/"));
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = shared.0.lock().expect("nobody panics");
                if state.is == Is::Closed {
                    continue;
                }
                let server = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it runs");
                let again = |stream: &TcpStream| stream.try_clone().expect("it is open");
                state.open.extend([again(&client), again(&server)]);
                let ways = [(again(&client), again(&server)), (server, client)];
                for (from, to) in ways {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || bring(from, to, &shared));
                }
            }
        });
        Self { url, state }
    }

    fn set(&self, is: Is) {
        let mut state = self.state.0.lock().expect("nobody panics");
        state.is = is;
        if is == Is::Closed {
            state.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        self.state.1.notify_all();
    }
}

fn bring(mut from: TcpStream, mut to: TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut bytes = [0; 65_536];
    while let Ok(count) = from.read(&mut bytes)
        && count > 0
    {
        let state = state.lock().expect("nobody panics");
        drop(changed.wait_while(state, |state| state.is == Is::Silent).expect("nobody panics"));
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_server_that_was_stopped_or_does_not_answer_makes_the_store_unhealthy_until_it_answers_again() {
    let Some(url) = server() else { return };
    let way = Way::to(&url);
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    command.env("EVENT_STORE_TYPE", "postgres").env("DATABASE_URL", &way.url);
    command.env("RINGMAIN_EVENTS_STORE_SCHEMA", format!("health_{}", std::process::id()));
    let node = Node::run(command);
    let store = || {
        let ready = node.get("/health/ready");
        (ready.status, ready.json()["store"].clone())
    };
    // How fast the server answers is its own affair.
    let heals = || while store().1["health"] != "healthy" {};
    heals();
    for (is, reason) in [(Is::Closed, "PostgreSQL could not"), (Is::Silent, "it has not answered within 1s")] {
        way.set(is);
        let (status, store) = store();
        assert_eq!((status, &store["health"]), (503, &json!("unhealthy")), "{is:?}");
        assert!(store["reason"].as_str().expect("it says why").contains(reason), "{is:?}: {store}");
        assert!(!store.to_string().contains("postgres://"), "{store}");
        way.set(Is::Open);
        heals();
    }
    node.signal("-KILL");
    node.ends();
}
