//! Routing: subscribers come, pause and go while others publish, and each gets what a plain list of subscriptions says.
//!
//! A bus without threads is driven through its public API, one operation after the other; what its handlers and
//! mailboxes see, in which order, and its books must be those of the model. A case leaves its bus empty, for the next.

mod model;
mod past;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use arbitrary::Unstructured;
use ringmain::internals::ring::LANES;
use ringmain::testing::Simulation;
use ringmain::{
    Bus, Delivery, FullPolicy, Meta, Pattern, Payload, Priority, PublishError, Publisher, SubscribeError, TryRecvError,
};

use crate::ring::FIRSTS;
use model::{Event, Full, Model, TURN_MAX};
use past::Past;
use subscriptions::Handle;

const TOPICS: [&str; 8] = ["a", "b", "c", "a.a", "a.b", "b.a", "a.b.a", "b.b.b.b"];
/// Deliveries a case may have in hand.
const HELD_MAX: usize = 32;
/// More than lanes, mailboxes and hands hold.
const BLOCKS: usize = 192;
/// Different settings of a bus.
const SETTINGS: usize = 24;
/// Cases that a bus lives for: building one takes as long as dozens of cases.
const CASES_MAX: usize = 256;
/// Metrics merge hundreds of histograms: they are asked for in one case of so many on a bus, the first among them.
const METRICS_EVERY: usize = 128;
/// Records of subscriptions spell their filters out.
const RECORDS_EVERY: usize = 8;

thread_local! {
    /// One bus a setting, at rest.
    static BUSES: RefCell<[Option<Case>; SETTINGS]> = const { RefCell::new([const { None }; SETTINGS]) };
}

/// Runs the operations that `data` says, and compares after each; or a series of cases on a bus of its own.
///
/// # Panics
///
/// If bus and model disagree.
pub fn check(data: &[u8]) {
    match past::series(data) {
        Some(cases) => {
            BUSES.set([const { None }; SETTINGS]);
            cases.for_each(check_one);
        }
        None => check_one(data),
    }
}

/// From now on, a panic leaves the inputs of all cases on its bus where libFuzzer leaves artifacts: one input to run
/// them all again.
pub fn keep_the_past() {
    past::keep();
}

fn check_one(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(settings) = bytes.choose_index(SETTINGS) else { return };
    let mut case = BUSES.with_borrow_mut(|buses| buses[settings].take()).unwrap_or_else(|| Case::new(settings));
    case.past.begin(data);
    // The bytes end somewhere within an operation.
    let _ = case.run(&mut bytes);
    case.finish();
    case.past.end();
    if case.past.cases() < CASES_MAX {
        BUSES.with_borrow_mut(|buses| buses[settings] = Some(case));
    }
}

/// What a handler saw: the key of its subscription, and the event.
type Seen = Arc<Mutex<Vec<(usize, Event)>>>;

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
    past: Past,
}

fn event(meta: &Meta<'_>, payload: Payload<'_>) -> Event {
    let bytes = payload.bytes();
    Event {
        nth: u64::from_le_bytes(*bytes.first_chunk().expect("payloads begin with their number")),
        topic: TOPICS.iter().position(|topic| *topic == meta.topic()).expect("nothing else is published"),
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
    fn new(settings: usize) -> Self {
        // Every number of workers meets every limit, every first sequence and every number of publishers.
        let workers = settings % 3 + 1;
        let limit = [1, 2, 3, 4, 6, 8, 11, 12][settings % 8];
        let publishers = (settings + settings / 3) % 3;
        let first = FIRSTS[settings / 3];
        let types_max = if settings < 6 { 2 } else { 100 };
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
        Self {
            held: Vec::new(),
            handles: Vec::new(),
            publishers: publishers.collect(),
            simulation,
            seen: (0..workers).map(|_| Seen::default()).collect(),
            limit,
            model: Model::new(workers, limit, first, types_max),
            past: Past::default(),
        }
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

    /// The next event's number, topic and payload.
    fn draw_event(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<(u64, usize, Vec<u8>)> {
        let topic = bytes.choose_index(TOPICS.len())?;
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
            let published = publisher.at(priority(lane)).publish(TOPICS[topic], Payload::raw(&payload)).map(drop);
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
            batch.add(TOPICS[*topic], Payload::raw(payload)).expect("it is valid");
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
        let are_same =
            |((key, event), (by, expected)): (&(usize, Event), &(usize, Rc<Event>))| key == by && event == &**expected;
        let same = seen.len() == expected.len() && seen.iter().zip(&expected).all(are_same);
        assert!(same, "the handlers of worker {worker} saw {seen:?}, not {expected:?}");
    }

    fn receive(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let nth = bytes.choose_index(self.handles.len())?;
        let (key, Handle::Mailbox(mailbox)) = &mut self.handles[nth] else { return Ok(()) };
        let subscription = &mut self.model.subscriptions[*key];
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
        self.model.subscriptions[key].settle(well);
        Ok(())
    }

    /// Lets go of everything but the bus, and finds each event settled and each block free.
    fn finish(&mut self) {
        for (key, delivery) in std::mem::take(&mut self.held) {
            drop(delivery);
            self.model.subscriptions[key].settle(true);
        }
        for (key, handle) in std::mem::take(&mut self.handles) {
            let subscription = &mut self.model.subscriptions[key];
            if self.past.cases().is_multiple_of(RECORDS_EVERY) {
                let record = self.simulation.bus().subscription(handle.id());
                let found = record.map(|record| (record.ledger, record.is_paused));
                let is_gone = subscription.has_ended.then(|| SubscribeError::NotFound(handle.id()));
                assert_eq!(found, is_gone.map_or(Ok((subscription.books(), subscription.is_paused)), Err));
            }
            if let (Handle::Forever(id), false) = (&handle, subscription.has_ended) {
                assert_eq!(self.simulation.bus().unsubscribe(*id), Ok(()));
            }
            drop(handle);
            self.model.end(key);
            self.model.subscriptions[key].abandon();
        }
        self.turn_until_idle();
        let ledger = self.simulation.bus().ledger();
        assert_eq!(ledger, self.model.books());
        assert!(ledger.is_balanced(), "{ledger:#?}");
        assert_eq!(ledger.in_lanes + ledger.subscriptions.queued + ledger.subscriptions.in_flight, 0, "{ledger:#?}");
        if self.past.cases().is_multiple_of(METRICS_EVERY) {
            assert_eq!(self.simulation.bus().metrics().free_blocks, BLOCKS);
        }
        self.model.forget();
    }
}

fn refusal(lane: usize, limit: usize, full: &Full) -> PublishError {
    let Full { depth, gated_by } = *full;
    PublishError::Full { priority: priority(lane), depth, limit: limit as u64, gated_by: Some(gated_by) }
}
