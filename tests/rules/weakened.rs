//! The table of weakened orderings names exactly what the source has, and says why nobody had to notice the rest.

use std::fs;
use std::path::Path;

#[path = "../../loom-tests/orderings/source.rs"]
#[expect(dead_code, reason = "what runs the checks needs more of it")]
mod source;
#[path = "../../loom-tests/orderings/table.rs"]
#[expect(dead_code, reason = "what runs the checks needs more of it")]
mod table;

use source::sites;
use table::Table;

/// Rows of functions that have changed since they were tried. A change of one function must not cost the hour that all
/// orderings take, and most change no ordering; but when a quarter of the table is about other code, it proves little.
const STALE_MAX: usize = 27;

#[test]
fn every_ordering_was_weakened_and_noticed_or_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sites = source::all(root);
    assert!(sites.len() > 50, "there is something to look at");
    let table = Table::read(root);
    let guide = fs::read_to_string(root.join(table::GUIDE)).expect("the guide is there");
    let faults = table.faults(&sites, &guide);
    assert!(
        faults.is_empty(),
        "{} faults; ci/mutate-orderings --rest mends most:\n{}",
        faults.len(),
        faults.join("\n")
    );
    let stale = table.stale(&sites);
    assert!(
        stale.len() <= STALE_MAX,
        "{} verdicts are about functions that have changed since; ci/mutate-orderings --stale tries them again:\n{}",
        stale.len(),
        stale.join("\n")
    );
}

/// One call of each shape, each after its label.
const SHAPES: &str = r#"
fn shapes(&self) {
    // SYNC(a): Release. `Ordering::SeqCst` in a comment is nothing.
    self.tail.store(next(1), Ordering::Release); log("Ordering::SeqCst");
    // SYNC(b): Acquire on success and failure.
    match cells.free.compare_exchange_weak(top, below, Ordering::Acquire, Ordering::Acquire) {}
    // SYNC(c): AcqRel.
    let met =
        self.state.compare_exchange(ONE, TWO, mutant!("c", Ordering::AcqRel), Ordering::Relaxed);
    // SYNC(d): Release.
    let release = mutant!("d", Ordering::Release);
    self.head.compare_exchange(released, then, release, Ordering::Relaxed);
    // SYNC(e, f): SeqCst fence.
    mutant!("e", fence(Ordering::SeqCst) => ());
    // SYNC(a): Acquire, twice.
    if place(self.at).load(Ordering::Acquire) != self.words[0].load(Ordering::Acquire) {}
    if place(self.at).load(Ordering::Acquire) {}
}
#[cfg(test)]
mod tests { fn f() { a.load(Ordering::SeqCst) } }
"#;

#[test]
fn each_ordering_is_found_at_the_call_that_takes_it() {
    let found = sites("src/f.rs", SHAPES);
    let told: Vec<_> =
        found.iter().map(|site| format!("{} {} {}", site.operation, site.ordering, site.labels)).collect();
    let expected = [
        "self.tail.store Release a",
        "cells.free.compare_exchange_weak, success Acquire b",
        "cells.free.compare_exchange_weak, failure Acquire b",
        "self.state.compare_exchange, success AcqRel c",
        "self.head.compare_exchange, success Release d",
        "fence SeqCst e, f",
        "place(self.at).load Acquire a",
        "self.words[0].load Acquire a",
        "place(self.at).load, 2. Acquire a",
    ];
    assert_eq!(told, expected);
    assert!(found.iter().all(|site| site.function == "shapes"));
    let places: Vec<_> = found.iter().map(|site| (site.line, site.column, site.nth)).collect();
    assert_eq!(places[..6], [(4, 15, 0), (6, 22, 0), (6, 22, 1), (9, 20, 0), (12, 15, 0), (14, 18, 0)]);
}

#[test]
fn a_table_that_parted_from_the_source_is_found_out() {
    const SOURCE: &str =
        "fn f() {\n// SYNC(a): Acquire.\nx.load(Ordering::Acquire);\n// SYNC(b): AcqRel.\ny.swap(Ordering::AcqRel)\n}";
    const WHOLE: &str = "| `f.rs` `f` | `x.load` | `a` | Acquire to Relaxed | loom, `one` | `0` |\n\
        | `f.rs` `f` | `y.swap` | `b` | AcqRel to Acquire | survived: nothing was written before | `0` |\n\
        | `f.rs` `f` | `y.swap` | `b` | AcqRel to Release | Miri, `two` | `0` |\n";
    const GUIDE: &str = "# Labels\n`b`\n# Weakened, one at a time\nNobody looks (`b`).\n# Else\n`a`\n";
    let faults = |table: &str| Table::parse(table).faults(&sites("src/f.rs", SOURCE), GUIDE);
    assert_eq!(faults(WHOLE), [""; 0]);
    let untold = Table::parse(WHOLE).faults(&sites("src/f.rs", SOURCE), &GUIDE.replace("(`b`)", ""));
    assert!(matches!(&untold[..], [fault] if fault.starts_with("a survivor that")), "{untold:?}");
    for (is, was, fault) in [
        ("nothing was written before", "?", "no reason: | `f.rs` `f` | `y.swap` | `b` | AcqRel to Acquire |"),
        ("`x.load`", "`z.load`", "not in the source: | `f.rs` `f` | `z.load` | `a` | Acquire to Relaxed |"),
        (
            "AcqRel to Release",
            "AcqRel to Relaxed",
            "not in the table: | `f.rs` `f` | `y.swap` | `b` | AcqRel to Release |",
        ),
    ] {
        let found = faults(&WHOLE.replacen(is, was, 1));
        assert!(found.iter().any(|found| found == fault), "{fault:?} is not in {found:?}");
    }
}

#[test]
fn a_verdict_about_a_function_that_has_changed_is_stale() {
    const SOURCE: &str = "fn f() { if a { b() } x.load(Ordering::Acquire); }\nfn g() { y.load(Ordering::Acquire) }\n";
    let found = sites("src/f.rs", SOURCE);
    let table: String = table::rows(&found).map(|(site, _, row)| format!("{row} Miri | `{}` |\n", site.text)).collect();
    let stale = |source: &str| Table::parse(&table).stale(&sites("src/f.rs", source)).len();
    assert_eq!(stale(SOURCE), 0);
    assert_eq!(stale(&SOURCE.replace("{ b() }", "{\n    // It may be so.\n    b()\n}")), 0, "how it is written");
    assert_eq!(stale(&SOURCE.replace("b()", "c()")), 1, "its own function, and no other");
    assert_eq!(stale(&SOURCE.replace("; }", "; c(); }")), 1, "behind the ordering");
}
