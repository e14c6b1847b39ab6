//! Once topics and sizes are known, an event costs no allocation on any thread: counted by the allocator itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringmain::{
    Balance, BreakerPolicy, Bus, Condition, DeliveryMode, EventId, Key, Meta, Outcome, OverLimit, Payload, Priority,
    Rate, RateLimit, RetryPolicy, RoutingRule, Topic,
};

use crate::books::{assert_books, assert_settled};
use crate::proof::say;
use crate::{alone, asked};

/// Events of a scenario: `RINGMAIN_ALLOCATION_EVENTS`, or 100,000.
static EVENTS: LazyLock<u64> = LazyLock::new(|| {
    std::env::var("RINGMAIN_ALLOCATION_EVENTS").map_or(100_000, |text| text.parse().expect("a number"))
});
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Tick {
    price: u64,
    symbol: [u8; 8],
}

const TICK: Topic<Tick> = Topic::new("ticks.new");

/// Runs `event` to warm up, then `EVENTS` times, and returns the allocations of all threads meanwhile.
fn allocations(bus: &Bus, event: impl FnMut(u64)) -> u64 {
    let (allocations, delivered) = counted(bus, event);
    assert!(delivered >= *EVENTS, "{delivered} of {} were delivered", *EVENTS);
    allocations
}

/// As `allocations`, and with how many were delivered, those of the warm-up included.
fn counted(bus: &Bus, mut event: impl FnMut(u64)) -> (u64, u64) {
    // To read how many costs an allocation.
    let events = *EVENTS;
    for nth in 0..2_000 {
        event(nth);
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let before = asked();
    for nth in 0..events {
        event(nth);
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let after = asked();
    assert_books(bus);
    (after - before, bus.ledger().subscriptions.delivered)
}

/// A bus with an inline handler of each kind, on two workers.
fn bus() -> Bus {
    wait_once();
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let typed = bus.subscribe(TICK).on_worker(0);
    typed.handle(|tick, _| assert_eq!(tick.symbol, *b"ACME    ")).unwrap().forever();
    let any = bus.subscribe("ticks.*").on_worker(1);
    any.handle(|payload, meta| assert!(payload.bytes().len() >= 8 && meta.topic().len() > 5)).unwrap().forever();
    bus
}

fn finish(bus: &Bus, allocations: u64) -> u64 {
    bus.shutdown_deadline(PATIENCE).unwrap();
    assert_settled(bus);
    allocations
}

/// A thread that waits for the first time makes the waker that it keeps.
fn wait_once() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("never").mailbox().unwrap();
    assert!(mailbox.recv_deadline(Duration::ZERO).is_err());
    assert_settled(&bus);
}

/// A thread that consumes. It and this one have waited once when this returns.
fn beside<T: Send + 'static>(consume: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let ready = Arc::new(Barrier::new(2));
    let begins = Arc::clone(&ready);
    let consumer = thread::spawn(move || {
        wait_once();
        begins.wait();
        consume()
    });
    wait_once();
    ready.wait();
    consumer
}

/// Publishes one tick a call, and waits for room.
fn ticks(bus: &Bus) -> impl FnMut(u64) + use<> {
    let mut publisher = bus.publisher().unwrap();
    move |price| {
        publisher.publish_deadline(TICK, &Tick { price, symbol: *b"ACME    " }, PATIENCE).unwrap();
    }
}

/// Its name, and what runs it and counts its allocations.
type Scenario = (&'static str, fn() -> u64);

#[test]
fn events_allocate_nothing_on_any_thread() {
    alone("events::events_allocate_nothing_on_any_thread", count_all);
}

fn count_all() {
    the_allocator_counts();
    let scenarios: [Scenario; 16] = [
        ("inline typed", inline_typed_events),
        ("inline dynamic", inline_dynamic_events),
        ("all priorities", all_priorities),
        ("envelopes", envelopes),
        ("large payloads in blocks", large_payloads_in_blocks),
        ("published by the bus", publishing_by_the_bus),
        ("mailboxes", mailboxes),
        ("async handlers", async_handlers),
        ("reliable delivery", reliable_delivery),
        ("reliable async handlers", reliable_async_handlers),
        ("reliable handlers on threads that are replaced", reliable_on_each_thread),
        ("the newest of each key", newest_of_each_key),
        ("breakers and rates", breakers_and_rates),
        ("rate limits, a throttle and a look at the memory", limited_events),
        ("rate limits that are replaced", limits_anew),
        ("by a rule to a service", by_a_rule_to_a_service),
    ];
    let counts = scenarios.map(|(name, scenario)| (name, scenario()));
    assert!(counts.iter().all(|(_, count)| *count == 0), "allocations for {} events: {counts:?}", *EVENTS);
    say(&format!("allocations: none for {} events of {} kinds each", *EVENTS, counts.len()));
}

fn the_allocator_counts() {
    let before = asked();
    drop(std::hint::black_box(Box::new(7)));
    assert!(asked() > before);
}

fn inline_typed_events() -> u64 {
    let bus = bus();
    let mut publisher = bus.publisher().unwrap();
    let count = allocations(&bus, |price| {
        publisher.publish(TICK, &Tick { price, symbol: *b"ACME    " }).unwrap();
    });
    finish(&bus, count)
}

fn inline_dynamic_events() -> u64 {
    let bus = bus();
    let mut publisher = bus.publisher().unwrap();
    let count = allocations(&bus, |price| {
        publisher.publish("ticks.raw", Payload::raw(&price.to_le_bytes())).unwrap();
    });
    finish(&bus, count)
}

fn all_priorities() -> u64 {
    let bus = bus();
    let mut publisher = bus.publisher().unwrap();
    let count = allocations(&bus, |price| {
        let priority = Priority::ALL[(price % 4) as usize];
        publisher.at(priority).publish(TICK, &Tick { price, symbol: *b"ACME    " }).unwrap();
    });
    finish(&bus, count)
}

fn envelopes() -> u64 {
    let bus = bus();
    let mut publisher = bus.publisher().unwrap();
    let correlation = EventId::random();
    let count = allocations(&bus, |price| {
        let event = publisher.event().correlation(correlation).metadata("tenant", "acme").metadata("desk", "7");
        event.source("service:desk").publish(TICK, &Tick { price, symbol: *b"ACME    " }).unwrap();
    });
    finish(&bus, count)
}

fn large_payloads_in_blocks() -> u64 {
    let bus = bus();
    let mut publisher = bus.publisher().unwrap();
    let large = vec![7; 3_000];
    let count = allocations(&bus, |_| {
        publisher.publish_deadline("ticks.large", Payload::raw(&large), PATIENCE).unwrap();
    });
    finish(&bus, count)
}

fn publishing_by_the_bus() -> u64 {
    let bus = bus();
    let count = allocations(&bus, |price| {
        bus.publish(TICK, &Tick { price, symbol: *b"ACME    " }).unwrap();
    });
    finish(&bus, count)
}

fn mailboxes() -> u64 {
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let mut mailbox = bus.subscribe(TICK).mailbox().unwrap();
    let consumer = beside(move || {
        let mut sum = 0;
        while let Ok(delivery) = mailbox.recv() {
            sum += delivery.event().unwrap().price.to_native();
        }
        sum
    });
    let count = allocations(&bus, ticks(&bus));
    let count = finish(&bus, count);
    let sum = |events: u64| events * (events - 1) / 2;
    assert_eq!(consumer.join().unwrap(), sum(2_000) + sum(*EVENTS));
    count
}

/// Under every kind of limit, with events that are refused, in batches and alone.
fn limited_events() -> u64 {
    wait_once();
    let wide = Rate::per_second(1e7).burst(1_000_000);
    let bus = Bus::builder()
        .workers(2)
        .max_queue_size(1_024)
        .rate_limit(RateLimit::of_each_source(wide).queue())
        .rate_limit(RateLimit::of_each_type("ticks.*", wide))
        .rate_limit(RateLimit::of_type("ticks.spent", Rate::per_second(1e-5)))
        .rate_limit(RateLimit::of_source("service:desk", wide))
        .throttle(wide)
        .memory_pressure(0.9)
        .build()
        .unwrap();
    bus.subscribe(TICK).on_worker(0).handle(|tick, _| assert_eq!(tick.symbol, *b"ACME    ")).unwrap().forever();
    bus.subscribe("ticks.*").on_worker(1).handle(|_, _| ()).unwrap().forever();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("ticks.spent", Payload::raw(b"")).unwrap();
    let count = allocations(&bus, |price| {
        let tick = Tick { price, symbol: *b"ACME    " };
        publisher.publish(TICK, &tick).unwrap();
        publisher.event().source("service:desk").publish(TICK, &tick).unwrap();
        publisher.publish("ticks.spent", Payload::raw(b"")).unwrap_err();
        // Refused while memory is short.
        let _ = publisher.at(Priority::Low).publish("ticks.raw", Payload::raw(b"low"));
        if price % 8 == 0 {
            let mut batch = publisher.batch(Priority::High);
            for _ in 0..4 {
                batch.add(TICK, &tick).unwrap();
            }
            batch.add("ticks.spent", Payload::raw(b"")).unwrap();
            batch.try_publish().unwrap_err();
        }
    });
    finish(&bus, count)
}

/// Under limits that are replaced while it runs: names that were known before have their limiters at once.
fn limits_anew() -> u64 {
    wait_once();
    let bus = Bus::builder().workers(1).max_queue_size(1_024).build().unwrap();
    bus.subscribe("ticks.*").handle(|_, _| ()).unwrap().forever();
    let mut publisher = bus.publisher().unwrap();
    let mut publish = |price: u64| {
        let tick = Tick { price, symbol: *b"ACME    " };
        publisher.publish(TICK, &tick).unwrap();
        publisher.event().source("service:desk").publish(TICK, &tick).unwrap();
    };
    (0..2_000).for_each(&mut publish);
    let wide = Rate::per_second(1e7).burst(1_000_000);
    let mut count = 0;
    // The first ones are the first that this publisher meets a topic under.
    for nth in 0..4 {
        bus.set_rate_limits([RateLimit::of_each_source(wide), RateLimit::of_each_type("**", wide)]).unwrap();
        let before = asked();
        (0..500).for_each(&mut publish);
        count += if nth == 0 { 0 } else { asked() - before };
    }
    assert_eq!(bus.rate_limits().iter().map(|limit| limit.held_back).sum::<u64>(), 0);
    finish(&bus, count)
}

/// By a rule with conditions on metadata and JSON to a service of two instances on threads; and by their targets to one whose
/// only instance is paused now and then, so that events wait for it.
fn by_a_rule_to_a_service() -> u64 {
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let spread = bus.service("spread").balance(Balance::LeastConnections).on_worker(0).open().unwrap();
    for name in ["a", "b"] {
        spread.instance(name).capacity(4_096).handle_on(name, |_, _: &Meta<'_>| ()).unwrap().forever();
    }
    // Nearly a minute in all, however long the machine stops while the instance is paused.
    let retry = RetryPolicy::default().attempts_max(100).delays(Duration::from_millis(1), Duration::from_secs(1));
    let keyed = bus.service("keyed").affinity(Key::metadata("tenant")).retry(retry).on_worker(1).open().unwrap();
    keyed.instance("c").handle(|_, _: &Meta<'_>| ()).unwrap().forever();
    let mut conditions = vec![Condition::metadata("tenant").exists()];
    if cfg!(feature = "json") {
        conditions.push(Condition::payload("cents").greater_than(5));
    }
    let conditions = Condition::all(conditions);
    bus.rules().add(RoutingRule::new("r").types(["orders.*"]).when(conditions).to("spread")).unwrap();
    let instance = keyed.record().instances[0].subscription;
    let mut publisher = bus.publisher().unwrap();
    let count = allocations(&bus, |nth| {
        match nth % 100 {
            0 => {
                // As many may wait as the service holds, and this thread is the one that resumes.
                bus.flush_deadline(PATIENCE).unwrap();
                bus.pause(instance).unwrap();
            }
            20 => {
                if nth < 100 {
                    // So that the worker comes to try it, also where there is one core for both.
                    let _ = bus.flush_deadline(Duration::from_millis(20));
                }
                bus.resume(instance).unwrap();
            }
            _ => {}
        }
        let event = publisher.event().metadata("tenant", "acme");
        let event = if nth % 2 == 0 { event.target("keyed") } else { event };
        event.publish_deadline("orders.placed", Payload::json(r#"{"cents": 7}"#), PATIENCE).unwrap();
    });
    assert!(bus.ledger().subscriptions.passed_on > 0, "some waited for an instance");
    assert_eq!(bus.dead_letters().len(), 0, "a letter is an allocation");
    finish(&bus, count)
}

/// One attempt in ten asks for the event again.
fn again(meta: &Meta<'_>) -> Outcome {
    match meta.sequence() % 10 == 0 && meta.attempt() == 1 {
        true => Outcome::RetryAfter(Duration::ZERO),
        false => Outcome::Ack,
    }
}

/// How many were delivered to `subscriptions` that go by `again`, and how many of those again.
fn assert_again(bus: &Bus, subscriptions: u64) {
    let (ledger, events) = (bus.ledger().subscriptions, subscriptions * (*EVENTS + 2_000));
    assert_eq!((ledger.delivered, ledger.retried), (events, events / 10));
}

fn reliable_async_handlers() -> u64 {
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let wish = bus.subscribe(TICK).mode(DeliveryMode::Reliable { timeout: PATIENCE });
    let handler = wish.run(async |delivery| again(&delivery.meta())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let consumer = beside(move || runtime.block_on(handler));
    let count = allocations(&bus, ticks(&bus));
    assert_again(&bus, 1);
    let count = finish(&bus, count);
    consumer.join().unwrap();
    count
}

/// No thread stands by: where it begins is not known, and beginning allocates.
fn reliable_on_each_thread() -> u64 {
    wait_once();
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let wish = bus.subscribe(TICK).mode(DeliveryMode::Reliable { timeout: PATIENCE }).replacements_max(0);
    wish.handle_on_each("ticks", || |_, meta: &Meta<'_>| again(meta)).unwrap().forever();
    let count = allocations(&bus, ticks(&bus));
    assert_again(&bus, 1);
    finish(&bus, count)
}

/// Inline, in order of their source; and from a mailbox.
fn reliable_delivery() -> u64 {
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let wish = bus.subscribe(TICK).mode(DeliveryMode::reliable()).ordered_by(Key::Source).on_worker(0);
    wish.handle(|_, meta| again(meta)).unwrap().forever();
    let mut mailbox = bus.subscribe(TICK).mode(DeliveryMode::reliable()).on_worker(1).mailbox().unwrap();
    let consumer = beside(move || {
        while let Ok(delivery) = mailbox.recv() {
            let outcome = again(&delivery.meta());
            delivery.settle(&outcome);
        }
    });
    let count = allocations(&bus, ticks(&bus));
    assert_again(&bus, 2);
    let count = finish(&bus, count);
    consumer.join().unwrap();
    count
}

fn async_handlers() -> u64 {
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let subscribe = bus.subscribe(TICK);
    let sum = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&sum);
    let handler = subscribe.run(async move |delivery| {
        // Relaxed: read after the thread has been joined.
        total.fetch_add(delivery.event().unwrap().price.to_native(), Ordering::Relaxed);
    });
    let handler = handler.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let consumer = beside(move || runtime.block_on(handler));
    let count = allocations(&bus, ticks(&bus));
    let count = finish(&bus, count);
    consumer.join().unwrap();
    let of = |events: u64| events * (events - 1) / 2;
    assert_eq!(sum.load(Ordering::Relaxed), of(2_000) + of(*EVENTS));
    count
}

/// Behind a breaker, at a rate that holds events back now and then; and over a rate that turns most of them away.
fn breakers_and_rates() -> u64 {
    wait_once();
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let wish = bus.subscribe(TICK).mode(DeliveryMode::reliable()).breaker(BreakerPolicy::default()).on_worker(0);
    let wish = wish.rate_limit(Rate::per_second(1e6).burst(1_000), OverLimit::Queue);
    let queued = wish.handle(|_, meta| match meta.sequence() % 10 == 0 && meta.attempt() == 1 {
        true => Outcome::RetryAfter(Duration::ZERO),
        false => Outcome::Ack,
    });
    let wish = bus.subscribe(TICK).rate_limit(Rate::per_second(10.0), OverLimit::Reject).on_worker(1);
    let rejected = wish.handle(|_, _| ()).unwrap();
    let count = allocations(&bus, ticks(&bus));
    let (queued, rejected) = (queued.unwrap().record().ledger, rejected.record().ledger);
    assert_eq!((queued.delivered, queued.retried), (*EVENTS + 2_000, (*EVENTS + 2_000) / 10));
    assert_eq!(rejected.delivered + rejected.dropped.rate_limited, *EVENTS + 2_000);
    finish(&bus, count)
}

fn newest_of_each_key() -> u64 {
    let bus = Bus::builder().workers(2).max_queue_size(1_024).build().unwrap();
    let wish = bus.subscribe(TICK).mode(DeliveryMode::LatestOnly).keys_max(8);
    // Now and then a key more than may wait: then the lane does.
    let key = Key::by(|meta| Some(u64::from(meta.payload().bytes()[0]) % 9));
    let mut mailbox = wish.latest_by(key).mailbox().unwrap();
    let consumer = beside(move || {
        let (mut taken, mut skipped) = (0, 0);
        while let Ok(delivery) = mailbox.recv() {
            (taken, skipped) = (taken + 1, skipped + delivery.skipped());
        }
        (taken, skipped)
    });
    let (count, delivered) = counted(&bus, ticks(&bus));
    let count = finish(&bus, count);
    let (taken, skipped) = consumer.join().unwrap();
    assert_eq!((taken, taken + skipped), (delivered, 2_000 + *EVENTS));
    count
}
