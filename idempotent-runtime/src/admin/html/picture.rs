//! A picture of an operation: how many records there are over their age, one lane for each state.
//!
//! Ages and counts are on logarithmic scales, so that a single abandoned payment is seen beside thousands of
//! completed ones. The exact numbers are in the titles, and in the text beside the picture.

use maud::{Markup, html};

use crate::admin::survey::{BUCKETS, Tallies};
use crate::admin::words::{STATES, label_of, name_of, number};

/// In the picture's own units.
const LEFT: usize = 58;
const STEP: usize = 26;
const LANE: usize = 26;
const WIDTH: usize = LEFT + STEP * BUCKETS;
const HEIGHT: usize = LANE * STATES.len() + 14;

/// The ages of each bucket, for titles.
const AGES: [&str; BUCKETS] = [
    "younger than 1 s",
    "1 s to 10 s",
    "10 s to 1 min",
    "1 min to 10 min",
    "10 min to 1 h",
    "1 h to 6 h",
    "6 h to 1 d",
    "1 d to 7 d",
    "7 d to 30 d",
    "older than 30 d",
];

/// Where some buckets end and the next ones begin.
const TICKS: [(usize, &str); 5] = [
    (1, "1 s"),
    (3, "1 min"),
    (5, "1 h"),
    (7, "1 d"),
    (9, "30 d"),
];

pub(super) fn picture(operation: &str, tallies: &Tallies) -> Markup {
    let counts = || tallies.iter().flat_map(|tally| tally.by_age);
    let most = counts().max().unwrap_or_default();
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ "Records of " (operation) " by age" } {
            @for (lane, (state, tally)) in STATES.into_iter().zip(tallies).enumerate() {
                @let floor = LANE * (lane + 1);
                g class=(name_of(state)) {
                    text x="0" y=(floor - 3) { (label_of(state)) }
                    line x1=(LEFT) y1=(floor) x2=(WIDTH) y2=(floor) {}
                    @for (bucket, count) in tally.by_age.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                        @let height = height(count, most);
                        rect x=(LEFT + STEP * bucket + 2) y=(floor - height) width=(STEP - 4) height=(height) rx="1" {
                            title { (number(count)) " " (label_of(state)) ", " (AGES.get(bucket).copied().unwrap_or_default()) }
                        }
                    }
                }
            }
            @for (at, tick) in TICKS {
                text x=(LEFT + STEP * at) y=(HEIGHT - 3) text-anchor="middle" { (tick) }
            }
        }
    }
}

/// In units: 3 for one record, all of a lane for the most.
fn height(count: usize, most: usize) -> usize {
    const LEAST: f64 = 3.0;
    const MOST: f64 = (LANE - 4) as f64;
    let log = |count: usize| (count as f64).ln();
    let share = if most > 1 {
        log(count) / log(most)
    } else {
        0.5
    };
    (LEAST + share * (MOST - LEAST)).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_is_seen_beside_a_million() {
        assert_eq!(height(1, 1_000_000), 3);
        assert_eq!(height(1_000, 1_000_000), 13);
        assert_eq!(height(1_000_000, 1_000_000), LANE - 4);
        assert!((3..LANE).contains(&height(1, 1)));
    }
}
