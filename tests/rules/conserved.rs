//! Every test that makes a bus asks its books, through the one helper.

use std::fs;
use std::path::Path;

use crate::functions::{Function, Functions};

/// What asks: any function of it.
const HELPER: &str = "support/books.rs";
/// Make a bus to which nobody publishes: it gives frames their ids and times.
const UNPUBLISHED: [(&str, &str); 7] = [
    ("allocations/reading.rs", "reading_ten_times_as_many_events_allocates_no_more"),
    ("node/found.rs", "made"),
    ("pipe/forged.rs", "whole"),
    ("pipe/store.rs", "what_is_exported_and_imported_is_the_same_to_the_byte"),
    ("sourcing/repository.rs", "simulation"),
    ("sourcing/support.rs", "of"),
    ("store/conformance.rs", "new"),
];
/// Tests of builders that are refused: there never is a bus.
const UNBUILT: [(&str, &str); 4] = [
    ("allocations/limits.rs", "what_no_machine_has_is_refused"),
    ("life/config.rs", "every_fault_is_reported_at_once_with_its_text"),
    ("life/config.rs", "settings_that_contradict_each_other_are_named_both"),
    ("promises/payload_limit.rs", "a_limit_of_nothing_is_refused"),
];
/// What outlives its bus is all that is left: there is nobody to be asked.
const OUTLIVED: [(&str, &str); 1] = [("promises/reliable_edges.rs", "deliveries_outlive_their_bus")];

/// Of a bus with a worker that has failed, the books say what never will be brought; the report of its shutdown is asked. Of one
/// that is dropped while it announces, nothing is left to be asked.
const FAILED: [(&str, &str); 3] = [
    ("faults/worker_restarts.rs", "a_worker_that_panics_too_often_has_failed_and_nobody_waits_for_it"),
    ("faults/worker_restarts.rs", "what_others_deliver_goes_on_after_a_worker_has_failed"),
    ("promises/announced.rs", "a_bus_that_ends_while_it_announces_lets_go_of_itself"),
];

fn is_one_of(list: &[(&str, &str)], function: &Function) -> bool {
    list.contains(&(&*function.file, &*function.name))
}

#[test]
fn each_test_that_makes_a_bus_asks_its_books() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (mut asked, mut silent) = (0, Vec::new());
    for binary in fs::read_dir(&tests).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        if binary == "support" {
            continue;
        }
        let functions = Functions::of(&tests, &binary);
        let is_asked =
            |test: &&Function| !is_one_of(&UNBUILT, test) && !is_one_of(&OUTLIVED, test) && !is_one_of(&FAILED, test);
        for test in functions.tests().filter(is_asked) {
            let reached = functions.reached(test);
            let makes_a_bus = reached.iter().any(|function| {
                let makes = [["Bus", ":", ":", "builder"], ["Simulation", ":", ":", "new"]];
                makes.iter().any(|words| function.says(words)) && !is_one_of(&UNPUBLISHED, function)
            });
            if !makes_a_bus {
                continue;
            }
            if reached.iter().any(|function| function.file == HELPER) {
                asked += 1;
            } else {
                silent.push(format!("{} {}", test.file, test.name));
            }
        }
    }
    silent.sort();
    assert!(
        silent.is_empty(),
        "{} tests do not ask the books of their bus; call assert_books at the end:\n{}",
        silent.len(),
        silent.join("\n")
    );
    assert!(asked > 500, "{asked} tests: is this the right directory?");
}
