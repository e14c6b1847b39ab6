//! A way to a server that can be cut at a commit, or go silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What happens to the next bytes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Nothing,
    /// The connection ends when a commit comes, which the server does not see.
    BeforeCommit,
    /// The connection ends when the client next says something, which the server does not see.
    Ask,
    /// The server commits, and its answer is lost.
    AfterCommit,
    /// The server's next answer is lost.
    Answer,
    /// The connection of the client ends when a commit comes, which the server sees when this is over.
    LateCommit,
    /// The server commits, and the end of its answer is lost.
    InCommit,
    /// The end of the server's next answer is lost.
    EndOfAnswer,
    /// What the server tells without being asked is lost.
    Notices,
    /// Nothing comes through, and nobody hangs up.
    Silence,
}

type Shared = Arc<(Mutex<Cut>, Condvar)>;

/// Listens on loopback, and brings what comes to the server.
pub(super) struct Proxy {
    url: String,
    cut: Shared,
}

impl Proxy {
    pub(super) fn new(url: &str) -> Self {
        let port = url.rsplit(':').next().and_then(|end| end.split('/').next()).unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = url.replace(&format!(":{port}/"), &format!(":{}/", listener.local_addr().unwrap().port()));
        let cut = Shared::new((Mutex::new(Cut::Nothing), Condvar::new()));
        let shared = Arc::clone(&cut);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
                let (answers, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (asked, answered) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || bring(client, server, &asked, true));
                thread::spawn(move || bring(answers, to, &answered, false));
            }
        });
        Self { url, cut }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn cut(&self, cut: Cut) {
        *self.cut.0.lock().unwrap() = cut;
        self.cut.1.notify_all();
    }

    /// Whether what was to be cut is cut.
    pub(super) fn is_cut(&self) -> bool {
        *self.cut.0.lock().unwrap() == Cut::Nothing
    }

    /// Waits until what was to be cut is cut.
    pub(super) fn wait(&self) {
        drop(self.cut.1.wait_while(self.cut.0.lock().unwrap(), |cut| *cut != Cut::Nothing).unwrap());
    }
}

fn bring(mut from: TcpStream, mut to: TcpStream, (cut, changed): &(Mutex<Cut>, Condvar), is_client: bool) {
    const READY: &[u8] = b"Z\0\0\0\x05I";
    let mut bytes = [0; 65_536];
    while let Ok(mut count) = from.read(&mut bytes)
        && count > 0
    {
        let is_commit = is_client && bytes[..count].windows(7).any(|some| some == b"COMMIT\0");
        let mut state = changed.wait_while(cut.lock().unwrap(), |state| *state == Cut::Silence).unwrap();
        match *state {
            Cut::AfterCommit if is_commit => *state = Cut::Answer,
            Cut::BeforeCommit if is_commit => {
                *state = Cut::Nothing;
                break;
            }
            Cut::Ask if is_client => {
                *state = Cut::Nothing;
                break;
            }
            Cut::Answer if !is_client => {
                *state = Cut::Nothing;
                break;
            }
            Cut::InCommit if is_commit => *state = Cut::EndOfAnswer,
            Cut::EndOfAnswer if !is_client => {
                count = bytes[..count].strip_suffix(READY).unwrap().len();
                *state = Cut::Nothing;
                changed.notify_all();
            }
            Cut::LateCommit if is_commit => {
                from.shutdown(Shutdown::Both).unwrap();
                state = changed.wait_while(state, |state| *state == Cut::LateCommit).unwrap();
            }
            Cut::Notices if !is_client && bytes[0] == b'A' => continue,
            _ => {}
        }
        drop(state);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
