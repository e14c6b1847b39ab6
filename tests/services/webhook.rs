//! Webhook ingress: a signed request is an event, and no other is.

use std::collections::BTreeMap;

use ringmain::node::health::Health;
use ringmain::node::services::Service;
use ringmain::node::services::builtin::{Secret, WebhookError, WebhookIngress, WebhookOptions};
use ringmain::{Encoding, EventId};

use crate::books::end;
use crate::support::{LONG, bus};

fn secret() -> Secret {
    Secret::new("between the two of us")
}

fn headers<'h>(pairs: &[(&'h str, &'h str)]) -> impl Fn(&str) -> Option<&'h str> + use<'h> {
    let headers: BTreeMap<_, _> = pairs.iter().copied().collect();
    move |name| headers.get(name).copied()
}

#[test]
fn a_signed_request_is_an_event_with_the_body_as_its_data() {
    let options = WebhookOptions {
        type_header: Some("x-github-event".to_owned()),
        id_header: Some("x-github-delivery".to_owned()),
        ..WebhookOptions::new("github", secret())
    };
    let ingress = WebhookIngress::new(options).unwrap();
    let body = br#"{"action": "opened", "number": 7}"#;
    let signature = secret().sign(body);
    let request = headers(&[
        ("x-hub-signature-256", &signature),
        ("content-type", "application/json; charset=utf-8"),
        ("x-github-event", "pull_request.opened"),
        ("x-github-delivery", "delivery 7"),
    ]);
    let bus = bus();
    let mut inbox = bus.subscribe("external.**").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let ids: Vec<_> =
        (0..2).map(|_| ingress.receive(&request, body).unwrap().publish(&mut publisher).unwrap()).collect();
    assert_eq!(
        ids,
        [EventId::from_foreign("webhook:github", "delivery 7"); 2],
        "a delivery that comes again has the same id"
    );
    let event = inbox.recv_deadline(LONG).unwrap();
    let meta = event.meta();
    assert_eq!((meta.topic(), meta.source()), ("external.webhook.github.pull_request-opened", "webhook:github"));
    assert_eq!((meta.original_id(), event.payload().encoding()), (Some("delivery 7"), Encoding::Json));
    assert_eq!(event.payload().bytes(), body);
    drop((event, inbox, publisher));
    end(&bus);
}

#[test]
fn what_is_no_json_keeps_its_media_type() {
    let ingress = WebhookIngress::new(WebhookOptions::new("plain", secret())).unwrap();
    let received = |content_type: &'static str, body: &'static [u8]| {
        let signature = secret().sign(body);
        let webhook =
            ingress.receive(headers(&[("x-hub-signature-256", &signature), ("content-type", content_type)]), body);
        webhook.map(|webhook| (webhook.data.encoding(), webhook.content_type, webhook.event_type))
    };
    let plain = || "external.webhook.plain".to_owned();
    assert_eq!(received("text/csv", b"a,b"), Ok((Encoding::Text, Some("text/csv".to_owned()), plain())));
    assert_eq!(received("image/png", b"\x89PNG"), Ok((Encoding::Bytes, Some("image/png".to_owned()), plain())));
    assert_eq!(received("", b"{}"), Ok((Encoding::Bytes, None, plain())), "nothing is guessed");
    assert_eq!(received("application/vnd.x+JSON", b"[1]"), Ok((Encoding::Json, None, plain())));
    for (content_type, body) in [("application/json", &b"{"[..]), ("application/json", b"\xff"), ("text/json", b"")] {
        let refused = received(content_type, body).unwrap_err();
        assert!(matches!(refused, WebhookError::Json(_)) && refused.status() == 400, "{refused}");
    }
}

#[test]
fn what_is_not_signed_is_refused_before_anything_else_is_looked_at() {
    let options =
        WebhookOptions { secrets: vec![secret(), Secret::new("the one before")], ..WebhookOptions::new("h", secret()) };
    let options = WebhookOptions { body_bytes_max: 100, ..options };
    let ingress = WebhookIngress::new(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let health = || runtime.block_on(ingress.health());
    let status = |signature: &str, body: &[u8]| {
        ingress.receive(headers(&[("x-hub-signature-256", signature)]), body).map(drop).map_err(|error| error.status())
    };
    let body = b"not json";
    for wrong in ["", "sha256=", "sha256=00", &Secret::new("guessed").sign(body), &secret().sign(b"another body")] {
        assert_eq!(status(wrong, body), Err(401), "{wrong}");
    }
    assert_eq!(ingress.receive(headers(&[]), body), Err(WebhookError::Signature), "and none is no better");
    assert!(matches!(health(), Health::Degraded(reason) if reason.contains("6 requests")), "nobody has the secret");
    assert_eq!(health(), Health::Healthy, "nothing came since");

    assert_eq!(status(&secret().sign(body), body), Ok(()));
    assert_eq!(status(&Secret::new("the one before").sign(body), body), Ok(()), "while one takes the place of another");
    assert_eq!(status("sha256=00", body), Err(401));
    assert_eq!(health(), Health::Healthy, "somebody has it");
    let long = [b'x'; 101];
    assert_eq!(status(&secret().sign(&long), &long), Err(413));
    assert!(!format!("{ingress:?}").contains("between"), "secrets are not shown");
}

#[test]
fn a_webhook_without_a_secret_or_a_name_is_refused() {
    let told = |options| WebhookIngress::new(options).unwrap_err().to_string();
    assert!(told(WebhookOptions { secrets: vec![], ..WebhookOptions::new("x", secret()) }).contains("needs a secret"));
    assert!(told(WebhookOptions::new("x", Secret::new(""))).contains("needs a secret"));
    assert!(told(WebhookOptions::new("a/b", secret())).contains("letters, digits"));
    assert!(
        told(WebhookOptions { event_type: "a..b".to_owned(), ..WebhookOptions::new("x", secret()) })
            .contains("empty segment")
    );
}
