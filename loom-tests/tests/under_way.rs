//! Whom a worker is calling, as publishers see it.

use std::sync::Arc;

use loom_tests::{Bounds, model};
use ringmain::internals::sync::under_way::UnderWay;

#[test]
fn nobody_is_seen_in_a_run_of_calls_that_has_not_called_it() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    // Whom the second look found to last.
    model("under_way::run", bounds, &["under_way.run", "under_way.look"], &[None, Some(7), Some(9)], |threads| {
        let worker = Arc::new(UnderWay::new());
        worker.begin_run();
        worker.call(9);
        let working = {
            let worker = Arc::clone(&worker);
            threads.spawn(move || {
                worker.begin_run();
                worker.call(7);
            })
        };
        let looking = {
            let worker = Arc::clone(&worker);
            threads.spawn(move || {
                worker.look(|| 10);
                worker.look(|| 20)
            })
        };
        working.end();
        let lasting = looking.end();
        worker.call(9);
        assert_eq!(worker.look(|| 30), None, "the first look at this one in the second run");
        lasting.map(|lasting| lasting.whom)
    });
}

#[test]
fn a_call_seems_to_last_no_longer_than_since_the_first_look_and_one_tells_of_it() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["under_way.seen", "under_way.show", "under_way.told"];
    // Which of two who look told of it.
    let outcomes = [(true, false), (false, true)];
    model("under_way::tell", bounds, &mutants, &outcomes, |threads| {
        let worker = Arc::new(UnderWay::new());
        worker.begin_run();
        worker.call(7);
        let [earlier, later] = [20, 30].map(|now| {
            let worker = Arc::clone(&worker);
            threads.spawn(move || {
                (0..2).any(|_| {
                    worker.look(|| now).is_some_and(|lasting| {
                        assert!(lasting.elapsed <= 10, "it was first seen at 20: {lasting:?}");
                        worker.is_mine_to_tell(lasting)
                    })
                })
            })
        });
        let told = (earlier.end(), later.end());
        assert_ne!(told, (true, true), "once a call");
        told
    });
}
