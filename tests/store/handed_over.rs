//! What leaves a store to be published is published first: wherever the process is killed, each letter and each scheduled event is there
//! still, or was published.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use ringmain::store::{
    DeadLetterQueue, Durability, DurablePublisher, LogStore, MemoryStore, Position, Query, Schedule, ScheduleError,
    ScheduledEvent, StateChange, StateError, StateKind, StateStore,
};
use ringmain::{Bus, DeliveryMode, EventId, Outcome, Overflow, Payload, RetryPolicy};

use crate::books::assert_settled;
use crate::conformance::Writer;
use crate::delegated::delegated;
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::moody::Refusing;

const LETTERS: &str = "handed_over::a_letter_is_in_the_queue_or_was_published_wherever_the_process_is_killed";
const SCHEDULE: &str = "handed_over::a_scheduled_event_waits_or_was_published_wherever_the_process_is_killed";
const EVENTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the process may be killed at an event.
const STEPS: [&str; 3] = ["taken", "published", "gone"];

fn store(folder: &Path) -> Arc<LogStore> {
    Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().expect("it can be opened"))
}

fn wait_for_death() -> ! {
    loop {
        thread::park();
    }
}

/// The step of the plan, and the number of the event, at which the process is to be killed.
struct Plan(String);

impl Plan {
    fn read(folder: &Path) -> Self {
        Self(fs::read_to_string(folder.join("plan")).unwrap())
    }

    /// Says where it is; waits for death where that is planned.
    fn at(&self, step: &str, nth: usize) {
        let place = format!("{step} {nth}");
        println!("\n{place}");
        if self.0 == place {
            wait_for_death();
        }
    }
}

/// Kills a process at each step of the second event, which has one before it and one behind; `check` looks at the folder afterwards.
fn kill_everywhere(this: &str, begin: impl Fn(&Path), check: impl Fn(&Path, &str)) {
    let base = Folder::new(&this.replace("::", "-"));
    for step in STEPS {
        let plan = format!("{step} 2");
        let folder = base.0.join(&plan);
        begin(&folder);
        fs::write(folder.join("plan"), &plan).unwrap();
        let mut kills = 0;
        kill_after(1, this, &folder, |line| {
            kills += u32::from(line == plan);
            line == plan
        });
        assert_eq!(kills, 1, "it came to {plan}");
        check(&folder, &plan);
    }
}

/// Ids of all events that were published, in order.
fn published(store: &LogStore) -> Vec<EventId> {
    Query::new().stream(store).map(|event| event.unwrap().meta().id()).collect()
}

fn durable(bus: &Bus, store: &Arc<LogStore>) -> DurablePublisher {
    bus.durable(store.clone(), store.clone()).start().unwrap()
}

fn end(bus: &Bus, durable: DurablePublisher) {
    assert!(durable.flush_deadline(PATIENCE));
    drop(durable);
    assert_settled(bus);
    bus.shutdown().unwrap();
}

fn redrive_all(store: &Arc<LogStore>, at: impl Fn(&str, usize)) {
    let queue = DeadLetterQueue::open("letters", store.clone()).unwrap();
    let bus = Bus::builder().workers(1).build().unwrap();
    let durable = durable(&bus, store);
    for (letter, nth) in queue.list(None, EVENTS).unwrap().iter().zip(1..) {
        let redriven = queue.redrive(letter.id(), |letter| {
            at("taken", nth);
            let published = durable.publish(letter.frame(), Durability::Written);
            at("published", nth);
            published
        });
        redriven.unwrap();
        at("gone", nth);
    }
    end(&bus, durable);
}

#[test]
fn a_letter_is_in_the_queue_or_was_published_wherever_the_process_is_killed() {
    if let Some(folder) = child_folder() {
        let (folder, plan) = (Path::new(&folder), Plan::read(Path::new(&folder)));
        redrive_all(&store(folder), |step, nth| plan.at(step, nth));
        return;
    }
    let begin = |folder: &Path| {
        let queue = DeadLetterQueue::open("letters", store(folder)).unwrap();
        let bus = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(queue.clone()).build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
        let bank = wish.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap();
        for _ in 0..EVENTS {
            bus.publish("a", Payload::json("1")).unwrap();
        }
        assert_settled(&bus);
        bus.shutdown().unwrap();
        drop(bank);
        assert_eq!(queue.counts().held, EVENTS);
    };
    kill_everywhere(LETTERS, begin, |folder, plan| {
        let store = store(folder);
        let held: Vec<_> = {
            let queue = DeadLetterQueue::open("letters", store.clone()).unwrap();
            queue.list(None, EVENTS).unwrap().iter().map(|letter| (letter.id(), letter.frame().meta().id())).collect()
        };
        let ids: BTreeSet<_> = held.iter().map(|(id, _)| *id).collect();
        let first = if plan.starts_with("gone") { 3 } else { 2 };
        assert!(ids.into_iter().eq(first..=EVENTS as u64), "{plan}: {held:?}");
        let at_death = published(&store);
        let all: BTreeSet<_> = held.iter().map(|(_, event)| *event).chain(at_death.iter().copied()).collect();
        assert_eq!(all.len(), EVENTS, "{plan}: none is lost");
        redrive_all(&store, |_, _| ());
        let published = published(&store);
        let once: BTreeSet<_> = published.iter().copied().collect();
        assert_eq!(once, all, "{plan}: the next process publishes the others");
        assert_eq!(published.len() - EVENTS, usize::from(plan.starts_with("published")), "{plan}: at most one twice");
        let queue = DeadLetterQueue::open("letters", store).unwrap();
        assert_eq!(queue.counts().held, 0);
    });
}

fn publish_all(store: &Arc<LogStore>, at: impl Fn(&str, usize)) -> Result<(), ScheduleError> {
    let schedule = Schedule::open("", store.clone())?;
    let bus = Bus::builder().workers(1).build().unwrap();
    let durable = durable(&bus, store);
    let mut nth = 0;
    let publish = |due: &ScheduledEvent| {
        // Whoever is at the next has left the one before.
        if nth > 0 {
            at("gone", nth);
        }
        nth += 1;
        at("taken", nth);
        let published = durable.publish(&due.frame, Durability::Written);
        at("published", nth);
        published
    };
    schedule.publish_due(SystemTime::now(), publish)?;
    at("gone", nth);
    end(&bus, durable);
    Ok(())
}

#[test]
fn a_scheduled_event_waits_or_was_published_wherever_the_process_is_killed() {
    if let Some(folder) = child_folder() {
        let (folder, plan) = (Path::new(&folder), Plan::read(Path::new(&folder)));
        publish_all(&store(folder), |step, nth| plan.at(step, nth)).unwrap();
        return;
    }
    let begin = |folder: &Path| {
        let schedule = Schedule::open("", store(folder)).unwrap();
        for event in Writer::new().frames("a", EVENTS) {
            schedule.add(SystemTime::UNIX_EPOCH, &event).unwrap();
        }
    };
    kill_everywhere(SCHEDULE, begin, |folder, plan| {
        let store = store(folder);
        let waiting: Vec<_> = {
            let schedule = Schedule::open("", store.clone()).unwrap();
            schedule.list(EVENTS).unwrap().iter().map(|event| event.frame.meta().id()).collect()
        };
        let all: BTreeSet<_> = waiting.into_iter().chain(published(&store)).collect();
        assert_eq!(all.len(), EVENTS, "{plan}: none is lost");
        publish_all(&store, |_, _| ()).unwrap();
        let published = published(&store);
        assert_eq!(
            published.iter().copied().collect::<BTreeSet<_>>(),
            all,
            "{plan}: the next process publishes the others"
        );
        assert_eq!(published.len() - EVENTS, usize::from(plan.starts_with("published")), "{plan}: at most one twice");
        assert!(Schedule::open("", store).unwrap().is_empty());
    });
}

/// A store of state that takes a dead letter only when it is let go.
struct Gated {
    store: MemoryStore,
    let_go: Mutex<mpsc::Receiver<()>>,
}

impl StateStore for Gated {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        if changes.iter().any(|change| change.kind() == StateKind::DEAD_LETTER) {
            self.let_go.lock().unwrap().recv().unwrap();
        }
        self.store.apply(changes, durability)
    }

    delegated!(store: get, list, state_durability, lease);
}

#[test]
fn an_event_that_was_published_durably_is_not_settled_before_its_dead_letter_is_kept() {
    let folder = Folder::new("handed-over-durable");
    let (letting, let_go) = mpsc::channel();
    let gated = Arc::new(Gated { store: MemoryStore::new(), let_go: Mutex::new(let_go) });
    let queue = DeadLetterQueue::open("letters", gated).unwrap();
    let bus = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(queue.clone()).build().unwrap();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
    let bank = wish.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap();
    let durable = durable(&bus, &store(&folder.0));
    let event = &Writer::new().frames("a", 1)[0];
    let position = durable.publish(event, Durability::Written).unwrap();
    // Killed now, the process would have neither the letter nor the event.
    assert!(!durable.flush_deadline(Duration::from_millis(300)));
    assert_eq!((queue.counts().held, durable.counts().settled_to), (0, None));
    letting.send(()).unwrap();
    assert!(durable.flush_deadline(PATIENCE));
    assert_eq!((queue.counts().held, durable.counts().settled_to), (1, Some(position)));
    assert_eq!(bank.ledger().dead_lettered, 1);
    end(&bus, durable);
}

#[test]
fn an_event_whose_letter_no_sink_heard_of_is_not_settled_and_comes_again() {
    let folder = Folder::new("handed-over-unheard");
    let (letting, let_go) = mpsc::channel();
    let gated = Arc::new(Gated { store: MemoryStore::new(), let_go: Mutex::new(let_go) });
    let queue = DeadLetterQueue::open("letters", gated).unwrap();
    let subscribe = |bus: &Bus, capacity| {
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).capacity(capacity);
        wish.overflow(Overflow::DropNewest).mailbox().unwrap()
    };
    let events = store(&folder.0);
    {
        let builder = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink_max(1);
        let bus = builder.dead_letter_sink(queue.clone()).build().unwrap();
        let mut inbox = subscribe(&bus, 1);
        let durable = durable(&bus, &events);
        for event in Writer::new().frames("a", 10) {
            durable.publish(&event, Durability::Written).unwrap();
        }
        while bus.dead_letters().counts().total < 9 {
            thread::yield_now();
        }
        (0..9).for_each(|_| letting.send(()).unwrap());
        inbox.recv_deadline(PATIENCE).unwrap().ack();
        bus.flush().unwrap();
        let counts = bus.dead_letters().counts();
        assert!(counts.unheard >= 6 && counts.unheard_stored == counts.unheard, "{counts:?}");
        // All is over, and what is lost has to come again.
        assert!(!durable.flush_deadline(Duration::from_millis(300)));
        assert_eq!(durable.counts().settled_to, None);
        bus.shutdown().unwrap();
    }
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut inbox = subscribe(&bus, 64);
    let durable = durable(&bus, &events);
    for position in 1..=10 {
        let event = inbox.recv_deadline(PATIENCE).unwrap();
        assert_eq!(event.meta().position(), Some(position));
        event.ack();
    }
    end(&bus, durable);
}

/// Until its first event, which dies, was refused by the store of its letter again and again. Returns where the event is.
fn die_refused(
    folder: &Path,
    queue: &DeadLetterQueue,
    refused: &mpsc::Receiver<u64>,
) -> (Bus, DurablePublisher, Position) {
    let bus = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(queue.clone()).build().unwrap();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
    wish.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap().forever();
    let durable = durable(&bus, &store(folder));
    let position = durable.publish(&Writer::new().frames("a", 1)[0], Durability::Written).unwrap();
    (1..=3).for_each(|nth| assert_eq!(refused.recv_timeout(PATIENCE), Ok(nth)));
    assert_eq!((queue.counts().held, durable.counts().settled_to), (0, None));
    (bus, durable, position)
}

#[test]
fn an_event_whose_letter_the_store_does_not_take_is_not_settled_before_it_does() {
    let folder = Folder::new("handed-over-refused");
    let (refuse, refused) = mpsc::channel();
    let state = Arc::new(Refusing::new(move |nth| {
        // Nobody listens at the end.
        let _ = refuse.send(nth);
        StateError::Full { limit: "state_keys_max", needed: 2, max: 1 }
    }));
    let queue = DeadLetterQueue::open("letters", state.clone()).unwrap();
    let (bus, durable, position) = die_refused(&folder.0, &queue, &refused);
    state.take();
    assert!(durable.flush_deadline(PATIENCE));
    assert_eq!((queue.counts().held, durable.counts().settled_to), (1, Some(position)));
    end(&bus, durable);
}

#[test]
fn an_event_whose_letter_the_store_never_took_comes_again_with_the_next_process() {
    let folder = Folder::new("handed-over-never");
    let (refuse, refused) = mpsc::channel();
    let state = Arc::new(Refusing::new(move |nth| {
        // Nobody listens at the end.
        let _ = refuse.send(nth);
        StateError::Failed("the test says so".into())
    }));
    let queue = DeadLetterQueue::open("letters", state).unwrap();
    let (bus, durable, position) = die_refused(&folder.0, &queue, &refused);
    bus.shutdown().unwrap();
    assert_eq!(bus.dead_letters().counts().waiting, 1, "it is known to wait");
    assert!(durable.close().is_err());
    assert_eq!(durable.counts().settled_to, None);
    drop((bus, durable));
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = self::durable(&bus, &store(&folder.0));
    let event = inbox.recv_deadline(PATIENCE).unwrap();
    assert_eq!(event.meta().position(), Some(position.get()));
    event.ack();
    end(&bus, durable);
}

const HANDLED: &str = "handed_over::a_letter_stays_until_its_event_was_handled_where_that_is_waited_for";

#[test]
fn a_letter_stays_until_its_event_was_handled_where_that_is_waited_for() {
    let redrive = |folder: &Path, handler: fn()| {
        let queue = DeadLetterQueue::open("letters", store(folder)).unwrap();
        let bus = Bus::builder().workers(1).build().unwrap();
        let bank = bus.subscribe("a").mode(DeliveryMode::reliable());
        let bank = bank.handle(move |_, _| handler()).unwrap();
        let mut publisher = bus.publisher().unwrap();
        let redriven = queue.redrive(1, |letter| {
            publisher.publish_frame(letter.frame())?;
            bus.flush_deadline(PATIENCE)?;
            Ok::<_, ringmain::Error>(())
        });
        redriven.unwrap();
        assert_eq!((bank.ledger().delivered, queue.counts().held), (1, 0));
        assert_settled(&bus);
    };
    if let Some(folder) = child_folder() {
        redrive(Path::new(&folder), || {
            println!("\nin the handler");
            wait_for_death();
        });
    }
    let folder = Folder::new("handed-over-handled");
    {
        let queue = DeadLetterQueue::open("letters", store(&folder.0)).unwrap();
        let bus = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(queue.clone()).build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(RetryPolicy::default().attempts_max(1));
        let bank = wish.handle(|_, _| Outcome::Failed("not now".to_owned())).unwrap();
        bus.publish("a", Payload::json("1")).unwrap();
        assert_settled(&bus);
        bus.shutdown().unwrap();
        drop(bank);
    }
    for _ in 0..2 {
        let mut kills = 0;
        kill_after(1, HANDLED, &folder.0, |line| {
            kills += u32::from(line == "in the handler");
            line == "in the handler"
        });
        assert_eq!(kills, 1);
        assert_eq!(DeadLetterQueue::open("letters", store(&folder.0)).unwrap().counts().held, 1);
    }
    redrive(&folder.0, || ());
}
