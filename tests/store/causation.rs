//! The tree of what caused what: bounded, and true whatever the causes say.

use std::collections::HashSet;

use proptest::prelude::*;
use ringmain::EventId;
use ringmain::store::{CausationLink, CausationTree, EventStore, ExpectedVersion, MemoryStore};

use super::conformance::Writer;

const STORY: EventId = EventId::from_bytes([7; 16]);

/// The tree of events with these ids and causes.
fn tree(events: &[(u128, Option<u128>)]) -> CausationTree {
    let (store, mut writer) = (MemoryStore::new(), Writer::new());
    let mut frame = |id: u128, cause: Option<u128>| {
        writer.frame("a", |event| {
            let event = event.id(EventId::from(id)).correlation(STORY);
            cause.into_iter().fold(event, |event, cause| event.causation(EventId::from(cause)))
        })
    };
    let frames: Vec<_> = events.iter().map(|(id, cause)| frame(*id, *cause)).collect();
    for frames in frames.chunks(1_000) {
        store.append(frames, ExpectedVersion::Any, store.durability()).unwrap();
    }
    store.causation(STORY).unwrap()
}

fn id(number: u128) -> EventId {
    EventId::from(number)
}

#[test]
fn events_hang_below_what_caused_them_and_only_those_of_the_story() {
    let tree = tree(&[(1, None), (2, Some(1)), (3, Some(1)), (4, Some(2)), (5, None)]);
    assert_eq!((tree.correlation(), tree.nodes().len(), tree.roots().len()), (STORY, 5, 2));
    let root = tree.roots().next().unwrap();
    assert_eq!((root.id, root.link, root.position.get()), (id(1), CausationLink::Root, 1));
    assert!(tree.children(root).map(|node| node.id).eq([id(2), id(3)]));
    let expected = format!(
        "a {} at 1\n├─ a {} at 2\n│  └─ a {} at 4\n└─ a {} at 3\na {} at 5\n",
        id(1),
        id(2),
        id(4),
        id(3),
        id(5)
    );
    assert_eq!(tree.to_string(), expected);
    let store = MemoryStore::new();
    assert_eq!(store.causation(STORY).unwrap().to_string(), "", "there are none");
}

#[test]
fn missing_causes_cycles_and_repeats_are_said() {
    let tree = tree(&[(2, Some(9)), (4, Some(3)), (3, Some(5)), (5, Some(3)), (6, Some(6)), (2, None)]);
    let roots: Vec<_> = tree.roots().map(|node| (node.id, node.link)).collect();
    let (missing, cycle) = (CausationLink::MissingCause, CausationLink::Cycle);
    assert_eq!(roots, [(id(2), missing), (id(3), cycle), (id(6), cycle)]);
    let expected = format!(
        "a {} at 1 (its cause {} is not here)\na {} at 3 (its cause {} is below it)\n├─ a {} at 2\n└─ a {} at 4\n\
         a {} at 5 (its cause {} is below it)\nkept more than once, shown once: 1 times\n",
        id(2),
        id(9),
        id(3),
        id(5),
        id(4),
        id(5),
        id(6),
        id(6)
    );
    assert_eq!(tree.to_string(), expected);
    assert_eq!(tree.repeats(), 1);
}

#[test]
fn a_tree_is_bounded_in_events_and_its_text_in_width() {
    let events: Vec<_> = (1..=10_001).map(|id| (id, (id > 1).then(|| id - 1))).collect();
    let whole = tree(&events[..10_000]);
    assert!(!whole.is_cut() && whole.roots().len() == 1);
    let cut = tree(&events);
    assert!(cut.is_cut() && cut.nodes().len() == CausationTree::EVENTS_MAX);
    let text = cut.to_string();
    assert_eq!(text.lines().count(), 10_001);
    assert!(text.lines().all(|line| line.chars().count() < 200), "a long chain is not drawn ever wider");
    assert!(text.contains(&format!("[33] a {} at 34\n", id(34))));
    assert!(text.ends_with("cut: there are more than 10000 events\n"));
}

proptest! {
    #[test]
    fn every_event_is_in_the_tree_once_whatever_the_causes_say(
        causes in proptest::collection::vec(proptest::option::of(0_u128..24), 0..20),
    ) {
        let events: Vec<_> = (0_u128..).zip(causes).collect();
        let tree = tree(&events);
        let (mut seen, mut rest) = (HashSet::new(), tree.roots().collect::<Vec<_>>());
        while let Some(node) = rest.pop() {
            prop_assert!(seen.insert(node.id), "twice");
            for child in tree.children(node) {
                prop_assert_eq!(child.causation, Some(node.id));
                prop_assert_eq!(child.link, CausationLink::Caused);
                rest.push(child);
            }
        }
        prop_assert_eq!(seen.len(), events.len());
        prop_assert_eq!(tree.to_string().lines().count(), events.len());
        for root in tree.roots() {
            let is_here = root.causation.is_some_and(|cause| u128::from(cause) < events.len() as u128);
            prop_assert_eq!(root.link == CausationLink::Cycle, is_here);
            prop_assert_eq!(root.link == CausationLink::Root, root.causation.is_none());
        }
    }
}
