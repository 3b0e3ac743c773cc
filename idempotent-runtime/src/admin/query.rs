//! What a list is asked for: the parameters of its address.

use serde::{Deserialize, Serialize};

use super::words::{duration_of, name_of, state_named};
use crate::store::{ListCursor, ListFilter, RecordStatus};

/// A list's filter, as an operator wrote it.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) state: Option<RecordStatus>,
    pub(super) operation: Option<String>,
    pub(super) label: Option<String>,
    pub(super) older_than: Option<String>,
    pub(super) after: Option<ListCursor>,
    /// A record to be opened.
    pub(super) key: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Parameters {
    #[serde(skip_serializing_if = "String::is_empty")]
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    operation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    older_than: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    after: String,
    #[serde(skip_serializing)]
    key: String,
}

impl Query {
    /// Reads the part of an address behind its question mark. A parameter that is empty is absent.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for the operator.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let Ok(parameters) = serde_urlencoded::from_str::<Parameters>(text) else {
            return Err("The address has a parameter twice, or one that is not UTF-8.");
        };
        let present = |text: String| Some(text).filter(|text| !text.is_empty());
        let state = match parameters.state.as_str() {
            "" => None,
            name => Some(state_named(name).ok_or("`state` is abandoned, in-flight or completed.")?),
        };
        let after = match parameters.after.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| "`after` is not a cursor.")?),
        };
        let older_than = parameters.older_than;
        if !older_than.trim().is_empty() && duration_of(&older_than).is_none() {
            return Err("`older_than` is a duration, such as 90s, 15min, 2h or 7d.");
        }
        Ok(Self {
            state,
            operation: present(parameters.operation),
            label: present(parameters.label),
            older_than: present(older_than.trim().to_owned()),
            after,
            key: present(parameters.key.trim().to_owned()),
        })
    }

    /// The same as parameters of an address.
    pub(super) fn encoded(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let parameters = Parameters {
            state: self.state.map(name_of).unwrap_or_default().to_owned(),
            operation: text(&self.operation),
            label: text(&self.label),
            older_than: text(&self.older_than),
            after: self
                .after
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            key: String::new(),
        };
        // Strings: this always serializes.
        serde_urlencoded::to_string(parameters).unwrap_or_default()
    }

    pub(super) fn filter(&self) -> ListFilter {
        let mut filter = ListFilter::new();
        filter.status = self.state;
        filter.older_than = self.older_than.as_deref().and_then(duration_of);
        if let Some(operation) = &self.operation {
            filter = filter.operation(operation);
        }
        if let Some(label) = &self.label {
            filter = filter.label(label);
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_an_address_is_read_from_it() {
        let text =
            "state=in-flight&operation=POST+%2Fpay%26%22&label=%3Cb%3E&older_than=2h&after=00ff";
        let query = Query::read(text).unwrap();
        assert_eq!(query.encoded(), text);
        assert_eq!(query.operation.as_deref(), Some("POST /pay&\""));
        assert_eq!(
            Query::read("state=&operation=&after=").unwrap().encoded(),
            ""
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for wrong in [
            "state=gone",
            "after=xy",
            "older_than=soon",
            "state=abandoned&state=completed",
        ] {
            assert!(Query::read(wrong).is_err(), "{wrong}");
        }
    }
}
