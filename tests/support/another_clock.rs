//! A real wall clock that is set while a process runs: libfaketime gives it another one.
//!
//! A module of each test binary that needs it, by path, beside `alone`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::alone::alone_with;
use crate::proof::say;

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let folders = folders.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

/// Sets the wall clock of the process that goes by this file, by as much as libfaketime reads in `step`.
pub(crate) fn set(file: &Path, step: &str) {
    fs::write(file, format!("{step}\n")).unwrap();
}

/// Runs `body` in a process of its own whose wall clock goes by a file; `step` is what it begins with. The monotonic clock goes on, as
/// it does with an administrator.
#[track_caller]
pub(crate) fn under_another_clock(test: &str, step: &str, environment: &[(&str, &str)], body: impl FnOnce(&Path)) {
    let Some(library) = library() else {
        return say("faketime: SKIP, there is no libfaketime; ci/setup installs it");
    };
    let file = std::env::temp_dir().join(format!("ringmain-clock-{}-{}", test.replace(':', "-"), std::process::id()));
    let inherited = std::env::var("FAKETIME_TIMESTAMP_FILE").ok();
    let is_ours = inherited.is_none();
    let file = inherited.map_or(file, PathBuf::from);
    if is_ours {
        set(&file, step);
    }
    let mut all = vec![
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    all.extend_from_slice(environment);
    alone_with(test, &all, || body(&file));
    if is_ours {
        let _ = fs::remove_file(&file);
    }
}
