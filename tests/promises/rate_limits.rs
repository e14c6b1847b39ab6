//! Publishing is held to the rates that were set, per type and per source, exactly: what is over them is refused with the
//! time to come back, or waits as at a full lane.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, EventId, FullPolicy, Payload, Priority, PublishError, Publisher, Rate, RateError, RateLimit,
    RateLimitError,
};

use super::support::{Log, TICK, Tick, assert_balanced, assert_settled, watched};

const BODY: Payload<'static> = Payload::plain_text("x");

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn simulated(builder: BusBuilder) -> Simulation {
    Simulation::new(builder.workers(1), 1).unwrap()
}

/// One event in ten milliseconds, in bursts of two.
fn slow() -> Rate {
    Rate::per_second(100.0).burst(2)
}

fn limited(limit: usize, retry_after: Duration) -> PublishError {
    PublishError::RateLimited { limit, retry_after, queues: false }
}

#[test]
fn over_the_limit_every_verb_is_refused_with_the_time_to_come_back() {
    type Verb = fn(&mut Publisher) -> Result<EventId, PublishError>;
    let verbs: [Verb; 6] = [
        |publisher| publisher.publish("orders.placed", BODY),
        |publisher| publisher.try_publish("orders.placed", BODY),
        |publisher| publisher.publish_deadline("orders.placed", BODY, ms(9)),
        |publisher| publisher.event().metadata("a", "b").publish("orders.placed", BODY),
        |publisher| publisher.loan(300).unwrap().publish(Priority::Normal, "orders.placed"),
        |publisher| publisher.event().not_before(ms(1)).publish("orders.placed", BODY),
    ];
    for verb in verbs {
        let simulation = simulated(Bus::builder().rate_limit(RateLimit::of_type("orders.*", slow())));
        let bus = simulation.bus();
        let _reader = bus.subscribe("**").handle(|_, _| ()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        verb(&mut publisher).unwrap();
        verb(&mut publisher).unwrap();
        assert_eq!(verb(&mut publisher), Err(limited(0, ms(10))));
        simulation.advance(ms(4));
        let refused = verb(&mut publisher).unwrap_err();
        assert_eq!(refused, limited(0, ms(6)));
        assert!(refused.is_temporary());
        assert_eq!(refused.to_string(), "rate limit 0 is spent; try again in 6ms, or raise its rate or burst");
        publisher.publish("orders", BODY).expect("another topic");
        simulation.advance(ms(6));
        verb(&mut publisher).unwrap();
        assert_eq!(verb(&mut publisher), Err(limited(0, ms(10))));
        assert_eq!((bus.metrics().refused.rate_limited, bus.metrics().refused.total()), (3, 3));
        assert_eq!(bus.rate_limits()[0].held_back, 3);
        simulation.advance(ms(100));
        simulation.run();
        assert_settled(bus);
        assert_eq!(bus.ledger().subscriptions.delivered, 4);
    }
}

#[test]
fn typed_topics_and_what_nobody_wants_are_limited_too() {
    let simulation = simulated(Bus::builder().rate_limit(RateLimit::of_type("clock.tick", slow())));
    let mut publisher = simulation.bus().publisher().unwrap();
    for nth in 0..2 {
        publisher.publish(TICK, &Tick { from: 0, nth }).unwrap();
    }
    assert_eq!(publisher.publish(TICK, &Tick { from: 0, nth: 2 }), Err(limited(0, ms(10))));
    assert_eq!(publisher.at(Priority::Critical).publish(TICK, &Tick { from: 0, nth: 2 }), Err(limited(0, ms(10))));
    assert_settled(simulation.bus());
}

#[test]
fn a_publish_that_its_lane_refuses_takes_nothing_of_a_limit() {
    let rate = Rate::per_second(1.0).burst(5);
    let builder = Bus::builder().max_queue_size(2).batch_max(2).when_full(FullPolicy::REJECT);
    let simulation =
        simulated(builder.rate_limit(RateLimit::of_type("a", rate)).rate_limit(RateLimit::of_each_source(rate)));
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..2 {
        publisher.publish("a", BODY).unwrap();
    }
    for _ in 0..20 {
        assert!(matches!(publisher.publish("a", BODY), Err(PublishError::Full { .. })));
        assert!(matches!(publisher.publish_batch("a", [BODY, BODY]), Err(PublishError::Full { .. })));
    }
    simulation.run();
    publisher.publish_batch("a", [BODY, BODY]).unwrap();
    simulation.run();
    publisher.publish("a", BODY).unwrap();
    assert!(matches!(publisher.publish("a", BODY), Err(PublishError::RateLimited { limit: 0, .. })));
    assert_balanced(bus);
}

#[test]
fn a_batch_passes_whole_or_says_when_it_may() {
    let simulation = simulated(Bus::builder().rate_limit(RateLimit::of_type("a.*", Rate::per_second(100.0).burst(3))));
    let bus = simulation.bus();
    let _reader = bus.subscribe("**").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish_batch("a.b", [BODY, BODY]).unwrap();
    // One may pass now, three in 20 ms.
    assert_eq!(publisher.publish_batch("a.c", [BODY; 3]), Err(limited(0, ms(20))));
    assert_eq!(publisher.publish_batch("a.c", [BODY; 2]), Err(limited(0, ms(10))));
    let mut mixed = publisher.batch(Priority::Normal);
    for topic in ["a.b", "free", "free", "free", "a.c"] {
        mixed.add(topic, BODY).unwrap();
    }
    assert_eq!(mixed.publish(), Err(limited(0, ms(10))), "two of them are under it");
    let never = publisher.publish_batch("a.c", [BODY; 4]).unwrap_err();
    assert_eq!(never, PublishError::BatchOverRate { limit: 0, events: 4, burst: 3 });
    assert!(!never.is_temporary());
    assert_eq!(
        never.to_string(),
        "a batch with 4 events under rate limit 0, which lets 3 pass at once; split it, or raise the burst"
    );
    assert_eq!(bus.ledger().accepted, 2, "of those refused nothing is in the bus");
    publisher.publish("a.b", BODY).expect("nothing was taken for them");
    simulation.advance(ms(30));
    publisher.publish_batch("a.c", [BODY; 3]).unwrap();
    assert_eq!(bus.metrics().refused.rate_limited, 4);
    assert_settled(bus);
}

#[test]
fn a_source_is_limited_whoever_publishes_for_it() {
    let builder = Bus::builder().rate_limit(RateLimit::of_source("sensor:7", slow()));
    let simulation = simulated(builder);
    let bus = simulation.bus();
    let mut sevens = bus.publisher().unwrap();
    let mut other = bus.publisher().unwrap();
    other.publish("a", BODY).unwrap();
    sevens.publish("a", BODY).expect("the short way, still as the bus");
    sevens.set_source("sensor:7").unwrap();
    sevens.publish("a", BODY).unwrap();
    other.event().source("sensor:7").publish("b", BODY).unwrap();
    assert_eq!(sevens.publish("a", BODY), Err(limited(0, ms(10))));
    assert_eq!(other.event().source("sensor:7").publish("b", BODY), Err(limited(0, ms(10))));
    for _ in 0..5 {
        sevens.event().source("sensor:8").publish("a", BODY).unwrap();
        other.publish("a", BODY).unwrap();
    }
    assert_settled(bus);
}

#[test]
fn sources_and_types_beyond_what_a_bus_numbers_share_one_limit_which_is_counted() {
    let builder = Bus::builder().sources_max(2).types_max(1);
    let builder = builder.rate_limit(RateLimit::of_each_source(Rate::per_second(1.0).burst(3)));
    let simulation = simulated(builder.rate_limit(RateLimit::of_each_type("a.*", Rate::per_second(1.0).burst(5))));
    let bus = simulation.bus();
    let _reader = bus.subscribe("**").handle(|_, _| ()).unwrap();
    // The bus itself is the first of the sources, and `a.a` the only topic with a number.
    let mut publisher = bus.publisher().unwrap();
    let mut publish = |topic, source| publisher.event().source(source).publish(topic, BODY);
    for (topic, source) in [("a.a", "one"), ("a.b", "one"), ("a.c", "two"), ("a.d", "three"), ("b", "four")] {
        publish(topic, source).unwrap();
    }
    assert!(matches!(publish("b", "five"), Err(PublishError::RateLimited { limit: 0, .. })), "three have no number");
    publish("b", "one").expect("one has");
    assert!(matches!(publish("a.a", "one"), Err(PublishError::RateLimited { limit: 0, .. })));
    let shared: Vec<_> = bus.rate_limits().iter().map(|status| (status.shared, status.held_back)).collect();
    assert_eq!(shared, [(3, 2), (3, 0)]);
    assert_eq!(
        bus.set_rate_limits([RateLimit::of_source("two", slow())]),
        Err(RateLimitError::SourceUnknown { limit: 0, max: 2 })
    );
    assert_eq!(bus.rate_limits().len(), 2, "they stay");
    assert_settled(bus);
}

#[test]
fn limits_that_cannot_be_kept_are_refused_all_at_once() {
    let long = "s".repeat(300);
    let limits = [
        RateLimit::of_type("a", Rate::per_second(0.0)),
        RateLimit::of_each_type("a..b", slow()),
        RateLimit::of_source(&*long, slow()),
    ];
    let builder = limits
        .iter()
        .fold(Bus::builder().throttle(slow().burst(0)), |builder, limit| builder.rate_limit(limit.clone()));
    let refused = builder.build().unwrap_err();
    let text = refused.to_string();
    assert_eq!(refused.faults().len(), 4, "{text}");
    for part in [
        "rate limit 0: a rate of 0",
        "rate limit 1: ",
        "rate limit 2: its source has 300",
        "the throttle: a rate in bursts of 0",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let bus = simulated(Bus::builder()).bus().clone();
    let refused = bus.set_rate_limits(limits).unwrap_err();
    assert!(matches!(refused, RateLimitError::Rate { limit: 0, error: RateError::PerSecond { .. } }), "{refused}");
    let many = bus.set_rate_limits(vec![RateLimit::of_each_source(slow()); 65]);
    assert_eq!(many, Err(RateLimitError::TooMany { limits: 65, max: 64 }));
    bus.set_rate_limits(vec![RateLimit::of_each_source(slow()); 64]).unwrap();
    assert_balanced(&bus);
}

#[test]
fn limits_set_while_the_bus_runs_hold_at_once_and_are_lifted_at_once() {
    let simulation = simulated(Bus::builder());
    let bus = simulation.bus();
    let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let mut publishers = [bus.publisher().unwrap(), bus.publisher().unwrap()];
    let mut publish =
        |priority| publishers.each_mut().map(|publisher| publisher.at(priority).publish("a", BODY).is_ok());
    for round in 0..3 {
        for priority in Priority::ALL {
            assert_eq!(publish(priority), [true, true], "without limits, {round}");
            assert_eq!(publish(priority), [true, true], "the short way");
            bus.set_rate_limits([RateLimit::of_type("*", Rate::per_second(1.0).burst(3))]).unwrap();
            assert_eq!([publish(priority), publish(priority)], [[true, true], [true, false]]);
            bus.set_rate_limits([RateLimit::of_type("b", slow())]).unwrap();
            assert_eq!([publish(priority), publish(priority)], [[true; 2]; 2], "a limit on another topic");
            bus.set_rate_limits([]).unwrap();
        }
        assert_settled(bus);
    }
    assert!(bus.rate_limits().is_empty());
}

#[test]
fn what_queues_is_refused_where_it_may_not_wait() {
    let builder =
        Bus::builder().rate_limit(RateLimit::of_type("a", slow()).queue()).when_full(FullPolicy::wait(ms(60_000)));
    watched(move || {
        // On a worker; and the same on the test's own thread with a policy that does not wait.
        let bus = builder.workers(1).build().unwrap();
        let seen = Log::new();
        let (log, mut inner) = (seen.clone(), bus.publisher().unwrap());
        let _handler =
            bus.subscribe("go").handle(move |_, _| (0..3).for_each(|_| log.add(inner.publish("a", BODY)))).unwrap();
        bus.publish("go", BODY).unwrap();
        bus.flush().unwrap();
        let results = seen.take();
        assert!(results[0].is_ok() && results[1].is_ok(), "{results:?}");
        assert!(matches!(results[2], Err(PublishError::RateLimited { limit: 0, queues: true, .. })), "{results:?}");
        let mut hasty = bus.publisher().unwrap();
        hasty.set_full_policy(FullPolicy::REJECT);
        bus.set_rate_limits([RateLimit::of_type("a", Rate::per_second(0.001)).queue()]).unwrap();
        hasty.publish("a", BODY).unwrap();
        for refused in
            [hasty.publish("a", BODY), hasty.try_publish("a", BODY), hasty.publish_deadline("a", BODY, ms(2))]
        {
            assert!(matches!(refused, Err(PublishError::RateLimited { limit: 0, queues: true, .. })), "{refused:?}");
        }
        assert_eq!(bus.metrics().refused.rate_limited, 4);
        assert_settled(&bus);
    });
}

#[test]
fn what_queues_passes_at_its_time_and_never_before() {
    watched(|| {
        let rate = Rate::per_second(500.0).burst(1);
        let bus = Bus::builder().workers(1).rate_limit(RateLimit::of_type("a", rate).queue()).build().unwrap();
        let _reader = bus.subscribe("a").handle(|_, _| ()).unwrap();
        let begun = Instant::now();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let mut publisher = bus.publisher().unwrap();
                std::thread::spawn(move || (0..4).for_each(|_| assert!(publisher.publish("a", BODY).is_ok())))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        bus.publisher().unwrap().publish_batch("a", [BODY]).unwrap();
        assert!(begun.elapsed() >= ms(2) * 12, "13 events in {:?}", begun.elapsed());
        assert_settled(&bus);
        assert_eq!(bus.ledger().subscriptions.delivered, 13);
    });
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_that_queues_is_woken_at_its_time_by_a_worker() {
    let builder = Bus::builder().rate_limit(RateLimit::of_type("a", Rate::per_second(100.0)).queue());
    let simulation = simulated(builder);
    let bus = simulation.bus();
    let (mut one, mut two) = (bus.publisher().unwrap(), bus.publisher().unwrap());
    one.publish("a", BODY).unwrap();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let woken = || count.0.swap(0, Ordering::SeqCst);
    let mut first = pin!(one.publish_async("a", BODY));
    let mut second = pin!(two.publish_async("a", BODY));
    assert!(first.as_mut().poll(&mut context).is_pending() && second.as_mut().poll(&mut context).is_pending());
    simulation.advance(ms(10) - Duration::from_nanos(1));
    simulation.run();
    assert_eq!(woken(), 0, "not before its time");
    simulation.advance(Duration::from_nanos(1));
    simulation.run();
    assert_eq!(woken(), 2);
    assert!(matches!(first.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    assert!(second.as_mut().poll(&mut context).is_pending(), "the other one came first");
    simulation.advance(ms(10));
    simulation.run();
    assert_eq!(woken(), 1);
    assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    let mut third = pin!(one_more(bus));
    assert!(third.as_mut().poll(&mut context).is_pending());
    bus.set_rate_limits([]).unwrap();
    assert_eq!(woken(), 1, "a limit that is gone keeps nobody");
    assert!(matches!(third.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    assert_settled(bus);
}

async fn one_more(bus: &Bus) -> Result<EventId, PublishError> {
    bus.publisher()?.publish_async("a", BODY).await
}

#[test]
fn a_shutdown_does_not_wait_for_those_who_wait_for_a_limit() {
    watched(|| {
        let limit = RateLimit::of_type("a", Rate::per_second(0.001)).queue();
        let bus = Bus::builder().workers(1).rate_limit(limit).build().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.publish("a", BODY).unwrap();
        let waiting = std::thread::spawn(move || publisher.publish_deadline("a", BODY, ms(3_600_000)));
        while bus.rate_limits()[0].held_back == 0 {
            std::thread::yield_now();
        }
        assert!(bus.shutdown().unwrap().is_clean());
        assert_eq!(waiting.join().unwrap(), Err(PublishError::ShuttingDown));
        assert_settled(&bus);
    });
}

/// A bucket of tokens, in the nanoseconds that refill them: what a limit is, said otherwise.
#[derive(Debug, Clone)]
struct Bucket {
    interval: u64,
    burst: u64,
    credit: u64,
    at: u64,
}

impl Bucket {
    fn refill(&mut self, now: u64) {
        self.credit = (self.credit + (now - self.at)).min(self.burst * self.interval);
        self.at = now;
    }
}

/// A limit of the draw: how it is told to the bus, and which bucket an event belongs to.
#[derive(Debug, Clone)]
struct Drawn {
    scope: u8,
    topic: usize,
    interval: u64,
    burst: u32,
}

const TOPICS: [&str; 4] = ["a.x", "a.y", "b.x", "c"];
const PATTERNS: [&str; 4] = ["a.*", "**", "*.x", "c"];
const SOURCES: [&str; 3] = ["s:1", "s:2", "s:3"];

impl Drawn {
    fn limit(&self) -> RateLimit {
        let rate = Rate::per_second(1e9 / self.interval as f64).burst(self.burst);
        match self.scope {
            0 => RateLimit::of_type(PATTERNS[self.topic], rate),
            1 => RateLimit::of_each_type(PATTERNS[self.topic], rate),
            2 => RateLimit::of_source(SOURCES[self.topic % 3], rate),
            _ => RateLimit::of_each_source(rate),
        }
    }

    /// By the tables of this test, not by the bus's patterns.
    fn key(&self, topic: &'static str, source: &'static str) -> Option<&'static str> {
        let matches = match PATTERNS[self.topic] {
            "a.*" => topic.starts_with("a."),
            "*.x" => topic.ends_with(".x"),
            "c" => topic == "c",
            _ => true,
        };
        match self.scope {
            0 => matches.then_some(""),
            1 => matches.then_some(topic),
            2 => (SOURCES[self.topic % 3] == source).then_some(""),
            _ => Some(source),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish { events: Vec<(usize, usize)>, priority: u8, how: u8 },
    Advance(u64),
    Replace(Vec<Drawn>),
}

fn limits() -> impl Strategy<Value = Vec<Drawn>> {
    let limit = (0..4_u8, 0..4_usize, prop::sample::select(vec![1_000, 4_000, 10_000_u64]), 1..5_u32)
        .prop_map(|(scope, topic, interval, burst)| Drawn { scope, topic, interval, burst });
    prop::collection::vec(limit, 0..5)
}

fn step() -> impl Strategy<Value = Step> {
    let event = (0..TOPICS.len(), 0..SOURCES.len());
    prop_oneof![
        8 => (prop::collection::vec(event, 1..4), 0..4_u8, 0..4_u8)
            .prop_map(|(events, priority, how)| Step::Publish { events, priority, how }),
        3 => (0..6_000_u64).prop_map(Step::Advance),
        1 => limits().prop_map(Step::Replace),
    ]
}

/// What the bus should say to a publish of these events, and the buckets afterwards.
fn judged(
    limits: &[Drawn],
    buckets: &mut HashMap<(usize, &'static str), Bucket>,
    events: &[(&'static str, &'static str)],
    now: u64,
) -> Result<(), (usize, u64)> {
    let before = buckets.clone();
    for &(topic, source) in events {
        for (nth, limit) in limits.iter().enumerate() {
            let Some(key) = limit.key(topic, source) else { continue };
            let burst = u64::from(limit.burst);
            let full = Bucket { interval: limit.interval, burst, credit: burst * limit.interval, at: now };
            let bucket = buckets.entry((nth, key)).or_insert(full);
            bucket.refill(now);
            if bucket.credit < limit.interval {
                let wanted =
                    events.iter().filter(|(topic, source)| limit.key(topic, source) == Some(key)).count() as u64;
                *buckets = before;
                let missing = buckets.get_mut(&(nth, key)).map_or(0, |bucket| {
                    bucket.refill(now);
                    (wanted * limit.interval).saturating_sub(bucket.credit)
                });
                return Err((nth, if wanted > burst { u64::MAX } else { missing }));
            }
            bucket.credit -= limit.interval;
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_limits_let_pass_what_buckets_of_tokens_would(first in limits(), steps in prop::collection::vec(step(), 1..120)) {
        let builder = first.iter().fold(Bus::builder(), |builder, limit| builder.rate_limit(limit.limit()));
        let builder = builder.max_queue_size(1_000).blocks([]).payload_bytes_max(64).types_max(100).sources_max(100);
        let simulation = simulated(builder.when_full(FullPolicy::REJECT));
        let bus = simulation.bus();
        let _reader = bus.subscribe("a.*").handle(|_, _| ()).unwrap();
        let mut publishers = [bus.publisher().unwrap(), bus.publisher().unwrap()];
        publishers[0].set_source(SOURCES[0]).unwrap();
        publishers[1].set_source(SOURCES[1]).unwrap();
        let (mut limits, mut buckets, mut now) = (first, HashMap::new(), 0);
        let (mut accepted, mut refused) = (0, 0);
        for step in steps {
            let (events, priority, how) = match step {
                Step::Advance(by) => {
                    now += by;
                    simulation.advance(Duration::from_nanos(by));
                    simulation.run();
                    continue;
                }
                Step::Replace(others) => {
                    bus.set_rate_limits(others.iter().map(Drawn::limit)).unwrap();
                    (limits, buckets) = (others, HashMap::new());
                    continue;
                }
                Step::Publish { events, priority, how } => (events, Priority::ALL[usize::from(priority)], how),
            };
            let (topic, source) = (TOPICS[events[0].0], SOURCES[events[0].1]);
            let publisher = &mut publishers[events[0].1 % 2];
            let (events, result): (Vec<_>, _) = match how {
                // As itself, by the short way if it may.
                0 => (vec![(topic, SOURCES[events[0].1 % 2])], publisher.at(priority).publish(topic, BODY).map(drop)),
                1 => (vec![(topic, source)], publisher.at(priority).source(source).try_publish(topic, BODY).map(drop)),
                2 => (vec![(topic, source)], publisher.at(priority).source(source).metadata("k", "v").publish(topic, BODY).map(drop)),
                _ => {
                    let mut batch = publisher.batch(priority);
                    for &(topic, source) in &events {
                        batch.add_with(TOPICS[topic], BODY, |event| event.source(SOURCES[source])).unwrap();
                    }
                    let result = batch.publish().map(drop);
                    (events.iter().map(|&(topic, source)| (TOPICS[topic], SOURCES[source])).collect(), result)
                }
            };
            let expected = judged(&limits, &mut buckets, &events, now);
            match (expected, result) {
                (Ok(()), Ok(())) => accepted += events.len() as u64,
                (Err((limit, u64::MAX)), Err(PublishError::BatchOverRate { limit: said, .. })) if limit == said => refused += 1,
                (Err((limit, wait)), Err(error)) => {
                    prop_assert_eq!(error, limited(limit, Duration::from_nanos(wait)));
                    refused += 1;
                }
                (expected, result) => prop_assert!(false, "{expected:?} was expected, and it was {result:?}"),
            }
        }
        prop_assert_eq!((bus.ledger().accepted, bus.metrics().refused.total()), (accepted, refused));
        assert_settled(bus);
    }
}
