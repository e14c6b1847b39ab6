//! Events that are to be published at a time, kept as state until then: they outlive the process.
//!
//! ```text
//!   key     bytes of the name 1 │ name │ due, Unix ns with its sign flipped, 8 │ id 8, both big-endian: in the order they are due
//!   value   format 1 │ the event's frame
//! ```

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::{Frame, PublishError};

use super::name::Name;
use super::snapshot::{time, unix_ns};
use super::state::{StateChange, StateKind, StateStore};

pub use error::ScheduleError;

const FORMAT: u8 = 1;
/// Events that one step publishes.
const STEP_EVENTS: usize = 256;

/// Events that are due at a time, in a store. Nothing wakes it: ask [`next_due`](Self::next_due), and call
/// [`publish_due`](Self::publish_due) then. A name has one at a time.
///
/// The bus has a schedule, too, which dies with the process: an event whose
/// [`not_before`](crate::Outgoing::not_before) is to come. This one is for what must not be forgotten.
///
/// ```
/// use std::sync::Arc;
/// use std::time::{Duration, SystemTime};
/// use ringmain::store::{Durability, LogStore, Schedule};
/// use ringmain::{Bus, Payload};
/// # let folder = std::env::temp_dir().join(format!("ringmain-schedule-doc-{}", std::process::id()));
///
/// let store = Arc::new(LogStore::open(&folder)?);
/// let schedule = Schedule::open("reminders", store.clone())?;
/// let bus = Bus::builder().build()?;
/// let reminder = bus.publisher()?.event().to_frame("invoices.due", Payload::json(r#"{"id": 7}"#))?;
/// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
/// schedule.add(tomorrow, &reminder)?;
///
/// // It is forgotten when it is in the store from which it is delivered, also by the next process.
/// let durable = bus.durable(store.clone(), store.clone()).start()?;
/// let publish_due = |now| schedule.publish_due(now, |due| durable.publish(&due.frame, Durability::Written));
/// assert_eq!(publish_due(SystemTime::now())?.published, 0);
/// assert_eq!(publish_due(tomorrow)?.published, 1);
/// # drop(durable);
/// # bus.shutdown()?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Schedule {
    name: Name,
    events_max: usize,
    known: Mutex<Known>,
    /// Held while the store forgets an event, and while nothing else is called.
    removing: Mutex<()>,
}

/// What is in the store.
#[derive(Debug, Default)]
struct Known {
    /// In the order they are due.
    order: BTreeSet<(i64, u64)>,
    due: BTreeMap<u64, i64>,
    /// The last id that was given.
    last: u64,
    /// Somebody publishes.
    is_publishing: bool,
    /// The event that is being published.
    in_hand: Option<u64>,
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
    /// Whether another call was publishing, so that this one did nothing.
    pub is_elsewhere: bool,
}

impl Schedule {
    /// Events that may wait unless told otherwise: 100,000.
    pub const EVENTS_MAX: usize = 100_000;

    /// The schedule of this name, up to 255 bytes, in a store.
    ///
    /// # Errors
    /// When the name is too long or open already, or an event cannot be read.
    ///
    /// # Cost
    /// Reads all that wait; keeps about 60 bytes of each in memory.
    pub fn open(name: &str, state: Arc<dyn StateStore>) -> Result<Self, ScheduleError> {
        let name = Name::claim(name, StateKind::TIMER, state).map_err(ScheduleError::Name)?;
        let mut known = Known::default();
        name.each(|key, _| {
            let (due, id) = key.split_first_chunk::<8>().and_then(place).ok_or(ScheduleError::Record { id: 0 })?;
            known.add(due, id);
            Ok::<_, ScheduleError>(())
        })?;
        let newest = known.due.last_key_value().map_or(0, |(id, _)| *id);
        known.last = name.number()?.max(newest);
        Ok(Self { name, events_max: Self::EVENTS_MAX, known: Mutex::new(known), removing: Mutex::default() })
    }

    /// Lets at most so many events wait.
    #[must_use]
    pub fn events_max(self, events: usize) -> Self {
        Self { events_max: events, ..self }
    }

    /// Keeps an event until it is due, as durably as the store can. Returns its number, which is given once.
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
        self.apply(&[change])?;
        self.known().add(due, id);
        Ok(id)
    }

    /// Forgets an event. Says whether it was there; not so of one that is being published.
    ///
    /// # Errors
    /// When the store does not forget it: it stays.
    pub fn cancel(&self, id: u64) -> Result<bool, ScheduleError> {
        let removing = self.removing();
        let due = {
            let known = self.known();
            known.due.get(&id).copied().filter(|_| known.in_hand != Some(id))
        };
        let Some(due) = due else { return Ok(false) };
        self.remove(due, id, &removing)?;
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

    /// Has the events published that are due at a time, in the order they are due, at most 256: the same events, with the same
    /// ids. Each is forgotten when `publish` has answered, and published at least once: dies the process between the two, it is
    /// published again.
    ///
    /// So `publish` returns when the event needs the schedule no more, as
    /// [`DurablePublisher::publish`](super::DurablePublisher::publish) does. A [`Publisher`](crate::Publisher) only brings it to a
    /// lane, which dies with the process: [`flush`](crate::Bus::flush) the bus then, before you answer.
    ///
    /// One call publishes at a time: another one that comes meanwhile, be it out of `publish`, does nothing and
    /// [says so](PublishedDue::is_elsewhere).
    ///
    /// # Errors
    /// [`ScheduleError::Publish`] with what `publish` says: the event and those behind it stay, those before it are gone. That the deadline
    /// of an event has passed ([`PublishError::Expired`], also as the source of another error) is no error: it is gone.
    ///
    /// # Cost
    /// No lock is held while `publish` runs: it may use the schedule, and take its time.
    pub fn publish_due<T, E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        now: SystemTime,
        mut publish: impl FnMut(&ScheduledEvent) -> Result<T, E>,
    ) -> Result<PublishedDue, ScheduleError> {
        let mut done = PublishedDue::default();
        let Some(publishing) = Publishing::begin(self) else {
            done.is_elsewhere = true;
            return Ok(done);
        };
        let now = unix_ns(now);
        for _ in 0..STEP_EVENTS {
            let Some((due, id)) = publishing.next(now) else { break };
            // One that is not there: a removal that was reported as failed was made.
            if let Some(event) = self.read(due, id)? {
                match publish(&event).map_err(Into::into) {
                    Ok(_) => done.published += 1,
                    Err(error) if has_expired(&*error) => done.expired += 1,
                    Err(error) => return Err(ScheduleError::Publish { id, error }),
                }
            }
            self.remove(due, id, &self.removing())?;
        }
        done.has_more = self.known().order.first().is_some_and(|(due, _)| *due <= now);
        Ok(done)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn removing(&self) -> MutexGuard<'_, ()> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, due: i64, id: u64) -> Vec<u8> {
        let due = (due as u64) ^ (1 << 63);
        self.name.key(&[due.to_be_bytes(), id.to_be_bytes()].concat())
    }

    fn apply(&self, changes: &[StateChange<'_>]) -> Result<(), ScheduleError> {
        let state = self.name.state();
        state.apply(changes, state.state_durability()).map_err(ScheduleError::Change)
    }

    fn read(&self, due: i64, id: u64) -> Result<Option<ScheduledEvent>, ScheduleError> {
        let Some(value) = self.name.state().get(StateKind::TIMER, &self.key(due, id))? else { return Ok(None) };
        let frame = value.strip_prefix(&[FORMAT]).and_then(|frame| Frame::copied_from(frame).ok());
        let frame = frame.ok_or(ScheduleError::Record { id })?;
        Ok(Some(ScheduledEvent { id, due: time(due), frame }))
    }

    fn remove(&self, due: i64, id: u64, _removing: &MutexGuard<'_, ()>) -> Result<(), ScheduleError> {
        let last = {
            let known = self.known();
            let is_newest = known.due.last_key_value().is_some_and(|(newest, _)| *newest == id);
            // With the newest goes what told the next process where to count on.
            is_newest.then_some(known.last.to_le_bytes())
        };
        let (key, number) = (self.key(due, id), self.name.number_key());
        let mut changes = vec![StateChange::Remove { kind: StateKind::TIMER, key: &key }];
        changes.extend(last.as_ref().map(|last| StateChange::Put {
            kind: StateKind::NUMBER,
            key: &number,
            value: last,
        }));
        self.apply(&changes)?;
        let mut known = self.known();
        known.order.remove(&(due, id));
        known.due.remove(&id);
        Ok(())
    }
}

/// Whether an error says that the deadline of an event has passed.
fn has_expired(error: &(dyn Error + 'static)) -> bool {
    let is_so = matches!(error.downcast_ref(), Some(PublishError::Expired { .. }));
    is_so || error.source().is_some_and(has_expired)
}

/// Whoever publishes, until it is dropped.
struct Publishing<'a>(&'a Schedule);

impl<'a> Publishing<'a> {
    /// `None` when somebody does.
    fn begin(schedule: &'a Schedule) -> Option<Self> {
        let was_publishing = std::mem::replace(&mut schedule.known().is_publishing, true);
        (!was_publishing).then(|| Self(schedule))
    }

    /// Takes the next event that is due.
    fn next(&self, now: i64) -> Option<(i64, u64)> {
        let _removing = self.0.removing();
        let mut known = self.0.known();
        let next = known.order.first().copied().filter(|(due, _)| *due <= now);
        known.in_hand = next.map(|(_, id)| id);
        next
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        let mut known = self.0.known();
        (known.is_publishing, known.in_hand) = (false, None);
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
