//! Events that are to be published at a time, kept as state until then: they outlive the process.
//!
//! ```text
//!   key     bytes of the name 1 │ name │ due, Unix ns with its sign flipped, 8 │ id 8, both big-endian: in the order they are due
//!   value   format 1 │ the event's frame
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::{Frame, PublishError, Publisher};

use super::snapshot::{time, unix_ns};
use super::state::{STATE_PAGE_MAX, StateChange, StateError, StateKind, StateReadError, StateStore};

const FORMAT: u8 = 1;
/// Events that one step publishes.
const STEP_EVENTS: usize = 256;

/// Events that are due at a time, in a store. Nothing wakes it: ask [`next_due`](Self::next_due), and call
/// [`publish_due`](Self::publish_due) then. One at a time for a name.
///
/// The bus has a schedule, too, which dies with the process: an event whose
/// [`not_before`](crate::Outgoing::not_before) is to come. This one is for what must not be forgotten.
///
/// ```
/// use std::sync::Arc;
/// use std::time::{Duration, SystemTime};
/// use ringmain::store::{MemoryStore, Schedule};
/// use ringmain::{Bus, Payload};
///
/// let schedule = Schedule::open("reminders", Arc::new(MemoryStore::new()))?;
/// let bus = Bus::builder().build()?;
/// let mut publisher = bus.publisher()?;
/// let reminder = publisher.event().to_frame("invoices.due", Payload::json(r#"{"id": 7}"#))?;
/// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
/// schedule.add(tomorrow, &reminder)?;
///
/// assert_eq!(schedule.publish_due(SystemTime::now(), &mut publisher)?.published, 0);
/// assert_eq!(schedule.publish_due(tomorrow, &mut publisher)?.published, 1);
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Schedule {
    state: Arc<dyn StateStore>,
    prefix: Vec<u8>,
    events_max: usize,
    known: Mutex<Known>,
    /// Held while events are published.
    publishing: Mutex<()>,
}

/// What is in the store.
#[derive(Debug, Default)]
struct Known {
    /// In the order they are due.
    order: BTreeSet<(i64, u64)>,
    due: BTreeMap<u64, i64>,
    /// The last id that was given.
    last: u64,
}

/// An event that waits for its time.
#[derive(Debug, Clone)]
pub struct ScheduledEvent {
    /// Its number in the schedule.
    pub id: u64,
    /// When it is due.
    pub due: SystemTime,
    /// The event.
    pub frame: Frame,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedDue {
    /// Events that were published.
    pub published: usize,
    /// Events whose deadline had passed: they are gone.
    pub expired: usize,
    /// Whether more are due.
    pub has_more: bool,
}

impl Schedule {
    /// Bytes that a name may have.
    pub const NAME_BYTES_MAX: usize = 255;
    /// Events that may wait unless told otherwise: 100,000.
    pub const EVENTS_MAX: usize = 100_000;

    /// The schedule of this name in a store.
    ///
    /// # Errors
    /// When the name is too long, or an event cannot be read.
    ///
    /// # Cost
    /// Reads all that wait; keeps about 60 bytes of each in memory.
    pub fn open(name: &str, state: Arc<dyn StateStore>) -> Result<Self, ScheduleError> {
        let (bytes, max) = (name.len(), Self::NAME_BYTES_MAX);
        if bytes > max {
            return Err(ScheduleError::NameTooLong { bytes, max });
        }
        let prefix = [&[bytes as u8], name.as_bytes()].concat();
        let (mut known, mut from) = (Known::default(), Some(prefix.clone()));
        while let Some(at) = from.take() {
            let page = state.list(StateKind::TIMER, &at, STATE_PAGE_MAX).map_err(ScheduleError::Read)?;
            let mine =
                |key: &[u8]| key.strip_prefix(&*prefix).and_then(|key| key.split_first_chunk::<8>()).and_then(place);
            let places: Vec<_> = page.entries.iter().map_while(|(key, _)| mine(key)).collect();
            if places.len() == page.entries.len() {
                from = page.next.map(Vec::from);
            }
            places.into_iter().for_each(|(due, id)| known.add(due, id));
        }
        known.last = known.due.last_key_value().map_or(0, |(id, _)| *id);
        let (known, publishing) = (Mutex::new(known), Mutex::default());
        Ok(Self { state, prefix, events_max: Self::EVENTS_MAX, known, publishing })
    }

    /// Lets at most so many events wait.
    #[must_use]
    pub fn events_max(self, events: usize) -> Self {
        Self { events_max: events, ..self }
    }

    /// Keeps an event until it is due, as durably as the store can. Returns its number.
    ///
    /// # Errors
    /// When there are too many, or the store does not take it; a frame may have 1 MiB.
    pub fn add(&self, due: SystemTime, frame: &Frame) -> Result<u64, ScheduleError> {
        let due = unix_ns(due);
        let id = {
            let mut known = self.known();
            if known.due.len() >= self.events_max {
                return Err(ScheduleError::TooMany { max: self.events_max });
            }
            known.last += 1;
            known.last
        };
        let value = [&[FORMAT], frame.bytes()].concat();
        let change = StateChange::Put { kind: StateKind::TIMER, key: &self.key(due, id), value: &value };
        self.state.apply(&[change], self.state.state_durability()).map_err(ScheduleError::Change)?;
        self.known().add(due, id);
        Ok(id)
    }

    /// Forgets an event. Says whether it was there.
    ///
    /// # Errors
    /// When the store does not forget it: it stays.
    pub fn cancel(&self, id: u64) -> Result<bool, ScheduleError> {
        let _alone = self.publishing();
        let Some(due) = self.known().due.get(&id).copied() else { return Ok(false) };
        self.remove(due, id)?;
        Ok(true)
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.known().due.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next is due.
    pub fn next_due(&self) -> Option<SystemTime> {
        self.known().order.first().map(|(due, _)| time(*due))
    }

    /// The events that are due next, at most so many, in the order they are due.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn list(&self, limit: usize) -> Result<Vec<ScheduledEvent>, ScheduleError> {
        let places: Vec<_> = self.known().order.iter().take(limit).copied().collect();
        let events = places.into_iter().filter_map(|(due, id)| self.read(due, id).transpose());
        events.collect()
    }

    /// Publishes the events that are due at a time, in the order they are due, at most 256: the same events, with the same
    /// ids. Each is gone once it is accepted; dies the process between the two, it is published again.
    ///
    /// # Errors
    /// [`ScheduleError::Publish`] when an event is refused: it and those behind it stay, those before it are gone. One whose
    /// deadline has passed is no error, but gone.
    pub fn publish_due(&self, now: SystemTime, publisher: &mut Publisher) -> Result<PublishedDue, ScheduleError> {
        let _alone = self.publishing();
        let now = unix_ns(now);
        let due: Vec<_> = self.known().order.range(..=(now, u64::MAX)).take(STEP_EVENTS).copied().collect();
        let mut done = PublishedDue::default();
        for (due, id) in due {
            let Some(event) = self.read(due, id)? else {
                // A removal that was reported as failed was made.
                self.remove(due, id)?;
                continue;
            };
            match publisher.publish_frame(&event.frame) {
                Ok(_) => done.published += 1,
                Err(PublishError::Expired { .. }) => done.expired += 1,
                Err(error) => return Err(ScheduleError::Publish { id, error }),
            }
            self.remove(due, id)?;
        }
        done.has_more = self.known().order.first().is_some_and(|(due, _)| *due <= now);
        Ok(done)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, due: i64, id: u64) -> Vec<u8> {
        let due = (due as u64) ^ (1 << 63);
        [&*self.prefix, &due.to_be_bytes(), &id.to_be_bytes()].concat()
    }

    fn read(&self, due: i64, id: u64) -> Result<Option<ScheduledEvent>, ScheduleError> {
        let found = self.state.get(StateKind::TIMER, &self.key(due, id)).map_err(ScheduleError::Read)?;
        let Some(value) = found else { return Ok(None) };
        let frame = value.strip_prefix(&[FORMAT]).and_then(|frame| Frame::copied_from(frame).ok());
        let frame = frame.ok_or(ScheduleError::Record { id })?;
        Ok(Some(ScheduledEvent { id, due: time(due), frame }))
    }

    fn remove(&self, due: i64, id: u64) -> Result<(), ScheduleError> {
        let change = StateChange::Remove { kind: StateKind::TIMER, key: &self.key(due, id) };
        self.state.apply(&[change], self.state.state_durability()).map_err(ScheduleError::Change)?;
        let mut known = self.known();
        known.order.remove(&(due, id));
        known.due.remove(&id);
        Ok(())
    }
}

impl Known {
    fn add(&mut self, due: i64, id: u64) {
        self.order.insert((due, id));
        self.due.insert(id, due);
    }
}

/// When it is due and its id, by the end of its key.
fn place((due, id): (&[u8; 8], &[u8])) -> Option<(i64, u64)> {
    let due = (u64::from_be_bytes(*due) ^ (1 << 63)) as i64;
    Some((due, u64::from_be_bytes(id.try_into().ok()?)))
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").field("len", &self.len()).field("next_due", &self.next_due()).finish_non_exhaustive()
    }
}

/// Why an event was not scheduled or published.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The name is too long.
    NameTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// As many events wait as may.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// An event is not as it was written, or of a newer program.
    Record {
        /// Its number.
        id: u64,
    },
    /// An event was refused. It stays.
    Publish {
        /// Its number.
        id: u64,
        /// Why.
        error: PublishError,
    },
    /// The store could not be read.
    Read(StateReadError),
    /// The store was not changed. After an event was published: it is there still, and is published again.
    Change(StateError),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTooLong { bytes, max } => {
                write!(f, "the name of the schedule has {bytes} bytes, the limit is {max}; shorten it")
            }
            Self::TooMany { max } => {
                write!(f, "{max} events wait, which is the limit; raise `events_max`, or publish those that are due")
            }
            Self::Record { id } => {
                write!(
                    f,
                    "scheduled event {id} is not as it was written, or of a newer program; use that, or cancel it"
                )
            }
            Self::Publish { id, error } => write!(f, "scheduled event {id} was not published and stays: {error}"),
            Self::Read(error) => error.fmt(f),
            Self::Change(error) => error.fmt(f),
        }
    }
}

impl Error for ScheduleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Publish { error, .. } => Some(error),
            Self::Read(error) => Some(error),
            Self::Change(error) => Some(error),
            Self::NameTooLong { .. } | Self::TooMany { .. } | Self::Record { .. } => None,
        }
    }
}
