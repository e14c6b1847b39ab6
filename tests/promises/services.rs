//! Promises of services: who gets an event, who gets none, and that none is lost between them.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Balancer, Bus, Delivery, DeliveryMode, InstanceView, Key, Mailbox, Meta, Pattern, Payload, Picker,
    Priority, RetryPolicy, Service, ServiceError, ServiceHealth, SubscribeError,
};

use crate::support::assert_books;
use crate::support::*;

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(2), 7).unwrap()
}

/// Publishes `count` events for the service `to`, and lets the workers bring them there.
pub(crate) fn send(simulation: &Simulation, to: &str, count: usize) {
    let mut publisher = simulation.bus().publisher().unwrap();
    for nth in 0..count {
        let event = publisher.event().metadata("nth", &nth.to_string()).target(to);
        event.publish("work.todo", Payload::raw(b"")).unwrap();
        if nth % 64 == 63 {
            simulation.run();
        }
    }
    simulation.run();
}

pub(crate) fn boxes(service: &Service, names: &[&str]) -> Vec<Mailbox<Pattern>> {
    names.iter().map(|name| service.instance(*name).mailbox().unwrap()).collect()
}

/// Takes and acknowledges all that waits.
pub(crate) fn drain(inbox: &mut Mailbox<Pattern>) -> usize {
    let mut taken = 0;
    while let Ok(delivery) = inbox.try_recv() {
        delivery.ack();
        taken += 1;
    }
    taken
}

/// Events that are over or wait at a service, each in one place: what was passed on shows where it went.
pub(crate) fn places(service: &Service) -> u64 {
    let books = service.record().ledger;
    books.open() + books.delivered + books.failed + books.dead_lettered + books.dropped.total()
}

#[test]
fn an_event_goes_to_the_services_its_targets_name_and_to_no_other() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (one, two) = (bus.service("one").open().unwrap(), bus.service("two").open().unwrap());
    let (mut first, mut second) = (one.instance("a").mailbox().unwrap(), two.instance("a").mailbox().unwrap());
    let mut observer = bus.subscribe("work.*").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.event().target("one").publish("work.todo", Payload::raw(b"1")).unwrap();
    publisher.event().target("two").target("one").target("two").publish("other", Payload::raw(b"2")).unwrap();
    publisher.event().target("nobody").publish("work.todo", Payload::raw(b"3")).unwrap();
    publisher.publish("work.todo", Payload::raw(b"4")).unwrap();
    simulation.run();
    let payloads = |inbox: &mut Mailbox<Pattern>| -> Vec<u8> {
        std::iter::from_fn(|| inbox.try_recv().ok())
            .map(|delivery| {
                let byte = delivery.payload().bytes()[0];
                delivery.ack();
                byte
            })
            .collect()
    };
    assert_eq!(payloads(&mut first), b"12");
    assert_eq!(payloads(&mut second), b"2", "once, though named twice");
    assert_eq!(payloads(&mut observer), b"134", "targets are nothing to subscriptions");
    assert_settled(bus);
}

#[test]
fn targets_that_name_no_service_are_counted_and_each_name_is_told_of_once() {
    let (builder, notices) = observed(Bus::builder().workers(2).max_queue_size(4));
    let simulation = Simulation::new(builder, 7).unwrap();
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let unknown = || bus.metrics().unknown_targets;
    // Where there is no service at all the event goes nowhere, and is accepted all the same.
    publisher.event().target("nobody").publish("work.todo", Payload::raw(b"")).unwrap();
    assert_eq!((unknown(), bus.ledger().unmatched), (1, 1));

    let mut inbox = bus.service("one").open().unwrap().instance("a").mailbox().unwrap();
    let long = vec![7; 9_000];
    publisher.event().target("one").target("nobody").publish("work.todo", Payload::raw(&long)).unwrap();
    publisher.event().target("later").not_before(10 * MS).publish("work.todo", Payload::raw(b"")).unwrap();
    let mut batch = publisher.batch(Priority::Normal);
    batch.add("work.todo", Payload::raw(b"")).unwrap();
    batch.add_with("work.todo", Payload::raw(b""), |event| event.target("one").target("nowhere")).unwrap();
    batch.add_with("work.todo", Payload::raw(&long), |event| event.target("nobody")).unwrap();
    batch.publish().unwrap();
    assert_eq!(unknown(), 5);
    simulation.run();
    assert_eq!(drain(&mut inbox), 2);

    // What is refused counts for nothing, however often it is tried.
    while publisher.event().target("one").try_publish("work.todo", Payload::raw(b"")).is_ok() {}
    for _ in 0..3 {
        publisher.event().target("nobody").target("one").try_publish("work.todo", Payload::raw(b"")).unwrap_err();
    }
    assert_eq!(unknown(), 5);
    bus.get_service("one").unwrap().end().unwrap();
    publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
    assert_eq!(unknown(), 6, "it has ended");

    let told = notices.take();
    let told: Vec<_> = told.iter().filter(|notice| notice.starts_with("UnknownTarget")).collect();
    let names = ["nobody", "later", "nowhere", "one"].map(|name| format!("target: {name:?}"));
    assert_eq!(told.len(), names.len(), "{told:?}");
    assert!(told.iter().zip(&names).all(|(notice, name)| notice.contains(name)), "{told:?}");
    drop(inbox);
    simulation.run();
    assert_settled(bus);
}

#[test]
fn an_inline_handler_and_a_service_both_get_what_names_the_service() {
    let simulation = simulation();
    let bus = simulation.bus();
    let seen = Log::new();
    let log = seen.clone();
    let handler = bus.subscribe("work.*").handle(move |_, meta: &Meta<'_>| log.add(meta.sequence())).unwrap();
    let worker = handler.record().worker;
    let service = bus.service("one").on_worker(worker).open().unwrap();
    let mut inbox = service.instance("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for nth in 0..30 {
        match nth % 3 {
            1 => publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap(),
            _ => publisher.publish("work.todo", Payload::raw(b"")).unwrap(),
        };
    }
    simulation.run();
    assert_eq!((seen.len(), drain(&mut inbox)), (30, 10));
    assert_settled(bus);
}

#[test]
fn a_batch_and_a_schedule_bring_events_to_their_targets() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.service("one").open().unwrap().instance("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.event().target("one").not_before(10 * MS).publish("work.todo", Payload::raw(b"")).unwrap();
    let long = vec![7; 9_000];
    publisher.event().target("one").publish("work.todo", Payload::raw(&long)).unwrap();
    simulation.run();
    let delivery = inbox.try_recv().unwrap();
    assert_eq!(delivery.payload().bytes(), long, "in a block");
    delivery.ack();
    assert!(inbox.try_recv().is_err());
    simulation.advance(10 * MS);
    simulation.run();
    assert_eq!(drain(&mut inbox), 1);
    assert_settled(bus);
}

#[test]
fn round_robin_spreads_events_within_two_percent_of_the_ideal() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b", "c", "d", "e", "f", "g"]);
    let mut counts = [0; 7];
    for _ in 0..20 {
        send(&simulation, "one", 500);
        counts.iter_mut().zip(&mut inboxes).for_each(|(count, inbox)| *count += drain(inbox));
    }
    let ideal = 10_000.0 / 7.0;
    assert!(counts.iter().all(|&count| (f64::from(count as u32) / ideal - 1.0).abs() < 0.02), "{counts:?}");
    assert_settled(bus);
}

#[test]
fn weighted_random_keeps_to_the_weights_within_statistical_bounds() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").balance(Balance::WeightedRandom).open().unwrap();
    let weights = [1, 2, 3, 10];
    let make = |(nth, &weight): (usize, &u32)| service.instance(nth.to_string()).weight(weight).mailbox().unwrap();
    let mut inboxes: Vec<_> = weights.iter().enumerate().map(make).collect();
    let mut none = service.instance("none").weight(0).mailbox().unwrap();
    let mut counts = [0_u32; 4];
    for _ in 0..40 {
        send(&simulation, "one", 400);
        counts.iter_mut().zip(&mut inboxes).for_each(|(count, inbox)| *count += drain(inbox) as u32);
    }
    // Pearson's statistic; with three degrees of freedom one honest run in a thousand is above 16.27.
    let statistic: f64 = counts
        .iter()
        .zip(weights)
        .map(|(&count, weight)| {
            let ideal = 1_000.0 * f64::from(weight);
            (f64::from(count) - ideal).powi(2) / ideal
        })
        .sum();
    assert!(statistic < 16.27, "{counts:?}: {statistic}");
    assert_eq!((drain(&mut none), counts.iter().sum::<u32>()), (0, 16_000));
    assert_settled(bus);
}

#[test]
fn an_unhealthy_instance_gets_nothing_from_the_update_on_and_its_share_when_it_is_well() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b"]);
    let mut publisher = bus.publisher().unwrap();
    let mut publish = |count: usize| {
        for _ in 0..count {
            publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        }
    };
    // Those are in the lane already when the update comes.
    publish(10);
    bus.update_service_health("one", "b", ServiceHealth::Unhealthy).unwrap();
    publish(10);
    simulation.run();
    assert_eq!((drain(&mut inboxes[0]), drain(&mut inboxes[1])), (20, 0));
    bus.update_service_health("one", "b", ServiceHealth::Degraded).unwrap();
    publish(10);
    simulation.run();
    assert_eq!((drain(&mut inboxes[0]), drain(&mut inboxes[1])), (5, 5), "round robin does not look at degrees");
    assert_eq!(service.record().instances[1].health, ServiceHealth::Degraded);
    assert_settled(bus);
}

#[test]
fn a_paused_instance_gets_nothing() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b"]);
    bus.pause(inboxes[0].id()).unwrap();
    send(&simulation, "one", 10);
    assert!(!service.record().instances[0].takes_events);
    bus.resume(inboxes[0].id()).unwrap();
    assert_eq!((drain(&mut inboxes[0]), drain(&mut inboxes[1])), (0, 10));
    assert_settled(bus);
}

#[test]
fn health_and_priority_decide_under_the_strategies_that_look_at_them() {
    let simulation = simulation();
    let bus = simulation.bus();
    let healthy = bus.service("health").balance(Balance::HealthBased).open().unwrap();
    let mut inboxes = boxes(&healthy, &["a", "b"]);
    bus.update_service_health("health", "a", ServiceHealth::Degraded).unwrap();
    send(&simulation, "health", 10);
    assert_eq!((drain(&mut inboxes[0]), drain(&mut inboxes[1])), (0, 10));

    let ranked = bus.service("rank").balance(Balance::PriorityBased { top_for: Some(Priority::High) }).open().unwrap();
    let mut top = ranked.instance("top").priority(9).mailbox().unwrap();
    let mut rest = ranked.instance("rest").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for priority in Priority::ALL {
        publisher.event().priority(priority).target("rank").publish("work.todo", Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!((drain(&mut top), drain(&mut rest)), (2, 2));
    assert_settled(bus);
}

/// How much is done in equal time: three instances take one event a tick each, one takes one event in ten.
fn done_in_equal_time(balance: Balance) -> usize {
    let simulation = simulation();
    let service = simulation.bus().service("one").balance(balance).open().unwrap();
    let make = |name: &&str| service.instance(*name).capacity(64).mailbox().unwrap();
    let mut inboxes: Vec<_> = ["slow", "b", "c", "d"].iter().map(make).collect();
    let mut done = 0;
    for tick in 0..400 {
        send(&simulation, "one", 3);
        for (nth, inbox) in inboxes.iter_mut().enumerate() {
            if nth > 0 || tick % 10 == 0 {
                done += inbox.try_recv().map(Delivery::ack).is_ok() as usize;
            }
        }
        simulation.advance(MS);
    }
    assert_books(simulation.bus());
    assert_eq!(places(&service), 1_200);
    done
}

#[test]
fn least_connections_does_more_than_round_robin_with_one_slow_instance() {
    let (round_robin, least) = (done_in_equal_time(Balance::RoundRobin), done_in_equal_time(Balance::LeastConnections));
    println!("done in 400 ticks of 3 events: round robin {round_robin}, least connections {least}");
    assert!(least > 1_180, "{least}");
    assert!(round_robin < least - 50, "round robin {round_robin}, least connections {least}");
}

#[test]
fn events_of_one_key_go_to_one_instance_and_only_those_of_a_sick_one_move() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").affinity(Key::metadata("customer")).open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b", "c"]);
    let mut owners = || {
        let mut publisher = bus.publisher().unwrap();
        for customer in (0..60).chain(0..60) {
            let event = publisher.event().metadata("customer", &customer.to_string()).target("one");
            event.publish("work.todo", Payload::raw(b"")).unwrap();
        }
        simulation.run();
        let mut owners = vec![Vec::new(); 60];
        for (nth, inbox) in inboxes.iter_mut().enumerate() {
            while let Ok(delivery) = inbox.try_recv() {
                owners[delivery.meta().get("customer").unwrap().parse::<usize>().unwrap()].push(nth);
                delivery.ack();
            }
        }
        owners
    };
    let before = owners();
    assert!(before.iter().all(|owners| owners.len() == 2 && owners[0] == owners[1]), "{before:?}");
    assert!((0..3).all(|nth| before.iter().any(|owners| owners[0] == nth)), "{before:?}");
    bus.update_service_health("one", "b", ServiceHealth::Unhealthy).unwrap();
    let during = owners();
    for (before, during) in before.iter().zip(&during) {
        assert!(before == during || before[0] == 1 && during[0] != 1, "{before:?} {during:?}");
    }
    bus.update_service_health("one", "b", ServiceHealth::Healthy).unwrap();
    assert_eq!(owners(), before);
    assert_settled(bus);
}

/// Fails at one event.
struct Fewest(Picker);

impl Balancer for Fewest {
    fn pick(&mut self, event: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        if event.get("nth") == Some("3") {
            panic!("the user's");
        }
        self.0.pick(event, instances)
    }
}

#[test]
fn a_strategy_of_ones_own_may_panic_and_the_event_waits() {
    let simulation = simulation();
    let bus = simulation.bus();
    let own = Balance::custom(Fewest(Balance::LeastConnections.picker(1)));
    let retry = RetryPolicy::default().attempts_max(2).delays(MS, MS);
    let service = bus.service("one").balance(own).retry(retry).open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b"]);
    send(&simulation, "one", 9);
    simulation.advance(2 * MS);
    simulation.run();
    assert_eq!((drain(&mut inboxes[0]), drain(&mut inboxes[1])), (4, 4));
    assert_eq!(bus.dead_letters().len(), 1);
    assert_settled(bus);
}

#[test]
fn an_inline_handler_is_an_instance_too_under_reliable_delivery() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let seen = Log::new();
    let instance = |name: &'static str| {
        let log = seen.clone();
        service.instance(name).handle(move |_, _: &Meta<'_>| log.add(name)).unwrap()
    };
    let (_a, _b) = (instance("a"), instance("b"));
    send(&simulation, "one", 4);
    assert_eq!(seen.take(), ["a", "b", "a", "b"]);
    assert_settled(bus);
}

#[test]
fn what_cannot_be_a_service_or_an_instance_is_refused_by_name() {
    let simulation = simulation();
    let bus = simulation.bus();
    let refused = |error: SubscribeError| match error {
        SubscribeError::Service(error) => error,
        other => panic!("{other}"),
    };
    let service = bus.service("one").open().unwrap();
    let exists = ServiceError::Exists { name: "one".to_owned() };
    assert_eq!(refused(bus.service("one").open().unwrap_err()), exists);
    assert_eq!(refused(bus.service("").open().unwrap_err()), ServiceError::Name { bytes: 0, max: 255 });
    assert_eq!(refused(bus.service("s".repeat(256)).open().unwrap_err()), ServiceError::Name { bytes: 256, max: 255 });
    assert_eq!(bus.get_service("two").unwrap_err(), ServiceError::NotFound { name: "two".to_owned() });
    let _inbox = bus.get_service("one").unwrap().instance("a").mailbox().unwrap();
    let is = |setting, of_instance| ServiceError::Setting { setting, of_instance };
    assert_eq!(refused(bus.subscribe("*").weight(2).mailbox().unwrap_err()), is("a weight", false));
    assert_eq!(refused(service.instance("b").on_worker(1).mailbox().unwrap_err()), is("worker of its own", true));
    let inline = service.instance("b").mode(DeliveryMode::BestEffort).handle(|_, _: &Meta<'_>| ()).map(drop);
    assert!(matches!(refused(inline.unwrap_err()), ServiceError::Setting { of_instance: true, .. }));
    let (one, a) = ("one".to_owned(), "a".to_owned());
    let twice = ServiceError::InstanceExists { service: one.clone(), instance: a.clone() };
    assert_eq!(refused(service.instance("a").mailbox().unwrap_err()), twice);
    let unknown = ServiceError::NoInstance { service: one, instance: "z".to_owned() };
    assert_eq!(bus.update_service_health("one", "z", ServiceHealth::Healthy), Err(unknown));
    for nth in 1..64 {
        bus.service(format!("s{nth}")).open().unwrap();
    }
    assert_eq!(refused(bus.service("more").open().unwrap_err()), ServiceError::TooMany { max: 64 });
    let _more: Vec<_> = (1..64).map(|nth| service.instance(format!("i{nth}")).capacity(1).mailbox().unwrap()).collect();
    let too_many = ServiceError::TooManyInstances { service: "one".to_owned(), max: 64 };
    assert_eq!(refused(service.instance("more").mailbox().unwrap_err()), too_many);
    service.clone().end().unwrap();
    let ended = ServiceError::Ended { instance: "late".to_owned() };
    assert_eq!(refused(service.instance("late").mailbox().unwrap_err()), ended);
    assert_books(bus);
}
