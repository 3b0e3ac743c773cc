//! From a crash to the client's answer, on each store: a service is killed in the middle of a charge, the tool lists the
//! key with its order number, a person decides, and the client's retry gets that response.
//!
//! Everything is real: the service is a process (of this very binary, [`child_process`]) that dies of SIGKILL, the tool
//! is the built binary. What a tool must not print is marked, and looked for in all that it has printed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in the helpers too, which clippy does not take for tests"
)]

mod decisions;
mod scans;
mod service;
mod stores;
mod tool;

use std::time::{Duration, Instant};

use crate::service::{BODY_CANARY, KEY, LEASE, ORDER, SCOPE_CANARY, Service};
use crate::stores::{Kind, Place};
use crate::tool::Tool;

/// What the operator has found out.
const RECEIPT: &str = "HTTP/1.1 201 Created\ncontent-type: application/json\nx-receipt: canary-header\n\n{\"receipt\":\"canary-receipt\"}";
const RECEIPT_BODY: &str = "{\"receipt\":\"canary-receipt\"}";

/// The project's bound: a key can be resolved so long after its lease at the latest.
const BOUND: Duration = Duration::from_secs(5);

/// Not a test: the service, when the environment says so.
#[test]
fn child_process() {
    service::serve();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    transcript(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis() {
    transcript(Kind::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    transcript(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    transcript(Kind::MySql).await;
}

async fn transcript(kind: Kind) {
    let Some(place) = Place::new(kind).await else {
        return;
    };
    let tool = Tool::new(&place);
    nothing_is_created_by_looking(&tool, kind);
    tool.run(&["migrate"]).code(0);
    let record = killed_while_charging(&tool, &place).await;
    is_found_by_its_names(&tool, &record);
    is_resolved(&tool, &place);

    let second = Service::start(&place).await;
    let answer = second.pay(KEY).await.expect("an answer");
    assert_eq!((answer.status, answer.is_replay), (201, true), "{answer:?}");
    assert_eq!(answer.body, RECEIPT_BODY);
    second.kill();

    is_shown_with_its_decision(&tool, &record);
    is_well(&tool);
    is_forgotten(&tool, &record);
    tool.assert_no_canary(&[
        KEY,
        SCOPE_CANARY,
        BODY_CANARY,
        "canary-receipt",
        "canary-header",
    ]);
    place.remove().await;
}

fn nothing_is_created_by_looking(tool: &Tool, kind: Kind) {
    let looked = tool.run(&["list"]);
    if kind == Kind::Redis {
        looked.code(1);
        return;
    }
    for command in [&["list"][..], &["show", "--label", ORDER], &["stats"]] {
        let looked = tool.run(command);
        looked.code(2).says("idempotent migrate");
    }
    if kind != Kind::Sqlite {
        tool.run(&["doctor"])
            .code(2)
            .says("there is no table")
            .says("-> call `migrate`");
    }
    // A second time: the first has made nothing.
    tool.run(&["list"]).code(2).says("idempotent migrate");
}

/// The record key of a charge whose outcome is unknown.
async fn killed_while_charging(tool: &Tool, place: &Place) -> String {
    let first = Service::start(place).await;
    let request = first.spawn_pay(KEY);
    first.charging().await;
    tool.run(&["list", "--state", "in-flight"])
        .code(0)
        .says(ORDER);
    let running = tool.run(&[
        "resolve",
        "--label",
        ORDER,
        "--retry",
        "--reason",
        "too early",
    ]);
    running
        .code(1)
        .says("an attempt is running, or another operator is deciding at this moment");
    first.kill();
    let killed = Instant::now();
    assert!(request.await.expect("a task").is_none(), "it was answered");
    loop {
        let listed = tool.run(&["list", "--state", "abandoned", "--json"]);
        if listed.text.contains(ORDER) {
            let listed: serde_json::Value = serde_json::from_str(listed.text.trim()).unwrap();
            assert_eq!(listed["label"], ORDER);
            assert_eq!(listed["operation"], "payments.create");
            return listed["record"].as_str().unwrap().to_owned();
        }
        assert!(killed.elapsed() < LEASE + BOUND, "it is not listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_found_by_its_names(tool: &Tool, record: &str) {
    for name in [record, &record[..8]] {
        let shown = tool.run(&["show", name]);
        shown
            .code(0)
            .says("abandoned")
            .says(ORDER)
            .says("authorize");
    }
    let by_key = [
        "show",
        "--operation",
        "payments.create",
        "--key-stdin",
        "--scope-json-stdin",
    ];
    let scope = format!("[\"{SCOPE_CANARY}\",7]");
    tool.told(&by_key, &format!("{KEY}\n{scope}\n"))
        .code(0)
        .says(record);
    tool.told(&by_key, &format!("{KEY}\n[\"another\",7]\n"))
        .code(1);
    tool.run(&["show", "ffff"]).code(1);
    tool.run(&["show", KEY]).code(2);
}

fn is_resolved(tool: &Tool, place: &Place) {
    let file = place.folder.join("receipt");
    std::fs::write(&file, RECEIPT).unwrap();
    let file = file.to_str().unwrap();
    let by_label = [
        "resolve",
        "--label",
        ORDER,
        "--replay",
        file,
        "--by",
        "anna@example.com",
    ];
    let reason = "the bank's statement says: paid";
    let resolved = tool.run(&[&by_label[..], &["--reason", reason]].concat());
    resolved
        .code(0)
        .says("resolved")
        .says("anna@example.com")
        .says(reason);
    let again = tool.run(&[&by_label[..], &["--reason", "again"]].concat());
    again.code(1).says("resolved before").says(reason);
}

fn is_shown_with_its_decision(tool: &Tool, record: &str) {
    let shown = tool.run(&["show", "--label", ORDER]);
    shown
        .code(0)
        .says("completed")
        .says("anna@example.com")
        .says("the bank's statement");
    shown.says(record).says("201");
    // The only run that may print them.
    let revealed = tool.run_apart(&["show", record, "--reveal"]);
    revealed
        .code(0)
        .says("canary-receipt")
        .says("x-receipt: canary-header");
}

/// What a test's server lacks is not what is tested, but that all is looked at, and that nothing is an error.
fn is_well(tool: &Tool) {
    let stats = tool.run(&["stats"]);
    stats.code(0).says("completed  1").says("payments.create");
    let doctor = tool.run(&["doctor", "--json"]);
    doctor.says("namespace and secret are those of the instances on this store");
    let stranger = tool.run_as_stranger(&["doctor"]);
    stranger.says("the instances with this namespace have another secret");
    let errors: Vec<_> = doctor
        .text
        .lines()
        .filter(|line| line.contains("\"error\""))
        .collect();
    let is_about_loss = |line: &&str| line.contains("nothing is written to disk");
    assert!(errors.iter().all(is_about_loss), "{errors:?}");
}

fn is_forgotten(tool: &Tool, record: &str) {
    let forget = ["forget", record, "--reason", "a test order"];
    tool.run(&forget).code(2).says("--yes");
    let forgotten = tool.run(&[&forget[..], &["--yes"]].concat());
    forgotten
        .code(0)
        .says(record)
        .says("a test order")
        .says("standard error");
    tool.run(&["show", record]).code(1);
    tool.run(&["purge"]).code(0).says("0 expired records");
}
