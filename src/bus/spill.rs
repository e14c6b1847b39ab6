//! Reads back what subscriptions left in a store: each has a thread of its own for that, which sleeps while it keeps up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{
    Notice, Parcel, Sink, SpillError, SpillPage, SpillReader, SpillShared, SpilledEvent, SubscriptionState,
};
use crate::event::{CellFrame, Meta, Priority};
use crate::ring::{Block, LANES};
use crate::sync::contain::contained;
use crate::sync::primitive::thread::{self, Builder};
use crate::sync::primitive::{Mutex, Ordering};
use crate::sync::waker::of_this_thread;
use crate::worker::Engine;

use super::{Driver, Shared, SubscribeError};

/// How long it waits for the next events before it looks whether it is still to read.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long it waits for room, for a block, and before it reads again what failed.
const REST: Duration = Duration::from_millis(1);
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing is to be read.
    Idle,
    /// It has read, or waited for something to read.
    Read,
    /// The worker has no room for more, or the pool no block.
    Full,
    /// The store was not read.
    Failed,
    /// Nothing will ever be read again.
    Over,
}

/// How far a lane is read.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    epoch: u32,
    /// The next sequence; `None` while the lane is not read.
    next: Option<u64>,
    /// Everything before this sequence has come, as the worker knows.
    complete: Option<u64>,
}

/// Reads for one subscription.
pub(super) struct SpillPump {
    engine: Arc<Engine>,
    subscription: Arc<SubscriptionState>,
    shared: Arc<SpillShared>,
    reader: Option<Box<dyn SpillReader>>,
    lanes: [Reading; LANES],
    events: VecDeque<SpilledEvent>,
    complete: Vec<(Priority, u64)>,
    /// What is to be handed to the worker next.
    parcel: Option<Parcel>,
    is_failing: bool,
    is_over: bool,
}

impl Shared {
    /// Lets somebody read back what the subscription leaves in its store.
    pub(super) fn start_spill(&self, subscription: &Arc<SubscriptionState>) -> Result<(), SubscribeError> {
        let Sink::Mailbox(mailbox, _) = &subscription.sink else { return Ok(()) };
        let Some(shared) = mailbox.spill() else { return Ok(()) };
        let pump = SpillPump {
            engine: Arc::clone(&self.engine),
            subscription: Arc::clone(subscription),
            shared: Arc::clone(shared),
            reader: None,
            lanes: [Reading::default(); LANES],
            events: VecDeque::new(),
            complete: Vec::new(),
            parcel: None,
            is_failing: false,
            is_over: false,
        };
        if matches!(self.driver, Driver::Manual(_)) {
            self.control().spills.push(Arc::new(Mutex::new(pump)));
            // Relaxed: a simulation is driven by one thread.
            self.has_spills.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let thread = Builder::new().name(format!("{}-spill", subscription.name.replace('\0', "")));
        let handle = thread.spawn(move || pump.run()).map_err(|error| SubscribeError::Thread(error.to_string()))?;
        self.keep_thread(handle);
        Ok(())
    }

    /// Reads back in a bus that is driven by hand.
    pub(super) fn step_spills(&self) {
        // Relaxed: as above.
        if !self.has_spills.load(Ordering::Relaxed) {
            return;
        }
        let pumps = {
            let mut control = self.control();
            control.spills.retain(|pump| pump.try_lock().map_or(true, |pump| !pump.shared.is_closed()));
            // Relaxed: as above.
            self.has_spills.store(!control.spills.is_empty(), Ordering::Relaxed);
            control.spills.clone()
        };
        for pump in pumps {
            if let Ok(mut pump) = pump.try_lock()
                && pump.step(Duration::ZERO) != Step::Idle
            {
                pump.call_worker();
            }
        }
    }
}

impl SpillPump {
    fn run(mut self) {
        let waker = of_this_thread();
        while !self.shared.is_closed() {
            match self.step(PATIENCE) {
                Step::Read => self.call_worker(),
                Step::Idle => {
                    self.shared.reader().wait(&waker);
                    if !self.shared.is_closed() && !self.is_ordered() {
                        thread::park();
                    }
                }
                Step::Full => {
                    self.call_worker();
                    self.shared.reader().wait(&waker);
                    thread::park_timeout(REST);
                }
                Step::Failed => {
                    self.shared.reader().wait(&waker);
                    thread::park_timeout(AFTER_FAILURE);
                }
                Step::Over => {
                    self.call_worker();
                    return;
                }
            }
        }
    }

    fn call_worker(&self) {
        self.engine.alarms[self.subscription.worker].set(0, &self.engine.parker);
    }

    /// Whether there is another order than the one it has.
    fn is_ordered(&self) -> bool {
        self.lanes.iter().enumerate().any(|(lane, reading)| {
            let order = self.shared.backlog().order(lane);
            order.epoch != reading.epoch || reading.next.is_some()
        })
    }

    /// Reads a page, waiting at most `limit`, and hands as much to the worker as it has room for.
    fn step(&mut self, limit: Duration) -> Step {
        if self.is_over {
            return Step::Idle;
        }
        self.take_orders();
        if self.lanes.iter().all(|lane| lane.next.is_none()) {
            return Step::Idle;
        }
        if !self.hand_over() {
            return Step::Full;
        }
        match contained(|| self.read(limit)) {
            Some(Ok(SpillPage { events, complete_before })) => {
                self.is_failing = false;
                (self.events, self.complete) = (events.into(), complete_before);
                if self.hand_over() { Step::Read } else { Step::Full }
            }
            Some(Err(error)) => self.fail(&error),
            None => self.fail(&SpillError::Over("its source panicked".to_owned())),
        }
    }

    fn take_orders(&mut self) {
        let mut is_new = false;
        for (lane, reading) in self.lanes.iter_mut().enumerate() {
            let order = self.shared.backlog().order(lane);
            if order.epoch != reading.epoch {
                *reading = Reading { epoch: order.epoch, next: order.from, complete: None };
                is_new = true;
            }
        }
        if is_new {
            // What was read for lanes that go on is read again.
            (self.reader, self.parcel) = (None, None);
            self.events.clear();
            self.complete.clear();
        }
    }

    fn read(&mut self, limit: Duration) -> Result<SpillPage, SpillError> {
        let reader = self.reader.get_or_insert_with(|| {
            let lanes = self.lanes.iter().enumerate();
            let first = lanes.filter_map(|(lane, reading)| Some((Priority::of_lane(lane), reading.next?)));
            self.shared.source().read_from(&first.collect::<Vec<_>>())
        });
        reader.next_page(limit)
    }

    fn fail(&mut self, error: &SpillError) -> Step {
        if !std::mem::replace(&mut self.is_failing, true) {
            let (subscription, name) = (self.subscription.id, self.subscription.name.as_str());
            let spilled = self.shared.backlog().total();
            self.engine.notice(&Notice::SpillFailed { subscription, name, error, spilled });
        }
        match error {
            SpillError::Failed(_) => Step::Failed,
            SpillError::Unreadable(_) => Step::Read,
            SpillError::Over(_) => {
                self.is_over = true;
                self.reader = None;
                // The worker makes room before long, or is gone.
                while self.shared.hand(Parcel::Over).is_err() && !self.shared.is_closed() {
                    self.call_worker();
                    thread::park_timeout(REST);
                }
                Step::Over
            }
        }
    }

    /// Hands what was read to the worker. False when it has no room.
    fn hand_over(&mut self) -> bool {
        loop {
            if let Some(parcel) = self.parcel.take()
                && let Err(parcel) = self.shared.hand(parcel)
            {
                self.parcel = Some(parcel);
                return false;
            }
            if let Some(event) = self.events.front() {
                match self.wrap(event) {
                    Ok(parcel) => self.parcel = parcel,
                    Err(NoBlock) => return false,
                }
                let lane = event.frame.meta().priority().lane();
                let behind = event.sequence.wrapping_add(1);
                let reading = &mut self.lanes[lane];
                reading.next = reading.next.map(|next| if is_before(next, behind) { behind } else { next });
                self.events.pop_front();
            } else if let Some((priority, before)) = self.complete.pop() {
                let lane = priority.lane();
                let Reading { epoch, next, complete } = &mut self.lanes[lane];
                if next.is_some() && *complete != Some(before) {
                    *complete = Some(before);
                    self.parcel = Some(Parcel::Complete { lane, epoch: *epoch, before });
                }
            } else {
                return true;
            }
        }
    }

    /// The event for the worker; `None` if its subscription does not want it, or has had it.
    fn wrap(&self, spilled: &SpilledEvent) -> Result<Option<Parcel>, NoBlock> {
        let (sequence, directory) = (spilled.sequence, &self.engine.directory);
        let lane = spilled.frame.meta().priority().lane();
        let Reading { epoch, next, .. } = self.lanes[lane];
        if next.is_none_or(|next| is_before(sequence, next)) {
            return Ok(None);
        }
        let event = spilled.frame.to_cell(directory, spilled.position);
        let Ok(meta) = Meta::new(&event.header, &event.rest, sequence, directory) else { return Ok(None) };
        if !self.wants(lane, &meta) {
            return Ok(None);
        }
        let block = self.block_for(&event)?;
        Ok(Some(Parcel::Event { lane, epoch, sequence, event, block }))
    }

    /// As its worker decides: see `Call::passes`.
    fn wants(&self, lane: usize, meta: &Meta<'_>) -> bool {
        let subscription = &self.subscription;
        subscription.has_started(lane, meta.sequence())
            && subscription.filter.lanes() & (1 << lane) != 0
            && subscription.wants_type(meta.topic())
            && !meta.is_replay()
            && (!subscription.filter.is_dynamic() || subscription.filter.refusal(meta).is_none())
    }

    fn block_for(&self, event: &CellFrame) -> Result<Option<Block>, NoBlock> {
        let Sink::Mailbox(mailbox, _) = &self.subscription.sink else { return Ok(None) };
        let bytes = event.rest.len();
        if bytes <= mailbox.cell_rest_bytes() {
            return Ok(None);
        }
        let mut block = self.engine.pool.take(bytes).ok_or(NoBlock)?;
        block.bytes_mut()[..bytes].copy_from_slice(&event.rest);
        Ok(Some(block))
    }
}

/// No block of the pool is free.
struct NoBlock;

fn is_before(sequence: u64, other: u64) -> bool {
    (sequence.wrapping_sub(other) as i64) < 0
}
