//! Snapshots of aggregates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Encoding;

use super::super::snapshot::payload;
use super::super::{ReadError, Snapshot};
use super::append::number;
use super::error::PostgresFault;
use super::link::Link;

/// By their places: what is written never changes.
const ENCODINGS: [Encoding; 5] = [Encoding::Bytes, Encoding::Rkyv, Encoding::Json, Encoding::Text, Encoding::Protobuf];

/// The version of the aggregate is looked at in the same statement that keeps the snapshot.
const SAVE: &str = "
    WITH of AS (
        SELECT coalesce((SELECT version FROM aggregates WHERE kind = $1 AND id = $2), 0) AS version
    ), kept AS (
        INSERT INTO snapshots (kind, id, version, schema_version, taken_ns, encoding, state)
        SELECT $1, $2, $3::text::numeric, $4, $5, $6, $7 FROM of WHERE of.version >= $3::text::numeric
        ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, schema_version = excluded.schema_version,
            taken_ns = excluded.taken_ns, encoding = excluded.encoding, state = excluded.state
        WHERE snapshots.version <= excluded.version
    )
    SELECT version::text FROM of";
const LOAD: &str = "
    SELECT version::text, schema_version, taken_ns, encoding, state FROM snapshots WHERE kind = $1 AND id = $2";

/// Keeps a snapshot if its aggregate has come so far. Returns the version that this is at.
pub(super) async fn save(link: &Link, snapshot: &Snapshot) -> Result<u64, PostgresFault> {
    let failed = PostgresFault::at("keep a snapshot");
    let state = snapshot.state();
    if state.bytes().len() > Snapshot::STATE_BYTES_MAX {
        // It is refused whatever the version.
        return Ok(u64::MAX);
    }
    let (kind, id) = (snapshot.kind().as_bytes(), snapshot.id().as_bytes());
    let encoding = ENCODINGS.iter().position(|&one| one == state.encoding()).unwrap_or(0) as i16;
    let (version, schema) = (snapshot.version().to_string(), i32::from(snapshot.schema_version()));
    let taken_ns = unix_ns(snapshot.taken_at());
    let connection = link.connection().await?;
    let statement = connection.prepare_cached(SAVE).await.map_err(&failed)?;
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&kind, &id, &version, &schema, &taken_ns, &encoding, &state.bytes()];
    let row = connection.query_one(&statement, &params).await.map_err(&failed)?;
    Ok(number(row.get(0)))
}

/// A snapshot as it was sent.
pub(super) struct Row {
    version: u64,
    schema: i32,
    taken_ns: i64,
    encoding: i16,
    state: Vec<u8>,
}

pub(super) async fn load(link: &Link, kind: &str, id: &str) -> Result<Option<Row>, PostgresFault> {
    let failed = PostgresFault::at("load a snapshot");
    let connection = link.connection().await?;
    let statement = connection.prepare_cached(LOAD).await.map_err(&failed)?;
    let row = connection.query_opt(&statement, &[&kind.as_bytes(), &id.as_bytes()]).await.map_err(&failed)?;
    Ok(row.map(|row| Row {
        version: number(row.get(0)),
        schema: row.get(1),
        taken_ns: row.get(2),
        encoding: row.get(3),
        state: row.get(4),
    }))
}

impl Row {
    pub(super) fn read(self, kind: &str, id: &str) -> Result<Snapshot, ReadError> {
        let Self { version, schema, taken_ns, encoding, state } = self;
        let known = usize::try_from(encoding).ok().and_then(|nth| ENCODINGS.get(nth));
        let (Some(&encoding), Ok(schema)) = (known, u16::try_from(schema)) else {
            let error = format!(
                "the snapshot of {kind} {id:?} has encoding {encoding} and schema {schema}; use a newer program"
            );
            return Err(ReadError::Failed(error.into()));
        };
        let since = Duration::from_nanos(taken_ns.unsigned_abs());
        let taken_at = if taken_ns < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
        let snapshot = Snapshot::new(kind, id, version, payload(encoding, &state));
        Ok(snapshot.with_schema_version(schema).with_taken_at(taken_at))
    }
}

fn unix_ns(time: SystemTime) -> i64 {
    let ns = |since: Duration| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -ns(before.duration()), ns)
}
