//! What does a process cost whose bus has nothing to do?

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ringmain::{Bus, Payload};

use super::{Job, Outcome, Question, Sample};
use crate::machine::cpu_time;

/// Nothing happens for so long before it is looked: every worker has found its rest by then.
const SETTLING: Duration = Duration::from_millis(100);
/// How long is looked.
const LOOKING: Duration = Duration::from_secs(2);

/// CPU and voluntary context switches of the whole process, the harness's own thread asleep once, beside a bus with
/// default settings and one subscription that has had one event.
pub(super) fn run(job: &Job<'_>) -> Outcome {
    let bus = Bus::builder().build().expect("the defaults are valid");
    bus.subscribe("rivals.idle").handle(|_, _| ()).expect("the bus runs").forever();
    bus.publish("rivals.idle", Payload::raw(&[])).expect("the bus is empty");
    bus.flush().expect("one event is delivered at once");
    thread::sleep(SETTLING);
    let (cpu, switches, start) = (cpu_time(), switches(), Instant::now());
    thread::sleep(if job.smoke { LOOKING / 20 } else { LOOKING });
    // The one that is taken off is this thread's, which slept.
    let slept = switches_since(switches).saturating_sub(1);
    let (used, seconds) = (cpu_time() - cpu, start.elapsed().as_secs_f64());
    bus.shutdown().expect("this is no worker");
    let mut outcome = Outcome::one(Question::Idle, used.as_secs_f64() / seconds * 100.0, None);
    let value = slept as f64 / seconds;
    outcome.samples.push(Sample { question: Question::IdleSwitches, value, latency: None });
    outcome
}

fn switches_since(earlier: u64) -> u64 {
    switches().saturating_sub(earlier)
}

/// How often the threads that this process has now have given their core away of their own accord.
fn switches() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            count.trim().parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_seen_to_switch() {
        const TURNS: u64 = 50;
        let (there, inbox) = mpsc::sync_channel(0);
        let (outbox, back) = mpsc::sync_channel(0);
        let before = switches();
        let echo = thread::spawn(move || {
            for turn in inbox {
                outbox.send(turn).expect("the other side waits for it");
            }
        });
        for turn in 0..TURNS {
            there.send(turn).expect("the echo lives");
            assert_eq!(back.recv(), Ok(turn));
        }
        // A rendezvous can be had by spinning, but not every time.
        assert!(switches_since(before) > 0);
        drop(there);
        echo.join().expect("it has nothing to panic over");
    }
}
