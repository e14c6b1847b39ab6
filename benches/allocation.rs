//! How many allocations does an event cost in steady state, by each way of delivery? The promise is none. And what does
//! it cost to build a bus: time, and memory reserved?

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ringmain::{Bus, BusBuilder, Delivery, EventId, IdleStrategy, Mailbox, Payload, Priority, RecvError, Topic};
use support::{Count, LARGE, SMALL, Setup, Words};

/// Bursts before the count begins: caches fill, every slot and block is used once.
const WARM_UP: u64 = 500;
const BURSTS: u64 = 1_000;
/// Events published before their consumer is waited for: fewer than mailboxes and pools hold.
const BURST: u64 = 100;
const RAW: &str = "bench.raw";

/// The system's allocator, counted over all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    // Relaxed: a count; it is read when the threads that add to it are quiet.
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing and cannot unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above, for `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above, for `realloc`; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above, for `dealloc`; `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    support::announce(&[Setup::ONE_TO_ONE]);
    construction("default", Bus::builder);
    construction("default, prefaulted", || Bus::builder().prefault(true));
    construction("default, prefaulted in huge pages", || Bus::builder().prefault(true).huge_pages(true));
    inline("typed, 64 B in the slot", Setup::ONE_TO_ONE.idle(), SMALL);
    inline("typed, 1 KiB in a block", Setup::ONE_TO_ONE.idle(), LARGE);
    inline("typed, the worker parks", IdleStrategy::Park, SMALL);
    dynamic_with_envelope();
    borrowed_publisher();
    mailbox("mailbox", |mailbox| mailbox.recv());
    // One waker for all, as a runtime keeps one a task; made on the thread that it wakes.
    let own = OnceLock::new();
    mailbox("mailbox, awaited", move |mailbox| block_on(own.get_or_init(waker), mailbox.recv_async()));
    handler_thread();
    handler_future();
    batch();
}

/// Prints how long `build` takes, threads included, and what the bus reserves. The first build of a process also
/// calibrates its clock.
fn construction(name: &str, builder: impl Fn() -> BusBuilder) {
    let mut times = Vec::new();
    let mut memory = String::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let bus = builder().build().expect("the settings are valid");
        times.push(begun.elapsed());
        memory = bus.memory().to_string();
        support::finish(&bus);
    }
    let first = times[0];
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("allocation/construction, {name}: first {first:?}, median {median:?}, longest {longest:?}; {memory}");
}

fn bus(idle: IdleStrategy) -> Bus {
    Setup::ONE_TO_ONE.builder().idle(idle).build().expect("the settings are valid")
}

/// Allocations of all threads while bursts go through in steady state, a burst. `burst` is given how many events came
/// before it; it publishes its own and waits until they are delivered.
fn allocations_a_burst(burst: impl FnMut(u64) + Send) -> f64 {
    let mut burst = burst;
    let counted = support::on_publisher_thread(Setup::ONE_TO_ONE, move || {
        (0..WARM_UP).for_each(|nth| burst(nth * BURST));
        // Relaxed, twice: the counts of delivered events have shown that everybody is quiet.
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (WARM_UP..WARM_UP + BURSTS).for_each(|nth| burst(nth * BURST));
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    counted as f64 / BURSTS as f64
}

/// Prints the figure of one way of delivery.
///
/// # Panics
/// When it is not 0.
fn promise_none(name: &str, burst: impl FnMut(u64) + Send) {
    let figure = allocations_a_burst(burst) / BURST as f64;
    println!("allocation/{name}: {figure} allocations an event");
    assert!(figure == 0.0, "{name} allocates {figure} times an event; the promise is 0");
}

fn inline<const N: usize>(name: &str, idle: IdleStrategy, topic: Topic<Words<N>>) {
    let bus = bus(idle);
    let count = support::read_inline(&bus, topic, 0);
    let mut publisher = bus.publisher().expect("there is a place");
    promise_none(&format!("inline handler, {name}"), |sent| {
        for word in sent..sent + BURST {
            publisher.publish(topic, &Words::new(word)).expect("the lane drains");
        }
        count.wait(sent + BURST);
    });
    drop(publisher);
    support::finish(&bus);
}

fn dynamic_with_envelope() {
    let bus = bus(Setup::ONE_TO_ONE.idle());
    let count = Count::default();
    let counted = count.clone();
    let handled = bus.subscribe("bench.*").handle(move |payload, meta| {
        black_box((payload.bytes(), meta.topic()));
        counted.add_one();
    });
    handled.expect("the pattern is valid").forever();
    let mut publisher = bus.publisher().expect("there is a place");
    let correlation = EventId::random();
    promise_none("inline handler, raw bytes with correlation and metadata", |sent| {
        for _ in 0..BURST {
            let event = publisher.at(Priority::High).correlation(correlation).metadata("user", "ada");
            event.publish(RAW, Payload::raw(&[7; 64])).expect("the lane drains");
        }
        count.wait(sent + BURST);
    });
    drop(publisher);
    support::finish(&bus);
}

fn borrowed_publisher() {
    let bus = bus(Setup::ONE_TO_ONE.idle());
    let count = support::read_inline(&bus, SMALL, 0);
    promise_none("inline handler, published by the bus", |sent| {
        for word in sent..sent + BURST {
            bus.publish(SMALL, &Words::new(word)).expect("the lane drains");
        }
        count.wait(sent + BURST);
    });
    support::finish(&bus);
}

type Received = Result<Delivery<Topic<Words<8>>>, RecvError>;

fn mailbox(name: &str, mut receive: impl FnMut(&mut Mailbox<Topic<Words<8>>>) -> Received + Send) {
    let bus = bus(Setup::ONE_TO_ONE.idle());
    let mut mailbox = bus.subscribe(SMALL).mailbox().expect("the bus runs");
    let mut publisher = bus.publisher().expect("there is a place");
    promise_none(name, |sent| {
        if sent == 0 {
            // What wakes a thread is made when it waits for the first time, which may be long after the warm-up.
            assert!(mailbox.recv_deadline(Duration::from_millis(1)).is_err(), "nothing was published");
        }
        for word in sent..sent + BURST {
            publisher.publish(SMALL, &Words::new(word)).expect("the lane drains");
        }
        for word in sent..sent + BURST {
            let delivery = receive(&mut mailbox).expect("the bus runs");
            let event = delivery.event().expect("it was encoded here");
            assert_eq!(event.words[0].to_native(), word, "events come in order, each once");
        }
    });
    drop(publisher);
    support::finish(&bus);
}

fn handler_thread() {
    let bus = bus(Setup::ONE_TO_ONE.idle());
    let count = Count::default();
    let counted = count.clone();
    let handled = bus.subscribe(SMALL).handle_on("handler", move |event, _| {
        black_box(event.sum());
        counted.add_one();
    });
    handled.expect("the bus runs").forever();
    let mut publisher = bus.publisher().expect("there is a place");
    promise_none("handler on its own thread", |sent| {
        for word in sent..sent + BURST {
            publisher.publish(SMALL, &Words::new(word)).expect("the lane drains");
        }
        count.wait(sent + BURST);
    });
    drop(publisher);
    support::finish(&bus);
}

/// An async handler is lent its delivery where it lies in the future.
fn handler_future() {
    let bus = bus(Setup::ONE_TO_ONE.idle());
    let count = Count::default();
    let counted = count.clone();
    let handling = bus.subscribe(SMALL).run(async move |delivery| {
        black_box(delivery.event().map_or(0, |event| event.sum()));
        counted.add_one();
    });
    let handling = handling.expect("the bus runs");
    let task = thread::spawn(move || block_on(&waker(), handling));
    let mut publisher = bus.publisher().expect("there is a place");
    let figure = allocations_a_burst(|sent| {
        for word in sent..sent + BURST {
            publisher.publish(SMALL, &Words::new(word)).expect("the lane drains");
        }
        count.wait(sent + BURST);
    });
    println!("allocation/async handler: {} allocations an event", figure / BURST as f64);
    drop(publisher);
    support::finish(&bus);
    task.join().expect("it ends with its bus");
}

/// Unparks the thread that made it.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Polls to the end. The smallest runtime there is: it allocates nothing itself.
fn block_on<F: Future>(waker: &Waker, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A batch collects before it publishes: the figure is told, nothing is promised.
fn batch() {
    let bus = bus(Setup::ONE_TO_ONE.idle());
    let count = support::read_inline(&bus, SMALL, 0);
    let mut publisher = bus.publisher().expect("there is a place");
    let figure = allocations_a_burst(|sent| {
        let mut batch = publisher.batch(Priority::Normal);
        for word in sent..sent + BURST {
            batch.add(SMALL, &Words::new(word)).expect("the batch is short enough");
        }
        assert_eq!(batch.publish().expect("the lane drains").len() as u64, BURST);
        count.wait(sent + BURST);
    });
    println!("allocation/batch of {BURST}: {figure} allocations a batch");
    drop(publisher);
    support::finish(&bus);
}
