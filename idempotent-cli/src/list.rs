//! `idempotent list`: records, a table or a JSON object on each line.

use idempotent_runtime::store::{ListFilter, ListedRecord};
use serde_json::json;

use crate::arguments::{List, Settings};
use crate::failure::Failure;
use crate::output::{Output, name_of, plain, tone_of};
use crate::pages::{PAGE, Pages};
use crate::place::Place;
use crate::time::short;
use crate::{Answer, json as as_json, settings};

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
pub(crate) async fn run(
    settings: &Settings,
    command: &List,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let idempotency = settings::open(settings).await?;
    let mut pages = Pages::after(&idempotency, filter(command), command.cursor.clone());
    let most = command
        .limit
        .map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    let mut listed = 0;
    while most.is_none_or(|most| listed < most) {
        let room = most.map_or(PAGE, |most| most - listed);
        let Some(records) = pages.next(room).await? else {
            break;
        };
        if listed == 0 && !records.is_empty() && !command.json {
            output.line(HEAD)?;
        }
        for record in &records {
            match command.json {
                true => output.line(as_json::listed(record).to_string())?,
                false => output.line(row(record, output))?,
            }
        }
        listed += records.len();
        output.flush()?;
        if !output.is_read() {
            return Ok(Answer::Yes);
        }
    }
    if let Some(cursor) = pages.cursor() {
        match command.json {
            true => output.line(json!({ "next_cursor": cursor.to_string() }).to_string())?,
            false => output.line(format!("more: --cursor {cursor}"))?,
        }
    }
    if listed == 0 && command.cursor.is_none() {
        let place = Place::of(settings);
        eprintln!("nothing found in {place}. {}", place.question());
    }
    Ok(match listed {
        0 => Answer::No,
        _ => Answer::Yes,
    })
}

fn filter(command: &List) -> ListFilter {
    let mut filter = ListFilter::new();
    if let Some(state) = command.state {
        filter = filter.status(state.into());
    }
    if let Some(operation) = &command.operation {
        filter = filter.operation(operation);
    }
    if let Some(label) = &command.label {
        filter = filter.label(label);
    }
    if let Some(age) = command.older_than {
        filter = filter.older_than(age);
    }
    filter
}

const HEAD: &str = "\
STATE      ATTEMPT  AGE     EXPIRES  RECORD                                                            LABEL             OPERATION";

/// What is not written for a terminal, label and operation, is last.
fn row(record: &ListedRecord, output: &Output) -> String {
    let state = output.toned(
        tone_of(record.status),
        &format!("{:<9}", name_of(record.status)),
    );
    let label = record.label.as_deref().map_or("-".into(), plain);
    format!(
        "{state}  {:<7}  {:<6}  {:<7}  {}  {label:<16}  {}",
        record.attempt,
        short(record.age),
        short(record.expires_in),
        record.key.to_hex(),
        plain(&record.operation),
    )
}

#[cfg(test)]
mod tests {
    use idempotent_runtime::RecordKey;
    use idempotent_runtime::store::RecordStatus;

    use super::*;

    #[test]
    fn columns_stand_below_their_heads() {
        let key = RecordKey::from_bytes([0xab; 32]);
        let mut record = ListedRecord::new(key, RecordStatus::Abandoned, "POST /payments".into());
        record.label = Some("order 4711".into());
        let row = row(&record, &Output::to_stdout());
        for (name, value) in [
            ("STATE", "abandoned"),
            ("ATTEMPT", "1"),
            ("AGE", "0ms"),
            ("RECORD", "abab"),
            ("LABEL", "order 4711"),
            ("OPERATION", "POST /payments"),
        ] {
            let column = HEAD.find(name).unwrap();
            assert!(row[column..].starts_with(value), "{name}: {row}");
        }
    }
}
