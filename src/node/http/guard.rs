//! Who comes in: from where, how often, and with what.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};
use super::tokens::Caller;
use super::{App, Shared};
use crate::node::config::settings::HTTP_RATE_MAX;

/// Addresses whose rates are known at one time.
const ADDRESSES_MAX: usize = 10_000;

/// Who is on the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What somebody needs for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: it tells nothing of the events.
    Nothing,
    /// Any token: the handler looks what it may.
    Token,
    /// To be an admin.
    Admin,
}

fn need(method: &Method, path: &str) -> Need {
    match path {
        "/health/live" | "/health/ready" | "/openapi.json" | "/asyncapi.json" => Need::Nothing,
        // It asks for the rest with the token that it is given.
        path if path == "/" || path.starts_with("/page/") => Need::Nothing,
        // Signed by who sends it.
        path if path.starts_with("/v1/webhooks/") => Need::Nothing,
        "/v1/events" | "/v1/events/live" | "/v1/events/stream" => Need::Token,
        "/metrics" if method == Method::GET => Need::Token,
        _ => Need::Admin,
    }
}

/// Looks at each request before its handler does.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let response = match app.caller(&request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(kind) = response.extensions().get() {
        app.counts.problem(*kind);
    }
    response
}

impl Shared {
    /// Whoever asks, if they may come in.
    fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        self.check_host(request.headers())?;
        self.live.origins().check(request.headers())?;
        let address = request.extensions().get::<Peer>().map(|Peer(address)| address.ip());
        if let (Some(max), Some(address)) = (self.core.config().number(&HTTP_RATE_MAX), address) {
            self.rates.take(address, max as f64, Instant::now())?;
        }
        let need = need(request.method(), request.uri().path());
        let Some(tokens) = self.tokens.as_ref().filter(|_| need != Need::Nothing) else { return Ok(Caller::Anyone) };
        let wanted = |detail| {
            let problem = Problem::new(Kind::Unauthorized, detail);
            problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ringmain\""))
        };
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or_else(|| wanted("send a token, as in `Authorization: Bearer TOKEN`"))?;
        let caller = tokens.find(token.trim()).ok_or_else(|| wanted("this token is not known"))?;
        if need == Need::Admin && !caller.is_admin() {
            return Err(Problem::new(Kind::Forbidden, "this token is not that of an admin"));
        }
        Ok(caller)
    }

    /// A page of another site must not reach the node by a name that it made to mean this machine.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        if self.tokens.is_none() && !host.is_none_or(is_this_machine) {
            let detail =
                format!("{:?} is no name of this machine; ask 127.0.0.1 or localhost", host.unwrap_or_default());
            return Err(Problem::new(Kind::Foreign, detail));
        }
        Ok(())
    }
}

/// Whether a host, perhaps with a port, is this machine by whatever name server.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// How often addresses come in.
#[derive(Default)]
pub(super) struct Rates(Mutex<HashMap<IpAddr, Bucket>>);

/// Requests that are left, and when that was counted.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn at(self, now: Instant, rate: f64) -> Self {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        Self { left: (self.left + since * rate).min(2.0 * rate), at: now }
    }
}

impl Rates {
    fn take(&self, address: IpAddr, rate: f64, now: Instant) -> Result<(), Problem> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            // Who has not come for a while begins anew anyhow.
            buckets.retain(|_, bucket| bucket.at(now, rate).left < 2.0 * rate);
            if buckets.len() >= ADDRESSES_MAX {
                return Err(Problem::new(Kind::TooMany, "too many addresses come in at once; try again later"));
            }
        }
        let full = Bucket { left: 2.0 * rate, at: now };
        let bucket = buckets.entry(address).or_insert(full);
        *bucket = bucket.at(now, rate);
        if bucket.left < 1.0 {
            let seconds = ((1.0 - bucket.left) / rate).ceil().max(1.0) as u64;
            let detail = format!("this address may send {rate} requests a second; try again in {seconds} s");
            return Err(Problem::new(Kind::TooMany, detail).header(header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_has_its_rate_twice_at_once_and_no_other_pays_for_it() {
        let (rates, begin) = (Rates::default(), Instant::now());
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let taken = (0..100).filter(|_| rates.take(one, 10.0, begin).is_ok()).count();
        assert_eq!(taken, 20);
        assert!(rates.take(other, 10.0, begin).is_ok());
        let later = begin + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| rates.take(one, 10.0, later).is_ok()).count(), 5);
    }

    #[test]
    fn no_more_addresses_are_known_than_there_is_room_for() {
        let (rates, begin) = (Rates::default(), Instant::now());
        for n in 0..ADDRESSES_MAX as u32 + 5 {
            let _ = rates.take(IpAddr::from(n.to_be_bytes()), 1.0, begin);
        }
        assert_eq!(rates.0.lock().expect("nobody panics").len(), ADDRESSES_MAX);
        assert!(rates.take(IpAddr::from([9, 9, 9, 9]), 1.0, begin + Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn this_machine_is_known_by_its_own_names_only() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", "[fe80::1]:80", "localhost.evil"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
