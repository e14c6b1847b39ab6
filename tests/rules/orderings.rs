//! Every ordering says what it is for: a label that two ends share, or why nothing rides on it.
//!
//! `// SYNC(label): Release. ...` stands above the operation it speaks of and begins with its ordering; `SYNC(a, b)` has
//! two labels. `// Relaxed: ...` stands above a relaxed one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Lines of an operation, from the end of its comment to its ordering.
const OPERATION_LINES_MAX: usize = 6;
/// A comment may speak of two relaxed accesses below it, with a line between them.
const RELAXED_LINES_MAX: usize = 4;

/// Which ends of its label an operation is.
#[derive(Debug, Default, Clone, Copy)]
struct Ends {
    sites: usize,
    releases: bool,
    acquires: bool,
    with_itself: bool,
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The atomic orderings that a line of code names, in their order.
fn orderings(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let names = code.split("Ordering::").skip(1);
    let names = names.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default());
    names.filter(|name| ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"].contains(name)).collect()
}

/// Labels, and what follows them, of a comment that explains an ordering.
fn sync(line: &str) -> Option<(Vec<&str>, &str)> {
    let (labels, rest) = line.trim_start().strip_prefix("// SYNC(")?.split_once("): ")?;
    Some((labels.split(", ").collect(), rest))
}

/// The line of code that a comment at `at` speaks of: the first below it that names an ordering.
fn operation(lines: &[&str], at: usize) -> Option<usize> {
    let code = (at + 1..lines.len()).filter(|&nth| !is_comment(lines[nth])).take(OPERATION_LINES_MAX);
    code.into_iter().find(|&nth| !orderings(lines[nth]).is_empty())
}

/// What is wrong with one file; its labels are added to `ends`.
fn check_file(name: &str, text: &str, ends: &mut BTreeMap<String, Ends>) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let mut faults = Vec::new();
    let mut explained = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((labels, rest)) = sync(line) else { continue };
        let place = format!("{name}:{}", at + 1);
        let Some(operation) = operation(&lines, at) else {
            faults.push(format!("{place}: no operation follows the label"));
            continue;
        };
        let ordering = orderings(lines[operation])[0];
        if !rest.starts_with(ordering) {
            faults.push(format!("{place}: the operation is {ordering}, the comment says otherwise"));
        }
        explained.insert(operation);
        // The rest of the comment.
        let comment: String = lines[at..operation].iter().copied().filter(|line| is_comment(line)).collect();
        for label in labels {
            let ends = ends.entry(label.to_owned()).or_default();
            ends.sites += 1;
            ends.releases |= ["Release", "AcqRel", "SeqCst"].contains(&ordering);
            ends.acquires |= ["Acquire", "AcqRel", "SeqCst"].contains(&ordering);
            ends.with_itself |= comment.contains("Pairs with itself") && ordering == "AcqRel";
        }
    }
    for (at, line) in lines.iter().enumerate() {
        let named = orderings(line);
        let Some(first) = named.first() else { continue };
        let place = format!("{name}:{}", at + 1);
        if *first != "Relaxed" {
            // A relaxed failure beside it needs no word of its own: an exchange that failed has done nothing.
            if !explained.contains(&at) {
                faults.push(format!("{place}: {first} without a label"));
            }
        } else {
            let above = &lines[at.saturating_sub(RELAXED_LINES_MAX)..at];
            if !above.iter().any(|line| is_comment(line) && line.contains("Relaxed") && line.contains(": ")) {
                faults.push(format!("{place}: Relaxed, and nothing says why"));
            }
        }
    }
    faults
}

/// The labels in the first column of the table.
fn listed(table: &str) -> BTreeSet<String> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn faults<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>, table: &str) -> Vec<String> {
    let mut ends = BTreeMap::new();
    let mut faults: Vec<_> = files.into_iter().flat_map(|(name, text)| check_file(name, text, &mut ends)).collect();
    for (label, ends) in &ends {
        if ends.sites < 2 && !ends.with_itself {
            faults.push(format!("{label}: has one end"));
        }
        if !ends.releases {
            faults.push(format!("{label}: nothing releases"));
        }
        if !ends.acquires {
            faults.push(format!("{label}: nothing acquires"));
        }
    }
    let (known, listed) = (ends.into_keys().collect(), listed(table));
    faults.extend(listed.difference(&known).map(|label| format!("{label}: in the table, and nowhere else")));
    faults.extend(known.difference(&listed).map(|label| format!("{label}: not in the table")));
    faults
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_ordering_names_its_partner_or_says_why_it_needs_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let table = fs::read_to_string(root.join("src/guide/memory_model.md")).unwrap();
    assert!(files.len() > 50 && listed(&table).len() > 20, "there is something to look at");
    let faults = faults(files.iter().map(|(name, text)| (name.as_str(), text.as_str())), &table);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_fault_of_each_kind_is_found() {
    const SOUND: &str = "// SYNC(a.b): Release. Pairs with `get`.\nx.store(1, Ordering::Release);\n\
        // SYNC(a.b): Acquire. Pairs with `put`.\nx.load(Ordering::Acquire);\n\
        // Relaxed: a figure.\ny.load(Ordering::Relaxed);\n\
        // SYNC(c): AcqRel. Pairs with itself.\nz.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed);\n";
    const TABLE: &str = "| label | from |\n|---|---|\n| `a.b`, `c` | put |\n";
    let faults_of = |text: &str, table: &str| faults([("f", text)], table);
    assert_eq!(faults_of(SOUND, TABLE), [""; 0]);

    for (sound, faulty, fault) in [
        ("x.load(Ordering::Acquire);\n", "", "f:3: the operation is Relaxed, the comment says otherwise"),
        ("Ordering::Release", "Ordering::SeqCst", "f:1: the operation is SeqCst, the comment says otherwise"),
        ("// SYNC(a.b): Acquire. Pairs with `put`.\n", "", "f:3: Acquire without a label"),
        ("// Relaxed: a figure.\n", "", "f:5: Relaxed, and nothing says why"),
        ("Pairs with itself", "Pairs with somebody", "c: has one end"),
        ("(a.b): Release", "(a.c): Release", "a.b: nothing releases"),
        ("(a.b): Acquire", "(a.c): Acquire", "a.c: not in the table"),
        ("(a.b): Acquire", "(a.c): Acquire", "a.b: nothing acquires"),
    ] {
        let found = faults_of(&SOUND.replacen(sound, faulty, 1), TABLE);
        assert!(found.iter().any(|found| found == fault), "{fault:?} is not in {found:?}");
    }
    assert_eq!(faults_of(SOUND, &TABLE.replace("`c`", "`c`, `d`")), ["d: in the table, and nowhere else"]);
    let alone = faults_of("// SYNC(a): Release. Pairs with nobody.\n", "| `a` |");
    assert_eq!(alone[0], "f:1: no operation follows the label");
}
