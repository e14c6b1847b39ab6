//! One client over Server-Sent Events: what a browser's `EventSource` reads, and goes on with by itself after a cut.
//!
//! The id of each event is its position, so that `Last-Event-ID` says where the client was. It misses nothing, however slow it is:
//! there is a piece on the way and no more, and it reads on in the store where it was.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::http::{Caller, Kind, Problem};
use super::feed::{Feed, FeedError, Item};
use super::message::{Dialect, Said, TYPE_PREFIX};
use super::options::Slow;
use super::wanted::{Wanted, position};
use super::{REST, Seat, Shared, beyond_end};
use crate::store::Position;

/// A piece of the stream has about so many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How long a browser waits before it comes again.
const RETRY_MS: u32 = 1_000;

/// `GET /v1/events/stream`.
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    caller: Option<Extension<Caller>>,
) -> Result<Response, Problem> {
    let counts = &shared.counts;
    let refused = |kind, detail| {
        counts.refused_malformed.add(1);
        Problem::new(kind, detail)
    };
    let mut feed = Feed::new(Arc::clone(&shared));
    let after = asked(&query.unwrap_or_default(), &headers, &mut feed, shared.options.patterns_max);
    let after = after.map_err(|detail| refused(Kind::Malformed, detail))?;
    let caller = caller.map_or(Caller::Anyone, |Extension(caller)| caller);
    if let Some(detail) = feed.interest.refused_to(&caller) {
        return Err(refused(Kind::Forbidden, detail));
    }
    let seat = shared.take_seat()?;
    let head = shared.read(|store| store.head()).await;
    let head = head.map_err(|error| Problem::new(Kind::Unavailable, error))?.map_or(0, Position::get);
    let after = after.unwrap_or(head);
    if after > head {
        return Err(refused(Kind::Conflict, beyond_end(after, head)));
    }
    feed.begin(after);
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(async move {
        run(&seat, feed, &pieces).await;
    });
    let mut response = Response::new(Body::from_stream(Pieces(body)));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Said to nginx, which would gather pieces.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Reads what is wanted; returns behind which position.
fn asked(query: &str, headers: &HeaderMap, feed: &mut Feed, patterns_max: usize) -> Result<Option<u64>, String> {
    let wanted = Wanted::read(query)?;
    if wanted.slow.is_some_and(|slow| slow != Slow::Spill) {
        return Err(
            "a client of this stream misses nothing, so slow is spill; another stream is /v1/events/live".to_owned()
        );
    }
    feed.slow = Slow::Spill;
    let everything = ["*".to_owned()];
    feed.interest.add(if wanted.patterns.is_empty() { &everything } else { &wanted.patterns }, patterns_max)?;
    match headers.get("last-event-id").map(HeaderValue::to_str) {
        None => Ok(wanted.after),
        Some(Ok("")) => Ok(wanted.after),
        Some(id) => position(id.unwrap_or("?")).map(Some),
    }
}

/// Sends events until the client goes, or reads nothing for long.
async fn run(seat: &Seat, mut feed: Feed, pieces: &mpsc::Sender<Bytes>) {
    let shared = &seat.0;
    let mut text = format!("retry: {RETRY_MS}\nid: {}\n\n", feed.position());
    loop {
        // One that reads long history has something to bring all the time.
        if *shared.is_closing.borrow() {
            return;
        }
        if !text.is_empty() && !send(shared, pieces, &mut text).await {
            return;
        }
        let items = match feed.next().await {
            Ok(items) => items,
            Err(FeedError::Unreadable) => {
                tokio::time::sleep(REST).await;
                Vec::new()
            }
            Err(FeedError::TooSlow { .. } | FeedError::Failed(_)) => return,
        };
        let is_empty = items.is_empty();
        let mut events = 0;
        for item in items {
            match item {
                Item::Event(event) => {
                    events += 1;
                    write(&mut text, Some(event.position()), None, event.text(Dialect::Cloud).as_str());
                }
                Item::Gap(gap) => {
                    shared.counts.gaps.add(1);
                    let said = Said::Gap(gap);
                    write(&mut text, None, Some(said.kind()), &said.data().to_string());
                }
            }
            if text.len() >= PIECE_BYTES && !send(shared, pieces, &mut text).await {
                return;
            }
        }
        shared.counts.events_sent.add(events);
        if is_empty {
            tokio::select! {
                () = feed.wait() => {}
                () = pieces.closed() => return,
                () = shared.closing() => return,
                // Keeps the connection, and says how far a client has come whose events are rare.
                () = tokio::time::sleep(shared.options.ping_every) => {
                    let _infallible = write!(text, ":\nid: {}\n\n", feed.position());
                }
            }
        }
    }
}

/// One event of the stream.
fn write(text: &mut String, id: Option<u64>, kind: Option<&str>, data: &str) {
    let _infallible = match (id, kind) {
        (Some(id), _) => write!(text, "id: {id}\ndata: {data}\n\n"),
        (None, kind) => write!(text, "event: {TYPE_PREFIX}{}\ndata: {data}\n\n", kind.unwrap_or_default()),
    };
}

/// Whether the client has taken it.
async fn send(shared: &Shared, pieces: &mpsc::Sender<Bytes>, text: &mut String) -> bool {
    let piece = Bytes::from(std::mem::take(text));
    match timeout(shared.options.answer_max, pieces.send(piece)).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            shared.counts.closed_silent.add(1);
            false
        }
    }
}

/// The body of the answer.
struct Pieces(mpsc::Receiver<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}
