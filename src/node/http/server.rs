//! Connections: taken while there is room, closed when they are slow, and ended with the node.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tower_service::Service;

use super::guard::Peer;
use super::{App, Door, router};
#[cfg(feature = "prometheus")]
use crate::Subscription;
use crate::node::config::settings as names;
use crate::node::core::{Core, NodeError};
use crate::node::live::{Hub, LiveOptions};

/// How long it rests when the system has no more connections to give.
const REST: Duration = Duration::from_millis(50);
/// What one connection more than there may be is answered.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
connection: close\r\ncontent-length: 153\r\n\r\n\
{\"type\":\"urn:ringmain:problem:unavailable\",\"title\":\"It cannot be done now\",\"status\":503,\"detail\":\"there are as many \
connections as http.connections_max\"}";

/// What listens.
pub(in super::super) struct Server {
    address: SocketAddr,
    /// Until when connections may go on, once they are to end.
    ends: watch::Sender<Option<Instant>>,
    task: JoinHandle<usize>,
    live: Arc<Hub>,
    #[cfg(feature = "prometheus")]
    _counting: Option<Subscription>,
}

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections_max: usize,
    header_timeout: Duration,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system does not let it.
    pub(in super::super) fn open(door: Door, core: &Arc<Core>, runtime: &Handle) -> Result<Self, NodeError> {
        let Door { address, tokens } = door;
        let config = core.config();
        let limits = Limits {
            connections_max: config.number(&names::HTTP_CONNECTIONS_MAX).map_or(usize::MAX, |number| number as usize),
            header_timeout: config.time(&names::HTTP_HEADER_TIMEOUT).expect("it has a default"),
        };
        let refused = |error: std::io::Error| NodeError::Listen { address, error: error.to_string() };
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let live = Hub::start(Arc::clone(&core.store), Arc::clone(&core.state_store), LiveOptions::of(&config));
        let live = Arc::new(live.map_err(|error| NodeError::Runtime(error.to_string()))?);
        let app = App::new(core, tokens, Arc::clone(&live));
        // Without it the rest is told all the same.
        #[cfg(feature = "prometheus")]
        let counting = app.event_metrics.count_published(&core.bus).ok();
        let (ends, ending) = watch::channel(None);
        let task = runtime.spawn(serve(listener, router(app), limits, ending));
        Ok(Self {
            address,
            ends,
            task,
            live,
            #[cfg(feature = "prometheus")]
            _counting: counting,
        })
    }

    /// Where it listens, with the port that it was given.
    pub(in super::super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets those that there are answer what they were asked, and cuts them after a time. Returns how
    /// many were cut.
    pub(in super::super) async fn close(self, limit: Duration) -> usize {
        let until = Instant::now() + limit;
        self.ends.send_replace(Some(until));
        // Those who listen are told, and have half of the time to hear it; the others are being answered meanwhile.
        self.live.close(limit / 2).await;
        self.task.await.unwrap_or_default()
    }
}

async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut ending: watch::Receiver<Option<Instant>>,
) -> usize {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = ending.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < limits.connections_max => {
                    drop(connections.spawn(connection(stream, peer, router.clone(), limits, ending.clone())));
                }
                // As much of it as the system takes at once.
                Ok((stream, _)) => drop(stream.try_write(FULL)),
                Err(_) => sleep(REST).await,
            },
        }
    }
    drop(listener);
    let until = ending.borrow().unwrap_or_else(Instant::now);
    while let Ok(Some(_)) = timeout_at(until, connections.join_next()).await {}
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut ending: watch::Receiver<Option<Instant>>,
) {
    // Answers are short, and written whole.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // Whoever is on the other end has gone, or was told.
        _ = &mut connection => {}
        _ = ending.changed() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_answer_of_a_full_server_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).expect("it is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("it has a body");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head} {}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    }
}
