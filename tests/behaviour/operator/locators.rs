//! Locators name the keys that handlers and calls have, and only those.

use super::*;

#[derive(Deserialize, Serialize)]
struct User {
    // Not in the order of canonical JSON.
    tenant: String,
    id: u64,
}

#[idempotent(scope = user.0)]
async fn scoped(user: Query<User>) -> String {
    user.id.to_string()
}

#[idempotent(name = "settle", key = (&user.tenant, user.id))]
async fn made(user: Query<User>) -> String {
    user.id.to_string()
}

#[idempotent]
async fn plain() -> &'static str {
    "done"
}

#[tokio::test]
async fn an_identity_is_encoded_as_handlers_encode_it() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let settings = |builder: IdempotencyBuilder| {
        builder
            .namespace("shop")
            .secret("secret")
            .key_syntax(KeySyntax::Strict)
    };
    let resolved = settings(Idempotency::builder(store.clone())).scope(|parts| {
        let tenant = parts.headers.get("x-tenant")?;
        Some(tenant.to_str().ok()?.to_owned())
    });
    let api = Router::new().route("/{id}", post(plain));
    let routes = Router::new()
        .route("/scoped", post(scoped))
        .route("/made", post(made))
        .nest("/v1", api);
    let server = serve_with(resolved, routes).await;
    // A tool of its own, which has no requests to find scopes in.
    let operator = settings(Idempotency::builder(store)).build();

    let quoted = r#""a \"key\"""#;
    for path in [
        "/scoped?tenant=acme&id=7",
        "/made?tenant=acme&id=7",
        "/v1/1",
        "/v1/2",
    ] {
        let request = server.post(path, quoted, "");
        let request = match path {
            "/v1/2" => request.header("x-tenant", "acme"),
            _ => request,
        };
        // The same route and key, but for the scope.
        assert_eq!(reply(request).await.status, 200, "{path}");
    }
    let user = User {
        tenant: "acme".to_owned(),
        id: 7,
    };
    for identity in [
        Locator::new("POST /scoped", quoted).scope(&user),
        Locator::by_value("settle", &("acme", 7)),
        Locator::new("POST /v1/{id}", quoted),
        Locator::new("POST /v1/{id}", quoted).scope("acme"),
    ] {
        let found = operator.inspect(&identity).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{identity:?} is not found"));
        assert!(matches!(found.state, RecordState::Completed(_)));
    }
    for identity in [
        Locator::new("POST /scoped", quoted),
        Locator::new("POST /scoped", quoted).scope(&7),
        Locator::new("POST /v1/1", quoted),
        Locator::by_value("settle", &("acme", 8)),
    ] {
        let found = operator.inspect(&identity).await.unwrap();
        assert!(found.is_none(), "{identity:?}");
    }
}

#[tokio::test]
async fn quoted_and_bare_keys_are_one() {
    let crashes = Crashes::new();
    let server = serve_on(crashes.store.clone(), Router::new().route("/", post(plain))).await;
    reply(server.post("/", "8e03978e", "")).await;
    for key in ["8e03978e", r#""8e03978e""#, " 8e03978e "] {
        let identity = Locator::new("POST /", key);
        assert!(
            server
                .idempotency
                .inspect(&identity)
                .await
                .unwrap()
                .is_some(),
            "{key}"
        );
    }
}

/// The same characters are another key in another place: `"abc"` of a call was looked up as `abc`.
#[tokio::test]
async fn every_key_of_a_call_can_be_reached_and_only_that_one() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let keys = [
        "gr\u{f6}\u{df}e-1",
        "message 1",
        "\"abc\"",
        " abc ",
        "a,b;c\n",
        "abc",
    ];
    for key in keys {
        let run = async move || Ok::<_, idempotent_runtime::ExecuteError>(key.to_owned());
        let done = idempotency.execute(&Policy::new(), "settle", 7, key, "", run);
        assert!(done.await.is_ok());
    }
    let mut records = BTreeSet::new();
    for key in keys {
        let identity = Locator::by_text("settle", key).scope(&7);
        let found = idempotency.inspect(&identity).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{key:?} is not found"));
        let RecordState::Completed(stored) = found.state else {
            panic!("{:?}", found.state);
        };
        assert_eq!(*stored, StoredResponse::of_value(key).unwrap());
        records.insert(found.record_key);
    }
    assert_eq!(records.len(), keys.len());
}

#[idempotent(name = "scoped", scope = Option::<u32>::None)]
async fn of_nobody(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent(name = "scoped", key = id, scope = Option::<u32>::None)]
async fn nobodys_call(idempotency: &Idempotency, id: u32) -> Result<u32, ExecuteError> {
    Ok(id)
}

#[tokio::test]
async fn nobodys_scope_is_the_same_wherever_it_is_said() {
    let server = serve_with(
        Idempotency::builder(MemoryStore::new()).scope(|_| Some("of the handle")),
        Router::new().route("/", post(of_nobody)),
    )
    .await;
    let operator = &server.idempotency;
    assert_eq!(reply(server.post("/", "header", "")).await.status, 200);
    nobodys_call(operator, 7).await.unwrap();
    let run = async || Ok::<_, idempotent_runtime::ExecuteError>(1);
    let done = operator.execute(&Policy::new(), "scoped", None::<u8>, "text", "", run);
    assert!(done.await.is_ok());
    for identity in [
        Locator::new("scoped", "header"),
        Locator::by_value("scoped", &7),
        Locator::by_text("scoped", "text"),
    ] {
        for identity in [
            identity.clone(),
            identity.clone().scope(&None::<u8>),
            identity.clone().scope(&()),
        ] {
            let found = operator.inspect(&identity).await.unwrap();
            assert!(found.is_some(), "{identity:?}");
        }
    }
}

struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[tokio::test]
async fn what_no_client_can_have_sent_names_no_key() {
    let idempotency = Idempotency::new(MemoryStore::new());
    for identity in [
        Locator::new("POST /", ""),
        Locator::new("POST /", r#""""#),
        Locator::new("POST /", "a key"),
        Locator::new("POST /", "k".repeat(256)),
        Locator::by_text("settle", ""),
        Locator::by_text("settle", "k".repeat(256)),
        Locator::by_value("settle", &f64::NAN),
        Locator::by_value("settle", &Option::<u64>::None),
        Locator::by_value("settle", ""),
        Locator::by_value("settle", &Unserializable),
        Locator::new("POST /", "key").scope(&Unserializable),
    ] {
        let errors = [
            idempotency.inspect(&identity).await.unwrap_err(),
            idempotency
                .resolve(&identity, Recovery::Retry)
                .await
                .unwrap_err(),
            idempotency.forget(&identity).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidLocator, "{error:?}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}
