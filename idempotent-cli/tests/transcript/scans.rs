//! What goes over all records: pages, an ambiguous name, sizes, purging.

use std::collections::BTreeSet;
use std::time::Duration;

use idempotent_runtime::store::{ClaimRequest, Store as _, Target};
use idempotent_runtime::{Fingerprint, Owner, RecordKey, Token};

use crate::stores::{Kind, Place};
use crate::tool::Tool;

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Claims a key that begins with this byte, for an operation, by an attempt that has crashed.
pub(crate) async fn crashed(place: &Place, beginning: u8, operation: &str, label: &str) {
    claim(
        place,
        beginning,
        operation,
        label,
        Duration::from_millis(1),
        LONG,
    )
    .await;
}

/// Claims keys that begin with these bytes, for as long, and kept so long after that.
pub(crate) async fn claimed(
    place: &Place,
    beginnings: &[u8],
    lease: Duration,
    retention: Duration,
) {
    for beginning in beginnings {
        claim(place, *beginning, "scan", "of all", lease, retention).await;
    }
}

async fn claim(
    place: &Place,
    beginning: u8,
    operation: &str,
    label: &str,
    lease: Duration,
    retention: Duration,
) {
    let target = Target::new(&place.url);
    target.migrate().await.unwrap();
    let store = target.open().await.unwrap();
    let mut key = [7; 32];
    key[0] = beginning;
    let owner = Owner {
        key: RecordKey::from_bytes(key),
        token: Token::random().unwrap(),
    };
    let fingerprint = Fingerprint::from_bytes([0; 32]);
    let mut request = ClaimRequest::new(owner, fingerprint, operation, lease, retention);
    request.label = Some(label);
    store.claim(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_on_where_the_one_before_ended() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[1, 2, 3, 4, 5], LONG, LONG).await;
    let tool = Tool::new(&place);
    let (mut records, mut pages, mut next) = (BTreeSet::new(), 0, None::<String>);
    loop {
        let cursor = next.iter().flat_map(|it| ["--cursor", it]);
        let arguments = ["list", "--json", "--limit", "2"].into_iter().chain(cursor);
        let page = tool.run(&arguments.collect::<Vec<_>>());
        page.code(0);
        pages += 1;
        next = None;
        for line in page.text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            match line["record"].as_str() {
                Some(record) => assert!(records.insert(record.to_owned()), "{record} twice"),
                None => next = line["next_cursor"].as_str().map(str::to_owned),
            }
        }
        if next.is_none() {
            break;
        }
    }
    assert_eq!((records.len(), pages), (5, 3));
    tool.run(&["list", "--cursor", "no hex"]).code(2);
    tool.run(&["list", "--older-than", "1h"]).code(1);
    tool.run(&["list", "--operation", "another"]).code(1);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_records_are_called_names_none_of_them() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[0x0a, 0x0b], LONG, LONG).await;
    let tool = Tool::new(&place);
    for which in [&["show", "0a07"][..], &["show", "0b0707"]] {
        tool.run(which).code(0).says("of all");
    }
    let both = tool.run(&["show", "--label", "of all"]);
    assert_eq!(both.text.matches("in-flight").count(), 2, "{}", both.text);
    let forget = ["forget", "--label", "of all", "--reason", "none", "--yes"];
    tool.run(&forget)
        .code(2)
        .says("2 records match:")
        .says("0b0707");
    tool.run(&["stats"]).code(0).says("in-flight  2");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_records_with_a_label_the_abandoned_one_is_decided_about() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[0x0a, 0x0b], LONG, LONG).await;
    crashed(&place, 0x0c, "charge", "of all").await;
    let tool = Tool::new(&place);
    let resolve = ["resolve", "--label", "of all", "--status", "201"];
    let resolve = [&resolve[..], &["--reason", "booked"]].concat();
    tool.run(&resolve).code(0).says("0c0707");
    // None of them is abandoned now.
    tool.run(&resolve).code(2).says("3 records match:");
    // One that is can be another record of a request that runs.
    crashed(&place, 0x0d, "scan", "of all").await;
    tool.run(&resolve).code(2).says("4 records match:");
    crashed(&place, 0x0e, "scan", "of all").await;
    crashed(&place, 0x0f, "settle", "of all").await;
    let several = tool.run(&resolve);
    several.code(2).says("6 records match:").says("0e0707");
    several.says("name one by its digits");
    let of_settle = ["--operation", "settle"];
    let shown = tool.run(&[&["show", "--label", "of all"][..], &of_settle].concat());
    shown.code(0).says("0f0707");
    assert!(!shown.text.contains("0e0707"), "{}", shown.text);
    tool.run(&[&resolve[..], &of_settle].concat())
        .code(0)
        .says("0f0707");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_found_it_is_told_where_was_looked() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(&place, &[0x0a], LONG, LONG).await;
    let tool = Tool::new(&place);
    let elsewhere = ["--table", "other_records"];
    tool.run(&["migrate", "--table", "other_records"]).code(0);
    let looked = "table `other_records` of sqlite:";
    for command in [&["list"][..], &["list", "--json"], &["show", "0a07"]] {
        tool.run(command).code(0);
        let run = tool.run(&[command, &elsewhere].concat());
        run.code(1).says(looked).says("--table and --store");
        assert!(!run.all().contains("key is free"), "{}", run.all());
        assert_eq!(run.text.is_empty(), command[0] == "list", "{}", run.text);
    }
    let resolve = ["resolve", "0a07", "--retry", "--reason", "none"];
    tool.run(&[&resolve[..], &elsewhere].concat())
        .code(1)
        .says(looked)
        .says("another operator has freed it");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_names_what_was_never_resolved() {
    let place = Place::new(Kind::Sqlite).await.unwrap();
    claimed(
        &place,
        &[1],
        Duration::from_millis(1),
        Duration::from_millis(1),
    )
    .await;
    claimed(&place, &[2], LONG, LONG).await;
    let tool = Tool::new(&place);
    // It is expired by then: starting the tool takes longer than its life.
    let purged = tool.run(&["purge"]);
    purged
        .code(0)
        .says("1 expired records were removed, of which 1 were never completed");
    purged.says("abandoned: 0107").says("scan");
    tool.run(&["purge"]).code(0).says("0 expired records");
    place.remove().await;
}
