//! What a retention removes, and who was still to read it.

use ringmain::store::{Bookmark, Durability, StateChange, StateKind};

use super::*;
use crate::log_store::{found, position};

#[test]
fn retention_waits_for_who_reads_on_in_the_same_store() {
    let store = filled(120);
    let mut billing = subscribe(&store, store.clone());
    assert_eq!(take(&mut billing, 30), (1..=30).collect::<Vec<_>>());
    billing.ack(position(30)).unwrap();
    let done = store.keep(ALL).unwrap();
    let first = store.first().unwrap().unwrap().get();
    assert!(first > 1 && first <= 31, "what it has passed goes: {first}");
    assert!(done.removed_segments > 0 && done.held_segments > 0, "{done:?}");
    assert_eq!((done.unread_events, done.held_at), (0, Some(position(30))));
    assert_eq!(take(&mut billing, 90), (31..=120).collect::<Vec<_>>());

    let late = DurableSubscription::builder(store.clone(), store.clone(), "late").open().unwrap();
    billing.ack(position(120)).unwrap();
    let done = store.keep(ALL).unwrap();
    assert_eq!((done.removed_segments, done.held_at), (0, position(first - 1).into()), "one that has read nothing yet");
    let held = store.held(ALL).unwrap();
    let named: Vec<_> = held[0].holders.iter().map(ToString::to_string).collect();
    assert_eq!(named, [format!("durable subscription \"late\", which is at position {}", first - 1)]);
    assert!(held.iter().all(|one| one.holders == held[0].holders) && held[0].positions.start().get() == first);
    late.forget().unwrap();
    let done = store.keep(ALL).unwrap();
    assert!(done.removed_segments > 0 && done.held_segments == 0, "{done:?}");
}

#[test]
fn what_is_removed_all_the_same_is_said_once_with_its_number() {
    for bounded in [ALL.remove_unread_after(Duration::ZERO), ALL.unread_bytes_max(8_192)] {
        let store = filled(120);
        let mut billing = subscribe(&store, store.clone());
        assert_eq!(take(&mut billing, 30).last(), Some(&30));
        billing.ack(position(30)).unwrap();
        billing.rewind();
        let done = store.keep(bounded).unwrap();
        let first = store.first().unwrap().unwrap();
        assert_eq!(done.unread_events, first.get() - 31, "{done:?}");
        assert!(done.unread_events > 30);
        let error = billing.try_recv().unwrap_err();
        let DurableSubscriptionError::Read(error) = error else { panic!("{error}") };
        assert_eq!(removed(&error), (31, first.get() - 1));
        assert_eq!(
            error.to_string(),
            format!(
                "{} events from position 31 on were removed before they were read; read on at {first}, or have the store keep more",
                done.unread_events
            )
        );
        let left = take(&mut billing, (121 - first.get()) as usize);
        assert_eq!(left, (first.get()..=120).collect::<Vec<_>>());
        assert!(billing.try_recv().unwrap().is_none());
    }
}

#[test]
fn a_cursor_that_is_kept_elsewhere_is_not_waited_for_and_hears_of_it() {
    let (store, state) = (filled(120), Arc::new(MemoryStore::new()));
    let mut billing = subscribe(&store, state.clone());
    take(&mut billing, 5);
    billing.ack(position(5)).unwrap();
    drop(billing);
    assert_eq!(store.keep(ALL).unwrap().held_segments, 0);
    let first = store.first().unwrap().unwrap().get();
    let mut billing = subscribe(&store, state);
    let error = billing.try_recv().unwrap_err();
    let DurableSubscriptionError::Read(error) = error else { panic!("{error}") };
    assert_eq!(removed(&error), (6, first - 1));
    assert_eq!(take(&mut billing, 1), [first]);
}

#[test]
fn a_query_that_says_where_to_begin_hears_of_what_is_not_there_any_more() {
    let store = filled(120);
    store.keep(ALL).unwrap();
    let first = store.first().unwrap().unwrap();
    let read = |query: Query| store.query(&query).map(|page| page.events.first().map(|event| event.position()));
    assert_eq!(read(Query::new()).unwrap(), Some(first), "what there is");
    assert_eq!(found(&*store, Query::new().newest_first().from_position(position(1))).last(), Some(&first.get()));
    assert_eq!(removed(&read(Query::new().from_position(position(7))).unwrap_err()), (7, first.get() - 1));
    assert_eq!(removed(&read(Query::new().behind(position(7))).unwrap_err()), (8, first.get() - 1));
    assert_eq!(removed(&read(Query::new().reading_on(None)).unwrap_err()), (1, first.get() - 1));
    assert_eq!(read(Query::new().behind(position(first.get() - 1))).unwrap(), Some(first));
    let error = read(Query::new().behind(position(7))).unwrap_err();
    assert_eq!(error.behind(), Some(position(first.get() - 1)), "where to go on");
    // A new one begins with what there is.
    assert_eq!(take(&mut subscribe(&store, store.clone()), 1), [first.get()]);
}

#[test]
fn who_reads_page_after_page_hears_of_what_goes_between_two() {
    let store = filled(120);
    let mut events = Query::new().limit(10).stream(&*store);
    for at in 1..=10 {
        assert_eq!(events.next().unwrap().unwrap().position(), position(at));
    }
    store.keep(ALL).unwrap();
    let first = store.first().unwrap().unwrap();
    assert_eq!(removed(&events.next().unwrap().unwrap_err()), (11, first.get() - 1));
}

#[test]
fn however_many_read_on_the_last_of_them_is_waited_for() {
    let store = filled(120);
    let end = Bookmark::at(&*store, position(120)).unwrap().to_bytes();
    let keys: Vec<_> = (0..2_500).map(|nth| format!("reader {nth:05}")).collect();
    for keys in keys.chunks(1_000) {
        let put = |key| StateChange::Put { kind: StateKind::CURSOR, key, value: &end };
        let changes: Vec<_> = keys.iter().map(|key: &String| put(key.as_bytes())).collect();
        store.apply(&changes, Durability::Written).unwrap();
    }
    let value = Bookmark::at(&*store, position(3)).unwrap().to_bytes();
    store
        .apply(&[StateChange::Put { kind: StateKind::CURSOR, key: b"z", value: &value }], Durability::Written)
        .unwrap();
    let done = store.keep(ALL).unwrap();
    assert_eq!((done.removed_segments, done.held_at), (0, Some(position(3))), "{done:?}");
    let held = store.held(ALL).unwrap();
    assert_eq!(held[0].holders.len(), 1);
    assert_eq!(held[0].holders[0].to_string(), "the cursor \"z\", which is at position 3");
}
