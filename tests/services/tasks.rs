//! The task queue: each task is done at least once, by so many workers at a time, and what came of it is an event.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::node::health::Health;
use ringmain::node::services::builtin::{Task, TaskOptions, TaskQueue, TaskWork};
use ringmain::node::services::{Service, SubscriptionWish, Subscriptions};
use ringmain::{Bus, DeadLetterFilter, DeliveryMode, Mailbox, Pattern, Payload, Priority, RetryPolicy};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{LONG, bus, next_async, until};

/// A queue that runs, subscribed to `task.*` as a file would declare it.
struct Scene {
    bus: Bus,
    queue: Arc<TaskQueue>,
    subscriptions: Subscriptions,
    results: Mailbox<Pattern>,
}

impl Scene {
    async fn new(options: TaskOptions, work: Option<Arc<dyn TaskWork>>) -> Self {
        let bus = bus();
        let results = bus.subscribe("task.*").mailbox().unwrap();
        let queue = Arc::new(TaskQueue::new(&bus, options, work));
        queue.start().await.unwrap();
        let mut subscriptions = Subscriptions::new(&bus, LONG);
        let wish = SubscriptionWish {
            pattern: Pattern::new("task.*").unwrap(),
            service: "task_processor".to_owned(),
            mode: DeliveryMode::Reliable { timeout: LONG },
            capacity: 1_024,
        };
        let found = Arc::clone(&queue) as Arc<dyn Service>;
        subscriptions.apply(&[wish], |_| Some(Arc::clone(&found))).await.unwrap();
        Self { bus, queue, subscriptions, results }
    }

    fn create(&self, data: &str) {
        self.bus.publish("task.created", Payload::json(data)).unwrap();
    }

    /// The next event of this topic.
    async fn next(&mut self, topic: &str) -> serde_json::Value {
        loop {
            let got = next_async(&mut self.results).await;
            if got.topic == topic {
                return got.data;
            }
        }
    }

    async fn end(mut self) {
        assert_eq!(self.subscriptions.end(LONG).await, 0);
        self.queue.stop().await.unwrap();
        drop(self.results);
        assert!(self.bus.shutdown().unwrap().is_clean());
    }
}

fn quick() -> TaskOptions {
    let retry = RetryPolicy::default().delays(Duration::from_millis(1), Duration::from_millis(1));
    TaskOptions { retry, ..TaskOptions::default() }
}

#[tokio::test]
async fn a_task_is_done_and_what_came_of_it_is_an_event_that_it_caused() {
    let work = |task: Task| async move { Ok(json!({ "did": task.kind, "attempt": task.attempt }).to_string()) };
    let mut scene = Scene::new(quick(), Some(Arc::new(work))).await;
    let mut queued = scene.bus.subscribe("task.queued").mailbox().unwrap();
    scene.create(r#"{"task_id": "t-1", "task_type": "resize", "priority": 2, "assigned_to": "ada"}"#);
    let done = scene.next("task.completed").await;
    assert_eq!((&done["task_id"], &done["result"]), (&json!("t-1"), &json!({ "did": "resize", "attempt": 1 })));
    assert!(done["completed_by"].as_str().unwrap().starts_with("task_processor-") && done["duration_ms"].is_u64());
    let event = queued.recv_async().await.unwrap();
    assert_eq!((event.meta().priority(), event.meta().targets().count()), (Priority::High, 1));
    assert!(event.meta().causation().is_some() && event.meta().correlation() == event.meta().causation());

    // Ids may be numbers; what the queue itself says is no task.
    scene.create(r#"{"task_id": 7}"#);
    assert_eq!(scene.next("task.completed").await["task_id"], "7");
    let counts = scene.queue.counts();
    assert_eq!((counts.queued, counts.completed, counts.failed), (2, 2, 0));
    assert_eq!(scene.queue.health().await, Health::Healthy);
    drop((event, queued));
    scene.end().await;
}

#[tokio::test]
async fn a_task_that_fails_is_tried_again_and_then_a_dead_letter_that_can_be_redriven() {
    let tried: Arc<Mutex<BTreeMap<String, u8>>> = Arc::default();
    let is_mended = Arc::new(AtomicUsize::new(0));
    let (seen, mended) = (Arc::clone(&tried), Arc::clone(&is_mended));
    let work = move |task: Task| {
        *seen.lock().unwrap().entry(task.id.clone()).or_default() += 1;
        let fails = match task.id.as_str() {
            "flaky" => task.attempt < 3,
            "panics" => panic!("as the test says"),
            "broken" => mended.load(Ordering::SeqCst) == 0,
            _ => false,
        };
        async move { if fails { Err(format!("{} does not work", task.id)) } else { Ok("done".to_owned()) } }
    };
    let mut scene = Scene::new(TaskOptions { workers: 1, ..quick() }, Some(Arc::new(work))).await;
    scene.create(r#"{"task_id": "flaky"}"#);
    assert_eq!(scene.next("task.completed").await["result"], "done");
    scene.create(r#"{"task_id": "panics"}"#);
    assert_eq!(scene.next("task.failed").await, json!({ "task_id": "panics", "error": "it panicked", "attempts": 3 }));
    scene.create(r#"{"task_id": "broken"}"#);
    assert_eq!(scene.next("task.failed").await["error"], "broken does not work");
    let tries: Vec<_> = tried.lock().unwrap().clone().into_iter().collect();
    assert_eq!(tries, [("broken".to_owned(), 3), ("flaky".to_owned(), 3), ("panics".to_owned(), 3)]);

    // What is no task is a dead letter at once, before it is in the queue.
    scene.create("[1]");
    scene.create(r#"{"task_id": "odd", "priority": "tomorrow"}"#);
    until(|| scene.bus.dead_letters().len() == 4).await;
    let letters = scene.bus.dead_letters().list(&DeadLetterFilter::new());
    let broken = letters
        .iter()
        .find(|letter| letter.meta().payload().text().is_some_and(|text| text.contains("broken")))
        .unwrap();
    is_mended.store(1, Ordering::SeqCst);
    scene.bus.dead_letters().redrive(broken.id()).unwrap();
    assert_eq!(scene.next("task.completed").await["task_id"], "broken");
    let counts = scene.queue.counts();
    assert_eq!((counts.queued, counts.completed, counts.attempts_failed, counts.failed), (3, 2, 8, 2));
    scene.end().await;
}

#[tokio::test]
async fn so_many_tasks_are_done_at_once_and_no_more() {
    let gate = Arc::new(Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let begun = Arc::new(Semaphore::new(0));
    let work = {
        let (gate, running, most, begun) = (gate.clone(), running, most.clone(), begun.clone());
        move |_: Task| {
            let (gate, running, most, begun) = (gate.clone(), running.clone(), most.clone(), begun.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begun.add_permits(1);
                gate.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(String::new())
            }
        }
    };
    let mut scene = Scene::new(TaskOptions { workers: 3, ..quick() }, Some(Arc::new(work))).await;
    for nth in 0..12 {
        scene.create(&format!(r#"{{"task_id": {nth}}}"#));
    }
    // Three have begun, and each that is let through makes room for one.
    let mut done = Vec::new();
    tokio::time::timeout(LONG, begun.acquire_many(3)).await.unwrap().unwrap().forget();
    for _ in 0..12 {
        gate.add_permits(1);
        done.push(scene.next("task.completed").await["task_id"].as_str().unwrap().to_owned());
    }
    done.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(done, (0..12).map(|nth| nth.to_string()).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 3);
    scene.end().await;
}

#[tokio::test]
async fn tasks_wait_for_a_worker_while_there_is_none() {
    let scene = Scene::new(quick(), None).await;
    scene.create(r#"{"task_id": "waits"}"#);
    let bus = scene.bus.clone();
    let (service, _) = tokio::task::spawn_blocking(move || {
        let service = bus.get_service("tasks").unwrap();
        // Anybody may be a worker: a process behind the network as well.
        let mut outside = service.instance("outside").mailbox().unwrap();
        let task = outside.recv_deadline(LONG).unwrap();
        assert!(task.payload().text().unwrap().contains("waits"));
        task.ack();
        (service, outside)
    })
    .await
    .unwrap();
    assert_eq!(service.record().waiting, 0);
    scene.create(r#"{"task_id": "waits as well"}"#);
    until(|| scene.queue.counts().queued == 2).await;
    let unworked = async {
        loop {
            match scene.queue.health().await {
                Health::Degraded(reason) => break reason,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let reason = tokio::time::timeout(LONG, unworked).await.unwrap();
    assert!(reason.contains("1 tasks wait, and there is no worker"), "{reason}");
    let Scene { bus, queue, mut subscriptions, results } = scene;
    subscriptions.end(LONG).await;
    queue.stop().await.unwrap();
    drop(results);
    service.end().unwrap();
    bus.shutdown().unwrap();
}
