//! What a log may be told when it is opened, and what is refused.

use std::error;
use std::fmt;

use super::record::HEADER_BYTES;
use super::segment::{SEAL_BYTES, SEGMENT_HEADER_BYTES};

/// Limits of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// Bytes of a segment, reserved on the disk when it is begun. Default 64 MiB, from 4 KiB to 4 GiB, a multiple of 16. A
    /// batch must fit in a segment.
    pub segment_bytes: u64,
    /// Bytes of a record's body. Default 16 MiB, at most what fits in a segment.
    pub record_bytes_max: u32,
    /// Files that are kept open for reading, beside those that are read from at the moment. Default 32, 1 at least.
    pub open_files_max: usize,
    /// Whether room for one more segment is kept, which becomes one when the disk is full. Default no.
    pub reserve: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, record_bytes_max: 16 << 20, open_files_max: 32, reserve: false }
    }
}

/// An option has a value it cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionOutOfRange {
    /// The option's name.
    pub option: &'static str,
    /// Its value.
    pub value: u64,
    /// The lowest it may have.
    pub min: u64,
    /// The highest it may have.
    pub max: u64,
    /// What it must be a multiple of.
    pub multiple_of: u64,
}

impl fmt::Display for OptionOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, value, min, max, multiple_of } = self;
        write!(f, "{option} is {value}; set it from {min} to {max}")?;
        if *multiple_of > 1 {
            write!(f, " to a multiple of {multiple_of}")?;
        }
        Ok(())
    }
}

impl error::Error for OptionOutOfRange {}

impl LogOptions {
    const SEGMENT_BYTES_MIN: u64 = 4 << 10;
    pub(super) const SEGMENT_BYTES_MAX: u64 = 4 << 30;

    /// Bytes that the records of one batch may take together, their headers too.
    pub fn batch_bytes_max(&self) -> u64 {
        self.segment_bytes - SEGMENT_HEADER_BYTES - SEAL_BYTES
    }

    pub(super) fn check(&self) -> Result<(), OptionOutOfRange> {
        let (min, max) = (Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX);
        if !(min..=max).contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(16) {
            let value = self.segment_bytes;
            return Err(OptionOutOfRange { option: "segment_bytes", value, min, max, multiple_of: 16 });
        }
        let max = self.batch_bytes_max() - HEADER_BYTES as u64;
        let value = u64::from(self.record_bytes_max);
        if value == 0 || value > max {
            return Err(OptionOutOfRange { option: "record_bytes_max", value, min: 1, max, multiple_of: 1 });
        }
        if self.open_files_max == 0 {
            let max = usize::MAX as u64;
            return Err(OptionOutOfRange { option: "open_files_max", value: 0, min: 1, max, multiple_of: 1 });
        }
        Ok(())
    }
}
