//! Live streams: events of a store as they come, over WebSocket and Server-Sent Events.
//!
//! ```text
//!   store ──► reader: one thread ──► window: the newest, once for all ──┬──► client: feeds what is there, flushes once
//!     │                                                                 ├──► client
//!     └──────────────── pages of history ──► a client that resumes, ────┘
//!                                            or was too slow for the window
//! ```
//!
//! * What a client gets is the log, from a position of its choice on: in one order, without a gap, and nothing twice. So the
//!   position of the last event is all that it takes to go on after a cut. Lanes of a bus overtake each other, and could not say that.
//! * An event is encoded once for each dialect, whoever many clients want it.
//! * A client is a position and a task. One that does not read costs its socket's buffers, and nobody else anything.
//!
//! An event may come as soon as it is written, before it is durable.
//!
//! Connections are to be served with `TCP_NODELAY`.

mod claim;
mod counts;
mod describe;
mod feed;
mod interest;
mod message;
mod options;
mod reader;
mod reliable;
mod socket;
mod sse;
mod wanted;
mod window;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, spawn_blocking};

use self::claim::Claims;
use self::counts::Counters;
use self::window::Window;
use super::health::Health;
use super::http::{Kind, Problem, serve_streams};
use crate::store::{EventStore, ReadError, StateStore};

pub use self::counts::LiveCounts;
pub use self::describe::asyncapi;
pub(super) use self::message::{CLOUDEVENTS, TYPE_PREFIX};
pub use self::options::{LiveOptions, Origins, Slow};

/// How long a store that cannot be read is left alone.
const REST: Duration = Duration::from_millis(100);

/// Serves the events of a store to clients, live. Dropped, it ends as by [`close`](Self::close) without a wait.
pub struct Hub {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

/// What all clients have in common.
struct Shared {
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    options: LiveOptions,
    window: Window,
    counts: Counters,
    claims: Claims,
    reads: Arc<Semaphore>,
    /// Held while a name is given to a reliable client.
    naming: Mutex<()>,
    seats: Mutex<Seats>,
    /// For the reader, who has nothing to do without clients.
    taken: Condvar,
    clients: watch::Sender<usize>,
    is_closing: watch::Sender<bool>,
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct Seats {
    taken: usize,
    has_ended: bool,
}

impl Hub {
    /// Begins to serve events of `store`. Cursors of reliable clients are kept in `state`.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(store: Arc<dyn EventStore>, state: Arc<dyn StateStore>, options: LiveOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            state,
            window: Window::new(&options),
            counts: Counters::default(),
            claims: Claims::default(),
            reads: Arc::new(Semaphore::new(options.readers_max.max(1))),
            naming: Mutex::default(),
            seats: Mutex::default(),
            taken: Condvar::new(),
            clients: watch::Sender::new(0),
            is_closing: watch::Sender::new(false),
            failure: Mutex::default(),
            options,
        });
        let follows = Arc::clone(&shared);
        let reader = thread::Builder::new().name("ringmain-live".to_owned()).spawn(move || reader::run(&follows))?;
        Ok(Self { shared, reader: Some(reader) })
    }

    /// Serves both streams on a listener, without a node around them, until it is closed: `GET /v1/events/live` (WebSocket) and
    /// `GET /v1/events/stream` (Server-Sent Events). There are no tokens: whoever can connect may see every event.
    ///
    /// # Errors
    /// The runtime cannot use the listener.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub fn serve(&self, listener: TcpListener) -> io::Result<()> {
        let checked = from_fn_with_state(Arc::clone(&self.shared), check_origin);
        let closing = self.shared.is_closing.subscribe();
        serve_streams(listener, self.routes().layer(checked), &self.shared.options, closing)
    }

    /// Which pages may come in.
    pub(super) fn origins(&self) -> &Origins {
        &self.shared.options.origins
    }

    /// What answers at the paths of both streams. Origins are for who has it to look at.
    pub(super) fn routes(&self) -> Router {
        Router::new()
            .route("/v1/events/live", get(socket::open))
            .route("/v1/events/stream", get(sse::open))
            .with_state(Arc::clone(&self.shared))
    }

    /// What came of its clients.
    pub fn counts(&self) -> LiveCounts {
        let clients = self.shared.seats().taken as u64;
        self.shared.counts.read(clients)
    }

    /// Degraded while the store cannot be read.
    pub fn health(&self) -> Health {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Health::Healthy, |error| Health::Degraded(format!("live streams stand still: {error}")))
    }

    /// Tells every client that the node goes away, takes no more, and waits at most `limit` for those that are there. Returns how many
    /// are left.
    pub async fn close(&self, limit: Duration) -> usize {
        self.shared.is_closing.send_replace(true);
        let mut clients = self.shared.clients.subscribe();
        drop(tokio::time::timeout(limit, clients.wait_for(|clients| *clients == 0)).await);
        self.shared.seats().taken
    }
}

async fn check_origin(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match shared.options.origins.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.is_closing.send_replace(true);
        self.shared.seats().has_ended = true;
        self.shared.taken.notify_all();
        if let Some(reader) = self.reader.take() {
            // Its panic was said by the hook.
            drop(reader.join());
        }
    }
}

impl Shared {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a client, unless all are taken, or no more are given.
    fn take_seat(self: &Arc<Self>) -> Result<Seat, Problem> {
        let mut seats = self.seats();
        if seats.taken >= self.options.clients_max || *self.is_closing.borrow() {
            self.counts.refused_full.add(1);
            let detail = "there are as many clients as there can be, or the node goes away; come again later";
            return Err(Problem::new(Kind::Unavailable, detail));
        }
        seats.taken += 1;
        self.clients.send_replace(seats.taken);
        drop(seats);
        self.counts.clients_total.add(1);
        self.taken.notify_all();
        Ok(Seat(Arc::clone(self)))
    }

    /// For the reader: whether there are clients, and if it `may_rest`, once there are; `None` when it is to end.
    fn wait_for_clients(&self, may_rest: bool) -> Option<bool> {
        let seats = self.seats();
        let seats = self.taken.wait_while(seats, |seats| may_rest && seats.taken == 0 && !seats.has_ended);
        let seats = seats.unwrap_or_else(PoisonError::into_inner);
        (!seats.has_ended).then_some(seats.taken > 0)
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Returns when the hub is to end.
    async fn closing(&self) {
        let mut is_closing = self.is_closing.subscribe();
        // The sender is in this.
        drop(is_closing.wait_for(|is_closing| *is_closing).await);
    }

    /// Does something with the store, beside the tasks. So many clients do at one time as the options say, those included that have
    /// gone meanwhile.
    async fn beside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        let place = Arc::clone(&self.reads).acquire_owned().await.expect("it is never closed");
        let work = spawn_blocking(move || {
            let _place = place;
            work()
        });
        work.await
    }

    /// Reads in the store, [beside](Self::beside) the tasks.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn EventStore) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let store = Arc::clone(&self.store);
        let read = self.beside(move || read(&*store)).await;
        read.unwrap_or_else(|panic| Err(ReadError::Failed(panic.into())))
    }
}

/// The right of a client to be there, for as long as it is.
struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.0.seats();
        seats.taken -= 1;
        self.0.clients.send_replace(seats.taken);
    }
}

/// What is said to one who resumes behind the end of the store.
fn beyond_end(after: u64, head: u64) -> String {
    format!(
        "position {after} is behind the end of the store, which is {head}: it is another store, or has lost its end; begin anew after a position of your choice"
    )
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
