//! What the tests of services share.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringmain::node::services::{Service, Work};
use ringmain::{Bus, Delivery, Mailbox, Outcome, Pattern};
use serde_json::Value;

/// Nothing takes this long unless it will never come.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn bus() -> Bus {
    Bus::builder().workers(1).build().unwrap()
}

/// An event as tests compare it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) data: Value,
}

/// The next event; waits for it.
pub(crate) fn next(inbox: &mut Mailbox<Pattern>) -> Got {
    let event = inbox.recv_deadline(LONG).expect("an event comes");
    let data = serde_json::from_slice(event.payload().bytes()).unwrap_or(Value::Null);
    Got { topic: event.meta().topic().to_owned(), data }
}

/// The same, off the runtime's thread.
pub(crate) async fn next_async(inbox: &mut Mailbox<Pattern>) -> Got {
    let event = tokio::time::timeout(LONG, inbox.recv_async()).await.expect("an event comes").unwrap();
    let data = serde_json::from_slice(event.payload().bytes()).unwrap_or(Value::Null);
    Got { topic: event.meta().topic().to_owned(), data }
}

/// Waits until something is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let turns = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, turns).await.expect("it comes to be so");
}

/// What a service that a test scripts does with an event's payload.
type Script = Box<dyn Fn(&str) -> Outcome + Send + Sync>;

/// A service that takes events and remembers their payloads.
pub(crate) struct Remembers {
    pub(crate) name: &'static str,
    pub(crate) got: Arc<Mutex<Vec<String>>>,
    pub(crate) script: Script,
    /// One permit for each event that may be handled.
    pub(crate) gate: Arc<tokio::sync::Semaphore>,
}

impl Remembers {
    pub(crate) fn new(name: &'static str) -> Self {
        let gate = Arc::new(tokio::sync::Semaphore::new(1_000_000));
        Self { name, got: Arc::default(), script: Box::new(|_| Outcome::Ack), gate }
    }
}

impl Service for Remembers {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &str {
        "remembers"
    }

    fn events_max(&self) -> usize {
        1
    }

    fn handle<'s>(&'s self, events: &'s [Delivery<Pattern>]) -> Work<'s, Outcome> {
        Box::pin(async {
            self.gate.acquire().await.unwrap().forget();
            let text = events[0].payload().text().unwrap_or_default().to_owned();
            let outcome = (self.script)(&text);
            self.got.lock().unwrap().push(text);
            outcome
        })
    }
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim())
    }
}

/// A server of HTTP that answers each request with the next of these statuses, the last for ever. Returns its URL, and the requests.
pub(crate) fn server(statuses: &'static [&'static str]) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (requests, got) = mpsc::channel();
    thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).unwrap() == 0 {
                    break;
                }
            }
            let request = Request { head, body: Vec::new() };
            let bytes = request.header("content-length").map_or(0, |bytes| bytes.parse().unwrap());
            let mut body = vec![0; bytes];
            stream.read_exact(&mut body).unwrap();
            let status = statuses.get(nth).or(statuses.last()).unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            if requests.send(Request { body, ..request }).is_err() {
                return;
            }
        }
    });
    (url, got)
}
