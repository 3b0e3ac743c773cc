//! `COMMIT` that takes longer than the engine waits for.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Scratch, pool};
use crate::till::Till;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_slower_than_the_time_out_is_in_flight_and_then_a_replay() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(
            r#"CREATE TABLE "{table}_payments" (key text);
            CREATE FUNCTION "{table}_slow"() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON "{table}_payments"
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "{table}_slow"()"#,
        )
        .await;
    let shared = pool(&scratch.server, 2);
    let store = scratch.store_on(shared.clone());
    let till = Till::open(store, shared, Duration::from_millis(500)).await;
    let pay = format!(r#"INSERT INTO "{}_payments" VALUES ('key')"#, scratch.table);
    let first = till.post("/pay", "key", &pay).await;
    assert_eq!(first.status, 409, "{}", first.text);
    assert!(first.text.contains("in-flight"), "{}", first.text);
    let started = Instant::now();
    let last = loop {
        let retry = till.post("/pay", "key", &pay).await;
        if retry.status != 409 {
            break retry;
        }
        assert!(started.elapsed() < PATIENCE, "{}", retry.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(last.is_replay() && last.status == 201, "{}", last.text);
    assert_eq!(till.runs(), 1);
    scratch
        .execute(r#"DROP TABLE "{table}_payments"; DROP FUNCTION "{table}_slow""#)
        .await;
    scratch.clean_up().await;
}
