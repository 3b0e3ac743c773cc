//! The values of arguments: each reader says what it wanted if it got another thing.

use std::ops::RangeInclusive;

use proc_macro2::Ident;
use syn::{Error, Expr, ExprUnary, Lit, LitStr, Path, Result, UnOp};

use crate::words::{did_you_mean, example, one_of};

/// The units of a duration, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// One `name = value` of the attribute.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) value: Expr,
}

/// What a method of the runtime is called with.
pub(crate) enum Value {
    Switch(bool),
    Number(u64),
    /// In milliseconds.
    Duration(u64),
    Text(String),
    Texts(Vec<String>),
    /// A variant of one of the runtime's enums.
    Variant(&'static str, &'static str),
    /// The user's recovery function.
    Recover(Path),
    /// An expression over the handler's arguments, by reference.
    Borrowed(Expr),
    /// No call: where the runtime is.
    Runtime(Path),
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Argument {
    pub(crate) fn switch(&self) -> Result<Value> {
        match self.literal() {
            Some(Lit::Bool(switch)) => Ok(Value::Switch(switch.value)),
            _ => Err(self.wants("`true` or `false`")),
        }
    }

    /// A word in quotes that stands for one of an enum's variants.
    pub(crate) fn word(
        &self,
        of: &'static str,
        variants: &[(&'static str, &'static str)],
    ) -> Result<Value> {
        let wanted = one_of(variants.iter().map(|(word, _)| format!("\"{word}\"")));
        let word = self.string(&wanted)?.value();
        let known = variants.iter().find(|(known, _)| *known == word);
        known
            .map(|(_, variant)| Value::Variant(of, variant))
            .ok_or_else(|| {
                let hint = did_you_mean(&word, variants.iter().map(|(word, _)| *word));
                self.error(format!(
                    "`{}` is {wanted}, not `\"{word}\"`{hint}",
                    self.name
                ))
            })
    }

    /// A whole number without sign and suffix.
    pub(crate) fn number(&self, range: RangeInclusive<u64>, rule: &str) -> Result<Value> {
        let number = self.within(self.whole_number()?, range, rule)?;
        Ok(Value::Number(number))
    }

    /// A duration as a whole number of a unit, which is given in milliseconds.
    pub(crate) fn time(&self, unit: u64, range: RangeInclusive<u64>, rule: &str) -> Result<Value> {
        let count = self.whole_number()?;
        let millis = self.within(count.saturating_mul(unit), range, rule)?;
        Ok(Value::Duration(millis))
    }

    fn whole_number(&self) -> Result<u64> {
        let Some(Lit::Int(number)) = self.literal() else {
            return Err(match self.is_negative() {
                true => self.correction("cannot be negative"),
                false => self.wants("a whole number"),
            });
        };
        if !number.suffix().is_empty() {
            let (name, number, suffix) = (&self.name, number.base10_digits(), number.suffix());
            return Err(self.error(format!(
                "`{name}` takes a number without the suffix `{suffix}`: write `{name} = {number}`"
            )));
        }
        Ok(number.base10_parse().unwrap_or(u64::MAX))
    }

    /// A duration in quotes, such as `"30s"`, in milliseconds.
    pub(crate) fn duration(&self, range: RangeInclusive<u64>, rule: &str) -> Result<Value> {
        let units = one_of(UNITS.iter().map(|(unit, _)| unit));
        let wanted = format!("a whole number and a unit ({units}) in quotes");
        let text = self.string(&wanted)?.value();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(self.wants(&wanted));
        };
        let count: u64 = count.parse().map_err(|_| self.wants(&wanted))?;
        let millis = self.within(count.saturating_mul(*unit), range, rule)?;
        Ok(Value::Duration(millis))
    }

    /// Strings in brackets, at least one and each once. What is wrong with any of them is said at its place.
    pub(crate) fn texts(
        &self,
        wanted: &str,
        read: impl Fn(&str) -> Option<String>,
    ) -> Result<Value> {
        let Expr::Array(array) = self.peeled() else {
            return Err(self.wants(wanted));
        };
        let mut texts = Vec::new();
        let mut mistakes: Vec<Error> = Vec::new();
        for element in &array.elems {
            let text = match literal(element) {
                Some(Lit::Str(text)) if text.suffix().is_empty() => read(&text.value()),
                _ => None,
            };
            match text {
                None => mistakes.push(self.correction_at(element, &format!("takes {wanted}"))),
                Some(text) if texts.contains(&text) => {
                    let rule = format!("`{text}` is listed twice: remove one of the two");
                    mistakes.push(Error::new_spanned(element, rule));
                }
                Some(text) => texts.push(text),
            }
        }
        if array.elems.is_empty() {
            mistakes.push(self.wants(wanted));
        }
        let all = mistakes.into_iter().reduce(|mut all, mistake| {
            all.combine(mistake);
            all
        });
        all.map_or(Ok(Value::Texts(texts)), Err)
    }

    pub(crate) fn text(&self, rule: &str, is_good: impl Fn(&str) -> bool) -> Result<String> {
        let text = self.string("a string")?.value();
        if is_good(&text) {
            Ok(text)
        } else {
            Err(self.correction(rule))
        }
    }

    pub(crate) fn path(&self, wanted: &str) -> Result<Path> {
        match self.peeled() {
            Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
            _ => Err(self.wants(wanted)),
        }
    }

    /// An expression over the handler's arguments. A literal is none: it would be the same for everybody.
    pub(crate) fn expression(&self, wanted: &str) -> Result<Value> {
        match self.literal() {
            Some(_) => Err(self.wants(wanted)),
            None => Ok(Value::Borrowed(self.value.clone())),
        }
    }

    /// The value, if it is one word without quotes.
    pub(crate) fn bare_word(&self) -> Option<String> {
        match self.peeled() {
            Expr::Path(path) => path.path.get_ident().map(Ident::to_string),
            _ => None,
        }
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self.literal(), Some(Lit::Str(_)))
    }

    /// A mistake in the value.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new_spanned(&self.value, message)
    }

    /// "`ttl_hours` <the rule>: write `ttl_hours = 24`".
    fn correction(&self, rule: &str) -> Error {
        self.correction_at(&self.value, rule)
    }

    /// The same, said of a part of the value.
    fn correction_at(&self, place: &Expr, rule: &str) -> Error {
        let name = self.name.to_string();
        let message = format!("`{name}` {rule}: write `{}`", example(&name));
        Error::new_spanned(place, message)
    }

    fn wants(&self, wanted: &str) -> Error {
        self.correction(&format!("takes {wanted}"))
    }

    fn within(&self, number: u64, range: RangeInclusive<u64>, rule: &str) -> Result<u64> {
        match range.contains(&number) {
            true => Ok(number),
            false => Err(self.correction(rule)),
        }
    }

    fn string(&self, wanted: &str) -> Result<&LitStr> {
        match self.literal() {
            Some(Lit::Str(text)) if text.suffix().is_empty() => Ok(text),
            _ => Err(self.wants(wanted)),
        }
    }

    fn literal(&self) -> Option<&Lit> {
        literal(&self.value)
    }

    fn is_negative(&self) -> bool {
        matches!(
            self.peeled(),
            Expr::Unary(ExprUnary {
                op: UnOp::Neg(_),
                ..
            })
        )
    }

    fn peeled(&self) -> &Expr {
        peeled(&self.value)
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match peeled(value) {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    }
}

/// The value without the invisible group around it that a `macro_rules` variable leaves.
fn peeled(mut value: &Expr) -> &Expr {
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    value
}
