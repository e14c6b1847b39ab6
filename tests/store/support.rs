//! Logs whose every record's content follows from its position, so that a reader can tell what is missing or invented.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use ringmain::internals::store::{
    Batch, Damage, Disk, Kind, Log, LogOptions, NewRecord, OpenError, ReadError, Recovered,
};

pub(crate) const FOLDER: &str = "log";

/// Chance that repeats, by SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Small segments, so that a workload has many.
pub(crate) fn small() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = 4_096;
    options.record_bytes_max = 3_000;
    options
}

pub(crate) fn open(disk: &impl Shareable, options: LogOptions) -> Result<(Log, Recovered), OpenError> {
    Log::open(disk.shared(), Path::new(FOLDER), options)
}

/// A disk that can be shared.
pub(crate) trait Shareable {
    fn shared(&self) -> Arc<dyn Disk>;
}

impl<D: Disk + Clone + 'static> Shareable for D {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

/// What the record at a position holds: up to 200 bytes, seldom 600 more.
pub(crate) fn body(position: u64) -> Cow<'static, [u8]> {
    // Most are asked for again and again.
    static FIRST: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..512).map(body_made).collect());
    FIRST.get(position as usize).map_or_else(|| body_made(position).into(), |body| (&**body).into())
}

fn body_made(position: u64) -> Vec<u8> {
    let mut chance = Chance(position);
    let length = chance.below(200) + if chance.below(20) == 0 { 600 } else { 0 };
    (0..length).map(|_| chance.below(256) as u8).collect()
}

/// A batch of so many records, as they are at the positions from `first` on.
pub(crate) fn batch(first: u64, records: u64) -> Batch {
    let mut batch = Batch::new();
    for position in first..first + records {
        let body = body(position);
        let (flags, lane) = (position as u32 ^ 0xA5, (position % 4) as u32);
        let record = NewRecord { kind: Kind::EVENT, flags, lane, sequence: position * 3, body: &body };
        batch.push(&record).expect("the body is short");
    }
    batch
}

/// What a reader found from a position on.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) positions: Vec<u64>,
    pub(crate) damages: Vec<Damage>,
    /// Records of the last record's batch that should follow it.
    pub(crate) batch_left: u32,
}

/// Reads all there is, and checks each record.
pub(crate) fn read_all(log: &Log, from: u64) -> Found {
    let mut reader = log.read(from);
    let mut found = Found::default();
    while let Some(next) = reader.next_record() {
        match next {
            Ok(record) => {
                let header = record.header;
                let position = header.position;
                assert_eq!(record.body, &*body(position), "position {position} holds what was appended");
                assert_eq!(header.flags, position as u32 ^ 0xA5);
                assert_eq!((u64::from(header.lane), header.sequence), (position % 4, position * 3));
                assert_eq!(record.body.as_ptr().addr() % 16, 0, "a body is aligned");
                assert!(found.positions.last().is_none_or(|last| *last < position), "positions rise");
                found.positions.push(position);
                found.batch_left = header.batch_left;
            }
            Err(ReadError::Damaged(damage)) => found.damages.push(damage),
            Err(other) => panic!("{other}"),
        }
    }
    found
}

/// Whether damage was reported that hides a position.
pub(crate) fn hides(damages: &[Damage], position: u64) -> bool {
    damages.iter().any(|damage| damage.missing.as_ref().is_some_and(|missing| missing.contains(&position)))
}
