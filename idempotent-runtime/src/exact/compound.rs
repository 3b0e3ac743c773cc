use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Context, Value};

/// A list or an object, whose parts are exact.
pub(super) struct Compound<C> {
    pub(super) inner: C,
    /// Of a part.
    pub(super) context: Context,
}

impl<C> Compound<C> {
    fn part<'a, T: ?Sized>(&self, value: &'a T) -> Value<'a, T> {
        let context = self.context;
        Value { value, context }
    }
}

macro_rules! of_elements {
    ($($interface:ident::$method:ident,)*) => {
        $(
            impl<C: $interface> $interface for Compound<C> {
                type Ok = C::Ok;
                type Error = C::Error;

                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                    let value = self.part(value);
                    self.inner.$method(&value)
                }

                fn end(self) -> Result<C::Ok, C::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

of_elements! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! of_fields {
    ($($interface:ident,)*) => {
        $(
            impl<C: $interface> $interface for Compound<C> {
                type Ok = C::Ok;
                type Error = C::Error;

                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Result<(), C::Error> {
                    let value = self.part(value);
                    self.inner.serialize_field(name, &value)
                }

                fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                    self.inner.skip_field(name)
                }

                fn end(self) -> Result<C::Ok, C::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

of_fields! {
    SerializeStruct,
    SerializeStructVariant,
}

impl<C: SerializeMap> SerializeMap for Compound<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    /// `serde_json` takes a name for a member only from what reads back as that name.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = self.part(value);
        self.inner.serialize_value(&value)
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        let value = self.part(value);
        self.inner.serialize_entry(key, &value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
