//! What `ringmain serve` promises, kept by the real command and asked over real connections by a client nobody here wrote.

#[cfg(feature = "prometheus")]
mod bounds;
mod browser;
mod client;
mod control;
mod embedded;
mod ends;
#[path = "../support/folder.rs"]
mod folder;
mod found;
mod guard;
mod health;
mod life;
mod page;
#[cfg(feature = "prometheus")]
mod parts;
#[cfg(feature = "postgres")]
mod postgres;
mod publish;
mod query;
mod reload;
mod signals;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that runs in a process of its own. Dropped, it is killed.
struct Node {
    child: Child,
    address: SocketAddr,
    said: Mutex<Receiver<String>>,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

/// The command with flags, in an environment that says nothing.
fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    command.env_clear().arg("serve").args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Node {
    /// Starts one at a free port, with the store in a folder.
    fn start(data: &Path, flags: &[&str]) -> Self {
        let data = data.display().to_string();
        Self::run(command(&[&["--listen", "127.0.0.1:0", "--data", &data], flags].concat()))
    }

    fn run(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (tell, said) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("stdout can be read");
        let address = line.strip_prefix("listening on http://").and_then(|line| line.strip_suffix('\n'));
        let address = address.and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let status = child.wait();
            panic!("{line:?}, {status:?}: {:?}", said.iter().collect::<Vec<_>>());
        };
        // It has nothing more to say there, and nobody waits for it.
        thread::spawn(move || drop(stdout.read_to_end(&mut Vec::new())));
        Self { child, address, said: Mutex::new(said) }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("there is kill").success());
    }

    /// The next line of stderr that has this in it.
    fn hears(&self, what: &str) -> String {
        let said = self.said.lock().expect("no other test hears it");
        loop {
            let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what:?} was not said"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn ends(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().expect("it was started");
        let said = self.said.lock().expect("no other test hears it").iter().collect();
        (status, said)
    }

    /// Ends it as a service manager does, and expects that nothing is left.
    fn stop(self) {
        self.signal("-TERM");
        let (status, said) = self.ends();
        assert_eq!(status.code(), Some(0), "{said:?}");
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        ask(self.address, method, path, headers, body.into())
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Sends a body of a media type to a path.
    fn send(&self, path: &str, media_type: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", media_type)], body.to_owned())
    }

    /// Publishes events in the short form, and expects that they are taken.
    fn publish(&self, events: &Value) -> Vec<String> {
        let answer = self.send("/v1/events", "application/json", &events.to_string());
        assert_eq!(answer.status, 202, "{}", answer.body);
        let ids = answer.json()["ids"].as_array().expect("there are ids").clone();
        ids.iter().map(|id| id.as_str().expect("it is a text").to_owned()).collect()
    }

    /// The events that a query means, of one page.
    fn events(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/events?{query}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json().as_array().expect("it is an array").clone()
    }

    /// The data of all events that match a pattern, page after page.
    fn data(&self, pattern: &str) -> Vec<Value> {
        let (mut path, mut data) = (Some(format!("/v1/events?type={pattern}")), Vec::new());
        while let Some(page) = path {
            let answer = self.get(&page);
            assert_eq!(answer.status, 200, "{}", answer.body);
            let events = answer.json().as_array().expect("it is an array").clone();
            data.extend(events.into_iter().map(|event| event["data"].clone()));
            path = answer.next();
        }
        data
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Asks over a connection of its own.
fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there are threads");
    let asked = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("host") {
                request.headers_mut().expect("it is well-formed").remove("host");
            }
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("it is well-formed");
        let response = sender.send_request(request).await.expect("it answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.expect("the answer comes to its end").to_bytes();
        drop(sender);
        drop(connection.await);
        Answer { status, headers, body: String::from_utf8(body.to_vec()).expect("it is text") }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await }).expect("it answers in time")
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("it is text"))
    }

    /// The next page, as the header says it.
    fn next(&self) -> Option<String> {
        let link = self.header("link").strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
        Some(link.to_owned())
    }

    /// Expects a problem, as RFC 9457 has it, and returns what it says.
    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:ringmain:problem:{kind}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string());
        problem["detail"].as_str().expect("it says what is wrong").to_owned()
    }
}

/// Events in the short form: of a type, with the numbers of a range as data and in their ids.
fn numbered(event_type: &str, numbers: std::ops::Range<u64>) -> Value {
    let event = |n| json!({"type": event_type, "id": format!("{event_type}-{n}"), "source": "test", "data": n});
    numbers.map(event).collect()
}
