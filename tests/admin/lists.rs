//! Numbers, lists and pages, under any prefix.

use std::collections::HashSet;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use idempotent_runtime::{StoredResponse, admin};

use crate::support::{Admin, authorise, owner, send};

async fn many(count: u64) -> Admin {
    let admin = Admin::new();
    for number in 0..count {
        admin.abandon(number, "POST /payments", None).await;
    }
    admin
}

#[tokio::test(start_paused = true)]
async fn the_overview_counts_by_operation_state_and_age() {
    let admin = Admin::new();
    admin.abandon(1, "POST /payments", None).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    admin.abandon(2, "POST /payments", None).await;
    admin.claim(3, "POST /orders", None).await;
    let done = StoredResponse::new(StatusCode::OK, HeaderMap::new(), "");
    admin.complete(4, "POST /orders", done).await;
    tokio::time::sleep(Duration::from_secs(20)).await;

    let json = admin.get_json("").await.json();
    assert_eq!(json["totals"]["abandoned"]["count"], 2);
    assert_eq!(json["totals"]["abandoned"]["oldest_ms"], 3_620_000);
    assert_eq!(json["totals"]["in_flight"]["count"], 1);
    assert_eq!(json["totals"]["completed"]["is_at_least"], false);
    assert_eq!(json["operations"][0]["operation"], "POST /orders");
    let ages = &json["operations"][1]["abandoned"]["by_age"];
    assert_eq!(*ages, serde_json::json!([0, 0, 1, 0, 0, 1, 0, 0, 0, 0]));

    let page = admin.get("").await.text;
    assert!(
        page.contains("<title>1 abandoned, 10 s to 1 min</title>"),
        "{page}"
    );
    assert!(page.contains("the oldest 1 h<"), "{page}");
    assert!(!page.contains("at least"));
}

#[tokio::test]
async fn an_empty_store_is_a_page_too() {
    let admin = Admin::new();
    let page = admin.get("").await;
    assert!(page.text.contains("The store has no records"));
    assert!(
        admin
            .get("/records")
            .await
            .text
            .contains("There is no such record")
    );
}

#[tokio::test(start_paused = true)]
async fn a_count_that_was_stopped_says_at_least() {
    let admin = many(25_001).await;
    let json = admin.get_json("").await.json();
    assert_eq!(json["totals"]["abandoned"]["count"], 25_000);
    assert_eq!(json["totals"]["abandoned"]["is_at_least"], true);
    let page = admin.get("").await.text;
    assert!(page.contains("at least 25,000"), "{page}");
}

/// Follows the links as a browser does.
#[tokio::test(start_paused = true)]
async fn ten_thousand_records_are_read_page_by_page() {
    let admin = many(10_000).await;
    let mut path = "/records?state=abandoned".to_owned();
    let (mut seen, mut pages) = (HashSet::new(), 0);
    loop {
        let page = admin.get(&path).await.text;
        assert!(page.len() < 64 * 1024, "{} bytes", page.len());
        pages += 1;
        for link in page.split("href=\"./records/").skip(1) {
            assert!(seen.insert(link[..64].to_owned()), "{path}: twice");
        }
        let Some((_, next)) = page.split_once("rel=\"next\" href=\"") else {
            break;
        };
        let (next, _) = next.split_once('"').unwrap();
        path = format!("/records{}", next.replace("&amp;", "&"));
    }
    assert_eq!((seen.len(), pages), (10_000, 200));
    let overview = admin.get("").await.text;
    assert!(overview.contains("10,000"));
    assert!(overview.len() < 64 * 1024, "{} bytes", overview.len());
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered() {
    let admin = Admin::new();
    let old = admin.abandon(1, "POST /orders/{}", Some("order 1")).await;
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    let new = admin.abandon(2, "POST /orders/{}", Some("order 2")).await;
    let running = admin.claim(3, "POST /pay", None).await.key;
    for (query, expected) in [
        ("", vec![old, new, running]),
        ("state=abandoned", vec![old, new]),
        ("state=in-flight", vec![running]),
        ("state=completed", vec![]),
        ("operation=POST+/orders/{id}", vec![old, new]),
        ("label=order+2", vec![new]),
        ("older_than=1h", vec![old]),
        (
            "state=&operation=&label=&older_than=",
            vec![old, new, running],
        ),
        ("operation=POST+/pay&label=order+1", vec![]),
    ] {
        let path = format!("/records?{query}")
            .replace(['{', '}'], "%7B")
            .replace("%7Bid%7B", "%7Bid%7D");
        let json = admin.get_json(&path).await.json();
        let found: HashSet<String> = json["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["key"].as_str().unwrap().to_owned())
            .collect();
        let expected = expected.iter().map(|key| key.to_hex()).collect();
        assert_eq!(found, expected, "{query}");
    }
    for wrong in [
        "state=gone",
        "after=xyz",
        "older_than=soon",
        "key=00",
        "label=a&label=b",
    ] {
        let reply = admin.get(&format!("/records?{wrong}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    // Another store's cursor.
    let reply = admin.get("/records?after=00ff").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let reply = admin.get_json("/records?state=gone").await;
    assert_eq!(reply.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_record_is_opened_by_its_key() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    let reply = admin
        .get(&format!("/records?key=+{}+", key.to_uppercase()))
        .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(
        reply.headers["location"],
        format!("./records/{key}").as_str()
    );
    for path in [
        "/records/00",
        &format!("/records/{}", "0".repeat(64)),
        "/records/",
        "/x",
    ] {
        let reply = admin.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// As a log line names it.
#[tokio::test]
async fn a_record_is_found_by_the_first_digits_of_its_key() {
    let admin = many(2_000).await;
    let wanted = admin.abandon(7_000, "POST /pay", None).await.to_hex();
    let digits = &wanted[..8];
    let opened = admin.get(&format!("/records?key={digits}")).await;
    assert_eq!(
        opened.headers["location"],
        format!("./records/{digits}").as_str()
    );
    let reply = admin
        .get(&format!("/records/{}", digits.to_uppercase()))
        .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
    assert_eq!(
        reply.headers["location"],
        format!("../records/{wanted}").as_str()
    );
    let json = admin.get_json(&format!("/records/{digits}")).await.json();
    assert_eq!(json["key"], wanted.as_str());
    let none = admin.get("/records/0123456789").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert!(
        none.text.contains("all 64 digits of its key"),
        "{}",
        none.text
    );
    assert!(none.text.contains("Find a record"), "{}", none.text);
    let begins_so = |it: &u64| owner(*it).key.to_hex().starts_with(&wanted[..4]);
    let other = (8_000..).find(begins_so).unwrap();
    let other = admin.abandon(other, "POST /pay", None).await.to_hex();
    let several = admin.get_json(&format!("/records/{}", &wanted[..4])).await;
    assert_eq!(several.status, StatusCode::NOT_FOUND);
    let detail = several.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("records have keys that begin so"),
        "{detail}"
    );
    assert!(
        detail.contains(&wanted) && detail.contains(&other),
        "{detail}"
    );
}

/// The address that a link means, by the rules for relative ones.
fn followed(base: &str, link: &str) -> String {
    let (link, query) = link
        .split_once('?')
        .map_or((link, ""), |(link, query)| (link, query));
    let (folder, _) = base.rsplit_once('/').unwrap();
    let mut segments: Vec<&str> = folder.split('/').collect();
    let mut rest = link;
    loop {
        if let Some(up) = rest.strip_prefix("../") {
            segments.pop();
            rest = up;
        } else if let Some(here) = rest.strip_prefix("./") {
            rest = here;
        } else {
            let separator = if query.is_empty() { "" } else { "?" };
            return format!("{}/{rest}{separator}{query}", segments.join("/"));
        }
    }
}

fn links(page: &str) -> Vec<String> {
    let parts = page.split(['"']).collect::<Vec<_>>();
    let pairs = parts.windows(2);
    pairs
        .filter(|pair| pair[0].ends_with(" href=") || pair[0].ends_with(" action="))
        .map(|pair| pair[1].replace("&amp;", "&"))
        .filter(|link| !link.starts_with(['#', '?']))
        .collect()
}

#[tokio::test]
async fn links_work_under_any_prefix() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    let page = || admin::router::<(), _, _>(admin.idempotency.clone(), authorise);
    for (router, prefix) in [
        (page(), ""),
        (Router::new().nest("/admin", page()), "/admin"),
        (
            Router::new().nest("/a/{tenant}/admin", page()),
            "/a/acme/admin",
        ),
        (
            Router::new().nest("/a", Router::new().nest("/b", page())),
            "/a/b",
        ),
        (Router::new().nest_service("/service", page()), "/service"),
    ] {
        let mut seen = HashSet::new();
        let mut left = vec![
            format!("{prefix}/overview"),
            format!("{prefix}/records/{key}"),
        ];
        left.push(if prefix.is_empty() {
            "/".to_owned()
        } else {
            prefix.to_owned()
        });
        if prefix == "/service" {
            left.push("/service/".to_owned());
        }
        while let Some(path) = left.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let request = Request::get(&path).header("x-operator", "anna");
            let reply = send(&router, request.body(Body::empty()).unwrap()).await;
            let is_action = ["/resolve", "/forget", "/find"]
                .iter()
                .any(|it| path.ends_with(it));
            if is_action {
                assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
                continue;
            }
            assert_eq!(reply.status, StatusCode::OK, "{path}");
            left.extend(links(&reply.text).iter().map(|link| followed(&path, link)));
        }
        for action in ["resolve", "forget"] {
            assert!(
                seen.contains(&format!("{prefix}/records/{key}/{action}")),
                "{seen:?}"
            );
        }
        assert!(
            seen.contains(&format!("{prefix}/records?state=abandoned")),
            "{seen:?}"
        );
        assert!(seen.iter().all(|path| path.starts_with(prefix)), "{seen:?}");
    }
}
