//! What a configuration says, as JSON: over HTTP and on the command line.

use serde_json::{Value, json};

use super::Config;
use super::settings::Reload;

pub(in super::super) fn told(config: &Config) -> Value {
    let settings = config.settings().map(|(setting, value, origin)| {
        json!({
            "name": setting.path,
            "value": value.to_string(),
            "origin": origin.to_string(),
            "default": setting.default,
            "takes": setting.kind.to_string(),
            "live": setting.reload == Reload::Live,
            "help": setting.help.trim(),
        })
    });
    let subscriptions = config.subscriptions().iter().map(|subscription| {
        json!({
            "event_type": subscription.event_type.as_str(),
            "handlers": subscription.handlers,
            "delivery": subscription.delivery(),
            "capacity": subscription.capacity,
        })
    });
    let webhooks = config.webhooks().iter().map(
        |webhook| json!({"name": webhook.name, "secret_file": webhook.secret_file, "event_type": webhook.event_type}),
    );
    json!({
        "settings": settings.collect::<Vec<_>>(),
        "watch": config.watch(),
        "subscriptions": subscriptions.collect::<Vec<_>>(),
        "webhooks": webhooks.collect::<Vec<_>>(),
    })
}
