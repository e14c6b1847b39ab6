//! What is done with events: told to people, recorded, counted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::node::health::Health;
use ringmain::node::services::builtin::{
    AuditLogger, Notifier, NotifierOptions, PostError, PostTarget, SIGNATURE_HEADER, Secret,
};
use ringmain::node::services::{Service, SubscriptionWish, Subscriptions};
use ringmain::store::{AuditQuery, AuditTrail, MemoryStore};
use ringmain::{Bus, DeadLetterFilter, DeliveryMode, Pattern, Payload};
use serde_json::{Value, json};

use crate::support::{LONG, bus, server, until};

async fn subscribed(bus: &Bus, service: Arc<dyn Service>) -> Subscriptions {
    let mut subscriptions = Subscriptions::new(bus, LONG);
    let wish = SubscriptionWish {
        pattern: Pattern::new("**").unwrap(),
        service: service.name().to_owned(),
        mode: DeliveryMode::Reliable { timeout: LONG },
        capacity: 1_024,
    };
    subscriptions.apply(&[wish], |_| Some(Arc::clone(&service))).await.unwrap();
    subscriptions
}

async fn flush(bus: &Bus) {
    let bus = bus.clone();
    tokio::task::spawn_blocking(move || bus.flush_deadline(LONG)).await.unwrap().unwrap();
}

fn quick(url: &str) -> PostTarget {
    let (backoff, secret) = (Duration::from_millis(1), Some(Secret::new("of both")));
    PostTarget { attempts_max: 3, backoff, backoff_max: Duration::from_millis(2), secret, ..PostTarget::new(url) }
}

#[tokio::test]
async fn people_are_told_by_a_line_and_a_signed_cloudevent_that_is_sent_until_it_is_taken() {
    let (url, requests) = server(&["503 No", "429 Later\r\nretry-after: 0", "200 Ok"]);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&lines);
    let log = Arc::new(move |line: &str| hears.lock().unwrap().push(line.to_owned()));
    let options = NotifierOptions { log: Some(log), webhook: Some(quick(&url)), ..NotifierOptions::default() };
    let notifier = Arc::new(Notifier::new(options).unwrap());
    let bus = bus();
    let mut subscriptions = subscribed(&bus, Arc::clone(&notifier) as Arc<dyn Service>).await;
    let long = "x".repeat(500);
    {
        let mut publisher = bus.publisher().unwrap();
        publisher.event().source("agent 7").publish("task.failed", Payload::json("{\"task_id\":7}")).unwrap();
        publisher.event().source("a\nb").publish("odd", Payload::plain_text(&format!("\x1b[2J{long}"))).unwrap();
    }
    flush(&bus).await;
    let first: Vec<_> = (0..3).map(|_| requests.recv_timeout(LONG).unwrap()).collect();
    assert!(first.iter().all(|request| request.body == first[0].body), "three attempts at one");
    let event: Value = serde_json::from_slice(&first[2].body).unwrap();
    assert_eq!(
        (&event["type"], &event["source"], &event["data"]),
        (&json!("task.failed"), &json!("agent 7"), &json!({ "task_id": 7 }))
    );
    let signature = first[2].header(SIGNATURE_HEADER).unwrap();
    assert!(Secret::new("of both").verifies(&first[2].body, signature));
    assert_eq!(first[2].header("content-type"), Some("application/cloudevents+json"));
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines[0], "task.failed from agent 7: {\"task_id\":7}");
    assert_eq!(lines[1], format!("odd from a b:  [2J{}…", "x".repeat(196)));
    assert_eq!(notifier.health().await, Health::Healthy);
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn what_nobody_takes_is_a_dead_letter_and_shows_in_the_health() {
    let (url, requests) = server(&["500 No", "500 No", "500 No", "404 Never", "200 Ok"]);
    let options = NotifierOptions { log: None, webhook: Some(quick(&url)), ..NotifierOptions::default() };
    let notifier = Arc::new(Notifier::new(options).unwrap());
    let bus = bus();
    let mut subscriptions = subscribed(&bus, Arc::clone(&notifier) as Arc<dyn Service>).await;
    for nth in 0..2 {
        bus.publish("a", Payload::json(&nth.to_string())).unwrap();
    }
    flush(&bus).await;
    assert_eq!(requests.try_iter().count(), 4, "three attempts, and one that said never");
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    let said: Vec<_> = letters.iter().map(|letter| letter.error().unwrap_or_default().to_owned()).collect();
    assert!(
        said[0].contains("in 3 attempts: status 500") && said[1].contains("refused it with status 404"),
        "{said:?}"
    );
    let health = notifier.health().await;
    assert!(matches!(&health, Health::Degraded(reason) if reason.contains("2 notifications")), "{health}");
    bus.publish("a", Payload::json("2")).unwrap();
    flush(&bus).await;
    assert_eq!(notifier.health().await, Health::Healthy, "one that arrives makes it well");
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
    let nowhere = NotifierOptions { webhook: Some(PostTarget::new("mailto:x")), ..NotifierOptions::default() };
    assert_eq!(Notifier::new(nowhere).unwrap_err(), PostError::Url);
}

#[tokio::test]
async fn a_slow_url_holds_nobody_but_its_own_subscription() {
    // It listens, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = PostTarget { timeout: LONG, ..PostTarget::new(format!("http://{}/", silent.local_addr().unwrap())) };
    let options = NotifierOptions { log: None, webhook: Some(target), ..NotifierOptions::default() };
    let bus = Bus::builder().workers(1).max_queue_size(64).build().unwrap();
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    let notifier: Arc<dyn Service> = Arc::new(Notifier::new(options).unwrap());
    let wish = SubscriptionWish {
        pattern: Pattern::new("a").unwrap(),
        service: "notifier".to_owned(),
        mode: DeliveryMode::BestEffort,
        capacity: 4,
    };
    subscriptions.apply(&[wish], |_| Some(Arc::clone(&notifier))).await.unwrap();
    let others = bus.subscribe("a").handle(|_, _| ()).unwrap();
    let publisher = bus.clone();
    tokio::task::spawn_blocking(move || {
        (0..5_000).for_each(|_| _ = publisher.publish("a", Payload::json("1")).unwrap())
    })
    .await
    .unwrap();
    let id = others.id();
    until(|| bus.subscription(id).unwrap().delivery_count == 5_000).await;
    let dropped = bus.ledger().subscriptions.dropped.overflow;
    assert!(dropped >= 4_900, "{dropped}: what its mailbox has no room for is dropped and counted");
    drop(silent);
    assert_eq!(subscriptions.end(Duration::ZERO).await, 1, "it had more to do");
    drop(others);
    bus.shutdown_deadline(Duration::ZERO).unwrap();
}

#[tokio::test]
async fn every_event_is_in_the_audit_trail_before_it_is_settled() {
    let (bus, store) = (bus(), Arc::new(MemoryStore::new().events_max(1_000)));
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let logger = Arc::new(AuditLogger::new("audit_logger", trail));
    let mut subscriptions = subscribed(&bus, Arc::clone(&logger) as Arc<dyn Service>).await;
    let mut ids = Vec::new();
    {
        let mut publisher = bus.publisher().unwrap();
        for nth in 0..100 {
            let topic = ["orders.placed", "orders.paid", "task.created"][nth % 3];
            ids.push(publisher.event().source("desk 7").publish(topic, Payload::json("{}")).unwrap());
        }
    }
    flush(&bus).await;
    let records: Vec<_> = AuditQuery::new().stream(&*store).map(Result::unwrap).collect();
    let mut causes: Vec<_> = records.iter().map(|record| record.cause().unwrap()).collect();
    causes.sort();
    ids.sort();
    assert_eq!(causes, ids, "one each");
    assert!(records.iter().all(|record| record.actor() == "desk 7" && record.action() == "event.published"));
    let paid = AuditQuery::new().object("topic orders.paid").stream(&*store).map(Result::unwrap);
    assert_eq!(paid.count(), 33);
    assert_eq!(logger.health().await, Health::Healthy);
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn an_event_without_its_record_is_a_dead_letter_and_shows_in_the_health() {
    let bus = bus();
    let trail = AuditTrail::over(&bus, Arc::new(MemoryStore::new().events_max(2))).unwrap();
    let logger = Arc::new(AuditLogger::new("audit_logger", trail));
    let mut subscriptions = subscribed(&bus, Arc::clone(&logger) as Arc<dyn Service>).await;
    for _ in 0..2 {
        bus.publish("a", Payload::json("1")).unwrap();
        flush(&bus).await;
    }
    assert_eq!((bus.dead_letters().len(), logger.health().await), (0, Health::Healthy));
    bus.publish("a", Payload::json("1")).unwrap();
    flush(&bus).await;
    assert_eq!(bus.dead_letters().len(), 1);
    let health = logger.health().await;
    assert!(matches!(&health, Health::Degraded(reason) if reason.contains("not recorded")), "{health}");
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
}
