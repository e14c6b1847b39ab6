//! Dead letters in a store: each is there with its story, also after the process was killed, until it is sent again or purged.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringmain::store::{
    DeadLetterQueue, DeadLetterQueueCounts, DeadLetterQueueError, Durability, LeaseError, LogStore, MemoryStore,
    NameError, StateError, StateStore,
};
use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, DeadReason, DeliveryMode, Notice, Outcome, Payload, PublishError, RetryPolicy};

use crate::books::{assert_books, assert_settled};
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::moody::Refusing;

/// Makes an empty store.
type Make<'a> = &'a dyn Fn() -> Arc<dyn StateStore>;

#[test]
fn letters_in_memory_are_kept() {
    run(&|| Arc::new(MemoryStore::new()));
}

#[test]
fn letters_on_disk_are_kept() {
    let folder = Folder::new("letters");
    let stores = std::cell::Cell::new(0);
    run(&|| {
        stores.set(stores.get() + 1);
        let builder = LogStore::builder(folder.0.join(stores.get().to_string())).snapshot_state_bytes_max(1_000);
        Arc::new(builder.open().expect("the disk works"))
    });
}

fn run(make: Make<'_>) {
    a_letter_has_its_story_and_goes_when_it_is_sent_again(make);
    an_id_is_given_once_also_when_all_letters_have_gone(make);
    a_queue_has_one_owner_and_letters_of_its_own(make);
    who_publishes_a_letter_keeps_nobody_from_the_queue(make);
    the_oldest_makes_room_and_purged_ones_are_gone(make);
    a_long_letter_comes_back_in_one_piece(make);
}

fn open(state: &Arc<dyn StateStore>) -> DeadLetterQueue {
    DeadLetterQueue::open("letters", Arc::clone(state)).unwrap()
}

fn builder(queue: &DeadLetterQueue) -> BusBuilder {
    Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(queue.clone())
}

/// A bus whose subscription `bank` rejects everything.
fn rejecting(builder: BusBuilder) -> Simulation {
    let simulation = Simulation::new(builder, 1).unwrap();
    let wish = simulation.bus().subscribe("a").named("bank").mode(DeliveryMode::reliable());
    let subscription = wish.retry(RetryPolicy::default().attempts_max(1));
    subscription.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap().forever();
    simulation
}

/// Lets all that was published die, and the queue hear of it.
fn settle(simulation: &Simulation) {
    simulation.run();
    simulation.bus().dead_letters().counts();
    assert_books(simulation.bus());
}

fn a_letter_has_its_story_and_goes_when_it_is_sent_again(make: Make<'_>) {
    let state = make();
    let queue = open(&state);
    let bus = rejecting(builder(&queue));
    let mut publisher = bus.bus().publisher().unwrap();
    let event = publisher.event().metadata("user", "ada").publish("a", Payload::json("{}")).unwrap();
    let expiring = publisher.event().expires_after(Duration::from_secs(1)).publish("a", Payload::json("1")).unwrap();
    settle(&bus);
    drop((bus, publisher, queue));

    let queue = open(&state);
    let letters = queue.list(None, 10).unwrap();
    let [letter, _] = &letters[..] else { panic!("{letters:?}") };
    let meta = letter.frame().meta();
    assert_eq!((letter.id(), meta.id(), meta.topic(), meta.get("user")), (1, event, "a", Some("ada")));
    assert_eq!(letter.frame().payload().text(), Some("{}"));
    assert_eq!((letter.subscription_name(), letter.reason(), letter.attempts()), ("bank", DeadReason::Rejected, 1));
    assert_eq!((letter.error(), letter.error_bytes()), (Some("no such account"), 15));
    assert!(letter.first_attempt().is_some_and(|first| first <= letter.died()));

    let bus = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut inbox = bus.bus().subscribe("a").mailbox().unwrap();
    let mut publisher = bus.bus().publisher().unwrap();
    let published = queue.redrive(1, |letter| {
        assert_eq!(queue.list(None, 10).unwrap().len(), 2, "it is there until it is published");
        publisher.publish_frame(letter.frame())
    });
    assert_eq!(published.unwrap(), event);
    bus.run();
    assert_eq!(inbox.try_recv().unwrap().meta().id(), event);
    let again = queue.redrive(1, |letter| publisher.publish_frame(letter.frame())).unwrap_err();
    assert_eq!(again.to_string(), "there is no dead letter 1; list those there are");
    bus.advance(Duration::from_secs(3_600));
    let refused = queue.redrive(2, |letter| publisher.publish_frame(letter.frame())).unwrap_err();
    let DeadLetterQueueError::Publish { id: 2, error } = &refused else { panic!("{refused:?}") };
    assert!(matches!(error.downcast_ref(), Some(PublishError::Expired { .. })), "{error:?}");
    assert_eq!(queue.get(2).unwrap().unwrap().frame().meta().id(), expiring, "it stays");
    let counts = queue.counts();
    assert_eq!((counts.held, counts.redriven, counts.purged, counts.discarded, counts.lost), (1, 1, 0, 0, 0));
}

/// A queue that has these letters, all of `bank`.
fn filled(state: &Arc<dyn StateStore>, letters: usize) -> DeadLetterQueue {
    let queue = open(state);
    let bus = rejecting(builder(&queue));
    for _ in 0..letters {
        bus.bus().publish("a", Payload::json("1")).unwrap();
    }
    settle(&bus);
    queue
}

fn ids(queue: &DeadLetterQueue) -> Vec<u64> {
    queue.list(None, 100).unwrap().iter().map(|letter| letter.id()).collect()
}

fn an_id_is_given_once_also_when_all_letters_have_gone(make: Make<'_>) {
    let state = make();
    assert_eq!(ids(&filled(&state, 3)), [1, 2, 3]);
    assert_eq!(open(&state).purge(&[1, 2, 3]).unwrap(), 3);
    assert_eq!(ids(&filled(&state, 2)), [4, 5]);
    let queue = open(&state);
    assert_eq!(queue.purge(&[5]).unwrap(), 1);
    assert_eq!(queue.redrive(4, |_| Ok::<_, Infallible>("published")).unwrap(), "published");
    drop(queue);
    assert_eq!(open(&state).counts().held, 0);
    assert_eq!(ids(&filled(&state, 1)), [6], "whichever of them went last");
}

fn a_queue_has_one_owner_and_letters_of_its_own(make: Make<'_>) {
    let state = make();
    let queue = filled(&state, 2);
    let second = DeadLetterQueue::open("letters", Arc::clone(&state)).unwrap_err();
    assert!(matches!(&second, DeadLetterQueueError::Name(NameError::Lease(LeaseError::Taken { .. }))), "{second:?}");
    assert_eq!(
        second.to_string(),
        format!(
            "dead letter queue \"letters\" is owned by process {}; end that first, or take another name",
            std::process::id()
        )
    );
    for other in ["letter", "letterss", ""] {
        let other = DeadLetterQueue::open(other, Arc::clone(&state)).unwrap();
        assert_eq!((other.counts().held, other.get(1).unwrap().is_none()), (0, true));
    }
    let another_store = DeadLetterQueue::open("letters", make()).unwrap();
    assert_eq!(another_store.counts().held, 0);
    let clone = queue.clone();
    drop(queue);
    DeadLetterQueue::open("letters", Arc::clone(&state)).unwrap_err();
    drop(clone);
    assert_eq!(ids(&open(&state)), [1, 2]);
    let long = DeadLetterQueue::open(&"x".repeat(256), state).unwrap_err();
    assert_eq!(long.to_string(), "the name has 256 bytes, the limit is 255; shorten it");
}

fn who_publishes_a_letter_keeps_nobody_from_the_queue(make: Make<'_>) {
    let queue = filled(&make(), 4);
    let redrive = |id| queue.redrive(id, |_| Ok::<_, Infallible>(()));
    let refused = queue.redrive(1, |letter| {
        let again = redrive(letter.id()).unwrap_err();
        assert!(matches!(again, DeadLetterQueueError::UnderWay { id: 1 }), "{again:?}");
        redrive(2).unwrap();
        assert_eq!(queue.purge(&[3]).unwrap(), 1);
        // Another thread finds no lock either.
        thread::scope(|scope| scope.spawn(|| assert_eq!(ids(&queue), [1, 4])).join()).unwrap();
        Err::<(), _>("not now")
    });
    assert_eq!(refused.unwrap_err().to_string(), "dead letter 1 was not published and stays: not now");
    redrive(1).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| queue.redrive(4, |_| -> Result<(), Infallible> { panic!() })));
    assert!(panicked.is_err());
    redrive(4).unwrap();
    let counts = queue.counts();
    assert_eq!((counts.held, counts.redriven, counts.purged), (0, 3, 1));
}

fn the_oldest_makes_room_and_purged_ones_are_gone(make: Make<'_>) {
    let state = make();
    let open = || DeadLetterQueue::open_with("letters", Arc::clone(&state), 3, state.state_durability()).unwrap();
    for (held, expected) in [(2, vec![1, 2]), (3, vec![2, 3, 4])] {
        let queue = open();
        let bus = rejecting(builder(&queue));
        for _ in 0..2 {
            bus.bus().publish("a", Payload::json("1")).unwrap();
        }
        settle(&bus);
        assert_eq!((queue.counts().held, ids(&queue)), (held, expected));
    }
    let queue = open();
    assert_eq!(ids(&queue), [2, 3, 4], "numbers rise from process to process");
    assert_eq!(queue.list(Some(2), 1).unwrap()[0].id(), 3);
    assert_eq!(queue.purge(&[1, 3, 3]).unwrap(), 1);
    assert_eq!(queue.counts().purged, 1);
    drop(queue);
    assert_eq!(ids(&open()), [2, 4]);
    let fewer = DeadLetterQueue::open_with("letters", state, 1, Durability::Accepted).unwrap();
    assert_eq!((fewer.counts().discarded, ids(&fewer)), (1, vec![4]));
}

fn a_long_letter_comes_back_in_one_piece(make: Make<'_>) {
    let state = make();
    let queue = open(&state);
    // With its envelope it is longer than a value may be.
    let long = "x".repeat(1 << 20);
    let bus = rejecting(builder(&queue).blocks([(2 << 20, 4)]).payload_bytes_max(1 << 20));
    bus.bus().publish("a", Payload::plain_text(&long)).unwrap();
    settle(&bus);
    assert_eq!(queue.counts().lost, 0, "{:?}", queue.last_error());
    drop((bus, queue));
    let queue = open(&state);
    assert_eq!(queue.get(1).unwrap().unwrap().frame().payload().text(), Some(&*long));
    queue.purge(&[1]).unwrap();
    for kind in [ringmain::store::StateKind::DEAD_LETTER, ringmain::store::StateKind::DEAD_LETTER_PART] {
        assert!(state.list(kind, &[], 1).unwrap().entries.is_empty(), "no part of it is left");
    }
}

#[test]
fn a_letter_that_the_store_does_not_take_waits_and_is_tried_again() {
    let state = Arc::new(Refusing::new(|_| StateError::Full { limit: "state_bytes_max", needed: 90, max: 10 }));
    let queue = DeadLetterQueue::open("letters", state.clone()).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let of_observer = Arc::clone(&heard);
    let bus = rejecting(builder(&queue).observer(move |notice: &Notice<'_>| {
        let said = match notice {
            Notice::StorageFailed { name, waiting, .. } => format!("{name} failed, {waiting} waiting"),
            Notice::StorageReturned { name, dropped, .. } => format!("{name} returned, {dropped} dropped"),
            _ => return,
        };
        of_observer.lock().unwrap().push(said);
    }));
    for _ in 0..2 {
        bus.bus().publish("a", Payload::json("1")).unwrap();
    }
    settle(&bus);
    bus.bus().flush().unwrap_err();
    let (counts, of_bus) = (queue.counts(), bus.bus().dead_letters().counts());
    assert!(counts.refused >= 2 && counts.held == 0 && counts.lost == 0, "{counts:?}");
    assert_eq!((of_bus.waiting, of_bus.unheard), (2, 0), "the second is not told of before the first");
    assert!(matches!(*queue.last_error().unwrap(), StateError::Full { limit: "state_bytes_max", .. }));
    state.take();
    bus.bus().flush().unwrap();
    assert_eq!(ids(&queue), [1, 2]);
    assert_eq!(*heard.lock().unwrap(), ["dead letters failed, 2 waiting", "dead letters returned, 0 dropped"]);
    assert_books(bus.bus());
    let refused = DeadLetterQueue::open_with("others", state, 1, Durability::Durable).unwrap_err();
    assert!(matches!(refused, DeadLetterQueueError::Change(StateError::Durability { .. })), "{refused:?}");
}

#[test]
fn a_letter_that_the_store_can_never_take_keeps_no_other_waiting() {
    let state = Arc::new(Refusing::new(|_| StateError::BatchTooLong { bytes: 90, max: 10 }));
    let queue = DeadLetterQueue::open("letters", state.clone()).unwrap();
    let bus = rejecting(builder(&queue));
    let publish = || {
        bus.bus().publish("a", Payload::json("1")).unwrap();
        settle(&bus);
        bus.bus().flush().unwrap();
    };
    publish();
    let (counts, of_bus) = (queue.counts(), bus.bus().dead_letters().counts());
    assert_eq!((counts.held, counts.lost, counts.refused, of_bus.waiting, of_bus.unheard), (0, 1, 0, 0, 1));
    state.take();
    publish();
    assert_eq!(ids(&queue), [1]);
}

const THIS: &str = "letters::letters_survive_a_killed_process_and_are_sent_again_by_the_next";

fn store(folder: &Path) -> Arc<LogStore> {
    Arc::new(LogStore::builder(folder).snapshot_state_bytes_max(1_000).open().expect("it can be opened"))
}

/// Rejects event after event until it is killed, and says which letters the queue has.
fn child(folder: &Path) -> ! {
    let queue = DeadLetterQueue::open("letters", store(folder)).unwrap();
    let bus = builder(&queue).build().unwrap();
    let wish =
        bus.subscribe("a").named("bank").mode(DeliveryMode::reliable()).retry(RetryPolicy::default().attempts_max(1));
    wish.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap().forever();
    let mut stdout = std::io::stdout().lock();
    let mut last = queue.list(None, usize::MAX).unwrap().last().map(|letter| letter.id());
    loop {
        bus.publish("a", Payload::json("1")).unwrap();
        for letter in queue.list(last, 100).unwrap() {
            writeln!(stdout, "\nkept {} {}", letter.id(), letter.frame().meta().id()).unwrap();
            last = Some(letter.id());
        }
    }
}

#[test]
fn letters_survive_a_killed_process_and_are_sent_again_by_the_next() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let folder = Folder::new("letters-kill");
    let mut acknowledged = BTreeSet::new();
    for kill in 0..5 {
        kill_after(1 + 37 * kill, THIS, &folder.0, |line| {
            let Some((id, event)) = line.strip_prefix("kept ").and_then(|rest| rest.split_once(' ')) else {
                return false;
            };
            assert!(acknowledged.insert((id.parse::<u64>().unwrap(), event.to_owned())));
            true
        });
        let queue = DeadLetterQueue::open("letters", store(&folder.0)).unwrap();
        let found = queue.list(None, usize::MAX).unwrap();
        let found: BTreeSet<_> =
            found.iter().map(|letter| (letter.id(), letter.frame().meta().id().to_string())).collect();
        assert!(found.is_superset(&acknowledged), "kill {kill}: {} of {}", found.len(), acknowledged.len());
    }
    assert!(acknowledged.len() > 5 + 37 * 10, "{}", acknowledged.len());

    let queue = DeadLetterQueue::open("letters", store(&folder.0)).unwrap();
    let letters = queue.list(None, usize::MAX).unwrap();
    let bus = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut inbox = bus.bus().subscribe("a").mailbox().unwrap();
    let mut publisher = bus.bus().publisher().unwrap();
    for letter in &letters {
        let published = queue.redrive(letter.id(), |letter| publisher.publish_frame(letter.frame()));
        published.unwrap();
        bus.run();
        assert_eq!(inbox.try_recv().unwrap().meta().id(), letter.frame().meta().id());
    }
    assert_settled(bus.bus());
    let DeadLetterQueueCounts { held, redriven, .. } = queue.counts();
    assert_eq!((held, redriven), (0, letters.len() as u64));
    drop(queue);
    let queue = DeadLetterQueue::open("letters", store(&folder.0)).unwrap();
    assert_eq!(queue.counts().held, 0, "what was sent again is gone, also when the store is opened again");
}
