//! The end of a node, as its clients see it.

use serde_json::json;

use crate::support::{Closed, LONG, Node, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_away_says_so_and_takes_nobody_more() {
    let node = Node::start(options()).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = node.connect().await;
        client.subscribe(&["*"], json!({})).await;
        clients.push(client);
    }
    let (left, heard) = tokio::join!(node.hub.close(LONG), async {
        let mut heard = Vec::new();
        for client in &mut clients {
            heard.push(client.next().await.expect_err("it ends"));
        }
        heard
    });
    assert_eq!(left, 0);
    for closed in heard {
        assert_eq!(closed, Closed { code: 1001, reason: "the node goes away".to_owned() });
    }
    assert!(node.try_connect("", &[]).await.is_err());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_clients_nothing_is_read_and_the_next_one_begins_at_the_end() {
    let node = Node::start(options()).await;
    for round in 0..3 {
        let first = round * 10;
        node.append_numbers("a", first..first + 5);
        let mut client = node.connect().await;
        let said = client.subscribe(&["*"], json!({})).await;
        assert_eq!(said["position"], (first + 5).to_string());
        node.append_numbers("a", first + 5..first + 10);
        assert_eq!(client.numbers(5).await, (first + 5..first + 10).collect::<Vec<_>>());
        client.cut();
    }
    node.end().await;
}
