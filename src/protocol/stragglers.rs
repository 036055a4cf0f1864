//! The straggler tolerance of a coded protocol: a number, or chosen for the network.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};

/// Straggler tolerance s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stragglers {
    /// This one.
    Count(usize),
    /// 7, or with fewer than 9 clients the largest with which no client decodes alone.
    Default,
    /// The one that [`crate::plan::resolve`] chooses.
    Auto,
}

impl Stragglers {
    /// The number among so many clients.
    ///
    /// # Errors
    /// A choice that has not been made.
    pub fn count(self, clients: usize) -> Result<usize> {
        match self {
            Self::Count(stragglers) => Ok(stragglers),
            Self::Default => Ok(clients.saturating_sub(2).min(7)),
            Self::Auto => Err(Error::config("stragglers", "\"auto\" has not been resolved for a network")),
        }
    }
}

impl From<usize> for Stragglers {
    fn from(stragglers: usize) -> Self {
        Self::Count(stragglers)
    }
}

impl Serialize for Stragglers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(stragglers) => stragglers.serialize(serializer),
            Self::Default => "default".serialize(serializer),
            Self::Auto => "auto".serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stragglers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Stragglers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 on, \"default\" or \"auto\"")
            }

            fn visit_u64<E: de::Error>(self, s: u64) -> Result<Stragglers, E> {
                usize::try_from(s).map(Stragglers::Count).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, s: i64) -> Result<Stragglers, E> {
                let count = usize::try_from(s);
                count.map(Stragglers::Count).map_err(|_| E::invalid_value(de::Unexpected::Signed(s), &self))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Stragglers, E> {
                match word {
                    "auto" => Ok(Stragglers::Auto),
                    "default" => Ok(Stragglers::Default),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl schemars::JsonSchema for Stragglers {
    fn schema_name() -> Cow<'static, str> {
        "Stragglers".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "default" }, { "const": "auto" }] })
    }
}
