//! A consumer of a queue that delivers every message twice.
//!
//! ```text
//! cargo run --example worker [-- --store memory:]
//! ```
//!
//! A queue that loses no messages delivers some of them again, because the acknowledgement or the
//! consumer was lost. This queue delivers all of them again. Each order is still settled only once, by a
//! plain function under `#[idempotent]` that knows nothing about HTTP.
//!
//! `IDEMPOTENCY_URL` also selects the store. Every store except `memory:` needs its feature. With a durable store,
//! run the example twice; the second run settles nothing:
//! `cargo run --features sqlite --example worker -- --store sqlite:worker.db`.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempotent_runtime::{ExecuteError, Idempotency, idempotent};
use serde::{Deserialize, Serialize};

/// The content of a message.
#[derive(Clone, Serialize)]
struct Order {
    id: String,
    /// In the currency's smallest unit: money is never a float.
    amount: u64,
}

#[derive(Serialize, Deserialize)]
enum Settlement {
    Receipt {
        number: usize,
    },
    /// The bank has declined. That is a result, so it is an `Ok`: stored, and final.
    Declined,
}

/// This is all that a consumer needs for idempotency: the order's id is the key, and the order is
/// what must be the same. The bank is not `Serialize`, so `fingerprint = order` leaves it out.
#[idempotent(key = order.id, fingerprint = order, ttl_hours = 24, name = "orders.settle")]
async fn settle(
    idempotency: &Idempotency,
    bank: Bank,
    order: Order,
) -> Result<Settlement, SettleError> {
    bank.charge(&order).await
}

enum SettleError {
    /// The bank was never reached. Nothing happened: not stored, and the next delivery runs again.
    Unreachable,
    /// It is running elsewhere, the store is unavailable, ...
    ExecuteError(ExecuteError),
}

impl From<ExecuteError> for SettleError {
    fn from(reason: ExecuteError) -> Self {
        Self::ExecuteError(reason)
    }
}

/// A fake bank that counts its charges.
#[derive(Clone, Default)]
struct Bank(Arc<Calls>);

#[derive(Default)]
struct Calls {
    charges: AtomicUsize,
    of_order_3: AtomicUsize,
}

impl Bank {
    async fn charge(&self, order: &Order) -> Result<Settlement, SettleError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Calls {
            charges,
            of_order_3,
        } = &*self.0;
        if order.id == "order-3" && of_order_3.fetch_add(1, Ordering::Relaxed) == 0 {
            say("  the bank cannot be reached");
            return Err(SettleError::Unreachable);
        }
        if order.amount > 5000 {
            say("  the bank declines");
            return Ok(Settlement::Declined);
        }
        say(format_args!("  the bank charges {}", order.amount));
        let number = charges.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Settlement::Receipt { number })
    }

    fn charges(&self) -> usize {
        self.0.charges.load(Ordering::Relaxed)
    }
}

/// A queue in this process that delivers a message once more after it was acknowledged.
#[derive(Default)]
struct Queue(VecDeque<Delivery>);

struct Delivery {
    order: Order,
    count: u32,
}

impl Queue {
    fn send(&mut self, id: &str, amount: u64) {
        let id = id.to_owned();
        let order = Order { id, amount };
        self.0.push_back(Delivery { order, count: 1 });
    }

    fn receive(&mut self) -> Option<Delivery> {
        self.0.pop_front()
    }

    /// Acknowledges a delivery. The acknowledgement of a first delivery is lost.
    fn acknowledge(&mut self, delivery: Delivery) {
        if delivery.count == 1 {
            self.again(delivery);
        }
    }

    fn again(&mut self, Delivery { order, count }: Delivery) {
        let count = count + 1;
        self.0.push_back(Delivery { order, count });
    }
}

/// Settles orders until the queue is empty, and returns the number of deliveries.
async fn consume(queue: &mut Queue, idempotency: &Idempotency, bank: &Bank) -> usize {
    let mut deliveries = 0;
    while let Some(delivery) = queue.receive() {
        deliveries += 1;
        let order = delivery.order.clone();
        say(format_args!(
            "{} of {}, delivery {}",
            order.id, order.amount, delivery.count
        ));
        match settle(idempotency, bank.clone(), order).await {
            Ok(settlement) => {
                say(format_args!("  {settlement}"));
                queue.acknowledge(delivery);
            }
            Err(SettleError::Unreachable) => {
                say("  not settled, deliver it again");
                queue.again(delivery);
            }
            Err(SettleError::ExecuteError(reason)) => match reason.retry_after() {
                Some(pause) => {
                    say(format_args!("  {reason}, deliver it again"));
                    tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
                    queue.again(delivery);
                }
                // The key belongs to another order, or an attempt crashed and its outcome is unknown.
                None => say(format_args!("  {reason}, an operator has to look at it")),
            },
        }
    }
    deliveries
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let idempotency = Idempotency::connect(&store()?).await?;
    let bank = Bank::default();

    let mut queue = Queue::default();
    queue.send("order-1", 1000);
    queue.send("order-2", 9000);
    queue.send("order-3", 250);
    // Another order with the same id: the worker refuses it.
    queue.send("order-1", 4000);
    let deliveries = consume(&mut queue, &idempotency, &bank).await;
    let charges = bank.charges();
    say(format_args!("{deliveries} deliveries, {charges} charges"));

    match idempotency.shutdown(Duration::from_secs(30)).await {
        0 => Ok(()),
        unfinished => Err(format!("{unfinished} orders were not recorded in time").into()),
    }
}

impl fmt::Display for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receipt { number } => write!(f, "settled, receipt {number}"),
            Self::Declined => f.write_str("settled: declined"),
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what the example has to say")]
fn say(line: impl fmt::Display) {
    println!("{line}");
}

const USAGE: &str = "usage: worker [--store memory:]";

/// The URL of the store.
fn store() -> Result<String, lexopt::Error> {
    use lexopt::prelude::*;
    let mut store = std::env::var("IDEMPOTENCY_URL").unwrap_or_else(|_| "memory:".to_owned());
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("store") => store = arguments.value()?.string()?,
            Long("help") => return Err(USAGE.into()),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(store)
}
