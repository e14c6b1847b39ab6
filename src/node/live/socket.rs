//! One client over WebSocket.
//!
//! ```text
//!   loop ──► commands that came ──► feeds what is there, one flush ──► waits: for events, a command, silence, the end
//!                                        │ the socket takes no more
//!                                        ▼
//!                    waits for it, hears commands, looks now and then how far it is behind
//! ```

mod end;
mod source;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use tokio::time::{Instant, timeout};

pub(super) use self::end::CLOSE_CODES;
use self::end::End;
use self::source::Source;
use self::wire::Wire;
use super::super::http::{Caller, Kind, Problem};
use super::feed::{Feed, FeedError, Item};
use super::interest::Interest;
use super::message::{CLOUDEVENTS, Command, Dialect, Said};
use super::reliable::Reliable;
use super::wanted::Wanted;
use super::{REST, Seat, Shared};
use crate::store::Position;

/// Bytes that the name of a reliable client has at most.
const NAME_BYTES_MAX: usize = 200;

/// `GET /v1/events/live`.
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    caller: Option<Extension<Caller>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let counts = &shared.counts;
    let malformed = |detail: String| {
        counts.refused_malformed.add(1);
        Problem::new(Kind::Malformed, detail)
    };
    let upgrade =
        upgrade.map_err(|error| malformed(format!("this is a WebSocket, and was not asked for as one: {error}")))?;
    let wanted = Wanted::read(&query.unwrap_or_default()).map_err(malformed)?;
    let seat = shared.take_seat()?;
    let bytes_max = shared.options.message_bytes_max;
    let upgrade = upgrade.protocols([CLOUDEVENTS]).max_message_size(bytes_max).max_frame_size(bytes_max);
    let caller = caller.map_or(Caller::Anyone, |Extension(caller)| caller);
    Ok(upgrade.on_upgrade(move |socket| serve(socket, seat, caller, wanted)))
}

async fn serve(socket: WebSocket, seat: Seat, caller: Caller, wanted: Wanted) {
    let shared = Arc::clone(&seat.0);
    let is_cloud = socket.protocol().is_some_and(|protocol| protocol.as_bytes() == CLOUDEVENTS.as_bytes());
    let mut client = Client {
        dialect: if is_cloud { Dialect::Cloud } else { Dialect::Plain },
        source: Source::Feed(Box::new(Feed::new(Arc::clone(&shared)))),
        wire: Wire::new(socket, &shared),
        caller,
        shared: Arc::clone(&shared),
    };
    let Err(end) = client.run(wanted).await;
    let Client { wire, source, .. } = client;
    // Whoever takes the name over does not wait for the farewell.
    drop(source);
    end.count(&shared.counts);
    wire.close(&end, shared.options.close_max).await;
}

struct Client {
    shared: Arc<Shared>,
    caller: Caller,
    dialect: Dialect,
    source: Source,
    wire: Wire,
}

impl Client {
    async fn run(&mut self, wanted: Wanted) -> Result<Infallible, End> {
        let Wanted { patterns, after, slow } = wanted;
        if !patterns.is_empty() {
            let slow = slow.map(|slow| slow.as_str().to_owned());
            self.command(Command::Subscribe { patterns, after, name: None, slow }).await?;
        }
        loop {
            // One that reads long history has something to bring all the time.
            if self.wire.is_closing() {
                return Err(End::GoingAway);
            }
            self.wire.hear()?;
            while let Some(message) = self.wire.pending.pop_front() {
                self.take(message).await?;
            }
            self.watch().await?;
            if !self.bring().await? {
                self.wire.rest(&mut self.source, self.shared.options.ping_every).await?;
            }
        }
    }

    /// Brings what is there; says whether there was something.
    async fn bring(&mut self) -> Result<bool, End> {
        let before = self.source.position();
        let items = match self.source.next().await {
            Ok(items) => items,
            Err(FeedError::TooSlow { behind }) => return Err(End::Slow { behind }),
            Err(FeedError::Failed(error)) => return Err(End::Failed(error)),
            Err(FeedError::Unreadable) => {
                tokio::time::sleep(REST).await;
                return Ok(false);
            }
        };
        if items.is_empty() {
            return Ok(self.source.position() != before);
        }
        let mut events = 0;
        for item in items {
            let text = match item {
                Item::Event(event) => {
                    events += 1;
                    event.text(self.dialect).clone()
                }
                Item::Gap(gap) => {
                    self.shared.counts.gaps.add(1);
                    Said::Gap(gap).text(self.dialect)
                }
            };
            self.wire.feed(text, &mut self.source).await?;
        }
        self.shared.counts.events_sent.add(events);
        self.wire.flush(&mut self.source).await?;
        Ok(true)
    }

    /// Asks a client that was silent for long whether it is there; ends with one that does not answer.
    async fn watch(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now < self.wire.due(self.shared.options.ping_every) {
            return Ok(());
        }
        if self.wire.asked.is_some() {
            return Err(End::Silent);
        }
        self.wire.asked = Some(now);
        self.wire.send(Message::Ping(Default::default()), &mut self.source).await
    }

    async fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => match Command::read(&text) {
                Ok(command) => self.command(command).await,
                Err(detail) => self.refuse("malformed", detail).await,
            },
            Message::Binary(_) => Err(End::Binary),
            // Both are answered below this.
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(End::Gone),
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), End> {
        let done = match command {
            Command::Subscribe { patterns, after, name, slow } => self.subscribe(&patterns, after, name, slow).await,
            Command::Unsubscribe { patterns } => {
                let interest = self.source.interest();
                interest.remove(&patterns);
                Ok(Said::Unsubscribed { patterns: interest.texts() })
            }
            Command::Forget {} => match &mut self.source {
                Source::Feed(_) => Err(("not_reliable", "subscribe with a name before it is forgotten".to_owned())),
                Source::Reliable(reliable) => match reliable.forget().await {
                    Ok(()) => {
                        let name = reliable.name().to_owned();
                        self.source = Source::Feed(Box::new(Feed::new(Arc::clone(&self.shared))));
                        Ok(Said::Forgotten { name })
                    }
                    Err(detail) => Err(("not_forgotten", detail)),
                },
            },
            Command::Ack { position } => match &mut self.source {
                Source::Feed(_) => {
                    Err(("not_reliable", "subscribe with a name before anything is acknowledged".to_owned()))
                }
                Source::Reliable(reliable) => {
                    let position = position.unwrap_or_default();
                    let acked = reliable.ack(position).await;
                    acked.map(|()| Said::Acked { position }).map_err(|detail| ("not_acknowledged", detail))
                }
            },
        };
        match done {
            Ok(said) => self.say(&said).await,
            Err((code, detail)) => self.refuse(code, detail).await,
        }
    }

    async fn subscribe(
        &mut self,
        patterns: &[String],
        after: Option<u64>,
        name: Option<String>,
        slow: Option<String>,
    ) -> Result<Said, (&'static str, String)> {
        let patterns_max = self.shared.options.patterns_max;
        if patterns.is_empty() {
            return Err(("patterns", "there is no pattern; `*` is everything".to_owned()));
        }
        let mut added = self.source.interest().clone();
        let is_first = added.is_empty();
        added.add(patterns, patterns_max).map_err(|detail| ("patterns", detail))?;
        if let Some(refused) = added.refused_to(&self.caller) {
            return Err(("forbidden", refused));
        }
        let slow = slow.map(|word| word.parse().map_err(|said| ("slow", format!("slow is {word:?}: {said}"))));
        let slow = slow.transpose()?;
        if !is_first && (after.is_some() || name.is_some()) {
            let detail = "this connection has subscribed already, and goes on where it is; open another one";
            return Err(("subscribed", detail.to_owned()));
        }
        if is_first {
            self.begin(after, name.as_deref(), added.clone()).await?;
        }
        *self.source.interest() = added;
        if let (Source::Feed(feed), Some(slow)) = (&mut self.source, slow) {
            feed.slow = slow;
        }
        let slow = match &self.source {
            Source::Feed(feed) => feed.slow,
            Source::Reliable(_) => super::Slow::Spill,
        };
        let (patterns, position) = (self.source.interest().texts(), self.source.position());
        Ok(Said::Subscribed { patterns, position, name, slow })
    }

    /// Finds where it is to begin.
    async fn begin(
        &mut self,
        after: Option<u64>,
        name: Option<&str>,
        interest: Interest,
    ) -> Result<(), (&'static str, String)> {
        let head = self.shared.read(|store| store.head()).await;
        let head = head.map_err(|error| ("store", error.to_string()))?.map_or(0, Position::get);
        if after.is_some_and(|after| after > head) {
            return Err(("beyond_end", super::beyond_end(after.unwrap_or_default(), head)));
        }
        let Some(name) = name else {
            if let Source::Reliable(_) = self.source {
                self.source = Source::Feed(Box::new(Feed::new(Arc::clone(&self.shared))));
            }
            if let Source::Feed(feed) = &mut self.source {
                feed.begin(after.unwrap_or(head));
            }
            return Ok(());
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(("name", format!("the name has {} bytes, it can have 1 to {NAME_BYTES_MAX}", name.len())));
        }
        // Its own name would be waited for.
        self.source = Source::Feed(Box::new(Feed::new(Arc::clone(&self.shared))));
        // Whose it is ends at the first slash, whatever their names have in them.
        let owner = self.caller.name().replace('%', "%25").replace('/', "%2F");
        let reliable = Reliable::open(&self.shared, (&owner, name), after, interest);
        let reliable = timeout(self.wire.answer_max, reliable).await;
        let reliable = reliable.unwrap_or_else(|_| Err("another connection has not let go of the name".to_owned()));
        self.source = Source::Reliable(Box::new(reliable.map_err(|detail| ("name", detail))?));
        Ok(())
    }

    async fn refuse(&mut self, code: &'static str, detail: String) -> Result<(), End> {
        self.shared.counts.commands_refused.add(1);
        self.say(&Said::Error { code, detail }).await
    }

    async fn say(&mut self, said: &Said) -> Result<(), End> {
        let text = said.text(self.dialect);
        self.wire.send(Message::Text(text), &mut self.source).await
    }
}
