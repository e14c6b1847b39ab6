//! Going on after a cut, where one was.

use std::sync::Arc;

use ringmain::node::live::LiveOptions;
use serde_json::json;

use crate::support::{Node, append, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_event_loses_nothing_and_brings_nothing_twice() {
    const EVENTS: u64 = 60;
    // A window that is too small for what is missed: who resumes goes through the store into it.
    let node = Node::start(LiveOptions { window_events: 8, ..options() }).await;
    let frames: Vec<_> = (0..EVENTS).map(|number| node.frame("a", number)).collect();
    for cut in 0..=EVENTS {
        let begin = cut * EVENTS;
        let mut client = node.connect().await;
        client.subscribe(&["*"], json!({"after": begin})).await;
        // It writes while the client reads, is cut, and comes back.
        let (store, frames) = (Arc::clone(&node.store), frames.clone());
        let writer = tokio::task::spawn_blocking(move || {
            frames.iter().for_each(|frame| append(&*store, std::slice::from_ref(frame)))
        });
        let mut last = begin;
        for number in 0..cut {
            last = begin + number + 1;
            assert_eq!(client.event().await, (number, last), "before the cut");
        }
        client.cut();
        let mut again = node.connect().await;
        let said = again.subscribe(&["*"], json!({"after": last.to_string()})).await;
        assert_eq!(said["position"], last.to_string());
        for number in cut..EVENTS {
            assert_eq!(again.event().await, (number, begin + number + 1), "after the cut at {cut}");
        }
        again.cut();
        writer.await.expect("it writes");
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_meets_what_comes_under_load() {
    const EVENTS: u64 = 6_000;
    let options = LiveOptions { window_events: 64, ..options() };
    let node = Node::start(options).await;
    let frames: Vec<_> = (0..EVENTS).map(|number| node.frame(["a", "b"][number as usize % 2], number)).collect();
    let (history, live) = frames.split_at(2_000);
    node.append(&history[..1_000]);
    node.append(&history[1_000..]);
    let mut clients = Vec::new();
    for after in [0, 1, 999, 1_936, 1_999, 2_000] {
        let mut client = node.connect().await;
        client.subscribe(&["*"], json!({"after": after})).await;
        let mut one_type = node.connect().await;
        one_type.subscribe(&["a"], json!({"after": after})).await;
        clients.push((after, client, one_type));
    }
    let (store, live) = (Arc::clone(&node.store), live.to_vec());
    let writer = tokio::task::spawn_blocking(move || {
        for some in live.chunks(3) {
            append(&*store, some);
        }
    });
    for (after, mut client, mut one_type) in clients {
        for number in after..EVENTS {
            assert_eq!(client.event().await, (number, number + 1));
        }
        for number in (after..EVENTS).filter(|number| number % 2 == 0) {
            assert_eq!(one_type.event().await, (number, number + 1));
        }
    }
    writer.await.expect("it writes");
    assert_eq!(node.hub.counts().gaps, 0);
    node.end().await;
}
