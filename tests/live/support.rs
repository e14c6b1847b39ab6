//! A node's live streams on a free port, and clients of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ringmain::node::live::{Hub, LiveOptions};
use ringmain::store::{Durability, EventStore, ExpectedVersion, MemoryStore};
use ringmain::{Bus, Frame, Payload};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Options with which nobody is closed for having been slow to answer, however busy the machine is.
pub(crate) fn options() -> LiveOptions {
    LiveOptions { ping_every: LONG, answer_max: LONG, ..LiveOptions::default() }
}

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// What the sockets of both sides hold, about.
pub(crate) const SOCKET_BYTES: u32 = 16 << 10;

pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<MemoryStore>,
    bus: Bus,
}

impl Node {
    pub(crate) async fn start(options: LiveOptions) -> Self {
        Self::with_store(options, Arc::new(MemoryStore::new())).await
    }

    /// One with what another one has left.
    pub(crate) async fn with_store(options: LiveOptions, store: Arc<MemoryStore>) -> Self {
        Self::over(options, store.clone(), store).await
    }

    /// One that reads its events by way of another store.
    pub(crate) async fn over(options: LiveOptions, events: Arc<dyn EventStore>, store: Arc<MemoryStore>) -> Self {
        let hub = Hub::start(events, store.clone(), options).expect("a thread");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(SOCKET_BYTES).expect("a size");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let listener = socket.listen(1_024).expect("it listens");
        let address = listener.local_addr().expect("bound");
        hub.serve(listener.into_std().expect("a socket")).expect("it serves");
        let bus = Bus::builder().workers(1).build().expect("a bus");
        Self { hub, address, store, bus }
    }

    /// A frame whose data is a number.
    pub(crate) fn frame(&self, topic: &str, number: u64) -> Frame {
        self.frame_of(topic, Payload::json(&number.to_string()))
    }

    pub(crate) fn frame_of(&self, topic: &str, payload: Payload<'_>) -> Frame {
        let mut publisher = self.bus.publisher().expect("a publisher");
        publisher.event().to_frame(topic, payload).expect("a frame")
    }

    pub(crate) fn append(&self, frames: &[Frame]) {
        append(&*self.store, frames);
    }

    /// Appends events of one topic, whose data are these numbers.
    pub(crate) fn append_numbers(&self, topic: &str, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.append(&[self.frame(topic, number)]);
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_to("", Dialect::Plain).await
    }

    pub(crate) async fn connect_to(&self, query: &str, dialect: Dialect) -> Client {
        let headers: &[_] = match dialect {
            Dialect::Plain => &[],
            Dialect::Cloud => &[("sec-websocket-protocol", "cloudevents.json")],
        };
        self.try_connect(query, headers).await.expect("it takes clients")
    }

    pub(crate) async fn try_connect(&self, query: &str, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SOCKET_BYTES)?;
        let tcp = socket.connect(self.address).await?;
        let mut request = format!("ws://{}/v1/events/live{query}", self.address).into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a value");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let (socket, _) = tokio_tungstenite::client_async(request, tcp).await?;
        Ok(Client(socket))
    }

    /// Ends it; nobody is left.
    pub(crate) async fn end(self) {
        assert_eq!(self.hub.close(LONG).await, 0);
        drop(self.hub);
        self.bus.shutdown().expect("it ends");
    }
}

pub(crate) fn append(store: &dyn EventStore, frames: &[Frame]) {
    store.append(frames, ExpectedVersion::Any, Durability::Accepted).expect("there is room");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Plain,
    Cloud,
}

pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Client {
    pub(crate) async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("it is there");
    }

    /// Subscribes, and returns the answer.
    pub(crate) async fn subscribe(&mut self, patterns: &[&str], rest: Value) -> Value {
        let mut message = json!({"type": "subscribe", "patterns": patterns});
        for (name, value) in rest.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        self.say(message).await;
        self.hear().await
    }

    /// The next message, which is there.
    pub(crate) async fn hear(&mut self) -> Value {
        self.next().await.expect("it goes on")
    }

    /// The next message, or how it ended.
    pub(crate) async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let message = timeout(LONG, self.0.next()).await.expect("something comes").expect("a farewell comes first");
            match message.expect("the connection holds") {
                Message::Text(text) => return Ok(serde_json::from_str(&text).expect("it is JSON")),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => {
                    let frame = frame.expect("it says why");
                    return Err(Closed { code: CloseCode::into(frame.code), reason: frame.reason.to_string() });
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event's number and position, in the dialect without a subprotocol.
    pub(crate) async fn event(&mut self) -> (u64, u64) {
        let event = self.hear().await;
        assert_eq!(event["type"], "event", "{event}");
        (event["payload"].as_u64().expect("a number"), position(&event))
    }

    /// Numbers of so many events.
    pub(crate) async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.event().await.0);
        }
        numbers
    }

    /// Ends without a word, as when a cable is cut.
    pub(crate) fn cut(self) {
        drop(self.0.into_inner());
    }
}

pub(crate) fn position(message: &Value) -> u64 {
    message["position"].as_str().expect("a text").parse().expect("a number")
}
