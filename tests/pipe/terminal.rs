//! In a terminal a long command says how far it is; elsewhere it does not.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::folder::Folder;
use crate::store::append;

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are drawn until what is looked for must have been.
const SHOWN_MAX: usize = 64 << 10;

/// A pipe with a name: whoever opens it waits for the other side.
fn pipe(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.0.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().expect("there is mkfifo").success());
    path
}

/// A command in a terminal of its own.
struct Terminal {
    script: Child,
    shown: Receiver<u8>,
}

impl Terminal {
    /// Runs a line of a shell, in which `$0` is the command.
    fn run(line: &str) -> Self {
        let line = line.replace("$0", env!("CARGO_BIN_EXE_ringmain"));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
        let script = script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut script = script.expect("there is script, of util-linux");
        let stdout = script.stdout.take().expect("it is piped");
        let (tell, shown) = mpsc::channel();
        // Whoever looks may have seen enough.
        let mut bytes = BufReader::new(stdout).bytes().map_while(Result::ok);
        thread::spawn(move || bytes.try_for_each(|byte| tell.send(byte)));
        Self { script, shown }
    }

    /// What it shows until something is in it.
    fn shows(&self, what: &str) -> String {
        let mut shown = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&shown);
            if text.contains(what) {
                return text.into_owned();
            }
            let next = self.shown.recv_timeout(PATIENCE).ok().filter(|_| shown.len() < SHOWN_MAX);
            let Some(byte) = next else { panic!("{what:?} is not shown: {text:?}") };
            shown.push(byte);
        }
    }

    fn ends(mut self) {
        assert!(self.script.wait().expect("it was started").success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

fn lines(events: usize, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    (0..events).map(|id| format!("{{\"type\":\"a\",\"id\":\"{id}\",\"data\":\"{data}\"}}\n")).collect()
}

#[test]
fn what_has_no_end_that_is_known_counts_events_while_it_runs_and_only_in_a_terminal() {
    let folder = Folder::new("pipe-terminal-append");
    let [shown, silent] = ["shown", "silent"].map(|name| (pipe(&folder, name), folder.0.join(format!("{name}-data"))));
    let said = folder.0.join("said");
    let line =
        |(pipe, data): &(PathBuf, PathBuf)| format!("$0 store append --data {} < {}", data.display(), pipe.display());
    // It begins before the other one, and ends after that has drawn its line.
    let without = format!("{} 2> {}", line(&silent), said.display()).replace("$0", env!("CARGO_BIN_EXE_ringmain"));
    let mut without = Command::new("sh").args(["-c", &without]).spawn().expect("there is a shell");
    let terminal = Terminal::run(&line(&shown));
    let inputs = [silent, shown].map(|(pipe, _)| {
        let mut input = File::options().write(true).open(&pipe).expect("it is read");
        input.write_all(lines(3, 1).as_bytes()).expect("it is read");
        input
    });
    // It waits for more, and the line is drawn anew meanwhile.
    terminal.shows("3 events, ");
    drop(inputs);
    terminal.shows("3 events appended");
    terminal.ends();
    assert!(without.wait().expect("it was started").success());
    let said = fs::read_to_string(said).expect("it is text");
    assert_eq!(said, "ringmain: 3 events appended, 0 lines malformed, 0 refused\n");
}

#[test]
fn what_has_an_end_shows_how_much_of_it_is_done() {
    let folder = Folder::new("pipe-terminal-export");
    let (pipe, data) = (pipe(&folder, "pipe"), folder.0.join("data"));
    assert_eq!(append(&data, "", lines(400, 2_000)).code(), Some(0));
    let terminal = Terminal::run(&format!("$0 store export --data {} > {}", data.display(), pipe.display()));
    // Nobody takes what it writes, so it does not come to its end.
    let mut output = File::open(&pipe).expect("it is written to");
    let shown = terminal.shows(" of 400 events");
    assert!(shown.contains(" %, "), "{shown:?}");
    let mut exported = String::new();
    output.read_to_string(&mut exported).expect("it is text");
    assert_eq!(exported.lines().count(), 400);
    terminal.shows("400 events exported");
    terminal.ends();
}
