//! The interface over HTTP: events in and out, and everything that can be seen and done from outside.
//!
//! ```text
//!   listener ──► connection, bounded ──► guard: origin, rate, token ──► router ──► handler ──► core
//!                  header timeout           │                             │          │
//!                                           └──────── problems (RFC 9457) ┴──────────┘
//! ```

mod answer;
mod body;
mod events;
mod guard;
mod health;
mod incoming;
mod openapi;
mod params;
mod problem;
mod query;
mod server;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::routing::get;
use tokio::sync::Semaphore;

use self::guard::Rates;
pub(super) use self::problem::{Kind, Problem};
pub(super) use self::server::Server;
pub(super) use self::tokens::Caller;
use self::tokens::Tokens;
use super::config::Config;
use super::config::settings as names;
use super::core::{Core, NodeError};

/// Where to listen, and to whom: checked before anything is opened.
pub(super) struct Door {
    address: SocketAddr,
    tokens: Option<Tokens>,
}

impl Door {
    /// # Errors
    /// When others than this machine could come in, and when the tokens cannot be read.
    pub(super) fn new(config: &Config) -> Result<Self, NodeError> {
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
    /// Of queries that wait.
    waiting: Semaphore,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    fn new(core: &Arc<Core>, tokens: Option<Tokens>) -> Self {
        let config = core.config();
        let number =
            |setting| config.number(setting).and_then(|number| usize::try_from(number).ok()).expect("in range");
        let bodies = (number(&names::HTTP_BODIES_BYTES_MAX) >> 10).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            core: Arc::clone(core),
            tokens,
            rates: Rates::default(),
            bodies: Arc::new(Semaphore::new(bodies)),
            waiting: Semaphore::new(number(&names::HTTP_WAITING_MAX)),
        }))
    }
}

/// Every path with what answers there. `openapi` describes the same.
fn router(app: App) -> Router {
    Router::new()
        .route("/v1/events", get(query::events).post(events::publish))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/openapi.json", get(openapi::describe))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn nothing(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}; /openapi.json says what there is", request.uri().path()))
}

async fn other_method(State(_): State<App>, request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(Kind::Method, format!("{path} does not answer {method}; the header Allow says what it does"))
}
