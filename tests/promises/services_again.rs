//! Promises of services while what their instances can take changes: what waits comes at once, and what is protected is spared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use ringmain::{
    Balance, Balancer, BreakerPolicy, Bus, DeadLetterFilter, DeadReason, InstanceView, Key, Mailbox, Meta, Outcome,
    OverLimit, Overflow, Pattern, Payload, Rate, RetryPolicy, RoutingRule, RulesError, Service, ServiceHealth,
    SubscribeError, Subscription, SubscriptionId, TryRecvError,
};

use crate::services::{MS, boxes, drain, send, simulation};
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// Nothing comes by its time in these tests.
fn patient() -> RetryPolicy {
    RetryPolicy::default().delays(3_600 * SECOND, 3_600 * SECOND)
}

pub(crate) fn strategies() -> [Balance; 6] {
    let first: fn(&Meta<'_>) -> Option<u64> = |_| Some(1);
    [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::WeightedRandom,
        Balance::HealthBased,
        Balance::PriorityBased { top_for: None },
        Balance::Affinity(Key::by(first)),
    ]
}

/// An instance whose circuit breaker opens at the first failure, which is a dead letter, for a second.
fn fragile(service: &Service, name: &str) -> Mailbox<Pattern> {
    let breaker = BreakerPolicy::default().failures_max(1).open_for(SECOND);
    service.instance(name).breaker(breaker).retry(RetryPolicy::default().attempts_max(1)).mailbox().unwrap()
}

fn fail(inbox: &mut Mailbox<Pattern>) {
    inbox.try_recv().unwrap().settle(&Outcome::Failed("no".to_owned()));
}

#[test]
fn what_waits_comes_at_once_when_an_instance_is_well_again_resumed_or_new() {
    for balance in strategies() {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").balance(balance).retry(patient()).open().unwrap();
        let mut inbox = service.instance("a").mailbox().unwrap();
        bus.update_service_health("one", "a", ServiceHealth::Unhealthy).unwrap();
        send(&simulation, "one", 20);
        assert_eq!((inbox.len(), service.record().waiting), (0, 20));
        bus.update_service_health("one", "a", ServiceHealth::Degraded).unwrap();
        simulation.run();
        assert_eq!(drain(&mut inbox), 20, "{service:?}");

        bus.pause(inbox.id()).unwrap();
        send(&simulation, "one", 5);
        assert_eq!(service.record().waiting, 5);
        bus.resume(inbox.id()).unwrap();
        simulation.run();
        assert_eq!(drain(&mut inbox), 5);

        drop(inbox);
        send(&simulation, "one", 5);
        assert_eq!(service.record().waiting, 5);
        let mut inbox = service.instance("b").mailbox().unwrap();
        simulation.run();
        assert_eq!((drain(&mut inbox), bus.dead_letters().len()), (5, 0));
        assert_eq!(bus.ledger().subscriptions.passed_on, 30);
        assert_settled(bus);
    }
}

#[test]
fn what_waits_comes_at_once_when_an_instance_has_room() {
    for balance in strategies() {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").balance(balance).capacity(4).retry(patient()).open().unwrap();
        let mut inboxes = ["a", "b"].map(|name| service.instance(name).capacity(2).mailbox().unwrap());
        send(&simulation, "one", 20);
        let mut taken = 0;
        // Affinity gives all of them to one.
        for _ in 0..10 {
            assert_books(bus);
            taken += inboxes.iter_mut().map(drain).sum::<usize>();
            simulation.run();
        }
        assert_eq!((taken, bus.dead_letters().len()), (20, 0), "{service:?}");
        assert_settled(bus);
    }
}

/// Brings each event to the instance that its topic ends with, and counts how often it was asked.
struct Named(Arc<AtomicUsize>);

impl Balancer for Named {
    fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        // Relaxed: worker and test take turns.
        self.0.fetch_add(1, Ordering::Relaxed);
        let wanted = usize::from(event.topic().ends_with('b'));
        instances[wanted].is_available().then_some(wanted)
    }
}

#[test]
fn what_a_strategy_refuses_is_not_asked_about_in_every_turn_and_comes_when_who_is_wanted_has_room() {
    let simulation = simulation();
    let bus = simulation.bus();
    let asked = Arc::new(AtomicUsize::new(0));
    let balance = Balance::custom(Named(Arc::clone(&asked)));
    let service = bus.service("one").balance(balance).retry(patient()).open().unwrap();
    let mut a = service.instance("a").capacity(1).mailbox().unwrap();
    let mut b = service.instance("b").capacity(1).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for topic in ["to.a", "to.b"].repeat(500) {
        publisher.event().target("one").publish(topic, Payload::raw(b"")).unwrap();
        simulation.run();
    }
    // Paused, it is not asked either; what comes meanwhile is for both.
    bus.pause(service.record().subscription).unwrap();
    let before = asked.load(Ordering::Relaxed);
    for topic in ["to.a", "to.b"] {
        publisher.event().target("one").publish(topic, Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!(asked.load(Ordering::Relaxed), before);
    assert_eq!(drain(&mut b), 1);
    bus.resume(service.record().subscription).unwrap();
    simulation.run();
    assert_eq!((a.len(), b.len()), (1, 1));
    let before = asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        simulation.turn(0);
    }
    assert_eq!(asked.load(Ordering::Relaxed), before, "nobody has become available");
    for left in (0..500).rev() {
        assert_eq!(drain(&mut b), 1);
        simulation.run();
        assert_eq!((a.len(), b.len()), (1, usize::from(left > 0)));
    }
    let mut taken = 0;
    while !a.is_empty() {
        taken += drain(&mut a);
        simulation.run();
    }
    assert_eq!((taken, bus.dead_letters().len()), (501, 0));
    assert_settled(bus);
}

#[test]
fn a_worker_that_sleeps_is_woken_by_room_for_what_waits() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let service = bus.service("one").retry(patient()).open().unwrap();
        let mut inbox = service.instance("a").capacity(1).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..200 {
            publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        }
        for _ in 0..200 {
            inbox.recv().unwrap().ack();
        }
        bus.flush().unwrap();
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn a_change_that_helps_nobody_costs_what_waits_no_attempt() {
    let simulation = simulation();
    let bus = simulation.bus();
    let by_key = Balance::Affinity(Key::metadata("nth"));
    let retry = RetryPolicy::default().attempts_max(2).delays(SECOND, SECOND);
    let service = bus.service("one").balance(by_key).retry(retry).open().unwrap();
    let mut inbox = service.instance("a").capacity(1).mailbox().unwrap();
    send(&simulation, "one", 3);
    for _ in 0..20 {
        bus.update_service_health("one", "a", ServiceHealth::Degraded).unwrap();
        simulation.run();
    }
    assert_eq!((inbox.len(), service.record().waiting, bus.dead_letters().len()), (1, 2, 0));
    assert_eq!(drain(&mut inbox), 1);
    assert_books(bus);
}

#[test]
fn the_balancer_goes_to_the_next_target_while_a_breaker_is_open_and_spares_it_while_it_is_half_open() {
    for balance in [Balance::RoundRobin, Balance::HealthBased, Balance::PriorityBased { top_for: None }] {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").balance(balance).open().unwrap();
        let (mut a, mut b) = (fragile(&service, "a"), service.instance("b").mailbox().unwrap());
        send(&simulation, "one", 2);
        fail(&mut a);
        assert!(!service.record().instances[0].takes_events);
        send(&simulation, "one", 10);
        assert_eq!((drain(&mut a), drain(&mut b)), (0, 11));
        // Half open: one event is the probe, and none waits behind it.
        simulation.advance(SECOND + MS);
        send(&simulation, "one", 10);
        assert_eq!((a.len(), drain(&mut b)), (1, 9));
        fail(&mut a);
        send(&simulation, "one", 10);
        assert_eq!((drain(&mut a), drain(&mut b)), (0, 10));
        simulation.advance(SECOND + MS);
        send(&simulation, "one", 1);
        assert_eq!(drain(&mut a) + drain(&mut b), 1);
        send(&simulation, "one", 2);
        let took = (drain(&mut a), drain(&mut b));
        send(&simulation, "one", 10);
        assert_eq!((drain(&mut a), drain(&mut b)), (5, 5), "it is closed: {took:?}");
        assert_settled(bus);
    }
}

#[test]
fn what_waits_for_the_only_breaker_comes_as_its_probe_and_the_rest_when_it_closes() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").retry(patient()).open().unwrap();
    let mut inbox = fragile(&service, "a");
    send(&simulation, "one", 1);
    fail(&mut inbox);
    send(&simulation, "one", 10);
    assert_eq!((inbox.len(), service.record().waiting), (0, 10));
    simulation.advance(SECOND + MS);
    simulation.run();
    assert_eq!((inbox.len(), service.record().waiting), (1, 9));
    inbox.try_recv().unwrap().ack();
    simulation.run();
    assert_eq!(drain(&mut inbox), 9);
    assert_settled(bus);
}

#[test]
fn an_instance_whose_events_wait_for_their_rate_loses_none() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let slow = service.instance("a").rate_limit(Rate::per_second(10.0).burst(2), OverLimit::Queue);
    let mut inboxes = [slow.mailbox().unwrap(), service.instance("b").mailbox().unwrap()];
    send(&simulation, "one", 20);
    assert_eq!(inboxes.each_mut().map(drain), [2, 10]);
    simulation.advance(SECOND);
    simulation.run();
    assert_eq!((drain(&mut inboxes[0]), inboxes[0].len()), (2, 6), "no faster than its burst");
    // What it has not taken goes on when it ends.
    let [a, mut b] = inboxes;
    drop(a);
    simulation.run();
    assert_eq!(drain(&mut b), 6);
    assert_settled(bus);
}

/// A handler beside the services on their worker, which pauses and resumes an instance amid an event.
fn pausing(bus: &Bus, id: SubscriptionId) -> Subscription {
    let own = bus.clone();
    let handler = bus.subscribe("set.*").on_worker(0).handle(move |_, meta: &Meta<'_>| match meta.topic() {
        "set.paused" => own.pause(id).unwrap(),
        _ => own.resume(id).unwrap(),
    });
    handler.unwrap()
}

#[test]
fn a_service_that_blocks_gives_nothing_up_when_its_instance_is_paused_amid_an_event() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").capacity(1).on_worker(0).retry(patient()).open().unwrap();
    let mut inbox = service.instance("a").capacity(8).mailbox().unwrap();
    let id = inbox.id();
    let handler = pausing(bus, id);
    bus.pause(id).unwrap();
    send(&simulation, "one", 1);
    assert_eq!(service.record().waiting, 1);
    // There is room when the second one's turn comes, and the handler that has it first takes that away.
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("set.active", Payload::raw(b"")).unwrap();
    publisher.event().target("one").publish("set.paused", Payload::raw(b"")).unwrap();
    simulation.run();
    assert_eq!(bus.dead_letters().len(), 0);
    bus.resume(id).unwrap();
    simulation.run();
    assert_eq!(drain(&mut inbox), 2);
    drop(handler);
    assert_settled(bus);
}

#[test]
fn what_an_instance_paused_amid_an_event_holds_goes_to_no_unhealthy_one() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").capacity(1).on_worker(0).retry(patient()).open().unwrap();
    let mut sick = service.instance("sick").capacity(8).mailbox().unwrap();
    bus.update_service_health("one", "sick", ServiceHealth::Unhealthy).unwrap();
    let mut inbox = service.instance("well").capacity(8).mailbox().unwrap();
    let id = inbox.id();
    let handler = pausing(bus, id);
    bus.pause(id).unwrap();
    send(&simulation, "one", 1);
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("set.active", Payload::raw(b"")).unwrap();
    publisher.event().target("one").publish("set.paused", Payload::raw(b"")).unwrap();
    simulation.run();
    assert_eq!(drain(&mut sick), 0, "it gets nothing while it is unhealthy");
    assert_eq!(bus.dead_letters().len(), 0);
    bus.resume(id).unwrap();
    simulation.run();
    assert_eq!((drain(&mut sick), drain(&mut inbox)), (0, 2));
    drop(handler);
    assert_settled(bus);
}

#[test]
fn what_an_instance_leaves_waits_where_it_is_until_its_service_has_room() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").capacity(2).retry(patient()).open().unwrap();
    let mut inboxes = boxes(&service, &["a"]);
    send(&simulation, "one", 10);
    drop(inboxes.remove(0));
    simulation.run();
    simulation.advance(10 * MS);
    simulation.run();
    assert_eq!((service.record().waiting, bus.dead_letters().len()), (2, 0));
    assert_books(bus);
    let mut inbox = service.instance("b").mailbox().unwrap();
    simulation.run();
    simulation.advance(10 * MS);
    simulation.run();
    assert_eq!((drain(&mut inbox), bus.dead_letters().len()), (10, 0));
    assert_settled(bus);
}

#[test]
fn a_flush_waits_for_what_went_to_an_instance_that_came_after_it_began() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let service = bus.service("one").retry(patient()).open().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        let (begins, begun) = mpsc::channel();
        let flushed = Arc::new(AtomicBool::new(false));
        let flush = {
            let (bus, flushed) = (bus.clone(), Arc::clone(&flushed));
            std::thread::spawn(move || {
                begins.send(()).unwrap();
                let done = bus.flush_deadline(Duration::from_secs(100));
                flushed.store(true, Ordering::SeqCst);
                done
            })
        };
        begun.recv().unwrap();
        // Whether it has begun to look or not, it does not end before the event is over.
        (0..200).for_each(|_| std::thread::yield_now());
        let mut inbox = service.instance("a").mailbox().unwrap();
        let delivery = inbox.recv().unwrap();
        (0..2_000).for_each(|_| std::thread::yield_now());
        assert!(!flushed.load(Ordering::SeqCst));
        delivery.ack();
        flush.join().unwrap().unwrap();
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

/// A bus with a service of these instances on worker 1, with room for one event that none of them can take, which hangs in a handler until the sender is dropped.
fn hanging(instances: &[&str]) -> (Bus, Vec<Mailbox<Pattern>>, mpsc::Sender<()>) {
    let bus = Bus::builder().workers(2).deadline(Duration::from_millis(300)).build().unwrap();
    let service = bus.service("one").on_worker(1).capacity(1).overflow(Overflow::DropNewest);
    let inboxes = boxes(&service.open().unwrap(), instances);
    let (inside, entered) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let hanging = bus.subscribe("hang").on_worker(1).handle(move |_, _: &Meta<'_>| {
        inside.send(()).unwrap();
        // The other end is gone when the test lets go.
        let _ = gone.recv();
    });
    hanging.unwrap().forever();
    bus.publish("hang", Payload::raw(b"")).unwrap();
    entered.recv().unwrap();
    (bus, inboxes, go)
}

#[test]
fn a_rule_that_a_stuck_worker_has_not_taken_over_is_in_force_when_it_is_free() {
    watched(|| {
        let (bus, mut inboxes, go) = hanging(&["a"]);
        // So that the type is known, and nobody wants it.
        bus.publish("orders.placed", Payload::raw(b"")).unwrap();
        let stuck = RulesError::WorkerStuck { worker: 1 };
        assert_eq!(bus.rules().add(RoutingRule::new("r").types(["orders"]).to("one")), Err(stuck));
        drop(go);
        let id = bus.publish("orders.placed", Payload::raw(b"")).unwrap();
        assert_eq!(bus.ledger().unmatched, 1);
        let delivery = inboxes[0].recv().unwrap();
        assert_eq!(delivery.meta().id(), id);
        delivery.ack();
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn the_instances_of_a_service_end_with_it_also_where_its_worker_is_stuck() {
    watched(|| {
        let (bus, mut inboxes, go) = hanging(&["a", "b"]);
        let end = bus.get_service("one").unwrap().end();
        assert_eq!(end, Err(SubscribeError::WorkerStuck { worker: 1 }));
        assert!(inboxes.iter_mut().all(|inbox| matches!(inbox.try_recv(), Err(TryRecvError::Closed))));
        assert!(bus.services().is_empty());
        drop(go);
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn what_a_stuck_worker_has_before_it_for_a_service_that_ended_is_a_dead_letter_that_says_so() {
    watched(|| {
        let (bus, inboxes, go) = hanging(&["a"]);
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..3 {
            publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        }
        let end = bus.get_service("one").unwrap().end();
        assert_eq!(end, Err(SubscribeError::WorkerStuck { worker: 1 }));
        drop((go, inboxes));
        bus.flush_deadline(Duration::from_secs(60)).unwrap();
        let letters = bus.dead_letters().list(&DeadLetterFilter::new());
        let reasons: Vec<_> = letters.iter().map(|letter| letter.reason()).collect();
        assert_eq!(reasons, [DeadReason::Closed; 3]);
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}
