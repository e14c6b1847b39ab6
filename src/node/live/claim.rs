//! Names of reliable clients: one connection has a name, and the newest one takes it.
//!
//! A client that comes back after a cut is there before the node has noticed the cut. So whoever had the name is told to let
//! go of it, rather than the new one to wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<String, Holder>>>);

#[derive(Debug)]
struct Holder {
    let_go: Arc<Notify>,
    /// Dropped when the name is given back.
    gone: watch::Sender<()>,
}

/// A name that is one's own until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    name: String,
    let_go: Arc<Notify>,
}

impl Claims {
    /// Takes a name, once whoever has it has let go of it.
    pub(super) async fn take(&self, name: &str) -> Claim {
        loop {
            let mut gone = {
                let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(holder) = holders.get(name) else {
                    let let_go = Arc::new(Notify::new());
                    let holder = Holder { let_go: Arc::clone(&let_go), gone: watch::Sender::new(()) };
                    holders.insert(name.to_owned(), holder);
                    return Claim { claims: self.clone(), name: name.to_owned(), let_go };
                };
                holder.let_go.notify_one();
                holder.gone.subscribe()
            };
            drop(gone.changed().await);
        }
    }
}

impl Claim {
    /// Returns when somebody else wants the name.
    pub(super) async fn wanted(&self) {
        self.let_go.notified().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}
