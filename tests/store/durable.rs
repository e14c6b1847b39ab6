//! Durable publishing: each word is kept, nothing is delivered that was not kept before, and what may not have been delivered comes
//! again after a restart.

use std::collections::HashMap;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use ringmain::internals::store::sim::{Failure, Kept, Replay, SimDisk};
use ringmain::store::{
    AppendError, CursorError, Durability, DurableError, DurablePending, EventStore, LogStore, MemoryStore, Position,
    Query,
};
use ringmain::{Bus, Delivery, EventId, Mailbox, Notice, Pattern, Payload, Subscription};

#[cfg(feature = "stall")]
use crate::books::assert_books;
use crate::books::{assert_settled, end};
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::log_store::{open, position};
use crate::moody::{Moody, Reply};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two writes of a cursor.
const OFTEN: Duration = Duration::from_millis(1);

fn one_worker() -> Bus {
    Bus::builder().workers(1).build().unwrap()
}

fn next(inbox: &mut Mailbox<Pattern>) -> Delivery<Pattern> {
    inbox.recv_deadline(PATIENCE).unwrap()
}

fn place(delivery: &Delivery<Pattern>) -> u64 {
    delivery.meta().position().expect("it came out of the store")
}

/// Where events are, and their ids.
type Places = Arc<Mutex<Vec<(u64, EventId)>>>;

/// Where each event of the topic `a` is that comes from now on.
fn places(bus: &Bus) -> (Places, Subscription) {
    let places = Places::default();
    let seen = Arc::clone(&places);
    let handler = bus.subscribe("a").handle(move |_, meta| {
        seen.lock().unwrap().push((meta.position().expect("it came out of the store"), meta.id()));
    });
    (places, handler.unwrap())
}

#[test]
fn what_many_threads_publish_is_delivered_in_the_order_of_the_log() {
    const THREADS: u64 = 6;
    const EACH: u64 = 100;
    let bus = one_worker();
    let store = Arc::new(open(&SimDisk::new()));
    let mut inbox = bus.subscribe("orders.*").mailbox().unwrap();
    let durable = bus.durable(store.clone(), Arc::new(MemoryStore::new())).start().unwrap();
    let acknowledged = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bus, durable, acknowledged) = (&bus, durable.clone(), &acknowledged);
            scope.spawn(move || {
                let mut publisher = bus.publisher().unwrap();
                let mut last = 0;
                for nth in 0..EACH {
                    let text = format!("{thread} {nth}");
                    let word = if nth % 3 == 0 { Durability::Durable } else { Durability::Written };
                    let event =
                        publisher.event().publish_durable(&durable, word, "orders.placed", Payload::plain_text(&text));
                    let at = event.unwrap().get();
                    assert!(at > last, "a thread's events keep their order");
                    last = at;
                    acknowledged.lock().unwrap().insert(at, text);
                }
            });
        }
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len() as u64, THREADS * EACH);
    for at in 1..=THREADS * EACH {
        let delivery = next(&mut inbox);
        assert_eq!((place(&delivery), delivery.payload().text()), (at, acknowledged.get(&at).map(String::as_str)));
        delivery.ack();
    }
    assert!(durable.flush_deadline(PATIENCE));
    let counts = durable.counts();
    assert_eq!((counts.appended, counts.delivered), (THREADS * EACH, THREADS * EACH));
    assert_eq!(counts.settled_to, Some(position(THREADS * EACH)));
    assert!(counts.appends < counts.appended, "those who publish at once share an append: {counts:?}");
    assert_settled(&bus);
    drop(durable);
    end(&bus);
}

/// Polls it once, as the task of this waker.
fn poll(pending: &mut DurablePending, waker: &Waker) -> Poll<Result<RangeInclusive<Position>, DurableError>> {
    Pin::new(pending).poll(&mut Context::from_waker(waker))
}

#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

#[test]
fn one_thread_has_many_events_on_the_way_and_is_refused_one_too_many() {
    const WAITING: usize = 4;
    let bus = one_worker();
    let (arrive, arrived) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    // Each append says what it is of, and goes on when it may, or when nobody is there any more who could say so.
    let store = Moody::new(move |_, frames| {
        arrive.send(frames.len()).unwrap();
        let _ = wait.lock().unwrap().recv();
        Reply::Take
    });
    let durable = bus.durable(Arc::new(store), Arc::new(MemoryStore::new())).queue_max(WAITING).start().unwrap();
    let frame = Writer::new().frame("a", |event| event);
    let pair = [frame.clone(), frame.clone()];
    let submit = || durable.submit(&pair[..1], Durability::Written);
    let mut first = submit().unwrap();
    assert_eq!(arrived.recv(), Ok(1));
    let [early, late] = [Arc::new(Woken::default()), Arc::new(Woken::default())];
    assert!(poll(&mut first, &early.clone().into()).is_pending());
    assert!(poll(&mut first, &late.clone().into()).is_pending());
    let mut rest: Vec<_> = (1..WAITING).map(|_| submit().unwrap()).collect();
    let two = durable.submit(&pair, Durability::Written).unwrap();
    let refused = submit().unwrap_err();
    assert!(matches!(refused, DurableError::Full { waiting: WAITING }), "{refused}");
    assert!(refused.to_string().starts_with("4 publishes wait for the store; "), "{refused}");
    go.send(()).unwrap();
    // They share an append, in their order.
    assert_eq!(arrived.recv(), Ok(WAITING + 1));
    assert_eq!((early.0.load(Ordering::Acquire), late.0.load(Ordering::Acquire)), (0, 1), "the task that asked last");
    assert!(matches!(poll(&mut first, &early.into()), Poll::Ready(Ok(at)) if at == (position(1)..=position(1))));
    // Nobody waits for this one: it is published all the same.
    drop(rest.remove(1));
    go.send(()).unwrap();
    let places: Vec<_> = rest.into_iter().map(|pending| pending.wait().unwrap().start().get()).collect();
    assert_eq!(places, [2, 4]);
    assert_eq!(two.wait().unwrap(), position(5)..=position(6));
    // Room again.
    let last = submit().unwrap();
    drop(go);
    assert_eq!(*last.wait().unwrap().end(), position(7));
    assert_eq!(durable.close().unwrap().appended, 7);
    assert!(matches!(submit(), Err(DurableError::Closed)));
    end(&bus);
}

#[test]
fn who_waits_is_told_when_the_committer_has_gone() {
    let bus = one_worker();
    let store = Moody::new(|_, _| panic!("a panic that the test asks for"));
    let durable = bus.durable(Arc::new(store), Arc::new(MemoryStore::new())).start().unwrap();
    let frame = Writer::new().frame("a", |event| event);
    let outcome = durable.submit(std::slice::from_ref(&frame), Durability::Written).unwrap().wait();
    assert!(matches!(outcome, Err(DurableError::Append(_))), "{outcome:?}");
    let none = bus.durable(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())).queue_max(0).start();
    assert_eq!(none.unwrap_err().to_string(), "queue_max is zero; give it more");
    drop(durable);
    end(&bus);
}

#[test]
fn no_durable_publish_is_acknowledged_from_memory() {
    let bus = one_worker();
    let state = Arc::new(MemoryStore::new());
    let frame = Writer::new().frame("a", |event| event);
    let durable = bus.durable(Arc::new(open(&SimDisk::new())), state.clone()).start().unwrap();
    let refused = durable.publish(&frame, Durability::Accepted).unwrap_err();
    assert!(matches!(refused, DurableError::Durability { asked: Durability::Accepted, .. }));
    assert_eq!(
        refused.to_string(),
        "an event cannot be published durably and only be accepted; ask for written or durable"
    );
    let later = Writer::new().frame("a", |event| event.not_before(Duration::from_secs(1)));
    assert!(matches!(durable.publish(&later, Durability::Written), Err(DurableError::Scheduled)));
    drop(durable);
    let in_memory = bus.durable(Arc::new(MemoryStore::new()), state.clone()).named("other").start().unwrap();
    let refused = in_memory.publish(&frame, Durability::Written).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "an event was to be written, this store keeps it accepted at best; ask for less, or use a store on disk"
    );
    assert!(matches!(
        bus.durable(Arc::new(MemoryStore::new()), state).named("").start(),
        Err(DurableError::Cursor(CursorError::Name { .. }))
    ));
    end(&bus);
    let refused = in_memory.publish(&frame, Durability::Written);
    assert!(refused.is_err());
}

const THIS: &str = "durable::written_survives_a_kill_and_comes_again";

fn child(folder: &Path) -> ! {
    let bus = one_worker();
    let store = Arc::new(LogStore::open(folder).expect("it can be opened"));
    let handled = bus.subscribe("a").handle(|_, meta| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "\nhandled {}", meta.position().expect("it came out of the store")).expect("the parent reads");
    });
    let _handled = handled.expect("a subscription");
    let durable = bus.durable(store.clone(), store).checkpoint_every(OFTEN).start().expect("a new process");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut publisher = bus.publisher().expect("there are places");
                loop {
                    let event = publisher.event();
                    let at = event.publish_durable(&durable, Durability::Written, "a", Payload::plain_text("x"));
                    let at = at.expect("the disk works");
                    let mut stdout = std::io::stdout().lock();
                    writeln!(stdout, "\nwritten {at}").expect("the parent reads");
                }
            });
        }
    });
    unreachable!("its threads run until it is killed")
}

#[test]
fn written_survives_a_kill_and_comes_again() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("durable-kill");
    let (mut acknowledged, mut handled) = (0, 0);
    for kill in 0..8 {
        kill_after(1 + 37 * kill, THIS, &folder.0, |line| {
            let number = |word| line.strip_prefix(word).map(|at| at.parse::<u64>().expect("a position"));
            handled = number("handled ").map_or(handled, |at| at.max(handled));
            let at = number("written ");
            acknowledged = at.map_or(acknowledged, |at| at.max(acknowledged));
            at.is_some()
        });
        let bus = one_worker();
        let store = Arc::new(LogStore::open(&folder.0).expect("it can be opened"));
        let head = store.head().unwrap().map_or(0, Position::get);
        assert!(head >= acknowledged && acknowledged > 0, "kill {kill}: {head}, acknowledged {acknowledged}");
        let (seen, handler) = places(&bus);
        let durable = bus.durable(store.clone(), store).start().unwrap();
        assert!(durable.flush_deadline(PATIENCE));
        drop((durable, handler));
        end(&bus);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        let first = seen.first().map_or(head + 1, |(at, _)| *at);
        assert!(first <= handled + 1, "kill {kill}: {first} is the first, {handled} were handled");
        assert!(seen.iter().map(|(at, _)| *at).eq(first..=head), "kill {kill}");
        handled = head;
    }
}

#[test]
fn durable_survives_the_loss_of_power_before_anybody_is_told() {
    const EVENTS: usize = 4;
    let disk = SimDisk::new();
    let bus = one_worker();
    let store = Arc::new(open(&disk));
    // How much the disk had been told when an event was handled, or acknowledged.
    type Told = Arc<Mutex<Vec<(usize, EventId)>>>;
    let (handled, mut acknowledged) = (Told::default(), Vec::new());
    let (seen, of_disk) = (Arc::clone(&handled), disk.clone());
    let handler = bus.subscribe("a").handle(move |_, meta| seen.lock().unwrap().push((of_disk.effects(), meta.id())));
    let durable = bus.durable(store.clone(), store).checkpoint_every(OFTEN).start().unwrap();
    let mut writer = Writer::new();
    for frame in writer.frames("a", EVENTS) {
        durable.publish(&frame, Durability::Durable).unwrap();
        acknowledged.push((disk.effects(), frame.meta().id()));
    }
    assert!(durable.flush_deadline(PATIENCE));
    drop((durable, handler));
    end(&bus);
    let handled = std::mem::take(&mut *handled.lock().unwrap());
    assert_eq!(handled.len(), EVENTS, "each was delivered once");
    let (mut replay, mut passed) = (Replay::new(&disk), 0);
    loop {
        let at = replay.at();
        let before = |told: &[(usize, EventId)]| -> Vec<_> {
            told.iter().filter(|(effects, _)| *effects <= at).map(|(_, id)| *id).collect()
        };
        let (handled, acknowledged) = (before(&handled), before(&acknowledged));
        for kept in [Kept::Nothing, Kept::Chance(at as u64), Kept::Killed] {
            let image = format!("the power fails at effect {at}, {kept:?}");
            let store = Arc::new(open(&replay.image(kept)));
            let ids: Vec<_> = Query::new().stream(&*store).map(|event| event.unwrap().meta().id()).collect();
            assert!(handled.iter().chain(&acknowledged).all(|id| ids.contains(id)), "{image}");
            // What the cursor has passed was handled; everything else comes with the next start.
            let bus = one_worker();
            let (seen, handler) = places(&bus);
            let durable = bus.durable(store.clone(), store).start().unwrap();
            assert!(durable.flush_deadline(PATIENCE));
            drop((durable, handler));
            end(&bus);
            let comes: Vec<_> = seen.lock().unwrap().iter().map(|(_, id)| *id).collect();
            assert!(ids.ends_with(&comes), "{image}");
            let gone = &ids[..ids.len() - comes.len()];
            assert!(gone.iter().all(|id| handled.contains(id)), "{image}: lost");
            passed = passed.max(gone.len());
        }
        if !replay.step() {
            break;
        }
    }
    assert_eq!(passed, EVENTS, "the cursor was in the images");
}

#[test]
fn what_may_not_have_been_delivered_comes_again_and_what_was_settled_does_not() {
    let disk = SimDisk::new();
    let start = |bus: &Bus| {
        let store = Arc::new(open(&disk));
        bus.durable(store.clone(), store).start().unwrap()
    };
    let frames = Writer::new().frames("a", 10);
    {
        let bus = one_worker();
        let mut inbox = bus.subscribe("a").mailbox().unwrap();
        let durable = start(&bus);
        for frame in &frames[..4] {
            durable.publish(frame, Durability::Durable).unwrap();
        }
        (0..4).for_each(|_| drop(next(&mut inbox)));
        assert!(durable.flush_deadline(PATIENCE));
        for frame in &frames[4..] {
            durable.publish(frame, Durability::Durable).unwrap();
        }
        let in_hand: Vec<_> = (0..6).map(|_| next(&mut inbox)).collect();
        assert_eq!(in_hand.iter().map(place).collect::<Vec<_>>(), (5..=10).collect::<Vec<_>>());
        // The process ends while a consumer has them in hand.
        drop(durable);
        drop(in_hand);
        end(&bus);
    }
    {
        let bus = one_worker();
        let mut inbox = bus.subscribe("a").mailbox().unwrap();
        let durable = start(&bus);
        for (at, frame) in (5..=10).zip(&frames[4..]) {
            let delivery = next(&mut inbox);
            assert_eq!((place(&delivery), delivery.meta().id()), (at, frame.meta().id()));
        }
        assert!(durable.flush_deadline(PATIENCE));
        assert_eq!(durable.counts().delivered, 6);
        drop(durable);
        end(&bus);
    }
    let bus = one_worker();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = start(&bus);
    let last = durable.publish(&frames[0], Durability::Durable).unwrap();
    assert_eq!(place(&next(&mut inbox)), last.get(), "all before it was settled");
    drop(durable);
    end(&bus);
}

#[test]
fn events_that_a_paused_subscription_holds_come_again() {
    let disk = SimDisk::new();
    let state = Arc::new(MemoryStore::new());
    let frame = Writer::new().frame("a", |event| event);
    let bus = one_worker();
    let inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(Arc::new(open(&disk)), state.clone()).start().unwrap();
    bus.pause(inbox.id()).unwrap();
    durable.publish(&frame, Durability::Durable).unwrap();
    drop(durable);
    end(&bus);
    drop(inbox);
    let bus = one_worker();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(Arc::new(open(&disk)), state).start().unwrap();
    assert_eq!(place(&next(&mut inbox)), 1);
    drop(durable);
    end(&bus);
}

#[test]
fn a_journal_beside_it_keeps_no_event_twice() {
    let bus = one_worker();
    let store = Arc::new(open(&SimDisk::new()));
    let journal = bus.journal(store.clone()).start().unwrap();
    let mut inbox = bus.subscribe("**").mailbox().unwrap();
    let durable = bus.durable(store.clone(), Arc::new(MemoryStore::new())).start().unwrap();
    for frame in Writer::new().frames("a", 20) {
        durable.publish(&frame, Durability::Written).unwrap();
        bus.publish("b", Payload::plain_text("x")).unwrap();
    }
    (0..40).for_each(|_| drop(next(&mut inbox)));
    bus.flush_deadline(PATIENCE).unwrap();
    let counts = journal.close().unwrap();
    assert_eq!((counts.written, counts.already_stored), (20, 20));
    assert!(counts.is_balanced());
    assert_eq!(Query::new().stream(&*store).count(), 40);
    assert_eq!(durable.counts().delivered, 20, "what a journal wrote is not delivered again");
    drop(durable);
    end(&bus);
}

#[test]
fn a_handler_may_publish_durably_into_its_own_full_lane() {
    let bus = Bus::builder().workers(1).max_queue_size(16).build().unwrap();
    let durable = bus.durable(Arc::new(open(&SimDisk::new())), Arc::new(MemoryStore::new())).start().unwrap();
    let (told, heard) = mpsc::channel();
    let answers = bus.subscribe("answer").handle(move |_, _| told.send(()).unwrap()).unwrap();
    let frames = Mutex::new(Writer::new().frames("answer", 200));
    let within = durable.clone();
    let asks = bus.subscribe("ask").handle(move |_, _| {
        let frame = frames.lock().unwrap().pop().unwrap();
        within.publish(&frame, Durability::Written).map(drop)
    });
    let asks = asks.unwrap();
    for _ in 0..200 {
        bus.publish("ask", Payload::plain_text("?")).unwrap();
    }
    (0..200).for_each(|_| heard.recv_timeout(PATIENCE).unwrap());
    assert!(durable.flush_deadline(PATIENCE));
    assert_settled(&bus);
    drop((asks, answers, durable));
    end(&bus);
}

#[test]
fn a_disk_that_fails_is_an_error_of_each_publish_and_what_was_acknowledged_is_delivered_after() {
    for nth in 1..=12 {
        let disk = SimDisk::new();
        let state = Arc::new(MemoryStore::new());
        let frames = Writer::new().frames("a", 30);
        let bus = one_worker();
        let durable = bus.durable(Arc::new(open(&disk)), state.clone()).start().unwrap();
        disk.fail_at(nth, Failure::Device);
        let mut acknowledged = Vec::new();
        for frame in &frames {
            match durable.publish(frame, Durability::Durable) {
                Ok(_) => acknowledged.push(frame.meta().id()),
                Err(error) => assert!(
                    matches!(&error, DurableError::Append(error) if matches!(**error, AppendError::Disk(_))),
                    "call {nth}: {error}"
                ),
            }
        }
        drop(durable);
        end(&bus);
        let bus = one_worker();
        let mut inbox = bus.subscribe("a").mailbox().unwrap();
        let store = Arc::new(open(&disk));
        let kept: Vec<_> = Query::new().stream(&*store).map(|event| event.unwrap().meta().id()).collect();
        assert!(kept.starts_with(&acknowledged) && kept.len() <= acknowledged.len() + 1, "call {nth}");
        let fresh = Arc::new(MemoryStore::new());
        let durable = bus.durable(store, fresh).start().unwrap();
        for id in &kept {
            assert_eq!(next(&mut inbox).meta().id(), *id, "call {nth}");
        }
        drop(durable);
        end(&bus);
    }
}

#[test]
fn an_event_that_this_bus_cannot_take_is_said_and_does_not_hold_up_the_others() {
    let disk = SimDisk::new();
    let state = Arc::new(MemoryStore::new());
    let long = Writer::new().frame_of("a", Payload::plain_text(&"x".repeat(2_000)), |event| event);
    let short = Writer::new().frame("a", |event| event);
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let observer = move |notice: &Notice<'_>| {
        if let Notice::Undeliverable { event, position, reason, .. } = notice {
            told.lock().unwrap().send((*event, *position, reason.to_string())).unwrap();
        }
    };
    let bus = Bus::builder().workers(1).payload_bytes_max(1_000).observer(observer).build().unwrap();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(Arc::new(open(&disk)), state).start().unwrap();
    durable.publish(&long, Durability::Written).unwrap();
    durable.publish(&short, Durability::Written).unwrap();
    assert_eq!(place(&next(&mut inbox)), 2);
    let (event, at, reason) = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((event, at), (long.meta().id(), 1));
    assert!(reason.contains("the limit is 1000"), "{reason}");
    assert_eq!(durable.counts().undeliverable, 1);
    drop(durable);
    end(&bus);
}

#[cfg(feature = "stall")]
#[test]
fn what_a_bus_does_not_take_because_a_worker_has_failed_comes_with_the_next_one() {
    use ringmain::internals::worker::fault::{self, Boundary};
    let (disk, state) = (SimDisk::new(), Arc::new(MemoryStore::new()));
    let (told, heard) = mpsc::channel();
    let observer = move |notice: &Notice<'_>| {
        if let Notice::Undeliverable { position, .. } = notice {
            told.send(*position).unwrap();
        }
    };
    let bus = Bus::builder().workers(1).max_queue_size(1).worker_restarts_max(0).observer(observer).build().unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let handler = bus.subscribe("a").handle(move |_, _| {
        gone.recv().unwrap();
        fault::arm(|at| at == Boundary::Passed);
    });
    let handler = handler.unwrap();
    let durable = bus.durable(Arc::new(open(&disk)), state.clone()).start().unwrap();
    for _ in 0..3 {
        durable.publish(&Writer::new().frame("a", |event| event), Durability::Durable).unwrap();
    }
    go.send(()).unwrap();
    while bus.state() == ringmain::BusState::Running {
        thread::yield_now();
    }
    // Waits for its thread, which was waiting for room in the lane.
    drop((durable, handler));
    assert_eq!(heard.try_iter().count(), 0, "it would not come again");
    assert_books(&bus);
    bus.shutdown().unwrap();

    let bus = one_worker();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(Arc::new(open(&disk)), state).start().unwrap();
    let mut places = vec![place(&next(&mut inbox))];
    while places.last() != Some(&3) {
        places.push(place(&next(&mut inbox)));
    }
    assert!(places.ends_with(&[2, 3]), "{places:?}");
    drop(durable);
    end(&bus);
}
