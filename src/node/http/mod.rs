//! The interface over HTTP: events in and out, and everything that can be seen and done from outside.
//!
//! ```text
//!   listener ──► connection, bounded ──► guard: origin, rate, token ──► router ──► handler ──► core
//!                  header timeout           │                             │          │
//!                                           └──────── problems (RFC 9457) ┴──────────┘
//! ```

mod answer;
mod body;
mod control;
mod counts;
mod events;
mod extract;
mod guard;
mod health;
mod incoming;
mod listing;
#[cfg(feature = "prometheus")]
mod metrics;
mod openapi;
mod overview;
mod page;
mod params;
mod patient;
mod problem;
mod query;
mod server;
mod tokens;
mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::routing::{MethodRouter, get, post, put};
use tokio::sync::Semaphore;

use self::control::{audit, config, leases, letters, replays, rules, services, subscriptions};
use self::counts::Counts;
use self::extract::blocking;
use self::guard::Rates;
pub(super) use self::incoming::said;
use self::listing::Listing;
pub(super) use self::problem::{Kind, Problem};
pub(super) use self::server::{Server, serve_streams};
pub(super) use self::tokens::Caller;
use self::tokens::Tokens;
use super::config::{Config as NodeConfig, settings as names};
use super::core::{Core, NodeError};
use super::live::Hub;

/// Which part of the memory for bodies those may take that anybody can send.
const UNSIGNED: usize = 4;

/// Where to listen, and to whom: checked before anything is opened.
pub(super) struct Door {
    address: SocketAddr,
    tokens: Option<Tokens>,
}

impl Door {
    /// # Errors
    /// When others than this machine could come in, and when the tokens cannot be read.
    pub(super) fn new(config: &NodeConfig) -> Result<Self, NodeError> {
        let address = config.address(&names::HTTP_LISTEN).expect("it has a default");
        let tokens = config.path(&names::HTTP_TOKEN_FILE).map(Tokens::read).transpose().map_err(NodeError::Tokens)?;
        if !address.ip().is_loopback() {
            let missing = match tokens {
                None => "it has no tokens (http.token_file) and no TLS",
                Some(_) => "it has tokens and no TLS, so they would be read on the way",
            };
            return Err(NodeError::Open { address, missing });
        }
        Ok(Self { address, tokens })
    }
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(super) struct App(Arc<Shared>);

pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    tokens: Option<Tokens>,
    rates: Rates,
    /// A place for each KiB of bodies that are held.
    bodies: Arc<Semaphore>,
    /// The same for bodies of which nobody knows yet who has sent them.
    unsigned: Arc<Semaphore>,
    /// Of queries that wait.
    waiting: Arc<Semaphore>,
    /// Of those who read in the store.
    reading: Arc<Semaphore>,
    counts: Arc<Counts>,
    pub(super) live: Arc<Hub>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    fn new(core: &Arc<Core>, tokens: Option<Tokens>, live: Arc<Hub>) -> Self {
        let config = core.config();
        let number =
            |setting| config.number(setting).and_then(|number| usize::try_from(number).ok()).expect("in range");
        let bodies = (number(&names::HTTP_BODIES_BYTES_MAX) >> 10).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            core: Arc::clone(core),
            tokens,
            rates: Rates::default(),
            bodies: Arc::new(Semaphore::new(bodies)),
            unsigned: Arc::new(Semaphore::new((bodies / UNSIGNED).max(1))),
            waiting: Arc::new(Semaphore::new(number(&names::HTTP_WAITING_MAX))),
            reading: Arc::new(Semaphore::new(number(&names::HTTP_QUERIES_MAX))),
            counts: Arc::default(),
            live,
        }))
    }
}

impl Shared {
    /// Bytes that a page has at most.
    fn page_bytes_max(&self) -> usize {
        self.core.config().number(&names::HTTP_PAGE_BYTES_MAX).map_or(usize::MAX, |max| max as usize)
    }

    /// A page of what is no event.
    fn listing(&self, head: &str) -> Listing {
        Listing::new(head, self.page_bytes_max())
    }

    /// Reads in the store, where that keeps nobody else waiting. So many requests do at one time as `http.queries_max` says.
    async fn reads<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(&self.reading).acquire_owned().await.expect("it is never closed");
        // Also where whoever asked has gone meanwhile, it is over when it is read.
        blocking(move || {
            let _place = place;
            work()
        })
        .await
    }
}

/// Every path of the interface with what answers there. `openapi` describes the same.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/v1/overview", get(overview::show)),
        ("/v1/events", get(query::events).post(events::publish)),
        ("/v1/subscriptions", get(subscriptions::list)),
        ("/v1/subscriptions/{id}", get(subscriptions::show)),
        ("/v1/subscriptions/{id}/{verb}", post(subscriptions::change)),
        ("/v1/rules", get(rules::list).post(rules::add).put(rules::replace)),
        ("/v1/rules/explain", post(rules::explain)),
        ("/v1/rules/diff", post(rules::diff)),
        ("/v1/rules/{id}", get(rules::show).put(rules::change).delete(rules::remove)),
        ("/v1/services", get(services::list).post(leases::register)),
        ("/v1/services/{name}", get(services::show)),
        ("/v1/services/{name}/{verb}", post(services::change)),
        ("/v1/leases/{id}", put(leases::renew).delete(leases::end)),
        ("/v1/dead-letters", get(letters::list).delete(letters::purge_all)),
        ("/v1/dead-letters/redrive", post(letters::redrive_all)),
        ("/v1/dead-letters/{id}", get(letters::show).delete(letters::purge)),
        ("/v1/dead-letters/{id}/redrive", post(letters::redrive)),
        ("/v1/replays", get(replays::list).post(replays::begin)),
        ("/v1/replays/{id}", get(replays::show).delete(replays::cancel)),
        ("/v1/config", get(config::show).put(config::replace)),
        ("/v1/audit", get(audit::list)),
        ("/v1/webhooks/{name}", post(webhooks::receive)),
        #[cfg(feature = "prometheus")]
        ("/metrics", get(metrics::expose)),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
        ("/openapi.json", get(openapi::describe)),
        ("/asyncapi.json", get(openapi::describe_live)),
    ]
}

fn router(app: App) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, answers)| router.route(path, answers));
    let router = page::paths().fold(router, |router, path| router.route(path, get(page::show)));
    router
        .with_state(app.clone())
        .merge(app.live.routes())
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(app, guard::guard))
}

async fn nothing(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}; /openapi.json says what there is", request.uri().path()))
}

async fn other_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(Kind::Method, format!("{path} does not answer {method}; the header Allow says what it does"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_every_path_and_no_other() {
        let document = openapi::document();
        let described: BTreeSet<_> = document["paths"].as_object().expect("it has paths").keys().cloned().collect();
        let live = ["/v1/events/live", "/v1/events/stream"];
        let answered = routes().into_iter().map(|(path, _)| path).chain(live);
        let answered: BTreeSet<_> = answered.map(str::to_owned).collect();
        assert_eq!(described, answered);
    }
}
