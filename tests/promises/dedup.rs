//! What comes again within a window is dropped and counted, and the window is bounded in time and count.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DedupWindow, DeliveryMode, EventId, Key, Outcome, Payload, Publisher, RetryPolicy, SubscribeError,
};

use super::support::{Draw, Log, assert_books, assert_settled};

const SECOND: Duration = Duration::from_secs(1);

fn simulation() -> Simulation {
    let builder = Bus::builder().workers(1).max_queue_size(256).blocks([(512, 4)]).payload_bytes_max(512);
    Simulation::new(builder, 1).unwrap()
}

fn publish(publisher: &mut Publisher, id: EventId, text: &str) {
    publisher.event().id(id).publish("a", Payload::plain_text(text)).unwrap();
}

/// What a handler gets of the events that `publish` publishes.
fn seen(window: DedupWindow, publish: impl FnOnce(&Simulation, &mut Publisher)) -> Vec<String> {
    let simulation = simulation();
    let log = Log::new();
    let writer = log.clone();
    let wish = simulation.bus().subscribe("a").dedup(window);
    let _made = wish.handle(move |payload, _| writer.add(payload.text().unwrap().to_owned())).unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    publish(&simulation, &mut publisher);
    simulation.run();
    assert_settled(simulation.bus());
    let ledger = simulation.bus().ledger().subscriptions;
    assert_eq!(ledger.matched, ledger.delivered + ledger.dropped.duplicate + ledger.dropped.expired);
    log.take()
}

#[test]
fn the_same_id_is_delivered_once_within_the_window_and_again_after_it() {
    let (first, second) = (EventId::random(), EventId::random());
    let got = seen(DedupWindow::default(), |simulation, publisher| {
        for (text, advance) in
            [("1", 60 * SECOND - Duration::from_nanos(1)), ("again", Duration::from_nanos(1)), ("later", SECOND)]
        {
            publish(publisher, first, text);
            simulation.run();
            simulation.advance(advance);
        }
    });
    assert_eq!(got, ["1", "later"], "a minute, unless it is told otherwise");

    let got = seen(DedupWindow::default().time(SECOND), |simulation, publisher| {
        for (id, text, advance) in [
            (first, "1", 0),
            (second, "2", 0),
            (first, "1 at once", 999_999_999),
            (first, "1 within", 1),
            (first, "1 after", 0),
            (second, "2 after", 0),
        ] {
            publish(publisher, id, text);
            simulation.run();
            simulation.advance(Duration::from_nanos(advance));
        }
    });
    assert_eq!(got, ["1", "2", "1 after", "2 after"]);
}

#[test]
fn beyond_its_count_the_window_forgets_the_oldest() {
    let ids: Vec<_> = (0..4).map(|_| EventId::random()).collect();
    let got = seen(DedupWindow::default().keys_max(3), |_, publisher| {
        for nth in [0, 1, 2, 0, 3, 0, 2] {
            publish(publisher, ids[nth], &nth.to_string());
        }
    });
    assert_eq!(got, ["0", "1", "2", "3", "0"]);
}

#[test]
fn events_are_told_apart_by_what_one_likes() {
    let by_text = Key::by(|meta| {
        let text = meta.payload().text()?;
        assert_ne!(text, "panic", "a panic that the test asks for");
        (text != "none").then_some(text.len() as u64)
    });
    let got = seen(DedupWindow::default().by(by_text), |_, publisher| {
        for text in ["a", "bb", "c", "none", "none", "panic", "panic", "dd", "eee"] {
            publish(publisher, EventId::random(), text);
        }
    });
    assert_eq!(got, ["a", "bb", "none", "none", "panic", "panic", "eee"], "what has no key is no duplicate");
}

#[test]
fn an_event_that_has_expired_is_not_remembered() {
    let id = EventId::random();
    let got = seen(DedupWindow::default(), |simulation, publisher| {
        publisher.event().id(id).expires_after(SECOND).publish("a", Payload::plain_text("late")).unwrap();
        simulation.advance(2 * SECOND);
        simulation.run();
        publish(publisher, id, "again");
    });
    assert_eq!(got, ["again"]);
}

#[test]
fn attempts_at_one_event_are_no_duplicates() {
    let simulation = simulation();
    let bus = simulation.bus();
    let retry = RetryPolicy::default().delays(Duration::ZERO, Duration::ZERO);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).dedup(DedupWindow::default());
    let _made = wish.handle(|_, meta| if meta.attempt() < 3 { Outcome::Failed("no".into()) } else { Outcome::Ack });
    let mut publisher = bus.publisher().unwrap();
    let id = EventId::random();
    for _ in 0..2 {
        publish(&mut publisher, id, "x");
        simulation.run();
        simulation.advance(SECOND);
    }
    simulation.run();
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.delivered, ledger.retried, ledger.dropped.duplicate), (1, 2, 1));
    assert_settled(bus);
}

#[test]
fn mailboxes_drop_duplicates_as_a_list_of_ids_would() {
    for seed in 0..30 {
        let mut draw = Draw(seed);
        let keys = 1 + draw.below(6) as usize;
        let ids: Vec<_> = (0..10).map(|_| EventId::random()).collect();
        let simulation = simulation();
        let wish = simulation.bus().subscribe("a").dedup(DedupWindow::default().keys_max(keys));
        let mut inbox = wish.mailbox().unwrap();
        let mut publisher = simulation.bus().publisher().unwrap();
        let (mut remembered, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let id = ids[draw.below(10) as usize];
            publish(&mut publisher, id, "x");
            if !remembered.contains(&id) {
                remembered.push(id);
                expected.push(id);
            }
            if remembered.len() > keys {
                remembered.remove(0);
            }
        }
        simulation.run();
        let got: Vec<_> = std::iter::from_fn(|| inbox.try_recv().ok()).map(|delivery| delivery.meta().id()).collect();
        assert_eq!(got, expected, "seed {seed}");
        assert_books(simulation.bus());
    }
}

#[test]
fn windows_that_cannot_be_are_refused_and_what_they_take_is_told() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = |keys| bus.subscribe("a").dedup(DedupWindow::default().keys_max(keys)).mailbox();
    for keys in [0, (1 << 24) + 1] {
        let refused = wish(keys).unwrap_err();
        assert_eq!(refused, SubscribeError::Window { keys, max: 1 << 24, bytes: 0 });
        assert!(refused.to_string().contains(&keys.to_string()));
    }
    let plain = bus.subscribe("a").mailbox().unwrap();
    let before = bus.memory().mailboxes_bytes;
    drop(plain);
    let _window = wish(10_000).unwrap();
    let grown = bus.memory().mailboxes_bytes - before;
    assert!((400_000..800_000).contains(&grown), "{grown}");
    assert_books(bus);
}
