//! The newest event of each key: replace, take, drop the oldest, take back, and who is told that nothing waits.

use std::sync::Arc;

use loom_tests::lanes::{Event, LANE, REST_BYTES, lanes, number, pool, reader};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{
    Cells, Claimant, Frame, LANES, Lanes, LatestFeeder, Pages, Pool, Put, PutError, Reader, Rest, Taken,
};
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

/// A less urgent lane than [`LANE`].
const LOW: usize = 3;
const KEY: u64 = 7;
const OTHER: u64 = 8;

/// A worker that has events in its lanes and a mailbox in which the newest of each key waits.
struct Worker {
    reader: Reader,
    feeder: LatestFeeder,
}

/// A worker with an event in each of `events`, in turn, and a mailbox for `keys` and with `held` cells more. Sequences
/// and positions begin at `first`.
fn worker(events: &[usize], keys: usize, held: usize, first: u64) -> (Worker, Arc<Cells>, Arc<Lanes>) {
    let pool = pool(0);
    let lanes = lanes(8, 8, 1, first, &pool);
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(Arc::clone(&lanes), false);
    for (number, &lane) in (1..).zip(events) {
        claimant.push(lane, Event::new(number).inline()).expect("the lane is empty");
    }
    let made = LatestFeeder::new(keys, held, lanes.body_bytes(), first, pool, Pages::Any);
    let (feeder, cells) = made.expect("a few cells fit");
    (Worker { reader, feeder }, cells, lanes)
}

impl Worker {
    /// Lets the next event of `lane` wait as the newest of `key`, and steps over it where it does.
    fn put(&mut self, lane: usize, key: u64) -> Result<Put, PutError> {
        let slot = self.reader.peek(lane).expect("the events were published before");
        let put = self.feeder.put(key, lane, self.reader.sequence(lane), &slot, REST_BYTES);
        if put.is_ok() {
            self.reader.advance(lane);
        }
        put
    }
}

fn read(taken: &Taken) -> (u8, u64) {
    let (head, rest) = taken.parts();
    (number(head, rest), taken.skipped())
}

/// Takes from `lane` up to `attempts` events, each freed before the next is taken: their numbers, and how many each
/// has superseded.
fn take_up_to(cells: &Arc<Cells>, lane: usize, attempts: usize) -> Vec<(u8, u64)> {
    (0..attempts).filter_map(|_| cells.take(lane)).map(|taken| read(&taken)).collect()
}

/// Everything that is left, of the more urgent lanes first.
fn drain(cells: &Arc<Cells>) -> Vec<(u8, u64)> {
    let all: Vec<_> =
        (0..LANES).flat_map(|lane| std::iter::from_fn(move || cells.take(lane))).map(|taken| read(&taken)).collect();
    assert_eq!(cells.waiting(), 0, "something waits that nobody finds");
    all
}

/// Two events in one line, a consumer, and whatever waits afterwards.
fn newest_wins(name: &str, first: u64) {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = [
        "latest.show",
        "latest.exchange",
        "latest.remove",
        "latest.leave",
        "latest.skipped",
        "latest.replaced",
        "cells.free",
    ];
    // What the consumer met, and the rest.
    let outcomes = [
        (vec![], vec![(3, 2)]),
        (vec![(1, 0)], vec![(3, 1)]),
        (vec![(2, 1)], vec![(3, 0)]),
        (vec![(3, 2)], vec![]),
        (vec![(1, 0), (2, 0)], vec![(3, 0)]),
        (vec![(1, 0), (3, 1)], vec![]),
        (vec![(2, 1), (3, 0)], vec![]),
    ];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let (mut worker, cells, _lanes) = worker(&[LANE; 6], 1, 1, first);
        let putting = threads.spawn(move || {
            let superseded = (0..3).filter(|_| worker.put(LANE, KEY) == Ok(Put::Supersedes)).count();
            (worker, superseded)
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || take_up_to(&consumer, LANE, 2));
        let (mut worker, superseded) = putting.end();
        let met = consuming.end();
        let left = drain(&cells);
        let all = [met.clone(), left.clone()].concat();
        assert_eq!(all.iter().map(|(_, skipped)| *skipped as usize).sum::<usize>(), superseded);
        assert_eq!(all.len() + superseded, 3, "an event is lost, or was there twice");
        // Every cell is free: the three last events find one each.
        let held = [(); 3].map(|()| {
            assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits), "a cell was lost");
            cells.take(LANE).expect("it was just put there")
        });
        for (nth, taken) in (3..).zip(held) {
            assert_eq!((read(&taken), taken.sequence()), ((nth + 1, 0), first.wrapping_add(u64::from(nth))));
        }
        (met, left)
    });
}

#[test]
fn the_newest_of_a_key_is_taken_and_tells_how_many_it_superseded() {
    newest_wins("latest::newest", 0);
}

#[test]
fn sequences_and_positions_wrap() {
    newest_wins("latest::wrap", u64::MAX - 1);
}

#[test]
fn a_more_urgent_event_waits_in_its_own_line() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["latest.line", "latest.leave"];
    // Whether the consumer met it.
    model("latest::urgent", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, cells, _lanes) = worker(&[LOW, LANE, LOW], 1, 0, u64::MAX);
        assert_eq!(worker.put(LOW, KEY), Ok(Put::Waits));
        let putting = threads.spawn(move || {
            assert_eq!(worker.put(LANE, KEY), Ok(Put::Supersedes));
            worker
        });
        let consumer = Arc::clone(&cells);
        let met = threads.spawn(move || take_up_to(&consumer, LANE, 1)).end();
        let mut worker = putting.end();
        let after = take_up_to(&cells, LANE, 1);
        assert_eq!([met.clone(), after].concat(), [(2, 1)]);
        assert_eq!(drain(&cells), [], "its first place is void");
        // And leads to the next event in that line.
        assert_eq!(worker.put(LOW, KEY), Ok(Put::Waits));
        assert_eq!(take_up_to(&cells, LOW, 1), [(3, 0)]);
        met.len() == 1
    });
}

#[test]
fn an_event_that_was_replaced_by_a_more_urgent_one_is_met_once_in_either_line() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["latest.exchange", "latest.remove", "latest.replaced"];
    // What came of the less urgent line, of the more urgent one behind it, and what was left.
    let outcomes =
        [(Some((1, 0)), None, vec![(2, 0)]), (Some((1, 0)), Some((2, 0)), vec![]), (Some((2, 1)), None, vec![])];
    model("latest::either_line", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(&[LOW, LANE, LANE], 1, 0, u64::MAX);
        assert_eq!(worker.put(LOW, KEY), Ok(Put::Waits));
        let putting = threads.spawn(move || {
            worker.put(LANE, KEY).expect("a cell is free");
            worker
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || [LOW, LANE].map(|lane| consumer.take(lane).map(|taken| read(&taken))));
        let mut worker = putting.end();
        let [low, urgent] = consuming.end();
        let left = drain(&cells);
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits));
        assert!(worker.feeder.has_room(KEY), "a cell was lost");
        (low, urgent, left)
    });
}

#[test]
fn the_oldest_is_dropped_or_taken_never_both_and_spared_where_it_has_become_urgent() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 100 };
    let mutants = ["latest.spare"];
    // Whether one was dropped, and what the consumer met of the less urgent line. Key 1 stands in both.
    let outcomes = [(false, vec![(3, 0)]), (false, vec![(2, 1), (3, 0)]), (true, vec![]), (true, vec![(2, 1)])];
    model("latest::drop_oldest", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(&[LOW, LANE, LOW], 2, 0, u64::MAX);
        assert_eq!(worker.put(LOW, KEY), Ok(Put::Waits));
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Supersedes));
        assert_eq!(worker.put(LOW, OTHER), Ok(Put::Waits));
        let dropping = threads.spawn(move || (worker.feeder.drop_oldest(LOW), worker));
        let consumer = Arc::clone(&cells);
        let met = threads.spawn(move || take_up_to(&consumer, LOW, 2)).end();
        let (dropped, _worker) = dropping.end();
        let all = [met.clone(), drain(&cells)].concat();
        assert!(all.contains(&(2, 1)), "the urgent one was dropped");
        assert_eq!(all.contains(&(3, 0)), !dropped);
        assert_eq!(all.len() + usize::from(dropped), 2);
        (dropped, met)
    });
}

#[test]
fn where_consumers_hold_all_cells_a_waiting_event_makes_way_or_is_taken() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["latest.take_back", "latest.show", "latest.remove"];
    // What came of the third event, and what the consumer met.
    let superseded = Ok(Put::Supersedes);
    let outcomes = [(Err(PutError::CellsFull), Some((2, 0))), (superseded, None), (superseded, Some((3, 1)))];
    let outcomes = outcomes.map(|(put, met)| (format!("{put:?}"), met));
    model("latest::take_back", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(&[LANE; 3], 1, 0, u64::MAX);
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits));
        let held = cells.take(LANE).expect("it was just put there");
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits));
        let putting = threads.spawn(move || (worker.put(LANE, KEY), worker));
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || consumer.take(LANE).map(|taken| (read(&taken), taken)));
        let (put, mut worker) = putting.end();
        let met = consuming.end();
        assert_eq!(read(&held), (1, 0));
        let left = drain(&cells);
        let expected = if put.is_ok() && met.is_none() { &[(3, 1)][..] } else { &[] };
        assert_eq!(left, expected);
        if put.is_err() {
            assert!(!worker.feeder.has_room(KEY), "all cells are held");
            drop(held);
            assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits));
        }
        (format!("{put:?}"), met.map(|(read, _)| read))
    });
}

#[test]
fn a_key_of_which_nothing_waits_makes_way_for_another() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["latest.leave"];
    // Whether the other key found room, and what the consumer met.
    let outcomes = [(false, vec![(1, 0)]), (true, vec![(1, 0)]), (true, vec![(1, 0), (2, 0)])];
    model("latest::other_key", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(&[LANE; 3], 1, 0, u64::MAX);
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits));
        let putting = threads.spawn(move || {
            let has_room = worker.feeder.has_room(OTHER);
            let put = worker.put(LANE, OTHER);
            assert!(!has_room || put == Ok(Put::Waits), "there was room");
            assert!(put == Ok(Put::Waits) || put == Err(PutError::KeysFull));
            (worker, put.is_ok())
        });
        let consumer = Arc::clone(&cells);
        let met = threads.spawn(move || take_up_to(&consumer, LANE, 2)).end();
        let (mut worker, fits) = putting.end();
        assert_eq!([met.clone(), drain(&cells)].concat(), [(1, 0), (2, 0)][..1 + usize::from(fits)]);
        assert!(worker.feeder.has_room(OTHER), "nothing waits");
        assert_eq!(worker.put(LANE, OTHER), Ok(Put::Waits));
        (fits, met)
    });
}

#[test]
fn a_place_that_a_key_has_left_leads_to_the_next_event_of_its_number_or_nowhere() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["latest.leave", "latest.remove"];
    // Whether the first key's event was dropped, what the consumer met, and the rest.
    let outcomes = [(false, Some((2, 1)), vec![(3, 0)]), (true, None, vec![(3, 0)]), (true, Some((3, 0)), vec![])];
    model("latest::left_place", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(&[LOW, LANE, LOW], 1, 1, u64::MAX);
        assert_eq!(worker.put(LOW, KEY), Ok(Put::Waits));
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Supersedes));
        let putting = threads.spawn(move || {
            let dropped = worker.feeder.drop_oldest(LANE);
            // Unless its consumer has taken the other one and not said so yet.
            let put = worker.put(LOW, OTHER);
            (worker, dropped, put)
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || consumer.take(LOW).map(|taken| read(&taken)));
        let (mut worker, dropped, put) = putting.end();
        let met = consuming.end();
        if put == Err(PutError::KeysFull) {
            assert_eq!(worker.put(LOW, OTHER), Ok(Put::Waits));
        }
        (dropped, met, drain(&cells))
    });
}

#[test]
fn who_finds_nothing_waiting_finds_what_was_taken() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["transit.count", "transit.end"];
    // How many seemed to wait.
    model("latest::waiting", bounds, &mutants, &[0, 1], |threads| {
        let (mut worker, cells, _lanes) = worker(&[LANE; 2], 1, 0, u64::MAX);
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Waits));
        assert_eq!(worker.put(LANE, KEY), Ok(Put::Supersedes));
        let counted = Arc::new(AtomicU64::new(0));
        let (consumer, count) = (Arc::clone(&cells), Arc::clone(&counted));
        let consuming = threads.spawn(move || {
            // Relaxed: that nothing waits must make it visible.
            count.store(1, Ordering::Relaxed);
            assert_eq!(take_up_to(&consumer, LANE, 1), [(2, 1)]);
        });
        let looking = threads.spawn(move || {
            let waiting = cells.waiting();
            // Relaxed: that nothing waits must have made it visible.
            assert!(waiting > 0 || counted.load(Ordering::Relaxed) == 1, "the event is nowhere");
            waiting
        });
        consuming.end();
        looking.end()
    });
}

#[test]
fn a_flush_ends_when_an_event_was_handled_or_superseded() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["cells.lane_free", "cells.lane_load", "cells.before"];
    // Whether the flush came to its end, and what the consumer met.
    let outcomes = [(false, 0), (false, 1), (false, 2), (true, 0), (true, 1), (true, 2)];
    model("latest::flush", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, lanes) = worker(&[LANE], 1, 0, u64::MAX);
        let ends = lanes.ends();
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        claimant.push(LANE, Event::new(2).inline()).expect("there is room");
        let handled = Arc::new(AtomicU64::new(0));
        let putting = threads.spawn(move || {
            for _ in 0..2 {
                worker.put(LANE, KEY).expect("a cell is free");
                worker.reader.release();
            }
            worker
        });
        let (consumer, count) = (Arc::clone(&cells), Arc::clone(&handled));
        let consuming = threads.spawn(move || {
            let Some(taken) = consumer.take(LANE) else { return 0 };
            let (number, _) = read(&taken);
            // Relaxed: the flush must make it visible.
            count.store(u64::from(number), Ordering::Relaxed);
            number
        });
        let flushing = threads.spawn(move || {
            let done = lanes.has_passed(0, &ends) && !cells.has_before(&ends);
            // Relaxed: the flush must have made it visible.
            (done, done.then(|| handled.load(Ordering::Relaxed)))
        });
        let _worker = putting.end();
        let met = consuming.end();
        let (done, handled) = flushing.end();
        assert!(met != 1 || handled != Some(0), "the first event was in the consumer's hands");
        (done, met)
    });
}

/// Publishes event `number` in one of the pool's blocks, to worker 0.
fn publish_in_block(claimant: &mut Claimant, pool: &Arc<Pool>, number: u8) {
    let mut block = pool.take(REST_BYTES).expect("a block is free");
    block.bytes_mut()[..REST_BYTES].fill(number);
    let event = Event::new(number);
    let frame = Frame { head: event.head(), rest: Rest::Block(&block, 1) };
    claimant.push(LANE, frame).expect("the lane has room");
}

#[test]
fn blocks_of_superseded_events_and_of_those_that_wait_at_the_end_go_back() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["cells.release_block", "latest.replaced", "cells.drop"];
    // What the consumer met.
    model("latest::blocks", bounds, &mutants, &[vec![], vec![(1, 0)], vec![(2, 1)]], |threads| {
        let pool = pool(2);
        let lanes = lanes(2, 2, 1, u64::MAX, &pool);
        let reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        publish_in_block(&mut claimant, &pool, 1);
        publish_in_block(&mut claimant, &pool, 2);
        let made = LatestFeeder::new(1, 0, lanes.body_bytes(), u64::MAX, Arc::clone(&pool), Pages::Any);
        let (feeder, cells) = made.expect("a few cells fit");
        let mut worker = Worker { reader, feeder };
        let putting = threads.spawn(move || {
            for _ in 0..2 {
                worker.put(LANE, KEY).expect("a cell is free");
            }
            worker
        });
        let consumer = Arc::clone(&cells);
        let met = threads.spawn(move || take_up_to(&consumer, LANE, 1)).end();
        drop(putting.end());
        assert_eq!(pool.free_blocks() as u64 + cells.waiting(), 2, "a superseded event keeps its block");
        drop(cells);
        assert_eq!(pool.free_blocks(), 2);
        met
    });
}
