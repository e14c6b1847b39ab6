//! Promises about what is in the mailbox of an instance when that is called unhealthy: it goes on to others that are well, keeps its
//! attempts, and waits where it is while there are none.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Balancer, Bus, DeadLetterFilter, DeadReason, DeliveryMode, InstanceView, Mailbox, Meta, Outcome, Pattern,
    Payload, RetryPolicy, ServiceHealth,
};

use crate::services::{MS, boxes, drain, send, simulation};
use crate::services_again::strategies;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// Takes all that waits. The attempt that each is.
fn attempts(inbox: &mut Mailbox<Pattern>) -> Vec<u8> {
    let taken = std::iter::from_fn(|| inbox.try_recv().ok());
    taken
        .map(|delivery| {
            let attempt = delivery.meta().attempt();
            delivery.ack();
            attempt
        })
        .collect()
}

#[test]
fn what_waits_at_an_instance_goes_on_to_the_others_when_it_is_called_unhealthy() {
    for mode in [DeliveryMode::reliable(), DeliveryMode::BestEffort] {
        for balance in strategies() {
            let simulation = simulation();
            let bus = simulation.bus();
            let service = bus.service("one").balance(balance).open().unwrap();
            let mut a = service.instance("a").mode(mode).mailbox().unwrap();
            send(&simulation, "one", 6);
            let mut b = service.instance("b").mode(mode).mailbox().unwrap();
            assert_eq!((a.len(), b.len()), (6, 0));
            bus.update_service_health("one", "a", ServiceHealth::Degraded).unwrap();
            simulation.run();
            assert_eq!((a.len(), b.len()), (6, 0), "it works");
            // Its consumer has one in hand, which is its own.
            let own = a.try_recv().unwrap();
            bus.update_service_health("one", "a", ServiceHealth::Unhealthy).unwrap();
            simulation.run();
            assert_eq!((a.len(), b.len()), (0, 5), "{service:?} {mode:?}");
            own.ack();
            assert_eq!((drain(&mut a), drain(&mut b)), (0, 5));
            let books = service.record().ledger;
            assert_eq!((books.passed_on, books.delivered), (5, 6));
            assert_settled(bus);
        }
    }
}

#[test]
fn attempts_that_failed_at_an_instance_that_is_unhealthy_count_at_the_next_one_too() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let hour = 3_600 * SECOND;
    let retry = RetryPolicy::default().attempts_max(2).delays(hour, hour);
    let mut a = service.instance("a").retry(retry).mailbox().unwrap();
    send(&simulation, "one", 3);
    let mut b = service.instance("b").retry(retry).mailbox().unwrap();
    let [waits, in_hand] = [a.try_recv().unwrap(), a.try_recv().unwrap()];
    waits.settle(&Outcome::Failed("no".to_owned()));
    bus.update_service_health("one", "a", ServiceHealth::Unhealthy).unwrap();
    simulation.run();
    // What waits for its next attempt comes at once, before what is queued.
    assert_eq!(attempts(&mut b), [2, 1]);
    in_hand.settle(&Outcome::Failed("no".to_owned()));
    simulation.run();
    assert_eq!((a.len(), b.len()), (0, 0), "it waits for its next attempt");
    simulation.advance(hour + MS);
    simulation.run();
    let last = b.try_recv().unwrap();
    assert_eq!((a.len(), last.meta().attempt()), (0, 2));
    last.settle(&Outcome::Failed("no".to_owned()));
    simulation.run();
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!((letters[0].reason(), letters[0].attempts()), (DeadReason::AttemptsExhausted, 2));
    assert_settled(bus);
}

#[test]
fn what_an_unhealthy_instance_has_stays_while_nobody_is_well_or_has_room_and_it_may_work_it_off() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a"]);
    send(&simulation, "one", 8);
    bus.update_service_health("one", "a", ServiceHealth::Unhealthy).unwrap();
    // As long as it takes for an event at the service to be a dead letter.
    simulation.advance(3_600 * SECOND);
    simulation.run();
    assert_eq!(inboxes[0].len(), 8);
    inboxes[0].try_recv().unwrap().ack();
    let mut small = service.instance("b").capacity(2).mailbox().unwrap();
    simulation.run();
    assert_eq!((inboxes[0].len(), small.len()), (5, 2));
    inboxes[0].try_recv().unwrap().ack();
    assert_eq!(drain(&mut small), 2);
    simulation.run();
    assert_eq!((inboxes[0].len(), small.len()), (2, 2));
    bus.update_service_health("one", "a", ServiceHealth::Healthy).unwrap();
    assert_eq!(drain(&mut small), 2);
    simulation.run();
    assert_eq!((drain(&mut inboxes[0]), small.len()), (2, 0));
    assert_settled(bus);
}

/// Only the first instance will do.
struct First;

impl Balancer for First {
    fn pick(&mut self, _: &Meta<'_>, _: &[InstanceView]) -> Option<usize> {
        Some(0)
    }
}

#[test]
fn what_has_expired_at_an_unhealthy_instance_holds_nothing_up_that_is_behind_it() {
    for mode in [DeliveryMode::reliable(), DeliveryMode::BestEffort] {
        // One event a look.
        let simulation = Simulation::new(Bus::builder().workers(1).turn_max(1), 7).unwrap();
        let bus = simulation.bus();
        let service = bus.service("one").open().unwrap();
        let mut a = service.instance("a").mode(mode).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.event().expires_after(MS).target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        send(&simulation, "one", 2);
        let mut b = service.instance("b").mode(mode).mailbox().unwrap();
        simulation.advance(SECOND);
        assert_eq!((a.len(), b.len()), (3, 0));
        bus.update_service_health("one", "a", ServiceHealth::Unhealthy).unwrap();
        simulation.run();
        assert_eq!((drain(&mut a), drain(&mut b)), (0, 2), "{mode:?}");
        assert_settled(bus);
    }
}

#[test]
fn what_the_strategy_gives_to_nobody_who_is_well_waits_at_the_service_and_is_then_a_dead_letter() {
    for mode in [DeliveryMode::reliable(), DeliveryMode::BestEffort] {
        let simulation = simulation();
        let bus = simulation.bus();
        let retry = RetryPolicy::default().attempts_max(2).delays(SECOND, SECOND);
        let service = bus.service("one").balance(Balance::custom(First)).retry(retry).capacity(2).open().unwrap();
        let mut a = service.instance("a").mode(mode).mailbox().unwrap();
        let b = service.instance("b").mode(mode).mailbox().unwrap();
        send(&simulation, "one", 3);
        assert_eq!(a.len(), 3);
        bus.update_service_health("one", "a", ServiceHealth::Unhealthy).unwrap();
        simulation.run();
        // The service has room for two; the other one stays where it may be worked off.
        assert_eq!((a.len() + service.record().instances[0].ledger.waiting as usize, b.len()), (1, 0));
        assert_eq!(service.record().waiting, 2);
        simulation.advance(2 * SECOND);
        simulation.run();
        let letters = bus.dead_letters().list(&DeadLetterFilter::new());
        let reasons: Vec<_> = letters.iter().map(|letter| (letter.reason(), letter.attempts())).collect();
        assert_eq!(reasons, [(DeadReason::NoInstance, 2); 2]);
        bus.update_service_health("one", "a", ServiceHealth::Healthy).unwrap();
        simulation.run();
        assert_eq!(drain(&mut a), 1);
        assert_settled(bus);
    }
}
