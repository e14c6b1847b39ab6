//! A panic in any user code, at any call of it, is that code's own affair: everybody else goes on, and the books balance.
//!
//! One scenario calls every kind of user code there is. It runs once to count the calls, then once for each call of each kind,
//! which panics there.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, Context, Delivery, Encoding, EventSerializer, Filter, Handler, HandlerId, Ledger, Meta, Notice, Outcome,
    Pattern, Payload, Priority, SerializeError, Subscription, Topic,
};
use rkyv::rancor::Fallible;
use rkyv::{Archive, Archived, Place, Serialize};

use crate::support::{Log, assert_counted, assert_settled, watched};

/// Who calls user code, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Serialize,
    Resolve,
    NextOfBatch,
    DropOfBatch,
    Envelope,
    Predicate,
    Inline,
    InlineUntyped,
    HandlerHandle,
    HandlerId,
    DisplayOfError,
    OwnThread,
    AsyncCall,
    AsyncPoll,
    Observer,
    Encode,
    Decode,
    DropOfInline,
    DropOfHandler,
    DropOfOwnThread,
    DropOfPredicate,
    DropOfAsync,
    DropOfCodec,
    DropOfObserver,
}

const KINDS: [Kind; 24] = [
    Kind::Serialize,
    Kind::Resolve,
    Kind::NextOfBatch,
    Kind::DropOfBatch,
    Kind::Envelope,
    Kind::Predicate,
    Kind::Inline,
    Kind::InlineUntyped,
    Kind::HandlerHandle,
    Kind::HandlerId,
    Kind::DisplayOfError,
    Kind::OwnThread,
    Kind::AsyncCall,
    Kind::AsyncPoll,
    Kind::Observer,
    Kind::Encode,
    Kind::Decode,
    Kind::DropOfInline,
    Kind::DropOfHandler,
    Kind::DropOfOwnThread,
    Kind::DropOfPredicate,
    Kind::DropOfAsync,
    Kind::DropOfCodec,
    Kind::DropOfObserver,
];

const BLOCKS: usize = 8;

/// Counts the calls of each kind, and panics at one of them.
#[derive(Default)]
struct Fuse {
    at: Option<(Kind, u32)>,
    calls: [AtomicU32; KINDS.len()],
    blown: AtomicBool,
}

impl Fuse {
    fn call(&self, kind: Kind) {
        let nth = self.calls[kind as usize].fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == Some((kind, nth)) {
            self.blown.store(true, Ordering::SeqCst);
            panic!("a panic that the test asks for, in {kind:?} at call {nth}");
        }
    }

    fn calls(&self, kind: Kind) -> u32 {
        self.calls[kind as usize].load(Ordering::SeqCst)
    }

    fn blows(&self, kind: Kind) -> u64 {
        u64::from(self.blown.load(Ordering::SeqCst) && self.at.is_some_and(|at| at.0 == kind))
    }
}

/// What a closure captures, to see it dropped.
struct Captured(Arc<Fuse>, Kind);

impl Captured {
    fn call(&self, kind: Kind) {
        self.0.call(kind);
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.call(self.1);
        }
    }
}

/// A payload with code of its own.
struct Order(u64, Arc<Fuse>);

const ORDER: Topic<Order> = Topic::new("order");

impl Archive for Order {
    type Archived = Archived<u64>;
    type Resolver = ();

    fn resolve(&self, (): (), out: Place<Self::Archived>) {
        self.1.call(Kind::Resolve);
        self.0.resolve((), out);
    }
}

impl<S: Fallible + ?Sized> Serialize<S> for Order {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        self.1.call(Kind::Serialize);
        Ok(())
    }
}

struct Codec(Captured);

impl EventSerializer<Order> for Codec {
    fn encoding(&self) -> Encoding {
        Encoding::Text
    }

    fn serialize(&self, event: &Archived<u64>, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        self.0.call(Kind::Encode);
        out.extend_from_slice(event.to_native().to_string().as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Order, SerializeError> {
        self.0.call(Kind::Decode);
        let text = std::str::from_utf8(bytes).map_err(|error| SerializeError::Invalid(error.to_string()))?;
        let id = text.parse().map_err(|_| SerializeError::Invalid("no number".to_owned()))?;
        Ok(Order(id, Arc::default()))
    }
}

struct Custom(Captured);

impl Handler<Pattern> for Custom {
    fn handle(&mut self, _: Payload<'_>, _: &Meta<'_>, _: &Context<'_>) -> Outcome {
        self.0.call(Kind::HandlerHandle);
        Outcome::Ack
    }

    fn id(&self) -> HandlerId {
        self.0.call(Kind::HandlerId);
        HandlerId::new("custom")
    }
}

/// An error that has something to say.
struct Refusal(Arc<Fuse>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.call(Kind::DisplayOfError);
        f.write_str("no")
    }
}

/// Events to publish at once, which come out of user code.
struct Orders<'a>(std::slice::Iter<'a, Order>, &'a Fuse);

impl<'a> Iterator for Orders<'a> {
    type Item = &'a Order;

    fn next(&mut self) -> Option<&'a Order> {
        self.1.call(Kind::NextOfBatch);
        self.0.next()
    }
}

impl Drop for Orders<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.1.call(Kind::DropOfBatch);
        }
    }
}

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// The cast of the scenario. What failed to subscribe, because its own code panicked, is missing.
struct Scenario {
    fuse: Arc<Fuse>,
    simulation: Simulation,
    /// Well-behaved, one a worker.
    neighbours: Vec<(Subscription, Log<u64>)>,
    notices: Log<String>,
    subscriptions: RefCell<Vec<Option<Subscription>>>,
    running: RefCell<Option<Running>>,
    /// Numbers of accepted events.
    accepted: RefCell<Vec<u64>>,
    next: Cell<u64>,
    /// What the async subscription lost when its consumer panicked.
    closed: Cell<u64>,
    counted: RefCell<Ledger>,
}

fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

impl Scenario {
    fn new(at: Option<(Kind, u32)>) -> Self {
        let fuse = Arc::new(Fuse { at, ..Fuse::default() });
        let (notices, observing) = (Log::new(), Captured(Arc::clone(&fuse), Kind::DropOfObserver));
        let told = notices.clone();
        let builder = Bus::builder().workers(2).max_queue_size(256).batch_max(16).prefault(false);
        let builder = builder.blocks([(1_000, BLOCKS)]).payload_bytes_max(1_000).types_max(16);
        let builder = builder
            .observer(move |_: &Notice<'_>| observing.call(Kind::Observer))
            .observer(move |notice: &Notice<'_>| told.add(format!("{notice:?}")));
        let simulation = Simulation::new(builder, 1).unwrap();
        let bus = simulation.bus();
        let neighbours = [0, 1].map(|worker| {
            let log = Log::new();
            let writer = log.clone();
            let made = bus.subscribe(ORDER).on_worker(worker).handle(move |id, _| writer.add(id.to_native()));
            (made.unwrap(), log)
        });
        Self {
            neighbours: neighbours.into(),
            simulation,
            fuse,
            notices,
            subscriptions: RefCell::default(),
            running: RefCell::default(),
            accepted: RefCell::default(),
            next: Cell::default(),
            closed: Cell::default(),
            counted: RefCell::default(),
        }
    }

    fn bus(&self) -> &Bus {
        self.simulation.bus()
    }

    fn captured(&self, kind: Kind) -> Captured {
        Captured(Arc::clone(&self.fuse), kind)
    }

    /// One subscription of each kind, on either worker.
    fn subscribe(&self) {
        let bus = self.bus();
        let (inline, untyped) = (self.captured(Kind::DropOfInline), self.captured(Kind::DropOfInline));
        let (custom, own) = (self.captured(Kind::DropOfHandler), self.captured(Kind::DropOfOwnThread));
        let (predicate, pulled) = (self.captured(Kind::DropOfPredicate), self.captured(Kind::DropOfAsync));
        let fuse = Arc::clone(&self.fuse);
        let picky = Filter::all().matching(move |_| {
            predicate.call(Kind::Predicate);
            true
        });
        let made = [
            guarded(|| bus.subscribe(ORDER).on_worker(0).handle(move |_, _| inline.call(Kind::Inline)).unwrap()),
            guarded(|| {
                let wish = bus.subscribe("*").on_worker(1).named("untyped");
                wish.handle(move |_, _| untyped.call(Kind::InlineUntyped)).unwrap()
            }),
            guarded(|| bus.subscribe("order").on_worker(0).named("custom").handler(Custom(custom)).unwrap()),
            guarded(|| {
                bus.subscribe(ORDER).named("refusing").handle(move |_, _| Err::<(), _>(Refusal(fuse.clone()))).unwrap()
            }),
            guarded(|| {
                let wish = bus.subscribe(ORDER).on_worker(1).named("own");
                wish.handle_on("own", move |_, _| own.call(Kind::OwnThread)).unwrap()
            }),
            guarded(|| bus.subscribe(ORDER).named("picky").filter(picky).handle(|_, _| ()).unwrap()),
        ];
        self.subscriptions.borrow_mut().extend(made);
        let pulled = Arc::new(pulled);
        let running = bus.subscribe(ORDER).named("pulled").run(move |_: &Delivery<_>| {
            pulled.call(Kind::AsyncCall);
            let pulled = Arc::clone(&pulled);
            async move { pulled.call(Kind::AsyncPoll) }
        });
        *self.running.borrow_mut() = Some(Box::pin(running.unwrap()));
    }

    /// Publishes `count` events that are accepted together or not at all.
    fn accept(&self, count: u64, publish: impl FnOnce(&[Order]) -> bool) {
        let first = self.next.replace(self.next.get() + count);
        let orders: Vec<_> = (first..first + count).map(|id| Order(id, Arc::clone(&self.fuse))).collect();
        if guarded(|| publish(&orders)) == Some(true) {
            self.accepted.borrow_mut().extend(first..first + count);
        }
    }

    /// Each form of publishing that calls user code, then everything that can run.
    fn publish(&self) {
        let bus = self.bus();
        let mut publisher = bus.publisher().unwrap();
        self.accept(1, |orders| publisher.publish(ORDER, &orders[0]).is_ok());
        self.accept(1, |orders| publisher.try_publish(ORDER, &orders[0]).is_ok());
        self.accept(1, |orders| publisher.at(Priority::High).metadata("k", "v").publish(ORDER, &orders[0]).is_ok());
        self.accept(1, |orders| bus.publish(ORDER, &orders[0]).is_ok());
        self.accept(3, |orders| publisher.publish_batch(ORDER, Orders(orders.iter(), &self.fuse)).is_ok());
        self.accept(2, |orders| {
            let mut batch = publisher.batch(Priority::Low);
            batch.add(ORDER, &orders[0]).unwrap();
            let envelope = batch.add_with(ORDER, &orders[1], |event| {
                self.fuse.call(Kind::Envelope);
                event.metadata("k", "v")
            });
            envelope.unwrap();
            batch.publish().is_ok()
        });
        self.run();
    }

    fn run(&self) {
        self.simulation.run();
        let mut running = self.running.borrow_mut();
        let Some(mut future) = running.take() else { return };
        let polled = guarded(|| future.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())).is_pending());
        if polled == Some(true) {
            *running = Some(future);
        } else {
            guarded(|| drop(future));
            self.closed.set(self.accepted.borrow().len() as u64 - u64::from(self.fuse.calls(Kind::AsyncCall)));
        }
    }

    fn transcode(&self) {
        let bus = self.bus();
        for _ in 0..2 {
            let codec = Codec(self.captured(Kind::DropOfCodec));
            guarded(|| bus.codec(ORDER, codec).unwrap());
        }
        let mut archive = Vec::new();
        guarded(|| bus.transcode("order", Payload::plain_text("7"), Encoding::Rkyv, &mut archive).unwrap());
        guarded(|| bus.transcode("order", Payload::rkyv(&7_u64.to_le_bytes()), Encoding::Text, &mut Vec::new()));
    }

    /// What the handlers of `kind` must have made of `matched` events.
    fn book(&self, matched: u64, failed: u64) {
        let subscriptions = &mut self.counted.borrow_mut().subscriptions;
        subscriptions.matched += matched;
        subscriptions.delivered += matched - failed;
        subscriptions.failed += failed;
    }

    /// The bus is alive: whoever has not ended gets what is published now, and every lock can be taken.
    fn goes_on(&self) {
        let before = self.accepted.borrow().len();
        self.publish();
        self.publish();
        assert!(self.accepted.borrow().len() - before >= 9, "most publishes succeed, whatever panicked");
        assert!(self.neighbours.iter().all(|(_, log)| log.len() == self.accepted.borrow().len()));
        let bus = self.bus();
        assert!(bus.subscriptions().len() >= 6);
        let passing = bus.subscribe("order").handle(|_, _| ()).unwrap();
        bus.pause(passing.id()).unwrap();
        passing.unsubscribe().unwrap();
        self.rest();
    }

    /// Waits for the handler on a thread of its own, which no turn turns.
    fn rest(&self) {
        while self.bus().flush().is_err() {
            std::thread::yield_now();
        }
    }

    /// Everything has ended but the neighbours; the test's own count agrees with the books, term by term.
    fn ends(self) -> Arc<Fuse> {
        let bus = self.bus();
        self.rest();
        for subscription in self.subscriptions.take().into_iter().flatten() {
            subscription.unsubscribe().unwrap();
        }
        guarded(|| drop(self.running.take()));
        let accepted = self.accepted.borrow().clone();
        for (_, log) in &self.neighbours {
            let mut ids = log.take();
            ids.sort_unstable();
            assert_eq!(ids, accepted, "the neighbours have all that was accepted, and nothing else");
        }
        assert_settled(bus);
        let fuse = Arc::clone(&self.fuse);
        let (events, blows) = (accepted.len() as u64, |kind| fuse.blows(kind));
        self.book(2 * events, 0);
        for kind in [Kind::Inline, Kind::InlineUntyped, Kind::OwnThread] {
            assert_eq!(u64::from(fuse.calls(kind)), events, "{kind:?} has seen every event");
            self.book(events, blows(kind));
        }
        // Its id is asked for once, before it is subscribed.
        let handled = if blows(Kind::HandlerId) == 1 { 0 } else { events };
        assert_eq!(u64::from(fuse.calls(Kind::HandlerHandle)), handled);
        self.book(handled, blows(Kind::HandlerHandle));
        assert_eq!(u64::from(fuse.calls(Kind::DisplayOfError)), events);
        self.book(events, events);
        assert_eq!(u64::from(fuse.calls(Kind::Predicate)), events);
        self.book(events - blows(Kind::Predicate), 0);
        // An async handler that panics takes its subscription with it: what it had not taken is dropped.
        let (taken, lost) = (u64::from(fuse.calls(Kind::AsyncCall)), blows(Kind::AsyncCall) + blows(Kind::AsyncPoll));
        self.book(taken, lost);
        let mut counted = self.counted.take();
        counted.accepted = events;
        counted.routed = events;
        counted.claimed = events;
        counted.subscriptions.filtered = blows(Kind::Predicate);
        counted.subscriptions.dropped.closed = self.closed.get();
        counted.subscriptions.matched += self.closed.get();
        assert_eq!(assert_counted(bus, &counted).free_blocks, BLOCKS, "every block is back");
        let handlers = [Kind::Inline, Kind::InlineUntyped, Kind::HandlerHandle, Kind::OwnThread, Kind::DisplayOfError];
        let panicked: u64 = handlers.into_iter().chain([Kind::Predicate]).map(blows).sum();
        let told = self.notices.take().iter().filter(|notice| notice.starts_with("HandlerPanicked")).count() as u64;
        assert_eq!(told, panicked, "a panic of an observer does not keep the next one from hearing");
        let report = bus.shutdown().unwrap();
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
        assert_eq!(report.delivered, counted.subscriptions.delivered);
        fuse
    }
}

fn scenario(at: Option<(Kind, u32)>) -> Arc<Fuse> {
    let scenario = Scenario::new(at);
    scenario.subscribe();
    scenario.publish();
    scenario.transcode();
    scenario.goes_on();
    scenario.ends()
}

#[test]
fn a_panic_at_any_call_of_any_user_code_hurts_nobody_else() {
    let calls = scenario(None);
    for kind in KINDS {
        assert!(calls.calls(kind) > 0, "the scenario calls {kind:?}");
        for nth in 1..=calls.calls(kind) {
            watched(move || {
                let fuse = scenario(Some((kind, nth)));
                assert!(fuse.blown.load(Ordering::SeqCst), "{kind:?} is called {nth} times");
            });
        }
    }
}
