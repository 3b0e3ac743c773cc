//! While the store is unavailable or silent: older answers, and one read for all who ask.

use super::*;

#[tokio::test]
async fn an_older_answer_is_given_while_the_store_is_away_until_the_record_expires() {
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::TimedOut,
        StoreErrorKind::Refused,
        StoreErrorKind::Busy,
    ] {
        let bed = Bed::new();
        let request = bed.hot("paid").await;
        bed.clock.advance(MAX_AGE);
        bed.remote.break_off_after(Some(kind));
        while bed.clock.now() < TTL {
            assert_replay(&bed.claim(&request).await, "paid");
            let claim = bed.claim(&other_request(&request)).await;
            assert!(matches!(claim, Claim::Mismatch), "{claim:?}");
            bed.clock.advance(SECOND);
        }
        let error = bed.store.claim(&rival(&request)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "expired");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_once_a_second_for_a_key() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.clock.advance(MAX_AGE);
    bed.remote
        .break_off_after(Some(StoreErrorKind::Unavailable));
    for _ in 0..5 {
        for _ in 0..100 {
            assert_replay(&bed.claim(&request).await, "paid");
        }
        assert_eq!(bed.remote.take_calls(), GET);
        bed.clock.advance(SECOND);
    }
    bed.remote.break_off_after(None);
    assert_replay(&bed.claim(&request).await, "paid");
    assert_eq!(bed.remote.take_calls(), GET);
    bed.clock.advance(MAX_AGE - MILLISECOND);
    assert_replay(&bed.claim(&request).await, "paid");
    assert_eq!(bed.remote.take_calls(), NONE, "fresh again");
}

#[tokio::test]
async fn a_removal_while_the_store_is_away_ends_the_older_answer() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.clock.advance(MAX_AGE);
    bed.remote.break_off_after(Some(StoreErrorKind::TimedOut));
    assert_replay(&bed.claim(&request).await, "paid");
    assert!(bed.store.remove(&request.owner.key).await.is_err());
    assert!(bed.store.claim(&rival(&request)).await.is_err());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_no_older_answer() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.clock.advance(MAX_AGE);
    bed.remote.break_off_after(Some(StoreErrorKind::Corrupt));
    for _ in 0..3 {
        let error = bed.store.claim(&rival(&request)).await.unwrap_err();
        assert!(error.is_about_item());
    }
}

#[tokio::test]
async fn a_read_that_failed_has_claimed_nothing() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    assert_replay(&bed.claim(&request).await, "paid");
    bed.remote.break_off_after(Some(StoreErrorKind::TimedOut));
    let error = bed.store.claim(&rival(&request)).await.unwrap_err();
    assert_eq!(bed.remote.take_calls().claims, 2, "the first two");
    assert!(!error.may_have_happened());
}

/// It neither answers nor refuses.
#[tokio::test(start_paused = true)]
async fn a_silent_store_is_waited_for_no_longer_than_a_second() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.clock.advance(MAX_AGE);
    bed.remote.hold_replies();
    let asked = tokio::time::Instant::now();
    let first = spawn_claim(&bed, &request);
    bed.remote.held().await;
    let others = [(); 10].map(|()| spawn_claim(&bed, &request));
    assert_replay(&first.await.unwrap().unwrap(), "paid");
    for other in others {
        assert_replay(&other.await.unwrap().unwrap(), "paid");
    }
    assert!(asked.elapsed() <= SECOND + MILLISECOND);
    // Meanwhile no caller waits at all.
    assert_replay(&bed.claim(&request).await, "paid");
    assert!(asked.elapsed() <= SECOND + MILLISECOND);
    assert_eq!(bed.remote.take_calls(), GET);
}

#[tokio::test]
async fn many_callers_of_one_key_make_one_read_at_each_end_of_an_entrys_age() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    assert_replay(&bed.claim(&request).await, "paid");
    for _ in 0..5 {
        bed.remote.take_calls();
        bed.remote.hold_replies();
        let callers: Vec<_> = (0..500).map(|_| spawn_claim(&bed, &request)).collect();
        bed.remote.held().await;
        // All of them have asked.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        bed.remote.let_go();
        for caller in callers {
            assert_replay(&caller.await.unwrap().unwrap(), "paid");
        }
        assert_eq!(bed.remote.take_calls(), GET);
        bed.clock.advance(MAX_AGE);
    }
}

#[tokio::test]
async fn an_error_is_one_for_all_who_ask_at_once() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    assert_replay(&bed.claim(&request).await, "paid");
    bed.remote.take_calls();
    bed.remote.hold_replies();
    let callers: Vec<_> = (0..500).map(|_| spawn_claim(&bed, &request)).collect();
    bed.remote.held().await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    bed.remote.let_go_and_lose(StoreErrorKind::Unavailable);
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(bed.remote.take_calls(), GET);
}

#[tokio::test]
async fn who_reads_for_others_and_is_dropped_strands_nobody() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    assert_replay(&bed.claim(&request).await, "paid");
    bed.remote.take_calls();
    bed.remote.hold_replies();
    let leader = spawn_claim(&bed, &request);
    bed.remote.held().await;
    let followers: Vec<_> = (0..10).map(|_| spawn_claim(&bed, &request)).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    for follower in followers {
        assert_replay(&follower.await.unwrap().unwrap(), "paid");
    }
    assert_eq!(bed.remote.take_calls(), Calls { claims: 0, gets: 2 });
}

/// With an older answer cached, none of them asks again before its time.
#[tokio::test]
async fn who_reads_for_others_and_is_dropped_leaves_them_the_older_answer() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.clock.advance(MAX_AGE);
    bed.remote.hold_replies();
    let leader = spawn_claim(&bed, &request);
    bed.remote.held().await;
    let followers: Vec<_> = (0..10).map(|_| spawn_claim(&bed, &request)).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    leader.abort();
    for follower in followers {
        assert_replay(&follower.await.unwrap().unwrap(), "paid");
    }
    assert_eq!(bed.remote.take_calls(), GET);
}
