//! Functions without HTTP: any arguments, patterns, generics, homes and places for the handle.
#![deny(warnings, missing_docs, unreachable_pub, unused, rust_2018_idioms)]
#![deny(elided_lifetimes_in_paths, unused_qualifications, unsafe_code)]

use std::future::Future;
use std::sync::Arc;

use idempotent_runtime::{Abandoned, Idempotency, ExecuteError, Recovery, Token, idempotent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::instrument;

#[derive(Debug)]
enum SettleError {
    Unreachable,
    ExecuteError(ExecuteError),
}

impl From<ExecuteError> for SettleError {
    fn from(reason: ExecuteError) -> Self {
        Self::ExecuteError(reason)
    }
}

type Outcome<T = Receipt> = Result<T, SettleError>;

#[derive(Debug, Serialize)]
struct Order {
    id: u64,
    tenant: String,
}

#[derive(Serialize, Deserialize)]
struct Receipt(u64);

struct Provider;

async fn ask(abandoned: Abandoned) -> Recovery {
    drop(abandoned);
    Recovery::Unknown
}

/// Settles an order.
#[idempotent(name = "orders.settle", key = order.id, ttl_hours = 24)]
async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> {
    Ok(Receipt(order.id))
}

#[idempotent(
    ttl = "7d",
    key = (id, &line),
    scope = tenant,
    label = id,
    fingerprint = (id, &tenant),
    lease = "10s",
    in_flight = "wait",
    wait = "500ms",
    on_abandoned = ask,
    max_response_bytes = 65_536,
    name = "lines.add",
)]
#[instrument(skip_all, err(Debug))]
async fn add_line(
    provider: Arc<Provider>,
    Order { id, mut tenant }: Order,
    Token { .. }: Token,
    handle: &Idempotency,
    line: &'static str,
) -> Outcome<String> {
    drop(provider);
    if handle.pending() > 1_000 {
        return Err(SettleError::Unreachable);
    }
    tenant.push_str(line);
    Ok(format!("{id} {tenant}"))
}

mod jobs {
    #[idempotent_runtime::idempotent(name = "nightly", key = today())]
    pub(super) async fn nightly(
        _: &idempotent_runtime::Idempotency,
    ) -> Result<(), super::SettleError> {
        Ok(())
    }

    fn today() -> &'static str {
        "2026-01-31"
    }
}

#[idempotent(name = "with_an_error", key = id)]
async fn with_an_error_of_the_runtime(id: u8, _: &Idempotency) -> Result<u8, ExecuteError> {
    Ok(id)
}

trait Bank: Clone + Serialize + Send + Sync + 'static {
    type Slip: Serialize + DeserializeOwned + Send + 'static;

    fn pay(&self, amount: u64) -> impl Future<Output = Self::Slip> + Send;
}

#[derive(Clone, Serialize)]
struct Branch;

impl Bank for Branch {
    type Slip = u64;

    async fn pay(&self, amount: u64) -> u64 {
        amount
    }
}

#[idempotent(name = "generic", key = amount)]
async fn generic<B, const FEE: u64>(
    bank: B,
    idempotency: &Idempotency,
    amount: u64,
) -> Result<B::Slip, SettleError>
where
    B: Bank,
{
    Ok(bank.pay(amount + FEE).await)
}

impl Order {
    #[idempotent(
        name = "order.settle",
        key = order.id,
        scope = Self::whose(&order),
        on_abandoned = Self::recover,
    )]
    async fn settle<'a>(handle: &'a Idempotency, order: Self) -> Result<Receipt, SettleError> {
        Ok(Receipt(order.id))
    }

    #[idempotent(name = "order.with_lints", key = id)]
    #[expect(unused_variables)]
    async fn with_lints(handle: &Idempotency, id: u64) -> Result<(), SettleError> {
        let unused = 1;
        Ok(())
    }

    fn whose(order: &Self) -> &str {
        &order.tenant
    }

    async fn recover(abandoned: Abandoned) -> Recovery {
        drop(abandoned);
        Recovery::Retry
    }
}

macro_rules! function {
    ($name:ident, $operation:literal, $key:expr, |$handle:ident: $handle_ty:ty, $arg:ident: $ty:ty| $body:expr) => {
        #[idempotent(name = $operation, key = $key)]
        async fn $name($handle: $handle_ty, $arg: $ty) -> Result<u64, SettleError> {
            $body
        }
    };
}

function!(r#async, "async", 1 + 1, |_handle: &Idempotency, id: u64| Ok(id));

async fn all(idempotency: &Idempotency) -> Result<(), SettleError> {
    let order = |id| Order {
        id,
        tenant: "a".to_owned(),
    };
    let token = Token::from_bytes([0; 16]);
    settle(idempotency, order(1)).await?;
    add_line(Arc::new(Provider), order(2), token, idempotency, "b").await?;
    jobs::nightly(idempotency).await?;
    generic::<_, 7>(Branch, idempotency, 3).await?;
    Order::settle(idempotency, order(4)).await?;
    Order::with_lints(idempotency, 5).await?;
    r#async(idempotency, 6).await?;
    let one = with_an_error_of_the_runtime(8, idempotency).await;
    let _ = one.map_err(|reason| reason.kind());
    Ok(())
}

fn main() {
    fn is_send<T: Send>(_: fn(&'static Idempotency) -> T) {}
    is_send(all);
    if let Err(SettleError::ExecuteError(reason)) = Err::<(), _>(SettleError::Unreachable) {
        drop(reason);
    }
}
