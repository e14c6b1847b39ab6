//! Waiting for events to come: the server tells of each append, and whoever waits looks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::{AsyncMessage, NoTls};

use super::super::{Position, ReadError};
use super::bridge::Bridge;
use super::link::Link;

/// How often the store is asked while nobody tells, and how long until it is listened to again.
const AGAIN: Duration = Duration::from_millis(250);

/// What is known of the head.
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

#[derive(Default, Clone, Copy)]
struct State {
    head: u64,
    is_listening: bool,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        // Two numbers, which nothing leaves half written.
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
            let head = ask()?.map_or(0, Position::get);
            if head > behind {
                return Ok(true);
            }
            let mut state = self.known.state();
            let every = if state.is_listening { self.ask_every } else { AGAIN };
            let asked = Instant::now();
            while state.head <= behind {
                let left = limit.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    return Ok(false);
                }
                let pause = every.saturating_sub(asked.elapsed());
                if pause.is_zero() {
                    break;
                }
                let waited = self.known.changed.wait_timeout(state, left.min(pause));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.head > behind {
                return Ok(true);
            }
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
            if let AsyncMessage::Notification(told) = message?
                && let Ok(head) = told.payload().parse()
            {
                known.change(|state| state.head = state.head.max(head));
            }
        }
        Ok::<(), tokio_postgres::Error>(())
    };
    let begin = async {
        client.batch_execute(&format!("LISTEN {}", link.channel())).await?;
        // What was appended before it was listened to nobody tells.
        let head = client.query_one("SELECT position FROM head", &[]).await?.get::<_, i64>(0).unsigned_abs();
        known.change(|state| *state = State { head: state.head.max(head), is_listening: true });
        // The connection ends with the client.
        std::future::pending::<Result<(), tokio_postgres::Error>>().await
    };
    tokio::select! {
        heard = hear => heard,
        begun = begin => begun,
    }
}
