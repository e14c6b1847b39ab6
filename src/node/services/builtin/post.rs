//! Sends what the node has to say to a URL: signed, tried again after a growing wait, given up after a number of attempts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use ureq::Agent;

use super::signature::{SIGNATURE_HEADER, Secret};

/// A URL, and how hard it is tried.
#[derive(Clone, PartialEq, Eq)]
pub struct PostTarget {
    /// Where: `http://` or `https://`. It may hold a secret, so only its host is ever said.
    pub url: String,
    /// Signs the body: [`SIGNATURE_HEADER`]. Default none.
    pub secret: Option<Secret>,
    /// How long an attempt may take. Default 5 s.
    pub timeout: Duration,
    /// Attempts. Default 4.
    pub attempts_max: u32,
    /// The wait after the first that fails, doubled each time. Default 250 ms.
    pub backoff: Duration,
    /// The longest wait, also where the other side asks for one. Default 30 s.
    pub backoff_max: Duration,
}

impl PostTarget {
    /// The defaults, for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            secret: None,
            timeout: Duration::from_secs(5),
            attempts_max: 4,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
        }
    }

    /// The host of the URL, with its port.
    fn host(&self) -> Option<&str> {
        let rest = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"))?;
        let authority = rest.split(['/', '?', '#']).next()?;
        // Who is named before the host may have a password there.
        let host = authority.rsplit('@').next()?;
        (!host.is_empty()).then_some(host)
    }
}

impl fmt::Debug for PostTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostTarget").field("host", &self.host()).finish_non_exhaustive()
    }
}

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostError {
    /// That is no URL that can be posted to.
    Url,
    /// The other side refused it, and would again.
    Refused {
        /// Who.
        host: String,
        /// The status of its answer.
        status: u16,
    },
    /// It did not arrive in any attempt.
    GivenUp {
        /// Where.
        host: String,
        /// How many there were.
        attempts: u32,
        /// What the last one came to.
        reason: String,
    },
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("a webhook is a URL that begins with http:// or https:// and names a host"),
            Self::Refused { host, status } => {
                write!(f, "{host} refused it with status {status}; see whether URL and secret are right")
            }
            Self::GivenUp { host, attempts, reason } => {
                write!(f, "{host} did not take it in {attempts} attempts: {reason}")
            }
        }
    }
}

impl Error for PostError {}

/// What came of an attempt.
enum Attempt {
    Taken,
    Refused(u16),
    /// Why, and for how long the other side asks to be left alone.
    Again(String, Option<Duration>),
}

/// Posts to one URL. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Poster {
    target: PostTarget,
    host: String,
    agent: Agent,
}

impl Poster {
    /// Posts there.
    ///
    /// # Errors
    /// [`PostError::Url`].
    pub fn new(target: PostTarget) -> Result<Self, PostError> {
        let host = target.host().ok_or(PostError::Url)?.to_owned();
        let agent = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            // What is signed for one is not for another.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("ringmain")
            .build();
        Ok(Self { target, host, agent: agent.into() })
    }

    /// The host it posts to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a body, and returns when it was taken or given up. What is dropped meanwhile is not tried again.
    ///
    /// # Errors
    /// See [`PostError`].
    pub async fn post(&self, content_type: &'static str, body: Vec<u8>) -> Result<(), PostError> {
        let attempts_max = self.target.attempts_max.max(1);
        let mut wait = self.target.backoff;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (this, sent) = (self.clone(), body.clone());
            let attempt = tokio::task::spawn_blocking(move || this.attempt(content_type, &sent)).await;
            let attempt = attempt.unwrap_or_else(|error| Attempt::Again(error.to_string(), None));
            let (reason, asked) = match attempt {
                Attempt::Taken => return Ok(()),
                Attempt::Refused(status) => return Err(PostError::Refused { host: self.host.clone(), status }),
                Attempt::Again(reason, asked) => (reason, asked),
            };
            if attempts == attempts_max {
                return Err(PostError::GivenUp { host: self.host.clone(), attempts, reason });
            }
            tokio::time::sleep(asked.unwrap_or(wait).min(self.target.backoff_max)).await;
            wait = wait.saturating_mul(2);
        }
    }

    fn attempt(&self, content_type: &str, body: &[u8]) -> Attempt {
        let mut request = self.agent.post(&self.target.url).header("content-type", content_type);
        if let Some(secret) = &self.target.secret {
            request = request.header(SIGNATURE_HEADER, secret.sign(body));
        }
        let answer = match request.send(body) {
            Ok(answer) => answer,
            Err(error) => return Attempt::Again(error.to_string(), None),
        };
        match answer.status().as_u16() {
            200..=299 => Attempt::Taken,
            status @ (408 | 425 | 429 | 500..) => {
                let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                Attempt::Again(format!("status {status}"), asked.map(Duration::from_secs))
            }
            status => Attempt::Refused(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_a_url_is_said() {
        let host = |url: &str| PostTarget::new(url).host().map(str::to_owned);
        assert_eq!(host("https://user:secret@hooks.test:8443/T0/B0/token?key=1").as_deref(), Some("hooks.test:8443"));
        assert_eq!(host("http://127.0.0.1:1#x").as_deref(), Some("127.0.0.1:1"));
        for wrong in ["ftp://x", "hooks.test", "https://", "http:///path", ""] {
            assert!(matches!(Poster::new(PostTarget::new(wrong)), Err(PostError::Url)), "{wrong}");
        }
    }
}
