//! Cursors over a store that is not the one that they are of.

use ringmain::Bus;
use ringmain::store::{CursorError, DurableError};

use super::*;
use crate::log_store::position;

/// A store of other events than `filled` has.
fn another(events: usize) -> Arc<LogStore> {
    let store = open(&SimDisk::new());
    let mut writer = Writer::new();
    writer.frames("a", 100);
    append(&*store, &writer.frames("a", events));
    store
}

fn diverged(error: &CursorError) -> (u64, bool) {
    let CursorError::Store(error) = error else { panic!("{error}") };
    let ReadError::Diverged { bookmark, found } = &**error else { panic!("{error}") };
    (bookmark.position().unwrap().get(), found.is_some())
}

#[test]
fn a_subscription_does_not_go_on_in_another_store_unless_it_is_told_where() {
    let state = Arc::new(MemoryStore::new());
    let mut billing = subscribe(&filled(20), state.clone());
    take(&mut billing, 7);
    billing.ack(position(5)).unwrap();
    drop(billing);
    // As long, or put back from a copy that ends before, or empty.
    for (events, has_another) in [(20, true), (5, true), (3, false), (0, false)] {
        let store = another(events);
        let open = || DurableSubscription::builder(store.clone(), state.clone(), "billing");
        let error = open().open().unwrap_err();
        let DurableSubscriptionError::Cursor(error) = error else { panic!("{error}") };
        assert_eq!(diverged(&error), (5, has_another), "{events}: {error}");
        let begin = (events > 2).then(|| position(2));
        let mut billing = open().begin_behind(begin).open().unwrap();
        assert_eq!(billing.try_recv().unwrap().map(|event| event.position()), begin.map(|_| position(3)));
        drop(billing);
        // For the next store it is the old one's again.
        let mut again = subscribe_anew(&state);
        take(&mut again, 5);
        again.ack(position(5)).unwrap();
    }
}

fn subscribe_anew(state: &Arc<MemoryStore>) -> DurableSubscription {
    DurableSubscription::builder(filled(20), state.clone(), "billing").begin_behind(None).open().unwrap()
}

#[test]
fn a_durable_publisher_does_not_go_on_in_another_store_unless_it_is_told_where() {
    let state = Arc::new(MemoryStore::new());
    let bus = Bus::builder().workers(1).build().unwrap();
    let durable = bus.durable(filled(20), state.clone()).start().unwrap();
    assert!(durable.flush_deadline(PATIENCE));
    drop(durable);
    for (events, has_another) in [(30, true), (10, false)] {
        let error = bus.durable(another(events), state.clone()).start().unwrap_err();
        let DurableError::Cursor(error) = error else { panic!("{error}") };
        assert_eq!(diverged(&error), (20, has_another));
    }
    let store = open(&SimDisk::new());
    let frames: Vec<_> = Writer::new().frames("a", 4).iter().map(Frame::for_outbox).collect();
    append(&*store, &frames);
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(store, state).begin_behind(Some(position(1))).start().unwrap();
    for at in 2..=4 {
        assert_eq!(inbox.recv_deadline(PATIENCE).unwrap().meta().position(), Some(at));
    }
    drop(durable);
    crate::books::end(&bus);
}
