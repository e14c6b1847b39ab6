//! State beside the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::state::{
    self, STATE_BATCH_BYTES_MAX, STATE_PAGE_BYTES, StateChange, StateError, StateKind, StatePage, StateReadError,
    StateStore, StateValue,
};
use super::super::{Durability, Lease, LeaseError};
use super::PostgresStore;
use super::error::PostgresFault;
use super::leases::STILL;
use super::link::{Link, bigint};

/// Changes of keys that share a stripe are made one after the other. Who changes several takes their stripes in order, so that no two
/// wait for each other.
const STRIPES: u32 = 64;

const LOCK: &str = "SELECT pg_advisory_xact_lock($1, stripe) FROM unnest($2::integer[]) AS stripe";
const PUT: &str = "
    INSERT INTO states (kind, key, value) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])
    ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "
    DELETE FROM states USING unnest($1::bigint[], $2::bytea[]) AS gone (kind, key)
    WHERE states.kind = gone.kind AND states.key = gone.key";
const GET: &str = "SELECT value FROM states WHERE kind = $1 AND key = $2";
/// Up to the entry that brings a page to its bytes, and one more, which tells where to go on.
const LIST: &str = "
    SELECT key, value FROM (
        SELECT key, value, sum(bytes) OVER (ORDER BY key ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS before
        FROM (
            SELECT key, value, octet_length(key) + octet_length(value) AS bytes FROM states
            WHERE kind = $1 AND key >= $2 ORDER BY key LIMIT $3
        ) AS states
    ) AS states WHERE coalesce(before, 0) < $4 ORDER BY key";

/// Changes as they are sent: the last one of each key.
struct Changes {
    of: BTreeMap<(i64, Vec<u8>), Option<Vec<u8>>>,
    durability: Durability,
    /// The name under which they are made, and its term.
    lease: Option<(String, i64)>,
}

/// What came of them.
enum Applied {
    Made,
    /// Nothing: the name is somebody else's.
    Lost {
        name: String,
        owner: String,
    },
}

impl StateStore for PostgresStore {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        self.change(None, changes, durability)
    }
    fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, StateReadError> {
        let key: Arc<[u8]> = key.into();
        let value = self.call("read state", move |link| {
            let key = Arc::clone(&key);
            async move { get(&link, kind, &key).await }
        });
        let value = value.map_err(|fault| StateReadError::Failed(Box::new(fault)))?;
        Ok(value.map(|value| StateValue::copied_from(&value)))
    }

    fn list(&self, kind: StateKind, from: &[u8], limit: usize) -> Result<StatePage, StateReadError> {
        if limit == 0 || limit > state::STATE_PAGE_MAX {
            return StatePage::collect([], limit);
        }
        let from: Arc<[u8]> = from.into();
        let rows = self.call("read state", move |link| {
            let from = Arc::clone(&from);
            async move { list(&link, kind, &from, limit).await }
        });
        let rows = rows.map_err(|fault| StateReadError::Failed(Box::new(fault)))?;
        StatePage::collect(
            rows.into_iter().map(|(key, value)| Ok((key.into(), StateValue::copied_from(&value)))),
            limit,
        )
    }

    fn state_durability(&self) -> Durability {
        self.durability
    }

    /// The first lease takes a connection of its own, for all. The name is free when that connection ends: at once when this process
    /// dies, within half a minute when its machine does.
    fn lease(&self, name: &str) -> Result<Lease, LeaseError> {
        self.take_lease(name)
    }

    /// # Cost
    /// As [`apply`](StateStore::apply), and one exchange with the server.
    fn apply_under(
        &self,
        lease: &Lease,
        changes: &[StateChange<'_>],
        durability: Durability,
    ) -> Result<(), StateError> {
        self.change(Some(lease), changes, durability)
    }
}

impl PostgresStore {
    fn change(
        &self,
        lease: Option<&Lease>,
        changes: &[StateChange<'_>],
        durability: Durability,
    ) -> Result<(), StateError> {
        state::check(changes, STATE_BATCH_BYTES_MAX, durability, self.durability)?;
        let of = |change: &StateChange<'_>| {
            ((i64::from(change.kind().number()), change.key().to_vec()), change.value().map(<[u8]>::to_vec))
        };
        let lease = lease.map(|lease| (lease.name().to_owned(), bigint(lease.term())));
        let changes = Changes { of: changes.iter().map(of).collect(), durability, lease };
        if changes.of.is_empty() {
            return Ok(());
        }
        let changes = Arc::new(changes);
        let applied = self.call("change state", move |link| {
            let changes = Arc::clone(&changes);
            async move { apply(&link, &changes).await }
        });
        match applied.map_err(|fault| StateError::Failed(Box::new(fault)))? {
            Applied::Made => Ok(()),
            Applied::Lost { name, owner } => Err(StateError::Lease(LeaseError::Lost { name, owner })),
        }
    }
}

async fn apply(link: &Link, changes: &Changes) -> Result<Applied, PostgresFault> {
    let failed = PostgresFault::at("change state");
    let mut connection = link.connection().await?;
    let transaction = connection.transaction().await.map_err(&failed)?;
    if changes.durability == Durability::Accepted {
        transaction.batch_execute("SET LOCAL synchronous_commit = off").await.map_err(&failed)?;
    }
    if let Some((name, term)) = &changes.lease {
        let still = transaction.prepare_cached(STILL).await.map_err(&failed)?;
        let row = transaction.query_one(&still, &[&name.as_bytes()]).await.map_err(&failed)?;
        if row.get::<_, i64>(1) != *term {
            return Ok(Applied::Lost { name: name.clone(), owner: row.get(0) });
        }
    }
    let stripes: BTreeSet<_> = changes.of.keys().map(|(kind, key)| stripe(*kind, key)).collect();
    let stripes: Vec<_> = stripes.into_iter().collect();
    let lock = transaction.prepare_cached(LOCK).await.map_err(&failed)?;
    transaction.query(&lock, &[&link.lock_class(), &stripes]).await.map_err(&failed)?;
    let (mut kinds, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut gone_kinds, mut gone_keys) = (Vec::new(), Vec::new());
    for ((kind, key), value) in &changes.of {
        match value {
            Some(value) => {
                kinds.push(kind);
                keys.push(key);
                values.push(value);
            }
            None => {
                gone_kinds.push(kind);
                gone_keys.push(key);
            }
        }
    }
    if !keys.is_empty() {
        let put = transaction.prepare_cached(PUT).await.map_err(&failed)?;
        transaction.execute(&put, &[&kinds, &keys, &values]).await.map_err(&failed)?;
    }
    if !gone_keys.is_empty() {
        let remove = transaction.prepare_cached(REMOVE).await.map_err(&failed)?;
        transaction.execute(&remove, &[&gone_kinds, &gone_keys]).await.map_err(&failed)?;
    }
    // Whether it was made nobody knows where that is not answered, so it is not made again: somebody may have made others since.
    transaction.commit().await.map_err(PostgresFault::last("change state"))?;
    Ok(Applied::Made)
}

fn stripe(kind: i64, key: &[u8]) -> i32 {
    let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = kind.to_le_bytes().iter().chain(key).fold(0x811C_9DC5, fold);
    (hash % STRIPES).cast_signed()
}

async fn get(link: &Link, kind: StateKind, key: &[u8]) -> Result<Option<Vec<u8>>, PostgresFault> {
    let failed = PostgresFault::at("read state");
    let connection = link.connection().await?;
    let statement = connection.prepare_cached(GET).await.map_err(&failed)?;
    let row = connection.query_opt(&statement, &[&i64::from(kind.number()), &key]).await.map_err(&failed)?;
    Ok(row.map(|row| row.get(0)))
}

async fn list(
    link: &Link,
    kind: StateKind,
    from: &[u8],
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, PostgresFault> {
    let failed = PostgresFault::at("read state");
    let connection = link.connection().await?;
    let statement = connection.prepare_cached(LIST).await.map_err(&failed)?;
    let (more, bytes) = (bigint(limit as u64 + 1), bigint(STATE_PAGE_BYTES as u64));
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&i64::from(kind.number()), &from, &more, &bytes];
    let rows = connection.query(&statement, &params).await.map_err(&failed)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
