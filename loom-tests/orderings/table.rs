//! The committed table: each ordering, what it was weakened to, and who noticed or why nobody had to.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::source::Site;

/// Where it is, from the root of the repository.
pub(crate) const FILE: &str = "loom-tests/orderings.md";

/// Where the guide says of each survivor why nobody had to notice it.
pub(crate) const GUIDE: &str = "src/guide/memory_model.md";
const GUIDE_SECTION: &str = "\n# Weakened, one at a time\n";

const HEAD: &str = "# Orderings weakened, one at a time\n\n\
    Written by `ci/mutate-orderings`, which weakens each ordering stronger than Relaxed by one step and runs the loom \
    models that come by it, then what Miri and ThreadSanitizer run on real threads, until one fails. What survived has \
    its reason here, written by hand and kept. The last column is a hash of the function's text when it was tried: \
    `ci/mutate-orderings --check` lists the rows whose function has changed since, and `--stale` tries those again.\n\n\
    | function | operation | label | weakened | noticed by | text |\n|---|---|---|---|---|---|\n";

/// What stands for a reason that nobody has written yet.
const UNEXPLAINED: &str = "?";
const SURVIVED: &str = "survived: ";

/// What came of one weakened ordering.
#[derive(Debug)]
struct Verdict {
    said: String,
    /// Of [`Site::text`], when it was tried.
    text: String,
}

/// What came of each weakened ordering, by the cells that name it.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<String, Verdict>);

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
            let (row, text) = row.rsplit_once(" | ")?;
            let (name, said) = row.rsplit_once(" | ")?;
            Some((format!("{name} |"), Verdict { said: said.to_owned(), text: text.trim_matches('`').to_owned() }))
        };
        Self(rows.filter_map(split).collect())
    }

    /// The committed one; empty where there is none.
    pub(crate) fn read(root: &Path) -> Self {
        fs::read_to_string(root.join(FILE)).map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Whether it was tried.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.0.contains_key(row)
    }

    /// Whether nothing noticed it.
    pub(crate) fn survived(&self, row: &str) -> bool {
        self.0.get(row).is_some_and(|verdict| verdict.said.starts_with(SURVIVED))
    }

    /// Whether it was tried, and the function of `site` has changed since.
    pub(crate) fn is_stale(&self, site: &Site, row: &str) -> bool {
        self.0.get(row).is_some_and(|verdict| verdict.text != site.text)
    }

    pub(crate) fn noticed(&mut self, site: &Site, row: &str, by: String) {
        self.0.insert(row.to_owned(), Verdict { said: by, text: site.text.clone() });
    }

    /// Nothing noticed it. Its reason stays.
    pub(crate) fn unnoticed(&mut self, site: &Site, row: &str) {
        let reason = self.0.remove(row).map(|verdict| verdict.said).filter(|said| said.starts_with(SURVIVED));
        self.noticed(site, row, reason.unwrap_or_else(|| format!("{SURVIVED}{UNEXPLAINED}")));
    }

    /// Writes those rows that the source has.
    pub(crate) fn write(&self, root: &Path, sites: &[Site]) -> io::Result<()> {
        let line = |(_, _, row): (_, _, String)| {
            self.0.get(&row).map(|Verdict { said, text }| format!("{row} {said} | `{text}` |\n"))
        };
        fs::write(root.join(FILE), HEAD.to_owned() + &rows(sites).filter_map(line).collect::<String>())
    }

    /// Rows whose function has changed since they were tried.
    pub(crate) fn stale(&self, sites: &[Site]) -> Vec<String> {
        rows(sites).filter(|(site, _, row)| self.is_stale(site, row)).map(|(_, _, row)| row).collect()
    }

    /// What is wrong with it: rows that the source has not or lacks, and survivors without a reason, or whose label is
    /// not in the section of `guide` about them.
    pub(crate) fn faults(&self, sites: &[Site], guide: &str) -> Vec<String> {
        let section = guide.split_once(GUIDE_SECTION).map_or("", |(_, after)| after);
        let section = section.split("\n# ").next().unwrap_or_default();
        let mut faults: Vec<_> = self
            .0
            .keys()
            .filter(|row| rows(sites).all(|(_, _, known)| known != **row))
            .map(|row| format!("not in the source: {row}"))
            .collect();
        for (site, _, row) in rows(sites) {
            let Some(verdict) = self.0.get(&row) else {
                faults.push(format!("not in the table: {row}"));
                continue;
            };
            if verdict.said.strip_prefix(SURVIVED) == Some(UNEXPLAINED) {
                faults.push(format!("no reason: {row}"));
            }
            let is_told = |label: &str| section.contains(&format!("`{label}`"));
            if verdict.said.starts_with(SURVIVED) && !site.labels.split(", ").any(is_told) {
                faults.push(format!("a survivor that {GUIDE} does not speak of: {row}"));
            }
        }
        faults
    }
}
