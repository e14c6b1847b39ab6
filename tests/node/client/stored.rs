//! The store of a running node, from the command line: `store query` and `dlq` with `--url`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use ringmain::{DeliveryMode, Node, Outcome};
use serde_json::{Value, json};

use super::{NOBODY, node, run, url};
use crate::PATIENCE;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

#[test]
fn events_are_found_page_by_page_as_in_a_folder() {
    let node = Node::builder().in_memory().listen("127.0.0.1:0").set("http.page_max", 50).build().expect("it is valid");
    let node = node.start().expect("it starts");
    let events: String = (0..120)
        .map(|n| format!("{{\"type\":\"a.{}\",\"id\":\"e-{n}\",\"source\":\"s{}\",\"data\":{n}}}\n", n % 2, n % 3))
        .collect();
    run(&url(&node), &["publish", "-"], &events).done();
    let data = |flags: &[&str]| -> Vec<u64> {
        let url = url(&node);
        let found = run(NOBODY, &[&["store", "query", "--url", &url], flags].concat(), "");
        lines(found.done()).iter().map(|event| event["data"].as_u64().expect("a number")).collect()
    };
    assert_eq!(data(&["--on", "a.*"]), (0..120).collect::<Vec<_>>());
    assert_eq!(data(&["--on", "a.*", "--newest-first", "--limit", "70"]), (50..120).rev().collect::<Vec<_>>());
    assert_eq!(data(&["--on", "a.0", "--source", "s1", "--limit", "2"]), [4, 10]);
    let url = url(&node);
    let found = run(NOBODY, &["store", "query", "--url", &url, "--on", "a.*", "--limit", "1"], "");
    let position = lines(found.done())[0]["position"].as_str().expect("it has its position").to_owned();
    assert_eq!(data(&["--on", "a.*", "--after", &position, "--limit", "1"]), [1]);
    let wrong = run(NOBODY, &["store", "query", "--url", &url, "--aggregate", "order/7"], "");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("they are for --data"), "{wrong:?}");
    assert!(run(NOBODY, &["store", "query", "--url", NOBODY], "").failed().contains("no node answers"));
    assert!(node.stop().is_clean());
}

#[test]
fn dead_letters_are_seen_redriven_and_purged() {
    let node = node();
    let works = Arc::new(AtomicBool::new(false));
    let (told, heard) = mpsc::channel();
    let wish = node.bus().subscribe("orders.*").named("bank").mode(DeliveryMode::reliable());
    let subscription = wish.handle_on("bank", {
        let works = Arc::clone(&works);
        move |_, meta| {
            if !works.load(Ordering::SeqCst) {
                return Outcome::Reject("no such account".to_owned());
            }
            drop(told.send(meta.original_id().map(str::to_owned)));
            Outcome::Ack
        }
    });
    let subscription = subscription.expect("there is room");
    let events: String = (1..=6).map(|n| format!("{{\"type\":\"orders.placed\",\"id\":\"o-{n}\"}}\n")).collect();
    run(&url(&node), &["publish", "-"], &events).done();
    assert!(node.durable().flush_deadline(PATIENCE), "all are settled");

    let url = url(&node);
    let dlq = |flags: &[&str]| run(NOBODY, &[&["dlq", flags[0], "--url", &url], &flags[1..]].concat(), "");
    let listed = |flags: &[&str]| lines(dlq(&[&["list", "--json"], flags].concat()).done());
    let letters = listed(&[]);
    let events: Vec<_> = letters.iter().map(|letter| letter["event"]["id"].clone()).collect();
    assert_eq!(events, (1..=6).map(|n| json!(format!("o-{n}"))).collect::<Vec<_>>());
    assert_eq!((&letters[0]["error"], &letters[0]["subscription"]), (&json!("no such account"), &json!("bank")));
    assert_eq!(listed(&["--limit", "2"]).len(), 2);
    assert_eq!(listed(&["--on", "users.*"]).len(), 0);
    let table = dlq(&["list", "--limit", "1"]);
    assert!(table.done().starts_with("     1  2") && table.stdout.ends_with(": no such account\n"), "{table:?}");
    assert!(table.stdout.contains("  orders.placed  bank  "), "{table:?}");
    let shown = dlq(&["show", "2"]);
    assert!(shown.done().starts_with("letter        2\ndied          2"), "{shown:?}");
    assert_eq!(lines(shown.stdout.lines().last().expect("a line"))[0]["id"], "o-2");
    assert!(dlq(&["show", "99"]).failed().contains("there is no dead letter 99"));

    works.store(true, Ordering::SeqCst);
    let hears = || heard.recv_timeout(PATIENCE).expect("it comes again").expect("it has its id");
    let two = dlq(&["redrive", "2", "1"]);
    assert_eq!((two.code, &*two.stderr), (Some(0), "ringmain: 2 dead letters redriven\n"));
    assert_eq!([hears(), hears()], ["o-2", "o-1"]);
    let gone = dlq(&["redrive", "3", "2", "4"]);
    assert!(gone.stderr.starts_with("ringmain: 1 dead letters redriven\n") && gone.code == Some(1), "{gone:?}");
    assert_eq!(hears(), "o-3");
    assert_eq!(dlq(&["purge", "4", "77"]).done(), "1 dead letters purged\n", "one that is gone is no error");
    let paced = dlq(&["redrive", "--subscription", "bank", "--rate", "1000"]);
    assert_eq!(paced.stderr, "ringmain: 2 dead letters redriven\n");
    assert_eq!([hears(), hears()], ["o-5", "o-6"]);
    assert_eq!(dlq(&["redrive", "--all"]).stderr, "ringmain: 0 dead letters redriven\n");
    assert_eq!(dlq(&["purge", "--on", "orders.*"]).done(), "0 dead letters purged\n");
    let wrong = dlq(&["purge", "7", "--on", "orders.*"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    drop(subscription);
    assert!(node.stop().is_clean());
}
