//! An effect outside the database: a payment provider that is called twice and charges once.
//!
//! ```text
//! cargo run --features sqlite --example provider                  # the shop
//! cargo run --features sqlite --example provider -- --provider    # the provider, in another terminal
//! ```
//!
//! No transaction extends into another company's service. A retry is safe there because of the
//! provider's own idempotency key, if every attempt sends the same one: `derived_key`. The
//! shop prints commands to paste: a payment during which it dies, after the provider has charged, and
//! the retry that charges nothing.
//!
//! The shop's records are in a SQLite file. `--store URL` or `IDEMPOTENCY_URL` select another store, which
//! needs its feature and must outlive the shop (`memory:` does not).

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use idempotent_runtime::{Attempt, Idempotency, idempotent};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Clone, FromRef)]
struct Shop {
    provider: Provider,
    idempotency: Idempotency,
}

#[derive(Deserialize)]
struct PaymentRequest {
    /// In the currency's smallest unit: money is never a float.
    amount: u64,
    /// Abort the first attempt after the provider has charged and before anything is stored.
    #[serde(default)]
    crash: bool,
}

#[derive(Serialize)]
struct Payment {
    amount: u64,
    charge: String,
    attempt: u32,
}

/// A retry after a crash runs this again. It cannot know how far the previous attempt got, and need not know: it sends
/// the provider the same key, and gets the existing charge. For the same reason a 502 need not be stored.
///
/// The lease is how long a crash blocks its key. It is short so that the example can be tried out quickly.
#[idempotent(
    ttl_hours = 24,
    key_age = "ttl",
    lease = "2s",
    on_abandoned = "retry",
    replay_errors = "4xx"
)]
async fn create_payment(
    State(provider): State<Provider>,
    attempt: Attempt,
    Json(PaymentRequest { amount, crash }): Json<PaymentRequest>,
) -> Result<(StatusCode, Json<Payment>), StatusCode> {
    // Never a random key: the next attempt would use another one and charge a second time.
    let key = attempt.derived_key("charge");
    let attempt = attempt.number();
    tracing::info!(attempt, key, "asking for a charge");
    let charge = provider.charge(&key, amount).await.map_err(status_of)?;

    if crash && attempt == 1 {
        tracing::warn!("charged, and nothing is stored: dying now");
        std::process::abort();
    }
    // With more than one effect, `attempt.step("charge", provider.charge(..))` would record that this one
    // is done, and the retry would continue with the next.
    let payment = Payment {
        amount,
        charge,
        attempt,
    };
    Ok((StatusCode::CREATED, Json(payment)))
}

fn status_of(error: reqwest::Error) -> StatusCode {
    match error.status() {
        // The provider has declined, and would decline again: stored and replayed.
        Some(StatusCode::PAYMENT_REQUIRED | StatusCode::UNPROCESSABLE_ENTITY) => {
            StatusCode::PAYMENT_REQUIRED
        }
        // The provider may have charged or not. Not stored: the retry calls it again, with the same key.
        _ => {
            tracing::error!(
                error = &error as &dyn Error,
                "no charge, as far as is known"
            );
            StatusCode::BAD_GATEWAY
        }
    }
}

/// The shop's client for the provider.
#[derive(Clone)]
struct Provider {
    client: reqwest::Client,
    url: String,
}

impl Provider {
    async fn charge(&self, key: &str, amount: u64) -> reqwest::Result<String> {
        let request = self.client.post(format!("{}/charges", self.url));
        let request = request
            .timeout(Duration::from_secs(10))
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(serde_json::json!({ "amount": amount }).to_string());
        request.send().await?.error_for_status()?.text().await
    }
}

/// The provider: another process, with its own memory, that knows nothing about attempts.
mod provider {
    use super::*;

    type Ledger = State<Arc<Mutex<Vec<Charge>>>>;

    #[derive(Clone, Serialize)]
    struct Charge {
        id: String,
        amount: u64,
        key: String,
        /// How often this charge was requested.
        asked: u32,
    }

    #[derive(Deserialize)]
    struct ChargeRequest {
        amount: u64,
    }

    pub fn app() -> Router {
        Router::new()
            .route("/charges", post(charge).get(list_charges))
            .with_state(Arc::default())
    }

    async fn charge(
        State(ledger): Ledger,
        headers: HeaderMap,
        Json(ChargeRequest { amount }): Json<ChargeRequest>,
    ) -> Result<String, StatusCode> {
        let key = headers
            .get("idempotency-key")
            .and_then(|key| key.to_str().ok());
        let key = key.ok_or(StatusCode::BAD_REQUEST)?.to_owned();
        let mut charges = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(charge) = charges.iter_mut().find(|charge| charge.key == key) {
            if charge.amount != amount {
                return Err(StatusCode::UNPROCESSABLE_ENTITY);
            }
            charge.asked += 1;
            tracing::info!(key, id = charge.id, "asked again, not charged again");
            return Ok(charge.id.clone());
        }
        let id = format!("charge-{}", charges.len() + 1);
        tracing::info!(key, id, amount, "charged the card");
        charges.push(Charge {
            id: id.clone(),
            amount,
            key,
            asked: 1,
        });
        Ok(id)
    }

    async fn list_charges(State(ledger): Ledger) -> Json<Vec<Charge>> {
        let charges = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Json(charges.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse()?;
    let listener = TcpListener::bind(&options.addr)
        .await
        .map_err(|error| format!("{}: {error}", options.addr))?;
    let url = format!("http://{}", listener.local_addr()?);
    if options.is_provider {
        print(&format!("The provider is listening on {url}"));
        return Ok(serve(listener, provider::app()).await?);
    }

    let idempotency = Idempotency::connect(&options.store).await?;
    print(&guide(&url, &options));
    let shop = Shop {
        provider: Provider {
            client: reqwest::Client::new(),
            url: options.provider_url,
        },
        idempotency: idempotency.clone(),
    };
    let payments = post(create_payment);
    let app = Router::new().route("/api/payments", payments);
    serve(listener, app.with_state(shop)).await?;
    idempotency.shutdown(Duration::from_secs(30)).await;
    Ok(())
}

async fn serve(listener: TcpListener, app: Router) -> std::io::Result<()> {
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot wait for Ctrl-C");
            std::future::pending::<()>().await;
        }
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await
}

#[expect(clippy::print_stdout, reason = "this is what the example has to say")]
fn print(text: &str) {
    println!("{text}");
}

fn guide(url: &str, options: &Options) -> String {
    let Options {
        store,
        provider_url,
        ..
    } = options;
    let pay = format!(
        "curl -i {url}/api/payments -H 'Idempotency-Key: order-1' -H 'content-type: application/json' -d"
    );
    format!(
        r#"The shop is listening on {url}
Its records are in {store}

1. In another terminal, start the provider, which goes on when the shop dies:
   cargo run --features sqlite --example provider -- --provider

2. Pay, and let the shop die when the provider has charged and nothing is stored:
   {pay} '{{"amount":1000,"crash":true}}'

3. Start the shop again, and retry, with the same command. For as long as the lease of the dead attempt lasts, two
   seconds, that is a 409 with `Retry-After`. Then attempt 2 runs, and sends the provider the same key:
   {pay} '{{"amount":1000,"crash":true}}'

4. What the provider has charged: one charge, asked for twice.
   curl {provider_url}/charges

5. Retry once more, with the same command: the stored answer, marked `idempotent-replayed: true`. The provider is not asked.

6. The same key with another amount: 422.
   {pay} '{{"amount":2000,"crash":true}}'

To follow this again, take another key.
"#
    )
}

const USAGE: &str = "usage: provider [--addr 127.0.0.1:3000] [--store sqlite:FILE] [--provider-url http://127.0.0.1:3001]
       provider --provider [--addr 127.0.0.1:3001]";

struct Options {
    is_provider: bool,
    addr: String,
    store: String,
    provider_url: String,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let file = std::env::temp_dir().join("idempotent-provider.db");
        let mut addr = None;
        let mut options = Self {
            is_provider: false,
            addr: "127.0.0.1:3000".to_owned(),
            store: std::env::var("IDEMPOTENCY_URL")
                .unwrap_or_else(|_| format!("sqlite:{}", file.display())),
            provider_url: "http://127.0.0.1:3001".to_owned(),
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("provider") => options.is_provider = true,
                Long("addr") => addr = Some(arguments.value()?.string()?),
                Long("store") => options.store = arguments.value()?.string()?,
                Long("provider-url") => options.provider_url = arguments.value()?.string()?,
                Long("help") => return Err(USAGE.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        if options.is_provider {
            options.addr = "127.0.0.1:3001".to_owned();
        }
        options.addr = addr.unwrap_or(options.addr);
        Ok(options)
    }
}
