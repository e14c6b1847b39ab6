//! Latest-only delivery: a consumer finds the newest event of its subscription, or of each key, and how many it has missed.

mod model;
mod threads;

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Aggregate, Bus, BusBuilder, Delivery, DeliveryMode, EventId, Key, Mailbox, Outcome, Overflow, Pattern, Payload,
    Priority, RecvError, Subscribe, SubscribeError, SubscriptionLedger, TryRecvError,
};

use super::support::{Log, assert_balanced, assert_books, assert_settled, observed};

const MS: Duration = Duration::from_millis(1);

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(64).blocks([(512, 4)]).payload_bytes_max(512)
}

fn simulation() -> Simulation {
    Simulation::new(small(), 7).unwrap()
}

fn latest(bus: &Bus) -> Subscribe<Pattern> {
    bus.subscribe("**").named("inbox").mode(DeliveryMode::LatestOnly)
}

fn by_topic(bus: &Bus) -> Subscribe<Pattern> {
    latest(bus).latest_by(Key::Topic)
}

/// Publishes to each topic the number of its place in `topics`, and lets the worker have them.
fn publish(simulation: &Simulation, topics: &[&str]) {
    for (nth, topic) in topics.iter().enumerate() {
        simulation.bus().publish(*topic, Payload::plain_text(&nth.to_string())).unwrap();
    }
    simulation.run();
}

fn shown(delivery: &Delivery<Pattern>) -> (String, u64) {
    (delivery.payload().text().unwrap().to_owned(), delivery.skipped())
}

/// What a consumer finds, and with each how many it missed, until nothing is left.
fn take_all(inbox: &mut Mailbox<Pattern>) -> Vec<(String, u64)> {
    std::iter::from_fn(|| inbox.try_recv().ok()).map(|delivery| shown(&delivery)).collect()
}

fn found(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|&(text, skipped)| (text.to_owned(), skipped)).collect()
}

fn ledger(bus: &Bus) -> SubscriptionLedger {
    assert_books(bus);
    bus.ledger().subscriptions
}

#[test]
fn the_newest_waits_and_says_how_many_it_took_the_place_of() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = latest(bus).mailbox().unwrap();
    publish(&simulation, &["a", "b", "a", "c", "a"]);
    assert_eq!((inbox.len(), ledger(bus).queued), (1, 1));
    assert_eq!(take_all(&mut inbox), found(&[("4", 4)]));
    publish(&simulation, &["b"]);
    assert_eq!(take_all(&mut inbox), found(&[("0", 0)]), "nothing came in between");
    assert_eq!(inbox.try_recv().unwrap_err(), TryRecvError::Empty);
    let ledger = ledger(bus);
    assert_eq!((ledger.matched, ledger.delivered, ledger.dropped.superseded, ledger.dropped.total()), (6, 2, 4, 4));
    assert_settled(bus);
}

#[test]
fn what_is_superseded_is_dropped_and_no_error() {
    let simulation = simulation();
    let mut inbox = latest(simulation.bus()).mailbox().unwrap();
    publish(&simulation, &["a"; 10]);
    assert_eq!(take_all(&mut inbox), found(&[("9", 9)]));
    let metrics = simulation.bus().metrics();
    assert_eq!((metrics.messages_delivered, metrics.messages_dropped), (1, 9));
    assert_eq!((metrics.success_rate, metrics.error_rate), (1.0, 0.0));
    assert_books(simulation.bus());
}

#[test]
fn what_a_consumer_holds_is_not_taken_away() {
    let simulation = simulation();
    let mut inbox = latest(simulation.bus()).mailbox().unwrap();
    publish(&simulation, &["a"]);
    let held = inbox.try_recv().unwrap();
    publish(&simulation, &["b", "c", "d"]);
    assert_eq!((shown(&held), held.meta().topic()), (("0".to_owned(), 0), "a"));
    assert_eq!(take_all(&mut inbox), found(&[("2", 2)]), "what is held was not missed");
    held.ack();
    assert_eq!(ledger(simulation.bus()).dropped.superseded, 2);
    assert_settled(simulation.bus());
}

#[test]
fn the_newest_of_each_key_waits_in_the_order_in_which_the_keys_came() {
    let simulation = simulation();
    let mut inbox = by_topic(simulation.bus()).mailbox().unwrap();
    publish(&simulation, &["a", "b", "a", "c", "b", "b"]);
    assert_eq!(inbox.len(), 3);
    assert_eq!(take_all(&mut inbox), found(&[("2", 1), ("5", 2), ("3", 0)]));
    publish(&simulation, &["c", "a", "c"]);
    assert_eq!(take_all(&mut inbox), found(&[("2", 1), ("1", 0)]));
    assert_eq!(ledger(simulation.bus()).dropped.superseded, 4);
}

#[test]
fn keys_are_what_events_have_in_common_and_those_without_one_are_a_kind_together() {
    let number = Key::by(|meta| meta.payload().text()?.parse().ok());
    for (key, left) in [
        (Key::Subscription, vec!["y"]),
        (Key::Topic, vec!["y", "7"]),
        (Key::Source, vec!["8", "y"]),
        (Key::Aggregate, vec!["y", "7"]),
        (Key::Correlation, vec!["7", "8", "y"]),
        (number, vec!["y", "7", "8"]),
    ] {
        let simulation = simulation();
        let mut inbox = latest(simulation.bus()).latest_by(key.clone()).mailbox().unwrap();
        let mut publisher = simulation.bus().publisher().unwrap();
        let (one, other) = (EventId::random(), EventId::random());
        let order = Aggregate { kind: "order", id: "1", version: 1 };
        let text = Payload::plain_text;
        publisher.event().source("s").correlation(one).publish("a", text("x")).unwrap();
        publisher.event().source("t").correlation(one).aggregate(order).publish("b", text("7")).unwrap();
        publisher.event().source("s").correlation(other).publish("a", text("8")).unwrap();
        publisher.event().source("t").publish("a", text("y")).unwrap();
        simulation.run();
        let texts: Vec<_> = take_all(&mut inbox).into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, left, "{key:?}");
        assert_settled(simulation.bus());
    }
}

#[test]
fn a_more_urgent_newer_event_comes_at_its_own_priority() {
    let simulation = simulation();
    let mut inbox = by_topic(simulation.bus()).mailbox().unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    for (priority, topic) in [(Priority::Low, "a"), (Priority::High, "b"), (Priority::Critical, "a")] {
        publisher.at(priority).publish(topic, Payload::plain_text(priority.as_str())).unwrap();
        simulation.run();
    }
    let first = inbox.try_recv().unwrap();
    assert_eq!((first.meta().topic(), first.meta().priority(), first.skipped()), ("a", Priority::Critical, 1));
    drop(first);
    assert_eq!(inbox.try_recv().unwrap().meta().topic(), "b");
    assert_eq!(inbox.try_recv().unwrap_err(), TryRecvError::Empty, "its older place shows nothing");
    assert_settled(simulation.bus());
}

#[test]
fn a_less_urgent_newer_event_keeps_the_place_of_the_older_one() {
    let simulation = simulation();
    let mut inbox = by_topic(simulation.bus()).mailbox().unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    for (priority, topic) in [(Priority::High, "a"), (Priority::Normal, "b"), (Priority::Low, "a")] {
        publisher.at(priority).publish(topic, Payload::plain_text(priority.as_str())).unwrap();
        simulation.run();
    }
    let first = inbox.try_recv().unwrap();
    assert_eq!((first.meta().topic(), first.meta().priority(), first.skipped()), ("a", Priority::Low, 1));
    assert_eq!(inbox.try_recv().unwrap().meta().topic(), "b");
    assert_books(simulation.bus());
}

#[test]
fn a_paused_subscription_keeps_the_newest_and_shows_only_that_when_it_goes_on() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = latest(bus).mailbox().unwrap();
    bus.pause(inbox.id()).unwrap();
    publish(&simulation, &["a"; 40]);
    publish(&simulation, &["a"; 40]);
    assert_eq!(inbox.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!((ledger(bus).queued, ledger(bus).dropped.superseded, bus.ledger().in_lanes), (1, 79, 0));
    bus.resume(inbox.id()).unwrap();
    assert_eq!(take_all(&mut inbox), found(&[("39", 79)]));
}

#[test]
fn more_keys_than_may_wait_meet_the_overflow_policy_and_nothing_goes_uncounted() {
    // What stays in the lane, what is found at first and then, and how many were dropped for want of room.
    let cases = [
        (Overflow::Block, 3, [("2", 1), ("1", 0)], vec![("4", 1), ("5", 0)], 0),
        (Overflow::DropNewest, 0, [("5", 2), ("1", 0)], vec![], 2),
        (Overflow::DropOldest, 0, [("4", 1), ("5", 0)], vec![], 2),
    ];
    for (policy, in_lane, at_first, then, overflow) in cases {
        let (builder, notices) = observed(small());
        let simulation = Simulation::new(builder, 7).unwrap();
        let bus = simulation.bus();
        let mut inbox = by_topic(bus).keys_max(2).overflow(policy).mailbox().unwrap();
        publish(&simulation, &["a", "b", "a", "c", "c", "a"]);
        assert_eq!((inbox.len(), bus.ledger().in_lanes), (2, in_lane), "{policy:?}");
        assert_eq!(take_all(&mut inbox), found(&at_first), "{policy:?}");
        simulation.run();
        assert_eq!(take_all(&mut inbox), found(&then), "{policy:?}");
        let ledger = ledger(bus);
        assert_eq!(ledger.dropped.overflow, overflow, "{policy:?}");
        assert_eq!(ledger.delivered + ledger.dropped.superseded + overflow, 6, "{policy:?}");
        let is_told = notices.take().iter().any(|notice| notice.contains("MailboxOverflow"));
        assert_eq!(is_told, overflow > 0, "{policy:?}");
        assert_settled(bus);
    }
}

#[test]
fn to_make_room_only_what_is_no_more_urgent_is_dropped() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = by_topic(bus).keys_max(2).overflow(Overflow::DropOldest).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for (priority, topic) in [
        (Priority::High, "a"),
        (Priority::Low, "b"),
        // In the place of `b`.
        (Priority::Normal, "c"),
        // For want of another, itself.
        (Priority::Low, "d"),
    ] {
        publisher.at(priority).publish(topic, Payload::plain_text(topic)).unwrap();
        simulation.run();
    }
    assert_eq!(take_all(&mut inbox), found(&[("a", 0), ("c", 0)]));
    assert_eq!(ledger(bus).dropped.overflow, 2);
}

#[test]
fn deliveries_that_are_held_beyond_the_capacity_cost_no_newer_event_its_place() {
    let simulation = simulation();
    let bus = simulation.bus();
    // Cells for one in hand, one that waits, and one to spare.
    let mut inbox = latest(bus).capacity(1).overflow(Overflow::DropNewest).mailbox().unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        publish(&simulation, &["a"]);
        held.push(inbox.try_recv().unwrap());
    }
    publish(&simulation, &["a"; 3]);
    held.push(inbox.try_recv().unwrap());
    assert_eq!(shown(&held[2]), ("2".to_owned(), 2), "the cell that waits is filled again");
    publish(&simulation, &["a"; 5]);
    assert_eq!((inbox.len(), ledger(bus).dropped.overflow), (0, 5), "all cells are in hand");
    held.clear();
    publish(&simulation, &["a"; 5]);
    assert_eq!(take_all(&mut inbox), found(&[("4", 4)]));
    assert_settled(bus);
}

#[test]
fn a_lane_waits_for_a_consumer_that_holds_too_many_and_goes_on_when_one_is_settled() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = latest(bus).capacity(1).mailbox().unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        publish(&simulation, &["a"]);
        held.push(inbox.try_recv().unwrap());
    }
    publish(&simulation, &["a"; 4]);
    assert_eq!(bus.ledger().in_lanes, 4);
    held.clear();
    simulation.run();
    assert_eq!(take_all(&mut inbox), found(&[("3", 3)]));
    assert_settled(bus);
}

#[test]
fn large_payloads_give_their_blocks_back_when_they_are_superseded() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = by_topic(bus).mailbox().unwrap();
    let large = |nth: u8| [nth; 500];
    for nth in 0..40 {
        let topic = ["a", "b"][usize::from(nth % 2)];
        bus.publish(topic, Payload::raw(&large(nth))).unwrap();
        simulation.run();
        let waiting = (usize::from(nth) + 1).min(2);
        assert_eq!(bus.metrics().free_blocks, 4 - waiting, "after {nth}");
    }
    for nth in [38, 39] {
        let delivery = inbox.try_recv().unwrap();
        assert_eq!((delivery.payload().bytes(), delivery.skipped()), (&large(nth)[..], 19));
    }
    assert_eq!(bus.metrics().free_blocks, 4);
    // Small ones take their place, and they that of small ones.
    for body in [&large(1)[..], b"small", &large(2)[..]] {
        bus.publish("a", Payload::raw(body)).unwrap();
        simulation.run();
    }
    assert_eq!(inbox.try_recv().unwrap().payload().bytes(), large(2));
    assert_eq!(bus.metrics().free_blocks, 4);
    assert_settled(bus);
}

#[test]
fn a_newest_event_that_expires_shows_nothing_older() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = latest(bus).mailbox().unwrap();
    publish(&simulation, &["a"; 3]);
    bus.publisher().unwrap().event().expires_after(10 * MS).publish("a", Payload::plain_text("short")).unwrap();
    simulation.run();
    simulation.advance(11 * MS);
    assert_eq!(inbox.try_recv().unwrap_err(), TryRecvError::Empty);
    let ledger = ledger(bus);
    assert_eq!((ledger.dropped.expired, ledger.dropped.superseded, ledger.delivered), (1, 3, 0));
    // One that is too late when it is routed takes nobody's place.
    publish(&simulation, &["a"]);
    bus.publisher().unwrap().event().expires_after(10 * MS).publish("a", Payload::plain_text("late")).unwrap();
    simulation.advance(11 * MS);
    simulation.run();
    assert_eq!(take_all(&mut inbox), found(&[("0", 0)]));
    assert_settled(bus);
}

#[test]
fn what_a_subscription_leaves_behind_is_counted() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = by_topic(bus).mailbox().unwrap();
    publish(&simulation, &["a", "b", "a", "c"]);
    let held = inbox.try_recv().unwrap();
    drop(inbox);
    held.ack();
    let ledger = ledger(bus);
    assert_eq!((ledger.delivered, ledger.dropped.closed, ledger.dropped.superseded), (1, 2, 1));
    assert_settled(bus);
}

#[test]
fn what_waits_when_a_subscription_ends_can_still_be_taken() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = by_topic(bus).mailbox().unwrap();
    publish(&simulation, &["a", "b", "a"]);
    bus.unsubscribe(inbox.id()).unwrap();
    publish(&simulation, &["a", "b"]);
    assert_eq!(take_all(&mut inbox), found(&[("2", 1), ("1", 0)]));
    assert_eq!(inbox.recv().unwrap_err(), RecvError::Closed);
    assert_settled(bus);
}

#[test]
fn a_key_that_panics_is_a_failed_event_and_holds_nothing_up() {
    let simulation = simulation();
    let bus = simulation.bus();
    let key = Key::by(|meta| {
        assert_ne!(meta.topic(), "bad", "a panic that the test asks for");
        Some(meta.topic().len() as u64)
    });
    let mut inbox = latest(bus).latest_by(key).keys_max(1).mailbox().unwrap();
    publish(&simulation, &["a", "bad", "b"]);
    assert_eq!(take_all(&mut inbox), found(&[("2", 1)]));
    let ledger = ledger(bus);
    assert_eq!((ledger.failed, ledger.dropped.superseded, ledger.delivered), (1, 1, 1));
}

#[test]
fn other_modes_skip_nothing() {
    let simulation = simulation();
    let bus = simulation.bus();
    let log = Log::new();
    for mode in [DeliveryMode::BestEffort, DeliveryMode::reliable()] {
        let mut inbox = bus.subscribe("a").mode(mode).mailbox().unwrap();
        publish(&simulation, &["a"; 3]);
        log.add(take_all(&mut inbox));
    }
    assert!(log.take().iter().all(|taken| taken.len() == 3 && taken.iter().all(|(_, skipped)| *skipped == 0)));
    assert_books(bus);
}

#[test]
fn a_failure_is_counted_and_the_event_does_not_come_again() {
    let simulation = simulation();
    let mut inbox = latest(simulation.bus()).mailbox().unwrap();
    publish(&simulation, &["a"; 2]);
    inbox.try_recv().unwrap().settle(&Outcome::Failed("no".to_owned()));
    assert_eq!(inbox.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!((ledger(simulation.bus()).failed, ledger(simulation.bus()).dropped.superseded), (1, 1));
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    let bus = small().build().unwrap();
    let refused = |wish: Subscribe<Pattern>| wish.mailbox().map(drop).unwrap_err();
    let max = 1 << 24;
    for (wish, error, says) in [
        (bus.subscribe("a").latest_by(Key::Topic), SubscribeError::NotByKey, "LatestOnly"),
        (latest(&bus).keys_max(3), SubscribeError::NotByKey, "latest_by"),
        (
            by_topic(&bus).keys_max(0),
            SubscribeError::KeysMax { keys_max: 0, max },
            "keys_max = 0; it is from 1 to 16777216",
        ),
        (by_topic(&bus).keys_max(max + 1), SubscribeError::KeysMax { keys_max: max + 1, max }, "16777217"),
        (latest(&bus).ordered_by(Key::Topic), SubscribeError::NeedsReliable { setting: "ordered_by" }, "ordered_by"),
        (latest(&bus).capacity(0), SubscribeError::Capacity { capacity: 0, max }, "from 1 to"),
    ] {
        let found = refused(wish);
        assert!(found.to_string().contains(says), "{found}");
        assert_eq!(found, error);
    }
    let inline = latest(&bus).handle(|_, _| ()).map(drop).unwrap_err();
    assert_eq!(inline, SubscribeError::NeverBehind);
    assert!(inline.to_string().contains("handle_on"), "{inline}");
    assert!(bus.subscriptions().is_empty());
    assert_balanced(&bus);
}

#[test]
fn keys_that_come_and_go_are_no_more_than_may_wait() {
    let simulation = simulation();
    let mut inbox = by_topic(simulation.bus()).keys_max(3).overflow(Overflow::DropNewest).mailbox().unwrap();
    for round in 0..50 {
        let topics = [format!("t{round}"), format!("u{}", round / 2), format!("v{}", round / 3)];
        publish(&simulation, &topics.each_ref().map(String::as_str));
        assert_eq!(take_all(&mut inbox), found(&[("0", 0), ("1", 0), ("2", 0)]));
    }
    assert_eq!(ledger(simulation.bus()).dropped.total(), 0);
}
