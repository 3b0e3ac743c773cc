//! What an operation costs, as the server counts it and as it goes over the wire.

use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Renewal, Store,
};

use crate::locks::renewal;
use crate::proxy::{Proxy, Sent};
use crate::support::{Scratch, TTL, answer, claimed, rival};

/// So many statements that are prepared, executed, and sent as text.
fn sent(prepared: usize, executed: usize, queries: usize) -> Sent {
    Sent {
        prepared,
        executed,
        queries,
    }
}

/// After its first use on a connection nothing is prepared any more. What is sent as text is one round
/// trip, whatever is in it.
#[tokio::test]
async fn each_operation_is_as_many_round_trips_as_is_said() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 1);
    claimed(&store).await;
    let first = renewal(&claimed(&store).await);
    store.renew(&[first]).await;
    assert_eq!(proxy.connections(), 2, "one for calls, one for renewals");
    proxy.take();
    for prepared in [1, 0] {
        let request = claimed(&store).await;
        assert_eq!(proxy.take(), sent(0, 2, 0), "first claim");
        store.renew(&[renewal(&request)]).await.remove(0).unwrap();
        assert_eq!(proxy.take(), sent(0, 0, 2), "renew");
        let ended = Renewal {
            lease: Duration::ZERO,
            ..renewal(&request)
        };
        store.renew(&[ended]).await.remove(0).unwrap();
        proxy.take();
        let heir = ClaimRequest {
            take_over: Some(1),
            ..rival(&request)
        };
        store.claim(&heir).await.unwrap();
        assert_eq!(proxy.take(), sent(prepared, 2, 0), "take-over");
        for (prepared, offset) in [(prepared, 0), (0, 6), (0, 3)] {
            let bytes = Bytes::from_static(b"step 1");
            let saved = store.save_progress(&heir.owner, offset, &bytes).await;
            assert_eq!(saved.unwrap(), Progress::Saved);
            assert_eq!(proxy.take(), sent(prepared, 1, 0), "save progress");
        }
        store.get(&request.owner.key).await.unwrap();
        assert_eq!(proxy.take(), sent(prepared, 1, 0), "get");
        store.complete(&heir.owner, &answer(), TTL).await.unwrap();
        assert_eq!(proxy.take(), sent(prepared, 1, 0), "complete");
        store.claim(&rival(&request)).await.unwrap();
        assert_eq!(proxy.take(), sent(0, 1, 0), "replay");
        let given_up = claimed(&store).await;
        proxy.take();
        store.release(&[given_up.owner]).await.remove(0).unwrap();
        assert_eq!(proxy.take(), sent(0, 0, 2), "release");
        store.release(&[given_up.owner]).await.remove(0).unwrap();
        assert_eq!(proxy.take(), sent(0, 0, 3), "release of what is not there");
        store.remove(&request.owner.key).await.unwrap();
        assert_eq!(proxy.take(), sent(prepared, 2, 0), "remove");
        store.purge_expired(10).await.unwrap();
        assert_eq!(proxy.take(), sent(0, 0, 2), "purge");
        store.renew(&[]).await;
        store.release(&[]).await;
        assert_eq!(proxy.take(), sent(0, 0, 0), "nothing");
    }
    assert_eq!(proxy.connections(), 2);
    scratch.clean_up().await;
}

/// Whatever the lengths of the leases.
#[tokio::test]
async fn many_renewals_are_two_round_trips() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 1);
    let mut renewals = Vec::new();
    for number in 0..300 {
        let mut renewal = renewal(&claimed(&store).await);
        renewal.lease = Duration::from_secs(100 + number % 3);
        renewals.push(renewal);
    }
    for number in 0..2 {
        for result in store.renew(&renewals).await {
            result.unwrap();
        }
        let sent = proxy.take();
        assert!(number == 0 || sent.queries == 2, "{sent:?}");
    }
    scratch.clean_up().await;
}

/// The server counts no row that was written, in all its connections to this table.
#[tokio::test]
async fn replay_writes_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let (completed, running) = (claimed(&store).await, claimed(&store).await);
    let progress = Bytes::from_static(b"step 1");
    let saved = store.save_progress(&running.owner, 0, &progress).await;
    assert_eq!(saved.unwrap(), Progress::Saved);
    let completion = store.complete(&completed.owner, &answer(), TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);

    // A table that is locked for reading refuses writes, and the store with them.
    let mut locked = scratch.hold("LOCK TABLES {table} READ").await;
    for _ in 0..20 {
        let claim = store.claim(&rival(&completed)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        let claim = store.claim(&rival(&running)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
        let claim = store.claim(&running).await.unwrap();
        assert!(
            matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
            "{claim:?}"
        );
        store.get(&completed.owner.key).await.unwrap();
    }
    let refused = store.remove(&completed.owner.key).await.unwrap_err();
    let busy = idempotent_runtime::store::StoreErrorKind::Busy;
    assert_eq!(refused.kind(), busy, "{refused:?}");
    scratch.hold_too(&mut locked, "UNLOCK TABLES").await;
    scratch.clean_up().await;
}
