//! The job `ringmain dlq`: the dead letters that a store keeps, seen, tried again, or removed.

pub mod flags;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use self::flags::{Chosen, Dlq, List, Purge, Queue, Redrive, Show, Which};
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
    ended(match command {
        Dlq::List(flags) => list(flags),
        Dlq::Show(flags) => show(flags),
        Dlq::Redrive(flags) => redrive(flags),
        Dlq::Purge(flags) => purge(flags),
    })
}

/// The dead letters of a store.
struct Letters {
    store: Arc<LogStore>,
    queue: DeadLetterQueue,
}

impl Letters {
    fn open(queue: &Queue) -> Result<Self, Failure> {
        let store = Arc::new(open_to_read(&queue.store.data)?);
        let queue = DeadLetterQueue::open(&queue.queue, store.clone()).map_err(Failure::said)?;
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

/// A letter, as JSON. The names are the field names, in this order.
#[derive(Debug, Serialize)]
struct Told<'a> {
    id: u64,
    died: String,
    reason: String,
    attempts: u32,
    subscription: &'a str,
    error: Option<&'a str>,
    event: &'a RawValue,
}

/// The event of a letter as a line, with its line feed.
fn line(letter: &StoredLetter) -> String {
    let mut line = Vec::new();
    passage::write_line(&letter.frame().meta(), LastHop::Nothing, &mut line);
    String::from_utf8(line).expect("JSON is UTF-8")
}

fn list(flags: &List) -> Result<u8, Failure> {
    let letters = Letters::open(&flags.which.queue)?;
    let mut left = flags.limit.unwrap_or(u64::MAX);
    letters.each(&flags.which, |letter| {
        let (died, reason, attempts) = (rfc3339(letter.died()), letter.reason().to_string(), letter.attempts());
        let (id, subscription, error) = (letter.id(), letter.subscription_name(), letter.error());
        let text = if flags.json {
            let event = line(letter);
            let event = serde_json::from_str(event.trim_end()).expect("a line is a JSON object");
            let told = Told { id, died, reason, attempts, subscription, error, event };
            serde_json::to_string(&told).expect("it has no map")
        } else {
            let frame = letter.frame();
            let topic = frame.meta().topic().to_owned();
            let error = error.map_or(String::new(), |error| format!(": {}", one_line(error)));
            format!("{id:>6}  {died}  {topic}  {subscription}  {reason}, attempts {attempts}{error}")
        };
        print((text + "\n").as_bytes())?;
        left -= 1;
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(0)
}

/// The first line of what an attempt said.
fn one_line(error: &str) -> &str {
    error.lines().next().unwrap_or_default()
}

fn show(flags: &Show) -> Result<u8, Failure> {
    let letters = Letters::open(&flags.queue)?;
    let not_found = || Failure::said(DeadLetterQueueError::NotFound { id: flags.id });
    let letter = letters.queue.get(flags.id).map_err(Failure::said)?.ok_or_else(not_found)?;
    let mut text = format!("letter        {}\ndied          {}\n", letter.id(), rfc3339(letter.died()));
    text += &format!("reason        {}\nattempts      {}", letter.reason(), letter.attempts());
    text += &letter.first_attempt().map_or(String::new(), |first| format!(", the first {}", rfc3339(first)));
    text += &format!("\nsubscription  {}\n", letter.subscription_name());
    if let Some(error) = letter.error() {
        let cut = if letter.error_bytes() > error.len() { " ..." } else { "" };
        text += &format!("error         {}{cut}\n", error.replace('\n', "\n              "));
    }
    print((text + &line(&letter)).as_bytes())?;
    Ok(0)
}

fn redrive(flags: &Redrive) -> Result<u8, Failure> {
    let letters = Letters::open(&flags.chosen.which.queue)?;
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

fn purge(flags: &Purge) -> Result<u8, Failure> {
    let letters = Letters::open(&flags.chosen.which.queue)?;
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
