//! A process dies at every write of a saga of four steps and of its compensation, and again while it goes on.

use std::sync::Arc;

use ringmain::Frame;
use ringmain::sourcing::{Executed, Heard, Saga, SagaError, SagaPhase, Sagas, Step, Told};
use ringmain::store::StateStore;

use super::{Trail, World};
use crate::support::{Death, Ground, Mortal, Writer, on_every_store};

/// Four steps, the third of which waits for an event; the fourth fails if it is to.
pub(super) fn shipping(world: &Arc<World>, fails: bool) -> Saga<Trail> {
    let step = |name: &'static str, outcome: Executed| {
        let (world, undoing) = (Arc::clone(world), Arc::clone(world));
        let step = Step::new(name, move |trail: &mut Trail, run| {
            world.act(run.key());
            trail.add(name);
            Ok(outcome.clone())
        });
        step.compensate(move |trail, run| {
            undoing.act(run.key());
            trail.add(&format!("un-{name}"));
            Ok(())
        })
    };
    let last = if fails { Executed::Failed("no ship".into()) } else { Executed::Done };
    let third = step("pack", Executed::Waiting).hear(|trail, event, _| {
        trail.add(event.meta().topic());
        Ok(Heard::Done)
    });
    let (first, second) = (step("reserve", Executed::Done), step("charge", Executed::Done));
    Saga::new("shipping", 1).step(first).step(second).step(third).step(step("ship", last))
}

/// Lives until it dies, or the saga has ended.
pub(super) fn live(
    world: &Arc<World>,
    fails: bool,
    state: Arc<dyn StateStore>,
    packed: &Frame,
) -> Result<(), SagaError> {
    let mut sagas = Sagas::open(shipping(world, fails), state)?;
    if sagas.get("7")?.is_none() {
        sagas.start("7", Trail::default())?;
    }
    if let Some((_, error)) = sagas.run_due().failed.pop() {
        return Err(error);
    }
    let told = sagas.tell("7", packed)?;
    assert!(matches!(told, Told::Taken | Told::Repeated), "{told:?}");
    Ok(())
}

pub(super) fn keys(steps: &[(&str, &str)]) -> Vec<String> {
    steps.iter().map(|(step, what)| format!("shipping/7/{step}/{what}")).collect()
}

on_every_store! {
    each_effect_happens_once_wherever_the_process_dies_and_dies_again,
    a_step_is_run_once_where_nothing_dies,
}

fn each_effect_happens_once_wherever_the_process_dies_and_dies_again(ground: &Ground) {
    let forth = [("reserve", "execute"), ("charge", "execute"), ("pack", "execute"), ("ship", "execute")];
    let back = [("ship", "compensate"), ("pack", "compensate"), ("charge", "compensate"), ("reserve", "compensate")];
    let packed = Writer::new(ground).frame("packed", "");
    for fails in [false, true] {
        let effects = if fails { keys(&[forth, back].concat()) } else { keys(&forth) };
        let words = "reserve charge pack packed ship";
        let words = if fails { "reserve charge pack packed ship un-ship un-pack un-charge un-reserve" } else { words };
        let end = if fails { SagaPhase::Compensated } else { SagaPhase::Completed };

        let (world, state) = (Arc::default(), ground.store());
        let immortal = Mortal::new(&state, None);
        live(&world, fails, Arc::clone(&immortal) as _, &packed).unwrap();
        let writes = immortal.writes();
        assert_eq!(writes, if fails { 10 } else { 6 }, "begun, then one write for each step, event and compensation");
        assert_eq!(world.effects(), effects);

        for first in (0..writes).flat_map(|nth| [Death::Before(nth), Death::After(nth)]) {
            for second in [None, Some(Death::Before(0)), Some(Death::After(0)), Some(Death::After(1))] {
                let (world, state) = (Arc::default(), ground.store());
                let died = live(&world, fails, Mortal::new(&state, Some(first)), &packed).unwrap_err();
                assert!(matches!(died, SagaError::Keep(_)), "{died:?}");
                if second.is_some() {
                    // There may be too little left to die of.
                    let _ = live(&world, fails, Mortal::new(&state, second), &packed);
                }
                let alive = Mortal::new(&state, None);
                live(&world, fails, alive, &packed).unwrap();
                assert_eq!(world.effects(), effects, "{first:?} {second:?}");
                let sagas = Sagas::open(shipping(&world, fails), state).unwrap();
                assert_eq!((sagas.active().len(), sagas.next_due()), (0, None));
                let (status, trail) = sagas.get("7").unwrap().unwrap();
                assert_eq!((status.phase, status.step), (end, None));
                assert_eq!(trail.0.join(" "), words, "{first:?} {second:?}");
                assert_eq!(status.reason.as_deref(), fails.then_some("no ship"));
            }
        }
    }
}

fn a_step_is_run_once_where_nothing_dies(ground: &Ground) {
    let (world, state) = (Arc::default(), ground.store());
    live(&world, true, state, &Writer::new(ground).frame("packed", "")).unwrap();
    assert_eq!(world.calls.load(std::sync::atomic::Ordering::Relaxed), 8);
}
