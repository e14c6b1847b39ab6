//! Tells the program what it was compiled with, as counts hold for one compiler and one target only.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").expect("cargo names the compiler");
    let version = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    println!("cargo::rustc-env=COMPILED_BY={}", String::from_utf8_lossy(&version.stdout).trim());

    let target = env::var("TARGET").expect("cargo names the target");
    // The processor's name alone is not enough: `native` is another one on each machine.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let cpu = flags.split("target-cpu=").nth(1).map_or("default", |rest| rest.split('\x1f').next().unwrap_or(rest));
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    println!("cargo::rustc-env=COMPILED_FOR={target}, cpu {cpu}, features {features}");
}
