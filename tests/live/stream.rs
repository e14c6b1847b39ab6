//! Server-Sent Events, as `EventSource` reads them.

use std::sync::Arc;

use ringmain::node::live::LiveOptions;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{LONG, Node, append, options, position};

struct Stream {
    tcp: BufReader<TcpStream>,
    text: String,
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq)]
struct Message {
    id: Option<u64>,
    kind: Option<String>,
    data: Option<Value>,
}

impl Stream {
    /// Asks for a stream; returns the head of the answer, too.
    async fn open(node: &Node, query: &str, headers: &str) -> (String, Self) {
        let mut tcp = TcpStream::connect(node.address).await.expect("it listens");
        let request = format!("GET /v1/events/stream{query} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", node.address);
        tcp.write_all(request.as_bytes()).await.expect("it is there");
        let mut stream = Self { tcp: BufReader::new(tcp), text: String::new() };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.line(&mut head).await;
        }
        (head, stream)
    }

    async fn line(&mut self, text: &mut String) {
        let read = timeout(LONG, self.tcp.read_line(text)).await.expect("something comes").expect("it holds");
        assert_ne!(read, 0, "it goes on: {text:?}");
    }

    /// The next chunk of the body.
    async fn chunk(&mut self) {
        let mut size = String::new();
        self.line(&mut size).await;
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        assert_ne!(size, 0, "it goes on");
        let mut bytes = vec![0; size + 2];
        timeout(LONG, self.tcp.read_exact(&mut bytes)).await.expect("something comes").expect("it holds");
        self.text.push_str(std::str::from_utf8(&bytes[..size]).expect("whole events come"));
    }

    /// The next event, as the specification reads it.
    async fn next(&mut self) -> Message {
        let end = loop {
            match self.text.find("\n\n") {
                Some(end) => break end,
                None => self.chunk().await,
            }
        };
        let rest = self.text.split_off(end + 2);
        let event = std::mem::replace(&mut self.text, rest);
        let mut message = Message::default();
        for line in event.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => message.id = Some(id.parse().expect("a position")),
                Some(("event", kind)) => message.kind = Some(kind.to_owned()),
                Some(("data", data)) => message.data = Some(serde_json::from_str(data).expect("JSON")),
                Some(("retry", _)) => {}
                _ => assert!(line.is_empty() || line.starts_with(':'), "{line:?}"),
            }
        }
        message
    }

    /// The next event of the store: its number and its position.
    async fn event(&mut self) -> (u64, u64) {
        loop {
            let message = self.next().await;
            let (Some(id), Some(data)) = (message.id, message.data) else { continue };
            assert_eq!(position(&data), id);
            return (data["data"].as_u64().expect("a number"), id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_with_their_positions_as_ids() {
    let node = Node::start(options()).await;
    node.append_numbers("old", 0..3);
    let (head, mut stream) = Stream::open(&node, "?type=a&type=b.*", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream\r\n"), "{head}");
    // Before the first event it is known already where it begins.
    assert_eq!(stream.next().await, Message { id: Some(3), ..Message::default() });
    for topic in ["a", "b.c", "c", "a"] {
        node.append_numbers(topic, 7..8);
    }
    for id in [4, 5, 7] {
        assert_eq!(stream.event().await, (7, id));
    }
    drop(stream);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_a_cut_at_any_event() {
    const EVENTS: u64 = 40;
    let node = Node::start(LiveOptions { window_events: 8, ..options() }).await;
    let frames: Vec<_> = (0..EVENTS).map(|number| node.frame("a", number)).collect();
    for cut in 0..=EVENTS {
        let begin = cut * EVENTS;
        let (_, mut stream) = Stream::open(&node, "", "").await;
        let mut last = stream.next().await.id.expect("it says where it begins");
        assert_eq!(last, begin);
        let (store, frames) = (Arc::clone(&node.store), frames.clone());
        let writer = tokio::task::spawn_blocking(move || {
            frames.iter().for_each(|frame| append(&*store, std::slice::from_ref(frame)))
        });
        for number in 0..cut {
            last = begin + number + 1;
            assert_eq!(stream.event().await, (number, last));
        }
        drop(stream);
        // `after` is what the page was opened with; the header is what came since.
        let (_, mut again) = Stream::open(&node, "?after=0", &format!("last-event-id: {last}\r\n")).await;
        for number in cut..EVENTS {
            assert_eq!(again.event().await, (number, begin + number + 1), "after the cut at {cut}");
        }
        writer.await.expect("it writes");
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_streamed_is_refused_with_what_is_wrong() {
    let node = Node::start(LiveOptions { clients_max: 1, ..options() }).await;
    let (head, first) = Stream::open(&node, "", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let own = "origin: https://example.org\r\n";
    for (query, headers, status) in [
        ("?type=a%20b", "", 400),
        ("?after=x", "", 400),
        ("?slow=close", "", 400),
        ("", "last-event-id: x\r\n", 400),
        ("", own, 403),
        ("", "", 503),
    ] {
        let (head, _) = Stream::open(&node, query, headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{query} {headers}: {head}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
    }
    drop(first);
    let head = loop {
        let (head, _) = Stream::open(&node, "?after=1", "").await;
        if !head.starts_with("HTTP/1.1 503") {
            break head;
        }
    };
    assert!(head.starts_with("HTTP/1.1 409"), "{head}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_late_misses_nothing() {
    const EVENTS: u64 = 3_000;
    let node = Node::start(LiveOptions { window_events: 100, ..options() }).await;
    let (_, mut late) = Stream::open(&node, "", "").await;
    let (_, mut reader) = Stream::open(&node, "", "").await;
    for number in 0..EVENTS {
        node.append_numbers("a", number..number + 1);
        if number % 50 == 49 {
            for at in number - 49..=number {
                assert_eq!(reader.event().await, (at, at + 1));
            }
        }
    }
    for number in 0..EVENTS {
        assert_eq!(late.event().await, (number, number + 1));
    }
    drop((late, reader));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_long_history_hears_the_end() {
    const EVENTS: usize = 6_000;
    let node = Node::start(options()).await;
    let frames: Vec<_> = (0..1_000).map(|number| node.frame("a", number)).collect();
    (0..EVENTS / frames.len()).for_each(|_| node.append(&frames));
    let (_, mut stream) = Stream::open(&node, "?after=0", "").await;
    stream.event().await;
    let mut rest = String::new();
    let (left, read) = tokio::join!(node.hub.close(LONG), stream.tcp.read_to_string(&mut rest));
    read.expect("it is not cut");
    assert_eq!(left, 0);
    assert!(rest == "0\r\n\r\n" || rest.ends_with("\r\n0\r\n\r\n"), "it comes to its end");
    assert!(rest.matches("\ndata: ").count() < EVENTS / 2, "{}", rest.len());
    node.end().await;
}
