//! Sagas: wherever a process dies, each effect happens once by its key, and what failed is undone in reverse order.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::sourcing::{Persist, Sagas};

mod deaths;
mod failures;
mod harness;
mod kills;
mod task;

type Cause = Box<dyn Error + Send + Sync>;

/// What steps did to the rest of the world, which knows repetitions by their keys.
#[derive(Default)]
struct World {
    effects: Mutex<Vec<String>>,
    calls: AtomicU64,
    /// Where effects are kept that outlive the process.
    kept: Option<File>,
}

impl World {
    /// One whose effects are in a file.
    fn kept_in(path: &Path) -> Arc<Self> {
        let kept = File::options().create(true).append(true).open(path).unwrap();
        let effects = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        Arc::new(Self { effects: Mutex::new(effects), calls: AtomicU64::new(0), kept: Some(kept) })
    }

    fn act(&self, key: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut effects = self.effects.lock().unwrap();
        if !effects.iter().any(|effect| effect == key) {
            if let Some(mut kept) = self.kept.as_ref() {
                kept.write_all(format!("{key}\n").as_bytes()).unwrap();
            }
            effects.push(key.to_owned());
        }
    }

    fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }
}

/// Data that grows by one word a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trail(Vec<String>);

impl Trail {
    fn add(&mut self, word: &str) {
        self.0.push(word.to_owned());
    }
}

impl Persist for Trail {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(self.0.join(" ").into_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(Self(std::str::from_utf8(bytes)?.split_whitespace().map(Into::into).collect()))
    }
}

/// Seconds that a test moves on.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000 + self.0.load(Ordering::Relaxed))
    }

    fn of<D: Persist>(&self, sagas: Sagas<D>) -> Sagas<D> {
        let hand = self.clone();
        sagas.clock(move || hand.now())
    }
}
