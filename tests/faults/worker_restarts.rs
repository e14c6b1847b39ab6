//! A worker that panics between two steps of its own goes on where it was: nothing is lost, nothing comes twice, and the books
//! hold. One that panics too often is said to have failed, and nobody waits for it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use ringmain::internals::worker::fault::{self, Boundary};
use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusState, DeliveryMode, FlushError, FullPolicy, Health, IdleStrategy, Ledger, Notice, Payload, PublishError,
    RetryPolicy, RoutingRule, SubscribeError,
};

use crate::support::{Log, assert_books, watched};

const BOUNDARIES: [Boundary; 11] = [
    Boundary::Begin,
    Boundary::Timers,
    Boundary::Attended,
    Boundary::Serve,
    Boundary::Asked,
    Boundary::Given,
    Boundary::Served,
    Boundary::Whole,
    Boundary::Passed,
    Boundary::Unreleased,
    Boundary::Released,
];

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whose handler saw which event in which attempt.
type Seen = (&'static str, u64, u8);

/// What everybody saw, the books, and how often a worker has gone on.
#[derive(Debug, PartialEq)]
struct Story {
    seen: Vec<Seen>,
    ledger: Ledger,
}

fn count_visits(of: Boundary, nth: u32) -> impl FnMut(Boundary) -> bool {
    let mut left = nth;
    move |at| {
        left = left.saturating_sub(u32::from(at == of));
        at == of && left == 0 && std::mem::replace(&mut left, u32::MAX) == 0
    }
}

/// All ways an event can take, with a worker that is struck at visit `nth`, from 1, of a boundary. Whether it was.
fn story(strike: Option<(Boundary, u32)>) -> (Story, bool) {
    let (log, struck) = (Log::<Seen>::new(), Arc::new(AtomicU32::new(0)));
    let told = Arc::clone(&struck);
    let builder = Bus::builder().workers(1).turn_max(3).max_queue_size(64).types_max(8);
    let builder = builder.observer(move |notice: &Notice<'_>| {
        if matches!(notice, Notice::WorkerRestarted { worker: 0, nth: 1, max: 10 }) {
            // Relaxed: all happens on one thread.
            told.fetch_add(1, Ordering::Relaxed);
        }
    });
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let number = |payload: Payload<'_>| payload.text().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let listen = |name: &'static str| {
        let log = log.clone();
        move |payload: Payload<'_>, meta: &ringmain::Meta<'_>| log.add((name, number(payload), meta.attempt()))
    };
    let _plain = bus.subscribe("alone").handle(listen("plain")).unwrap();
    let _first = bus.subscribe("shared").handle(listen("first")).unwrap();
    let _second = bus.subscribe("shared").handle(listen("second")).unwrap();
    let patient = RetryPolicy::default().delays(Duration::from_secs(1), Duration::from_secs(1));
    let fails_once = listen("reliable");
    let _reliable =
        bus.subscribe("shared").mode(DeliveryMode::reliable()).retry(patient).handle(move |payload, meta| {
            fails_once(payload, meta);
            if meta.attempt() == 1 { Err("not yet") } else { Ok(()) }
        });
    let mut inbox = bus.subscribe("shared").mailbox().unwrap();
    let services = ["east", "west"].map(|name| {
        let service = bus.service(name).open().unwrap();
        let instance = service.instance("only").handle(listen(name)).unwrap();
        (service, instance)
    });
    bus.rules().add(RoutingRule::new("both").types(["shared"]).to("east").to("west")).unwrap();
    let mut publisher = bus.publisher().unwrap();
    if let Some((boundary, nth)) = strike {
        fault::arm(count_visits(boundary, nth));
    }
    for number in 0..8_u64 {
        let text = number.to_string();
        let topic = if number % 2 == 0 { "shared" } else { "alone" };
        let later = Duration::from_secs(number / 6);
        publisher.event().not_before(later).publish(topic, Payload::plain_text(&text)).unwrap();
    }
    for _ in 0..8 {
        simulation.run();
        while let Ok(delivery) = inbox.try_recv() {
            log.add(("mailbox", number(delivery.payload()), 1));
        }
        simulation.advance(Duration::from_secs(1));
    }
    fault::disarm();
    assert_books(bus);
    let ledger = bus.ledger();
    assert!(ledger.in_lanes + ledger.scheduled + ledger.subscriptions.open() == 0, "{ledger:?}");
    // Relaxed: as above.
    let struck = struck.load(Ordering::Relaxed);
    assert_eq!(bus.metrics().worker_restarts, u64::from(struck));
    assert!(struck <= 1 && bus.metrics().workers_failed == 0 && bus.state() == BusState::Running);
    drop(services);
    let mut seen = log.take();
    // Two turns may bring them in another order than one.
    seen.sort_unstable();
    (Story { seen, ledger }, struck == 1)
}

#[test]
fn a_worker_that_panics_between_any_two_steps_goes_on_and_nothing_is_lost_or_comes_twice() {
    let (usual, struck) = story(None);
    assert!(!struck);
    // 4 shared events: 2 inline, 2 attempts, 1 mailbox, 2 services; 4 for one handler.
    assert_eq!(usual.seen.len(), 4 * 7 + 4, "{:?}", usual.seen);
    for boundary in BOUNDARIES {
        for nth in 1.. {
            let (story, struck) = story(Some((boundary, nth)));
            if !struck {
                assert!(nth > 3, "there are several visits of {boundary:?}");
                break;
            }
            assert_eq!(story, usual, "struck at {boundary:?}, visit {nth}");
        }
    }
}

#[test]
fn a_panic_while_a_worker_goes_on_is_one_more_and_it_goes_on_again() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    let handlers = [0, 1].map(|nth| {
        let log = log.clone();
        bus.subscribe("a").handle(move |_, meta| log.add((nth, meta.sequence()))).unwrap()
    });
    bus.publish("a", Payload::raw(b"")).unwrap();
    let mut left = 4;
    fault::arm(move |at| {
        let strikes = left > 0 && (at == Boundary::Again || at == Boundary::Given && left == 4);
        left -= i32::from(strikes);
        strikes
    });
    simulation.run();
    fault::disarm();
    assert_eq!(log.take(), [(0, 0), (1, 0)]);
    assert_eq!(bus.metrics().worker_restarts, 4);
    assert_books(bus);
    drop(handlers);
}

#[test]
fn an_event_that_is_matched_by_name_counts_once_however_often_its_worker_goes_on() {
    let simulation = Simulation::new(Bus::builder().workers(1).types_max(1), 1).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    // Events for one handler alone are served in another way.
    let handlers = [0, 1].map(|nth| {
        let log = log.clone();
        bus.subscribe("*").handle(move |_, meta| log.add((meta.sequence(), nth))).unwrap()
    });
    bus.publish("known", Payload::raw(b"")).unwrap();
    bus.publish("beyond", Payload::raw(b"")).unwrap();
    fault::arm(count_visits(Boundary::Given, 2));
    simulation.run();
    fault::disarm();
    let metrics = bus.metrics();
    assert_eq!(log.take(), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!((metrics.worker_restarts, metrics.matched_by_name), (1, 1));
    assert_books(bus);
    drop(handlers);
}

#[test]
fn a_worker_on_its_own_thread_goes_on_and_keeps_the_order_of_its_events() {
    watched(|| {
        for boundary in [Boundary::Passed, Boundary::Unreleased, Boundary::Asleep, Boundary::Begin] {
            // One that looks again for a while may be given the next event before it sleeps, for ever.
            let builder = Bus::builder().workers(1).idle(IdleStrategy::Park);
            let bus = builder.max_queue_size(16).deadline(Duration::from_secs(60)).build().unwrap();
            let (said, heard) = channel();
            let handler = bus.subscribe("a").handle(move |_, meta| {
                if meta.sequence() == 3 {
                    // On the worker's own thread, which is the one to be struck.
                    let mut left = 5;
                    fault::arm(move |at| {
                        left -= i32::from(at == boundary && left > 0);
                        at == boundary && left % 2 == 1
                    });
                }
                said.send(meta.sequence()).unwrap();
            });
            let mut publisher = bus.publisher().unwrap();
            let mut published = 0;
            // One at a time at last, until it has slept in between.
            while published < 200 || bus.metrics().worker_restarts == 0 {
                publisher.publish("a", Payload::raw(b"")).unwrap();
                published += 1;
                if published > 150 {
                    assert_eq!(bus.flush(), Ok(()));
                }
            }
            bus.flush().unwrap();
            assert!((0..published).eq(heard.try_iter()), "struck at {boundary:?}");
            let restarts = bus.metrics().worker_restarts;
            assert!((1..=3).contains(&restarts), "{restarts} restarts at {boundary:?}");
            // Not healthy where all else takes its time.
            assert_ne!(bus.metrics().health(), Health::Failed);
            drop(handler);
            assert!(bus.shutdown().unwrap().is_clean());
            assert_books(&bus);
        }
    });
}

#[test]
fn a_worker_that_panics_too_often_has_failed_and_nobody_waits_for_it() {
    watched(|| {
        let told = Log::new();
        let log = told.clone();
        let builder = Bus::builder().workers(2).max_queue_size(4).turn_max(1).worker_restarts_max(2);
        let builder =
            builder.when_full(FullPolicy::wait(Duration::from_secs(3_600))).deadline(Duration::from_secs(3_600));
        let bus = builder.observer(move |notice: &Notice<'_>| log.add(format!("{notice:?}"))).build().unwrap();
        let (enter, entered) = channel();
        let (go, gone) = channel::<()>();
        let handler = bus.subscribe("a").on_worker(1).handle(move |_, meta| {
            if meta.sequence() == 0 {
                enter.send(()).unwrap();
                gone.recv().unwrap();
                fault::arm(|at| at == Boundary::Passed || at == Boundary::Begin);
            }
        });
        let mut publisher = bus.publisher().unwrap();
        publisher.publish("a", Payload::raw(b"")).unwrap();
        entered.recv().unwrap();
        let waiting = thread::spawn(move || {
            loop {
                if let Err(error) = publisher.publish("a", Payload::raw(b"")) {
                    return error;
                }
            }
        });
        while bus.metrics().current_queue_depth < 4 {
            thread::yield_now();
        }
        let (woken, mut other) = (Arc::new(Woken::default()), bus.publisher().unwrap());
        let waker = Waker::from(Arc::clone(&woken));
        let mut task = pin!(async {
            loop {
                if let Err(error) = other.publish_async("a", Payload::raw(b"")).await {
                    return error;
                }
            }
        });
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "the lane is full");
        go.send(()).unwrap();
        let failed = PublishError::WorkerFailed { worker: 1 };
        let refused = loop {
            while !woken.0.swap(false, Ordering::Relaxed) {
                thread::yield_now();
            }
            if let Poll::Ready(refused) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
                break refused;
            }
        };
        assert_eq!(refused, failed, "who sleeps is told");
        assert_eq!(waiting.join().unwrap(), failed, "and so is who waits on its thread");
        assert!(!failed.is_temporary());
        assert_eq!(bus.publish("a", Payload::raw(b"")), Err(failed));
        assert_eq!(bus.publish("nobody.wants.it", Payload::raw(b"")), Err(failed));
        assert_eq!(bus.publisher().map(drop), Err(failed));
        assert_eq!(bus.flush(), Err(FlushError::WorkerFailed { worker: 1 }));
        assert_eq!(bus.state(), BusState::Failed { worker: 1 });
        let metrics = bus.metrics();
        assert_eq!((metrics.worker_restarts, metrics.workers_failed, metrics.health()), (2, 1, Health::Failed));
        let refused = bus.subscribe("b").handle(|_, _| {});
        assert!(matches!(refused, Err(SubscribeError::ShuttingDown)), "{refused:?}");
        assert_eq!(handler.unwrap().unsubscribe(), Ok(()), "nobody waits for its worker");
        let report = bus.shutdown().unwrap();
        assert!(report.left_in_lanes > 0 && !report.is_clean() && report.workers_left, "{report:?}");
        assert!(report.ledger_balanced, "{report:?}");
        assert_eq!(bus.state(), BusState::Stopped);
        let told = told.take();
        let is = |text: &str| told.iter().filter(|notice| notice.starts_with(text)).count();
        assert_eq!((is("WorkerRestarted"), is("WorkerFailed { worker: 1, restarts: 2 }")), (2, 1), "{told:?}");
    });
}

#[test]
fn what_others_deliver_goes_on_after_a_worker_has_failed() {
    let simulation = Simulation::new(Bus::builder().workers(2).worker_restarts_max(0), 1).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    let handlers = [0, 1].map(|worker| {
        let log = log.clone();
        bus.subscribe("a").on_worker(worker).handle(move |_, _| log.add(worker)).unwrap()
    });
    bus.publish("a", Payload::raw(b"")).unwrap();
    fault::arm(|_| true);
    assert_eq!(simulation.turn(0), Some(0));
    fault::disarm();
    simulation.run();
    assert_eq!(log.take(), [1], "worker 0 stands still");
    assert_eq!(bus.state(), BusState::Failed { worker: 0 });
    let mut handlers = handlers.into_iter();
    assert_eq!(handlers.next().unwrap().unsubscribe(), Ok(()), "nobody waits for the worker");
    let report = bus.shutdown().unwrap();
    assert_eq!((report.delivered, report.left_in_lanes, report.ledger_balanced), (1, 1, true), "{report:?}");
}
