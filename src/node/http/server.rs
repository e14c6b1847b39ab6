//! Connections: taken while there is room, closed when they are slow, and ended with the node.

use std::io;
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower_service::Service;

use super::counts::{Counts, Ended};
use super::guard::Peer;
use super::patient::Patient;
use super::{App, Door, router};
#[cfg(feature = "prometheus")]
use crate::Subscription;
use crate::node::config::settings as names;
use crate::node::core::{Core, NodeError};
use crate::node::live::{Hub, LiveOptions};

/// How long it rests when the system has no more connections to give.
const REST: Duration = Duration::from_millis(50);
/// How long one that is refused may take to hear it, and how many may at one time.
const REFUSAL: Duration = Duration::from_secs(2);
const REFUSALS_MAX: usize = 64;
/// How long the headers of a request for a stream may take, where there is no node.
const STREAM_HEADERS: Duration = Duration::from_secs(10);
/// Bytes of a connection in memory each way, and so of the headers of a request.
const BUFFER_BYTES: usize = 64 << 10;
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
    write_timeout: Duration,
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
            write_timeout: config.time(&names::HTTP_WRITE_TIMEOUT).expect("it has a default"),
        };
        let refused = |error: std::io::Error| NodeError::Listen { address, error: error.to_string() };
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let live = Hub::start(Arc::clone(&core.store), Arc::clone(&core.state_store), LiveOptions::of(&config));
        let live = Arc::new(live.map_err(|error| NodeError::Runtime(error.to_string()))?);
        let app = App::new(core, tokens, Arc::clone(&live));
        // Without it the rest is told all the same.
        #[cfg(feature = "prometheus")]
        let counting = core.builtins.event_metrics().count_published(&core.bus).ok();
        let (ends, ending) = watch::channel(None);
        let counts = Arc::clone(&app.counts);
        let task = runtime.spawn(serve(listener, router(app), limits, counts, ending));
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

/// Serves streams on a listener until they are closed.
///
/// # Errors
/// The runtime cannot use the listener.
pub(in super::super) fn serve_streams(
    listener: std::net::TcpListener,
    router: Router,
    options: &LiveOptions,
    mut closing: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let limits = Limits {
        // Beside the clients there are those who are refused.
        connections_max: options.clients_max.saturating_add(REFUSALS_MAX),
        header_timeout: STREAM_HEADERS,
        // A client that does not read has been told so before.
        write_timeout: options.answer_max.saturating_mul(2),
    };
    let limit = options.close_max;
    let (ends, ending) = watch::channel(None);
    tokio::spawn(serve(listener, router, limits, Arc::default(), ending));
    tokio::spawn(async move {
        // Where the streams are gone they are closed as well.
        drop(closing.wait_for(|is_closing| *is_closing).await);
        ends.send_replace(Some(Instant::now() + limit));
    });
    Ok(())
}

async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    counts: Arc<Counts>,
    mut ending: watch::Receiver<Option<Instant>>,
) -> usize {
    let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
    loop {
        tokio::select! {
            biased;
            _ = ending.changed() => break,
            Some(_) = connections.join_next() => {}
            Some(_) = refusals.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < limits.connections_max => {
                    // Answers are short, and written whole.
                    let _ = stream.set_nodelay(true);
                    let stream = Patient::new(stream, limits.write_timeout, Arc::clone(&counts));
                    drop(connections.spawn(connection(stream, peer, router.clone(), limits, Arc::clone(&counts), ending.clone())));
                }
                Ok((stream, _)) => {
                    counts.ended(Ended::Full);
                    if refusals.len() < REFUSALS_MAX {
                        drop(refusals.spawn(refuse(stream)));
                    }
                }
                Err(_) => sleep(REST).await,
            },
        }
    }
    drop(listener);
    refusals.abort_all();
    let until = ending.borrow().unwrap_or_else(Instant::now);
    while let Ok(Some(_)) = timeout_at(until, connections.join_next()).await {}
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

/// Says that there is no room, and hears the request: one that is closed with something unread may not have read the answer.
async fn refuse(mut stream: TcpStream) {
    let heard = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        let mut request = [0; 1 << 10];
        while stream.read(&mut request).await? > 0 {}
        io::Result::Ok(())
    };
    // Nobody is left to be told of it.
    drop(timeout(REFUSAL, heard).await);
}

async fn connection(
    stream: Patient,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    counts: Arc<Counts>,
    mut ending: watch::Receiver<Option<Instant>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(BUFFER_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        ended = &mut connection => match ended {
            Err(error) if error.is_timeout() => counts.ended(Ended::Silent),
            Err(error) if error.is_parse() => counts.ended(Ended::Unreadable),
            // Whoever is on the other end has gone, or was told.
            _ => {}
        },
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
