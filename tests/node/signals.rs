//! Signals that come while something else goes on: none is lost, and none ends the process in the midst of it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use crate::folder::Folder;
use crate::{Node, command};

/// Of the token `of-ada`.
const TOKENS: &str = "ada sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 admin\n";

/// A pipe with a name: whoever opens it waits for who writes, and the other way round.
fn pipe(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.0.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().expect("there is mkfifo").success());
    path
}

/// Waits until somebody reads the pipe, who waits for the rest then.
fn read(path: &Path) -> File {
    File::options().write(true).open(path).expect("somebody reads it")
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().expect("there is kill").success());
}

/// Sends a signal to a node that is in the midst of its start, and returns how it ends.
fn signalled_at_start(folder: &Folder, name: &str) -> (ExitStatus, String, String) {
    let tokens = pipe(folder, "tokens");
    let data = folder.0.join("data").display().to_string();
    let mut command =
        command(&["--listen", "127.0.0.1:0", "--data", &data, "--token-file", &tokens.display().to_string()]);
    let mut child = command.spawn().expect("the command starts");
    let mut tokens = read(&tokens);
    signal(&child, name);
    tokens.write_all(TOKENS.as_bytes()).expect("it is read");
    drop(tokens);
    if name == "-HUP" {
        let mut said = std::io::BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        // Before it, how it found its store.
        while !line.contains("configuration") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut said, &mut line).expect("it is text") > 0, "it has ended");
        }
        signal(&child, "-TERM");
        child.stderr = Some(said.into_inner());
        let output = child.wait_with_output().expect("it ends");
        return (output.status, String::from_utf8(output.stdout).expect("it is text"), line);
    }
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (output.status, text(output.stdout), text(output.stderr))
}

#[test]
fn one_that_ends_it_while_it_starts_does_so_in_order() {
    let folder = Folder::new("node-signal-start");
    let (status, stdout, said) = signalled_at_start(&folder, "-TERM");
    assert_eq!((status.code(), &*stdout), (Some(0), ""), "{said}");
    assert!(said.contains("it ends"), "{said}");
}

#[test]
fn one_that_has_it_reload_while_it_starts_does_so_when_it_runs() {
    let folder = Folder::new("node-signal-reload");
    let (status, stdout, said) = signalled_at_start(&folder, "-HUP");
    assert!(said.contains("the configuration is as it was"), "{said}");
    assert_eq!(status.code(), Some(0));
    assert!(stdout.starts_with("listening on"), "{stdout}");
}

/// A node whose configuration comes out of a pipe.
fn piped(folder: &Folder) -> (Node, PathBuf) {
    let file = pipe(folder, "ringmain.yaml");
    let mut command = command(&["--listen", "127.0.0.1:0", "--data", &folder.0.join("data").display().to_string()]);
    command.args(["--config", &file.display().to_string()]);
    let written = file.clone();
    let writer = std::thread::spawn(move || fs::write(written, "http:\n  page_max: 10\n").expect("it is read"));
    let node = Node::run(command);
    writer.join().expect("it was read");
    (node, file)
}

#[test]
fn one_that_ends_it_while_it_reloads_does_so_then_and_a_second_at_once() {
    let folder = Folder::new("node-signal-reloading");
    let (node, file) = piped(&folder);
    node.signal("-HUP");
    let mut config = read(&file);
    node.signal("-TERM");
    node.hears("it ends");
    config.write_all(b"http:\n  page_max: 20\n").expect("it is read");
    drop(config);
    node.hears("http.page_max: 10 -> 20");
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(0), "{said:?}");

    fs::remove_file(&file).expect("it is there");
    let (node, file) = piped(&folder);
    node.signal("-HUP");
    let _config = read(&file);
    node.signal("-TERM");
    node.hears("it ends");
    node.signal("-TERM");
    let (status, said) = node.ends();
    assert_eq!(status.code(), Some(1), "{said:?}");
    assert!(said.iter().any(|line| line.contains("a second signal")), "{said:?}");
}
