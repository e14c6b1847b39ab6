//! The command `ringmain`.

use std::process::ExitCode;

use clap::Parser;
use ringmain::node::args::{Cli, Command};
use ringmain::node::{backup, bench, client, config, dlq, pipe, serve, store};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Publish(flags) => client::publish(&flags),
        Command::Tail(flags) => client::tail(&flags),
        Command::Health(flags) => client::health(&flags),
        Command::Services(flags) => client::services(&flags),
        Command::Rules(command) => client::rules(&command),
        Command::Replay(command) => client::replay(&command),
        Command::Config(command) => config::command::run(&command),
        Command::Pipe(flags) => pipe::run(&flags),
        Command::Store(command) => store::run(&command),
        Command::Backup(flags) => backup::run(&flags),
        Command::Restore(flags) => backup::run_restore(&flags),
        Command::Dlq(command) => dlq::run(&command),
        Command::Bench(flags) => bench::run(&flags),
    }
}
