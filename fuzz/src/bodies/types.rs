//! Types of event with all that archives are made of: numbers, choices, texts, lists, tables, shared and nested values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU32;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use ringmain::{Event, Topic};
use rkyv::rancor::{Fallible, Source};
use rkyv::{Archive, Deserialize, Serialize};

/// Boxes within a value that is read from outside: 64 values within each other.
pub(super) const DEPTH_MAX: usize = 63;

/// A type of event, and what may be asked of an archive of it.
pub(super) trait Body: Event + Debug + PartialEq + for<'a> Arbitrary<'a> + Send {
    const TOPIC: Topic<Self>;

    /// Whether an archive of it is read although nobody vouches for it.
    fn is_read(&self) -> bool {
        true
    }

    /// Looks for what is in `archive`, which was read as `self`, and finds it if the archive was not tampered with.
    fn look_up(&self, _archive: &Self::Archived, _is_intact: bool) {}
}

#[derive(Debug, PartialEq, Arbitrary, Archive, Serialize, Deserialize)]
pub(super) enum Kind {
    Small(u8),
    Large { id: u128, code: char },
    Nothing,
}

#[derive(Debug, PartialEq, Arbitrary, Archive, Serialize, Deserialize)]
pub(super) struct Flat {
    id: u64,
    cents: i32,
    paid: bool,
    kind: Kind,
    parent: Option<NonZeroU32>,
}

impl Body for Flat {
    const TOPIC: Topic<Self> = Topic::new("flat");
}

#[derive(Debug, PartialEq, Arbitrary, Archive, Serialize, Deserialize)]
pub(super) struct Texts {
    pub(super) title: String,
    pub(super) tags: Vec<String>,
    pub(super) note: Option<Box<str>>,
    pub(super) pairs: Vec<(u16, Option<Vec<u64>>)>,
}

impl Body for Texts {
    const TOPIC: Topic<Self> = Topic::new("texts");
}

/// The same in every run, so that the same input is the same archive; and fast, for nobody attacks these.
type Hash = BuildHasherDefault<rkyv::hash::FxHasher64>;

#[derive(Debug, PartialEq, Arbitrary, Archive, Serialize, Deserialize)]
pub(super) struct Tables {
    pub(super) counts: HashMap<String, u32, Hash>,
    pub(super) names: HashMap<u16, String, Hash>,
    pub(super) seen: HashSet<u8, Hash>,
    pub(super) sorted: BTreeMap<u8, Vec<u16>>,
}

impl Body for Tables {
    const TOPIC: Topic<Self> = Topic::new("tables");

    fn look_up(&self, archive: &ArchivedTables, is_intact: bool) {
        for key in near(self.sorted.keys()) {
            assert!(archive.sorted.contains_key(&key) == self.sorted.contains_key(&key) || !is_intact);
        }
        if !is_intact {
            // A look-up in a forged hash table may not return; the documentation of payloads says so.
            return;
        }
        for (key, count) in &self.counts {
            assert!(archive.counts.get(key.as_str()).is_some_and(|found| found == count));
        }
        for (key, name) in &self.names {
            assert!(archive.names.get(&(*key).into()).is_some_and(|found| found == name));
        }
        for key in near(&self.seen) {
            assert_eq!(archive.seen.contains(&key), self.seen.contains(&key));
        }
    }
}

/// The keys, those next to them, and some of all others.
fn near<'a>(keys: impl IntoIterator<Item = &'a u8>) -> impl Iterator<Item = u8> {
    let around = keys.into_iter().flat_map(|&key| [key.wrapping_sub(1), key, key.wrapping_add(1)]);
    around.chain((0..=u8::MAX).step_by(17))
}

/// Pointers that an archive may share, each with a length of its own.
#[derive(Debug, PartialEq, Archive, Serialize, Deserialize)]
pub(super) struct Shared {
    pub(super) one: Arc<[u32]>,
    pub(super) other: Arc<[u32]>,
    pub(super) text: Arc<str>,
    pub(super) first: Arc<u64>,
}

impl Arbitrary<'_> for Shared {
    fn arbitrary(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let one = Arc::arbitrary(bytes)?;
        let other = if bytes.arbitrary()? { Arc::clone(&one) } else { Arc::arbitrary(bytes)? };
        Ok(Self { one, other, text: Arc::arbitrary(bytes)?, first: Arc::arbitrary(bytes)? })
    }
}

impl Body for Shared {
    const TOPIC: Topic<Self> = Topic::new("shared");
}

#[derive(Debug, PartialEq, Archive, Serialize, Deserialize)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + Fallible<Error: Source>))]
#[rkyv(deserialize_bounds(__D: Fallible<Error: Source>))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext + Fallible<Error: Source>)))]
pub(super) struct Nest(#[rkyv(omit_bounds)] Option<Box<Nest>>);

impl Nest {
    pub(super) fn new(depth: usize) -> Self {
        (0..depth).fold(Self(None), |inner, _| Self(Some(Box::new(inner))))
    }

    pub(super) fn depth(&self) -> usize {
        std::iter::successors(Some(self), |nest| nest.0.as_deref()).count() - 1
    }
}

impl Arbitrary<'_> for Nest {
    fn arbitrary(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(Self::new(bytes.int_in_range(0..=DEPTH_MAX + 8)?))
    }
}

impl Body for Nest {
    const TOPIC: Topic<Self> = Topic::new("nest");

    fn is_read(&self) -> bool {
        self.depth() <= DEPTH_MAX
    }
}
