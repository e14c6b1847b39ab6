//! The metrics collector: rates and quantiles of stretches of time, kept for a while and no longer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ringmain::node::health::Health;
use ringmain::node::services::builtin::{CollectorOptions, MetricsCollector};
use ringmain::node::services::{Service, SubscriptionWish, Subscriptions};
use ringmain::testing::Simulation;
use ringmain::{Bus, DeliveryMode, Pattern, Payload, Priority};

use crate::support::{LONG, bus};

fn publish(bus: &Bus, topic: &str, priority: Priority, events: usize) {
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..events {
        publisher.event().priority(priority).publish(topic, Payload::json("{}")).unwrap();
    }
    drop(publisher);
    bus.flush_deadline(LONG).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sample_is_of_the_time_since_the_one_before_it() {
    let bus = bus();
    let handled =
        bus.subscribe("**").handle(|_, meta| if meta.topic() == "bad" { Err("bad") } else { Ok(()) }).unwrap();
    publish(&bus, "before", Priority::Normal, 1_000);
    let options = CollectorOptions { recent_every: Duration::from_secs(2), ..CollectorOptions::default() };
    let collector = MetricsCollector::new(&bus, options);
    collector.start().await.unwrap();
    let mut samples = collector.samples();
    tokio::task::yield_now().await;

    publish(&bus, "a", Priority::High, 50);
    publish(&bus, "bad", Priority::Normal, 10);
    let sample = samples.next().await.unwrap();
    assert_eq!(
        (sample.over, sample.published, sample.delivered, sample.failed),
        (Duration::from_secs(2), 30.0, 25.0, 5.0)
    );
    assert_eq!(sample.latency.count, 60, "not what was before");
    assert!(
        0 < sample.latency.p50_ns
            && sample.latency.p50_ns <= sample.latency.p99_ns
            && sample.latency.p99_ns <= sample.latency.max_ns
    );
    let lanes: Vec<_> = sample.lanes.iter().map(|lane| (lane.priority, lane.latency.count, lane.depth)).collect();
    assert_eq!(lanes[..3], [(Priority::Critical, 0, 0), (Priority::High, 50, 0), (Priority::Normal, 10, 0)]);

    let quiet = samples.next().await.unwrap();
    assert_eq!((quiet.published, quiet.latency.count, quiet.latency.p95_ns), (0.0, 0, 0), "nothing happened meanwhile");
    collector.stop().await.unwrap();
    drop(handled);
    bus.shutdown().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_was_slow_is_well_again() {
    let simulation = Simulation::new(Bus::builder().workers(1), 7).unwrap();
    let bus = simulation.bus().clone();
    let handled = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let collector = MetricsCollector::new(&bus, CollectorOptions::default());
    collector.start().await.unwrap();
    let mut samples = collector.samples();
    tokio::task::yield_now().await;
    let mut health = async |wait: Duration| {
        bus.publish("a", Payload::json("1")).unwrap();
        simulation.advance(wait);
        simulation.run();
        samples.next().await.unwrap().health
    };
    assert_eq!(health(Duration::from_millis(100)).await, ringmain::Health::Degraded);
    assert_eq!(health(Duration::from_millis(1)).await, ringmain::Health::Healthy, "whatever was before");
    collector.stop().await.unwrap();
    drop(handled);
}

#[tokio::test(start_paused = true)]
async fn its_history_has_other_steps_while_it_runs() {
    let bus = bus();
    let options = CollectorOptions { history_every: Duration::from_secs(3_600), ..CollectorOptions::default() };
    let collector = MetricsCollector::new(&bus, options);
    collector.start().await.unwrap();
    let mut samples = collector.samples();
    samples.next().await.unwrap();
    collector.set_history_every(Duration::from_secs(3));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let over: Vec<_> = collector.history().iter().map(|sample| sample.over.as_secs()).collect();
    assert_eq!(over, [4, 3, 3], "the first is since its start");
    collector.stop().await.unwrap();
    bus.shutdown().unwrap();
}

#[tokio::test(start_paused = true)]
async fn so_much_is_kept_and_no_more() {
    let bus = bus();
    let options = CollectorOptions { recent_max: 5, history_max: 3, ..CollectorOptions::default() };
    let collector = MetricsCollector::new(&bus, options);
    assert!(matches!(collector.health().await, Health::Unhealthy(_)), "it does not run");
    collector.start().await.unwrap();
    assert_eq!(collector.health().await, Health::Healthy);
    let mut samples = collector.samples();
    for _ in 0..250 {
        samples.next().await.unwrap();
    }
    // The history's fourth entry may be due at the same moment as the last sample.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((collector.recent().len(), collector.history().len()), (5, 3));
    assert!(collector.history().iter().all(|sample| sample.over == Duration::from_secs(60)));
    assert!(collector.recent().is_sorted_by(|one, other| one.at <= other.at));
    collector.stop().await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(samples.next().now_or_never().is_none(), "stopped, it takes no samples");
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn events_are_counted_by_type_and_those_of_too_many_types_together() {
    let bus = bus();
    let collector =
        Arc::new(MetricsCollector::new(&bus, CollectorOptions { types_max: 2, ..CollectorOptions::default() }));
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    let pattern = Pattern::new("task.*").unwrap();
    let wish = SubscriptionWish {
        pattern,
        service: "metrics_collector".to_owned(),
        mode: DeliveryMode::BestEffort,
        capacity: 1_024,
    };
    let found = Arc::clone(&collector) as Arc<dyn Service>;
    subscriptions.apply(&[wish], |_| Some(Arc::clone(&found))).await.unwrap();
    let publisher = bus.clone();
    let publishing = tokio::task::spawn_blocking(move || {
        for (topic, events) in
            [("task.created", 3), ("task.completed", 5), ("other", 9), ("task.failed", 1), ("task.lost", 1)]
        {
            publish(&publisher, topic, Priority::Normal, events);
        }
    });
    publishing.await.unwrap();
    let types: Vec<_> =
        collector.types().into_iter().map(|count| (count.event_type, count.events, count.bytes)).collect();
    assert_eq!(
        types,
        [(Some("task.completed".to_owned()), 5, 10), (Some("task.created".to_owned()), 3, 6), (None, 2, 4)]
    );
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
}
