//! Appending: one transaction, which has the head to itself until it is committed.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use deadpool_postgres::Transaction;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, Severity};
use uuid::Uuid;

use crate::Frame;

use super::super::append::Expected;
use super::super::{AppendError, Appended, Durability, Position};
use super::error::PostgresFault;
use super::link::{Link, bigint};

/// Appends are one after the other from here to their commit.
const MOVE_HEAD: &str = "UPDATE head SET position = position + $1 RETURNING position";
const VERSION: &str = "SELECT version::text FROM aggregates WHERE kind = $1 AND id = $2";
const INSERT: &str = "
    INSERT INTO events (position, recorded_at, id, topic, source, created_ns, correlation, aggregate_kind, aggregate_id,
        aggregate_version, frame)
    SELECT $1 + nth, $2, id, topic, source, created_ns, correlation, kind, of, version::numeric, frame
    FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::bigint[], $7::uuid[], $8::bytea[], $9::bytea[], $10::text[], $11::bytea[])
        WITH ORDINALITY AS event (id, topic, source, created_ns, correlation, kind, of, version, frame, nth)";
const RAISE: &str = "
    INSERT INTO aggregates (kind, id, version)
    SELECT kind, id, version::numeric FROM unnest($1::bytea[], $2::bytea[], $3::text[]) AS of (kind, id, version)
    ON CONFLICT (kind, id) DO UPDATE SET version = greatest(aggregates.version, excluded.version)";
const NOTIFY: &str = "SELECT pg_notify($1, '')";

/// What is sent.
pub(super) struct Batch {
    frames: Vec<Frame>,
    expected: Option<Expected>,
    durability: Durability,
}

impl Batch {
    pub(super) fn new(frames: &[Frame], expected: Option<Expected>, durability: Durability) -> Self {
        Self { frames: frames.to_vec(), expected, durability }
    }
}

pub(super) fn check_bytes(frames: &[Frame], max: u64) -> Result<(), AppendError> {
    let bytes = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
    if bytes > max { Err(AppendError::TooLong { bytes, max, limit: "batch_bytes_max" }) } else { Ok(()) }
}

/// Appends a batch. Up to its commit nothing is there when it fails; whether a commit that is not answered was made nobody knows.
pub(super) async fn append(link: &Link, batch: Batch, limit: Duration) -> Result<Appended, AppendError> {
    let failed = |fault| AppendError::Failed(Box::new(fault));
    let begun = tokio::time::Instant::now();
    let doing = "append events";
    let late = || PostgresFault::timed_out(doing, limit);
    let mut is_second = false;
    let (mut connection, appended);
    let transaction = loop {
        let taken = timeout(limit.saturating_sub(begun.elapsed()), link.connection()).await;
        connection = taken.unwrap_or_else(|_| Err(late())).map_err(failed)?;
        let filled = timeout(limit.saturating_sub(begun.elapsed()), async {
            let begin = connection.transaction().await;
            let transaction = begin.map_err(|error| failed(PostgresFault::new(doing, error)))?;
            let appended = fill(&transaction, link, &batch).await?;
            Ok((transaction, appended))
        });
        match filled.await.unwrap_or_else(|_| Err(failed(late()))) {
            Ok((transaction, positions)) => {
                appended = positions;
                break transaction;
            }
            // Nothing was committed.
            Err(error) if !is_second && is_of_connection(&error) => {
                is_second = true;
                link.connect_anew();
            }
            Err(error) => return Err(error),
        }
    };
    let committed = timeout(limit.saturating_sub(begun.elapsed()), transaction.commit()).await;
    match committed {
        Ok(Ok(())) => Ok(appended),
        Ok(Err(error)) if is_refusal(&error) => Err(failed(PostgresFault::new(doing, error))),
        Ok(Err(error)) => Err(AppendError::InDoubt(Box::new(PostgresFault::new("answer a commit", error)))),
        Err(_) => Err(AppendError::InDoubt(Box::new(PostgresFault::timed_out("answer a commit", limit)))),
    }
}

/// Whether the server says that there is no commit. With any graver word it ends the connection, also behind a commit that was made.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().and_then(DbError::parsed_severity) == Some(Severity::Error)
}

/// Whether the server had ended the connection.
fn is_of_connection(error: &AppendError) -> bool {
    let AppendError::Failed(error) = error else { return false };
    error.downcast_ref::<PostgresFault>().is_some_and(PostgresFault::is_of_connection)
}

async fn fill(transaction: &Transaction<'_>, link: &Link, batch: &Batch) -> Result<Appended, AppendError> {
    let Batch { frames, expected, durability } = batch;
    if *durability == Durability::Accepted {
        transaction.batch_execute("SET LOCAL synchronous_commit = off").await.map_err(failed)?;
    }
    let move_head = transaction.prepare_cached(MOVE_HEAD).await.map_err(failed)?;
    let count = bigint(frames.len() as u64);
    let last = transaction.query_one(&move_head, &[&count]).await.map_err(failed)?.get::<_, i64>(0);
    let mut version = None;
    if let Some(expected) = expected {
        let asked = transaction.prepare_cached(VERSION).await.map_err(failed)?;
        let of: [&[u8]; 2] = [expected.kind.as_bytes(), expected.id.as_bytes()];
        let found = transaction.query_opt(&asked, &[&of[0], &of[1]]).await.map_err(failed)?;
        let found = found.map_or(0, |row| number(row.get(0)));
        version = Some(expected.clone().meets(found)?);
    }
    insert(transaction, frames, last - count).await.map_err(failed)?;
    raise(transaction, frames).await.map_err(failed)?;
    let notify = transaction.prepare_cached(NOTIFY).await.map_err(failed)?;
    transaction.execute(&notify, &[&link.channel()]).await.map_err(failed)?;
    let position = |number: i64| Position::new(number.unsigned_abs()).expect("the head rises from 0");
    Ok(Appended::new(position(last - count + 1), position(last), version))
}

fn failed(error: tokio_postgres::Error) -> AppendError {
    // Data that no column takes, or no index: it never will.
    let is_refusal = error.code().is_some_and(|code| ["22", "54"].iter().any(|class| code.code().starts_with(class)));
    let fault = Box::new(PostgresFault::new("append events", error));
    if is_refusal { AppendError::Refused(fault) } else { AppendError::Failed(fault) }
}

/// A version as the server writes it.
pub(super) fn number(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

/// Inserts the events behind the position `before`.
async fn insert(transaction: &Transaction<'_>, frames: &[Frame], before: i64) -> Result<(), tokio_postgres::Error> {
    let metas: Vec<_> = frames.iter().map(Frame::meta).collect();
    let uuid = |id: crate::EventId| Uuid::from_bytes(*id.as_bytes());
    let ids: Vec<_> = metas.iter().map(|meta| uuid(meta.id())).collect();
    let topics: Vec<_> = metas.iter().map(|meta| meta.topic().as_bytes()).collect();
    let sources: Vec<_> = metas.iter().map(|meta| meta.source().as_bytes()).collect();
    let created: Vec<_> = metas.iter().map(|meta| bigint(meta.unix_ns())).collect();
    let correlations: Vec<_> = metas.iter().map(|meta| meta.correlation().map(uuid)).collect();
    let kinds: Vec<_> = metas.iter().map(|meta| meta.aggregate().map(|of| of.kind.as_bytes())).collect();
    let of: Vec<_> = metas.iter().map(|meta| meta.aggregate().map(|of| of.id.as_bytes())).collect();
    let versions: Vec<_> = metas.iter().map(|meta| meta.aggregate().map(|of| of.version.to_string())).collect();
    let bytes: Vec<_> = frames.iter().map(Frame::bytes).collect();
    let statement = transaction.prepare_cached(INSERT).await?;
    let recorded_at = SystemTime::now();
    transaction
        .execute(
            &statement,
            &[&before, &recorded_at, &ids, &topics, &sources, &created, &correlations, &kinds, &of, &versions, &bytes],
        )
        .await
        .map(drop)
}

/// The greatest version found becomes the aggregate's.
async fn raise(transaction: &Transaction<'_>, frames: &[Frame]) -> Result<(), tokio_postgres::Error> {
    let metas: Vec<_> = frames.iter().map(Frame::meta).collect();
    let mut greatest: HashMap<(&[u8], &[u8]), u64> = HashMap::new();
    for of in metas.iter().filter_map(|meta| meta.aggregate()) {
        let version = greatest.entry((of.kind.as_bytes(), of.id.as_bytes())).or_default();
        *version = of.version.max(*version);
    }
    if greatest.is_empty() {
        return Ok(());
    }
    let kinds: Vec<_> = greatest.keys().map(|&(kind, _)| kind).collect();
    let ids: Vec<_> = greatest.keys().map(|&(_, id)| id).collect();
    let versions: Vec<_> = greatest.values().map(u64::to_string).collect();
    let statement = transaction.prepare_cached(RAISE).await?;
    transaction.execute(&statement, &[&kinds, &ids, &versions]).await.map(drop)
}
