//! `idempotent stats`: how many records there are, and how many bytes they hold, by operation and state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::{ListFilter, ListedRecord, RecordStatus};
use serde_json::json;

use crate::arguments::{Settings, Stats};
use crate::failure::Failure;
use crate::json::seconds;
use crate::output::{Output, bytes, name_of, plain, tone_of};
use crate::pages::{PAGE, Pages};
use crate::time::short;
use crate::{Answer, settings};

/// What is counted of the records of one operation and state.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    records: u64,
    bytes: u64,
    /// The age of the oldest.
    oldest: Duration,
}

/// By operation and state.
type Counts = BTreeMap<(Arc<str>, &'static str), (RecordStatus, Count)>;

pub(crate) async fn run(
    settings: &Settings,
    command: &Stats,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let idempotency = settings::open(settings).await?;
    let mut pages = Pages::new(&idempotency, ListFilter::new().with_sizes());
    let mut counts = Counts::new();
    while let Some(records) = pages.next(PAGE).await? {
        records.iter().for_each(|record| add(&mut counts, record));
    }
    drop(pages);
    match command.json {
        true => as_json(&counts, output)?,
        false => as_table(&counts, output)?,
    }
    Ok(Answer::Yes)
}

fn add(counts: &mut Counts, record: &ListedRecord) {
    let name = (Arc::clone(&record.operation), name_of(record.status));
    let (_, count) = counts
        .entry(name)
        .or_insert_with(|| (record.status, Count::default()));
    count.records += 1;
    count.bytes = count.bytes.saturating_add(record.size_bytes);
    count.oldest = count.oldest.max(record.age);
}

fn as_table(counts: &Counts, output: &mut Output) -> Result<(), Failure> {
    output.line("STATE      RECORDS    BYTES       OLDEST  OPERATION")?;
    for ((operation, name), (status, count)) in counts {
        let state = output.toned(tone_of(*status), &format!("{name:<9}"));
        let (records, oldest) = (count.records, short(count.oldest));
        let (size, operation) = (bytes(count.bytes), plain(operation));
        output.line(format!(
            "{state}  {records:<9}  {size:<10}  {oldest:<6}  {operation}"
        ))?;
    }
    let records: u64 = counts.values().map(|(_, count)| count.records).sum();
    let size: u64 = counts.values().map(|(_, count)| count.bytes).sum();
    output.line(format!("all        {records:<9}  {}", bytes(size)))?;
    Ok(())
}

fn as_json(counts: &Counts, output: &mut Output) -> Result<(), Failure> {
    for ((operation, name), (_, count)) in counts {
        let line = json!({
            "operation": **operation,
            "state": name,
            "records": count.records,
            "bytes": count.bytes,
            "oldest_secs": seconds(count.oldest),
        });
        output.line(line.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use idempotent_runtime::RecordKey;

    use super::*;

    #[test]
    fn records_are_counted_by_operation_and_state() {
        let mut counts = Counts::new();
        for (operation, status, size, age) in [
            ("a", RecordStatus::Completed, 10, 5),
            ("a", RecordStatus::Completed, 20, 9),
            ("a", RecordStatus::Abandoned, 1, 1),
            ("b", RecordStatus::Completed, 2, 1),
        ] {
            let key = RecordKey::from_bytes([1; 32]);
            let mut record = ListedRecord::new(key, status, operation.into());
            record.size_bytes = size;
            record.age = Duration::from_secs(age);
            add(&mut counts, &record);
        }
        assert_eq!(counts.len(), 3);
        let count = &counts[&("a".into(), "completed")].1;
        let expected = Count {
            records: 2,
            bytes: 30,
            oldest: Duration::from_secs(9),
        };
        assert_eq!(*count, expected);
    }
}
