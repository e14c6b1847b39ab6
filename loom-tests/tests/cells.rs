//! Cells of a mailbox: fill, take, drop the oldest, free, and the blocks they hold.

use std::sync::Arc;

use loom_tests::lanes::{Event, FIRST, LANE, REST_BYTES, feed, lanes, number, pool, reader};
use loom_tests::{Bounds, Join, model};
use ringmain::internals::ring::{Cells, Claimant, Feeder, Frame, Lanes, Pages, Pool, Reader, Rest, Taken};

/// A worker that has events in a lane and a mailbox to feed.
struct Worker {
    reader: Reader,
    feeder: Feeder,
}

/// A worker with `events` inline events before it and a mailbox of `cells`.
fn worker(events: u8, cells: usize, first: u64) -> (Worker, Arc<Cells>, Arc<Lanes>) {
    let pool = pool(0);
    let lanes = lanes(4, 4, 1, FIRST, &pool);
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(Arc::clone(&lanes), false);
    for number in 1..=events {
        claimant.push(LANE, Event::new(number).inline()).expect("the lane is empty");
    }
    let (feeder, cells) = Cells::new(cells, lanes.body_bytes(), first, pool, Pages::Any).expect("a few cells fit");
    (Worker { reader, feeder }, cells, lanes)
}

impl Worker {
    /// Moves the next event into the mailbox. False when that is full, and the event stays where it is.
    fn feed(&mut self) -> bool {
        feed(&mut self.feeder, &mut self.reader)
    }
}

fn read(taken: &Taken) -> u8 {
    let (head, rest) = taken.parts();
    let number = number(head, rest);
    assert_eq!(taken.sequence(), FIRST.wrapping_add(u64::from(number) - 1), "the sequence came with another event");
    number
}

/// Takes up to `attempts` events, each freed before the next is taken.
fn take_up_to(cells: &Arc<Cells>, attempts: usize) -> Vec<u8> {
    (0..attempts).filter_map(|_| cells.take(LANE)).map(|taken| read(&taken)).collect()
}

fn drain(cells: &Arc<Cells>) -> Vec<u8> {
    std::iter::from_fn(|| cells.take(LANE)).map(|taken| read(&taken)).collect()
}

/// A feeder and a consumer over two cells.
fn each_once_in_order(name: &str, mutants: &[&str], first: u64) {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    model(name, bounds, mutants, &[0, 1, 2], move |threads| {
        let (mut worker, cells, _lanes) = worker(2, 2, first);
        let feeding = threads.spawn(move || {
            assert!(worker.feed() && worker.feed(), "there is a cell for each");
            worker
        });
        let consumer = Arc::clone(&cells);
        let met = threads.spawn(move || take_up_to(&consumer, 2)).end();
        feeding.end();
        assert_eq!([met.clone(), drain(&cells)].concat(), [1, 2]);
        met.len()
    });
}

#[test]
fn each_event_is_taken_once_in_order() {
    each_once_in_order("cells::each_once", &["cells.queue"], 0);
}

#[test]
fn positions_wrap_without_a_gap() {
    each_once_in_order("cells::wrap", &["cells.queue", "cells.wrap"], u64::MAX);
    each_once_in_order("cells::beyond_u32", &["cells.queue"], u64::from(u32::MAX));
}

#[test]
fn a_cell_is_filled_again_after_its_last_read() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["cells.free", "cells.queue"];
    // Fed of three attempts into one cell, and what the consumer met.
    let outcomes = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2)];
    model("cells::refill", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(3, 1, 0);
        let feeding = threads.spawn(move || {
            let fed = (0..3).filter(|_| worker.feed()).count();
            (worker, fed)
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || take_up_to(&consumer, 2));
        let (_worker, fed) = feeding.end();
        let met = consuming.end();
        assert_eq!([met.clone(), drain(&cells)].concat(), [1, 2, 3][..fed]);
        (fed, met.len())
    });
}

#[test]
fn the_oldest_cell_is_dropped_or_taken_never_both() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["cells.head", "cells.free"];
    // Whether one of two was left to be dropped for the third, and what the consumer met.
    let outcomes = [(false, vec![1, 2]), (true, vec![1]), (true, vec![1, 3]), (true, vec![2]), (true, vec![2, 3])];
    model("cells::drop_oldest", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, cells, _lanes) = worker(3, 2, 0);
        assert!(worker.feed() && worker.feed());
        let feeding = threads.spawn(move || {
            let dropped = worker.feeder.drop_oldest(LANE);
            let fed = worker.feed();
            (worker, dropped, fed)
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || take_up_to(&consumer, 2));
        let (_worker, dropped, fed) = feeding.end();
        let met = consuming.end();
        let all = [met.clone(), drain(&cells)].concat();
        assert!(all.is_sorted(), "out of order: {all:?}");
        assert_eq!(all.len() + usize::from(dropped), 2 + usize::from(fed));
        (dropped, met)
    });
}

#[test]
fn cells_freed_by_two_threads_are_claimed_once_each() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["cells.free"];
    model("cells::free_against_claim", bounds, &mutants, &[0, 1, 2], |threads| {
        let (mut worker, cells, _lanes) = worker(4, 2, 0);
        assert!(worker.feed() && worker.feed());
        let held = [0, 1].map(|_| cells.take(LANE).expect("two are queued"));
        let freeing = held.map(|taken| threads.spawn(move || read(&taken)));
        let feeding = threads.spawn(move || {
            let fed = (0..2).filter(|_| worker.feed()).count();
            (worker, fed)
        });
        assert_eq!(freeing.map(Join::end), [1, 2]);
        let (mut worker, fed) = feeding.end();
        for _ in fed..2 {
            assert!(worker.feeder.has_room() && worker.feed(), "a freed cell was lost");
        }
        assert!(!worker.feeder.has_room(), "a cell is free and in use");
        assert_eq!(drain(&cells), [3, 4]);
        fed
    });
}

/// Publishes event `number` in one of the pool's blocks, to worker 0.
fn publish_in_block(lanes: &Arc<Lanes>, pool: &Arc<Pool>, number: u8) {
    let mut block = pool.take(REST_BYTES).expect("a block is free");
    block.bytes_mut()[..REST_BYTES].fill(number);
    let event = Event::new(number);
    let frame = Frame { head: event.head(), rest: Rest::Block(&block, 1) };
    Claimant::new(Arc::clone(lanes), false).push(LANE, frame).expect("the lane has room");
}

#[test]
fn a_block_in_a_cell_is_freed_after_its_lane_and_its_cell() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 300 };
    let mutants = ["cells.retain", "cells.release_block", "pool.count", "pool.free"];
    // Whether the consumer met the event, and whether a publisher could take the block again.
    let outcomes = [(false, false), (true, false), (true, true)];
    model("cells::block", bounds, &mutants, &outcomes, |threads| {
        let pool = pool(1);
        let lanes = lanes(1, 1, 1, FIRST, &pool);
        let reader = reader(&lanes, 0);
        publish_in_block(&lanes, &pool, 1);
        let (feeder, cells) =
            Cells::new(1, lanes.body_bytes(), FIRST, Arc::clone(&pool), Pages::Any).expect("a cell fits");
        let mut worker = Worker { reader, feeder };
        let feeding = threads.spawn(move || {
            assert!(worker.feed());
            worker
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || take_up_to(&consumer, 1).len() == 1);
        let publisher = Arc::clone(&pool);
        let taking = threads.spawn(move || {
            let block = publisher.take(REST_BYTES);
            block.map(|mut block| block.bytes_mut().fill(9)).is_some()
        });
        let _worker = feeding.end();
        let met = consuming.end();
        let taken = taking.end();
        assert_eq!(drain(&cells).len(), usize::from(!met));
        assert_eq!(pool.free_blocks(), 1);
        (met, taken)
    });
}

#[test]
fn a_dropped_mailbox_gives_the_blocks_of_queued_cells_back() {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["cells.drop", "cells.release_block"];
    // Whether the consumer took the event before the mailbox went.
    model("cells::drop", bounds, &mutants, &[false, true], |threads| {
        let pool = pool(1);
        let lanes = lanes(1, 1, 1, FIRST, &pool);
        let reader = reader(&lanes, 0);
        publish_in_block(&lanes, &pool, 1);
        let (feeder, cells) =
            Cells::new(1, lanes.body_bytes(), FIRST, Arc::clone(&pool), Pages::Any).expect("a cell fits");
        let mut worker = Worker { reader, feeder };
        let feeding = threads.spawn(move || {
            assert!(worker.feed());
            worker
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || take_up_to(&consumer, 1).len() == 1);
        drop(feeding.end());
        let met = consuming.end();
        drop(cells);
        assert_eq!(pool.free_blocks(), 1);
        met
    });
}

#[test]
fn a_delivery_may_outlive_its_mailbox() {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["cells.drop", "cells.release_block"];
    // Blocks that were free when the mailbox had gone: those of its queue go with it, or with the delivery.
    model("cells::outlived", bounds, &mutants, &[0, 1, 2], |threads| {
        let pool = pool(2);
        let lanes = lanes(2, 2, 1, FIRST, &pool);
        let reader = reader(&lanes, 0);
        publish_in_block(&lanes, &pool, 1);
        publish_in_block(&lanes, &pool, 2);
        let (feeder, cells) =
            Cells::new(2, lanes.body_bytes(), FIRST, Arc::clone(&pool), Pages::Any).expect("cells fit");
        let mut worker = Worker { reader, feeder };
        assert!(worker.feed() && worker.feed());
        let taken = cells.take(LANE).expect("two are queued");
        let holding = threads.spawn(move || read(&taken));
        let blocks = Arc::clone(&pool);
        let leaving = threads.spawn(move || {
            drop((worker, cells));
            blocks.free_blocks()
        });
        assert_eq!(holding.end(), 1);
        let free = leaving.end();
        assert_eq!(pool.free_blocks(), 2);
        free
    });
}
