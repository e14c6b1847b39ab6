//! Who is not let in, and what is too much.

use std::time::Duration;

use futures_util::SinkExt;
use ringmain::node::live::{LiveOptions, Origins};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Client, Closed, LONG, Node, options};

/// The status of a refusal, and its problem details.
fn refusal(tried: Result<Client, Error>) -> (StatusCode, String) {
    match tried {
        Err(Error::Http(response)) => {
            let kind = response.headers().get("content-type").map(|kind| kind.as_bytes().to_vec());
            assert_eq!(kind.as_deref(), Some(&b"application/problem+json"[..]));
            let body = response.body().as_deref().unwrap_or_default();
            (response.status(), String::from_utf8_lossy(body).into_owned())
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_is_refused() {
    let node = Node::start(options()).await;
    let (status, _) = refusal(node.try_connect("", &[("origin", "https://example.org")]).await);
    assert_eq!(status, StatusCode::FORBIDDEN);
    let own = format!("http://{}", node.address);
    drop(node.try_connect("", &[("origin", &own)]).await.expect("its own page"));
    assert_eq!(node.hub.counts().clients_total, 1);
    node.end().await;

    let origins = Origins::Accepted(std::sync::Arc::new(|origin| origin == "https://example.org"));
    let node = Node::start(LiveOptions { origins, ..options() }).await;
    drop(node.try_connect("", &[("origin", "https://example.org")]).await.expect("a page that is accepted"));
    assert_eq!(refusal(node.try_connect("", &[("origin", "https://example.com")]).await).0, StatusCode::FORBIDDEN);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_refused_with_what_is_wrong() {
    let node = Node::start(options()).await;
    for query in ["?after=x", "?slow=never", "?kind=a"] {
        let (status, body) = refusal(node.try_connect(query, &[]).await);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        // The client keeps some of the body only, and none where it came later.
        assert!(body.is_empty() || body.contains("\"status\":400"), "{body}");
    }
    assert_eq!(node.hub.counts().refused_malformed, 3);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_too_many_is_refused_until_another_goes() {
    let node = Node::start(LiveOptions { clients_max: 2, ..options() }).await;
    let (first, second) = (node.connect().await, node.connect().await);
    assert_eq!(refusal(node.try_connect("", &[]).await).0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((node.hub.counts().clients, node.hub.counts().refused_full), (2, 1));
    first.cut();
    // Until the node has noticed.
    let third = loop {
        if let Ok(client) = node.try_connect("", &[]).await {
            break client;
        }
    };
    drop((second, third));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_ends_the_connection_and_no_other() {
    let node = Node::start(LiveOptions { message_bytes_max: 1_000, ..options() }).await;
    let (mut long, mut other) = (node.connect().await, node.connect().await);
    other.subscribe(&["*"], json!({})).await;
    long.0.send(Message::text("x".repeat(1_001))).await.expect("it is sent");
    let closed = long.next().await.expect_err("it ends");
    assert_eq!(closed, Closed { code: 1009, reason: "the message is too long".to_owned() });
    assert_eq!(node.hub.counts().closed_oversized, 1);
    node.append_numbers("a", 1..2);
    assert_eq!(other.numbers(1).await, [1]);
    drop((long, other));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_text_ends_the_connection() {
    let node = Node::start(options()).await;
    let mut client = node.connect().await;
    client.0.send(Message::binary(vec![1, 2, 3])).await.expect("it is sent");
    assert_eq!(client.next().await.expect_err("it ends").code, 1003);
    drop(client);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_does_not_answer_is_closed_and_told() {
    let soon = Duration::from_millis(20);
    let options = LiveOptions { ping_every: soon, answer_max: soon, close_max: soon, ..options() };
    let node = Node::start(options).await;
    // What reads here answers no ping.
    let mut silent = node.connect().await.0.into_inner();
    let mut bytes = Vec::new();
    timeout(LONG, silent.read_to_end(&mut bytes)).await.expect("it ends").expect("it holds");
    let (ping, farewell) = bytes.split_at(2);
    assert_eq!(ping, [0x89, 0], "a ping");
    assert_eq!((farewell[0], &farewell[2..4]), (0x88, &4001_u16.to_be_bytes()[..]), "a farewell");
    assert!(farewell[4..].starts_with(b"silent: "));
    assert_eq!(node.hub.counts().closed_silent, 1);
    node.end().await;
}
