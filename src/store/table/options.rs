//! What a table may be told when it is opened.

use super::super::log::{LogOptions, OptionOutOfRange};

/// Files that are kept open for reading: values that are read are mostly in few of them.
const OPEN_FILES_MAX: usize = 8;

/// Limits of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableOptions {
    /// Bytes of a segment of its log, reserved on the disk when it is begun. Default 32 MiB, from 4 KiB to 4 GiB, a multiple
    /// of 16. The changes of one batch must fit in a segment.
    pub segment_bytes: u64,
    /// Bytes of a key. Default 1 KiB.
    pub key_bytes_max: u32,
    /// Bytes of a value. Default 16 MiB and 64 KiB. With a key it must fit in a segment.
    pub value_bytes_max: u32,
    /// Keys that have a value, all of which are in memory. Default 1,000,000.
    pub keys_max: usize,
    /// Bytes of the records of all keys that have a value. Default 4 GiB. On the disk is at most 2.5 times that, and four
    /// segments, and the reserve.
    pub live_bytes_max: u64,
    /// Whether room for one more segment is kept, which becomes one when the disk is full. Default yes.
    pub reserve: bool,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            key_bytes_max: 1 << 10,
            value_bytes_max: (16 << 20) + (64 << 10),
            keys_max: 1_000_000,
            live_bytes_max: 4 << 30,
            reserve: true,
        }
    }
}

impl TableOptions {
    /// Those of the log beneath.
    pub(super) fn log(&self) -> Result<LogOptions, OptionOutOfRange> {
        let Self { segment_bytes, reserve, .. } = *self;
        let open_files_max = OPEN_FILES_MAX;
        let mut log = LogOptions { segment_bytes, open_files_max, reserve, ..LogOptions::default() };
        let (option, max) = ("key_bytes_max + value_bytes_max", u64::from(u32::MAX));
        let value = u64::from(self.key_bytes_max) + u64::from(self.value_bytes_max);
        log.record_bytes_max =
            u32::try_from(value).map_err(|_| OptionOutOfRange { option, value, min: 1, max, multiple_of: 1 })?;
        Ok(log)
    }
}
