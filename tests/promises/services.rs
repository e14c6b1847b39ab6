//! Promises of services: who gets an event, who gets none, and that none is lost between them.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Balancer, Bus, DeadLetterFilter, DeadReason, Delivery, DeliveryMode, InstanceView, Key, Mailbox, Meta,
    Overflow, Pattern, Payload, Picker, Priority, RetryPolicy, Service, ServiceError, ServiceHealth, SubscribeError,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(2), 7).unwrap()
}

/// Publishes `count` events for the service `to`, and lets the workers bring them there.
fn send(simulation: &Simulation, to: &str, count: usize) {
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

fn boxes(service: &Service, names: &[&str]) -> Vec<Mailbox<Pattern>> {
    names.iter().map(|name| service.instance(*name).mailbox().unwrap()).collect()
}

/// Takes and acknowledges all that waits.
fn drain(inbox: &mut Mailbox<Pattern>) -> usize {
    let mut taken = 0;
    while let Ok(delivery) = inbox.try_recv() {
        delivery.ack();
        taken += 1;
    }
    taken
}

fn nth(delivery: &Delivery<Pattern>) -> usize {
    delivery.meta().get("nth").unwrap().parse().unwrap()
}

/// Events that are over or wait at a service, each in one place: what was passed on shows where it went.
fn places(service: &Service) -> u64 {
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
    assert!(!service.record().instances[0].is_open);
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

#[test]
fn an_event_that_no_instance_can_take_is_tried_again_and_is_then_a_dead_letter_with_that_reason() {
    let simulation = simulation();
    let bus = simulation.bus();
    let retry = RetryPolicy::default().attempts_max(3).delays(10 * MS, 10 * MS);
    let service = bus.service("one").retry(retry).open().unwrap();
    send(&simulation, "one", 2);
    assert_eq!((service.record().waiting, bus.dead_letters().len()), (2, 0));
    assert_books(bus);
    for _ in 0..3 {
        simulation.advance(11 * MS);
        simulation.run();
    }
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        assert_eq!((letter.reason(), letter.attempts()), (DeadReason::NoInstance, 3));
        assert_eq!(letter.subscription(), service.record().subscription);
        assert_eq!(letter.error(), Some("no healthy instance has room"));
    }
    assert_settled(bus);

    // They can be sent again, once there is somebody.
    let mut inbox = service.instance("a").mailbox().unwrap();
    bus.dead_letters().redrive(letters[0].id()).unwrap();
    simulation.run();
    assert_eq!(drain(&mut inbox), 1);
    assert_settled(bus);
}

#[test]
fn what_waits_goes_to_the_instance_that_comes_in_time() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    send(&simulation, "one", 100);
    let mut inbox = service.instance("a").mailbox().unwrap();
    simulation.advance(200 * MS);
    simulation.run();
    assert_eq!(drain(&mut inbox), 100);
    assert_eq!((places(&service), bus.ledger().subscriptions.passed_on), (100, 100));
    assert_settled(bus);
}

#[test]
fn where_all_instances_are_full_events_wait_and_then_hold_the_lane_up_or_are_dead_letters() {
    for overflow in [Overflow::Block, Overflow::DropNewest] {
        let simulation = simulation();
        let bus = simulation.bus();
        let service = bus.service("one").capacity(4).overflow(overflow).open().unwrap();
        let mut inbox = service.instance("a").capacity(2).mailbox().unwrap();
        send(&simulation, "one", 10);
        assert_books(bus);
        assert_eq!((inbox.len(), service.record().waiting), (2, 4));
        let (left, letters) = (bus.ledger().in_lanes, bus.dead_letters().list(&DeadLetterFilter::new()));
        if overflow == Overflow::Block {
            assert_eq!((left, letters.len()), (4, 0));
        } else {
            assert_eq!((left, letters.len()), (0, 4));
            assert!(letters.iter().all(|letter| letter.reason() == DeadReason::MailboxFull));
        }
        let mut taken = 0;
        for _ in 0..40 {
            taken += drain(&mut inbox);
            simulation.advance(200 * MS);
            simulation.run();
        }
        assert_eq!(taken + letters.len(), 10);
        assert_settled(bus);
    }
}

#[test]
fn a_service_that_is_paused_or_waits_for_one_instance_loses_nothing_when_it_is_full() {
    for by_key in [false, true] {
        let simulation = simulation();
        let bus = simulation.bus();
        let balance = if by_key { Balance::Affinity(Key::Topic) } else { Balance::RoundRobin };
        let service = bus.service("one").balance(balance).capacity(4).open().unwrap();
        let make = |name| service.instance(name).capacity(2).mailbox().unwrap();
        let mut inboxes = ["a", "b"].map(make);
        if !by_key {
            bus.pause(service.record().subscription).unwrap();
        }
        send(&simulation, "one", 20);
        assert_eq!((bus.dead_letters().len(), service.record().waiting), (0, 4));
        bus.resume(service.record().subscription).unwrap();
        let mut taken = 0;
        for _ in 0..200 {
            simulation.advance(200 * MS);
            simulation.run();
            taken += inboxes.iter_mut().map(drain).sum::<usize>();
        }
        assert_eq!((taken, bus.dead_letters().len()), (20, 0));
        assert_settled(bus);
    }
}

#[test]
fn a_shutdown_leaves_every_event_in_one_place() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let (gone, kept) = (service.instance("a").mailbox().unwrap(), service.instance("b").capacity(2).mailbox().unwrap());
    send(&simulation, "one", 8);
    bus.update_service_health("one", "b", ServiceHealth::Unhealthy).unwrap();
    drop(gone);
    let report = bus.shutdown().unwrap();
    assert!(report.ledger_balanced, "{report:?}");
    assert_books(bus);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!((kept.len(), letters.len()), (2, 6), "{:#?}", bus.ledger());
    assert!(letters.iter().all(|letter| letter.reason() == DeadReason::Closed), "{letters:?}");
}

#[test]
fn full_instances_wake_their_worker_when_they_have_room() {
    watched(|| {
        let bus = Bus::builder().workers(1).build().unwrap();
        let retry = RetryPolicy::default().attempts_max(100).delays(MS, MS);
        let service = bus.service("one").capacity(1).retry(retry).open().unwrap();
        let handle = |_: Payload<'_>, _: &Meta<'_>| ();
        let on_thread = |name: &str| service.instance(name).capacity(1).handle_on(name, handle).unwrap();
        let _instances = ["a", "b"].map(on_thread);
        let mut publisher = bus.publisher().unwrap();
        for _ in 0..2_000 {
            publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
        }
        bus.flush_deadline(Duration::from_secs(60)).unwrap();
        let books = bus.ledger().subscriptions;
        assert_eq!(books.delivered + books.dead_lettered, 2_000, "{books:#?}");
        assert!(books.delivered > 1_900, "{books:#?}");
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn an_instance_that_ends_gives_back_what_waits_in_its_mailbox() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b"]);
    send(&simulation, "one", 20);
    // One failed and waits for its time, one is in hand.
    let failed = inboxes[0].try_recv().unwrap();
    let failed_nth = nth(&failed);
    failed.settle(&ringmain::Outcome::Failed("no".to_owned()));
    let held = inboxes[0].try_recv().unwrap();
    drop(inboxes.remove(0));
    simulation.run();
    assert_eq!(service.record().instances.len(), 1);
    assert_books(bus);
    let mut seen = Vec::new();
    let mut take = || {
        while let Ok(delivery) = inboxes[0].try_recv() {
            seen.push(nth(&delivery));
            delivery.ack();
        }
    };
    take();
    simulation.advance(Duration::from_secs(1));
    simulation.run();
    take();
    held.ack();
    assert!(seen.contains(&failed_nth), "what waited to be tried again came, too: {seen:?}");
    assert_eq!(seen.len(), 19, "{seen:?}");
    assert_settled(bus);
    assert_eq!(bus.ledger().subscriptions.delivered, 20);

    // The last one: they wait for another.
    send(&simulation, "one", 5);
    drop(inboxes);
    simulation.run();
    assert_eq!(service.record().waiting, 5);
    let mut other = service.instance("b").mailbox().unwrap();
    simulation.advance(200 * MS);
    simulation.run();
    assert_eq!(drain(&mut other), 5);
    assert_settled(bus);
}

#[test]
fn a_best_effort_instance_gives_back_what_waits_too() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let gone = service.instance("a").mode(DeliveryMode::BestEffort).mailbox().unwrap();
    send(&simulation, "one", 5);
    assert_eq!(gone.len(), 5);
    drop(gone);
    let mut inbox = service.instance("b").mode(DeliveryMode::BestEffort).mailbox().unwrap();
    simulation.run();
    assert_eq!(drain(&mut inbox), 5);
    assert_settled(bus);
}

#[test]
fn a_service_that_ends_leaves_dead_letters_and_no_more_is_sent_to_it() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let inbox = service.instance("a").capacity(2).mailbox().unwrap();
    send(&simulation, "one", 5);
    service.end().unwrap();
    assert_eq!(bus.services().len(), 0);
    drop(inbox);
    simulation.run();
    send(&simulation, "one", 3);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert!(letters.iter().all(|letter| letter.reason() == DeadReason::Closed), "{letters:?}");
    assert_eq!(letters.len(), 5);
    assert_eq!(bus.ledger().unmatched, 3);
    assert_settled(bus);
    let again = bus.service("one").open().unwrap();
    let mut inbox = again.instance("a").mailbox().unwrap();
    send(&simulation, "one", 3);
    assert_eq!(drain(&mut inbox), 3);
}

#[test]
fn a_deadline_passes_where_an_event_waits_for_an_instance() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.event().target("one").expires_after(MS).publish("work.todo", Payload::raw(b"")).unwrap();
    simulation.run();
    simulation.advance(200 * MS);
    simulation.run();
    assert_eq!((service.record().ledger.dropped.expired, bus.dead_letters().len()), (1, 0));
    assert_settled(bus);
}

/// Sees how much the instances have to do.
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
}

#[test]
fn with_workers_and_handlers_on_threads_nothing_is_lost_while_instances_come_and_go() {
    watched(|| {
        let bus = Bus::builder().workers(2).build().unwrap();
        let service = bus.service("one").balance(Balance::LeastConnections).open().unwrap();
        let seen = Log::new();
        let instance = |name: String| {
            let log = seen.clone();
            let handle = move |_: Payload<'_>, meta: &Meta<'_>| log.add(meta.id());
            service.instance(name.clone()).capacity(8).handle_on(&name, handle).unwrap()
        };
        let mut instances: Vec<_> = (0..3).map(|nth| instance(format!("i{nth}"))).collect();
        let mut publisher = bus.publisher().unwrap();
        for round in 0..40 {
            for _ in 0..50 {
                publisher.event().target("one").publish("work.todo", Payload::raw(b"")).unwrap();
            }
            instances.remove(0).unsubscribe().unwrap();
            instances.push(instance(format!("r{round}")));
        }
        bus.flush_deadline(Duration::from_secs(60)).unwrap();
        let books = bus.ledger();
        assert_eq!(books.subscriptions.delivered + books.subscriptions.dead_lettered, 2_000, "{books:#?}");
        let ids: std::collections::HashSet<_> = seen.take().into_iter().collect();
        assert_eq!(ids.len() as u64, books.subscriptions.delivered);
        bus.shutdown().unwrap();
        assert_books(&bus);
    });
}
