//! The log: records in one order, appended in batches, synced when asked, removed segment by segment from the old end.
//!
//! Two words are kept apart: *written* survives the death of the process, *durable* survives power loss as far as the disk
//! is honest. A write or sync that fails ends appending: what is on the disk is then known only by reading it again, so the
//! log must be opened anew. Reading goes on.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{Batch, Stamp};
use super::disk::{Access, Disk, FolderLock};
use super::error::{AppendError, OpenError, RetireError, SyncError};
use super::file::{Fault, File, retried, sync_folder};
use super::open::{self, Opened, Recovered, Resume};
use super::options::LogOptions;
use super::reader::{LogReader, Shelf};
use super::record::{HEADER_BYTES, Header, Kind, Place};
use super::segment::{self, Content, Filled, SEAL_BYTES, SEGMENT_HEADER_BYTES, Segment};
use super::walk::{Step, Walk};

/// Bytes that are copied at once when the end of a segment is made durable.
const COPY_BYTES: u64 = 1 << 20;

/// A log that is open for appending: the only one in its folder.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    options: LogOptions,
    shelf: Arc<Shelf>,
    active: Option<Active>,
    /// What to do first where no segment is active.
    resume: Resume,
    /// The position of the next record.
    next: u64,
    durable: u64,
    staged: Staged,
    fault: Option<Fault>,
    _lock: Box<dyn FolderLock>,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: File,
}

/// Batches that are laid out for the next write.
#[derive(Debug, Default)]
struct Staged {
    bytes: Vec<u8>,
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

impl Log {
    /// Opens the log in a folder, which is made if it is not there. Reads the last segment, and those that were not
    /// sealed; changes nothing.
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
        let log = Self {
            disk,
            folder,
            options,
            shelf: Arc::new(Shelf::new(segments)),
            active: None,
            resume,
            next: recovered.next,
            durable: recovered.durable,
            staged: Staged::default(),
            fault: None,
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
        let positions = self.stage(batch)?;
        self.write().map_err(AppendError::Disk)?;
        Ok(positions)
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
            self.mark_durable();
        }
        Ok(last)
    }

    /// Makes all durable and ends.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn close(mut self) -> Result<(), SyncError> {
        self.sync()?;
        match &self.active {
            // With the word of the last sync.
            Some(active) => active.file.sync_data().map_err(SyncError),
            None => Ok(()),
        }
    }

    /// Removes the segments whose records are all before a position, except the last; says how many there were.
    ///
    /// # Errors
    /// [`RetireError`]. Some may have been removed.
    pub fn truncate_before(&mut self, position: u64) -> Result<usize, RetireError> {
        let mut removed = 0;
        while let Some(first) = self.shelf.oldest_before(position) {
            self.remove(first).map_err(RetireError)?;
            self.shelf.remove_oldest();
            removed += 1;
            // One at a time: after power loss no newer one may be gone while an older is there.
            sync_folder(&*self.disk, &self.folder).map_err(|fault| RetireError(self.fail(fault)))?;
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
        self.fault.as_ref()
    }

    /// What is known of each segment, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| {
            let Filled { end, last, content, .. } = segment.filled().clone();
            let Content { records, written_unix_ns } = content;
            SegmentInfo { first: segment.first, last, records, bytes: end - SEGMENT_HEADER_BYTES, written_unix_ns }
        };
        self.shelf.segments().iter().map(info).collect()
    }

    /// Bytes that are free on the disk.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn free_bytes(&self) -> Result<u64, Fault> {
        retried("measure", &self.folder, || self.disk.free_bytes(&self.folder))
    }

    /// Lays a batch out for the next write.
    pub(super) fn stage(&mut self, batch: &Batch) -> Result<Range<u64>, AppendError> {
        let (bytes, max) = (batch.longest_bytes(), self.options.record_bytes_max);
        if bytes > max as usize {
            return Err(AppendError::RecordTooLong { bytes, max });
        }
        let (bytes, max) = (batch.extent_bytes(), self.options.batch_bytes_max());
        if bytes as u64 > max {
            return Err(AppendError::BatchTooLong { bytes, max });
        }
        if batch.is_empty() {
            return Ok(self.next..self.next);
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
        Ok(stamp.position..self.next)
    }

    /// Writes what is laid out.
    pub(super) fn write(&mut self) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.staged.bytes.is_empty() {
            return Ok(());
        }
        let active = self.active.as_ref().expect("batches are laid out for a segment");
        let mut filled = active.segment.filled();
        let end = filled.end;
        // Readers find the old end meanwhile.
        drop(filled);
        if let Err(fault) = active.file.write_all_at(&self.staged.bytes, end) {
            return Err(self.fail(fault));
        }
        filled = active.segment.filled();
        filled.end = end + self.staged.bytes.len() as u64;
        filled.last = self.next - 1;
        for (position, offset) in self.staged.places.drain(..) {
            filled.content.add(self.staged.written_unix_ns);
            filled.note(position, offset);
        }
        self.staged.bytes.clear();
        Ok(())
    }

    /// Remembers why nothing more is appended; the first reason stays.
    fn fail(&mut self, fault: Fault) -> Fault {
        self.fault.get_or_insert(fault).clone()
    }

    /// The offset for so many bytes in a segment that has room for them.
    fn make_room(&mut self, bytes: u64) -> Result<u64, AppendError> {
        loop {
            if let Some(fault) = &self.fault {
                return Err(AppendError::Disk(fault.clone()));
            }
            let Some(active) = &self.active else {
                self.resume().map_err(|fault| self.refusal(fault))?;
                if self.active.is_none() {
                    self.begin_segment().map_err(|fault| self.refusal(fault))?;
                }
                continue;
            };
            let offset = active.segment.filled().end + self.staged.bytes.len() as u64;
            if offset + bytes + SEAL_BYTES <= self.options.segment_bytes {
                return Ok(offset);
            }
            self.write().map_err(AppendError::Disk)?;
            self.seal_segment().map_err(AppendError::Disk)?;
        }
    }

    /// A full disk that ended nothing is told from a failure.
    fn refusal(&self, fault: Fault) -> AppendError {
        if self.fault.is_none() { AppendError::Full(fault) } else { AppendError::Disk(fault) }
    }

    /// Brings the last segment into the state that appending needs. A full disk leaves all as it was.
    fn resume(&mut self) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let (durable, end) = match self.resume {
            Resume::New => return Ok(()),
            Resume::Segment { durable, .. } => (durable, None),
            Resume::Sealed { durable, seal_end } => (durable, Some(seal_end)),
        };
        let segment = self.shelf.newest().expect("a log that goes on has a segment");
        let opened = File::open(&*self.disk, &segment::path(&self.folder, segment.first), Access::Write);
        let file = opened.map_err(|fault| self.fail(fault))?;
        let filled_end = segment.filled().end;
        let length = file.length().map_err(|fault| self.fail(fault))?;
        let cut = matches!(self.resume, Resume::Segment { cut: true, .. });
        let cut_to = end.unwrap_or(filled_end);
        if (cut || end.is_some()) && length > cut_to {
            file.truncate(cut_to).map_err(|fault| self.fail(fault))?;
        }
        if end.is_none()
            && let Err(fault) = file.allocate(self.options.segment_bytes)
        {
            // Nothing was written yet.
            return Err(if fault.is_full() { fault } else { self.fail(fault) });
        }
        self.rewrite(&segment, &file, durable, cut_to).map_err(|fault| self.fail(fault))?;
        // The segment may have been made by a process that died before this.
        sync_folder(&*self.disk, &self.folder).map_err(|fault| self.fail(fault))?;
        self.durable = self.next - 1;
        self.resume = Resume::New;
        if end.is_none() {
            self.active = Some(Active { segment, file });
            self.mark_durable();
        }
        Ok(())
    }

    /// Writes what was not known to be durable once more, and syncs it. A sync that failed before the log was opened may
    /// have left it in memory only, marked as if it were on the disk.
    fn rewrite(&self, segment: &Segment, file: &File, durable: u64, end: u64) -> Result<(), Fault> {
        let (position, offset) = segment.near(durable + 1);
        let mut walk = Walk::new(segment.first, offset, position, end);
        while walk.expected() <= durable && !matches!(walk.next(file)?, Step::End { .. }) {}
        let mut at = walk.offset();
        let mut bytes = vec![0; COPY_BYTES.min(end.saturating_sub(at)) as usize];
        while at < end {
            let length = COPY_BYTES.min(end - at) as usize;
            let read = file.read_at(&mut bytes[..length], at)?;
            file.write_all_at(&bytes[..read], at)?;
            at += length as u64;
        }
        file.sync_data()
    }

    /// Says behind the last record that all is durable. The next record takes its place. A failure is the next append's:
    /// what was said to be durable is.
    fn mark_durable(&mut self) {
        let Some(active) = &self.active else { return };
        let place = Place { segment: active.segment.first, offset: active.segment.filled().end };
        let mark = Header::control(Kind::DURABLE, self.durable, &[]).encode(place);
        if let Err(fault) = active.file.write_all_at(&mark, place.offset) {
            self.fail(fault);
        }
    }

    /// Ends the active segment, durably.
    fn seal_segment(&mut self) -> Result<(), Fault> {
        self.sync().map_err(|SyncError(fault)| fault)?;
        // The mark of the sync may have failed.
        self.write()?;
        let Some(Active { segment, file }) = self.active.take() else { return Ok(()) };
        let Filled { end, last, content, .. } = segment.filled().clone();
        let seal = content.seal(last, Place { segment: segment.first, offset: end });
        let seal_end = end + SEAL_BYTES;
        let sealed =
            file.write_all_at(&seal, end).and_then(|()| file.truncate(seal_end)).and_then(|()| file.sync_data());
        self.resume = Resume::New;
        sealed.map_err(|fault| self.fail(fault))
    }

    /// Makes the next segment. A full disk leaves all as it was.
    fn begin_segment(&mut self) -> Result<(), Fault> {
        let first = self.next;
        let header = segment::header(first, self.disk.unix_now_ns());
        let made = self.make_file(first, &header);
        let file = match made {
            Ok(file) => file,
            Err(fault) if fault.is_full() && self.remove(first).is_ok() => return Err(fault),
            Err(fault) => return Err(self.fail(fault)),
        };
        let reading = File::open(&*self.disk, file.path(), Access::Read).map_err(|fault| self.fail(fault))?;
        let segment = Arc::new(Segment::new(first, reading, Filled::new(first)));
        self.shelf.add(Arc::clone(&segment));
        self.active = Some(Active { segment, file });
        Ok(())
    }

    fn make_file(&self, first: u64, header: &[u8; HEADER_BYTES]) -> Result<File, Fault> {
        let path = segment::path(&self.folder, first);
        // One that was begun before, and of which nothing is known.
        self.remove(first)?;
        let file = File::open(&*self.disk, &path, Access::Create)?;
        file.allocate(self.options.segment_bytes)?;
        file.write_all_at(header, 0)?;
        file.sync_data()?;
        sync_folder(&*self.disk, &self.folder)?;
        Ok(file)
    }

    /// Removes a segment's file, if it is there.
    fn remove(&self, first: u64) -> Result<(), Fault> {
        let path: &Path = &segment::path(&self.folder, first);
        match retried("remove", path, || self.disk.remove(path)) {
            Err(fault) if fault.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}
