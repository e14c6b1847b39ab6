//! A subscription that cannot keep up leaves its events where they are kept, gets each of them once and in order, and rejoins: against
//! an oracle, whatever is fast or slow, in every order that a seed draws.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DedupWindow, Delivery, DeliveryMode, Filter, Frame, Mailbox, Notice, OverLimit, Overflow, Pattern, Payload,
    Priority, Rate, ReplayPolicy, SpillError, SpillPage, SpillReader, SpillSource, SpilledEvent, SubscribeError,
    Subscription,
};

use super::support::assert_books;

/// Keeps every event, and shows as many of them as it is told: a log that is behind.
#[derive(Default)]
struct Kept {
    events: Mutex<Vec<SpilledEvent>>,
    shown: Mutex<usize>,
    /// What reading comes to instead.
    error: Mutex<Option<SpillError>>,
    /// Events that it loses: each so manieth.
    loses: Mutex<Option<usize>>,
    reads: Mutex<usize>,
}

impl Kept {
    fn of(bus: &Bus) -> (Arc<Self>, Subscription) {
        let kept = Arc::new(Self::default());
        let keeps = Arc::clone(&kept);
        let subscription = bus.subscribe("**").named("kept").on_worker(0).handle(move |_, meta| {
            let event =
                SpilledEvent { sequence: meta.sequence(), position: meta.position(), frame: Frame::in_lane(meta, 1) };
            keeps.events.lock().unwrap().push(event);
        });
        (kept, subscription.unwrap())
    }

    fn show(&self, events: usize) {
        let kept = self.events.lock().unwrap().len();
        let mut shown = self.shown.lock().unwrap();
        *shown = (*shown).saturating_add(events).min(kept);
    }
}

/// Reads what is shown.
struct Reading {
    kept: Arc<Kept>,
    at: usize,
}

struct Source(Arc<Kept>);

impl SpillSource for Source {
    fn covers(&self, pattern: &Pattern) -> bool {
        pattern.as_str() != "uncovered"
    }

    fn read_from(&self, first: &[(Priority, u64)]) -> Box<dyn SpillReader> {
        assert!(!first.is_empty(), "somebody wants something");
        Box::new(Reading { kept: Arc::clone(&self.0), at: 0 })
    }
}

impl SpillReader for Reading {
    fn next_page(&mut self, _: Duration) -> Result<SpillPage, SpillError> {
        *self.kept.reads.lock().unwrap() += 1;
        if let Some(error) = self.kept.error.lock().unwrap().clone() {
            return Err(error);
        }
        let (events, shown) = (self.kept.events.lock().unwrap(), *self.kept.shown.lock().unwrap());
        let loses = *self.kept.loses.lock().unwrap();
        let end = shown.min(self.at + 7);
        let page = self.at..end;
        self.at = end;
        let mut complete = BTreeMap::new();
        for event in &events[..end] {
            complete.insert(event.frame.meta().priority(), event.sequence.wrapping_add(1));
        }
        let is_kept = |nth: &usize| loses.is_none_or(|each| !nth.is_multiple_of(each));
        let page = page.filter(is_kept).map(|nth| events[nth].clone()).collect();
        Ok(SpillPage { events: page, complete_before: complete.into_iter().collect() })
    }
}

/// What the events of each priority say, in order.
type Texts = BTreeMap<Priority, Vec<u64>>;

fn read(into: &mut Texts, delivery: Delivery<Pattern>) {
    let number = delivery.payload().text().unwrap().parse().unwrap();
    into.entry(delivery.meta().priority()).or_default().push(number);
    delivery.ack();
}

/// One run: everything that may be slow is, now and then.
struct Run {
    simulation: Simulation,
    kept: Arc<Kept>,
    mailbox: Option<Mailbox<Pattern>>,
    _keeps: Subscription,
    published: Texts,
    received: Texts,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Run {
    fn new(seed: u64, capacity: usize, mode: DeliveryMode, first_sequence: u64) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&notices);
        let builder = Bus::builder()
            .workers(2)
            .first_sequence(first_sequence)
            .observer(move |notice: &Notice<'_>| hear.lock().unwrap().push(format!("{notice:?}")));
        let simulation = Simulation::new(builder, seed).unwrap();
        let bus = simulation.bus();
        let (kept, keeps) = Kept::of(bus);
        let slow = bus.subscribe("slow.*").named("slow").capacity(capacity).mode(mode).on_worker(1);
        let slow = slow.filter(Filter::all().matching(|meta| meta.get("for") != Some("others")));
        let mailbox = slow.spill(Arc::new(Source(Arc::clone(&kept)))).mailbox().unwrap();
        let (published, received) = (Texts::new(), Texts::new());
        Self { simulation, kept, mailbox: Some(mailbox), _keeps: keeps, published, received, notices }
    }

    fn below(&self, limit: u64) -> u64 {
        self.simulation.draw() % limit
    }

    fn publish(&mut self, number: u64) {
        let bus = self.simulation.bus();
        let priority = Priority::ALL[[0, 1, 2, 2, 2, 3][self.below(6) as usize]];
        let topic = ["slow.a", "slow.b", "fast"][self.below(3) as usize];
        let is_for_others = self.below(5) == 0;
        let mut publisher = bus.publisher().unwrap();
        let event = publisher.event().priority(priority).metadata("for", if is_for_others { "others" } else { "all" });
        // Some do not fit a cell.
        let text = format!("{number:0width$}", width = if self.below(9) == 0 { 600 } else { 1 });
        if event.try_publish(topic, Payload::plain_text(&text)).is_ok() && topic != "fast" && !is_for_others {
            self.published.entry(priority).or_default().push(number);
        }
    }

    fn consume(&mut self) {
        let Some(mailbox) = &mut self.mailbox else { return };
        if let Ok(delivery) = mailbox.try_recv() {
            read(&mut self.received, delivery);
        }
    }

    /// Everybody goes on until nothing moves.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.simulation.run();
            self.kept.show(usize::MAX);
            self.simulation.advance(Duration::from_millis(2));
            let before = self.received.values().map(Vec::len).sum::<usize>();
            (0..100).for_each(|_| self.consume());
            let is_still = self.received.values().map(Vec::len).sum::<usize>() == before;
            if is_still && self.ledger().open() == 0 && self.simulation.bus().ledger().in_lanes == 0 {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.ledger());
    }

    fn ledger(&self) -> ringmain::SubscriptionLedger {
        let records = self.simulation.bus().subscriptions();
        records.iter().find(|record| record.name == "slow").unwrap().ledger
    }

    fn said(&self, what: &str) -> usize {
        self.notices.lock().unwrap().iter().filter(|notice| notice.starts_with(what)).count()
    }

    fn any(&mut self, actions: u64) {
        // Who is fast changes in the middle.
        let mut weights = [0; 5];
        for number in 0..actions {
            if number % 50 == 0 {
                weights = std::array::from_fn(|_| 1 + self.below(12));
            }
            let mut drawn = self.below(weights.iter().sum());
            let action = weights.iter().position(|&weight| {
                let is_it = drawn < weight;
                drawn = drawn.saturating_sub(weight);
                is_it
            });
            match action.unwrap() {
                0 => self.publish(number),
                1 => drop(self.simulation.step()),
                2 => self.consume(),
                3 => self.kept.show(1 + self.below(20) as usize),
                _ => self.simulation.advance(Duration::from_micros(300)),
            }
        }
    }
}

#[test]
fn each_event_comes_once_and_in_order_whoever_is_slow() {
    let (mut spilled, mut rejoined) = (0, 0);
    let number = |name, default| std::env::var(name).map_or(default, |number| number.parse::<u64>().unwrap());
    let (first, seeds) = (number("RINGMAIN_SPILL_SEED_FIRST", 0), number("RINGMAIN_SPILL_SEEDS", 60));
    for seed in first..first + seeds {
        let capacity = [1, 2, 4, 8, 16, 32][(seed % 6) as usize];
        let mode = if seed % 3 == 0 { DeliveryMode::reliable() } else { DeliveryMode::BestEffort };
        let first = [0, u64::MAX - 40, u64::from(u32::MAX) - 40][(seed / 6 % 3) as usize];
        let mut run = Run::new(seed, capacity, mode, first);
        run.any(1_500);
        run.settle();
        assert_eq!(run.received, run.published, "seed {seed}");
        let ledger = run.ledger();
        assert_eq!((ledger.spilled, ledger.dropped.total()), (0, 0), "seed {seed}: {ledger:#?}");
        assert_eq!(ledger.delivered, ledger.matched, "seed {seed}");
        assert_books(run.simulation.bus());
        (spilled, rejoined) = (spilled + run.said("Spilling"), rejoined + run.said("Rejoined"));
        assert_eq!(run.said("Spilling"), run.said("Rejoined"), "seed {seed}: what lapsed is live again");
        // Live again: nothing is read.
        let reads = *run.kept.reads.lock().unwrap();
        run.publish(9_999);
        run.simulation.run();
        run.consume();
        assert_eq!(
            (run.received.clone(), *run.kept.reads.lock().unwrap()),
            (run.published.clone(), reads),
            "seed {seed}"
        );
        run.simulation.bus().shutdown().unwrap();
    }
    assert!(spilled > seeds as usize / 2 && rejoined > seeds as usize / 2, "{spilled} lapses, {rejoined} rejoined");
}

#[test]
fn the_time_in_the_store_is_part_of_the_latency_whatever_the_wall_clock_does() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::reliable()] {
        let mut run = Run::new(1, 8, mode, 0);
        let mut publisher = run.simulation.bus().publisher().unwrap();
        for number in 0..100 {
            let event = publisher.event().expires_after(Duration::from_secs(60)).metadata("for", "all");
            event.publish("slow.a", Payload::plain_text(&number.to_string())).unwrap();
            run.published.entry(Priority::Normal).or_default().push(number);
            run.simulation.run();
        }
        assert!(run.ledger().spilled >= 80, "{:#?}", run.ledger());
        let before = run.simulation.bus().metrics().delivery_latency.total.count;
        // Ten years on by the wall clock, five seconds on by what passes.
        run.simulation.step_wall_clock(2_082_758_400_000_000_000);
        run.simulation.advance(Duration::from_secs(5));
        run.settle();
        assert_eq!(run.received, run.published, "none has expired");
        let latency = run.simulation.bus().metrics().delivery_latency.total;
        assert_eq!(latency.count - before, 100, "each is measured");
        let five = 5_000_000_000..6_000_000_000;
        let share_of_others = before as f64 / latency.count as f64;
        assert!(
            share_of_others < 0.6 && five.contains(&latency.p99_ns) && five.contains(&latency.max_ns),
            "{latency:?}"
        );
        assert_books(run.simulation.bus());
    }
}

#[test]
fn an_event_expires_in_the_store_when_its_time_is_over_whatever_the_wall_clock_does() {
    let mut run = Run::new(1, 8, DeliveryMode::BestEffort, 0);
    let mut publisher = run.simulation.bus().publisher().unwrap();
    for number in 0..100 {
        let event = publisher.event().expires_after(Duration::from_secs(60)).metadata("for", "all");
        event.publish("slow.a", Payload::plain_text(&number.to_string())).unwrap();
        run.simulation.run();
    }
    run.simulation.step_wall_clock(1_767_225_600_000_000_000 - 3_600_000_000_000);
    run.simulation.advance(Duration::from_secs(61));
    run.settle();
    let ledger = run.ledger();
    assert_eq!((ledger.delivered, ledger.dropped.expired, ledger.spilled), (0, 100, 0), "{ledger:#?}");
    assert_books(run.simulation.bus());
}

#[test]
fn an_end_in_the_middle_is_in_the_books() {
    for seed in 0..120 {
        let mut run = Run::new(seed, 4, DeliveryMode::BestEffort, 0);
        run.any(600);
        let bus = run.simulation.bus().clone();
        if seed % 2 == 0 {
            let id = run.mailbox.as_ref().unwrap().id();
            bus.unsubscribe(id).unwrap();
            (0..100).for_each(|_| run.consume());
            drop(run.mailbox.take());
            run.simulation.run();
            assert_books(&bus);
            assert_eq!(bus.ledger().subscriptions.spilled, 0, "seed {seed}: nobody reads it any more");
            bus.shutdown().unwrap();
        } else {
            let report = bus.shutdown().unwrap();
            (0..100).for_each(|_| run.consume());
            let ledger = bus.ledger().subscriptions;
            assert_eq!(report.left_spilled, ledger.spilled, "seed {seed}");
            assert!(report.ledger_balanced, "seed {seed}: {ledger:#?}");
        }
        assert_books(&bus);
        for (priority, received) in &run.received {
            assert!(run.published[priority].starts_with(received), "seed {seed}: in order, none left out");
        }
    }
}

#[test]
fn what_was_not_kept_is_lost_said_and_counted() {
    for seed in 0..60 {
        let mut run = Run::new(seed, 4, DeliveryMode::BestEffort, 0);
        *run.kept.loses.lock().unwrap() = Some(3);
        run.any(600);
        run.settle();
        let ledger = run.ledger();
        let received = run.received.values().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(ledger.matched, received + ledger.dropped.lost, "seed {seed}: {ledger:#?}");
        assert_eq!(run.said("SpillLost") > 0, ledger.dropped.lost > 0, "seed {seed}");
        assert_books(run.simulation.bus());
        for (priority, received) in &run.received {
            assert!(received.is_sorted(), "seed {seed}: {priority:?} in order");
        }
    }
}

#[test]
fn a_store_that_is_not_read_is_said_once_and_read_when_it_works() {
    let mut run = Run::new(1, 2, DeliveryMode::BestEffort, 0);
    *run.kept.error.lock().unwrap() = Some(SpillError::Failed("no such device".to_owned()));
    (0..40).for_each(|number| run.publish(number));
    run.simulation.run();
    run.kept.show(usize::MAX);
    for _ in 0..20 {
        run.simulation.run();
    }
    assert_eq!(run.said("SpillFailed"), 1);
    assert!(run.ledger().spilled > 0);
    *run.kept.error.lock().unwrap() = None;
    run.settle();
    assert_eq!(run.received, run.published);
    assert_books(run.simulation.bus());
}

#[test]
fn where_nothing_is_kept_any_more_events_are_lost_and_then_dropped() {
    let mut run = Run::new(1, 2, DeliveryMode::BestEffort, 0);
    *run.kept.error.lock().unwrap() = Some(SpillError::Over("the journal has ended".to_owned()));
    (0..40).for_each(|number| run.publish(number));
    run.simulation.run();
    let ledger = run.ledger();
    assert_eq!((ledger.spilled, ledger.queued), (0, 2), "{ledger:#?}");
    assert_eq!(ledger.dropped.lost + 2, ledger.matched);
    (40..80).for_each(|number| run.publish(number));
    run.simulation.run();
    let ledger = run.ledger();
    assert_eq!(ledger.dropped.lost + ledger.dropped.overflow + 2, ledger.matched, "{ledger:#?}");
    assert!(ledger.dropped.overflow > 0);
    assert_books(run.simulation.bus());
}

#[test]
fn critical_comes_at_once_also_when_others_are_read_back() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let (kept, _keeps) = Kept::of(bus);
    let mut slow = bus.subscribe("a").capacity(16).spill(Arc::new(Source(Arc::clone(&kept)))).mailbox().unwrap();
    for _ in 0..200 {
        bus.publish("a", Payload::plain_text("normal")).unwrap();
    }
    simulation.run();
    kept.show(usize::MAX);
    for _ in 0..4 {
        slow.try_recv().unwrap();
        simulation.advance(Duration::from_millis(2));
        simulation.run();
    }
    bus.publisher().unwrap().at(Priority::Critical).publish("a", Payload::plain_text("critical")).unwrap();
    simulation.run();
    assert_eq!(slow.try_recv().unwrap().payload().text(), Some("critical"));
    assert_books(bus);
}

#[test]
fn a_flush_waits_for_what_is_in_the_store_and_for_nothing_later() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let (kept, _keeps) = Kept::of(bus);
    let mut slow = bus.subscribe("a").capacity(2).spill(Arc::new(Source(Arc::clone(&kept)))).mailbox().unwrap();
    for _ in 0..10 {
        bus.publish("a", Payload::plain_text("x")).unwrap();
    }
    assert!(bus.flush().is_err(), "eight are in the store");
    (0..2).for_each(|_| drop(slow.try_recv().unwrap()));
    assert!(bus.flush().is_err(), "the mailbox is empty, and the store is not");
    kept.show(usize::MAX);
    for _ in 0..10 {
        simulation.run();
        simulation.advance(Duration::from_millis(2));
        while slow.try_recv().is_ok() {}
    }
    bus.flush().unwrap();
    assert_books(bus);
}

#[test]
fn what_could_not_be_found_again_is_refused() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let source = || Arc::new(Source(Arc::default()));
    let refused = |error: Result<Mailbox<Pattern>, SubscribeError>| error.map(drop).unwrap_err();
    assert_eq!(refused(bus.subscribe("a").overflow(Overflow::Spill).mailbox()), SubscribeError::NoSpillSource);
    let error = refused(bus.subscribe("uncovered").spill(source()).mailbox());
    assert_eq!(error, SubscribeError::NotCovered { pattern: "uncovered".to_owned() });
    assert!(error.to_string().contains("\"uncovered\""), "{error}");
    let spilling = || bus.subscribe("a").spill(source());
    let rate = Rate::per_second(1.0);
    for (subscribe, setting) in [
        (spilling().dedup(DedupWindow::default()), "a dedup window"),
        (spilling().rate_limit(rate, OverLimit::Reject), "a rate limit that rejects"),
        (spilling().replay(ReplayPolicy::Safe), "replays"),
        (spilling().mode(DeliveryMode::LatestOnly), "latest-only delivery"),
    ] {
        assert_eq!(refused(subscribe.mailbox()), SubscribeError::SpillWith { setting });
    }
    assert_books(&bus);
    bus.shutdown().unwrap();
}
