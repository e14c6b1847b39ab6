//! What a handler may call on the worker it runs on: nothing that waits, and nothing that hangs.

use std::sync::{Arc, Mutex};

use ringmain::{Bus, FlushError, FullPolicy, HandlerId, Payload, Priority, PublishError, SubscribeError};

use crate::support::{PATIENCE, Seen, shut_down_clean, until};

#[test]
fn calls_that_wait_are_refused_on_a_worker() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let other = bus.subscribe("other").handle(|_, _| {}).unwrap();
    let handled = Arc::new(Mutex::new(Some(bus.subscribe("mine").handle(|_, _| {}).unwrap())));
    let dropped = Arc::new(Mutex::new(Some(bus.subscribe("dropped").handle(|_, _| {}).unwrap())));
    let seen: Seen<Vec<String>> = Seen::default();
    let handler = bus.subscribe("go").handle({
        let (bus, seen, other) = (bus.clone(), seen.clone(), other.id());
        move |_, _| {
            let own = handled.lock().unwrap().take().unwrap();
            drop(dropped.lock().unwrap().take());
            let subscribe = [
                bus.subscribe("x").handle(|_, _| {}).map(drop),
                bus.subscribe("x").mailbox().map(drop),
                bus.subscribe("x").handle_on("never", |_, _| {}).map(drop),
                bus.unsubscribe(other),
                bus.unsubscribe_handler("other", &HandlerId::new("none")).map(drop),
                own.unsubscribe(),
            ];
            let wait = [
                bus.flush(),
                bus.flush_deadline(PATIENCE),
                bus.shutdown().map(drop),
                bus.shutdown_deadline(PATIENCE).map(drop),
            ];
            let subscribe = subscribe.map(|result| result == Err(SubscribeError::OnWorker));
            let wait = wait.map(|result| result == Err(FlushError::OnWorker));
            seen.push(vec![format!("{subscribe:?}"), format!("{wait:?}"), format!("{:?}", bus.state())]);
        }
    });
    bus.publish("go", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    let said = seen.take();
    assert_eq!(said, [["[true, true, true, true, true, true]", "[true, true, true, true]", "Running"]]);
    let mut names: Vec<_> = bus.subscriptions().into_iter().map(|record| record.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["go", "other"], "a handle given up on a worker ends its subscription all the same");
    drop((other, handler));
    shut_down_clean(&bus);
}

#[test]
fn a_handler_that_publishes_to_its_own_full_lane_gets_full() {
    let bus = Bus::builder()
        .workers(1)
        .max_queue_size(16)
        .batch_max(16)
        .when_full(FullPolicy::wait(PATIENCE))
        .build()
        .unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut own = bus.publisher().unwrap();
    let refused = Seen::default();
    let subscription = bus
        .subscribe("echo.*")
        .handle({
            let refused = refused.clone();
            move |_, meta| {
                if meta.topic() != "echo.first" {
                    return;
                }
                loop {
                    match own.publish("echo.again", Payload::raw(b"")) {
                        Ok(_) => {}
                        Err(error) => return refused.push(error),
                    }
                }
            }
        })
        .unwrap();
    publisher.publish("echo.first", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    let refused = refused.take();
    assert_eq!(refused.len(), 1);
    let PublishError::Full { priority, depth, limit, gated_by } = refused[0] else { panic!("{:?}", refused[0]) };
    assert_eq!((priority, limit, gated_by), (Priority::Normal, 16, Some(0)));
    assert!(depth >= 16, "{depth}");
    // The first flush was for what came before it; what the handler published came later.
    bus.flush_deadline(PATIENCE).unwrap();
    assert!(subscription.record().delivery_count >= 16);
    shut_down_clean(&bus);
}

#[test]
fn pause_and_resume_are_allowed_on_a_worker() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let paused = bus.subscribe("paused").on_worker(0).handle(|_, _| {}).unwrap();
    let _switch = bus
        .subscribe("switch.*")
        .on_worker(0)
        .handle({
            let (bus, id) = (bus.clone(), paused.id());
            move |_, meta| match meta.topic() {
                "switch.off" => bus.pause(id),
                _ => bus.resume(id),
            }
        })
        .unwrap();
    for topic in ["switch.off", "paused", "switch.on", "paused"] {
        bus.publish(topic, Payload::raw(b"")).unwrap();
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let ledger = paused.record().ledger;
    assert_eq!((ledger.delivered, ledger.dropped.paused), (1, 1));
    shut_down_clean(&bus);
}

#[test]
fn a_subscription_dropped_on_its_own_worker_ends() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let own: Arc<Mutex<Option<ringmain::Subscription>>> = Arc::default();
    let made = bus
        .subscribe("once")
        .handle({
            let own = Arc::clone(&own);
            move |_, _| drop(own.lock().unwrap().take())
        })
        .unwrap();
    *own.lock().unwrap() = Some(made);
    bus.publish("once", Payload::raw(b"")).unwrap();
    until("the end of the subscription", || bus.subscriptions().is_empty());
    bus.flush_deadline(PATIENCE).unwrap();
    bus.publish("once", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(bus.ledger().subscriptions.delivered, 1);
    shut_down_clean(&bus);
}

#[test]
fn a_handler_on_a_thread_of_its_own_may_end_its_subscription() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let ended = Seen::default();
    let made = bus.subscribe("once").handler_id("own");
    let made = made.handle_on("own", {
        let (bus, ended) = (bus.clone(), ended.clone());
        move |_, _| {
            until("both in the mailbox", || bus.ledger().subscriptions.matched == 2);
            let begun = std::time::Instant::now();
            let count = bus.unsubscribe_handler("once", &HandlerId::new("own"));
            ended.push((count, begun.elapsed()));
        }
    });
    let mut publisher = bus.publisher().unwrap();
    publisher.publish_batch("once", [Payload::raw(b""), Payload::raw(b"")]).unwrap();
    until("the end of the subscription", || ended.len() == 1);
    bus.flush_deadline(PATIENCE).unwrap();
    let (count, took) = ended.take().pop().unwrap();
    assert_eq!(count, Ok(1));
    assert!(took < std::time::Duration::from_secs(4), "it waited for itself: {took:?}");
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.delivered, ledger.dropped.closed), (1, 1));
    drop(made);
    shut_down_clean(&bus);
}
