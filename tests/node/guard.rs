//! Who may come in, and how much of the node one of them can take.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::folder::Folder;
use crate::{Node, PATIENCE, command};

/// Of the tokens `of-ci` and `of-ada`.
const TOKENS: &str = "\
ci  sha256:CI  publish=build.** subscribe=build.**
ada sha256:ADA admin
";

pub(crate) fn hash(token: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_token_lets_in_for_what_it_says() {
    let folder = Folder::new("node-tokens");
    let file = folder.0.join("tokens");
    fs::write(&file, TOKENS.replace("CI", &hash("of-ci")).replace("ADA", &hash("of-ada"))).expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--token-file", &file.display().to_string()]);
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), ("content-type", "application/json")];
        node.ask(method, path, &headers, body.to_owned())
    };
    let without = node.get("/v1/events");
    without.problem(401, "unauthorized");
    assert!(without.header("www-authenticate").starts_with("Bearer"));
    assert!(ask("of-nobody", "GET", "/v1/events", "").problem(401, "unauthorized").contains("not known"));
    assert_eq!(ask("of-ci", "POST", "/v1/events", r#"{"type":"build.done"}"#).status, 202);
    ask("of-ci", "POST", "/v1/events", r#"[{"type":"build.done"},{"type":"orders.placed"}]"#).problem(403, "forbidden");
    assert_eq!(ask("of-ci", "GET", "/v1/events?type=build.*", "").status, 200);
    ask("of-ci", "GET", "/v1/events", "").problem(403, "forbidden");
    ask("of-ci", "GET", "/v1/config", "").problem(403, "forbidden");
    let events = ask("of-ada", "GET", "/v1/events?type=build.*", "");
    assert_eq!((events.status, events.json().as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!((node.get("/health/ready").status, node.get("/openapi.json").status), (200, 200));
    let (_, said) = {
        node.signal("-TERM");
        node.ends()
    };
    assert!(!said.iter().any(|line| line.contains("of-ci") || line.contains("of-ada")), "{said:?}");
}

/// A client that acknowledges, and the first event that it is told of.
fn client(node: &Node, token: &str, name: &str) -> (WebSocket<TcpStream>, serde_json::Value) {
    let mut request = format!("ws://{}/v1/events/live", node.address).into_client_request().expect("a request");
    let authorization = format!("Bearer {token}").parse().expect("a value");
    request.headers_mut().insert("authorization", authorization);
    let stream = TcpStream::connect(node.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let (mut socket, _) = tungstenite::client(request, stream).expect("it takes clients");
    say(&mut socket, &json!({"type": "subscribe", "patterns": ["a"], "name": name}));
    hear(&mut socket, "subscribed");
    let event = hear(&mut socket, "event");
    (socket, event)
}

fn say(socket: &mut WebSocket<TcpStream>, message: &serde_json::Value) {
    socket.send(Message::text(message.to_string())).expect("it is there");
}

/// The next message of a type.
fn hear(socket: &mut WebSocket<TcpStream>, kind: &str) -> serde_json::Value {
    loop {
        let Message::Text(text) = socket.read().expect("it goes on") else { continue };
        let said: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        if said["type"] == kind {
            return said;
        }
    }
}

#[test]
fn clients_of_two_tokens_never_share_a_place() {
    let folder = Folder::new("node-cursors");
    let file = folder.0.join("tokens");
    let line = |name: &str, token: &str| format!("{name} sha256:{} admin\n", hash(token));
    fs::write(&file, line("a", "of-a") + &line("a/b", "of-b") + &line("a%2Fb", "of-c")).expect("it can be written");
    let node = Node::start(&folder.0.join("data"), &["--token-file", &file.display().to_string()]);
    let headers = [("authorization", "Bearer of-a"), ("content-type", "application/json")];
    assert_eq!(node.ask("POST", "/v1/events", &headers, crate::numbered("a", 0..3).to_string()).status, 202);
    for (token, name) in [("of-a", "b/c"), ("of-b", "c"), ("of-c", "c")] {
        let (mut socket, first) = client(&node, token, name);
        assert_eq!(first["payload"], 0, "{token} begins at the beginning");
        let second = hear(&mut socket, "event");
        say(&mut socket, &json!({"type": "ack", "position": second["position"]}));
        hear(&mut socket, "acked");
        drop(socket);
        assert_eq!(client(&node, token, name).1["payload"], 2, "{token} goes on where it was");
    }
    node.stop();
}

#[test]
fn a_page_of_another_site_is_refused() {
    let folder = Folder::new("node-origin");
    let node = Node::start(&folder.0, &[]);
    let own = format!("http://{}", node.address);
    // Streams, too, as whatever they are asked for.
    for path in ["/v1/events", "/v1/events/live", "/v1/events/stream", "/health/live"] {
        for foreign in [
            &[("origin", "https://evil.example")][..],
            &[("origin", &own), ("origin", "https://evil.example")],
            &[("host", "evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            node.ask("GET", path, foreign, "").problem(403, "foreign-origin");
        }
    }
    node.ask("POST", "/v1/events", &[("origin", "null"), ("content-type", "application/json")], r#"{"type":"a"}"#)
        .problem(403, "foreign-origin");
    for own in [("origin", &*own), ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")] {
        assert_eq!(node.ask("GET", "/v1/events", &[own], "").status, 200, "{own:?}");
    }
    assert_eq!(node.events("type=a").len(), 0);
    node.stop();
}

#[test]
fn who_is_slow_or_too_many_is_let_go_and_the_others_are_served() {
    let folder = Folder::new("node-slow");
    let mut command = command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    command.env("RINGMAIN_HTTP_HEADER_TIMEOUT", "300ms").env("RINGMAIN_HTTP_BODY_TIMEOUT", "300ms");
    command.env("RINGMAIN_HTTP_CONNECTIONS_MAX", "4");
    let node = Node::run(command);
    let connect = || {
        let stream = TcpStream::connect(node.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        stream
    };
    // Nothing, half a header, and half a body.
    let mut slow = [connect(), connect(), connect()];
    write!(slow[1], "GET /v1/events HTTP/1.1\r\nhost: {}\r\nx-y", node.address).expect("it reads");
    let head = format!("POST /v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json", node.address);
    write!(slow[2], "{head}\r\ncontent-length: 20\r\n\r\n{{").expect("it reads");
    assert_eq!(node.get("/health/live").status, 200, "there is one place left");
    let answers = slow.each_mut().map(|stream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is closed");
        answer
    });
    assert_eq!(answers[0], "");
    assert_eq!(answers[1], "");
    assert!(answers[2].starts_with("HTTP/1.1 408") && answers[2].contains("did not come to its end"), "{answers:?}");

    // As many as there are places for, each of which is served and kept open. What has ended may still have its place.
    let served = || {
        let mut place = connect();
        let mut status = [0; 12];
        write!(place, "GET /health/live HTTP/1.1\r\nhost: {}\r\n\r\n", node.address).ok()?;
        place.read_exact(&mut status).ok()?;
        (&status == b"HTTP/1.1 200").then_some(place)
    };
    let places: Vec<_> = (0..4).map(|_| std::iter::repeat_with(served).flatten().next()).collect();
    for _ in 0..3 {
        let mut refused = connect();
        write!(refused, "GET /health/live HTTP/1.1\r\nhost: {}\r\n\r\n", node.address).expect("it is read");
        let mut answer = String::new();
        refused.read_to_string(&mut answer).expect("it is closed");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n") && answer.contains("http.connections_max"), "{answer}");
    }
    drop(places);
    node.stop();
}

#[test]
fn an_address_that_asks_too_often_is_told_to_wait() {
    let folder = Folder::new("node-rate");
    let mut command = command(&["--listen", "127.0.0.1:0", "--data", &folder.0.display().to_string()]);
    command.env("RINGMAIN_HTTP_REQUESTS_PER_SECOND_MAX", "1");
    let node = Node::run(command);
    let refused = (0..50).map(|_| node.get("/health/live")).find(|answer| answer.status != 200).expect("it is refused");
    refused.problem(429, "too-many-requests");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    node.stop();
}
