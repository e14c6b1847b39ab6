//! What goes from one count to the next, against who reads them.

use std::sync::Arc;

use loom_tests::{Bounds, model};
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};
use ringmain::internals::sync::transit::Transit;

#[test]
fn what_is_on_its_way_is_in_one_count_at_least() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    // Where it was seen: where it set out, on its way, where it arrived.
    let outcomes = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1), (0, 1, 0), (0, 1, 1), (0, 0, 1)];
    model("transit::way", bounds, &["transit.end", "transit.count"], &outcomes, |threads| {
        let (from, way) = (Arc::new(Transit::default()), Arc::new(Transit::default()));
        let arrived = Arc::new(AtomicU64::new(0));
        from.begin();
        let (left, going, arriving) = (Arc::clone(&from), Arc::clone(&way), Arc::clone(&arrived));
        let moving = threads.spawn(move || {
            assert_eq!(going.begin(), 0);
            left.end();
            // Relaxed: that it is on its way no more must make it visible.
            arriving.store(1, Ordering::Relaxed);
            going.end();
        });
        let reading = threads.spawn(move || {
            let (before, between) = (from.count(), way.count());
            // Relaxed: as above.
            (before, between, arrived.load(Ordering::Relaxed))
        });
        moving.end();
        let (before, between, after) = reading.end();
        assert!(before + between + after >= 1, "it is in no count");
        (before, between, after)
    });
}
