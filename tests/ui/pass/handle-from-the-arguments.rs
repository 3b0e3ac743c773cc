//! `with = expr`: the handle from the arguments, where the state cannot be `FromRef`.

use std::sync::{Arc, OnceLock};

use axum::extract::{Extension, Path, State};
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::{Idempotency, idempotent};

struct AppState {
    services: Services,
}

struct Services {
    idempotency: Idempotency,
}

struct Of<T> {
    app: T,
}

impl AppState {
    fn idempotency(&self) -> &Idempotency {
        &self.services.idempotency
    }
}

mod handles {
    pub fn of(app: &super::AppState) -> &super::Idempotency {
        app.idempotency()
    }
}

static HANDLE: OnceLock<Idempotency> = OnceLock::new();

#[idempotent(ttl_hours = 24, with = app.services.idempotency)]
async fn nested(State(app): State<Arc<AppState>>, Json(amount): Json<u64>) -> String {
    format!("{amount} of {}", Arc::strong_count(&app))
}

/// The argument that it names is the last one.
#[idempotent(with = app.idempotency())]
async fn only_the_state(State(app): State<Arc<AppState>>) -> String {
    format!("{:?}", app.idempotency())
}

/// Nothing else uses the argument.
#[idempotent(with = app.idempotency())]
async fn for_the_handle_only(State(app): State<Arc<AppState>>, body: String) -> String {
    body
}

#[idempotent(with = handle)]
async fn extension(Extension(handle): Extension<Idempotency>, body: String) -> String {
    drop(handle);
    body
}

#[idempotent(with = handle)]
async fn shared_extension(Extension(handle): Extension<Arc<Idempotency>>, body: String) -> String {
    body
}

#[idempotent(with = _handle)]
async fn underscored(Extension(_handle): Extension<Idempotency>) {}

/// A field is called like the last argument's binding.
#[idempotent(with = app.services.idempotency)]
async fn field(State(app): State<Arc<AppState>>, Json(services): Json<Vec<u64>>) -> String {
    format!("{services:?} {}", Arc::strong_count(&app))
}

/// And a method.
#[idempotent(with = app.idempotency())]
async fn method(State(app): State<Arc<AppState>>, idempotency: String) -> String {
    format!("{idempotency:?} {}", Arc::strong_count(&app))
}

/// And a function, and the module that it is in.
#[idempotent(with = handles::of(app))]
async fn function(State(app): State<Arc<AppState>>, of: String) -> String {
    format!("{of} {}", Arc::strong_count(&app))
}

#[idempotent(with = handles::of(app))]
async fn module(State(app): State<Arc<AppState>>, handles: String) -> String {
    format!("{handles} {}", Arc::strong_count(&app))
}

/// And a field that is set.
#[idempotent(with = Of { app: state }.app.idempotency())]
async fn set(State(state): State<Arc<AppState>>, app: String) -> String {
    format!("{app} {}", Arc::strong_count(&state))
}

#[idempotent(with = HANDLE.get().expect("it is set at start-up"))]
async fn in_a_static(Path(id): Path<u64>, body: String) -> String {
    format!("{id}{body}")
}

#[idempotent(with = HANDLE.get().expect("it is set at start-up"))]
async fn no_arguments() {}

#[idempotent(with = app.idempotency(), scope = id, key = (id, &order), fingerprint = &order)]
async fn with_other_expressions(
    State(app): State<Arc<AppState>>,
    Path(id): Path<u64>,
    Json(order): Json<Vec<u64>>,
) -> String {
    format!("{id}{order:?}")
}

fn main() {
    let _: Router<Arc<AppState>> = Router::new()
        .route("/nested", post(nested))
        .route("/state", post(only_the_state))
        .route("/handle", post(for_the_handle_only))
        .route("/extension", post(extension))
        .route("/shared", post(shared_extension))
        .route("/underscored", post(underscored))
        .route("/field", post(field))
        .route("/method", post(method))
        .route("/function", post(function))
        .route("/module", post(module))
        .route("/set", post(set))
        .route("/static/{id}", post(in_a_static))
        .route("/nothing", post(no_arguments))
        .route("/expressions/{id}", post(with_other_expressions));
}
