//! Events that wait for their time: put by publishers, moved to a lane by worker 0, counted by who flushes.

use std::sync::Arc;

use loom_tests::closing::{Place, bus};
use loom_tests::lanes::{Event, LANE, read};
use loom_tests::{Bounds, model};
use ringmain::internals::sync::intake::Intake;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

#[test]
fn a_scheduled_event_is_in_one_count_at_least_until_it_is_read() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 300 };
    let mutants = ["intake.early", "intake.place", "transit.begin", "transit.end", "transit.count"];
    // Accepted, waiting and claimed, as who flushes finds them; and whether a second event found a place.
    let counts = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)];
    // One that is refused is among those that wait for a moment.
    let refused = [(0, 2, 0), (0, 2, 1), (1, 2, 0), (1, 2, 1)].map(|seen| (seen, false));
    let outcomes: Vec<_> = counts.into_iter().flat_map(|seen| [(seen, false), (seen, true)]).chain(refused).collect();
    model("schedule::flush", bounds, &mutants, &outcomes, |threads| {
        let (bus, mut reader) = bus(0);
        let intake = Arc::new(Intake::new(1));
        let (told, timers_at) = (Arc::new(AtomicU64::new(0)), Place::default());
        let (put_at, telling) = (Arc::clone(&intake), Arc::clone(&told));
        let publishing = threads.spawn(move || {
            put_at.put(1).expect("nothing waits");
            // The model's own: it releases what was accepted before.
            telling.store(1, Ordering::Release);
            put_at.put(2).is_ok()
        });
        let (worker, kept) = (bus.clone(), Arc::clone(&intake));
        let working = threads.spawn(move || {
            let mut claimant = worker.claimant();
            let taken = kept.take();
            if let Some(number) = taken {
                assert_eq!(number, 1);
                let inside = timers_at.enter(&worker.admission).expect("it runs");
                assert!(kept.go_on(|| claimant.push(LANE, Event::new(number).inline()).is_ok()));
                drop(inside);
                assert_eq!(read(&mut reader), Some(1));
            }
            taken.is_some()
        });
        let (flusher, counted) = (bus.clone(), Arc::clone(&intake));
        let flushing = threads.spawn(move || {
            // The model's own: it acquires.
            let accepted = told.load(Ordering::Acquire);
            let waiting = counted.waiting();
            (accepted, waiting, flusher.lanes.claimed(LANE))
        });
        let found_place = publishing.end();
        let has_gone = working.end();
        let (accepted, waiting, claimed) = flushing.end();
        assert!(waiting <= 2, "there is one place, and one that looks for it");
        assert!(accepted <= waiting + claimed, "an accepted event is in no count");
        assert_eq!(intake.waiting() + bus.lanes.claimed(LANE), 1 + u64::from(found_place));
        assert!(has_gone || !found_place, "both have the one place");
        ((accepted, waiting, claimed), found_place)
    });
}
