//! Where events and state are kept: in files, in PostgreSQL, or nowhere.

use std::sync::Arc;

use super::super::config::Config;
use super::super::config::settings::{STORE_DATA, STORE_RETENTION, STORE_STATE_RESERVE, STORE_TYPE};
use super::super::store::open;
use super::NodeError;
use crate::store::{Durability, EventStore, LogStore, MemoryStore, Retention, StateStore};

pub(super) struct Kept {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) state_store: Arc<dyn StateStore>,
    /// The store, where it is in files.
    pub(super) log: Option<Arc<LogStore>>,
    /// Nothing outlives the node.
    pub(super) is_in_memory: bool,
}

impl Kept {
    pub(super) fn open(config: &Config) -> Result<Self, NodeError> {
        match config.text(&STORE_TYPE) {
            Some("memory") => {
                // It is asked for words that it does not keep; what is said of it is `Core::word_told`.
                let store = Arc::new(MemoryStore::new().evicting().pretending(Durability::Durable));
                Ok(Self { store: store.clone(), state_store: store, log: None, is_in_memory: true })
            }
            Some("postgres") => postgres::open(config).map_err(NodeError::Store),
            _ => {
                let folder = config.path(&STORE_DATA).expect("it has a default");
                let age = config.time(&STORE_RETENTION).expect("it has a default");
                let builder = LogStore::builder(folder).retention(Retention::forever().archive_after(age));
                let builder = builder.state_reserve(config.is_on(&STORE_STATE_RESERVE));
                let log = Arc::new(open(builder).map_err(NodeError::Store)?);
                Ok(Self { store: log.clone(), state_store: log.clone(), log: Some(log), is_in_memory: false })
            }
        }
    }
}

#[cfg(not(feature = "postgres"))]
mod postgres {
    use super::{Config, Kept};

    pub(super) fn open(_: &Config) -> Result<Kept, String> {
        Err("events.store.type is postgres, and this program was built without the feature `postgres`; build it with, or take log or memory"
            .to_owned())
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::Arc;
    use std::{env, fs};

    use super::super::super::config::settings::{STORE_DURABILITY, STORE_SCHEMA, STORE_URL_FILE};
    use super::{Config, Durability, EventStore, Kept};
    use crate::store::PostgresStore;

    /// Names the database where no file does, as it does for others.
    const URL: &str = "DATABASE_URL";

    pub(super) fn open(config: &Config) -> Result<Kept, String> {
        let builder =
            PostgresStore::builder(url(config)?).schema(config.text(&STORE_SCHEMA).expect("it has a default"));
        let store = Arc::new(builder.open().map_err(|error| error.to_string())?);
        if store.durability() < Durability::Durable && config.text(&STORE_DURABILITY) == Some("durable") {
            return Err("the server of events.store.type postgres syncs nothing (fsync = off), so no event is durable; let it sync, or take \
                        written for events.store.durability"
                .to_owned());
        }
        Ok(Kept { store: store.clone(), state_store: store, log: None, is_in_memory: false })
    }

    /// Not a setting that is one value: it may have a password, and settings are shown.
    fn url(config: &Config) -> Result<String, String> {
        let Some(path) = config.path(&STORE_URL_FILE) else {
            return env::var(URL).map_err(|_| {
                format!("events.store.type is postgres, and no database is named: set {URL}, or {} to a file that has the URL", STORE_URL_FILE.path)
            });
        };
        let (setting, file) = (STORE_URL_FILE.path, path.display());
        let text = fs::read_to_string(path)
            .map_err(|error| format!("the file that {setting} names: {file} cannot be read: {error}"))?;
        let text = text.trim();
        if text.is_empty() {
            Err(format!("the file that {setting} names: {file} is empty"))
        } else {
            Ok(text.to_owned())
        }
    }
}
