//! Canonical JSON: one spelling for each value, so that a digest compares values.
//!
//! Two JSON texts that differ only in white space, member order, escapes or the spelling of a
//! number become the same bytes, as RFC 8785 asks. One deliberate difference: RFC 8785 writes every
//! number as an IEEE 754 double, which makes the identifiers 9007199254740992 and 9007199254740993
//! equal, and 0.1 and 0.10000000000000000001. Here numbers are compared by their exact decimal value.
//!
//! A text that gives a member twice has no one value (readers disagree which of them counts), so it is
//! not canonicalized: its bytes are compared as they are. A value of the application that has no
//! canonical JSON is an error, see [`exact`](crate::exact).
//!
//! The text may be hostile. So the time is that of sorting it, however it is nested, and the room that
//! of a few copies.

use std::io::Write as _;

use serde::Serialize;
use serde::de::IgnoredAny;

use crate::exact;

/// The most zeros at the end of a whole number that are written out.
const MOST_ZEROS: usize = 40;

/// Deeper than anything that a handler's own extractor would read.
const DEEPEST: usize = 128;

/// The canonical form of a JSON text; `None` when it is no JSON, nested absurdly, or ambiguous.
pub(crate) fn canonicalize(text: &[u8]) -> Option<Vec<u8>> {
    // From here on the text is known to be JSON, so that the reader below need not doubt it.
    serde_json::from_slice::<IgnoredAny>(text).ok()?;
    let text = std::str::from_utf8(text).ok()?.as_bytes();
    let mut reader = Reader {
        rest: text.trim_ascii_start(),
        out: Vec::with_capacity(text.len()),
        open: Vec::new(),
        unsorted: Vec::new(),
        members: Vec::new(),
    };
    reader.value(DEEPEST)?;
    Some(reader.sorted())
}

/// The canonical JSON of a value. An error where it has none, or where another value has it too.
pub(crate) fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    canonicalize(&exact::to_sorted_vec(value)?).ok_or_else(exact::ambiguous)
}

/// Reads valid JSON and writes its canonical form, with the members of objects where they were. Those
/// that are in the wrong place are noted, and moved once, when all is read: an object that is moved
/// with the one around it, and that with the next, would be copied as often as it is deep.
struct Reader<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    /// The members so far of the objects that are being read.
    open: Vec<Member>,
    unsorted: Vec<Unsorted>,
    /// Those of `unsorted`, in their order.
    members: Vec<Member>,
}

/// Where in the output a member is, name and value.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    name_end: usize,
    end: usize,
}

/// An object whose members are not in their order.
struct Unsorted {
    start: usize,
    end: usize,
    members: std::ops::Range<usize>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.rest.first()? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => write_number(self.scalar(), &mut self.out)?,
            _ => {
                let scalar = self.scalar();
                self.out.extend_from_slice(scalar);
            }
        }
        self.space();
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.punctuation()?;
        while *self.rest.first()? != b']' {
            self.value(depth)?;
            if *self.rest.first()? == b',' {
                self.punctuation()?;
            }
        }
        self.close()
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let (start, first) = (self.out.len(), self.open.len());
        self.punctuation()?;
        while *self.rest.first()? != b'}' {
            let start = self.out.len();
            self.string()?;
            let name_end = self.out.len();
            self.space();
            // The colon.
            self.punctuation()?;
            self.value(depth)?;
            self.open.push(Member {
                start,
                name_end,
                end: self.out.len(),
            });
            if *self.rest.first()? == b',' {
                self.punctuation()?;
            }
        }
        self.close()?;
        self.note(start, first)
    }

    /// Notes what is to be moved of an object that is read. `None` when it gives a member twice.
    fn note(&mut self, start: usize, first: usize) -> Option<()> {
        let Self { open, out, .. } = self;
        let name = |member: &Member| out.get(member.start + 1..member.name_end - 1);
        let members = open.get_mut(first..)?;
        if !members.is_sorted_by(|a, b| name(a) < name(b)) {
            members.sort_by(|a, b| name(a).cmp(&name(b)));
            if !members.is_sorted_by(|a, b| name(a) < name(b)) {
                return None;
            }
            let at = self.members.len();
            self.members.extend_from_slice(members);
            self.unsorted.push(Unsorted {
                start,
                end: self.out.len(),
                members: at..self.members.len(),
            });
        }
        self.open.truncate(first);
        Some(())
    }

    /// The output with every member in its place.
    fn sorted(mut self) -> Vec<u8> {
        if self.unsorted.is_empty() {
            return self.out;
        }
        self.unsorted.sort_unstable_by_key(|object| object.start);
        let mut sorted = Vec::with_capacity(self.out.len());
        self.copy(0, self.out.len(), &mut sorted);
        sorted
    }

    fn copy(&self, from: usize, to: usize, sorted: &mut Vec<u8>) {
        let mut at = from;
        while let Some(object) = self.unsorted_from(at).filter(|object| object.start < to) {
            self.copy_text(at, object.start, sorted);
            let members = self.members.get(object.members.clone()).unwrap_or_default();
            for (index, member) in members.iter().enumerate() {
                sorted.push(if index == 0 { b'{' } else { b',' });
                self.copy(member.start, member.end, sorted);
            }
            sorted.push(b'}');
            at = object.end;
        }
        self.copy_text(at, to, sorted);
    }

    fn copy_text(&self, from: usize, to: usize, sorted: &mut Vec<u8>) {
        #[cfg(test)]
        tests::MOVED.set(tests::MOVED.get() + (to - from));
        sorted.extend_from_slice(self.out.get(from..to).unwrap_or_default());
    }

    /// The first one that begins there or later.
    fn unsorted_from(&self, at: usize) -> Option<&Unsorted> {
        let index = self.unsorted.partition_point(|object| object.start < at);
        self.unsorted.get(index)
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<()> {
        let (mut end, mut is_escaped) = (1, false);
        loop {
            match self.rest.get(end)? {
                b'"' => break,
                b'\\' => {
                    is_escaped = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        let quoted = self.take(end + 1)?;
        if is_escaped {
            let text: String = serde_json::from_slice(quoted).ok()?;
            return serde_json::to_writer(&mut self.out, &text).ok();
        }
        self.out.extend_from_slice(quoted);
        Some(())
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> &'a [u8] {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        self.take(end).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// One byte of punctuation, and the space behind it, which is not written.
    fn punctuation(&mut self) -> Option<()> {
        self.close()?;
        self.space();
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.out.push(*byte);
        Some(())
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

/// Writes a whole number as such, and any other as its significant digits and a power of ten: `-12.50`
/// is `-125e-1`, `1e2` is `100`, every zero is `0`.
/// `None` for an exponent that no number in use has.
fn write_number(number: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (sign, number) = match number.split_first()? {
        (b'-', rest) => (&b"-"[..], rest),
        _ => (&b""[..], number),
    };
    let (mantissa, exponent) = split(number, |byte| matches!(byte, b'e' | b'E'));
    let (whole, fraction) = split(mantissa, |byte| *byte == b'.');
    let fraction = fraction.unwrap_or_default();
    let digits = || whole.iter().chain(fraction);
    let leading = digits().take_while(|digit| **digit == b'0').count();
    let length = whole.len() + fraction.len();
    if leading == length {
        out.push(b'0');
        return Some(());
    }
    let dropped = digits().rev().take_while(|digit| **digit == b'0').count();
    let exponent: i64 = match exponent {
        Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        None => 0,
    };
    let exponent = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(dropped).ok()?)?;
    out.extend_from_slice(sign);
    out.extend(digits().take(length - dropped).skip(leading));
    match usize::try_from(exponent) {
        // Written out, as is usual.
        Ok(zeros) if zeros <= MOST_ZEROS => out.resize(out.len() + zeros, b'0'),
        _ => write!(out, "e{exponent}").ok()?,
    }
    Some(())
}

/// What is before the byte and what is behind it.
fn split(bytes: &[u8], is_it: impl Fn(&u8) -> bool) -> (&[u8], Option<&[u8]>) {
    let mut parts = bytes.splitn(2, is_it);
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests;
