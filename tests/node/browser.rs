//! A Chromium without a window, asked over its own protocol.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::PATIENCE;

/// What the browser says on the way to where it can be asked.
const LISTENING: &str = "DevTools listening on ";

/// Ended when it is dropped.
pub(crate) struct Browser {
    process: Child,
    runtime: Runtime,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of its one page.
    session: String,
    asked: u64,
    /// Pages that were loaded.
    loaded: u64,
    /// What the page complained about.
    complaints: Vec<String>,
}

impl Browser {
    /// Starts one whose files are in `folder`; `None`, and says so, where there is none.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let started = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| {
            let mut command = Command::new(name);
            command.args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-port=0",
            ]);
            command.arg(format!("--user-data-dir={}", folder.display())).arg("about:blank");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()
        });
        let Some(mut process) = started else {
            let _ = writeln!(io::stderr(), "page: SKIP: there is no chromium; see ci/setup");
            return None;
        };
        let mut said = BufReader::new(process.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = said.find_map(|line| line.strip_prefix(LISTENING).map(str::to_owned)).expect("it starts");
        // It says more, and must not wait for somebody to hear it.
        std::thread::spawn(move || said.for_each(drop));
        let runtime = Builder::new_current_thread().enable_all().build().expect("there are threads");
        let (socket, _) = runtime.block_on(connect_async(&address)).expect("it can be asked");
        let mut browser =
            Self { process, runtime, socket, session: String::new(), asked: 0, loaded: 0, complaints: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().expect("a text").to_owned();
        for domain in ["Runtime", "Log", "Page"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser.prefer("light");
        // Keys go to the page whichever window is in front.
        browser.ask("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        Some(browser)
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let Self { runtime, socket, .. } = self;
        runtime.block_on(socket.send(Message::text(message.to_string()))).expect("it listens");
        loop {
            let mut answer = self.heard();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{message}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// What it says next.
    #[track_caller]
    fn heard(&mut self) -> Value {
        let Self { runtime, socket, .. } = self;
        let said = runtime.block_on(async { timeout(PATIENCE, socket.next()).await });
        let Ok(said) = said else { panic!("it is stuck; the page complained: {:?}", self.complaints) };
        let said = said.expect("it has not gone").expect("it goes on");
        let said: Value = serde_json::from_str(said.to_text().expect("a text")).expect("JSON");
        let complaint = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => &said["params"]["exceptionDetails"],
            Some("Log.entryAdded") if said["params"]["entry"]["level"] == "error" => &said["params"]["entry"],
            Some("Page.loadEventFired") => {
                self.loaded += 1;
                return said;
            }
            _ => return said,
        };
        self.complaints.push(complaint.to_string());
        said
    }

    /// Goes to an address, and waits until what is there is loaded.
    #[track_caller]
    pub(crate) fn open(&mut self, address: &str) {
        let before = self.loaded;
        self.ask("Page.navigate", json!({"url": address}));
        while self.loaded == before {
            self.heard();
        }
    }

    /// How large the window is.
    #[track_caller]
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let mobile = width < 600;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    /// Whether dark pages are preferred.
    #[track_caller]
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            // What changes its colour bit by bit has none that could be looked at.
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.ask("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// What an expression of JavaScript comes to.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.ask("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// What an expression comes to once it comes to something.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) -> Value {
        self.evaluate(&format!(
            "new Promise((found) => {{ const look = () => {{ const what = {expression}; if (what) found(what); \
             else setTimeout(look, 20); }}; look(); }})"
        ))
    }

    /// Presses a key as somebody at the keyboard would.
    #[track_caller]
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let code = match key {
                "Enter" => 13,
                "Tab" => 9,
                _ => 27,
            };
            let params = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.ask("Input.dispatchKeyEvent", params);
        }
    }

    /// What the page complained about so far.
    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // By itself, so that none of its helpers is left that writes into its folder.
        let close = Message::text(json!({"id": 0, "method": "Browser.close"}).to_string());
        let Self { runtime, socket, process, .. } = self;
        let closed = async {
            // An error is the end, too.
            if socket.send(close).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        if runtime.block_on(async { timeout(PATIENCE, closed).await }).is_err() {
            let _ = process.kill();
        }
        let _ = process.wait();
    }
}
