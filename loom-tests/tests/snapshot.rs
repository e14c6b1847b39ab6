//! The exchange of routing tables: the newest arrives, the old is freed once and after its last use.

use std::sync::{Arc, Mutex};

use loom_tests::watch::{Drops, Watched};
use loom_tests::{Bounds, model};
use ringmain::internals::sync::snapshot::{Current, Snapshot};

/// An exchange whose worker starts with value 0, and the ledger of `values` values.
fn exchange(values: usize) -> (Arc<Snapshot<Watched>>, Current<Watched>, Drops) {
    let drops = Drops::of(values);
    let (exchange, current) = Snapshot::new(drops.value(0));
    (Arc::new(exchange), current, drops)
}

/// What a worker does between two events. Returns the value it then uses.
fn between_events(exchange: &Snapshot<Watched>, current: &mut Current<Watched>) -> usize {
    if exchange.is_stale(current) {
        exchange.adopt(current, |_, _| ());
    }
    current.get().number()
}

#[test]
fn an_offer_arrives_and_its_acknowledgement_ends_the_old_value() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["snapshot.eager", "snapshot.retire"];
    // The value the worker last used beside the offer, and whether the control plane met the acknowledgement.
    let outcomes = [(0, false), (1, false), (1, true)];
    model("snapshot::offer", bounds, &mutants, &outcomes, |threads| {
        let (exchange, mut current, drops) = exchange(2);
        let (control, ledger) = (Arc::clone(&exchange), drops.clone());
        let offering = threads.spawn(move || {
            let generation = control.offer(ledger.value(1));
            let acknowledged = control.acknowledged() == generation;
            control.collect();
            assert!(!acknowledged || ledger.of_value(0) == 1, "acknowledged and not collected");
            acknowledged
        });
        let worker = Arc::clone(&exchange);
        let working = threads.spawn(move || {
            current.get().number();
            let used = between_events(&worker, &mut current);
            (current, used)
        });
        let acknowledged = offering.end();
        let (mut current, used) = working.end();
        assert_eq!(between_events(&exchange, &mut current), 1);
        assert_eq!(exchange.acknowledged(), 1);
        drop((exchange, current));
        assert!(drops.all_once());
        (used, acknowledged)
    });
}

#[test]
fn the_newest_of_two_offers_arrives_and_values_never_go_back() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["snapshot.replaced", "snapshot.offer"];
    // What the worker used, between events, beside the offers.
    let outcomes = [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]];
    model("snapshot::two_offers", bounds, &mutants, &outcomes, |threads| {
        let (exchange, mut current, drops) = exchange(3);
        let (control, ledger) = (Arc::clone(&exchange), drops.clone());
        let offering = threads.spawn(move || {
            control.offer(ledger.value(1));
            control.offer(ledger.value(2))
        });
        let worker = Arc::clone(&exchange);
        let working = threads.spawn(move || {
            let used = [(); 2].map(|()| between_events(&worker, &mut current));
            (current, used)
        });
        let generation = offering.end();
        let (mut current, used) = working.end();
        assert_eq!(between_events(&exchange, &mut current), 2);
        assert_eq!(exchange.acknowledged(), generation);
        drop((exchange, current));
        assert!(drops.all_once());
        used
    });
}

#[test]
fn values_are_collected_once_while_others_retire() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["snapshot.retire", "snapshot.replaced"];
    // Dropped by the control plane before the worker had ended, replaced offers included.
    let outcomes = [0, 1, 2];
    model("snapshot::collect", bounds, &mutants, &outcomes, |threads| {
        let (exchange, mut current, drops) = exchange(3);
        let (control, ledger) = (Arc::clone(&exchange), drops.clone());
        let collecting = threads.spawn(move || {
            control.offer(ledger.value(1));
            control.collect();
            control.offer(ledger.value(2));
            control.collect();
            (0..3).map(|number| ledger.of_value(number)).sum::<usize>()
        });
        let worker = Arc::clone(&exchange);
        let working = threads.spawn(move || {
            for _ in 0..2 {
                between_events(&worker, &mut current);
            }
            current
        });
        let collected = collecting.end();
        drop((working.end(), exchange));
        assert!(drops.all_once());
        collected
    });
}

#[test]
fn an_exchange_dropped_with_an_offer_pending_leaks_nothing() {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["snapshot.drop"];
    // The value in use when the worker left.
    model("snapshot::drop", bounds, &mutants, &[0, 1], |threads| {
        let (exchange, mut current, drops) = exchange(2);
        let (control, ledger) = (Arc::clone(&exchange), drops.clone());
        let offering = threads.spawn(move || control.offer(ledger.value(1)));
        let worker = Arc::clone(&exchange);
        let working = threads.spawn(move || between_events(&worker, &mut current));
        offering.end();
        let used = working.end();
        assert_eq!(drops.of_value(1), used, "the worker's value goes with the worker, a pending one stays");
        drop(exchange);
        assert!(drops.all_once());
        used
    });
}

#[test]
fn what_old_values_led_to_is_out_of_use_when_acknowledged() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["snapshot.acknowledge", "snapshot.eager"];
    // Whether the control plane met the acknowledgement, and then dropped what only the old value led to.
    model("snapshot::acknowledge", bounds, &mutants, &[false, true], |threads| {
        let (exchange, mut current, drops) = exchange(3);
        // std's lock orders nothing under loom: the acknowledgement alone must.
        let handler = Arc::new(Mutex::new(Some(drops.value(2))));
        let (control, ledger, behind) = (Arc::clone(&exchange), drops.clone(), Arc::clone(&handler));
        let offering = threads.spawn(move || {
            let generation = control.offer(ledger.value(1));
            let acknowledged = control.acknowledged() == generation;
            if acknowledged {
                drop(behind.lock().expect("nobody panicked").take());
            }
            acknowledged
        });
        let (worker, in_use) = (Arc::clone(&exchange), Arc::clone(&handler));
        let working = threads.spawn(move || {
            if current.get().number() == 0 {
                in_use.lock().expect("nobody panicked").as_ref().expect("not acknowledged yet").number();
            }
            between_events(&worker, &mut current);
            current
        });
        let acknowledged = offering.end();
        drop((working.end(), exchange, handler));
        assert!(drops.all_once());
        acknowledged
    });
}

#[test]
fn a_nudge_shows_what_changed_before_it() {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["snapshot.nudge"];
    // Whether the worker was nudged, and so looked at what had changed.
    model("snapshot::nudge", bounds, &mutants, &[false, true], |threads| {
        let (exchange, current, drops) = exchange(2);
        // std's lock orders nothing under loom: the nudge alone must.
        let change = Arc::new(Mutex::new(None));
        let (control, changed, ledger) = (Arc::clone(&exchange), Arc::clone(&change), drops.clone());
        let nudging = threads.spawn(move || {
            *changed.lock().expect("nobody panicked") = Some(ledger.value(1));
            control.nudge();
        });
        let (worker, changed) = (Arc::clone(&exchange), Arc::clone(&change));
        let working = threads.spawn(move || {
            let nudged = worker.is_stale(&current);
            if nudged {
                let changed = changed.lock().expect("nobody panicked");
                assert_eq!(changed.as_ref().expect("it changed before the nudge").number(), 1);
            }
            (current, nudged)
        });
        nudging.end();
        let (mut current, nudged) = working.end();
        assert_eq!(between_events(&exchange, &mut current), 0, "a nudge brings no value");
        assert!(!exchange.is_stale(&current), "one look answers a nudge");
        drop((exchange, current, change));
        assert!(drops.all_once());
        nudged
    });
}

#[test]
fn a_nudge_hides_no_offer() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["snapshot.late"];
    // What the worker used beside both.
    model("snapshot::nudge_and_offer", bounds, &mutants, &[0, 1], |threads| {
        let (exchange, mut current, drops) = exchange(2);
        let (control, ledger) = (Arc::clone(&exchange), drops.clone());
        let offering = threads.spawn(move || control.offer(ledger.value(1)));
        let control = Arc::clone(&exchange);
        let nudging = threads.spawn(move || control.nudge());
        let worker = Arc::clone(&exchange);
        let working = threads.spawn(move || {
            let used = between_events(&worker, &mut current);
            (current, used)
        });
        let generation = offering.end();
        nudging.end();
        let (mut current, used) = working.end();
        assert_eq!(between_events(&exchange, &mut current), 1);
        assert!(exchange.acknowledged() >= generation);
        drop((exchange, current));
        assert!(drops.all_once());
        used
    });
}
