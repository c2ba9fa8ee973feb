//! The string map of a header and the typed headers read from it (spec: protocol.md §2.3).
//!
//! A custom header of the original is a set of fields that travel as text in `extFields`. Here it is a struct declared
//! by [`field_set!`], which reads and writes itself through [`FieldSet`].

use thiserror::Error;

/// `extFields`: names and values as text. Order is kept; a repeated name means its last value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtFields(Vec<(String, String)>);

/// A field of a typed header that is missing or unreadable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FieldError {
    #[error("the field {0} is missing")]
    Missing(&'static str),
    #[error("the field {name} cannot be read from \"{value}\"")]
    Malformed { name: &'static str, value: String },
}

/// A typed header: the fields of one request or response.
pub trait FieldSet: Sized {
    /// The fields on the wire, in the order they are declared.
    const NAMES: &'static [&'static str];

    fn read(fields: &ExtFields) -> Result<Self, FieldError>;
    fn write(&self, fields: &mut ExtFields);
}

/// A request or response without fields.
impl FieldSet for () {
    const NAMES: &'static [&'static str] = &[];

    fn read(_: &ExtFields) -> Result<Self, FieldError> {
        Ok(())
    }
    fn write(&self, _: &mut ExtFields) {}
}

impl ExtFields {
    pub fn new() -> ExtFields {
        ExtFields::default()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a field set, as Java's `toString` would put it into `extFields`.
    pub fn of<F: FieldSet>(fields: &F) -> ExtFields {
        let mut ext = ExtFields::new();
        fields.write(&mut ext);
        ext
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for ExtFields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> ExtFields {
        ExtFields(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// A type that one field of a typed header may have.
pub trait FieldValue: Sized {
    fn read(name: &'static str, value: Option<&str>) -> Result<Self, FieldError>;
    fn write(&self, name: &'static str, fields: &mut ExtFields);
}

impl FieldValue for String {
    fn read(name: &'static str, value: Option<&str>) -> Result<String, FieldError> {
        value.map(str::to_owned).ok_or(FieldError::Missing(name))
    }
    fn write(&self, name: &'static str, fields: &mut ExtFields) {
        fields.set(name, self.as_str());
    }
}

/// Java parses booleans as "equals true, ignoring case", and a missing primitive is `false`.
impl FieldValue for bool {
    fn read(_: &'static str, value: Option<&str>) -> Result<bool, FieldError> {
        Ok(value.is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1"))
    }
    fn write(&self, name: &'static str, fields: &mut ExtFields) {
        fields.set(name, if *self { "true" } else { "false" });
    }
}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl FieldValue for $number {
            fn read(name: &'static str, value: Option<&str>) -> Result<$number, FieldError> {
                let text = value.ok_or(FieldError::Missing(name))?;
                text.parse().map_err(|_| FieldError::Malformed { name, value: shortened(text) })
            }
            fn write(&self, name: &'static str, fields: &mut ExtFields) {
                fields.set(name, self.to_string());
            }
        }
    )*};
}
number_fields!(i32, i64, f64);

/// What cannot be read is as good as missing, as it is to the original.
impl<T: FieldValue> FieldValue for Option<T> {
    fn read(name: &'static str, value: Option<&str>) -> Result<Option<T>, FieldError> {
        Ok(value.and_then(|text| T::read(name, Some(text)).ok()))
    }
    fn write(&self, name: &'static str, fields: &mut ExtFields) {
        if let Some(value) = self {
            value.write(name, fields);
        }
    }
}

/// Enough of a bad value to recognise it in an error message.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Declares a typed header: each field with its type and its name on the wire.
#[macro_export]
macro_rules! field_set {
    ($( $(#[$meta:meta])* $vis:vis struct $name:ident { $( $(#[$field_meta:meta])* $field:ident: $ty:ty = $wire:literal, )* } )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default)]
        $vis struct $name { $( $(#[$field_meta])* pub $field: $ty, )* }

        impl $crate::FieldSet for $name {
            const NAMES: &'static [&'static str] = &[ $( $wire, )* ];

            fn read(fields: &$crate::ExtFields) -> Result<Self, $crate::FieldError> {
                Ok($name { $( $field: $crate::ext_fields::FieldValue::read($wire, fields.get($wire))?, )* })
            }
            fn write(&self, fields: &mut $crate::ExtFields) {
                $( $crate::ext_fields::FieldValue::write(&self.$field, $wire, fields); )*
            }
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::*;

    field_set! {
        struct Sample {
            group: String = "consumerGroup",
            queue_id: i32 = "queueId",
            zero: Option<bool> = "setZeroIfNotFound",
            lo: bool = "lo",
        }
    }

    #[test]
    fn typed_headers_survive_their_text() {
        let sample = Sample {
            group: "g".into(),
            queue_id: -1,
            zero: None,
            lo: true,
        };
        assert_eq!(Sample::read(&ExtFields::of(&sample)), Ok(sample));
    }

    #[test]
    fn a_bad_field_is_named() {
        let fields: ExtFields = [("consumerGroup", "g"), ("queueId", "9999999999")]
            .into_iter()
            .collect();
        assert_eq!(
            Sample::read(&fields),
            Err(FieldError::Malformed {
                name: "queueId",
                value: "9999999999".into()
            })
        );
        assert_eq!(
            Sample::read(&ExtFields::new()),
            Err(FieldError::Missing("consumerGroup"))
        );
    }
}
