//! Snapshots, in the table of what cannot be rebuilt from the events.
//!
//! ```text
//!   key     bytes of kind 4 │ kind │ id
//!   value   format 1 │ encoding 1 │ schema 2 │ 0 4 │ version 8 │ taken at, Unix ns, signed 8 │ 0 8 │ state
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use crate::Encoding;

use super::super::log::Word;
use super::super::snapshot::{payload, time, unix_ns};
use super::super::state::StateKind;
use super::super::table::{ChangeError, Table};
use super::super::{ReadError, Snapshot, SnapshotError};

const FORMAT: u8 = 1;
/// A multiple of 16, so that a state is aligned.
pub(super) const HEAD_BYTES: usize = 32;
const ENCODINGS: [Encoding; 5] = [Encoding::Bytes, Encoding::Rkyv, Encoding::Json, Encoding::Text, Encoding::Protobuf];

/// The latest snapshot of each aggregate that has one.
#[derive(Debug)]
pub(super) struct Snapshots {
    table: Arc<Table>,
    state_bytes_max: usize,
    /// Held from the look at what is there to the change.
    saving: Mutex<()>,
}

impl Snapshots {
    pub(super) const fn new(table: Arc<Table>, state_bytes_max: usize) -> Self {
        Self { table, state_bytes_max, saving: Mutex::new(()) }
    }

    /// Keeps a snapshot, unless a newer one is there.
    pub(super) fn save(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let (bytes, max) = (snapshot.state().bytes().len(), self.state_bytes_max);
        if bytes > max {
            return Err(SnapshotError::TooLarge { bytes, max });
        }
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, id) = (snapshot.kind(), snapshot.id());
        // One that cannot be read is replaced.
        if let Ok(Some(before)) = self.load(kind, id)
            && before.version() > snapshot.version()
        {
            return Ok(());
        }
        let refused = |error| match error {
            ChangeError::TooManyBytes { live_bytes, max } => {
                SnapshotError::Full { limit: "state_bytes_max", needed: live_bytes, max }
            }
            ChangeError::TooManyKeys { keys, max } => {
                SnapshotError::Full { limit: "state_keys_max", needed: keys as u64, max: max as u64 }
            }
            error => SnapshotError::Failed(Box::new(error)),
        };
        self.table.put(StateKind::SNAPSHOT, &key(kind, id), &value(snapshot), Word::Written).map_err(refused)
    }

    /// The latest snapshot of an aggregate.
    pub(super) fn load(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        let found = self.table.get(StateKind::SNAPSHOT, &key(kind, id));
        let Some(value) = found.map_err(|error| ReadError::Failed(Box::new(error)))? else { return Ok(None) };
        let snapshot = read(kind, id, &value);
        snapshot.map(Some).ok_or_else(|| {
            let format = value.first().copied().unwrap_or(0);
            let error = format!(
                "the snapshot of {kind} {id:?} has format {format}, this program reads {FORMAT}; use a newer one"
            );
            ReadError::Failed(error.into())
        })
    }
}

fn key(kind: &str, id: &str) -> Vec<u8> {
    let mut key = (kind.len() as u32).to_le_bytes().to_vec();
    key.extend_from_slice(kind.as_bytes());
    key.extend_from_slice(id.as_bytes());
    key
}

fn value(snapshot: &Snapshot) -> Vec<u8> {
    let state = snapshot.state();
    let mut value = Vec::with_capacity(HEAD_BYTES + state.bytes().len());
    value.extend_from_slice(&[FORMAT, state.encoding() as u8]);
    value.extend_from_slice(&snapshot.schema_version().to_le_bytes());
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(&snapshot.version().to_le_bytes());
    value.extend_from_slice(&unix_ns(snapshot.taken_at()).to_le_bytes());
    value.extend_from_slice(&[0; 8]);
    value.extend_from_slice(state.bytes());
    value
}

/// `None` for another format.
fn read(kind: &str, id: &str, value: &[u8]) -> Option<Snapshot> {
    let (head, state) = value.split_first_chunk::<HEAD_BYTES>()?;
    let long = |at: usize| *head[at..].first_chunk().expect("it lies within the head");
    let encoding = ENCODINGS.into_iter().find(|encoding| *encoding as u8 == head[1])?;
    let snapshot = Snapshot::new(kind, id, u64::from_le_bytes(long(8)), payload(encoding, state));
    let schema = u16::from_le_bytes([head[2], head[3]]);
    let taken_at = time(i64::from_le_bytes(long(16)));
    (head[0] == FORMAT).then(|| snapshot.with_schema_version(schema).with_taken_at(taken_at))
}
