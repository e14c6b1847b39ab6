//! `store stats`, `verify`, `archive` and `causation`: what a store has, whether all of it can be read, what becomes of it when
//! it is old, and what caused what.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::human::{bytes, grouped};
use super::super::progress::Progress;
use super::super::time;
use super::flags::{Archive, Causation, Stats, Verify};
use super::read::each_event;
use super::{FAILED, Failure, open_existing, print};
use crate::store::{EventStore, LogStore, Position, Query, Upkeep};

/// What `stats` says. The JSON names are the field names, in this order.
#[derive(Debug, Serialize)]
struct Account {
    events: u64,
    first_position: Option<u64>,
    last_position: Option<u64>,
    first_appended: Option<String>,
    last_appended: Option<String>,
    segments: usize,
    event_bytes: u64,
}

pub(super) fn stats(flags: &Stats) -> Result<u8, Failure> {
    let store = open_existing(&flags.store.data)?;
    let stats = store.stats();
    let numbers = stats.positions.map(|(first, last)| (first.get(), last.get()));
    let account = Account {
        events: stats.events,
        first_position: numbers.map(|(first, _)| first),
        last_position: numbers.map(|(_, last)| last),
        first_appended: appended_at(&store, Query::new())?,
        last_appended: appended_at(&store, Query::new().newest_first())?,
        segments: stats.segments,
        event_bytes: stats.event_bytes,
    };
    let text = if flags.json {
        serde_json::to_string(&account).expect("it has no map") + "\n"
    } else {
        let Account { events, first_position, last_position, segments, event_bytes, .. } = account;
        let mut text = format!("events     {}", grouped(events));
        if let (Some(first), Some(last)) = (first_position, last_position) {
            text += &format!(" at positions {} to {}", grouped(first), grouped(last));
        }
        if let (Some(first), Some(last)) = (&account.first_appended, &account.last_appended) {
            text += &format!("\nappended   {first} to {last}");
        }
        text + &format!("\nsegments   {segments}, {} before compression\n", bytes(event_bytes))
    };
    print(text.as_bytes())?;
    Ok(0)
}

/// When the first event of a query was appended.
fn appended_at(store: &LogStore, query: Query) -> Result<Option<String>, Failure> {
    let mut found = None;
    each_event(store, query.limit(1), &Progress::silent(), |event| {
        found = Some(rfc3339(event.recorded_at()));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

fn rfc3339(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = Vec::new();
    time::write(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX), &mut text);
    String::from_utf8(text).expect("it is ASCII")
}

pub(super) fn verify(flags: &Verify) -> Result<u8, Failure> {
    let store = open_existing(&flags.store.data)?;
    let progress = Progress::of_events(store.head().map_err(Failure::said)?.map_or(0, Position::get), false);
    let cut = store.recovered().cut_bytes;
    if cut > 0 {
        let cut = grouped(cut);
        progress.say(&format!("ringmain: {cut} bytes at the end, never acknowledged, were cut off\n"));
    }
    let (mut events, mut expected) = (0_u64, store.stats().positions.map_or(1, |(first, _)| first.get()));
    let mut gaps = 0_u64;
    let mut unreadable = each_event(&store, Query::new(), &progress, |event| {
        events += 1;
        let position = event.position().get();
        // What is passed over because it cannot be read is said where it is.
        gaps += u64::from(position != expected);
        expected = position + 1;
        Ok(ControlFlow::Continue(()))
    })?;
    // Damage that no position is missing for is found by opening only.
    for damage in store.recovered().damages.iter().filter(|damage| damage.missing.is_none()) {
        progress.say(&format!("ringmain: {damage}\n"));
        unreadable += 1;
    }
    for damage in store.state_damages() {
        progress.say(&format!("ringmain: of snapshots and state: {damage}\n"));
        unreadable += 1;
    }
    progress.end();
    let clean = unreadable == 0 && gaps == 0;
    let places = grouped(unreadable);
    let verdict = if clean { "all can be read".to_owned() } else { format!("{places} places cannot be read") };
    print(format!("{} events read, {verdict}\n", grouped(events)).as_bytes())?;
    Ok(if clean { 0 } else { FAILED })
}

pub(super) fn causation(flags: &Causation) -> Result<u8, Failure> {
    let store = open_existing(&flags.store.data)?;
    let tree = store.causation(flags.correlation).map_err(Failure::said)?;
    if tree.nodes().is_empty() {
        return Err(Failure::Said(format!("no event has the correlation {}", flags.correlation)));
    }
    print(tree.to_string().as_bytes())?;
    Ok(0)
}

pub(super) fn archive(flags: &Archive) -> Result<u8, Failure> {
    let store = open_existing(&flags.store.data)?;
    let Upkeep { archived_segments, archived_bytes, removed_segments, removed_events, .. } =
        store.keep(flags.retention()).map_err(Failure::said)?;
    let (freed, removed) = (bytes(archived_bytes), grouped(removed_events));
    let said = format!(
        "{archived_segments} files compressed, {freed} given back; {removed} events in {removed_segments} files removed\n"
    );
    print(said.as_bytes())?;
    Ok(0)
}
