//! Handlers that call the bus they are called by: nothing waits for itself, and nothing hangs.
//!
//! What an inline handler may call is promised in `tests/life/subscriptions/on_worker.rs`, and the bus dropped on a worker
//! in `tests/life/shutdown.rs`; here are those with a thread or a task of their own.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusState, Delivery, FlushError, FullPolicy, Notice, Pattern, Payload, Priority, PublishError, Publisher,
};

use crate::support::{Log, assert_books, assert_left_balanced, assert_settled, watched};

const NOTHING: Payload<'static> = Payload::raw(b"");
/// Longer than any test may take: whoever waits for so long hangs.
const FOR_EVER: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(50);

/// Counts wake-ups.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}

type Publish = fn(&mut Publisher) -> Result<(), PublishError>;

#[test]
fn a_handler_of_its_own_thread_that_publishes_to_its_own_full_lane_gets_full() {
    let forms: [Publish; 4] = [
        |publisher| publisher.publish("echo.again", NOTHING).map(drop),
        |publisher| publisher.publish_deadline("echo.again", NOTHING, FOR_EVER).map(drop),
        |publisher| publisher.publish_batch("echo.again", [NOTHING; 3]).map(drop),
        |publisher| publisher.loan(8)?.publish(Priority::Normal, "echo.again").map(drop),
    ];
    for publish in forms {
        watched(move || {
            let builder = Bus::builder().workers(1).max_queue_size(8).batch_max(8);
            let bus = builder.when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
            let mut own = bus.publisher().unwrap();
            let (refused, told) = mpsc::channel();
            let made = bus.subscribe("echo.*").capacity(2).handle_on("echo", move |_, meta| {
                if meta.topic() == "echo.first" {
                    let error = std::iter::from_fn(|| Some(publish(&mut own))).find_map(Result::err);
                    refused.send(error.unwrap()).unwrap();
                }
            });
            let made = made.unwrap();
            bus.publish("echo.first", NOTHING).unwrap();
            let error = told.recv_timeout(PATIENCE).expect("it does not wait for itself");
            let PublishError::Full { priority, limit, gated_by, .. } = error else { panic!("{error}") };
            assert_eq!((priority, limit, gated_by), (Priority::Normal, 8, Some(0)));
            assert_settled(&bus);
            // One in its hands, one more in the mailbox, and what the lane takes beside the latter, which its worker may not
            // have left behind when the lane was found full.
            assert!(made.record().delivery_count >= 2 + 5, "{:?}", made.record().ledger);
            assert_eq!(made.record().delivery_count, bus.ledger().accepted);
            assert!(bus.shutdown().unwrap().is_clean());
        });
    }
}

type Published = Pin<Box<dyn Future<Output = (Publisher, Result<(), PublishError>)> + Send>>;

#[test]
fn an_async_handler_that_publishes_to_its_own_full_lane_gets_full() {
    let forms: [fn(Publisher) -> Published; 4] = [
        |mut own| {
            Box::pin(async move {
                let published = own.publish_async("echo.again", NOTHING).await.map(drop);
                (own, published)
            })
        },
        |mut own| {
            Box::pin(async move {
                let event = own.event().metadata("by", "the long way");
                let published = event.publish_async("echo.again", NOTHING).await.map(drop);
                (own, published)
            })
        },
        |mut own| {
            Box::pin(async move {
                let published = own.publish("echo.again", NOTHING).map(drop);
                (own, published)
            })
        },
        |mut own| {
            Box::pin(async move {
                let published = own.publish_batch("echo.again", [NOTHING; 3]).map(drop);
                (own, published)
            })
        },
    ];
    for publish in forms {
        watched(move || {
            let builder = Bus::builder().workers(1).max_queue_size(8).batch_max(8);
            let bus = builder.when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
            let mut own = Some(bus.publisher().unwrap());
            let (refused, told) = mpsc::channel();
            let running = bus.subscribe("echo.*").capacity(2).run(move |_: &Delivery<Pattern>| {
                let (own, refused) = (own.take(), refused.clone());
                async move {
                    // The first event's handler has it.
                    let Some(mut own) = own else { return };
                    loop {
                        let (back, published) = publish(own).await;
                        own = back;
                        if let Err(error) = published {
                            return refused.send(error).unwrap();
                        }
                    }
                }
            });
            let (running, id) = (running.unwrap(), bus.subscriptions()[0].id);
            let consumer = thread::spawn(|| block_on(running));
            bus.publish("echo.first", NOTHING).unwrap();
            let error = told.recv_timeout(PATIENCE).expect("it does not wait for itself");
            let PublishError::Full { priority, limit, gated_by, .. } = error else { panic!("{error}") };
            assert_eq!((priority, limit, gated_by), (Priority::Normal, 8, Some(0)));
            assert_settled(&bus);
            let delivered = bus.subscription(id).unwrap().delivery_count;
            assert!(
                delivered >= 2 + 5,
                "one in its hands, one more in the mailbox, and what the lane takes: {delivered}"
            );
            assert_eq!(delivered, bus.ledger().accepted);
            bus.unsubscribe(id).unwrap();
            consumer.join().unwrap();
            assert!(bus.shutdown().unwrap().is_clean());
        });
    }
}

#[test]
fn an_async_handler_whose_mailbox_fills_while_it_awaits_room_is_woken_and_gets_full() {
    let builder = Bus::builder().workers(1).max_queue_size(4).batch_max(4);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut own = Some(bus.publisher().unwrap());
    let seen = Log::new();
    let log = seen.clone();
    let running = bus.subscribe("echo").capacity(2).run(move |_: &Delivery<Pattern>| {
        let (own, log) = (own.take(), log.clone());
        async move {
            if let Some(mut own) = own {
                while log.len() < 100 {
                    log.add(own.publish_async("echo", NOTHING).await.map(drop));
                }
            }
        }
    });
    let mut running = pin!(running.unwrap());
    let woken = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut poll = || running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
    bus.publish("echo", NOTHING).unwrap();
    simulation.run();
    assert!(poll());
    assert_eq!(seen.take(), [Ok(()); 4], "its mailbox has room, and so the lane will have: it awaits that");
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    simulation.run();
    assert!(woken.0.load(Ordering::Relaxed) > 0, "one has moved to the mailbox, and that is full now");
    // Nobody else drains it: every later one is refused, until the handler returns.
    assert!(poll());
    let results = seen.take();
    assert_eq!((results.len(), results[0]), (100, Ok(())));
    assert!(results[1..].iter().all(|result| matches!(result, Err(PublishError::Full { .. }))), "{results:?}");
    while bus.ledger().subscriptions.delivered < bus.ledger().accepted {
        simulation.run();
        assert!(poll());
    }
    assert_settled(bus);
    assert_eq!(bus.ledger().accepted, 6);
}

#[test]
fn an_async_publish_polled_on_a_worker_gets_full_and_is_not_left_pending() {
    let builder = Bus::builder().workers(1).max_queue_size(4).batch_max(4);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut own = bus.publisher().unwrap();
    let seen = Log::new();
    let log = seen.clone();
    let made = bus.subscribe("echo.*").handle(move |_, meta| {
        if meta.topic() == "echo.first" {
            for _ in 0..5 {
                let publishing = pin!(own.publish_async("echo.again", NOTHING));
                log.add(publishing.poll(&mut Context::from_waker(Waker::noop())).map(|published| published.map(drop)));
            }
        }
    });
    let _made = made.unwrap();
    bus.publish("echo.first", NOTHING).unwrap();
    simulation.run();
    let polled = seen.take();
    // The one that is being handled has its slot still.
    assert_eq!(polled[..3], [Poll::Ready(Ok(())); 3]);
    assert!(polled[3..].iter().all(|one| matches!(one, Poll::Ready(Err(PublishError::Full { .. })))), "{polled:?}");
    assert_settled(bus);
    assert_eq!(bus.ledger().accepted, 4);
}

#[test]
fn an_async_handler_awaits_a_lane_that_others_hold_up() {
    let builder = Bus::builder().workers(1).max_queue_size(4).batch_max(4);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut holding = bus.subscribe("held").capacity(1).mailbox().unwrap();
    let mut own = Some(bus.publisher().unwrap());
    let seen = Log::new();
    let log = seen.clone();
    let running = bus.subscribe("go").run(move |_: &Delivery<Pattern>| {
        let (own, log) = (own.take(), log.clone());
        async move {
            let mut own = own.expect("it is called once");
            for _ in 0..20 {
                log.add(own.publish_async("held", NOTHING).await.map(drop));
            }
        }
    });
    let mut running = pin!(running.unwrap());
    bus.publish("go", NOTHING).unwrap();
    let mut taken = 0;
    while taken < 20 {
        simulation.run();
        assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        taken += u64::from(holding.try_recv().is_ok());
    }
    assert_eq!(seen.take(), [Ok(()); 20], "it was worth the wait");
    assert_settled(bus);
    assert_eq!((bus.ledger().accepted, bus.metrics().refused.total()), (21, 0));
}

#[test]
fn a_handler_of_its_own_thread_waits_for_a_lane_that_others_hold_up() {
    watched(|| {
        let builder = Bus::builder().workers(1).max_queue_size(4).batch_max(4);
        let bus = builder.when_full(FullPolicy::wait(PATIENCE)).build().unwrap();
        let mut holding = bus.subscribe("held").capacity(1).mailbox().unwrap();
        let mut own = bus.publisher().unwrap();
        let (says, said) = mpsc::channel();
        let made = bus.subscribe("go").handle_on("waiting", move |_, _| {
            for _ in 0..20 {
                says.send(own.publish("held", NOTHING).map(drop)).unwrap();
            }
        });
        let _made = made.unwrap();
        bus.publish("go", NOTHING).unwrap();
        // One in the mailbox and four in the lane: now it waits, or is about to.
        for _ in 0..5 {
            assert_eq!(said.recv_timeout(PATIENCE), Ok(Ok(())));
        }
        for _ in 0..20 {
            drop(holding.recv_deadline(PATIENCE).unwrap());
        }
        assert_eq!(said.iter().take(15).collect::<Vec<_>>(), [Ok(()); 15], "it was worth the wait");
        assert_settled(&bus);
        assert_eq!((bus.ledger().accepted, bus.metrics().refused.total()), (21, 0));
        assert!(bus.shutdown().unwrap().is_clean());
    });
}

#[test]
fn a_handler_of_its_own_thread_may_shut_the_bus_down() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let seen = Log::new();
        let log = seen.clone();
        let _neighbour = bus.subscribe("*").handle(move |_, meta| log.add(meta.sequence())).unwrap();
        let (says, said) = mpsc::channel();
        let ending = bus.clone();
        let made = bus.subscribe("end").handle_on("ending", move |_, _| {
            says.send(ending.shutdown_deadline(PATIENCE)).unwrap();
        });
        let made = made.unwrap();
        bus.publish("other", NOTHING).unwrap();
        bus.publish("end", NOTHING).unwrap();
        let report = said.recv_timeout(PATIENCE).unwrap().unwrap();
        // The event in its own hands is not settled before it returns.
        assert_eq!((report.left_in_mailboxes, report.left_in_lanes, report.workers_left), (1, 0, true), "{report:?}");
        assert!(report.ledger_balanced, "{report:?}");
        assert_eq!(bus.state(), BusState::Stopped);
        assert_eq!(bus.publish("end", NOTHING), Err(PublishError::ShuttingDown));
        while made.record().delivery_count == 0 {
            thread::yield_now();
        }
        assert_books(&bus);
        assert_eq!(seen.take(), [0, 1]);
    });
}

#[test]
fn a_handler_behind_a_mailbox_that_flushes_is_refused_at_once() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let other = Bus::builder().workers(1).build().unwrap();
        let (says, said) = mpsc::channel();
        let (flushing, another, tells) = (bus.clone(), other.clone(), says.clone());
        let made = bus.subscribe("a").handle_on("flushing", move |_, _| {
            tells.send([flushing.flush_deadline(FOR_EVER), another.flush_deadline(FOR_EVER)]).unwrap();
        });
        let (flushing, another) = (bus.clone(), other.clone());
        let running = bus.subscribe("b").run(move |_: &Delivery<Pattern>| {
            let (bus, other, says) = (flushing.clone(), another.clone(), says.clone());
            async move {
                tokio::task::yield_now().await;
                says.send([bus.flush_deadline(FOR_EVER), other.flush_deadline(FOR_EVER)]).unwrap();
            }
        });
        let (_made, running) = (made.unwrap(), running.unwrap());
        let consumer = thread::spawn(|| block_on(running));
        for topic in ["a", "b"] {
            bus.publish(topic, NOTHING).unwrap();
            let told = said.recv_timeout(PATIENCE).expect("it does not wait for itself");
            assert_eq!(told, [Err(FlushError::InHandler), Ok(())], "its own bus, and another");
        }
        assert_settled(&bus);
        assert_books(&other);
        assert!(bus.shutdown().unwrap().is_clean());
        consumer.join().unwrap();
    });
}

#[test]
fn a_handler_of_its_own_thread_may_drop_the_last_handle_of_the_bus() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let last: Arc<Mutex<Option<Bus>>> = Arc::default();
        let seen = Log::new();
        let (log, (says, said)) = (seen.clone(), mpsc::channel());
        let neighbour = bus.subscribe("*").handle(move |_, meta| log.add(meta.sequence())).unwrap();
        let dropping = Arc::clone(&last);
        let made = bus.subscribe("end").handle_on("dropping", move |_, _| {
            let bus = dropping.lock().unwrap().take().expect("it was left before the event was published");
            drop(bus);
            says.send(()).unwrap();
        });
        let made = made.unwrap();
        let mut publisher = bus.publisher().unwrap();
        *last.lock().unwrap() = Some(bus);
        publisher.publish("other", NOTHING).unwrap();
        publisher.publish("end", NOTHING).unwrap();
        said.recv_timeout(PATIENCE).expect("it does not wait for itself");
        assert_eq!(publisher.publish("other", NOTHING), Err(PublishError::ShuttingDown));
        assert_eq!(seen.take(), [0, 1]);
        while made.record().delivery_count == 0 {
            thread::yield_now();
        }
        [&made, &neighbour].into_iter().for_each(assert_left_balanced);
    });
}

#[test]
fn an_async_handler_may_end_its_subscription_and_the_bus() {
    for ends_bus in [false, true] {
        let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
        let bus = simulation.bus();
        let calls = Log::new();
        let (log, ending) = (calls.clone(), bus.clone());
        let running = bus.subscribe("a").run(move |_: &Delivery<Pattern>| {
            let (log, bus) = (log.clone(), ending.clone());
            async move {
                log.add(if ends_bus {
                    let report = bus.shutdown().unwrap();
                    (report.left_in_mailboxes, bus.subscriptions().len())
                } else {
                    bus.unsubscribe(bus.subscriptions()[0].id).unwrap();
                    (bus.ledger().subscriptions.in_flight, bus.subscriptions().len())
                });
            }
        });
        let mut running = pin!(running.unwrap());
        bus.publish("a", NOTHING).unwrap();
        simulation.run();
        // It has one event in its hands, is not called again, and the future ends.
        assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(calls.take(), [(1, usize::from(ends_bus))]);
        assert_settled(bus);
        assert_eq!(bus.ledger().subscriptions.delivered, 1);
    }
}

#[test]
fn an_observer_may_publish_what_it_hears() {
    let publisher: Arc<Mutex<Option<Publisher>>> = Arc::default();
    let own = Arc::clone(&publisher);
    let builder = Bus::builder().workers(1).observer(move |notice: &Notice<'_>| {
        if let (Notice::HandlerFailed { error, .. }, Some(own)) = (notice, &mut *own.lock().unwrap()) {
            own.publish("alarm", Payload::plain_text(error)).unwrap();
        }
    });
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    *publisher.lock().unwrap() = Some(bus.publisher().unwrap());
    let _failing = bus.subscribe("a").handle(|_, _| Err::<(), _>("no more disk")).unwrap();
    let mut alarms = bus.subscribe("alarm").mailbox().unwrap();
    for _ in 0..3 {
        bus.publish("a", NOTHING).unwrap();
    }
    simulation.run();
    for _ in 0..3 {
        assert_eq!(alarms.try_recv().unwrap().payload().text(), Some("no more disk"));
    }
    assert!(alarms.try_recv().is_err());
    assert_settled(bus);
    // The observer's publisher would keep the bus alive in a ring.
    drop(publisher.lock().unwrap().take());
}
