//! Which events come, and in which order.

use std::sync::Arc;

use ringmain::node::live::LiveOptions;
use serde_json::{Value, json};

use crate::support::{Dialect, Node, append, options, position};

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_the_events_it_wants_in_the_order_of_the_store() {
    const EVENTS: u64 = 1_500;
    let node = Node::start(options()).await;
    let topics = ["orders.placed", "orders.paid", "users.created"];
    let mut clients = Vec::new();
    for (patterns, wants) in [
        (&["*"][..], [true; 3]),
        (&["orders.*"], [true, true, false]),
        (&["orders.paid", "users.**"], [false, true, true]),
        (&["orders.placed", "orders.*", "**"], [true; 3]),
    ] {
        let mut client = node.connect().await;
        let said = client.subscribe(patterns, json!({})).await;
        assert_eq!((&said["type"], &said["position"]), (&json!("subscribed"), &json!("0")));
        assert_eq!(said["patterns"], json!(patterns));
        clients.push((client, wants));
    }
    let frames: Vec<_> = (0..EVENTS).map(|n| node.frame(topics[n as usize % 3], n)).collect();
    let store = Arc::clone(&node.store);
    let writer = tokio::task::spawn_blocking(move || {
        for some in frames.chunks(7) {
            append(&*store, some);
        }
    });
    for (mut client, wants) in clients {
        for number in (0..EVENTS).filter(|n| wants[*n as usize % 3]) {
            assert_eq!(client.event().await, (number, number + 1));
        }
    }
    writer.await.expect("it writes");
    let counts = node.hub.counts();
    assert_eq!(counts.events_sent, EVENTS * 2 + EVENTS * 2 / 3 * 2);
    assert_eq!((counts.clients_total, counts.gaps), (4, 0));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_subprotocol_each_message_is_a_cloudevent() {
    let node = Node::start(options()).await;
    let mut client = node.connect_to("?type=orders.*", Dialect::Cloud).await;
    let said = client.hear().await;
    assert_eq!((&said["specversion"], &said["type"]), (&json!("1.0"), &json!("ringmain.live.subscribed")));
    assert_eq!(said["data"], json!({"patterns": ["orders.*"], "position": "0", "slow": "spill"}));
    node.append_numbers("orders.placed", 7..8);
    let event = client.hear().await;
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("orders.placed")));
    assert_eq!((&event["data"], position(&event)), (&json!(7), 1));
    client
        .say(json!({
            "specversion": "1.0", "id": "1", "source": "test", "type": "ringmain.live.unsubscribe",
            "data": {"patterns": ["orders.*"]},
        }))
        .await;
    assert_eq!(client.hear().await["data"], json!({"patterns": []}));
    drop(client);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_subprotocol_an_event_has_the_shape_of_a_bridge() {
    let node = Node::start(options()).await;
    let mut client = node.connect_to("?type=task.created", Dialect::Plain).await;
    client.hear().await;
    let frame = node.frame("task.created", 1);
    node.append(std::slice::from_ref(&frame));
    let mut event = client.hear().await;
    let timestamp = event["timestamp"].take();
    assert!(timestamp.as_str().is_some_and(|text| text.ends_with('Z') && text.contains('T')), "{timestamp}");
    let source = event["metadata"]["source"].take();
    assert!(source.is_string());
    let expected = json!({
        "type": "event", "event_type": "task.created", "event_id": frame.meta().id().to_string(), "payload": 1,
        "metadata": {"source": null, "priority": "normal"}, "timestamp": null, "position": "1",
    });
    assert_eq!(event, expected);
    drop(client);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_are_added_and_taken_away_on_the_way() {
    let node = Node::start(options()).await;
    let mut client = node.connect().await;
    node.append_numbers("before", 0..3);
    // Nothing came, for nothing was subscribed.
    let said = client.subscribe(&["a"], json!({})).await;
    assert_eq!(position(&said), 3);
    node.append_numbers("a", 10..12);
    node.append_numbers("b", 20..22);
    assert_eq!(client.numbers(2).await, [10, 11]);
    let said = client.subscribe(&["b"], json!({})).await;
    assert_eq!(said["patterns"], json!(["a", "b"]));
    node.append_numbers("b", 22..24);
    // Whether those of `b` come that were there before is said by the position.
    let behind = position(&said);
    let first = if behind >= 7 { 22 } else { 20 + behind.saturating_sub(5) };
    assert_eq!(client.numbers((24 - first) as usize).await, (first..24).collect::<Vec<_>>());
    client.say(json!({"type": "unsubscribe", "patterns": ["a"]})).await;
    assert_eq!(client.hear().await["patterns"], json!(["b"]));
    node.append_numbers("a", 12..13);
    node.append_numbers("b", 24..25);
    assert_eq!(client.numbers(1).await, [24]);
    drop(client);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_and_the_connection_goes_on() {
    let node = Node::start(LiveOptions { patterns_max: 2, ..options() }).await;
    let mut client = node.connect().await;
    let mut refused = 0;
    for (message, code) in [
        (json!({"type": "publish"}), "malformed"),
        (json!([]), "malformed"),
        (json!({"type": "subscribe", "patterns": []}), "patterns"),
        (json!({"type": "subscribe", "patterns": ["a b"]}), "patterns"),
        (json!({"type": "subscribe", "patterns": ["a", "b", "c"]}), "patterns"),
        (json!({"type": "subscribe", "patterns": ["a"], "slow": "never"}), "slow"),
        (json!({"type": "subscribe", "patterns": ["a"], "after": "1"}), "beyond_end"),
        (json!({"type": "subscribe", "patterns": ["a"], "name": ""}), "name"),
        (json!({"type": "ack", "position": "1"}), "not_reliable"),
    ] {
        client.say(message.clone()).await;
        let said = client.hear().await;
        assert_eq!((&said["type"], &said["code"]), (&json!("error"), &json!(code)), "{message}: {said}");
        refused += 1;
        assert_eq!(node.hub.counts().commands_refused, refused);
    }
    assert_eq!(client.subscribe(&["a", "b"], json!({})).await["type"], "subscribed");
    let said: Value = client.subscribe(&["a"], json!({"after": "0"})).await;
    assert_eq!(said["code"], "subscribed");
    node.append_numbers("b", 5..6);
    assert_eq!(client.numbers(1).await, [5]);
    drop(client);
    node.end().await;
}
