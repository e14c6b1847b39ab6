//! `/v1/services` and `/v1/leases` for other processes: each registers a service, and renews its lease for as long as it is there.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::EventId;
use crate::node::core::Core;
use crate::node::discovery::{DirectoryError, Instance, LeaseId, Registration};
use crate::node::http::answer::{self, Answer};
use crate::node::http::extract::{Admin, InPath, Sent};
use crate::node::http::problem::{Kind, Problem};
use crate::store::AuditAct;

/// What a process says of its service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct New {
    name: String,
    address: String,
    health_path: Option<String>,
    lease_s: u64,
}

pub(in super::super) async fn register(admin: Admin, Sent(new): Sent<New>) -> Answer {
    let New { name, address, health_path, lease_s } = new;
    // The lease itself is a secret of who has it.
    let act = AuditAct::new("instance.registered", format!("service {name}")).after(address.clone());
    let registration = Registration { name, address, health_path, lease: Duration::from_secs(lease_s) };
    let lease = admin.act(act, |core| core.registrations.register(registration).map_err(|error| refused(&error)));
    let lease = lease.await?.to_string();
    Ok(answer::json(StatusCode::CREATED, &json!({"lease": lease, "lease_s": lease_s})))
}

/// Lets one begin anew.
pub(in super::super) async fn renew(admin: Admin, InPath(lease): InPath<String>) -> Answer {
    let (id, act) = held(&admin, &lease, "instance.renewed")?;
    let left = admin.act(act, move |core| core.registrations.renew(id).map_err(|error| refused(&error))).await?;
    Ok(answer::json(StatusCode::OK, &json!({"lease": lease, "lease_s": left.as_secs()})))
}

/// Ends one.
pub(in super::super) async fn end(admin: Admin, InPath(lease): InPath<String>) -> Answer {
    let (id, act) = held(&admin, &lease, "instance.unregistered")?;
    admin.act(act, move |core| core.registrations.unregister(id).map_err(|error| refused(&error))).await?;
    Ok(answer::nothing())
}

/// Those that are registered, for the list of services.
pub(super) fn told(core: &Core) -> Vec<Value> {
    let told = |(instance, left): (Instance, Duration)| {
        let Registration { name, address, health_path, .. } = instance.registration;
        json!({"name": name, "address": address, "health_path": health_path, "left_s": left.as_secs()})
    };
    core.registrations.list().into_iter().map(told).collect()
}

/// A lease that holds, and what is recorded of it: whose it is, for it is a secret itself.
fn held(admin: &Admin, lease: &str, action: &str) -> Result<(LeaseId, AuditAct), Problem> {
    let id = lease.parse::<EventId>().map_err(|_| Problem::not_found(format!("there is no lease {lease:?}")))?;
    let name = admin.app.core.registrations.name_of(id).map_err(|error| refused(&error))?;
    Ok((id, AuditAct::new(action, format!("service {name}"))))
}

fn refused(error: &DirectoryError) -> Problem {
    match error {
        DirectoryError::Unknown(_) => Problem::not_found(error),
        DirectoryError::TooMany { .. } => Problem::new(Kind::Conflict, error),
        _ => Problem::malformed(error),
    }
}
