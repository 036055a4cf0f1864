//! Configuration sections that are chosen by one of their own keys, and where an error inside one is.

use crate::error::short;

/// Marks the start of a path inside an error message, so that outer levels can prepend theirs.
const PATH_MARK: char = '\u{1}';

/// Whether a dotted key is that of a section or value, or lies in it.
pub(crate) fn lies_in(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A message of the deserialiser in the words of the configuration.
pub(crate) fn readable(problem: &str) -> String {
    let problem =
        problem.trim_start_matches(PATH_MARK).replace("unknown field", "unknown key").replace('\n', " ");
    let Some((before, expected)) = problem.rsplit_once(", expected ") else { return problem };
    let found = before.replace("floating point `", "number `").replace(": integer `", ": whole number `");
    let found = found.replace(": sequence", ": list").replace(": map", ": section");
    format!("{}, expected {}", short(&found), in_words(expected))
}

/// What Rust calls a type, as its values are called.
fn in_words(expected: &str) -> String {
    let word = match expected.trim() {
        "u64" | "usize" => "a whole number from 0 on",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "i64" | "i32" | "isize" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "a list",
        "a map" => "a section",
        other => match other.strip_prefix("struct ") {
            Some(_) => "a section",
            None => other,
        },
    };
    word.to_owned()
}

/// Declares a configuration section that is chosen by one of its own keys.
///
/// Each variant holds a struct that derives `Serialize`, `Deserialize` (with `deny_unknown_fields`),
/// `JsonSchema` and `Default`; the struct lives in the file that implements the choice, so a new protocol,
/// link model, partition, solver or model is one file and one line in a `choice!` list. Unlike serde's own
/// internally tagged enums, a wrong value is reported with the key that holds it. `by "kind" or "x"` makes
/// the choosing key optional; `as rule: Rule` says that every struct implements the trait `Rule`, and makes a
/// method `rule` of it; `as rule / rule_mut: Rule` one that allows changes, too.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident by $tag:literal $(or $otherwise:literal)? $(as $dispatch:ident $(/ $mutable:ident)?: $face:ident)? { $($(#[$vdoc:meta])* $kind:literal => $variant:ident($inner:ty)),+ $(,)? }) => {
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

        $crate::choice::dispatch! { $name [$($variant)+] $($dispatch $face $($mutable)?)? }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (kind, rest) = $crate::choice::split_tag(deserializer, $tag, Self::KINDS, &[$($otherwise)?])?;
                match kind.as_str() {
                    $($kind => $crate::choice::typed::<$inner>(rest)
                        .map(Self::$variant)
                        .map_err(serde::de::Error::custom),)+
                    _ => unreachable!("split_tag accepts only the listed kinds"),
                }
            }
        }
    };
}

pub(crate) use choice;

/// The face that all variants share, where a choice names one.
macro_rules! dispatch {
    ($name:ident [$($variant:ident)+]) => {};
    ($name:ident [$($variant:ident)+] $dispatch:ident $face:ident $($mutable:ident)?) => {
        impl $name {
            /// What all kinds have in common.
            #[must_use]
            pub fn $dispatch(&self) -> &(dyn $face + 'static) {
                match self { $(Self::$variant(config) => config),+ }
            }
        }

        $crate::choice::mutably! { $name [$($variant)+] $face $($mutable)? }

        impl From<$name> for std::sync::Arc<dyn $face> {
            fn from(chosen: $name) -> Self {
                match chosen { $($name::$variant(config) => std::sync::Arc::new(config)),+ }
            }
        }
    };
}
pub(crate) use dispatch;

/// The same, to be changed.
macro_rules! mutably {
    ($name:ident [$($variant:ident)+] $face:ident) => {};
    ($name:ident [$($variant:ident)+] $face:ident $mutable:ident) => {
        impl $name {
            /// What all kinds have in common, to be changed.
            #[must_use]
            pub fn $mutable(&mut self) -> &mut (dyn $face + 'static) {
                match self { $(Self::$variant(config) => config),+ }
            }
        }
    };
}
pub(crate) use mutably;

/// Takes the choosing key out of a table, or the kind that stands for its absence; errors name the accepted
/// values.
pub(crate) fn split_tag<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    tag: &str,
    kinds: &[&str],
    otherwise: &[&str],
) -> Result<(String, toml::Table), D::Error> {
    use serde::{Deserialize, de::Error};
    let mut table = toml::Table::deserialize(deserializer)?;
    let one_of = kinds.join(", ");
    match (table.remove(tag), otherwise) {
        (None, &[kind]) => Ok((kind.to_owned(), table)),
        (None, _) => Err(Error::custom(format!("missing key `{tag}`; set it to one of {one_of}"))),
        (Some(toml::Value::String(kind)), _) if kinds.contains(&kind.as_str()) => Ok((kind, table)),
        (Some(other), _) => Err(Error::custom(format!("\u{1}{tag}: {other} is not one of {one_of}"))),
    }
}

/// Deserializes a table and prefixes its error with the path of the offending key. The prefix starts with
/// U+0001, which [`key_error`] joins to the outer path.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let message = inner.message().trim();
        match (path.as_str(), message.strip_prefix('\u{1}')) {
            (".", None) => message.to_owned(),
            (".", Some(_)) => message.to_owned(),
            (path, None) => format!("\u{1}{path}: {message}"),
            (path, Some(inner)) => format!("\u{1}{path}.{inner}"),
        }
    })
}
