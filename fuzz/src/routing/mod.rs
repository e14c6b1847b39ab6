//! Routing: subscribers come, pause and go while others publish, and each gets what a plain list of subscriptions says.
//!
//! A bus without threads is driven through its public API, one operation after the other; what its handlers and
//! mailboxes see, in which order, and its books must be those of the model.

mod model;

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use arbitrary::Unstructured;
use ringmain::internals::ring::LANES;
use ringmain::testing::Simulation;
use ringmain::{
    Bus, Delivery, Filter, FullPolicy, Mailbox, Meta, Outcome, Overflow, Pattern, Payload, Priority, PublishError,
    Publisher, SubscribeError, Subscription, SubscriptionId, TryRecvError,
};

use crate::ring::draw_first;
use model::{Event, Full, Model, TURN_MAX, Wish, fails};

const TOPICS: [&str; 8] = ["a", "b", "c", "a.a", "a.b", "b.a", "a.b.a", "b.b.b.b"];
const SEGMENTS: [&str; 6] = ["a", "b", "*", "*", "**", "**"];
/// Live subscriptions a case may have.
const SUBSCRIPTIONS_MAX: usize = 8;
/// Deliveries a case may have in hand.
const HELD_MAX: usize = 32;
/// More than lanes, mailboxes and hands hold.
const BLOCKS: usize = 192;
/// Metrics merge hundreds of histograms: they are asked for in one case of so many.
const METRICS_EVERY: u64 = 32;

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If bus and model disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(mut case) = Case::draw(&mut bytes) else { return };
    // The bytes end somewhere within an operation.
    let _ = case.run(&mut bytes);
    case.finish();
}

/// What a handler saw: the key of its subscription, and the event.
type Seen = Arc<Mutex<Vec<(usize, Event)>>>;

enum Handle {
    Inline(Subscription),
    /// Kept by its id alone.
    Forever(SubscriptionId),
    Mailbox(Mailbox<Pattern>),
}

impl Handle {
    fn id(&self) -> SubscriptionId {
        match self {
            Self::Inline(subscription) => subscription.id(),
            Self::Forever(id) => *id,
            Self::Mailbox(mailbox) => mailbox.id(),
        }
    }
}

struct Case {
    /// With the key of the subscription.
    held: Vec<(usize, Delivery<Pattern>)>,
    handles: Vec<(usize, Handle)>,
    publishers: Vec<Publisher>,
    simulation: Simulation,
    /// A list a worker.
    seen: Vec<Seen>,
    limit: usize,
    model: Model,
}

fn event(meta: &Meta<'_>, payload: Payload<'_>) -> Event {
    let bytes = payload.bytes();
    Event {
        nth: u64::from_le_bytes(*bytes.first_chunk().expect("payloads begin with their number")),
        topic: TOPICS.into_iter().find(|topic| *topic == meta.topic()).unwrap_or("none that was published"),
        lane: LANES - 1 - meta.priority() as usize,
        sequence: meta.sequence(),
        payload: bytes.to_vec(),
    }
}

/// The number of an event, and so many bytes.
fn payload(nth: u64, more: usize) -> Vec<u8> {
    nth.to_le_bytes().into_iter().chain((0..more).map(|at| (nth as usize + at) as u8)).collect()
}

fn priority(lane: usize) -> Priority {
    Priority::ALL[lane]
}

impl Case {
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let first = draw_first(bytes)?;
        let workers = bytes.int_in_range(1..=3)?;
        let limit = bytes.int_in_range(1..=12)?;
        let types_max = if bytes.ratio(1, 4)? { 2 } else { 100 };
        let publishers = bytes.int_in_range(0..=2)?;
        let builder = Bus::builder()
            .workers(workers)
            .max_queue_size(limit)
            .turn_max(TURN_MAX)
            .types_max(types_max)
            .slot_bytes(128)
            .payload_bytes_max(256)
            .blocks([(256, BLOCKS)])
            // Long enough never to be interrupted: where within a burst that happens is no promise of a bus.
            .critical_burst_max(1 << 20)
            .when_full(FullPolicy::REJECT)
            .first_sequence(first);
        let builder = if publishers == 0 { builder.single_publisher() } else { builder.publishers_max(publishers) };
        let simulation = Simulation::new(builder, 7).expect("the settings are valid");
        let publishers = (0..publishers.max(1)).map(|_| simulation.bus().publisher().expect("there is a place"));
        Ok(Self {
            held: Vec::new(),
            handles: Vec::new(),
            publishers: publishers.collect(),
            simulation,
            seen: (0..workers).map(|_| Seen::default()).collect(),
            limit,
            model: Model::new(workers, limit, first, types_max),
        })
    }

    fn run(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        while !bytes.is_empty() {
            match bytes.int_in_range(0..=11)? {
                0 | 1 => self.subscribe(bytes)?,
                2 => self.end(bytes)?,
                3 => self.pause(bytes)?,
                4..=6 => self.publish(bytes)?,
                7 => self.publish_batch(bytes)?,
                8 => self.turn(bytes.choose_index(self.seen.len())?),
                9 => self.turn_until_idle(),
                10 => self.receive(bytes)?,
                _ => self.settle(bytes)?,
            }
            assert_eq!(self.simulation.bus().ledger(), self.model.books());
        }
        Ok(())
    }

    fn subscribe(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.len() >= SUBSCRIPTIONS_MAX {
            return Ok(());
        }
        let segments: Vec<&str> = (0..bytes.int_in_range(1..=3)?)
            .map(|_| bytes.choose(&SEGMENTS).copied())
            .collect::<arbitrary::Result<_>>()?;
        let wish = Wish {
            pattern: segments.join("."),
            category: if bytes.ratio(1, 4)? { Some(*bytes.choose(&["a", "b"])?) } else { None },
            lanes: if bytes.ratio(1, 2)? { 0b1111 } else { bytes.int_in_range(0..=0b1111)? },
            even: bytes.ratio(1, 4)?,
        };
        let workers = self.seen.len();
        let worker = if bytes.arbitrary()? { Some(bytes.choose_index(workers)?) } else { None };
        let mut filter =
            Filter::all().priorities((0..LANES).filter(|lane| wish.lanes & (1 << lane) != 0).map(priority));
        if let Some(category) = wish.category {
            filter = filter.categories([category]);
        }
        if wish.even {
            filter = filter.matching(|meta| meta.payload().bytes()[0].is_multiple_of(2));
        }
        let mut subscribe = self.simulation.bus().subscribe(&*wish.pattern).filter(filter);
        if let Some(worker) = worker {
            subscribe = subscribe.on_worker(worker);
        }
        let handle = if bytes.arbitrary()? {
            let capacity = bytes.int_in_range(1..=5)?;
            let overflow = *bytes.choose(&[Overflow::Block, Overflow::DropNewest, Overflow::DropOldest])?;
            let (key, _) = self.model.subscribe(wish, worker, Some(model::Mailbox::new(capacity, overflow)));
            (key, Handle::Mailbox(subscribe.capacity(capacity).overflow(overflow).mailbox().expect("it is valid")))
        } else {
            let (key, worker) = self.model.subscribe(wish, worker, None);
            let seen = Arc::clone(&self.seen[worker]);
            let handler = move |payload: Payload<'_>, meta: &Meta<'_>| {
                let event = event(meta, payload);
                let outcome = if fails(event.nth) { Outcome::Failed("as asked".to_owned()) } else { Outcome::Ack };
                seen.lock().expect("no handler panics").push((key, event));
                outcome
            };
            let subscription = subscribe.handle(handler).expect("it is valid");
            let is_kept = bytes.ratio(1, 4)?;
            (key, if is_kept { Handle::Forever(subscription.forever()) } else { Handle::Inline(subscription) })
        };
        self.handles.push(handle);
        Ok(())
    }

    /// Ends a subscription: by its id, or by letting go of it.
    fn end(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let nth = bytes.choose_index(self.handles.len())?;
        let by_id = bytes.arbitrary()?;
        let bus = self.simulation.bus();
        let (key, handle) = &self.handles[nth];
        let subscription = self.model.subscriptions.get_mut(key).expect("each handle has a key");
        let by_id = by_id || matches!(handle, Handle::Forever(_));
        if by_id {
            let expected = if subscription.has_ended { Err(SubscribeError::NotFound(handle.id())) } else { Ok(()) };
            assert_eq!(bus.unsubscribe(handle.id()), expected);
            subscription.has_ended = true;
            // Its mailbox can still be emptied.
            if matches!(handle, Handle::Mailbox(_)) {
                return Ok(());
            }
        }
        let (_, handle) = self.handles.swap_remove(nth);
        subscription.abandon();
        match handle {
            Handle::Inline(subscription) if !by_id => assert_eq!(subscription.unsubscribe(), Ok(())),
            handle => drop(handle),
        }
        Ok(())
    }

    fn pause(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let (key, handle) = bytes.choose(&self.handles)?;
        let subscription = self.model.subscriptions.get_mut(key).expect("each handle has a key");
        let is_paused = bytes.arbitrary()?;
        let bus = self.simulation.bus();
        let done = if is_paused { bus.pause(handle.id()) } else { bus.resume(handle.id()) };
        if subscription.has_ended {
            assert_eq!(done, Err(SubscribeError::NotFound(handle.id())));
        } else {
            assert_eq!(done, Ok(()));
            subscription.is_paused = is_paused;
        }
        Ok(())
    }

    /// The next event's number, topic and payload.
    fn draw_event(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<(u64, &'static str, Vec<u8>)> {
        let topic = *bytes.choose(&TOPICS)?;
        let more = if bytes.ratio(1, 8)? { bytes.int_in_range(0..=200)? } else { 0 };
        self.model.made += 1;
        Ok((self.model.made, topic, payload(self.model.made, more)))
    }

    fn publish(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let publisher = bytes.choose_index(self.publishers.len())?;
        let lane = bytes.choose_index(LANES)?;
        for _ in 0..bytes.int_in_range(1..=4)? {
            let (nth, topic, payload) = self.draw_event(bytes)?;
            let publisher = &mut self.publishers[publisher];
            let published = publisher.at(priority(lane)).publish(topic, Payload::raw(&payload)).map(drop);
            let expected = self.model.publish(lane, [(nth, topic, payload)]);
            assert_eq!(published, expected.map_err(|full| refusal(lane, self.limit, &full)));
        }
        Ok(())
    }

    fn publish_batch(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let publisher = bytes.choose_index(self.publishers.len())?;
        let lane = bytes.choose_index(LANES)?;
        let count = bytes.int_in_range(1..=self.limit)?;
        let events: Vec<_> = (0..count).map(|_| self.draw_event(bytes)).collect::<arbitrary::Result<_>>()?;
        let mut batch = self.publishers[publisher].batch(priority(lane));
        for (_, topic, payload) in &events {
            batch.add(*topic, Payload::raw(payload)).expect("it is valid");
        }
        let published = batch.publish().map(|ids| ids.len());
        let expected = self.model.publish(lane, events);
        assert_eq!(published, expected.map(|()| count).map_err(|full| refusal(lane, self.limit, &full)));
        Ok(())
    }

    fn turn(&mut self, worker: usize) {
        let (expected, passed) = self.model.turn(worker);
        assert_eq!(self.simulation.turn(worker), Some(passed));
        self.compare_seen(worker, expected);
    }

    /// Each worker on its own, for they share nothing but the slots; in which order they turn is drawn by the simulation.
    fn turn_until_idle(&mut self) {
        let mut all = 0;
        let mut expected: Vec<_> = self.seen.iter().map(|_| Vec::new()).collect();
        for (worker, expected) in expected.iter_mut().enumerate() {
            loop {
                let (seen, passed) = self.model.turn(worker);
                expected.extend(seen);
                all += passed;
                if passed == 0 {
                    break;
                }
            }
        }
        assert_eq!(self.simulation.run(), all);
        for (worker, expected) in expected.into_iter().enumerate() {
            self.compare_seen(worker, expected);
        }
    }

    fn compare_seen(&self, worker: usize, expected: Vec<(usize, Rc<Event>)>) {
        let seen = std::mem::take(&mut *self.seen[worker].lock().expect("no handler panics"));
        let expected: Vec<_> = expected.into_iter().map(|(key, event)| (key, (*event).clone())).collect();
        assert_eq!(seen, expected, "by the handlers of worker {worker}");
    }

    fn receive(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let nth = bytes.choose_index(self.handles.len())?;
        let (key, Handle::Mailbox(mailbox)) = &mut self.handles[nth] else { return Ok(()) };
        let subscription = self.model.subscriptions.get_mut(key).expect("each handle has a key");
        for _ in 0..bytes.int_in_range(1..=4)? {
            if self.held.len() >= HELD_MAX {
                break;
            }
            let expected = subscription.receive();
            match mailbox.try_recv() {
                Ok(delivery) => {
                    let event = event(&delivery.meta(), delivery.payload());
                    assert_eq!(Some(&event), expected.as_deref());
                    self.held.push((*key, delivery));
                }
                Err(error) => {
                    let reason = if subscription.has_ended { TryRecvError::Closed } else { TryRecvError::Empty };
                    assert_eq!((error, expected), (reason, None));
                }
            }
            let left = subscription.mailbox.as_ref().map_or(0, model::Mailbox::queued);
            assert_eq!(mailbox.len(), left);
        }
        Ok(())
    }

    fn settle(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let (key, delivery) = self.held.swap_remove(bytes.choose_index(self.held.len())?);
        let well = bytes.ratio(3, 4)?;
        if well {
            drop(delivery);
        } else {
            delivery.fail("as asked");
        }
        self.model.subscriptions.get_mut(&key).expect("each delivery has a key").settle(well);
        Ok(())
    }

    /// Lets go of everything but the bus, and finds each event settled and each block free.
    fn finish(mut self) {
        for (key, delivery) in std::mem::take(&mut self.held) {
            drop(delivery);
            self.model.subscriptions.get_mut(&key).expect("each delivery has a key").settle(true);
        }
        for (key, handle) in std::mem::take(&mut self.handles) {
            let record = self.simulation.bus().subscription(handle.id());
            let subscription = self.model.subscriptions.get_mut(&key).expect("each handle has a key");
            match record {
                Ok(record) => {
                    assert_eq!((record.ledger, record.is_paused), (subscription.books(), subscription.is_paused))
                }
                Err(error) => assert_eq!(error, SubscribeError::NotFound(handle.id())),
            }
            if let (Handle::Forever(id), false) = (&handle, subscription.has_ended) {
                assert_eq!(self.simulation.bus().unsubscribe(*id), Ok(()));
            }
            drop(handle);
            subscription.abandon();
        }
        self.turn_until_idle();
        let ledger = self.simulation.bus().ledger();
        assert_eq!(ledger, self.model.books());
        assert!(ledger.is_balanced(), "{ledger:#?}");
        assert_eq!(ledger.in_lanes + ledger.subscriptions.queued + ledger.subscriptions.in_flight, 0, "{ledger:#?}");
        if self.model.made % METRICS_EVERY == METRICS_EVERY - 1 {
            assert_eq!(self.simulation.bus().metrics().free_blocks, BLOCKS);
        }
    }
}

fn refusal(lane: usize, limit: usize, full: &Full) -> PublishError {
    let Full { depth, gated_by } = *full;
    PublishError::Full { priority: priority(lane), depth, limit: limit as u64, gated_by: Some(gated_by) }
}
