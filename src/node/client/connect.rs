//! The way to a running node: where it is, who asks, and what its answers mean.

use std::convert::Infallible;
use std::env;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::{Request, Uri};
use ureq::{Agent, Body};

use super::super::config::settings::HTTP_LISTEN;
use super::super::store::Failure;

/// The environment's say, under the flags.
const URL: &str = "RINGMAIN_URL";
const TOKEN: &str = "RINGMAIN_TOKEN";
/// How long a connection may take to be there.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// An answer that is longer is not read: pages have `http.page_bytes_max`, 1 GiB at most.
const ANSWER_BYTES_MAX: u64 = (1 << 30) + (1 << 20);
/// What stands for itself in a part of an address.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which node is asked, and by whom.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Ask the node at URL, http:// or https:// with a host and a port [default: RINGMAIN_URL, else where `ringmain serve` listens]
    #[arg(long, global = true, value_name = "URL", value_parser = url)]
    pub url: Option<String>,

    /// Come in with TOKEN, which others see in the list of processes: rather use --token-file, or RINGMAIN_TOKEN
    #[arg(long, global = true, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<Token>,

    /// Come in with the token that is in FILE
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Wait at most so many seconds for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// A store in a folder, or a node that runs.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("place").args(["data", "url"]).required(true)))]
pub struct Where {
    /// The folder of the store; no other process may have it open
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// A token, which is never shown.
#[derive(Clone)]
pub struct Token(String);

impl FromStr for Token {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A URL of a node, without a slash at its end.
fn url(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no URL of a node; it is http:// or https:// and a host, as {}", default_url());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_port = |authority: &str| {
        authority.rsplit(':').next().is_some_and(|port| port.ends_with(']') || port.parse::<u16>().is_ok())
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // What would be shown in errors, or taken for another port or for no part of it.
    let is_clear = !text.contains(['@', '#', '?']) && (!authority.contains(':') || has_port(authority));
    if !is_known || uri.host().is_none_or(str::is_empty) || !is_clear {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Where `ringmain serve` listens when nobody says otherwise.
fn default_url() -> String {
    format!("http://{}", HTTP_LISTEN.default)
}

/// A text as a part of an address.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

/// What stands behind the question mark: those that have a value.
pub(super) fn query<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let pairs = pairs.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A node that can be asked.
pub(super) struct Connection {
    agent: Agent,
    pub(super) url: String,
    token: Option<Token>,
    pub(super) timeout: Duration,
}

impl Connection {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The token cannot be read, or the URL of the environment is none.
    pub(super) fn open(remote: &Remote) -> Result<Self, Failure> {
        let url = match (&remote.url, env::var(URL)) {
            (Some(given), _) => given.clone(),
            (None, Ok(text)) => url(&text).map_err(|wrong| Failure::Said(format!("{URL}: {wrong}")))?,
            (None, Err(_)) => default_url(),
        };
        let token = match (&remote.token, &remote.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => {
                let name = file.display();
                let text = fs::read_to_string(file)
                    .map_err(|error| Failure::Said(format!("the token in {name} cannot be read: {error}")))?;
                let Ok(token) = text.parse();
                Some(token)
            }
            (None, None) => env::var(TOKEN).ok().map(|text| {
                let Ok(token) = text.parse();
                token
            }),
        };
        let timeout = Duration::from_secs(remote.timeout);
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX.min(timeout)))
            .timeout_resolve(Some(timeout))
            .timeout_send_request(Some(timeout))
            .timeout_send_body(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_recv_body(Some(timeout))
            .http_status_as_error(false)
            // A token for one is not for another, and neither for who stands between.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("ringmain/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: agent.into(), url, token, timeout })
    }

    /// How whoever asks says who they are, if they do.
    pub(super) fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|Token(token)| format!("Bearer {token}"))
    }

    /// The answer to a question, which has to be one.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.done(self.ask("GET", path, None)?)
    }

    /// The answer to something that is done there, which has to be done.
    pub(super) fn does(&self, method: &str, path: &str, body: &Value) -> Result<Answer, Failure> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.done(self.ask(method, path, Some(&body))?)
    }

    /// The answer, whatever it is. A body is JSON.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, Failure> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let request = match self.authorization() {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        };
        let response = match body.filter(|body| !body.is_empty()) {
            None => request.body(()).map(|request| self.agent.run(request)),
            Some(body) => {
                request.header("content-type", "application/json").body(body).map(|request| self.agent.run(request))
            }
        };
        let response =
            response.map_err(|error| Failure::Said(format!("this cannot be sent to {}: {error}", self.url)))?;
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let link = response.headers().get("link").and_then(|link| link.to_str().ok());
        let next = link.and_then(|link| link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")).map(str::to_owned);
        let status = response.status().as_u16();
        let body = text(response.body_mut()).map_err(|error| self.unreachable(&error))?;
        Ok(Answer { status, next, body })
    }

    /// The answer, which has to say that it is done.
    pub(super) fn done(&self, answer: Answer) -> Result<Answer, Failure> {
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    /// What a node says that does not do it.
    pub(super) fn refused(&self, answer: &Answer) -> Failure {
        let Some(problem) = answer.problem() else {
            let (url, status) = (&self.url, answer.status);
            return Failure::Said(format!(
                "{url} answered with status {status}, and not as a node does; see whether the URL is right"
            ));
        };
        let mut said = format!("{}: {}", self.url, problem.detail);
        for error in &problem.errors {
            said += &format!("\n  {error}");
        }
        if answer.status == 401 {
            said += "; give one with --token-file, or in RINGMAIN_TOKEN";
        }
        Failure::Said(said)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let url = &self.url;
        let nobody = |why: &dyn fmt::Display| Failure::Said(self.nobody(why));
        match error {
            ureq::Error::Io(error) if is_nobody(error) => nobody(error),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => nobody(error),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => nobody(error),
            ureq::Error::Timeout(_) => {
                let seconds = self.timeout.as_secs();
                Failure::Said(format!("{url} has not answered in {seconds} s; --timeout waits longer"))
            }
            error => Failure::Said(format!("{url}: the connection broke before the answer was there: {error}")),
        }
    }

    /// That no node is there.
    pub(super) fn nobody(&self, why: &dyn fmt::Display) -> String {
        format!("no node answers at {} ({why}); `ringmain serve` starts one, --url names another", self.url)
    }
}

/// Whether an error of a connection means that there is nobody.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable
    )
}

fn text(body: &mut Body) -> Result<String, ureq::Error> {
    body.with_config().limit(ANSWER_BYTES_MAX).read_to_string()
}

/// What a node answers.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The path of the next page.
    pub(super) next: Option<String>,
    pub(super) body: String,
}

/// Why a node does not do it.
pub(super) struct Problem {
    /// Its word, as `conflict`.
    pub(super) kind: String,
    pub(super) detail: String,
    /// What is wrong in detail, a text each.
    errors: Vec<String>,
}

impl Answer {
    /// The body as any JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        self.read()
    }

    /// The body as what it should be.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|error| {
            Failure::Said(format!(
                "the answer is not what a node says ({error}); see whether the URL is that of a node"
            ))
        })
    }

    /// What is wrong, where the node says so.
    pub(super) fn problem(&self) -> Option<Problem> {
        let problem: Value = serde_json::from_str(&self.body).ok()?;
        let kind = problem["type"].as_str()?.strip_prefix("urn:ringmain:problem:")?.to_owned();
        let detail = problem["detail"].as_str()?.to_owned();
        let error = |error: &Value| {
            let said = error.as_str().or_else(|| error["detail"].as_str());
            said.map_or_else(|| error.to_string(), str::to_owned)
        };
        let errors = problem["errors"].as_array().map_or(Vec::new(), |errors| errors.iter().map(error).collect());
        Some(Problem { kind, detail, errors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_that_of_a_host_and_loses_its_last_slash() {
        assert_eq!(url("http://127.0.0.1:8080/").as_deref(), Ok("http://127.0.0.1:8080"));
        assert_eq!(url("https://bus.example/ring").as_deref(), Ok("https://bus.example/ring"));
        assert_eq!(url("http://[::1]").as_deref(), Ok("http://[::1]"));
        assert_eq!(url("http://[::1]:80").as_deref(), Ok("http://[::1]:80"));
        let unclear =
            ["http://x:80800", "http://x:8O80", "http://x:", "http://ada:secret@x", "http://x#a", "http://x?a=b"];
        for wrong in ["127.0.0.1:8080", "localhost", "ftp://x", "http://", ""].into_iter().chain(unclear) {
            let said = url(wrong).expect_err(wrong);
            assert!(said.contains(&format!("{wrong:?}")) && said.contains("http://127.0.0.1:8080"), "{said}");
        }
    }

    #[test]
    fn a_query_has_what_has_a_value_and_every_character_survives() {
        assert_eq!(query([("type", None), ("after", None)]), "");
        assert_eq!(
            query([("type", Some("orders.**".to_owned())), ("after", None), ("source", Some("a&b=c d/é".to_owned()))]),
            "?type=orders.%2A%2A&source=a%26b%3Dc%20d%2F%C3%A9"
        );
    }

    #[test]
    fn a_token_is_never_shown() {
        let Ok(token) = " secret\n".parse::<Token>();
        assert_eq!((format!("{token:?}"), &*token.0), ("Token(..)".to_owned(), "secret"));
    }
}
