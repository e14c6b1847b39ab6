//! Runs tests with an ordering weakened, by loom, by Miri and under ThreadSanitizer, and tells which of them notices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::source::Site;

/// How a model's process ends that found what it hunted for, or in which the source panicked; see `hunt.rs`.
const FOUND: [i32; 2] = [40, 44];
/// Longer than any model takes, and than Miri and ThreadSanitizer take to notice what they do.
const LIMIT: Duration = Duration::from_secs(150);
/// How often a process is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// A test binary and the tests of it that are run.
#[derive(Debug)]
struct Binary {
    name: String,
    path: PathBuf,
    tests: Vec<String>,
}

/// The tests that one tool runs, and which of them come by which place.
#[derive(Debug)]
pub(crate) struct Suite {
    binaries: Vec<Binary>,
    visits: BTreeMap<String, BTreeSet<(usize, usize)>>,
}

struct Ended {
    /// Nothing where it was stopped.
    status: Option<ExitStatus>,
    said: String,
}

impl Ended {
    /// What was stopped has judged nothing, which is not to be taken for a verdict.
    fn tell_unless_in_time(&self, what: &str, site: &Site) {
        if self.status.is_none() {
            println!(
                "orderings: {what} was stopped after {LIMIT:?}, and has not judged {} {}",
                site.function, site.labels
            );
        }
    }
}

/// Runs `command` to its end, or to the time limit.
fn run(command: &mut Command) -> Ended {
    // In a group of its own: cargo runs what is to be stopped as a process of its own, and that one holds the pipe.
    let command = command.process_group(0);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stderr = child.stderr.take().expect("it is piped");
    let reading = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child may be waited for") {
            Some(status) => break Some(status),
            None if begun.elapsed() > LIMIT => {
                let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
                let _ = child.wait();
                break None;
            }
            None => thread::sleep(POLL),
        }
    };
    Ended { status, said: reading.join().expect("reading does not panic") }
}

impl Binary {
    fn new(path: &str) -> Self {
        let path = PathBuf::from(path);
        let file = path.file_name().expect("a test binary is a file").to_string_lossy();
        let name = file.rsplit_once('-').map_or(&*file, |(name, _)| name).to_owned();
        let listed = Command::new(&path).args(["--list", "--format=terse"]).output().expect("the program starts");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let tests = listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned);
        Self { name, tests: tests.collect(), path }
    }

    fn test(&self, nth: usize) -> Command {
        let mut command = Command::new(&self.path);
        command.args([&self.tests[nth], "--exact", "--test-threads=1", "--nocapture"]);
        command
    }
}

impl Suite {
    /// The tests of the binaries that the variable `listed_in` names. Asks each which places it comes by; one that fails
    /// by itself is left out.
    pub(crate) fn new(listed_in: &str) -> Option<Self> {
        let paths = env::var(listed_in).ok()?;
        let binaries: Vec<_> = paths.split_whitespace().map(Binary::new).collect();
        let mut visits: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (nth, binary) in binaries.iter().enumerate() {
            for test in 0..binary.tests.len() {
                let ended = run(binary.test(test).env("RINGMAIN_VISITS", "1"));
                if !ended.status.is_some_and(|status| status.success()) {
                    let last = ended.said.lines().last().unwrap_or("it said nothing");
                    println!(
                        "orderings: {}::{} fails as it is, and judges nothing: {last}",
                        binary.name, binary.tests[test]
                    );
                    continue;
                }
                for line in ended.said.lines() {
                    if let Some((_, place)) = line.split_once("visits ") {
                        visits.entry(place.to_owned()).or_default().insert((nth, test));
                    }
                }
            }
        }
        Some(Self { binaries, visits })
    }

    /// The tests that come by `site`.
    fn by(&self, site: &Site) -> impl Iterator<Item = (&Binary, usize)> {
        let visits = self.visits.get(&site.place()).into_iter().flatten();
        visits.map(|&(binary, test)| (&self.binaries[binary], test))
    }

    /// How many tests come by `site`.
    pub(crate) fn comers(&self, site: &Site) -> usize {
        self.by(site).count()
    }

    /// Places that no site is: the two ways to name one have parted.
    pub(crate) fn unknown<'a>(&'a self, sites: &[Site]) -> Vec<&'a str> {
        let known: BTreeSet<_> = sites.iter().map(Site::place).collect();
        let ours = self.visits.keys().filter(|place| is_whole(place) && !known.contains(*place));
        ours.map(String::as_str).collect()
    }

    /// The first test that notices `site` weakened, by `judge`. Begins none when the time of one is over.
    fn first(&self, site: &Site, weaker: &str, judge: impl Fn(&Ended) -> bool) -> Option<String> {
        let begun = Instant::now();
        let comers = self.comers(site);
        let mut asked = 0;
        let verdict = self.by(site).take_while(|_| begun.elapsed() < LIMIT).find_map(|(binary, test)| {
            asked += 1;
            let ended = run(binary.test(test).env("RINGMAIN_WEAKEN", wish(site, weaker)));
            ended.tell_unless_in_time(&format!("{}::{}", binary.name, binary.tests[test]), site);
            judge(&ended).then(|| format!("`{}::{}`", binary.name, binary.tests[test]))
        });
        if verdict.is_none() && asked < comers {
            println!("orderings: {asked} of {comers} tests had the time to judge {} {}", site.function, site.labels);
        }
        verdict
    }

    /// As loom does, which has its own word for it.
    pub(crate) fn by_loom(&self, site: &Site, weaker: &str) -> Option<String> {
        let found =
            |ended: &Ended| ended.status.is_some_and(|status| status.code().is_some_and(|code| FOUND.contains(&code)));
        self.first(site, weaker, found).map(|by| format!("loom, {by}"))
    }

    /// As ThreadSanitizer does: a race that it reports. What else fails in a whole bus may have to do with time.
    pub(crate) fn by_tsan(&self, site: &Site, weaker: &str) -> Option<String> {
        let races = |ended: &Ended| ended.said.contains("ThreadSanitizer: data race");
        self.first(site, weaker, races).map(|by| format!("ThreadSanitizer, {by}"))
    }

    /// As Miri does, which interprets the same tests: those of each binary at once.
    pub(crate) fn by_miri(&self, site: &Site, weaker: &str, folder: &Path) -> Option<String> {
        let mut of_binary: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (binary, test) in self.by(site) {
            of_binary.entry(binary.name.as_str()).or_default().push(binary.tests[test].as_str());
        }
        of_binary.into_iter().find_map(|(name, tests)| {
            let ended = run(miri(folder, name, &tests).env("RINGMAIN_WEAKEN", wish(site, weaker)));
            ended.tell_unless_in_time(&format!("Miri over {name}"), site);
            has_failed(&ended).then(|| format!("Miri, `{name}`"))
        })
    }
}

/// Another process may write into the line that tells a place.
fn is_whole(place: &str) -> bool {
    place.starts_with("src/") && place.split(':').count() == 4 && !place.ends_with(':')
}

fn wish(site: &Site, weaker: &str) -> String {
    format!("{}={weaker}", site.place())
}

/// A failure that is neither a build's nor the tool's own.
fn has_failed(ended: &Ended) -> bool {
    let reasons = ["Undefined Behavior", "panicked at", "deadlock"];
    ended.status.is_some_and(|status| !status.success()) && reasons.iter().any(|reason| ended.said.contains(reason))
}

/// Miri over `tests` of the binary `name`, some schedules each.
fn miri(folder: &Path, name: &str, tests: &[&str]) -> Command {
    const FLAGS: &str = "-Zmiri-strict-provenance -Zmiri-env-forward=RINGMAIN_WEAKEN -Zmiri-many-seeds=0..4";
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test", "--quiet", "-p", "loom-tests", "--test", name, "--", "--exact"]);
    command.args(tests).env("MIRIFLAGS", FLAGS).env("RUSTFLAGS", "--cfg ringmain_weaken");
    command.env("CARGO_TARGET_DIR", folder);
    command
}
