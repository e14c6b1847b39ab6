//! Waiting for events to come: the server tells of each append, and whoever waits looks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::{AsyncMessage, NoTls};

use super::super::{Position, ReadError};
use super::bridge::Bridge;
use super::link::Link;

/// How often the store is asked while nobody tells, and how long until it is listened to again.
const AGAIN: Duration = Duration::from_millis(250);

/// Who listens, and who is to be woken.
pub(super) struct Tail {
    known: Arc<Known>,
    listening: Once,
    /// How often the store is asked although it is listened to.
    ask_every: Duration,
}

#[derive(Default)]
struct Known {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often was told that there is more. What it says is not believed: a server that has died may have less than it told of.
    told: u64,
    is_listening: bool,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        // A number and a flag, which nothing leaves half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

impl Tail {
    pub(super) fn new(ask_every: Duration) -> Self {
        Self { known: Arc::default(), listening: Once::new(), ask_every }
    }

    /// Waits for an event behind `behind`.
    pub(super) fn wait(
        &self,
        bridge: &Bridge,
        link: &Arc<Link>,
        behind: u64,
        limit: Duration,
        ask: impl Fn() -> Result<Option<Position>, ReadError>,
    ) -> Result<bool, ReadError> {
        self.listening.call_once(|| bridge.spawn(listen(Arc::clone(link), Arc::clone(&self.known))));
        let begun = Instant::now();
        loop {
            // Before it asks: what is told meanwhile it asks about again.
            let told = self.known.state().told;
            if ask()?.map_or(0, Position::get) > behind {
                return Ok(true);
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let state = self.known.state();
            let every = if state.is_listening { self.ask_every } else { AGAIN };
            let waited = self.known.changed.wait_timeout_while(state, left.min(every), |state| state.told == told);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Listens for as long as the store is there.
async fn listen(link: Arc<Link>, known: Arc<Known>) {
    loop {
        // Whoever waits asks meanwhile, and hears from that why there is no connection.
        let _ = listen_once(&link, &known).await;
        known.change(|state| state.is_listening = false);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_once(link: &Link, known: &Known) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = link.config.connect(NoTls).await?;
    let hear = async {
        while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message? {
                known.change(|state| state.told += 1);
            }
        }
        Ok::<(), tokio_postgres::Error>(())
    };
    let begin = async {
        client.batch_execute(&format!("LISTEN {}", link.channel())).await?;
        // What was appended before it was listened to nobody tells: whoever waits asks once more.
        known.change(|state| *state = State { told: state.told + 1, is_listening: true });
        // The connection ends with the client.
        std::future::pending::<Result<(), tokio_postgres::Error>>().await
    };
    tokio::select! {
        heard = hear => heard,
        begun = begin => begun,
    }
}
