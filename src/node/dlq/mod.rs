//! The job `ringmain dlq`: the dead letters that a store keeps, seen, tried again, or removed.

pub mod flags;
pub(super) mod told;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use self::flags::{Chosen, Dlq, List, Purge, Redrive, Show, Which};
use self::told::Told;
use super::client::letters;
use super::human::grouped;
use super::passage::{self, LastHop};
use super::progress::Progress;
use super::store::inspect::rfc3339;
use super::store::pace::Pace;
use super::store::{Failure, ended, open_to_read, print};
use crate::store::{DeadLetterQueue, DeadLetterQueueError, LogStore, StoredLetter};

/// The name of the queue that `ringmain pipe` keeps dead letters in.
pub(super) const QUEUE: &str = "letters";
/// Letters that are read at once.
const PAGE_LETTERS: usize = 256;

/// Runs the command and returns its exit code.
pub fn run(command: &Dlq) -> ExitCode {
    let queue = match command {
        Dlq::List(flags) => &flags.which.queue,
        Dlq::Show(flags) => &flags.queue,
        Dlq::Redrive(flags) => &flags.chosen.which.queue,
        Dlq::Purge(flags) => &flags.chosen.which.queue,
    };
    let (place, queue) = (&queue.place, &*queue.queue);
    ended(match (command, &place.data) {
        (Dlq::List(flags), Some(folder)) => list(folder, queue, flags),
        (Dlq::Show(flags), Some(folder)) => show(folder, queue, flags),
        (Dlq::Redrive(flags), Some(folder)) => redrive(folder, queue, flags),
        (Dlq::Purge(flags), Some(folder)) => purge(folder, queue, flags),
        (Dlq::List(flags), None) => letters::list(&place.node, flags),
        (Dlq::Show(flags), None) => letters::show(&place.node, flags),
        (Dlq::Redrive(flags), None) => letters::redrive(&place.node, flags),
        (Dlq::Purge(flags), None) => letters::purge(&place.node, flags),
    })
}

/// The dead letters of a store.
struct Letters {
    store: Arc<LogStore>,
    queue: DeadLetterQueue,
}

impl Letters {
    fn open(folder: &Path, queue: &str) -> Result<Self, Failure> {
        let store = Arc::new(open_to_read(folder)?);
        let queue = DeadLetterQueue::open(queue, store.clone()).map_err(Failure::said)?;
        Ok(Self { store, queue })
    }

    /// Takes each letter that is meant, oldest first.
    fn each(
        &self,
        which: &Which,
        mut take: impl FnMut(&StoredLetter) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = self.queue.list(after, PAGE_LETTERS).map_err(Failure::said)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id());
            for letter in page.iter().filter(|letter| which.means(letter)) {
                if take(letter)?.is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Takes each letter that was chosen: those named in the order of their names, or all that are meant. `missing` says what
    /// follows from one that is named and not there.
    fn each_chosen(
        &self,
        chosen: &Chosen,
        missing: impl Fn(u64) -> Result<(), Failure>,
        mut take: impl FnMut(&StoredLetter) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if chosen.ids.is_empty() {
            return self.each(&chosen.which, |letter| take(letter).map(ControlFlow::Continue));
        }
        for id in &chosen.ids {
            match self.queue.get(*id).map_err(Failure::said)? {
                Some(letter) if chosen.which.means(&letter) => take(&letter)?,
                _ => missing(*id)?,
            }
        }
        Ok(())
    }

    /// Makes what was removed so durable that it stays removed.
    fn close(self) -> Result<(), Failure> {
        let Self { store, queue } = self;
        drop(queue);
        Arc::into_inner(store).expect("only the queue had it too").close().map_err(Failure::said)
    }
}

impl Which {
    fn means(&self, letter: &StoredLetter) -> bool {
        self.on.as_ref().is_none_or(|pattern| pattern.matches(letter.frame().meta().topic()))
            && self.subscription.as_ref().is_none_or(|name| name == letter.subscription_name())
    }
}

/// Tells of a letter.
fn told<T>(letter: &StoredLetter, tell: impl FnOnce(&Told<'_>) -> T) -> T {
    let event = line(letter);
    tell(&Told {
        id: letter.id(),
        died: rfc3339(letter.died()).into(),
        reason: letter.reason().to_string().into(),
        attempts: letter.attempts(),
        first_attempt: letter.first_attempt().map(|first| rfc3339(first).into()),
        subscription: letter.subscription_name().into(),
        error: letter.error().map(Into::into),
        event: serde_json::from_str(event.trim_end()).expect("a line is a JSON object"),
    })
}

/// The event of a letter as a line, with its line feed.
fn line(letter: &StoredLetter) -> String {
    let mut line = Vec::new();
    passage::write_line(&letter.frame().meta(), LastHop::Nothing, &mut line);
    String::from_utf8(line).expect("JSON is UTF-8")
}

fn list(folder: &Path, queue: &str, flags: &List) -> Result<u8, Failure> {
    let letters = Letters::open(folder, queue)?;
    let mut left = flags.limit.unwrap_or(u64::MAX);
    letters.each(&flags.which, |letter| {
        let text = told(letter, |told| if flags.json { told.json() } else { told.row() });
        print((text + "\n").as_bytes())?;
        left -= 1;
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(0)
}

fn show(folder: &Path, queue: &str, flags: &Show) -> Result<u8, Failure> {
    let letters = Letters::open(folder, queue)?;
    let not_found = || Failure::said(DeadLetterQueueError::NotFound { id: flags.id });
    let letter = letters.queue.get(flags.id).map_err(Failure::said)?.ok_or_else(not_found)?;
    let is_cut = letter.error().is_some_and(|error| letter.error_bytes() > error.len());
    print(told(&letter, |told| told.text(is_cut)).as_bytes())?;
    Ok(0)
}

fn redrive(folder: &Path, queue: &str, flags: &Redrive) -> Result<u8, Failure> {
    let letters = Letters::open(folder, queue)?;
    let mut pace = flags.rate.map(Pace::new);
    let mut redriven = 0_u64;
    let missing = |id| Err(Failure::said(DeadLetterQueueError::NotFound { id }));
    let result = letters.each_chosen(&flags.chosen, missing, |letter| {
        if let Some(pace) = &mut pace {
            pace.next(|| Ok(()))?;
        }
        // A letter that nobody has read stays, and that is worth an exit code.
        let write = |letter: &StoredLetter| {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(line(letter).as_bytes()).and_then(|()| stdout.flush());
            written.map_err(|error| format!("stdout cannot be written: {error}"))
        };
        letters.queue.redrive(letter.id(), write).map_err(Failure::said)?;
        redriven += 1;
        Ok(())
    });
    let left = letters.queue.counts().held as u64;
    let closed = letters.close();
    let [redriven, left] = [redriven, left].map(grouped);
    Progress::silent().say(&format!("ringmain: {redriven} dead letters redriven, {left} left\n"));
    result.and(closed).map(|()| 0)
}

fn purge(folder: &Path, queue: &str, flags: &Purge) -> Result<u8, Failure> {
    let letters = Letters::open(folder, queue)?;
    let mut purged = 0;
    let result = letters.each_chosen(
        &flags.chosen,
        |_| Ok(()),
        |letter| {
            purged += letters.queue.purge(&[letter.id()]).map_err(Failure::said)? as u64;
            Ok(())
        },
    );
    let left = letters.queue.counts().held as u64;
    let closed = letters.close();
    let [purged, left] = [purged, left].map(grouped);
    print(format!("{purged} dead letters purged, {left} left\n").as_bytes())?;
    result.and(closed).map(|()| 0)
}
