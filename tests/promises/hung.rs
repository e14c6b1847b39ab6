//! Handlers that hang: reported and counted whatever they run on, and replaced on threads that can be, within a bound.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmain::testing::Simulation;
use ringmain::{
    Bus, Context, DeliveryMode, Handler, Meta, Outcome, Pattern, Payload, RetryPolicy, Subscribe, SubscribeError,
    Subscription, SubscriptionLedger, Topic,
};

use super::support::{ArchivedTick, Log, TICK, Tick, assert_books, observed, watched};

/// The time of an attempt.
const TIMEOUT: Duration = Duration::from_secs(1);
/// As far as the clock is moved so that it is over, and what failed comes again.
const OVER: Duration = Duration::from_millis(1_010);
const MS: Duration = Duration::from_millis(1);

/// The nth event reached a handler of the nth thread.
type Call = (u32, u32);

type Handle = Box<dyn FnMut(&ArchivedTick) + Send>;

/// A bus whose handlers hang at some events until they are let go.
struct Scene {
    simulation: Simulation,
    notices: Log<String>,
    calls: Receiver<Call>,
    /// For the handlers of a subscription: what they say, and what they wait for.
    say: Sender<Call>,
    held: Arc<Mutex<Receiver<()>>>,
    let_go: Sender<()>,
    handlers: Arc<AtomicU32>,
}

impl Scene {
    fn new() -> Self {
        let (builder, notices) = observed(Bus::builder().workers(1).slow_handler_threshold(OVER * 1_000));
        let (say, calls) = channel();
        let (let_go, held) = channel();
        Self {
            simulation: Simulation::new(builder, 1).unwrap(),
            notices,
            calls,
            say,
            held: Arc::new(Mutex::new(held)),
            let_go,
            handlers: Arc::default(),
        }
    }

    fn bus(&self) -> &Bus {
        self.simulation.bus()
    }

    fn wish(&self) -> Subscribe<Topic<Tick>> {
        let retry = RetryPolicy::default().attempts_max(20).delays(MS, MS);
        self.bus().subscribe(TICK).named("work").mode(DeliveryMode::Reliable { timeout: TIMEOUT }).retry(retry)
    }

    /// Makes handlers, of which the nth hangs at the events for which `hangs`.
    fn handlers(&self, hangs: fn(Call) -> bool) -> impl Fn() -> Handle + use<> {
        let (say, held, handlers) = (self.say.clone(), Arc::clone(&self.held), Arc::clone(&self.handlers));
        let say = Mutex::new(say);
        move || {
            let nth = handlers.fetch_add(1, Ordering::Relaxed);
            let (say, held) = (say.lock().unwrap().clone(), Arc::clone(&held));
            Box::new(move |tick| {
                let call = (nth, tick.nth.to_native());
                say.send(call).unwrap();
                if hangs(call) {
                    held.lock().unwrap().recv().unwrap();
                }
            })
        }
    }

    /// Subscribes with such handlers, each on a thread of its own.
    fn on_each(&self, wish: Subscribe<Topic<Tick>>, hangs: fn(Call) -> bool) -> Subscription {
        let made = self.handlers(hangs);
        let subscription = wish.handle_on_each("work", move || {
            let mut handle = made();
            move |tick, _| handle(tick)
        });
        subscription.unwrap()
    }

    fn publish(&self, nth: u32) {
        self.bus().publish(TICK, &Tick { from: 0, nth }).unwrap();
        self.simulation.run();
    }

    fn wait(&self, time: Duration) {
        self.simulation.advance(time);
        self.simulation.run();
    }

    /// The next call that a handler tells of.
    fn call(&self) -> Call {
        self.calls.recv().unwrap()
    }

    /// Names of the notices since the last time.
    fn notices(&self) -> Vec<String> {
        let name = |notice: String| notice.split([' ', '{']).next().unwrap_or_default().to_owned();
        self.notices.take().into_iter().map(name).collect()
    }

    fn ledger(&self) -> SubscriptionLedger {
        self.bus().ledger().subscriptions
    }

    /// Turns the worker until the books say so: another thread has yet to settle an event.
    fn run_until(&self, done: impl Fn(&SubscriptionLedger) -> bool) {
        while !done(&self.ledger()) {
            self.simulation.run();
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_thread_that_hangs_is_replaced_and_its_event_comes_to_a_fresh_handler() {
    watched(|| {
        let scene = Scene::new();
        let made = scene.on_each(scene.wish(), |(handler, _)| handler == 0);
        scene.publish(1);
        assert_eq!(scene.call(), (0, 1));
        scene.wait(OVER);
        let said = scene.notices.take();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("HandlerHung") && said[0].contains("name: \"work\""), "{said:?}");
        assert!(said[0].contains("after: 1.0"), "how long it has had the event: {said:?}");
        assert_eq!((scene.ledger().timed_out, scene.ledger().retried), (1, 1));
        scene.publish(2);
        assert_eq!(scene.handlers.load(Ordering::Relaxed), 1, "it may come back yet");
        scene.wait(OVER);
        assert_eq!(scene.notices(), ["HandlerReplaced"]);
        // In the order of the queue: what came again is behind what was queued meanwhile.
        let mut handled = [scene.call(), scene.call()];
        handled.sort_unstable();
        assert_eq!(handled, [(1, 1), (1, 2)]);
        scene.run_until(|ledger| ledger.delivered == 2);
        scene.let_go.send(()).unwrap();
        scene.run_until(|ledger| ledger.late == 1);
        scene.publish(3);
        assert_eq!(scene.call(), (1, 3), "who was replaced touches no later event");
        scene.run_until(|ledger| ledger.delivered == 3);
        assert_eq!((scene.ledger().timed_out, scene.ledger().late, scene.ledger().open()), (1, 1, 0));
        assert_eq!(made.ledger().timed_out, 1);
        assert_books(scene.bus());
        assert!(scene.bus().shutdown().unwrap().is_clean(), "all threads have ended");
        assert_eq!(scene.handlers.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn one_that_comes_back_in_time_stays_and_its_word_is_too_late() {
    watched(|| {
        let scene = Scene::new();
        let _made = scene.on_each(scene.wish(), |(_, event)| event == 1);
        scene.publish(1);
        assert_eq!(scene.call(), (0, 1));
        scene.wait(OVER);
        assert_eq!(scene.notices(), ["HandlerHung"]);
        scene.let_go.send(()).unwrap();
        scene.run_until(|ledger| ledger.late == 1);
        // The event comes again, to the same handler.
        scene.let_go.send(()).unwrap();
        scene.wait(MS * 10);
        assert_eq!(scene.call(), (0, 1));
        scene.run_until(|ledger| ledger.delivered == 1);
        scene.wait(OVER);
        scene.publish(2);
        assert_eq!(scene.call(), (0, 2));
        scene.run_until(|ledger| ledger.delivered == 2);
        assert_eq!(scene.notices(), [""; 0]);
        assert_eq!(scene.handlers.load(Ordering::Relaxed), 1);
        assert_books(scene.bus());
        assert!(scene.bus().shutdown().unwrap().is_clean());
    });
}

#[test]
fn after_the_last_replacement_nothing_is_spawned_any_more_and_that_is_said() {
    for replacements_max in [0, 1, 3] {
        watched(move || {
            let scene = Scene::new();
            let _made = scene.on_each(scene.wish().replacements_max(replacements_max), |_| true);
            scene.publish(1);
            for nth in 0..=replacements_max {
                assert_eq!(scene.call(), (nth, 1));
                scene.wait(OVER);
                assert_eq!(scene.notices(), ["HandlerHung"]);
                // The next one has been called on duty and may not stand by yet: then it is waited for.
                let is_last = nth == replacements_max;
                let verdict = if is_last { "HandlerNotReplaced" } else { "HandlerReplaced" };
                let mut said = Vec::new();
                while said.is_empty() {
                    scene.wait(OVER);
                    said = scene.notices();
                }
                assert_eq!(said, [verdict]);
            }
            for _ in 0..5 {
                scene.wait(OVER);
            }
            assert_eq!(scene.notices(), [""; 0], "said once a hang");
            assert_eq!(scene.handlers.load(Ordering::Relaxed), replacements_max + 1);
            // All of them return; the last one is still on duty, and has the event once more.
            for _ in 0..replacements_max + 2 {
                scene.let_go.send(()).unwrap();
            }
            scene.run_until(|ledger| ledger.late == u64::from(replacements_max) + 1);
            assert_eq!(scene.call(), (replacements_max, 1));
            scene.run_until(|ledger| ledger.delivered == 1);
            assert_books(scene.bus());
            assert!(scene.bus().shutdown().unwrap().is_clean());
        });
    }
}

#[test]
fn a_shutdown_waits_for_who_was_replaced_no_longer_than_its_deadline() {
    watched(|| {
        let scene = Scene::new();
        let _made = scene.on_each(scene.wish(), |(handler, _)| handler == 0);
        scene.publish(1);
        assert_eq!(scene.call(), (0, 1));
        scene.wait(OVER);
        scene.wait(OVER);
        assert_eq!(scene.call(), (1, 1));
        scene.run_until(|ledger| ledger.delivered == 1);
        let report = scene.bus().shutdown_deadline(MS * 20).unwrap();
        assert!(!report.workers_left, "one thread has not returned: {report:?}");
        assert_eq!((report.left_in_mailboxes, report.ledger_balanced), (0, true), "{report:?}");
        scene.let_go.send(()).unwrap();
        assert_books(scene.bus());
    });
}

#[test]
fn unsubscribing_lets_go_of_the_threads_that_stand_by_and_no_call_begins_after_it() {
    watched(|| {
        let scene = Scene::new();
        let made = scene.on_each(scene.wish(), |(handler, _)| handler == 0);
        scene.publish(1);
        assert_eq!(scene.call(), (0, 1));
        scene.wait(OVER);
        scene.wait(OVER);
        assert_eq!(scene.call(), (1, 1));
        scene.run_until(|ledger| ledger.delivered == 1);
        made.unsubscribe().unwrap();
        scene.publish(2);
        scene.let_go.send(()).unwrap();
        assert!(scene.bus().shutdown().unwrap().is_clean(), "all threads have ended, the one that stood by among them");
        assert!(scene.calls.try_recv().is_err());
        assert_books(scene.bus());
    });
}

#[test]
fn a_thread_that_cannot_be_replaced_is_reported_and_counted_and_goes_on_when_it_returns() {
    watched(|| {
        let scene = Scene::new();
        let mut handle = scene.handlers(|(_, event)| event == 1)();
        let _made = scene.wish().handle_on("work", move |tick, _| handle(tick)).unwrap();
        scene.publish(1);
        assert_eq!(scene.call(), (0, 1));
        for _ in 0..4 {
            scene.wait(OVER);
        }
        assert_eq!(scene.notices(), ["HandlerHung"]);
        assert_eq!((scene.ledger().timed_out, scene.ledger().retried), (1, 1));
        scene.let_go.send(()).unwrap();
        scene.let_go.send(()).unwrap();
        assert_eq!(scene.call(), (0, 1));
        scene.run_until(|ledger| ledger.delivered == 1);
        assert_eq!(scene.ledger().late, 1);
        assert_books(scene.bus());
        assert!(scene.bus().shutdown().unwrap().is_clean());
    });
}

#[test]
fn an_inline_handler_that_takes_longer_than_an_attempt_may_is_reported_and_counted_and_its_word_counts() {
    let builder = Bus::builder().workers(1).pin(false).slow_handler_threshold(Duration::from_secs(600));
    let (builder, notices) = observed(builder);
    let bus = builder.build().unwrap();
    let mode = DeliveryMode::Reliable { timeout: MS };
    let handled = |payload: Payload<'_>, _: &Meta<'_>| {
        let begun = Instant::now();
        while payload.text() == Some("long") && begun.elapsed() < MS * 2 {
            std::thread::yield_now();
        }
    };
    let long = bus.subscribe("work").mode(mode).handle(handled).unwrap();
    bus.publish("work", Payload::plain_text("long")).unwrap();
    bus.flush().unwrap();
    let ledger = long.ledger();
    assert_eq!((ledger.delivered, ledger.timed_out, ledger.retried, ledger.late), (1, 1, 0, 0));
    let said = notices.take();
    assert!(said.len() == 1 && said[0].starts_with("HandlerHung"), "{said:?}");
    assert_books(&bus);
    assert!(bus.shutdown().unwrap().is_clean());
}

#[test]
fn a_mailbox_is_no_handler_its_timeouts_are_counted_and_not_reported() {
    let scene = Scene::new();
    let mut inbox = scene.wish().mailbox().unwrap();
    scene.publish(1);
    let held = inbox.try_recv().unwrap();
    scene.wait(OVER);
    assert_eq!((scene.ledger().timed_out, scene.notices().len()), (1, 0));
    drop(held);
    scene.wait(OVER);
    inbox.try_recv().unwrap().ack();
    assert_books(scene.bus());
}

struct Echo(Log<String>);

impl Handler<Pattern> for Echo {
    fn handle(&mut self, payload: Payload<'_>, _: &Meta<'_>, _: &Context<'_>) -> Outcome {
        self.0.add(payload.text().unwrap_or_default().to_owned());
        Outcome::Ack
    }
}

#[test]
fn each_form_handles_and_what_cannot_be_replaced_is_refused() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let log = Log::new();
        let wish = || bus.subscribe("echo").mode(DeliveryMode::reliable());
        let (first, second) = (log.clone(), log.clone());
        let handler = wish().handler_on_each("echo", move || Echo(first.clone())).unwrap();
        assert!(handler.record().handler_id.as_str().ends_with("Echo"));
        let closure = wish().handle_on_each("echo", move || {
            let log = second.clone();
            move |payload: Payload<'_>, _: &Meta<'_>| log.add(payload.text().unwrap_or_default().to_owned())
        });
        let closure = closure.unwrap();
        bus.publish("echo", Payload::plain_text("hello")).unwrap();
        bus.flush().unwrap();
        assert_eq!(log.take(), ["hello", "hello"]);
        drop((handler, closure));

        let ignore = || |_: Payload<'_>, _: &Meta<'_>| ();
        let untimed = bus.subscribe("echo").handle_on_each("echo", ignore).unwrap_err();
        assert_eq!(untimed, SubscribeError::Untimed);
        let many = wish().replacements_max(65).handle_on_each("echo", ignore).unwrap_err();
        assert_eq!(many, SubscribeError::ReplacementsMax { replacements_max: 65, max: 64 });
        assert!(matches!(wish().handle_on_each("a\0b", ignore), Err(SubscribeError::Thread(_))));
        assert!(bus.subscriptions().is_empty());
        assert!(bus.shutdown().unwrap().is_clean());
        assert_books(&bus);
    });
}
