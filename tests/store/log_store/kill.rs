//! A process that appends to a store is killed, again and again, on a real disk: what it had acknowledged is there, once and
//! in order, and so is its state. A tenth of `RINGMAIN_KILLS` says how often; the others kill the
//! command, which takes the same way.

use std::collections::HashMap;
use std::env;
use std::io::Write;
use std::path::Path;

use ringmain::store::{
    Durability, EventStore, ExpectedVersion, LogStore, Query, Snapshot, StateChange, StateKind, StateStore,
};
use ringmain::{EventId, Payload};

use super::found;
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::proof::say;
use crate::support::Chance;

const KILLS: u64 = 20;
const THIS: &str = "log_store::kill::a_killed_process_loses_no_event_that_it_acknowledged";

fn open(folder: &Path) -> LogStore {
    LogStore::builder(folder)
        .segment_bytes(32 << 10)
        .event_bytes_max(4_000)
        .versions_max(8)
        .snapshot_state_bytes_max(1_000)
        .state_batch_bytes_max(8_000)
        .open()
        .expect("it can be opened")
}

/// Appends to one aggregate after another until it is killed, and says the position and id of each event once it is as
/// asked.
fn child(folder: &Path) -> ! {
    let store = open(folder);
    let mut chance = Chance(store.head().expect("the disk works").map_or(0, |head| head.get()));
    let mut writer = Writer::new();
    let mut stdout = std::io::stdout().lock();
    loop {
        let id = chance.below(20).to_string();
        let version = Query::new().aggregate("order", &*id).newest_first().limit(1).stream(&store).next();
        let version =
            version.map_or(0, |event| event.expect("it can be read").meta().aggregate().expect("it has one").version);
        let frames = writer.of_aggregate("order", &id, version + 1..=version + 1 + chance.below(4));
        let word = if chance.below(4) == 0 { Durability::Durable } else { Durability::Written };
        let appended = store.append(&frames, ExpectedVersion::Exact(version), word).expect("the version is right");
        for (nth, frame) in frames.iter().enumerate() {
            let position = appended.positions().start().get() + nth as u64;
            writeln!(stdout, "\nappended {position} {}", frame.meta().id()).expect("the parent reads");
        }
        if chance.below(10) == 0 {
            let version = appended.version().expect("one was expected");
            store.save_snapshot(&Snapshot::new("order", &id, version, Payload::json("{}"))).expect("the disk works");
            writeln!(stdout, "\nsaved {id} {version}").expect("the parent reads");
        }
        if chance.below(3) == 0 {
            // Long enough that the table has several segments.
            let value = appended.positions().end().get().to_le_bytes().repeat(500);
            let word = if chance.below(4) == 0 { Durability::Durable } else { Durability::Written };
            let kind = StateKind::CURSOR;
            store.apply(&[StateChange::Put { kind, key: id.as_bytes(), value: &value }], word).expect("the disk works");
            writeln!(stdout, "\nread {id} {}", appended.positions().end()).expect("the parent reads");
        }
    }
}

#[test]
fn a_killed_process_loses_no_event_that_it_acknowledged() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let kills = env::var("RINGMAIN_KILLS").map_or(KILLS, |kills| kills.parse::<u64>().expect("a number") / 10);
    let folder = Folder::new("store-kill");
    let mut chance = Chance(11);
    // Ids of events by position, and versions of snapshots.
    let mut acknowledged: Vec<(u64, EventId)> = Vec::new();
    let mut saved: HashMap<String, u64> = HashMap::new();
    // Positions that state speaks of.
    let mut read: HashMap<String, u64> = HashMap::new();
    for kill in 0..kills {
        let before = acknowledged.len();
        kill_after(1 + chance.below(200), THIS, &folder.0, |line| {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["appended", position, id] => {
                    acknowledged.push((position.parse().expect("a position"), id.parse().expect("an id")));
                    true
                }
                ["saved", id, version] => {
                    saved.insert(id.to_owned(), version.parse().expect("a version"));
                    false
                }
                ["read", id, position] => {
                    read.insert(id.to_owned(), position.parse().expect("a position"));
                    false
                }
                _ => false,
            }
        });
        assert!(acknowledged.len() > before, "kill {kill}: it appended before it was killed");
        let store = open(&folder.0);
        assert!(store.recovered().damages.is_empty(), "kill {kill}: {:?}", store.recovered());
        let events: Vec<_> = Query::new().stream(&store).map(|event| event.expect("it can be read")).collect();
        assert!(events.iter().zip(1..).all(|(event, position)| event.position().get() == position), "kill {kill}");
        for (position, id) in &acknowledged {
            assert_eq!(events[*position as usize - 1].meta().id(), *id, "kill {kill}, position {position}");
        }
        // Indices say the same as the log, and nothing was appended twice.
        for order in 0..20 {
            let id = order.to_string();
            let of = |event: &&ringmain::store::StoredEvent| event.meta().aggregate().is_some_and(|of| of.id == id);
            let by_hand: Vec<_> = events.iter().filter(of).collect();
            let versions = by_hand.iter().map(|event| event.meta().aggregate().expect("it has one").version);
            assert!(versions.eq(1..=by_hand.len() as u64), "kill {kill}, order {id}");
            let positions: Vec<_> = by_hand.iter().map(|event| event.position().get()).collect();
            assert_eq!(found(&store, Query::new().aggregate("order", &*id)), positions, "kill {kill}, order {id}");
            let snapshot = store.load_snapshot("order", &id).expect("it can be read").map_or(0, |kept| kept.version());
            assert!(
                snapshot >= saved.get(&id).copied().unwrap_or(0) && snapshot <= by_hand.len() as u64,
                "kill {kill}"
            );
            let state = store.get(StateKind::CURSOR, id.as_bytes()).expect("it can be read");
            let state = state.map_or(0, |state| u64::from_le_bytes(state[..8].try_into().expect("a number")));
            assert!(state >= read.get(&id).copied().unwrap_or(0), "kill {kill}, order {id}");
            assert!(state == 0 || positions.contains(&state), "kill {kill}, order {id}: there is such an event");
        }
    }
    say(&format!("kills: {kills}"));
}
