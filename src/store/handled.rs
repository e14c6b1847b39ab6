//! Which events were handled lately, kept as state: what comes again is known also by the next process.
//!
//! ```text
//!   key     bytes of the name 1 │ name │ number 8, big-endian: in the order they were handled
//!   value   format 1 │ the event's id 16 │ handled at, Unix ns, signed 8
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{EventId, Outcome};

use super::name::Name;
use super::snapshot::{time, unix_ns};
use super::state::{StateChange, StateError, StateKind, StateReadError, StateStore};
use super::{Durability, NameError};

const FORMAT: u8 = 1;
const VALUE_BYTES: usize = 1 + 16 + 8;
/// Events that are forgotten with one that is handled, at most.
const FORGOTTEN_MAX: usize = 16;

/// A window of the events that somebody has handled, in a store. A name has one at a time.
///
/// A subscription's [`dedup`](crate::Subscribe::dedup) drops what comes again while the process lives, at no cost. This one
/// outlives it: keep that an event was handled when it was, in one piece with the state that it has changed. Then whatever
/// brings it again, a redrive, a schedule, a relay or a broker, it counts once.
///
/// ```
/// use std::sync::Arc;
/// use std::time::SystemTime;
/// use ringmain::store::{Begun, Durability, HandledWindow, MemoryStore, StateChange, StateKind};
/// use ringmain::EventId;
///
/// let handled = HandledWindow::open("bank", Arc::new(MemoryStore::new()))?;
/// let event = EventId::random();
/// for _ in 0..2 {
///     // Nobody else begins with it while this one handles it.
///     let Begun::First(handling) = handled.begin(event, SystemTime::now())? else {
///         continue; // It came again.
///     };
///     let booked = StateChange::Put { kind: StateKind::own(1), key: b"account 7", value: b"19.99" };
///     handling.keep(&[booked], Durability::Accepted)?;
/// }
/// assert_eq!(handled.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// For a handler of a bus [`once`](Self::once) does that. Give it a thread, for it waits for the store:
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::SystemTime;
/// # use ringmain::store::{Durability, HandledWindow, MemoryStore};
/// # use ringmain::{Bus, DeliveryMode, Payload};
/// # let bus = Bus::builder().build()?;
/// # fn book(_: &str) -> Result<(), std::io::Error> { Ok(()) }
/// # let state = Arc::new(MemoryStore::new());
/// let handled = HandledWindow::open("bank", state)?;
/// let orders = bus.subscribe("orders.*").mode(DeliveryMode::reliable()).handle_on("bank", move |payload, meta| {
///     handled.once(meta.id(), SystemTime::now(), Durability::Accepted, || book(payload.text().unwrap_or_default()))
/// })?;
/// # drop(orders);
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HandledWindow {
    name: Name,
    window: Duration,
    events_max: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that are kept, each with when it was handled, in the order that was in.
    order: BTreeMap<u64, (EventId, SystemTime)>,
    numbers: HashMap<EventId, u64>,
    /// Those that somebody handles now.
    under_way: HashSet<EventId>,
    /// Those whose keeping failed, and the number each was to have: nobody knows whether they are kept.
    in_doubt: HashMap<EventId, u64>,
    /// The last number that was given.
    last: u64,
}

/// Whether an event is to be handled.
#[derive(Debug)]
#[must_use = "dropped, the event may be begun again"]
pub enum Begun<'a> {
    /// It is: here, and nowhere else meanwhile.
    First(Handling<'a>),
    /// Somebody handles it now. It is handled, or may be begun again, when that is over.
    UnderWay,
    /// It was handled within the window.
    Handled,
}

/// An event that is being handled: nobody else begins with it. Dropped without [`keep`](Self::keep), it was not handled, and may
/// be begun again.
#[must_use = "dropped, the event was not handled"]
pub struct Handling<'a> {
    handled: &'a HandledWindow,
    id: EventId,
    now: SystemTime,
}

impl HandledWindow {
    /// The window of this name, up to 255 bytes, in a store: a day, 100,000 events, unless told otherwise.
    ///
    /// # Errors
    /// When the name is too long or open already, or what is kept cannot be read.
    ///
    /// # Cost
    /// Reads all that is kept; about 100 bytes of memory an event.
    pub fn open(name: &str, state: Arc<dyn StateStore>) -> Result<Self, HandledError> {
        let name = Name::claim(name, StateKind::HANDLED, state).map_err(HandledError::Name)?;
        let mut known = Known::default();
        name.each(|key, value| {
            let number = key.try_into().map(u64::from_be_bytes).map_err(|_| HandledError::Record)?;
            let (id, at) = parse(value).ok_or(HandledError::Record)?;
            known.add(number, id, at);
            Ok::<_, HandledError>(())
        })?;
        let (window, known) = (Duration::from_secs(86_400), Mutex::new(known));
        Ok(Self { name, window, events_max: 100_000, known })
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
        self.known().handled_at(id).is_some_and(|at| !self.is_over(at, now))
    }

    /// Begins to handle an event, unless it was handled within the window before a time, or somebody handles it now.
    ///
    /// # Errors
    /// As [`StateStore::get`], which is asked only for an event whose keeping failed: whether it is kept all the same.
    pub fn begin(&self, id: EventId, now: SystemTime) -> Result<Begun<'_>, StateReadError> {
        let in_doubt = {
            let mut known = self.known();
            if known.under_way.contains(&id) {
                return Ok(Begun::UnderWay);
            }
            if known.handled_at(id).is_some_and(|at| !self.is_over(at, now)) {
                return Ok(Begun::Handled);
            }
            known.under_way.insert(id);
            known.in_doubt.get(&id).copied()
        };
        let handling = Handling { handled: self, id, now };
        if let Some(number) = in_doubt {
            let kept = self.name.state().get(StateKind::HANDLED, &self.key(number))?;
            let mut known = self.known();
            known.in_doubt.remove(&id);
            if let Some((id, at)) = kept.and_then(|value| parse(&value)) {
                known.add(number, id, at);
                if !self.is_over(at, now) {
                    return Ok(Begun::Handled);
                }
            }
        }
        Ok(Begun::First(handling))
    }

    /// Calls a handler for an event unless it was handled within the window before a time, and keeps that it was when the outcome is
    /// an acknowledgement. What was handled before is acknowledged; what somebody handles now, and what the store does not
    /// keep, has failed, and comes again by reliable delivery.
    ///
    /// The handler's effect is not in one piece with what is kept: dies the process between the two, the event is handled again. Where the
    /// effect is state of the same store, take [`begin`](Self::begin).
    ///
    /// # Cost
    /// One change of state, as durable as asked.
    pub fn once<R: Into<Outcome>>(
        &self,
        id: EventId,
        now: SystemTime,
        durability: Durability,
        handler: impl FnOnce() -> R,
    ) -> Outcome {
        let handling = match self.begin(id, now) {
            Ok(Begun::First(handling)) => handling,
            Ok(Begun::Handled) => return Outcome::Ack,
            Ok(Begun::UnderWay) => return Outcome::Failed("the event is being handled elsewhere".to_owned()),
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        match handler().into() {
            Outcome::Ack => match handling.keep(&[], durability) {
                Ok(()) => Outcome::Ack,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            other => other,
        }
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
        self.name.key(&number.to_be_bytes())
    }
}

impl Handling<'_> {
    /// Keeps that the event was handled, in one piece with changes of state: all of it or nothing. Events that are too old or
    /// too many are forgotten with it, 16 at most.
    ///
    /// # Errors
    /// As [`StateStore::apply`]; up to 17 changes come to yours. Whether anything was kept after all is read from the store when
    /// the event is begun again.
    pub fn keep(self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        let Self { handled, id, now } = &self;
        let (number, forgotten) = {
            let mut known = handled.known();
            known.last += 1;
            let beyond = (known.order.len() + 1).saturating_sub(handled.events_max);
            let oldest = known.order.iter().enumerate().take(FORGOTTEN_MAX);
            let gone = oldest.take_while(|(nth, (_, (_, at)))| *nth < beyond || handled.is_over(*at, *now));
            (known.last, gone.map(|(_, (number, _))| *number).collect::<Vec<_>>())
        };
        let value = [&[FORMAT][..], id.as_bytes(), &unix_ns(*now).to_le_bytes()].concat();
        let (kind, key) = (StateKind::HANDLED, handled.key(number));
        let gone: Vec<_> = forgotten.iter().map(|number| handled.key(*number)).collect();
        let mut all = changes.to_vec();
        all.push(StateChange::Put { kind, key: &key, value: &value });
        all.extend(gone.iter().map(|key| StateChange::Remove { kind, key }));
        let applied = handled.name.state().apply(&all, durability);
        let mut known = handled.known();
        match applied {
            Ok(()) => {
                forgotten.into_iter().for_each(|number| known.forget(number));
                known.add(number, *id, *now);
            }
            // No more than are remembered: a store that takes nothing any more must not fill the memory.
            Err(_) if known.in_doubt.len() < handled.events_max => drop(known.in_doubt.insert(*id, number)),
            Err(_) => {}
        }
        applied
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.handled.known().under_way.remove(&self.id);
    }
}

impl fmt::Debug for Handling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handling").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Known {
    fn handled_at(&self, id: EventId) -> Option<SystemTime> {
        self.numbers.get(&id).map(|number| self.order[number].1)
    }

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
fn parse(value: &[u8]) -> Option<(EventId, SystemTime)> {
    let value: &[u8; VALUE_BYTES] = value.try_into().ok()?;
    let id = value[1..17].try_into().ok()?;
    let at = value[17..].try_into().map(i64::from_le_bytes).ok()?;
    (value[0] == FORMAT).then(|| (EventId::from_bytes(id), time(at)))
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
    /// No window can be opened under this name.
    Name(NameError),
    /// A record is not as it was written, or of a newer program.
    Record,
    /// The store could not be read.
    Read(StateReadError),
}

impl fmt::Display for HandledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Record => f.write_str("a handled event is not as it was written, or of a newer program; use that"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl Error for HandledError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Record => None,
        }
    }
}

impl From<StateReadError> for HandledError {
    fn from(error: StateReadError) -> Self {
        Self::Read(error)
    }
}
