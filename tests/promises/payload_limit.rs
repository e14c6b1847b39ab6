//! Conditions of rules read payloads up to a limit, and where an event goes is asked once, however long its lane waits.

use ringmain::testing::Simulation;
use ringmain::{BuildFault, Bus, BusBuilder, Condition, Mailbox, Overflow, Pattern, Payload, RoutingRule, RuleReason};

use crate::support::*;

const MAX: usize = 100;

fn builder() -> BusBuilder {
    Bus::builder().workers(1).condition_payload_bytes_max(MAX)
}

/// JSON of so many bytes, in which `a` is 1.
fn json(bytes: usize) -> String {
    let text = format!(r#"{{"a":1,"b":"{}"}}"#, "x".repeat(bytes - 14));
    assert_eq!(text.len(), bytes);
    text
}

/// A service of one instance, with room for one event here and one there.
fn service(bus: &Bus, name: &str) -> Mailbox<Pattern> {
    let service = bus.service(name).capacity(1).overflow(Overflow::Block).open().unwrap();
    service.instance("i").capacity(1).mailbox().unwrap()
}

fn taken(simulation: &Simulation, inbox: &mut Mailbox<Pattern>) -> usize {
    let next = || {
        simulation.run();
        inbox.try_recv().ok().map(|delivery| delivery.ack())
    };
    std::iter::from_fn(next).count()
}

#[test]
fn no_condition_on_a_payload_beyond_the_limit_holds_and_that_is_counted_and_said() {
    let simulation = Simulation::new(builder(), 1).unwrap();
    let bus = simulation.bus();
    let a = || Condition::payload("a").equals(1);
    let tenant = || Condition::metadata("tenant").equals("acme");
    let rules = [
        ("holds", a()),
        ("negated", !Condition::payload("a").equals(2)),
        ("either", Condition::any([a(), tenant()])),
        ("neither", !Condition::any([Condition::payload("a").equals(2), Condition::metadata("tenant").equals("b")])),
        ("missing", !Condition::payload("c").exists()),
    ];
    let mut inboxes = Vec::new();
    for (name, condition) in rules {
        inboxes.push((name, service(bus, name)));
        bus.rules().add(RoutingRule::new(name).types(["x"]).when(condition).to(name)).unwrap();
    }
    let mut publisher = bus.publisher().unwrap();
    let mut publish = |bytes| {
        publisher.event().metadata("tenant", "acme").publish("x", Payload::json(&json(bytes))).unwrap();
        let got = |(name, inbox): &mut (&'static str, _)| (taken(&simulation, inbox) == 1).then_some(*name);
        inboxes.iter_mut().filter_map(got).collect::<Vec<_>>()
    };
    assert_eq!(publish(MAX), ["holds", "negated", "either", "neither", "missing"]);
    assert_eq!(bus.metrics().conditions_unread, 0);
    assert_eq!(publish(MAX + 1), ["either"], "what needs no payload");
    assert_eq!(bus.metrics().conditions_unread, 1);

    let mut seen = bus.subscribe("x").mailbox().unwrap();
    publish(MAX + 1);
    let delivery = seen.try_recv().unwrap();
    let verdicts = bus.rules().explain(&delivery.meta());
    let negated = verdicts.iter().find(|verdict| verdict.rule == "negated").unwrap();
    assert!(matches!(negated.reason, RuleReason::PayloadTooLong { bytes, max: MAX, .. } if bytes == MAX + 1));
    assert_eq!(
        negated.to_string(),
        "negated: fails at: not (payload.a equals 2); the payload is 101 bytes, conditions read 100: raise condition_payload_bytes_max",
    );
    delivery.ack();
    publisher.event().metadata("tenant", "acme").publish("x", Payload::plain_text(&json(MAX + 1))).unwrap();
    simulation.run();
    assert_eq!(bus.metrics().conditions_unread, 2, "what is no JSON has no fields, however long it is");
    assert_books(bus);
}

#[test]
fn an_event_whose_lane_waits_is_asked_for_once_and_again_when_the_rules_change() {
    let simulation = Simulation::new(builder(), 1).unwrap();
    let bus = simulation.bus();
    let (mut one, mut two) = (service(bus, "one"), service(bus, "two"));
    bus.rules().add(RoutingRule::new("all").to("one")).unwrap();
    bus.rules().add(RoutingRule::new("some").when(Condition::payload("a").equals(2)).to("two")).unwrap();
    for _ in 0..4 {
        bus.publish("x", Payload::json(&json(MAX + 1))).unwrap();
    }
    for _ in 0..5 {
        simulation.run();
    }
    assert_eq!(bus.metrics().conditions_unread, 2, "the third waits, and the fourth behind it");
    bus.rules().change(RoutingRule::new("all").to("two")).unwrap();
    simulation.run();
    assert_eq!(
        (taken(&simulation, &mut one), taken(&simulation, &mut two)),
        (2, 2),
        "what waited goes by the new rules"
    );
    assert_eq!(bus.metrics().conditions_unread, 4, "each once");
    assert_settled(bus);
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let error = Bus::builder().condition_payload_bytes_max(0).build().unwrap_err();
    assert!(matches!(error.faults(), [BuildFault::OutOfRange { .. }]), "{error}");
}
