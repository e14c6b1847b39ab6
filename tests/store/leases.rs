//! Names with one owner at a time: whoever reads on under a name is alone with its cursor.

use std::sync::Arc;

use ringmain::Bus;
use ringmain::store::{
    DeadLetterQueue, DeadLetterQueueError, DurableError, DurableSubscription, DurableSubscriptionError, HandledError,
    HandledWindow, LeaseError, Leased, MemoryStore, NameError, Schedule, ScheduleError, StateStore,
};

use crate::books::end;

/// Asserts that a name is taken, by this process.
#[track_caller]
fn assert_taken(error: &LeaseError, name: &str) {
    let owner = format!("process {}", std::process::id());
    assert!(matches!(error, LeaseError::Taken { name: of, owner: by } if of == name && *by == owner), "{error:?}");
    assert_eq!(error.to_string(), format!("{name} is owned by {owner}; end that first, or take another name"));
}

#[test]
fn whoever_reads_on_under_a_name_is_alone_with_it() {
    let store = Arc::new(MemoryStore::new().pretending(ringmain::store::Durability::Written));
    let state = || store.clone() as Arc<dyn StateStore>;
    let bus = Bus::builder().workers(1).build().unwrap();

    let publish = || bus.durable(store.clone(), state()).named("shop").start();
    let one = publish().unwrap();
    let error = publish().unwrap_err();
    let DurableError::Lease(lease) = &error else { panic!("{error}") };
    assert_taken(lease, "durable publisher \"shop\"");
    drop(one);
    drop(publish().unwrap());

    let subscribe = || DurableSubscription::builder(store.clone(), state(), "billing").open();
    let one = subscribe().unwrap();
    let error = subscribe().unwrap_err();
    let DurableSubscriptionError::Lease(lease) = &error else { panic!("{error}") };
    assert_taken(lease, "durable subscription \"billing\"");
    drop(one);
    drop(subscribe().unwrap());

    let one = DeadLetterQueue::open("letters", state()).unwrap();
    let error = DeadLetterQueue::open("letters", state()).unwrap_err();
    let DeadLetterQueueError::Name(NameError::Lease(lease)) = &error else { panic!("{error}") };
    assert_taken(lease, "dead letter queue \"letters\"");
    let clone = one.clone();
    drop(one);
    assert!(DeadLetterQueue::open("letters", state()).is_err(), "a clone is the same queue");
    drop(clone);
    drop(DeadLetterQueue::open("letters", state()).unwrap());

    let _one = Schedule::open("reminders", state()).unwrap();
    let error = Schedule::open("reminders", state()).unwrap_err();
    let ScheduleError::Name(NameError::Lease(lease)) = &error else { panic!("{error}") };
    assert_taken(lease, "schedule \"reminders\"");
    drop(Schedule::open("others", state()).unwrap());

    let _one = HandledWindow::open("orders", state()).unwrap();
    let error = HandledWindow::open("orders", state()).unwrap_err();
    let HandledError::Name(NameError::Lease(lease)) = &error else { panic!("{error}") };
    assert_taken(lease, "handled window \"orders\"");
    end(&bus);
}

#[test]
fn a_name_has_1_to_1024_bytes() {
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in [(String::new(), 0), ("a".repeat(1_025), 1_025)] {
        let refused = Leased::take(store.clone(), &name).unwrap_err();
        assert!(matches!(refused, LeaseError::Name { bytes: said, max: 1_024 } if said == bytes), "{refused}");
    }
    Leased::take(store, &"a".repeat(1_024)).unwrap();
}
