//! No silent loss: after any operation, every accepted event is in exactly one place, and each place counts for itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, Delivery, Filter, FullPolicy, Mailbox, Overflow, Pattern, Payload, Priority, Publisher,
    Subscription, SubscriptionId,
};

use super::support::{Draw, assert_books, assert_settled, watched};

const TOPICS: [&str; 5] = ["a.b", "a.c", "b", "b.c.d", "nobody.wants"];
const PATTERNS: [&str; 6] = ["a.*", "a.b", "b", "**.d", "a.**", "b.*.d"];
const OVERFLOWS: [Overflow; 3] = [Overflow::Block, Overflow::DropNewest, Overflow::DropOldest];

fn small() -> BusBuilder {
    let blocks = [(512, 6), (4_096, 3)];
    Bus::builder().max_queue_size(24).batch_max(8).turn_max(7).blocks(blocks).payload_bytes_max(4_096).scheduled_max(5)
}

/// Everything a user may hold at a time.
struct World {
    simulation: Simulation,
    draw: Draw,
    publishers: Vec<Publisher>,
    handlers: Vec<Subscription>,
    mailboxes: Vec<Mailbox<Pattern>>,
    held: Vec<Delivery<Pattern>>,
    kept: Vec<SubscriptionId>,
    accepted: u64,
    refused: u64,
    taken: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let workers = 1 + draw.below(3) as usize;
        let policy = FullPolicy::REJECT.shed_low_above(70);
        let simulation = Simulation::new(small().workers(workers).when_full(policy), seed).unwrap();
        let publishers = (0..2).map(|_| simulation.bus().publisher().unwrap()).collect();
        Self {
            simulation,
            draw,
            publishers,
            handlers: Vec::new(),
            mailboxes: Vec::new(),
            held: Vec::new(),
            kept: Vec::new(),
            accepted: 0,
            refused: 0,
            taken: 0,
        }
    }

    fn publish(&mut self) {
        let body = vec![7; [0, 10, 150, 400, 3_000, 5_000][self.draw.below(6) as usize]];
        let topic = TOPICS[self.draw.below(5) as usize];
        let publisher = &mut self.publishers[self.draw.below(2) as usize];
        let mut event = publisher.at(self.draw.priority());
        if self.draw.one_in(4) {
            event = event.expires_after(Duration::from_millis(self.draw.below(20)));
        }
        if self.draw.one_in(4) {
            event = event.not_before(Duration::from_millis(self.draw.below(20)));
        }
        if self.draw.one_in(5) {
            event = event.metadata("key", &"v".repeat(self.draw.below(600) as usize));
        }
        match event.publish(topic, Payload::raw(&body)) {
            Ok(_) => self.accepted += 1,
            Err(_) => self.refused += 1,
        }
    }

    fn batch(&mut self) {
        let count = 1 + self.draw.below(8);
        let publisher = &mut self.publishers[self.draw.below(2) as usize];
        let mut batch = publisher.batch(self.draw.priority());
        for _ in 0..count {
            let body = vec![7; [0, 10, 400][self.draw.below(3) as usize]];
            if batch.add(TOPICS[self.draw.below(5) as usize], Payload::raw(&body)).is_err() {
                self.refused += 1;
            }
        }
        match batch.publish() {
            Ok(ids) => self.accepted += ids.len() as u64,
            Err(_) => self.refused += 1,
        }
    }

    fn subscribe(&mut self) {
        let bus = self.simulation.bus();
        let mut wish = bus.subscribe(PATTERNS[self.draw.below(6) as usize]);
        if self.draw.one_in(3) {
            wish = wish.filter(Filter::all().priority_min(self.draw.priority()));
        }
        if self.draw.one_in(4) {
            wish = wish.filter(Filter::all().matching(|meta| meta.sequence() % 3 != 0));
        }
        if self.draw.one_in(2) {
            let mut calls = 0;
            let made = wish.handle(move |_, _| {
                calls += 1;
                if calls % 5 == 0 { Err("every fifth fails") } else { Ok(()) }
            });
            self.handlers.push(made.unwrap());
        } else {
            let overflow = OVERFLOWS[self.draw.below(3) as usize];
            let capacity = 1 + self.draw.below(8) as usize;
            self.mailboxes.push(wish.overflow(overflow).capacity(capacity).mailbox().unwrap());
        }
    }

    fn unsubscribe(&mut self) {
        if self.draw.one_in(2) && !self.handlers.is_empty() {
            let handler = self.handlers.swap_remove(self.draw.below(self.handlers.len() as u64) as usize);
            match self.draw.below(3) {
                0 => handler.unsubscribe().unwrap(),
                1 => drop(handler),
                _ => self.kept.push(handler.forever()),
            }
        } else if !self.mailboxes.is_empty() {
            let nth = self.draw.below(self.mailboxes.len() as u64) as usize;
            match self.draw.below(3) {
                // Ended by its id, the mailbox can still be emptied.
                0 => drop(self.simulation.bus().unsubscribe(self.mailboxes[nth].id())),
                _ => drop(self.mailboxes.swap_remove(nth)),
            }
        }
        if self.kept.len() > 3 {
            self.simulation.bus().unsubscribe(self.kept.remove(0)).unwrap();
        }
    }

    fn pause(&mut self) {
        let records = self.simulation.bus().subscriptions();
        if records.is_empty() {
            return;
        }
        let record = &records[self.draw.below(records.len() as u64) as usize];
        let bus = self.simulation.bus();
        if record.is_paused { bus.resume(record.id).unwrap() } else { bus.pause(record.id).unwrap() }
    }

    fn receive(&mut self) {
        if self.mailboxes.is_empty() {
            return;
        }
        let nth = self.draw.below(self.mailboxes.len() as u64) as usize;
        for _ in 0..self.draw.below(4) {
            let Ok(delivery) = self.mailboxes[nth].try_recv() else { break };
            self.taken += 1;
            match self.draw.below(4) {
                0 => self.held.push(delivery),
                1 => {
                    delivery.fail("no");
                }
                _ => drop(delivery),
            }
        }
        if self.held.len() > 6 {
            self.held.drain(..3);
        }
    }

    fn step(&mut self) {
        match self.draw.below(20) {
            0..7 => self.publish(),
            7 => self.batch(),
            8 => self.subscribe(),
            9 => self.unsubscribe(),
            10 => self.pause(),
            11..14 => self.receive(),
            14 => self.simulation.advance(Duration::from_millis(self.draw.below(10))),
            15 => drop(self.simulation.run()),
            _ => drop(self.simulation.step()),
        }
    }
}

#[test]
fn the_books_balance_after_every_operation() {
    let mut routed = 0;
    for seed in 0..40 {
        let mut world = World::new(seed);
        let free = world.simulation.bus().metrics().free_blocks;
        for _ in 0..700 {
            world.step();
            let bus = world.simulation.bus();
            assert_books(bus);
            assert_eq!(bus.ledger().accepted, world.accepted, "seed {seed}");
        }
        let refused = world.simulation.bus().metrics().refused;
        assert_eq!(refused.total(), world.refused, "every refusal is counted, by reason: {refused:?}");
        // Let go of everything: it all settles, and all blocks come back.
        let World { simulation, publishers, handlers, mailboxes, held, .. } = world;
        drop((handlers, mailboxes, held));
        simulation.advance(Duration::from_secs(1));
        simulation.run();
        drop(publishers);
        assert_settled(simulation.bus());
        assert_eq!(simulation.bus().metrics().free_blocks, free, "seed {seed}: a block is lost");
        routed += simulation.bus().ledger().routed;
    }
    assert!(routed > 1_000, "the operations hardly published anything");
}

#[test]
fn the_books_balance_with_threads_that_publish_consume_and_churn() {
    watched(|| {
        let bus = Bus::builder().workers(2).max_queue_size(256).batch_max(32).build().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(4));
        let mut counted = bus.subscribe("a.**").on_worker(0).mailbox().unwrap();
        let publishers: Vec<_> = (0..2)
            .map(|seed| {
                let (bus, accepted, start) = (bus.clone(), Arc::clone(&accepted), Arc::clone(&start));
                std::thread::spawn(move || {
                    let mut publisher = bus.publisher().unwrap();
                    let mut draw = Draw(seed);
                    start.wait();
                    for _ in 0..6_000 {
                        let body = vec![1; [0, 20, 600][draw.below(3) as usize]];
                        let topic = TOPICS[draw.below(5) as usize];
                        publisher.at(draw.priority()).publish(topic, Payload::raw(&body)).unwrap();
                        accepted.fetch_add(1, Ordering::Relaxed);
                        if draw.one_in(50) {
                            let ids = publisher.publish_batch("a.c", [Payload::raw(&body); 9]).unwrap();
                            accepted.fetch_add(ids.len() as u64, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let churn = {
            let (bus, over, start) = (bus.clone(), Arc::clone(&over), Arc::clone(&start));
            std::thread::spawn(move || {
                let mut draw = Draw(99);
                start.wait();
                while !over.load(Ordering::Relaxed) {
                    let pattern = PATTERNS[draw.below(6) as usize];
                    if draw.one_in(2) {
                        let handler = bus.subscribe(pattern).handle(|_, _| ()).unwrap();
                        bus.pause(handler.id()).unwrap();
                        std::thread::yield_now();
                        bus.resume(handler.id()).unwrap();
                        handler.unsubscribe().unwrap();
                    } else {
                        let overflow = OVERFLOWS[draw.below(3) as usize];
                        let mut mailbox = bus.subscribe(pattern).overflow(overflow).capacity(4).mailbox().unwrap();
                        let held = mailbox.recv_deadline(Duration::from_millis(2));
                        drop(mailbox);
                        drop(held);
                    }
                }
            })
        };
        start.wait();
        let finished = std::thread::spawn(move || publishers.into_iter().for_each(|one| one.join().unwrap()));
        let mut taken = 0;
        while !finished.is_finished() || !counted.is_empty() {
            taken += u64::from(counted.recv_deadline(Duration::from_millis(1)).is_ok());
        }
        finished.join().unwrap();
        over.store(true, Ordering::Relaxed);
        churn.join().unwrap();
        // The last events may still be on their way through the lanes.
        while let Ok(delivery) = counted.recv_deadline(Duration::from_millis(100)) {
            drop(delivery);
            taken += 1;
        }
        assert_settled(&bus);
        assert_eq!(bus.ledger().accepted, accepted.load(Ordering::Relaxed));
        assert_eq!(bus.subscription(counted.id()).unwrap().ledger.delivered, taken);
        assert_eq!(bus.metrics().free_blocks, 1_024 + 64 + 8);
        let report = bus.shutdown().unwrap();
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
    });
}

#[test]
fn what_a_shutdown_leaves_is_counted_where_it_lies() {
    let simulation = Simulation::new(small().workers(2), 1).unwrap();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a.*").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..3 {
        publisher.publish("a.b", Payload::raw(b"x")).unwrap();
    }
    publisher.event().not_before(Duration::from_secs(1)).publish("a.b", Payload::raw(b"later")).unwrap();
    let report = bus.shutdown().unwrap();
    assert_eq!((report.left_in_lanes, report.left_in_mailboxes, report.left_scheduled), (0, 3, 1));
    assert!(!report.is_clean() && report.ledger_balanced, "{report:?}");
    assert!(publisher.at(Priority::Low).publish("a.b", Payload::raw(b"x")).is_err());
    assert_eq!(bus.metrics().refused.shutting_down, 1);
    while mailbox.try_recv().is_ok() {}
    assert_eq!(bus.ledger().subscriptions.delivered, 3, "what is queued can be taken after the shutdown");
    assert_books(bus);
}
