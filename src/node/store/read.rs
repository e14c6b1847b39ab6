//! `store query` and `store export`: events of a store become lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;

use super::super::client::query::events;
use super::super::human::grouped;
use super::super::passage::{self, LastHop};
use super::super::progress::Progress;
use super::flags::{Export, Find};
use super::{FAILED, Failure, open_to_read};
use crate::store::{EventStore, LogStore, Order, Position, Query, ReadError, StoredEventRef};

/// Lines go out in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

pub(super) fn query(flags: &Find) -> Result<u8, Failure> {
    let Some(folder) = &flags.place.data else { return events(&flags.place.node, flags) };
    let store = open_to_read(folder)?;
    let mut query = flags.filter.query();
    if flags.newest_first {
        query = query.newest_first();
    }
    let progress = Progress::new(true);
    let mut left = flags.limit.unwrap_or(u64::MAX);
    if let Ok(few) = usize::try_from(left) {
        query = query.limit(few.min(Query::EVENTS_DEFAULT));
    }
    let mut out = Out::stdout();
    let unreadable = each_event(&store, query, &progress, |event| {
        out.write(event, LastHop::Position(event.position().get()))?;
        left -= 1;
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    out.end()?;
    progress.end();
    Ok(exit_code(unreadable))
}

/// What a command ends with that met so many places that cannot be read.
pub(super) const fn exit_code(unreadable: u64) -> u8 {
    if unreadable > 0 { FAILED } else { 0 }
}

pub(super) fn export(flags: &Export) -> Result<u8, Failure> {
    let store = open_to_read(&flags.store.data)?;
    let (out, name): (Sink, _) = match &flags.output {
        None => (Sink::Stdout(io::stdout().lock()), "stdout".to_owned()),
        Some(path) => {
            let name = path.display().to_string();
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            (Sink::File(file.map_err(|error| Failure::Said(format!("{name} cannot be made: {error}")))?), name)
        }
    };
    let head = store.head().map_err(Failure::said)?;
    let progress = Progress::of_events(head.map_or(0, Position::get), flags.output.is_none());
    let mut out = Out::new(out, name);
    let mut exported = 0_u64;
    let unreadable = each_event(&store, flags.filter.query(), &progress, |event| {
        exported += 1;
        out.write(event, LastHop::Nothing)?;
        Ok(ControlFlow::Continue(()))
    })?;
    out.end()?;
    progress.end();
    let (exported, missing) = (grouped(exported), grouped(unreadable));
    progress.say(&format!("ringmain: {exported} events exported, {missing} places cannot be read\n"));
    Ok(exit_code(unreadable))
}

/// Where lines go.
enum Sink {
    Stdout(io::StdoutLock<'static>),
    File(File),
}

/// Lines on their way out.
pub(super) struct Out {
    out: Sink,
    name: String,
    lines: Vec<u8>,
}

impl Out {
    fn new(out: Sink, name: String) -> Self {
        Self { out, name, lines: Vec::new() }
    }

    pub(super) fn stdout() -> Self {
        Self::new(Sink::Stdout(io::stdout().lock()), "stdout".to_owned())
    }

    pub(super) fn write(&mut self, event: &StoredEventRef<'_>, last_hop: LastHop<'_>) -> Result<(), Failure> {
        passage::write_line(&event.meta(), last_hop, &mut self.lines);
        if self.lines.len() < PIECE_BYTES {
            return Ok(());
        }
        self.send()
    }

    /// Hands over what was written.
    pub(super) fn send(&mut self) -> Result<(), Failure> {
        let sent = match &mut self.out {
            // It has a buffer of its own.
            Sink::Stdout(stdout) => stdout.write_all(&self.lines).and_then(|()| stdout.flush()),
            Sink::File(file) => file.write_all(&self.lines),
        };
        self.lines.clear();
        sent.map_err(|error| self.failed(&error))
    }

    /// Hands over what was written, durably where it is a file.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.send()?;
        // Events may be removed from the store once they are elsewhere.
        let ended = match &mut self.out {
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::File(file) => file.sync_all(),
        };
        ended.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::Said(format!("{} cannot be written: {error}", self.name)),
        }
    }
}

/// Goes through all events that a query means. What cannot be read is said and passed over. Returns how many such places
/// there are.
pub(super) fn each_event(
    store: &LogStore,
    mut query: Query,
    progress: &Progress,
    mut take: impl FnMut(&StoredEventRef<'_>) -> Result<ControlFlow<()>, Failure>,
) -> Result<u64, Failure> {
    let mut unreadable = 0;
    loop {
        let mut flow = Ok(ControlFlow::Continue(()));
        let visited = store.visit(&query, &mut |event| {
            progress.count_at(event.position().get());
            flow = take(&event);
            if let Ok(flow) = flow { flow } else { ControlFlow::Break(()) }
        });
        let behind = match visited {
            Ok(_) if flow?.is_break() => return Ok(unreadable),
            Ok(behind) => behind,
            Err(error) => {
                let behind = past(&error, query.order()).ok_or_else(|| Failure::said(&error))?;
                progress.say(&format!("ringmain: {error}\n"));
                unreadable += 1;
                Some(behind)
            }
        };
        match behind {
            Some(behind) => query = query.behind(behind),
            None => return Ok(unreadable),
        }
    }
}

/// The last of the positions that cannot be read, in the order of the query.
fn past(error: &ReadError, order: Order) -> Option<Position> {
    error.missing().map(|missing| match order {
        Order::OldestFirst => *missing.end(),
        Order::NewestFirst => *missing.start(),
    })
}
