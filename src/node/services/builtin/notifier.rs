//! Tells people of events: a line in the log, and a CloudEvent to a URL.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::super::health::Health;
use super::super::super::passage::{self, LastHop};
use super::super::{Service, Work};
use super::post::{PostError, PostTarget, Poster};
use crate::{Delivery, Outcome, Pattern};

/// Characters of data that a line of the log shows.
const SHOWN: usize = 200;

/// Takes a line of the log.
pub type LogLine = Arc<dyn Fn(&str) + Send + Sync>;

/// Writes lines to stderr.
pub fn to_stderr() -> LogLine {
    Arc::new(|line| eprintln!("{line}"))
}

/// Who is told, and how.
#[derive(Clone)]
pub struct NotifierOptions {
    /// The name of the service. Default `notifier`.
    pub name: String,
    /// Takes a line for each event. Default [`to_stderr`].
    pub log: Option<LogLine>,
    /// Gets each event as CloudEvents JSON. Default none.
    pub webhook: Option<PostTarget>,
}

impl Default for NotifierOptions {
    fn default() -> Self {
        Self { name: "notifier".to_owned(), log: Some(to_stderr()), webhook: None }
    }
}

impl fmt::Debug for NotifierOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, log, webhook } = self;
        let has_log = log.is_some();
        f.debug_struct("NotifierOptions").field("name", name).field("log", &has_log).field("webhook", webhook).finish()
    }
}

/// Tells people of the events of its subscriptions, one after the other. What a URL does not take in its attempts is rejected, and so
/// a dead letter under reliable delivery. The bus never waits for it: its events wait in the mailbox of its subscription.
#[derive(Debug)]
pub struct Notifier {
    options: NotifierOptions,
    poster: Option<Poster>,
    /// Notifications that were given up since the last that arrived, and why the last of them.
    failing: Mutex<Option<(u64, String)>>,
}

impl Notifier {
    /// Tells whom the options name.
    ///
    /// # Errors
    /// [`PostError::Url`].
    pub fn new(options: NotifierOptions) -> Result<Self, PostError> {
        let poster = options.webhook.clone().map(Poster::new).transpose()?;
        Ok(Self { options, poster, failing: Mutex::new(None) })
    }

    fn failing(&self) -> MutexGuard<'_, Option<(u64, String)>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, event: &Delivery<Pattern>) -> Outcome {
        if let Some(log) = &self.options.log {
            log(&line(event));
        }
        let Some(poster) = &self.poster else { return Outcome::Ack };
        let mut body = Vec::new();
        passage::write_line(&event.meta(), LastHop::Nothing, &mut body);
        let sent = poster.post("application/cloudevents+json", body).await;
        let mut failing = self.failing();
        match sent {
            Ok(()) => {
                *failing = None;
                Outcome::Ack
            }
            Err(error) => {
                let before = failing.as_ref().map_or(0, |(events, _)| *events);
                *failing = Some((before + 1, error.to_string()));
                Outcome::Reject(error.to_string())
            }
        }
    }
}

/// `task.failed from scheduler: {"task_id":7}`. What others wrote is one line, and moves no cursor.
fn line(event: &Delivery<Pattern>) -> String {
    let meta = event.meta();
    let data = match event.payload().text() {
        Some(text) => match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        },
        None => format!("{} bytes", event.payload().bytes().len()),
    };
    format!("{} from {}: {data}", meta.topic(), meta.source()).replace(char::is_control, " ")
}

impl Service for Notifier {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn kind(&self) -> &str {
        "notifier"
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            match &*self.failing() {
                None => Health::Healthy,
                Some((events, reason)) => {
                    Health::Degraded(format!("{events} notifications in a row did not arrive: {reason}"))
                }
            }
        })
    }

    fn events_max(&self) -> usize {
        1
    }

    fn handle<'s>(&'s self, events: &'s [Delivery<Pattern>]) -> Work<'s, Outcome> {
        Box::pin(async move {
            for event in events {
                match self.tell(event).await {
                    Outcome::Ack => {}
                    other => return other,
                }
            }
            Outcome::Ack
        })
    }
}
