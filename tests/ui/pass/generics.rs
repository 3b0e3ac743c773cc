//! Generic handlers are routed as `handler::<App>`, as without the attribute.
#![deny(warnings)]

use axum::Router;
use axum::extract::{FromRef, Path, State};
use axum::response::IntoResponse;
use axum::routing::post;
use idempotent_runtime::{Abandoned, Idempotency, Recovery, idempotent};

trait Ledger: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn charge(&self, amount: u64) -> impl Future<Output = String> + Send;

    fn recover(abandoned: Abandoned) -> impl Future<Output = Recovery> + Send;
}

#[derive(Clone)]
struct App(Idempotency);

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.0.clone()
    }
}

impl Ledger for App {
    const NAME: &'static str = "app";

    async fn charge(&self, amount: u64) -> String {
        amount.to_string()
    }

    async fn recover(abandoned: Abandoned) -> Recovery {
        drop(abandoned);
        Recovery::Unknown
    }
}

#[idempotent]
async fn bound<L: Ledger>(State(ledger): State<L>, Path(amount): Path<u64>) -> impl IntoResponse {
    ledger.charge(amount).await
}

#[idempotent(scope = L::NAME, on_abandoned = L::recover)]
async fn in_the_body_only<L, const RETRIES: usize>(body: String) -> String
where
    L: Ledger,
{
    format!("{} {RETRIES} {body}", L::NAME)
}

/// A type is called like the constant of `in_the_body_only` and of this one.
#[derive(Clone)]
#[allow(clippy::upper_case_acronyms)]
struct RETRIES;

#[idempotent]
async fn both<const RETRIES: usize, const LOUD: bool>(body: String) -> String {
    format!("{RETRIES} {LOUD} {body}")
}

fn main() {
    drop(RETRIES);
    let _: Router<App> = Router::new()
        .route("/1/{amount}", post(bound::<App>))
        .route("/2", post(in_the_body_only::<App, 3>))
        .route("/3", post(both::<3, true>));
}
