//! How long is an event under way to 100 WebSocket clients, beside a bare axum server that broadcasts?
//!
//! The bare one gets texts that are ready and keeps nothing: a broadcast channel, and for each client what is there is fed and
//! flushed once. Ours appends frames to a log in a folder, follows it, encodes each event and sends it with its position. Both have the
//! same clients, in this process on a runtime of their own, and the same events at the same rate, ten at once each millisecond.
//!
//! Rounds take turns; medians of them, and of each round's ratio. `RINGMAIN_BENCH_ROUNDS` says how many there are, 3 without it;
//! `--test` runs one and short; `--judge` fails where our p99 is more than twice the other's.

use std::env;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocketUpgrade};
use axum::routing::get;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use ringmain::node::live::{Hub, LiveOptions};
use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore};
use ringmain::{Bus, Payload};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events at once, each millisecond.
const STEP: u64 = 10;
const PERIOD: Duration = Duration::from_millis(1);
/// What an event has beside its time, so that a message has about 200 bytes.
const PADDING: &str = "................................................................";
const RATIO_MAX: f64 = 2.0;

/// A round of one server.
#[derive(Debug, Clone, Copy)]
struct Sample {
    p50_us: f64,
    p99_us: f64,
    /// Share of the events that came.
    delivered: f64,
    /// Cores that the process was on, clients included.
    cores: f64,
}

fn main() {
    let has = |flag: &str| env::args().any(|argument| argument == flag);
    let rounds = env::var("RINGMAIN_BENCH_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"));
    let (rounds, seconds, clients) = if has("--test") { (1, 1, 4) } else { (rounds, 5, 100) };
    let steps = seconds * 1_000;
    println!("{} events/s to {clients} clients, {seconds} s a round, {rounds} rounds in turns", STEP * 1_000);
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        pairs.push((bare(steps, clients), live(steps, clients)));
    }
    println!("{:<14}{:>12}{:>12}{:>12}{:>10}", "", "p50 us", "p99 us", "delivered", "cores");
    type Pick = fn(&(Sample, Sample)) -> Sample;
    for (name, pick) in [("bare axum", (|pair| pair.0) as Pick), ("ringmain live", |pair| pair.1)] {
        let of = |figure: fn(&Sample) -> f64| median(pairs.iter().map(|pair| figure(&pick(pair))).collect());
        println!(
            "{name:<14}{:>12.0}{:>12.0}{:>11.1}%{:>10.2}",
            of(|sample| sample.p50_us),
            of(|sample| sample.p99_us),
            of(|sample| sample.delivered) * 100.0,
            of(|sample| sample.cores),
        );
    }
    let ratios: Vec<f64> = pairs.iter().map(|(bare, live)| live.p99_us / bare.p99_us).collect();
    let ratio = median(ratios.clone());
    println!("p99, live beside bare: {ratio:.2} {ratios:.2?}");
    assert!(pairs.iter().all(|(_, live)| live.delivered == 1.0), "an event did not come");
    if has("--judge") && ratio > RATIO_MAX {
        eprintln!("it is {ratio:.2} times as long, and may be {RATIO_MAX} times");
        process::exit(1);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("threads")
}

/// A server that does nothing else.
fn bare(steps: u64, clients: usize) -> Sample {
    let server = runtime(2);
    let (sender, _) = broadcast::channel::<Utf8Bytes>(16_384);
    let router = Router::new()
        .route(
            "/v1/events/live",
            get(|State(sender): State<broadcast::Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade| async move {
                let mut events = sender.subscribe();
                upgrade.on_upgrade(move |mut socket| async move {
                    loop {
                        let mut next = match events.recv().await {
                            Ok(text) => Some(text),
                            Err(RecvError::Lagged(_)) => None,
                            Err(RecvError::Closed) => return,
                        };
                        while let Some(text) = next {
                            if socket.feed(Message::Text(text)).await.is_err() {
                                return;
                            }
                            next = events.try_recv().ok();
                        }
                        if socket.flush().await.is_err() {
                            return;
                        }
                    }
                })
            }),
        )
        .with_state(sender.clone());
    let begun = Instant::now();
    let serve = |listener: TcpListener| {
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a TCP socket"));
        drop(tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") }));
    };
    measure(&server, serve, "", steps, clients, begun, |numbers| {
        for _ in numbers {
            let id = uuid::Uuid::now_v7();
            let text = format!(
                "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"bench\",\"type\":\"orders.placed\",\"data\":{}}}",
                data(begun)
            );
            sender.send(text.into()).expect("there are clients");
        }
    })
}

/// Ours.
fn live(steps: u64, clients: usize) -> Sample {
    let server = runtime(2);
    let folder = env::temp_dir().join(format!("ringmain-bench-live-{}", process::id()));
    let store = Arc::new(LogStore::open(&folder).expect("a folder"));
    let hub = Hub::start(store.clone(), store.clone(), LiveOptions::default()).expect("a thread");
    let bus = Bus::builder().workers(1).build().expect("a bus");
    let mut publisher = bus.publisher().expect("a publisher");
    let begun = Instant::now();
    let serve = |listener: TcpListener| hub.serve(listener.into_std().expect("a socket")).expect("it serves");
    let sample = measure(&server, serve, "?type=*", steps, clients, begun, |numbers| {
        let frames: Vec<_> = numbers
            .map(|_| publisher.event().to_frame("orders.placed", Payload::json(&data(begun))).expect("a frame"))
            .collect();
        store.append(&frames, ExpectedVersion::Any, Durability::Written).expect("there is room");
    });
    drop(hub);
    drop(publisher);
    bus.shutdown().expect("it ends");
    drop(server);
    drop(store);
    std::fs::remove_dir_all(&folder).expect("it was made");
    sample
}

fn data(begun: Instant) -> String {
    format!("{{\"at\":{},\"text\":\"{PADDING}\"}}", begun.elapsed().as_nanos())
}

/// Serves, connects clients, publishes, and looks when events come.
fn measure(
    server: &Runtime,
    serve: impl FnOnce(TcpListener),
    query: &str,
    steps: u64,
    clients: usize,
    begun: Instant,
    mut publish: impl FnMut(std::ops::Range<u64>),
) -> Sample {
    let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("bound");
    server.block_on(async { serve(listener) });
    let readers = runtime(1);
    let events = steps * STEP;
    // What is under way while all begin is not looked at.
    let skipped = events / 10;
    let tasks = readers.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let tcp = TcpStream::connect(address).await.expect("it listens");
            let url = format!("ws://{address}/v1/events/live{query}");
            let (mut socket, _) = tokio_tungstenite::client_async(url, tcp).await.expect("it takes clients");
            if !query.is_empty() {
                // The answer: from here on every event comes.
                socket.next().await.expect("an answer").expect("an answer");
            }
            tasks.push(tokio::spawn(async move {
                let mut took = Histogram::<u64>::new(3).expect("three digits");
                let mut came = 0;
                while came < events {
                    let Some(Ok(message)) = socket.next().await else { break };
                    let text = message.to_text().expect("a text");
                    let at = text.find("\"at\":").expect("an event") + 5;
                    let end = text[at..].find(',').expect("more") + at;
                    let sent: u64 = text[at..end].parse().expect("a number");
                    came += 1;
                    if came > skipped {
                        took.record(begun.elapsed().as_nanos() as u64 - sent).expect("in range");
                    }
                }
                (came, took)
            }));
        }
        tasks
    });
    let (from, cpu) = (Instant::now(), cpu_seconds());
    for step in 0..steps {
        publish(step * STEP..(step + 1) * STEP);
        let due = from + PERIOD * (step as u32 + 1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let (mut came, mut took) = (0, Histogram::<u64>::new(3).expect("three digits"));
    for task in tasks {
        let (one_came, one_took) = readers.block_on(task).expect("it reads");
        came += one_came;
        took.add(one_took).expect("the same digits");
    }
    let cores = (cpu_seconds() - cpu) / from.elapsed().as_secs_f64();
    let us = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    let delivered = came as f64 / (events * clients as u64) as f64;
    Sample { p50_us: us(0.5), p99_us: us(0.99), delivered, cores }
}

/// Of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("a name").split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number");
    ticks as f64 / 100.0
}
