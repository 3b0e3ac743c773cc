//! The chart: requests a second as a part of bare axum's, with bodies of 200 bytes.

use std::fmt::Write as _;

use super::implementations::BARE;
use super::sample::Row;

const LABEL: u32 = 250;
const SCALE: u32 = 360;
const BAR: u32 = 11;
const STEP: u32 = 34;
const TOP: u32 = 58;

/// Readable on light and on dark, since a page may be either.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.quiet{fill:#59636e;font-size:11px}\
.first{fill:#0969da}.replay{fill:#54aeff}.grid{stroke:#d1d9e0}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.grid{stroke:#3d444d}}";

/// An SVG with two bars for each implementation: first requests, and replays.
pub(super) fn draw(rows: &[Row], how: &str) -> String {
    let small: Vec<_> = rows.iter().filter(|row| row.body_bytes == 200).collect();
    let mut named: Vec<_> = small.iter().map(|row| row.implementation).collect();
    named.dedup_by_key(|it| it.name);
    let mut seen = std::collections::BTreeSet::new();
    named.retain(|it| it.name != BARE && it.name != "bare-sha256" && seen.insert(it.name));
    let ratio = |name, mode: &str| {
        let row = small
            .iter()
            .find(|row| row.implementation.name == name && row.mode == mode);
        row.map(|row| row.ratio)
    };

    let count = u32::try_from(named.len()).unwrap_or(0);
    let (width, bottom) = (LABEL + SCALE + 110, TOP + count * STEP);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{}" role="img" aria-label="Throughput beside bare axum"><style>{STYLE}</style>"#,
        bottom + 40
    );
    let _ = write!(
        svg,
        r#"<text x="0" y="16">Requests a second, beside bare axum (1.0): one server core, 200-byte bodies</text><rect class="first" x="0" y="27" width="11" height="11"/><text class="quiet" x="16" y="37">first requests</text><rect class="replay" x="106" y="27" width="11" height="11"/><text class="quiet" x="122" y="37">replays</text>"#
    );
    for tenths in [0, 5, 10] {
        let x = LABEL + SCALE * tenths / 10;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{x}" x2="{x}" y1="{}" y2="{bottom}"/><text class="quiet" x="{x}" y="{}" text-anchor="middle">{}.{}</text>"#,
            TOP - 6,
            bottom + 14,
            tenths / 10,
            tenths % 10
        );
    }
    for (at, implementation) in (0..).zip(&named) {
        let y = TOP + at * STEP;
        let what = escaped(implementation.what);
        let _ = write!(svg, r#"<text x="0" y="{}">{what}</text>"#, y + BAR + 4);
        for (offset, mode) in [(0, "first"), (BAR + 1, "replay")] {
            let Some(ratio) = ratio(implementation.name, mode) else {
                continue;
            };
            let (y, length) = (y + offset, ratio * f64::from(SCALE));
            let _ = write!(
                svg,
                r#"<rect class="{mode}" x="{LABEL}" y="{y}" width="{length:.0}" height="{BAR}"/><text class="quiet" x="{:.0}" y="{}">{ratio:.2}</text>"#,
                f64::from(LABEL) + length + 5.0,
                y + BAR - 1
            );
        }
    }
    let _ = write!(
        svg,
        r#"<text class="quiet" x="0" y="{}">{}</text></svg>"#,
        bottom + 34,
        escaped(how)
    );
    svg + "\n"
}

/// Markdown's marks are taken out, and what means something in XML is written otherwise.
fn escaped(text: &str) -> String {
    text.replace(['*', '`'], "")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
