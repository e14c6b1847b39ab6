//! The connection of a WebSocket client: what goes out, what comes in, and how long either may take.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::Shared;
use super::end::End;
use super::source::Source;

/// Messages that are kept while the client does not read.
const PENDING_MAX: usize = 16;

/// The connection.
pub(super) struct Wire {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    /// Came while something else was awaited.
    pub(super) pending: VecDeque<Message>,
    /// When the client was last heard of.
    heard: Instant,
    /// When it was asked whether it is there, since then.
    pub(super) asked: Option<Instant>,
    is_closing: watch::Receiver<bool>,
    pub(super) answer_max: Duration,
}

/// Returns when the hub is to end.
async fn closing(is_closing: &mut watch::Receiver<bool>) {
    // The sender is in what the client holds.
    drop(is_closing.wait_for(|is_closing| *is_closing).await);
}

impl Wire {
    pub(super) fn new(socket: WebSocket, shared: &Shared) -> Self {
        let (sink, stream) = socket.split();
        Self {
            sink,
            stream,
            pending: VecDeque::new(),
            heard: Instant::now(),
            asked: None,
            is_closing: shared.is_closing.subscribe(),
            answer_max: shared.options.answer_max,
        }
    }

    /// Whether the hub is to end.
    pub(super) fn is_closing(&self) -> bool {
        *self.is_closing.borrow()
    }

    /// When it is to be asked whether it is there, or to have answered.
    pub(super) fn due(&self, ping_every: Duration) -> Instant {
        match self.asked {
            None => self.heard + ping_every,
            Some(asked) => asked + self.answer_max,
        }
    }

    fn heard(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        (self.heard, self.asked) = (Instant::now(), None);
        self.pending.push_back(message.ok_or(End::Gone)?.map_err(End::of_error)?);
        Ok(())
    }

    /// Takes what has come.
    pub(super) fn hear(&mut self) -> Result<(), End> {
        while self.pending.len() < PENDING_MAX
            && let Some(message) = self.stream.next().now_or_never()
        {
            self.heard(message)?;
        }
        Ok(())
    }

    pub(super) async fn feed(&mut self, text: Utf8Bytes, source: &mut Source) -> Result<(), End> {
        self.ready(false, source).await?;
        self.sink.start_send_unpin(Message::Text(text)).map_err(End::of_error)
    }

    pub(super) async fn flush(&mut self, source: &mut Source) -> Result<(), End> {
        self.ready(true, source).await
    }

    pub(super) async fn send(&mut self, message: Message, source: &mut Source) -> Result<(), End> {
        self.ready(false, source).await?;
        self.sink.start_send_unpin(message).map_err(End::of_error)?;
        self.ready(true, source).await
    }

    /// Waits until the socket takes a message, or has taken all.
    async fn ready(&mut self, is_flush: bool, source: &mut Source) -> Result<(), End> {
        let mut until = None;
        loop {
            let sink = &mut self.sink;
            let taken = poll_fn(
                |context| {
                    if is_flush { sink.poll_flush_unpin(context) } else { sink.poll_ready_unpin(context) }
                },
            );
            let has_room = self.pending.len() < PENDING_MAX;
            let until = *until.get_or_insert_with(|| Instant::now() + self.answer_max);
            tokio::select! {
                biased;
                taken = taken => return taken.map_err(End::of_error),
                message = self.stream.next(), if has_room => self.heard(message)?,
                lag = source.lag() => lag?,
                () = closing(&mut self.is_closing) => return Err(End::GoingAway),
                () = sleep_until(until) => return Err(End::Silent),
            }
        }
    }

    /// Waits for something to do.
    pub(super) async fn rest(&mut self, source: &mut Source, ping_every: Duration) -> Result<(), End> {
        let due = self.due(ping_every);
        tokio::select! {
            message = self.stream.next() => self.heard(message),
            waited = source.wait() => waited,
            () = closing(&mut self.is_closing) => Err(End::GoingAway),
            () = sleep_until(due) => Ok(()),
        }
    }

    /// Says why it ends, as long as the client may take to read it.
    pub(super) async fn close(mut self, end: &End, close_max: Duration) {
        let Some(frame) = end.frame() else {
            // Its own farewell is answered.
            drop(timeout(close_max, self.sink.flush()).await);
            return;
        };
        let farewell = async {
            self.sink.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.stream.next().await {}
            Ok::<(), axum::Error>(())
        };
        drop(timeout(close_max, farewell).await);
    }
}
