//! Keeps how far what was delivered is settled.
//!
//! ```text
//!   delivered to   … 100 ─── 180 ─── 260 ─── 300      marks: a position, and a flush of all that came to the lanes up to it
//!                     ▲
//!                     └ the oldest is waited for, however much comes behind it; then the cursor is kept there
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Bus, BusState, Flush, Notice};

use super::super::cursor::Cursor;
use super::super::{CursorError, Position};
use super::end::Ended;
use super::{FOREVER, Shared};

/// How long it waits for what was delivered to be settled before it looks whether it is to end.
const SETTLE: Duration = Duration::from_secs(1);
/// Marks that it has; beyond it every second one goes.
const MARKS_MAX: usize = 1_024;

/// Everything up to the position has come to the lanes, and is waited for.
struct Mark {
    position: Position,
    flush: Flush,
}

/// The cursor's thread.
pub(super) struct Checkpoint {
    bus: Bus,
    cursor: Cursor,
    name: String,
    every: Duration,
    shared: Arc<Shared>,
    /// What is not settled, oldest first.
    marks: VecDeque<Mark>,
    /// Letters of events out of stores that no sink heard of before it began.
    unheard: u64,
}

impl Checkpoint {
    pub(super) fn new(bus: Bus, cursor: Cursor, name: String, every: Duration, shared: Arc<Shared>) -> Self {
        let unheard = bus.dead_letters().counts().unheard_stored;
        Self { bus, cursor, name, every, shared, marks: VecDeque::new(), unheard }
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = Ended(&shared, |inner| inner.is_over = true);
        let mut is_failing = false;
        loop {
            let inner = self.shared.wait_while(FOREVER, |inner| {
                inner.counts.delivered_to <= inner.counts.settled_to && !inner.is_delivered
            });
            let (delivered_to, settled_to, is_last) =
                (inner.counts.delivered_to, inner.counts.settled_to, inner.is_delivered);
            drop(inner);
            // The position was read before the flush begins: it is of no event behind that.
            self.mark(delivered_to.filter(|_| delivered_to > settled_to));
            if let Some(position) = self.settled(is_last) {
                match self.keep(position) {
                    Ok(()) => {
                        is_failing = false;
                        self.marks.retain(|mark| mark.position > position);
                        self.shared.change(|inner| inner.counts.settled_to = Some(position));
                    }
                    Err(error) => self.tell(&error, std::mem::replace(&mut is_failing, true)),
                }
            }
            if is_last {
                return;
            }
            drop(self.shared.wait_while(self.every, |inner| !inner.is_delivered));
        }
    }

    fn mark(&mut self, delivered_to: Option<Position>) {
        let newest = self.marks.back().map(|mark| mark.position);
        let Some(position) = delivered_to.filter(|_| delivered_to > newest) else { return };
        if self.marks.len() == MARKS_MAX {
            let mut nth = 0;
            self.marks.retain(|_| {
                nth += 1;
                nth % 2 == 0
            });
        }
        self.marks.push_back(Mark { position, flush: self.bus.begin_flush() });
    }

    fn keep(&self, position: Position) -> Result<(), CursorError> {
        self.cursor.keep(self.cursor.at(position)?)
    }

    /// Up to where all that came to the lanes is settled, when that is further than before. Waits for the oldest mark; at the end for the
    /// newest.
    fn settled(&mut self, is_last: bool) -> Option<Position> {
        let ends_at = self.shared.inner().ends_at;
        let left = ends_at.map_or(SETTLE, |ends_at| ends_at.saturating_duration_since(Instant::now()).min(SETTLE));
        let awaited = if is_last { self.marks.back_mut() } else { self.marks.front_mut() };
        // Whether it came to its end is asked below.
        let _ = awaited?.flush.wait(left);
        let mut settled = None;
        for mark in &mut self.marks {
            if mark.flush.wait(Duration::ZERO).is_err() {
                break;
            }
            settled = Some(mark.position);
        }
        settled.filter(|_| !self.is_unheard() && !self.is_left_behind())
    }

    /// The letter of one that came out of a store was not kept: it has to come again.
    fn is_unheard(&self) -> bool {
        self.bus.dead_letters().counts().unheard_stored > self.unheard
    }

    /// A bus that has stopped may have left events behind.
    fn is_left_behind(&self) -> bool {
        let ledger = self.bus.ledger();
        self.bus.state() != BusState::Running && ledger.in_lanes + ledger.subscriptions.open() > 0
    }

    fn tell(&self, error: &CursorError, was_told: bool) {
        if !was_told {
            let error = error.to_string();
            self.bus.notify(&Notice::StorageFailed { name: &self.name, error: &error, waiting: 0 });
        }
    }
}
