//! Transactions that are given up with their handler: whatever their connection says, or does not, the client is told what is
//! true, and nothing is stuck.

use std::time::Duration;

use crate::support::{Database, Scene, on_databases};

/// It says that nothing has happened, and nothing has; a retry runs.
async fn a_handler_that_rolls_back_and_hangs_is_not_called_unknown<C: Database>(scene: &Scene<C>) {
    let builder = scene
        .builder(2)
        .transaction_timeout(Duration::from_millis(500));
    let server = scene.serve(builder).await;
    let steps = "pay; once sql ROLLBACK; once gate a";
    let first = server.post("/all", "key", steps).await;
    let nothing = (scene.payments("key").await, scene.records().await);
    let again = server.post("/all", "key", steps).await;
    assert_eq!(nothing, (0, 0));
    assert_ne!(
        first.code(),
        Some("outcome-unknown"),
        "{first:?}; and the retry: {again:?}"
    );
}
on_databases!(a_handler_that_rolls_back_and_hangs_is_not_called_unknown: MySqlConnection);

/// The server has rolled back one of two that lock each other out, and the handler waits for something else after that.
async fn a_deadlock_before_a_time_out_is_not_called_unknown<C: Database>(scene: &Scene<C>) {
    let builder = scene
        .builder(4)
        .transaction_timeout(Duration::from_millis(3_000));
    let server = scene.serve(builder).await;
    let step = |mine: &str, other: &str, gate: &str| {
        format!(
            "pay; sql UPDATE {{accounts}} SET value = value + 1 WHERE name = '{mine}'; gate {gate}; \
             try UPDATE {{accounts}} SET value = value + 1 WHERE name = '{other}'; gate hang"
        )
    };
    let a = server.spawn("/all", "a", &step("a", "b", "one"));
    let b = server.spawn("/all", "b", &step("b", "a", "two"));
    server.stage.reached("one").await;
    server.stage.reached("two").await;
    server.stage.open("one");
    server.stage.open("two");
    let (a, b) = (a.await.unwrap(), b.await.unwrap());
    assert_eq!(scene.records().await, 0);
    assert_eq!(scene.payments("a").await + scene.payments("b").await, 0);
    for reply in [a, b] {
        assert_ne!(reply.code(), Some("outcome-unknown"), "{reply:?}");
    }
}
on_databases!(a_deadlock_before_a_time_out_is_not_called_unknown: MySqlConnection);

/// Its own COMMIT is on its way when it is given up.
async fn a_handler_that_is_given_up_in_its_own_commit_pays_once<C: Database>(scene: &Scene<C>) {
    let builder = scene.builder(2).transaction_timeout(Duration::from_secs(2));
    let server = scene.serve(builder).await;
    scene
        .execute(
            "CREATE FUNCTION slow_{records}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$",
        )
        .await;
    scene
        .execute(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {payments} DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow_{records}()",
        )
        .await;
    let steps = "pay; once sql COMMIT";
    let first = server.post("/all", "key", steps).await;
    assert_ne!(first.code(), Some("outcome-unknown"), "{first:?}");
    // It waits for what still uses the table.
    scene.execute("DROP TRIGGER slow ON {payments}").await;
    scene.execute("DROP FUNCTION slow_{records}").await;
    scene.assert_nothing("key").await;
    let again = server.settled("/all", "key", steps).await;
    again.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_handler_that_is_given_up_in_its_own_commit_pays_once: PgConnection DeadpoolTransaction);

mod frozen {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    /// A network from which a server vanishes: the connections of handlers end at the server, and their clients do not hear of
    /// it. New connections, and those of the store, are as good as before.
    pub struct Network {
        pub port: u16,
        is_frozen: watch::Sender<bool>,
    }

    impl Network {
        pub async fn to(server: u16) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (is_frozen, frozen) = watch::channel(false);
            let frozen = Arc::new(frozen);
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(relay(client, server, (*frozen).clone()));
                }
            });
            Self { port, is_frozen }
        }

        pub fn freeze(&self) {
            self.is_frozen.send_replace(true);
        }
    }

    async fn relay(mut client: TcpStream, server: u16, mut frozen: watch::Receiver<bool>) {
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        let is_late = *frozen.borrow();
        let (mut asked, mut replied) = ([0; 16 * 1024], [0; 16 * 1024]);
        let mut is_handlers = false;
        loop {
            tokio::select! {
                () = async { drop(frozen.wait_for(|is_frozen| *is_frozen).await) }, if is_handlers && !is_late => {
                    drop(server);
                    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
                    drop(client);
                    return;
                }
                read = client.read(&mut asked) => {
                    let Some(count) = read.ok().filter(|count| *count > 0) else { return };
                    is_handlers |= asked[..count].windows(18).any(|it| it == b"idempotent_handler");
                    if server.write_all(&asked[..count]).await.is_err() { return }
                }
                read = server.read(&mut replied) => {
                    let Some(count) = read.ok().filter(|count| *count > 0) else { return };
                    if client.write_all(&replied[..count]).await.is_err() { return }
                }
            }
        }
    }
}

/// The handler has done nothing wrong, and its transaction is rolled back: by a server that is restarted or replaced, without a
/// word to the client.
async fn a_transaction_whose_server_vanishes_without_a_word_keeps_no_key<C: Database>(
    scene: &Scene<C>,
) {
    let (before, server) = scene.url.rsplit_once(':').expect("a port");
    let (port, database) = server.split_once('/').expect("a database");
    let network = frozen::Network::to(port.parse().unwrap()).await;
    let url = format!("{before}:{}/{database}", network.port);
    let store = C::store(&C::pool(&url, 4), &scene.tables.records);
    let builder = idempotent_runtime::Idempotency::builder(store)
        .transaction_timeout(Duration::from_millis(1_000));
    let server = scene.serve(builder).await;
    let steps = "pay; once gate a; once gate b";
    let first = server.spawn("/all", "key", steps);
    server.stage.reached("a").await;
    network.freeze();
    server.stage.open("a");
    first.await.unwrap().assert_refused();
    scene.assert_nothing("key").await;
    let again = server.settled("/all", "key", steps).await;
    again.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_transaction_whose_server_vanishes_without_a_word_keeps_no_key: PgConnection DeadpoolTransaction MySqlConnection);

/// It cannot be asked whether the handler has committed, and so it is not known that it has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_is_not_called_nothing() {
    use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
    let Some(scene) = Scene::<DeadpoolTransaction>::new().await else {
        return;
    };
    let (url, wire) = scene.wired().await;
    let direct = DeadpoolTransaction::pool(&scene.url, 4);
    let stores = <sqlx::PgConnection as Database>::pool(&url, 4);
    let store = PostgresStore::new(stores).with_deadpool(direct.deadpool.clone());
    let store = store.with_table(&scene.tables.records).unwrap();
    let builder = idempotent_runtime::Idempotency::builder(store)
        .transaction_timeout(Duration::from_millis(500));
    let server = scene.serve(builder).await;
    let steps = "pay; sql COMMIT; once gate a; once sql SELECT pg_sleep(20)";
    let first = server.spawn("/all", "key", steps);
    server.stage.reached("a").await;
    wire.cut().await;
    server.stage.open("a");
    let first = first.await.unwrap();
    wire.mend();
    let again = server.post("/all", "key", steps).await;
    let payments = scene.payments("key").await;
    scene.clean_up().await;
    assert_ne!(
        first.code(),
        Some("store-unavailable"),
        "{payments}: {first:?}, {again:?}"
    );
}

/// It would commit in the end: it is ended.
async fn a_procedure_that_commits_is_ended_with_its_handler<C: Database>(scene: &Scene<C>) {
    let builder = scene
        .builder(2)
        .store_timeout(Duration::from_secs(1))
        .transaction_timeout(Duration::from_secs(2));
    let server = scene.serve(builder).await;
    scene
        .execute("CREATE PROCEDURE slow_{records}() BEGIN DO SLEEP(600); COMMIT; END")
        .await;
    let steps = "pay; once sql CALL slow_{records}()";
    let first = server.post("/all", "key", steps).await;
    assert_ne!(first.code(), Some("outcome-unknown"), "{first:?}");
    scene.execute("DROP PROCEDURE slow_{records}").await;
    scene.assert_nothing("key").await;
    let again = server.settled("/all", "key", steps).await;
    again.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_procedure_that_commits_is_ended_with_its_handler: MySqlConnection);

/// In the words of each database.
fn sleeps<C: Database>(secs: u32) -> String {
    match C::STORE {
        "mysql" => format!("SELECT SLEEP({secs})"),
        _ => format!("SELECT pg_sleep({secs})"),
    }
}

/// It leaves a statement running that it does not wait for, and its connection cannot be asked.
async fn a_commit_before_a_statement_that_is_left_behind_happens_once<C: Database>(
    scene: &Scene<C>,
) {
    // PostgreSQL does not end what runs behind a COMMIT: it holds no lock.
    let sleeps = sleeps::<C>(20);
    for end in ["answer 402", "answer 500", "panic", "release 200"] {
        let server = scene.serve(scene.builder(4)).await;
        let steps = format!("pay; sql COMMIT; once cut {sleeps}; {end}");
        let first = server.post("/all", "key", &steps).await;
        assert_ne!(first.code(), Some("store-unavailable"), "{end}: {first:?}");
        let again = server.post("/all", "key", &steps).await;
        let payments = scene.payments("key").await;
        assert_eq!(payments, 1, "{end}: {first:?}, {again:?}");
        scene.execute("DELETE FROM {payments}").await;
        scene.execute("DELETE FROM {records}").await;
    }
}
on_databases!(a_commit_before_a_statement_that_is_left_behind_happens_once: PgConnection DeadpoolTransaction MySqlConnection);

/// The statement is ended, and the key is free.
async fn a_statement_that_is_left_behind_keeps_no_key<C: Database>(scene: &Scene<C>) {
    let sleeps = sleeps::<C>(600);
    for end in ["answer 402", "answer 500", "release 404"] {
        let server = scene.serve(scene.builder(4)).await;
        let key = end.replace(' ', "");
        let steps = format!("pay; once cut {sleeps}; {end}");
        server.post("/all", &key, &steps).await;
        scene.assert_nothing(&key).await;
        let again = server.settled("/all", &key, &steps).await;
        assert_ne!(again.code(), Some("store-unavailable"), "{end}: {again:?}");
        assert_eq!(server.stage.runs(), 2, "{end}: {again:?}");
        scene.execute("DELETE FROM {records}").await;
    }
}
on_databases!(a_statement_that_is_left_behind_keeps_no_key: PgConnection DeadpoolTransaction MySqlConnection);
