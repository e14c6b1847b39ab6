//! What a pattern costs: memory for each of very many, whose room the next ones take.

use ringmain::Bus;

use crate::alone::alone;
use crate::books::assert_settled;
use crate::live;

const PATTERNS: u64 = 100_000;
/// What a subscription with an inline handler may take, its pattern and its name among it.
const BYTES_MAX: u64 = 2_048;
/// What one of them may leave behind for others: room in tables that do not shrink.
const ROOM_MAX: u64 = 256;

#[test]
fn each_of_a_hundred_thousand_patterns_takes_little_and_as_many_others_take_its_room() {
    alone("patterns::each_of_a_hundred_thousand_patterns_takes_little_and_as_many_others_take_its_room", || {
        let bus = Bus::builder().workers(1).max_queue_size(64).build().unwrap();
        let subscribe = |nth: u64| {
            let pattern = format!("home.room{}.*.sensor{nth}", nth % 97);
            bus.subscribe(pattern.as_str()).on_worker(0).handle(|_, _| {}).unwrap()
        };
        // What is made once.
        let first = subscribe(2 * PATTERNS);
        let size = size_of_val(&first);
        drop(first);
        // Bytes that all of a round take each, and leave behind each.
        let round = |from: u64| {
            let before = live();
            let mut all = Vec::with_capacity(PATTERNS as usize);
            all.extend((from..from + PATTERNS).map(subscribe));
            let taken = live() - before - (all.capacity() * size) as u64;
            drop(all);
            (taken / PATTERNS, live().saturating_sub(before) / PATTERNS)
        };
        let (each, left) = round(0);
        println!("patterns: {each} bytes each, of {PATTERNS}");
        assert!(each <= BYTES_MAX && left <= ROOM_MAX, "{each} bytes a pattern, {left} left");
        let (_, more) = round(PATTERNS);
        assert!(more <= ROOM_MAX / 8, "{more} bytes more are left of each of as many others, after {left}");
        assert_settled(&bus);
    });
}
