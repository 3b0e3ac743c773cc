//! A process is killed at each point of a request's life, and the key keeps its policy's promise.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::support::{Application, BOUND, Kind, Options, Point, Scenario, on_stores};

/// The lease of the handlers, and a second.
const NOTHING_IN_FLIGHT_AFTER: Duration = Duration::from_secs(2);

const POLICIES: [&str; 3] = ["/reject", "/retry", "/recover"];

/// What a policy promises for a point.
struct Promise {
    effects: usize,
    /// The attempt whose effect is the answer; `None` is `outcome-unknown`.
    answered_by: Option<usize>,
}

fn promise(path: &str, point: Point) -> Promise {
    let before_the_effect = matches!(point, Point::AfterClaim | Point::BeforeEffect);
    let (effects, answered_by) = match (path, point) {
        (_, Point::AfterComplete) => (1, Some(1)),
        ("/reject", _) => (usize::from(!before_the_effect), None),
        (_, _) if before_the_effect => (1, Some(2)),
        ("/retry", _) => (2, Some(2)),
        (_, _) => (1, Some(1)),
    };
    Promise {
        effects,
        answered_by,
    }
}

async fn a_killed_process_leaves_what_its_policy_promises(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "crash") else {
        return;
    };
    let mut deaths = Vec::new();
    for point in Point::ALL {
        let killed = POLICIES.map(|path| killed_at(&scenario, path, point));
        deaths.extend(join_all(killed).await);
    }
    let survivor = scenario.application().await;
    let settling = deaths
        .into_iter()
        .map(|(path, point, died)| keeps_its_promise(&scenario, &survivor, path, point, died));
    join_all(settling).await;
}
on_stores!(a_killed_process_leaves_what_its_policy_promises: Redis Postgres MariaDb Sqlite);

fn key(path: &str, point: Point) -> String {
    format!("crash-{}-{point:?}", &path[1..])
}

async fn killed_at(
    scenario: &Scenario,
    path: &'static str,
    point: Point,
) -> (&'static str, Point, Instant) {
    let options = Options {
        crash: Some(point),
        ..Options::default()
    };
    let application = scenario.application_with(options).await;
    let reply = application.post(path, &key(path, point)).await;
    assert_eq!(reply, None, "an answer from a process killed {point:?}");
    (path, point, application.death().await)
}

async fn keeps_its_promise(
    scenario: &Scenario,
    survivor: &Application,
    path: &str,
    point: Point,
    died: Instant,
) {
    let key = key(path, point);
    let what = format!("{path} killed {point:?}");
    // A request that comes when the lease must be over is not told to wait.
    let first = loop {
        let is_late = died.elapsed() > NOTHING_IN_FLIGHT_AFTER;
        match survivor.post(path, &key).await {
            Some(reply) if reply.is_final() => break reply,
            Some(reply) if is_late => assert!(!reply.is_in_flight(), "{what}"),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(died.elapsed() < BOUND, "{what}: not settled");
    };

    let promise = promise(path, point);
    let effects = scenario.ledger.effects(&key);
    assert_eq!(effects.len(), promise.effects, "{what}: {effects:?}");
    match promise.answered_by {
        None => first.assert_code(409, "outcome-unknown"),
        Some(attempt) => {
            assert_eq!(first.status, 201, "{what}: {first:?}");
            assert_eq!(Some(&first.body), effects.last(), "{what}");
            let attempt = format!("{key} attempt {attempt} ");
            assert!(first.body.starts_with(&attempt), "{what}: {first:?}");
        }
    }
    for _ in 0..3 {
        let again = survivor.settled(path, &key).await;
        assert!(
            again.says_the_same_as(&first),
            "{what}: {first:?}, {again:?}"
        );
    }
    assert_eq!(scenario.ledger.effects(&key), effects, "{what}");
}
