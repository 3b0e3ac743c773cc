//! `#[tx]` on PostgreSQL, SQLite and MySQL: a handler's writes and its record are there together, or
//! neither is. Each scenario is one function, and runs on every database through real HTTP.

mod support;

mod nested;
mod outcomes;
mod records;
mod runaway;
mod startup;
mod unprotected;
