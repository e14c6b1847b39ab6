//! Promises of services at their edges: where nobody can take an event, where instances and services end, and nothing is lost.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Bus, DeadLetterFilter, DeadReason, Delivery, DeliveryMode, Key, Meta, Overflow, Pattern, Payload,
    RetryPolicy, ServiceHealth,
};

use crate::services::{MS, boxes, drain, places, send, simulation};
use crate::support::*;

fn nth(delivery: &Delivery<Pattern>) -> usize {
    delivery.meta().get("nth").unwrap().parse().unwrap()
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
fn what_an_ended_instance_leaves_beyond_one_turn_comes_in_the_next_one_and_not_later() {
    let simulation = Simulation::new(Bus::builder().workers(1).turn_max(2), 7).unwrap();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b"]);
    send(&simulation, "one", 20);
    drop(inboxes.remove(0));
    // The clock stands still.
    simulation.run();
    assert_eq!(drain(&mut inboxes[0]), 20);
    assert_settled(bus);
}

#[test]
fn a_letter_on_its_way_back_to_an_instance_that_ends_is_not_lost() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let mut inboxes = boxes(&service, &["a", "b"]);
    send(&simulation, "one", 1);
    let first = inboxes.iter().position(|inbox| !inbox.is_empty()).unwrap();
    inboxes[first].try_recv().unwrap().settle(&ringmain::Outcome::Reject("no".to_owned()));
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    bus.dead_letters().redrive(letters[0].id()).unwrap();
    // Before its worker has looked.
    drop(inboxes.remove(first));
    simulation.run();
    simulation.advance(Duration::from_secs(1));
    simulation.run();
    assert_eq!(drain(&mut inboxes[0]) + bus.dead_letters().len(), 1);
    assert_settled(bus);
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
fn an_instance_that_ends_amid_a_call_of_its_thread_gives_back_all_that_waits() {
    for (hangs, replaced) in [(false, false), (true, false), (false, true), (true, true)] {
        watched(move || {
            // Nobody waits for the call that is under way.
            let simulation = Simulation::new(Bus::builder().workers(1).deadline(Duration::ZERO), 1).unwrap();
            let bus = simulation.bus();
            let service = bus.service("one").open().unwrap();
            let (say, said) = channel();
            let (let_go, held) = channel::<()>();
            let held = Arc::new(Mutex::new(held));
            let make = move || {
                let (say, held) = (say.clone(), Arc::clone(&held));
                move |_: Payload<'_>, _: &Meta<'_>| {
                    say.send(()).unwrap();
                    held.lock().unwrap().recv().unwrap();
                }
            };
            let wish = service.instance("a");
            let instance = if replaced {
                let make = Mutex::new(make);
                wish.handle_on_each("a", move || make.lock().unwrap()())
            } else {
                wish.handle_on("a", make())
            };
            let instance = instance.unwrap();
            send(&simulation, "one", 3);
            said.recv().unwrap();
            let mut other = service.instance("b").mailbox().unwrap();
            instance.unsubscribe().unwrap();
            if !hangs {
                let_go.send(()).unwrap();
            }
            let mut given_back = 0;
            while given_back < 2 && bus.dead_letters().is_empty() {
                simulation.run();
                given_back += drain(&mut other);
                std::thread::yield_now();
            }
            assert_eq!((given_back, bus.dead_letters().len()), (2, 0), "hangs {hangs}, replaced {replaced}");
            if hangs {
                let_go.send(()).unwrap();
            }
            while bus.ledger().subscriptions.delivered < 3 {
                std::thread::yield_now();
            }
            assert!(bus.shutdown_deadline(Duration::from_secs(30)).unwrap().is_clean());
            assert_books(bus);
        });
    }
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
