//! What a supervisor promises of services.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::super::{Services, Work};
use super::*;

/// What services were asked, in order, and what they are to answer.
#[derive(Default)]
struct Script {
    calls: Mutex<Vec<String>>,
    fails: Mutex<HashMap<String, u32>>,
    health: Mutex<HashMap<String, Health>>,
}

struct Scripted {
    name: &'static str,
    needs: &'static [&'static str],
    script: Arc<Script>,
}

impl Scripted {
    fn work(&self, what: &str) -> Work<'_, Result<(), ServiceFailure>> {
        let call = format!("{what} {}", self.name);
        Box::pin(async move {
            self.script.calls.lock().unwrap().push(call.clone());
            match self.script.fails.lock().unwrap().get_mut(&call) {
                Some(times) if *times > 0 => {
                    *times -= 1;
                    Err(ServiceFailure::new("as the script says"))
                }
                _ => Ok(()),
            }
        })
    }
}

impl Service for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &str {
        "scripted"
    }

    fn needs(&self) -> &[&str] {
        self.needs
    }

    fn start(&self) -> Work<'_, Result<(), ServiceFailure>> {
        self.work("start")
    }

    fn stop(&self) -> Work<'_, Result<(), ServiceFailure>> {
        self.work("stop")
    }

    fn health(&self) -> Work<'_, Health> {
        let health = self.script.health.lock().unwrap().get(self.name).cloned();
        Box::pin(async move { health.unwrap_or(Health::Healthy) })
    }
}

struct Scene {
    services: Services,
    script: Arc<Script>,
    changes: Arc<Mutex<Vec<ServiceChange>>>,
}

/// Three services, of which `page` needs `api`, which needs `store`.
async fn scene() -> Scene {
    let (script, changes) = (Arc::new(Script::default()), Arc::new(Mutex::new(Vec::new())));
    let hears = Arc::clone(&changes);
    let services = Services::supervise(ServicesOptions::default(), move |change| hears.lock().unwrap().push(change));
    let known: [(&str, &[&str]); 3] = [("store", &[]), ("api", &["store"]), ("page", &["api"])];
    for (name, needs) in known {
        let service = Scripted { name, needs, script: Arc::clone(&script) };
        services.register(Arc::new(service)).await.unwrap();
    }
    Scene { services, script, changes }
}

impl Scene {
    async fn start_all(&self) {
        // All at once: the order is the supervisor's to keep.
        let started = ["page", "api", "store"].map(|name| {
            let services = self.services.clone();
            tokio::spawn(async move { services.start(name).await })
        });
        for one in started {
            // The first may hear that what it needs is not wanted yet.
            drop(one.await.unwrap());
        }
        for name in ["store", "api", "page"] {
            self.services.start(name).await.unwrap();
        }
    }

    fn calls(&self) -> Vec<String> {
        mem::take(&mut *self.script.calls.lock().unwrap())
    }

    fn fail(&self, call: &str, times: u32) {
        self.script.fails.lock().unwrap().insert(call.to_owned(), times);
    }

    fn set_health(&self, name: &str, health: Health) {
        self.script.health.lock().unwrap().insert(name.to_owned(), health);
    }

    fn state(&self, name: &str) -> ServiceState {
        self.services.get(name).unwrap().state
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_restarts_a_service_does_not_wait_for_its_rest_and_a_rest_that_is_over_wakes_nobody() {
    let scene = scene().await;
    scene.fail("start store", 1);
    let services = scene.services.clone();
    let starting = tokio::spawn(async move { services.start("store").await });
    while scene.state("store") != ServiceState::Recovering {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    scene.services.restart("store").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    starting.await.unwrap().unwrap();

    // Started again after its rest, by itself.
    scene.fail("start store", 1);
    scene.services.stop("store").await.unwrap();
    scene.services.start("store").await.unwrap();
    let mut statuses = scene.services.statuses.clone();
    statuses.mark_unchanged();
    let (mut told, mut over) = (0, Box::pin(tokio::time::sleep(Duration::from_secs(10))));
    loop {
        tokio::select! {
            changed = statuses.changed() => changed.unwrap(),
            () = &mut over => break,
        }
        told += 1;
    }
    assert_eq!(told, 0, "nothing happened in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn services_start_after_what_they_need_and_stop_before_it() {
    let scene = scene().await;
    scene.start_all().await;
    assert_eq!(scene.calls(), ["start store", "start api", "start page"]);
    scene.services.stop("store").await.unwrap();
    assert_eq!(scene.calls(), ["stop page", "stop api", "stop store"]);
    assert_eq!(scene.state("page"), ServiceState::Stopped);

    let refused = scene.services.start("api").await.unwrap_err();
    assert_eq!(refused, ServicesError::Waits { name: "api".to_owned(), needs: "store".to_owned() });
    scene.services.start("store").await.unwrap();
    scene.services.start("page").await.unwrap();
    assert_eq!(scene.calls(), ["start store", "start api", "start page"], "they come back with what they need");

    scene.services.restart("api").await.unwrap();
    scene.services.start("page").await.unwrap();
    assert_eq!(scene.calls(), ["stop page", "stop api", "start api", "start page"]);
    assert!(scene.services.shutdown(Duration::from_secs(1)).await.is_empty());
    assert_eq!(scene.calls(), ["stop page", "stop api", "stop store"]);
    assert_eq!(scene.services.start("api").await.unwrap_err(), ServicesError::Ended);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_started_again_with_growing_waits_and_then_given_up() {
    let scene = scene().await;
    scene.fail("start store", 3);
    let begun = Instant::now();
    scene.services.start("store").await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1 + 2 + 4);
    assert_eq!(scene.calls(), ["start store"; 4]);

    scene.services.stop("store").await.unwrap();
    scene.fail("start store", u32::MAX);
    let given_up = scene.services.start("store").await.unwrap_err();
    let reason = "as the script says".to_owned();
    assert_eq!(given_up, ServicesError::Failed { name: "store".to_owned(), reason });
    assert_eq!(scene.state("store"), ServiceState::Failed);
    let last = scene.changes.lock().unwrap().last().cloned();
    assert!(matches!(last, Some(ServiceChange::State { to: ServiceState::Failed, reason: Some(_), .. })), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_unhealthy_three_times_is_restarted_with_those_that_need_it() {
    let scene = scene().await;
    scene.start_all().await;
    scene.calls();
    scene.set_health("store", Health::Unhealthy("its disk is full".to_owned()));
    scene.services.check_now().await;
    scene.services.check_now().await;
    assert_eq!(scene.state("store"), ServiceState::Running, "twice is not yet a failure");
    scene.services.check_now().await;
    scene.set_health("store", Health::Healthy);
    scene.services.start("page").await.unwrap();
    assert_eq!(scene.calls().iter().filter(|call| *call == "start store").count(), 1);
    assert_eq!(scene.state("page"), ServiceState::Running);
    assert_eq!(scene.services.get("store").unwrap().recoveries, 1);
    scene.services.check_now().await;
    assert_eq!(scene.services.get("store").unwrap().recoveries, 0, "a healthy check begins the count anew");
    assert_eq!(scene.services.get("store").unwrap().history.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_registered_is_refused_with_its_reason() {
    let scene = scene().await;
    let service = |name, needs| Arc::new(Scripted { name, needs, script: Arc::default() });
    let told = |result: Result<(), ServicesError>| result.unwrap_err().to_string();
    let services = &scene.services;
    assert!(told(services.register(service("api", &[])).await).contains("already"));
    assert!(told(services.register(service("a b", &[])).await).contains("no name of a service"));
    assert!(told(services.register(service("x", &["y"])).await).contains("registered first"));
    assert!(told(services.unregister("store").await).contains("needed by api"));
    assert!(told(services.start("nobody").await).contains("no service"));
    services.unregister("page").await.unwrap();
    assert!(services.get("page").is_none());
    services.set_options(ServicesOptions { services_max: 2, ..ServicesOptions::default() });
    assert!(told(services.register(service("z", &[])).await).contains("which is the limit"));
}
