//! One segment as queries see it: its positions, and what finds events in it.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Frame, Pattern};

use super::super::index::{Building, Names, Posting, Sealed, Term};
use super::super::log::{Access, Disk, Fault, File, LogReader, OpenFiles, ReadError, remove};
use super::super::query::Query;
use super::shared::Shared;

/// A segment that nothing is appended to any more.
#[derive(Debug)]
pub(super) struct Part {
    /// Its first position.
    pub(super) first: u64,
    /// The position before the next segment's first.
    pub(super) last: u64,
    /// Bytes of the file up to the end of its records: what an index says it was made of.
    pub(super) end: u64,
    /// Positions of which it was known when the store was opened that they cannot be read.
    damaged: Vec<RangeInclusive<u64>>,
    finder: Mutex<Finder>,
}

/// What finds events in a segment.
#[derive(Debug, Clone)]
pub(super) enum Finder {
    /// Nothing: the segment is read. An index is being made, or could not be written.
    Nothing,
    /// Its index is not in a file yet, or cannot be in one because part of the segment is damaged.
    Memory(Arc<Built>),
    /// Its index is in a file.
    Cold,
    /// The same, and its front is in memory.
    Loaded(Arc<Front>),
}

/// An index in memory.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) index: Building,
    /// Positions that could not be read when it was made.
    pub(super) damaged: Vec<RangeInclusive<u64>>,
    /// Where the segment's records end.
    pub(super) end: u64,
}

/// What is in memory of an index in a file.
pub(super) struct Front {
    sealed: Sealed,
    path: PathBuf,
}

/// How a query is answered in one segment.
#[derive(Debug)]
pub(super) enum Plan {
    /// There is nothing that it means.
    Skip,
    /// All that it means is among these, by rising offset.
    Postings(Vec<Posting>),
    /// By reading.
    Scan,
}

/// What of a query indices answer.
#[derive(Debug)]
pub(super) struct Sought<'q> {
    term: Option<Term>,
    /// Postings below this version are not meant.
    version_min: u32,
    pattern: Option<&'q Pattern>,
    source: Option<&'q str>,
    positions: RangeInclusive<u64>,
}

impl<'q> Sought<'q> {
    pub(super) fn of(query: &'q Query, positions: RangeInclusive<u64>) -> Self {
        let aggregate = query.aggregate_asked().map(|(kind, id)| Term::aggregate(kind, id));
        let version_min = match query.after_version_asked() {
            after @ 1.. if aggregate.is_some() => u32::try_from(after.saturating_add(1)).unwrap_or(u32::MAX),
            _ => 0,
        };
        Self {
            term: aggregate.or_else(|| query.correlation_asked().map(Term::correlation)),
            version_min,
            pattern: query.pattern_asked(),
            source: query.source_asked(),
            positions,
        }
    }

    /// All records with a term, also where others are damaged: nothing has position 0.
    pub(super) const fn all(term: Term) -> Self {
        Self { term: Some(term), version_min: 0, pattern: None, source: None, positions: 0..=0 }
    }

    fn hits(&self, damaged: &[RangeInclusive<u64>]) -> bool {
        let hits = |range: &RangeInclusive<u64>| {
            range.start() <= self.positions.end() && self.positions.start() <= range.end()
        };
        damaged.iter().any(hits)
    }

    /// Whether names say that nothing is meant. They are only looked at where a segment would be read for it.
    fn rules_out(&self, topics: &Names, sources: &Names) -> bool {
        let pattern = self.pattern.is_some_and(|pattern| match pattern.is_exact() {
            true => topics.at_most_of(pattern.as_str()) == 0,
            false => topics.at_most(|topic| pattern.matches(topic)) == 0,
        });
        pattern || self.source.is_some_and(|source| sources.at_most_of(source) == 0)
    }

    /// The plan for a segment with an index in memory.
    pub(super) fn plan_built(&self, built: &Built) -> Plan {
        match self.term {
            _ if self.hits(&built.damaged) => Plan::Scan,
            Some(term) => self.meant(built.index.find(term)),
            None if self.rules_out(built.index.topics(), built.index.sources()) => Plan::Skip,
            None => Plan::Scan,
        }
    }

    fn meant(&self, mut postings: Vec<Posting>) -> Plan {
        postings.retain(|posting| posting.version >= self.version_min);
        Plan::Postings(postings)
    }
}

impl Part {
    pub(super) fn new(first: u64, last: u64, end: u64, damaged: Vec<RangeInclusive<u64>>, finder: Finder) -> Self {
        Self { first, last, end, damaged, finder: Mutex::new(finder) }
    }

    /// The file of the index of the segment with a first position.
    pub(super) fn index_path(folder: &Path, first: u64) -> PathBuf {
        folder.join(format!("{first:020}.idx"))
    }

    /// The first position that a file's name says, if it is an index's.
    pub(super) fn first_of_index(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".idx")?;
        let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    }

    fn finder(&self) -> MutexGuard<'_, Finder> {
        self.finder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, finder: Finder) {
        *self.finder() = finder;
    }

    /// The index that waits to be written, if there is one.
    pub(super) fn built(&self) -> Option<Arc<Built>> {
        match &*self.finder() {
            Finder::Memory(built) => Some(Arc::clone(built)),
            _ => None,
        }
    }

    /// Forgets what is in memory of an index in a file.
    pub(super) fn cool(&self) {
        let mut finder = self.finder();
        if matches!(*finder, Finder::Loaded(_)) {
            *finder = Finder::Cold;
        }
    }

    /// What finds events here now. A file that is no index of this segment is made again; until then the segment is read.
    fn find_with(self: &Arc<Self>, shared: &Shared) -> Finder {
        let mut finder = self.finder();
        if !matches!(*finder, Finder::Cold) {
            return finder.clone();
        }
        let path = Self::index_path(&shared.folder, self.first);
        let front = Front::open(shared.reader.files(), path, self.first, self.end);
        let bytes = front.as_ref().map(|front| front.sealed.bytes());
        *finder = front.map_or(Finder::Nothing, |front| Finder::Loaded(Arc::new(front)));
        let found = finder.clone();
        drop(finder);
        match bytes {
            Some(bytes) => shared.front_loaded(self, bytes),
            None => shared.indexer.remake(self),
        }
        found
    }

    /// How a query is answered here.
    pub(super) fn plan(self: &Arc<Self>, sought: &Sought<'_>, shared: &Shared) -> Plan {
        if sought.hits(&self.damaged) {
            return Plan::Scan;
        }
        let front = match self.find_with(shared) {
            Finder::Memory(built) => return sought.plan_built(&built),
            Finder::Loaded(front) => front,
            Finder::Nothing | Finder::Cold => return Plan::Scan,
        };
        match sought.term.map(|term| front.find(term, shared.reader.files())) {
            Some(Some(postings)) => sought.meant(postings),
            Some(None) => {
                self.distrust(shared);
                Plan::Scan
            }
            None if sought.rules_out(front.sealed.topics(), front.sealed.sources()) => Plan::Skip,
            None => Plan::Scan,
        }
    }

    /// Its index does not say what the segment does: it is made again.
    pub(super) fn distrust(self: &Arc<Self>, shared: &Shared) {
        self.set(Finder::Nothing);
        shared.indexer.remake(self);
    }

    /// Writes its index to a file; `Ok(false)` where that is not to be because part of the segment is damaged.
    pub(super) fn write_index(&self, disk: &dyn Disk, folder: &Path, reader: &LogReader) -> Result<bool, Fault> {
        let built = match self.built() {
            Some(built) => built,
            None => Arc::new(Built::read(reader, self.first, self.last, self.end)?),
        };
        if !built.damaged.is_empty() {
            self.set(Finder::Memory(built));
            return Ok(false);
        }
        let path = Self::index_path(folder, self.first);
        let file = Sealed::encode(&built.index, self.first, self.end);
        // Not synced: checks tell what power loss has left of it, and it can be made again.
        let written = remove(disk, &path)
            .and_then(|()| File::open(disk, &path, Access::Create))
            .and_then(|index| index.write_all_at(&file, 0));
        reader.files().forget(&path);
        self.set(if written.is_ok() { Finder::Cold } else { Finder::Nothing });
        written.map(|()| true)
    }
}

impl Built {
    /// Makes it by reading a segment.
    pub(super) fn read(reader: &LogReader, first: u64, last: u64, end: u64) -> Result<Self, Fault> {
        let mut built = Self { end, ..Self::default() };
        let mut reader = reader.from(first);
        while reader.next_position() <= last {
            match reader.next_record() {
                None => break,
                Some(Ok(record)) if record.header.position > last => break,
                Some(Ok(record)) => match Frame::read_vouched(record.body) {
                    Ok(frame) => built.index.add(record.offset, &frame.meta()),
                    Err(_) => built.damaged.push(record.header.position..=record.header.position),
                },
                Some(Err(ReadError::Damaged(damage))) => built.damaged.extend(damage.missing),
                Some(Err(ReadError::Retired { .. })) => {}
                Some(Err(ReadError::Disk(fault))) => return Err(fault),
            }
        }
        Ok(built)
    }
}

impl Front {
    /// `None` if the file is not there, cannot be read, or is no whole index of this segment.
    fn open(files: &OpenFiles, path: PathBuf, first: u64, end: u64) -> Option<Self> {
        let sealed = Sealed::open(first, end, reading(&*Self::file(files, &path)?)).ok()?.ok()?;
        Some(Self { sealed, path })
    }

    fn file(files: &OpenFiles, path: &Path) -> Option<Arc<File>> {
        files.get(path, |disk| File::open(disk, path, Access::Read)).ok()
    }

    /// `None` if the file is not as it was written, or cannot be read.
    fn find(&self, term: Term, files: &OpenFiles) -> Option<Vec<Posting>> {
        self.sealed.find(term, reading(&*Self::file(files, &self.path)?)).ok()?.ok()
    }
}

fn reading(file: &File) -> impl Fn(&mut [u8], u64) -> Result<bool, Fault> {
    |bytes, offset| Ok(file.read_at(bytes, offset)? == bytes.len())
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("path", &self.path).finish_non_exhaustive()
    }
}
