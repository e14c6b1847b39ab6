//! The tables, version by version: each step is run once, by whoever opens the store first.

use tokio_postgres::Transaction;

use super::super::Durability;
use super::error::{PostgresError, PostgresFault};
use super::link::{AWAIT_APPEND, Link};

/// Steps in their order; the version of the tables is the number of those that were run. What was released is never changed.
///
/// Texts of events are bytes: PostgreSQL keeps no text with a zero byte, and compares by collation.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE head (
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        position bigint NOT NULL
    );
    INSERT INTO head (position) VALUES (0);
    CREATE TABLE events (
        position bigint PRIMARY KEY,
        recorded_at timestamptz NOT NULL,
        id uuid NOT NULL,
        topic bytea NOT NULL,
        source bytea NOT NULL,
        created_ns bigint NOT NULL,
        correlation uuid,
        aggregate_kind bytea,
        aggregate_id bytea,
        aggregate_version numeric(20),
        frame bytea NOT NULL
    );
    CREATE INDEX events_topic ON events (topic, position);
    CREATE INDEX events_correlation ON events (correlation, position) WHERE correlation IS NOT NULL;
    CREATE INDEX events_aggregate ON events (aggregate_kind, aggregate_id, position) WHERE aggregate_kind IS NOT NULL;
    CREATE TABLE aggregates (
        kind bytea NOT NULL,
        id bytea NOT NULL,
        version numeric(20) NOT NULL,
        PRIMARY KEY (kind, id)
    );
    CREATE TABLE snapshots (
        kind bytea NOT NULL,
        id bytea NOT NULL,
        version numeric(20) NOT NULL,
        schema_version integer NOT NULL,
        taken_ns bigint NOT NULL,
        encoding smallint NOT NULL,
        state bytea NOT NULL,
        PRIMARY KEY (kind, id)
    );
    CREATE TABLE states (
        kind bigint NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (kind, key)
    );
",
    "
    CREATE TABLE leases (
        name bytea PRIMARY KEY,
        owner text NOT NULL,
        term bigint NOT NULL,
        backend integer NOT NULL
    );
",
];

/// Of the advisory locks of a store the one for its tables: those of its state are 0 and above.
const LOCK: i32 = -1;

/// Brings the tables to the newest version, and says how strong a word the server keeps.
pub(super) async fn migrate(link: &Link) -> Result<Durability, PostgresError> {
    let failed = PostgresFault::at("make its tables");
    let mut connection = link.connection().await?;
    let transaction = connection.transaction().await.map_err(&failed)?;
    let lock = "SELECT pg_advisory_xact_lock($1, $2)";
    transaction.execute(lock, &[&link.lock_class(), &LOCK]).await.map_err(&failed)?;
    let found = version(&transaction, &link.schema).await?;
    let known = STEPS.len() as i32;
    if found > known {
        return Err(PostgresError::TooNew { schema: link.schema.clone(), found, known });
    }
    for (nth, step) in (1..).zip(STEPS).filter(|&(nth, _)| nth > found) {
        transaction.batch_execute(step).await.map_err(&failed)?;
        let insert = "INSERT INTO migrations (version) VALUES ($1)";
        transaction.execute(insert, &[&nth]).await.map_err(&failed)?;
    }
    let asked = "SELECT current_setting('fsync') = 'on', has_table_privilege('head', 'UPDATE')";
    let row = transaction.query_one(asked, &[]).await.map_err(&failed)?;
    if row.get(1) {
        // The process before this one may have left an append that is being committed.
        transaction.query_one(AWAIT_APPEND, &[]).await.map_err(&failed)?;
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(if row.get(0) { Durability::Durable } else { Durability::Written })
}

/// The version of the tables, 0 where there are none.
async fn version(transaction: &Transaction<'_>, schema: &str) -> Result<i32, PostgresFault> {
    let failed = PostgresFault::at("find out the version of its tables");
    // Asked first: who may use the schema need not be allowed to make one.
    let asked = "SELECT to_regclass($1) IS NOT NULL";
    let is_there = transaction.query_one(asked, &[&format!("{schema}.migrations")]).await.map_err(&failed)?;
    if !is_there.get::<_, bool>(0) {
        let make = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE migrations (version integer PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT now());"
        );
        transaction.batch_execute(&make).await.map_err(&failed)?;
    }
    let newest = "SELECT coalesce(max(version), 0) FROM migrations";
    Ok(transaction.query_one(newest, &[]).await.map_err(&failed)?.get(0))
}
