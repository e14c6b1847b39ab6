//! Which events were handled lately, kept as state: what comes again is known also by the next process.
//!
//! ```text
//!   key     bytes of the name 1 │ name │ number 8, big-endian: in the order they were handled
//!   value   format 1 │ the event's id 16 │ handled at, Unix ns, signed 8
//! ```

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::EventId;

use super::Durability;
use super::snapshot::{time, unix_ns};
use super::state::{STATE_PAGE_MAX, StateChange, StateError, StateKind, StateReadError, StateStore};

const FORMAT: u8 = 1;
const VALUE_BYTES: usize = 1 + 16 + 8;
/// Events that are forgotten with one that is handled, at most.
const FORGOTTEN_MAX: usize = 16;

/// A window of the events that somebody has handled, in a store. One at a time for a name.
///
/// A subscription's [`dedup`](crate::Subscribe::dedup) drops what comes again while the process lives, at no cost. This one
/// outlives it: keep that an event was handled when it was, in one piece with the state that it has changed. Then whatever
/// brings it again, a redrive, a schedule, a relay or a broker, it counts once.
///
/// ```
/// use std::sync::Arc;
/// use std::time::SystemTime;
/// use ringmain::store::{Durability, HandledWindow, MemoryStore, StateChange, StateKind};
/// use ringmain::EventId;
///
/// let handled = HandledWindow::open("bank", Arc::new(MemoryStore::new()))?;
/// let (event, now) = (EventId::random(), SystemTime::now());
/// for _ in 0..2 {
///     if handled.contains(event, now) {
///         continue; // It came again.
///     }
///     let booked = StateChange::Put { kind: StateKind::own(1), key: b"account 7", value: b"19.99" };
///     handled.apply(event, now, &[booked], Durability::Accepted)?;
/// }
/// assert_eq!(handled.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HandledWindow {
    state: Arc<dyn StateStore>,
    prefix: Vec<u8>,
    window: Duration,
    events_max: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that are kept, each with when it was handled, in the order that was in.
    order: BTreeMap<u64, (EventId, SystemTime)>,
    numbers: HashMap<EventId, u64>,
    /// The last number that was given.
    last: u64,
}

impl HandledWindow {
    /// Bytes that a name may have.
    pub const NAME_BYTES_MAX: usize = 255;

    /// The window of this name in a store: a day, 100,000 events, unless told otherwise.
    ///
    /// # Errors
    /// When the name is too long, or what is kept cannot be read.
    ///
    /// # Cost
    /// Reads all that is kept; about 100 bytes of memory an event.
    pub fn open(name: &str, state: Arc<dyn StateStore>) -> Result<Self, HandledError> {
        let (bytes, max) = (name.len(), Self::NAME_BYTES_MAX);
        if bytes > max {
            return Err(HandledError::NameTooLong { bytes, max });
        }
        let prefix = [&[bytes as u8], name.as_bytes()].concat();
        let (mut known, mut from) = (Known::default(), Some(prefix.clone()));
        while let Some(at) = from.take() {
            let page = state.list(StateKind::HANDLED, &at, STATE_PAGE_MAX).map_err(HandledError::Read)?;
            from = page.next.map(Vec::from);
            for (key, value) in &page.entries {
                let Some(number) = key.strip_prefix(&*prefix) else {
                    from = None;
                    break;
                };
                let (number, id, at) = parse(number, value).ok_or(HandledError::Record)?;
                known.add(number, id, at);
            }
        }
        let (window, known) = (Duration::from_secs(86_400), Mutex::new(known));
        Ok(Self { state, prefix, window, events_max: 100_000, known })
    }

    /// How long an event is remembered.
    #[must_use]
    pub fn time(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Events that are remembered, 1 at least; for one more the oldest is forgotten.
    #[must_use]
    pub fn events_max(self, events: usize) -> Self {
        Self { events_max: events.max(1), ..self }
    }

    /// Whether an event was handled within the window before a time.
    pub fn contains(&self, id: EventId, now: SystemTime) -> bool {
        let known = self.known();
        let at = known.numbers.get(&id).map(|number| known.order[number].1);
        at.is_some_and(|at| !self.is_over(at, now))
    }

    /// Keeps that an event was handled, in one piece with changes of state: all of it or nothing. Events that are too old or
    /// too many are forgotten with it, 16 at most.
    ///
    /// # Errors
    /// As [`StateStore::apply`]; up to 17 changes come to yours.
    pub fn apply(
        &self,
        id: EventId,
        now: SystemTime,
        changes: &[StateChange<'_>],
        durability: Durability,
    ) -> Result<(), StateError> {
        let (number, forgotten) = {
            let mut known = self.known();
            known.last += 1;
            let beyond = (known.order.len() + 1).saturating_sub(self.events_max);
            let oldest = known.order.iter().enumerate().take(FORGOTTEN_MAX);
            let gone = oldest.take_while(|(nth, (_, (_, at)))| *nth < beyond || self.is_over(*at, now));
            (known.last, gone.map(|(_, (number, _))| *number).collect::<Vec<_>>())
        };
        let value = [&[FORMAT][..], id.as_bytes(), &unix_ns(now).to_le_bytes()].concat();
        let (kind, key) = (StateKind::HANDLED, self.key(number));
        let gone: Vec<_> = forgotten.iter().map(|number| self.key(*number)).collect();
        let mut all = changes.to_vec();
        all.push(StateChange::Put { kind, key: &key, value: &value });
        all.extend(gone.iter().map(|key| StateChange::Remove { kind, key }));
        self.state.apply(&all, durability)?;
        let mut known = self.known();
        forgotten.into_iter().for_each(|number| known.forget(number));
        known.add(number, id, now);
        Ok(())
    }

    /// How many events are remembered, some perhaps longer than they need be.
    pub fn len(&self) -> usize {
        self.known().order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A clock that was set back makes nothing old.
    fn is_over(&self, at: SystemTime, now: SystemTime) -> bool {
        now.duration_since(at).is_ok_and(|since| since >= self.window)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, number: u64) -> Vec<u8> {
        [&*self.prefix, &number.to_be_bytes()].concat()
    }
}

impl Known {
    fn add(&mut self, number: u64, id: EventId, at: SystemTime) {
        self.last = self.last.max(number);
        self.order.insert(number, (id, at));
        // Handled again after its time: the later one counts.
        let later = self.numbers.get(&id).map_or(number, |known| number.max(*known));
        self.numbers.insert(id, later);
    }

    fn forget(&mut self, number: u64) {
        let Some((id, _)) = self.order.remove(&number) else { return };
        if self.numbers.get(&id) == Some(&number) {
            self.numbers.remove(&id);
        }
    }
}

/// `None` for what is no record.
fn parse(number: &[u8], value: &[u8]) -> Option<(u64, EventId, SystemTime)> {
    let value: &[u8; VALUE_BYTES] = value.try_into().ok()?;
    let id = value[1..17].try_into().ok()?;
    let at = value[17..].try_into().map(i64::from_le_bytes).ok()?;
    let number = number.try_into().map(u64::from_be_bytes).ok()?;
    (value[0] == FORMAT).then(|| (number, EventId::from_bytes(id), time(at)))
}

impl fmt::Debug for HandledWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandledWindow").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Why a window was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandledError {
    /// The name is too long.
    NameTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A record is not as it was written, or of a newer program.
    Record,
    /// The store could not be read.
    Read(StateReadError),
}

impl fmt::Display for HandledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTooLong { bytes, max } => {
                write!(f, "the name of the window has {bytes} bytes, the limit is {max}; shorten it")
            }
            Self::Record => f.write_str("a handled event is not as it was written, or of a newer program; use that"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl Error for HandledError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::NameTooLong { .. } | Self::Record => None,
        }
    }
}
