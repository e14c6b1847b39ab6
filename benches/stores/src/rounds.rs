//! The questions that everybody is asked, in turn, and how ours stands to each.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use ringmain::Bus;
use ringmain::store::{Durability, LogStore, MemoryStore};

use crate::flight::{Group, Sample, fly};
use crate::folder::Folder;
use crate::subject::{Event, Fjall, Plain, Ringmain, Sqlite, Subject, Word, events};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: u16,
    /// Of the events of each question.
    pub(crate) divisor: u64,
}

impl Effort {
    /// So many events, or its part of them; at least enough for one batch.
    pub(crate) fn events(self, full: u64) -> u64 {
        (full / self.divisor).max(1_000)
    }
}

/// Whose turn it is.
const NAMES: [&str; 4] = ["ringmain", "SQLite", "fjall", "file"];

/// At least so many times what this one does.
type Target = (&'static str, f64);

/// Asks everybody once a round, and prints what came of it.
fn ask(name: &str, effort: Effort, targets: &[Target], mut run: impl FnMut(usize) -> Sample) {
    let mut samples = vec![Vec::new(); NAMES.len()];
    for round in 0..usize::from(effort.rounds) {
        for turn in 0..NAMES.len() {
            // Nobody is always first.
            let who = (round + turn) % NAMES.len();
            samples[who].push(run(who));
        }
    }
    println!("\n{name}");
    println!("  {:<10}{:>12}   {:<26}{:>10}   ringmain to it", "", "events/s", "inner half", "p99 us");
    let rates = |who: usize| sorted(samples[who].iter().map(|sample| sample.per_second));
    for (who, subject) in NAMES.iter().enumerate() {
        let ratios = samples[0].iter().zip(&samples[who]).map(|(ours, its)| ours.per_second / its.per_second);
        let (rates, ratio) = (rates(who), middle(&sorted(ratios)));
        let p99 = middle(&sorted(samples[who].iter().map(|sample| sample.p99.as_secs_f64() * 1e6)));
        let half = format!("{:.0} to {:.0}", rates[rates.len() / 4], rates[rates.len() * 3 / 4]);
        let target = targets.iter().find(|(of, _)| of == subject).map_or(String::new(), |(_, least)| {
            format!(", to be {least}x: {}", if ratio >= *least { "reached" } else { "missed" })
        });
        println!("  {subject:<10}{:>12.0}   {half:<26}{p99:>10.0}   {ratio:.2}x{target}", middle(&rates));
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Appends that are synced before they are answered.
pub(crate) fn durable(effort: Effort, base: &Folder) {
    let events = events();
    let questions: [(u32, usize, u64, &[Target]); 3] = [
        (1, 1, 3_000, &[("SQLite", 0.9)]),
        (8, 1, 8_000, &[("SQLite", 1.2)]),
        (8, 64, 200_000, &[("SQLite", 4.0), ("fjall", 1.3), ("file", 0.45)]),
    ];
    for (threads, window, total, targets) in questions {
        let flight = (threads, window, effort.events(total));
        let name = format!("durable, {threads} threads with {window} on the way each, {} events", flight.2);
        ask(&name, effort, targets, |who| {
            let folder = Folder::new(base.path());
            match who {
                0 if window == 1 => {
                    let ours = Ringmain::open(folder.path(), Word::Durable);
                    fly(flight, &events, |event| ours.append(slice::from_ref(event)), |()| ())
                }
                0 => published(&folder, flight, &events),
                1 => grouped::<Sqlite>(&folder, flight, &events),
                2 => grouped::<Fjall>(&folder, flight, &events),
                _ => grouped::<Plain>(&folder, flight, &events),
            }
        });
    }
}

fn grouped<S: Subject>(folder: &Folder, flight: (u32, usize, u64), events: &[Event]) -> Sample {
    let subject = S::open(folder.path(), Word::Durable);
    let group = Group::new(&subject);
    fly(flight, events, |event| group.submit(event.clone()), |nth| group.wait(nth))
}

/// As a program has many on the way: published durably, and delivered, to nobody here.
fn published(folder: &Folder, flight: (u32, usize, u64), events: &[Event]) -> Sample {
    let bus = Bus::builder().workers(1).build().expect("the limits are fine");
    let store = Arc::new(LogStore::open(folder.path()).expect("the disk works"));
    let durable = bus.durable(store, Arc::new(MemoryStore::new())).start().expect("there are threads");
    let submit =
        |event: &Event| durable.submit(slice::from_ref(&event.frame), Durability::Durable).expect("there is room");
    let sample = fly(flight, events, submit, |pending| {
        pending.wait().expect("the disk works");
    });
    durable.close().expect("nothing holds it up");
    bus.shutdown().expect("nothing is under way");
    sample
}

/// Appends in batches that the operating system has when they are answered.
pub(crate) fn written(effort: Effort, base: &Folder) {
    let events = events();
    for batch in [100, 1_000] {
        let total = effort.events(300_000);
        let name = format!("written, batches of {batch}, {total} events");
        ask(&name, effort, &[("SQLite", 5.0)], |who| {
            let folder = Folder::new(base.path());
            match who {
                0 => batches::<Ringmain>(&folder, total, &events[..batch]),
                1 => batches::<Sqlite>(&folder, total, &events[..batch]),
                2 => batches::<Fjall>(&folder, total, &events[..batch]),
                _ => batches::<Plain>(&folder, total, &events[..batch]),
            }
        });
    }
}

fn batches<S: Subject>(folder: &Folder, total: u64, events: &[Event]) -> Sample {
    let subject = S::open(folder.path(), Word::Written);
    let begun = Instant::now();
    let mut latencies = Vec::new();
    for _ in 0..total / events.len() as u64 {
        let begun = Instant::now();
        subject.append(events);
        latencies.push(begun.elapsed());
    }
    Sample::new(total, begun, latencies)
}

/// Reads everything back.
pub(crate) fn replay(effort: Effort, base: &Folder) {
    let total = effort.events(2_000_000);
    let events = events();
    let folders = [(); NAMES.len()].map(|()| Folder::new(base.path()));
    let ours = filled::<Ringmain>(&folders[0], total, &events);
    let sqlite = filled::<Sqlite>(&folders[1], total, &events);
    let fjall = filled::<Fjall>(&folders[2], total, &events);
    let plain = filled::<Plain>(&folders[3], total, &events);
    ask(&format!("replay, {total} events"), effort, &[("SQLite", 5.0), ("fjall", 10.0)], |who| match who {
        0 => read_back(&ours, total),
        1 => read_back(&sqlite, total),
        2 => read_back(&fjall, total),
        _ => read_back(&plain, total),
    });
}

fn filled<S: Subject>(folder: &Folder, total: u64, events: &[Event]) -> S {
    let subject = S::open(folder.path(), Word::Written);
    (0..total / events.len() as u64).for_each(|_| subject.append(events));
    subject
}

fn read_back(subject: &impl Subject, total: u64) -> Sample {
    let begun = Instant::now();
    let (count, bytes) = subject.replay();
    assert!(count == total && bytes >= total * 200, "{count} events of {bytes} bytes were read back, of {total}");
    Sample::new(count, begun, vec![begun.elapsed()])
}
