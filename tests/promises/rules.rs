//! Promises of routing rules: which services an event goes to, while rules and services change.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{
    Bus, Condition, Delivery, EventId, Mailbox, Meta, Path, Pattern, Payload, Priority, RoutingRule, RuleError,
    RuleReason, RulesError, ServiceHealth, ServiceTarget, Verdict,
};

use crate::support::assert_books;
use crate::support::*;

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(2), 3).unwrap()
}

/// A service of one instance.
fn service(bus: &Bus, name: &str) -> Mailbox<Pattern> {
    bus.service(name).open().unwrap().instance("a").mailbox().unwrap()
}

fn drain(inbox: &mut Mailbox<Pattern>) -> Vec<EventId> {
    let take = |delivery: Delivery<Pattern>| {
        let id = delivery.meta().id();
        delivery.ack();
        id
    };
    std::iter::from_fn(|| inbox.try_recv().ok().map(take)).collect()
}

fn publish(simulation: &Simulation, topic: &str) -> EventId {
    let id = simulation.bus().publish(topic, Payload::raw(b"")).unwrap();
    simulation.run();
    id
}

#[test]
fn a_rule_is_in_force_from_its_adding_to_its_removal_but_for_while_it_is_disabled() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (mut audit, rules) = (service(bus, "audit"), bus.rules());
    publish(&simulation, "orders.placed");
    assert_eq!((drain(&mut audit).len(), bus.ledger().unmatched), (0, 1), "without a rule it takes no slot");
    rules.add(RoutingRule::new("r").types(["orders.*"]).to("audit")).unwrap();
    let first = publish(&simulation, "orders.placed");
    publish(&simulation, "other");
    let second = publish(&simulation, "orders.new_type");
    assert_eq!(drain(&mut audit), [first, second]);
    rules.disable("r").unwrap();
    publish(&simulation, "orders.placed");
    assert_eq!(drain(&mut audit), []);
    rules.enable("r").unwrap();
    let third = publish(&simulation, "orders.placed");
    assert_eq!(drain(&mut audit), [third]);
    rules.change(RoutingRule::new("r").types(["other"]).to("audit")).unwrap();
    publish(&simulation, "orders.placed");
    let fourth = publish(&simulation, "other");
    assert_eq!(drain(&mut audit), [fourth]);
    rules.remove("r").unwrap();
    publish(&simulation, "other");
    assert_eq!((drain(&mut audit).len(), rules.list().len()), (0, 0));
    assert_eq!(bus.ledger().unmatched, 5);
    assert_settled(bus);
}

#[test]
fn an_event_goes_once_to_each_service_that_any_rule_names_and_targets_go_before_rules() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (mut one, mut two) = (service(bus, "one"), service(bus, "two"));
    let mut observer = bus.subscribe("x").mailbox().unwrap();
    bus.rules().add(RoutingRule::new("a").to("one").to("nowhere").to("one")).unwrap();
    bus.rules().add(RoutingRule::new("b").priority(9).types(["x"]).to("two").to("one")).unwrap();
    let both = publish(&simulation, "x");
    assert_eq!((drain(&mut one), drain(&mut two), drain(&mut observer)), (vec![both], vec![both], vec![both]));
    let target = bus.publisher().unwrap().event().target("two").publish("y", Payload::raw(b"")).unwrap();
    simulation.run();
    assert_eq!((drain(&mut one), drain(&mut two)), (vec![], vec![target]));
    assert_settled(bus);
}

#[test]
fn rules_and_targets_of_a_higher_priority_come_first() {
    let simulation = simulation();
    let bus = simulation.bus();
    let seen = Log::new();
    let _instances = ["one", "two", "three"].map(|name| {
        let log = seen.clone();
        let service = bus.service(name).on_worker(1).open().unwrap();
        service.instance("a").handle(move |_, _: &Meta<'_>| log.add(name)).unwrap()
    });
    bus.rules().add(RoutingRule::new("a").to("one")).unwrap();
    bus.rules().add(RoutingRule::new("z").priority(-1).to("three")).unwrap();
    bus.rules().add(RoutingRule::new("b").priority(9).to("two")).unwrap();
    publish(&simulation, "x");
    assert_eq!(seen.take(), ["two", "one", "three"]);
    let mut publisher = bus.publisher().unwrap();
    let event = publisher.event().target("one").target(ServiceTarget::new("three").with_priority(7)).target("two");
    event.publish("x", Payload::raw(b"")).unwrap();
    simulation.run();
    assert_eq!(seen.take(), ["three", "one", "two"]);
    assert_settled(bus);
}

#[test]
fn a_rule_waits_for_the_service_it_names() {
    let simulation = simulation();
    let bus = simulation.bus();
    bus.rules().add(RoutingRule::new("r").to("late")).unwrap();
    publish(&simulation, "x");
    let mut late = service(bus, "late");
    let id = publish(&simulation, "x");
    assert_eq!(drain(&mut late), [id]);
    bus.get_service("late").unwrap().end().unwrap();
    publish(&simulation, "x");
    assert_eq!((drain(&mut late).len(), bus.ledger().unmatched), (0, 2));
    assert_books(bus);
}

#[test]
fn a_plain_handler_and_a_rule_of_its_topic_share_the_events() {
    let simulation = simulation();
    let bus = simulation.bus();
    let seen = Log::new();
    let log = seen.clone();
    let handler = bus.subscribe("x").handle(move |_, meta: &Meta<'_>| log.add(meta.id())).unwrap();
    let worker = handler.record().worker;
    let urgent = bus.service("urgent").on_worker(worker).open().unwrap();
    let mut inbox = urgent.instance("a").mailbox().unwrap();
    bus.rules().add(RoutingRule::new("r").priority_min(Priority::High).to("urgent")).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..5 {
        for priority in Priority::ALL {
            publisher.at(priority).publish("x", Payload::raw(b"")).unwrap();
        }
    }
    simulation.run();
    assert_eq!((seen.len(), drain(&mut inbox).len()), (20, 10));
    assert_settled(bus);
}

#[cfg(feature = "json")]
#[test]
fn conditions_read_header_metadata_and_json_of_an_event_in_its_slot_or_block() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut large = service(bus, "large");
    let rule = RoutingRule::new("r").when(Condition::metadata("tenant").equals("acme"));
    bus.rules().add(rule.when(Condition::payload("order.cents").greater_than(1_000)).to("large")).unwrap();
    let mut publisher = bus.publisher().unwrap();
    let long = format!(r#"{{"pad": "{}", "order": {{"cents": 1001}}}}"#, "p".repeat(8_000));
    let mut wanted = Vec::new();
    for (tenant, json, is_wanted) in [
        ("acme", r#"{"order": {"cents": 999}}"#, false),
        ("acme", r#"{"order": {"cents": 1001}}"#, true),
        ("acme", &long, true),
        ("globex", r#"{"order": {"cents": 1001}}"#, false),
        ("acme", "{", false),
    ] {
        let event = publisher.event().metadata("tenant", tenant);
        let id = event.publish("orders.placed", Payload::json(json)).unwrap();
        wanted.extend(is_wanted.then_some(id));
    }
    simulation.run();
    assert_eq!(drain(&mut large), wanted);
    assert_settled(bus);
}

#[test]
fn types_beyond_the_limit_are_matched_by_name() {
    let simulation = Simulation::new(Bus::builder().workers(1).types_max(2), 3).unwrap();
    let bus = simulation.bus();
    let mut files = service(bus, "files");
    bus.rules().add(RoutingRule::new("r").types(["filesystem"]).to("files")).unwrap();
    let mut wanted = Vec::new();
    for topic in ["filesystem.a", "x", "filesystem.b", "y", "filesystem.c", "y.filesystem"] {
        let id = publish(&simulation, topic);
        wanted.extend(topic.starts_with("filesystem").then_some(id));
    }
    assert_eq!(drain(&mut files), wanted);
    bus.rules().disable("r").unwrap();
    publish(&simulation, "filesystem.d");
    assert_eq!(drain(&mut files), []);
    assert_settled(bus);
}

#[test]
fn a_diff_tells_what_a_change_would_move_and_changes_nothing() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (mut one, mut two) = (service(bus, "one"), service(bus, "two"));
    let mut samples = bus.subscribe("*").mailbox().unwrap();
    let rules = bus.rules();
    rules.add(RoutingRule::new("r").types(["orders"]).to("one")).unwrap();
    publish(&simulation, "orders.placed");
    let moved = publish(&simulation, "orders.paid");
    let deliveries: Vec<_> = std::iter::from_fn(|| samples.try_recv().ok()).collect();
    let other = rules.set().with(RoutingRule::new("s").priority(1).types(["orders.paid"]).to("two")).unwrap();
    let changes = rules.diff(&other, deliveries.iter().map(Delivery::meta));
    let [change] = &*changes else { panic!("{changes:?}") };
    assert_eq!((change.sample, change.event), (1, moved));
    assert_eq!((change.before.join(","), change.after.join(",")), ("one".to_owned(), "two,one".to_owned()));
    drop(deliveries);
    assert_eq!((drain(&mut one).len(), drain(&mut two).len()), (2, 0), "asking changed nothing");
    rules.replace(other).unwrap();
    let after = publish(&simulation, "orders.paid");
    assert_eq!((drain(&mut one), drain(&mut two)), (vec![after], vec![after]));
    assert_books(bus);
}

#[test]
fn explain_tells_which_services_get_an_event_and_by_which_rules() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (_audit, _other) = (service(bus, "audit"), service(bus, "other"));
    bus.service("empty").open().unwrap();
    let rules = bus.rules();
    rules.add(RoutingRule::new("orders").types(["orders"]).to("audit").to("empty")).unwrap();
    let tenant = Condition::metadata("tenant").equals("acme");
    rules.add(RoutingRule::new("tenant").types(["orders.*"]).when(tenant).to("other")).unwrap();
    let verdicts = |explanations: Vec<ringmain::Explanation>| -> BTreeMap<String, Verdict> {
        explanations.into_iter().map(|one| (one.name, one.verdict)).collect()
    };
    let known = verdicts(bus.explain("orders.placed", "s", Priority::Low));
    assert_eq!(known["audit"], Verdict::Directed { conditionally: false });
    assert_eq!(known["other"], Verdict::Directed { conditionally: true });
    assert_eq!(known["empty"], Verdict::NoInstance);
    assert_eq!(known.len(), 3, "instances do not show beside their service");

    let mut publisher = bus.publisher().unwrap();
    let event = publisher.event().metadata("tenant", "globex");
    let explained = event.explain("orders.placed", Payload::raw(b"")).unwrap();
    assert_eq!(explained[0].rules, ["orders"]);
    assert!(explained[0].to_string().ends_with("is sent it, by orders"), "{}", explained[0]);
    assert_eq!(verdicts(explained)["other"], Verdict::NotDirected);
    let event = publisher.event().target("other").explain("orders.placed", Payload::raw(b"")).unwrap();
    let targeted = verdicts(event);
    assert_eq!(
        (targeted["other"], targeted["audit"]),
        (Verdict::Directed { conditionally: false }, Verdict::NotDirected)
    );
    bus.update_service_health("audit", "a", ServiceHealth::Unhealthy).unwrap();
    assert_eq!(verdicts(bus.explain("orders.placed", "s", Priority::Low))["audit"], Verdict::NoInstance);
    assert_eq!(verdicts(bus.explain("x", "s", Priority::Low))["audit"], Verdict::NotDirected);

    let handler = bus.subscribe("orders.**").on_worker(bus.services()[0].worker).handle(|_, _: &Meta<'_>| ()).unwrap();
    let path = |topic| bus.explain(topic, "s", Priority::Low)[0].path;
    assert_eq!((path("orders.placed"), path("orders.a.b")), (Some(Path::Services), Some(Path::Services)));
    rules.disable("orders").unwrap();
    assert_eq!(path("orders.a.b"), Some(Path::Direct), "no other rule wants it");
    rules.enable("orders").unwrap();
    drop(handler);

    let mut samples = bus.subscribe("*").mailbox().unwrap();
    publish(&simulation, "orders.placed");
    let reasons = rules.explain(&samples.try_recv().unwrap().meta());
    assert!(reasons[0].matches() && matches!(&reasons[1].reason, RuleReason::Condition { .. }), "{reasons:?}");
    assert_books(bus);
}

#[test]
fn what_is_wrong_with_a_change_is_said_and_nothing_is_changed() {
    let simulation = simulation();
    let rules = simulation.bus().rules();
    rules.add(RoutingRule::new("r").to("s")).unwrap();
    let error = |result: Result<(), RulesError>| match result {
        Err(RulesError::Rule(error)) => error,
        other => panic!("{other:?}"),
    };
    let (r, x) = ("r".to_owned(), "x".to_owned());
    assert_eq!(error(rules.add(RoutingRule::new("r").to("t"))), RuleError::DuplicateId { rule: r });
    assert_eq!(error(rules.change(RoutingRule::new("x").to("t"))), RuleError::Unknown { rule: x.clone() });
    assert_eq!(error(rules.enable("x")), RuleError::Unknown { rule: x.clone() });
    assert_eq!(error(rules.remove("x")), RuleError::Unknown { rule: x.clone() });
    assert_eq!(error(rules.add(RoutingRule::new("x"))), RuleError::NoTargets { rule: x });
    let many = (0..17).fold(RoutingRule::new("x"), |rule, nth| rule.to(format!("s{nth}")));
    let message = RulesError::from(error(rules.add(many))).to_string();
    assert_eq!(message, r#"rule "x" has 17 targets, the limit is 16; split the rule"#);
    assert_eq!(rules.list(), [RoutingRule::new("r").to("s")]);
    assert_books(simulation.bus());
}

#[test]
fn rules_cannot_be_changed_on_a_worker() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (rules, told) = (bus.rules(), Log::new());
    let log = told.clone();
    let _handler = bus.subscribe("x").handle(move |_, _: &Meta<'_>| log.add(rules.remove("r"))).unwrap();
    publish(&simulation, "x");
    assert_eq!(told.take(), [Err(RulesError::OnWorker)]);
    assert_books(bus);
}

const TOPICS: [&str; 5] = ["orders.placed", "orders.paid", "orders.placed.late", "filesystem.created", "filesystem"];
const PATTERNS: [&str; 7] = ["orders.*", "orders.**", "*", "filesystem", "orders", "orders.paid", "*.created"];
const SERVICES: [&str; 3] = ["one", "two", "three"];

/// A rule by its parts, so that the model reads the parts and not the rule.
#[derive(Debug, Clone)]
struct Parts {
    id: u8,
    types: Vec<usize>,
    lanes: u8,
    tenant: Option<u8>,
    targets: Vec<usize>,
    priority: i32,
    enabled: bool,
}

impl Parts {
    fn rule(&self) -> RoutingRule {
        let mut rule = RoutingRule::new(self.id.to_string()).priority(self.priority).enabled(self.enabled);
        rule = rule.types(self.types.iter().map(|&at| PATTERNS[at]));
        rule = rule.priorities(Priority::ALL.into_iter().filter(|&priority| self.lanes & (1 << priority as u8) != 0));
        if let Some(tenant) = self.tenant {
            rule = rule.when(Condition::metadata("tenant").equals(i64::from(tenant)));
        }
        self.targets.iter().fold(rule, |rule, &at| rule.to(SERVICES[at]))
    }

    /// Said anew, by hand.
    fn matches(&self, topic: &str, priority: Priority, tenant: u8) -> bool {
        let one_type = |at: &usize| match PATTERNS[*at] {
            "orders.*" => matches!(topic, "orders.placed" | "orders.paid"),
            "orders.**" => topic.starts_with("orders."),
            "*" => true,
            "filesystem" => topic == "filesystem" || topic.starts_with("filesystem."),
            "orders" => topic.starts_with("orders."),
            "*.created" => topic == "filesystem.created",
            exact => topic == exact,
        };
        self.enabled
            && (self.types.is_empty() || self.types.iter().any(one_type))
            && (self.lanes & 0b1111 == 0 || self.lanes & (1 << priority as u8) != 0)
            && self.tenant.is_none_or(|wanted| wanted == tenant)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(Parts),
    Enable(u8, bool),
    Remove(u8),
    Publish { topic: usize, priority: u8, tenant: u8, targets: Vec<usize> },
}

fn step() -> impl Strategy<Value = Step> {
    let targets = || prop::collection::vec(0..SERVICES.len(), 1..4);
    let what = (prop::collection::vec(0..PATTERNS.len(), 0..3), prop_oneof![Just(0), 0..16_u8]);
    let parts = (0..4_u8, what, prop::option::of(0..3_u8), targets(), -2..3, prop::bool::weighted(0.8)).prop_map(
        |(id, (types, lanes), tenant, targets, priority, enabled)| {
            Step::Put(Parts { id, types, lanes, tenant, targets, priority, enabled })
        },
    );
    let event = (0..TOPICS.len(), 0..4_u8, 0..3_u8, prop_oneof![4 => Just(Vec::new()), 1 => targets()]);
    prop_oneof![
        2 => parts,
        1 => (0..4_u8, any::<bool>()).prop_map(|(id, enabled)| Step::Enable(id, enabled)),
        1 => (0..4_u8).prop_map(Step::Remove),
        6 => event.prop_map(|(topic, priority, tenant, targets)| Step::Publish { topic, priority, tenant, targets }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn events_go_where_the_rules_of_their_moment_say(steps in prop::collection::vec(step(), 1..60), observed: bool) {
        let simulation = simulation();
        let bus = simulation.bus();
        let mut inboxes = SERVICES.map(|name| service(bus, name));
        let seen = Log::new();
        let log = seen.clone();
        let _observer = observed.then(|| bus.subscribe("orders.*").handle(move |_, meta: &Meta<'_>| log.add(meta.id())));
        let (mut model, mut wanted, mut wanted_by_observer) = (BTreeMap::new(), [const { Vec::new() }; 3], Vec::new());
        let mut publisher = bus.publisher().unwrap();
        for step in steps {
            match step {
                Step::Put(parts) => {
                    let (rules, rule) = (bus.rules(), parts.rule());
                    let put = if model.contains_key(&parts.id) { rules.change(rule) } else { rules.add(rule) };
                    prop_assert_eq!(put, Ok(()));
                    model.insert(parts.id, parts);
                }
                Step::Enable(id, enabled) => {
                    let id_text = id.to_string();
                    let done =
                        if enabled { bus.rules().enable(&id_text) } else { bus.rules().disable(&id_text) };
                    prop_assert_eq!(done.is_ok(), model.contains_key(&id));
                    if let Some(parts) = model.get_mut(&id) {
                        parts.enabled = enabled;
                    }
                }
                Step::Remove(id) => {
                    prop_assert_eq!(bus.rules().remove(&id.to_string()).is_ok(), model.remove(&id).is_some());
                }
                Step::Publish { topic, priority, tenant, targets } => {
                    let (topic, priority) = (TOPICS[topic], Priority::ALL[usize::from(priority)]);
                    let event = publisher.event().priority(priority).metadata("tenant", &tenant.to_string());
                    let event = targets.iter().fold(event, |event, &at| event.target(SERVICES[at]));
                    let id = event.publish(topic, Payload::raw(b"")).unwrap();
                    simulation.run();
                    for (at, wanted) in wanted.iter_mut().enumerate() {
                        let by_rule = |parts: &Parts| parts.targets.contains(&at) && parts.matches(topic, priority, tenant);
                        let goes = match &*targets {
                            [] => model.values().any(by_rule),
                            targets => targets.contains(&at),
                        };
                        wanted.extend(goes.then_some(id));
                    }
                    wanted_by_observer.extend((observed && ["orders.placed", "orders.paid"].contains(&topic)).then_some(id));
                }
            }
        }
        for (inbox, wanted) in inboxes.iter_mut().zip(&mut wanted) {
            let mut got = drain(inbox);
            // More urgent ones come first out of a mailbox.
            got.sort();
            wanted.sort();
            prop_assert_eq!(&got, wanted);
        }
        prop_assert_eq!(seen.take(), wanted_by_observer);
        assert_settled(bus);
    }
}
