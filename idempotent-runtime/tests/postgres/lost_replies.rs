//! Questions that got no reply, and what is said of them by those that came after.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{
    self, Claim, ClaimRequest, Completion, Store, StoreError, StoreErrorKind,
};
use idempotent_runtime::{Idempotency, Release, idempotent};
use sqlx::AssertSqlSafe;
use tokio::sync::Notify;
use tokio::time::timeout;
use tower_service::Service as _;

use crate::calls::{begun, claim, complete, is_acquired, outcomes, requests};
use crate::losses::{Loss, Losses};
use crate::support::{PATIENCE, Scratch, TTL, answer, backend, claimed, pool, request, rival};

/// The plain statement of a first claim, and that of a completion.
const CLAIM: &str = "INSERT INTO";
const COMPLETION: &str = "UPDATE";
const REMOVAL: &str = "DELETE";
/// The function for a group.
const GROUP: &str = "_group\"";

/// A store of one connection, which has worked.
async fn store_behind(losses: &Losses, scratch: &Scratch) -> Arc<PostgresStore> {
    let store = Arc::new(scratch.store_on(pool(&losses.options, 1)));
    claimed(&*store).await;
    store
}

/// Whether the record is in the table with this claim's token.
async fn is_held(scratch: &Scratch, request: &ClaimRequest<'_>) -> bool {
    let table = &scratch.table;
    let held =
        format!(r#"SELECT EXISTS (SELECT FROM "{table}" WHERE record_key = $1 AND token = $2)"#);
    sqlx::query_scalar(AssertSqlSafe(held))
        .bind(&request.owner.key.as_bytes()[..])
        .bind(&request.owner.token.as_bytes()[..])
        .fetch_one(&scratch.admin)
        .await
        .unwrap()
}

fn assert_lost(error: &StoreError) {
    assert!(error.may_have_happened(), "{error:?}");
}

#[tokio::test]
async fn claims_of_a_group_that_was_committed_may_have_happened_where_the_server_is_gone_then() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let store = store_behind(&losses, &scratch).await;
    losses.of_next(GROUP, Loss::ReplyAndServer);
    let requests = requests(8);
    let claims = begun(requests.iter().map(|request| claim(&store, *request)));
    let mut held = 0;
    for (place, outcome) in outcomes(claims).await.into_iter().enumerate() {
        match outcome {
            Ok(claim) => assert!(is_acquired(&claim) && place == 0, "{place}: {claim:?}"),
            Err(error) => assert_lost(&error),
        }
        held += usize::from(is_held(&scratch, &requests[place]).await);
    }
    assert!(losses.has_lost() && held >= 7, "{held} are in the table");
    scratch.clean_up().await;
}

#[tokio::test]
async fn completions_of_a_group_that_was_committed_may_have_happened_where_the_server_is_gone_then()
{
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let store = store_behind(&losses, &scratch).await;
    let mut records = Vec::new();
    for _ in 0..8 {
        records.push(claimed(&*store).await);
    }
    losses.of_next(GROUP, Loss::ReplyAndServer);
    let response = answer();
    let completions = records
        .iter()
        .map(|record| complete(&store, record, &response));
    let mut outcomes = outcomes(begun(completions)).await;
    // The one that went alone.
    drop(outcomes.remove(0));
    for outcome in outcomes {
        assert_lost(&outcome.unwrap_err());
    }
    assert!(losses.has_lost());
    scratch.clean_up().await;
}

/// It is sent again as a whole.
#[tokio::test]
async fn group_with_a_question_that_is_late_answers_its_completions_only() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let store = store_behind(&losses, &scratch).await;
    let running = claimed(&*store).await;
    let response = answer();
    // An idle connection for the one that goes alone, and one for the group.
    outcomes(begun(requests(4).into_iter().map(|new| claim(&store, new)))).await;
    losses.of_next(GROUP, Loss::Question);
    let alone = begun([claim(&store, request())]);
    let claims = begun(requests(3).into_iter().map(|new| claim(&store, new)));
    let completion = begun([complete(&store, &running, &response)]);
    let (claims, completion) = tokio::join!(outcomes(claims), outcomes(completion));
    for claim in claims {
        assert_lost(&claim.unwrap_err());
    }
    for completion in completion {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    assert!(losses.has_lost());
    drop(alone);
    scratch.clean_up().await;
}

/// The runtime that has sent the group ends before the reply.
#[tokio::test]
async fn claims_of_a_group_whose_runtime_ends_meanwhile_may_have_happened() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(1));
    let theirs = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let warm = Arc::clone(&store);
    theirs
        .spawn(async move { claimed(&*warm).await })
        .await
        .unwrap();
    let mut holding = scratch.admin.begin().await.unwrap();
    let holder = backend(&mut *holding).await;
    let lock = format!(r#"LOCK TABLE "{}""#, scratch.table);
    let locked = sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *holding);
    locked.await.unwrap();
    let claims = theirs.spawn(async move {
        let mut claims = begun(requests(8).into_iter().map(|new| claim(&store, new)));
        // The one that goes alone ends there.
        tokio::spawn(claims.remove(0));
        claims
    });
    let claims = claims.await.unwrap();
    scratch.until_blocked_by(holder, 2).await;
    theirs.shutdown_background();
    for outcome in outcomes(claims).await {
        assert_lost(&outcome.unwrap_err());
    }
    holding.rollback().await.unwrap();
    scratch.clean_up().await;
}

/// What was sent again finds its own row, and so does nothing; and the function that would say so is missing.
#[tokio::test]
async fn operation_that_was_sent_twice_and_then_refused_may_have_happened() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let store = store_behind(&losses, &scratch).await;
    let (new, running) = (request(), claimed(&*store).await);
    scratch
        .execute(r#"DROP FUNCTION "{table}_claim"; DROP FUNCTION "{table}_complete""#)
        .await;
    losses.of_next(CLAIM, Loss::Reply);
    let error = store.claim(&new).await.unwrap_err();
    assert_lost(&error);
    assert!(losses.has_lost() && is_held(&scratch, &new).await);

    losses.of_next(COMPLETION, Loss::Reply);
    let completion = store.complete(&running.owner, &answer(), TTL).await;
    let error = completion.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert_lost(&error);
    assert!(losses.has_lost());
    scratch.clean_up().await;
}

/// The second question is answered, and the first one arrives after that.
#[tokio::test]
async fn claim_with_a_question_that_is_late_may_have_happened_whatever_the_second_answer_is() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let store = store_behind(&losses, &scratch).await;
    let direct = scratch.store(1);
    for is_held_by_another in [true, false] {
        let (new, holder) = match is_held_by_another {
            true => {
                let holder = claimed(&direct).await;
                (rival(&holder), holder)
            }
            false => {
                let new = request();
                (new, new)
            }
        };
        losses.of_next(CLAIM, Loss::Question);
        assert_lost(&store.claim(&new).await.unwrap_err());
        assert!(losses.has_lost());
        match store.claim(&new).await.unwrap() {
            Claim::InFlight { .. } => assert!(is_held_by_another),
            claim => assert!(is_acquired(&claim) && !is_held_by_another, "{claim:?}"),
        }
        let release = direct.release(&[holder.owner]).await.remove(0);
        assert_eq!(release.unwrap(), store::Release::Released);
        losses.let_question_arrive().await;
        assert!(is_held(&scratch, &new).await);
    }
    scratch.clean_up().await;
}

/// It would remove the next record of the key, whose attempt has run.
#[tokio::test]
async fn removal_with_a_question_that_is_late_is_not_sent_again() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let store = store_behind(&losses, &scratch).await;
    let record = claimed(&*store).await;
    losses.of_next(REMOVAL, Loss::Question);
    assert_lost(&store.remove(&record.owner.key).await.unwrap_err());
    assert!(losses.has_lost());
    assert!(
        is_held(&scratch, &record).await,
        "a second question has arrived"
    );
    losses.let_question_arrive().await;
    assert!(!is_held(&scratch, &record).await);
    assert!(!store.remove(&record.owner.key).await.unwrap());
    scratch.clean_up().await;
}

#[derive(Clone)]
struct App {
    idempotency: Idempotency,
    started: Arc<Notify>,
    may_end: Arc<Notify>,
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

/// Nothing has happened, if that is the body.
#[idempotent(lease = "10m")]
async fn pay(State(app): State<App>, body: String) -> Response {
    if body != "nothing" {
        return body.into_response();
    }
    app.started.notify_one();
    app.may_end.notified().await;
    Release(body).into_response()
}

async fn status(app: &App, key: &'static str, body: &'static str) -> (StatusCode, bool) {
    let mut router = Router::new().route("/", post(pay)).with_state(app.clone());
    let request = Request::post("/")
        .header("idempotency-key", key)
        .header("content-type", "text/plain");
    let answer = router.call(request.body(Body::from(body)).unwrap());
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    let is_replay = answer.headers().contains_key("idempotent-replayed");
    (answer.status(), is_replay)
}

/// The same for a client: what arrives late is given up again, and the key is free.
#[tokio::test]
async fn key_is_free_again_after_a_question_that_arrived_late() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let app = |options| {
        let store = scratch.store_on(pool(options, 1));
        App {
            idempotency: Idempotency::builder(store).secret_check(false).build(),
            started: Arc::default(),
            may_end: Arc::default(),
        }
    };
    let (behind, direct) = (app(&losses.options), app(&scratch.options));
    assert_eq!(status(&behind, "warm", "paid").await.0, StatusCode::OK);
    let running = async { status(&direct, "key", "nothing").await };
    let asking = async {
        direct.started.notified().await;
        losses.of_next(CLAIM, Loss::Question);
        let in_flight = status(&behind, "key", "nothing").await;
        assert_eq!(in_flight.0, StatusCode::CONFLICT);
        assert!(losses.has_lost());
        direct.may_end.notify_one();
    };
    let (running, ()) = tokio::join!(running, asking);
    assert_eq!(running.0, StatusCode::OK);
    losses.let_question_arrive().await;
    behind.may_end.notify_one();
    let free = async {
        while status(&behind, "key", "nothing").await.0 == StatusCode::CONFLICT {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, free).await.expect("the key is free");
    scratch.clean_up().await;
}

/// A server that has closed what was idle costs no client its answer.
#[tokio::test]
async fn lost_connections_change_no_answer() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let losses = Losses::before(&scratch.options).await;
    let app = App {
        idempotency: Idempotency::builder(scratch.store_on(pool(&losses.options, 4)))
            .secret_check(false)
            .build(),
        started: Arc::default(),
        may_end: Arc::default(),
    };
    assert_eq!(status(&app, "paid", "paid").await, (StatusCode::OK, false));
    let running = async { status(&app, "running", "nothing").await };
    let asking = async {
        app.started.notified().await;
        for (key, body, expected) in [
            ("paid", "paid", (StatusCode::OK, true)),
            ("paid", "else", (StatusCode::UNPROCESSABLE_ENTITY, false)),
            ("running", "nothing", (StatusCode::CONFLICT, false)),
            ("new", "new", (StatusCode::OK, false)),
        ] {
            for backend in scratch.backends().await {
                scratch.kill(backend).await;
            }
            assert_eq!(status(&app, key, body).await, expected, "{key} {body}");
        }
        app.may_end.notify_one();
    };
    let (running, ()) = tokio::join!(running, asking);
    assert_eq!(running.0, StatusCode::OK);
    scratch.clean_up().await;
}
