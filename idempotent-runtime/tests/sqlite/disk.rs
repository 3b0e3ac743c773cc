//! A disk that has no room, or is not to be written to.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{
    Claim, Completion, Release, Renewed, Store, StoreError, StoreErrorKind,
};
use idempotent_runtime::{
    ExecuteError, Execution, Idempotency, Policy, RecordState, StoredResponse,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{
    PATIENCE, TTL, begin, execute, random_hex, renewal, request, response, rival, unlock,
};

/// A file system of a MiB, which only root can have.
struct SmallDisk(PathBuf);

impl SmallDisk {
    #[expect(
        clippy::print_stderr,
        reason = "a test that did nothing must not look like one that passed"
    )]
    fn new() -> Option<Self> {
        let place = std::env::temp_dir().join(format!("idempotent-disk-{}", random_hex()));
        fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&place)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(place));
        }
        fs::remove_dir(&place).ok();
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "no file system could be mounted");
        eprintln!("skipped: no file system could be mounted, which takes root");
        None
    }

    fn file(&self) -> PathBuf {
        self.0.join("records.db")
    }

    async fn store(&self) -> SqliteStore {
        let url = format!("sqlite:{}", self.file().display());
        SqliteStore::connect(&url).await.unwrap()
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    /// As soon as no connection has a file open any more.
    async fn make_read_only(&self) {
        let started = Instant::now();
        loop {
            let mut remount = Command::new("mount");
            remount.args(["-o", "remount,ro"]).arg(&self.0);
            let remounted = remount.output().unwrap();
            if remounted.status.success() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{remounted:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Takes all the room that is left.
fn fill(disk: &Path) {
    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a store closes its file a moment after it is dropped.
        Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .output()
            .ok();
        fs::remove_dir(&self.0).ok();
    }
}

fn long_response() -> Arc<StoredResponse> {
    let (status, headers) = (StatusCode::CREATED, HeaderMap::new());
    Arc::new(StoredResponse::new(status, headers, vec![b'x'; 50_000]))
}

fn assert_full<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
    assert!(!error.may_have_happened() && !error.is_about_item());
}

#[tokio::test]
async fn full_disk_is_full_and_completions_succeed_once_there_is_room() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = disk.store().await;
    let (completed, running) = (request(), request());
    store.claim(&completed).await.unwrap();
    store.claim(&running).await.unwrap();
    let paid = response("paid");
    store.complete(&completed.owner, &paid, TTL).await.unwrap();

    fill(&disk.0);
    for _ in 0..3 {
        let completion = store.complete(&running.owner, &long_response(), TTL).await;
        assert_full(completion);
        // Replays go on, and what is there is known.
        let claim = store.claim(&rival(&completed)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        let record = store.get(&running.owner.key).await.unwrap().unwrap();
        assert!(matches!(record.state, RecordState::Running { .. }));
    }
    let mut claims = Vec::new();
    let refused = loop {
        let request = request();
        match store.claim(&request).await {
            Ok(_) => claims.push(request),
            Err(error) => break error,
        }
        assert!(claims.len() < 10_000, "the disk is not full");
    };
    assert_full::<()>(Err(refused));

    disk.make_room();
    let stored = store.complete(&running.owner, &long_response(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    for request in &claims {
        let record = store.get(&request.owner.key).await.unwrap();
        assert!(record.is_some(), "acknowledged and lost");
    }
    let owners: Vec<_> = claims.iter().map(|request| request.owner).collect();
    let freed = store.release(&owners).await;
    assert!(freed.iter().all(|it| matches!(it, Ok(Release::Released))));
}

/// They are in one group, and one of them needs more room than there is.
#[tokio::test]
async fn response_that_has_no_room_keeps_no_lease_from_being_renewed() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = disk.store().await;
    let held: Vec<_> = (0..4).map(|_| request()).collect();
    for request in &held {
        store.claim(request).await.unwrap();
    }
    fill(&disk.0);
    let filler = fs::File::options().write(true).open(disk.0.join("filler"));
    let filler = filler.unwrap();
    let most = filler.metadata().unwrap().len() - 64 * 1024;
    filler.set_len(most).unwrap();
    let (status, headers) = (StatusCode::CREATED, HeaderMap::new());
    let large = Arc::new(StoredResponse::new(status, headers, vec![b'x'; 300_000]));
    let renewals: Vec<_> = held[1..].iter().map(|it| renewal(&it.owner)).collect();
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(
        SqliteConnectOptions::new().filename(disk.file()),
    ));
    let url = format!("sqlite:{}", disk.file().display());
    let mut last = Vec::new();
    for _ in 0..2 {
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        execute(&mut other, "BEGIN IMMEDIATE").await;
        let completion = begin(store.complete(&held[0].owner, &large, TTL));
        let renewed = begin(store.renew(&renewals));
        unlock(other).await;
        assert_full(completion.await);
        last = renewed.await;
    }
    let is_renewed = |it: &Result<_, _>| matches!(it, Ok(Renewed::Renewed));
    assert!(last.iter().all(is_renewed), "{last:?}");
}

static POLICY: Policy = Policy::new();

#[tokio::test]
async fn result_that_finds_the_disk_full_is_stored_later_and_not_made_again() {
    let Some(disk) = SmallDisk::new() else { return };
    let idempotency = Idempotency::new(disk.store().await);
    let runs = Arc::new(AtomicUsize::new(0));
    let pay = async || {
        let (runs, place) = (Arc::clone(&runs), disk.0.clone());
        let pay = async move || {
            runs.fetch_add(1, Ordering::SeqCst);
            fill(&place);
            Ok::<_, ExecuteError>("x".repeat(50_000))
        };
        let paid = idempotency.execute(&POLICY, "pay", (), "key", "input", pay);
        paid.await.unwrap()
    };
    let first = pay().await;
    assert!(matches!(first, Execution::Executed(_)), "{first:?}");
    disk.make_room();
    let has_room = Instant::now();
    loop {
        match pay().await {
            Execution::Replayed(_) => break,
            Execution::InFlight { .. } => {
                assert!(has_room.elapsed() < PATIENCE, "it is never stored");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn read_only_disk_refuses_and_is_no_items_fault() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = disk.store().await;
    let completed = request();
    store.claim(&completed).await.unwrap();
    drop(store);
    disk.make_read_only().await;
    let options = SqliteConnectOptions::new().filename(disk.file());
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(options));
    let error = store.claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
    assert!(!error.may_have_happened());
}
