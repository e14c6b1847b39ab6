//! The command `ringmain`.

use std::process::ExitCode;

use clap::Parser;
use ringmain::node::args::{Cli, Command};
use ringmain::node::{bench, config, dlq, pipe, serve, store};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Config(command) => config::command::run(&command),
        Command::Pipe(flags) => pipe::run(&flags),
        Command::Store(command) => store::run(&command),
        Command::Dlq(command) => dlq::run(&command),
        Command::Bench(flags) => bench::run(&flags),
    }
}
