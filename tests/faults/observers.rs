//! An observer that panics at any notice, of breakers and suspensions among them, changes nothing: the same notices come in the
//! same order, and the same becomes of every event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, BreakerState, Bus, Delivery, DeliveryMode, Ledger, Mailbox, Meta, Notice, Overflow, Pattern,
    Payload, RetryPolicy,
};

use crate::support::{Log, assert_books, assert_settled, watched};

/// What everybody made of the events.
#[derive(Debug, PartialEq)]
struct Story {
    notices: Vec<&'static str>,
    ledger: Ledger,
    letters: usize,
}

/// The notices that the story has to tell of, whatever else.
const KINDS: [&str; 9] =
    ["open", "half open", "closed", "suspended", "failed", "panicked", "dead letter", "overflow", "consumer gone"];

fn kind(notice: &Notice<'_>) -> &'static str {
    match notice {
        Notice::Breaker { state: BreakerState::Open, .. } => "open",
        Notice::Breaker { state: BreakerState::HalfOpen, .. } => "half open",
        Notice::Breaker { state: BreakerState::Closed, .. } => "closed",
        Notice::Suspended { .. } => "suspended",
        Notice::HandlerFailed { .. } => "failed",
        Notice::HandlerPanicked { .. } => "panicked",
        Notice::DeadLettered { .. } => "dead letter",
        Notice::MailboxOverflow { .. } => "overflow",
        Notice::ConsumerGone { .. } => "consumer gone",
        _ => "another",
    }
}

/// Fails whatever the mailbox has to give.
fn fail_all(inbox: &mut Mailbox<Pattern>) {
    while let Ok(delivery) = inbox.try_recv() {
        delivery.fail("down");
    }
}

/// The observer panics at the notice of this number, from 0.
fn story(at: Option<u32>) -> Story {
    let (told, calls) = (Log::new(), AtomicU32::new(0));
    let log = told.clone();
    let builder = Bus::builder().workers(1).max_queue_size(64).prefault(false).types_max(8);
    let builder = builder
        .observer(move |_: &Notice<'_>| {
            // Relaxed: all happens on one thread.
            let nth = calls.fetch_add(1, Ordering::Relaxed);
            assert!(at != Some(nth), "a panic that the test asks for, at notice {nth}");
        })
        .observer(move |notice: &Notice<'_>| log.add(kind(notice)));
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let works = Arc::new(AtomicBool::new(false));
    let reliable = || {
        let once = RetryPolicy::default().attempts_max(1).delays(Duration::ZERO, Duration::ZERO);
        bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once)
    };
    let policy = || BreakerPolicy::default().failures_max(2).open_for(Duration::from_secs(5));
    let handles = |works: &Arc<AtomicBool>| {
        let works = Arc::clone(works);
        move |payload: Payload<'_>, _: &Meta<'_>| {
            assert!(payload.text() != Some("1"), "a panic that the test asks for, in a handler");
            // Relaxed: as above.
            if works.load(Ordering::Relaxed) { Ok(()) } else { Err("down") }
        }
    };
    let inline = reliable().named("inline").breaker(policy()).handle(handles(&works)).unwrap();
    let suspended = reliable().named("suspended").suspend_after(3).handle(handles(&works)).unwrap();
    let mut pulled = reliable().named("pulled").breaker(policy()).mailbox().unwrap();
    let mut ailing = reliable().named("ailing").suspend_after(2).mailbox().unwrap();
    let full = bus.subscribe("a").capacity(1).overflow(Overflow::DropNewest).mailbox().unwrap();
    let panics = async |delivery: &Delivery<Pattern>| {
        assert!(delivery.payload().text() != Some("0"), "a panic that the test asks for, in a handler");
    };
    let mut running = Box::pin(bus.subscribe("a").run(panics).unwrap());
    let mut polled = || running.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready();
    for nth in 0..12_u32 {
        // Fails, is probed in vain, and works again.
        works.store(nth >= 6, Ordering::Relaxed);
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
        simulation.run();
        if nth == 0 {
            assert!(catch_unwind(AssertUnwindSafe(&mut polled)).is_err());
        }
        if nth < 6 {
            fail_all(&mut pulled);
        } else {
            std::iter::from_fn(|| pulled.try_recv().ok()).for_each(|delivery| {
                delivery.ack();
            });
        }
        fail_all(&mut ailing);
        simulation.advance(Duration::from_secs(2));
        simulation.run();
        assert_books(bus);
        if nth == 8 {
            bus.resume(suspended.id()).unwrap();
            bus.resume(ailing.id()).unwrap();
        }
    }
    simulation.advance(Duration::from_secs(10));
    simulation.run();
    std::iter::from_fn(|| pulled.try_recv().ok()).for_each(|delivery| {
        delivery.ack();
    });
    drop((full, running, ailing, pulled));
    assert_settled(bus);
    let story = Story { notices: told.take(), ledger: bus.ledger(), letters: bus.dead_letters().len() };
    drop((inline, suspended));
    let report = bus.shutdown().unwrap();
    assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
    story
}

#[test]
fn an_observer_that_panics_at_any_notice_changes_nothing() {
    watched(|| {
        let expected = story(None);
        for kind in KINDS {
            assert!(expected.notices.contains(&kind), "the story tells of {kind}: {:?}", expected.notices);
        }
        for nth in 0..expected.notices.len() {
            assert_eq!(story(Some(nth as u32)), expected, "a panic at notice {nth}, {}", expected.notices[nth]);
        }
    });
}
