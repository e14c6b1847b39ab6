//! Clients that acknowledge.

use std::sync::Arc;

use ringmain::node::live::LiveOptions;
use serde_json::json;

use crate::support::{Client, Closed, Node, options, position};
use crate::watched::Watched;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again() {
    let node = Node::start(options()).await;
    let mut client = node.connect().await;
    let said = client.subscribe(&["a"], json!({"name": "billing"})).await;
    assert_eq!((&said["type"], &said["name"]), (&json!("subscribed"), &json!("billing")));
    for number in 0..20 {
        node.append(&[node.frame("a", number), node.frame("b", number)]);
    }
    assert_eq!(client.numbers(20).await, (0..20).collect::<Vec<_>>());
    // Positions 1, 3, 5 and so on.
    client.say(json!({"type": "ack", "position": "9"})).await;
    let said = client.hear().await;
    assert_eq!((&said["type"], position(&said)), (&json!("acked"), 9));
    client.cut();

    let mut again = node.connect().await;
    let said = again.subscribe(&["a"], json!({"name": "billing"})).await;
    assert_eq!(position(&said), 9);
    assert_eq!(again.numbers(15).await, (5..20).collect::<Vec<_>>());
    again.cut();
    let mut other = node.connect().await;
    other.subscribe(&["a"], json!({"name": "shipping"})).await;
    assert_eq!(other.numbers(20).await, (0..20).collect::<Vec<_>>(), "another name has a place of its own");
    other.cut();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_event_brings_again_what_was_not_acknowledged_and_loses_nothing() {
    const EVENTS: u64 = 30;
    let node = Node::start(options()).await;
    node.append_numbers("a", 0..EVENTS);
    let mut next = 0;
    // Reads 3, acknowledges 2, and is cut, until nothing is left.
    while next < EVENTS {
        let mut client = node.connect().await;
        client.subscribe(&["*"], json!({"name": "billing"})).await;
        for number in next..(next + 3).min(EVENTS) {
            assert_eq!(client.event().await, (number, number + 1));
        }
        next = (next + 2).min(EVENTS);
        client.say(json!({"type": "ack", "position": next})).await;
        loop {
            let said = client.hear().await;
            if said["type"] == "acked" {
                break;
            }
        }
        client.cut();
    }
    let mut client = node.connect().await;
    let said = client.subscribe(&["*"], json!({"name": "billing"})).await;
    assert_eq!(position(&said), EVENTS);
    node.append_numbers("a", 99..100);
    assert_eq!(client.event().await, (99, EVENTS + 1));
    client.cut();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_unacknowledged_and_no_more() {
    let node = Node::start(LiveOptions { unacked_max: 4, ..options() }).await;
    node.append_numbers("a", 0..10);
    let mut client = node.connect().await;
    client.subscribe(&["*"], json!({"name": "billing"})).await;
    assert_eq!(client.numbers(4).await, [0, 1, 2, 3]);
    // What comes next is the answer, and no event.
    client.say(json!({"type": "ack", "position": 5})).await;
    assert_eq!(client.hear().await["code"], "not_acknowledged");
    client.say(json!({"type": "ack", "position": 3})).await;
    assert_eq!(client.hear().await["type"], "acked");
    assert_eq!(client.numbers(3).await, [4, 5, 6]);
    client.cut();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_takes_the_name() {
    let node = Node::start(options()).await;
    node.append_numbers("a", 0..3);
    let mut first = node.connect().await;
    first.subscribe(&["*"], json!({"name": "billing"})).await;
    assert_eq!(first.numbers(3).await, [0, 1, 2]);
    let mut second = node.connect().await;
    second.subscribe(&["*"], json!({"name": "billing"})).await;
    assert_eq!(second.numbers(3).await, [0, 1, 2]);
    let closed = first.next().await.expect_err("it ends");
    assert_eq!(closed, Closed { code: 4002, reason: "another connection has taken the name".to_owned() });
    assert_eq!(node.hub.counts().closed_taken_over, 1);
    drop(first);
    second.cut();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_outlive_the_node() {
    let node = Node::start(options()).await;
    node.append_numbers("a", 0..4);
    let store = node.store.clone();
    let mut client = node.connect().await;
    client.subscribe(&["*"], json!({"name": "billing"})).await;
    assert_eq!(client.numbers(4).await, [0, 1, 2, 3]);
    client.say(json!({"type": "ack", "position": 2})).await;
    assert_eq!(client.hear().await["type"], "acked");
    drop(client);
    node.end().await;

    let node = Node::with_store(options(), store).await;
    let mut client = node.connect().await;
    client.subscribe(&["*"], json!({"name": "billing"})).await;
    assert_eq!(client.numbers(2).await, [2, 3]);
    client.cut();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_names_until_it_forgets_one() {
    let node = Node::start(LiveOptions { names_max: 2, ..options() }).await;
    for name in ["a", "b"] {
        let mut client = node.connect().await;
        assert_eq!(client.subscribe(&["*"], json!({"name": name})).await["type"], "subscribed");
        client.cut();
    }
    let mut client = node.connect().await;
    let refused = client.subscribe(&["*"], json!({"name": "c"})).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("name")), "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("forget one")), "{refused}");
    assert_eq!(client.subscribe(&["*"], json!({"name": "a"})).await["type"], "subscribed", "it is there already");
    client.say(json!({"type": "forget"})).await;
    assert_eq!(client.hear().await, json!({"type": "forgotten", "name": "a"}));
    client.say(json!({"type": "forget"})).await;
    assert_eq!(client.hear().await["code"], "not_reliable");
    assert_eq!(client.subscribe(&["*"], json!({"name": "c"})).await["type"], "subscribed");
    client.cut();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_read_in_the_store_at_one_time() {
    const EVENTS: u64 = 500;
    let watched = Arc::new(Watched::default());
    let node = Node::over(LiveOptions { readers_max: 1, ..options() }, watched.clone(), watched.store.clone()).await;
    node.append_numbers("a", 0..EVENTS);
    let mut clients = Vec::new();
    for name in 0..8 {
        let mut client = node.connect().await;
        client.subscribe(&["*"], json!({"name": name.to_string(), "after": "0"})).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.numbers(EVENTS as usize).await, (0..EVENTS).collect::<Vec<_>>());
    }
    assert_eq!(watched.most(), 1);
    clients.into_iter().for_each(Client::cut);
    node.end().await;
}
