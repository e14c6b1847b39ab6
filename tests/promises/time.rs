//! Waits and deadlines run on a clock of their own; the wall clock is for display and changes no behaviour.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::testing::Simulation;
use ringmain::{Bus, EnvelopeError, EventId, Overflow, Payload, Priority, PublishError};

use super::support::{Draw, Log, assert_balanced, assert_settled, watched};

const BODY: Payload<'static> = Payload::plain_text("x");
/// Where a simulation's wall clock begins.
const NEW_YEAR_2026_NS: u64 = 1_767_225_600_000_000_000;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn simulation() -> Simulation {
    Simulation::new(Bus::builder().workers(2), 1).unwrap()
}

#[test]
fn an_event_past_its_deadline_is_counted_and_never_delivered() {
    for late in [false, true] {
        let simulation = simulation();
        let bus = simulation.bus();
        let log = Log::new();
        let writer = log.clone();
        let inline = bus.subscribe("a").handle(move |_, meta| writer.add(meta.expires_in())).unwrap();
        let mut mailbox = bus.subscribe("a").mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        publisher.event().expires_after(ms(10)).publish("a", BODY).unwrap();
        publisher.publish("a", BODY).unwrap();
        // At its deadline an event is still wanted, a nanosecond later it is not.
        simulation.advance(ms(10) + Duration::from_nanos(u64::from(late)));
        simulation.run();
        let expected = if late { vec![None] } else { vec![Some(Duration::ZERO), None] };
        assert_eq!(log.take(), expected);
        let mut pulled = 0;
        while mailbox.try_recv().is_ok() {
            pulled += 1;
        }
        assert_eq!(pulled, expected.len());
        assert_settled(bus);
        assert_eq!(inline.record().ledger.dropped.expired, u64::from(late));
        assert_eq!(bus.subscription(mailbox.id()).unwrap().ledger.dropped.expired, u64::from(late));
        assert_eq!(bus.metrics().messages_dropped, 2 * u64::from(late));
    }
}

#[test]
fn an_event_that_expires_in_a_mailbox_is_counted_and_never_delivered() {
    let simulation = simulation();
    let bus = simulation.bus();
    let free = bus.metrics().free_blocks;
    let mut mailbox = bus.subscribe("a").capacity(4).overflow(Overflow::DropNewest).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for wait in [5, 20, 5, 20] {
        publisher.event().expires_after(ms(wait)).publish("a", Payload::raw(&[wait as u8; 500])).unwrap();
    }
    simulation.run();
    assert_eq!(mailbox.len(), 4);
    simulation.advance(ms(10));
    for _ in 0..2 {
        assert_eq!(mailbox.try_recv().unwrap().payload().bytes()[0], 20);
    }
    assert!(mailbox.try_recv().is_err());
    assert_settled(bus);
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.delivered, ledger.dropped.expired), (2, 2));
    assert_eq!(bus.metrics().free_blocks, free);
}

#[test]
fn a_deadline_before_the_not_before_time_is_an_error() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let wrong = publisher.event().not_before(ms(10)).expires_after(ms(9)).publish("a", BODY);
    let expected = PublishError::Envelope(EnvelopeError::DeadlineBeforeDue);
    assert_eq!(wrong, Err(expected));
    assert_eq!(publisher.event().expires_after(ms(9)).not_before(ms(10)).publish("a", BODY), Err(expected));
    assert_eq!(
        expected.to_string(),
        "the deadline is before the not-before time, so the event could never be delivered"
    );
    publisher.event().not_before(ms(10)).expires_after(ms(10)).publish("a", BODY).unwrap();
    assert_eq!(bus.metrics().refused.invalid, 2);
    assert_balanced(bus);
    assert_eq!((bus.ledger().accepted, bus.ledger().scheduled), (1, 1));
}

#[test]
fn scheduled_events_come_exactly_at_their_time_and_in_its_order() {
    for seed in 0..10 {
        let simulation = Simulation::new(Bus::builder().workers(2), seed).unwrap();
        let bus = simulation.bus();
        let free = bus.metrics().free_blocks;
        let mut mailbox = bus.subscribe("a").mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let mut draw = Draw(seed);
        let mut expected: Vec<_> = (0..60)
            .map(|nth: u32| {
                let due = draw.below(40);
                let mut body = nth.to_le_bytes().to_vec();
                body.resize(4 + draw.below(600) as usize, 0);
                publisher.event().not_before(ms(due)).publish("a", Payload::raw(&body)).unwrap();
                (due, nth, body.len())
            })
            .collect();
        // Those of one instant keep the order in which they were published.
        expected.sort_by_key(|&(due, nth, _)| (due, nth));
        let mut got = Vec::new();
        for now in 0..40 {
            for nanosecond in [0, 1] {
                // Just before each millisecond nothing new is due.
                if nanosecond == 0 && now > 0 {
                    simulation.advance(ms(1) - Duration::from_nanos(1));
                } else if now > 0 {
                    simulation.advance(Duration::from_nanos(1));
                }
                simulation.run();
                while let Ok(delivery) = mailbox.try_recv() {
                    assert!(nanosecond == 1 || now == 0, "an event came before its time");
                    let bytes = delivery.payload().bytes();
                    got.push((now, u32::from_le_bytes(*bytes.first_chunk().unwrap()), bytes.len()));
                }
            }
        }
        assert_eq!(got, expected, "seed {seed}");
        assert_settled(bus);
        assert_eq!(bus.ledger().scheduled, 0);
        assert_eq!(bus.metrics().free_blocks, free);
    }
}

#[test]
fn a_scheduled_event_keeps_its_priority_topic_and_deadline() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("**").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let later = publisher.at(Priority::Critical).not_before(ms(5)).expires_after(ms(8)).correlation(EventId::from(7));
    let id = later.metadata("k", "v").publish("x.y", BODY).unwrap();
    publisher.event().not_before(ms(5)).expires_after(ms(6)).publish("x.y", BODY).unwrap();
    publisher.event().not_before(ms(5)).publish("nobody.else", BODY).unwrap();
    simulation.advance(ms(7));
    simulation.run();
    let delivery = mailbox.try_recv().unwrap();
    let meta = delivery.meta();
    assert_eq!((meta.id(), meta.topic(), meta.priority()), (id, "x.y", Priority::Critical));
    assert_eq!((meta.get("k"), meta.correlation()), (Some("v"), Some(EventId::from(7))));
    assert_eq!((meta.expires_in(), meta.age()), (Some(ms(1)), ms(7)));
    drop(delivery);
    assert_eq!(mailbox.try_recv().unwrap().meta().topic(), "nobody.else");
    assert_settled(bus);
    assert_eq!(bus.ledger().subscriptions.dropped.expired, 1, "the second waited too long");
}

#[test]
fn steps_of_the_wall_clock_change_what_is_shown_and_nothing_else() {
    let run = |steps: &[u64]| {
        let simulation = Simulation::new(Bus::builder().workers(2), 5).unwrap();
        let bus = simulation.bus();
        let log = Log::new();
        let writer = log.clone();
        let handler = bus.subscribe("a").handle(move |payload, meta| {
            writer.add((payload.bytes().to_vec(), meta.sequence(), meta.age(), meta.expires_in()));
        });
        let _handler = handler.unwrap();
        let mut publisher = bus.publisher().unwrap();
        for nth in 0..40_u8 {
            let event = publisher.event().expires_after(ms(30)).not_before(ms(u64::from(nth % 7)));
            event.publish("a", Payload::raw(&[nth])).unwrap();
            if let Some(step) = steps.get(usize::from(nth) % steps.len().max(1)) {
                simulation.step_wall_clock(*step);
            }
            simulation.advance(ms(1));
            simulation.step();
        }
        simulation.advance(ms(25));
        simulation.run();
        assert_settled(bus);
        let ledger = bus.ledger();
        (log.take(), ledger.subscriptions, bus.latency_histogram(Priority::Normal).max())
    };
    let undisturbed = run(&[]);
    assert!(!undisturbed.0.is_empty());
    for steps in [[0, 0], [NEW_YEAR_2026_NS * 2, 1], [u64::MAX, 0], [NEW_YEAR_2026_NS - 3_600_000_000_000, u64::MAX]] {
        assert_eq!(run(&steps), undisturbed, "{steps:?}");
    }
}

#[test]
fn times_are_shown_in_utc_as_the_wall_clock_stands() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    simulation.step_wall_clock(NEW_YEAR_2026_NS);
    simulation.advance(ms(1_500));
    publisher.publish("a", BODY).unwrap();
    simulation.advance(ms(500));
    simulation.run();
    let delivery = mailbox.try_recv().unwrap();
    let published = NEW_YEAR_2026_NS + 1_500_000_000;
    assert_eq!(delivery.meta().unix_ns(), published);
    assert_eq!(delivery.meta().timestamp(), UNIX_EPOCH + Duration::from_nanos(published));
    assert_eq!(delivery.meta().age(), ms(500));
    // Back by an hour: the display follows, the age does not.
    simulation.step_wall_clock(NEW_YEAR_2026_NS + 2_000_000_000 - 3_600_000_000_000);
    assert_eq!(delivery.meta().unix_ns(), published - 3_600_000_000_000);
    assert_eq!(delivery.meta().age(), ms(500));
    drop(delivery);
    assert_settled(bus);
}

#[test]
fn an_event_from_outside_keeps_its_time_of_creation() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    simulation.advance(ms(5));
    let hour = 3_600_000_000_000;
    let times = [NEW_YEAR_2026_NS - 24 * hour, 1, NEW_YEAR_2026_NS + 3_000_000, NEW_YEAR_2026_NS + hour];
    let now = NEW_YEAR_2026_NS + 5_000_001;
    for unix_ns in times {
        publisher.event().created_at_unix_ns(unix_ns).publish("a", BODY).unwrap();
        simulation.run();
        let delivery = mailbox.try_recv().unwrap();
        assert_eq!(delivery.meta().unix_ns(), unix_ns);
        assert_eq!(delivery.meta().timestamp(), UNIX_EPOCH + Duration::from_nanos(unix_ns));
        assert_eq!(delivery.meta().age(), Duration::from_nanos(now.saturating_sub(unix_ns)));
    }
    assert_settled(bus);
    assert_eq!(bus.metrics().delivery_latency.total.count, 0, "they say nothing about this bus's latency");
}

#[test]
fn what_falls_due_while_the_bus_drains_is_left_over_and_counted() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut mailboxes: Vec<_> = (0..2).map(|worker| bus.subscribe("a").on_worker(worker).mailbox().unwrap()).collect();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", BODY).unwrap();
    publisher.event().not_before(ms(1)).publish("a", BODY).unwrap();
    simulation.run();
    simulation.advance(ms(1));
    // Draining lanes get no more events: a worker that has read everything may be gone already.
    let report = bus.shutdown().unwrap();
    assert_eq!((report.left_scheduled, report.left_in_lanes), (1, 0));
    for mailbox in &mut mailboxes {
        assert!(mailbox.try_recv().is_ok() && mailbox.try_recv().is_err());
    }
    assert_settled(bus);
}

#[test]
fn on_threads_a_scheduled_event_wakes_its_sleeping_worker() {
    watched(|| {
        let bus = Bus::builder().workers(2).idle(ringmain::IdleStrategy::Park).build().unwrap();
        let mut mailbox = bus.subscribe("a").on_worker(1).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let before = SystemTime::now();
        publisher.event().not_before(ms(40)).publish("a", Payload::raw(b"second")).unwrap();
        publisher.event().not_before(ms(20)).publish("a", Payload::raw(b"first")).unwrap();
        for name in [b"first".as_slice(), b"second"] {
            let delivery = mailbox.recv_deadline(Duration::from_secs(30)).unwrap();
            assert_eq!(delivery.payload().bytes(), name);
            let (age, shown) = (delivery.meta().age(), delivery.meta().timestamp());
            let wait = delivery.meta().not_before().unwrap().duration_since(shown).unwrap();
            assert!(wait > ms(10) && age >= wait, "{age:?} is too early for {wait:?}");
            assert!(shown >= before - ms(1_000) && shown <= SystemTime::now() + ms(1_000), "{shown:?}");
        }
        assert_settled(&bus);
    });
}

#[test]
fn on_threads_the_books_of_scheduled_events_balance_after_each_flush() {
    watched(|| {
        let bus = Bus::builder().workers(2).idle(ringmain::IdleStrategy::Park).build().unwrap();
        let mut mailbox = bus.subscribe("a").on_worker(1).mailbox().unwrap();
        let mut publisher = bus.publisher().unwrap();
        for due_us in 0..2_000 {
            publisher.event().not_before(Duration::from_micros(due_us % 50)).publish("a", BODY).unwrap();
            drop(mailbox.recv_deadline(Duration::from_secs(30)).unwrap());
            assert_settled(&bus);
        }
    });
}

#[test]
fn ids_of_all_publishers_of_a_bus_tell_times_that_only_rise() {
    let simulation = simulation();
    let mut inbox = simulation.bus().subscribe("a").mailbox().unwrap();
    let mut first = simulation.bus().publisher().unwrap();
    let mut last = [0; 8];
    let hour = 3_600_000_000_000;
    for step in [0, -hour, 10 * 365 * 24 * hour, -20 * 365 * 24 * hour, 0] {
        simulation.step_wall_clock(NEW_YEAR_2026_NS.saturating_add_signed(step));
        // One that was there before, and one that is new.
        let mut second = simulation.bus().publisher().unwrap();
        for nth in 0..20 {
            simulation.advance(Duration::from_micros(1));
            let publisher = if nth % 2 == 0 { &mut second } else { &mut first };
            publisher.publish("a", BODY).unwrap();
            simulation.run();
            let delivery = inbox.try_recv().unwrap();
            let time: [u8; 8] = delivery.meta().id().as_bytes()[..8].try_into().unwrap();
            assert!(time > last, "after a step by {step} ns, event {nth}");
            last = time;
            delivery.ack();
        }
    }
    assert_settled(simulation.bus());
}
