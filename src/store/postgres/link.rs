//! Connections to the server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Config, NoTls};

use super::error::PostgresFault;

/// How connections are made, and how many.
pub(super) struct Links {
    pub(super) config: Config,
    pub(super) connections_max: usize,
    pub(super) call_max: Duration,
}

/// Waits for the append under way, if there is one: what is asked next sees it.
pub(super) const AWAIT_APPEND: &str = "SELECT position FROM head FOR SHARE";

/// The way to one store.
pub(super) struct Link {
    pub(super) config: Config,
    pool: Pool,
    pub(super) schema: String,
    pub(super) batch_bytes_max: u64,
    doubts: Mutex<Doubts>,
}

/// Appends whose commit was not answered. The server may be about to make one still, behind the back of who looks for its events.
#[derive(Default)]
struct Doubts {
    met: u64,
    /// So many of them are over.
    over: u64,
}

impl Link {
    pub(super) fn new(links: Links, schema: String, batch_bytes_max: u64) -> Result<Self, PostgresFault> {
        let Links { config, connections_max, call_max } = links;
        // Whether it is closed is asked before each use, which costs nothing; whether it is half open, by its keepalives.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config.clone(), NoTls, recycling))
            .max_size(connections_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(call_max))
            .create_timeout(Some(call_max))
            .build()
            .map_err(PostgresFault::at("make a pool of connections"))?;
        Ok(Self { config, pool, schema, batch_bytes_max, doubts: Mutex::default() })
    }

    pub(super) async fn connection(&self) -> Result<Object, PostgresFault> {
        self.pool.get().await.map_err(PostgresFault::at("give a connection"))
    }

    /// Lets go of the connections that nobody uses: the server has ended one, and may have ended them all.
    pub(super) fn connect_anew(&self) {
        self.pool.retain(|_, _| false);
    }

    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        // Two numbers, which nothing leaves half written.
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit was not answered.
    pub(super) fn doubt(&self) {
        self.doubts().met += 1;
    }

    /// A connection to read events over: none is in doubt any more, each is there or will never be.
    pub(super) async fn reading(&self) -> Result<Object, PostgresFault> {
        let connection = self.connection().await?;
        let met = Some(self.doubts()).filter(|doubts| doubts.over < doubts.met).map(|doubts| doubts.met);
        if let Some(met) = met {
            let failed = PostgresFault::at("wait for an append in doubt");
            connection.query_one(AWAIT_APPEND, &[]).await.map_err(&failed)?;
            let mut doubts = self.doubts();
            doubts.over = doubts.over.max(met);
        }
        Ok(connection)
    }

    /// The position of the latest event; 0: there is none.
    pub(super) async fn head(&self) -> Result<u64, PostgresFault> {
        let failed = PostgresFault::at("read the head");
        let connection = self.reading().await?;
        let statement = connection.prepare_cached("SELECT position FROM head").await.map_err(&failed)?;
        let row = connection.query_one(&statement, &[]).await.map_err(&failed)?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Makes a commit, which is synced and all before it with it.
    pub(super) async fn sync(&self) -> Result<(), PostgresFault> {
        let failed = PostgresFault::at("sync events");
        let connection = self.connection().await?;
        let statement = connection.prepare_cached("UPDATE head SET position = position").await.map_err(&failed)?;
        connection.execute(&statement, &[]).await.map(drop).map_err(&failed)
    }

    /// The channel on which appends are told.
    pub(super) fn channel(&self) -> String {
        format!("{}_appended", self.schema)
    }

    /// Names the advisory locks of this store, among those of others in its database.
    pub(super) fn lock_class(&self) -> i32 {
        let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        self.schema.bytes().fold(0x811C_9DC5, fold).cast_signed()
    }
}

/// A number as the server keeps it: what is too great is the greatest.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
