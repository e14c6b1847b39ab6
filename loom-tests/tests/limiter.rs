//! A rate that several threads share.

use std::sync::Arc;

use loom_tests::{Bounds, model};
use ringmain::internals::sync::limiter::Limiter;

#[test]
fn the_last_place_of_a_burst_is_had_by_one() {
    let bounds = Bounds { preemptions: None, executions_min: 15 };
    // Which of them passed.
    model("limiter::burst", bounds, &["limiter.exchange"], &[(true, false), (false, true)], |threads| {
        let limiter = Arc::new(Limiter::new(1.0, 2));
        assert_eq!(limiter.pass(1), Ok(()));
        let [first, second] = [(); 2].map(|()| {
            let limiter = Arc::clone(&limiter);
            threads.spawn(move || limiter.pass(1))
        });
        let (first, second) = (first.end(), second.end());
        assert!(first.is_ok() != second.is_ok(), "one, and not both");
        assert_eq!(first.and(second), Err(1_000_000_001), "who did not is told when");
        (first.is_ok(), second.is_ok())
    });
}
