//! The ten things that can go wrong: each is there, says what the guide says, and is worth another try or not.

use std::fmt::Display;
use std::time::Duration;

use ringmain::{DeadReason, Priority, PublishError, RequestError, ServiceError};

const GUIDE: &str = include_str!("../../src/guide/delivery.md");

/// A row of the guide's table, but for what to do.
fn row(what: &str, path: &str, error: impl Display, is_temporary: bool) -> String {
    let again = if is_temporary { "yes" } else { "no" };
    format!("| {what} | [`{path}`](crate::{path}) | {error} | {again} | ")
}

fn published(what: &str, variant: &str, error: PublishError) -> String {
    row(what, &format!("PublishError::{variant}"), error, error.is_temporary())
}

fn asked(what: &str, variant: &str, error: RequestError) -> String {
    row(what, &format!("RequestError::{variant}"), &error, error.is_temporary())
}

fn died(what: &str, reason: DeadReason) -> String {
    row(what, &format!("DeadReason::{reason:?}"), reason, reason.is_temporary())
}

#[test]
fn the_guide_says_of_each_error_what_the_code_says() {
    let missing = ServiceError::NotFound { name: "billing".to_owned() };
    let full = PublishError::Full { priority: Priority::High, depth: 10_000, limit: 10_000, gated_by: Some(0) };
    let limited = PublishError::RateLimited { limit: 0, retry_after: Duration::from_millis(20), queues: false };
    let expected = [
        published("serialisation", "Encode", PublishError::Encode),
        asked("routing failure", "NoResponder", RequestError::NoResponder { topic: "price.of" }),
        row("service not found", "ServiceError::NotFound", &missing, missing.is_temporary()),
        asked("timeout", "TimedOut", RequestError::TimedOut { after: Duration::from_secs(5) }),
        published("queue full", "Full", full),
        died("circuit breaker open", DeadReason::BreakerOpen),
        published("rate limited", "RateLimited", limited),
        died("subscriber unavailable", DeadReason::NoInstance),
        died("delivery timeout", DeadReason::TimedOut),
        published("bus shutting down", "ShuttingDown", PublishError::ShuttingDown),
    ];
    let (_, chapter) = GUIDE.split_once("# What can go wrong").expect("the guide has the chapter");
    let rows: Vec<_> = chapter.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), expected.len(), "{rows:#?}");
    for (row, expected) in rows.iter().zip(&expected) {
        let what_to_do = row.strip_prefix(expected.as_str());
        assert!(what_to_do.is_some_and(|text| text.len() > 4), "the guide has\n{row}\nand the code\n{expected}");
    }
}
