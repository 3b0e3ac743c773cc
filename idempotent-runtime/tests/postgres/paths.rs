//! What others can create in a schema of the path has no part in what is done to a record.

use std::time::Duration;

use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, ListFilter, Renewal, Renewed, Store as _,
};

use crate::notifications::abandoned;
use crate::support::{Scratch, TTL, answer, claimed, pool, rival};

/// Before PostgreSQL 15 each user may create in `public`. One such operator made every record expire at once, and each retry of
/// a key ran; another could have done anything that the store's role may do.
#[tokio::test]
async fn operators_of_others_are_not_taken_for_the_servers_own() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let path = format!("{},public", scratch.table);
    let options = scratch.options.clone().options([("search_path", path)]);
    let store = scratch.store_on(pool(&options, 1)).with_schema("public");
    let (completed, renewed) = (claimed(&store).await, claimed(&store).await);
    let late = abandoned(&store).await;
    scratch.execute(r#"CREATE SCHEMA "{table}""#).await;
    for (name, left, right) in [
        ("*", "bigint", "interval"),
        ("*", "integer", "interval"),
        ("*", "double precision", "numeric"),
        ("*", "numeric", "integer"),
        ("=", "text[]", "text[]"),
        ("<>", "text[]", "text[]"),
    ] {
        let function = format!(
            r#"CREATE FUNCTION "{{table}}".taken({left}, {right}) RETURNS text LANGUAGE plpgsql AS
                   $$ BEGIN RAISE 'it was taken'; END $$;
               CREATE OPERATOR "{{table}}".{name} (FUNCTION = "{{table}}".taken, LEFTARG = {left}, RIGHTARG = {right})"#
        );
        scratch
            .execute(&function.replacen("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
            .await;
    }
    scratch
        .execute(
            r#"CREATE FUNCTION "{table}".hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS
                   $$ BEGIN RAISE 'it was taken'; END $$"#,
        )
        .await;
    let first = claimed(&store).await;
    let claim = store.claim(&rival(&first)).await.unwrap();
    let Claim::InFlight { lease_left } = claim else {
        panic!("{claim:?}");
    };
    assert!(lease_left > first.lease / 2, "{lease_left:?}");
    let again = ClaimRequest {
        take_over: Some(1),
        ..rival(&late)
    };
    let claim = store.claim(&again).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{claim:?}"
    );
    let late = abandoned(&store).await;
    let stored = store.complete(&completed.owner, &answer(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    let minute = Duration::from_secs(60);
    let renewal = Renewal {
        owner: renewed.owner,
        lease: minute,
        retention: minute,
    };
    let renewal = store.renew(&[renewal]).await.remove(0);
    assert_eq!(renewal.unwrap(), Renewed::Renewed);
    let grace = store.give_grace(&late.owner.key, 1, minute, minute).await;
    assert!(grace.unwrap());
    for (owner, life) in [
        (completed.owner, TTL),
        (renewed.owner, 2 * minute),
        (late.owner, 2 * minute),
    ] {
        let record = store.get(&owner.key).await.unwrap().unwrap();
        assert!(record.expires_in.abs_diff(life) < minute / 2, "{record:?}");
    }
    let all = ListFilter::default();
    assert_eq!(store.list(&all, None, 9).await.unwrap().records.len(), 5);
    store.purge_expired(9).await.unwrap();
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    scratch.execute(r#"DROP SCHEMA "{table}" CASCADE"#).await;
    scratch.clean_up().await;
}
