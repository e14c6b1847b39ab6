//! The command `ringmain`.

use std::process::ExitCode;

use clap::Parser;
use ringmain::node::args::{Cli, Command};
use ringmain::node::{bench, pipe, store};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Pipe(flags) => pipe::run(&flags),
        Command::Store(command) => store::run(&command),
        Command::Bench(flags) => bench::run(&flags),
    }
}
