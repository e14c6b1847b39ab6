//! The page, in a real browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use ringmain::node::services::Service;
use ringmain::{DeliveryMode, Node, Outcome, Payload, ReplayPolicy, RunningNode};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::folder::Folder;
use crate::{Answer, PATIENCE};

fn ask(node: &RunningNode, method: &str, path: &str, body: &str) -> Answer {
    let address = node.address().expect("it listens");
    crate::ask(address, method, path, &[("content-type", "application/json")], body.to_owned().into())
}

/// Something to stop and to start.
struct Gateway;

impl Service for Gateway {
    fn name(&self) -> &str {
        "gateway"
    }

    fn kind(&self) -> &str {
        "service of a test"
    }
}

/// Whether the view shows a text.
fn shows(text: &str) -> String {
    format!("document.querySelector('main').innerText.includes({})", json!(text))
}

/// Clicks the button with this text, once there is one that can be clicked.
#[track_caller]
fn click(browser: &mut Browser, name: &str) {
    browser.until(&format!(
        "(() => {{ const button = [...document.querySelectorAll('button')].find((one) => !one.disabled && one.offsetParent && \
         one.textContent === {}); button?.click(); return !!button; }})()",
        json!(name)
    ));
}

#[test]
fn the_page_shows_what_happens_and_does_what_it_is_told() {
    let (folder, profile) = (Folder::new("node-page"), Folder::new("node-page-profile"));
    let Some(mut browser) = Browser::start(&profile.0) else { return };
    let node = Node::builder().data(&folder.0).listen("127.0.0.1:0").service(Gateway);
    let node = node.build().expect("it is valid").start().expect("it starts");
    let works = Arc::new(AtomicBool::new(false));
    let (told, heard) = mpsc::channel();
    let wish = node.bus().subscribe("orders.*").named("bank").mode(DeliveryMode::reliable()).replay(ReplayPolicy::Safe);
    let bank = wish.handle_on("bank", {
        let works = Arc::clone(&works);
        move |_: Payload<'_>, meta| {
            if !works.load(Ordering::SeqCst) {
                return Outcome::Reject("no such account".to_owned());
            }
            let _ = told.send(meta.is_replay());
            Outcome::Ack
        }
    });
    let bank = bank.expect("there is room");
    let address = node.address().expect("it listens");

    browser.open(&format!("http://{address}/"));
    browser.until("document.querySelector('#pulse').innerText.includes('events/s')");
    for view in
        ["Overview", "Live events", "Flow", "Dead letters", "Services", "Replays", "Explain", "Causes", "Configuration"]
    {
        browser.until(&format!(
            "(() => {{ const link = [...document.querySelectorAll('nav a')].find((one) => one.textContent.startsWith({})); \
             link?.click(); return link?.getAttribute('aria-current') === 'page' || null; }})()",
            json!(view)
        ));
    }

    // Events come as they are published, and one is explained.
    browser.evaluate("location.hash = '#/events'");
    browser.until(&shows("Live events"));
    let correlation = "0190aaaa-0000-7000-8000-000000000001";
    let order = json!({"type": "orders.placed", "id": "o-1", "source": "/shop", "correlationid": correlation, "data": {"total": 7}});
    assert_eq!(ask(&node, "POST", "/v1/events", &order.to_string()).status, 202);
    browser.until(&shows("{\"total\":7}"));
    click(&mut browser, "orders.placed");
    click(&mut browser, "Where does it go?");
    browser.until(&shows("bank"));
    browser.evaluate(&format!("location.hash = '#/causes/{correlation}'"));
    browser.until(&shows("from /shop"));

    // Where it flows.
    browser.evaluate("location.hash = '#/flow'");
    let drawn = browser.until(
        "(() => { const flow = document.querySelector('svg.flow')?.getAttribute('aria-label'); \
         return flow?.includes('/shop to orders.placed') && flow?.includes('orders.placed to bank') && flow; })()",
    );
    assert!(drawn.as_str().is_some_and(|text| text.contains("a second")), "{drawn}");

    // It died; redriven, it comes.
    assert!(node.durable().flush_deadline(PATIENCE), "it is settled");
    browser.evaluate("location.hash = '#/letters'");
    browser.until(&shows("no such account"));
    works.store(true, Ordering::SeqCst);
    click(&mut browser, "Redrive");
    assert!(!heard.recv_timeout(PATIENCE).expect("it comes again"));
    browser.until(&shows("There are none."));

    // By the keyboard alone.
    browser.evaluate("location.hash = '#/services'");
    let state = |node: &RunningNode| ask(node, "GET", "/v1/services/gateway", "").json()["state"].clone();
    for (verb, then) in [("stop", "stopped"), ("start", "running"), ("restart", "running")] {
        browser.until(&format!(
            "(() => {{ const button = document.querySelector('[aria-label=\"{verb} gateway\"]:not(:disabled)'); \
             button?.focus(); return document.activeElement === button; }})()"
        ));
        browser.evaluate("document.querySelector('#said').textContent = ''");
        browser.press("Enter");
        let said = browser.until("document.querySelector('#said').innerText");
        assert_eq!(said, format!("gateway: {verb} done"));
        assert_eq!(state(&node), then, "{verb}");
    }

    // Past events once more.
    browser.evaluate("location.hash = '#/replays'");
    browser.until("!!document.querySelector('input[name=type]')");
    browser.evaluate("document.querySelector('input[name=type]').value = 'orders.*'");
    click(&mut browser, "Replay");
    assert!(heard.recv_timeout(PATIENCE).expect("it comes again"), "as a replay");
    // However many there are: what was redriven is an event of its own.
    browser.until(r"/\b(\d+) of \1\b/.test(document.querySelector('main').innerText)");
    browser.until(&shows("done"));

    // Nothing is wider than the window, whatever its width, and what is read has enough contrast in both schemes.
    for (width, height) in [(1280, 900), (390, 844)] {
        browser.resize(width, height);
        for view in [
            "overview",
            "events",
            "flow",
            "letters",
            "services",
            "replays",
            "explain",
            "causes",
            "configuration",
            "api",
        ] {
            browser.evaluate(&format!("location.hash = '#/{view}'"));
            browser.until("!!document.querySelector('main h1')");
            let wide = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth");
            assert!(wide.as_i64().is_some_and(|wide| wide <= 0), "{view} at {width}: {wide} too wide");
        }
    }
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        let faint = browser.evaluate(CONTRAST);
        assert_eq!(faint, json!([]), "{scheme}");
    }
    assert_eq!(browser.complaints(), [] as [String; 0]);
    drop(bank);
    assert!(node.stop().is_clean());
}

/// Texts of the header, the navigation and the view whose contrast to what is behind them is below 4.5 to 1, as WCAG 2.2 AA
/// asks.
const CONTRAST: &str = r"(() => {
    const parts = (colour) => { const canvas = new OffscreenCanvas(1, 1).getContext('2d'); canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
    const light = (colour) => { const [r, g, b] = [...parts(colour)].slice(0, 3).map((part) => { const c = part / 255;
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (element) => { for (let one = element; one; one = one.parentElement) {
        const colour = getComputedStyle(one).backgroundColor; if (parts(colour)[3] === 255) return colour; } return 'white'; };
    return [...document.querySelectorAll('header *, nav a, main *')]
        .filter((one) => [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
        .filter((one) => !one.disabled && !(one instanceof SVGElement) && one.offsetParent)
        .map((one) => { const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
            return [one.textContent.slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; })
        .filter(([, ratio]) => ratio < 4.5);
})()";

#[test]
fn a_node_with_tokens_lets_the_page_ask_for_one() {
    let (folder, profile) = (Folder::new("node-page-token"), Folder::new("node-page-token-profile"));
    let Some(mut browser) = Browser::start(&profile.0) else { return };
    let secret = "b".repeat(64);
    let file = folder.0.join("tokens");
    let tokens = format!("ada sha256:{} admin\n", crate::guard::hash(&secret));
    std::fs::write(&file, tokens).expect("the folder can be written");
    let builder = Node::builder().in_memory().listen("127.0.0.1:0").set("http.token_file", file.display().to_string());
    let node = builder.build().expect("it is valid").start().expect("it starts");
    browser.open(&format!("http://{}/", node.address().expect("it listens")));
    browser.until("document.querySelector('#token').open");
    browser.evaluate(&format!("document.querySelector('#token input').value = '{secret}'"));
    click(&mut browser, "Use it");
    browser.until("document.querySelector('#pulse').innerText.includes('events/s')");
    // It is in no address, and goes with the tab.
    assert_eq!(
        browser.evaluate("location.href.includes('bbbb') || localStorage.length > 0 || document.cookie"),
        json!("")
    );
    let kept: Value = browser.evaluate("sessionStorage.length");
    assert_eq!(kept, 1);
    assert!(node.stop().is_clean());
}
