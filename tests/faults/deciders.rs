//! A panic in what a user gives subscriptions, services and the dead letter queue to decide by, at any call of it: no event is lost
//! by it, everybody else goes on, and the books balance.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Balance, Balancer, Bus, DeadLetter, DedupWindow, DeliveryMode, EventRouter, InstanceView, Key, Mailbox, Meta,
    Notice, Outcome, Pattern, Payload, RetryPolicy, Subscription,
};

use crate::support::{Log, assert_settled, watched};

/// All user code of the scenario, by what it is for.
const KINDS: [&str; 16] = [
    "order",
    "dedup",
    "latest",
    "affinity",
    "balancer",
    "envelope",
    "reliable handler",
    "rejecting handler",
    "instance",
    "sink",
    "drop of order",
    "drop of dedup",
    "drop of latest",
    "drop of affinity",
    "drop of balancer",
    "drop of sink",
];
const EVENTS: u64 = 3;

/// Counts calls by their kind, and panics at one of them.
#[derive(Debug, Default)]
struct Fuse {
    at: Option<(&'static str, u32)>,
    calls: Mutex<BTreeMap<&'static str, u32>>,
}

impl Fuse {
    fn call(&self, kind: &'static str) {
        let nth = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = calls.entry(kind).or_default();
            *nth += 1;
            *nth
        };
        assert!(self.at != Some((kind, nth)), "a panic that the test asks for, in {kind} at call {nth}");
    }

    fn calls(&self, kind: &str) -> u32 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied().unwrap_or(0)
    }

    fn blew(&self, kind: &str) -> bool {
        self.at.is_some_and(|(at, nth)| at == kind && self.calls(kind) >= nth)
    }
}

/// User code, whose drop is user code too.
struct Code(Arc<Fuse>, &'static str, &'static str);

impl Code {
    fn call(&self) {
        self.0.call(self.1);
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.call(self.2);
        }
    }
}

struct First(Code);

impl Balancer for First {
    fn pick(&mut self, _: &Meta<'_>, instances: &[InstanceView]) -> Option<usize> {
        self.0.call();
        instances.iter().position(InstanceView::is_available)
    }
}

/// The bus, and whoever takes part.
struct Scenario {
    simulation: Simulation,
    neighbour: Log<u64>,
    reliable: Log<u64>,
    /// Under reliable delivery too: an event is asked for its key when it goes to a cell.
    ordered: Mailbox<Pattern>,
    deduped: Log<u64>,
    latest: Mailbox<Pattern>,
    instances: [Log<u64>; 2],
    heard: Log<u64>,
    subscriptions: Vec<Subscription>,
}

fn number(meta: &Meta<'_>) -> u64 {
    meta.get("nth").and_then(|nth| nth.parse().ok()).expect("each event has a number")
}

fn writes(log: &Log<u64>, fuse: &Arc<Fuse>, kind: &'static str) -> impl FnMut(Payload<'_>, &Meta<'_>) + Send + 'static {
    let (log, fuse) = (log.clone(), Arc::clone(fuse));
    move |_, meta| {
        fuse.call(kind);
        log.add(number(meta));
    }
}

/// Acknowledges all that waits.
fn drained(inbox: &mut Mailbox<Pattern>) -> Vec<u64> {
    let next = || {
        let delivery = inbox.try_recv().ok()?;
        let nth = number(&delivery.meta());
        delivery.ack();
        Some(nth)
    };
    let mut all: Vec<_> = std::iter::from_fn(next).collect();
    all.sort_unstable();
    all
}

impl Scenario {
    fn new(fuse: &Arc<Fuse>) -> Self {
        let code = |kind, dropped| Code(Arc::clone(fuse), kind, dropped);
        let key = |kind, dropped| {
            let code = code(kind, dropped);
            Key::by(move |meta| {
                code.call();
                Some(number(meta))
            })
        };
        let (neighbour, reliable, deduped, heard) = (Log::new(), Log::new(), Log::new(), Log::new());
        let instances = [Log::new(), Log::new()];
        let (sink, told) = (code("sink", "drop of sink"), heard.clone());
        let builder = Bus::builder().workers(1).max_queue_size(64).prefault(false).types_max(16);
        let builder =
            builder.retry(RetryPolicy::default().attempts_max(5)).dead_letter_sink(move |letter: &Arc<DeadLetter>| {
                told.add(number(&letter.meta()));
                sink.call();
            });
        let simulation = Simulation::new(builder.observer(|_: &Notice<'_>| ()), 3).unwrap();
        let bus = simulation.bus();
        let rejects = Arc::clone(fuse);
        let mut subscriptions = vec![
            bus.subscribe("work").handle(writes(&neighbour, &Arc::default(), "neighbour")).unwrap(),
            bus.subscribe("work")
                .mode(DeliveryMode::reliable())
                .handle(writes(&reliable, fuse, "reliable handler"))
                .unwrap(),
            bus.subscribe("work")
                .dedup(DedupWindow::default().by(key("dedup", "drop of dedup")))
                .handle(writes(&deduped, &Arc::default(), "deduped"))
                .unwrap(),
            bus.subscribe("work")
                .mode(DeliveryMode::reliable())
                .handle(move |_: Payload<'_>, _: &Meta<'_>| {
                    rejects.call("rejecting handler");
                    Outcome::Reject("never".to_owned())
                })
                .unwrap(),
        ];
        let latest = bus.subscribe("work").mode(DeliveryMode::LatestOnly).latest_by(key("latest", "drop of latest"));
        let balances = [
            Balance::Affinity(key("affinity", "drop of affinity")),
            Balance::custom(First(code("balancer", "drop of balancer"))),
        ];
        for ((name, balance), log) in ["affine", "balanced"].into_iter().zip(balances).zip(&instances) {
            let service = bus.service(name).balance(balance).open().unwrap();
            let instance = service.instance("a").mode(DeliveryMode::reliable());
            subscriptions.push(instance.handle(writes(log, fuse, "instance")).unwrap());
        }
        let latest = latest.mailbox().unwrap();
        let ordered = bus.subscribe("work").mode(DeliveryMode::reliable()).ordered_by(key("order", "drop of order"));
        let ordered = ordered.mailbox().unwrap();
        Self { neighbour, reliable, ordered, deduped, latest, instances, heard, subscriptions, simulation }
    }

    /// Publishes through the router's interface, and lets everything come to its end. The events that were accepted.
    fn publish(&self, fuse: &Fuse) -> Vec<u64> {
        let mut accepted = Vec::new();
        for nth in 0..EVENTS {
            let router: &dyn EventRouter = self.simulation.bus();
            let text = nth.to_string();
            let routed = catch_unwind(AssertUnwindSafe(|| {
                let routed = router.route_event("work", Payload::raw(b""), &|event| {
                    fuse.call("envelope");
                    event.metadata("nth", &text).target("affine").target("balanced")
                });
                routed.unwrap()
            }));
            if routed.is_ok() {
                accepted.push(nth);
            }
            // What failed comes again in its time.
            for _ in 0..20 {
                self.simulation.run();
                self.simulation.advance(Duration::from_secs(2));
            }
        }
        accepted
    }

    /// Whoever has not been told of an event by then never is.
    fn ends(mut self, fuse: &Fuse, accepted: &[u64]) {
        let sorted = |log: &Log<u64>| {
            let mut all = log.take();
            all.sort_unstable();
            all
        };
        assert_eq!(self.neighbour.take(), accepted);
        assert_eq!(sorted(&self.reliable), accepted, "a reliable event is tried again");
        assert_eq!(drained(&mut self.ordered), accepted, "without a key it comes too");
        assert_eq!(sorted(&self.deduped), accepted, "what has no key is no repetition");
        for log in &self.instances {
            assert_eq!(sorted(log), accepted, "who is not picked is picked the next time");
        }
        // Who looks at the letters tells the sink of them, where no thread does.
        assert_eq!(self.simulation.bus().dead_letters().len(), accepted.len());
        assert_eq!(sorted(&self.heard), accepted, "each letter is told of once, and the next one too");
        let newest = drained(&mut self.latest);
        let lost = usize::from(fuse.blew("latest"));
        assert!(newest.len() + lost >= accepted.len() && newest.iter().all(|nth| accepted.contains(nth)), "{newest:?}");
        let bus = self.simulation.bus();
        assert_settled(bus);
        for subscription in self.subscriptions.drain(..) {
            subscription.unsubscribe().unwrap();
        }
        drop((self.latest, self.ordered));
        let report = bus.shutdown().unwrap();
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
    }
}

fn scenario(at: Option<(&'static str, u32)>) -> Arc<Fuse> {
    let fuse = Arc::new(Fuse { at, ..Fuse::default() });
    let scenario = Scenario::new(&fuse);
    let accepted = scenario.publish(&fuse);
    assert_eq!(accepted.len() as u64, EVENTS - u64::from(fuse.blew("envelope")));
    scenario.ends(&fuse, &accepted);
    fuse
}

#[test]
fn a_panic_at_any_call_of_what_decides_loses_no_event() {
    let calls = scenario(None);
    for kind in KINDS {
        assert!(calls.calls(kind) > 0, "the scenario calls {kind}");
        for nth in 1..=calls.calls(kind) {
            watched(move || {
                let fuse = scenario(Some((kind, nth)));
                assert!(fuse.blew(kind), "{kind} is called {nth} times");
            });
        }
    }
}
