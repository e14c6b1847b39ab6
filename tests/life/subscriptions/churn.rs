//! Subscriptions that change hurt nobody, and end when they say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringmain::{Bus, IdleStrategy, Payload, Publisher};

use crate::support::{PATIENCE, Seen, shut_down_clean};

const PUBLISHERS: u64 = 3;

/// Whose event, and which.
fn read(payload: Payload<'_>) -> (u64, u64) {
    let (who, which) = payload.bytes().split_at(8);
    (u64::from_le_bytes(who.try_into().unwrap()), u64::from_le_bytes(which.try_into().unwrap()))
}

fn publish(publisher: &mut Publisher, who: u64, which: u64) {
    let bytes: Vec<u8> = [who.to_le_bytes(), which.to_le_bytes()].concat();
    publisher.publish_deadline("load.event", Payload::raw(&bytes), PATIENCE).unwrap();
}

/// Publishers at work until dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<u64>>,
}

impl Load {
    fn start(bus: &Bus) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..PUBLISHERS)
            .map(|who| {
                let mut publisher = bus.publisher().unwrap();
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    let mut which = 0;
                    while !stop.load(Ordering::Relaxed) {
                        publish(&mut publisher, who, which);
                        which += 1;
                    }
                    which
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Events of each publisher.
    fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// Says where an event is missing or comes twice.
#[derive(Default)]
struct Gapless {
    next: [Option<u64>; PUBLISHERS as usize],
}

impl Gapless {
    fn see(&mut self, (who, which): (u64, u64)) -> Option<String> {
        let next = &mut self.next[who as usize];
        let fault = next.filter(|&next| next != which).map(|next| format!("{which} of {who} instead of {next}"));
        *next = Some(which + 1);
        fault
    }
}

#[test]
fn a_subscription_that_stays_misses_nothing_and_sees_nothing_twice_while_others_change() {
    const ROUNDS: usize = 150;
    let bus = Bus::builder().workers(3).max_queue_size(1_024).build().unwrap();
    let faults: Seen<String> = Seen::default();
    let stays: Vec<_> = (0..3)
        .map(|worker| {
            let (mut order, faults) = (Gapless { next: [Some(0); 3] }, faults.clone());
            let made = bus.subscribe("load.*").on_worker(worker).handle(move |payload, _| {
                if let Some(fault) = order.see(read(payload)) {
                    faults.push(fault);
                }
            });
            made.unwrap()
        })
        .collect();
    let mut mailbox = bus.subscribe("**").mailbox().unwrap();
    let consumer = {
        let faults = faults.clone();
        thread::spawn(move || {
            let mut order = Gapless { next: [Some(0); 3] };
            let mut count = 0;
            for delivery in &mut mailbox {
                if let Some(fault) = order.see(read(delivery.payload())) {
                    faults.push(fault);
                }
                count += 1;
            }
            count
        })
    };
    let load = Load::start(&bus);
    for round in 0..ROUNDS {
        let patterns = ["load.*", "load.event", "*", "**.event", "elsewhere"];
        let others: Vec<_> = patterns
            .iter()
            .enumerate()
            .map(|(nth, &pattern)| {
                // Whoever comes sees a run without gaps for as long as it stays.
                let (mut order, faults) = (Gapless::default(), faults.clone());
                let made = bus.subscribe(pattern).on_worker((round + nth) % 3).handle(move |payload, _| {
                    if let Some(fault) = order.see(read(payload)) {
                        faults.push(fault);
                    }
                });
                made.unwrap()
            })
            .collect();
        let inbox = bus.subscribe("load.**").capacity(16).mailbox().unwrap();
        bus.pause(others[4].id()).unwrap();
        drop(inbox);
        drop(others);
    }
    let published = load.stop();
    bus.flush_deadline(PATIENCE).unwrap();
    let total: u64 = published.iter().sum();
    assert!(published.iter().all(|&count| count > 0), "{published:?}");
    for made in &stays {
        assert_eq!(made.record().delivery_count, total);
    }
    shut_down_clean(&bus);
    assert_eq!(consumer.join().unwrap(), total);
    assert_eq!(faults.take(), [""; 0]);
}

#[test]
fn every_publish_after_subscribe_returned_is_seen() {
    let bus = Bus::builder().workers(2).idle(IdleStrategy::Park).build().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let load = Load::start(&bus);
    for round in 0..200_u64 {
        let seen = Seen::default();
        let made = bus.subscribe("marker.*").handle({
            let seen = seen.clone();
            move |payload, _| seen.push(read(payload).1)
        });
        let bytes: Vec<u8> = [0_u64.to_le_bytes(), round.to_le_bytes()].concat();
        publisher.publish("marker.new", Payload::raw(&bytes)).unwrap();
        bus.flush_deadline(PATIENCE).unwrap();
        made.unwrap().unsubscribe().unwrap();
        assert_eq!(seen.take(), [round]);
    }
    load.stop();
    shut_down_clean(&bus);
}

/// Subscribes and unsubscribes under load; no call may begin once `unsubscribe` has returned.
fn ends_when_it_says_so(subscribe: impl Fn(&Bus, Arc<AtomicBool>, Seen<u64>) -> ringmain::Subscription) {
    let bus = Bus::builder().workers(2).max_queue_size(256).batch_max(256).build().unwrap();
    let load = Load::start(&bus);
    let late = Seen::default();
    for round in 0..100 {
        let over = Arc::new(AtomicBool::new(false));
        let made = subscribe(&bus, Arc::clone(&over), late.clone());
        while made.record().delivery_count == 0 {
            thread::yield_now();
        }
        match round % 3 {
            0 => made.unsubscribe().unwrap(),
            1 => bus.unsubscribe(made.id()).unwrap(),
            _ => drop(made),
        }
        over.store(true, Ordering::SeqCst);
    }
    load.stop();
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(late.len(), 0, "calls began after the end");
    shut_down_clean(&bus);
    assert_eq!(late.len(), 0, "calls began after the end");
}

#[test]
fn no_inline_call_begins_after_unsubscribe_returned() {
    ends_when_it_says_so(|bus, over, late| {
        let handler = move |_: Payload<'_>, meta: &ringmain::Meta<'_>| {
            if over.load(Ordering::SeqCst) {
                late.push(meta.sequence());
            }
        };
        bus.subscribe("load.*").handle(handler).unwrap()
    });
}

#[test]
fn no_call_on_a_thread_of_its_own_begins_after_unsubscribe_returned() {
    ends_when_it_says_so(|bus, over, late| {
        let handler = move |_: Payload<'_>, meta: &ringmain::Meta<'_>| {
            if over.load(Ordering::SeqCst) {
                late.push(meta.sequence());
            }
        };
        bus.subscribe("load.*").handle_on("own", handler).unwrap()
    });
}
