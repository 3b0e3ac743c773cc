//! This crate: the same handler under `#[idempotent]`.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::metrics::MetricsObserver;
use idempotent_runtime::store::Store;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, IdempotencyBuilder, idempotent};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use crate::Failure;
use crate::till::{Payment, PaymentRequest, Till};

#[derive(Clone)]
struct Service {
    idempotency: Idempotency,
    till: Till,
}

impl FromRef<Service> for Idempotency {
    fn from_ref(service: &Service) -> Self {
        service.idempotency.clone()
    }
}

impl FromRef<Service> for Till {
    fn from_ref(service: &Service) -> Self {
        service.till.clone()
    }
}

/// The key is not required, so that requests without one can be measured too.
#[idempotent(ttl_hours = 24, required = false)]
async fn create_payment(
    State(till): State<Till>,
    Json(request): Json<PaymentRequest>,
) -> (StatusCode, Json<Payment>) {
    till.pay(request)
}

pub(super) fn router(till: Till, idempotency: IdempotencyBuilder) -> Router {
    let idempotency = idempotency.build();
    Router::new()
        .route("/payments", post(create_payment))
        .with_state(Service { idempotency, till })
}

/// So large that no claim of a measurement is refused: all keys stay for a day.
pub(super) fn memory() -> Arc<dyn Store> {
    let store = MemoryStore::builder()
        .max_records(usize::MAX)
        .max_bytes(usize::MAX);
    Arc::new(store.build())
}

/// As an application gets it from its URL.
pub(super) async fn connected(url: &str) -> Result<IdempotencyBuilder, Failure> {
    let store = idempotent_runtime::store::connect(url).await?;
    Ok(Idempotency::builder(store))
}

/// With the metrics that an application gets, on the exporter for Prometheus.
pub(super) fn with_metrics() -> Result<IdempotencyBuilder, Failure> {
    let durations = Matcher::Full("idempotency_store_duration_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &[0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0])?
        .install_recorder()?;
    Ok(Idempotency::builder(memory()).observer(MetricsObserver::new()))
}
