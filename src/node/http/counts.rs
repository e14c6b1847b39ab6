//! What was refused, by reason.

use super::problem::Kind;
use crate::metrics::SharedCounter;

/// Why a connection was ended, or not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There were as many as there may be.
    Full,
    /// The headers of a request did not come to their end.
    Silent,
    /// What came was no request, or its headers were too long.
    Unreadable,
    /// Nothing of an answer was read for long.
    Unread,
}

impl Ended {
    const ALL: [(Self, &str); 4] = [
        (Self::Full, "connections-full"),
        (Self::Silent, "headers-timeout"),
        (Self::Unreadable, "headers-unreadable"),
        (Self::Unread, "answer-unread"),
    ];
}

/// What was refused.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// In the order of [`Kind::ALL`].
    problems: [SharedCounter; Kind::ALL.len()],
    ended: [SharedCounter; Ended::ALL.len()],
}

impl Counts {
    pub(super) fn problem(&self, kind: Kind) {
        self.problems[kind as usize].add(1);
    }

    pub(super) fn ended(&self, ended: Ended) {
        self.ended[ended as usize].add(1);
    }

    /// All reasons, and how often each was.
    #[cfg(feature = "prometheus")]
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let problems = Kind::ALL.iter().zip(&self.problems).map(|(kind, count)| (kind.word(), count.get()));
        let ended = Ended::ALL.iter().zip(&self.ended).map(|((_, word), count)| (*word, count.get()));
        problems.chain(ended).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        assert!(Kind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
        assert!(Ended::ALL.iter().enumerate().all(|(place, (ended, _))| *ended as usize == place));
    }
}
