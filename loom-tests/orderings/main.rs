//! Weakens each ordering of the source and writes who noticed; `ci/mutate-orderings` says how it is run.

mod source;
mod table;
mod tools;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use source::Site;
use table::Table;
use tools::Suite;

/// Tries one weakened ordering; says who noticed.
type Try<'a> = dyn Fn(&Site, &str) -> Option<String> + Sync + 'a;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository is above");
    let sites = source::all(root);
    let words: Vec<_> = env::args().skip(1).collect();
    let mut table = Table::read(root);
    if words != ["--check"] {
        // With `--rest` those that nobody has noticed so far, with `--stale` those whose function has changed since, with
        // labels those that have one of them; else all.
        let has = |site: &Site, word: &str| site.labels.split(", ").any(|label| label == word);
        let is_known = |word: &str| ["--rest", "--stale"].contains(&word) || sites.iter().any(|site| has(site, word));
        if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
            println!("orderings: no ordering has the label {unknown}; a label is written in full, as `lanes.cursor`");
            return ExitCode::FAILURE;
        }
        let wanted = |site: &Site, row: &str| match words.first().map(String::as_str) {
            None => true,
            Some("--rest") => !table.has(row) || table.survived(row),
            Some("--stale") => !table.has(row) || table.is_stale(site, row),
            Some(_) => words.iter().any(|word| has(site, word)),
        };
        let rows: Vec<_> = table::rows(&sites).filter(|(site, _, row)| wanted(site, row)).collect();
        table = mutated(root, &sites, table, rows);
    }
    for row in table.stale(&sites) {
        println!("orderings: stale: {row}");
    }
    let guide = fs::read_to_string(root.join(table::GUIDE)).expect("the guide is there");
    let faults = table.faults(&sites, &guide);
    for fault in &faults {
        println!("orderings: {fault}");
    }
    let [weakened, survivors] =
        [Table::has, Table::survived].map(|is_so| table::rows(&sites).filter(|(_, _, row)| is_so(&table, row)).count());
    let noticed = weakened - survivors;
    let stale = table.stale(&sites).len();
    println!(
        "orderings: {}, weakened: {weakened}, noticed: {noticed}, survivors: {survivors}, stale: {stale}",
        sites.len()
    );
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `table` with new verdicts on `rows`.
fn mutated(root: &Path, sites: &[Site], table: Table, rows: Vec<(&Site, &'static str, String)>) -> Table {
    let loom = Suite::new("ORDERINGS_LOOM").expect("the models are built");
    let tsan = Suite::new("ORDERINGS_TSAN");
    for suite in [Some(&loom), tsan.as_ref()].into_iter().flatten() {
        assert_eq!(suite.unknown(sites), [""; 0], "places that the source does not show");
    }
    for site in sites.iter().filter(|site| loom.comers(site) == 0) {
        println!("{}: no model comes by, {} other tests do", site.place(), tsan.as_ref().map_or(0, |s| s.comers(site)));
    }
    let mut left = rows;
    let table = Mutex::new(table);
    left = survivors(root, sites, left, &table, &|site, weaker| loom.by_loom(site, weaker));
    match env::var("ORDERINGS_MIRI") {
        Ok(folder) => {
            let folder = Path::new(&folder);
            left = survivors(root, sites, left, &table, &|site, weaker| loom.by_miri(site, weaker, folder));
        }
        Err(_) => println!("SKIP orderings: no Miri"),
    }
    match &tsan {
        Some(tsan) => left = survivors(root, sites, left, &table, &|site, weaker| tsan.by_tsan(site, weaker)),
        None => println!("SKIP orderings: no ThreadSanitizer"),
    }
    let mut table = table.into_inner().expect("no thread panicked");
    left.iter().for_each(|(site, _, row)| table.unnoticed(site, row));
    table.write(root, sites).expect("the table may be written");
    // As it stands now: without the rows that the source has no more.
    Table::read(root)
}

/// Those of `rows` that `noticed` does not notice; the others go to the table.
fn survivors<'a>(
    root: &Path,
    sites: &[Site],
    rows: Vec<(&'a Site, &'static str, String)>,
    table: &Mutex<Table>,
    noticed: &Try<'_>,
) -> Vec<(&'a Site, &'static str, String)> {
    let next = AtomicUsize::new(0);
    let survived = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                // Relaxed: a number for each.
                while let Some((site, weaker, row)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let by = noticed(site, weaker);
                    println!("{row} {}", by.as_deref().unwrap_or("not noticed"));
                    match by {
                        Some(by) => {
                            let mut table = table.lock().expect("no thread panicked");
                            table.noticed(site, row, by);
                            // At once, so that what was found is kept when the rest is interrupted.
                            table.write(root, sites).expect("the table may be written");
                        }
                        None => survived.lock().expect("no thread panicked").push((*site, *weaker, row.clone())),
                    }
                }
            });
        }
    });
    survived.into_inner().expect("no thread panicked")
}
