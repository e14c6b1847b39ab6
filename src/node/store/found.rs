//! What was found of a store when it was opened, in words and as JSON.

use serde_json::{Value, json};

use super::super::human::{grouped, nanoseconds};
use crate::store::{LogStore, Opening, Recovered};

/// What was cut off, what a crash had left of archiving, and indices that were not of their segments.
pub(super) fn mended(store: &LogStore) -> Vec<String> {
    let mut said = Vec::new();
    for (of, recovered) in parts(store).into_iter().filter(|(_, recovered)| recovered.cut_bytes > 0) {
        let bytes = grouped(recovered.cut_bytes);
        let what = match recovered.cut_may_be_written {
            true => {
                "the machine went down before they were synced, and what was acknowledged as written may be among them"
            }
            false => "a write that was not acknowledged ended in the middle",
        };
        said.push(format!("{of}{bytes} bytes at the end were cut off: {what}"));
    }
    for file in &store.recovered().removed {
        let file = file.display();
        said.push(format!("{file} was removed: its events are there twice, archiving was cut short"));
    }
    let Opening { indices_missing, indices_removed, .. } = store.opening();
    if indices_missing > 0 {
        let files = grouped(indices_missing as u64);
        said.push(format!(
            "{files} files of events have no index: it is made again, and queries are slower until then"
        ));
    }
    if indices_removed > 0 {
        let indices = grouped(indices_removed as u64);
        said.push(format!("{indices} indices of files of events that are not there, or go on, were removed"));
    }
    said
}

/// What cannot be read, as far as it is known: it stays where it is, and what follows is read.
pub(super) fn damaged(store: &LogStore) -> Vec<String> {
    let events = store.recovered().damages.iter().map(ToString::to_string);
    let state = store.state_damages().into_iter().map(|damage| format!("of snapshots and state: {damage}"));
    events.chain(state).collect()
}

/// Whether something that was acknowledged may have been cut off.
pub(super) fn may_be_lost(store: &LogStore) -> bool {
    parts(store).iter().any(|(_, recovered)| recovered.cut_may_be_written)
}

/// How long it took to open it.
pub(super) fn took_ns(store: &LogStore) -> u64 {
    u64::try_from(store.opening().took.as_nanos()).unwrap_or(u64::MAX)
}

fn parts(store: &LogStore) -> [(&'static str, &Recovered); 2] {
    [("", store.recovered()), ("of snapshots and state: ", store.state_recovered())]
}

/// What a node tells of its store: how it was opened, as it was found then.
#[derive(Debug)]
pub(in super::super) struct Found {
    /// A line that says how long it took, and one for each thing that was not as it should be.
    pub(in super::super) said: Vec<String>,
    /// The same in figures.
    pub(in super::super) figures: Value,
    /// Places that cannot be read.
    pub(in super::super) damaged: usize,
}

impl Found {
    pub(in super::super) fn of(store: &LogStore) -> Self {
        let (opening, stats, damaged) = (store.opening(), store.stats(), damaged(store));
        let (folder, took) = (store.folder().display(), took_ns(store));
        let (events, segments) = (grouped(stats.events), grouped(stats.segments as u64));
        let opened = format!(
            "the store in {folder} was opened in {}: {events} events in {segments} files, of which the last was read for its index",
            nanoseconds(took)
        );
        let recovered = |recovered: &Recovered, damaged: usize| {
            json!({
                "cut_bytes": recovered.cut_bytes,
                "cut_may_be_written": recovered.cut_may_be_written,
                "damaged": damaged,
            })
        };
        let figures = json!({
            "state": if !damaged.is_empty() { "damaged" } else if is_cut(store) { "cut" } else { "whole" },
            "opened_in_ns": took,
            "events": stats.events,
            "segments": stats.segments,
            "indexed_events": opening.indexed_events,
            "indices_missing": opening.indices_missing,
            "indices_removed": opening.indices_removed,
            "archives_removed": store.recovered().removed.len(),
            "log": recovered(store.recovered(), store.recovered().damages.len()),
            "table": recovered(store.state_recovered(), store.state_damages().len()),
        });
        let count = damaged.len();
        Self { said: [vec![opened], mended(store), damaged].concat(), figures, damaged: count }
    }

    /// One word for it: `whole`, `cut`, `damaged`.
    pub(in super::super) fn state(&self) -> &str {
        self.figures["state"].as_str().expect("it is one of these words")
    }
}

fn is_cut(store: &LogStore) -> bool {
    parts(store).iter().any(|(_, recovered)| recovered.cut_bytes > 0)
}
