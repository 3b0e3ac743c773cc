//! `#[idempotent]` on a plain function.

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::{
    Abandoned, ExecuteError, ExecuteErrorKind, Execution, Idempotency, Policy, Recovery,
    StoredResponse, idempotent,
};
use serde::{Deserialize, Serialize};

use super::{Consumer, LEASE};
use crate::support::{Fault, Operation, Probe};

#[derive(Clone, Debug, Serialize)]
struct Order {
    id: String,
    amount: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    run: usize,
    amount: u64,
}

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

/// What it fails with, if it fails.
trait Reason {
    fn kind(self) -> ExecuteErrorKind;
}

impl<T: std::fmt::Debug> Reason for Result<T, SettleError> {
    #[track_caller]
    fn kind(self) -> ExecuteErrorKind {
        match self {
            Err(SettleError::ExecuteError(reason)) => reason.kind(),
            other => panic!("{other:?}"),
        }
    }
}

fn order(id: &str, amount: u64) -> Order {
    Order {
        id: id.to_owned(),
        amount,
    }
}

#[idempotent(name = "settle", key = order.id, fingerprint = order, ttl_hours = 1)]
async fn settle(
    idempotency: &Idempotency,
    probe: Probe,
    order: Order,
) -> Result<Receipt, SettleError> {
    let run = probe.run();
    match order.amount {
        0 => Err(SettleError::Unreachable),
        amount => Ok(Receipt { run, amount }),
    }
}

/// Compared by all of its arguments.
#[idempotent(name = "book", key = order.id)]
async fn book(idempotency: &Idempotency, order: Order, line: u32) -> Result<u32, SettleError> {
    Ok(line)
}

#[idempotent(name = "sync", key = id, fingerprint = (), scope = tenant, lease = "10s", on_abandoned = find)]
async fn sync(
    idempotency: &Idempotency,
    id: u64,
    tenant: Option<String>,
    probe: Probe,
) -> Result<usize, SettleError> {
    Ok(probe.run_gated().await)
}

async fn find(abandoned: Abandoned) -> Recovery {
    let who = (
        abandoned.operation(),
        abandoned.scope(),
        abandoned.key().as_str(),
    );
    assert_eq!(who, ("sync", Some(r#""a""#), "7"));
    Recovery::Replay(StoredResponse::of_value(&42).unwrap())
}

#[tokio::test]
async fn a_function_runs_once_for_a_key() {
    let Consumer {
        idempotency,
        probe,
        clock,
        ..
    } = Consumer::new();
    let settle = |order| settle(&idempotency, probe.clone(), order);
    let receipt = |run, amount| Receipt { run, amount };
    for _ in 0..2 {
        assert_eq!(settle(order("1", 1000)).await.unwrap(), receipt(1, 1000));
    }
    assert_eq!(
        settle(order("1", 2000)).await.kind(),
        ExecuteErrorKind::Mismatch
    );
    assert_eq!(settle(order("2", 2000)).await.unwrap(), receipt(2, 2000));
    clock.advance(Duration::from_secs(3600));
    assert_eq!(settle(order("1", 2000)).await.unwrap(), receipt(3, 2000));
}

#[tokio::test]
async fn an_error_of_the_function_is_its_own_and_frees_the_key() {
    let Consumer {
        idempotency, probe, ..
    } = Consumer::new();
    for run in 1..3 {
        let failed = settle(&idempotency, probe.clone(), order("1", 0)).await;
        assert!(
            matches!(failed, Err(SettleError::Unreachable)),
            "{failed:?}"
        );
        assert_eq!(probe.runs(), run);
    }
    let done = settle(&idempotency, probe.clone(), order("1", 7)).await;
    assert_eq!(done.unwrap(), Receipt { run: 3, amount: 7 });
}

#[tokio::test]
async fn without_a_fingerprint_every_argument_counts() {
    let consumer = Consumer::new();
    let book = |amount, line| book(&consumer.idempotency, order("1", amount), line);
    assert_eq!(book(1000, 1).await.unwrap(), 1);
    assert_eq!(book(1000, 2).await.kind(), ExecuteErrorKind::Mismatch);
    assert_eq!(book(2000, 1).await.kind(), ExecuteErrorKind::Mismatch);
    assert_eq!(book(1000, 1).await.unwrap(), 1);
}

/// A function may be renamed, and `execute` called manually: this is what it is known by.
#[tokio::test]
async fn the_attribute_says_what_execute_could_be_told() {
    let consumer = Consumer::new();
    let done = book(&consumer.idempotency, order("1", 1000), 3).await;
    assert_eq!(done.unwrap(), 3);
    // The key is an expression, and so its JSON.
    let key = r#""1""#;
    let unused = async || Ok::<u32, SettleError>(0);
    let by_hand = consumer.idempotency.execute(
        &Policy::new(),
        "book",
        (),
        key,
        &(order("1", 1000), 3),
        unused,
    );
    assert_eq!(by_hand.await.unwrap(), Execution::Replayed(3));
}

#[tokio::test]
async fn a_key_or_a_store_that_cannot_be_used_is_a_reason() {
    let Consumer {
        idempotency,
        probe,
        store,
        ..
    } = Consumer::new();
    let settle = |id| settle(&idempotency, probe.clone(), order(id, 1));
    assert_eq!(settle("").await.kind(), ExecuteErrorKind::InvalidKey);
    let refused = Fault::Refused(idempotent_runtime::store::StoreErrorKind::Full);
    store.script(Operation::Claim, refused);
    assert_eq!(settle("1").await.kind(), ExecuteErrorKind::Store);
    assert_eq!(probe.runs(), 0);
    assert_eq!(settle(&"k".repeat(300)).await.unwrap().run, 1);
}

#[tokio::test]
async fn a_call_goes_on_without_its_caller_and_is_recovered_without_its_process() {
    let consumer = Consumer::new();
    let spawn = |tenant: &'static str| {
        let Consumer {
            idempotency, probe, ..
        } = consumer.clone();
        let tenant = Some(tenant.to_owned());
        tokio::spawn(async move { sync(&idempotency, 7, tenant, probe).await })
    };
    let caller = spawn("a");
    consumer.probe.started().await;
    let duplicate = spawn("a").await.unwrap();
    assert_eq!(duplicate.kind(), ExecuteErrorKind::InFlight);
    caller.abort();
    consumer.pending(2).await;
    consumer.clock.advance(LEASE / 3);
    assert_eq!(spawn("a").await.unwrap().unwrap(), 42);
    consumer.probe.open();
    consumer.probe.open();
    // Another tenant's key is another key.
    assert_eq!(spawn("b").await.unwrap().unwrap(), 2);
}

/// An application's own services, behind a type parameter.
trait Bank: Send + Sync + 'static {
    fn pay(&self, amount: u64) -> impl Future<Output = u64> + Send;
}

struct Fake;

impl Bank for Fake {
    async fn pay(&self, amount: u64) -> u64 {
        amount + 1
    }
}

struct Teller<B>(std::marker::PhantomData<B>);

impl<B: Bank> Teller<B> {
    #[idempotent(name = "teller.pay", key = amount, fingerprint = amount)]
    async fn pay(bank: Arc<B>, amount: u64, handle: &Idempotency) -> Result<u64, ExecuteError>
    where
        Self: Sized,
    {
        assert_eq!(handle.pending(), 1);
        Ok(bank.pay(amount).await)
    }
}

#[tokio::test]
async fn a_generic_associated_function() {
    let consumer = Consumer::new();
    for _ in 0..2 {
        let paid = Teller::pay(Arc::new(Fake), 1000, &consumer.idempotency).await;
        assert_eq!(paid.unwrap(), 1001);
    }
}

/// Under one name of the function they shared their keys, and the second was never run.
#[tokio::test]
async fn two_functions_of_one_name_in_two_modules_have_keys_of_their_own() {
    mod orders {
        #[idempotent_runtime::idempotent(name = "orders.settle", key = id)]
        pub(super) async fn settle(
            handle: &idempotent_runtime::Idempotency,
            id: u64,
        ) -> Result<String, idempotent_runtime::ExecuteError> {
            Ok(format!("order {id}"))
        }
    }
    mod invoices {
        #[idempotent_runtime::idempotent(name = "invoices.settle", key = id)]
        pub(super) async fn settle(
            handle: &idempotent_runtime::Idempotency,
            id: u64,
        ) -> Result<String, idempotent_runtime::ExecuteError> {
            Ok(format!("invoice {id}"))
        }
    }
    let consumer = Consumer::new();
    let idempotency = &consumer.idempotency;
    for _ in 0..2 {
        assert_eq!(orders::settle(idempotency, 7).await.unwrap(), "order 7");
        assert_eq!(invoices::settle(idempotency, 7).await.unwrap(), "invoice 7");
    }
}
