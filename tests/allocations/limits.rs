//! Settings that ask for more memory than there is are an error that says so; the process goes on.

use ringmain::{BuildFault, Bus, BusBuilder, Payload, SubscribeError};

use crate::alone;
use crate::books::assert_settled;

/// Lets this process have `bytes` of address space more than it has now. The allocator has up to 64 MiB in store.
fn allow(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let limit = libc::rlimit { rlim_cur: pages * 4_096 + bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is read during the call only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

/// The part that takes most, of what the builder asks for in vain.
fn refused(builder: BusBuilder) -> (&'static str, u64) {
    let error = builder.build().unwrap_err();
    let [BuildFault::Memory { bytes, part, part_bytes, settings }] = error.faults() else { panic!("{error}") };
    let told = error.to_string();
    println!("{told}");
    assert!(told.contains(&bytes.to_string()) && told.contains(settings) && part_bytes <= bytes, "{told}");
    (part, *bytes)
}

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(64).payload_bytes_max(64).blocks([]).types_max(64).scheduled_max(8)
}

fn works(bus: &Bus) {
    let mut mailbox = bus.subscribe("a").capacity(16).mailbox().unwrap();
    bus.publish("a", Payload::raw(b"tea")).unwrap();
    assert_eq!(mailbox.recv().unwrap().payload().bytes(), b"tea");
    assert_settled(bus);
}

#[test]
fn what_no_machine_has_is_refused() {
    // 15 classes of 2^55 bytes each.
    let blocks = small().blocks([(1 << 31, 1 << 24); 15]);
    let (part, bytes) = refused(blocks);
    assert_eq!(part, "blocks");
    assert!(bytes > 15 << 55);
}

#[test]
fn every_setting_at_its_limit_is_refused_where_memory_is_short() {
    alone("limits::every_setting_at_its_limit_is_refused_where_memory_is_short", || {
        // What a process makes once.
        works(&small().build().unwrap());
        allow(48 << 20);
        assert_eq!(refused(small().max_queue_size(1 << 26)).0, "lanes");
        assert_eq!(refused(small().max_queue_size(1 << 26).slot_bytes(1 << 16)).0, "lanes");
        assert_eq!(refused(small().max_queue_size(1 << 26).huge_pages(true)).0, "lanes");
        assert_eq!(refused(small().max_queue_size(1 << 26).prefault(true)).0, "lanes");
        assert_eq!(refused(small().slot_bytes(1 << 16).max_queue_size(500)).0, "lanes");
        assert_eq!(refused(small().blocks([(64, 1 << 24)])).0, "blocks");
        assert_eq!(refused(small().blocks([(1 << 31, 1)])).0, "blocks");
        assert_eq!(refused(small().scheduled_max(1 << 20)).0, "scheduled events");
        assert_eq!(refused(small().workers(16).max_queue_size(70_000).types_max(1 << 20)).0, "lanes");
        let (part, bytes) =
            refused(small().workers(16).types_max(1 << 20).sources_max(1 << 20).blocks([(128 << 20, 1)]));
        assert!(part == "blocks" && bytes > 128 << 20, "{part} {bytes}");
        works(&small().build().unwrap());
    });
}

#[test]
fn a_mailbox_that_does_not_fit_is_refused_and_the_bus_goes_on() {
    alone("limits::a_mailbox_that_does_not_fit_is_refused_and_the_bus_goes_on", || {
        let bus = small().build().unwrap();
        works(&bus);
        allow(16 << 20);
        let before = bus.memory();
        for capacity in [1 << 24, (1 << 20) + 1] {
            let error = bus.subscribe("a").capacity(capacity).mailbox().unwrap_err();
            let SubscribeError::Memory { capacity: rounded, bytes } = error else { panic!("{error}") };
            assert_eq!(rounded, capacity.next_power_of_two());
            assert!((rounded as u64 * 256..rounded as u64 * 300).contains(&bytes), "{error}");
            println!("{error}");
            let error = bus.subscribe("a").capacity(capacity).handle_on("a", |_, _| ()).unwrap_err();
            assert!(matches!(error, SubscribeError::Memory { .. }), "{error}");
        }
        assert_eq!(bus.memory(), before);
        works(&bus);
        bus.shutdown().unwrap();
    });
}
