//! Readers of the log between two queries: their memory is made once, and who goes on where one ended finds the place again.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::super::log::{LogReader, Lookup};

/// Readers that rest at most; a query beside so many has one made.
const RESTING_MAX: usize = 4;
/// What a reader that rests may have of memory: that of one which met a long record is given back.
const BYTES_MAX: usize = 512 << 10;

/// Those that rest, the one that was used last at the end.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<Vec<Reader>>);

/// What a query reads with.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) log: LogReader,
    pub(super) lookup: Lookup,
}

/// A reader that is in use. Dropped, it rests.
#[derive(Debug)]
pub(super) struct Used<'r> {
    readers: &'r Readers,
    /// Until it is dropped.
    reader: Option<Reader>,
}

impl Readers {
    /// A reader of the log of another: best the one that ended before a position.
    pub(super) fn take(&self, like: &LogReader, position: u64) -> Used<'_> {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = resting.iter().position(|reader| reader.log.next_position() == position);
        let reader = found.map(|nth| resting.remove(nth)).or_else(|| resting.pop());
        drop(resting);
        let reader = reader.unwrap_or_else(|| Reader { log: like.from(position), lookup: like.lookup() });
        Used { readers: self, reader: Some(reader) }
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        let Some(mut reader) = self.reader.take() else { return };
        // A file that is removed meanwhile is not kept on the disk for one that rests.
        let bytes = reader.log.rest() + reader.lookup.rest();
        let mut resting = self.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= BYTES_MAX && resting.len() < RESTING_MAX {
            resting.push(reader);
        }
    }
}

impl Deref for Used<'_> {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect("it is there until the drop")
    }
}

impl DerefMut for Used<'_> {
    fn deref_mut(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("it is there until the drop")
    }
}
