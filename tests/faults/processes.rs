//! A process that forks, and one whose threads are interrupted by signals.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringmain::{Bus, FlushError, FullPolicy, Payload, PublishError, Subscription};

use crate::alone::alone;
use crate::support::{assert_books, assert_settled};

/// Longer than a child takes for anything here.
const CHILD_SECONDS_MAX: u32 = 60;
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);
const EVENTS: u64 = 100;

/// Whether `child` went well in a child of this process, which has this thread and no other.
fn forked(child: impl FnOnce()) -> bool {
    // SAFETY: the child goes on with a copy of everything but the other threads. What it calls holds no lock of theirs: they sleep.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "no child");
    if process == 0 {
        // SAFETY: it only ends a child that hangs.
        unsafe { libc::alarm(CHILD_SECONDS_MAX) };
        let went_well = catch_unwind(AssertUnwindSafe(child)).is_ok();
        // SAFETY: nothing of the parent's is to end here.
        unsafe { libc::_exit(i32::from(!went_well)) };
    }
    let mut status = 0;
    // SAFETY: it is our child, and the status is ours to write.
    let ended = unsafe { libc::waitpid(process, &raw mut status, 0) };
    assert_eq!(ended, process);
    status == 0
}

fn publish(bus: &Bus, events: u64) {
    for nth in 0..events {
        bus.publish("a", Payload::raw(&nth.to_le_bytes())).unwrap();
    }
}

/// A bus with a handler on each of two workers, at rest after some events.
fn at_rest(limit: usize) -> (Bus, [Subscription; 2]) {
    let builder = Bus::builder().workers(2).pin(false).max_queue_size(limit).when_full(FullPolicy::REJECT);
    let bus = builder.build().unwrap();
    let made = [0, 1].map(|worker| bus.subscribe("a").on_worker(worker).handle(|_, _| ()).unwrap());
    publish(&bus, EVENTS);
    bus.flush_deadline(PATIENCE).unwrap();
    (bus, made)
}

#[test]
fn after_a_fork_the_parent_goes_on_and_the_child_is_told_that_nobody_works() {
    alone("processes::after_a_fork_the_parent_goes_on_and_the_child_is_told_that_nobody_works", || {
        let (bus, made) = at_rest(256);
        let went_well = forked(|| {
            let mut accepted = EVENTS;
            let full = loop {
                match bus.publish("a", Payload::raw(b"child")) {
                    Ok(_) => accepted += 1,
                    Err(full) => break full,
                }
            };
            assert!(matches!(full, PublishError::Full { gated_by: Some(_), .. }), "{full}");
            assert_eq!((accepted, bus.ledger().accepted), (EVENTS + 256, EVENTS + 256));
            let waited = bus.flush_deadline(SHORT);
            assert!(matches!(waited, Err(FlushError::TimedOut { in_lanes: 256, .. })), "{waited:?}");
            let report = bus.shutdown_deadline(SHORT).unwrap();
            assert_eq!((report.workers_left, report.left_in_lanes), (false, 256), "{report:?}");
            assert_books(&bus);
        });
        assert!(went_well, "the child says above what is wrong");
        publish(&bus, EVENTS);
        assert_settled(&bus);
        for one in &made {
            assert_eq!(one.record().delivery_count, 2 * EVENTS);
        }
        assert!(bus.shutdown().unwrap().is_clean());
    });
}

#[test]
fn a_child_drops_the_bus_of_its_parent_and_builds_its_own() {
    alone("processes::a_child_drops_the_bus_of_its_parent_and_builds_its_own", || {
        let mut parents = Some(at_rest(256));
        let went_well = forked(|| {
            let (bus, made) = parents.take().unwrap();
            drop(made);
            drop(bus);
            let (bus, made) = at_rest(256);
            assert_settled(&bus);
            assert_eq!(made.map(|one| one.record().delivery_count), [EVENTS; 2]);
            assert!(bus.shutdown().unwrap().is_clean());
        });
        assert!(went_well, "the child says above what is wrong");
        let (bus, _made) = parents.unwrap();
        publish(&bus, EVENTS);
        assert_settled(&bus);
    });
}

/// What the handler of the signal sets, which is all that it may do.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    // Relaxed: a count.
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Handles SIGUSR1, and lets it interrupt what waits.
fn listen_to_signals() {
    // SAFETY: all zeros are such a struct, without flags: a call that is interrupted returns.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler does what handlers may: it counts.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Interrupts each thread of this process but the one that asks.
fn interrupt_all() {
    let process = std::process::id() as libc::pid_t;
    // SAFETY: it only asks who this is.
    let this = unsafe { libc::gettid() };
    for entry in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread: libc::pid_t = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        if thread != this {
            // SAFETY: one that has ended meanwhile is not found, and the signal is handled.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        }
    }
}

#[test]
fn signals_that_interrupt_workers_publishers_and_consumers_change_nothing() {
    const SENT: u64 = 20_000;
    alone("processes::signals_that_interrupt_workers_publishers_and_consumers_change_nothing", || {
        listen_to_signals();
        let builder = Bus::builder().workers(2).pin(false).max_queue_size(16).when_full(FullPolicy::wait(PATIENCE));
        let bus = builder.build().unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        let handler = bus.subscribe("a").on_worker(0).handle(move |_, _| {
            // Relaxed: read after the flush.
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let _handler = handler.unwrap();
        let mut inbox = bus.subscribe("a").on_worker(1).capacity(4).mailbox().unwrap();
        let mut silent = bus.subscribe("never").mailbox().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Relaxed: it only ends the thread.
                while !over.load(Ordering::Relaxed) {
                    interrupt_all();
                }
            });
            let pulling = scope.spawn(|| (0..SENT).filter(|_| inbox.recv().is_ok()).count() as u64);
            let waiting = scope.spawn(|| {
                let begun = Instant::now();
                assert!(silent.recv_deadline(4 * SHORT).is_err());
                begun.elapsed()
            });
            let mut publisher = bus.publisher().unwrap();
            for nth in 0..SENT {
                publisher.publish("a", Payload::raw(&nth.to_le_bytes())).unwrap();
            }
            assert_eq!(pulling.join().unwrap(), SENT);
            assert!(waiting.join().unwrap() >= 4 * SHORT, "no wait ends early");
            bus.flush_deadline(PATIENCE).unwrap();
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(seen.load(Ordering::Relaxed), SENT);
        assert!(SIGNALS.load(Ordering::Relaxed) > 100, "hardly anybody was interrupted");
        assert_settled(&bus);
        drop((inbox, silent));
        assert!(bus.shutdown().unwrap().is_clean());
    });
}
