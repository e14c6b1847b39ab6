//! The time that a handler may have an event: an async one is cancelled, a synchronous one reported and counted; and whom a worker is
//! calling that does not come back is told by publishers.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, BreakerState, BuildFault, Bus, DeliveryMode, Meta, Outcome, OverLimit, Payload, PublishError, Rate,
    RetryPolicy, RoutingRule, Subscribe, SubscribeError, Subscription, SubscriptionLedger,
};

use super::support::{Log, assert_books, assert_settled, observed, watched};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(1);
const OVER: Duration = Duration::from_millis(1_010);
const HOUR: Duration = Duration::from_secs(3_600);
const MODES: [DeliveryMode; 2] = [DeliveryMode::BestEffort, DeliveryMode::LatestOnly];

type Wish = Subscribe<ringmain::Pattern>;

struct Scene {
    simulation: Simulation,
    notices: Log<String>,
}

impl Scene {
    fn new() -> Self {
        let (builder, notices) = observed(Bus::builder().workers(1).slow_handler_threshold(HOUR));
        Self { simulation: Simulation::new(builder, 1).unwrap(), notices }
    }

    fn bus(&self) -> &Bus {
        self.simulation.bus()
    }

    fn wish(&self, mode: DeliveryMode) -> Wish {
        let retry = RetryPolicy::default().delays(MS, MS);
        self.bus().subscribe("work").mode(mode).retry(retry).handler_timeout(LIMIT)
    }

    fn publish(&self, text: &str) {
        self.bus().publish("work", Payload::plain_text(text)).unwrap();
        self.simulation.run();
    }

    fn wait(&self, time: Duration) {
        self.simulation.advance(time);
        self.simulation.run();
    }

    fn ledger(&self) -> SubscriptionLedger {
        self.bus().ledger().subscriptions
    }

    fn run_until(&self, done: impl Fn(&SubscriptionLedger) -> bool) {
        while !done(&self.ledger()) {
            self.simulation.run();
            std::thread::yield_now();
        }
    }

    /// Names of the notices since the last time.
    fn said(&self) -> Vec<String> {
        names(self.notices.take())
    }
}

fn names(notices: Vec<String>) -> Vec<String> {
    notices.iter().map(|notice| notice.split([' ', '{']).next().unwrap_or_default().to_owned()).collect()
}

/// A handler that tells of each call, and returns when it is let go.
struct Held {
    begun: Receiver<()>,
    let_go: Sender<()>,
}

fn held() -> (Held, impl FnMut(Payload<'_>, &Meta<'_>) + Send + 'static) {
    let (say, begun) = channel();
    let (let_go, wait) = channel();
    (Held { begun, let_go }, move |_: Payload<'_>, _: &Meta<'_>| {
        say.send(()).unwrap();
        wait.recv().unwrap();
    })
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A `run` future that a test polls.
struct Running {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

impl Running {
    fn new(future: impl Future<Output = ()> + 'static) -> Self {
        Self { future: Box::pin(future), woken: Arc::default() }
    }

    fn poll(&mut self) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> u32 {
        self.woken.0.load(Ordering::Relaxed)
    }
}

/// Counts how many of it are gone.
struct Gone(Arc<AtomicU32>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_handler_on_a_thread_that_takes_too_long_is_told_of_and_counted_once_a_call_and_its_word_counts() {
    for mode in MODES {
        watched(move || {
            let scene = Scene::new();
            let (held, handle) = held();
            let _made = scene.wish(mode).named("slow").handle_on("work", handle).unwrap();
            for nth in 1..=2 {
                scene.publish("one");
                held.begun.recv().unwrap();
                scene.wait(LIMIT - MS);
                assert_eq!((scene.said().len(), scene.ledger().timed_out), (0, nth - 1), "{mode:?}: it has time left");
                scene.wait(MS * 2);
                let said = scene.notices.take();
                assert!(said.len() == 1 && said[0].starts_with("HandlerHung"), "{mode:?}: {said:?}");
                assert!(said[0].contains("name: \"slow\"") && said[0].contains("after: 1.0"), "{said:?}");
                for _ in 0..3 {
                    scene.wait(OVER);
                }
                let ledger = scene.ledger();
                assert_eq!((scene.said().len(), ledger.timed_out, ledger.in_flight), (0, nth, 1), "{mode:?}");
                assert_books(scene.bus());
                held.let_go.send(()).unwrap();
                scene.run_until(|ledger| ledger.delivered == nth);
            }
            assert_eq!((scene.ledger().failed, scene.ledger().late), (0, 0));
            // One that returns in time is not told of, however many calls came before it.
            scene.publish("in time");
            held.begun.recv().unwrap();
            held.let_go.send(()).unwrap();
            scene.run_until(|ledger| ledger.delivered == 3);
            scene.wait(OVER * 3);
            assert_eq!((scene.said().len(), scene.ledger().timed_out), (0, 2));
            assert_books(scene.bus());
            assert!(scene.bus().shutdown().unwrap().is_clean());
        });
    }
}

#[test]
fn an_async_handler_that_takes_too_long_is_cancelled_and_its_event_has_failed() {
    for mode in MODES {
        let scene = Scene::new();
        let (gone, handled) = (Arc::new(AtomicU32::new(0)), Log::new());
        let (drops, log) = (Arc::clone(&gone), handled.clone());
        let running = scene.wish(mode).named("slow").capacity(1).run(async move |delivery| {
            let _gone = Gone(Arc::clone(&drops));
            if delivery.payload().text() == Some("hangs") {
                std::future::pending::<()>().await;
            }
            log.add(delivery.payload().text().unwrap_or_default().to_owned());
        });
        let mut running = Running::new(running.unwrap());
        scene.publish("hangs");
        assert!(running.poll().is_pending());
        let woken = running.woken();
        scene.wait(LIMIT - MS);
        assert!(running.poll().is_pending());
        assert_eq!((gone.load(Ordering::Relaxed), scene.ledger().in_flight), (0, 1), "{mode:?}: it has time left");
        scene.wait(MS * 2);
        assert!(running.woken() > woken, "{mode:?}: its task is woken, to drop it");
        assert_eq!(scene.ledger().timed_out, 1);
        assert!(running.poll().is_pending());
        assert_eq!(gone.load(Ordering::Relaxed), 1, "{mode:?}: the handler's future is dropped");
        let ledger = scene.ledger();
        assert_eq!((ledger.failed, ledger.timed_out, ledger.delivered, ledger.open()), (1, 1, 0, 0), "{mode:?}");
        assert_eq!(scene.said(), ["HandlerHung"], "{mode:?}: once");
        scene.publish("short");
        assert!(running.poll().is_pending());
        assert_eq!(handled.take(), ["short"], "{mode:?}: its cell is free, and the handler goes on");
        scene.wait(OVER * 2);
        assert_eq!((scene.ledger().timed_out, scene.said().len()), (1, 0));
        assert_books(scene.bus());
        drop(running);
    }
}

#[test]
fn an_async_handler_that_blocks_beyond_its_time_has_failed_although_it_comes_to_an_end() {
    watched(|| {
        let scene = Scene::new();
        let (held, handle) = held();
        let handle = Arc::new(Mutex::new(handle));
        let running = scene.wish(DeliveryMode::BestEffort).run(async move |delivery| {
            handle.lock().unwrap()(delivery.payload(), &delivery.meta());
        });
        let running = running.unwrap();
        scene.publish("blocks");
        let polling = std::thread::spawn(move || assert!(Running::new(running).poll().is_pending()));
        held.begun.recv().unwrap();
        scene.wait(OVER);
        assert_eq!((scene.ledger().timed_out, scene.said()), (1, vec!["HandlerHung".to_owned()]));
        held.let_go.send(()).unwrap();
        polling.join().unwrap();
        let ledger = scene.ledger();
        assert_eq!((ledger.timed_out, ledger.failed, ledger.delivered, ledger.open()), (1, 1, 0, 0));
        assert_books(scene.bus());
    });
}

#[test]
fn who_extends_the_time_of_an_async_call_has_it() {
    let scene = Scene::new();
    let log = Log::new();
    let extended = log.clone();
    let running = scene.wish(DeliveryMode::BestEffort).run(async move |delivery| {
        extended.add(delivery.extend(LIMIT * 3));
        std::future::pending::<()>().await;
    });
    let mut running = Running::new(running.unwrap());
    scene.publish("long");
    assert!(running.poll().is_pending());
    scene.wait(LIMIT * 2);
    assert!(running.poll().is_pending());
    assert_eq!((log.take(), scene.ledger().timed_out, scene.ledger().in_flight), (vec![true], 0, 1));
    scene.wait(OVER);
    assert!(running.poll().is_pending());
    assert_eq!((scene.ledger().timed_out, scene.ledger().failed), (1, 1));
    assert_books(scene.bus());
}

#[test]
fn an_async_call_whose_time_is_shortened_is_over_sooner() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::Reliable { timeout: LIMIT }] {
        let scene = Scene::new();
        let running = scene.wish(mode).run(async |delivery| {
            assert!(delivery.extend(MS * 10));
            std::future::pending::<()>().await;
        });
        let mut running = Running::new(running.unwrap());
        scene.publish("short");
        assert!(running.poll().is_pending());
        scene.wait(MS * 11);
        assert_eq!((scene.ledger().timed_out, scene.said()), (1, vec!["HandlerHung".to_owned()]), "{mode:?}");
        assert_books(scene.bus());
    }
}

#[test]
fn the_call_of_a_future_that_is_dropped_is_not_told_of_later() {
    let scene = Scene::new();
    let running = scene.wish(DeliveryMode::BestEffort).run(async |_| std::future::pending::<()>().await);
    let mut running = Running::new(running.unwrap());
    scene.publish("long");
    assert!(running.poll().is_pending());
    drop(running);
    scene.wait(OVER * 2);
    assert_eq!((scene.said(), scene.ledger().timed_out), (vec!["ConsumerGone".to_owned()], 0));
    assert_eq!(scene.ledger().delivered, 1, "as what is dropped without a word");
    assert_books(scene.bus());
}

#[test]
fn who_drops_a_future_whose_time_is_over_drops_an_event_that_has_failed() {
    let scene = Scene::new();
    let running = scene.wish(DeliveryMode::BestEffort).run(async |_| std::future::pending::<()>().await);
    let mut running = Running::new(running.unwrap());
    scene.publish("long");
    assert!(running.poll().is_pending());
    scene.wait(OVER);
    drop(running);
    let ledger = scene.ledger();
    assert_eq!((ledger.timed_out, ledger.failed, ledger.delivered), (1, 1, 0));
    assert_books(scene.bus());
}

#[test]
fn under_reliable_delivery_the_shorter_of_both_times_holds() {
    for (timeout, limit) in [(LIMIT, HOUR), (HOUR, LIMIT)] {
        let mode = DeliveryMode::Reliable { timeout };
        watched(move || {
            let scene = Scene::new();
            let (held, handle) = held();
            let _made = scene.wish(mode).handler_timeout(limit).handle_on("work", handle).unwrap();
            scene.publish("one");
            held.begun.recv().unwrap();
            scene.wait(OVER);
            assert_eq!((scene.said(), scene.ledger().timed_out), (vec!["HandlerHung".to_owned()], 1), "{timeout:?}");
            held.let_go.send(()).unwrap();
            held.let_go.send(()).unwrap();
            scene.run_until(|ledger| ledger.late == 1);
            scene.wait(MS * 2);
            scene.run_until(|ledger| ledger.delivered == 1);
            assert_eq!(scene.ledger().retried, 1);
            assert_books(scene.bus());
        });
        let scene = Scene::new();
        let running = scene.wish(mode).handler_timeout(limit).run(async |delivery| {
            if delivery.meta().attempt() == 1 {
                std::future::pending::<()>().await;
            }
        });
        let mut running = Running::new(running.unwrap());
        scene.publish("one");
        assert!(running.poll().is_pending());
        scene.wait(OVER);
        assert!(running.poll().is_pending());
        assert_eq!((scene.said(), scene.ledger().timed_out), (vec!["HandlerHung".to_owned()], 1), "{timeout:?}");
        scene.wait(MS * 2);
        assert!(running.poll().is_pending());
        let ledger = scene.ledger();
        assert_eq!((ledger.delivered, ledger.failed, ledger.retried), (1, 0, 1), "{timeout:?}");
        assert_books(scene.bus());
    }
}

#[test]
fn who_pulls_from_a_mailbox_has_no_handler_and_no_such_time() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::LatestOnly, DeliveryMode::Reliable { timeout: LIMIT * 5 }] {
        let scene = Scene::new();
        let mut inbox = scene.wish(mode).mailbox().unwrap();
        scene.publish("one");
        let delivery = inbox.try_recv().unwrap();
        scene.wait(OVER * 2);
        assert!(delivery.is_current() && delivery.extend(LIMIT), "{mode:?}");
        assert_eq!((scene.said().len(), scene.ledger().timed_out), (0, 0), "{mode:?}");
        delivery.ack();
        assert_eq!(scene.ledger().delivered, 1);
        assert_books(scene.bus());
    }
}

#[test]
fn a_call_that_takes_too_long_is_a_failure_to_the_breaker() {
    watched(|| {
        let scene = Scene::new();
        let (held, handle) = held();
        let breaker = BreakerPolicy::default().failures_max(1);
        let wish = scene.wish(DeliveryMode::Reliable { timeout: HOUR }).breaker(breaker);
        let made = wish.handle_on("work", handle).unwrap();
        scene.publish("one");
        held.begun.recv().unwrap();
        assert_eq!(made.record().breaker.map(|breaker| breaker.state), Some(BreakerState::Closed));
        scene.wait(OVER);
        assert_eq!(made.record().breaker.map(|breaker| breaker.state), Some(BreakerState::Open));
        held.let_go.send(()).unwrap();
        scene.run_until(|ledger| ledger.late == 1);
        assert_books(scene.bus());
    });
}

#[test]
fn a_time_that_cannot_be_kept_is_refused() {
    let scene = Scene::new();
    let max = HOUR * 24 * 10;
    let refused =
        |timeout| scene.wish(DeliveryMode::BestEffort).handler_timeout(timeout).handle(|_, _| ()).unwrap_err();
    for timeout in [Duration::ZERO, MS - Duration::from_nanos(1), max + Duration::from_nanos(1), Duration::MAX] {
        let error = refused(timeout);
        assert_eq!(error, SubscribeError::HandlerTimeout { timeout, min: MS, max });
        assert_eq!(error.to_string(), format!("a handler_timeout of {timeout:?}; it is from 1ms to 864000s"));
    }
    for timeout in [MS, max] {
        drop(scene.wish(DeliveryMode::BestEffort).handler_timeout(timeout).handle(|_, _| ()).unwrap());
    }
    for timeout in [Duration::ZERO, max + MS] {
        let error = Bus::builder().handler_timeout(timeout).build().unwrap_err();
        let [BuildFault::OutOfRange { setting, min: 1, max: 864_000_000, .. }] = error.faults() else {
            panic!("{error}")
        };
        assert_eq!(*setting, "handler_timeout in ms");
    }
    assert_books(scene.bus());
}

#[test]
fn a_bus_gives_its_time_to_subscriptions_that_have_none_of_their_own() {
    watched(|| {
        let (builder, notices) = observed(Bus::builder().workers(1).handler_timeout(LIMIT));
        let simulation = Simulation::new(builder, 1).unwrap();
        let wish = || simulation.bus().subscribe("work");
        let ((first, handle_first), (second, handle_second)) = (held(), held());
        let of_bus = wish().named("of the bus").handle_on("a", handle_first).unwrap();
        let own = wish().named("own").handler_timeout(HOUR).handle_on("b", handle_second).unwrap();
        simulation.bus().publish("work", Payload::raw(b"")).unwrap();
        simulation.run();
        first.begun.recv().unwrap();
        second.begun.recv().unwrap();
        simulation.advance(OVER);
        simulation.run();
        let said = notices.take();
        assert!(said.len() == 1 && said[0].contains("name: \"of the bus\""), "{said:?}");
        first.let_go.send(()).unwrap();
        second.let_go.send(()).unwrap();
        drop((of_bus, own));
        assert_settled(simulation.bus());
    });
}

/// The ways in which a worker comes to an inline handler.
const INLINE: [&str; 5] = ["alone", "beside another", "reliable", "reliable, ordered", "at a rate"];

fn subscribe_inline(
    bus: &Bus,
    form: &str,
    handle: impl FnMut(Payload<'_>, &Meta<'_>) -> Outcome + Send + 'static,
) -> Vec<Subscription> {
    let wish = || bus.subscribe("work").on_worker(0).handler_timeout(MS * 20);
    let mut made = Vec::new();
    if form == "beside another" {
        made.push(wish().named("another").handle(|_, _| ()).unwrap());
    }
    let wish = wish().named("hangs");
    let wish = match form {
        "alone" | "beside another" => wish,
        "reliable" => wish.mode(DeliveryMode::reliable()),
        "reliable, ordered" => wish.mode(DeliveryMode::reliable()).ordered_by(ringmain::Key::Topic),
        _ => wish.rate_limit(Rate::per_second(1_000_000.0).burst(1_000), OverLimit::Queue),
    };
    made.push(wish.handle(handle).unwrap());
    made
}

#[test]
fn an_inline_handler_that_does_not_return_is_told_of_by_whom_its_worker_refuses_and_counted_when_it_does() {
    for form in INLINE {
        watched(move || {
            let builder = Bus::builder().workers(1).pin(false).max_queue_size(4).slow_handler_threshold(HOUR);
            let (builder, notices) = observed(builder);
            let bus = builder.build().unwrap();
            let (say, begun) = channel();
            let (let_go, wait) = channel();
            let made = subscribe_inline(&bus, form, move |payload, _| {
                if payload.text() == Some("hangs") {
                    say.send(()).unwrap();
                    wait.recv().unwrap();
                }
                Outcome::Ack
            });
            let mut publisher = bus.publisher().unwrap();
            publisher.publish("work", Payload::plain_text("hangs")).unwrap();
            begun.recv().unwrap();
            let mut said = Vec::new();
            let mut accepted = 1;
            let mut publish = || match publisher.try_publish("work", Payload::plain_text("more")) {
                Ok(_) => accepted += 1,
                Err(PublishError::Full { gated_by, .. }) => assert_eq!(gated_by, Some(0), "{form}"),
                Err(error) => panic!("{form}: {error}"),
            };
            while said.is_empty() {
                publish();
                said = notices.take();
            }
            assert!(said.len() == 1 && said[0].starts_with("WorkerHung { worker: 0"), "{form}: {said:?}");
            assert!(said[0].contains("name: \"hangs\""), "{form}: it is named: {said:?}");
            for _ in 0..100 {
                publish();
            }
            assert_eq!((notices.len(), bus.ledger().subscriptions.timed_out), (0, 0), "{form}: once a call");
            let_go.send(()).unwrap();
            bus.flush().unwrap();
            let ledger = made.last().unwrap().ledger();
            assert_eq!((ledger.timed_out, ledger.delivered, ledger.failed), (1, accepted, 0), "{form}");
            assert_eq!(names(notices.take()), ["HandlerHung"], "{form}");
            assert_books(&bus);
            drop(made);
            assert!(bus.shutdown().unwrap().is_clean());
        });
    }
}

#[test]
fn the_books_are_exact_while_an_inline_handler_has_an_event() {
    for form in INLINE {
        for outcome in [Outcome::Ack, Outcome::Failed("no".to_owned()), Outcome::Reject("no".to_owned())] {
            let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
            let (bus, looks) = (simulation.bus().clone(), Arc::new(Mutex::new(Vec::new())));
            let (log, watched, word) = (Arc::clone(&looks), bus.clone(), outcome.clone());
            let made = subscribe_inline(&bus, form, move |payload, _| {
                log.lock().unwrap().push(watched.ledger());
                match payload.text() {
                    Some("panics") => panic!("deliberate"),
                    _ => word.clone(),
                }
            });
            for text in ["one", "two", "panics", "three"] {
                bus.publish("work", Payload::plain_text(text)).unwrap();
            }
            // Those that try again come from their cells, and those behind them after them.
            for _ in 0..20 {
                simulation.run();
                simulation.advance(LIMIT);
            }
            for look in looks.lock().unwrap().iter() {
                assert!(look.is_balanced(), "{form}, {outcome:?}: {look:?}");
            }
            assert!(looks.lock().unwrap().len() >= 4);
            assert_books(&bus);
            drop(made);
        }
    }
}

#[test]
fn what_one_handler_takes_is_not_laid_to_the_next_one() {
    // An instance comes behind the quick one, and before it at the next event.
    for form in ["reliable", "reliable, ordered", "at a rate", "an instance"] {
        let (builder, notices) = observed(Bus::builder().workers(1).slow_handler_threshold(HOUR));
        let simulation = Simulation::new(builder, 1).unwrap();
        let (bus, clock) = (simulation.bus(), simulation.clock());
        let slow = move |_: Payload<'_>, _: &Meta<'_>| {
            clock.advance(LIMIT);
            Outcome::Ack
        };
        let service = bus.service("east").open().unwrap();
        let made = match form {
            "an instance" => {
                bus.rules().add(RoutingRule::new("to it").types(["work"]).to("east")).unwrap();
                vec![service.instance("hangs").handler_timeout(MS * 20).handle(slow).unwrap()]
            }
            _ => subscribe_inline(bus, form, slow),
        };
        let quick = bus.subscribe("work").named("quick").handler_timeout(MS).handle(|_, _| ()).unwrap();
        for _ in 0..3 {
            bus.publish("work", Payload::raw(b"")).unwrap();
        }
        simulation.run();
        assert_eq!((quick.ledger().delivered, quick.ledger().timed_out), (3, 0), "{form}");
        assert_eq!((made[0].ledger().delivered, made[0].ledger().timed_out), (3, 3), "{form}");
        let said = notices.take();
        assert!(said.len() == 3 && said.iter().all(|notice| notice.contains("hangs")), "{form}: {said:?}");
        assert_books(bus);
    }
}
