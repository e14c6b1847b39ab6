//! Everything that can be asked, and every status that it can be answered with.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::problem::Kind;
use super::{Operation, as_json, reference};

pub(super) fn all() -> Vec<Operation> {
    [events(), streams(), subscriptions(), rules(), services(), letters(), replays(), others()]
        .into_iter()
        .flatten()
        .collect()
}

fn number(min: u64) -> Value {
    json!({"type": "integer", "minimum": min})
}

fn text() -> Value {
    json!({"type": "string"})
}

/// An object with one list.
fn list(name: &str, of: &str) -> Value {
    as_json(
        json!({"type": "object", "required": [name], "properties": {name: {"type": "array", "items": reference(of)}}}),
    )
}

/// An object with one number.
fn count(name: &str) -> Value {
    as_json(json!({"type": "object", "required": [name], "properties": {name: {"type": "integer"}}}))
}

fn events() -> Vec<Operation> {
    let events = json!({"type": "array", "items": reference("CloudEvent")});
    vec![
        Operation::get("/v1/events", "queryEvents", "Events of the store, a page at a time")
            .param("type", "A pattern: `*` is one segment, `**` any number", json!({"type": "string", "default": "**"}))
            .param("source", "Of this source", text())
            .param("correlation", "Of this correlation", json!({"type": "string", "format": "uuid"}))
            .param("after", "Behind this position, where an earlier page ended", number(0))
            .param("limit", "Events of the page, at most `http.page_max`", number(1))
            .param("order", "By position", json!({"enum": ["oldest", "newest"], "default": "oldest"}))
            .param("wait", "Seconds to wait for events where there are none, at most `http.wait_max`", number(0))
            .answers(
                StatusCode::OK,
                "The events",
                json!({"application/json": {"schema": events}, "application/cloudevents-batch+json": {"schema": events}}),
            )
            .problems(&[Kind::Gone, Kind::Failed, Kind::Unavailable]),
        Operation::post("/v1/events", "publishEvents", "Publishes one event or several, all of them or none")
            .body(json!({
                "application/cloudevents+json": {"schema": reference("NewCloudEvent")},
                "application/cloudevents-batch+json": {"schema": {"type": "array", "items": reference("NewCloudEvent")}},
                "application/json": {"schema": {"anyOf": [
                    reference("NewEvent"), {"type": "array", "items": reference("NewEvent")},
                ]}},
            }))
            .answers(StatusCode::ACCEPTED, "They are kept as said, and will be delivered", as_json(reference("Accepted")))
            .problems(&[Kind::Timeout, Kind::Conflict, Kind::TooLarge, Kind::MediaType, Kind::Unavailable]),
    ]
}

/// The streams, of which `/asyncapi.json` says more, and what comes in other forms.
fn streams() -> Vec<Operation> {
    let of = |operation: Operation| {
        operation
            .param("type", "A pattern: `*` is one segment, `**` any number", text())
            .param("after", "Behind this position", number(0))
            .problems(&[Kind::Conflict, Kind::Unavailable])
    };
    vec![
        of(Operation::get("/v1/events/live", "openSocket", "Events as they come, over a WebSocket")).answers(
            StatusCode::SWITCHING_PROTOCOLS,
            "The stream",
            Value::Null,
        ),
        of(Operation::get("/v1/events/stream", "openStream", "Events as they come, as Server-Sent Events")).answers(
            StatusCode::OK,
            "The stream",
            json!({"text/event-stream": {"schema": text()}}),
        ),
        Operation::post(
            "/v1/webhooks/{name}",
            "receiveWebhook",
            "An event in the form of who sends it, signed with a secret",
        )
        .named("name", "The name of the webhook", text())
        .body(json!({"application/json": {"schema": {}}, "*/*": {"schema": {}}}))
        .answers(StatusCode::ACCEPTED, "It is kept as said, and will be delivered", as_json(reference("Accepted")))
        .problems(&[Kind::NotFound, Kind::Timeout, Kind::Conflict, Kind::TooLarge, Kind::Unavailable]),
    ]
}

fn subscriptions() -> Vec<Operation> {
    let one = "/v1/subscriptions/{id}";
    vec![
        Operation::get("/v1/subscriptions", "listSubscriptions", "Who wants what").answers(
            StatusCode::OK,
            "All of them",
            list("subscriptions", "Subscription"),
        ),
        Operation::get(one, "showSubscription", "One subscription")
            .named("id", "Its id", text())
            .answers(StatusCode::OK, "It", as_json(reference("Subscription")))
            .problems(&[Kind::NotFound]),
        Operation::post("/v1/subscriptions/{id}/{verb}", "changeSubscription", "Pauses or resumes one")
            .named("id", "Its id", text())
            .named("verb", "What is to be done", json!({"enum": ["pause", "resume"]}))
            .answers(StatusCode::OK, "It, as it is then", as_json(reference("Subscription")))
            .problems(&[Kind::NotFound, Kind::Conflict, Kind::Unavailable]),
    ]
}

fn rules() -> Vec<Operation> {
    let (rule, rules) = (as_json(reference("Rule")), list("rules", "Rule"));
    let body: &[Kind] = &[Kind::Timeout, Kind::TooLarge, Kind::MediaType, Kind::Unavailable];
    let body_of_one: &[Kind] =
        &[Kind::NotFound, Kind::Conflict, Kind::Timeout, Kind::TooLarge, Kind::MediaType, Kind::Unavailable];
    vec![
        Operation::get("/v1/rules", "listRules", "Which services get which events, in the order of evaluation")
            .answers(StatusCode::OK, "All of them", rules.clone()),
        Operation::post("/v1/rules", "addRule", "Adds a rule")
            .body(rule.clone())
            .answers(StatusCode::CREATED, "It is in force", rule.clone())
            .problems(body_of_one),
        Operation::put("/v1/rules", "replaceRules", "Puts other rules in the place of all there are")
            .body(rules.clone())
            .answers(StatusCode::OK, "They are in force", rules.clone())
            .problems(body_of_one),
        Operation::get("/v1/rules/{id}", "showRule", "One rule")
            .named("id", "Its id", text())
            .answers(StatusCode::OK, "It", rule.clone())
            .problems(&[Kind::NotFound]),
        Operation::put("/v1/rules/{id}", "changeRule", "Puts a rule in the place of the one of its id")
            .named("id", "Its id", text())
            .body(rule.clone())
            .answers(StatusCode::OK, "It is in force", rule)
            .problems(body_of_one),
        Operation::delete("/v1/rules/{id}", "removeRule", "Removes a rule")
            .named("id", "Its id", text())
            .answers(StatusCode::NO_CONTENT, "It is gone", Value::Null)
            .problems(&[Kind::NotFound, Kind::Unavailable]),
        Operation::post("/v1/rules/explain", "explainEvent", "Why an event would go where, without publishing it")
            .body(as_json(reference("NewEvent")))
            .answers(StatusCode::OK, "What each rule and each subscription says", as_json(reference("Explained")))
            .problems(body),
        Operation::post("/v1/rules/diff", "diffRules", "Which events would go elsewhere by other rules")
            .body(as_json(reference("OtherRules")))
            .answers(StatusCode::OK, "Those that would", as_json(reference("RulesDiff")))
            .problems(&[
                Kind::Gone,
                Kind::Conflict,
                Kind::NotFound,
                Kind::Timeout,
                Kind::TooLarge,
                Kind::MediaType,
                Kind::Failed,
                Kind::Unavailable,
            ]),
    ]
}

fn services() -> Vec<Operation> {
    vec![
        Operation::get("/v1/services", "listServices", "What runs beside the bus, and how it is").answers(
            StatusCode::OK,
            "All of them",
            as_json(reference("Services")),
        ),
        Operation::post("/v1/services", "registerInstance", "Registers a service of another process, with a lease")
            .body(as_json(reference("NewInstance")))
            .answers(StatusCode::CREATED, "It is registered", as_json(reference("Lease")))
            .problems(&[Kind::Conflict, Kind::Timeout, Kind::TooLarge, Kind::MediaType, Kind::Unavailable]),
        Operation::put("/v1/leases/{id}", "renewLease", "Lets a lease begin anew")
            .named("id", "What names the lease", text())
            .answers(StatusCode::OK, "It has", as_json(reference("Lease")))
            .problems(&[Kind::NotFound, Kind::Unavailable]),
        Operation::delete("/v1/leases/{id}", "endLease", "Ends a lease, and forgets its service")
            .named("id", "What names the lease", text())
            .answers(StatusCode::NO_CONTENT, "It has ended", Value::Null)
            .problems(&[Kind::NotFound, Kind::Unavailable]),
        Operation::get("/v1/services/{name}", "showService", "One service")
            .named("name", "Its name", text())
            .answers(StatusCode::OK, "It", as_json(reference("Service")))
            .problems(&[Kind::NotFound]),
        Operation::post(
            "/v1/services/{name}/{verb}",
            "changeService",
            "Starts, stops or restarts one, and waits for it",
        )
        .named("name", "Its name", text())
        .named("verb", "What is to be done", json!({"enum": ["start", "stop", "restart"]}))
        .answers(StatusCode::OK, "It, as it is then", as_json(reference("Service")))
        .problems(&[Kind::NotFound, Kind::Conflict, Kind::Unavailable]),
    ]
}

fn letters() -> Vec<Operation> {
    let which = |operation: Operation| {
        operation.param("type", "Of events that match this pattern", text()).param(
            "subscription",
            "Given up by this subscription",
            text(),
        )
    };
    let some = |operation| {
        which(operation).param("all", "All of them, where nothing else says which", json!({"type": "boolean"}))
    };
    vec![
        which(Operation::get("/v1/dead-letters", "listDeadLetters", "What subscriptions gave up on"))
            .param("after", "Behind this id", number(0))
            .param("limit", "At most so many", number(1))
            .answers(StatusCode::OK, "The letters, oldest first", list("dead_letters", "DeadLetter"))
            .problems(&[Kind::Failed]),
        some(Operation::delete("/v1/dead-letters", "purgeDeadLetters", "Removes those that are meant for good"))
            .answers(StatusCode::OK, "How many there were", count("purged"))
            .problems(&[Kind::Failed, Kind::Unavailable]),
        some(Operation::post(
            "/v1/dead-letters/redrive",
            "redriveDeadLetters",
            "Publishes the events of those that are meant once more",
        ))
        .answers(StatusCode::OK, "How many there were", count("redriven"))
        .problems(&[Kind::Conflict, Kind::Failed, Kind::Unavailable]),
        Operation::get("/v1/dead-letters/{id}", "showDeadLetter", "One dead letter")
            .named("id", "Its id", number(0))
            .answers(StatusCode::OK, "It", as_json(reference("DeadLetter")))
            .problems(&[Kind::NotFound, Kind::Failed]),
        Operation::delete("/v1/dead-letters/{id}", "purgeDeadLetter", "Removes one for good")
            .named("id", "Its id", number(0))
            .answers(StatusCode::OK, "It is gone", count("purged"))
            .problems(&[Kind::NotFound, Kind::Failed, Kind::Unavailable]),
        Operation::post("/v1/dead-letters/{id}/redrive", "redriveDeadLetter", "Publishes the event of one once more")
            .named("id", "Its id", number(0))
            .answers(StatusCode::OK, "It is published, and the letter gone", count("redriven"))
            .problems(&[Kind::NotFound, Kind::Conflict, Kind::Failed, Kind::Unavailable]),
    ]
}

fn replays() -> Vec<Operation> {
    vec![
        Operation::get("/v1/replays", "listReplays", "Replays that go on, and the latest that did").answers(
            StatusCode::OK,
            "All of them",
            list("replays", "Replay"),
        ),
        Operation::post("/v1/replays", "beginReplay", "Past events once more, to those who take replays")
            .body(as_json(reference("NewReplay")))
            .answers(StatusCode::ACCEPTED, "It goes on", as_json(reference("Replay")))
            .answers(StatusCode::OK, "What it would do, of a dry run", as_json(reference("ReplayEstimate")))
            .problems(&[
                Kind::Conflict,
                Kind::Gone,
                Kind::Timeout,
                Kind::TooLarge,
                Kind::MediaType,
                Kind::Failed,
                Kind::Unavailable,
            ]),
        Operation::get("/v1/replays/{id}", "showReplay", "How far one is")
            .named("id", "Its id", number(0))
            .answers(StatusCode::OK, "It", as_json(reference("Replay")))
            .problems(&[Kind::NotFound]),
        Operation::delete("/v1/replays/{id}", "cancelReplay", "Ends one after the event that it is at")
            .named("id", "Its id", number(0))
            .answers(StatusCode::OK, "It, as it is then", as_json(reference("Replay")))
            .problems(&[Kind::NotFound, Kind::Unavailable]),
    ]
}

fn others() -> Vec<Operation> {
    let config = json!({"type": "object"});
    vec![
        #[cfg(feature = "prometheus")]
        Operation::get("/metrics", "metrics", "What Prometheus reads").answers(
            StatusCode::OK,
            "The metrics, in the text format 0.0.4",
            json!({"text/plain": {"schema": text()}}),
        ),
        Operation::get("/v1/overview", "overview", "All that the page shows at one look").answers(
            StatusCode::OK,
            "Totals since the start, latencies in nanoseconds, and what waits where",
            as_json(reference("Overview")),
        ),
        Operation::get("/asyncapi.json", "describeLive", "The live streams, described by AsyncAPI 3.0").answers(
            StatusCode::OK,
            "It",
            as_json(json!({"type": "object"})),
        ),
        Operation::get("/v1/config", "showConfig", "Every setting with its value, and where that comes from").answers(
            StatusCode::OK,
            "All of them",
            as_json(reference("Config")),
        ),
        Operation::put(
            "/v1/config",
            "replaceConfig",
            "Takes a configuration in the place of the file's, until that is read again",
        )
        .body(json!({"application/json": {"schema": config}, "application/yaml": {"schema": config}}))
        .answers(StatusCode::OK, "What changed", list("changes", "Change"))
        .problems(&[Kind::Timeout, Kind::TooLarge, Kind::MediaType, Kind::Unavailable]),
        Operation::get("/v1/audit", "listAudit", "Who did what")
            .param("actor", "By this actor", text())
            .param("action", "Actions that match this pattern, such as `rule.*`", text())
            .param("object", "To this object", text())
            .param("after", "Behind this position", number(0))
            .param("limit", "At most so many", number(1))
            .param("order", "By position", json!({"enum": ["oldest", "newest"], "default": "oldest"}))
            .answers(StatusCode::OK, "The records", list("records", "AuditRecord"))
            .problems(&[Kind::Gone, Kind::Failed]),
        Operation::get("/health/live", "live", "Whether the process answers").answers(
            StatusCode::OK,
            "It does",
            as_json(json!({"type": "object", "required": ["status"], "properties": {"status": {"const": "live"}}})),
        ),
        Operation::get("/health/ready", "ready", "Whether the node takes events")
            .answers(StatusCode::OK, "It does", as_json(reference("Ready")))
            .answers(StatusCode::SERVICE_UNAVAILABLE, "It does not", as_json(reference("Ready"))),
        Operation::get("/openapi.json", "describe", "This description").answers(
            StatusCode::OK,
            "It",
            as_json(json!({"type": "object"})),
        ),
    ]
}
