//! A record is removed if an operator insists.

use http::StatusCode;

use crate::logged::Log;
use crate::support::Admin;

#[tokio::test(start_paused = true)]
async fn a_record_is_forgotten_after_a_confirmation_only() {
    let (log, _guard) = Log::begin(tracing::Level::INFO);
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let path = format!("/records/{}/forget", key.to_hex());
    let seen = admin.seen(key).await;
    let fields = [
        ("decision", "forget"),
        ("seen", &*seen),
        ("state", "abandoned"),
        ("reason", "a test of ours"),
        ("confirm", "yes"),
    ];
    let with = |name: &str, value: &'static str| {
        fields.map(|(field, old)| {
            if field == name {
                (field, value)
            } else {
                (field, old)
            }
        })
    };
    for (fields, status) in [
        (with("confirm", ""), StatusCode::UNPROCESSABLE_ENTITY),
        (with("decision", "retry"), StatusCode::UNPROCESSABLE_ENTITY),
        (with("reason", ""), StatusCode::UNPROCESSABLE_ENTITY),
        (with("seen", "2@1780000000000"), StatusCode::CONFLICT),
        (with("seen", ""), StatusCode::BAD_REQUEST),
        (with("state", "completed"), StatusCode::CONFLICT),
    ] {
        let reply = admin.submit(&path, &fields).await;
        assert_eq!(reply.status, status, "{fields:?}");
        assert!(admin.is_abandoned(key).await);
    }
    assert!(!log.text().contains("removed a record"));
    let reply = admin.submit(&path, &fields).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.text.contains("Forgotten"), "{}", reply.text);
    assert!(admin.state(key).await.is_none());
    let logged = log.text();
    assert!(logged.contains("an operator removed a record"), "{logged}");
    assert!(
        logged.contains("by=\"anna\"") && logged.contains("a test of ours"),
        "{logged}"
    );
    assert_eq!(
        admin.submit(&path, &fields).await.status,
        StatusCode::NOT_FOUND
    );
}
