//! The same with real threads: who waits is woken, and flush and shutdown leave the newest event handled.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Context, DeliveryMode, FullPolicy, Handler, HandlerId, Key, Meta, Outcome, Pattern, Payload, PublishError,
};

use super::{by_topic, found, latest, ledger, shown, small, take_all};
use crate::support::{Log, assert_books, assert_settled, watched};

const FOR_EVER: Duration = Duration::from_secs(3_600);
const NOTHING: Payload<'static> = Payload::raw(b"");

/// Leaves in the log what it sees: the text and how many it missed.
struct Reader(Log<(String, u64)>);

impl Handler<Pattern> for Reader {
    fn handle(&mut self, event: Payload<'_>, _: &Meta<'_>, context: &Context<'_>) -> Outcome {
        self.0.add((event.text().unwrap().to_owned(), context.skipped()));
        Outcome::Ack
    }

    fn id(&self) -> HandlerId {
        HandlerId::new("reader")
    }
}

#[test]
fn after_a_flush_the_newest_event_was_handled_and_every_other_handled_or_skipped() {
    watched(|| {
        let bus = small().when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
        let log = Log::new();
        let made = latest(&bus).handler_on("reader", Reader(log.clone())).unwrap();
        let mut seen = 0;
        for round in 1..=20_u64 {
            for nth in 0..200 {
                bus.publish("a", Payload::plain_text(&format!("{round} {nth}"))).unwrap();
            }
            assert_settled(&bus);
            let taken = log.take();
            assert_eq!(taken.last().unwrap().0, format!("{round} 199"));
            seen += taken.len() as u64;
            let skipped: u64 = taken.iter().map(|(_, skipped)| skipped).sum();
            assert_eq!(taken.len() as u64 + skipped, 200);
            let ledger = made.record().ledger;
            assert_eq!((ledger.delivered, ledger.dropped.total()), (seen, 200 * round - seen));
            assert_eq!(ledger.dropped.superseded, ledger.dropped.total());
        }
        assert!(bus.shutdown().unwrap().is_clean());
    });
}

#[test]
fn a_shutdown_delivers_the_newest_of_each_key() {
    watched(|| {
        let bus = small().when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
        let log = Log::new();
        let made = by_topic(&bus).handler_on("reader", Reader(log.clone())).unwrap();
        for nth in 0..1_000 {
            let topic = ["a", "b", "c"][nth % 3];
            bus.publish(topic, Payload::plain_text(&nth.to_string())).unwrap();
        }
        let report = bus.shutdown().unwrap();
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
        let taken = log.take();
        for newest in ["997", "998", "999"] {
            assert!(taken.iter().any(|(text, _)| text == newest), "{newest} is missing in {taken:?}");
        }
        let ledger = made.record().ledger;
        assert_eq!(ledger.delivered + ledger.dropped.superseded, 1_000);
        assert_books(&bus);
    });
}

#[test]
fn what_waits_after_a_shutdown_can_still_be_taken() {
    watched(|| {
        let bus = small().build().unwrap();
        let mut inbox = latest(&bus).mailbox().unwrap();
        for nth in 0..10 {
            bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
        }
        let report = bus.shutdown_deadline(Duration::from_millis(50)).unwrap();
        assert_eq!((report.left_in_mailboxes, report.ledger_balanced), (1, true), "{report:?}");
        assert_eq!(take_all(&mut inbox), found(&[("9", 9)]));
        assert_eq!(ledger(&bus).open(), 0);
        assert_books(&bus);
    });
}

#[test]
fn a_worker_that_waits_for_a_key_goes_on_when_one_is_taken_and_not_only_when_it_is_settled() {
    watched(|| {
        let bus = small().build().unwrap();
        let mut inbox = by_topic(&bus).keys_max(1).mailbox().unwrap();
        let mut held = Vec::new();
        for topic in ["a", "b", "c", "d"] {
            bus.publish(topic, Payload::plain_text(topic)).unwrap();
        }
        for topic in ["a", "b", "c", "d"] {
            let delivery = inbox.recv().unwrap();
            assert_eq!(shown(&delivery), (topic.to_owned(), 0));
            held.push(delivery);
        }
        drop(held);
        assert_settled(&bus);
    });
}

#[test]
fn a_waiting_consumer_is_woken_by_each_newer_event() {
    watched(|| {
        let bus = small().build().unwrap();
        let mut inbox = latest(&bus).mailbox().unwrap();
        let (told, hear) = mpsc::channel();
        let consumer = std::thread::spawn(move || {
            while let Ok(delivery) = inbox.recv() {
                told.send(shown(&delivery)).unwrap();
            }
        });
        for nth in 0..200 {
            bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
            assert_eq!(hear.recv().unwrap(), (nth.to_string(), 0));
        }
        bus.shutdown().unwrap();
        consumer.join().unwrap();
        assert_books(&bus);
    });
}

#[test]
fn however_many_publish_each_key_is_seen_in_order_and_its_last_event_is_seen() {
    const EVENTS: u32 = 2_000;
    const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
    watched(|| {
        let bus = small().workers(2).when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
        // Fewer keys than topics: now and then the lane waits for one.
        let mut inbox = by_topic(&bus).keys_max(3).mailbox().unwrap();
        let consumer = std::thread::spawn(move || {
            let mut seen = BTreeMap::<String, Vec<(u32, u64)>>::new();
            while let Ok(delivery) = inbox.recv() {
                let (text, skipped) = shown(&delivery);
                let of_topic = seen.entry(delivery.meta().topic().to_owned()).or_default();
                of_topic.push((text.parse().unwrap(), skipped));
            }
            seen
        });
        std::thread::scope(|scope| {
            for topic in TOPICS {
                let mut publisher = bus.publisher().unwrap();
                scope.spawn(move || {
                    for nth in 0..EVENTS {
                        publisher.publish(topic, Payload::plain_text(&nth.to_string())).unwrap();
                    }
                });
            }
        });
        assert_settled(&bus);
        let ledger = ledger(&bus);
        bus.shutdown().unwrap();
        let seen = consumer.join().unwrap();
        for topic in TOPICS {
            let mut next = 0;
            for &(nth, skipped) in &seen[topic] {
                assert_eq!(u64::from(nth), next + skipped, "{topic}: what was skipped lies before");
                next = u64::from(nth) + 1;
            }
            assert_eq!(next, u64::from(EVENTS), "{topic}: the last is seen");
        }
        let delivered: usize = seen.values().map(Vec::len).sum();
        assert_eq!(ledger.delivered, delivered as u64);
        assert_eq!(ledger.delivered + ledger.dropped.superseded, u64::from(EVENTS) * 4);
    });
}

#[test]
fn an_async_consumer_sees_what_it_skipped() {
    let simulation = Simulation::new(small(), 3).unwrap();
    let log = Log::new();
    let seen = log.clone();
    let running = latest(simulation.bus()).run(async move |delivery| seen.add(shown(delivery)));
    let mut running = Box::pin(running.unwrap());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for count in [1, 4, 2] {
        super::publish(&simulation, &["a"; 8][..count]);
        assert!(running.as_mut().poll(&mut context).is_pending());
        assert_eq!(log.take(), [((count - 1).to_string(), count as u64 - 1)]);
    }
    assert_settled(simulation.bus());
}

#[test]
fn a_handler_may_publish_as_much_as_it_likes_of_what_its_own_next_event_is_the_newest_of() {
    watched(|| {
        let bus = small().max_queue_size(8).when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
        let mut own = bus.publisher().unwrap();
        let made = latest(&bus).handle_on("echo", move |_, meta| {
            if meta.topic() == "first" {
                for _ in 0..500 {
                    own.publish("again", NOTHING).unwrap();
                }
            }
        });
        bus.publish("first", NOTHING).unwrap();
        // A flush waits for what was published before it: here the first, and so for what its handler publishes.
        bus.flush().unwrap();
        assert_settled(&bus);
        let ledger = made.unwrap().record().ledger;
        assert_eq!(ledger.delivered + ledger.dropped.superseded, 501);
        // While the handler publishes nothing is taken; then one waits, and the lane holds at most eight.
        assert!(ledger.dropped.superseded >= 500 - 9, "{ledger:?}");
    });
}

#[test]
fn a_handler_whose_own_keys_hold_its_lane_up_gets_full() {
    watched(|| {
        let bus = small().max_queue_size(8).when_full(FullPolicy::wait(FOR_EVER)).build().unwrap();
        let mut own = bus.publisher().unwrap();
        let (refused, told) = mpsc::channel();
        let wish = bus.subscribe("**").mode(DeliveryMode::LatestOnly).latest_by(Key::Topic).keys_max(2);
        let made = wish.handle_on("echo", move |_, meta| {
            if meta.topic() == "first" {
                let error = (0..).find_map(|nth| own.publish(&*format!("n{nth}"), NOTHING).err());
                refused.send(error.unwrap()).unwrap();
            }
        });
        bus.publish("first", NOTHING).unwrap();
        let error = told.recv().unwrap();
        assert!(matches!(error, PublishError::Full { limit: 8, .. }), "{error}");
        assert_settled(&bus);
        assert_eq!(made.unwrap().record().delivery_count, bus.ledger().accepted, "each has its own key");
    });
}
