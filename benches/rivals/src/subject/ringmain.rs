//! ringmain through its public API, with everything on: typed events archived by rkyv and read in place, four lanes
//! polled, routing, panics contained, latencies and ledger kept, workers that can park.
//!
//! A bus has one worker a consumer, each with one inline handler. Its slots hold header and payload: as many bytes as
//! the rivals' event; they are made resident, as most rivals' are by being written. It has one poll loop, which rests
//! after it caught up with a flow, and stands in both classes with it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use core_affinity::CoreId;
use ringmain::{Bus, IdleStrategy, Priority, PublishError, StampPolicy, Subscription, Topic};
use rkyv::rend::u64_le;

use super::{Consumer, Ends, Plan, Publisher, Publishers, Seat, Sink, Stamps, Subject, Wait};
use crate::event::{Draft, Urgency, Word};
use crate::machine::pin;
use crate::questions::Question;

/// Bytes of a slot before the payload: stamp and header.
const HEAD_BYTES: usize = 64;
/// How often the harness's thread looks whether publishing has ended, while the worker has its core.
const LOOK: Duration = Duration::from_millis(100);

/// The form for any number of publishers, the default.
#[derive(Debug)]
pub(crate) struct Ringmain;

/// `BusBuilder::single_publisher`.
#[derive(Debug)]
pub(crate) struct RingmainSingle;

/// The default form with four workers, of which one has something to do.
#[derive(Debug)]
pub(crate) struct RingmainFourWorkers;

impl Word for u64_le {
    #[inline]
    fn of(number: u64) -> Self {
        Self::from_native(number)
    }

    #[inline]
    fn number(self) -> u64 {
        self.to_native()
    }
}

/// The payload: a flat value, as most events of latency-sensitive processes are.
type Payload<const WORDS: usize> = [u64; WORDS];

const fn topic<const WORDS: usize>() -> Topic<Payload<WORDS>> {
    Topic::new("rivals.payload")
}

/// A publisher of the bus.
#[derive(Debug)]
pub(crate) struct Outlet<const WORDS: usize>(ringmain::Publisher);

/// One worker of the bus, to be subscribed to.
#[derive(Debug)]
pub(crate) struct Inlet<const WORDS: usize> {
    bus: Bus,
    worker: usize,
    core: CoreId,
}

impl Subject for Ringmain {
    const NAME: &'static str = "ringmain";
    const RIVAL: bool = false;
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = true;
    const BROADCASTS: bool = true;
    const STAMPS: bool = true;
    type Publisher<const WORDS: usize> = Outlet<WORDS>;
    type Consumer<const WORDS: usize> = Inlet<WORDS>;

    fn takes_part(_question: Question) -> bool {
        true
    }

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        open(plan, Publishers::Many, plan.seating.consumers.len())
    }
}

impl Subject for RingmainSingle {
    const NAME: &'static str = "ringmain-single";
    const RIVAL: bool = false;
    const PUBLISHERS: Publishers = Publishers::One;
    const PARKS: bool = true;
    const BROADCASTS: bool = true;
    const STAMPS: bool = true;
    type Publisher<const WORDS: usize> = Outlet<WORDS>;
    type Consumer<const WORDS: usize> = Inlet<WORDS>;

    fn takes_part(question: Question) -> bool {
        // An idle bus has no publishers.
        question.asked_as() != Question::Idle
    }

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        open(plan, Publishers::One, plan.seating.consumers.len())
    }
}

impl Subject for RingmainFourWorkers {
    const NAME: &'static str = "ringmain-4-workers";
    const RIVAL: bool = false;
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = true;
    const STAMPS: bool = true;
    type Publisher<const WORDS: usize> = Outlet<WORDS>;
    type Consumer<const WORDS: usize> = Inlet<WORDS>;

    fn takes_part(question: Question) -> bool {
        question.asked_as() == Question::Paced1k
    }

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        open(plan, Publishers::Many, 4)
    }
}

fn open<const WORDS: usize>(plan: &Plan, publishers: Publishers, workers: usize) -> Ends<Outlet<WORDS>, Inlet<WORDS>> {
    let idle = match plan.wait {
        Wait::Parked => IdleStrategy::default(),
        Wait::Spinning if plan.seating.shares_a_core() => IdleStrategy::Yield,
        Wait::Spinning => IdleStrategy::BusySpin,
    };
    let stamps = match plan.stamps {
        Stamps::Each => StampPolicy::Every,
        Stamps::Sampled => StampPolicy::OneIn(Stamps::SAMPLE as u32),
    };
    // Its own way to pin would put the first worker on the first core, which is the publisher's here.
    let builder = Bus::builder()
        .name("rivals")
        .workers(workers)
        .pin(false)
        .idle(idle)
        .stamps(stamps)
        .prefault(true)
        .slot_bytes(HEAD_BYTES + size_of::<Payload<WORDS>>());
    // A lane's slots are the next power of two above limit and headroom: with these limits, the plan's capacity.
    let builder = match publishers {
        Publishers::One => builder.single_publisher().max_queue_size(plan.capacity - 2),
        Publishers::Many => builder.publishers_max(3).max_queue_size(plan.capacity - 4),
    };
    let bus = builder.build().expect("all settings are within their limits");
    let publisher = |_| Outlet(bus.publisher().expect("a question has no more publishers than the bus was built for"));
    let publishers = plan.seating.publishers.iter().map(publisher).collect();
    let inlets = |(worker, &core)| (0..plan.subscriptions).map(move |_| (worker, core));
    let consumers = (0..)
        .zip(&plan.seating.consumers)
        .flat_map(inlets)
        .map(|(worker, core)| Inlet { bus: bus.clone(), worker, core })
        .collect();
    Ends { publishers, consumers }
}

impl<const WORDS: usize> Publisher for Outlet<WORDS> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        let mut payload = [0u64; WORDS];
        draft.write_payload(&mut payload);
        let published = match draft.urgency {
            Urgency::Ordinary => self.0.try_publish(topic(), &payload),
            Urgency::Critical => self.0.at(Priority::Critical).try_publish(topic(), &payload),
            Urgency::Low => self.0.at(Priority::Low).try_publish(topic(), &payload),
        };
        match published {
            Ok(_) => true,
            // Without a consumer the bus shuts down; the harness finds out who left.
            Err(PublishError::Full { .. } | PublishError::ShuttingDown) => false,
            Err(error) => panic!("ringmain refused an event for good: {error}"),
        }
    }
}

/// The harness's sink in the hands of a worker. It goes back when it is done, or when its subscription ends.
#[derive(Debug)]
struct Lent<S> {
    sink: Option<S>,
    give_back: Sender<S>,
    /// Where the worker belongs, until its first event has put it there.
    core: Option<CoreId>,
}

impl<S: Sink> Lent<S> {
    #[inline]
    fn event<const WORDS: usize>(&mut self, payload: &[u64_le; WORDS]) {
        if let Some(core) = self.core.take() {
            pin(core);
        }
        let Some(sink) = &mut self.sink else { return };
        sink.event(payload);
        if sink.done() {
            self.give_back();
        }
    }
}

impl<S> Lent<S> {
    #[cold]
    fn give_back(&mut self) {
        if let Some(sink) = self.sink.take() {
            // If the harness has gone, it has its reasons.
            let _ = self.give_back.send(sink);
        }
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<const WORDS: usize> Inlet<WORDS> {
    fn subscribe<S: Sink>(self, sink: S) -> Handled<S> {
        let (give_back, given_back) = mpsc::channel();
        let mut lent = Lent { sink: Some(sink), give_back, core: Some(self.core) };
        let subscribe = self.bus.subscribe(topic::<WORDS>()).on_worker(self.worker);
        let subscription =
            subscribe.handle(move |payload, _| lent.event(payload)).expect("the bus runs and has this worker");
        Handled { bus: self.bus, subscription, given_back }
    }
}

/// A subscription that has a sink.
#[derive(Debug)]
struct Handled<S> {
    bus: Bus,
    subscription: Subscription,
    given_back: Receiver<S>,
}

impl<S: Sink> Handled<S> {
    fn collect(self, seat: &Seat) -> S {
        loop {
            match self.given_back.recv_timeout(LOOK) {
                Ok(sink) => return sink,
                Err(RecvTimeoutError::Timeout) if !seat.ended() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        // What has not come by the end of a flush never will. Ending the subscription drops its handler.
        let _ = self.bus.flush();
        drop(self.subscription);
        self.given_back.recv().expect("a handler that is dropped gives its sink back")
    }
}

impl<const WORDS: usize> Consumer for Inlet<WORDS> {
    fn run<S: Sink>(self, sink: S, seat: &Seat) -> S {
        let handled = self.subscribe(sink);
        seat.ready();
        handled.collect(seat)
    }

    fn run_together<S: Sink>(together: Vec<(Self, S)>, seat: &Seat) -> Vec<S> {
        let handled: Vec<_> = together.into_iter().map(|(inlet, sink)| inlet.subscribe(sink)).collect();
        seat.ready();
        handled.into_iter().map(|handled| handled.collect(seat)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::event::SMALL;
    use crate::machine::{Clock, Machine};
    use crate::sink::Meter;
    use crate::subject::Poll;

    const EVENTS: u64 = 1_000;

    /// Publishes `EVENTS`, of which the consumer waits for `goal`, with the consumer on this thread.
    fn play(stamps: Stamps, goal: u64) -> (Meter, Bus) {
        let machine = Machine::survey().expect("Linux tells the cores");
        let plan = Plan {
            seating: machine.seat(1, 1),
            subscriptions: 1,
            capacity: 4_096,
            poll: Poll::Shipped,
            wait: Wait::Parked,
            stamps,
        };
        let Ends { mut publishers, mut consumers } = open::<SMALL>(&plan, Publishers::One, 1);
        let (mut outlet, inlet) = (publishers.remove(0), consumers.remove(0));
        let bus = inlet.bus.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let seat = Seat::new(&plan, ready, Arc::clone(&ended));
        let publishing = std::thread::spawn(move || {
            is_ready.recv().expect("the consumer says when it is ready");
            for sequence in 0..EVENTS {
                let draft = Draft { publisher: 0, urgency: Urgency::Ordinary, sequence, stamp: 0 };
                assert!(outlet.try_publish(&draft), "the channel holds them all");
            }
            // SYNC(run.ended): Release. Pairs with the load in `Seat::ended`.
            ended.store(true, Ordering::Release);
        });
        let meter = inlet.run(Meter::new(&Clock::new(), 1, goal), &seat);
        publishing.join().expect("all events were accepted");
        (meter, bus)
    }

    #[test]
    fn the_sink_comes_back_undone_when_events_are_missing() {
        let (meter, _bus) = play(Stamps::Each, EVENTS + 1);
        assert!(!meter.done());
        meter.tally.verify(SMALL, &[EVENTS]).expect("what was published came");
    }

    #[test]
    fn what_is_measured_keeps_its_books_and_latencies() {
        for (stamps, least, most) in [(Stamps::Each, EVENTS, EVENTS), (Stamps::Sampled, 1, EVENTS / 2)] {
            let (meter, bus) = play(stamps, EVENTS);
            assert!(meter.done());
            let report = bus.shutdown().expect("this is no worker");
            assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
            assert_eq!(report.delivered, EVENTS);
            let latencies = bus.metrics().delivery_latency.total.count;
            assert!((least..=most).contains(&latencies), "{stamps:?}: {latencies}");
        }
    }
}
