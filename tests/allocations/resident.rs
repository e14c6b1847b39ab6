//! What is resident is what was reserved and touched: read from the kernel's own accounts of the process.

use std::fs::read_to_string;
use std::time::Duration;

use ringmain::{Bus, HugePages, Payload, Priority};

use crate::books::assert_settled;
use crate::{alone, assert_within_a_tenth};

const PATIENCE: Duration = Duration::from_secs(60);

/// The sum of a figure over the mappings in `accounts`, in bytes.
fn sum(accounts: &str, figure: &str) -> u64 {
    let lines = accounts.lines().filter_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    lines.map(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10).sum()
}

/// Resident bytes of this process. Walked page by page: the quick figure lags behind by some pages a processor.
fn resident() -> u64 {
    sum(&read_to_string("/proc/self/smaps_rollup").unwrap(), "Rss")
}

/// Bytes of this process that lie in huge pages.
fn huge() -> u64 {
    sum(&read_to_string("/proc/self/smaps_rollup").unwrap(), "AnonHugePages")
}

/// What a process makes once: the clock, buffers, the first thread's memory.
fn warm_up() {
    let bus = Bus::builder().workers(1).max_queue_size(64).blocks([]).payload_bytes_max(64).build().unwrap();
    let _made = bus.subscribe("warm").handle(|_, _| ()).unwrap();
    bus.publish("warm", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    assert!(bus.memory().reserved_bytes() > 0 && resident() > 0);
    bus.shutdown_deadline(PATIENCE).unwrap();
    assert_settled(&bus);
}

/// Writes each slot of each lane once, and each block.
fn touch_everything(bus: &Bus) {
    let inline = bus.subscribe("slots").handle(|_, _| ()).unwrap();
    let mut publisher = bus.publisher().unwrap();
    // A power of two above the limit of 10,000 and the publishers' headroom.
    for priority in Priority::ALL {
        for _ in 0..16_384 {
            publisher.at(priority).publish_deadline("slots", Payload::raw(&[7; 150]), PATIENCE).unwrap();
        }
    }
    bus.flush_deadline(PATIENCE).unwrap();
    drop(inline);
    // Kept in a mailbox, so that no block is used twice.
    let mailbox = bus.subscribe("blocks").capacity(2_048).mailbox().unwrap();
    for (bytes, blocks) in [(4_000, 1_024), (64_000, 64), (1 << 20, 8)] {
        for _ in 0..blocks {
            let mut loan = publisher.loan(bytes).unwrap();
            loan.bytes_mut()[..bytes].fill(7);
            loan.publish(Priority::Normal, "blocks").unwrap();
        }
    }
    bus.flush_deadline(Duration::ZERO).unwrap_err();
    assert_eq!(bus.metrics().free_blocks, 0);
    println!("touched: {}", bus.memory());
    drop(mailbox);
}

#[test]
fn a_default_bus_that_was_touched_all_over_is_as_large_as_it_says() {
    alone("resident::a_default_bus_that_was_touched_all_over_is_as_large_as_it_says", || {
        warm_up();
        let before = resident();
        let bus = Bus::builder().build().unwrap();
        let built = resident() - before;
        touch_everything(&bus);
        let (found, reported) = (resident() - before, bus.memory().reserved_bytes() as u64);
        println!("resident when built: {} KiB", built >> 10);
        assert!(built < reported / 10, "{built} bytes are resident before the first event");
        assert_within_a_tenth("a default bus", reported, found);
        assert!(found < 40_000_000, "{found}");
        bus.shutdown_deadline(PATIENCE).unwrap();
        assert_settled(&bus);
    });
}

#[test]
fn prefault_makes_lanes_and_blocks_resident_before_build_returns() {
    alone("resident::prefault_makes_lanes_and_blocks_resident_before_build_returns", || {
        warm_up();
        let before = resident();
        let bus = Bus::builder().prefault(true).build().unwrap();
        let memory = bus.memory();
        let found = resident() - before;
        let wanted = (memory.lanes_bytes + memory.blocks_bytes + memory.histograms_bytes) as u64;
        println!("prefault: {} KiB of {} KiB are resident", found >> 10, wanted >> 10);
        assert!(found * 10 >= wanted * 9, "{found} of {wanted} are resident");
        assert!(found * 10 <= memory.reserved_bytes() as u64 * 11, "{found}, more than {memory}");
        assert_eq!(memory.huge_pages, HugePages::NotAsked);
        let before = resident();
        let mailbox = bus.subscribe("a").capacity(16_384).mailbox().unwrap();
        assert!(resident() - before >= 16_384 * 256, "a mailbox of a prefaulted bus is touched too");
        let touched = resident();
        drop(mailbox);
        // Heap that is touched for the first time meanwhile stays.
        assert!(touched - resident() >= 16_384 * 256 * 99 / 100, "its pages went back");
        bus.shutdown_deadline(PATIENCE).unwrap();
        assert_settled(&bus);
        drop(bus);
        assert!(touched - resident() > wanted * 9 / 10, "all pages went back");
    });
}

/// Whether the kernel has huge pages for who asks, and in what words it says so.
fn switch() -> (bool, String) {
    let switch = read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    (!switch.is_empty() && !switch.contains("[never]"), switch.trim().to_owned())
}

#[test]
fn huge_pages_are_used_where_the_kernel_has_them_and_said_to_be_refused_where_not() {
    alone("resident::huge_pages_are_used_where_the_kernel_has_them_and_said_to_be_refused_where_not", || {
        warm_up();
        let (has_any, switch) = switch();
        let before = huge();
        let bus = Bus::builder().huge_pages(true).prefault(true).build().unwrap();
        let memory = bus.memory();
        if has_any {
            assert_eq!(memory.huge_pages, HugePages::Granted);
            println!("huge pages: {} KiB for {memory}", (huge() - before) >> 10);
            assert!(huge() > before, "granted, and none is used");
        } else {
            println!("SKIP: this kernel gives no huge pages: {switch:?}");
            assert_eq!(memory.huge_pages, HugePages::Refused);
        }
        // It is the same bus: events go round.
        let mut mailbox = bus.subscribe("a").mailbox().unwrap();
        for nth in 0..20_000_u64 {
            bus.publish("a", Payload::raw(&nth.to_le_bytes())).unwrap();
            let delivery = mailbox.recv_deadline(PATIENCE).unwrap();
            assert_eq!(delivery.payload().bytes(), nth.to_le_bytes());
        }
        bus.shutdown_deadline(PATIENCE).unwrap();
        assert_settled(&bus);
        let small = Bus::builder().huge_pages(true).max_queue_size(64).build().unwrap();
        assert_eq!(small.memory().huge_pages, HugePages::Refused, "its lanes are shorter than a huge page");
        small.shutdown_deadline(PATIENCE).unwrap();
        assert_settled(&small);
    });
}
