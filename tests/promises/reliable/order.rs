//! Order of a key, also where one of its events is tried again.

use super::super::support::{Draw, Log, assert_settled};
use super::*;
use crate::support::assert_balanced;

/// Publishes an event of `source` that says `text`.
fn say(bus: &Bus, source: &str, text: &str) {
    let mut publisher = bus.publisher().unwrap();
    publisher.event().source(source).publish("a", Payload::plain_text(text)).unwrap();
}

#[test]
fn order_of_a_key_is_kept_while_one_of_its_events_is_tried_again() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(3)).ordered_by(Key::Source);
    let mut inbox = wish.mailbox().unwrap();
    for (source, text) in [("x", "x1"), ("y", "y1"), ("x", "x2"), ("y", "y2"), ("x", "x3")] {
        say(bus, source, text);
    }
    simulation.run();
    let mut next = || {
        simulation.run();
        let delivery = inbox.try_recv().ok()?;
        Some((delivery.payload().text().unwrap().to_owned(), delivery))
    };
    let (text, x1) = next().unwrap();
    assert_eq!(text, "x1");
    let (text, y1) = next().unwrap();
    assert_eq!(text, "y1", "another key");
    assert!(next().is_none(), "both keys have an event in hand");
    y1.ack();
    let (text, y2) = next().unwrap();
    assert_eq!(text, "y2");
    x1.fail("not yet");
    let (text, x1) = next().unwrap();
    assert_eq!((text.as_str(), x1.meta().attempt()), ("x1", 2), "x2 waits for it");
    x1.reject("never");
    let (text, x2) = next().unwrap();
    assert_eq!(text, "x2", "what is over lets the next one through");
    x2.ack();
    let (text, x3) = next().unwrap();
    assert_eq!(text, "x3");
    x3.ack();
    y2.ack();
    let ledger = ledger(bus);
    assert_eq!((ledger.delivered, ledger.dead_lettered, ledger.waiting), (4, 1, 0));
    assert_settled(bus);
}

#[test]
fn ordered_events_come_in_order_whatever_fails() {
    for seed in 0..20 {
        let simulation = Simulation::new(small(), seed).unwrap();
        let bus = simulation.bus();
        let (log, mut draw) = (Log::new(), Draw(seed));
        let seen = log.clone();
        let retry = RetryPolicy::default().attempts_max(100).delays(MS, 10 * MS);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).ordered_by(Key::Source).capacity(8);
        let _made = wish.handle(move |payload, meta| {
            if draw.one_in(3) {
                return Err("not yet");
            }
            seen.add((meta.source().to_owned(), payload.text().unwrap().parse::<u32>().unwrap()));
            Ok(())
        });
        let mut choose = Draw(!seed);
        for nth in 0..60 {
            say(bus, ["x", "y", "z"][choose.below(3) as usize], &nth.to_string());
        }
        run_to_the_end(&simulation);
        assert_settled(bus);
        let seen = log.take();
        assert_eq!(seen.len(), 60, "seed {seed}");
        for source in ["x", "y", "z"] {
            let numbers: Vec<_> = seen.iter().filter(|(from, _)| from == source).map(|(_, nth)| *nth).collect();
            assert!(numbers.is_sorted(), "seed {seed}, {source}: {numbers:?}");
        }
    }
}

#[test]
fn order_is_asked_for_where_it_can_be_disturbed() {
    let bus = small().build().unwrap();
    let refused = bus.subscribe("a").ordered_by(Key::Topic).mailbox().unwrap_err();
    assert_eq!(refused, SubscribeError::NeedsReliable { setting: "ordered_by" });
    assert_balanced(&bus);
}

#[test]
fn events_of_a_key_follow_each_other_within_a_turn_of_an_inline_handler() {
    let simulation = simulation();
    let wish = simulation.bus().subscribe("a").mode(DeliveryMode::reliable()).ordered_by(Key::Subscription);
    let mut fails = true;
    let made = wish.retry(at_once(2)).handle(move |payload, _| {
        if payload.text() == Some("5") && std::mem::take(&mut fails) { Err("not yet") } else { Ok(()) }
    });
    publish(simulation.bus(), 10);
    simulation.turn(0);
    let record = || made.as_ref().unwrap().record().ledger;
    assert_eq!((record().delivered, record().waiting), (5, 5), "the sixth is to be tried again");
    simulation.run();
    assert_eq!(record().delivered, 10);
    assert_settled(simulation.bus());
}
