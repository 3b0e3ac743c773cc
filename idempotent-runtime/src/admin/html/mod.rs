//! The pages, as HTML without scripts. [`maud`] escapes whatever is put in.

mod find;
mod forms;
mod layout;
mod outcome;
mod overview;
mod picture;
mod record;
mod records;

pub(super) use find::find;
pub(super) use forms::forget_unreadable;
pub(super) use layout::page;
pub(super) use outcome::{mistake, outcome};
pub(super) use overview::overview;
pub(super) use record::{record, title};
pub(super) use records::records;
