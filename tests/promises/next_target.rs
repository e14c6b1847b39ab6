//! Promises of services whose instances fail: what waits at one goes on to the next, keeps its attempts, and is lost nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Balancer, BreakerPolicy, BreakerState, Bus, DeadLetterFilter, DeadReason, DeliveryMode, InstanceView,
    Mailbox, Meta, Outcome, Pattern, Payload, RetryPolicy, Service, ServiceError, SubscribeError, WhileOpen,
};

use crate::services::{MS, drain, send, simulation};
use crate::services_again::strategies;
use crate::support::assert_balanced;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// Opens at the first failure, for a second.
fn fragile() -> BreakerPolicy {
    BreakerPolicy::default().failures_max(1).open_for(SECOND).while_open(WhileOpen::NextTarget)
}

/// An instance whose events have three attempts, with a second between them.
fn instance(service: &Service, name: &str) -> Mailbox<Pattern> {
    let retry = RetryPolicy::default().attempts_max(3).delays(SECOND, SECOND);
    service.instance(name).breaker(fragile()).retry(retry).mailbox().unwrap()
}

/// Fails the next event, and lets the worker hear of it. Which attempt it was.
fn fail(simulation: &Simulation, inbox: &mut Mailbox<Pattern>) -> u8 {
    let delivery = inbox.try_recv().unwrap();
    let attempt = delivery.meta().attempt();
    delivery.settle(&Outcome::Failed("no".to_owned()));
    simulation.run();
    attempt
}

fn numbers(inbox: &mut Mailbox<Pattern>) -> Vec<usize> {
    std::iter::from_fn(|| inbox.try_recv().ok())
        .map(|delivery| {
            let nth = delivery.meta().get("nth").unwrap().parse().unwrap();
            delivery.ack();
            nth
        })
        .collect()
}

/// The state of the service's breaker.
fn state(service: &Service) -> Option<BreakerState> {
    service.record().breaker.map(|breaker| breaker.state)
}

#[test]
fn what_waits_at_an_instance_whose_breaker_opens_goes_on_to_the_others() {
    for balance in strategies() {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").balance(balance).open().unwrap();
        let mut a = instance(&service, "a");
        send(&simulation, "one", 6);
        let mut b = instance(&service, "b");
        assert_eq!(a.len(), 6);
        assert_eq!(fail(&simulation, &mut a), 1);
        // The one that has failed comes first: it waits, and the others are queued.
        assert_eq!((a.len(), numbers(&mut b)), (0, vec![0, 1, 2, 3, 4, 5]), "{service:?}");
        let books = service.record().ledger;
        assert_eq!((books.passed_on, books.delivered, books.waiting), (6, 6, 0));
        assert_settled(bus);
    }
}

#[test]
fn what_was_in_hand_when_the_breaker_opened_goes_on_as_soon_as_it_comes_back() {
    for outcome in [Outcome::Failed("no".to_owned()), Outcome::RetryAfter(60 * SECOND), Outcome::Release] {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").open().unwrap();
        let mut a = instance(&service, "a");
        send(&simulation, "one", 2);
        let mut b = instance(&service, "b");
        let second = (a.try_recv().unwrap(), a.try_recv().unwrap());
        second.0.settle(&Outcome::Failed("no".to_owned()));
        simulation.run();
        assert_eq!((service.record().ledger.waiting, numbers(&mut b)), (0, vec![0]));
        second.1.settle(&outcome);
        simulation.run();
        assert_eq!(numbers(&mut b), [1], "after {outcome:?}");
        assert_settled(bus);
    }
}

#[test]
fn attempts_that_failed_count_at_the_next_target_too_so_that_nothing_goes_round_for_ever() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let (mut a, mut b) = (instance(&service, "a"), instance(&service, "b"));
    send(&simulation, "one", 1);
    assert_eq!((a.len(), b.len()), (1, 0));
    assert_eq!(fail(&simulation, &mut a), 1);
    assert_eq!(fail(&simulation, &mut b), 2);
    // Both are open, and it waits where it was.
    assert_eq!((a.len(), b.len(), state(&service)), (0, 0, Some(BreakerState::Open)));
    assert_books(bus);
    simulation.advance(SECOND + MS);
    simulation.run();
    assert_eq!(state(&service), Some(BreakerState::HalfOpen));
    assert_eq!(fail(&simulation, &mut b), 3);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!((letters[0].reason(), letters[0].attempts()), (DeadReason::AttemptsExhausted, 3));
    assert_settled(bus);
}

#[test]
fn what_nobody_takes_stays_until_there_is_room_or_the_breaker_half_opens() {
    for balance in [Balance::RoundRobin, Balance::WeightedRandom] {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").balance(balance).open().unwrap();
        let mut a = instance(&service, "a");
        send(&simulation, "one", 8);
        let mut b = service.instance("b").capacity(2).mailbox().unwrap();
        fail(&simulation, &mut a);
        assert_eq!((b.len(), service.record().ledger.open()), (2, 8));
        // Room for two more, and then for two.
        for _ in 0..2 {
            assert_eq!(drain(&mut b), 2);
            simulation.advance(10 * MS);
            simulation.run();
        }
        assert_eq!((a.len(), b.len()), (2, 2));
        simulation.advance(SECOND);
        simulation.run();
        // The first is the probe, which closes it.
        assert_eq!((drain(&mut a), drain(&mut b)), (2, 2));
        assert_settled(bus);
    }
}

/// Only the first instance will do.
struct First;

impl Balancer for First {
    fn pick(&mut self, _: &Meta<'_>, _: &[InstanceView]) -> Option<usize> {
        Some(0)
    }
}

#[test]
fn what_the_strategy_gives_to_nobody_else_comes_back_to_its_instance_when_that_half_opens() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").balance(Balance::custom(First)).open().unwrap();
    let mut a = instance(&service, "a");
    let b = service.instance("b").mailbox().unwrap();
    send(&simulation, "one", 4);
    for _ in 0..2 {
        fail(&simulation, &mut a);
        for _ in 0..5 {
            simulation.advance(10 * MS);
            simulation.run();
        }
        assert_eq!((a.len(), b.len(), service.record().ledger.open()), (0, 0, 4));
        assert_books(bus);
        simulation.advance(SECOND);
        simulation.run();
        assert_eq!(a.len(), 4);
    }
    let mut taken = 0;
    for _ in 0..4 {
        taken += drain(&mut a);
        simulation.run();
    }
    assert_eq!((taken, state(&service)), (4, Some(BreakerState::Closed)));
    assert_settled(bus);
}

#[test]
fn a_pause_of_the_service_keeps_what_waits_and_an_end_of_the_instance_gives_it_back() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut a = instance(&service, "a");
    send(&simulation, "one", 4);
    let mut b = service.instance("b").capacity(1).mailbox().unwrap();
    bus.pause(service.record().subscription).unwrap();
    fail(&simulation, &mut a);
    assert_eq!(b.len(), 0);
    bus.resume(service.record().subscription).unwrap();
    simulation.run();
    assert_eq!(b.len(), 1);
    drop(a);
    simulation.run();
    assert_books(bus);
    let mut seen = 0;
    for _ in 0..4 {
        seen += drain(&mut b);
        simulation.run();
    }
    assert_eq!((seen, service.record().ledger.dead_lettered), (4, 0));
    assert_settled(bus);
}

#[test]
fn a_service_whose_instances_are_all_open_is_an_open_breaker_and_holds_or_gives_up_what_comes() {
    let (builder, notices) = observed(Bus::builder().workers(1));
    let simulation = Simulation::new(builder, 7).unwrap();
    let bus = simulation.bus();
    let hour = 3_600 * SECOND;
    let patient = RetryPolicy::default().delays(hour, hour);
    for (name, retry) in [("holds", patient), ("gives_up", RetryPolicy::default().attempts_max(1))] {
        let service = bus.service(name).retry(retry).open().unwrap();
        assert_eq!(state(&service), None);
        let (mut a, mut b) = (instance(&service, "a"), instance(&service, "b"));
        assert_eq!(state(&service), Some(BreakerState::Closed));
        send(&simulation, name, 1);
        fail(&simulation, &mut a);
        let record = service.record();
        assert_eq!(state(&service), Some(BreakerState::Closed), "one instance works");
        assert_eq!(record.breaker.unwrap().failures, 1);
        assert_eq!(
            record.instances.iter().map(|instance| instance.breaker.unwrap().state).collect::<Vec<_>>(),
            [BreakerState::Open, BreakerState::Closed]
        );
        fail(&simulation, &mut b);
        assert_eq!(state(&service), Some(BreakerState::Open));
        let sum = service.record().breaker.unwrap();
        assert!(sum.failures == 2 && sum.last_failure < sum.half_opens_at, "{sum:?}");
        send(&simulation, name, 3);
        let letters = bus.dead_letters().list(&DeadLetterFilter::new());
        if name == "holds" {
            assert_eq!((service.record().waiting, letters.len()), (3, 0));
        } else {
            assert_eq!((service.record().waiting, letters.len()), (0, 3));
            assert!(letters.iter().all(|letter| letter.reason() == DeadReason::NoInstance));
        }
        // Each instance tries one event, and what they take decides.
        simulation.advance(SECOND + MS);
        simulation.run();
        assert_eq!(state(&service), Some(BreakerState::HalfOpen));
        let mut taken = 0;
        for _ in 0..4 {
            taken += drain(&mut a) + drain(&mut b);
            simulation.run();
        }
        assert_eq!((taken, state(&service)), (if name == "holds" { 4 } else { 1 }, Some(BreakerState::Closed)));
    }
    let told = notices.take();
    let changes = |state: &str| {
        let is_meant =
            |notice: &&String| notice.starts_with("Breaker") && notice.contains("holds/") && notice.contains(state);
        told.iter().filter(is_meant).count()
    };
    assert_eq!((changes("Open"), changes("Closed")), (2 + changes("HalfOpen"), changes("HalfOpen")), "{told:?}");
    assert_settled(bus);
}

#[test]
fn only_an_instance_has_a_next_target() {
    let bus = Bus::builder().build().unwrap();
    let refused = bus.subscribe("a").mode(DeliveryMode::reliable()).breaker(fragile()).mailbox().unwrap_err();
    let setting = "WhileOpen::NextTarget";
    assert_eq!(refused, SubscribeError::Service(ServiceError::Setting { setting, of_instance: false }));
    assert_balanced(&bus);
}

#[test]
fn on_threads_every_event_is_delivered_once_or_a_dead_letter_however_often_it_goes_on() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let service = bus.service("one").open().unwrap();
        let done: Arc<Mutex<HashMap<_, u32>>> = Arc::default();
        let policy = BreakerPolicy::default().failures_max(2).open_for(MS).while_open(WhileOpen::NextTarget);
        let retry = RetryPolicy::default().attempts_max(20).delays(Duration::ZERO, MS);
        let handlers: Vec<_> = (0..3)
            .map(|nth| {
                let (done, mut draw) = (Arc::clone(&done), Draw(nth + 1));
                let handle = move |_: Payload<'_>, meta: &Meta<'_>| {
                    if draw.below(2) == 0 {
                        return Err("no");
                    }
                    *done.lock().unwrap().entry(meta.id()).or_default() += 1;
                    Ok(())
                };
                let wish = service.instance(format!("i{nth}")).capacity(16).breaker(policy).retry(retry);
                if nth == 0 { wish.handle(handle) } else { wish.handle_on(&format!("i{nth}"), handle) }.unwrap()
            })
            .collect();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..3_000 {
            publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        }
        bus.flush_deadline(Duration::from_secs(120)).unwrap();
        let books = bus.ledger().subscriptions;
        assert_eq!(books.delivered + books.dead_lettered, 3_000, "{books:#?}");
        let done = done.lock().unwrap();
        assert_eq!((done.len() as u64, done.values().all(|&times| times == 1)), (books.delivered, true));
        assert!(books.passed_on > 0, "{books:#?}");
        bus.shutdown().unwrap();
        assert_books(&bus);
        drop(handlers);
    });
}
