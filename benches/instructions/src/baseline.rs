//! The committed counts, what they were taken with, and the rule by which new ones are judged.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A count may differ from its baseline by so many percent.
pub(crate) const TOLERANCE_PERCENT: f64 = 5.0;

const HEAD: &str = "\
# Instructions of each operation, by callgrind. `cargo run --release -p instructions -- --save` writes this file;
# commit it together with the change that moved a count.
";

/// What counts depend on beside the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) compiler: String,
    pub(crate) target: String,
}

impl Toolchain {
    /// The one that compiled this program.
    pub(crate) fn current() -> Self {
        Self { compiler: env!("COMPILED_BY").to_owned(), target: env!("COMPILED_FOR").to_owned() }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.compiler, self.target)
    }
}

/// Counts to compare with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Baseline {
    pub(crate) toolchain: Toolchain,
    counts: Vec<(String, f64)>,
}

impl Baseline {
    pub(crate) fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.txt")
    }

    pub(crate) fn new(toolchain: Toolchain, counts: Vec<(String, f64)>) -> Self {
        Self { toolchain, counts }
    }

    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}; --save makes it", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}; --save makes it anew", path.display()))
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), String> {
        fs::write(path, self.to_string()).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads what `Display` writes: a word and its value on each line, `#` begins a comment.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut compiler, mut target, mut counts) = (None, None, Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').ok_or_else(|| format!("{line:?} has no value"))?;
            let value = value.trim();
            match name {
                "compiler" => compiler = Some(value.to_owned()),
                "target" => target = Some(value.to_owned()),
                _ => match value.parse() {
                    Ok(count) if f64::is_finite(count) && count > 0.0 => counts.push((name.to_owned(), count)),
                    _ => return Err(format!("{value:?} is no count of instructions of {name}")),
                },
            }
        }
        let compiler = compiler.ok_or("it names no compiler")?;
        let target = target.ok_or("it names no target")?;
        Ok(Self { toolchain: Toolchain { compiler, target }, counts })
    }

    pub(crate) fn count(&self, operation: &str) -> Option<f64> {
        self.counts.iter().find(|(name, _)| name == operation).map(|&(_, count)| count)
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toolchain { compiler, target } = &self.toolchain;
        write!(f, "{HEAD}compiler {compiler}\ntarget {target}\n")?;
        self.counts.iter().try_for_each(|(name, count)| writeln!(f, "{name:<18} {count:>8.2}"))
    }
}

/// How a count compares with its baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the tolerance.
    Steady,
    Rose,
    Fell,
    /// The baseline does not have it.
    New,
}

impl Verdict {
    pub(crate) fn of(now: f64, baseline: Option<f64>) -> Self {
        match baseline.map(|baseline| change_percent(now, baseline)) {
            None => Self::New,
            Some(change) if change > TOLERANCE_PERCENT => Self::Rose,
            Some(change) if change < -TOLERANCE_PERCENT => Self::Fell,
            Some(_) => Self::Steady,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Rose => "rose",
            Self::Fell => "fell",
            Self::New => "new",
        }
    }
}

/// To a tenth, so that what is judged is what is shown.
pub(crate) fn change_percent(now: f64, baseline: f64) -> f64 {
    // Adding zero makes a negative zero positive.
    ((now - baseline) / baseline * 1_000.0).round() / 10.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::Operation;

    fn toolchain() -> Toolchain {
        Toolchain { compiler: "rustc 1.0.0 (of a day)".into(), target: "here, cpu default, features a,b".into() }
    }

    #[test]
    fn more_than_five_percent_up_is_a_rise_and_down_is_a_fall() {
        let verdict = |now| Verdict::of(now, Some(200.0));
        assert_eq!([verdict(200.0), verdict(210.0), verdict(190.0)], [Verdict::Steady; 3]);
        assert_eq!([verdict(210.2), verdict(400.0)], [Verdict::Rose; 2]);
        assert_eq!([verdict(189.8), verdict(1.0)], [Verdict::Fell; 2]);
        assert_eq!(Verdict::of(200.0, None), Verdict::New);
    }

    #[test]
    fn a_saved_count_does_not_differ_from_itself() {
        for now in [20.004, 20.006, 61.055, 12_345.678_9] {
            let saved = Baseline::new(toolchain(), vec![("a".into(), now)]).to_string();
            let baseline = Baseline::parse(&saved).unwrap().count("a").unwrap();
            assert_eq!(format!("{:+.1}", change_percent(now, baseline)), "+0.0");
        }
    }

    #[test]
    fn what_is_saved_reads_back() {
        let counts = vec![("publish-one".to_owned(), 123.4), ("a-name-longer-than-its-column".to_owned(), 7.0)];
        let baseline = Baseline::new(toolchain(), counts);
        assert_eq!(Baseline::parse(&baseline.to_string()), Ok(baseline));
    }

    #[test]
    fn a_damaged_baseline_is_refused_with_the_place_of_the_fault() {
        let head = "compiler c\ntarget t\n";
        for (text, fault) in [
            ("target t\n", "no compiler"),
            ("compiler c\n", "no target"),
            (&*format!("{head}publish-one\n"), "publish-one"),
            (&*format!("{head}publish-one many\n"), "many"),
            (&*format!("{head}publish-one 0\n"), "publish-one"),
            (&*format!("{head}publish-one NaN\n"), "NaN"),
        ] {
            let error = Baseline::parse(text).unwrap_err();
            assert!(error.contains(fault), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_committed_baseline_has_every_operation_and_no_other() {
        let baseline = Baseline::load(&Baseline::path()).unwrap();
        let saved: Vec<_> = baseline.counts.iter().map(|(name, _)| name.as_str()).collect();
        let operations: Vec<_> = Operation::all().map(|operation| operation.name).collect();
        assert_eq!(saved, operations);
    }
}
