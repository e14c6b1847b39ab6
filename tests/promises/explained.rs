//! What `explain` says of subscriptions that want an event and would not get it now, beside what becomes of the event.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, Bus, DeliveryMode, OverLimit, Payload, Priority, Rate, RetryPolicy, Subscribe, Subscription,
    SubscriptionLedger, Verdict, WhileOpen,
};

use super::support::assert_books;

const OPEN_FOR: Duration = Duration::from_secs(30);

/// The verdict of the only subscription, and its text.
fn explained(bus: &Bus) -> (Verdict, String) {
    let mut all = bus.explain("a", "", Priority::Normal);
    assert_eq!(all.len(), 1);
    let one = all.remove(0);
    assert_eq!(one.path.is_some(), matches!(one.verdict, Verdict::Matches { .. }), "{one}");
    (one.verdict, one.to_string())
}

/// What a subscription says after its handler has had one event and refused it, and what becomes of the next one.
fn after_one(
    fails: bool,
    wish: impl FnOnce(Subscribe<ringmain::Pattern>) -> Subscribe<ringmain::Pattern>,
) -> (Verdict, String, SubscriptionLedger, (Subscription, Simulation)) {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let begun = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(RetryPolicy::default().attempts_max(1));
    let made = wish(begun).handle(move |_, _| if fails { Err("no") } else { Ok(()) });
    let made = made.unwrap();
    assert_eq!(explained(bus).0, Verdict::Matches { conditionally: false });
    bus.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    let (verdict, text) = explained(bus);
    let before = bus.ledger().subscriptions;
    bus.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    let mut ledger = bus.ledger().subscriptions;
    ledger.dead_lettered -= before.dead_lettered;
    ledger.delivered -= before.delivered;
    ledger.dropped.rate_limited -= before.dropped.rate_limited;
    assert_books(bus);
    (verdict, text, ledger, (made, simulation))
}

#[test]
fn explain_tells_of_an_open_breaker_and_what_becomes_of_the_event() {
    let policy = BreakerPolicy::default().failures_max(1).open_for(OPEN_FOR);
    let (verdict, text, ledger, (_made, simulation)) = after_one(true, |wish| wish.breaker(policy));
    assert_eq!((verdict, ledger.queued), (Verdict::BreakerOpen(WhileOpen::Hold), 1));
    assert!(text.ends_with("wants it, but its breaker is open: it waits until that lets it through"), "{text}");
    simulation.advance(OPEN_FOR);
    assert_eq!(explained(simulation.bus()).0, Verdict::Matches { conditionally: false }, "it would half open");

    let deadly = policy.while_open(WhileOpen::DeadLetter);
    let (verdict, text, ledger, _) = after_one(true, |wish| wish.breaker(deadly));
    assert_eq!((verdict, ledger.dead_lettered), (Verdict::BreakerOpen(WhileOpen::DeadLetter), 1));
    assert!(text.ends_with("wants it, but its breaker is open: it is a dead letter"), "{text}");
}

#[test]
fn explain_tells_of_a_rate_that_is_spent_and_what_becomes_of_the_event() {
    let rate = Rate::per_second(1.0);
    let (verdict, text, ledger, (_made, simulation)) = after_one(false, |wish| wish.rate_limit(rate, OverLimit::Queue));
    assert_eq!((verdict, ledger.queued), (Verdict::RateSpent(OverLimit::Queue), 1));
    assert!(text.ends_with("wants it, but its rate is spent: it waits its turn"), "{text}");
    simulation.advance(Duration::from_secs(2));
    simulation.run();
    simulation.advance(Duration::from_secs(2));
    assert_eq!(explained(simulation.bus()).0, Verdict::Matches { conditionally: false });

    let (verdict, text, ledger, _) = after_one(false, |wish| wish.rate_limit(rate, OverLimit::Reject));
    assert_eq!((verdict, ledger.dead_lettered), (Verdict::RateSpent(OverLimit::Reject), 1));
    assert!(text.ends_with("wants it, but its rate is spent: it is turned away"), "{text}");
    let best_effort = |wish: Subscribe<_>| wish.mode(DeliveryMode::BestEffort).rate_limit(rate, OverLimit::Reject);
    let (verdict, _, ledger, _) = after_one(false, best_effort);
    assert_eq!((verdict, ledger.dropped.rate_limited), (Verdict::RateSpent(OverLimit::Reject), 1));
}

#[test]
fn explain_tells_of_a_suspension_until_it_is_resumed() {
    let (verdict, text, ledger, (_made, simulation)) = after_one(true, |wish| wish.suspend_after(1));
    assert_eq!((verdict, ledger.queued), (Verdict::Suspended, 1));
    assert!(text.ends_with("is suspended after dead letters in a row: it waits until somebody resumes it"), "{text}");
    let bus = simulation.bus();
    let id = bus.subscriptions()[0].id;
    bus.pause(id).unwrap();
    assert_eq!(explained(bus).0, Verdict::Paused);
    bus.resume(id).unwrap();
    assert_eq!(explained(bus).0, Verdict::Matches { conditionally: false });
}

#[test]
fn explain_tells_that_a_service_is_paused() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let service = bus.service("billing").open().unwrap();
    let _one = service.instance("one").handle_on("one", |_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut of_service = || {
        let all = publisher.event().target("billing").explain("a", Payload::raw(b"")).unwrap();
        all.into_iter().find(|one| one.name == "billing").unwrap()
    };
    let before = of_service();
    assert_eq!(before.verdict, Verdict::Directed { conditionally: false });
    bus.pause(before.subscription).unwrap();
    assert_eq!(of_service().verdict, Verdict::Paused);
    assert_books(bus);
}
