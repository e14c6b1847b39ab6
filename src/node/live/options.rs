//! How live streams are served.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::super::config::{Config, settings as names};
use super::super::http::{Kind, Problem};

/// Where a page that asks is from, seen from what it asks: `same-origin`, `same-site`, `cross-site`, or `none` where it is the user.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What it asks for; `navigate` is a page, in the place of the one that asks.
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// What becomes of a client that is slower than the events it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Slow {
    /// It misses nothing: it reads on in the store where it was.
    #[default]
    Spill,
    /// Of what waits for it, it gets the newest event of each key, and how many it did not get. A key is a type, together with the
    /// aggregate or else the subject of the event.
    Conflate,
    /// It is closed once it is further behind than the window, and resumes where it was.
    Close,
}

impl Slow {
    /// Its word: `spill`, `conflate`, `close`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spill => "spill",
            Self::Conflate => "conflate",
            Self::Close => "close",
        }
    }
}

impl FromStr for Slow {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Spill, Self::Conflate, Self::Close]
            .into_iter()
            .find(|slow| slow.as_str() == word)
            .ok_or("it is one of spill, conflate, close")
    }
}

/// Which web pages may come in. A program that is no browser sends neither `Origin` nor `Sec-Fetch-Site`, and may.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages that this node has served: their origin is the host that was asked.
    #[default]
    Same,
    /// Those that a function of the origin accepts, as `https://example.org`.
    Accepted(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl Origins {
    /// A page of another site that is open in a browser on this machine must not reach the node.
    pub(in super::super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.accept(headers) {
            return Ok(());
        }
        let text = |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()));
        let origin = text(header::ORIGIN).or_else(|| text(SITE)).unwrap_or_default();
        Err(Problem::new(Kind::Foreign, format!("pages of {origin:?} may not come in here")))
    }

    fn accept(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            // Of requests that pages make without saying whose they are, browsers say this. Who follows a link shows nothing of the answer
            // to the page that has it.
            let is_own = |site: &HeaderValue| site == "same-origin" || site == "none";
            return headers.get_all(SITE).iter().all(is_own)
                || headers.get(MODE).is_some_and(|mode| mode == "navigate");
        };
        let (Ok(origin), None) = (origin.to_str(), origins.next()) else { return false };
        match self {
            Self::Same => {
                let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                authority.is_some_and(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)))
            }
            Self::Accepted(accepts) => accepts(origin),
        }
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "Same",
            Self::Accepted(_) => "Accepted",
        })
    }
}

/// How live streams are served.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// Clients at one time, of both kinds of stream; one more is refused with 503. Default 1,024.
    pub clients_max: usize,
    /// Patterns that a client has at one time. Default 64.
    pub patterns_max: usize,
    /// Bytes of a message from a client; a longer one closes it with 1009. Default 64 KiB.
    pub message_bytes_max: usize,
    /// Newest events that are kept for all clients together: how far one may be behind before it is slow. Default 8,192.
    pub window_events: usize,
    /// Bytes that they may take, with what they are encoded to. Default 32 MiB.
    pub window_bytes: usize,
    /// What becomes of slow clients that do not say it themselves. Default [`Slow::Spill`].
    pub slow: Slow,
    /// Keys that a conflated client has waiting for it; beyond it the oldest are left out, and counted. Default 1,024.
    pub conflate_keys_max: usize,
    /// Bytes that these may take, with what they are encoded to; the newest stays. Default 4 MiB.
    pub conflate_bytes_max: usize,
    /// Events that a reliable client has before it acknowledges some. Default 1,000.
    pub unacked_max: usize,
    /// Names that reliable clients of one token have: each has a cursor in the store, which keeps the events behind it. Default 256.
    pub names_max: usize,
    /// How long a client may be silent before it is asked whether it is there. Default 20 s.
    pub ping_every: Duration,
    /// How long it may take to answer, or to read what was sent. Default 20 s.
    pub answer_max: Duration,
    /// How long a client that is closed may take to read why. Default 5 s.
    pub close_max: Duration,
    /// How long events are gathered behind one that was sent at once. Default 500 µs.
    pub gather: Duration,
    /// Clients that read history in the store at one time. Default 4.
    pub readers_max: usize,
    /// Which web pages may come in. Default [`Origins::Same`].
    pub origins: Origins,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            clients_max: 1_024,
            patterns_max: 64,
            message_bytes_max: 64 << 10,
            window_events: 8_192,
            window_bytes: 32 << 20,
            slow: Slow::default(),
            conflate_keys_max: 1_024,
            conflate_bytes_max: 4 << 20,
            unacked_max: 1_000,
            names_max: 256,
            ping_every: Duration::from_secs(20),
            answer_max: Duration::from_secs(20),
            close_max: Duration::from_secs(5),
            gather: Duration::from_micros(500),
            readers_max: 4,
            origins: Origins::default(),
        }
    }
}

impl LiveOptions {
    /// As a node is configured.
    pub(in super::super) fn of(config: &Config) -> Self {
        let number = |setting| config.number(setting).and_then(|number| usize::try_from(number).ok());
        let number = |setting| number(setting).expect("it has a default, and a limit");
        let time = |setting| config.time(setting).expect("it has a default");
        Self {
            clients_max: number(&names::LIVE_CLIENTS_MAX),
            patterns_max: number(&names::LIVE_PATTERNS_MAX),
            message_bytes_max: number(&names::LIVE_MESSAGE_BYTES_MAX),
            window_events: number(&names::LIVE_WINDOW_EVENTS),
            window_bytes: number(&names::LIVE_WINDOW_BYTES),
            slow: config.text(&names::LIVE_SLOW).and_then(|word| word.parse().ok()).unwrap_or_default(),
            conflate_keys_max: number(&names::LIVE_CONFLATE_KEYS_MAX),
            conflate_bytes_max: number(&names::LIVE_CONFLATE_BYTES_MAX),
            unacked_max: number(&names::LIVE_UNACKED_MAX),
            names_max: number(&names::LIVE_NAMES_MAX),
            ping_every: time(&names::LIVE_PING_EVERY),
            answer_max: time(&names::LIVE_ANSWER_MAX),
            close_max: time(&names::LIVE_CLOSE_MAX),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::config::Sources;
    use super::*;

    #[test]
    fn the_settings_have_the_same_defaults() {
        let config = Sources::default().load().expect("defaults are no fault");
        assert_eq!(format!("{:?}", LiveOptions::of(&config)), format!("{:?}", LiveOptions::default()));
    }

    fn headers(lines: &[(header::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_page_of_another_host_is_refused() {
        let host = (header::HOST, "127.0.0.1:8080");
        for (origin, may) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:8081", false),
            ("http://127.0.0.1", false),
            ("http://127.0.0.1:8080.example.org", false),
            ("https://example.org", false),
            ("null", false),
            ("", false),
        ] {
            let headers = headers(&[host.clone(), (header::ORIGIN, origin)]);
            assert_eq!(Origins::Same.accept(&headers), may, "{origin}");
        }
        assert!(Origins::Same.accept(&headers(std::slice::from_ref(&host))), "no page");
        let two = headers(&[host, (header::ORIGIN, "http://127.0.0.1:8080"), (header::ORIGIN, "https://example.org")]);
        assert!(!Origins::Same.accept(&two), "two origins");
        for (site, may) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            let headers = headers(&[(header::HOST, "127.0.0.1:8080"), (SITE, site)]);
            assert_eq!(Origins::Same.accept(&headers), may, "{site}");
        }
        let link = headers(&[(header::HOST, "127.0.0.1:8080"), (SITE, "cross-site"), (MODE, "navigate")]);
        assert!(Origins::Same.accept(&link), "somebody follows a link");
        assert!(!Origins::Same.accept(&headers(&[(header::ORIGIN, "http://127.0.0.1:8080")])), "no host");
    }

    #[test]
    fn a_function_decides_where_there_is_one() {
        let accepted = Origins::Accepted(Arc::new(|origin| origin == "https://example.org"));
        assert!(accepted.accept(&headers(&[(header::ORIGIN, "https://example.org")])));
        assert!(!accepted.accept(&headers(&[(header::ORIGIN, "https://example.com")])));
    }

    #[test]
    fn every_word_is_read_back() {
        for slow in [Slow::Spill, Slow::Conflate, Slow::Close] {
            assert_eq!(slow.as_str().parse(), Ok(slow));
        }
        assert!("Spill".parse::<Slow>().is_err());
    }
}
