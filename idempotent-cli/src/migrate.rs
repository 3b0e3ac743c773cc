//! `idempotent migrate`: makes the table of a SQL store, or prints the statements that do.

use crate::Answer;
use crate::arguments::{Migrate, Settings};
use crate::failure::Failure;
use crate::output::{Output, Tone};
use crate::settings;

pub(crate) async fn run(
    settings: &Settings,
    command: &Migrate,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let target = settings::target(settings)?;
    let Some(statements) = target.migrations().await? else {
        output.line(match command.print {
            true => "-- this store has no table: there is nothing to migrate",
            false => "this store has no table: there is nothing to migrate",
        })?;
        return Ok(Answer::Yes);
    };
    if command.print {
        output.line(statements.trim_end())?;
        return Ok(Answer::Yes);
    }
    target.migrate().await?;
    output.line(output.toned(Tone::Good, "the table is there"))?;
    Ok(Answer::Yes)
}
