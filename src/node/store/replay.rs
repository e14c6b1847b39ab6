//! `store replay`: past events as lines once more, marked, at a rate.

use std::ops::ControlFlow;

use super::super::human::{bytes, grouped};
use super::super::passage::LastHop;
use super::super::progress::Progress;
use super::flags::Replay;
use super::pace::{Pace, time_of};
use super::read::{Out, each_event, exit_code};
use super::{Failure, open_to_read, print};
use crate::store::{EventStore, LogStore, Position};

pub(super) fn replay(flags: &Replay) -> Result<u8, Failure> {
    let store = open_to_read(&flags.store.data)?;
    if flags.dry_run {
        return dry_run(&store, flags);
    }
    let progress = Progress::new(true);
    let mut out = Out::stdout();
    let mut pace = flags.rate.map(Pace::new);
    let unreadable = each_event(&store, flags.query(), &progress, |event| {
        if let Some(pace) = &mut pace {
            // Who reads has what is due before it waits for the next.
            pace.next(|| out.send())?;
        }
        out.write(event, LastHop::Replay(event.position().get()))?;
        Ok(ControlFlow::Continue(()))
    })?;
    out.end()?;
    progress.end();
    Ok(exit_code(unreadable))
}

fn dry_run(store: &LogStore, flags: &Replay) -> Result<u8, Failure> {
    let progress = Progress::of_events(store.head().map_err(Failure::said)?.map_or(0, Position::get), false);
    let (mut events, mut frame_bytes, mut ends) = (0_u64, 0, None);
    let unreadable = each_event(store, flags.query(), &progress, |event| {
        events += 1;
        frame_bytes += event.frame().bytes().len() as u64;
        let first = ends.map_or(event.position(), |(first, _)| first);
        ends = Some((first, event.position()));
        Ok(ControlFlow::Continue(()))
    })?;
    progress.end();
    let mut text = format!("{} events would be replayed, {}", grouped(events), bytes(frame_bytes));
    if let Some((first, last)) = ends {
        text += &format!(", from position {first} to {last}");
    }
    if let Some(rate) = flags.rate {
        let takes = time_of(events.saturating_sub(1), rate).as_secs_f64();
        text += &format!("; at {rate} a second that takes {takes:.1} s");
    }
    print((text + "\n").as_bytes())?;
    Ok(exit_code(unreadable))
}
