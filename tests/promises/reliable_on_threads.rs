//! Reliable delivery on real threads: publishers, failing handlers, short timeouts, consumers that hold on, subscriptions that come
//! and go, pauses and redrives, all at once; then every event is in exactly one place and the books are exact.
//!
//! `RINGMAIN_SEED=n` sets the first seed, `RINGMAIN_ROUNDS=n` the number of rounds, each of a seed; of those that are run by
//! default only the first is long.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, spawn};
use std::time::Duration;

use ringmain::{
    Bus, DeadLetterFilter, DeliveryMode, EventId, Key, Mailbox, Outcome, Pattern, Payload, Priority, RetryPolicy,
    Settled, Subscribe,
};

use super::support::{Draw, Log, assert_books, watched};

const MS: Duration = Duration::from_millis(1);
const PUBLISHERS: u64 = 3;
/// Events of each publisher in a round, and in one of those that follow the first.
const EVENTS: u64 = 1_500;
const EVENTS_FEW: u64 = 100;
const ROUNDS: u64 = 20;

/// What a consumer makes of an attempt, now and then after its time.
fn outcome(draw: &mut Draw) -> Outcome {
    match draw.below(24) {
        0..=3 => Outcome::Failed("no".to_owned()),
        4 => Outcome::RetryAfter(Duration::from_micros(draw.below(3_000))),
        5 => Outcome::Release,
        6 => Outcome::Reject("never".to_owned()),
        7 => panic!("a panic that the test asks for"),
        _ => Outcome::Ack,
    }
}

/// Lets others go on for a while: now and then for longer than an attempt may take.
fn linger(draw: &mut Draw, yields: u64) {
    (0..draw.below(yields)).for_each(|_| std::thread::yield_now());
}

fn dawdle(draw: &mut Draw) {
    if draw.one_in(60) {
        linger(draw, 12_000);
    }
}

struct Waking(std::thread::Thread);

impl std::task::Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let waker = std::task::Waker::from(Arc::new(Waking(std::thread::current())));
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}

/// Consumes a mailbox until it ends: settles at once, later, from elsewhere, or not at all.
fn consume(mut inbox: Mailbox<Pattern>, acknowledged: &Log<EventId>, seed: u64) {
    let mut draw = Draw(seed);
    let mut held = Vec::new();
    while let Ok(delivery) = inbox.recv() {
        if draw.one_in(8) {
            delivery.extend(Duration::from_micros(draw.below(5_000)));
            held.push(delivery);
        } else {
            held.insert(0, delivery);
        }
        while held.len() > 3 || !held.is_empty() && inbox.is_empty() {
            let delivery = held.remove(0);
            dawdle(&mut draw);
            if draw.one_in(50) {
                continue;
            }
            let (id, said) = (delivery.meta().id(), draw.below(6));
            let settled = if said == 0 { delivery.fail("no") } else { delivery.ack() };
            if said != 0 && settled == Settled::Counted {
                acknowledged.add(id);
            }
        }
    }
}

fn round(seed: u64, events: u64) {
    let bus = Bus::builder()
        .workers(2)
        .max_queue_size(256)
        .blocks([(512, 64)])
        .payload_bytes_max(512)
        .dead_letters_max(1_000_000)
        .build()
        .unwrap();
    let mode = |ms| DeliveryMode::Reliable { timeout: MS * ms };
    let retry = RetryPolicy::default().attempts_max(3).releases_max(3).delays(MS, 2 * MS);
    let wish =
        |topic: &str, ms| -> Subscribe<Pattern> { bus.subscribe(topic).mode(mode(ms)).retry(retry).capacity(64) };
    let mut draw = Draw(seed);

    let mailbox = wish("**", 2).mailbox().unwrap();
    let mailbox_id = mailbox.id();
    let mailbox_acks = Log::new();
    let consumer = {
        let (log, seed) = (mailbox_acks.clone(), draw.below(u64::MAX));
        spawn(move || consume(mailbox, &log, seed))
    };
    let mut own = Draw(draw.below(u64::MAX));
    let inline = wish("*", 3).handle(move |_, _| outcome(&mut own)).unwrap();
    let mut own = Draw(draw.below(u64::MAX));
    let threaded = wish("**", 2).ordered_by(Key::Source).handle_on("stress", move |_, _| {
        dawdle(&mut own);
        outcome(&mut own)
    });
    let threaded = threaded.unwrap();
    let mut own = Draw(draw.below(u64::MAX));
    let running = wish("b", 4).run(async move |_| {
        if own.one_in(40) {
            std::future::pending::<()>().await;
        }
        if own.below(5) == 0 { Err("no") } else { Ok(()) }
    });
    let running = running.unwrap();
    let runner = spawn(move || block_on(running));

    let published = Log::new();
    let done = AtomicBool::new(false);
    let seeds: Vec<_> = (0..PUBLISHERS + 2).map(|_| draw.below(u64::MAX)).collect();
    scope(|threads| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|nth| {
                let (published, bus, seed) = (published.clone(), &bus, seeds[nth as usize]);
                threads.spawn(move || {
                    let mut draw = Draw(seed);
                    let mut publisher = bus.publisher().unwrap();
                    for _ in 0..events {
                        let text = "x".repeat(if draw.one_in(8) { 400 } else { 10 });
                        let topic = ["a", "b", "c"][draw.below(3) as usize];
                        let priority = Priority::ALL[draw.below(4) as usize];
                        let event = publisher.event().priority(priority).source(["p", "q"][draw.below(2) as usize]);
                        if let Ok(id) = event.publish(topic, Payload::plain_text(&text)) {
                            published.add(id);
                        }
                    }
                })
            })
            .collect();
        let (churn, redrive, done) = (seeds[PUBLISHERS as usize], seeds[PUBLISHERS as usize + 1], &done);
        let (bus, wish) = (&bus, &wish);
        let (inline, threaded) = (inline.id(), threaded.id());
        threads.spawn(move || {
            let mut draw = Draw(churn);
            while !done.load(Ordering::Relaxed) {
                let mut own = Draw(draw.below(u64::MAX));
                let wish = wish("a", 1);
                let wish = if draw.one_in(2) { wish.ordered_by(Key::Topic) } else { wish };
                if draw.one_in(3) {
                    let mut inbox = wish.mailbox().unwrap();
                    let held = inbox.recv_deadline(MS);
                    drop(inbox);
                    drop(held);
                } else if draw.one_in(2) {
                    let made = wish.handle(move |_, _| outcome(&mut own)).unwrap();
                    linger(&mut draw, 10_000);
                    drop(made);
                } else {
                    let made = wish.handle_on("churn", move |_, _| outcome(&mut own)).unwrap();
                    linger(&mut draw, 10_000);
                    made.unsubscribe().unwrap();
                }
                for id in [inline, threaded] {
                    if draw.one_in(8) {
                        bus.pause(id).unwrap();
                        linger(&mut draw, 4_000);
                        bus.resume(id).unwrap();
                    }
                }
            }
        });
        threads.spawn(move || {
            let mut draw = Draw(redrive);
            while !done.load(Ordering::Relaxed) {
                let filter = DeadLetterFilter::new().limit(draw.below(50) as usize);
                bus.dead_letters().redrive_all(&filter, Duration::ZERO).unwrap().wait();
                linger(&mut draw, 6_000);
            }
        });
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    bus.flush_deadline(Duration::from_secs(60))
        .unwrap_or_else(|error| panic!("seed {seed}: {error}: {:#?}", bus.ledger()));
    assert_books(&bus);
    // Letters that were on their way.
    while bus.ledger().subscriptions.open() > 0 {
        std::thread::yield_now();
    }
    assert_books(&bus);
    let (inline_id, threaded_id) = (inline.id(), threaded.id());
    let report = bus.shutdown_deadline(Duration::from_secs(60)).unwrap();
    assert!(report.is_clean() && report.ledger_balanced, "seed {seed}: {report:?}");
    consumer.join().unwrap();
    runner.join().unwrap();
    assert_books(&bus);
    assert!(bus.dead_letters().counts().is_balanced());
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.open(), ledger.failed, ledger.dropped.total()), (0, 0, 0), "seed {seed}: {ledger:#?}");
    // Of the mailbox it is known which events were acknowledged.
    let mut places: HashMap<EventId, u32> = HashMap::new();
    for id in mailbox_acks.take() {
        *places.entry(id).or_default() += 1;
    }
    for letter in bus.dead_letters().list(&DeadLetterFilter::new().subscription(mailbox_id)) {
        *places.entry(letter.meta().id()).or_default() += 1;
    }
    let published = published.take();
    for id in &published {
        assert_eq!(places.get(id), Some(&1), "seed {seed}: {id} at the mailbox");
    }
    let held = bus.dead_letters().counts();
    eprintln!("seed {seed}: {} events, {ledger:?}, {held:?}", published.len());
    let of = |id| bus.dead_letters().list(&DeadLetterFilter::new().subscription(id)).len() as u64;
    for (record, id) in [(inline.record(), inline_id), (threaded.record(), threaded_id)] {
        let ledger = record.ledger;
        assert_eq!(ledger.dropped.total(), 0, "seed {seed}: {ledger:#?}");
        assert_eq!(ledger.delivered + of(id), published.len() as u64, "seed {seed}: {ledger:#?}");
    }
}

#[test]
fn whatever_happens_on_real_threads_the_books_are_exact() {
    let number = |variable| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, rounds) = (number("RINGMAIN_SEED").unwrap_or(1), number("RINGMAIN_ROUNDS"));
    for seed in first..first + rounds.unwrap_or(ROUNDS) {
        let events = if rounds.is_some() || seed == first { EVENTS } else { EVENTS_FEW };
        watched(move || round(seed, events));
    }
}
