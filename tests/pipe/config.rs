//! What `ringmain config` promises: a configuration is shown, and all that is wrong with it, and nothing is begun.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Run;
use crate::folder::Folder;
use crate::store::run;

/// `ringmain config` in a folder, with these words and nothing set in the environment but `environment`.
fn config(folder: &Folder, words: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    program.arg("config").args(words).current_dir(&folder.0).env_clear().envs(environment.iter().copied());
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    run(program, "")
}

const FILE: &str = "
events:
  bus:
    workers: 2
  subscriptions:
    - event_type: orders.*
      handlers: [notifier, audit_logger]
http:
  page_max: 50
";

#[test]
fn each_setting_is_shown_with_who_said_so() {
    let folder = Folder::new("config-show");
    let path = folder.0.join("ringmain.yaml");
    fs::write(&path, FILE).unwrap();
    let file = path.to_str().unwrap();
    let flags = ["--config", file, "--listen", "127.0.0.1:0", "--watch", "in"];
    let environment = [("RINGMAIN_HTTP_PAGE_MAX", "60")];
    let shown = config(&folder, &[&["show", "--set"][..], &flags].concat(), &environment);
    assert_eq!(shown.code(), Some(0), "{}", shown.stderr);
    let lines: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let of_file = format!("{file}:4:14");
    for line in [
        ["events.bus.workers", "2", of_file.as_str()].as_slice(),
        &["http.listen", "127.0.0.1:0", "flag", "--listen"],
        &["http.page_max", "60", "environment", "RINGMAIN_HTTP_PAGE_MAX"],
        &["watch", "in"],
        &["events.subscriptions", "orders.*", "notifier,", "audit_logger"],
    ] {
        assert!(lines.iter().any(|other| other == line), "{line:?} is not in\n{}", shown.stdout);
    }
    assert_eq!(lines.len(), 5, "and no more was set\n{}", shown.stdout);

    let all: Value = serde_json::from_str(&config(&folder, &["show", "--json"], &[]).stdout).unwrap();
    let settings = all["settings"].as_array().unwrap();
    assert!(settings.len() > 50 && settings.iter().all(|setting| setting["origin"] == "default"));
    let page = settings.iter().find(|setting| setting["name"] == "http.page_max").unwrap();
    assert_eq!((&page["value"], &page["default"]), (&"1000".into(), &"1000".into()));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is begun");
}

#[test]
fn all_that_is_wrong_is_said_with_its_place() {
    let folder = Folder::new("config-check");
    let path = folder.0.join("ringmain.yaml");
    fs::write(&path, FILE).unwrap();
    let file = path.to_str().unwrap();
    let checked = config(&folder, &["check", "--config", file], &[]);
    assert_eq!((checked.code(), checked.stderr.as_str()), (Some(0), ""));
    assert!(checked.stdout.starts_with("valid: 2 of "), "{}", checked.stdout);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is begun");

    fs::write(&path, FILE.replace("workers: 2", "workers: many").replace("page_max: 50", "pages_max: 50")).unwrap();
    for command in ["check", "show"] {
        let wrong = config(
            &folder,
            &[command, "--config", file, "--listen", "here"],
            &[("RINGMAIN_CORE_MAX_SERVICES", "none")],
        );
        assert_eq!((wrong.code(), wrong.stdout.as_str()), (Some(2), ""));
        let faults: Vec<_> = wrong.stderr.lines().collect();
        let [file_4, file_9] = [4, 9].map(|line| format!("ringmain: {file}:{line}:"));
        for (fault, begin) in
            faults.iter().zip([&*file_4, &*file_9, "ringmain: environment RINGMAIN_CORE", "ringmain: flag --listen"])
        {
            assert!(fault.starts_with(begin), "{begin} is not the begin of {fault}");
        }
        assert_eq!(faults.len(), 4, "{}", wrong.stderr);
        assert!(faults[1].contains("did you mean http.page_max?"), "{}", faults[1]);
    }
}
