//! Paths at which something may have happened, until they have been quiet for a while.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A path is reported at the latest after so many times the quiet that it should have, also while it is written to without a break.
const PATIENCE: u32 = 10;

/// Paths to look at. Times are since any fixed moment; whoever calls has the clock.
#[derive(Debug)]
pub struct Pending {
    quiet: Duration,
    paths_max: usize,
    paths: HashMap<PathBuf, Hints>,
    /// Everything is to be looked at, since then.
    all: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Hints {
    first: Duration,
    last: Duration,
}

impl Hints {
    fn due(&self, quiet: Duration) -> Duration {
        (self.last + quiet).min(self.first + quiet * PATIENCE)
    }
}

/// What is to be looked at now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// These paths, in no order.
    pub paths: Vec<PathBuf>,
    /// Everything.
    pub all: bool,
}

impl Pending {
    /// Nothing yet. Beyond `paths_max` paths everything is looked at instead.
    pub fn new(quiet: Duration, paths_max: usize) -> Self {
        Self { quiet, paths_max, paths: HashMap::new(), all: None }
    }

    /// Something happened at this path.
    pub fn hint(&mut self, path: PathBuf, now: Duration) {
        if self.paths.len() >= self.paths_max && !self.paths.contains_key(&path) {
            self.hint_all(now);
        } else {
            self.paths.entry(path).or_insert(Hints { first: now, last: now }).last = now;
        }
    }

    /// Something happened somewhere.
    pub fn hint_all(&mut self, now: Duration) {
        self.paths.clear();
        self.all.get_or_insert(now);
    }

    /// When there is something to look at.
    pub fn due_at(&self) -> Option<Duration> {
        let all = self.all.map(|since| since + self.quiet);
        self.paths.values().map(|hints| hints.due(self.quiet)).chain(all).min()
    }

    /// Takes what has been quiet for long enough.
    pub fn take(&mut self, now: Duration) -> Due {
        if self.all.is_some_and(|since| since + self.quiet <= now) {
            self.all = None;
            self.paths.clear();
            return Due { paths: Vec::new(), all: true };
        }
        let quiet = self.quiet;
        Due { paths: self.take_if(|_, hints| hints.due(quiet) <= now), all: false }
    }

    /// Takes those others that belong to what is looked at.
    pub fn take_others(&mut self, belongs: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        self.take_if(|path, _| belongs(path))
    }

    fn take_if(&mut self, takes: impl Fn(&Path, &Hints) -> bool) -> Vec<PathBuf> {
        self.paths.extract_if(|path, hints| takes(path, hints)).map(|(path, _)| path).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn due(paths: &[&str]) -> Due {
        Due { paths: paths.iter().map(PathBuf::from).collect(), all: false }
    }

    #[test]
    fn a_path_is_due_once_it_was_quiet_for_long_enough() {
        let mut pending = Pending::new(ms(100), 10);
        assert_eq!(pending.due_at(), None);
        pending.hint("a".into(), ms(0));
        pending.hint("a".into(), ms(60));
        pending.hint("b".into(), ms(70));
        assert_eq!(pending.due_at(), Some(ms(160)));
        assert_eq!(pending.take(ms(159)), due(&[]));
        assert_eq!(pending.take(ms(160)), due(&["a"]));
        assert_eq!(pending.take(ms(160)), due(&[]), "once");
        assert_eq!(pending.take_others(|path| path == Path::new("b")), [PathBuf::from("b")]);
        assert_eq!(pending.due_at(), None);
    }

    #[test]
    fn a_path_that_is_never_quiet_is_due_all_the_same() {
        let mut pending = Pending::new(ms(100), 10);
        for now in (0..990).step_by(10) {
            pending.hint("a".into(), ms(now));
            assert_eq!(pending.take(ms(now)), due(&[]));
        }
        pending.hint("a".into(), ms(999));
        assert_eq!(pending.due_at(), Some(ms(1_000)));
        assert_eq!(pending.take(ms(1_000)), due(&["a"]));
    }

    #[test]
    fn too_many_paths_are_one_look_at_everything() {
        let mut pending = Pending::new(ms(100), 2);
        for path in ["a", "b", "a", "c", "d"] {
            pending.hint(path.into(), ms(5));
        }
        assert_eq!(pending.due_at(), Some(ms(105)));
        assert_eq!(pending.take(ms(104)), due(&[]));
        assert_eq!(pending.take(ms(105)), Due { paths: Vec::new(), all: true });
        assert_eq!(pending.due_at(), None);
    }
}
