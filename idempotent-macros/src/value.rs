//! The values of arguments: each reader says what it wanted if it got another thing.

use std::ops::RangeInclusive;

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Lit, Path, Result, UnOp};

use crate::args::Spec;
use crate::words::{did_you_mean, one_of};

/// A text as the runtime takes it, if it is a good one.
type ReadText = fn(&str) -> Option<String>;

/// One of the runtime's enums: its name, and the word for each of its variants.
pub(crate) type Words = (&'static str, &'static [(&'static str, &'static str)]);

/// What a number has to be within, and the rule that says so.
pub(crate) type Limits = (RangeInclusive<u64>, &'static str);

/// The units of a duration, and how many milliseconds each has.
const UNITS: [&str; 5] = ["ms", "s", "m", "h", "d"];
const MILLIS: [u64; 5] = [1, 1_000, 60_000, 3_600_000, 86_400_000];

/// One `name = value` of the attribute.
pub(crate) struct Argument {
    pub(crate) spec: &'static Spec,
    pub(crate) name: Ident,
    pub(crate) value: Expr,
}

/// What a method of the runtime is called with.
pub(crate) enum Value {
    /// A constant that names nothing of the runtime.
    Constant(TokenStream),
    /// A variant of one of the runtime's enums.
    Variant(&'static str, &'static str),
    /// The user's recovery function.
    Recover(Path),
    /// An expression over the handler's arguments, by reference.
    Borrowed(Expr),
    /// No call: where the runtime is.
    Runtime(Path),
    /// No call: where the handle is, as an expression over the handler's arguments.
    Handle(Expr),
}

impl Value {
    /// What the method of `Policy` is called with; nothing for what is no setting.
    pub(crate) fn setting(&self, runtime: &Path, method: &str) -> Option<TokenStream> {
        Some(match self {
            Self::Constant(constant) => constant.clone(),
            Self::Variant(name, variant) => {
                let (name, variant) = (format_ident!("{name}"), format_ident!("{variant}"));
                quote!(#runtime::#name::#variant)
            }
            Self::Recover(function) => {
                let here = Span::mixed_site().located_at(function.span());
                let future = quote_spanned!(here=> ::std::boxed::Box::pin(#function(__abandoned)));
                quote_spanned!(here=> #runtime::OnAbandoned::Recover(|__abandoned| { #future }))
            }
            Self::Borrowed(_) if method == "fingerprint" => {
                quote!(#runtime::FingerprintSource::Fields)
            }
            Self::Borrowed(_) | Self::Runtime(_) | Self::Handle(_) => return None,
        })
    }
}

impl Argument {
    pub(crate) fn switch(&self) -> Result<Value> {
        match literal(&self.value) {
            Some(Lit::Bool(switch)) => Ok(Value::Constant(switch.value.to_token_stream())),
            _ => Err(self.wants("`true` or `false`")),
        }
    }

    /// A word in quotes that stands for one of an enum's variants.
    pub(crate) fn word(&self, (of, variants): Words) -> Result<Value> {
        let wanted = one_of(variants.iter().map(|(word, _)| format!("\"{word}\"")));
        let word = self.string(&wanted)?;
        if let Some((_, variant)) = variants.iter().find(|(known, _)| *known == word) {
            return Ok(Value::Variant(of, variant));
        }
        let hint = did_you_mean(&word, variants.iter().map(|(word, _)| *word));
        let name = &self.name;
        Err(self.error(format!("`{name}` is {wanted}, not `\"{word}\"`{hint}")))
    }

    /// A whole number without sign and suffix.
    pub(crate) fn number(&self, limits: Limits) -> Result<Value> {
        let number = self.within(self.whole_number()?, limits)?;
        Ok(Value::Constant(number.to_token_stream()))
    }

    /// A duration as a whole number of a unit, which is given in milliseconds.
    pub(crate) fn time(&self, unit: u64, limits: Limits) -> Result<Value> {
        self.millis(self.whole_number()?.saturating_mul(unit), limits)
    }

    fn whole_number(&self) -> Result<u64> {
        let number = match (literal(&self.value), peeled(&self.value)) {
            (Some(Lit::Int(number)), _) => number,
            (_, Expr::Unary(it)) if matches!(it.op, UnOp::Neg(_)) => {
                return Err(self.correction(&self.value, "cannot be negative"));
            }
            _ => return Err(self.wants("a whole number")),
        };
        if !number.suffix().is_empty() {
            let (name, number, suffix) = (&self.name, number.base10_digits(), number.suffix());
            let rule = format!("`{name}` takes a number without the suffix `{suffix}`");
            return Err(self.error(format!("{rule}: write `{name} = {number}`")));
        }
        Ok(number.base10_parse().unwrap_or(u64::MAX))
    }

    /// A duration in quotes, such as `"30s"`, in milliseconds.
    pub(crate) fn duration(&self, limits: Limits) -> Result<Value> {
        let units = one_of(UNITS.iter());
        let wanted = format!("a whole number and a unit ({units}) in quotes");
        let text = self.string(&wanted)?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let unit = UNITS.iter().zip(MILLIS).find(|(name, _)| **name == unit);
        let (Some((_, unit)), Ok(count)) = (unit, count.parse::<u64>()) else {
            return Err(self.wants(&wanted));
        };
        self.millis(count.saturating_mul(unit), limits)
    }

    fn millis(&self, millis: u64, limits: Limits) -> Result<Value> {
        let millis = self.within(millis, limits)?;
        let duration = quote!(::core::time::Duration::from_millis(#millis));
        Ok(Value::Constant(duration))
    }

    /// Strings in brackets, at least one and each once. What is wrong with any of them is said at its place.
    pub(crate) fn texts(&self, wanted: &str, read: ReadText) -> Result<Value> {
        let elements = match peeled(&self.value) {
            Expr::Array(array) if !array.elems.is_empty() => &array.elems,
            _ => return Err(self.wants(wanted)),
        };
        let (mut texts, mut mistakes) = (Vec::new(), Vec::new());
        for element in elements {
            match string(element).and_then(|text| read(&text)) {
                None => mistakes.push(self.correction(element, &format!("takes {wanted}"))),
                Some(text) if texts.contains(&text) => {
                    let rule = format!("`{text}` is listed twice: remove one of the two");
                    mistakes.push(Error::new_spanned(element, rule));
                }
                Some(text) => texts.push(text),
            }
        }
        let all = mistakes.into_iter().reduce(|mut all: Error, mistake| {
            all.combine(mistake);
            all
        });
        all.map_or(Ok(Value::Constant(quote!(&[#(#texts),*]))), Err)
    }

    /// A string that can be read so.
    pub(crate) fn text(&self, rule: &str, read: ReadText) -> Result<Value> {
        match read(&self.string("a string")?) {
            Some(text) => Ok(Value::Constant(text.to_token_stream())),
            None => Err(self.correction(&self.value, rule)),
        }
    }

    pub(crate) fn path(&self, wanted: &str) -> Result<Path> {
        match peeled(&self.value) {
            Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
            _ => Err(self.wants(wanted)),
        }
    }

    /// An expression over the handler's arguments. A literal is not one: it would be the same for every request.
    pub(crate) fn expression(&self, wanted: &str) -> Result<Expr> {
        match literal(&self.value) {
            Some(_) => Err(self.wants(wanted)),
            None => Ok(self.value.clone()),
        }
    }

    /// The value, if it is one word without quotes.
    pub(crate) fn bare_word(&self) -> Option<String> {
        Some(self.path("a word").ok()?.get_ident()?.to_string())
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(literal(&self.value), Some(Lit::Str(_)))
    }

    /// A mistake in the value.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new_spanned(&self.value, message)
    }

    /// "`ttl_hours` <the rule>: write `ttl_hours = 24`", said of the value or of a part of it.
    fn correction(&self, place: &Expr, rule: &str) -> Error {
        let (name, example) = (&self.name, self.spec.example());
        Error::new_spanned(place, format!("`{name}` {rule}: write `{example}`"))
    }

    fn wants(&self, wanted: &str) -> Error {
        self.correction(&self.value, &format!("takes {wanted}"))
    }

    fn within(&self, number: u64, (range, rule): Limits) -> Result<Literal> {
        match range.contains(&number) {
            true => Ok(Literal::u64_unsuffixed(number)),
            false => Err(self.correction(&self.value, rule)),
        }
    }

    fn string(&self, wanted: &str) -> Result<String> {
        string(&self.value).ok_or_else(|| self.wants(wanted))
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match peeled(value) {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    }
}

fn string(value: &Expr) -> Option<String> {
    match literal(value) {
        Some(Lit::Str(text)) if text.suffix().is_empty() => Some(text.value()),
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
