//! A stored response in little room, for a store in this process.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{StoredResponse, is_of_connection};

/// A [`StoredResponse`] as a store in this process keeps it: a list of headers takes half as much room
/// as a map, and the body shares its bytes with nothing. Ten bytes that were cut out of an upload
/// would keep all of it alive, and no bound would know.
pub struct CompactResponse {
    status: u16,
    headers: Box<[(HeaderName, HeaderValue)]>,
    body: Option<Bytes>,
}

impl CompactResponse {
    /// As [`StoredResponse::new`].
    pub(crate) fn new<'a>(
        status: u16,
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        body: Option<&[u8]>,
    ) -> Self {
        let mut list = Vec::with_capacity(headers.size_hint().1.unwrap_or(0));
        list.extend(
            headers
                .filter(|(name, _)| !is_of_connection(name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self {
            status,
            headers: list.into_boxed_slice(),
            body: body.map(Bytes::copy_from_slice),
        }
    }

    /// The response, to be replayed.
    #[must_use]
    pub fn to_stored(&self) -> Arc<StoredResponse> {
        // With room for what a replay adds to them.
        let mut headers = HeaderMap::try_with_capacity(self.headers.len() + 2).unwrap_or_default();
        for (name, value) in &self.headers {
            // They were in a map already, so there is room.
            let _ = headers.try_append(name, value.clone());
        }
        Arc::new(StoredResponse {
            status: self.status,
            headers,
            body: self.body.clone(),
        })
    }

    /// About how many bytes it occupies.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let header = |(name, value): &(HeaderName, HeaderValue)| {
            size_of::<(HeaderName, HeaderValue)>() + name.as_str().len() + value.len()
        };
        let headers: usize = self.headers.iter().map(header).sum();
        size_of::<Self>() + headers + self.body.as_ref().map_or(0, Bytes::len)
    }
}

impl From<&StoredResponse> for CompactResponse {
    fn from(response: &StoredResponse) -> Self {
        Self::new(
            response.status,
            response.headers.iter(),
            response.body.as_deref(),
        )
    }
}

/// Never the contents: a response may hold what no log may.
impl fmt::Debug for CompactResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .finish()
    }
}
