//! The one that follows the store for all clients, on a thread of its own.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use super::Shared;
use super::window::{LiveEvent, Missing, Piece};
use crate::store::{Position, Query, ReadError};

/// How long it waits for the store before it looks whether it is to end, and before it reads again what failed.
const PATIENCE: Duration = Duration::from_millis(100);
/// Events that it reads at once.
const PAGE_EVENTS: usize = 512;
/// Types that get a number.
const TYPES_MAX: usize = 16_384;

/// Follows the store as long as there are clients, until the hub ends.
pub(super) fn run(shared: &Shared) {
    let mut types = HashMap::new();
    let mut is_following = false;
    while let Some(has_clients) = shared.wait_for_clients(!is_following) {
        if !has_clients {
            is_following = false;
            continue;
        }
        let read = if is_following { follow(shared, &mut types) } else { begin(shared) };
        match read {
            Ok(()) => is_following = true,
            Err(error) => {
                shared.counts.store_failures.add(1);
                shared.set_failure(Some(error.to_string()));
                thread::sleep(PATIENCE);
            }
        }
    }
}

/// Whoever came in the meantime begins at a head that is not behind this one, or reads in the store what is before it.
fn begin(shared: &Shared) -> Result<(), ReadError> {
    let head = shared.store.head()?;
    shared.window.begin(head.map_or(0, Position::get));
    shared.set_failure(None);
    Ok(())
}

/// Adds what was appended, once there is some.
fn follow(shared: &Shared, types: &mut HashMap<Box<str>, u32>) -> Result<(), ReadError> {
    let from = shared.window.head();
    let behind = Position::new(from);
    if !shared.store.wait_behind(behind, PATIENCE)? {
        return Ok(());
    }
    let Some(head) = shared.store.head()?.filter(|head| head.get() > from) else { return Ok(()) };
    let query = Query::new().limit(PAGE_EVENTS).reading_on(behind).to_position(head);
    match shared.store.query(&query) {
        Ok(page) => {
            let last = page.next.unwrap_or(head).get();
            let events = page.events.into_iter().map(|stored| {
                let number = number_of(types, stored.meta().topic());
                LiveEvent::new(stored, number)
            });
            shared.window.push(Piece::split(events, last));
        }
        Err(error) => match missing_of(&error) {
            Some(missing) => shared.window.push(vec![Piece::new(missing.to, Vec::new(), Some(missing))]),
            None => return Err(error),
        },
    }
    shared.set_failure(None);
    // What comes in this time goes out together: a client costs a system call each time.
    thread::sleep(shared.options.gather);
    Ok(())
}

/// Positions that can never be read; `None` where reading again may help.
pub(super) fn missing_of(error: &ReadError) -> Option<Missing> {
    let missing = error.missing()?;
    let reason = if matches!(error, ReadError::Removed { .. }) { "removed" } else { "damaged" };
    Some(Missing { from: missing.start().get(), to: missing.end().get(), reason })
}

fn number_of(types: &mut HashMap<Box<str>, u32>, topic: &str) -> Option<u32> {
    if let Some(number) = types.get(topic) {
        return Some(*number);
    }
    let number = u32::try_from(types.len()).ok().filter(|_| types.len() < TYPES_MAX)?;
    types.insert(topic.into(), number);
    Some(number)
}
