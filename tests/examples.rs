//! The examples, as processes, through the same requests that they invite.

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A running example; it is killed when the test is over.
struct Example {
    process: Child,
    url: String,
    /// Open to the end: an example that prints on into a closed pipe dies of it.
    _stdout: Lines<BufReader<ChildStdout>>,
    client: Client,
}

impl Example {
    /// Starts an example on a free port and waits for the line that names its URL.
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(path_to(name))
            .args(["--addr", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the example starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let url = lines.find_map(|line| {
            let line = line.expect("text");
            line.find("http://").map(|at| line[at..].to_owned())
        });
        Self {
            process,
            url: url.expect("a line with a URL"),
            _stdout: lines,
            client: Client::new(),
        }
    }

    async fn ask(&self, method: Method, path: &str, key: &str, body: &str) -> (u16, bool, Vec<u8>) {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = request
            .header("content-type", "application/json")
            .body(body.to_owned());
        let request = if key.is_empty() {
            request
        } else {
            request.header("idempotency-key", key)
        };
        let answer = request.send().await.expect("an answer");
        let replayed = answer.headers().contains_key("idempotent-replayed");
        (
            answer.status().as_u16(),
            replayed,
            answer.bytes().await.expect("a body").to_vec(),
        )
    }

    async fn post(&self, path: &str, key: &str, body: &str) -> (u16, bool, Vec<u8>) {
        self.ask(Method::POST, path, key, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let (_, _, body) = self.ask(Method::GET, path, "", "").await;
        serde_json::from_slice(&body).expect("JSON")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Cargo builds the examples before it runs the tests, next to them.
fn path_to(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("the path of this test");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "build the examples first: cargo build --examples"
    );
    path
}

#[tokio::test]
async fn payments_charges_once() {
    let shop = Example::start("payments", &[]);
    let payment =
        |amount| json!({"amount": amount, "currency": "USD", "order_id": "1"}).to_string();
    let (status, replayed, first) = shop.post("/api/payments", "key", &payment(1000)).await;
    assert_eq!((status, replayed), (201, false));
    let retry = shop.post("/api/payments", "key", &payment(1000)).await;
    assert_eq!(retry, (201, true, first));
    assert_eq!(
        shop.post("/api/payments", "key", &payment(2000)).await.0,
        422
    );
    assert_eq!(shop.get("/api/payments").await.as_array().unwrap().len(), 1);

    // A refusal is final, an unreachable network is not.
    let with = |network: &str| {
        json!({"amount": 1, "currency": "USD", "order_id": "2", "network": network}).to_string()
    };
    for replayed in [false, true] {
        let declined = shop
            .post("/api/payments", "declined", &with("decline"))
            .await;
        assert_eq!((declined.0, declined.1), (402, replayed));
        let away = shop
            .post("/api/payments", "away", &with("unreachable"))
            .await;
        assert_eq!((away.0, away.1), (503, false));
    }
    for replayed in [false, true] {
        let order = shop
            .post("/api/orders", "key", r#"{"item":"book","quantity":2}"#)
            .await;
        assert_eq!((order.0, order.1), (201, replayed));
    }
    assert_eq!(shop.get("/api/payments").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn conformance_server_does_what_its_table_says() {
    let server = Example::start("conformance_server", &["--store", "memory:"]);
    let bytes: Vec<u8> = (0..=255).collect();
    let routes: [(&str, u16, &[u8]); 8] = [
        ("/echo", 201, b"{}"),
        ("/status/418", 418, b"status:418"),
        ("/status/503", 503, b"status:503"),
        ("/slow?ms=1", 200, b"slept:1"),
        ("/wait?ms=1", 200, b"slept:1"),
        ("/large?bytes=5", 200, b"xxxxx"),
        ("/binary", 200, &bytes),
        ("/headers", 200, b""),
    ];
    for (path, status, body) in routes {
        for replayed in [false, true] {
            let answer = server.post(path, path, "{}").await;
            assert_eq!(answer, (status, replayed, body.to_vec()), "{path}");
        }
        assert_eq!(
            server.post(path, "", "{}").await.0,
            400,
            "{path} requires a key"
        );
    }
    assert_eq!(server.post("/panic", "key", "").await.0, 500);
    assert_eq!(
        server.get("/counter").await,
        json!({"count": routes.len() + 1})
    );
    assert_eq!(server.post("/reset", "", "").await.0, 204);
    assert_eq!(server.get("/counter").await, json!({"count": 0}));
}

#[tokio::test]
async fn conformance_server_forgets_after_ttl_ms() {
    let server = Example::start("conformance_server", &["--ttl-ms", "500"]);
    assert_eq!(server.post("/echo", "key", "one").await.0, 201);
    // The key is another request's until it is forgotten: a wait for an event, with a bound.
    for _ in 0..1_000 {
        let (status, replayed, body) = server.post("/echo", "key", "two").await;
        if status == 201 {
            assert_eq!((replayed, body), (false, b"two".to_vec()));
            return;
        }
        assert_eq!(status, 422);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the key was never forgotten");
}

#[test]
fn a_wrong_argument_is_an_error_that_says_so() {
    for (arguments, message) in [
        (
            ["--store", "redish://example.com"],
            "unknown store scheme `redish:`",
        ),
        (["--store", "memory"], "store URL has no scheme"),
        (["--addr", "nowhere"], "nowhere"),
    ] {
        let output = Command::new(path_to("payments"))
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(message), "{said}");
    }
}

/// A payment that kills the shop gets no answer.
#[cfg(feature = "sqlite")]
async fn dies_of(shop: Example, body: &str) {
    let request = shop.client.post(format!("{}/api/payments", shop.url));
    let lost = request
        .header("content-type", "application/json")
        .header("idempotency-key", "key")
        .body(body.to_owned())
        .send();
    assert!(lost.await.is_err(), "it was to die before it answers");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn exactly_once_leaves_nothing_half_done_when_it_dies() {
    let folder = std::env::temp_dir().join(format!("idempotent-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let store = format!("sqlite:{}", folder.join("shop.db").display());
    let start = || Example::start("exactly_once", &["--store", &store]);
    let payment =
        |amount, crash| json!({"amount": amount, "order_id": "1", "crash": crash}).to_string();

    dies_of(start(), &payment(1000, true)).await;

    let shop = start();
    assert_eq!(shop.get("/api/payments").await, json!([]));
    let (status, replayed, first) = shop
        .post("/api/payments", "key", &payment(1000, false))
        .await;
    assert_eq!((status, replayed), (201, false));
    let retry = shop
        .post("/api/payments", "key", &payment(1000, false))
        .await;
    assert_eq!(retry, (201, true, first));
    for replayed in [false, true] {
        let refused = shop.post("/api/payments", "no", &payment(-5, false)).await;
        assert_eq!((refused.0, refused.1), (422, replayed));
    }
    let paid = json!([{"id": 1, "amount": 1000, "order_id": "1"}]);
    assert_eq!(shop.get("/api/payments").await, paid);
    drop(shop);
    std::fs::remove_dir_all(&folder).expect("a folder");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn provider_is_asked_twice_and_charges_once() {
    let folder = std::env::temp_dir().join(format!("idempotent-provider-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let store = format!("sqlite:{}", folder.join("shop.db").display());
    let provider = Example::start("provider", &["--provider"]);
    let start = || {
        let arguments = ["--store", &store, "--provider-url", &provider.url];
        Example::start("provider", &arguments)
    };
    let payment = |amount| json!({"amount": amount, "crash": true}).to_string();
    let charges = async || {
        let charges = provider.get("/charges").await;
        let charges = charges.as_array().expect("a list").clone();
        let charge = |charge: &Value| (charge["amount"].clone(), charge["asked"].clone());
        charges.iter().map(charge).collect::<Vec<_>>()
    };

    dies_of(start(), &payment(1000)).await;
    assert_eq!(charges().await, [(json!(1000), json!(1))]);

    // The key is the dead attempt's until its lease ends: a wait for an event, with a bound.
    let shop = start();
    let mut answer = shop.post("/api/payments", "key", &payment(1000)).await;
    for _ in 0..1_000 {
        let (409, _, problem) = &answer else { break };
        let problem: Value = serde_json::from_slice(problem).expect("JSON");
        assert_eq!(problem["code"], "in-flight");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        answer = shop.post("/api/payments", "key", &payment(1000)).await;
    }
    let (status, replayed, first) = answer;
    assert_eq!((status, replayed), (201, false));
    assert_eq!(
        serde_json::from_slice::<Value>(&first).expect("JSON"),
        json!({"amount": 1000, "charge": "charge-1", "attempt": 2})
    );
    let retry = shop.post("/api/payments", "key", &payment(1000)).await;
    assert_eq!(retry, (201, true, first));
    let other = shop.post("/api/payments", "key", &payment(2000)).await;
    assert_eq!(other.0, 422);
    assert_eq!(charges().await, [(json!(1000), json!(2))]);
    drop(shop);
    std::fs::remove_dir_all(&folder).expect("a folder");
}

#[tokio::test]
async fn openapi_documents_what_it_serves() {
    let mut shop = Example::start("openapi", &[]);
    let document = shop.get("").await;
    let base = shop.url.trim_end_matches("/openapi.json").to_owned();
    shop.url = base;
    let create = &document["paths"]["/payments"]["post"];
    assert_eq!(create["parameters"][0]["name"], "Idempotency-Key");
    let payment = json!({"amount": 1000}).to_string();
    for replayed in [false, true] {
        let answer = shop.post("/payments", "key", &payment).await;
        assert_eq!((answer.0, answer.1), (201, replayed));
    }
    assert_eq!(shop.get("/payments").await.as_array().unwrap().len(), 1);
    let other = json!({"amount": 2000}).to_string();
    let (status, _, problem) = shop.post("/payments", "key", &other).await;
    let problem: Value = serde_json::from_slice(&problem).expect("JSON");
    let documented = &create["responses"][status.to_string()];
    let documented = &documented["content"]["application/problem+json"]["schema"];
    let codes = documented["properties"]["code"]["enum"].as_array().unwrap();
    assert!(codes.contains(&problem["code"]), "{problem}");
}

#[test]
fn worker_settles_each_order_once() {
    let output = Command::new(path_to("worker"))
        .env_remove("IDEMPOTENCY_URL")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = String::from_utf8(output.stdout).unwrap();
    let effects: Vec<_> = trace
        .lines()
        .filter(|line| line.contains("the bank"))
        .collect();
    let once = [
        "  the bank charges 1000",
        "  the bank declines",
        "  the bank cannot be reached",
        "  the bank charges 250",
    ];
    assert_eq!(effects, once, "{trace}");
    // Of two deliveries, both are told the same.
    for (told, times) in [
        ("settled, receipt 1", 2),
        ("settled: declined", 2),
        ("settled, receipt 2", 1),
        ("not settled, deliver it again", 1),
        ("the key was used with different input", 1),
        ("7 deliveries, 2 charges", 1),
    ] {
        assert_eq!(trace.matches(told).count(), times, "{told}: {trace}");
    }
}

/// A crashed payment is counted by the next process, and its counters begin at 0, so that the first one rises.
#[cfg(all(feature = "metrics", feature = "sqlite"))]
#[tokio::test]
async fn metrics_count_requests_and_a_payment_that_crashed() {
    let folder = std::env::temp_dir().join(format!("idempotent-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let store = format!("sqlite:{}", folder.join("payments.db").display());
    let start = || Example::start("metrics", &["--store", &store]);
    let scrape = async |shop: &Example| {
        let (_, _, text) = shop.ask(Method::GET, "/metrics", "", "").await;
        String::from_utf8(text).expect("text")
    };
    let shop = start();
    let payment = r#"{"amount":5,"order":"order-1"}"#;
    for replayed in [false, true] {
        let paid = shop.post("/payments", "key", payment).await;
        assert_eq!((paid.0, paid.1), (201, replayed));
    }
    let text = scrape(&shop).await;
    for line in [
        r#"idempotency_requests_total{operation="POST /payments",outcome="stored"} 1"#,
        r#"idempotency_requests_total{operation="POST /payments",outcome="replayed"} 1"#,
        r#"idempotency_requests_total{operation="POST /payments",outcome="degraded"} 0"#,
        r#"idempotency_purged_abandoned_total{operation="POST /payments"} 0"#,
        r#"idempotency_in_flight{operation="POST /payments"} 0"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    dies_of_request(shop, payment).await;

    let shop = start();
    let abandoned = r#"idempotency_abandoned_records{operation="POST /payments"} 1"#;
    let counted = async {
        while !scrape(&shop).await.contains(abandoned) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, counted)
        .await
        .expect("it is counted");
    drop(shop);
    std::fs::remove_dir_all(folder).expect("the folder is there");
}

/// The process ends in the middle of this payment.
#[cfg(all(feature = "metrics", feature = "sqlite"))]
async fn dies_of_request(mut shop: Example, payment: &'static str) {
    let request = shop.client.post(format!("{}/payments", shop.url));
    let request = request
        .header("content-type", "application/json")
        .header("idempotency-key", "crashes")
        .header("x-crash", "1");
    request.body(payment).send().await.expect_err("no answer");
    shop.process.wait().expect("it has ended");
}
