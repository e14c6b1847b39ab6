//! The body of a request: so long at most, within a time, and in memory that all requests share.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Shared;
use super::incoming::MediaType;
use super::problem::{Kind, Problem};
use crate::node::config::settings as names;
use crate::node::human;

/// A body that is too long is read to its end, and forgotten, up to so many times what may be: who still sends does not hear the
/// answer.
const HEARD_TO_THE_END: usize = 4;

/// A body, and the room that it takes.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Shared {
    /// Reads the body of a request of a known media type.
    ///
    /// # Errors
    /// Another media type, and as [`read_body`](Self::read_body).
    pub(super) async fn read_text(
        &self,
        headers: &HeaderMap,
        body: Body,
        is_known: impl FnOnce(&MediaType) -> bool,
        known: &str,
    ) -> Result<Held, Problem> {
        if !MediaType::of(headers)?.is_some_and(|media_type| is_known(&media_type)) {
            return Err(Problem::new(Kind::MediaType, format!("send {known}, and say so by the header content-type")));
        }
        self.read_body(headers, body).await
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// It is too long, does not come, or there is no room for it now.
    pub(super) async fn read_body(&self, headers: &HeaderMap, body: Body) -> Result<Held, Problem> {
        let max = self.body_bytes_max();
        self.read_within(headers, body, max, &self.bodies).await
    }

    /// Reads a body that anybody can have sent, of so many bytes: those of others have their room whatever comes here.
    ///
    /// # Errors
    /// As [`read_body`](Self::read_body).
    pub(super) async fn read_unsigned(&self, headers: &HeaderMap, body: Body, max: usize) -> Result<Held, Problem> {
        let max = max.min(self.body_bytes_max());
        self.read_within(headers, body, max, &self.unsigned).await
    }

    fn body_bytes_max(&self) -> usize {
        self.core.config().number(&names::HTTP_BODY_BYTES_MAX).map_or(usize::MAX, |max| max as usize)
    }

    async fn read_within(
        &self,
        headers: &HeaderMap,
        body: Body,
        max: usize,
        bodies: &Arc<Semaphore>,
    ) -> Result<Held, Problem> {
        let limit = self.core.config().time(&names::HTTP_BODY_TIMEOUT).expect("it has a default");
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if said.is_some_and(|bytes| bytes > max.saturating_mul(HEARD_TO_THE_END)) {
            return Err(too_long(max));
        }
        let read = timeout(limit, collect(body, max, bodies)).await;
        read.unwrap_or_else(|_| {
            let detail = format!("the body did not come to its end within {limit:?}");
            Err(Problem::new(Kind::Timeout, detail))
        })
    }
}

async fn collect(mut body: Body, max: usize, bodies: &Arc<Semaphore>) -> Result<Held, Problem> {
    let mut held = Held { bytes: Vec::new(), _room: None };
    let (mut room, mut beyond) = (0, 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::malformed(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let bytes = held.bytes.len() + data.len();
        if bytes > max || beyond > 0 {
            held = Held { bytes: Vec::new(), _room: None };
            beyond += data.len();
            if beyond > max.saturating_mul(HEARD_TO_THE_END) {
                break;
            }
            continue;
        }
        let needed = bytes.div_ceil(1 << 10);
        if needed > room {
            let more = u32::try_from(needed - room).unwrap_or(u32::MAX);
            let more = bodies.clone().try_acquire_many_owned(more).map_err(|_| {
                Problem::unavailable("the bodies of other requests take all of http.bodies_bytes_max; try again")
            })?;
            room = needed;
            match &mut held._room {
                Some(room) => room.merge(more),
                none => *none = Some(more),
            }
        }
        held.bytes.extend_from_slice(&data);
    }
    if beyond > 0 { Err(too_long(max)) } else { Ok(held) }
}

fn too_long(max: usize) -> Problem {
    let max = human::bytes(max as u64);
    Problem::new(
        Kind::TooLarge,
        format!("the body is longer than {max}; send less at once, or raise http.body_bytes_max"),
    )
}
