//! `ringmain store query --url`: events of the store of a running node.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::progress::Progress;
use super::super::store::flags::{Filter, Find};
use super::super::store::{Failure, print};
use super::connect::{Connection, Remote, query};
use crate::Pattern;
use crate::store::Position;

/// Exit code for flags that are for folders.
const WRONG: u8 = 2;

/// A page, an event each.
#[derive(Deserialize)]
#[serde(transparent)]
struct Page<'a>(#[serde(borrow)] Vec<&'a RawValue>);

/// Writes the events that match, page by page, and returns the exit code.
pub(in super::super) fn events(node: &Remote, flags: &Find) -> Result<u8, Failure> {
    let Filter { on, source, correlation, aggregate, after, since, until } = &flags.filter;
    if aggregate.is_some() || since.is_some() || until.is_some() {
        Progress::silent()
            .say("ringmain: a node does not ask by --aggregate, --since and --until; they are for --data\n");
        return Ok(WRONG);
    }
    let node = Connection::open(node)?;
    let mut left = flags.limit.unwrap_or(u64::MAX);
    let asked = query([
        ("type", on.as_ref().map(|pattern| Pattern::as_str(pattern).to_owned())),
        ("source", source.clone()),
        ("correlation", correlation.map(|id| id.to_string())),
        ("after", after.map(|position: Position| position.to_string())),
        ("order", flags.newest_first.then(|| "newest".to_owned())),
    ]);
    let mut path = Some(format!("/v1/events{asked}"));
    while let Some(page) = path.filter(|_| left > 0) {
        let answer = node.get(&page)?;
        let Page(events) = answer.read()?;
        let few = events.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
        let lines: String = few.map(|event| format!("{}\n", event.get())).collect();
        print(lines.as_bytes())?;
        left = left.saturating_sub(events.len() as u64);
        path = answer.next;
    }
    Ok(0)
}
