//! The direct path: what `explain` says of how an event reaches a subscription.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, DedupWindow, DeliveryMode, Filter, Path, Payload, Priority, Subscription};

use super::support::{Log, TICK, Tick, assert_books};

fn simulate(builder: BusBuilder) -> Simulation {
    Simulation::new(builder.workers(2), 1).unwrap()
}

/// How an event reaches each subscription, oldest first.
fn paths(bus: &Bus) -> Vec<Option<Path>> {
    bus.explain(TICK.name(), "anybody", Priority::Normal).iter().map(|explanation| explanation.path).collect()
}

fn inline(bus: &Bus, worker: usize) -> Subscription {
    bus.subscribe(TICK).on_worker(worker).handle(|_, _| ()).unwrap()
}

#[test]
fn one_inline_subscription_is_on_the_direct_path_until_a_second_one_shares_its_worker() {
    let simulation = simulate(Bus::builder());
    let bus = simulation.bus();
    let only = inline(bus, 0);
    assert_eq!(paths(bus), [Some(Path::Direct)]);
    let elsewhere = inline(bus, 1);
    assert_eq!(paths(bus), [Some(Path::Direct); 2], "each is the only one of its worker");
    let critical = Filter::all().priorities([Priority::Critical]);
    let beside = bus.subscribe("clock.*").filter(critical).on_worker(0).handle(|_, _| ()).unwrap();
    let shared = Some(Path::Shared { others: 1 });
    assert_eq!(paths(bus), [shared, Some(Path::Direct), None], "who does not want this event is asked all the same");
    drop(beside);
    assert_eq!(paths(bus), [Some(Path::Direct); 2]);
    drop((only, elsewhere));
    assert_books(bus);
}

#[test]
fn what_is_asked_of_single_events_leads_off_the_direct_path() {
    let simulation = simulate(Bus::builder());
    let bus = simulation.bus();
    let path_of = |made: Subscription| {
        let found = paths(bus);
        made.unsubscribe().unwrap();
        found
    };
    let wish = || bus.subscribe(TICK).on_worker(0);
    let filter = Filter::all().matching(|_| true);
    assert_eq!(path_of(wish().filter(filter).handle(|_, _| ()).unwrap()), [Some(Path::Filtered)]);
    let window = DedupWindow::default().keys_max(16);
    assert_eq!(path_of(wish().dedup(window).handle(|_, _| ()).unwrap()), [Some(Path::Dedup)]);
    let reliable = wish().mode(DeliveryMode::reliable()).handle(|_, _| ()).unwrap();
    assert_eq!(path_of(reliable), [Some(Path::Mailbox)]);
    let priorities = Filter::all().priorities([Priority::Normal]);
    assert_eq!(path_of(wish().filter(priorities).handle(|_, _| ()).unwrap()), [Some(Path::Direct)]);
    let paused = wish().handle(|_, _| ()).unwrap();
    bus.pause(paused.id()).unwrap();
    assert_eq!(path_of(paused), [None], "it does not get the event");
    let inbox = wish().mailbox().unwrap();
    assert_eq!(paths(bus), [Some(Path::Mailbox)]);
    drop(inbox);

    let only = inline(bus, 0);
    let mut publisher = bus.publisher().unwrap();
    let late = publisher.event().expires_after(Duration::from_secs(1));
    let explained = late.explain(TICK, &Tick { from: 0, nth: 0 }).unwrap();
    assert_eq!(explained[0].path, Some(Path::Deadline));
    let explained = publisher.event().explain(TICK, &Tick { from: 0, nth: 0 }).unwrap();
    assert_eq!(explained[0].path, Some(Path::Direct));
    assert!(explained[0].to_string().ends_with("gets it, on the direct path"), "{}", explained[0]);
    drop(only);
    assert_books(bus);
}

#[test]
fn a_bus_that_tells_of_each_delivery_or_knows_the_topic_by_name_alone_dispatches() {
    let simulation = simulate(Bus::builder().enable_debug(true));
    let _only = inline(simulation.bus(), 0);
    assert_eq!(paths(simulation.bus()), [Some(Path::Debug)]);
    let simulation = simulate(Bus::builder().types_max(1));
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("first", Payload::plain_text("1")).unwrap();
    let _only = inline(bus, 0);
    assert_eq!(paths(bus), [Some(Path::ByName)]);
    assert_books(bus);
}

#[test]
fn on_whichever_path_each_event_comes_once_and_in_order() {
    let simulation = simulate(Bus::builder());
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let log = Log::new();
    let seen = log.clone();
    let only = bus.subscribe(TICK).on_worker(0).handle(move |tick, _| seen.add(tick.nth.to_native())).unwrap();
    let mut nth = 0;
    let mut publish = |count: u32| {
        for _ in 0..count {
            publisher.publish(TICK, &Tick { from: 0, nth }).unwrap();
            nth += 1;
        }
    };
    publish(70);
    simulation.run();
    let beside = inline(bus, 0);
    assert_eq!(paths(bus)[0], Some(Path::Shared { others: 1 }));
    publish(70);
    simulation.run();
    drop(beside);
    assert_eq!(paths(bus)[0], Some(Path::Direct));
    publish(70);
    simulation.run();
    assert_eq!(log.take(), (0..210).collect::<Vec<_>>());
    assert_eq!(only.record().delivery_count, 210);
    assert_books(bus);
}
