//! The commands `ringmain config check` and `ringmain config show`.

use std::fmt::Write;
use std::process::ExitCode;

use super::super::args::{self, ShowConfig};
use super::super::serve;
use super::super::store::{ended, print};
use super::told::told;
use super::{Config, Origin};

/// Runs a command, and returns its exit code.
pub fn run(command: &args::Config) -> ExitCode {
    let (args::Config::Check(flags) | args::Config::Show(ShowConfig { node: flags, .. })) = command;
    match serve::builder(flags).build() {
        Ok(node) => {
            let text = match command {
                args::Config::Check(_) => checked(node.config()),
                args::Config::Show(show) => shown(node.config(), show),
            };
            ended(print(text.as_bytes()).map(|()| 0))
        }
        Err(error) => serve::wrong(&error),
    }
}

fn checked(config: &Config) -> String {
    let all = config.settings().count();
    let set = config.settings().filter(|(.., origin)| **origin != Origin::Default).count();
    let (watch, subscriptions, webhooks) =
        (config.watch().len(), config.subscriptions().len(), config.webhooks().len());
    format!(
        "valid: {set} of {all} settings are set, {subscriptions} subscriptions, {webhooks} webhooks, {watch} folders to watch\n"
    )
}

/// A line a setting: name, value and origin; then what is a list.
fn shown(config: &Config, show: &ShowConfig) -> String {
    if show.json {
        let mut all = told(config);
        if show.set
            && let Some(settings) = all["settings"].as_array_mut()
        {
            settings.retain(|setting| setting["origin"] != Origin::Default.to_string());
        }
        return format!("{all:#}\n");
    }
    let settings = config.settings().filter(|(.., origin)| !show.set || **origin != Origin::Default);
    let mut rows: Vec<[String; 3]> = settings
        .map(|(setting, value, origin)| [setting.path.to_owned(), value.to_string(), origin.to_string()])
        .collect();
    let list = |what: &str, value: String, more: String| [what.to_owned(), value, more];
    rows.extend(config.watch().iter().map(|folder| list("watch", folder.display().to_string(), String::new())));
    rows.extend(config.subscriptions().iter().map(|subscription| {
        list("events.subscriptions", subscription.event_type.to_string(), subscription.handlers.join(", "))
    }));
    rows.extend(
        config
            .webhooks()
            .iter()
            .map(|webhook| list("webhooks", webhook.name.clone(), webhook.secret_file.display().to_string())),
    );
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [names, values] = [width(0), width(1)];
    let mut text = String::new();
    for [name, value, origin] in &rows {
        let line = format!("{name:names$}  {value:values$}  {origin}");
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    }
    text
}
