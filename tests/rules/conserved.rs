//! Every file of tests that make a bus asks its books, through the one helper.

use std::fs;
use std::path::{Path, PathBuf};

/// `support/books.rs`, and what other helpers are made of it.
const HELPERS: [&str; 5] = ["assert_books", "assert_balanced", "assert_settled", "assert_counted", "shut_down_clean"];
/// Files whose bus is published to by nobody: it gives frames their ids and times.
const UNPUBLISHED: [&str; 3] = ["pipe/store.rs", "sourcing/repository.rs", "sourcing/support.rs"];

fn files(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn each_file_that_tests_a_bus_asks_its_books() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (mut asked, mut silent) = (0, Vec::new());
    for path in files(&tests).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let makes_a_bus = ["Bus::builder()", "Simulation::new("].iter().any(|call| text.contains(call));
        if !makes_a_bus || !text.contains("#[test]") {
            continue;
        }
        let name = path.strip_prefix(&tests).unwrap().to_string_lossy().into_owned();
        if HELPERS.iter().any(|helper| text.contains(helper)) {
            asked += 1;
        } else if !UNPUBLISHED.contains(&&*name) {
            silent.push(name);
        }
    }
    assert!(silent.is_empty(), "these do not ask the books of their bus; call assert_books at the end: {silent:?}");
    assert!(asked > 60, "{asked} files: is this the right directory?");
}
