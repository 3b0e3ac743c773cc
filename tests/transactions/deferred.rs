//! What the database does at `COMMIT`, in the handler's transaction: as the handler has set it.

use std::time::Duration;

use reqwest::Method;

use crate::support::{Database, Scene, on_databases, reply};

/// A tenant is a schema: the trigger's row goes into the handler's, with and without this crate.
async fn a_deferred_trigger_runs_with_the_handlers_path<C: Database>(scene: &Scene<C>) {
    for statement in [
        "CREATE SCHEMA {accounts}_tenant",
        "CREATE TABLE {accounts}_tenant.{accounts}_of (amount INT)",
        "CREATE TABLE {accounts}_of (amount INT)",
        "CREATE FUNCTION {accounts}_book() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO {accounts}_of VALUES (1); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER book AFTER INSERT ON {payments} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION {accounts}_book()",
    ] {
        scene.execute(statement).await;
    }
    let set = "SET LOCAL search_path = {accounts}_tenant, public";
    let insert = "INSERT INTO {payments} VALUES ('plain', '')";
    let plain = scene.tables.put_into(&format!("{set}; {insert}"));
    C::transaction(&C::pool(&scene.url, 1), &plain).await;

    let server = scene.server().await;
    server
        .post("/all", "key", &format!("sql {set}; pay"))
        .await
        .assert_own(201);
    let booked = [
        scene
            .number("SELECT COUNT(*) FROM {accounts}_tenant.{accounts}_of")
            .await,
        scene.number("SELECT COUNT(*) FROM {accounts}_of").await,
    ];
    for statement in [
        "DROP FUNCTION {accounts}_book CASCADE",
        "DROP SCHEMA {accounts}_tenant CASCADE",
        "DROP TABLE {accounts}_of",
    ] {
        scene.execute(statement).await;
    }
    assert_eq!(booked, [2, 0], "booked for the tenant, and elsewhere");
}
on_databases!(a_deferred_trigger_runs_with_the_handlers_path: PgConnection DeadpoolTransaction);

/// What it may do, and what is seen of who did it, is the handler's role's.
async fn a_deferred_trigger_runs_in_the_handlers_role<C: Database>(scene: &Scene<C>) {
    for statement in [
        "CREATE TABLE {accounts}_of (who TEXT)",
        "GRANT INSERT ON {accounts}_of, {payments} TO pg_monitor",
        "CREATE FUNCTION {accounts}_book() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO {accounts}_of VALUES (current_user); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER book AFTER INSERT ON {payments} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION {accounts}_book()",
    ] {
        scene.execute(statement).await;
    }
    let insert = "SET LOCAL ROLE pg_monitor; INSERT INTO {payments} VALUES ('plain', '')";
    let plain = scene.tables.put_into(insert);
    C::transaction(&C::pool(&scene.url, 1), &plain).await;

    let server = scene.server().await;
    let steps = "sql SET LOCAL ROLE pg_monitor; pay";
    server.post("/all", "key", steps).await.assert_own(201);
    let by_role = "SELECT COUNT(*) FROM {accounts}_of WHERE who = 'pg_monitor'";
    let by_role = scene.number(by_role).await;
    scene.execute("DROP FUNCTION {accounts}_book CASCADE").await;
    scene.execute("DROP TABLE {accounts}_of").await;
    assert_eq!(by_role, 2);
}
on_databases!(a_deferred_trigger_runs_in_the_handlers_role: PgConnection DeadpoolTransaction);

/// A constraint of the application's, which is not that of a record: nothing has happened, and another request has not paid.
async fn a_deferred_constraint_that_is_violated_undoes_all<C: Database>(scene: &Scene<C>) {
    scene
        .execute("CREATE TABLE {accounts}_of (amount INT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let server = scene.server().await;
    for set in ["", "sql SET LOCAL statement_timeout = '1min'; "] {
        let steps = format!("{set}pay; sql INSERT INTO {{accounts}}_of VALUES (1), (1)");
        for _ in 0..2 {
            let refused = server.once_free("/all", "key", &steps).await;
            assert_eq!(refused.status, 503, "{refused:?}");
            assert_eq!(scene.payments("key").await, 0);
        }
    }
    server.post("/all", "other", "pay").await.assert_own(201);
    scene.execute("DROP TABLE {accounts}_of").await;
}
on_databases!(a_deferred_constraint_that_is_violated_undoes_all: PgConnection DeadpoolTransaction);

/// What is deferred is the handler's work: it may take longer than a call of the store's.
async fn deferred_work_that_takes_longer_than_the_store_may_is_committed<C: Database>(
    scene: &Scene<C>,
) {
    for statement in [
        "CREATE FUNCTION {accounts}_wait() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON {payments} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION {accounts}_wait()",
    ] {
        scene.execute(statement).await;
    }
    let limit = Duration::from_millis(500);
    let server = scene.serve(scene.builder(4).store_timeout(limit)).await;
    let [set, none] = ["sql SET LOCAL search_path = public, pg_temp; pay", "pay"];
    let mut keyed = Vec::new();
    let disabled =
        "sql SET LOCAL search_path = public, pg_temp; sql SET LOCAL track_activities = off; pay";
    for (key, steps) in [("set", set), ("not-set", none), ("disabled", disabled)] {
        let first = server.post("/all", key, steps).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        keyed.push((key, first, server.post("/all", key, steps).await));
    }
    let keyless = [set, none].map(|it| server.keyless(Method::POST, "/optional", it));
    let [set, none] = keyless.map(|request| async { reply(request).await.status });
    let keyless = [set.await, none.await];
    let paid = scene.payments("").await;
    scene.execute("DROP FUNCTION {accounts}_wait CASCADE").await;
    for (key, first, again) in keyed {
        assert_eq!(scene.payments(key).await, 1, "{key}: {first:?}, {again:?}");
    }
    assert_eq!((keyless, paid), ([201, 201], 2), "without a key");
}
on_databases!(deferred_work_that_takes_longer_than_the_store_may_is_committed: PgConnection DeadpoolTransaction);
