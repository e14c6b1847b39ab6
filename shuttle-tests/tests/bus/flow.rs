//! Publish beside deliver, flush and shutdown: everything accepted arrives once and in order, or is reported.

use ringmain::{FlushError, FullPolicy, PublishError};
use shuttle_tests::scenario;
use shuttle_tests::stage::{Flag, Numbered, Seen, TOPIC, beside, bus, end, small};

use crate::books::{assert_books, assert_settled};

/// Events of each publisher: more than a lane holds.
const EVENTS: usize = 5;

#[test]
fn two_publishers_and_two_workers_keep_each_publishers_order_and_lose_nothing() {
    let mutants = ["slot.ready", "pool.tag"];
    // Whether the events of the first publisher were all handled before any of the second.
    scenario("flow::two_by_two", &mutants, &[false, true], || {
        let bus = bus(2);
        let seen = [Seen::default(), Seen::default()];
        let subscriptions = [0, 1].map(|worker| {
            let seen = seen[worker].clone();
            let noting = bus.subscribe("tea.*").on_worker(worker);
            noting.handle(move |payload, _| seen.note(payload)).expect("subscribed")
        });
        let publishers = [0, 1].map(|publisher| {
            let bus = bus.clone();
            beside(move || {
                let mut own = bus.publisher().expect("a place");
                for nth in 0..EVENTS {
                    Numbered { publisher, nth }.publish(&mut own, TOPIC).expect("there will be room");
                }
            })
        });
        publishers.into_iter().for_each(end);
        assert_settled(&bus);
        for seen in &seen {
            for publisher in 0..2 {
                assert_eq!(seen.of(publisher), (0..EVENTS).collect::<Vec<_>>(), "publisher {publisher}");
            }
        }
        drop(subscriptions);
        let report = bus.shutdown().expect("not on a worker");
        assert!(report.is_clean() && report.delivered == 4 * EVENTS as u64, "{report:?}");
        seen[0].all()[..EVENTS].iter().all(|event| event.publisher == 0)
    });
}

#[test]
fn each_worker_gets_its_own_events_and_passes_over_those_of_others() {
    let mutants = ["block.counted"];
    // The order in which the two consumers came to their ends.
    scenario("flow::apart", &mutants, &[vec![0, 1], vec![1, 0]], || {
        let bus = bus(2);
        let ended = Seen::default();
        let topics = [["tea.green", "tea.mixed"], ["tea.black", "tea.mixed"]];
        let consumers = [0, 1].map(|worker| {
            let mailboxes =
                topics[worker].map(|topic| bus.subscribe(topic).on_worker(worker).mailbox().expect("subscribed"));
            let ended = ended.clone();
            beside(move || {
                let [mut own, mut mixed] = mailboxes;
                let events = [own.recv(), own.recv(), mixed.recv(), mixed.recv()];
                let events = events.map(|event| Numbered::read(event.expect("it comes").payload()).nth);
                ended.add(Numbered { publisher: worker, nth: 0 });
                events
            })
        });
        let mut publisher = bus.publisher().expect("a place");
        let topics = ["tea.green", "tea.black", "tea.mixed", "tea.mixed", "tea.green", "tea.black"];
        for (nth, topic) in topics.into_iter().enumerate() {
            Numbered { publisher: 0, nth }.publish(&mut publisher, topic).expect("there will be room");
        }
        let [green, black] = consumers.map(end);
        assert_eq!((green, black), ([0, 4, 2, 3], [1, 5, 2, 3]));
        assert_settled(&bus);
        ended.all().into_iter().map(|event| event.publisher).collect()
    });
}

#[test]
fn publishers_that_wait_for_room_are_all_woken_when_there_is_some() {
    let mutants = ["gate.open_all", "waker.met"];
    // Whether the publishers' events were mixed.
    scenario("flow::full", &mutants, &[false, true], || {
        let wait = FullPolicy::wait(std::time::Duration::MAX);
        let bus = small(1).max_queue_size(1).when_full(wait).build().expect("a tiny bus");
        let seen = Seen::default();
        let noting = seen.clone();
        let subscription = bus.subscribe(TOPIC).handle(move |payload, _| noting.note(payload)).expect("subscribed");
        let publishers = [0, 1].map(|publisher| {
            let bus = bus.clone();
            // In a future, whose sleep only a wake-up ends.
            beside(move || {
                shuttle::future::block_on(async move {
                    let mut own = bus.publisher().expect("a place");
                    for nth in 0..3 {
                        Numbered { publisher, nth }.publish_async(&mut own, TOPIC).await.expect("there will be room");
                    }
                });
            })
        });
        publishers.into_iter().for_each(end);
        assert_settled(&bus);
        for publisher in 0..2 {
            assert_eq!(seen.of(publisher), [0, 1, 2]);
        }
        drop(subscription);
        let first: Vec<_> = seen.all().into_iter().map(|event| event.publisher).collect();
        first[..3] != [first[0]; 3]
    });
}

#[test]
fn what_a_publisher_was_told_is_accepted_is_delivered_or_reported_however_a_shutdown_meets_it() {
    let mutants = ["admission.look"];
    // Events accepted.
    scenario("flow::shutdown", &mutants, &[0, 1, 2, 3, 4, 5], || {
        let bus = bus(1);
        let seen = Seen::default();
        let noting = seen.clone();
        let subscription = bus.subscribe(TOPIC).handle(move |payload, _| noting.note(payload)).expect("subscribed");
        let accepted = Flag::default();
        let (publishing, counted) = (bus.clone(), accepted.clone());
        let publisher = beside(move || {
            let mut own = match publishing.publisher() {
                Ok(own) => own,
                Err(error) => return assert_eq!(error, PublishError::ShuttingDown),
            };
            for nth in 0..EVENTS {
                match (Numbered { publisher: 0, nth }).publish(&mut own, TOPIC) {
                    Ok(()) => counted.set(nth + 1),
                    Err(error) => return assert_eq!(error, PublishError::ShuttingDown),
                }
            }
        });
        let (flushing, before, handled) = (bus.clone(), accepted.clone(), seen.clone());
        let flusher = beside(move || {
            let accepted = before.get();
            match flushing.flush() {
                Ok(()) => assert!(handled.all().len() >= accepted, "flushed with events on their way"),
                Err(FlushError::TimedOut { .. }) => panic!("a flush without an end"),
                Err(error) => panic!("{error}"),
            }
        });
        let stopping = bus.clone();
        let stopper = beside(move || stopping.shutdown().expect("not on a worker"));
        let second = bus.shutdown().expect("not on a worker");
        let report = end(stopper);
        assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
        assert_eq!(report, second, "one shutdown, one report");
        end(publisher);
        end(flusher);
        let accepted = accepted.get();
        assert_eq!(report.delivered, accepted as u64, "{report:?}");
        assert_eq!(seen.of(0), (0..accepted).collect::<Vec<_>>());
        assert_books(&bus);
        drop(subscription);
        accepted
    });
}
