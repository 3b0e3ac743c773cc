//! The statements of many rows.

use sqlx::SqlStr;

use crate::store::sql::{TableName, prepared, uncommented};

/// How many rows the statements have: each is prepared once, and used for all numbers up to it that
/// are too many for the one before.
const ROWS: [usize; 4] = [2, 8, 32, 64];

/// The number of rows of the largest.
pub(super) const MOST: usize = 64;

/// The statements of one kind, by the number of their rows.
#[derive(Clone)]
pub(super) struct Batches([(usize, SqlStr); ROWS.len()]);

impl Batches {
    pub(super) fn new(table: &TableName, template: &str, columns: usize) -> Self {
        let template = table.in_statement(&uncommented(template));
        // Without numbers, which would be looked up one by one.
        let row = format!("({})", vec!["?"; columns].join(","));
        Self(ROWS.map(|rows| {
            let statement = template.replace("{rows}", &vec![row.as_str(); rows].join(","));
            (rows, prepared(statement))
        }))
    }

    /// The smallest that has as many rows.
    pub(super) fn of(&self, number: usize) -> Option<SqlStr> {
        let fits = self.0.iter().find(|(rows, _)| *rows >= number);
        fits.map(|(_, statement)| statement.clone())
    }
}
