//! Pays one order, once, however often it is run and wherever it is stopped.
//!
//! ```sh
//! cargo run --example payments                                                  # the service of this repository
//! cargo run -p idempotent-client --example pay -- http://127.0.0.1:3000/payments
//! ```
//!
//! Stop the service, run it, start the service, run it again: the saved order is continued under the same key.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::fs;
use std::path::Path;

use idempotent_client::{Conclusion, Error, Intent, IntentExt, ResponseExt};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: String,
    amount: u64,
    currency: String,
    /// Made with the order, and saved with it.
    intent: Intent,
}

#[derive(Serialize)]
struct Payment<'a> {
    order_id: &'a str,
    amount: u64,
    currency: &'a str,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: pay <url> [file]")?;
    let file = arguments.next().unwrap_or_else(|| "order.json".to_owned());
    let file = Path::new(&file);

    let order = load_or_create(file)?;
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let payment = Payment {
        order_id: &order.id,
        amount: order.amount,
        currency: &order.currency,
    };
    match client
        .post(url)
        .intent(&order.intent)
        .json(&payment)
        .send()
        .await
    {
        Ok(response) => {
            let (status, is_replay) = (response.status(), response.is_replay());
            let conclusion = response.conclusion();
            println!("{status}, replay: {is_replay}\n{}", response.text().await?);
            if status.is_success() || conclusion == Some(Conclusion::Closed) {
                // The answer is dealt with: the next run is another order.
                fs::remove_file(file)?;
            } else if conclusion == Some(Conclusion::Rejected) {
                println!(
                    "not by this run: another one may have sent {}, so it is kept",
                    file.display()
                );
            }
        }
        Err(Error::Undecided { reason, .. }) => {
            println!(
                "not known yet ({reason}): run this again, {} has the key",
                file.display()
            );
            // The intent has noted what the clock has shown since.
            fs::write(file, serde_json::to_string(&order)?)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The order of an earlier run that was not finished, or a new one, saved before anything is sent.
fn load_or_create(file: &Path) -> Result<Order, Box<dyn std::error::Error>> {
    if file.exists() {
        println!("continuing {}", file.display());
        return Ok(serde_json::from_str(&fs::read_to_string(file)?)?);
    }
    let intent = Intent::new();
    let since_1970 = intent.created().duration_since(std::time::UNIX_EPOCH)?;
    let order = Order {
        id: format!("order-{}", since_1970.as_millis()),
        amount: 1000,
        currency: "EUR".to_owned(),
        intent,
    };
    fs::write(file, serde_json::to_string(&order)?)?;
    Ok(order)
}
