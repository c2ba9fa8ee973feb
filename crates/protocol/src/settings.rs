//! The settings of a role, declared once with [`settings!`](crate::settings!): RocketMQ's key, Rust type, default,
//! unit, range, and the doc comment that is also the documentation. From the table derive parsing of properties
//! files, command-line overrides, live changes, `-p` and `-m`, the text of codes 26 and 319, and
//! `docs/configuration.md`.
//!
//! ```
//! use oxmq_protocol::settings::{self, Settings};
//!
//! oxmq_protocol::setting_enum! {
//!     /// Who waits for the disk.
//!     pub enum FlushDiskType { AsyncFlush = "ASYNC_FLUSH", SyncFlush = "SYNC_FLUSH" }
//! }
//!
//! oxmq_protocol::settings! {
//!     /// Settings of a broker.
//!     pub struct BrokerConfig {
//!         /// When a send is acknowledged: after memory has it, or after the disk has it.
//!         flush_disk_type: FlushDiskType = "flushDiskType" => FlushDiskType::AsyncFlush, important();
//!         /// How often consumer offsets are saved.
//!         flush_consumer_offset_interval_ms: u64 = "flushConsumerOffsetInterval" => 5_000, unit("ms"), range(10..=3_600_000), live();
//!         /// Root of all files. `shown` is what the documentation says instead of this machine's default.
//!         store_path_root_dir: String = "storePathRootDir" => "/home/me/store".into(), shown("$HOME/store");
//!         /// Unset unless given: absent from `-p` and code 26.
//!         namesrv_addr: Option<String> = "namesrvAddr" => None, important(), live();
//!     }
//!     // RocketMQ's keys that are accepted with a warning, by the reason why they do nothing.
//!     without_effect: "there is no access control yet" => "aclEnable", "globalWhiteAddrs";
//! }
//!
//! let mut config = BrokerConfig::default();
//! let warnings = config.load("broker.conf", b"flushDiskType=SYNC_FLUSH\naclEnable=true\n")?;
//! assert_eq!(config.flush_disk_type, FlushDiskType::SyncFlush);
//! assert_eq!(warnings[0].to_string(), "broker.conf:2: aclEnable has no effect: there is no access control yet");
//! assert!(config.load("broker.conf", b"flushConsumerOffsetInterval=5s").unwrap_err().to_string().starts_with("broker.conf:1: "));
//! config.set("namesrvAddr", "127.0.0.1:9876")?; // command-line override
//! assert!(config.text().contains("flushConsumerOffsetInterval=5000\n")); // -p, code 26
//! # Ok::<(), settings::SettingError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use thiserror::Error;

use crate::properties_file::{self, Property};

/// One row of a role's table.
#[derive(Debug, Clone)]
pub struct Setting {
    /// RocketMQ's key.
    pub key: &'static str,
    /// What `-p` would call the type: `int`, `long`, `boolean`, `String`, or the names of an enum.
    pub type_name: &'static str,
    pub doc: &'static str,
    pub unit: &'static str,
    pub range: Option<RangeInclusive<i64>>,
    /// The default in the documentation where the real one depends on the machine.
    pub shown: Option<&'static str>,
    /// A change at run time takes effect at once. Others are saved and take effect at the next start.
    pub live: bool,
    /// Never changed over the network: paths, addresses, commands.
    pub local: bool,
    /// Printed by `-m`.
    pub important: bool,
    /// Never printed, nor told over the network.
    pub secret: bool,
}

impl Setting {
    pub const fn new(key: &'static str, type_name: &'static str, doc: &'static str) -> Setting {
        Setting {
            key,
            type_name,
            doc,
            unit: "",
            range: None,
            shown: None,
            live: false,
            local: false,
            important: false,
            secret: false,
        }
    }

    pub const fn unit(mut self, unit: &'static str) -> Setting {
        self.unit = unit;
        self
    }

    pub const fn range(mut self, range: RangeInclusive<i64>) -> Setting {
        self.range = Some(range);
        self
    }

    pub const fn shown(mut self, default: &'static str) -> Setting {
        self.shown = Some(default);
        self
    }

    pub const fn live(mut self) -> Setting {
        self.live = true;
        self
    }

    pub const fn local(mut self) -> Setting {
        self.local = true;
        self
    }

    pub const fn important(mut self) -> Setting {
        self.important = true;
        self
    }

    pub const fn secret(mut self) -> Setting {
        self.secret = true;
        self
    }

    /// The value as it may be shown.
    fn shown_text(&self, text: String) -> String {
        if self.secret { HIDDEN.into() } else { text }
    }

    /// Whether a request from the network may change it. Text is where paths, addresses and class names hide,
    /// so text must be declared live to be changeable.
    pub fn is_remote(&self) -> bool {
        !self.local && (self.live || self.type_name != "String")
    }
}

/// What is shown instead of a secret.
pub const HIDDEN: &str = "******";

/// Whether the value of a key that is not declared looks like something to keep: other versions and tools have passwords,
/// key pairs and headers for authorization in the same files.
pub fn names_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = [
        "secret",
        "password",
        "passwd",
        "accesskey",
        "token",
        "credential",
        "authenticationuser",
        "exporterheader",
    ];
    words.iter().any(|word| key.contains(word))
}

/// Why a setting was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{key}: {reason}", prefix(.place))]
pub struct SettingError {
    /// `file:line`, empty for values that come from elsewhere.
    pub place: String,
    pub key: String,
    pub reason: String,
}

/// Something in a file that was accepted without effect.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingWarning {
    #[error("{}{key} has no effect: {why}", prefix(.place))]
    WithoutEffect {
        place: String,
        key: String,
        why: &'static str,
    },
    #[error("{}{key} is not a known setting", prefix(.place))]
    Unknown { place: String, key: String },
}

/// Why a change from the network was refused. Nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UpdateError {
    #[error("{0} cannot be changed remotely")]
    NotRemote(String),
    #[error(transparent)]
    Bad(#[from] SettingError),
}

fn prefix(place: &str) -> String {
    if place.is_empty() {
        String::new()
    } else {
        format!("{place}: ")
    }
}

/// Text that a setting of a type cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{text}\" is not {expected}")]
pub struct BadValue {
    pub text: String,
    pub expected: String,
}

/// A type that a setting may have.
pub trait SettingValue: Sized {
    const TYPE_NAME: &'static str;
    fn parse(text: &str) -> Result<Self, BadValue>;
    /// `None` when there is no value to show.
    fn text(&self) -> Option<String>;
    /// For the check of the range.
    fn number(&self) -> Option<i64> {
        None
    }
}

/// The settings of a role. [`settings!`](crate::settings!) writes the required methods.
pub trait Settings: Default + Clone {
    /// Every setting, in the order of declaration.
    const TABLE: &'static [Setting];
    /// RocketMQ's keys that do nothing, by the reason why.
    const WITHOUT_EFFECT: &'static [(&'static str, &'static [&'static str])];

    /// Sets row `index` of the table without checking its range.
    fn set_row(&mut self, index: usize, text: &str) -> Result<Option<i64>, BadValue>;
    fn row_text(&self, index: usize) -> Option<String>;
    /// Keys of files that have no effect, as given: they are shown again where RocketMQ shows them.
    fn others(&mut self) -> &mut BTreeMap<String, String>;
    fn others_ref(&self) -> &BTreeMap<String, String>;

    /// Sets one value, checked. An error leaves the old one.
    fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let error = |reason: String| SettingError {
            place: String::new(),
            key: key.to_owned(),
            reason,
        };
        let Some(index) = Self::index_of(key) else {
            return Err(error("is not a known setting".into()));
        };
        let mut changed = self.clone();
        let number = changed
            .set_row(index, value.trim())
            .map_err(|bad| error(bad.to_string()))?;
        if let (Some(range), Some(number)) = (&Self::TABLE[index].range, number)
            && !range.contains(&number)
        {
            let unit = Self::TABLE[index].unit;
            let (low, high) = (range.start(), range.end());
            return Err(error(
                format!("{number} is not between {low} and {high} {unit}")
                    .trim_end()
                    .into(),
            ));
        }
        *self = changed;
        Ok(())
    }

    /// Applies a properties file. `name` is for messages. An error leaves everything as it was.
    fn load(&mut self, name: &str, file: &[u8]) -> Result<Vec<SettingWarning>, SettingError> {
        let mut changed = self.clone();
        let mut warned = BTreeSet::new();
        let mut warnings = Vec::new();
        for Property { key, value, line } in properties_file::parse(file) {
            let place = format!("{name}:{line}");
            if Self::index_of(&key).is_some() {
                changed
                    .set(&key, &value)
                    .map_err(|error| SettingError { place, ..error })?;
                continue;
            }
            changed.others().insert(key.clone(), value);
            if warned.insert(key.clone()) {
                warnings.push(match Self::why_without_effect(&key) {
                    Some(why) => SettingWarning::WithoutEffect { place, key, why },
                    None => SettingWarning::Unknown { place, key },
                });
            }
        }
        *self = changed;
        Ok(warnings)
    }

    /// Applies a change that came over the network, all or nothing. Unknown keys are ignored, as in RocketMQ;
    /// `black_list` names more keys that may not change, separated by `;`. Returns the keys whose values are new.
    fn update(&mut self, properties: &[u8], black_list: &str) -> Result<Vec<&'static str>, UpdateError> {
        let mut changed = self.clone();
        for Property { key, value, .. } in properties_file::parse(properties) {
            if black_list.split(';').any(|listed| listed.trim() == key) {
                return Err(UpdateError::NotRemote(key));
            }
            let Some(index) = Self::index_of(&key) else { continue };
            if !Self::TABLE[index].is_remote() {
                return Err(UpdateError::NotRemote(key));
            }
            changed.set(&key, &value)?;
        }
        let differs = |index: &usize| changed.row_text(*index) != self.row_text(*index);
        let keys = (0..Self::TABLE.len())
            .filter(differs)
            .map(|index| Self::TABLE[index].key)
            .collect();
        *self = changed;
        Ok(keys)
    }

    /// Every setting that has a value, with its text, in the order of declaration.
    fn entries(&self) -> Vec<(&'static Setting, String)> {
        let rows = Self::TABLE.iter().enumerate();
        rows.filter_map(|(index, setting)| Some((setting, self.row_text(index)?)))
            .collect()
    }

    /// `key=value` lines sorted by key, keys without effect among them: `-p`, and the bodies of codes 26 and 319.
    fn text(&self) -> String {
        let others = self.others_ref().iter();
        let others = others.map(|(key, value)| match names_secret(key) {
            true => (key.clone(), HIDDEN.to_owned()),
            false => (key.clone(), value.clone()),
        });
        let mut lines: BTreeMap<String, String> = others.collect();
        lines.extend(
            self.entries()
                .into_iter()
                .map(|(setting, text)| (setting.key.to_owned(), setting.shown_text(text))),
        );
        lines.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// `key=value` lines of the important settings: `-m`.
    fn important_text(&self) -> String {
        let entries = self.entries().into_iter();
        entries
            .filter(|(setting, _)| setting.important)
            .map(|(setting, text)| format!("{}={}\n", setting.key, setting.shown_text(text)))
            .collect()
    }

    /// The file that [`load`](Settings::load) and Java read back as these settings.
    fn to_properties(&self) -> String {
        let mut pairs: BTreeMap<&str, String> = BTreeMap::new();
        pairs.extend(
            self.others_ref()
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone())),
        );
        pairs.extend(self.entries().into_iter().map(|(setting, text)| (setting.key, text)));
        properties_file::write(pairs.iter().map(|(key, value)| (*key, value.as_str())))
    }

    /// The table as a section of `docs/configuration.md`.
    fn markdown() -> String {
        let defaults = Self::default();
        let mut out = String::from(
            "| Key | Type | Default | Unit | Range | Changes | Meaning |\n|---|---|---|---|---|---|---|\n",
        );
        for (index, setting) in Self::TABLE.iter().enumerate() {
            let default = match setting.shown {
                Some(shown) => shown.to_owned(),
                None => defaults.row_text(index).map_or("–".into(), |text| format!("`{text}`")),
            };
            let default = if default == "``" { "empty".into() } else { default };
            let range = setting
                .range
                .as_ref()
                .map_or(String::new(), |range| match (*range.start(), *range.end()) {
                    (low, i64::MAX) => format!("≥ {low}"),
                    (low, high) => format!("{low} – {high}"),
                });
            let changes = match (setting.live, setting.is_remote()) {
                (true, true) => "live",
                (_, true) => "at restart",
                (_, false) => "in the file only",
            };
            let Setting {
                key, type_name, unit, ..
            } = setting;
            let doc = setting.doc.split_whitespace().collect::<Vec<_>>().join(" ");
            out.push_str(&format!(
                "| `{key}` | {type_name} | {default} | {unit} | {range} | {changes} | {doc} |\n"
            ));
        }
        if !Self::WITHOUT_EFFECT.is_empty() {
            out.push_str("\nAccepted with a warning, without effect:\n\n| because | keys |\n|---|---|\n");
        }
        for (why, keys) in Self::WITHOUT_EFFECT {
            let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
            out.push_str(&format!("| {why} | {} |\n", keys.join(", ")));
        }
        out
    }

    /// Why a key of RocketMQ does nothing; `None` for keys that do something, and for unknown ones.
    fn why_without_effect(key: &str) -> Option<&'static str> {
        let reasons = Self::WITHOUT_EFFECT.iter();
        let mut with_key = reasons.filter(|(_, keys)| keys.contains(&key));
        with_key.next().map(|(why, _)| *why)
    }

    fn index_of(key: &str) -> Option<usize> {
        Self::TABLE.iter().position(|setting| setting.key == key)
    }
}

macro_rules! whole_numbers {
    ($($number:ty = $java:literal),*) => {$(
        impl SettingValue for $number {
            const TYPE_NAME: &'static str = $java;
            fn parse(text: &str) -> Result<$number, BadValue> {
                text.parse().map_err(|_| {
                    let expected = match text.parse::<i128>() {
                        Ok(_) => format!("between {} and {}", <$number>::MIN, <$number>::MAX),
                        Err(_) => "a whole number".into(),
                    };
                    BadValue { text: text.to_owned(), expected }
                })
            }
            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }
            fn number(&self) -> Option<i64> {
                Some(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )*};
}
whole_numbers!(
    i32 = "int",
    u16 = "int",
    u32 = "int",
    i64 = "long",
    u64 = "long",
    usize = "long"
);

/// Java takes everything but `true` for false; here what is neither is refused.
impl SettingValue for bool {
    const TYPE_NAME: &'static str = "boolean";
    fn parse(text: &str) -> Result<bool, BadValue> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(BadValue {
                text: text.to_owned(),
                expected: "true or false".into(),
            }),
        }
    }
    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for String {
    const TYPE_NAME: &'static str = "String";
    fn parse(text: &str) -> Result<String, BadValue> {
        Ok(text.to_owned())
    }
    fn text(&self) -> Option<String> {
        Some(self.clone())
    }
}

/// Unset, or a value. Empty text means unset.
impl<T: SettingValue> SettingValue for Option<T> {
    const TYPE_NAME: &'static str = T::TYPE_NAME;
    fn parse(text: &str) -> Result<Option<T>, BadValue> {
        (!text.is_empty()).then(|| T::parse(text)).transpose()
    }
    fn text(&self) -> Option<String> {
        self.as_ref().and_then(T::text)
    }
    fn number(&self) -> Option<i64> {
        self.as_ref().and_then(T::number)
    }
}

/// Declares a role's settings, see the [module](crate::settings). Each row is
/// `field: Type = "rocketmqKey" => default, unit("ms"), range(1..=10), shown("text"), live(), local(), important();`
/// or `secret()`, with any of the options, in any order.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $ty:ty = $key:literal => $default:expr $(, $option:ident($($argument:expr)?))*; )*
        }
        without_effect: $( $why:literal => $($idle:literal),+; )*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
            /// Keys of files that have no effect, as given.
            pub others: ::std::collections::BTreeMap<String, String>,
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $default, )* others: Default::default() }
            }
        }

        impl $crate::settings::Settings for $name {
            const TABLE: &'static [$crate::settings::Setting] = &[ $(
                $crate::settings::Setting::new(
                    $key,
                    <$ty as $crate::settings::SettingValue>::TYPE_NAME,
                    concat!($($doc),+),
                ) $(.$option($($argument)?))*,
            )* ];
            const WITHOUT_EFFECT: &'static [(&'static str, &'static [&'static str])] =
                &[ $( ($why, &[ $($idle),+ ]) ),* ];

            fn set_row(&mut self, index: usize, text: &str) -> Result<Option<i64>, $crate::settings::BadValue> {
                let mut row = 0;
                $(
                    if index == row {
                        self.$field = $crate::settings::SettingValue::parse(text)?;
                        return Ok($crate::settings::SettingValue::number(&self.$field));
                    }
                    row += 1;
                )*
                unreachable!("the table has {row} rows, not {index}")
            }

            fn row_text(&self, index: usize) -> Option<String> {
                let mut row = 0;
                $(
                    if index == row {
                        return $crate::settings::SettingValue::text(&self.$field);
                    }
                    row += 1;
                )*
                unreachable!("the table has {row} rows, not {index}")
            }

            fn others(&mut self) -> &mut ::std::collections::BTreeMap<String, String> {
                &mut self.others
            }

            fn others_ref(&self) -> &::std::collections::BTreeMap<String, String> {
                &self.others
            }
        }
    };
}

/// Declares an enum whose constants have RocketMQ's names, and perhaps its numbers, for use as the type of a setting.
#[macro_export]
macro_rules! setting_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal $(| $number:literal)? ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $( $(#[$variant_meta])* $variant ),+ }

        impl $crate::settings::SettingValue for $name {
            const TYPE_NAME: &'static str = $crate::setting_enum!(@names $($text),+);
            fn parse(text: &str) -> Result<Self, $crate::settings::BadValue> {
                match text {
                    $( $text $(| $number)? => Ok($name::$variant), )+
                    _ => Err($crate::settings::BadValue {
                        text: text.to_owned(),
                        expected: format!("one of {}", Self::TYPE_NAME),
                    }),
                }
            }
            fn text(&self) -> Option<String> {
                Some(match self { $( $name::$variant => $text ),+ }.to_owned())
            }
        }
    };
    (@names $first:literal $(, $more:literal)*) => { concat!($first $(, ", ", $more)*) };
}

#[cfg(test)]
mod tests;
