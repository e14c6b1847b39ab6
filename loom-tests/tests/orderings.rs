//! Orderings that no other model would miss: a taker behind the worker that drops, a publisher behind one that batches.

use std::sync::Arc;

use loom_tests::lanes::{Event, FIRST, LANE, drain, feed, lanes, mailbox, number, pool, read_up_to, reader};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Claimant, Taken};

fn read(taken: &Taken) -> u8 {
    let (head, rest) = taken.parts();
    let number = number(head, rest);
    assert_eq!(taken.sequence(), FIRST.wrapping_add(u64::from(number) - 1), "the sequence came with another event");
    number
}

#[test]
fn a_consumer_finds_nothing_beyond_what_was_queued_and_dropped() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["cells.queue", "cells.head"];
    // What the consumer took, before both were dropped.
    model("cells::dropped_unseen", bounds, &mutants, &[None, Some(1), Some(2)], |threads| {
        let (mut feeder, cells, mut reader) = mailbox(2);
        let feeding = threads.spawn(move || {
            assert!(feed(&mut feeder, &mut reader), "a cell is free");
            assert!(feed(&mut feeder, &mut reader), "a cell is free");
            let dropped = [(); 2].map(|()| usize::from(feeder.drop_oldest(LANE)));
            (feeder, dropped.iter().sum::<usize>())
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || consumer.take(LANE).map(|taken| read(&taken)));
        let (_feeder, dropped) = feeding.end();
        let taken = consuming.end();
        assert_eq!(dropped + usize::from(taken.is_some()), 2);
        assert!(cells.take(LANE).is_none());
        taken
    });
}

#[test]
fn a_queue_seems_no_longer_than_it_ever_was() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["cells.len"];
    // How many events seemed queued.
    model("cells::queued", bounds, &mutants, &[0, 1, 2], |threads| {
        let (mut feeder, cells, mut reader) = mailbox(2);
        let feeding = threads.spawn(move || {
            assert!(feed(&mut feeder, &mut reader), "a cell is free");
            feeder.drop_oldest(LANE);
            assert!(feed(&mut feeder, &mut reader), "a cell is free");
            feeder
        });
        let looking = threads.spawn(move || cells.queued(LANE));
        feeding.end();
        looking.end()
    });
}

#[test]
fn a_publisher_behind_a_batch_stays_within_the_headroom() {
    headroom_of_batches("broadcast::headroom_of_batches", 0);
}

#[test]
fn a_publisher_behind_a_batch_stays_within_the_headroom_where_sequences_wrap() {
    headroom_of_batches("broadcast::headroom_of_batches_at_wrap", u64::MAX - 1);
    headroom_of_batches("broadcast::headroom_of_batches_beyond_u32", u64::from(u32::MAX) - 1);
}

fn headroom_of_batches(name: &str, first: u64) {
    let bounds = Bounds { preemptions: Some(if first == 0 { 3 } else { 2 }), executions_min: 500 };
    let mutants = ["lanes.claim"];
    // Accepted of the batcher and of the other; two more than the limit never fit, whoever comes first.
    let outcomes = [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let lanes = lanes(2, 1, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let mut batcher = Claimant::new(Arc::clone(&lanes), false);
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        let batching = threads.spawn(move || {
            let events = [1, 2].map(Event::new);
            events.iter().filter(|event| batcher.push_batch(LANE, 1, |_| event.inline()).is_ok()).count()
        });
        let publishing = threads.spawn(move || {
            let events = [3, 4].map(Event::new);
            events.iter().filter(|event| claimant.push(LANE, event.inline()).is_ok()).count()
        });
        let reading = threads.spawn(move || {
            let met = read_up_to(&mut reader, 2);
            (reader, met)
        });
        let accepted = (batching.end(), publishing.end());
        let (mut reader, met) = reading.end();
        let all = [met, drain(&mut reader)].concat();
        assert_eq!(all.len(), accepted.0 + accepted.1);
        accepted
    });
}
