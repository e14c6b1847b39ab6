//! Names that several processes want: one has each, and whoever dies leaves its names.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, thread};

use ringmain::store::{
    CursorError, Durability, DurableSubscription, DurableSubscriptionError, EventStore, ExpectedVersion, LeaseError,
    PostgresStore, StateError,
};

use super::cut::{Cut, Proxy};
use super::{ask, fresh, server};
use crate::conformance::Writer;
use crate::killed::{child_folder, kill_after};

const THIS: &str = "postgres::leases::a_name_is_the_next_ones_when_its_owner_was_killed";
const PATIENCE: Duration = Duration::from_secs(60);

fn billing(store: &Arc<PostgresStore>) -> Result<DurableSubscription, DurableSubscriptionError> {
    DurableSubscription::builder(store.clone(), store.clone(), "billing").open()
}

/// Opens the subscription as soon as nobody has it.
fn wait_for_billing(store: &Arc<PostgresStore>) -> DurableSubscription {
    let begun = Instant::now();
    loop {
        match billing(store) {
            Ok(subscription) => return subscription,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[track_caller]
fn assert_taken_by(store: &Arc<PostgresStore>, owner: &str) {
    let error = billing(store).unwrap_err();
    let DurableSubscriptionError::Lease(LeaseError::Taken { name, owner: by }) = &error else { panic!("{error}") };
    assert_eq!((name.as_str(), by.as_str()), ("durable subscription \"billing\"", owner));
}

#[test]
fn a_name_is_the_next_ones_when_its_owner_was_killed() {
    let Some(url) = server() else { return };
    if let Some(schema) = child_folder() {
        let store = Arc::new(PostgresStore::builder(url).schema(schema.to_str().unwrap()).open().unwrap());
        let mut subscription = billing(&store).unwrap();
        let event = subscription.try_recv().unwrap().unwrap();
        subscription.ack(event.position()).unwrap();
        writeln!(std::io::stdout(), "\nowns {}", std::process::id()).unwrap();
        loop {
            thread::park();
        }
    }
    let (builder, schema) = fresh(&url);
    let store = Arc::new(builder.open().unwrap());
    store.append(&Writer::new().frames("a", 2), ExpectedVersion::Any, Durability::Durable).unwrap();
    kill_after(1, THIS, Path::new(&schema), |line| {
        let Some(owner) = line.strip_prefix("owns ") else { return false };
        assert_taken_by(&store, &format!("process {owner}"));
        true
    });
    let mut subscription = wait_for_billing(&store);
    let event = subscription.try_recv().unwrap().unwrap();
    assert_eq!(event.position().get(), 2, "it goes on behind what was acknowledged");
    subscription.ack(event.position()).unwrap();
    // Of the same process another store is another owner.
    let other =
        Arc::new(PostgresStore::builder(env::var("RINGMAIN_POSTGRES_URL").unwrap()).schema(schema).open().unwrap());
    assert_taken_by(&other, &format!("process {}", std::process::id()));
    drop(subscription);
    billing(&other).unwrap();
}

#[test]
fn an_owner_that_was_taken_for_dead_changes_nothing_any_more() {
    let Some(url) = server() else { return };
    let (builder, schema) = fresh(&url);
    let proxy = Proxy::new(&url);
    let named = format!("{}?application_name={schema}", proxy.url());
    let first = Arc::new(PostgresStore::builder(named).schema(&schema).owner("the first").open().unwrap());
    first.append(&Writer::new().frames("a", 2), ExpectedVersion::Any, Durability::Durable).unwrap();
    let mut old = billing(&first).unwrap();
    let event = old.try_recv().unwrap().unwrap();
    // It hears nothing of its end.
    proxy.cut(Cut::Silence);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    assert!(ask(&url, end, &schema) >= 2);
    let second = Arc::new(builder.owner("the second").open().unwrap());
    let mut new = wait_for_billing(&second);
    proxy.cut(Cut::Nothing);
    let begun = Instant::now();
    let lost = loop {
        // The connections that were ended fail once each.
        let refused = old.ack(event.position()).unwrap_err();
        if let DurableSubscriptionError::Cursor(CursorError::Keep(error)) = &refused
            && let StateError::Lease(lost) = &**error
        {
            break lost.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{refused}");
    };
    let LeaseError::Lost { name, owner } = &lost else { panic!("{lost}") };
    assert_eq!((name.as_str(), owner.as_str()), ("durable subscription \"billing\"", "the second"));
    assert_eq!(new.acknowledged(), None);
    let event = new.try_recv().unwrap().unwrap();
    new.ack(event.position()).unwrap();
    drop(old);
    let third = Arc::new(PostgresStore::builder(url).schema(schema).open().unwrap());
    assert_taken_by(&third, "the second");
}

#[test]
fn a_lost_connection_loses_no_name_that_nobody_else_takes() {
    let Some(url) = server() else { return };
    let (_, schema) = fresh(&url);
    let named = format!("{url}?application_name={schema}");
    let store = Arc::new(PostgresStore::builder(named).schema(&schema).open().unwrap());
    store.append(&Writer::new().frames("a", 1), ExpectedVersion::Any, Durability::Durable).unwrap();
    let mut subscription = billing(&store).unwrap();
    let end = format!("SELECT count(pg_terminate_backend(backend)) FROM {schema}.leases WHERE $1 <> ''");
    assert_eq!(ask(&url, &end, &schema), 1);
    // Taken again, on another connection.
    let is_held = format!(
        "SELECT count(*) FROM {schema}.leases JOIN pg_locks ON pid = backend JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND granted AND application_name = $1"
    );
    let begun = Instant::now();
    while ask(&url, &is_held, &schema) == 0 {
        assert!(begun.elapsed() < PATIENCE, "the name is not locked again");
    }
    let other = Arc::new(PostgresStore::builder(url).schema(schema).open().unwrap());
    assert_taken_by(&other, &format!("process {}", std::process::id()));
    let event = subscription.try_recv().unwrap().unwrap();
    subscription.ack(event.position()).unwrap();
}
