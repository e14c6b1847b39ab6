//! The filesystem watcher: what happens to real files is an event, once, whatever the system says how often.

use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use ringmain::node::health::Health;
use ringmain::node::services::Service;
use ringmain::node::services::builtin::watcher::{
    Change, FilesystemWatcher, Kind, Listen, Tree, TreeLimits, WatchError, WatcherOptions, What,
};
use ringmain::{Bus, Mailbox, Pattern};
use serde_json::{Value, json};

use crate::books::end;
use crate::folder::Folder;
use crate::support::{Got, LONG, bus, next};

const LIMITS: TreeLimits = TreeLimits { folders_max: 100, entries_max: 1_000 };

/// Remembers which folders are listened to.
#[derive(Default)]
struct Listens(Vec<PathBuf>);

impl Listen for Listens {
    fn begin(&mut self, folder: &Path) -> Result<(), WatchError> {
        assert!(!self.0.iter().any(|known| known == folder), "{} is listened to", folder.display());
        self.0.push(folder.to_owned());
        Ok(())
    }

    fn end(&mut self, folder: &Path) {
        let at = self.0.iter().position(|known| known == folder);
        self.0.remove(at.unwrap_or_else(|| panic!("{} was listened to", folder.display())));
    }
}

/// A tree over a real folder, looked at by hand.
struct Scene {
    folder: Folder,
    tree: Tree,
    listens: Listens,
}

impl Scene {
    fn new(name: &str, files: &[&str]) -> Self {
        let folder = Folder::new(name);
        let mut listens = Listens::default();
        for file in files {
            write(&folder.0.join(file), "as it was");
        }
        let tree = Tree::read(&folder.0, vec![folder.0.join("data")], LIMITS, &mut listens).unwrap();
        Self { folder, tree, listens }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// What is found at these places, or anywhere.
    fn look(&mut self, names: &[&str]) -> Vec<String> {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let (changes, outcome) = self.tree.look(paths, names.is_empty(), &mut self.listens);
        outcome.unwrap();
        changes.iter().map(|change| self.said(change)).collect()
    }

    fn said(&self, change: &Change) -> String {
        let name = |path: &Path| path.strip_prefix(&self.folder.0).unwrap().display().to_string();
        let kind = if change.kind == Kind::Folder { "/" } else { "" };
        let path = name(&change.path) + kind;
        match &change.what {
            What::Created => format!("+ {path}"),
            What::Modified => format!("~ {path}"),
            What::Deleted => format!("- {path}"),
            What::Renamed { from } => format!("{} > {path}", name(from)),
        }
    }
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

#[test]
fn what_is_different_is_said_once_with_both_names_of_what_was_renamed() {
    let mut scene = Scene::new("watch-tree", &["a", "b", "docs/c", "docs/deep/d"]);
    assert!(scene.look(&["a", "b"]).is_empty(), "nothing happened");
    write(&scene.path("a"), "longer than it was");
    write(&scene.path("new/e"), "e");
    assert_eq!(scene.look(&["a", "new", "new/e"]), ["+ new/", "+ new/e", "~ a"]);
    fs::rename(scene.path("b"), scene.path("renamed")).unwrap();
    fs::rename(scene.path("docs"), scene.path("papers")).unwrap();
    assert_eq!(
        scene.look(&["docs", "papers", "b", "renamed"]),
        ["docs > papers/", "b > renamed"],
        "and nothing of what is in it"
    );
    assert_eq!(scene.look(&[]), [""; 0]);

    // Renamed and written to: both are said.
    fs::rename(scene.path("papers/c"), scene.path("papers/c2")).unwrap();
    write(&scene.path("papers/c2"), "something else in it");
    assert_eq!(scene.look(&["papers/c", "papers/c2"]), ["papers/c > papers/c2", "~ papers/c2"]);
    fs::remove_dir_all(scene.path("papers")).unwrap();
    assert_eq!(scene.look(&["papers"]), ["- papers/deep/d", "- papers/deep/", "- papers/c2", "- papers/"]);
    assert_eq!(scene.tree.folders(), 2);
    assert_eq!(scene.listens.0, [scene.folder.0.clone(), scene.path("new")]);
}

#[test]
fn a_file_with_the_number_of_a_removed_one_is_not_that_one() {
    let mut scene = Scene::new("watch-numbers", &["a"]);
    // Most file systems give the number again at once.
    fs::remove_file(scene.path("a")).unwrap();
    write(&scene.path("b"), "another");
    assert_eq!(scene.look(&["a", "b"]), ["- a", "+ b"]);

    // What editors do when they save.
    write(&scene.path("b.tmp"), "saved");
    fs::rename(scene.path("b.tmp"), scene.path("b")).unwrap();
    assert_eq!(scene.look(&["b.tmp", "b"]), ["~ b"]);
}

#[test]
fn a_look_at_everything_finds_what_nobody_told_of() {
    let mut scene = Scene::new("watch-all", &["a", "b/c", "b/d"]);
    write(&scene.path("b/e/f"), "f");
    write(&scene.path("a"), "changed a lot");
    fs::rename(scene.path("b/c"), scene.path("c")).unwrap();
    fs::remove_file(scene.path("b/d")).unwrap();
    assert_eq!(scene.look(&[]), ["- b/d", "b/c > c", "+ b/e/", "+ b/e/f", "~ a"]);
    assert_eq!(scene.look(&[]), [""; 0]);
}

#[test]
fn what_git_ignores_and_what_the_node_writes_is_not_seen() {
    let mut scene =
        Scene::new("watch-ignored", &["a", ".git/HEAD", "data/log", "target/x", "sub/keep", "sub/drop.log"]);
    assert_eq!(scene.tree.entries(), 7, "without .git and data: the folder, a, target, x, sub and its two");
    write(&scene.path(".gitignore"), "target/\n*.log\n!important.log\n");
    assert_eq!(scene.look(&[".gitignore"]), ["+ .gitignore"], "what it names is forgotten without a word");
    assert_eq!(scene.listens.0.len(), 2);
    for file in ["target/y", "b.log", "important.log", "sub/c.log", ".git/index", "data/more"] {
        write(&scene.path(file), "1");
    }
    assert_eq!(
        scene.look(&["target/y", "b.log", "important.log", "sub/c.log", ".git/index", "data/more"]),
        ["+ important.log"]
    );

    // The nearest file decides, and one that changes is read again.
    write(&scene.path("sub/.gitignore"), "!c.log\n");
    assert_eq!(scene.look(&["sub/.gitignore"]), ["+ sub/.gitignore"]);
    write(&scene.path("sub/c.log"), "changed now");
    assert_eq!(scene.look(&["sub/c.log"]), ["~ sub/c.log"], "it is known from then on");
    assert_eq!(scene.look(&[]), [""; 0]);
}

#[test]
fn a_folder_that_is_another_one_is_listened_to_anew() {
    let mut scene = Scene::new("watch-anew", &["a", "b/c"]);
    let aside = Folder::new("watch-anew-aside");
    fs::rename(&scene.folder.0, aside.0.join("old")).unwrap();
    assert_eq!(scene.look(&[""]), ["- b/c", "- b/", "- a", "- /"]);
    assert!(scene.tree.is_gone() && scene.listens.0.is_empty());
    assert_eq!(scene.look(&[]), [""; 0], "it is still gone");
    write(&scene.path("new"), "1");
    assert_eq!(scene.look(&[]), ["+ /", "+ new"]);
    assert_eq!(scene.listens.0, [scene.folder.0.clone()]);

    // Replaced between two looks, with what was in it put back.
    fs::rename(&scene.folder.0, aside.0.join("other")).unwrap();
    fs::create_dir(&scene.folder.0).unwrap();
    fs::rename(aside.0.join("other/new"), scene.path("new")).unwrap();
    assert_eq!(scene.look(&[""]), ["- /", "+ /"]);
    assert_eq!((scene.listens.0.len(), scene.tree.entries()), (1, 2));
    write(&scene.path("new"), "longer");
    assert_eq!(scene.look(&["new"]), ["~ new"]);
}

#[test]
fn limits_are_said_with_what_to_do() {
    let folder = Folder::new("watch-limits");
    for nth in 0..5 {
        write(&folder.0.join(format!("{nth}/file")), "x");
    }
    let read = |folders_max, entries_max| {
        let limits = TreeLimits { folders_max, entries_max };
        Tree::read(&folder.0, Vec::new(), limits, &mut Listens::default()).map(|tree| tree.entries())
    };
    assert_eq!(read(6, 11).unwrap(), 11);
    let told = read(5, 11).unwrap_err().to_string();
    assert!(told.contains("more than 5 folders") && told.contains(".gitignore"), "{told}");
    let told = read(6, 10).unwrap_err().to_string();
    assert!(told.contains("more than 10 files and folders") && told.contains("entries_max"), "{told}");
    let told = Tree::read(&folder.0.join("0/file"), Vec::new(), LIMITS, &mut Listens::default()).unwrap_err();
    assert!(told.to_string().contains("is no folder"), "{told}");
    let told = WatchError::NoWatches { folder: folder.0.clone() }.to_string();
    assert!(told.contains("fs.inotify.max_user_watches"), "{told}");
}

/// A watcher on a real folder, and an inbox of what it says.
struct Watching {
    folder: Folder,
    /// On the same disk, and not watched.
    aside: Folder,
    bus: Bus,
    watcher: Arc<FilesystemWatcher>,
    inbox: Mailbox<Pattern>,
    runtime: tokio::runtime::Runtime,
}

impl Watching {
    fn new(name: &str, files: &[&str], set: impl FnOnce(&mut WatcherOptions)) -> Self {
        let (folder, aside) = (Folder::new(name), Folder::new(&format!("{name}-aside")));
        files.iter().for_each(|file| write(&folder.0.join(file), "as it was"));
        let mut options =
            WatcherOptions { debounce: Duration::from_millis(20), ..WatcherOptions::new("files", &folder.0) };
        set(&mut options);
        let bus = bus();
        let inbox = bus.subscribe("filesystem.*").mailbox().unwrap();
        let watcher = Arc::new(FilesystemWatcher::new(&bus, options));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(watcher.start()).unwrap();
        Self { folder, aside, bus, watcher, inbox, runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// Puts a file there in one step, however slow the machine is: nobody sees it half written.
    fn put(&self, name: &str, text: &str) {
        let written = self.aside.0.join("file");
        write(&written, text);
        fs::rename(written, self.path(name)).unwrap();
    }

    /// The next event, as topic and the data of it that says where.
    fn next(&mut self) -> (String, Value) {
        let Got { topic, mut data } = next(&mut self.inbox);
        let name = |value: &Value| {
            let path = Path::new(value.as_str().unwrap())
                .strip_prefix(self.folder.0.canonicalize().unwrap())
                .unwrap()
                .to_owned();
            json!(path)
        };
        for member in ["path", "from"] {
            if data.get(member).is_some() {
                data[member] = name(&data[member]);
            }
        }
        (topic, data)
    }

    /// Whether nothing more is on its way: a mark that is made now is the next thing that is heard of.
    fn is_quiet(&mut self) -> bool {
        self.put("mark", "mark");
        self.next() == ("filesystem.created".to_owned(), json!({ "path": "mark", "kind": "file", "bytes": 4 }))
    }

    /// Waits until it is so.
    fn is(&self, is_so: impl Fn(&Health) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.runtime.block_on(self.watcher.health())) {
            assert!(begun.elapsed() < LONG, "it comes to be so");
            thread::yield_now();
        }
    }

    /// The next events, each as its topic and path.
    fn heard<const N: usize>(&mut self) -> [String; N] {
        std::array::from_fn(|_| {
            let (topic, data) = self.next();
            format!("{} {}", topic.trim_start_matches("filesystem."), data["path"].as_str().unwrap())
        })
    }

    fn end(self) {
        self.runtime.block_on(self.watcher.stop()).unwrap();
        drop(self.inbox);
        end(&self.bus);
    }
}

#[test]
fn what_happens_to_files_is_heard_on_the_bus() {
    let mut watching = Watching::new("watch-files", &["old", "folder/inside"], |_| {});
    watching.put("new", "four");
    assert_eq!(
        watching.next(),
        ("filesystem.created".to_owned(), json!({ "path": "new", "kind": "file", "bytes": 4 }))
    );
    watching.put("folder/inside", "other");
    assert_eq!(
        watching.next(),
        ("filesystem.modified".to_owned(), json!({ "path": "folder/inside", "kind": "file", "bytes": 5 }))
    );
    fs::rename(watching.path("old"), watching.path("folder/older")).unwrap();
    let renamed = json!({ "path": "folder/older", "from": "old", "kind": "file", "bytes": 9 });
    assert_eq!(watching.next(), ("filesystem.renamed".to_owned(), renamed));
    fs::remove_file(watching.path("new")).unwrap();
    assert_eq!(
        watching.next(),
        ("filesystem.deleted".to_owned(), json!({ "path": "new", "kind": "file", "bytes": 4 }))
    );
    assert!(watching.is_quiet());
    watching.runtime.block_on(watching.watcher.stop()).unwrap();
    assert_eq!(watching.watcher.counts().published, 5);
    watching.end();
}

#[test]
fn folders_that_come_later_are_watched_under_the_name_that_they_have() {
    let mut watching = Watching::new("watch-later", &[], |_| {});
    fs::create_dir_all(watching.path("a/b")).unwrap();
    let heard = [watching.next(), watching.next()].map(|(topic, data)| (topic, data["path"].clone()));
    assert_eq!(heard, ["a", "a/b"].map(|path| ("filesystem.created".to_owned(), json!(path))));
    fs::rename(watching.path("a"), watching.path("c")).unwrap();
    assert_eq!(
        watching.next(),
        ("filesystem.renamed".to_owned(), json!({ "path": "c", "from": "a", "kind": "folder" }))
    );
    watching.put("c/b/file", "1");
    let (topic, data) = watching.next();
    assert_eq!((topic.as_str(), &data["path"]), ("filesystem.created", &json!("c/b/file")));
    fs::remove_dir_all(watching.path("c")).unwrap();
    let gone: Vec<_> = (0..3).map(|_| watching.next()).map(|(_, data)| data["path"].clone()).collect();
    assert_eq!(gone, ["c/b/file", "c/b", "c"]);
    assert!(watching.is_quiet());
    watching.end();
}

#[test]
fn many_writes_to_a_file_are_few_events() {
    let debounce = Duration::from_millis(200);
    let mut watching = Watching::new("watch-bursts", &[], |options| options.debounce = debounce);
    let begun = Instant::now();
    for nth in 0..200 {
        write(&watching.path("busy"), &"x".repeat(nth + 1));
    }
    let (mut topics, mut bytes) = (Vec::new(), json!(0));
    while bytes != json!(200) {
        let (topic, data) = watching.next();
        topics.push(topic);
        bytes = data["bytes"].clone();
    }
    assert_eq!(topics.remove(0), "filesystem.created");
    assert!(topics.iter().all(|topic| topic == "filesystem.modified"), "{topics:?}");
    let most = begun.elapsed().as_millis() / debounce.as_millis();
    assert!(topics.len() as u128 <= most, "{} in {most} times the debounce", topics.len());
    assert!(watching.is_quiet());
    watching.end();
}

#[test]
fn after_lost_hints_everything_is_looked_at_and_that_is_said() {
    let mut watching = Watching::new("watch-lost", &["a"], |options| options.pending_max = 1);
    watching.watcher.rescan();
    assert_eq!(watching.next(), ("filesystem.rescanned".to_owned(), json!({ "path": "" })));
    // More places than may wait are the same as hints that the system lost.
    for nth in 0..20 {
        watching.put(&format!("new-{nth:02}"), "x");
    }
    let (mut created, mut rescans) = (Vec::new(), 0);
    while created.len() < 20 {
        match watching.next() {
            (topic, data) if topic == "filesystem.created" => created.push(data["path"].as_str().unwrap().to_owned()),
            (topic, _) => {
                assert_eq!(topic, "filesystem.rescanned");
                rescans += 1;
            }
        }
    }
    created.sort();
    assert_eq!(created, (0..20).map(|nth| format!("new-{nth:02}")).collect::<Vec<_>>(), "each once");
    if rescans == 0 {
        assert_eq!(watching.next().0, "filesystem.rescanned");
    }
    assert!(watching.watcher.counts().rescans >= 2);
    watching.end();
}

#[test]
fn a_folder_that_is_removed_and_made_again_is_watched_again() {
    let mut watching = Watching::new("watch-again", &["root/a"], |options| {
        options.folder.push("root");
        options.return_every = options.debounce;
    });
    fs::remove_dir_all(watching.path("root")).unwrap();
    assert_eq!(watching.heard(), ["deleted root/a", "deleted root"]);
    watching.is(|health| matches!(health, Health::Degraded(reason) if reason.contains("is gone")));
    // In one step, with something in it.
    write(&watching.aside.0.join("root/b"), "1");
    fs::rename(watching.aside.0.join("root"), watching.path("root")).unwrap();
    assert_eq!(watching.heard(), ["created root", "created root/b", "rescanned root"]);
    watching.is(|health| *health == Health::Healthy);
    watching.put("root/c", "1");
    assert_eq!(watching.heard(), ["created root/c"], "the system tells of it again");
    watching.end();
}

#[test]
fn what_there_was_no_room_for_is_watched_when_there_is() {
    let mut watching = Watching::new("watch-room", &["a/x", "b/y"], |options| options.folders_max = 3);
    write(&watching.aside.0.join("c/z"), "1");
    fs::rename(watching.aside.0.join("c"), watching.path("c")).unwrap();
    watching.is(|health| matches!(health, Health::Degraded(reason) if reason.contains("more than 3 folders")));
    fs::remove_dir_all(watching.path("b")).unwrap();
    assert_eq!(watching.heard(), ["deleted b/y", "deleted b", "created c", "created c/z", "rescanned "]);
    watching.is(|health| *health == Health::Healthy);
    watching.end();
}

#[test]
fn what_was_left_out_is_looked_for_now_and_then() {
    let mut watching = Watching::new("watch-rescan", &[], |options| {
        (options.folders_max, options.rescan_every) = (1, options.debounce);
    });
    fs::create_dir(watching.path("a")).unwrap();
    assert_eq!(watching.heard(), ["rescanned ", "rescanned "], "nobody has told of anything");
    watching.end();
}

#[test]
fn a_start_that_nobody_waits_for_leaves_nothing_behind() {
    let folder = Folder::new("watch-abandoned");
    // Whoever looks at files has a publisher.
    let bus = Bus::builder().workers(1).publishers_max(1).build().unwrap();
    let watcher = FilesystemWatcher::new(&bus, WatcherOptions::new("files", &folder.0));
    // What is asked of it later comes behind the start.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let mut start = watcher.start();
        let began = poll_fn(|context| Poll::Ready(start.as_mut().poll(context))).await;
        drop(start);
        if began.is_ready() {
            watcher.stop().await.unwrap();
        }
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        let begun = Instant::now();
        while let Err(error) = bus.publisher() {
            assert!(begun.elapsed() < LONG, "{error}");
            thread::yield_now();
        }
        watcher.start().await.unwrap();
        watcher.stop().await.unwrap();
    });
    end(&bus);
}

#[test]
fn a_folder_that_cannot_be_watched_is_refused_and_one_that_goes_is_missed() {
    let folder = Folder::new("watch-health");
    let bus = bus();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let start =
        |options| runtime.block_on(FilesystemWatcher::new(&bus, options).start()).map_err(|error| error.to_string());
    let told = start(WatcherOptions::new("files", folder.0.join("absent"))).unwrap_err();
    assert!(told.contains("cannot be read"), "{told}");
    let inside = WatcherOptions { excluded: vec![folder.0.clone()], ..WatcherOptions::new("files", &folder.0) };
    let told = start(inside).unwrap_err();
    assert!(told.contains("which the node writes to"), "{told}");
    let few = WatcherOptions { folders_max: 1, ..WatcherOptions::new("files", folder.0.join("watched")) };
    fs::create_dir_all(folder.0.join("watched/more")).unwrap();
    let told = start(few).unwrap_err();
    assert!(told.contains("more than 1 folders"), "{told}");

    let watcher = FilesystemWatcher::new(&bus, WatcherOptions::new("files", folder.0.join("watched")));
    runtime.block_on(watcher.start()).unwrap();
    assert_eq!(runtime.block_on(watcher.health()), Health::Healthy);
    fs::remove_dir_all(folder.0.join("watched")).unwrap();
    let health = runtime.block_on(watcher.health());
    assert!(matches!(&health, Health::Degraded(reason) if reason.contains("is gone")), "{health}");
    runtime.block_on(watcher.stop()).unwrap();
    fs::create_dir(folder.0.join("watched")).unwrap();
    runtime.block_on(watcher.start()).unwrap();
    assert_eq!(runtime.block_on(watcher.health()), Health::Healthy, "it begins again");
    runtime.block_on(watcher.stop()).unwrap();
    assert!(matches!(runtime.block_on(watcher.health()), Health::Unhealthy(_)));
    end(&bus);
}
