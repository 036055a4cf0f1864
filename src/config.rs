//! Configuration: what was typed (TOML) → what is valid.

/// Declares a configuration section that is chosen by one of its own keys.
///
/// Each variant holds a struct that derives `Serialize`, `Deserialize` (with `deny_unknown_fields`),
/// `JsonSchema` and `Default`; the struct lives in the file that implements the choice, so a new protocol,
/// link model, partition, solver or model is one file and one line in a `choice!` list. Unlike serde's own
/// internally tagged enums, a wrong value is reported with the key that holds it.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident by $tag:literal { $($(#[$vdoc:meta])* $kind:literal => $variant:ident($inner:ty)),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(tag = $tag)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $kind)] $variant($inner)),+
        }

        impl $name {
            /// Every accepted value of the choosing key.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The value of the choosing key.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind),+ }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (kind, rest) = $crate::config::split_tag(deserializer, $tag, Self::KINDS)?;
                match kind.as_str() {
                    $($kind => $crate::config::typed::<$inner>(rest)
                        .map(Self::$variant)
                        .map_err(serde::de::Error::custom),)+
                    _ => unreachable!("split_tag accepts only the listed kinds"),
                }
            }
        }
    };
}
pub(crate) use choice;

/// Takes the choosing key out of a table; errors name the accepted values.
pub(crate) fn split_tag<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    tag: &str,
    kinds: &[&str],
) -> Result<(String, toml::Table), D::Error> {
    use serde::{Deserialize, de::Error};
    let mut table = toml::Table::deserialize(deserializer)?;
    let one_of = kinds.join(", ");
    match table.remove(tag) {
        None => Err(Error::custom(format!("missing key `{tag}`; set it to one of {one_of}"))),
        Some(toml::Value::String(kind)) if kinds.contains(&kind.as_str()) => Ok((kind, table)),
        Some(other) => Err(Error::custom(format!("\u{1}{tag}: {other} is not one of {one_of}"))),
    }
}

/// Deserializes a table and prefixes its error with the path of the offending key. The prefix starts with
/// U+0001, which [`key_error`] joins to the outer path.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let message = message.trim();
        match (path.as_str(), message.strip_prefix('\u{1}')) {
            (".", None) => message.to_owned(),
            (".", Some(_)) => message.to_owned(),
            (path, None) => format!("\u{1}{path}: {message}"),
            (path, Some(inner)) => format!("\u{1}{path}.{inner}"),
        }
    })
}
