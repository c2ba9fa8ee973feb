//! Members that clients in other languages write differently: numbers as text, enums by ordinal.

use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};

/// A scalar as it may stand in the place of another.
#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Whole(i64),
    Real(f64),
    Text(String),
}

impl Scalar {
    fn whole<T: TryFrom<i64> + FromStr>(self) -> Option<T> {
        match self {
            Scalar::Whole(number) => number.try_into().ok(),
            Scalar::Real(number) if number.fract() == 0.0 => (number as i64).try_into().ok(),
            Scalar::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

/// For `deserialize_with`: a whole number, or text that is one.
pub(crate) fn number<'de, D: Deserializer<'de>, T: TryFrom<i64> + FromStr>(deserializer: D) -> Result<T, D::Error> {
    Scalar::deserialize(deserializer)?
        .whole()
        .ok_or_else(|| D::Error::custom("a whole number was expected"))
}

/// For `deserialize_with`: a list of what [`number`] reads.
pub(crate) fn numbers<'de, D, T, C>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + FromStr,
    C: FromIterator<T>,
{
    Vec::<Scalar>::deserialize(deserializer)?
        .into_iter()
        .map(Scalar::whole)
        .collect::<Option<C>>()
        .ok_or_else(|| D::Error::custom("a list of whole numbers was expected"))
}

/// Declares an enum that travels by name and is also understood by ordinal, as C++ clients write it. A value that is
/// unknown reads as the first variant, the default.
macro_rules! text_enum {
    ($( $(#[$meta:meta])* $vis:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )* } )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        $vis enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $name {
            const ALL: &'static [$name] = &[ $( $name::$variant, )* ];

            pub fn name(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }

            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let scalar = <$crate::json::Scalar as serde::Deserialize>::deserialize(deserializer)?;
                Ok(scalar.choose(|name| $name::from_name(name), $name::ALL).unwrap_or_default())
            }
        }
    )*};
}
pub(crate) use text_enum;

impl Scalar {
    /// The value of an enum that the scalar names or counts.
    pub(crate) fn choose<T: Copy>(self, by_name: impl Fn(&str) -> Option<T>, all: &[T]) -> Option<T> {
        match self {
            Scalar::Text(name) => by_name(&name),
            other => other.whole::<usize>().and_then(|ordinal| all.get(ordinal).copied()),
        }
    }
}
