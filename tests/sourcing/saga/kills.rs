//! A process with a saga on disk is killed by `kill -9` before and after each write, and again in its next life.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use ringmain::Frame;
use ringmain::sourcing::{SagaPhase, Sagas};

use super::World;
use super::deaths::{keys, live, shipping};
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
