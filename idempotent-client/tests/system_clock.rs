//! The clock of an application.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use idempotent_client::{Clock, Pause, SystemClock};

#[tokio::test(start_paused = true)]
async fn sleep_is_as_long_as_it_says() {
    let before = SystemClock.instant();
    SystemClock
        .sleep(Duration::from_secs(90), Pause::BackOff)
        .await;
    let slept = SystemClock.instant() - before;
    assert!(
        slept >= Duration::from_secs(90) && slept < Duration::from_secs(91),
        "{slept:?}"
    );
}

#[test]
fn random_numbers_differ_and_are_in_range() {
    let numbers: Vec<f64> = (0..1000).map(|_| SystemClock.random()).collect();
    assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
    let below = numbers.iter().filter(|number| **number < 0.5).count();
    // Outside this with a probability below 10^-30.
    assert!((300..700).contains(&below), "{below}");
}
