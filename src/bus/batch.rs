//! Several events in one piece: all are accepted, or none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::event::{Encode, EventId, FLAG_TARGETED, Header, Priority};
use crate::ring::{Block, Frame, Rest};

use super::publisher::{Permit, closed, lane_full};
use super::{Outgoing, PublishError, Publisher, Subject};

/// A batch being collected. Events are encoded when they are added; nothing is published before [`publish`](Self::publish).
/// Dropped or forgotten, it publishes nothing; its blocks go back to the pool at the latest with its publisher's next event.
///
/// ```
/// # use ringmain::{Bus, Payload, Priority};
/// # let bus = Bus::builder().build()?;
/// # let mut publisher = bus.publisher()?;
/// let mut batch = publisher.batch(Priority::High);
/// batch.add("orders.placed", Payload::json(r#"{"id": 1}"#))?;
/// batch.add("stock.reserved", Payload::json(r#"{"order": 1}"#))?;
/// let ids = batch.publish()?;
/// assert_eq!(ids.len(), 2);
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
pub struct Batch<'p> {
    publisher: &'p mut Publisher,
    priority: Priority,
}

/// The events of a batch, in the keeping of its publisher, which uses the memory again.
#[derive(Debug, Default)]
pub(super) struct Collected {
    events: Vec<Entry>,
    /// Extensions and payloads of the events that fit a slot.
    bytes: Vec<u8>,
    /// Positions in `events` that somebody wants, and the workers that do.
    wanted: Wanted,
    /// The rate limits on each, when there are any.
    permits: Vec<Permit>,
    /// Some of them name services.
    is_targeted: bool,
}

/// Small batches keep it in place.
type Wanted = SmallVec<[(usize, u64); 32]>;

impl Collected {
    /// Forgets all events and gives their blocks back.
    #[inline]
    pub(super) fn clear(&mut self) {
        if !self.events.is_empty() {
            self.clear_up();
        }
    }

    #[cold]
    fn clear_up(&mut self) {
        self.events.clear();
        self.bytes.clear();
        self.is_targeted = false;
    }

    /// Adds an event whose extension and payload are in `block`, or else in `bytes`.
    pub(super) fn add(&mut self, header: Header, block: Option<Block>, bytes: &[u8]) -> EventId {
        let place = match block {
            Some(block) => Place::Block(block),
            None => {
                // Payloads keep their alignment within the slot: the ring copies them as they are.
                let at = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Place::Inline(at)
            }
        };
        let id = header.event_id();
        self.is_targeted |= header.has(FLAG_TARGETED);
        self.events.push(Entry { header, place });
        id
    }
}

#[derive(Debug)]
struct Entry {
    header: Header,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// From here in `bytes`.
    Inline(usize),
    Block(Block),
}

impl<'p> Batch<'p> {
    pub(super) fn new(publisher: &'p mut Publisher, priority: Priority) -> Self {
        publisher.collected_mut().clear();
        Self { publisher, priority }
    }

    /// Events added so far.
    pub fn len(&self) -> usize {
        self.publisher.collected().events.len()
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When the event is invalid or the batch too long. The batch stays as it was.
    pub fn add<S: Subject<P>, P: Encode + Copy>(&mut self, topic: S, payload: P) -> Result<EventId, PublishError> {
        let priority = self.priority;
        self.add_with(topic, payload, |event| event.priority(priority))
    }

    /// Adds an event with an envelope, which `with` fills in.
    ///
    /// # Errors
    /// As [`add`](Self::add); [`PublishError::MixedPriority`] when `with` sets another priority than the batch's.
    pub fn add_with<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        topic: S,
        payload: P,
        with: impl FnOnce(Outgoing<'_>) -> Outgoing<'_>,
    ) -> Result<EventId, PublishError> {
        let max = self.publisher.shared().settings.batch_max;
        if self.len() >= max {
            let refused = PublishError::BatchTooLong { events: self.len() + 1, max };
            return self.publisher.settle(Err(refused));
        }
        let outgoing = with(self.publisher.begin().priority(self.priority));
        let event = outgoing.has_priority();
        if event != self.priority {
            return self.publisher.settle(Err(PublishError::MixedPriority { batch: self.priority, event }));
        }
        outgoing.into_batch(&topic, &payload)
    }

    /// Publishes all events in one piece, in the order they were added, or none. Follows the
    /// [`FullPolicy`](super::FullPolicy).
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(mut self) -> Result<Vec<EventId>, PublishError> {
        let policy = self.publisher.policy();
        self.send(policy.wait_limit())
    }

    /// As [`publish`](Self::publish), but fails at once when there is no room for all.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn try_publish(mut self) -> Result<Vec<EventId>, PublishError> {
        self.send(None)
    }

    fn send(&mut self, limit: Option<Duration>) -> Result<Vec<EventId>, PublishError> {
        let Self { publisher, priority } = self;
        // Out of the publisher's keeping for the call, so that both can be borrowed.
        let mut collected = std::mem::take(publisher.collected_mut());
        let mut once = |publisher: &mut Publisher| once(publisher, *priority, &mut collected);
        let result = match limit {
            Some(limit) => publisher.keep_trying(limit, once),
            None => once(publisher),
        };
        let result = publisher.settle(result);
        let ids = result.map(|()| collected.events.iter().map(|event| event.header.event_id()).collect());
        *publisher.collected_mut() = collected;
        ids
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.publisher.collected_mut().clear();
    }
}

/// Lets all events pass the rate limits on them, or none.
fn admit(publisher: &mut Publisher, priority: Priority, collected: &mut Collected) -> Result<(), PublishError> {
    let Collected { events, bytes, permits, .. } = collected;
    permits.clear();
    if !publisher.look_ahead(priority)? {
        return Ok(());
    }
    permits.extend(events.iter_mut().map(|Entry { header, place }| {
        let length = header.rest_bytes();
        let rest = match place {
            Place::Inline(at) => &bytes[*at..*at + length],
            Place::Block(block) => &block.bytes()[..length],
        };
        publisher.limits_on(header, rest)
    }));
    for nth in 0..permits.len() {
        if let Err(error) = publisher.pass(&mut permits[nth]) {
            permits[..nth].iter().for_each(|permit| publisher.give_back(permit));
            return Err(publisher.all_or_never(error, permits[nth], permits));
        }
    }
    Ok(())
}

/// How many targets of all events together name no service.
fn unknown_targets(publisher: &Publisher, collected: &mut Collected) -> u64 {
    let Collected { events, bytes, is_targeted: true, .. } = collected else { return 0 };
    let unknown = |Entry { header, place }: &mut Entry| {
        publisher.unknown_targets(header, || match place {
            Place::Inline(at) => &bytes[*at..],
            Place::Block(block) => block.bytes(),
        })
    };
    events.iter_mut().map(unknown).sum()
}

/// One try to bring all events into their lane.
fn once(publisher: &mut Publisher, priority: Priority, collected: &mut Collected) -> Result<(), PublishError> {
    let unknown = unknown_targets(publisher, collected);
    admit(publisher, priority, collected)?;
    let sent = once_permitted(publisher, priority, collected);
    match sent {
        Ok(()) => publisher.count_unknown(unknown),
        Err(_) => collected.permits.iter().for_each(|permit| publisher.give_back(permit)),
    }
    publisher.shared().engine.feel_pressure();
    sent
}

fn once_permitted(
    publisher: &mut Publisher,
    priority: Priority,
    collected: &mut Collected,
) -> Result<(), PublishError> {
    let (engine, slot) = (Arc::clone(&publisher.shared().engine), Arc::clone(publisher.slot()));
    let Some(inside) = slot.enter(&engine.admission) else { return Err(closed(&engine)) };
    let sent = once_inside(publisher, priority, collected);
    if sent.is_ok() {
        let (events, wanted) = (collected.events.len() as u64, collected.wanted.len() as u64);
        inside.counts().route(wanted);
        inside.counts().pass_over(events - wanted);
    }
    drop(inside);
    match sent {
        Ok(()) => engine.parker.wake(collected.wanted.iter().fold(0, |all, (_, workers)| all | workers)),
        Err(PublishError::Full { .. }) => publisher.wake_holders(priority.lane()),
        Err(_) => {}
    }
    sent
}

fn once_inside(publisher: &mut Publisher, priority: Priority, collected: &mut Collected) -> Result<(), PublishError> {
    let Collected { events, bytes, wanted, .. } = collected;
    let lane = priority.lane();
    let engine = &publisher.shared().engine;
    wanted.clear();
    wanted.extend(events.iter().enumerate().filter_map(|(nth, event)| {
        let workers = engine.wanted_by(event.header.type_id, event.header.flags, lane);
        (workers != 0).then_some((nth, workers))
    }));
    if wanted.is_empty() {
        return Ok(());
    }
    let limit = engine.lanes.limit();
    if let Some(shed) = publisher.policy().sheds(priority, publisher.claimant(), limit) {
        return Err(shed);
    }
    let frame = |nth: usize| {
        let (event, workers) = wanted[nth];
        let Entry { header, place } = &events[event];
        let rest = match place {
            Place::Inline(at) => Rest::Inline(&bytes[*at..*at + header.rest_bytes()]),
            Place::Block(block) => Rest::Block(block, workers),
        };
        Frame { head: header.as_words(), rest }
    };
    let sent = publisher
        .make_sure(lane, wanted.len())
        .and_then(|()| publisher.claimant().push_batch(lane, wanted.len(), frame));
    sent.map(|_| ()).map_err(|full| lane_full(priority, full))
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("priority", &self.priority).field("len", &self.len()).finish_non_exhaustive()
    }
}
