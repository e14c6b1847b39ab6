//! The store in PostgreSQL: conformance, several that share it, and what a lost server leaves.
//!
//! They need a server: `ci/with-postgres cargo test --features postgres --test store postgres`. Without one they say SKIP.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ringmain::Payload;
use ringmain::store::{
    AppendError, Durability, EventStore, ExpectedVersion, Position, PostgresError, PostgresStore, PostgresStoreBuilder,
    Query, Snapshot, StateChange, StateKind, StateStore,
};

use super::conformance::{self, Writer};
use super::states;

mod audited;
mod cut;
mod leases;

use cut::{Cut, Proxy};

const SECOND: Duration = Duration::from_secs(1);

/// A server that runs for the tests; `None`, said aloud, where there is none.
fn server() -> Option<String> {
    let url = std::env::var("RINGMAIN_POSTGRES_URL").ok();
    if url.is_none() {
        // Not by the macro, which a test that passes keeps to itself.
        let _ = writeln!(io::stderr(), "postgres: SKIP: RINGMAIN_POSTGRES_URL names no server; see ci/with-postgres");
    }
    url
}

/// A store that nobody has used, of a few connections.
fn fresh(url: &str) -> (PostgresStoreBuilder, String) {
    static STORES: AtomicU32 = AtomicU32::new(0);
    // Relaxed: a ticket.
    let name = format!("store_{}_{}", std::process::id(), STORES.fetch_add(1, Ordering::Relaxed));
    (PostgresStore::builder(url).schema(&name).connections_max(4), name)
}

/// Asks the server itself for a number.
fn ask(url: &str, text: &str, param: &str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let asked = async move { client.query_one(text, &[&param]).await.unwrap().get(0) };
        tokio::join!(asked, connection).0
    })
}

#[test]
fn the_store_in_postgres_is_a_store() {
    let Some(url) = server() else { return };
    conformance::run(&|| Box::new(fresh(&url).0.open().unwrap()));
}

#[test]
fn the_store_in_postgres_is_a_store_of_state() {
    let Some(url) = server() else { return };
    states::run(&|| Box::new(fresh(&url).0.open().unwrap()));
}

#[test]
fn what_is_kept_is_there_when_the_store_is_opened_again() {
    let Some(url) = server() else { return };
    let (builder, _) = fresh(&url);
    let mut writer = Writer::new();
    let frames = writer.of_aggregate("order", "7\0é", 1..=3);
    {
        let store = builder.clone().open().unwrap();
        assert_eq!(store.durability(), Durability::Durable);
        store.append(&frames[..2], ExpectedVersion::New, Durability::Durable).unwrap();
        store.append(&frames[2..], ExpectedVersion::Exact(2), Durability::Accepted).unwrap();
        store.save_snapshot(&Snapshot::new("order", "7\0é", 3, Payload::json("{}"))).unwrap();
        let (kind, key, value) = (StateKind::CURSOR, b"\0reader".as_slice(), b"\0\xff".as_slice());
        store.apply(&[StateChange::Put { kind, key, value }], Durability::Durable).unwrap();
    }
    let store = builder.open().unwrap();
    let kept: Vec<_> = Query::new().stream(&store).map(Result::unwrap).collect();
    assert!(kept.iter().map(|event| event.frame()).eq(&frames));
    assert_eq!(store.load_snapshot("order", "7\0é").unwrap().unwrap().version(), 3);
    assert_eq!(&*store.get(StateKind::CURSOR, b"\0reader").unwrap().unwrap(), b"\0\xff");
}

#[test]
fn who_reads_on_by_position_misses_nothing_however_many_write() {
    const WRITERS: usize = 3;
    const APPENDS: usize = 40;
    let Some(url) = server() else { return };
    let (builder, _) = fresh(&url);
    // Each with a store of its own, as processes have; all of them make the tables.
    let barrier = Barrier::new(WRITERS + 1);
    thread::scope(|scope| {
        for nth in 0..WRITERS {
            let (builder, barrier) = (builder.clone(), &barrier);
            scope.spawn(move || {
                let frames = Writer::new().frames("a", 1 + nth);
                barrier.wait();
                let store = builder.open().unwrap();
                for _ in 0..APPENDS {
                    store.append(&frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
                }
            });
        }
        barrier.wait();
        let store = builder.open().unwrap();
        let all = (APPENDS * WRITERS * (WRITERS + 1) / 2) as u64;
        let (mut last, mut seen) = (None, 0);
        while seen < all {
            assert!(store.wait_behind(last, 60 * SECOND).unwrap(), "{seen} of {all} have come");
            let query = last.map_or(Query::new(), |last| Query::new().behind(last));
            for event in query.stream(&store) {
                let position = event.unwrap().position();
                assert_eq!(position.get(), seen + 1, "what comes is what is next");
                (last, seen) = (Some(position), position.get());
            }
        }
        assert_eq!(store.head().unwrap(), Position::new(all));
    });
}

#[test]
fn who_waits_hears_of_what_another_appends_and_of_nothing_else() {
    let Some(url) = server() else { return };
    let (builder, _) = fresh(&url);
    // Only what the server tells wakes it.
    let (store, other) = (builder.clone().ask_every(3_600 * SECOND).open().unwrap(), builder.open().unwrap());
    assert!(!store.wait_behind(None, Duration::ZERO).unwrap());
    assert!(!store.wait_behind(None, Duration::from_millis(300)).unwrap());
    let frames = Writer::new().frames("a", 2);
    for round in 0..20 {
        let last = Position::new(2 * round);
        thread::scope(|scope| {
            let waits = scope.spawn(|| store.wait_behind(last, 60 * SECOND).unwrap());
            other.append(&frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
            assert!(waits.join().unwrap(), "nobody told of append {round}");
        });
    }
    assert!(store.wait_behind(Some(Position::FIRST), Duration::ZERO).unwrap());
    assert!(!store.wait_behind(Position::new(40), Duration::ZERO).unwrap());
}

#[test]
fn a_commit_that_is_not_answered_is_in_doubt_and_one_that_was_not_sent_is_not_made() {
    let Some(url) = server() else { return };
    let mut writer = Writer::new();
    for (cut, kept) in [(Cut::BeforeCommit, 1), (Cut::AfterCommit, 2)] {
        let (_, schema) = fresh(&url);
        let proxy = Proxy::new(&url);
        let store = PostgresStore::builder(proxy.url()).schema(&schema).connections_max(2).open().unwrap();
        let frames = writer.frames("a", 3);
        store.append(&frames[..1], ExpectedVersion::Any, Durability::Durable).unwrap();
        proxy.cut(cut);
        let lost = store.append(&frames[1..2], ExpectedVersion::Any, Durability::Durable).unwrap_err();
        assert!(matches!(lost, AppendError::InDoubt(_)), "{lost:?}");
        let text = lost.to_string();
        assert!(text.starts_with("the events may have been appended: PostgreSQL could not answer a commit"), "{text}");
        // The store goes on over a new connection.
        assert_eq!(Query::new().stream(&store).map(Result::unwrap).count(), kept, "{cut:?}");
        let next = store.append(&frames[2..], ExpectedVersion::Any, Durability::Durable).unwrap();
        assert_eq!(next.positions().start().get(), kept as u64 + 1);
    }
}

#[test]
fn a_server_that_ends_behind_a_commit_leaves_it_in_doubt() {
    let Some(url) = server() else { return };
    let (_, schema) = fresh(&url);
    let proxy = Proxy::new(&url);
    let named = format!("{}?application_name={schema}", proxy.url());
    let store = PostgresStore::builder(named).schema(&schema).connections_max(1).open().unwrap();
    let frames = Writer::new().frames("a", 1);
    proxy.cut(Cut::InCommit);
    thread::scope(|scope| {
        let appended = scope.spawn(|| store.append(&frames, ExpectedVersion::Any, Durability::Durable));
        proxy.wait();
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
        assert_eq!(ask(&url, end, &schema), 1);
        let lost = appended.join().unwrap().unwrap_err();
        assert!(matches!(lost, AppendError::InDoubt(_)), "{lost:?}");
        assert!(lost.to_string().contains("terminating connection"), "{lost}");
    });
    let head = format!("SELECT position FROM {schema}.head WHERE $1 <> ''");
    assert_eq!(ask(&url, &head, &schema), 1, "it was committed");
}

#[test]
fn who_looks_for_events_in_doubt_waits_for_a_commit_that_is_under_way() {
    let Some(url) = server() else { return };
    // In the same process, and in the one after it.
    for opens_again in [false, true] {
        let (_, schema) = fresh(&url);
        let proxy = Proxy::new(&url);
        let open = |url: &str| {
            let named = format!("{url}?application_name={schema}");
            PostgresStore::builder(named).schema(&schema).connections_max(2).open().unwrap()
        };
        let store = open(proxy.url());
        let frames = Writer::new().frames("a", 1);
        proxy.cut(Cut::LateCommit);
        let lost = store.append(&frames, ExpectedVersion::Any, Durability::Durable).unwrap_err();
        assert!(matches!(lost, AppendError::InDoubt(_)), "{lost:?}");
        thread::scope(|scope| {
            let found = scope.spawn(|| {
                let store = if opens_again { open(&url) } else { store };
                Query::new().stream(&store).map(Result::unwrap).count()
            });
            let waits =
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
            while !found.is_finished() && ask(&url, waits, &schema) == 0 {
                thread::yield_now();
            }
            proxy.cut(Cut::Nothing);
            assert_eq!(found.join().unwrap(), 1, "it was looked for before the commit was over");
        });
    }
}

#[test]
fn who_waits_finds_what_nobody_told_of_and_nothing_that_is_not_there() {
    let Some(url) = server() else { return };
    let (builder, schema) = fresh(&url);
    let proxy = Proxy::new(&url);
    let through = PostgresStore::builder(proxy.url()).schema(&schema).ask_every(Duration::from_millis(50));
    let (store, other) = (through.open().unwrap(), builder.open().unwrap());
    assert!(!store.wait_behind(None, Duration::from_millis(300)).unwrap());
    let lie = format!("SELECT count(pg_notify($1 || '_appended', '{}'))", u64::MAX);
    assert_eq!(ask(&url, &lie, &schema), 1);
    assert!(!store.wait_behind(None, Duration::from_millis(300)).unwrap(), "the store is empty");
    proxy.cut(Cut::Notices);
    thread::scope(|scope| {
        let waits = scope.spawn(|| store.wait_behind(None, 60 * SECOND).unwrap());
        other.append(&Writer::new().frames("a", 1), ExpectedVersion::Any, Durability::Durable).unwrap();
        assert!(waits.join().unwrap());
    });
    assert_eq!(store.head().unwrap(), Position::new(1));
}

#[test]
fn a_server_that_does_not_answer_is_told_of_within_the_limit() {
    let Some(url) = server() else { return };
    let (_, schema) = fresh(&url);
    let proxy = Proxy::new(&url);
    let limit = Duration::from_millis(1_500);
    let store = PostgresStore::builder(proxy.url()).schema(&schema).call_max(limit).open().unwrap();
    let frames = Writer::new().frames("a", 1);
    proxy.cut(Cut::Silence);
    let refused = store.head().unwrap_err().to_string();
    assert!(refused.contains("no answer within `call_max` (1.5s)"), "{refused}");
    let refused = store.append(&frames, ExpectedVersion::Any, Durability::Durable).unwrap_err();
    assert!(matches!(refused, AppendError::Failed(_)), "{refused:?}");
    proxy.cut(Cut::Nothing);
    store.append(&frames, ExpectedVersion::Any, Durability::Durable).unwrap();
}

#[test]
fn tables_of_a_newer_program_are_refused_and_left_alone() {
    let Some(url) = server() else { return };
    let (builder, schema) = fresh(&url);
    drop(builder.clone().open().unwrap());
    let newer = format!("INSERT INTO {schema}.migrations (version) VALUES (99)");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let (done, _) = tokio::join!(async move { client.batch_execute(&newer).await }, connection);
        done.unwrap();
    });
    let refused = builder.open().unwrap_err();
    assert!(matches!(refused, PostgresError::TooNew { found: 99, known: 2, .. }), "{refused:?}");
    let text = format!("the tables in schema \"{schema}\" have version 99, this program knows 2; use a newer one");
    assert_eq!(refused.to_string(), text);
}

#[test]
fn settings_out_of_their_range_are_refused_with_their_value() {
    let url = "postgres://nobody@127.0.0.1:1/nothing";
    let refused = |builder: PostgresStoreBuilder| builder.open().unwrap_err().to_string();
    let new = || PostgresStore::builder(url);
    assert_eq!(refused(new().connections_max(0)), "connections_max is 0, it has to be from 1 to 1000");
    let text = "call_max (in ms) is 0, it has to be from 1 to 3600000";
    assert_eq!(refused(new().call_max(Duration::ZERO)), text);
    assert_eq!(refused(new().batch_bytes_max(0)), "batch_bytes_max is 0, it has to be from 1 to 536870912");
    let text = "ask_every (in ms) is 3600001, it has to be from 1 to 3600000";
    assert_eq!(refused(new().ask_every(Duration::from_millis(3_600_001))), text);
    for name in ["", "9", "a-b", "A", "a;b", &"a".repeat(49)] {
        assert!(matches!(new().schema(name).open(), Err(PostgresError::Schema { .. })), "{name:?}");
    }
    assert!(matches!(PostgresStore::open("port=none"), Err(PostgresError::Url)));
    let text = refused(new());
    assert!(text.starts_with("PostgreSQL could not give a connection: "), "{text}");
    assert!(!format!("{:?}", PostgresStore::builder("postgres://a:secret@h/d")).contains("secret"));
}

#[test]
fn what_is_wrong_with_a_url_is_said_without_a_part_of_it() {
    for url in [
        "host=h password=very hunter2=x",
        "host=h password=very hunter2",
        "host=h password='very hunter2",
        "host=h password=very\\ hunter2 hunter2=x",
        "postgres://a:very?hunter2=x@h:port/d",
        "postgres://a:very/hunter2@h/d?hunter2=x",
        "postgres://a:very@h/d?hunter2=x",
        "postgres://a:very@hunter2:hunter2/d",
        "hunter2",
    ] {
        let refused = PostgresStore::open(url).unwrap_err();
        assert!(matches!(refused, PostgresError::Url), "{url}");
        let (mut said, mut error): (String, &dyn Error) = (format!("{refused} {refused:?}"), &refused);
        while let Some(source) = error.source() {
            said += &source.to_string();
            error = source;
        }
        assert!(!said.contains("hunter2") && said.contains("names no database"), "{url}: {said}");
    }
}

#[test]
fn a_batch_longer_than_its_limit_is_refused_with_its_bytes() {
    let Some(url) = server() else { return };
    let frames = Writer::new().frames("a", 3);
    let bytes: u64 = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
    let store = fresh(&url).0.batch_bytes_max(bytes - 1).open().unwrap();
    let refused = store.append(&frames, ExpectedVersion::Any, Durability::Durable).unwrap_err();
    let right =
        matches!(refused, AppendError::TooLong { bytes: asked, limit: "batch_bytes_max", .. } if asked == bytes);
    assert!(right, "{refused:?}");
    store.append(&frames[..2], ExpectedVersion::Any, Durability::Durable).unwrap();
}

#[test]
fn a_connection_that_the_server_has_ended_is_found_out_and_fails_no_call() {
    let Some(url) = server() else { return };
    let proxy = Proxy::new(&url);
    let (_, name) = fresh(&url);
    let builder = PostgresStore::builder(format!("{}?application_name={name}", proxy.url()));
    let store = builder.schema(&name).open().unwrap();
    let frames = Writer::new().of_aggregate("order", "7", 1..=6);
    let (kind, key) = (StateKind::CURSOR, b"reader".as_slice());
    let put = |value: &'static [u8]| StateChange::Put { kind, key, value };
    let mut calls: [Box<dyn FnMut(u64) + '_>; 7] = [
        Box::new(|nth| {
            let (expected, frame) =
                if nth == 0 { (ExpectedVersion::New, 0) } else { (ExpectedVersion::Exact(nth), nth) };
            let appended =
                store.append(&frames[frame as usize..=frame as usize], expected, Durability::Durable).unwrap();
            assert_eq!((appended.positions().start().get(), appended.version()), (nth + 1, Some(nth + 1)));
        }),
        Box::new(|nth| assert_eq!(store.head().unwrap(), Position::new(nth + 1))),
        Box::new(|nth| assert_eq!(store.query(&Query::new()).unwrap().events.len() as u64, nth + 1)),
        Box::new(|_| store.apply(&[put(b"here")], Durability::Durable).unwrap()),
        Box::new(|_| assert_eq!(&*store.get(kind, key).unwrap().unwrap(), b"here")),
        Box::new(|nth| store.save_snapshot(&Snapshot::new("order", "7", nth + 1, Payload::json("{}"))).unwrap()),
        Box::new(|nth| {
            assert_eq!(store.load_snapshot("order", "7").unwrap().unwrap().version(), nth + 1);
            store.sync().unwrap();
        }),
    ];
    for nth in 0..3 {
        for call in &mut calls {
            // Kept from the call before, and ended just when it is used.
            proxy.cut(Cut::Ask);
            call(nth);
            assert!(proxy.is_cut(), "it was used");
        }
    }
    // All of them, by the server.
    for nth in 3..6 {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
        for call in &mut calls {
            assert!(ask(&url, end, &name) > 0, "some are kept");
            call(nth);
        }
    }
}
