//! The command line as a client of a running node.

mod control;
mod publish;
mod stored;
mod tail;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;

use ringmain::{Node, RunningNode};
use serde_json::Value;

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

/// A node in memory, at a free port.
fn node() -> RunningNode {
    let node = Node::builder().in_memory().listen("127.0.0.1:0").build().expect("it is valid");
    node.start().expect("it starts")
}

fn url(node: &RunningNode) -> String {
    format!("http://{}", node.address().expect("it listens"))
}

/// What a command came to.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// The command that asks a node, in an environment that says nothing else.
fn asking(url: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    command.env_clear().env("RINGMAIN_URL", url).args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut child: Child, input: &str) -> Run {
    let (mut stdin, input) = (child.stdin.take().expect("it is piped"), input.to_owned());
    // Who ends early does not read the rest.
    let feeder = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("feeding does not panic");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command over some input.
fn run(url: &str, flags: &[&str], input: &str) -> Run {
    finish(asking(url, flags).spawn().expect("the command starts"), input)
}

impl Run {
    /// What it has written, where all was done.
    #[track_caller]
    fn done(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// What it has said, where it was not.
    #[track_caller]
    fn failed(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stderr.starts_with("ringmain: "), "{self:?}");
        &self.stderr
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.done()).expect("it is JSON")
    }
}

#[test]
fn where_no_node_is_each_command_says_so_and_how_to_start_one() {
    for flags in [
        &["publish", "a", "1"][..],
        &["publish", "-"],
        &["tail"],
        &["health"],
        &["services"],
        &["services", "stop", "a"],
        &["rules", "list"],
        &["rules", "explain", "{\"type\":\"a\"}"],
        &["replay", "list"],
        &["replay", "begin"],
    ] {
        let run = run(NOBODY, flags, "{\"type\":\"a\"}\n");
        let said = run.failed();
        assert!(said.contains(NOBODY) && said.contains("`ringmain serve` starts one"), "{flags:?}: {said}");
        assert_eq!(run.stdout, "", "{flags:?}");
    }
}

#[test]
fn an_answer_of_somebody_else_is_no_answer_of_a_node() {
    let node = node();
    let run = run(&format!("{}/elsewhere", url(&node)), &["health"], "");
    assert!(run.failed().contains("/elsewhere: there is nothing at /elsewhere/health/ready"), "{run:?}");
    let wrong = crate::client::run("127.0.0.1:8080", &["health"], "");
    assert!(wrong.failed().contains("RINGMAIN_URL: \"127.0.0.1:8080\" is no URL"), "{wrong:?}");
    assert!(node.stop().is_clean());
}
