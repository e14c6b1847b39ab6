//! Names that one process has at a time: an advisory lock says that its owner lives, a row says who that is and in which term.
//!
//! ```text
//!   one connection for all leases ──► advisory lock of each name: the server gives it back when the connection ends
//!   leases: name ──► owner, term      the next owner raises the term, so that a late change of the one before is found out
//! ```

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::super::{Lease, LeaseError};
use super::PostgresStore;
use super::bridge::Bridge;
use super::error::PostgresFault;
use super::link::Link;

/// How long until a lost connection is made anew, and until a name is asked for again whose owner is not known yet.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a name is asked for whose owner is not known yet.
const ATTEMPTS: u32 = 8;
/// How long whoever drops a lease waits for the server. The end of the connection gives the name back, too.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// The server finds out within half a minute that the machine of an owner is gone.
/// No server ends the connection since it is idle; not all know that setting.
const SETTINGS: &str = "
    SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES ('tcp_keepalives_idle', '10'),
        ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'), ('idle_session_timeout', '0')) AS wish (name, value)
    USING (name)";
/// Once: a connection that locks a name twice has to give it back twice.
const LOCK: &str = "
    SELECT CASE WHEN EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1
            AND (classid::bigint << 32) | objid::bigint = $1
    ) THEN true ELSE pg_try_advisory_lock($1) END";
/// If it is this connection's: the server complains of others.
const UNLOCK: &str = "
    SELECT pg_advisory_unlock($1) WHERE EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1
            AND (classid::bigint << 32) | objid::bigint = $1)";
const OWN: &str = "
    INSERT INTO leases (name, owner, term, backend) VALUES ($1, $2, 1, pg_backend_pid())
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, term = leases.term + 1, backend = pg_backend_pid()
    RETURNING term";
/// Who has the lock, not who has had it.
const OWNER: &str = "
    SELECT owner FROM leases WHERE name = $1 AND backend IN (
        SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
            AND (classid::bigint << 32) | objid::bigint = $2)";
const KEEP: &str = "UPDATE leases SET backend = pg_backend_pid() WHERE name = $1 AND term = $2";
/// Not while the changes are made that ask this.
pub(super) const STILL: &str = "SELECT owner, term FROM leases WHERE name = $1 FOR SHARE";

/// What keeps the leases of a store.
#[derive(Default)]
pub(super) struct Session {
    client: tokio::sync::Mutex<Option<Client>>,
    /// Names with their terms.
    held: Mutex<BTreeMap<String, i64>>,
}

/// Gives a name back.
struct Held {
    session: Arc<Session>,
    bridge: Arc<Bridge>,
    name: String,
    key: i64,
}

impl PostgresStore {
    pub(super) fn take_lease(&self, name: &str) -> Result<Lease, LeaseError> {
        // First among those of this process, for whom the lock of the server is one.
        let local = self.leases.take_as(name, &self.owner)?;
        let session = Arc::clone(&self.session);
        let key = key(&self.link.schema, name);
        let of: [Arc<str>; 2] = [name.into(), self.owner.as_str().into()];
        let taken = self.call("take a name", move |link| {
            let (session, [name, owner]) = (Arc::clone(&session), of.clone());
            async move { session.take(&link, &name, key, &owner).await }
        });
        let (session, bridge) = (Arc::clone(&self.session), Arc::clone(&self.bridge));
        // Also when it failed in the middle.
        let held = Held { session, bridge, name: name.to_owned(), key };
        match taken.map_err(|fault| LeaseError::Failed(Arc::new(fault)))? {
            Ok(term) => {
                // Given back in this order.
                Ok(Lease::new(name, term.unsigned_abs(), (held, local)))
            }
            Err(owner) => Err(LeaseError::Taken { name: name.to_owned(), owner }),
        }
    }
}

impl Session {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        // Changed by steps that do not panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term, or who has the name.
    async fn take(
        self: &Arc<Self>,
        link: &Arc<Link>,
        name: &str,
        key: i64,
        owner: &str,
    ) -> Result<Result<i64, String>, PostgresFault> {
        let failed = PostgresFault::at("take a name");
        let mut attempt = 1;
        loop {
            let client = self.client(link).await?;
            let client = client.as_ref().expect("it was just made");
            if client.query_one(LOCK, &[&key]).await.map_err(&failed)?.get(0) {
                let term = client.query_one(OWN, &[&name.as_bytes(), &owner]).await.map_err(&failed)?.get(0);
                self.held().insert(name.to_owned(), term);
                return Ok(Ok(term));
            }
            if let Some(row) = client.query_opt(OWNER, &[&name.as_bytes(), &key]).await.map_err(&failed)? {
                return Ok(Err(row.get(0)));
            }
            // It is just being taken or given back.
            if attempt == ATTEMPTS {
                return Ok(Err("somebody who has not said who it is".to_owned()));
            }
            attempt += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The connection, made anew where it was lost. The names are locked on it again, unless they are somebody else's now.
    async fn client(
        self: &Arc<Self>,
        link: &Arc<Link>,
    ) -> Result<tokio::sync::MutexGuard<'_, Option<Client>>, PostgresFault> {
        let failed = PostgresFault::at("keep its names");
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            let (fresh, connection) = link.config.connect(NoTls).await.map_err(&failed)?;
            let again = again(Arc::clone(self), Arc::clone(link));
            tokio::spawn(async move {
                // Whatever ended it: its locks are gone.
                let _ = connection.await;
                again.await;
            });
            fresh.batch_execute(SETTINGS).await.map_err(&failed)?;
            let held: Vec<_> = self.held().iter().map(|(name, term)| (name.clone(), *term)).collect();
            for (name, term) in held {
                let key = key(&link.schema, &name);
                if !fresh.query_one(LOCK, &[&key]).await.map_err(&failed)?.get::<_, bool>(0) {
                    continue;
                }
                if fresh.execute(KEEP, &[&name.as_bytes(), &term]).await.map_err(&failed)? == 0 {
                    // It has had another owner. Whoever still believes to be hears that from its next change.
                    self.held().remove(&name);
                    fresh.query_opt(UNLOCK, &[&key]).await.map_err(&failed)?;
                }
            }
            *client = Some(fresh);
        }
        Ok(client)
    }

    async fn give_back(&self, name: &str, key: i64) {
        self.held().remove(name);
        if let Some(client) = &*self.client.lock().await {
            // A connection that is gone has given it back.
            let _ = client.query_opt(UNLOCK, &[&key]).await;
        }
    }
}

/// Connects until it has, for as long as there are names to keep.
fn again(session: Arc<Session>, link: Arc<Link>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        while !session.held().is_empty() && session.client(&link).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    })
}

impl Drop for Held {
    fn drop(&mut self) {
        let (session, name, key) = (Arc::clone(&self.session), std::mem::take(&mut self.name), self.key);
        // What comes of it is as good as what can be done about it.
        let _ = self.bridge.run(async move {
            let _ = tokio::time::timeout(GIVE_BACK, session.give_back(&name, key)).await;
        });
    }
}

/// The advisory lock of a name, among those of all stores of a database: FNV-1a.
fn key(schema: &str, name: &str) -> i64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    schema.as_bytes().iter().chain(b"\0").chain(name.as_bytes()).fold(0xCBF2_9CE4_8422_2325, fold).cast_signed()
}
