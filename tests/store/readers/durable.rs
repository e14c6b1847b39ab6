//! Durable publishers over stores that lose, block and panic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

use ringmain::internals::store::sim::{Kept, Replay};
use ringmain::store::{AppendError, Durability, DurableError};
use ringmain::{Bus, Notice};

use super::*;
use crate::moody::{Moody, Reply};

fn marked(events: usize) -> Vec<Frame> {
    Writer::new().frames("a", events).iter().map(Frame::for_outbox).collect()
}

/// A bus, and what is said of storage.
fn listening() -> (Bus, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let observer = move |notice: &Notice<'_>| {
        if let Notice::StorageFailed { error, .. } = notice {
            // The test may have heard enough.
            let _ = told.lock().unwrap().send((*error).to_owned());
        }
    };
    (Bus::builder().workers(1).observer(observer).build().unwrap(), heard)
}

#[test]
fn events_that_were_removed_before_they_were_delivered_are_counted_and_said() {
    let (bus, heard) = listening();
    let (store, state) = (open(&SimDisk::new()), Arc::new(MemoryStore::new()));
    append(&*store, &marked(120));
    store.keep(ALL).unwrap();
    let first = store.first().unwrap().unwrap().get();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(store, state).begin_behind(None).start().unwrap();
    assert_eq!(inbox.recv_deadline(PATIENCE).unwrap().meta().position(), Some(first));
    assert_eq!(durable.counts().unreadable, first - 1);
    assert!(heard.recv_timeout(PATIENCE).unwrap().contains("were removed before they were read"));
    drop(durable);
    crate::books::end(&bus);
}

#[test]
fn what_a_killed_process_left_is_durable_before_it_is_delivered() {
    let disk = SimDisk::new();
    let frame = &marked(1)[0];
    open(&disk).append(std::slice::from_ref(frame), ExpectedVersion::Any, Durability::Written).unwrap();
    let bus = Bus::builder().workers(1).build().unwrap();
    let (told, heard) = mpsc::channel();
    let of_disk = disk.clone();
    let handler = bus.subscribe("a").handle(move |_, _| told.send(of_disk.effects()).unwrap()).unwrap();
    let durable = bus.durable(open(&disk), Arc::new(MemoryStore::new())).start().unwrap();
    let effects = heard.recv_timeout(PATIENCE).unwrap();
    drop((durable, handler));
    crate::books::end(&bus);
    let mut replay = Replay::new(&disk);
    while replay.at() < effects && replay.step() {}
    let store = open(&replay.image(Kept::Nothing));
    let ids: Vec<_> = Query::new().stream(&*store).map(|event| event.unwrap().meta().id()).collect();
    assert_eq!(ids, [frame.meta().id()], "the power fails when it has been handled");
}

#[test]
fn closing_waits_for_a_store_no_longer_than_it_may_and_says_what_is_left() {
    let (bus, heard) = listening();
    let (open, opens) = mpsc::channel::<()>();
    let opens = Mutex::new(opens);
    let is_blocking = Arc::new(AtomicBool::new(false));
    let blocks = Arc::clone(&is_blocking);
    let store = Moody::new(|_, _| Reply::Take).reading(move |_, _, page| {
        if blocks.load(Ordering::Relaxed) {
            // Until the test ends.
            let _ = opens.lock().unwrap().recv();
        }
        Ok(page)
    });
    let state = Arc::new(MemoryStore::new());
    let durable = bus.durable(Arc::new(store), state).close_max(Duration::from_millis(20)).start().unwrap();
    is_blocking.store(true, Ordering::Relaxed);
    for frame in Writer::new().frames("a", 3) {
        durable.publish(&frame, Durability::Written).unwrap();
    }
    let left = durable.close().unwrap_err();
    assert!(matches!(left, DurableError::Left { undelivered: 3, unsettled: 0 }), "{left}");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), left.to_string());
    assert!(matches!(durable.close(), Err(DurableError::Closed)));
    let refused = durable.publish(&Writer::new().frame("a", |event| event), Durability::Written).unwrap_err();
    assert!(matches!(refused, DurableError::Closed), "{refused}");
    drop(open);
    crate::books::end(&bus);
}

#[test]
fn closing_says_how_far_everything_is_settled() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let durable = bus.durable(open(&SimDisk::new()), Arc::new(MemoryStore::new())).start().unwrap();
    for frame in Writer::new().frames("a", 3) {
        durable.publish(&frame, Durability::Written).unwrap();
    }
    let counts = durable.close().unwrap();
    assert_eq!((counts.delivered, counts.settled_to.map(|at| at.get())), (3, Some(3)));
    crate::books::end(&bus);
}

#[test]
fn a_worker_does_not_wait_for_a_durable_publisher_to_end() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let durable = bus.durable(open(&SimDisk::new()), Arc::new(MemoryStore::new())).start().unwrap();
    let durable = Mutex::new(Some(durable));
    let (told, heard) = mpsc::channel();
    let closing = bus.subscribe("close").handle(move |_, _| {
        let durable = durable.lock().unwrap().take().unwrap();
        told.send(durable.close().unwrap_err().to_string()).unwrap();
    });
    let closing = closing.unwrap();
    bus.publish("close", ringmain::Payload::plain_text("now")).unwrap();
    let said = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(said, "a worker cannot wait for events to be delivered; close it from another thread");
    drop(closing);
    crate::books::end(&bus);
}

#[test]
fn a_store_that_panics_is_said_and_tried_again() {
    let (bus, heard) = listening();
    let panics = Arc::new(AtomicBool::new(true));
    let once = Arc::clone(&panics);
    let store = Moody::new(|nth, _| match nth {
        1 => panic!("a panic that the test asks for"),
        _ => Reply::Take,
    });
    let store = store.reading(move |_, query, page| {
        // Not the look at its cursor's place.
        let is_page = query != &Query::new().from_position(ringmain::store::Position::FIRST).limit(1);
        assert!(!(is_page && once.swap(false, Ordering::Relaxed)), "another panic that the test asks for");
        Ok(page)
    });
    panics.store(false, Ordering::Relaxed);
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(Arc::new(store), Arc::new(MemoryStore::new())).start().unwrap();
    panics.store(true, Ordering::Relaxed);
    let frames = Writer::new().frames("a", 2);
    let error = durable.publish(&frames[0], Durability::Written).unwrap_err();
    let DurableError::Append(error) = error else { panic!("{error}") };
    assert!(matches!(&*error, AppendError::InDoubt(_)) && error.to_string().contains("that the test asks for"));
    durable.publish(&frames[1], Durability::Written).unwrap();
    assert!(heard.recv_timeout(PATIENCE).unwrap().contains("another panic that the test asks for"));
    assert_eq!(inbox.recv_deadline(PATIENCE).unwrap().meta().id(), frames[1].meta().id());
    assert!(durable.flush_deadline(PATIENCE));
    drop(durable);
    crate::books::end(&bus);
}

#[test]
fn one_event_that_the_store_can_never_take_fails_no_other() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (begun, begins) = mpsc::channel();
    let (open, opens) = mpsc::channel::<()>();
    let opens = Mutex::new(opens);
    let frames = Writer::new().frames("a", 20);
    let poison = frames[7].meta().id();
    let store = Moody::new(move |nth, events| {
        if nth == 1 {
            begun.send(()).unwrap();
            opens.lock().unwrap().recv().unwrap();
        }
        match events.iter().any(|event| event.meta().id() == poison) {
            true => Reply::Say(AppendError::Refused("it is poison".into())),
            false => Reply::Take,
        }
    });
    let durable = bus.durable(Arc::new(store), Arc::new(MemoryStore::new())).start().unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let publish = |frame: &Frame| {
            let (frame, durable) = (frame.clone(), durable.clone());
            scope.spawn(move || durable.publish(&frame, Durability::Written).is_ok())
        };
        let first = publish(&frames[0]);
        begins.recv_timeout(PATIENCE).unwrap();
        let others: Vec<_> = frames[1..].iter().map(publish).collect();
        open.send(()).unwrap();
        [first].into_iter().chain(others).map(|thread| thread.join().unwrap()).collect()
    });
    let refused: Vec<_> = results.iter().enumerate().filter(|(_, is_ok)| !**is_ok).map(|(nth, _)| nth).collect();
    assert_eq!(refused, [7]);
    drop(durable);
    crate::books::end(&bus);
}

#[test]
fn a_durable_publisher_whose_cursor_would_not_rest_does_not_start() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let builder = bus.durable(open(&SimDisk::new()), Arc::new(MemoryStore::new()));
    let refused = builder.checkpoint_every(Duration::ZERO).start().unwrap_err();
    assert_eq!(refused.to_string(), "checkpoint_every is zero; give it more");
    crate::books::end(&bus);
}
