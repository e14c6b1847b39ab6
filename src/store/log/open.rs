//! Opening a log: what is in the folder, where the log goes on, and what is wrong with it. Nothing on the disk is changed
//! here: what must be mended before a record can be appended is mended by the first append.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive;
use super::archiving;
use super::disk::{Disk, FolderLock};
use super::error::OpenError;
use super::file::{Fault, retried};
use super::options::LogOptions;
use super::record::{Cause, HEADER_BYTES};
use super::scan::{self, Scan};
use super::segment::{self, Filled, HeaderState, SEGMENT_HEADER_BYTES, Segment};
use super::walk::Damage;

/// What was found when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The first position in the log; that of the next record if there is none.
    pub first: u64,
    /// The position of the next record.
    pub next: u64,
    /// The position up to which all was known to be durable before. The first append or sync makes the rest so.
    pub durable: u64,
    /// Segments in the folder.
    pub segments: usize,
    /// Bytes at the end that are not whole, and not part of the log: none of it was acknowledged as durable.
    pub cut_bytes: u64,
    /// Something of what was cut may have been acknowledged as written: the machine was started again since, and what it had
    /// not synced is lost. After the mere end of a process nothing is cut that was acknowledged.
    pub cut_may_be_written: bool,
    /// What a crash left of archiving, and was removed: of each segment that was there twice the one that was not whole, or
    /// the uncompressed one.
    pub removed: Vec<PathBuf>,
    /// What cannot be read, as far as it was looked at: in the last segment, and in those whose seal is missing. Other
    /// damage is found by reading.
    pub damages: Vec<Damage>,
}

/// What must be done before the next record can be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// The last segment goes on: it is cut if it must, made durable, and lengthened.
    /// Unless what is there was begun since the machine was started, it is said where that began.
    Segment { cut: bool, durable: u64, is_of_boot: bool },
    /// The last segment is sealed up to an offset; it is made durable, then a new one follows.
    Sealed { seal_end: u64, durable: u64 },
    /// A new segment is made.
    New,
}

/// What the parts of a log are made from.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) lock: Box<dyn FolderLock>,
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) resume: Resume,
    pub(super) recovered: Recovered,
}

/// Opens a folder, which is made if it is not there.
pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<Opened, OpenError> {
    retried("create the folder", folder, || disk.create_folder(folder))?;
    let lock = retried("lock", folder, || disk.lock(folder)).map_err(|fault| locked(fault, folder))?;
    let mut names = retried("list", folder, || disk.list(folder))?;
    // Where that fails, the file counts, and it is tried again at the next opening.
    let removed = archiving::settle(disk, folder, &names).unwrap_or_default();
    names.retain(|name| !removed.iter().any(|gone| gone.file_name().is_some_and(|gone| gone == &**name)));
    let whole: BTreeSet<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    let mut firsts = whole.clone();
    firsts.extend(names.iter().filter_map(|name| archive::first_of(name)));
    if let Some(first) = firsts.last().copied().filter(|first| *first > segment::FIRST_MAX) {
        return Err(OpenError::Far { folder: folder.to_owned(), first });
    }
    let firsts: Vec<u64> = firsts.into_iter().collect();
    let mut opened = Opened {
        lock,
        segments: Vec::with_capacity(firsts.len()),
        resume: Resume::New,
        recovered: Recovered {
            first: 1,
            next: 1,
            durable: 0,
            segments: 0,
            cut_bytes: 0,
            cut_may_be_written: false,
            removed,
            damages: Vec::new(),
        },
    };
    for (nth, first) in firsts.iter().copied().enumerate() {
        opened.check_start(folder, first)?;
        match firsts.get(nth + 1) {
            Some(next_first) => opened.add_inner(disk, folder, first, *next_first)?,
            // Only what has a successor is archived: the successor was taken away.
            None if !whole.contains(&first) => opened.add_archived_last(disk, folder, first)?,
            None => opened.add_last(disk, folder, first)?,
        }
    }
    opened.recovered.segments = opened.segments.len();
    opened.recovered.first = opened.segments.first().map_or(opened.recovered.next, |segment| segment.first);
    Ok(opened)
}

fn locked(fault: Fault, folder: &Path) -> OpenError {
    if fault.source.kind() == io::ErrorKind::WouldBlock {
        OpenError::Locked { folder: folder.to_owned() }
    } else {
        OpenError::Disk(fault)
    }
}

impl Opened {
    /// A segment must begin where the one before it ended. Before the first, nothing is known.
    fn check_start(&mut self, folder: &Path, first: u64) -> Result<(), OpenError> {
        let Recovered { next, damages, .. } = &mut self.recovered;
        let file = segment::path(folder, first);
        if self.segments.is_empty() || *next == first {
            return Ok(());
        }
        if *next > first {
            return Err(OpenError::Overlap { file, first, last: *next - 1 });
        }
        let missing = Some(*next..=first - 1);
        damages.push(Damage { file, offset: 0, bytes: 0, packed: None, missing, cause: Cause::Missing });
        Ok(())
    }

    fn add_inner(&mut self, disk: &dyn Disk, folder: &Path, first: u64, next_first: u64) -> Result<(), OpenError> {
        let (file, length, state) = segment::open(disk, folder, first)?;
        self.check_header(&file, state, length)?;
        let filled = match segment::sealed(&file, first, length)? {
            Some(filled) => filled,
            None => {
                let Scan { filled, damages, .. } = scan::inner(&file, first, length, next_first)?;
                self.recovered.damages.extend(damages);
                filled
            }
        };
        self.recovered.next = filled.last + 1;
        self.segments.push(Arc::new(Segment::new(first, file.path().to_owned(), filled)));
        Ok(())
    }

    fn add_archived_last(&mut self, disk: &dyn Disk, folder: &Path, first: u64) -> Result<(), OpenError> {
        let (file, length, state) = segment::open(disk, folder, first)?;
        match segment::sealed(&file, first, length)? {
            Some(filled) => {
                self.check_header(&file, state, length)?;
                (self.recovered.next, self.recovered.durable) = (filled.last + 1, filled.last);
                self.recovered.damages.push(Damage::of(&file, length, 0, None, Cause::Missing));
                self.segments.push(Arc::new(Segment::new(first, file.path().to_owned(), filled)));
            }
            None => self.give_up_on(file, first, LogOptions::SEGMENT_BYTES_MAX),
        }
        Ok(())
    }

    fn add_last(&mut self, disk: &dyn Disk, folder: &Path, first: u64) -> Result<(), OpenError> {
        let (file, length, state) = segment::open(disk, folder, first)?;
        self.recovered.next = first;
        self.recovered.durable = first - 1;
        let scan = scan::last(&file, first, length, disk.boot())?;
        let Scan { filled, durable, seal_end, damages, cut_bytes, cut_may_be_written, boot } = scan;
        let is_empty = filled.end == SEGMENT_HEADER_BYTES && seal_end.is_none();
        if state == HeaderState::Damaged && is_empty {
            if cut_bytes == 0 {
                // The process or the machine died before the segment was begun.
                self.recovered.cut_bytes = written_header_bytes(&file)?;
            } else {
                self.give_up_on(file, first, length);
            }
            return Ok(());
        }
        self.check_header(&file, state, length)?;
        self.recovered.damages.extend(damages);
        self.recovered.next = filled.last + 1;
        self.recovered.durable = durable;
        self.recovered.cut_bytes = cut_bytes;
        self.recovered.cut_may_be_written = cut_may_be_written;
        self.resume = match seal_end {
            Some(seal_end) => Resume::Sealed { seal_end, durable },
            None => Resume::Segment { cut: cut_bytes > 0, durable, is_of_boot: boot.is_some() && boot == disk.boot() },
        };
        self.segments.push(Arc::new(Segment::new(first, file.path().to_owned(), filled)));
        Ok(())
    }

    /// A damaged header is damage if the segment is not only just begun: records were appended after it was durable.
    fn check_header(&mut self, file: &super::file::File, state: HeaderState, length: u64) -> Result<(), OpenError> {
        match state {
            HeaderState::Whole => Ok(()),
            HeaderState::UnknownVersion(version) => {
                Err(OpenError::UnknownVersion { file: file.path().to_owned(), version })
            }
            HeaderState::Damaged => {
                let is_archive = length == 0 && archive::is_named(file.path());
                let cause = if is_archive { Cause::Archive } else { Cause::SegmentHeader };
                let damage = Damage::of(file, 0, length.min(SEGMENT_HEADER_BYTES), None, cause);
                self.recovered.damages.push(damage);
                Ok(())
            }
        }
    }

    /// The last segment holds something, and nothing of it can be read: it is left as it is, and the log goes on at a
    /// position that no record in it can have.
    fn give_up_on(&mut self, file: super::file::File, first: u64, length: u64) {
        let last = first + length / HEADER_BYTES as u64;
        self.recovered.damages.push(Damage::of(&file, 0, length, Some(first..=last), Cause::SegmentHeader));
        self.recovered.next = last + 1;
        self.recovered.durable = last;
        let filled = Filled::new(first).ending(length, last);
        self.segments.push(Arc::new(Segment::new(first, file.path().to_owned(), filled)));
    }
}

/// Bytes of a segment's header up to the last that is not zero.
fn written_header_bytes(file: &super::file::File) -> Result<u64, Fault> {
    let mut bytes = [0; HEADER_BYTES];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(bytes[..length].iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1))
}
