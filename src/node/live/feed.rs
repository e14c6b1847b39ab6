//! Where one client is in the events, and what is next for it.
//!
//! ```text
//!                ┌── in the window ──► pieces ──────────┐
//!   position ────┤                                      ├──► wanted ──► items, in order
//!                └── not any more, or not yet: a page ──┘
//!                    of the store
//! ```
//!
//! Both ways go by position, in one order: where they meet, nothing is missing and nothing comes twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::interest::Interest;
use super::message::Gap;
use super::options::Slow;
use super::reader::missing_of;
use super::window::{BATCH_BYTES, Found, LiveEvent, Piece};
use crate::store::{Position, Query};

/// Events that it reads at once in the store.
const PAGE_EVENTS: usize = 256;

/// What is next for a client.
#[derive(Debug)]
pub(super) enum Item {
    Event(Arc<LiveEvent>),
    Gap(Gap),
}

/// How it is with a client that nothing could be sent to for a while.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lag {
    /// It is not too far behind, or it does not matter.
    Fine,
    /// It is further behind than the window, and does not want that.
    TooSlow {
        /// Positions that it is behind.
        behind: u64,
    },
}

/// Where one client is.
#[derive(Debug)]
pub(super) struct Feed {
    shared: Arc<Shared>,
    pub(super) interest: Interest,
    pub(super) slow: Slow,
    /// Everything up to here came, or is in what waits.
    position: u64,
    /// In which round of the window it has come to the newest events. Before, it reads history, and is not slow.
    joined: Option<u64>,
    waiting: Conflated,
    head: watch::Receiver<u64>,
    laps: watch::Receiver<u64>,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (head, laps) = (shared.window.watch_head(), shared.window.watch_laps());
        let slow = shared.options.slow;
        let waiting = Conflated::default();
        Self { shared, interest: Interest::default(), slow, position: 0, joined: None, waiting, head, laps }
    }

    /// Everything up to here has come.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on behind a position: of the end of the store, or before it.
    pub(super) fn begin(&mut self, position: u64) {
        (self.position, self.joined) = (position, None);
        self.waiting = Conflated::default();
    }

    /// Waits until there may be something.
    pub(super) async fn wait(&mut self) {
        if self.interest.is_empty() {
            return std::future::pending().await;
        }
        let position = self.position;
        // The sender is in what this holds.
        drop(self.head.wait_for(|head| *head > position).await);
    }

    /// Waits until it is worth a look how far it is behind.
    pub(super) async fn lap(&mut self) {
        drop(self.laps.changed().await);
    }

    /// While nothing can be sent: takes what is to be conflated, and says whether it is too far behind.
    pub(super) fn lag(&mut self) -> Lag {
        let (round, is_near) = self.shared.window.has_behind(self.position);
        match self.slow {
            Slow::Spill => Lag::Fine,
            _ if self.joined != Some(round) => Lag::Fine,
            Slow::Close if is_near => Lag::Fine,
            Slow::Close => Lag::TooSlow { behind: self.shared.window.head().saturating_sub(self.position) },
            Slow::Conflate => {
                while let (_, Found::Pieces(pieces)) = self.shared.window.behind(self.position, BATCH_BYTES) {
                    self.conflate(&pieces);
                }
                Lag::Fine
            }
        }
    }

    /// What is next, if there is something. It can be dropped while it is awaited.
    ///
    /// # Errors
    /// The store cannot be read now, or the client is too far behind.
    pub(super) async fn next(&mut self) -> Result<Vec<Item>, FeedError> {
        if self.interest.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(waiting) = self.take_waiting() {
            return Ok(waiting);
        }
        match self.shared.window.behind(self.position, BATCH_BYTES) {
            // As far as this round goes: the next one may begin behind it.
            (round, Found::Nothing) => {
                self.joined = Some(round);
                Ok(Vec::new())
            }
            (round, Found::Pieces(pieces)) => {
                self.joined = Some(round);
                Ok(self.items_of(&pieces))
            }
            (round, Found::Elsewhere) => self.history(round).await,
        }
    }

    fn items_of(&mut self, pieces: &[Arc<Piece>]) -> Vec<Item> {
        let mut items = Vec::new();
        for piece in pieces {
            items.extend(piece.missing.as_ref().map(|missing| Item::Gap(missing.into())));
            for event in piece.events.iter().filter(|event| event.position() > self.position) {
                if self.interest.wants(event) {
                    items.push(Item::Event(Arc::clone(event)));
                }
            }
            self.position = piece.last.max(self.position);
        }
        items
    }

    async fn history(&mut self, round: u64) -> Result<Vec<Item>, FeedError> {
        if self.joined == Some(round) {
            let behind = self.shared.window.head().saturating_sub(self.position);
            match self.slow {
                Slow::Close => return Err(FeedError::TooSlow { behind }),
                // What conflates takes what is in the window in time, unless it has stood still altogether.
                Slow::Spill | Slow::Conflate => self.shared.counts.spills.add(1),
            }
            self.joined = None;
        }
        let from = self.position;
        let query = Query::new().limit(PAGE_EVENTS).reading_on(Position::new(from));
        let query = match self.interest.only() {
            Some(only) => query.pattern(only.clone()),
            None => query,
        };
        let read = self.shared.read(move |store| {
            let Some(head) = store.head()?.filter(|head| head.get() > from) else { return Ok((Vec::new(), from)) };
            let page = store.query(&query.to_position(head))?;
            Ok((page.events, page.next.unwrap_or(head).get()))
        });
        match read.await {
            Ok((events, last)) => {
                let events = events.into_iter().map(|stored| LiveEvent::new(stored, None));
                // What is left of the page, where events are long, is read again when these are gone.
                let piece = Piece::split(events, last).swap_remove(0);
                Ok(self.items_of(&[Arc::new(piece)]))
            }
            Err(error) => match missing_of(&error) {
                Some(missing) => {
                    self.position = missing.to;
                    Ok(vec![Item::Gap((&missing).into())])
                }
                None => Err(FeedError::Unreadable),
            },
        }
    }

    fn conflate(&mut self, pieces: &[Arc<Piece>]) {
        let (keys_max, bytes_max) = (self.shared.options.conflate_keys_max, self.shared.options.conflate_bytes_max);
        for item in self.items_of(pieces) {
            match item {
                Item::Event(event) => self.waiting.put(event, keys_max, bytes_max),
                Item::Gap(gap) => self.waiting.gaps.push(gap),
            }
        }
    }

    /// What was conflated, behind what it says of that.
    fn take_waiting(&mut self) -> Option<Vec<Item>> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.newest.is_empty() && waiting.gaps.is_empty() {
            return None;
        }
        let mut gaps = waiting.gaps;
        if let Some((from, to)) = waiting.left_out {
            let (events, reason) = (Some(waiting.dropped), "conflated");
            self.shared.counts.events_conflated.add(waiting.dropped);
            gaps.push(Gap { from, to, events, reason });
        }
        let events = waiting.newest.into_values().map(|(event, _)| Item::Event(event));
        Some(gaps.into_iter().map(Item::Gap).chain(events).collect())
    }
}

/// Why there is nothing next.
#[derive(Debug)]
pub(super) enum FeedError {
    /// The store cannot be read now. The reader meets it, too, and says why.
    Unreadable,
    /// The client is further behind than the window, and does not want that.
    TooSlow { behind: u64 },
    /// It ends, and why.
    Failed(String),
}

/// The newest event of each key, for a client that could not take more.
#[derive(Debug, Default)]
struct Conflated {
    places: HashMap<String, u64>,
    newest: BTreeMap<u64, (Arc<LiveEvent>, String)>,
    bytes: usize,
    gaps: Vec<Gap>,
    dropped: u64,
    /// Of events that were left out, the first position and the last.
    left_out: Option<(u64, u64)>,
}

impl Conflated {
    fn put(&mut self, event: Arc<LiveEvent>, keys_max: usize, bytes_max: usize) {
        let (key, position) = (key_of(&event), event.position());
        if let Some(place) = self.places.insert(key.clone(), position) {
            self.leave_out(place);
        }
        self.bytes += event.bytes();
        self.newest.insert(position, (event, key));
        while self.newest.len() > 1 && (self.newest.len() > keys_max || self.bytes > bytes_max) {
            let Some((place, (_, key))) = self.newest.first_key_value() else { break };
            self.places.remove(key);
            let place = *place;
            self.leave_out(place);
        }
    }

    fn leave_out(&mut self, position: u64) {
        if let Some((event, _)) = self.newest.remove(&position) {
            self.bytes -= event.bytes();
        }
        self.dropped += 1;
        let (from, to) = self.left_out.unwrap_or((position, position));
        self.left_out = Some((from.min(position), to.max(position)));
    }
}

/// What a newer event takes the place of: its type, and what it is about.
fn key_of(event: &LiveEvent) -> String {
    let meta = event.stored.meta();
    let (kind, id) = match meta.aggregate() {
        Some(of) => (of.kind, of.id),
        None => ("", meta.get("subject").unwrap_or_default()),
    };
    // No name of a type has a line feed.
    format!("{}\n{kind}\n{id}", meta.topic())
}
