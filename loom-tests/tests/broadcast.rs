//! Lanes: claim with headroom, commit, batch, gate, wrap, activation.

use std::sync::Arc;

use loom_tests::lanes::{Event, FIRST, LANE, REST_BYTES, TAIL_BYTES, drain, lanes, pool, read, read_up_to, reader};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Claimant, HEAD_WORDS, LaneFull, Reader, Wants};
use ringmain::internals::sync::snapshot::Snapshot;

/// Pushes event `number` and returns its sequence.
fn push(claimant: &mut Claimant, number: u8) -> Result<u64, LaneFull> {
    claimant.push(LANE, Event::new(number).inline())
}

/// As `push`, but writes what follows the head before it claims: in place for an exclusive claimant.
fn write_and_commit(claimant: &mut Claimant, number: u8) -> Result<u64, LaneFull> {
    let mut buffer = [0; TAIL_BYTES];
    loop {
        // Another publisher may claim between the look and the room.
        claimant.make_sure(LANE, 1)?;
        if let Some(mut room) = claimant.room(LANE).map(|room| room.draft(|| &mut buffer)) {
            room.buffer().fill(number);
            return Ok(room.commit([u64::from_ne_bytes([number; 8]); HEAD_WORDS], TAIL_BYTES));
        }
    }
}

/// As `push`, but an event whose bytes lie ready is copied by the room itself.
fn put(claimant: &mut Claimant, number: u8) -> Result<u64, LaneFull> {
    loop {
        // Another publisher may claim between the look and the room.
        claimant.make_sure(LANE, 1)?;
        if let Some(room) = claimant.room(LANE) {
            return Ok(room.put([u64::from_ne_bytes([number; 8]); HEAD_WORDS], &[number; REST_BYTES]));
        }
    }
}

/// One way to push an event.
type Push = fn(&mut Claimant, u8) -> Result<u64, LaneFull>;

#[test]
fn two_publishers_are_read_once_each_in_the_order_of_their_sequences() {
    two_publishers("broadcast::two_publishers", 0, 3);
}

#[test]
fn two_publishers_are_read_once_each_where_sequences_wrap() {
    two_publishers("broadcast::two_publishers_at_wrap", u64::MAX, 2);
    two_publishers("broadcast::two_publishers_beyond_u32", u64::from(u32::MAX), 2);
}

fn two_publishers(name: &str, first: u64, preemptions: usize) {
    let bounds = Bounds { preemptions: Some(preemptions), executions_min: 200 };
    let mutants = ["slot.commit", "slot.ready"];
    // What the reader met while they published, and the order it saw in the end.
    let outcomes = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let lanes = lanes(4, 2, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let publishers = [1, 2].map(|number| {
            let mut claimant = Claimant::new(Arc::clone(&lanes), false);
            threads.spawn(move || push(&mut claimant, number).expect("there is room for both"))
        });
        let reading = threads.spawn(move || {
            let met = read_up_to(&mut reader, 2);
            (reader, met)
        });
        let sequences = publishers.map(|publisher| publisher.end().wrapping_sub(first) as usize);
        let (mut reader, met) = reading.end();
        let order = [met.clone(), drain(&mut reader)].concat();
        let mut expected = [0; 2];
        expected[sequences[0]] = 1;
        expected[sequences[1]] = 2;
        assert_eq!(order, expected);
        (met.len(), order[0])
    });
}

/// One publisher and one reader in a lane of one slot, so that every event after the first reuses a slot.
fn reused_slot(name: &str, more_mutants: &[&str], first: u64, exclusive: bool, push: Push) {
    let bounds = Bounds { preemptions: None, executions_min: 30 };
    let mutants =
        [&["slot.commit", "lanes.cursor_store", "lanes.cursor_load", "claim.good_for"], more_mutants].concat();
    // Accepted out of three, and how many of them the reader met.
    let outcomes = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let lanes = lanes(1, 1, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), exclusive);
        let publishing = threads.spawn(move || {
            let mut accepted = Vec::new();
            for number in [1, 2, 3] {
                match push(&mut claimant, number) {
                    Ok(sequence) => {
                        assert_eq!(sequence, first.wrapping_add(accepted.len() as u64));
                        accepted.push(number);
                    }
                    Err(full) => assert_eq!(full, LaneFull { depth: 1, limit: 1, gated_by: Some(0) }),
                }
            }
            accepted
        });
        let reading = threads.spawn(move || {
            let met = read_up_to(&mut reader, 2);
            (reader, met)
        });
        let accepted = publishing.end();
        let (mut reader, met) = reading.end();
        assert_eq!([met.clone(), drain(&mut reader)].concat(), accepted);
        assert_eq!(lanes.depth(LANE), 0);
        (accepted.len(), met.len())
    });
}

#[test]
fn a_slot_is_reused_after_it_was_read_and_a_full_lane_refuses() {
    reused_slot("broadcast::reused_slot", &[], 0, false, push);
}

#[test]
fn an_event_written_before_its_claim_is_read_whole() {
    reused_slot("broadcast::committed_room", &[], 0, false, write_and_commit);
}

#[test]
fn an_event_written_in_place_is_not_seen_before_it_is_committed() {
    reused_slot("broadcast::written_in_place", &[], 0, true, write_and_commit);
}

#[test]
fn room_that_is_given_up_was_never_claimed() {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["slot.commit", "slot.ready"];
    // What the reader met while the publisher wrote.
    model("broadcast::room_given_up", bounds, &mutants, &[0, 1], |threads| {
        let lanes = lanes(1, 1, 1, FIRST, &pool(0));
        let mut reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), true);
        let publishing = threads.spawn(move || {
            claimant.make_sure(LANE, 1).expect("the lane is empty");
            claimant.room(LANE).expect("nobody else claims").draft(|| &mut []).buffer().fill(7);
            write_and_commit(&mut claimant, 1).expect("the slot is still free")
        });
        let reading = threads.spawn(move || {
            let met = read_up_to(&mut reader, 1);
            (reader, met)
        });
        assert_eq!(publishing.end(), FIRST);
        let (mut reader, met) = reading.end();
        assert_eq!([met.clone(), drain(&mut reader)].concat(), [1]);
        met.len()
    });
}

#[test]
fn an_exclusive_publisher_reuses_a_slot_after_it_was_read() {
    reused_slot("broadcast::exclusive_publisher", &[], 0, true, push);
}

#[test]
fn sequences_wrap_without_a_gap() {
    let more_mutants = ["lanes.wrap", "lanes.old_stamps"];
    reused_slot("broadcast::wrap", &more_mutants, u64::MAX, false, push);
    reused_slot("broadcast::wrap_exclusive", &more_mutants, u64::MAX, true, write_and_commit);
}

#[test]
fn an_event_put_into_its_room_is_read_whole_when_sequences_wrap() {
    let more_mutants = ["lanes.wrap", "lanes.old_stamps"];
    reused_slot("broadcast::put_at_wrap", &more_mutants, u64::MAX, false, put);
    reused_slot("broadcast::put_exclusive_at_wrap", &more_mutants, u64::MAX, true, put);
    reused_slot("broadcast::put_beyond_u32", &["lanes.u32"], u64::from(u32::MAX) - 1, false, put);
}

#[test]
fn publishers_that_put_into_rooms_stay_within_the_headroom() {
    headroom("broadcast::headroom_of_puts", 0, put);
}

#[test]
fn sequences_go_on_beyond_32_bits() {
    reused_slot("broadcast::beyond_u32", &["lanes.u32"], u64::from(u32::MAX) - 1, false, push);
}

#[test]
fn publishers_that_pass_the_check_together_stay_within_the_headroom() {
    headroom("broadcast::headroom", 0, push);
}

#[test]
fn publishers_stay_within_the_headroom_where_sequences_wrap() {
    headroom("broadcast::headroom_at_wrap", u64::MAX - 1, push);
    headroom("broadcast::headroom_beyond_u32", u64::from(u32::MAX) - 1, push);
}

#[test]
fn publishers_that_write_between_check_and_claim_stay_within_the_headroom() {
    headroom("broadcast::headroom_of_rooms", 0, write_and_commit);
}

fn headroom(name: &str, first: u64, push: Push) {
    let bounds = Bounds { preemptions: Some(if first == 0 { 3 } else { 2 }), executions_min: 500 };
    let mutants = ["lanes.claim", "claim.good_for"];
    // Accepted of each publisher; two more than the limit never fit, whoever comes first.
    let outcomes = [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        // The limit and one publisher more: exactly what two publishers can come to.
        let lanes = lanes(2, 1, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let publishers = [[1, 2], [3, 4]].map(|numbers| {
            let mut claimant = Claimant::new(Arc::clone(&lanes), false);
            threads.spawn(move || numbers.into_iter().filter(|&n| push(&mut claimant, n).is_ok()).collect::<Vec<_>>())
        });
        let reading = threads.spawn(move || {
            let met = read_up_to(&mut reader, 2);
            (reader, met)
        });
        let [ones, others] = publishers.map(loom_tests::Join::end);
        let (mut reader, met) = reading.end();
        let all = [met, drain(&mut reader)].concat();
        let of = |accepted: &[u8]| all.iter().copied().filter(|n| accepted.contains(n)).collect::<Vec<_>>();
        assert_eq!(of(&ones), ones, "each publisher's order");
        assert_eq!(of(&others), others, "each publisher's order");
        assert_eq!(all.len(), ones.len() + others.len());
        (ones.len(), others.len())
    });
}

#[test]
fn a_batch_appears_whole() {
    batch("broadcast::batch", 0);
    batch("broadcast::batch_at_wrap", u64::MAX);
    batch("broadcast::batch_beyond_u32", u64::from(u32::MAX));
}

fn batch(name: &str, first: u64) {
    let bounds = Bounds { preemptions: None, executions_min: 5 };
    let mutants = ["batch.order", "slot.commit"];
    model(name, bounds, &mutants, &[0, 2], move |threads| {
        let lanes = lanes(2, 2, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        let publishing = threads.spawn(move || {
            let events = [1, 2].map(Event::new);
            claimant.push_batch(LANE, 2, |nth| events[nth].inline()).expect("there is room")
        });
        let reading = threads.spawn(move || {
            let first = read(&mut reader);
            let met = if first.is_some() { 1 + usize::from(read(&mut reader).is_some()) } else { 0 };
            (reader, met)
        });
        publishing.end();
        let (mut reader, met) = reading.end();
        assert_eq!(met + drain(&mut reader).len(), 2);
        met
    });
}

#[test]
fn a_batch_keeps_together_and_within_the_limit_beside_a_publisher() {
    batch_beside_publisher("broadcast::batch_beside_publisher", 0);
    batch_beside_publisher("broadcast::batch_beside_publisher_at_wrap", u64::MAX);
    batch_beside_publisher("broadcast::batch_beside_publisher_beyond_u32", u64::from(u32::MAX));
}

fn batch_beside_publisher(name: &str, first: u64) {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["batch.limit"];
    // The batch alone, the single alone, the batch and then the single that had checked before it, either order.
    let outcomes = [vec![1, 2], vec![1, 2, 3], vec![3]];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let lanes = lanes(4, 2, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let mut batcher = Claimant::new(Arc::clone(&lanes), false);
        let batching = threads.spawn(move || {
            let events = [1, 2].map(Event::new);
            batcher.push_batch(LANE, 2, |nth| events[nth].inline()).is_ok()
        });
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        let single = threads.spawn(move || push(&mut claimant, 3).is_ok());
        let accepted = 2 * usize::from(batching.end()) + usize::from(single.end());
        let all = drain(&mut reader);
        assert_eq!(all.len(), accepted);
        all
    });
}

#[test]
fn two_readers_gate_each_other() {
    two_readers("broadcast::two_readers", 0, false, push);
}

#[test]
fn two_readers_gate_each_other_where_sequences_wrap() {
    two_readers("broadcast::two_readers_at_wrap", u64::MAX, false, push);
    two_readers("broadcast::two_readers_beyond_u32", u64::from(u32::MAX), true, write_and_commit);
}

#[test]
fn two_readers_gate_an_exclusive_publisher() {
    two_readers("broadcast::two_readers_exclusive", 0, true, write_and_commit);
}

fn two_readers(name: &str, first: u64, exclusive: bool, push: Push) {
    let bounds = Bounds { preemptions: Some(if first == 0 { 3 } else { 2 }), executions_min: 200 };
    let mutants = ["lanes.slowest", "lanes.cursor_store", "lanes.cursor_load"];
    // Accepted of two, by a lane of one slot: the second only after both readers have passed the first.
    model(name, bounds, &mutants, &[1, 2], move |threads| {
        let lanes = lanes(1, 1, 2, first, &pool(0));
        let readers = [0, 1].map(|worker| reader(&lanes, worker));
        let mut claimant = Claimant::new(Arc::clone(&lanes), exclusive);
        let publishing = threads.spawn(move || {
            push(&mut claimant, 1).expect("the lane is empty");
            1 + usize::from(push(&mut claimant, 2).is_ok())
        });
        let readings = readers.map(|mut reader| {
            threads.spawn(move || {
                let met = read_up_to(&mut reader, 1);
                (reader, met)
            })
        });
        let accepted = publishing.end();
        for reading in readings {
            let (mut reader, met) = reading.end();
            assert!(accepted == 1 || met == [1], "the second event took the place of an unread one");
            assert_eq!([met, drain(&mut reader)].concat(), [1, 2][..accepted]);
        }
        accepted
    });
}

#[test]
fn nothing_claimed_after_an_activation_is_overwritten_unread() {
    activation("broadcast::activation", 0, false, push);
}

#[test]
fn nothing_claimed_after_an_activation_is_missed_where_sequences_wrap() {
    activation("broadcast::activation_at_wrap", u64::MAX - 1, false, push);
    activation("broadcast::activation_beyond_u32", u64::from(u32::MAX) - 1, true, write_and_commit);
}

#[test]
fn nothing_written_in_place_beside_an_activation_is_missed() {
    activation("broadcast::activation_exclusive", 0, true, write_and_commit);
}

fn activation(name: &str, first: u64, exclusive: bool, push: Push) {
    let bounds = Bounds { preemptions: None, executions_min: 100 };
    let mutants = ["lanes.activate_fence", "lanes.gate_fence", "lanes.catch_up"];
    // Where the new reader starts, and how many events were accepted: from then on one more than it has read, and none
    // more while the publisher still sees where it began to catch up.
    let outcomes = [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let lanes = lanes(1, 1, 2, first, &pool(0));
        let mut old = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), exclusive);
        let publishing = threads.spawn(move || {
            // The old reader reads at once, so that it never holds the publisher up.
            (0..3).filter(|&number| push(&mut claimant, number).is_ok() && read(&mut old).is_some()).count()
        });
        let mut new = Reader::new(Arc::clone(&lanes), 1);
        let activating = threads.spawn(move || {
            new.activate();
            let start = new.sequence(LANE).wrapping_sub(first);
            let met = read_up_to(&mut new, 1);
            (new, start, met)
        });
        let accepted = publishing.end();
        let (mut new, start, met) = activating.end();
        let read = met.len() + drain(&mut new).len();
        assert_eq!(start + read as u64, accepted as u64, "the new reader missed an event");
        (start, accepted)
    });
}

#[test]
fn a_publisher_that_sees_a_want_is_read() {
    const TYPE: u32 = 1;
    let bounds = Bounds { preemptions: Some(3), executions_min: 20 };
    let mutants = ["snapshot.eager"];
    model("broadcast::wants", bounds, &mutants, &[None, Some(7)], |threads| {
        let lanes = lanes(1, 1, 1, FIRST, &pool(0));
        let wants = Arc::new(Wants::new(TYPE as usize).expect("a few words fit"));
        // Stands for the worker's table: its acknowledgement tells the control plane that the worker is active.
        let (tables, mut table) = Snapshot::new(());
        let tables = Arc::new(tables);
        let generation = tables.offer(());
        let mut reader = Reader::new(Arc::clone(&lanes), 0);
        let worker = Arc::clone(&tables);
        let working = threads.spawn(move || {
            reader.activate();
            worker.adopt(&mut table, |_, _| ());
            reader
        });
        let seen = Arc::clone(&wants);
        let subscribing = threads.spawn(move || {
            if tables.acknowledged() == generation {
                wants.set(TYPE, 0, 1 << LANE);
            }
        });
        let mut claimant = Claimant::new(lanes, false);
        let publishing = threads.spawn(move || {
            let wanted = seen.workers(TYPE, LANE) == 1;
            if wanted {
                push(&mut claimant, 7).expect("an active worker reads this lane");
            }
            wanted
        });
        let mut reader = working.end();
        subscribing.end();
        let wanted = publishing.end();
        let read = read(&mut reader);
        assert_eq!(read.is_some(), wanted);
        read
    });
}
