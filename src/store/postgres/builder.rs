//! Settings of a store in PostgreSQL, and its opening.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;

use super::super::Leases;
use super::bridge::Bridge;
use super::error::PostgresError;
use super::link::{Link, Links};
use super::tail::Tail;
use super::{PostgresFault, PostgresStore, migrate};

/// What a name of a channel, with what we put behind it, leaves of the 63 bytes of a name.
const SCHEMA_BYTES_MAX: usize = 48;

/// A store in PostgreSQL under way.
#[derive(Clone)]
#[must_use = "there is no store until `open` is called"]
pub struct PostgresStoreBuilder {
    url: String,
    schema: String,
    connections_max: usize,
    call_max: Duration,
    batch_bytes_max: u64,
    ask_every: Duration,
    owner: String,
}

impl PostgresStoreBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            schema: "ringmain".to_owned(),
            connections_max: 8,
            call_max: Duration::from_secs(30),
            batch_bytes_max: 64 << 20,
            ask_every: Duration::from_secs(5),
            owner: format!("process {}", std::process::id()),
        }
    }

    /// The schema that has the tables: each is a store of its own. 1 to 48 of `a-z`, `0-9` and `_`, not a digit first. Made when it is
    /// not there. Default `ringmain`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Calls that are under way at once; others wait for their turn. 1 to 1,000. Default 8. Beside them
    /// [`wait_behind`](crate::store::EventStore::wait_behind) has a connection of its own.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// How long a call may take, the wait for a connection among it. 1 ms to 1 h. Default 30 s.
    pub fn call_max(mut self, limit: Duration) -> Self {
        self.call_max = limit;
        self
    }

    /// Bytes of all frames of one append, up to 512 MiB. Default 64 MiB.
    pub fn batch_bytes_max(mut self, bytes: u64) -> Self {
        self.batch_bytes_max = bytes;
        self
    }

    /// How often [`wait_behind`](crate::store::EventStore::wait_behind) asks although it is told of each append: its connection may be gone without
    /// a word. 1 ms to 1 h. Default 5 s.
    pub fn ask_every(mut self, time: Duration) -> Self {
        self.ask_every = time;
        self
    }

    /// What others are told of who owns a [name](crate::store::StateStore::lease) that they ask for: say which machine it is, too. Default
    /// `process` and its id.
    pub fn owner(mut self, who: impl Into<String>) -> Self {
        self.owner = who.into();
        self
    }

    /// Connects, and makes the tables or brings them to the version of this program. Of several that do so at once, one does it.
    ///
    /// # Errors
    /// See [`PostgresError`].
    pub fn open(self) -> Result<PostgresStore, PostgresError> {
        let config = self.config()?;
        let bridge = Arc::new(Bridge::new()?);
        let links = Links { config, connections_max: self.connections_max, call_max: self.call_max };
        let link = Arc::new(Link::new(links, self.schema.clone(), self.batch_bytes_max)?);
        let (opening, limit) = (Arc::clone(&link), self.call_max);
        let opened = bridge.run(async move {
            let opened = tokio::time::timeout(limit, migrate::migrate(&opening)).await;
            opened.unwrap_or_else(|_| Err(PostgresFault::timed_out("make its tables", limit).into()))
        })?;
        let tail = Tail::new(self.ask_every);
        let (leases, session) = (Leases::default(), Arc::default());
        let (durability, call_max) = (opened?, self.call_max);
        Ok(PostgresStore { link, tail, leases, owner: self.owner, session, bridge, durability, call_max })
    }

    fn config(&self) -> Result<Config, PostgresError> {
        let mut bytes = self.schema.bytes();
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_name = bytes.next().is_some_and(is_first)
            && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
            && self.schema.len() <= SCHEMA_BYTES_MAX;
        if !is_name {
            return Err(PostgresError::Schema { name: self.schema.clone() });
        }
        let check = |setting, value, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(PostgresError::Setting { setting, value, min, max }) }
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let call_ms = ms(self.call_max);
        check("connections_max", self.connections_max as u64, 1, 1_000)?;
        check("call_max (in ms)", call_ms, 1, 3_600_000)?;
        check("ask_every (in ms)", ms(self.ask_every), 1, 3_600_000)?;
        check("batch_bytes_max", self.batch_bytes_max, 1, 512 << 20)?;
        let mut config = Config::from_str(&self.url).map_err(|_| PostgresError::Url)?;
        let asked = config.get_options().unwrap_or_default();
        // A commit is synced, whatever the server or the role say; a client that vanished within an append lets go of the head.
        let options = format!(
            "-c synchronous_commit=on {asked} -c search_path={} -c statement_timeout={call_ms} \
             -c idle_in_transaction_session_timeout={call_ms}",
            self.schema
        );
        config.options(options.trim()).connect_timeout(self.call_max);
        // A connection that is gone without a word is found out.
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3).tcp_user_timeout(self.call_max);
        if config.get_application_name().is_none() {
            config.application_name("ringmain");
        }
        Ok(config)
    }
}

/// Without the URL, which may have a password.
impl std::fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStoreBuilder").field("schema", &self.schema).finish_non_exhaustive()
    }
}
