//! Whether one pattern matches all that another one does.
//!
//! The other pattern is read as if it were a name. Where it says `*`, a segment is read that no literal is equal to: what matches
//! that matches any. Where it says `**`, none of those is read, or one, or more, until nothing new is found.

use std::collections::HashSet;

use super::{Pattern, Segment};

/// Before which segment of the other pattern, with which live states of the one, and whether a segment was read at all.
type Place = (usize, u128, bool);

pub(super) fn covers(one: &Pattern, other: &Pattern) -> bool {
    let mut seen = HashSet::new();
    let mut left: Vec<Place> = vec![(0, one.begin(), false)];
    while let Some(place) = left.pop() {
        let (at, live, has_read) = place;
        if !seen.insert(place) {
            continue;
        }
        let read = |segment| one.step(live, segment, &mut || {});
        match other.segments().get(at) {
            // A name has a segment at least.
            None if has_read && !one.accepts(live) => return false,
            None => {}
            Some(Segment::Literal(text)) => left.push((at + 1, read(Some(text.as_bytes())), true)),
            Some(Segment::One) => left.push((at + 1, read(None), true)),
            Some(Segment::Run) => left.extend([(at + 1, live, has_read), (at, read(None), true)]),
        }
    }
    true
}
