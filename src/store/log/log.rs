//! The log: records in one order, appended in batches, synced when asked, removed segment by segment from the old end.
//!
//! Two words are kept apart: *written* survives the death of the process, *durable* survives power loss as far as the disk
//! is honest. A write or sync that fails ends appending: what is on the disk is then known only by reading it again, so the
//! log must be opened anew. Reading goes on.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

use super::batch::{Batch, Stamp};
use super::condition::Condition;
use super::disk::{Disk, FolderLock};
use super::error::{AppendError, OpenError, RetireError, SyncError};
use super::file::{Fault, File, retried};
use super::files::OpenFiles;
use super::gate::Placed;
use super::open::{self, Opened, Recovered, Resume};
use super::options::LogOptions;
use super::reader::{LogReader, Shelf};
use super::record::{Header, Kind, Place};
use super::segment::{Content, Filled, SEGMENT_HEADER_BYTES, Segment};

/// A log that is open for appending: the only one in its folder.
#[derive(Debug)]
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) options: LogOptions,
    pub(super) shelf: Arc<Shelf>,
    pub(super) active: Option<Active>,
    /// What to do first where no segment is active.
    pub(super) resume: Resume,
    /// The position of the next record.
    pub(super) next: u64,
    pub(super) durable: u64,
    /// The position that was last marked as durable.
    marked: u64,
    pub(super) staged: Staged,
    pub(super) condition: Arc<Condition>,
    /// What is free is for the reserve before it is for others.
    pub(super) was_reserve_given_up: bool,
    _lock: Box<dyn FolderLock>,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) file: File,
}

/// Batches that are laid out for the next write.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) bytes: Vec<u8>,
    places: Vec<(u64, u64)>,
    written_unix_ns: u64,
}

/// What is known of a segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its first position.
    pub first: u64,
    /// Its last position; that before the first if it is empty.
    pub last: u64,
    /// Records that can be read.
    pub records: u64,
    /// Bytes of its records with their headers.
    pub bytes: u64,
    /// When the oldest and the newest of them was written, in nanoseconds since 1970.
    pub written_unix_ns: Option<RangeInclusive<u64>>,
}

impl SegmentInfo {
    pub(super) fn of(segment: &Segment) -> Self {
        let Filled { end, last, content, .. } = segment.filled().clone();
        let Content { records, written_unix_ns } = content;
        Self { first: segment.first, last, records, bytes: end - SEGMENT_HEADER_BYTES, written_unix_ns }
    }
}

impl Log {
    /// Opens the log in a folder, which is made if it is not there. Reads the last segment, and those that were not
    /// sealed; changes nothing, but for the files in [`Recovered::removed`].
    ///
    /// # Errors
    /// [`OpenError`]; damage is none, but said in [`Recovered`].
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: impl Into<PathBuf>,
        options: LogOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        options.check().map_err(OpenError::Option)?;
        let folder = folder.into();
        let Opened { lock, segments, resume, recovered } = open::open(&*disk, &folder)?;
        let files = OpenFiles::new(Arc::clone(&disk), options.open_files_max);
        let log = Self {
            disk,
            folder,
            options,
            shelf: Arc::new(Shelf::new(segments, files)),
            active: None,
            resume,
            next: recovered.next,
            durable: recovered.durable,
            marked: 0,
            staged: Staged::default(),
            condition: Arc::new(Condition::new()),
            was_reserve_given_up: false,
            _lock: lock,
        };
        Ok((log, recovered))
    }

    /// Appends a batch, and says at which positions. It is then *written*. Wakes nobody; blocks for the write, and when a
    /// segment is full for the syncs that end it and begin the next.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&mut self, batch: &Batch) -> Result<Range<u64>, AppendError> {
        let placed = self.stage(batch)?;
        self.write().map_err(AppendError::Disk)?;
        Ok(placed.positions)
    }

    /// Makes all that is written *durable*, and says up to which position that is.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn sync(&mut self) -> Result<u64, SyncError> {
        self.write().map_err(SyncError)?;
        let last = self.next - 1;
        if self.active.is_none() && self.resume != Resume::New {
            self.resume().map_err(SyncError)?;
        }
        if self.durable < last {
            let active = self.active.as_ref().expect("what is not durable is in the active segment");
            if let Err(fault) = active.file.sync_data() {
                return Err(SyncError(self.fail(fault)));
            }
            self.durable = last;
        }
        Ok(last)
    }

    /// Says on the disk up to where all is durable, as the next record would. Call it when none is to be expected soon:
    /// until then damage to what was synced last looks like a write that power loss cut short, and is cut. Costs a write of
    /// 64 bytes, if it was not said. A failure is the next append's: what was said to be durable is.
    pub fn mark_durable(&mut self) {
        if self.fault().is_some() || self.marked == self.durable || self.durable + 1 != self.next {
            return;
        }
        let Some(active) = &self.active else { return };
        let place = Place { segment: active.segment.first, offset: active.segment.filled().end };
        let mark = Header::control(Kind::END, self.durable, self.durable, &[]).encode(place);
        self.marked = self.durable;
        if let Err(fault) = active.file.write_all_at(&mark, place.offset) {
            self.fail(fault);
        }
    }

    /// Makes all durable and ends.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn close(mut self) -> Result<(), SyncError> {
        self.sync()?;
        self.mark_durable();
        match (self.fault(), &self.active) {
            (Some(fault), _) => Err(SyncError(fault.clone())),
            (None, Some(active)) => active.file.sync_data().map_err(SyncError),
            (None, None) => Ok(()),
        }
    }

    /// Removes the segments whose records are all before a position, except the last; says how many there were.
    ///
    /// # Errors
    /// [`RetireError`]. Some may have been removed.
    pub fn truncate_before(&mut self, position: u64) -> Result<usize, RetireError> {
        let removed = self.shelf.truncate_before(&*self.disk, &self.folder, position)?;
        if removed > 0 {
            self.keep_reserve();
        }
        Ok(removed)
    }

    /// A reader from a position on, for any thread.
    pub fn read(&self, from: u64) -> LogReader {
        LogReader::new(Arc::clone(&self.shelf), from)
    }

    /// The position of the next record.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// The position up to which all is known to be durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The options it was opened with.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// Why nothing more is appended, if so.
    pub fn fault(&self) -> Option<&Fault> {
        self.condition.fault()
    }

    /// What is known of each segment, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shelf.segments().iter().map(|segment| SegmentInfo::of(segment)).collect()
    }

    /// Bytes that are free on the disk.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn free_bytes(&self) -> Result<u64, Fault> {
        retried("measure", &self.folder, || self.disk.free_bytes(&self.folder))
    }

    /// Lays a batch out for the next write, and says where it will be.
    pub(super) fn stage(&mut self, batch: &Batch) -> Result<Placed, AppendError> {
        let (bytes, max) = (batch.longest_bytes(), self.options.record_bytes_max);
        if bytes > max as usize {
            return Err(AppendError::RecordTooLong { bytes, max });
        }
        let (bytes, max) = (batch.extent_bytes(), self.options.batch_bytes_max());
        if bytes as u64 > max {
            return Err(AppendError::BatchTooLong { bytes, max });
        }
        if batch.is_empty() {
            return Ok(Placed { positions: self.next..self.next, segment: self.next, offset: 0 });
        }
        let offset = self.make_room(bytes as u64)?;
        if self.staged.bytes.is_empty() {
            self.staged.written_unix_ns = self.disk.unix_now_ns();
        }
        let active = self.active.as_ref().expect("room was made in a segment");
        let Staged { bytes, places, written_unix_ns } = &mut self.staged;
        let stamp = Stamp { position: self.next, durable: self.durable, written_unix_ns: *written_unix_ns };
        let place = Place { segment: active.segment.first, offset };
        batch.place(stamp, place, bytes, |position, offset| places.push((position, offset)));
        self.next += batch.len() as u64;
        Ok(Placed { positions: stamp.position..self.next, segment: place.segment, offset })
    }

    /// Writes what is laid out.
    pub(super) fn write(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.fault() {
            return Err(fault.clone());
        }
        if self.staged.bytes.is_empty() {
            return Ok(());
        }
        let active = self.active.as_ref().expect("batches are laid out for a segment");
        let mut filled = active.segment.filled();
        let (begin, bytes) = (filled.end, &mut self.staged.bytes);
        // Readers find the old end meanwhile.
        drop(filled);
        let place = Place { segment: active.segment.first, offset: begin + bytes.len() as u64 };
        bytes.extend_from_slice(&Header::control(Kind::END, self.next - 1, self.durable, &[]).encode(place));
        if let Err(fault) = active.file.write_all_at(bytes, begin) {
            return Err(self.fail(fault));
        }
        filled = active.segment.filled();
        filled.end = place.offset;
        filled.last = self.next - 1;
        for (position, offset) in self.staged.places.drain(..) {
            filled.content.add(self.staged.written_unix_ns);
            filled.note(position, offset);
        }
        self.staged.bytes.clear();
        Ok(())
    }

    /// Remembers why nothing more is appended; the first reason stays.
    pub(super) fn fail(&self, fault: Fault) -> Fault {
        self.condition.fail(fault)
    }
}
