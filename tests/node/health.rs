//! How the store is, said to who restarts the node and who sends it work.

#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};

use serde_json::json;

use crate::Node;
use crate::folder::Folder;

/// The system is to refuse it every write from some moment on, which ends no process that hears nothing of that.
#[cfg(target_os = "linux")]
#[test]
fn a_store_that_could_not_write_is_unhealthy_and_the_node_not_ready() {
    let folder = Folder::new("node-health");
    let mut command = Command::new("/bin/sh");
    command.env_clear().args(["-c", r#"trap '' XFSZ && exec "$@""#, "sh", env!("CARGO_BIN_EXE_ringmain")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&folder.0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let node = Node::run(command);
    node.publish(&json!([{"type": "a", "data": 7}]));
    assert_eq!(node.get("/health/ready").status, 200);
    let pid = node.child.id().to_string();
    let limited = Command::new("prlimit").args(["--fsize=1", "--pid", &pid]).status().expect("there is prlimit");
    assert!(limited.success());
    let refused = node.send("/v1/events", "application/json", r#"{"type":"a","data":8}"#);
    assert!(refused.status >= 500, "{}", refused.body);
    let ready = node.get("/health/ready");
    let said = ready.json();
    assert_eq!((ready.status, &said["status"], &said["health"]), (503, &json!("not ready"), &json!("unhealthy")));
    assert_eq!(said["store"]["health"], "unhealthy");
    let reason = said["store"]["reason"].as_str().expect("it says why");
    assert!(reason.contains("File too large") && reason.contains("start the node again"), "{reason}");
    assert!(!reason.contains(&folder.0.display().to_string()), "whoever asks need not know where: {reason}");
    drop(node);

    let node = Node::start(&folder.0, &[]);
    assert_eq!(node.data("a"), [7]);
    let ready = node.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["store"]), (200, &json!({"health": "healthy", "reason": null})));
    node.stop();
}
