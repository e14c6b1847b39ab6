//! Subscriptions that come and go beside events: what has not changed misses nothing, what is over is over.

use std::sync::Arc;

use ringmain::Bus;
use shuttle_tests::stage::{Flag, Numbered, Seen, TOPIC, beside, bus, end};
use shuttle_tests::{DELIBERATE, scenario};

use crate::books::assert_settled;

const EVENTS: usize = 5;

/// A thread that publishes all events, and says what `asked` was before each and after it.
fn flood(bus: &Bus, asked: &Flag) -> shuttle::thread::JoinHandle<Vec<[usize; 2]>> {
    let (bus, asked) = (bus.clone(), asked.clone());
    beside(move || {
        let mut own = bus.publisher().expect("a place");
        let publish = |nth| {
            let before = asked.get();
            Numbered { publisher: 0, nth }.publish(&mut own, TOPIC).expect("there will be room");
            [before, asked.get()]
        };
        (0..EVENTS).map(publish).collect()
    })
}

#[test]
fn no_handler_call_begins_after_its_unsubscribe_has_returned() {
    // Events handled before.
    scenario("subscriptions::unsubscribe", &["snapshot.eager"], &[1, 2, 4], || {
        let bus = bus(1);
        let (seen, over) = (Seen::default(), Flag::default());
        let (noting, ended) = (seen.clone(), over.clone());
        let watched = Arc::new(());
        let owned = Arc::clone(&watched);
        let handler = bus.subscribe(TOPIC).handle(move |payload, _| {
            assert_eq!((ended.get(), Arc::strong_count(&owned)), (0, 2), "called after its end");
            noting.note(payload);
        });
        let handler = handler.expect("subscribed");
        let publisher = flood(&bus, &over);
        seen.wait_for_one();
        handler.unsubscribe().expect("the worker answers");
        over.set(1);
        end(publisher);
        assert_settled(&bus);
        let handled = seen.of(0);
        assert_eq!(handled, (0..handled.len()).collect::<Vec<_>>());
        assert_eq!(Arc::strong_count(&watched), 1, "the handler is gone");
        handled.len()
    });
}

#[test]
fn no_call_of_a_handler_on_its_own_thread_begins_after_its_unsubscribe_has_returned() {
    scenario("subscriptions::on_thread", &["unsubscribe.wait"], &[1, 2], || {
        let bus = bus(1);
        let (seen, over) = (Seen::default(), Flag::default());
        let (noting, ended) = (seen.clone(), over.clone());
        let handler = bus.subscribe(TOPIC).handle_on("own", move |payload, _| {
            // The end may come amid the call.
            shuttle::thread::yield_now();
            assert_eq!(ended.get(), 0, "called after its end");
            noting.note(payload);
        });
        let handler = handler.expect("subscribed");
        let publisher = flood(&bus, &over);
        seen.wait_for_one();
        handler.unsubscribe().expect("the worker answers");
        over.set(1);
        end(publisher);
        assert!(bus.shutdown().expect("not on a worker").is_clean());
        assert_settled(&bus);
        let handled = seen.of(0);
        assert_eq!(handled, (0..handled.len()).collect::<Vec<_>>());
        handled.len()
    });
}

#[test]
fn a_flood_reaches_who_was_subscribed_whole_and_who_subscribes_amid_it_from_its_return_on() {
    let mutants = ["snapshot.late", "snapshot.eager", "subscribe.starts"];
    // Events that the newcomer on the other worker saw.
    scenario("subscriptions::flood", &mutants, &[0, 1, 2, 3, 4], || {
        let bus = bus(2);
        let seen = Seen::default();
        let noting = seen.clone();
        let old = bus.subscribe("tea.*").on_worker(0).handle(move |payload, _| noting.note(payload));
        let ready = Flag::default();
        let publisher = flood(&bus, &ready);
        let newcomers = [Seen::default(), Seen::default(), Seen::default()];
        let handlers = [0, 1, 2].map(|nth| {
            let noting = newcomers[nth].clone();
            ready.set(2 * nth + 1);
            let subscribe = bus.subscribe(TOPIC).on_worker(nth % 2);
            let handler = subscribe.handle(move |payload, _| noting.note(payload)).expect("subscribed");
            ready.set(2 * nth + 2);
            handler
        });
        let asked = end(publisher);
        assert_settled(&bus);
        assert_eq!(seen.of(0), (0..EVENTS).collect::<Vec<_>>(), "an old subscription missed an event");
        for (nth, newcomer) in newcomers.iter().enumerate() {
            let got = newcomer.of(0);
            assert!(got.is_sorted_by(|a, b| a < b), "out of order or twice: {got:?}");
            // Of those that were published while it subscribed it may get any.
            let owed = asked.iter().take_while(|[before, _]| *before < 2 * nth + 2).count()..EVENTS;
            let foreign = asked.iter().take_while(|[_, after]| *after < 2 * nth + 1).count();
            assert!(got.iter().all(|&event| event >= foreign), "{got:?}: {foreign} were accepted before it subscribed");
            assert!(got.ends_with(&owed.clone().collect::<Vec<_>>()), "{got:?} lacks some of {owed:?}");
        }
        drop((old, handlers));
        assert_settled(&bus);
        newcomers[1].all().len()
    });
}

#[test]
fn a_handler_that_panics_amid_its_events_fails_that_event_and_hurts_nobody() {
    // Events of the bystander handled when the subscription of the panicking one ended.
    scenario("subscriptions::panic", &["snapshot.eager", "panic.books"], &[0, 1, 2, 3, 4, 5], || {
        let bus = bus(1);
        let (seen, over) = (Seen::default(), Flag::default());
        let (noting, ended) = (seen.clone(), over.clone());
        let panicking = bus.subscribe(TOPIC).named("panicking").handle(move |payload, _| {
            assert_eq!(ended.get(), 0, "called after its end");
            if Numbered::read(payload).nth.is_multiple_of(2) {
                std::panic::panic_any(DELIBERATE);
            }
        });
        let panicking = panicking.expect("subscribed");
        let bystander = bus.subscribe(TOPIC).handle(move |payload, _| noting.note(payload)).expect("subscribed");
        let publisher = flood(&bus, &over);
        let id = panicking.id();
        panicking.unsubscribe().expect("the worker answers");
        over.set(1);
        let handled = seen.all().len();
        end(publisher);
        assert_settled(&bus);
        assert_eq!(seen.of(0), (0..EVENTS).collect::<Vec<_>>(), "the bystander missed an event");
        assert!(bus.subscription(id).is_err(), "it is gone");
        let ledger = bus.ledger().subscriptions;
        let calls = ledger.delivered + ledger.failed - EVENTS as u64;
        assert_eq!(ledger.failed, calls.div_ceil(2), "every other call failed: {ledger:?}");
        drop(bystander);
        handled
    });
}
