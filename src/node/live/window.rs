//! The newest events of the store, in memory once for all clients.
//!
//! ```text
//!             behind                                       head
//!                │  piece │   piece    │ piece │   piece     │
//!   the store ───┴────────┴────────────┴───────┴─────────────┴──► positions
//!                    ▲            ▲                          ▲
//!           a client that        most clients             the reader adds here
//!           reads the store
//!           until it is here
//! ```
//!
//! A client has a position and nothing else: it takes the pieces behind it, and reads in the store where there are none any
//! more. So however many clients are slow, the window takes what it takes.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::watch;

use super::message::{self, Dialect};
use super::options::LiveOptions;
use crate::store::StoredEvent;

/// Bytes that a client takes at once, unless one event has more: so much is in its hands while it reads nothing.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// What an event takes beside its bytes.
const EVENT_BYTES: usize = 512;
/// Into how many parts the window is divided for those who look how far they are behind.
const LAPS: usize = 8;

/// An event on its way to clients. It is encoded once for each dialect that somebody speaks.
#[derive(Debug)]
pub(super) struct LiveEvent {
    pub(super) stored: StoredEvent,
    /// The number of its type; `None` when there are too many types.
    pub(super) type_number: Option<u32>,
    cloud: OnceLock<Utf8Bytes>,
    plain: OnceLock<Utf8Bytes>,
}

impl LiveEvent {
    pub(super) fn new(stored: StoredEvent, type_number: Option<u32>) -> Self {
        Self { stored, type_number, cloud: OnceLock::new(), plain: OnceLock::new() }
    }

    pub(super) fn position(&self) -> u64 {
        self.stored.position().get()
    }

    /// Its message.
    pub(super) fn text(&self, dialect: Dialect) -> &Utf8Bytes {
        let cell = match dialect {
            Dialect::Cloud => &self.cloud,
            Dialect::Plain => &self.plain,
        };
        cell.get_or_init(|| message::event(&self.stored, dialect))
    }

    /// At most what it takes: its frame, and what that is encoded to, once for each dialect with bytes as Base64.
    pub(super) fn bytes(&self) -> usize {
        self.stored.frame().bytes().len() * 4 + EVENT_BYTES
    }
}

/// Positions that nobody can read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) reason: &'static str,
}

/// Events that came at once.
#[derive(Debug)]
pub(super) struct Piece {
    /// Everything up to here is in it, or before it.
    pub(super) last: u64,
    pub(super) events: Box<[Arc<LiveEvent>]>,
    /// Before the events.
    pub(super) missing: Option<Missing>,
    bytes: usize,
}

impl Piece {
    /// Pieces of a size that clients take at once, up to a position.
    pub(super) fn split(events: impl Iterator<Item = LiveEvent>, last: u64) -> Vec<Self> {
        let mut pieces = Vec::new();
        let (mut some, mut bytes) = (Vec::new(), 0);
        for event in events {
            if bytes + event.bytes() > BATCH_BYTES && !some.is_empty() {
                let last = event.position() - 1;
                pieces.push(Self::new(last, std::mem::take(&mut some), None));
                bytes = 0;
            }
            bytes += event.bytes();
            some.push(Arc::new(event));
        }
        pieces.push(Self::new(last, some, None));
        pieces
    }

    pub(super) fn new(last: u64, events: Vec<Arc<LiveEvent>>, missing: Option<Missing>) -> Self {
        let bytes = events.iter().map(|event| event.bytes()).sum();
        Self { last, events: events.into(), missing, bytes }
    }
}

/// What there is behind a position.
#[derive(Debug)]
pub(super) enum Found {
    /// These, in order. The first may begin before the position.
    Pieces(Vec<Arc<Piece>>),
    /// Nothing yet.
    Nothing,
    /// It is not in memory any more.
    Elsewhere,
}

#[derive(Debug)]
pub(super) struct Window {
    kept: RwLock<Kept>,
    /// How far events are there.
    head: watch::Sender<u64>,
    /// Changes when a part of the window has passed.
    laps: watch::Sender<u64>,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Arc<Piece>>,
    events: usize,
    bytes: usize,
    /// Everything behind this position, up to the head, is in the pieces.
    behind: u64,
    head: u64,
    /// How often it has begun anew.
    round: u64,
    /// Since the last lap.
    passed: (usize, usize),
}

impl Window {
    pub(super) fn new(options: &LiveOptions) -> Self {
        Self {
            kept: RwLock::default(),
            head: watch::Sender::new(0),
            laps: watch::Sender::new(0),
            events_max: options.window_events.max(1),
            bytes_max: options.window_bytes.max(1),
        }
    }

    pub(super) fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// Hears when there are more events.
    pub(super) fn watch_head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Hears now and then how far events go that are not in memory any more.
    pub(super) fn watch_laps(&self) -> watch::Receiver<u64> {
        self.laps.subscribe()
    }

    /// Begins anew behind a position.
    pub(super) fn begin(&self, behind: u64) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Kept { behind, head: behind, round: kept.round + 1, ..Kept::default() };
        drop(kept);
        self.head.send_replace(behind);
    }

    /// Adds events behind the head. The oldest go as far as there is no room for them.
    pub(super) fn push(&self, pieces: Vec<Piece>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for piece in pieces {
            let (events, bytes) = (piece.events.len(), piece.bytes);
            kept.head = piece.last;
            kept.events += events;
            kept.bytes += bytes;
            kept.passed = (kept.passed.0 + events, kept.passed.1 + bytes);
            kept.pieces.push_back(Arc::new(piece));
        }
        while kept.events > self.events_max || kept.bytes > self.bytes_max {
            // The newest stays, whatever it takes.
            let Some(oldest) = (kept.pieces.len() > 1).then(|| kept.pieces.pop_front()).flatten() else { break };
            kept.events -= oldest.events.len();
            kept.bytes -= oldest.bytes;
            kept.behind = oldest.last;
        }
        let (head, behind) = (kept.head, kept.behind);
        let is_lap = kept.passed.0 * LAPS >= self.events_max || kept.passed.1 * LAPS >= self.bytes_max;
        if is_lap {
            kept.passed = (0, 0);
        }
        drop(kept);
        self.head.send_replace(head);
        if is_lap {
            self.laps.send_replace(behind);
        }
    }

    /// Whether what is behind a position is in memory, and in which round of the window.
    pub(super) fn has_behind(&self, position: u64) -> (u64, bool) {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        (kept.round, position >= kept.behind)
    }

    /// What there is behind a position, and in which round: pieces of so many bytes together at most, one at least.
    pub(super) fn behind(&self, position: u64, bytes_max: usize) -> (u64, Found) {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        (kept.round, kept.behind(position, bytes_max))
    }
}

impl Kept {
    fn behind(&self, position: u64, bytes_max: usize) -> Found {
        if position >= self.head {
            return Found::Nothing;
        }
        if position < self.behind {
            return Found::Elsewhere;
        }
        let first = self.pieces.partition_point(|piece| piece.last <= position);
        let mut room = bytes_max;
        let mut pieces = Vec::new();
        for piece in self.pieces.range(first..) {
            if !pieces.is_empty() && piece.bytes > room {
                break;
            }
            room = room.saturating_sub(piece.bytes);
            pieces.push(Arc::clone(piece));
        }
        Found::Pieces(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Position, StoredEvent};
    use crate::{Bus, Payload};
    use std::time::SystemTime;

    fn piece(positions: std::ops::RangeInclusive<u64>) -> Piece {
        let bus = Bus::builder().workers(1).build().unwrap();
        let frame = bus.publisher().unwrap().event().to_frame("a", Payload::json("1")).unwrap();
        let stored =
            |position| StoredEvent::new(Position::new(position).unwrap(), SystemTime::UNIX_EPOCH, frame.clone());
        let last = *positions.end();
        Piece::new(last, positions.map(|at| Arc::new(LiveEvent::new(stored(at), None))).collect(), None)
    }

    fn found(window: &Window, behind: u64) -> Option<Vec<u64>> {
        match window.behind(behind, usize::MAX).1 {
            Found::Pieces(pieces) => {
                Some(pieces.iter().flat_map(|piece| piece.events.iter().map(|event| event.position())).collect())
            }
            Found::Nothing => Some(Vec::new()),
            Found::Elsewhere => None,
        }
    }

    #[test]
    fn the_oldest_pieces_go_and_are_said_to_be_elsewhere() {
        let window = Window::new(&LiveOptions { window_events: 4, ..LiveOptions::default() });
        window.begin(10);
        assert_eq!(found(&window, 10), Some(vec![]));
        assert_eq!(found(&window, 9), None);
        window.push(vec![piece(11..=12)]);
        window.push(vec![piece(13..=14)]);
        assert_eq!(found(&window, 10), Some(vec![11, 12, 13, 14]));
        assert_eq!(found(&window, 11), Some(vec![11, 12, 13, 14]), "a piece comes whole");
        assert_eq!(found(&window, 9), None);
        window.push(vec![piece(15..=15)]);
        assert_eq!(found(&window, 11), None);
        assert_eq!(found(&window, 12), Some(vec![13, 14, 15]));
        window.push(vec![piece(16..=25)]);
        assert_eq!(found(&window, 15), Some((16..=25).collect()), "the newest stays however long it is");
        assert_eq!(window.head(), 25);
    }

    #[test]
    fn what_a_client_takes_at_once_is_bounded_in_bytes() {
        let one = piece(1..=1).bytes;
        let many = (BATCH_BYTES / one) as u64;
        let events = |last: u64| -> Vec<LiveEvent> {
            let piece = piece(1..=last);
            piece.events.iter().map(|event| LiveEvent::new(event.stored.clone(), None)).collect()
        };
        let pieces = Piece::split(events(many * 2 + 1).into_iter(), many * 2 + 7);
        let sizes: Vec<_> = pieces.iter().map(|piece| (piece.events.len() as u64, piece.last)).collect();
        assert_eq!(sizes, [(many, many), (many, many * 2), (1, many * 2 + 7)]);
        let window = Window::new(&LiveOptions::default());
        window.push(pieces);
        let (_, Found::Pieces(taken)) = window.behind(0, BATCH_BYTES) else { panic!("there are some") };
        assert_eq!(taken.len(), 1);
    }

    #[test]
    fn bytes_bound_it_too() {
        let one = piece(1..=1).bytes;
        let window = Window::new(&LiveOptions { window_bytes: 2 * one, ..LiveOptions::default() });
        for position in 1..=5 {
            window.push(vec![piece(position..=position)]);
        }
        assert_eq!(found(&window, 2), None);
        assert_eq!(found(&window, 3), Some(vec![4, 5]));
    }
}
