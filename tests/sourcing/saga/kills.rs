//! A process with a saga on disk is killed by `kill -9` before and after each write, and again in its next life.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use ringmain::Frame;
use ringmain::sourcing::{Executed, Heard, Saga, SagaPhase, Sagas, Step};

use super::deaths::{keys, live, shipping};
use super::{Trail, World};
use crate::folder::Folder;
use crate::killed::{child_folder, kill_after};
use crate::support::{Death, Ground, Mortal, Store, Writer, open};

const THIS: &str = "saga::kills::each_effect_happens_once_wherever_the_process_is_killed";
const DYING: &str = "dying";

/// Lives in a folder, on a store that is opened for it.
fn live_in(folder: &Path, fails: bool, death: Option<Death>) -> (Arc<dyn Store>, u64) {
    let world = World::kept_in(&folder.join("world"));
    let packed = Frame::copied_from(&fs::read(folder.join("packed")).unwrap()).unwrap();
    let store = open(&folder.join("store"));
    assert_eq!((&store.recovered().damages[..], &store.state_damages()[..]), (&[][..], &[][..]));
    let store: Arc<dyn Store> = Arc::new(store);
    let wait_for_death = || {
        println!("\n{DYING}");
        loop {
            thread::park();
        }
    };
    let mortal = Mortal::dying(&store, death, wait_for_death);
    live(&world, fails, Arc::clone(&mortal) as _, &packed).unwrap();
    (store, mortal.writes())
}

/// The process that is killed, which reads in the folder where it is to die.
fn child(folder: &Path) -> ! {
    let plan = fs::read_to_string(folder.join("plan")).unwrap();
    let [fails, when, nth] = plan.split(' ').collect::<Vec<_>>()[..] else { panic!("{plan}") };
    let nth = nth.parse().unwrap();
    let death = if when == "before" { Death::Before(nth) } else { Death::After(nth) };
    live_in(folder, fails == "true", Some(death));
    panic!("it should have died");
}

#[test]
fn each_effect_happens_once_wherever_the_process_is_killed() {
    if let Some(folder) = child_folder() {
        child(Path::new(&folder));
    }
    let base = Folder::new("saga-kills");
    let packed = Writer::new(&Ground::Memory).frame("packed", "");
    let begin = |name: &str| {
        let folder = base.0.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("packed"), packed.bytes()).unwrap();
        folder
    };
    let forth = [("reserve", "execute"), ("charge", "execute"), ("pack", "execute"), ("ship", "execute")];
    let back = [("ship", "compensate"), ("pack", "compensate"), ("charge", "compensate"), ("reserve", "compensate")];
    for fails in [false, true] {
        let effects = if fails { keys(&[forth, back].concat()) } else { keys(&forth) };
        let end = if fails { SagaPhase::Compensated } else { SagaPhase::Completed };
        let (_, writes) = live_in(&begin(&format!("{fails}")), fails, None);
        assert_eq!(writes, if fails { 10 } else { 6 });
        for (when, nth) in (0..writes).flat_map(|nth| [("before", nth), ("after", nth)]) {
            let place = format!("{fails} {when} {nth}");
            let folder = begin(&place);
            let mut deaths = 0;
            let mut die = |plan: &str| {
                fs::write(folder.join("plan"), plan).unwrap();
                kill_after(1, THIS, &folder, |line| {
                    let is_dying = line == DYING;
                    deaths += u32::from(is_dying);
                    is_dying
                });
            };
            die(&place);
            // Its next life ends before its first write, if there is one left: after the last one there is none.
            let is_over = (when, nth) == ("after", writes - 1);
            if !is_over {
                die(&format!("{fails} before 0"));
            }
            assert_eq!(deaths, if is_over { 1 } else { 2 }, "{place}");
            let (store, _) = live_in(&folder, fails, None);
            let world = World::kept_in(&folder.join("world"));
            assert_eq!(world.effects(), effects, "{place}: each once, and back in reverse order");
            let sagas = Sagas::open(shipping(&world, fails), store).unwrap();
            assert_eq!((sagas.active().len(), sagas.next_due()), (0, None), "{place}");
            assert_eq!(sagas.get("7").unwrap().unwrap().0.phase, end, "{place}");
        }
    }
}

const TIMEOUT: &str = "saga::kills::a_timeout_comes_due_in_the_process_after_the_one_that_was_killed";
const HOUR: Duration = Duration::from_secs(3_600);

/// A step that is undone, one whose first attempt fails, and one that waits for an hour at most.
fn waiting(world: &Arc<World>) -> Saga<Trail> {
    let undoing = Arc::clone(world);
    let reserve = Step::new("reserve", |_: &mut Trail, _| Ok(Executed::Done)).compensate(move |_, run| {
        undoing.act(run.key());
        Ok(())
    });
    let charge = Step::new("charge", |_: &mut Trail, run| match run.attempt() {
        1 => Err("not now".into()),
        _ => Ok(Executed::Done),
    });
    let wait = Step::new("wait", |_: &mut Trail, _| Ok(Executed::Waiting)).hear(|_, _, _| Ok(Heard::Done));
    Saga::new("waiting", 1).step(reserve).step(charge.delay(HOUR).attempts_max(2)).step(wait.timeout(HOUR))
}

#[test]
fn a_timeout_comes_due_in_the_process_after_the_one_that_was_killed() {
    let open_in = |folder: &Path, later: Duration| {
        let world = World::kept_in(&folder.join("world"));
        let sagas = Sagas::open(waiting(&world), Arc::new(open(&folder.join("store"))) as _).unwrap();
        (sagas.clock(move || UNIX_EPOCH + later), world)
    };
    // Each life says how far it has come, and ends there.
    if let Some(folder) = child_folder() {
        let folder = Path::new(&folder);
        let (mut sagas, _world) = match fs::read_to_string(folder.join("plan")).unwrap().as_str() {
            "start" => open_in(folder, HOUR),
            _ => open_in(folder, 2 * HOUR),
        };
        if sagas.get("7").unwrap().is_none() {
            sagas.start("7", Trail::default()).unwrap();
        }
        assert!(sagas.run_due().failed.is_empty());
        println!("\n{DYING}");
        loop {
            thread::park();
        }
    }
    let base = Folder::new("saga-timeout");
    let die = |plan: &str| {
        fs::write(base.0.join("plan"), plan).unwrap();
        kill_after(1, TIMEOUT, &base.0, |line| line == DYING);
    };
    let status = |later: Duration| {
        let (mut sagas, world) = open_in(&base.0, later);
        let ran = sagas.run_due().sagas.len();
        let (status, _) = sagas.get("7").unwrap().unwrap();
        (ran, status, world.effects())
    };
    let second = Duration::from_secs(1);
    die("start");
    let (ran, waits, _) = status(HOUR);
    assert_eq!((ran, waits.phase, waits.step.as_deref(), waits.attempt), (0, SagaPhase::Executing, Some("charge"), 2));
    assert_eq!(waits.due, Some(UNIX_EPOCH + 2 * HOUR), "the delay of the retry was kept");
    die("retry");
    let (ran, waits, _) = status(3 * HOUR - second);
    assert_eq!((ran, waits.phase, waits.due), (0, SagaPhase::Waiting, Some(UNIX_EPOCH + 3 * HOUR)));
    let (ran, late, effects) = status(3 * HOUR);
    assert_eq!((ran, late.phase), (1, SagaPhase::Compensated));
    assert_eq!(late.reason.as_deref(), Some("it was not done in time"));
    assert_eq!(effects, ["waiting/7/reserve/compensate"]);
}
