//! Sagas: a panic of a step is an error that is tried again, and one of everything else leaves it where it was kept.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use ringmain::sourcing::{Executed, Heard, Saga, SagaPhase, Sagas, Step};

use super::*;

thread_local! {
    static SECONDS: Cell<u64> = const { Cell::new(1_000) };
}

/// Three steps; the second waits for an event, the third fails: all is undone.
fn shipping() -> Saga<Sum> {
    let step = |name: &'static str, outcome: Executed| {
        let step = Step::new(name, move |sum: &mut Sum, _| {
            call("execute");
            sum.0 += 1;
            Ok(outcome.clone())
        });
        let step = step.attempts_max(2).compensations_max(2).delay(Duration::ZERO);
        step.compensate(|sum, _| {
            call("compensate");
            sum.0 += 10;
            Ok(())
        })
    };
    let pack = step("pack", Executed::Waiting).hear(|sum, _, _| {
        call("hear");
        sum.0 += 100;
        Ok(Heard::Done)
    });
    let ship = step("ship", Executed::Failed("no ship".to_owned()));
    Saga::new("shipping", 1).step(step("reserve", Executed::Done)).step(pack).step(ship)
}

#[test]
fn sagas_end_as_they_would_have_and_say_what_panicked() {
    let kinds = [
        "clock",
        "compensate",
        "execute",
        "get",
        "hear",
        "keep",
        "kept",
        "list",
        "of_bytes",
        "state_durability",
        "to_bytes",
    ];
    at_every_call(&kinds, || {
        let (packed, state) = (Writer::new(&Ground::Memory).frame("packed", ""), Ground::Memory.store());
        let mut sagas = again(|| Sagas::open(shipping(), Given::new(&state)).unwrap()).clock(|| {
            call("clock");
            UNIX_EPOCH + Duration::from_secs(SECONDS.get())
        });
        let (mut said, mut rounds_of) = (Vec::new(), [0; 2]);
        for round in 1..=4 {
            SECONDS.set(SECONDS.get() + 2);
            for id in ["7", "8"] {
                // Begun before, or not yet.
                let _ = guarded(|| sagas.start(id, Sum::default())).map(|begun| begun.map_err(|e| said.push(e)));
            }
            if let Some(ran) = guarded(|| sagas.run_due()) {
                said.extend(ran.failed.into_iter().map(|(_, error)| error));
            }
            for (id, rounds) in ["7", "8"].into_iter().zip(&mut rounds_of) {
                let _ = guarded(|| sagas.tell(id, &packed)).map(|told| told.map_err(|e| said.push(e)));
                let is_under_way = sagas.active().any(|active| active == id);
                *rounds = if *rounds == 0 && !is_under_way { round } else { *rounds };
            }
        }
        assert!(rounds_of.into_iter().all(|rounds| (1..=2).contains(&rounds)), "{rounds_of:?} {:?}", blown());
        assert!(rounds_of.contains(&1), "the other one is not held up: {rounds_of:?} {:?}", blown());
        let asked_for = "it panicked: a panic that the test asks for, in ";
        let in_data = ["of_bytes", "to_bytes"].into_iter().find(|kind| blown() == Some(kind));
        if let Some(kind) = in_data {
            let said: Vec<_> = said.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|error| error.contains(&format!("{asked_for}{kind}"))), "{kind}: {said:?}");
        }
        let mut heard = 0;
        for id in ["7", "8"] {
            let (status, sum) = again(|| sagas.get(id)).or_else(|_| sagas.get(id)).unwrap().unwrap();
            assert_eq!((status.phase, status.error), (SagaPhase::Compensated, None), "{:?}", blown());
            if status.reason.as_deref() == Some("no ship") {
                // What a call that panicked had changed is thrown away.
                assert_eq!(sum.0, 3 + 30 + 100, "{:?}", blown());
                heard += 1;
            } else {
                assert_eq!(status.reason, Some(format!("{asked_for}hear")));
            }
        }
        // What failed may have been due a little later.
        SECONDS.set(SECONDS.get() + 2);
        assert!(again(|| sagas.run_due()).sagas.is_empty() && sagas.next_due().is_none(), "{:?}", blown());
        assert_eq!(heard, if blown() == Some("hear") { 1 } else { 2 });
    });
}
