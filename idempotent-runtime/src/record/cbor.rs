//! CBOR (RFC 8949), as much of it as stored bytes are made of: integers, strings, arrays and maps of
//! definite lengths, and `true` and `false`.

use std::convert::Infallible;
use std::error::Error;

use cbor4ii::core::dec::{Decode, IgnoredAny, Read};
use cbor4ii::core::enc::{Encode, Write};
use cbor4ii::core::types::{Array, Bytes, Map, UncheckedStr};
use cbor4ii::core::utils::SliceReader;

/// Why bytes could not be read.
pub(super) type Malformed = Box<dyn Error + Send + Sync>;

/// Bytes that grow. Nothing is refused: the vector has room for all that memory has room for.
pub(super) struct Writer(Vec<u8>);

impl Write for Writer {
    type Error = Infallible;

    #[inline]
    fn push(&mut self, input: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(input);
        Ok(())
    }
}

impl Writer {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn map(&mut self, entries: usize) {
        let _ = Map::bounded(entries, self);
    }

    pub(super) fn array(&mut self, elements: usize) {
        let _ = Array::bounded(elements, self);
    }

    pub(super) fn uint(&mut self, number: u64) {
        let _ = number.encode(self);
    }

    pub(super) fn text(&mut self, text: &str) {
        let _ = text.encode(self);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let _ = Bytes(bytes).encode(self);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        let _ = flag.encode(self);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes that are read from the beginning. What it returns borrows them: a length that the bytes claim is
/// never allocated.
pub(super) struct Reader<'a>(SliceReader<'a>);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(SliceReader::new(bytes))
    }

    pub(super) fn map(&mut self) -> Result<usize, Malformed> {
        Map::len(&mut self.0)?.ok_or_else(|| "a map of indefinite length".into())
    }

    pub(super) fn array(&mut self) -> Result<usize, Malformed> {
        Array::len(&mut self.0)?.ok_or_else(|| "an array of indefinite length".into())
    }

    pub(super) fn uint(&mut self) -> Result<u64, Malformed> {
        Ok(u64::decode(&mut self.0)?)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        Ok(<&str>::decode(&mut self.0)?)
    }

    /// A text whose reader checks its bytes.
    pub(super) fn text_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        Ok(<UncheckedStr<&[u8]>>::decode(&mut self.0)?.0)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        Ok(<Bytes<&[u8]>>::decode(&mut self.0)?.0)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(bool::decode(&mut self.0)?)
    }

    /// Leaves out one item, whatever it is, of up to 256 levels.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        IgnoredAny::decode(&mut self.0)?;
        Ok(())
    }

    /// How many bytes are left.
    pub(super) fn left(&mut self) -> usize {
        self.0
            .fill(usize::MAX)
            .map_or(0, |rest| rest.as_ref().len())
    }
}
