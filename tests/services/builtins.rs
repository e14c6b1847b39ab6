//! The built-in services together, looked after by a supervisor, as a configuration asks for them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringmain::node::alert::AlertState;
use ringmain::node::config::{Config, Sources};
use ringmain::node::health::Health;
use ringmain::node::services::builtin::{Builtins, BuiltinsError, Task};
use ringmain::node::services::{Service, ServiceState, Services, ServicesOptions, Work};
use ringmain::store::{AuditQuery, AuditTrail, MemoryStore};
use ringmain::{Bus, Payload};
use serde_json::json;

use crate::folder::Folder;
use crate::support::{LONG, bus, next_async, until};

fn config(folder: &Path, text: &str) -> Config {
    let file = folder.join("ringmain.yaml");
    fs::write(&file, text).unwrap();
    Sources { file: Some(file), ..Sources::default() }.load().unwrap()
}

struct Scene {
    bus: Bus,
    store: Arc<MemoryStore>,
    supervisor: Services,
    builtins: Arc<Builtins>,
}

impl Scene {
    fn new(config: &Config) -> Result<Self, BuiltinsError> {
        Self::with(config, &[])
    }

    /// One with services of a program.
    fn with(config: &Config, others: &[Arc<dyn Service>]) -> Result<Self, BuiltinsError> {
        let (bus, store) = (bus(), Arc::new(MemoryStore::new()));
        let trail = AuditTrail::over(&bus, store.clone()).unwrap();
        let heard: Arc<OnceLock<Arc<Builtins>>> = Arc::default();
        let hears = Arc::clone(&heard);
        let supervisor = Services::supervise(ServicesOptions::default(), move |change| {
            if let Some(builtins) = hears.get() {
                builtins.hear(&change);
            }
        });
        let work = |task: Task| async move { Ok(task.kind) };
        let builtins = Arc::new(Builtins::new(&bus, trail, &supervisor, config, others, Some(Arc::new(work)))?);
        assert!(heard.set(Arc::clone(&builtins)).is_ok());
        Ok(Self { bus, store, supervisor, builtins })
    }

    fn names(&self) -> Vec<String> {
        self.supervisor.list().iter().map(|service| service.name.clone()).collect()
    }

    async fn end(self) {
        assert_eq!(self.builtins.end(LONG).await, 0);
        assert!(self.supervisor.shutdown(LONG).await.is_empty());
        self.bus.shutdown().unwrap();
    }
}

const FILE: &str = "\
events:
  store:
    data: DATA
  subscriptions:
    - event_type: \"task.*\"
      handlers: [task_processor, metrics_collector, websocket_broadcast]
watch: [WATCHED]
";

#[tokio::test]
async fn what_is_configured_runs_and_is_changed_without_a_restart() {
    let folder = Folder::new("builtins");
    fs::create_dir(folder.0.join("my docs")).unwrap();
    let watched = folder.0.join("my docs").display().to_string();
    let text = FILE.replace("WATCHED", &watched).replace("DATA", &folder.0.join("my docs/data").display().to_string());
    let scene = Scene::new(&config(&folder.0, &text)).unwrap();
    let applied = scene.builtins.start(&config(&folder.0, &text)).await.unwrap();
    assert_eq!(applied.begun.len(), 2);
    assert_eq!(scene.names(), ["alerts", "metrics_collector", "watch-my-docs", "task_processor"]);
    assert!(scene.supervisor.list().iter().all(|service| service.state == ServiceState::Running));

    let mut inbox = scene.bus.subscribe("**").mailbox().unwrap();
    fs::create_dir(folder.0.join("my docs/data")).unwrap();
    fs::write(folder.0.join("my docs/data/segment"), "1").unwrap();
    fs::write(folder.0.join("my docs/new"), "1").unwrap();
    let created = next_async(&mut inbox).await;
    assert_eq!(
        (created.topic.as_str(), &created.data["kind"]),
        ("filesystem.created", &json!("file")),
        "not what the node writes"
    );
    assert!(created.data["path"].as_str().unwrap().ends_with("my docs/new"));
    drop(inbox);
    let mut results = scene.bus.subscribe("task.completed").mailbox().unwrap();
    let task = Payload::json(r#"{"task_id": "1", "task_type": "nothing"}"#);
    scene.bus.publish("task.created", task).unwrap();
    assert_eq!(next_async(&mut results).await.data["result"], "nothing");

    // A service that is stopped has its events wait; what is new in the file is brought about, what stays is not touched.
    scene.supervisor.stop("task_processor").await.unwrap();
    let record = |name: &str| scene.bus.subscriptions().into_iter().find(|record| record.name == name);
    until(|| record("task_processor: task.*").unwrap().is_paused).await;
    let id = record("task_processor: task.*").unwrap().id;
    scene.bus.publish("task.created", task).unwrap();
    let more = text.replace("watch:", "    - event_type: \"order.*\"\n      handlers: [audit_logger]\nwatch:");
    let applied = scene.builtins.apply(&config(&folder.0, &more)).await.unwrap();
    assert_eq!((applied.begun.len(), applied.ended.len(), applied.kept), (1, 0, 2));
    assert_eq!(record("task_processor: task.*").unwrap().id, id);
    scene.bus.publish("order.placed", Payload::json("{}")).unwrap();
    until(|| AuditQuery::new().object("topic order.placed").stream(&*scene.store).count() == 1).await;
    scene.supervisor.start("task_processor").await.unwrap();
    assert_eq!(next_async(&mut results).await.data["task_id"], "1", "it was done when there was a worker again");
    drop(results);
    let types: Vec<_> = scene.builtins.collector().types().into_iter().map(|count| count.event_type.unwrap()).collect();
    assert!(types.contains(&"task.created".to_owned()), "{types:?}");
    scene.end().await;
}

/// Runs, and does not work.
struct Unwell;

impl Service for Unwell {
    fn name(&self) -> &str {
        "gateway"
    }

    fn kind(&self) -> &str {
        "gateway"
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async { Health::Unhealthy("its cable is cut".to_owned()) })
    }
}

#[tokio::test(start_paused = true)]
async fn another_configuration_has_other_steps_of_the_history_of_metrics() {
    let folder = Folder::new("builtins-history");
    let scene = Scene::new(&config(&folder.0, "")).unwrap();
    scene.builtins.start(&config(&folder.0, "")).await.unwrap();
    scene.builtins.apply(&config(&folder.0, "core:\n  metrics_interval_s: 2\n")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(scene.builtins.collector().history().len(), 2);
    scene.end().await;
}

#[tokio::test]
async fn a_service_that_is_unwell_is_an_alert() {
    let folder = Folder::new("builtins-unwell");
    let scene = Scene::with(&config(&folder.0, ""), &[Arc::new(Unwell)]).unwrap();
    let mut inbox = scene.bus.subscribe("ringmain.alert.*").mailbox().unwrap();
    scene.builtins.start(&config(&folder.0, "")).await.unwrap();
    scene.supervisor.check_now().await;
    let got = loop {
        let got = next_async(&mut inbox).await;
        if got.data["rule"] == "unhealthy" {
            break got;
        }
    };
    assert_eq!((got.topic.as_str(), &got.data["subject"]), ("ringmain.alert.firing", &json!("gateway")));
    assert!(got.data["value"].as_str().unwrap().contains("its cable is cut"), "{:?}", got.data);
    let firing = scene.builtins.alerts().alerts();
    assert!(firing.iter().any(|alert| alert.subject == "gateway" && alert.state == AlertState::Firing));
    drop(inbox);
    scene.end().await;
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_with_its_setting_and_without_the_url() {
    let folder = Folder::new("builtins-url");
    let file = folder.0.join("url");
    let text = format!("notify:\n  url_file: {}\n", file.display());
    let told = || Scene::new(&config(&folder.0, &text)).err().expect("it is refused").to_string();
    assert!(told().contains("cannot be read"), "{}", told());
    for (url, expected) in [("", "is empty"), ("hooks.test/secret-token", "begins with http://")] {
        fs::write(&file, url).unwrap();
        let error = told();
        assert!(error.contains("notify.url_file") && error.contains(expected) && !error.contains("token"), "{error}");
    }
    fs::write(&file, "https://hooks.test/secret-token\n").unwrap();
    assert!(!format!("{:?}", Scene::new(&config(&folder.0, &text)).unwrap().builtins).contains("token"));
}

#[test]
fn webhooks_are_declared_in_a_file_with_their_secrets_in_another_one() {
    let folder = Folder::new("builtins-webhooks");
    let text = "webhooks:\n  - name: github\n    secret_file: /run/secrets/github\n    type_header: X-GitHub-Event\n";
    let config = config(&folder.0, text);
    let [webhook] = config.webhooks() else { panic!("{:?}", config.webhooks()) };
    assert_eq!((webhook.name.as_str(), webhook.secret_file.as_path()), ("github", Path::new("/run/secrets/github")));
    assert_eq!(webhook.type_header.as_deref(), Some("x-github-event"), "as it is looked for");
    assert_eq!((&webhook.event_type, &webhook.signature_header, &webhook.id_header), (&None, &None, &None));

    let wrong = "webhooks:\n  - name: a\n    secrets: [x]\n  - 7\n";
    fs::write(folder.0.join("wrong.yaml"), wrong).unwrap();
    let told = Sources { file: Some(folder.0.join("wrong.yaml")), ..Sources::default() }.load().unwrap_err();
    let told: Vec<_> = told.faults().iter().map(|fault| fault.to_string()).collect();
    assert!(told[0].contains(":3:") && told[0].contains("and no secrets"), "{told:?}");
    assert!(told[1].contains(":2:") && told[1].contains("no secret_file"), "{told:?}");
    assert!(told[2].contains(":4:") && told[2].contains("is a map of"), "{told:?}");
}
