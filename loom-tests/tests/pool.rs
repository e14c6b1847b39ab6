//! Blocks: the free stack and the count of holders.

use std::sync::Arc;

use loom_tests::lanes::{Event, FIRST, LANE, REST_BYTES, lanes, number, pool, reader};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Block, Claimant, Frame, Pool, Rest};

/// Takes a block and writes `byte` all over it.
fn take(pool: &Arc<Pool>, byte: u8) -> Option<Block> {
    let mut block = pool.take(REST_BYTES)?;
    block.bytes_mut().fill(byte);
    Some(block)
}

#[test]
fn a_block_has_one_owner_although_it_comes_and_goes() {
    let bounds = Bounds { preemptions: None, executions_min: 200 };
    // Tags begin at their end, so that the second publisher's wrap.
    let mutants = ["pool.tag", "pool.tag_wrap", "pool.free"];
    // Whether the first publisher got a block, and whether the second got one, two, and one again.
    let outcomes = [(false, [true, true, true]), (true, [true, false, true]), (true, [true, true, false])];
    model("pool::owners", bounds, &mutants, &outcomes, |threads| {
        let pool = pool(2);
        let (first, second) = (Arc::clone(&pool), Arc::clone(&pool));
        let one = threads.spawn(move || take(&first, 1).map(|mut block| (block.bytes()[0] == 1, block)));
        let other = threads.spawn(move || {
            // Takes the top and the block below, and puts the top back: a stale exchange would now free the other.
            let top = take(&second, 2);
            let below = take(&second, 3);
            let got = [top.is_some(), below.is_some()];
            drop(top);
            let again = take(&second, 4);
            let all = [got[0], got[1], again.is_some()];
            let held: Vec<_> = below.into_iter().zip([3]).chain(again.into_iter().zip([4])).collect();
            (all, held)
        });
        let one = one.end();
        let (all, held) = other.end();
        assert!(one.as_ref().is_none_or(|(intact, _)| *intact));
        assert_eq!(pool.free_blocks() + held.len() + usize::from(one.is_some()), 2);
        for (mut block, byte) in held {
            assert!(block.bytes().iter().all(|&found| found == byte), "two publishers wrote one block");
        }
        (one.is_some(), all)
    });
}

#[test]
fn a_block_is_freed_once_after_the_last_of_its_readers() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 300 };
    let mutants = ["pool.count", "pool.free"];
    model("pool::count", bounds, &mutants, &[false, true], |threads| {
        let pool = pool(1);
        let lanes = lanes(1, 1, 2, FIRST, &pool);
        let readers = [0, 1].map(|worker| reader(&lanes, worker));
        let block = take(&pool, 1).expect("all blocks are free");
        let event = Event::new(1);
        let frame = Frame { head: event.head(), rest: Rest::Block(&block, 0b11) };
        Claimant::new(Arc::clone(&lanes), false).push(LANE, frame).expect("the lane is empty");
        drop(block);
        let readings = readers.map(|mut reader| {
            threads.spawn(move || {
                let slot = reader.peek(LANE).expect("it was published before");
                assert_eq!(number(slot.head, slot.rest().expect("both readers are counted")), 1);
                reader.advance(LANE);
            })
        });
        let publisher = Arc::clone(&pool);
        let taken = threads.spawn(move || take(&publisher, 9).is_some());
        for reading in readings {
            reading.end();
        }
        let taken = taken.end();
        assert_eq!(pool.free_blocks(), 1);
        let held = take(&pool, 5);
        assert!(held.is_some() && take(&pool, 6).is_none(), "the block is on the stack once");
        taken
    });
}

#[test]
fn an_event_that_is_not_a_readers_business_leaves_the_block_alone() {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["block.counted", "pool.free"];
    model("pool::foreign", bounds, &mutants, &[false, true], |threads| {
        let pool = pool(1);
        let lanes = lanes(1, 1, 2, FIRST, &pool);
        let mut mine = reader(&lanes, 0);
        let mut foreign = reader(&lanes, 1);
        let block = take(&pool, 1).expect("all blocks are free");
        let event = Event::new(1);
        let frame = Frame { head: event.head(), rest: Rest::Block(&block, 0b01) };
        Claimant::new(Arc::clone(&lanes), false).push(LANE, frame).expect("the lane is empty");
        drop(block);
        let reading = threads.spawn(move || {
            let slot = mine.peek(LANE).expect("it was published before");
            assert_eq!(number(slot.head, slot.rest().expect("it is counted")), 1);
            mine.advance(LANE);
        });
        let publisher = Arc::clone(&pool);
        let passing = threads.spawn(move || {
            assert!(foreign.peek(LANE).expect("it was published before").rest().is_none());
            foreign.advance(LANE);
            take(&publisher, 9).is_some()
        });
        reading.end();
        let taken = passing.end();
        assert_eq!(pool.free_blocks(), 1);
        taken
    });
}

#[test]
fn a_block_that_was_never_published_comes_back() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["block.drop", "pool.free"];
    // Who got the only block: at least one does.
    let outcomes = [[false, true], [true, false], [true, true]];
    model("pool::unpublished", bounds, &mutants, &outcomes, |threads| {
        let pool = pool(1);
        let taking = [1, 2].map(|byte| {
            let pool = Arc::clone(&pool);
            threads.spawn(move || {
                take(&pool, byte).is_some_and(|mut block| {
                    assert!(block.bytes().iter().all(|&found| found == byte), "two publishers wrote one block");
                    true
                })
            })
        });
        let took = taking.map(loom_tests::Join::end);
        assert_eq!(pool.free_blocks(), 1);
        took
    });
}
