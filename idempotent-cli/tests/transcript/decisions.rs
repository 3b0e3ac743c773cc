//! What a decision is about, what it leaves, and how its end is told.

use std::time::Duration;

use idempotent_runtime::store::Target;
use idempotent_runtime::{ExecuteError, Execution, Idempotency, Policy};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::scans::{LONG, claimed, crashed};
use crate::service::{NAMESPACE, SECRET};
use crate::stores::{Kind, Place};
use crate::tool::Tool;

/// A lease that has ended when the tool looks.
const ENDED: Duration = Duration::from_millis(1);

/// The record that is made by `claimed` with this first byte.
fn record(beginning: &str) -> String {
    format!("{beginning}{}", "07".repeat(31))
}

fn seen(tool: &Tool, record: &str) -> String {
    let shown = tool.run(&["show", record, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.text).unwrap();
    shown["seen"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_about_a_record_that_was_freed_and_crashed_again_changes_nothing() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[1], ENDED, LONG).await;
    let (tool, record) = (Tool::new(&place), record("01"));
    let old = seen(&tool, &record);
    let retry = ["resolve", &record, "--retry", "--reason", "not booked"];
    let about = |seen| [&retry[..], &["--seen", seen]].concat();
    tool.run(&about(&old)).code(0).says("attempt 1 of scan");
    // The client's retry crashes too: attempt 1, as before.
    claimed(&place, &[1], ENDED, LONG).await;
    tool.run(&about(&old))
        .code(1)
        .says("nothing was changed: meanwhile");
    let new = seen(&tool, &record);
    tool.run(&["list", "--json"]).code(0).says("\"seen\":\"1@");
    tool.run(&["show", &record])
        .code(0)
        .says("abandoned")
        .says("1@");
    tool.run(&about("2@1780000000000")).code(1);
    tool.run(&about(&new)).code(0).says(&record);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_was_done_returns_the_operators_value() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    let target = Target::new(&place.url);
    target.migrate().await.unwrap();
    let store = target.open().await.unwrap();
    let builder = Idempotency::builder(store).namespace(NAMESPACE);
    let idempotency = builder.secret(SECRET).build();
    let call = async move |crashes: bool| -> Result<Execution<Vec<u64>>, ExecuteError> {
        let function = async move || match crashes {
            true => panic!("it crashes"),
            false => Ok(Vec::<u64>::new()),
        };
        let called = idempotency.execute(&Policy::new(), "settle", (), "key", &(), function);
        called.await
    };
    let crash = call.clone();
    let crashed = tokio::spawn(async move { crash(true).await }).await;
    assert!(crashed.is_err(), "{crashed:?}");
    let tool = Tool::new(&place);
    let file = place.folder.join("value");
    let file = file.to_str().unwrap();
    let by_key = ["--operation", "settle", "--key-kind", "text", "--key-stdin"];
    let resolve = |what: &[&str]| {
        let resolve = ["resolve", "--reason", "it is in the books"];
        tool.told(&[&resolve[..], &by_key, what].concat(), "key")
    };
    std::fs::write(file, "{not JSON").unwrap();
    resolve(&["--value", file])
        .code(2)
        .says("not JSON, at line 1");
    std::fs::write(file, "[1, 18446744073709551615]\n").unwrap();
    resolve(&["--value", file])
        .code(0)
        .says("return this value");
    let again = call(false).await.unwrap();
    assert_eq!(again, Execution::Replayed(vec![1, u64::MAX]));
    let shown = tool.told(&[&["show", "--reveal"][..], &by_key].concat(), "key");
    shown
        .code(0)
        .says("\n[1,18446744073709551615]")
        .says("24 B");
    resolve(&["--status", "201"]).code(1).says("use --value");
    let typed = ["--status", "201", "--replay", file, "--content-type"];
    resolve(&[&typed[..], &["x y"]].concat())
        .code(2)
        .says("expected a media type");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_for_an_operation_that_reads_like_a_route_is_refused() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    crashed(&place, 1, "POST /payments", "order 1").await;
    let (tool, record) = (Tool::new(&place), record("01"));
    let file = place.folder.join("value");
    std::fs::write(&file, "7").unwrap();
    let file = file.to_str().unwrap();
    let resolve = ["resolve", &record, "--value", file, "--reason", "booked"];
    tool.run(&resolve)
        .code(2)
        .says("nothing was changed")
        .says("use --replay");
    tool.run(&["show", &record]).says("abandoned");
    tool.run(&[&resolve[..], &["--yes"]].concat())
        .code(0)
        .says("return this value");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_tells_what_was_done_although_nobody_reads() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[1, 2], LONG, LONG).await;
    let (tool, running) = (Tool::new(&place), record("01"));
    let resolve = ["resolve", &running, "--retry", "--reason", "none"];
    for (arguments, code) in [
        (&resolve[..], 1),
        (&["show", "ffff"], 1),
        (&["list", "--state", "abandoned"], 1),
        (&["list"], 0),
        (&["show", &running], 0),
    ] {
        assert_eq!(tool.unread(arguments), Some(code), "{arguments:?}");
    }
    let doctor = tool.run(&["doctor"]);
    assert_eq!(tool.unread(&["doctor"]), doctor.exit_code());
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_without_a_reply_may_have_been_carried_out() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[1], ENDED, LONG).await;
    let (tool, record) = (Tool::new(&place), record("01"));
    let mut lock = SqliteConnection::connect(&place.url).await.unwrap();
    let begin = sqlx::raw_sql("BEGIN IMMEDIATE");
    begin.execute(&mut lock).await.unwrap();
    let resolve = ["resolve", &record, "--retry", "--reason", "not booked"];
    let resolved = tool.run(&resolve);
    resolved
        .code(2)
        .says("error: the decision may have been carried out");
    resolved.says("`idempotent show` tells");
    assert!(
        !resolved.all().contains("is the server there"),
        "{}",
        resolved.all()
    );
    let forget = ["forget", &record, "--yes", "--reason", "a test"];
    let forgotten = tool.run(&forget);
    forgotten
        .code(2)
        .says("error: the record may have been removed");
    forgotten.says("by=\"operator\" reason=\"a test\"");
    let end = sqlx::raw_sql("ROLLBACK");
    end.execute(&mut lock).await.unwrap();
    tool.run(&resolve).code(0);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_the_server_refuses_has_changed_nothing() {
    let Some(place) = Place::new(Kind::Postgres).await else {
        return;
    };
    claimed(&place, &[1], ENDED, LONG).await;
    let mut server = PgConnection::connect(&place.url).await.unwrap();
    let read_only = sqlx::raw_sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
    );
    read_only.execute(&mut server).await.unwrap();
    drop(server.close().await);
    let (tool, record) = (Tool::new(&place), record("01"));
    let forgotten = tool.run(&["forget", &record, "--yes", "--reason", "a test"]);
    forgotten.code(2).says("error: nothing was changed");
    forgotten.says("needs SELECT and DELETE");
    let cause = "cannot execute DELETE in a read-only transaction";
    let told: Vec<_> = forgotten
        .all()
        .lines()
        .filter(|it| it.starts_with("error: "))
        .collect();
    assert_eq!(told.concat().matches(cause).count(), 1, "{told:?}");
    // What the tool is told of a decision does not say so.
    let resolve = ["resolve", &record, "--retry", "--reason", "not booked"];
    tool.run(&resolve)
        .code(2)
        .says("may have been carried out")
        .says("a server that takes writes");
    tool.run(&["doctor"])
        .code(2)
        .says("`default_transaction_read_only` is on");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_is_forgotten_by_name() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[1], ENDED, LONG).await;
    let mut database = SqliteConnection::connect(&place.url).await.unwrap();
    let damage =
        sqlx::raw_sql("UPDATE idempotency_records SET state = 'completed', response = x'ff'");
    damage.execute(&mut database).await.unwrap();
    let (tool, record) = (Tool::new(&place), record("01"));
    tool.run(&["show", &record]).code(2);
    let forget = ["forget", &record, "--yes", "--reason", "damaged"];
    let forgotten = tool.run(&forget);
    forgotten.code(0).says(&format!("removed: {record}"));
    forgotten.says("record=01070707").says("reason=\"damaged\"");
    tool.run(&forget).code(1);
    place.remove().await;
}
