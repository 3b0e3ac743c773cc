//! JSON that loses nothing: what it says is what the value was, or it is an error.
//!
//! `serde_json` writes NaN and infinity as `null`, and `Some(())` and `Some(None)` too, so they come
//! back as another value or not at all. It also writes a value that is nested deeper than it reads. A
//! stored result has to be the result, and two inputs that differ must not get one digest, so all of
//! these are refused here, before anything is stored or digested.
//!
//! [`to_sorted_vec`] also sorts what has no order of its own, which serde hands over as a list: two
//! equal `HashSet`s have the same elements in another order.

use serde::ser::{Error as _, Serialize, Serializer};

use crate::unwind::caught;

mod compound;
#[cfg(test)]
mod tests;
mod unordered;

use compound::Compound;

/// The deepest nesting that `serde_json` reads.
const DEEPEST: u8 = 127;

/// The JSON of a value, which reads back as the value.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    write(value, Context::new(false))
}

/// As [`to_vec`], as text.
pub(crate) fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    String::from_utf8(to_vec(value)?).map_err(serde_json::Error::custom)
}

/// As [`to_vec`], with the elements of sets in an order of their own.
pub(crate) fn to_sorted_vec<T: Serialize + ?Sized>(
    value: &T,
) -> Result<Vec<u8>, serde_json::Error> {
    write(value, Context::new(true))
}

fn write<T: Serialize + ?Sized>(value: &T, context: Context) -> Result<Vec<u8>, serde_json::Error> {
    // A value has happened whether or not it can be written, and its `Serialize` is the application's own code.
    caught(|| serde_json::to_vec(&Value { value, context }))
        .unwrap_or_else(|_| Err(serde_json::Error::custom("it panicked")))
}

/// Where in the whole a value is.
#[derive(Clone, Copy)]
struct Context {
    /// How many levels there may be below.
    depth: u8,
    sorts: bool,
    /// Directly in a `Some`, which JSON does not show.
    in_some: bool,
    /// The type that serializes itself.
    of: &'static str,
}

impl Context {
    fn new(sorts: bool) -> Self {
        Self {
            depth: DEEPEST,
            sorts,
            in_some: false,
            of: "",
        }
    }

    /// Of what is one level below, such as an element.
    fn below<E: serde::ser::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        let depth = depth.ok_or_else(|| E::custom("it is nested deeper than 127 levels"))?;
        Ok(Self {
            depth,
            in_some: false,
            ..self
        })
    }
}

/// A value that serializes itself exactly, or not at all.
struct Value<'a, T: ?Sized> {
    value: &'a T,
    context: Context,
}

impl<T: Serialize + ?Sized> Serialize for Value<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Exact {
            inner: serializer,
            context: Context {
                of: std::any::type_name::<T>(),
                ..self.context
            },
        })
    }
}

/// A serializer that passes on what it can answer for.
struct Exact<S> {
    inner: S,
    context: Context,
}

impl<S: Serializer> Exact<S> {
    fn null(self, write: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
        if self.context.in_some {
            return Err(S::Error::custom(
                "a `Some` of what is `null` in JSON reads back as `None`",
            ));
        }
        write(self.inner)
    }

    /// Writes the elements in the order of their own JSON.
    fn sorted<I>(self, elements: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator<Item: Serialize>,
    {
        let context = self.context.below()?;
        let json = |element: &I::Item| {
            let json = write(element, context)?;
            crate::canonical::canonicalize(&json).ok_or_else(ambiguous)
        };
        let mut sorted = Vec::new();
        for element in elements {
            sorted.push((json(&element).map_err(S::Error::custom)?, element));
        }
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.inner
            .collect_seq(sorted.iter().map(|(_, value)| Value { value, context }))
    }
}

/// The forms that are exact as they are.
macro_rules! pass {
    ($($method:ident($type:ty),)*) => {
        $(
            fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
                self.inner.$method(value)
            }
        )*
    };
}

impl<S: Serializer> Serializer for Exact<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<S::SerializeSeq>;
    type SerializeTuple = Compound<S::SerializeTuple>;
    type SerializeTupleStruct = Compound<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<S::SerializeTupleVariant>;
    type SerializeMap = Compound<S::SerializeMap>;
    type SerializeStruct = Compound<S::SerializeStruct>;
    type SerializeStructVariant = Compound<S::SerializeStructVariant>;

    pass! {
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => self.inner.serialize_f32(value),
            false => Err(not_finite()),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => self.inner.serialize_f64(value),
            false => Err(not_finite()),
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_none)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_unit)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null(|inner| inner.serialize_unit_struct(name))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let context = Context {
            in_some: true,
            ..self.context
        };
        self.inner.serialize_some(&Value { value, context })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let context = self.context;
        let value = Value { value, context };
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let context = self.context.below()?;
        let value = Value { value, context };
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        if self.context.sorts && unordered::is_named(self.context.of) {
            return Err(S::Error::custom(
                "it has a set whose elements have no order: use a `BTreeSet` or the `HashSet` of `std`",
            ));
        }
        let context = self.context.below()?;
        let inner = self.inner.serialize_seq(len)?;
        Ok(Compound { inner, context })
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let context = self.context.below()?;
        let inner = self.inner.serialize_tuple(len)?;
        Ok(Compound { inner, context })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let context = self.context.below()?;
        let inner = self.inner.serialize_tuple_struct(name, len)?;
        Ok(Compound { inner, context })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        // An object of one member, and in it a list.
        let context = self.context.below()?.below()?;
        let inner = self
            .inner
            .serialize_tuple_variant(name, index, variant, len)?;
        Ok(Compound { inner, context })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let context = self.context.below()?;
        let inner = self.inner.serialize_map(len)?;
        Ok(Compound { inner, context })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let context = self.context.below()?;
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Compound { inner, context })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let context = self.context.below()?.below()?;
        let inner = self
            .inner
            .serialize_struct_variant(name, index, variant, len)?;
        Ok(Compound { inner, context })
    }

    /// What serde asks of a list, a set and an iterator alike: the one place where they differ.
    fn collect_seq<I>(self, elements: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator<Item: Serialize>,
    {
        if self.context.sorts && unordered::is_named(std::any::type_name::<I>()) {
            return self.sorted(elements);
        }
        let context = self.context.below()?;
        let elements = elements.into_iter();
        self.inner
            .collect_seq(elements.map(|value| Owned { value, context }))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// As [`Value`], of what an iterator gives.
struct Owned<T> {
    value: T,
    context: Context,
}

impl<T: Serialize> Serialize for Owned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (value, context) = (&self.value, self.context);
        Value { value, context }.serialize(serializer)
    }
}

fn not_finite<E: serde::ser::Error>() -> E {
    E::custom("a float that is not finite (NaN, infinity) has no JSON")
}

/// The error of a value that has no canonical JSON.
pub(crate) fn ambiguous() -> serde_json::Error {
    serde_json::Error::custom("it has a member twice in one object, or a number out of all bounds")
}
