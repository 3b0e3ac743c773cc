//! An observer for OpenTelemetry. The crate does not depend on OpenTelemetry; this is about all the code that an
//! application needs.
//!
//! ```text
//! cargo run --example opentelemetry
//! ```
//!
//! It pays twice with one key, and prints the metrics.

use axum::body::Body;
use axum::http::Request;
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::observer::{Event, Observer};
use idempotent_runtime::{Idempotency, idempotent, store::memory::MemoryStore};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tower::ServiceExt;

#[derive(Debug)]
struct OpenTelemetry {
    requests: Counter<u64>,
    in_flight: UpDownCounter<i64>,
    abandoned: opentelemetry::metrics::Gauge<u64>,
    store: Histogram<f64>,
}

impl OpenTelemetry {
    fn new(meter: &Meter) -> Self {
        Self {
            requests: meter.u64_counter("idempotency.requests").build(),
            in_flight: meter.i64_up_down_counter("idempotency.in_flight").build(),
            abandoned: meter.u64_gauge("idempotency.abandoned").build(),
            store: meter
                .f64_histogram("idempotency.store.duration")
                .with_unit("s")
                .build(),
        }
    }
}

fn of(operation: &str) -> KeyValue {
    KeyValue::new("operation", operation.to_owned())
}

impl Observer for OpenTelemetry {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Request {
                operation, outcome, ..
            } => {
                let outcome = KeyValue::new("outcome", outcome.as_str());
                self.requests.add(1, &[of(operation), outcome]);
            }
            Event::Claimed { operation, .. } => self.in_flight.add(1, &[of(operation)]),
            Event::ClaimEnded { operation, .. } => self.in_flight.add(-1, &[of(operation)]),
            Event::AbandonedRecords {
                operation, records, ..
            } => self.abandoned.record(records as u64, &[of(operation)]),
            Event::StoreCall {
                call,
                elapsed,
                error,
                ..
            } => {
                let result = KeyValue::new("ok", error.is_none());
                let call = KeyValue::new("call", call.as_str());
                self.store.record(elapsed.as_secs_f64(), &[call, result]);
            }
            // The events of a later release, and those that this application does not count.
            _ => {}
        }
    }
}

#[idempotent]
async fn create_payment(Json(amount): Json<u64>) -> String {
    format!("paid {amount}")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = SdkMeterProvider::builder()
        .with_periodic_exporter(opentelemetry_stdout::MetricExporter::default())
        .build();
    let idempotency = Idempotency::builder(MemoryStore::new())
        .observer(OpenTelemetry::new(&provider.meter("payments")))
        .build();
    let app = Router::new()
        .route("/payments", post(create_payment))
        .with_state(idempotency);
    for _ in 0..2 {
        let request = Request::post("/payments")
            .header("Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324")
            .header("content-type", "application/json");
        app.clone().oneshot(request.body(Body::from("5"))?).await?;
    }
    // Exports what was counted.
    provider.shutdown()?;
    Ok(())
}
