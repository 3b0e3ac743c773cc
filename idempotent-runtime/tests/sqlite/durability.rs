//! What was acknowledged is there, whatever becomes of the store and its process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use idempotent_runtime::RecordKey;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{Acquired, Claim, Store};

use crate::support::{Directory, TTL, hex, request, request_of, response, rival};

#[tokio::test]
async fn records_are_there_when_the_store_is_opened_again() {
    let directory = Directory::new();
    let (running, completed) = (request(), request());
    let store = directory.store().await;
    store.claim(&running).await.unwrap();
    store.claim(&completed).await.unwrap();
    store
        .complete(&completed.owner, &response("paid"), TTL)
        .await
        .unwrap();
    drop(store);

    let store = directory.store().await;
    let claim = store.claim(&rival(&running)).await.unwrap();
    assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
    let claim = store.claim(&rival(&completed)).await.unwrap();
    assert!(
        matches!(&claim, Claim::Completed(got) if *got == response("paid")),
        "{claim:?}"
    );
    let claim = store.claim(&running).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
}

/// The runtime that has made a store may end before it.
#[test]
fn store_outlives_the_runtime_it_was_made_on() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let directory = Directory::new();
    let first = runtime();
    let store = first.block_on(directory.store());
    let request = request();
    first.block_on(store.claim(&request)).unwrap();
    first.block_on(store.get(&request.owner.key)).unwrap();
    drop(first);
    for _ in 0..2 {
        let next = runtime();
        next.block_on(store.complete(&request.owner, &response("later"), TTL))
            .unwrap();
        let claim = next.block_on(store.claim(&rival(&request))).unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    }
}

const FILE_OF_THE_CHILD: &str = "IDEMPOTENT_TEST_SQLITE_FILE_OF_THE_CHILD";
const CHILD: &str = "durability::child_that_completes_until_it_is_killed";

/// No test by itself: what `completions_survive_a_killed_process` starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child_that_completes_until_it_is_killed() {
    let Ok(url) = std::env::var(FILE_OF_THE_CHILD) else {
        return;
    };
    let store = Arc::new(SqliteStore::connect(&url).await.unwrap());
    let tasks: Vec<_> = (0..8)
        .map(|_| tokio::spawn(pay_without_end(Arc::clone(&store))))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn pay_without_end(store: Arc<SqliteStore>) {
    loop {
        let request = request();
        store.claim(&request).await.unwrap();
        let completion = store.complete(&request.owner, &response("paid"), TTL).await;
        completion.unwrap();
        // One write for the line, so that the kill tears none.
        let line = format!("paid {}\n", hex(request.owner.key.as_bytes()));
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn completions_survive_a_killed_process() {
    const ENOUGH: usize = 200;
    let directory = Directory::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(FILE_OF_THE_CHILD, directory.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut paid = Vec::new();
    while paid.len() < ENOUGH {
        let line = lines.next().expect("the child has ended").unwrap();
        paid.extend(key_in(&line));
    }
    child.kill().unwrap();
    // What it has said before the kill counts too.
    paid.extend(lines.map_while(Result::ok).filter_map(|line| key_in(&line)));
    child.wait().unwrap();

    let store = directory.store().await;
    for key in paid {
        let claim = store.claim(&request_of(key)).await.unwrap();
        assert!(
            matches!(&claim, Claim::Completed(got) if *got == response("paid")),
            "{claim:?}"
        );
    }
}

fn key_in(line: &str) -> Option<RecordKey> {
    let (_, digits) = line.split_once("paid ")?;
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(RecordKey::from_bytes(key))
}
