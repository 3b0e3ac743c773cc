//! Rows, for people and for programs.

use super::implementations::BARE;
use super::sample::Row;
use crate::say;

const HEAD: &str = "\
| | requests/s | of bare axum | lowest - highest | by CPU | CPU a request | p50 | p99 | RSS | |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |
";

/// One line for each row, for programs.
pub(super) fn json(rows: &[Row]) {
    for row in rows {
        say(&json_line(row));
    }
}

fn json_line(row: &Row) -> String {
    let median = &row.median;
    format!(
        r#"{{"impl":"{}","mode":"{}","body_bytes":{},"rps":{:.0},"ratio":{:.3},"server_cpu_us":{:.2},"p50_us":{:.0},"p99_us":{:.0},"rss_mb":{:.1},"executions_per_request":{:.4}}}"#,
        row.implementation.name,
        row.mode,
        row.body_bytes,
        median.rps,
        row.ratio,
        median.server_cpu_us,
        median.p50_us,
        median.p99_us,
        median.rss_mb,
        median.executions_per_request,
    )
}

/// A table for each mode and size of body.
pub(super) fn markdown(rows: &[&Row], how: &str) -> String {
    let mut text = String::new();
    let same = |a: &&Row, b: &&Row| a.mode == b.mode && a.body_bytes == b.body_bytes;
    for table in rows.chunk_by(same) {
        let Some(first) = table.first() else { continue };
        text += &format!("### {}, {}\n\n{HEAD}", first.mode, size(first.body_bytes));
        let bare = table.iter().find(|row| row.implementation.name == BARE);
        for row in table {
            text += &line(row, bare.copied());
        }
        text += "\n";
    }
    if !text.is_empty() {
        text += how;
        text += "\n";
    }
    text
}

fn line(row: &Row, bare: Option<&Row>) -> String {
    let median = &row.median;
    let bare_us = bare.map_or(f64::NAN, |bare| bare.median.server_cpu_us);
    format!(
        "| {} | {:.0} | **{:.2}** | {:.2} - {:.2} | {:.2} | {:.1} µs | {} | {} | {:.0} MB | {} |\n",
        row.implementation.what,
        median.rps,
        row.ratio,
        row.ratios.0,
        row.ratios.1,
        bare_us / median.server_cpu_us,
        median.server_cpu_us,
        time(median.p50_us),
        time(median.p99_us),
        median.rss_mb,
        row.caveat(),
    )
}

pub(super) fn size(bytes: u32) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{} KiB", bytes / 1024),
    }
}

fn time(micros: f64) -> String {
    if micros < 1000.0 {
        format!("{micros:.0} µs")
    } else {
        format!("{:.1} ms", micros / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::implementations::ALL;
    use super::super::sample::Sample;
    use super::*;

    fn row(rps: f64) -> Row {
        let pair = (Sample::of_rate(rps), Sample::of_rate(100.0));
        Row::new(&ALL[0], "first", 200, &[pair]).unwrap()
    }

    #[test]
    fn line_of_json_has_the_agreed_fields_and_no_others() {
        assert_eq!(
            json_line(&row(80.0)),
            r#"{"impl":"bare","mode":"first","body_bytes":200,"rps":80,"ratio":0.800,"server_cpu_us":10.00,"p50_us":1,"p99_us":2,"rss_mb":3.0,"executions_per_request":1.0000}"#
        );
    }

    #[test]
    fn each_line_of_a_table_has_as_many_cells_as_its_head() {
        let cells = |line: &str| line.matches('|').count();
        let row = row(80.0);
        let wanted = cells(HEAD.lines().next().unwrap());
        for line in markdown(&[&row], "how")
            .lines()
            .filter(|line| line.starts_with('|'))
        {
            assert_eq!(cells(line), wanted, "{line}");
        }
    }
}
