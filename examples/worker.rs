//! A consumer of a queue that delivers every message twice.
//!
//! ```text
//! cargo run --example worker [-- --store memory:]
//! ```
//!
//! A queue that loses no message delivers some of them again: the acknowledgement was lost, or the
//! consumer was. This one does it with all of them. Each order is settled once all the same, by a
//! plain function under `#[idempotent]` that knows nothing of HTTP.
//!
//! The store can also come from `IDEMPOTENCY_URL`; any but `memory:` needs its feature. With one that
//! lasts, run it twice, and the second run settles nothing any more:
//! `cargo run --features sqlite --example worker -- --store sqlite:worker.db`.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempotent_runtime::{ExecuteError, Idempotency, idempotent};
use serde::{Deserialize, Serialize};

/// What a message says.
#[derive(Clone, Serialize)]
struct Order {
    id: String,
    /// In the currency's smallest unit: never a float for money.
    amount: u64,
}

#[derive(Serialize, Deserialize)]
enum Settlement {
    Receipt {
        number: usize,
    },
    /// The bank has said no. That is something that happened, so it is an `Ok`: stored, and final.
    Declined,
}

/// The whole of idempotency, as the consumer sees it: the order's id is the key, and the order is
/// what has to be the same. What is no `Serialize`, as the bank, is left out of the comparison.
#[idempotent(key = order.id, fingerprint = order, ttl_hours = 24, name = "orders.settle")]
async fn settle(
    idempotency: &Idempotency,
    bank: Bank,
    order: Order,
) -> Result<Settlement, SettleError> {
    bank.charge(&order).await
}

enum SettleError {
    /// The bank was never reached. Nothing happened: not stored, the next delivery tries again.
    Unreachable,
    /// It runs elsewhere, the store is away, ...
    ExecuteError(ExecuteError),
}

impl From<ExecuteError> for SettleError {
    fn from(reason: ExecuteError) -> Self {
        Self::ExecuteError(reason)
    }
}

/// A fake bank, which counts what it has charged.
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

/// A queue in this process, which delivers a message once more after it was acknowledged.
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

    /// The consumer is done with it. The acknowledgement of a first delivery gets lost.
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

/// Settles what comes, until nothing more does; says how many deliveries there were.
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
                // A key that belongs to another order, a crash of which nobody knows what it did.
                None => say(format_args!("  {reason}, somebody has to look at it")),
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
    // Not the same order, whatever it says.
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
