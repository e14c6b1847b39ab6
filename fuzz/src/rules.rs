//! Rules: while they come, change and go, each event reaches the services that the rules of its moment, or its targets, name.
//!
//! A bus without threads is driven through its public API. The oracle keeps the parts of each rule and evaluates them by hand:
//! patterns by a table of names, conditions by plain comparisons, and it knows no order, no table and no compilation.

use std::cell::RefCell;
use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use ringmain::testing::Simulation;
use ringmain::{Bus, Condition, Mailbox, Pattern, Payload, Priority, Publisher, RoutingRule, ServiceHealth};

const TOPICS: [&str; 6] =
    ["orders.placed", "orders.paid", "orders.placed.late", "filesystem.created", "filesystem", "x"];
/// Entries in a rule's types, and which topics each means.
const TYPES: [(&str, [bool; 6]); 7] = [
    ("orders.*", [true, true, false, false, false, false]),
    ("orders.**", [true, true, true, false, false, false]),
    ("*", [true; 6]),
    ("filesystem", [false, false, false, true, true, false]),
    ("orders", [true, true, true, false, false, false]),
    ("*.created", [false, false, false, true, false, false]),
    ("x", [false, false, false, false, false, true]),
];
const SERVICES: [&str; 4] = ["one", "two", "three", "nobody"];
/// Services there are; the last name is nobody's.
const THERE: usize = 3;
const OPERATIONS_MAX: usize = 200;
/// Cases that a bus lives for.
const CASES_MAX: usize = 64;

/// What an event carries for conditions.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Fields {
    topic: u8,
    lane: u8,
    /// Metadata `n`; absent above 3.
    meta: u8,
    /// JSON field `a.n`; absent above 3, and no JSON at all from 6 on.
    json: u8,
}

#[derive(Debug, Clone, Arbitrary)]
enum Test {
    Meta(Compare),
    Json(Compare),
    Either(Compare, Compare),
    NotMeta(Compare),
    Urgent,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Compare {
    Equals(u8),
    Less(u8),
    OneOf(u8, u8),
    Exists,
}

#[derive(Debug, Clone, Arbitrary)]
struct Parts {
    types: [Option<u8>; 2],
    lanes: u8,
    tests: [Option<Test>; 2],
    targets: [u8; 2],
    priority: i8,
    enabled: bool,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    Put(u8, Parts),
    Enable(u8, bool),
    Remove(u8),
    Publish(Fields),
    Target(Fields, u8, u8),
    /// An instance falls ill or is well again: its events go to the other.
    Health(u8, bool, bool),
    /// The service ends and comes again, with fresh instances.
    Renew(u8),
}

impl Compare {
    fn on(self, field: ringmain::OnField) -> Condition {
        match self {
            Self::Equals(value) => field.equals(value % 5),
            Self::Less(value) => field.less_than(value % 5),
            Self::OneOf(one, other) => field.one_of([one % 5, other % 5]),
            Self::Exists => field.exists(),
        }
    }

    /// Said anew: what is absent passes nothing.
    fn holds(self, seen: Option<u8>) -> bool {
        seen.is_some_and(|seen| match self {
            Self::Equals(value) => seen == value % 5,
            Self::Less(value) => seen < value % 5,
            Self::OneOf(one, other) => seen == one % 5 || seen == other % 5,
            Self::Exists => true,
        })
    }
}

impl Test {
    fn condition(&self) -> Condition {
        let (meta, json) = (|| Condition::metadata("n"), || Condition::payload("a.n"));
        match self {
            Self::Meta(compare) => compare.on(meta()),
            Self::Json(compare) => compare.on(json()),
            Self::Either(one, other) => Condition::any([one.on(meta()), other.on(json())]),
            Self::NotMeta(compare) => !compare.on(meta()),
            Self::Urgent => Condition::field("priority").greater_than(Priority::Normal),
        }
    }

    fn holds(&self, fields: &Fields) -> bool {
        match self {
            Self::Meta(compare) => compare.holds(fields.meta()),
            Self::Json(compare) => compare.holds(fields.json()),
            Self::Either(one, other) => one.holds(fields.meta()) || other.holds(fields.json()),
            Self::NotMeta(compare) => !compare.holds(fields.meta()),
            Self::Urgent => matches!(fields.priority(), Priority::High | Priority::Critical),
        }
    }
}

impl Fields {
    fn topic(self) -> usize {
        usize::from(self.topic) % TOPICS.len()
    }

    fn priority(self) -> Priority {
        Priority::ALL[usize::from(self.lane) % 4]
    }

    fn meta(self) -> Option<u8> {
        Some(self.meta % 6).filter(|value| *value < 4)
    }

    fn json(self) -> Option<u8> {
        Some(self.json % 8).filter(|value| *value < 4)
    }

    fn payload(self) -> String {
        match (self.json(), self.json % 8) {
            (Some(value), _) => format!(r#"{{"b": [1, "a"], "a": {{"m": null, "n": {value}}}}}"#),
            (None, 4 | 5) => r#"{"a": {"m": 7}}"#.to_owned(),
            (None, _) => "{".to_owned(),
        }
    }
}

impl Parts {
    fn targets(&self) -> [usize; 2] {
        self.targets.map(|target| usize::from(target) % SERVICES.len())
    }

    fn types(&self) -> impl Iterator<Item = &'static (&'static str, [bool; 6])> {
        self.types.iter().flatten().map(|&at| &TYPES[usize::from(at) % TYPES.len()])
    }

    fn priorities(&self) -> impl Iterator<Item = Priority> {
        Priority::ALL
            .into_iter()
            .enumerate()
            .filter(|(at, _)| self.lanes & (1 << at) != 0)
            .map(|(_, priority)| priority)
    }

    fn rule(&self, id: u8) -> RoutingRule {
        let rule = RoutingRule::new(id.to_string()).priority(self.priority.into()).enabled(self.enabled);
        let rule = rule.types(self.types().map(|(text, _)| *text)).priorities(self.priorities());
        let rule = self.tests.iter().flatten().fold(rule, |rule, test| rule.when(test.condition()));
        self.targets().into_iter().fold(rule, |rule, target| rule.to(SERVICES[target]))
    }

    fn matches(&self, fields: &Fields) -> bool {
        self.enabled
            && (self.types().next().is_none() || self.types().any(|(_, topics)| topics[fields.topic()]))
            && (self.priorities().next().is_none() || self.priorities().any(|priority| priority == fields.priority()))
            && self.tests.iter().flatten().all(|test| test.holds(fields))
    }
}

struct Case {
    instances: [[Mailbox<Pattern>; 2]; THERE],
    publisher: Publisher,
    simulation: Simulation,
    cases: usize,
}

thread_local! {
    static BUS: RefCell<Option<Case>> = const { RefCell::new(None) };
}

fn open(bus: &Bus, name: &str) -> [Mailbox<Pattern>; 2] {
    let service = bus.service(name).capacity(8).open().expect("there is none of this name");
    ["a", "b"].map(|instance| service.instance(instance).capacity(16).mailbox().expect("there is none of this name"))
}

impl Case {
    fn new() -> Self {
        let builder = Bus::builder().workers(2).max_queue_size(64).types_max(4);
        let simulation = Simulation::new(builder, 7).expect("the settings are good");
        let instances = std::array::from_fn(|at| open(simulation.bus(), SERVICES[at]));
        let publisher = simulation.bus().publisher().expect("there is a place");
        Self { instances, publisher, simulation, cases: 0 }
    }

    /// The numbers of the events that wait at a service, in no order.
    fn drain(&mut self, service: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for inbox in &mut self.instances[service] {
            while let Ok(delivery) = inbox.try_recv() {
                let number = delivery.meta().get("number").and_then(|number| number.parse().ok());
                numbers.push(number.expect("each event has its number"));
                delivery.ack();
            }
        }
        numbers
    }

    fn run(&mut self, operations: impl Iterator<Item = Operation>) {
        let mut model: BTreeMap<u8, Parts> = BTreeMap::new();
        let rules = self.simulation.bus().rules();
        for (number, operation) in (0..).zip(operations) {
            let mut wanted = [false; THERE];
            match operation {
                Operation::Put(id, parts) => {
                    let id = id % 6;
                    let put =
                        if model.contains_key(&id) { rules.change(parts.rule(id)) } else { rules.add(parts.rule(id)) };
                    put.expect("the rule is good");
                    model.insert(id, parts);
                }
                Operation::Enable(id, enabled) => {
                    let name = (id % 6).to_string();
                    let done = if enabled { rules.enable(&name) } else { rules.disable(&name) };
                    assert_eq!(done.is_ok(), model.contains_key(&(id % 6)));
                    if let Some(parts) = model.get_mut(&(id % 6)) {
                        parts.enabled = enabled;
                    }
                }
                Operation::Remove(id) => {
                    assert_eq!(rules.remove(&(id % 6).to_string()).is_ok(), model.remove(&(id % 6)).is_some());
                }
                Operation::Publish(fields) => {
                    self.publish(number, fields, &[]);
                    let matching = model.values().filter(|parts| parts.matches(&fields)).flat_map(Parts::targets);
                    matching.filter(|&at| at < THERE).for_each(|at| wanted[at] = true);
                }
                Operation::Target(fields, one, other) => {
                    let targets = [one, other].map(|target| usize::from(target) % SERVICES.len());
                    self.publish(number, fields, &targets);
                    targets.into_iter().filter(|&at| at < THERE).for_each(|at| wanted[at] = true);
                }
                Operation::Health(service, first, is_well) => {
                    let health = if is_well { ServiceHealth::Healthy } else { ServiceHealth::Unhealthy };
                    let (service, instance) = (SERVICES[usize::from(service) % THERE], if first { "a" } else { "b" });
                    // The other is well, so that events find somebody.
                    let other = if first { "b" } else { "a" };
                    let bus = self.simulation.bus();
                    bus.update_service_health(service, other, ServiceHealth::Healthy).expect("it is there");
                    bus.update_service_health(service, instance, health).expect("it is there");
                }
                Operation::Renew(service) => {
                    let at = usize::from(service) % THERE;
                    let bus = self.simulation.bus();
                    bus.get_service(SERVICES[at]).expect("it is there").end().expect("it ends");
                    self.instances[at] = open(bus, SERVICES[at]);
                }
            }
            self.simulation.run();
            for (at, wanted) in wanted.into_iter().enumerate() {
                let numbers = if wanted { vec![number] } else { Vec::new() };
                assert_eq!(self.drain(at), numbers, "at service {}, by the rules {model:?}", SERVICES[at]);
            }
        }
        for id in model.into_keys() {
            rules.remove(&id.to_string()).expect("it is there");
        }
        let ledger = self.simulation.bus().ledger();
        assert!(ledger.is_balanced() && ledger.subscriptions.open() == 0, "{ledger:#?}");
        assert_eq!((ledger.subscriptions.dead_lettered, ledger.subscriptions.dropped.total()), (0, 0));
    }

    fn publish(&mut self, number: u64, fields: Fields, targets: &[usize]) {
        let event = self.publisher.event().priority(fields.priority()).metadata("number", &number.to_string());
        let event = match fields.meta() {
            Some(value) => event.metadata("n", &value.to_string()),
            None => event,
        };
        let event = targets.iter().fold(event, |event, &target| event.target(SERVICES[target]));
        let published = event.publish(TOPICS[fields.topic()], Payload::json(&fields.payload()));
        published.expect("the lanes are empty");
    }
}

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If bus and model disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let operations = std::iter::from_fn(|| (!bytes.is_empty()).then(|| Operation::arbitrary(&mut bytes).ok())?);
    let mut case = BUS.take().unwrap_or_else(Case::new);
    case.run(operations.take(OPERATIONS_MAX));
    case.cases += 1;
    if case.cases < CASES_MAX {
        BUS.set(Some(case));
    }
}
