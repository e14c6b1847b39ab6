//! The WebSocket of a node, and what comes over it.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::{Error, Message, WebSocket};

use super::super::live::{CLOUDEVENTS, TYPE_PREFIX};
use super::super::store::Failure;
use super::connect::{Answer, CONNECT_MAX, Connection};

/// Why nothing more comes.
pub(super) enum End {
    /// The stream is cut, or not there now: it may be there again.
    Cut(String),
    /// It would be so again.
    Failed(Failure),
}

/// Something that has come.
pub(super) enum Item<'a> {
    Event(Event<'a>),
    /// What comes is behind this position.
    Subscribed {
        position: u64,
    },
    /// What does not come, said.
    Gap(String),
    /// The node cannot do it, and why.
    Refused(String),
    /// Nothing to look at.
    Other,
}

/// A CloudEvent, as far as it is looked at here.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) event_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) source: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    position: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) data_base64: Option<Cow<'a, str>>,
}

impl Event<'_> {
    /// Where it is in the store; what is no event of the store is nowhere.
    pub(super) fn position(&self) -> Option<u64> {
        self.position.as_ref()?.parse().ok()
    }
}

/// Reads a message.
///
/// # Errors
/// It is no CloudEvent.
pub(super) fn read(text: &str) -> Result<Item<'_>, serde_json::Error> {
    let event: Event<'_> = serde_json::from_str(text)?;
    if event.position().is_some() {
        return Ok(Item::Event(event));
    }
    let data: Value = event.data.map_or(Ok(Value::Null), |data| serde_json::from_str(data.get()))?;
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    Ok(match event.event_type.strip_prefix(TYPE_PREFIX) {
        Some("subscribed") => Item::Subscribed { position: text("position").parse().unwrap_or(0) },
        Some("gap") => {
            Item::Gap(format!("events from position {} to {}: {}", text("from"), text("to"), text("reason")))
        }
        Some("error") => Item::Refused(text("detail").to_owned()),
        _ => Item::Other,
    })
}

/// A stream that is there.
pub(super) struct Live {
    socket: WebSocket<TcpStream>,
    /// It was asked whether it is there, and has not answered yet.
    is_asked: bool,
}

impl Live {
    /// Opens a stream of events; `query` says which.
    pub(super) fn open(node: &Connection, query: &str) -> Result<Self, End> {
        let failed = |said: String| End::Failed(Failure::Said(said));
        let Some(rest) = node.url.strip_prefix("http://") else {
            let url = &node.url;
            return Err(failed(format!(
                "{url} is not http://, and `tail` follows no stream over TLS; ask the node behind it"
            )));
        };
        let request = format!("ws://{rest}/v1/events/live{query}").into_client_request();
        let mut request = request.map_err(|error| failed(format!("{}: {error}", node.url)))?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CLOUDEVENTS));
        if let Some(authorization) = node.authorization() {
            let value = HeaderValue::try_from(authorization);
            request
                .headers_mut()
                .insert(AUTHORIZATION, value.map_err(|_| failed("the token is no text of a header".to_owned()))?);
        }
        let stream = connect(node, request.uri()).map_err(|error| End::Cut(node.nobody(&error)))?;
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self { socket, is_asked: false }),
            Err(HandshakeError::Failure(Error::Http(response))) => {
                let status = response.status().as_u16();
                let body = response
                    .body()
                    .as_deref()
                    .map_or_else(String::new, |body| String::from_utf8_lossy(body).into_owned());
                let refused = node.refused(&Answer { status, next: None, body });
                match (status, refused) {
                    // There is no room now, or it comes too often.
                    (429 | 500.., Failure::Said(said)) => Err(End::Cut(said)),
                    (_, refused) => Err(End::Failed(refused)),
                }
            }
            Err(HandshakeError::Failure(error)) => Err(End::Cut(format!("{}: {error}", node.url))),
            Err(HandshakeError::Interrupted(_)) => Err(End::Cut(format!("{} has not answered in time", node.url))),
        }
    }

    /// The next message, as text. Who says nothing for long is asked whether they are there.
    pub(super) fn next(&mut self) -> Result<String, End> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    self.is_asked = false;
                    return Ok(text.as_str().to_owned());
                }
                Ok(Message::Close(frame)) => {
                    let why = frame.map_or_else(String::new, |frame| format!(": {}", frame.reason));
                    // The other side waits for the farewell.
                    drop(self.socket.flush());
                    return Err(End::Cut(format!("the node has closed the stream{why}")));
                }
                // What has to be answered was, below this.
                Ok(_) => self.is_asked = false,
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.is_asked {
                        return Err(End::Cut("the node does not answer".to_owned()));
                    }
                    self.is_asked = true;
                    self.socket.send(Message::Ping(Default::default())).map_err(cut)?;
                }
                Err(error) => return Err(cut(error)),
            }
        }
    }
}

fn cut(error: Error) -> End {
    End::Cut(match error {
        Error::ConnectionClosed | Error::AlreadyClosed => "the node has closed the stream".to_owned(),
        error => error.to_string(),
    })
}

/// A connection whose reads end when nothing has come for long.
fn connect(node: &Connection, uri: &tungstenite::http::Uri) -> std::io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut last = ErrorKind::AddrNotAvailable.into();
    for address in (host, uri.port_u16().unwrap_or(80)).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX.min(node.timeout)) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(node.timeout))?;
                stream.set_write_timeout(Some(node.timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_told_apart() {
        let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"ringmain.live.error","position":"7","data":{"n": 1}}"#;
        let Ok(Item::Event(event)) = read(event) else { panic!("it has a position, so it is an event") };
        assert_eq!((event.position(), event.data.map(RawValue::get)), (Some(7), Some(r#"{"n": 1}"#)));
        let said = |kind: &str, data: &str| {
            format!(r#"{{"specversion":"1.0","id":"1","source":"x","type":"ringmain.live.{kind}","data":{data}}}"#)
        };
        assert!(matches!(
            read(&said("subscribed", r#"{"patterns":["a"],"position":"9"}"#)),
            Ok(Item::Subscribed { position: 9 })
        ));
        assert!(
            matches!(read(&said("error", r#"{"code":"patterns","detail":"no"}"#)), Ok(Item::Refused(detail)) if detail == "no")
        );
        let gap = said("gap", r#"{"from":"3","to":"5","reason":"removed"}"#);
        assert!(matches!(read(&gap), Ok(Item::Gap(said)) if said == "events from position 3 to 5: removed"));
        assert!(matches!(read(&said("acked", "{}")), Ok(Item::Other)));
        assert!(read("{}").is_err());
    }
}
