//! Reading one record whose place is known, beside appending, never beyond what is written.

use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::error::ReadError;
use super::file::{Fault, File};
use super::reader::{Found, LogReader, Record, Shelf};
use super::record::{ALIGN, Cause, HEADER_BYTES, Header, Place, VERSION, check};
use super::segment::Segment;
use super::walk::Damage;

/// Bytes that are read at once: the header, and with it the body of most records.
const FIRST_BYTES: usize = 1_024;

/// Reads records one by one, each from its place.
#[derive(Debug)]
pub struct Lookup {
    shelf: Arc<Shelf>,
    segment: Option<(Arc<Segment>, Arc<File>)>,
    bytes: AlignedVec<ALIGN>,
}

impl LogReader {
    /// Reads single records of the same log.
    pub fn lookup(&self) -> Lookup {
        Lookup { shelf: Arc::clone(&self.shelf), segment: None, bytes: AlignedVec::new() }
    }
}

impl Lookup {
    /// Lets go of the file it reads; says how many bytes of memory it keeps.
    pub(in crate::store) fn rest(&mut self) -> usize {
        self.segment = None;
        self.bytes.capacity()
    }

    /// The record at an offset of the segment that begins at a position.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] also where no record begins or the log does not reach; its `missing` is `None` unless the
    /// record's header is whole. [`ReadError::Retired`] when the segment is not in the log any more.
    ///
    /// # Cost
    /// Reads 1 KiB, and once more what is longer; computes a check over header and body.
    pub fn record(&mut self, segment: u64, offset: u64) -> Result<Record<'_>, ReadError> {
        let (held, file) = loop {
            let found = self.shelf.segment(segment);
            let found = found.map_err(|first| ReadError::Retired { position: segment, first })?;
            if let Some(file) = self.enter(&found).map_err(ReadError::Disk)? {
                break (found, file);
            }
        };
        self.read(&held, &file, offset, FIRST_BYTES)
    }

    /// The record at a position, whose offset in its segment is known, and about how long it is; `None` where nothing is
    /// written yet.
    ///
    /// # Errors
    /// [`ReadError::Damaged`]; [`ReadError::Retired`] when its segment is not in the log any more.
    ///
    /// # Cost
    /// One read of so many bytes, and one more if the record is longer; computes a check over header and body.
    pub fn at(&mut self, position: u64, offset: u64, bytes: usize) -> Option<Result<Record<'_>, ReadError>> {
        let (held, file) = loop {
            let found = match self.shelf.find(position) {
                Found::In(segment) | Found::Gap(segment, _) => segment,
                Found::Before(first) => return Some(Err(ReadError::Retired { position, first })),
                Found::Nothing => return None,
            };
            match self.enter(&found) {
                Ok(Some(file)) => break (found, file),
                Ok(None) => {}
                Err(fault) => return Some(Err(ReadError::Disk(fault))),
            }
        };
        Some(self.read(&held, &file, offset, bytes).map_err(|error| match error {
            // Its header cannot say which it was.
            ReadError::Damaged(damage) => ReadError::Damaged(Damage { missing: Some(position..=position), ..damage }),
            error => error,
        }))
    }

    fn read(&mut self, held: &Segment, file: &File, offset: u64, bytes: usize) -> Result<Record<'_>, ReadError> {
        let segment = held.first;
        let end = held.filled().end;
        let place = Place { segment, offset };
        let length = load(&mut self.bytes, file, offset, bytes.min(end.saturating_sub(offset) as usize))?;
        let header = self.bytes[..length].first_chunk().and_then(|bytes| Header::decode(place, bytes));
        let header = header.filter(|header| !header.kind.is_control() && header.extent_bytes() <= end - offset);
        let damage = |bytes, missing, cause| ReadError::Damaged(Damage::of(file, offset, bytes, missing, cause));
        let Some(header) = header else { return Err(damage(HEADER_BYTES as u64, None, Cause::Header)) };
        let extent = header.extent_bytes() as usize;
        if extent > length && load(&mut self.bytes, file, offset, extent)? < extent {
            return Err(damage(extent as u64, Some(header.position..=header.position), Cause::Body));
        }
        let body = &self.bytes[HEADER_BYTES..extent];
        let wrong = match header.version {
            _ if check(body) != header.body_check => Some(Cause::Body),
            VERSION => None,
            version => Some(Cause::UnknownVersion(version)),
        };
        if let Some(cause) = wrong {
            return Err(damage(extent as u64, Some(header.position..=header.position), cause));
        }
        Ok(Record { segment, offset, header, body: &body[..header.body_bytes as usize] })
    }

    /// The file of a segment that was found; `None` if the segment was archived or removed since.
    fn enter(&mut self, found: &Arc<Segment>) -> Result<Option<Arc<File>>, Fault> {
        if let Some((_, file)) = self.segment.as_ref().filter(|(held, _)| Arc::ptr_eq(held, found)) {
            return Ok(Some(Arc::clone(file)));
        }
        let file = self.shelf.open(found)?;
        self.segment = file.clone().map(|file| (Arc::clone(found), file));
        Ok(file)
    }
}

/// Reads so many bytes to the front of the buffer; says how many came.
fn load(buffer: &mut AlignedVec<ALIGN>, file: &File, offset: u64, bytes: usize) -> Result<usize, ReadError> {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    file.read_at(&mut buffer[..bytes], offset).map_err(ReadError::Disk)
}
