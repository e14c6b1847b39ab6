//! How a log gets room: its last segment goes on, is sealed when it is full, and the next is begun.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::Access;
use super::error::{AppendError, SyncError};
use super::file::{Fault, File, sync_folder};
use super::log::{Active, Log};
use super::open::Resume;
use super::record::{HEADER_BYTES, Header, Kind, Place};
use super::segment::{self, Filled, SEAL_BYTES, Segment};
use super::walk::{Step, Walk};

/// Bytes that are copied at once when the end of a segment is made durable.
const COPY_BYTES: u64 = 1 << 20;

impl Log {
    /// The offset for so many bytes in a segment that has room for them.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<u64, AppendError> {
        loop {
            if let Some(fault) = self.fault() {
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
        if self.fault().is_none() { AppendError::Full(fault) } else { AppendError::Disk(fault) }
    }

    /// Brings the last segment into the state that appending needs. A full disk leaves all as it was.
    pub(super) fn resume(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.fault() {
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
            && let Err(fault) = self.lengthen(&file)
        {
            // Nothing was written yet.
            self.keep_reserve();
            return Err(if fault.is_full() { fault } else { self.fail(fault) });
        }
        let is_noted = matches!(self.resume, Resume::Segment { is_of_boot: false, .. });
        let resumed = self.rewrite(&segment, &file, durable, cut_to).and_then(|()| {
            if is_noted {
                self.note_boot(&segment, &file, durable)?;
            }
            file.sync_data()
        });
        resumed.map_err(|fault| self.fail(fault))?;
        // The segment may have been made by a process that died before this.
        sync_folder(&*self.disk, &self.folder).map_err(|fault| self.fail(fault))?;
        self.durable = self.next - 1;
        self.resume = Resume::New;
        if end.is_none() {
            self.active = Some(Active { segment, file });
            self.keep_reserve();
        }
        Ok(())
    }

    /// Makes the last segment as long as it may be, of the reserve where there is no other room.
    fn lengthen(&mut self, file: &File) -> Result<(), Fault> {
        match file.lengthen(self.options.segment_bytes) {
            Err(fault) if fault.is_full() && self.give_up_reserve() => file.lengthen(self.options.segment_bytes),
            lengthened => lengthened,
        }
    }

    /// Writes what was not known to be durable once more. A sync that failed before the log was opened may have left it in
    /// memory only, marked as if it were on the disk.
    fn rewrite(&self, segment: &Segment, file: &File, durable: u64, end: u64) -> Result<(), Fault> {
        let (position, offset) = segment.near(durable + 1);
        let mut walk = Walk::new(segment.first, offset, position, end);
        while walk.expected() <= durable && !matches!(walk.next(file, 0)?, Step::End { .. }) {}
        let mut at = walk.offset();
        let mut bytes = vec![0; COPY_BYTES.min(end.saturating_sub(at)) as usize];
        while at < end {
            let length = COPY_BYTES.min(end - at) as usize;
            let read = file.read_at(&mut bytes[..length], at)?;
            file.write_all_at(&bytes[..read], at)?;
            at += length as u64;
        }
        Ok(())
    }

    /// Says in a segment that goes on that what follows was written since the machine was started again.
    fn note_boot(&self, segment: &Segment, file: &File, durable: u64) -> Result<(), Fault> {
        let mut filled = segment.filled();
        let Some(boot) = self.disk.boot() else { return Ok(()) };
        // Where nothing else has room, nothing follows.
        if filled.end + HEADER_BYTES as u64 + SEAL_BYTES > self.options.segment_bytes {
            return Ok(());
        }
        let header = Header { sequence: boot.get(), ..Header::control(Kind::BOOT, filled.last, durable, &[]) };
        let place = Place { segment: segment.first, offset: filled.end };
        file.write_all_at(&header.encode(place), filled.end)?;
        filled.end += HEADER_BYTES as u64;
        Ok(())
    }

    /// Ends the active segment, durably.
    fn seal_segment(&mut self) -> Result<(), Fault> {
        self.sync().map_err(|SyncError(fault)| fault)?;
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
        if first > segment::FIRST_MAX {
            let end = io::Error::other("positions have come to their end");
            return Err(self.fail(Fault::new("begin a segment in", &self.folder, end)));
        }
        let header = segment::header(first, self.disk.unix_now_ns(), self.disk.boot());
        let file = match self.make_file(first, &header) {
            Ok(file) => file,
            Err(fault) if fault.is_full() && self.remove(first).is_ok() => {
                self.keep_reserve();
                return Err(fault);
            }
            Err(fault) => return Err(self.fail(fault)),
        };
        let segment = Arc::new(Segment::new(first, file.path().to_owned(), Filled::new(first)));
        self.shelf.add(Arc::clone(&segment));
        self.active = Some(Active { segment, file });
        self.keep_reserve();
        Ok(())
    }

    fn make_file(&mut self, first: u64, header: &[u8; HEADER_BYTES]) -> Result<File, Fault> {
        let path = segment::path(&self.folder, first);
        // One that was begun before, and of which nothing is known.
        self.remove(first)?;
        let file = match self.create(&path) {
            Err(fault) if fault.is_full() => {
                // What it has got of room, the reserve may lack.
                self.remove(first)?;
                self.hand_over_reserve(&path).unwrap_or(Err(fault))?
            }
            file => file?,
        };
        file.write_all_at(header, 0)?;
        file.sync_data()?;
        sync_folder(&*self.disk, &self.folder)?;
        Ok(file)
    }

    fn create(&self, path: &Path) -> Result<File, Fault> {
        let file = File::open(&*self.disk, path, Access::Create)?;
        file.lengthen(self.options.segment_bytes)?;
        Ok(file)
    }

    fn remove(&self, first: u64) -> Result<(), Fault> {
        self.shelf.remove_files(&*self.disk, &self.folder, first, &segment::path(&self.folder, first))
    }
}
