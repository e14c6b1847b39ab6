//! A panicking, failing, slow or dead subscriber hurts nobody else, and is seen.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, Filter, FullPolicy, Overflow, Payload, Priority, PublishError, SubscribeError, Subscription,
    SubscriptionLedger,
};

use super::support::{Log, assert_balanced, assert_settled, observed, watched};

const BODY: Payload<'static> = Payload::plain_text("x");
const LONG: Duration = Duration::from_secs(30);

/// A well-behaved neighbour on `worker`, which logs sequences.
fn neighbour(bus: &Bus, worker: usize) -> (Subscription, Log<u64>) {
    let log = Log::new();
    let writer = log.clone();
    let made = bus.subscribe("a").on_worker(worker).handle(move |_, meta| writer.add(meta.sequence()));
    (made.unwrap(), log)
}

fn ledger(bus: &Bus, name: &str) -> SubscriptionLedger {
    bus.subscriptions().into_iter().find(|record| record.name == name).expect("it is subscribed").ledger
}

fn count(notices: &[String], kind: &str) -> usize {
    notices.iter().filter(|notice| notice.starts_with(kind)).count()
}

#[test]
fn a_handler_that_panics_hurts_nobody_and_is_called_again() {
    watched(|| {
        for panics_at in [None, Some(7)] {
            let (builder, notices) = observed(Bus::builder().workers(2));
            let bus = builder.build().unwrap();
            let (_before, first) = neighbour(&bus, 0);
            let mut calls = 0;
            let body = move || {
                calls += 1;
                assert!(panics_at.is_some_and(|nth| nth != calls), "a panic that the test asks for");
            };
            let mut inline = body;
            let mut threaded = body;
            let wish = bus.subscribe("a").on_worker(0).named("inline");
            let _inline = wish.handle(move |_, _| inline()).unwrap();
            let wish = bus.subscribe("a").on_worker(1).named("threaded");
            let _threaded = wish.handle_on("panicking", move |_, _| threaded()).unwrap();
            let (_after, second) = neighbour(&bus, 0);
            let (_other, third) = neighbour(&bus, 1);
            let mut publisher = bus.publisher().unwrap();
            for _ in 0..20 {
                publisher.publish("a", BODY).unwrap();
            }
            assert_settled(&bus);
            let all: Vec<_> = (0..20).collect();
            assert_eq!((first.take(), second.take(), third.take()), (all.clone(), all.clone(), all));
            let failed = if panics_at.is_some() { 1 } else { 20 };
            for name in ["inline", "threaded"] {
                let ledger = ledger(&bus, name);
                assert_eq!((ledger.delivered, ledger.failed), (20 - failed, failed), "{name}");
            }
            assert_eq!(count(&notices.take(), "HandlerPanicked"), 2 * failed as usize);
            assert!(bus.shutdown().unwrap().is_clean());
        }
    });
}

#[test]
fn a_handler_that_fails_is_counted_and_its_reason_is_told() {
    let (builder, notices) = observed(Bus::builder().workers(1));
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let (_neighbour, log) = neighbour(bus, 0);
    let mut calls = 0;
    let failing = bus.subscribe("a").named("failing").handle(move |_, _| {
        calls += 1;
        if calls % 2 == 0 { Err("no more disk") } else { Ok(()) }
    });
    let failing = failing.unwrap();
    let mut mailbox = bus.subscribe("a").named("pulled").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..6 {
        publisher.publish("a", BODY).unwrap();
    }
    simulation.run();
    for _ in 0..3 {
        mailbox.try_recv().unwrap().fail("not today");
        drop(mailbox.try_recv().unwrap());
    }
    assert_settled(bus);
    let record = failing.record();
    assert_eq!((record.delivery_count, record.error_count), (3, 3));
    assert_eq!(ledger(bus, "pulled").failed, 3);
    let notices = notices.take();
    assert_eq!(notices.iter().filter(|notice| notice.contains("no more disk")).count(), 3, "{notices:?}");
    assert_eq!(log.len(), 6);
}

#[test]
fn a_predicate_that_panics_refuses_the_event_and_hurts_nobody() {
    let (builder, notices) = observed(Bus::builder().workers(1));
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let picky = Filter::all().matching(|meta| {
        assert!(meta.sequence() % 2 == 0, "a panic that the test asks for");
        true
    });
    let log = Log::new();
    let writer = log.clone();
    let wish = bus.subscribe("a").named("picky").filter(picky);
    let _picky = wish.handle(move |_, meta| writer.add(meta.sequence())).unwrap();
    let (_neighbour, other) = neighbour(bus, 0);
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..6 {
        publisher.publish("a", BODY).unwrap();
    }
    assert_settled(bus);
    assert_eq!(log.take(), [0, 2, 4]);
    assert_eq!(other.len(), 6);
    assert_eq!((ledger(bus, "picky").matched, ledger(bus, "picky").filtered), (3, 3));
    assert_eq!(count(&notices.take(), "HandlerPanicked"), 3);
}

#[test]
fn an_observer_that_panics_hurts_nobody() {
    let builder =
        Bus::builder().workers(1).observer(|_: &ringmain::Notice<'_>| panic!("a panic that the test asks for"));
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let _failing = bus.subscribe("a").handle(|_, _| Err::<(), _>("no")).unwrap();
    let (_neighbour, log) = neighbour(bus, 0);
    for _ in 0..3 {
        bus.publish("a", BODY).unwrap();
    }
    assert_settled(bus);
    assert_eq!(log.len(), 3);
}

/// Counts its drops, each of which panics.
struct Bomb(Arc<AtomicU32>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if !std::thread::panicking() {
            panic!("a panic that the test asks for");
        }
    }
}

#[test]
fn a_handler_whose_drop_panics_hurts_neither_unsubscribe_nor_shutdown() {
    watched(|| {
        let drops = Arc::new(AtomicU32::new(0));
        let bus = Bus::builder().workers(2).build().unwrap();
        let (_neighbour, log) = neighbour(&bus, 0);
        let armed = |worker: usize| {
            let bomb = Bomb(Arc::clone(&drops));
            let wish = bus.subscribe("a").on_worker(worker);
            wish.handle(move |_, _| assert!(Arc::strong_count(&bomb.0) > 0)).unwrap()
        };
        let (first, second, third) = (armed(0), armed(1), armed(0));
        bus.publish("a", BODY).unwrap();
        bus.flush().unwrap();
        first.unsubscribe().unwrap();
        drop(second);
        assert_eq!(drops.load(Ordering::Relaxed), 2, "handlers are dropped when their subscription has ended");
        bus.publish("a", BODY).unwrap();
        assert_settled(&bus);
        assert_eq!(log.len(), 2);
        // The last one goes with the bus.
        let _kept = third.forever();
        let report = bus.shutdown().unwrap();
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
        drop(bus);
    });
}

#[test]
fn a_slow_consumer_with_a_dropping_mailbox_hurts_nobody() {
    for (overflow, kept) in [(Overflow::DropNewest, 0..4), (Overflow::DropOldest, 16..20)] {
        let (builder, notices) = observed(Bus::builder().workers(1).max_queue_size(8).batch_max(8));
        let simulation = Simulation::new(builder.when_full(FullPolicy::REJECT), 1).unwrap();
        let bus = simulation.bus();
        let (_neighbour, log) = neighbour(bus, 0);
        let mut slow = bus.subscribe("a").named("slow").capacity(4).overflow(overflow).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..20 {
            publisher.publish("a", BODY).expect("a slow consumer does not fill the lane");
            simulation.run();
        }
        assert_eq!(log.len(), 20);
        let mut got = Vec::new();
        while let Ok(delivery) = slow.try_recv() {
            got.push(delivery.meta().sequence());
        }
        assert_eq!(got, kept.collect::<Vec<_>>());
        assert_eq!(ledger(bus, "slow").dropped.overflow, 16);
        assert_eq!(count(&notices.take(), "MailboxOverflow"), 1, "a row of drops is told once");
        for _ in 0..6 {
            publisher.publish("a", BODY).unwrap();
        }
        simulation.run();
        assert_eq!(count(&notices.take(), "MailboxOverflow"), 1, "and so is the next row");
        while slow.try_recv().is_ok() {}
        assert_settled(bus);
    }
}

#[test]
fn a_full_mailbox_drops_nothing_more_urgent_to_make_room() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").named("m").capacity(2).overflow(Overflow::DropOldest).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for priority in [Priority::High, Priority::Low, Priority::Critical, Priority::Normal] {
        publisher.at(priority).publish("a", BODY).unwrap();
        simulation.run();
    }
    // Critical pushed Low out; Normal found only what is more urgent.
    assert_eq!(mailbox.try_recv().unwrap().meta().priority(), Priority::Critical);
    assert_eq!(mailbox.try_recv().unwrap().meta().priority(), Priority::High);
    assert!(mailbox.try_recv().is_err());
    assert_eq!(ledger(bus, "m").dropped.overflow, 2);
    assert_settled(bus);
}

#[test]
fn block_suspends_its_lane_on_its_worker_and_resumes_when_room_comes() {
    let builder = Bus::builder().workers(2).max_queue_size(8).batch_max(8).when_full(FullPolicy::REJECT);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut blocking = bus.subscribe("a").on_worker(0).named("blocking").capacity(2).mailbox().unwrap();
    let (_same, same) = neighbour(bus, 0);
    let (_other, other) = neighbour(bus, 1);
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..8 {
        publisher.publish("a", BODY).unwrap();
    }
    simulation.run();
    assert_eq!((same.take().len(), other.take().len()), (2, 8), "only the worker of the full mailbox stops");
    publisher.publish("a", BODY).unwrap();
    publisher.publish("a", BODY).unwrap();
    let full = PublishError::Full { priority: Priority::Normal, depth: 8, limit: 8, gated_by: Some(0) };
    assert_eq!(publisher.publish("a", BODY), Err(full), "and says who holds the lane up");
    // The lanes beside it go on, at the same worker too.
    let high = bus.subscribe("b").on_worker(0).handle(|_, _| ()).unwrap();
    publisher.at(Priority::High).publish("b", BODY).unwrap();
    simulation.run();
    assert_eq!(high.record().delivery_count, 1);
    assert_balanced(bus);
    // Each event taken lets one more through, in order, until all are there.
    let mut got = Vec::new();
    while let Ok(delivery) = blocking.try_recv() {
        got.push(delivery.meta().sequence());
        drop(delivery);
        simulation.run();
    }
    assert_eq!(got, (0..10).collect::<Vec<_>>());
    assert_eq!(same.take(), (2..10).collect::<Vec<_>>());
    assert_settled(bus);
}

#[test]
fn a_full_mailbox_suspends_only_lanes_that_it_wants() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let urgent = Filter::all().priority_min(Priority::Critical);
    let mut blocking = bus.subscribe("a").filter(urgent).capacity(1).mailbox().unwrap();
    let (_neighbour, log) = neighbour(bus, 0);
    let mut publisher = bus.publisher().unwrap();
    for priority in [Priority::Critical, Priority::Critical, Priority::Normal, Priority::Normal] {
        publisher.at(priority).publish("a", BODY).unwrap();
    }
    simulation.run();
    assert_eq!(log.take(), [0, 0, 1], "Normal is none of the full mailbox's business");
    drop(blocking.try_recv().unwrap());
    simulation.run();
    drop(blocking.try_recv().unwrap());
    assert_eq!(log.take(), [1]);
    assert_settled(bus);
}

#[test]
fn a_blocked_worker_that_sleeps_wakes_when_its_consumer_takes() {
    watched(|| {
        let bus = Bus::builder().workers(1).max_queue_size(4).batch_max(4).build().unwrap();
        let mut slow = bus.subscribe("a").capacity(1).mailbox().unwrap();
        let publishing = {
            let bus = bus.clone();
            std::thread::spawn(move || {
                let mut publisher = bus.publisher().unwrap();
                for _ in 0..500 {
                    publisher.publish_deadline("a", BODY, LONG).unwrap();
                }
            })
        };
        for sequence in 0..500 {
            assert_eq!(slow.recv_deadline(LONG).unwrap().meta().sequence(), sequence);
        }
        publishing.join().unwrap();
        assert_settled(&bus);
    });
}

#[test]
fn a_dropped_mailbox_ends_its_subscription_and_frees_the_lane() {
    watched(|| {
        let bus = Bus::builder().workers(1).max_queue_size(4).batch_max(4).build().unwrap();
        let full = bus.subscribe("a").named("full").capacity(1).mailbox().unwrap();
        let (_neighbour, log) = neighbour(&bus, 0);
        let mut publisher = bus.publisher().unwrap();
        // One in the mailbox, four in the lane; the next waits for somebody to make room.
        let waiting = std::thread::spawn(move || {
            for _ in 0..6 {
                publisher.publish_deadline("a", BODY, LONG).unwrap();
            }
        });
        drop(full);
        waiting.join().unwrap();
        assert_settled(&bus);
        assert_eq!(log.take(), (0..6).collect::<Vec<_>>());
        assert_eq!(bus.metrics().consumers_gone, 1);
        assert_eq!(bus.subscriptions().len(), 1);
        let ledger = bus.ledger().subscriptions;
        assert_eq!(ledger.matched, ledger.delivered + ledger.dropped.closed);
    });
}

#[test]
fn a_consumer_that_panics_ends_its_subscription_and_is_told() {
    watched(|| {
        let (builder, notices) = observed(Bus::builder().workers(1));
        let bus = builder.build().unwrap();
        let (_neighbour, log) = neighbour(&bus, 0);
        let mut mailbox = bus.subscribe("a").named("doomed").mailbox().unwrap();
        let (taken, told) = mpsc::channel();
        let consumer = std::thread::spawn(move || {
            let delivery = mailbox.recv_deadline(LONG).unwrap();
            taken.send(delivery.meta().sequence()).unwrap();
            panic!("a panic that the test asks for");
        });
        let mut publisher = bus.publisher().unwrap();
        publisher.publish("a", BODY).unwrap();
        assert_eq!(told.recv().unwrap(), 0);
        assert!(consumer.join().is_err());
        publisher.publish("a", BODY).unwrap();
        assert_settled(&bus);
        assert_eq!(log.len(), 2);
        assert_eq!(bus.metrics().consumers_gone, 1);
        let notices = notices.take();
        let gone: Vec<_> = notices.iter().filter(|notice| notice.starts_with("ConsumerGone")).collect();
        assert!(matches!(gone[..], [one] if one.contains("panicked: true")), "{notices:?}");
        assert_eq!(bus.ledger().subscriptions.failed, 1, "what it held when it panicked has failed");
    });
}

#[test]
fn unsubscribing_a_handler_on_its_own_thread_ends_its_calls() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let (inside, entered) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let slow = bus.subscribe("a").named("slow").handle_on("slow", move |_, meta| {
            inside.send(meta.sequence()).unwrap();
            // The other end is gone when the test lets go.
            let _ = gone.lock().unwrap().recv();
        });
        let slow = slow.unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..5 {
            publisher.publish("a", BODY).unwrap();
        }
        assert_eq!(entered.recv().unwrap(), 0);
        while slow.record().ledger.matched < 5 {
            std::thread::yield_now();
        }
        slow.unsubscribe().unwrap();
        drop(go);
        // The thread lets go of its end when it leaves.
        assert_eq!(entered.iter().collect::<Vec<_>>(), [] as [u64; 0], "no call begins after unsubscribe returned");
        assert_settled(&bus);
        let ledger = bus.ledger().subscriptions;
        assert_eq!((ledger.delivered, ledger.dropped.closed), (1, 4));
    });
}

#[test]
fn unsubscribe_does_not_return_well_while_an_inline_call_is_under_way() {
    watched(|| {
        // Long enough to subscribe on a busy machine.
        let bus = Bus::builder().workers(2).deadline(Duration::from_millis(300)).build().unwrap();
        let (inside, entered) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let hanging = bus.subscribe("a").on_worker(1).handle(move |_, meta| {
            inside.send(meta.sequence()).unwrap();
            // The other end is gone when the test lets go.
            let _ = gone.recv();
        });
        let hanging = hanging.unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..5 {
            publisher.publish("a", BODY).unwrap();
        }
        assert_eq!(entered.recv().unwrap(), 0);
        let stuck = SubscribeError::WorkerStuck { worker: 1 };
        assert_eq!(hanging.unsubscribe(), Err(stuck.clone()));
        assert_eq!(bus.subscribe("b").on_worker(1).handle(|_, _| ()).unwrap_err(), stuck);
        assert!(bus.subscriptions().is_empty(), "what could not be waited for is over, or was never there");
        drop(go);
        assert_settled(&bus);
        // The handler lets go of its end when it is dropped.
        assert_eq!(entered.iter().collect::<Vec<_>>(), [] as [u64; 0], "no call begins after unsubscribe returned");
        assert_eq!(bus.ledger().subscriptions.delivered, 1);
    });
}
