//! Subscriptions of services: what is declared is brought about, and changed without a loss to what stays.

use std::sync::Arc;
use std::time::Duration;

use ringmain::node::config::Sources;
use ringmain::node::services::{Service, SubscriptionWish, Subscriptions, SubscriptionsError};
use ringmain::{Bus, DeadReason, DeliveryMode, Outcome, Pattern, Payload, RetryPolicy};
use tokio::sync::Semaphore;

use crate::folder::Folder;
use crate::support::{LONG, Remembers, bus};

fn wish(pattern: &str, service: &str, mode: DeliveryMode) -> SubscriptionWish {
    SubscriptionWish { pattern: Pattern::new(pattern).unwrap(), service: service.to_owned(), mode, capacity: 4_096 }
}

/// Publishes, off the runtime's thread.
async fn publish(bus: &Bus, topic: &'static str, numbers: std::ops::Range<u32>) {
    let bus = bus.clone();
    let work = move || numbers.for_each(|nth| _ = bus.publish(topic, Payload::plain_text(&nth.to_string())).unwrap());
    tokio::task::spawn_blocking(work).await.unwrap();
}

async fn flush(bus: &Bus) {
    let bus = bus.clone();
    tokio::task::spawn_blocking(move || bus.flush_deadline(LONG)).await.unwrap().unwrap();
}

fn finder(services: &[Arc<Remembers>]) -> impl Fn(&str) -> Option<Arc<dyn Service>> + use<> {
    let services = services.to_vec();
    move |name| services.iter().find(|service| service.name == name).map(|found| Arc::clone(found) as Arc<dyn Service>)
}

fn numbers(service: &Remembers) -> Vec<u32> {
    service.got.lock().unwrap().iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn what_a_file_declares_is_what_is_wished_for() {
    let folder = Folder::new("declared");
    let file = folder.0.join("ringmain.yaml");
    let text = "\
events:
  subscriptions:
    - event_type: \"*.created\"
      handlers: [websocket_broadcast, audit_logger]
    - event_type: \"task.*\"
      handlers: [metrics_collector, metrics_collector]
      delivery: latest-only
      capacity: 16
";
    std::fs::write(&file, text).unwrap();
    let load = || Sources { file: Some(file.clone()), ..Sources::default() }.load();
    let limit = Duration::from_secs(7);
    let reliable = DeliveryMode::Reliable { timeout: limit };
    let declared = SubscriptionWish::of(load().unwrap().subscriptions(), limit);
    let expected = [
        SubscriptionWish { capacity: 1_024, ..wish("*.created", "websocket_broadcast", reliable) },
        SubscriptionWish { capacity: 1_024, ..wish("*.created", "audit_logger", reliable) },
        SubscriptionWish { capacity: 16, ..wish("task.*", "metrics_collector", DeliveryMode::LatestOnly) },
    ];
    assert_eq!(declared, expected);

    let wrong = text.replace("latest-only", "sometimes").replace("16", "none");
    std::fs::write(&file, wrong).unwrap();
    let told = load().unwrap_err().to_string();
    assert!(
        told.contains(":7:") && told.contains("delivery = \"sometimes\" is not one of reliable, best-effort"),
        "{told}"
    );
    assert!(told.contains(":8:") && told.contains("capacity = \"none\" is not a whole number from 1"), "{told}");
}

#[tokio::test]
async fn what_stays_loses_nothing_while_others_come_and_go() {
    let bus = bus();
    let services = ["stays", "goes", "comes"].map(|name| Arc::new(Remembers::new(name)));
    let find = finder(&services);
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    let reliable = DeliveryMode::Reliable { timeout: LONG };
    let (stays, goes, comes) =
        (wish("a", "stays", reliable), wish("a", "goes", reliable), wish("a", "comes", reliable));
    let applied = subscriptions.apply(&[stays.clone(), goes.clone(), stays.clone()], &find).await.unwrap();
    assert_eq!((applied.begun, applied.ended, applied.kept), (vec![stays.clone(), goes.clone()], vec![], 0));
    let id = subscriptions.list().find(|(wish, _)| **wish == stays).unwrap().1;

    let publisher = {
        let bus = bus.clone();
        tokio::spawn(async move { publish(&bus, "a", 0..2_000).await })
    };
    for round in 0..20 {
        let other = if round % 2 == 0 { &comes } else { &goes };
        let applied = subscriptions.apply(&[stays.clone(), other.clone()], &find).await.unwrap();
        assert_eq!((applied.begun.len(), applied.ended.len(), applied.kept), (1, 1, 1));
    }
    publisher.await.unwrap();
    flush(&bus).await;
    assert_eq!(subscriptions.list().find(|(wish, _)| **wish == stays).unwrap().1, id, "it is the same subscription");
    assert_eq!(numbers(&services[0]), (0..2_000).collect::<Vec<_>>(), "each once, and in order");
    // Between those two every event has found one: the new begins before the old ends.
    let mut others = [numbers(&services[1]), numbers(&services[2])].concat();
    others.sort();
    others.dedup();
    assert_eq!(others, (0..2_000).collect::<Vec<_>>());
    // What comes while one ends is its no more: a dead letter of it, which the other has.
    let letters = bus.dead_letters().list(&ringmain::DeadLetterFilter::new());
    assert!(letters.iter().all(|letter| letter.reason() == DeadReason::Closed && letter.subscription() != id));
    assert_eq!(subscriptions.end(LONG).await, 0);
    assert!(bus.subscriptions().is_empty());
    assert!(bus.ledger().is_balanced());
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn what_waits_at_the_end_is_still_handled() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::Reliable { timeout: LONG }] {
        what_waits_is_handled(mode).await;
    }
}

async fn what_waits_is_handled(mode: DeliveryMode) {
    let bus = bus();
    let slow = Arc::new(Remembers { gate: Arc::new(Semaphore::new(0)), ..Remembers::new("slow") });
    let find = finder(std::slice::from_ref(&slow));
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    subscriptions.apply(&[wish("a", "slow", mode)], &find).await.unwrap();
    publish(&bus, "a", 0..40).await;
    let applied = subscriptions.apply(&[], &find).await.unwrap();
    assert_eq!(applied.ended.len(), 1);
    assert!(bus.subscriptions().is_empty(), "it takes no more");
    slow.gate.add_permits(40);
    assert_eq!(subscriptions.end(LONG).await, 0);
    assert_eq!(numbers(&slow), (0..40).collect::<Vec<_>>());
    assert!(bus.dead_letters().is_empty());
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn in_other_words_an_event_may_come_twice_and_none_is_lost() {
    let bus = bus();
    let service = Arc::new(Remembers::new("one"));
    let find = finder(std::slice::from_ref(&service));
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    let with = |capacity| [SubscriptionWish { capacity, ..wish("a", "one", DeliveryMode::BestEffort) }];
    subscriptions.apply(&with(5_000), &find).await.unwrap();
    for round in 0..20_u32 {
        // What is published is still in the lanes while its subscription becomes another.
        publish(&bus, "a", round * 200..round * 200 + 100).await;
        let publisher = {
            let bus = bus.clone();
            tokio::spawn(async move { publish(&bus, "a", round * 200 + 100..round * 200 + 200).await })
        };
        let applied = subscriptions.apply(&with(5_001 + round as usize), &find).await.unwrap();
        assert_eq!((applied.begun.len(), applied.ended.len()), (1, 1));
        publisher.await.unwrap();
    }
    assert_eq!(subscriptions.end(LONG).await, 0);
    let mut all = numbers(&service);
    all.sort();
    all.dedup();
    assert_eq!(all, (0..4_000).collect::<Vec<_>>());
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn wishes_are_fulfilled_all_together_or_not_at_all() {
    let bus = bus();
    let services = ["one", "two"].map(|name| Arc::new(Remembers::new(name)));
    let find = finder(&services);
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    let one = wish("a", "one", DeliveryMode::BestEffort);
    subscriptions.apply(std::slice::from_ref(&one), &find).await.unwrap();

    let absent = wish("a", "nobody", DeliveryMode::BestEffort);
    let two = wish("b", "two", DeliveryMode::BestEffort);
    let told = subscriptions.apply(&[two.clone(), absent.clone()], &find).await.unwrap_err();
    assert_eq!(told, SubscriptionsError::Unknown { wish: absent });
    let none = SubscriptionWish { capacity: 0, ..wish("b", "two", DeliveryMode::BestEffort) };
    let told = subscriptions.apply(&[two, none], &find).await.unwrap_err();
    assert!(told.to_string().contains("two: b"), "{told}");
    let there: Vec<_> = bus.subscriptions().into_iter().map(|record| record.name).collect();
    assert_eq!(there, ["one: a"], "as it was");
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn a_service_that_panics_or_hangs_is_tried_again_and_nobody_else_waits() {
    let retry = RetryPolicy::default().delays(Duration::from_millis(1), Duration::from_millis(1));
    let bus = Bus::builder().workers(1).retry(retry).build().unwrap();
    let panics = Arc::new(Remembers {
        script: Box::new(|text| if text == "1" { panic!("as the script says") } else { Outcome::Ack }),
        ..Remembers::new("panics")
    });
    let hangs = Arc::new(Remembers { gate: Arc::new(Semaphore::new(0)), ..Remembers::new("hangs") });
    let find = finder(&[Arc::clone(&panics), Arc::clone(&hangs)]);
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    let short = DeliveryMode::Reliable { timeout: Duration::from_millis(5) };
    let wishes = [wish("a", "panics", DeliveryMode::Reliable { timeout: LONG }), wish("a", "hangs", short)];
    subscriptions.apply(&wishes, &find).await.unwrap();
    publish(&bus, "a", 0..3).await;
    flush(&bus).await;
    assert_eq!(numbers(&panics), [0, 2]);
    let letters = bus.dead_letters().list(&ringmain::DeadLetterFilter::new());
    let mut said: Vec<_> =
        letters.iter().map(|letter| (letter.subscription_name().to_owned(), letter.attempts())).collect();
    said.sort();
    assert_eq!(
        said,
        [
            ("hangs: a".to_owned(), 3),
            ("hangs: a".to_owned(), 3),
            ("hangs: a".to_owned(), 3),
            ("panics: a".to_owned(), 3)
        ]
    );
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
}

/// In the books of its subscription, which the bus still has.
fn waiting(bus: &Bus, name: &str) -> Option<u64> {
    bus.subscriptions().iter().find(|record| record.name == name).map(|record| record.ledger.open())
}

#[tokio::test]
async fn what_waits_for_a_service_that_does_not_run_is_not_handled_at_the_end() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::Reliable { timeout: LONG }] {
        let bus = bus();
        let services = ["stopped", "paused", "runs"].map(|name| Arc::new(Remembers::new(name)));
        let mut subscriptions = Subscriptions::new(&bus, LONG);
        let wishes = ["stopped", "paused", "runs"].map(|name| wish("a", name, mode));
        subscriptions.apply(&wishes, finder(&services)).await.unwrap();
        subscriptions.set_running("stopped", false);
        let id = subscriptions.list().find(|(wish, _)| wish.service == "paused").unwrap().1;
        bus.pause(id).unwrap();
        publish(&bus, "a", 0..5).await;
        assert_eq!(subscriptions.end(LONG).await, 0);
        assert_eq!(services.each_ref().map(|service| numbers(service).len()), [0, 0, 5]);
        assert_eq!((waiting(&bus, "stopped: a"), waiting(&bus, "paused: a")), (Some(5), Some(5)));
        assert_eq!(waiting(&bus, "runs: a"), None);
        drop(subscriptions);
        bus.shutdown().unwrap();
    }
}

#[tokio::test]
async fn what_waits_in_a_subscription_that_has_ended_is_handled_when_its_service_runs_again() {
    let bus = bus();
    let service = Arc::new(Remembers::new("one"));
    let find = finder(std::slice::from_ref(&service));
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    subscriptions.apply(&[wish("a", "one", DeliveryMode::Reliable { timeout: LONG })], &find).await.unwrap();
    subscriptions.set_running("one", false);
    publish(&bus, "a", 0..5).await;
    assert_eq!(subscriptions.apply(&[], &find).await.unwrap().ended.len(), 1);
    assert!(bus.subscriptions().is_empty());
    assert!(numbers(&service).is_empty());
    subscriptions.set_running("one", true);
    flush(&bus).await;
    assert_eq!(numbers(&service), [0, 1, 2, 3, 4]);

    // Where somebody has paused it, and it does not run again until the end, nobody handles them.
    subscriptions.apply(&[wish("a", "one", DeliveryMode::Reliable { timeout: LONG })], &find).await.unwrap();
    bus.pause(subscriptions.list().next().unwrap().1).unwrap();
    publish(&bus, "a", 5..8).await;
    subscriptions.apply(&[], &find).await.unwrap();
    assert_eq!(subscriptions.end(LONG).await, 0);
    assert_eq!(numbers(&service).len(), 5);
    let letters = bus.dead_letters().list(&ringmain::DeadLetterFilter::new());
    assert_eq!(letters.iter().map(|letter| letter.reason()).collect::<Vec<_>>(), [DeadReason::Closed; 3]);
    bus.shutdown().unwrap();
}

#[tokio::test]
async fn events_wait_while_their_service_does_not_run() {
    let bus = bus();
    let service = Arc::new(Remembers::new("one"));
    let find = finder(std::slice::from_ref(&service));
    let mut subscriptions = Subscriptions::new(&bus, LONG);
    subscriptions.apply(&[wish("a", "one", DeliveryMode::BestEffort)], &find).await.unwrap();
    subscriptions.set_running("one", false);
    subscriptions.set_running("another", true);
    publish(&bus, "a", 0..5).await;
    flush(&bus).await;
    assert!(numbers(&service).is_empty());
    subscriptions.set_running("one", true);
    flush(&bus).await;
    assert_eq!(numbers(&service), [0, 1, 2, 3, 4]);
    subscriptions.end(LONG).await;
    bus.shutdown().unwrap();
}
