//! What a node finds of its store when it starts is said: on stderr, as an event, and to whoever asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore};
use ringmain::{Bus, Payload};
use serde_json::json;

use crate::Node;
use crate::folder::Folder;

/// Files of the store with an ending, oldest first.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

/// A store of several files, each full one with its index.
fn made(folder: &Path) {
    let bus = Bus::builder().workers(1).pin(false).build().expect("the defaults are valid");
    let mut publisher = bus.publisher().expect("it runs");
    let store = LogStore::builder(folder).segment_bytes(8 << 10).event_bytes_max(4 << 10).open().expect("it is new");
    for n in 0..40 {
        let frame = publisher.event().to_frame("a", Payload::plain_text(&format!("{n:0500}"))).expect("it is valid");
        store.append(slice::from_ref(&frame), ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    store.close().expect("the disk works");
    drop(publisher);
    bus.shutdown().expect("nothing is stuck");
}

#[test]
fn what_was_cut_and_what_cannot_be_read_is_said_at_the_start() {
    let folder = Folder::new("node-found");
    made(&folder.0);
    let (logs, indices) = (files(&folder.0, "log"), files(&folder.0, "idx"));
    assert!(logs.len() > 2 && indices.len() + 1 == logs.len(), "{logs:?}, {indices:?}");

    let node = Node::start(&folder.0, &[]);
    let said = node.hears("was opened in");
    assert!(said.contains(&format!("40 events in {} files", logs.len())), "{said}");
    let whole = node.get("/v1/overview").json()["store"].clone();
    let none = json!({"cut_bytes": 0, "cut_may_be_written": false, "damaged": 0});
    assert_eq!((&whole["state"], &whole["log"], &whole["table"]), (&json!("whole"), &none, &none));
    assert_eq!(node.get("/health/ready").json()["store"], json!({"health": "healthy", "reason": null}));
    node.signal("-KILL");
    node.ends();

    // A durable event has rotted, an index is gone, and a write ended half way.
    fs::remove_file(&indices[0]).expect("it is there");
    let last = files(&folder.0, "log").pop().expect("there are several");
    let mut torn = fs::read(&last).expect("it can be read");
    let end = torn.iter().rposition(|byte| *byte != 0).expect("it is not empty") + 1;
    let end = end.next_multiple_of(16);
    // The begin of a record, and no more of it.
    let begin = torn[64..124].to_vec();
    torn[end..end + begin.len()].copy_from_slice(&begin);
    let place = torn.windows(8).position(|bytes| bytes == b"00000000").expect("a payload is in it");
    torn[place] ^= 1;
    fs::write(&last, torn).expect("it can be written");

    let node = Node::start(&folder.0, &[]);
    for what in ["bytes at the end were cut off", "1 files of events have no index", "positions 34 to 34"] {
        node.hears(what);
    }
    let found = node.get("/v1/overview").json()["store"].clone();
    assert_eq!(
        (&found["indices_missing"], &found["log"]["cut_bytes"].as_u64().is_some_and(|cut| cut > 0)),
        (&json!(1), &true)
    );
    assert_eq!((&found["state"], &found["log"]["damaged"]), (&json!("damaged"), &json!(1)));
    let ready = node.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["store"]["health"]), (200, &json!("degraded")), "it does all else");
    let told: Vec<_> = node.events("type=ringmain.store&after=40").iter().map(|event| event["data"].clone()).collect();
    assert_eq!(told.len(), 2, "of both starts");
    assert_eq!((&told[0]["state"], &told[1]), (&json!("whole"), &found));
    node.stop();
}
