//! The webhooks of others that a configuration declares.

use std::fs;
use std::sync::Arc;

use super::super::config::{Config, WebhookConfig};
use super::super::services::builtin::{Secret, WebhookIngress, WebhookOptions};

/// All of them.
///
/// # Errors
/// Which is not set up as it has to be, and why.
pub(super) fn of(config: &Config) -> Result<Vec<Arc<WebhookIngress>>, String> {
    config.webhooks().iter().map(|declared| one(declared).map(Arc::new)).collect()
}

fn one(declared: &WebhookConfig) -> Result<WebhookIngress, String> {
    let WebhookConfig { name, secret_file, event_type, signature_header, type_header, id_header } = declared;
    let file = secret_file.display();
    let text = fs::read_to_string(secret_file)
        .map_err(|error| format!("the webhook {name}: {file} cannot be read: {error}"))?;
    let mut secrets =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| Secret::new(line.to_owned()));
    let first = secrets.next().ok_or_else(|| format!("the webhook {name}: {file} has no secret"))?;
    let mut options = WebhookOptions::new(name, first);
    options.secrets.extend(secrets);
    options.event_type = event_type.clone().unwrap_or(options.event_type);
    options.signature_header = signature_header.clone().unwrap_or(options.signature_header);
    options.type_header = type_header.clone();
    options.id_header = id_header.clone();
    WebhookIngress::new(options).map_err(|error| format!("the webhook {name}: {error}"))
}
