//! Pulling without blocking a thread, on tokio and on an executor of a dozen lines.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_core::Stream;
use ringmain::{Bus, Delivery, FullPolicy, Mailbox, Notice, Pattern, Payload, RecvError, Topic};

use crate::support::{PATIENCE, Seen, assert_books, number, shut_down_clean, simulate, until};

/// Wakes the thread that blocks, and counts.
struct Unpark(thread::Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicUsize::new(0))));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

fn tokio_block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

async fn next(mailbox: &mut Mailbox<Pattern>) -> Option<Delivery<Pattern>> {
    poll_fn(|context| Pin::new(&mut *mailbox).poll_next(context)).await
}

const EVENTS: u64 = 2_000;

/// Everything comes in order, then the end: by `recv_async` and as a stream in turn.
fn pulls_everything(block_on: impl FnOnce(Pin<Box<dyn Future<Output = u64> + Send>>) -> u64) {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").capacity(16).mailbox().unwrap();
    let publishing = thread::spawn({
        let bus = bus.clone();
        move || {
            let mut publisher = bus.publisher().unwrap();
            for value in 0..EVENTS {
                publisher.publish_deadline("a", Payload::raw(&value.to_le_bytes()), PATIENCE).unwrap();
            }
            bus.flush_deadline(PATIENCE).unwrap();
            shut_down_clean(&bus);
        }
    });
    let pulled = block_on(Box::pin(async move {
        let mut count = 0;
        loop {
            let delivery = if count % 2 == 0 { mailbox.recv_async().await.ok() } else { next(&mut mailbox).await };
            let Some(delivery) = delivery else { break };
            assert_eq!(number(delivery.payload()), count);
            count += 1;
        }
        assert_eq!(mailbox.recv_async().await.map(drop), Err(RecvError::Closed));
        assert!(next(&mut mailbox).await.is_none());
        count
    }));
    assert_eq!(pulled, EVENTS);
    publishing.join().unwrap();
}

#[test]
fn a_mailbox_is_pulled_on_a_hand_written_executor() {
    pulls_everything(block_on);
}

#[test]
fn a_mailbox_is_pulled_on_tokio() {
    pulls_everything(tokio_block_on);
}

#[test]
fn a_dropped_recv_async_loses_nothing() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let unpark = Arc::new(Unpark(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&unpark));
    {
        let mut waiting = pin!(mailbox.recv_async());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    bus.publish("a", Payload::raw(&7_u64.to_le_bytes())).unwrap();
    simulation.run();
    assert_eq!(unpark.1.load(Ordering::SeqCst), 1, "the waker that was left is called");
    assert_eq!(number(block_on(mailbox.recv_async()).unwrap().payload()), 7);
    assert_books(bus);
}

#[test]
fn an_async_publish_waits_for_room_and_dropped_publishes_nothing() {
    let bus = Bus::builder().workers(1).max_queue_size(4).batch_max(4).build().unwrap();
    let mut mailbox = bus.subscribe("a").capacity(4).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.set_full_policy(FullPolicy::REJECT);
    let mut accepted = 0_u64;
    until("a full lane", || match publisher.publish("a", Payload::raw(&accepted.to_le_bytes())) {
        Ok(_) => {
            accepted += 1;
            false
        }
        // The mailbox and the lane behind it.
        Err(_) => accepted == 8,
    });
    {
        let mut given_up = pin!(publisher.publish_async("a", Payload::raw(b"never")));
        assert!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let bytes = accepted.to_le_bytes();
    let (id, pulled) = tokio_block_on(async {
        let publishing = publisher.publish_async("a", Payload::raw(&bytes));
        let pulling = async {
            let mut pulled = Vec::new();
            while pulled.len() < 9 {
                let delivery = mailbox.recv_async().await.unwrap();
                pulled.push((number(delivery.payload()), delivery.meta().id()));
            }
            pulled
        };
        tokio::join!(publishing, pulling)
    });
    assert_eq!(pulled.iter().map(|(value, _)| *value).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert_eq!(id, Ok(pulled[8].1));
    shut_down_clean(&bus);
}

#[test]
fn run_calls_an_async_handler_for_each_event_until_the_subscription_ends() {
    const NUMBER: Topic<u64> = Topic::new("number");
    let failures = Seen::default();
    let bus = Bus::builder().workers(1).observer({
        let failures = failures.clone();
        move |notice: &Notice<'_>| {
            if let Notice::HandlerFailed { name, error, .. } = notice {
                failures.push(format!("{name}: {error}"));
            }
        }
    });
    let bus = bus.build().unwrap();
    let seen = Seen::default();
    let running = bus.subscribe(NUMBER).named("async").handler_id("async").run({
        let seen = seen.clone();
        async move |delivery| {
            tokio::task::yield_now().await;
            let value = delivery.event().unwrap().to_native();
            seen.push(value);
            if value == 3 { Err("three") } else { Ok(()) }
        }
    });
    let running = running.unwrap();
    let id = bus.subscriptions()[0].id;
    assert_eq!(bus.subscriptions()[0].handler_id.as_str(), "async");
    tokio_block_on(async {
        let publishing = async {
            let mut publisher = bus.publisher().unwrap();
            for value in 0..10 {
                publisher.publish_async(NUMBER, &value).await.unwrap();
            }
            let settled = |record: ringmain::SubscriptionRecord| record.delivery_count + record.error_count == 10;
            while !settled(bus.subscription(id).unwrap()) {
                tokio::task::yield_now().await;
            }
            let record = bus.subscription(id).unwrap();
            assert_eq!((record.delivery_count, record.error_count), (9, 1));
            bus.unsubscribe(id).unwrap();
        };
        tokio::join!(running, publishing)
    });
    assert_eq!(seen.take(), (0..10).collect::<Vec<_>>());
    assert_eq!(failures.take(), ["async: three"]);
    shut_down_clean(&bus);
}

#[test]
fn a_dropped_run_unsubscribes() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let running = bus.subscribe("a").run(async |_| ()).unwrap();
    assert_eq!(bus.subscriptions().len(), 1);
    drop(running);
    assert_eq!(bus.subscriptions().len(), 0);
    assert_books(bus);
}
