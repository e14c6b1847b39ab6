//! Clients that are slower than the events.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmain::node::live::LiveOptions;
use ringmain::{Frame, Payload};
use serde_json::{Value, json};

use crate::support::{Client, Closed, Dialect, LONG, Node, options, position};
use crate::watched::Watched;

/// Events whose text is so long that sockets are soon full.
fn heavy(node: &Node, topic: &str, numbers: std::ops::Range<u64>) -> Vec<Frame> {
    let text = "x".repeat(4_000);
    let data = |number| json!({"number": number, "text": text}).to_string();
    numbers.map(|number| node.frame_of(topic, Payload::json(&data(number)))).collect()
}

fn number(event: &Value) -> u64 {
    event["payload"]["number"].as_u64().unwrap_or_else(|| panic!("{event}"))
}

/// Bytes that this process has resident.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_of_a_hundred_that_read_nothing_hold_up_nobody() {
    const STEP: u64 = 50;
    let options = LiveOptions { window_events: 200, close_max: LONG, ..options() };
    let node = Node::start(options).await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut client = node.connect_to("?type=*&slow=close", Dialect::Plain).await;
        client.hear().await;
        stuck.push(client);
    }
    let mut readers = Vec::new();
    for _ in 0..80 {
        let mut client = node.connect_to("?type=*&slow=close", Dialect::Plain).await;
        client.hear().await;
        readers.push(client);
    }
    let before = resident();
    let mut appended = 0;
    let mut stored = 0;
    // Each step comes to all readers while the others stand still.
    while node.hub.counts().closed_slow < 20 {
        assert!(appended < 20_000, "{:?}", node.hub.counts());
        let frames = heavy(&node, "a", appended..appended + STEP);
        stored += frames.iter().map(|frame| frame.bytes().len() as u64 + 1_000).sum::<u64>();
        node.append(&frames);
        let all = readers.iter_mut().map(async |client| {
            for at in appended..appended + STEP {
                assert_eq!(number(&client.hear().await), at);
            }
        });
        futures_util::future::join_all(all).await;
        appended += STEP;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < stored + (64 << 20), "{grown} bytes grown, {stored} stored");
    assert_eq!(node.hub.counts().closed_slow, 20);
    for mut client in stuck {
        let (came, closed) = to_the_end(&mut client).await;
        assert!(came > 0 && came < appended, "{came}");
        assert_eq!(closed.code, 4000);
        assert!(closed.reason.starts_with("slow: "), "{closed:?}");
    }
    drop(readers);
    node.end().await;
}

/// How many events came in their order, and how it ended.
async fn to_the_end(client: &mut Client) -> (u64, Closed) {
    let mut came = 0;
    loop {
        match client.next().await {
            Ok(event) => assert_eq!(number(&event), came),
            Err(closed) => return (came, closed),
        }
        came += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_spills_misses_nothing_however_late_it_reads() {
    const EVENTS: u64 = 600;
    let node = Node::start(LiveOptions { window_events: 50, ..options() }).await;
    let mut late = node.connect_to("?type=*&slow=spill", Dialect::Plain).await;
    let mut reader = node.connect_to("?type=*", Dialect::Plain).await;
    late.hear().await;
    reader.hear().await;
    for begin in (0..EVENTS).step_by(20) {
        node.append(&heavy(&node, "a", begin..begin + 20));
        for at in begin..begin + 20 {
            assert_eq!(number(&reader.hear().await), at);
        }
    }
    for at in 0..EVENTS {
        let event = late.hear().await;
        assert_eq!((number(&event), position(&event)), (at, at + 1));
    }
    let counts = node.hub.counts();
    assert!(counts.spills >= 1, "{counts:?}");
    assert_eq!((counts.gaps, counts.closed_slow, counts.events_sent), (0, 0, 2 * EVENTS));
    drop((late, reader));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_conflates_has_the_newest_of_each_type_and_is_told_what_it_missed() {
    const EVENTS: u64 = 1_200;
    let node = Node::start(LiveOptions { window_events: 400, ..options() }).await;
    let mut late = node.connect_to("?type=*&slow=conflate", Dialect::Plain).await;
    let mut reader = node.connect_to("?type=*", Dialect::Plain).await;
    late.hear().await;
    reader.hear().await;
    let topics = ["a", "b", "c"];
    for begin in (0..EVENTS).step_by(20) {
        let of = |topic: usize| heavy(&node, topics[topic], begin..begin + 20).into_iter().skip(topic).step_by(3);
        let mut frames: Vec<_> = (0..3).flat_map(of).collect();
        frames.sort_by_key(|frame| frame.meta().id());
        node.append(&frames);
        for _ in &frames {
            reader.hear().await;
        }
    }
    let (mut came, mut missed) = (0, 0);
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = 0;
    while came + missed < EVENTS {
        let message = late.hear().await;
        if message["type"] == "gap" {
            assert_eq!(message["reason"], "conflated");
            missed += message["events"].as_str().and_then(|events| events.parse::<u64>().ok()).expect("a number");
            continue;
        }
        came += 1;
        assert!(position(&message) > last, "in order");
        last = position(&message);
        newest.insert(message["event_type"].as_str().expect("a text").to_owned(), last);
    }
    assert!(missed > 0);
    assert_eq!(came + missed, EVENTS, "each came, or was said to be missed");
    assert_eq!(last, EVENTS);
    assert_eq!(newest.len(), 3);
    assert!(newest.values().all(|position| *position > EVENTS - 20), "{newest:?}");
    let counts = node.hub.counts();
    assert_eq!((counts.events_conflated, counts.events_sent), (missed, EVENTS + came));
    drop((late, reader));
    node.end().await;
}

/// Who subscribes before anything is in memory has not come to the newest events, and is not slow.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_before_the_window_begins_is_not_slow() {
    let watched = Arc::new(Watched::default());
    watched.hold();
    let node = Node::over(options(), watched.clone(), watched.store.clone()).await;
    node.append_numbers("a", 0..10);
    let mut client = node.connect().await;
    assert_eq!(client.subscribe(&["*"], json!({"after": "0", "slow": "close"})).await["type"], "subscribed");
    // It has looked what there is between its two answers.
    client.say(json!({"type": "unsubscribe", "patterns": ["none"]})).await;
    assert_eq!(client.hear().await["type"], "unsubscribed");
    watched.release();
    assert_eq!(client.numbers(10).await, (0..10).collect::<Vec<_>>());
    assert_eq!((node.hub.counts().spills, node.hub.counts().closed_slow), (0, 0));
    client.cut();
    node.end().await;
}
