//! A payment service with metrics for Prometheus, and with the outcome of each request in its span.
//!
//! ```text
//! cargo run --features metrics --example metrics
//! cargo run --features metrics,sqlite --example metrics -- --store sqlite:payments.db
//! ```
//!
//! A payment with the header `x-crash` kills the process in the middle of the charge. `metrics/alerts.yml` and `metrics/dashboard.json` are alert rules and a dashboard for these metrics.

use std::error::Error;

use axum::extract::{FromRef, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use idempotent_runtime::metrics::MetricsObserver;
use idempotent_runtime::{Idempotency, idempotent, store};
use lexopt::ValueExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::field::Empty;

#[derive(Clone, FromRef)]
struct AppState {
    idempotency: Idempotency,
    metrics: PrometheusHandle,
}

#[derive(Deserialize)]
struct PaymentRequest {
    amount: u64,
    order: String,
}

#[derive(Serialize)]
struct Payment {
    amount: u64,
}

/// The label is the order's number, so that an operator can find the order of an abandoned request. With the header
/// `x-crash` the process ends in the middle of the charge, as if it had been killed; 2 s later its key is abandoned.
#[idempotent(ttl_hours = 24, lease = "2s", label = &payment.0.order)]
async fn create_payment(
    headers: HeaderMap,
    payment: Json<PaymentRequest>,
) -> (StatusCode, Json<Payment>) {
    if headers.contains_key("x-crash") {
        std::process::abort();
    }
    let amount = payment.amount;
    (StatusCode::CREATED, Json(Payment { amount }))
}

async fn scrape(State(metrics): State<PrometheusHandle>) -> String {
    metrics.run_upkeep();
    metrics.render()
}

/// The fields that the crate records are declared where the span is made.
fn span(request: &Request) -> tracing::Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(),
        idempotency.operation = Empty, idempotency.outcome = Empty,
        idempotency.record = Empty, idempotency.attempt = Empty)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut url, mut address) = ("memory:".to_owned(), "127.0.0.1:3000".to_owned());
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("store") => url = arguments.value()?.parse()?,
            lexopt::Arg::Long("addr") => address = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();

    // The exporter comes first: the observer asks it for each metric once.
    let buckets = [0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0];
    let durations = Matcher::Full("idempotency_store_duration_seconds".to_owned());
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &buckets)?
        .install_recorder()?;
    let idempotency = Idempotency::builder(store::connect(&url).await?)
        .observer(MetricsObserver::new())
        .build();

    let app = Router::new()
        .route("/payments", post(create_payment))
        .route("/metrics", get(scrape))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_response(DefaultOnResponse::new().level(tracing::Level::INFO)),
        )
        .with_state(AppState {
            idempotency,
            metrics,
        });
    let listener = tokio::net::TcpListener::bind(address).await?;
    let at = listener.local_addr()?;
    println!("Listening on http://{at}");
    println!("Pay, retry, and look:");
    println!(
        "  curl -i http://{at}/payments -H 'Idempotency-Key: 1' -H 'content-type: application/json' -d '{{\"amount\":5,\"order\":\"order-1\"}}'"
    );
    println!("  curl -s http://{at}/metrics | grep idempotency");
    println!(
        "With a store that lasts, add `-H 'x-crash: 1'` and another key: the process dies, and the next one finds it."
    );
    axum::serve(listener, app).await?;
    Ok(())
}
