//! Read models: each event counts once whatever fails, and a rebuilt view takes over from the live one.

use std::error::Error;
use std::sync::Arc;

use ringmain::Pattern;
use ringmain::sourcing::{ProjectionError, Projector, ReadModel, View};
use ringmain::store::{LeaseError, Position, StateKind, StateStore, StoredEventRef, Upcasters};

use super::support::{Death, Ground, Mortal, Writer, on_every_store};

type Cause = Box<dyn Error + Send + Sync>;

fn number(bytes: Option<impl AsRef<[u8]>>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.as_ref().try_into().unwrap()))
}

/// Counts events by topic, and sums the numbers they carry.
fn count(event: &StoredEventRef<'_>, view: &mut View<'_>) -> Result<(), Cause> {
    for (key, by) in [(event.meta().topic(), 1), ("sum", event.payload().text().ok_or("no text")?.parse()?)] {
        let sum = number(view.get(key.as_bytes())?.as_deref()) + by;
        view.put(key.as_bytes(), sum.to_le_bytes());
    }
    Ok(())
}

fn of(view: &ReadModel, key: &str) -> u64 {
    number(view.get(key.as_bytes()).unwrap().as_deref())
}

fn run(projector: &mut Projector<impl ringmain::sourcing::Projection>) -> Result<usize, ProjectionError> {
    let mut events = 0;
    loop {
        let projected = projector.step()?;
        events += projected.events;
        if !projected.has_more {
            return Ok(events);
        }
    }
}

on_every_store! {
    an_event_counts_once_wherever_the_process_dies,
    a_rebuilt_view_is_made_beside_the_live_one_and_takes_over,
    what_a_discarded_generation_left_is_not_counted_by_the_next,
    an_event_that_fails_is_the_next_again_and_leaves_nothing,
    views_do_not_see_each_other_and_a_name_has_a_limit,
    older_events_are_projected_in_the_current_version_of_their_schema,
}

fn an_event_counts_once_wherever_the_process_dies(ground: &Ground) {
    let mut writer = Writer::new(ground);
    for number in 0..700 {
        writer.append(if number % 7 == 0 { "seven" } else { "other" }, "1");
    }
    let mut deaths = 0;
    let deaths_of =
        |nth| [Death::Before(nth), Death::After(nth)].into_iter().flat_map(|death| [(death, false), (death, true)]);
    for (death, goes_on) in (0..5).flat_map(deaths_of) {
        let state = ground.store();
        let mortal = Mortal::new(&state, Some(death));
        let store = Arc::clone(&writer.store);
        let mut first = Projector::live("counts", store.clone(), Arc::clone(&mortal) as _, count).unwrap();
        let outcome = run(&mut first);
        deaths += usize::from(matches!(outcome, Err(ProjectionError::Keep(_))));
        if goes_on {
            mortal.revive();
            run(&mut first).unwrap();
        }
        drop(first);
        let mut again = Projector::live("counts", store, Arc::clone(&state) as _, count).unwrap();
        run(&mut again).unwrap();
        let view = ReadModel::new("counts", state);
        assert_eq!((of(&view, "seven"), of(&view, "other"), of(&view, "sum")), (100, 600, 700), "{death:?}");
        assert_eq!(view.position().unwrap(), Position::new(700));
    }
    assert_eq!(deaths, 12, "700 events are three steps");
}

fn a_rebuilt_view_is_made_beside_the_live_one_and_takes_over(ground: &Ground) {
    let mut writer = Writer::new(ground);
    (0..300).for_each(|_| drop(writer.append("a", "1")));
    let state = ground.store();
    let shared = || (Arc::clone(&writer.store) as _, Arc::clone(&state) as Arc<dyn StateStore>);
    let (store, of_state) = shared();
    let mut live = Projector::live("counts", store, of_state, count).unwrap();
    run(&mut live).unwrap();
    let view = ReadModel::new("counts", shared().1);

    let twice = |event: &StoredEventRef<'_>, view: &mut View<'_>| {
        count(event, view)?;
        count(event, view)
    };
    let (store, of_state) = shared();
    let mut next = Projector::rebuild("counts", store, of_state, twice).unwrap();
    assert_eq!((live.generation(), next.generation()), (1, 2));
    assert_eq!(next.progress().unwrap().behind(), 300);
    next.step().unwrap();
    assert_eq!(next.progress().unwrap().behind(), 44);
    let refused = next.take_over().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the view has come to position 256, the live one to 300; step until there is no more"
    );
    drop(next);
    assert_eq!(of(&view, "sum"), 300, "the live one is read");

    let (store, of_state) = shared();
    let mut next = Projector::rebuild("counts", store, of_state, twice).unwrap();
    assert_eq!(run(&mut next).unwrap(), 44, "it goes on where it was");
    assert_eq!(of(&view, "sum"), 300);
    next.take_over().unwrap();
    assert_eq!((of(&view, "sum"), of(&view, "a")), (600, 600));
    let refused = live.step().unwrap_err();
    assert!(matches!(refused, ProjectionError::Replaced { generation: 1, live: 2, .. }), "{refused:?}");
    assert_eq!(state.list(StateKind::VIEW, &[], 10).unwrap().entries.len(), 2, "what was replaced is gone");
    assert_eq!(state.list(StateKind::CURSOR, &[], 10).unwrap().entries.len(), 2);

    let (store, of_state) = shared();
    let taken = Projector::live("counts", store, of_state, twice).unwrap_err();
    assert!(matches!(taken, ProjectionError::Lease(LeaseError::Taken { .. })), "{taken:?}");
    drop(next);
    writer.append("a", "1");
    let (store, of_state) = (Arc::clone(&writer.store), Arc::clone(&state));
    let mut live = Projector::live("counts", store, of_state, twice).unwrap();
    assert_eq!((run(&mut live).unwrap(), of(&view, "sum")), (1, 602));
    assert!(matches!(live.discard(), Err(ProjectionError::Live { .. })));
}

fn what_a_discarded_generation_left_is_not_counted_by_the_next(ground: &Ground) {
    let mut writer = Writer::new(ground);
    (0..3).for_each(|_| drop(writer.append("a", "1")));
    let state = ground.store();
    let store = || Arc::clone(&writer.store);
    run(&mut Projector::live("counts", store(), Arc::clone(&state) as _, count).unwrap()).unwrap();
    run(&mut Projector::rebuild("counts", store(), Arc::clone(&state) as _, count).unwrap()).unwrap();
    // Its position is removed, its keys are not.
    let mortal = Mortal::new(&state, Some(Death::After(0)));
    let half = Projector::rebuild("counts", store(), mortal, count).unwrap();
    assert!(matches!(half.discard(), Err(ProjectionError::Keep(_))));
    let mut next = Projector::rebuild("counts", store(), Arc::clone(&state) as _, count).unwrap();
    run(&mut next).unwrap();
    next.take_over().unwrap();
    assert_eq!(of(&ReadModel::new("counts", state), "sum"), 3);
}

fn an_event_that_fails_is_the_next_again_and_leaves_nothing(ground: &Ground) {
    let mut writer = Writer::new(ground);
    writer.append("a", "1");
    writer.append("b", "no number");
    writer.append("c", "1");
    let state = ground.store();
    let store = Arc::clone(&writer.store);
    let mut projector = Projector::live("counts", store.clone(), Arc::clone(&state) as _, count).unwrap();
    for _ in 0..2 {
        let refused = projector.step().unwrap_err();
        let ProjectionError::Apply { position, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(position.get(), 2);
        assert!(refused.to_string().starts_with("the event at position 2 could not be projected: "));
    }
    let view = ReadModel::new("counts", Arc::clone(&state) as _);
    assert_eq!((of(&view, "a"), of(&view, "b"), of(&view, "sum")), (1, 0, 1), "not half of it");
    drop(projector);
    let without = Projector::live("counts", store, Arc::clone(&state) as _, count).unwrap();
    let mut without = without.pattern(Pattern::new("c").unwrap());
    writer.append("d", "1");
    assert_eq!(without.step().unwrap().events, 1);
    assert_eq!(without.progress().unwrap().behind(), 0, "what it does not want it has passed");
    let keys = view.list(&[], 10).unwrap();
    assert_eq!(keys.entries.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), [b"a".as_slice(), b"c", b"sum"]);
    assert!(keys.next.is_none());
}

fn views_do_not_see_each_other_and_a_name_has_a_limit(ground: &Ground) {
    let mut writer = Writer::new(ground);
    writer.append("a", "1");
    let state = ground.store();
    let project = |name: &str| {
        let store = Arc::clone(&writer.store);
        Projector::live(name, store, Arc::clone(&state) as _, count)
    };
    for name in ["a", "aa", "b"] {
        run(&mut project(name).unwrap()).unwrap();
        let view = ReadModel::new(name, Arc::clone(&state) as _);
        let first = view.list(&[], 1).unwrap();
        assert_eq!((of(&view, "sum"), first.next.as_deref()), (1, Some(b"sum".as_slice())));
        assert_eq!(view.list(b"sum", 5).unwrap().entries.len(), 1);
    }
    assert!(matches!(project(&"x".repeat(256)), Err(ProjectionError::NameTooLong { bytes: 256, max: 255 })));
    project(&"x".repeat(255)).unwrap().step().unwrap();
}

fn older_events_are_projected_in_the_current_version_of_their_schema(ground: &Ground) {
    let mut writer = Writer::new(ground);
    writer.append_with("a", "x", |event| event.schema_version(3));
    writer.append_with("a", "5", |event| event.schema_version(2));
    let first = Upcasters::builder().step("a", 2, |old| Ok(old.with_payload(3, old.payload())?)).build().unwrap();
    let state = ground.store();
    let ignoring = |event: &StoredEventRef<'_>, view: &mut View<'_>| {
        assert_eq!(event.meta().schema_version(), 3);
        if event.payload().text() == Some("x") { Ok(()) } else { count(event, view) }
    };
    let projector =
        Projector::live("counts", Arc::clone(&writer.store) as _, Arc::clone(&state) as _, ignoring).unwrap();
    let mut projector = projector.upcasters(Arc::new(first));
    run(&mut projector).unwrap();
    assert_eq!(of(&ReadModel::new("counts", state), "sum"), 5);
    writer.append_with("a", "5", |event| event.schema_version(4));
    let refused = projector.step().unwrap_err();
    assert!(matches!(refused, ProjectionError::Upcast { .. }), "{refused:?}");
}
