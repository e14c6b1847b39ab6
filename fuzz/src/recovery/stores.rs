//! The same of a table, and of a whole store with its indices and its threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::Unstructured;
use ringmain::internals::store::Word;
use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::table::{Table, TableOptions};
use ringmain::store::{
    Durability, EventStore, ExpectedVersion, LogStore, LogStoreBuilder, Order, Position, Query, ReadError, Retention,
    StateKind,
};
use ringmain::{Aggregate, Bus, Frame, IdleStrategy, Payload};

use super::FOLDER;
use super::damage::damaged;

/// More than any query of so few events needs.
const STEPS_MAX: usize = 20_000;

fn table_options() -> TableOptions {
    let mut options = TableOptions::default();
    options.segment_bytes = 8_192;
    options.key_bytes_max = 16;
    options.value_bytes_max = 2_000;
    options
}

pub(super) fn table(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let disk = SimDisk::new();
    let open = |disk: &SimDisk| Table::open(Arc::new(disk.clone()), Path::new(FOLDER), table_options());
    let (table, _) = open(&disk).expect("the disk works");
    for nth in 0..bytes.int_in_range(1..=20)? {
        let (key, length) = ([bytes.int_in_range(0..=5_u8)?], bytes.int_in_range(0..=1_500)?);
        let put = if nth % 5 == 4 {
            table.remove(StateKind::VIEW, &key, Word::Written)
        } else {
            table.put(StateKind::VIEW, &key, &vec![key[0]; length], Word::Written)
        };
        put.expect("the disk works");
    }
    table.close().expect("the disk works");
    let damaged = damaged(&disk, Path::new(FOLDER), &BTreeMap::new(), bytes)?;
    let Ok((table, _)) = open(&damaged.disk) else { return Ok(()) };
    for key in 0..=5_u8 {
        if let Ok(Some(value)) = table.get(StateKind::VIEW, &[key]) {
            assert!(damaged.is_forged || value.iter().all(|byte| *byte == key), "the value of another key");
        }
    }
    if table.put(StateKind::VIEW, &[9], &[9; 300], Word::Durable).is_err() {
        return Ok(());
    }
    table.accept_damage();
    let _ = table.compact();
    let found = table.get(StateKind::VIEW, &[9]).expect("it was acknowledged").expect("it was acknowledged");
    assert_eq!(&*found, &[9; 300]);
    if table.close().is_ok() {
        let (table, _) = open(&damaged.disk).unwrap_or_else(|error| panic!("it was open a moment ago: {error}"));
        assert!(table.get(StateKind::VIEW, &[9]).is_ok_and(|value| value.is_some()), "it was acknowledged");
    }
    Ok(())
}

/// Events that are made once: making some takes a bus.
fn frames() -> &'static [Frame] {
    static FRAMES: OnceLock<Vec<Frame>> = OnceLock::new();
    FRAMES.get_or_init(|| {
        let bus = Bus::builder().workers(1).pin(false).idle(IdleStrategy::Park).build().expect("there is memory");
        let mut publisher = bus.publisher().expect("it runs");
        let mut frame = |version: u64| {
            let aggregate = Aggregate { kind: "order", id: "7", version };
            let payload = format!("\"{}\"", "x".repeat(version as usize * 37 % 700));
            publisher
                .event()
                .aggregate(aggregate)
                .to_frame("orders.placed", Payload::json(&payload))
                .expect("it is valid")
        };
        let frames = (1..=40).map(&mut frame).collect();
        bus.shutdown().expect("it runs");
        frames
    })
}

pub(super) fn store(bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let disk = SimDisk::new();
    let builder = || -> LogStoreBuilder {
        let builder = LogStore::builder(FOLDER).segment_bytes(4_096).event_bytes_max(2_000);
        builder.snapshot_state_bytes_max(1_000).state_batch_bytes_max(4_000).retention(Retention::forever())
    };
    let store = open_on(Arc::new(disk.clone()), builder()).expect("the disk works");
    let events = bytes.int_in_range(1..=40)?;
    for frame in &frames()[..events] {
        store.append(std::slice::from_ref(frame), ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    if bytes.arbitrary()? {
        store.keep(Retention::forever().archive_after(std::time::Duration::ZERO)).expect("the disk works");
    }
    store.close().expect("the disk works");
    let folder = Path::new(FOLDER).join(if bytes.ratio(1, 8)? { "table" } else { "" });
    let damaged = damaged(&disk, folder.components().as_path(), &BTreeMap::new(), bytes)?;
    let Ok(store) = open_on(Arc::new(damaged.disk.clone()), builder()) else { return Ok(()) };
    for query in [Query::new(), Query::new().newest_first().limit(3), Query::new().aggregate("order", "7")] {
        for event in read(&store, query) {
            let is_ours = frames()[..events].contains(&event);
            assert!(damaged.is_forged || is_ours, "an event that was never appended");
        }
    }
    let _ = (store.load_snapshot("order", "7"), store.stats(), store.due(Retention::default()));
    if let Ok(appended) = store.append(&frames()[..1], ExpectedVersion::Any, Durability::Durable) {
        let at = *appended.positions().start();
        let found = read(&store, Query::new().from_position(at));
        assert_eq!(found, &frames()[..1], "what was acknowledged is found");
    }
    if let Err(error) = store.close() {
        assert!(!error.to_string().contains("panicked"), "{error}");
    }
    Ok(())
}

/// All that a query finds, past what cannot be read.
fn read(store: &LogStore, mut query: Query) -> Vec<Frame> {
    let mut found = Vec::new();
    for _ in 0..STEPS_MAX {
        let next = match store.query(&query) {
            Ok(page) => {
                found.extend(page.events.iter().map(|event| event.frame().clone()));
                page.next
            }
            Err(ReadError::Damaged(damage)) => damage.missing.and_then(|missing| {
                Position::new(if query.order() == Order::NewestFirst { *missing.start() } else { *missing.end() })
            }),
            Err(error) => error.behind(),
        };
        match next {
            Some(next) => query = query.behind(next),
            None => return found,
        }
    }
    panic!("reading does not end");
}
