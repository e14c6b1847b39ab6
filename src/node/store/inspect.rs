//! `store stats`, `verify`, `archive` and `causation`: what a store has, whether all of it can be read, what becomes of it when
//! it is old, and what caused what.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::human::{bytes, grouped, nanoseconds};
use super::super::progress::Progress;
use super::super::time;
use super::flags::{Archive, Causation, Compact, Stats, Verify};
use super::found::{self, may_be_lost};
use super::read::each_event;
use super::{FAILED, Failure, open_existing, open_to_read, print};
use crate::Frame;
use crate::store::{Compaction, EventStore, LogStore, Position, Query, Upkeep};

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
    opened_in_ns: u64,
    damaged: usize,
}

pub(super) fn stats(flags: &Stats) -> Result<u8, Failure> {
    let store = open_to_read(&flags.store.data)?;
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
        opened_in_ns: found::took_ns(&store),
        damaged: found::damaged(&store).len(),
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
        let whole = match account.damaged as u64 {
            0 => "all of it whole".to_owned(),
            places => format!("{} places cannot be read", grouped(places)),
        };
        let took = nanoseconds(account.opened_in_ns);
        text + &format!(
            "\nsegments   {segments}, {} before compression\nopened     in {took}, {whole}\n",
            bytes(event_bytes)
        )
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

pub(in super::super) fn rfc3339(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = Vec::new();
    time::write(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX), &mut text);
    String::from_utf8(text).expect("it is ASCII")
}

pub(super) fn verify(flags: &Verify) -> Result<u8, Failure> {
    let store = open_existing(&flags.store.data)?;
    let progress = Progress::of_events(store.head().map_err(Failure::said)?.map_or(0, Position::get), false);
    let may_be_cut = may_be_lost(&store);
    let (mut events, mut expected) = (0_u64, store.stats().positions.map_or(1, |(first, _)| first.get()));
    let (mut gaps, mut malformed) = (0_u64, 0);
    let mut unreadable = each_event(&store, Query::new(), &progress, |event| {
        events += 1;
        let position = event.position().get();
        // What is passed over because it cannot be read is said where it is.
        gaps += u64::from(position != expected);
        expected = position + 1;
        // Whoever lends it has looked at its checksum, and not at each field.
        if let Err(error) = Frame::read(event.frame().bytes()) {
            progress.say(&format!("ringmain: the event at position {position} is no whole frame: {error}\n"));
            malformed += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    unreadable += malformed;
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
    let is_whole = unreadable == 0 && gaps == 0;
    let verdict = match is_whole {
        true if may_be_cut => "all that is left can be read".to_owned(),
        true => "all can be read".to_owned(),
        false => format!("{} places cannot be read", grouped(unreadable)),
    };
    print(format!("{} events read, {verdict}\n", grouped(events)).as_bytes())?;
    Ok(if is_whole && !may_be_cut { 0 } else { FAILED })
}

pub(super) fn causation(flags: &Causation) -> Result<u8, Failure> {
    let store = open_to_read(&flags.store.data)?;
    let tree = store.causation(flags.correlation).map_err(Failure::said)?;
    if tree.nodes().is_empty() {
        return Err(Failure::Said(format!("no event has the correlation {}", flags.correlation)));
    }
    print(tree.to_string().as_bytes())?;
    Ok(0)
}

pub(super) fn compact(flags: &Compact) -> Result<u8, Failure> {
    let store = open_existing(&flags.store.data)?;
    let damages = store.state_damages();
    for damage in &damages {
        let given_up = if flags.accept_damage { "given up: " } else { "" };
        Progress::silent().say(&format!("ringmain: {given_up}{damage}\n"));
    }
    if flags.accept_damage {
        store.accept_state_damages();
    } else if !damages.is_empty() {
        let places = grouped(damages.len() as u64);
        return Err(Failure::Said(format!(
            "{places} places of snapshots and state cannot be read; restore the files, or give them up with --accept-damage"
        )));
    }
    let Compaction { before_bytes, after_bytes, removed_segments, .. } = store.compact().map_err(Failure::said)?;
    let (before, after) = (bytes(before_bytes), bytes(after_bytes));
    print(format!("{before} of snapshots and state became {after}, {removed_segments} files removed\n").as_bytes())?;
    store.close().map_err(Failure::said)?;
    Ok(0)
}

pub(super) fn archive(flags: &Archive) -> Result<u8, Failure> {
    let store = open_to_read(&flags.store.data)?;
    let Upkeep { archived_segments: files, archived_bytes, removed_segments, removed_events, .. } =
        store.due(flags.retention()).map_err(Failure::said)?;
    let (packed, removed) = (bytes(archived_bytes), grouped(removed_events));
    let said = format!(
        "{files} files of {packed} will be compressed with zstd, its fastest level; {removed} events in {removed_segments} files \
         will be removed"
    );
    let held = held(&store, flags)?;
    if flags.dry_run {
        print(format!("{said}\n{held}").as_bytes())?;
        return Ok(0);
    }
    let progress = Progress::of_files(files as u64);
    progress.say(&format!("ringmain: {said}\n"));
    let kept = store.keep_telling(flags.retention(), |_| progress.count());
    progress.end();
    let Upkeep { archived_segments, archived_bytes, removed_segments, removed_events, .. } =
        kept.map_err(Failure::said)?;
    let (freed, removed) = (bytes(archived_bytes), grouped(removed_events));
    let said = format!(
        "{archived_segments} files compressed, {freed} given back; {removed} events in {removed_segments} files removed\n"
    );
    print((said + &held).as_bytes())?;
    Ok(0)
}

/// What is to be removed and is kept, and for whom: a line for files in a row that are kept for the same.
fn held(store: &LogStore, flags: &Archive) -> Result<String, Failure> {
    let held = store.held(flags.retention()).map_err(Failure::said)?;
    let mut text = String::new();
    // Who is waited for with one file is waited for with those behind it.
    for files in held.chunk_by(|one, next| next.holders.iter().all(|holder| one.holders.contains(holder))) {
        let (first, last) = (&files[0], &files[files.len() - 1]);
        let (from, to) = (grouped(first.positions.start().get()), grouped(last.positions.end().get()));
        let holders: Vec<_> = first.holders.iter().map(ToString::to_string).collect();
        let events = grouped(files.iter().map(|held| held.events).sum());
        text += &format!("{events} events at positions {from} to {to} are kept for {}\n", holders.join(", and for "));
    }
    Ok(text)
}
