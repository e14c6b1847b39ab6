//! The committed table: each ordering, what it was weakened to, and who noticed or why nobody had to.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::source::Site;

/// Where it is, from the root of the repository.
pub(crate) const FILE: &str = "loom-tests/orderings.md";

const HEAD: &str = "# Orderings weakened, one at a time\n\n\
    Written by `ci/mutate-orderings`, which weakens each ordering stronger than Relaxed by one step and runs the loom \
    models that come by it, then what Miri and ThreadSanitizer run on real threads, until one fails. What survived has \
    its reason here, written by hand and kept.\n\n\
    | function | operation | label | weakened | noticed by |\n|---|---|---|---|---|\n";

/// What stands for a reason that nobody has written yet.
const UNEXPLAINED: &str = "?";
const SURVIVED: &str = "survived: ";

/// What came of each weakened ordering, by the cells that name it.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<String, String>);

/// The cells that name a weakened ordering.
pub(crate) fn row(site: &Site, weaker: &str) -> String {
    let Site { file, function, operation, labels, ordering, .. } = site;
    format!("| `{}` `{function}` | `{operation}` | `{labels}` | {ordering} to {weaker} |", &file["src/".len()..])
}

/// All of them, in the order of the source.
pub(crate) fn rows(sites: &[Site]) -> impl Iterator<Item = (&Site, &'static str, String)> {
    sites.iter().flat_map(|site| site.weaker().iter().map(move |&weaker| (site, weaker, row(site, weaker))))
}

impl Table {
    /// The table in `text`.
    pub(crate) fn parse(text: &str) -> Self {
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        let split = |row: &str| {
            let row = row.strip_suffix(" |")?;
            let (name, verdict) = row.rsplit_once(" | ")?;
            Some((format!("{name} |"), verdict.to_owned()))
        };
        Self(rows.filter_map(split).collect())
    }

    /// The committed one; empty where there is none.
    pub(crate) fn read(root: &Path) -> Self {
        fs::read_to_string(root.join(FILE)).map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Whether something came of it, or a reason is written.
    pub(crate) fn is_done(&self, row: &str) -> bool {
        self.0.get(row).is_some_and(|verdict| verdict.strip_prefix(SURVIVED) != Some(UNEXPLAINED))
    }

    /// Whether it was tried.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.0.contains_key(row)
    }

    /// Whether nothing noticed it.
    pub(crate) fn survived(&self, row: &str) -> bool {
        self.0.get(row).is_some_and(|verdict| verdict.starts_with(SURVIVED))
    }

    pub(crate) fn noticed(&mut self, row: &str, by: String) {
        self.0.insert(row.to_owned(), by);
    }

    /// Nothing noticed it. Its reason stays.
    pub(crate) fn unnoticed(&mut self, row: &str) {
        if !self.survived(row) {
            self.0.insert(row.to_owned(), format!("{SURVIVED}{UNEXPLAINED}"));
        }
    }

    /// Writes those rows that the source has.
    pub(crate) fn write(&self, root: &Path, sites: &[Site]) -> io::Result<()> {
        let lines =
            rows(sites).filter_map(|(_, _, row)| self.0.get(&row).map(|verdict| format!("{row} {verdict} |\n")));
        fs::write(root.join(FILE), HEAD.to_owned() + &lines.collect::<String>())
    }

    /// What is wrong with it: rows that the source has not or lacks, and survivors without a reason.
    pub(crate) fn faults(&self, sites: &[Site]) -> Vec<String> {
        let named: Vec<_> = rows(sites).map(|(_, _, row)| row).collect();
        let lacking =
            named.iter().filter(|row| !self.0.contains_key(*row)).map(|row| format!("not in the table: {row}"));
        let stale = self.0.keys().filter(|row| !named.contains(row)).map(|row| format!("not in the source: {row}"));
        let unexplained = self.0.keys().filter(|row| !self.is_done(row)).map(|row| format!("no reason: {row}"));
        lacking.chain(stale).chain(unexplained).collect()
    }
}
