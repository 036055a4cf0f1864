//! What of a configuration may change when a run goes on.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::choice::lies_in;

/// What rounds that were played before depend on, as later ones do: with another value the tables would mix
/// two runs.
const FIXED: [&str; 15] = [
    "seed",
    "clients",
    "data",
    "partition",
    "model",
    "network",
    "devices",
    "cohort",
    "participation",
    "compression",
    "protocol",
    "solver.kind",
    "server.kind",
    "outage.policy",
    "privacy.release",
];

/// A part of what is fixed that says only where things lie.
const PLACES: [&str; 1] = ["data.dir"];

/// One key of a configuration that was changed when a run went on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The rounds that were played before.
    pub after: u64,
    /// The dotted key.
    pub key: String,
    /// What it was; absent where it was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Value>,
    /// What it is; absent where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Value>,
}

/// The keys in which two configurations differ, TOML both; nothing where one is none.
#[must_use]
pub fn changes(was: &str, is: &str) -> Vec<Change> {
    let mut found = Vec::new();
    if let (Ok(was), Ok(is)) = (was.parse(), is.parse()) {
        compare("", &was, &is, &mut found);
    }
    found
}

fn compare(section: &str, was: &Table, is: &Table, found: &mut Vec<Change>) {
    let new = is.keys().filter(|key| !was.contains_key(*key));
    for key in was.keys().chain(new) {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match (was.get(key), is.get(key)) {
            (Some(Value::Table(was)), Some(Value::Table(is))) => compare(&path, was, is, found),
            // By their text, in which what is not a number is equal to itself.
            (was, is) if was.map(Value::to_string) != is.map(Value::to_string) => {
                found.push(Change { after: 0, key: path, was: was.cloned(), is: is.cloned() });
            }
            _ => {}
        }
    }
}

/// Why a run cannot go on with these changes, if it cannot.
#[must_use]
pub fn refused(changes: &[Change]) -> Option<String> {
    let fixed = |key: &str| {
        FIXED.iter().any(|section| lies_in(key, section)) && !PLACES.iter().any(|place| lies_in(key, place))
    };
    let Change { key, was, is, .. } = changes.iter().find(|change| fixed(&change.key))?;
    let say = |value: &Option<Value>| value.as_ref().map_or_else(|| "unset".into(), Value::to_string);
    Some(format!(
        "{key}: the run was played with {}, not with {}, and its tables would mix both; write the former value, or start a new run",
        say(was),
        say(is)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_key() {
        let found = changes(
            "rounds = 3\n[solver]\nkind = \"sgd\"\nclip_norm = 1.0\n[data]\ndir = \"a\"",
            "rounds = 9\n[solver]\nkind = \"sgd\"\nmomentum = 0.5\n[data]\ndir = \"b\"",
        );
        let keys: Vec<&str> = found.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["rounds", "solver.clip_norm", "solver.momentum", "data.dir"]);
        assert!(found[1].is.is_none() && found[2].was.is_none());
        assert_eq!(refused(&found), None);
    }

    #[test]
    fn what_earlier_rounds_depend_on_cannot_change() {
        for (was, is, key) in [
            ("seed = 1", "seed = 2", "seed"),
            (
                "[network.client_server]\nerasure = 0.1",
                "[network.client_server]\nerasure = 0.2",
                "network.client_server.erasure",
            ),
            ("[solver]\nkind = \"sgd\"", "[solver]\nkind = \"scaffold\"", "solver.kind"),
        ] {
            let line = refused(&changes(was, is)).unwrap();
            assert!(line.starts_with(&format!("{key}: the run was played with ")), "{line}");
        }
        // A key that only begins alike.
        assert_eq!(refused(&changes("datum = 1", "datum = 2")), None);
    }
}
