//! `seccogc config new`: a file to start from, every key in it with its default and meaning.

use std::fmt::Write as _;

use serde_json::Value;

use super::Config;
use super::explain::{kind_of, one_line, range_of, schema, text, variants};
use crate::error::{Error, Result};

/// Longest line.
const WIDTH: usize = 100;

/// What is said first.
const HEAD: &str = "\
# A configuration of seccogc. Every key has the value that it has without this file: a line that begins with
# `#` and a key comes into force when the `#` is taken away. `seccogc config explain SECTION` says more, also
# of the keys of other kinds. Paths are relative to this file.
";

/// A configuration file with all defaults, as comments but for the first few keys.
///
/// # Errors
/// Only defects.
pub fn template() -> Result<String> {
    let defaults = toml::Table::try_from(Config::default())
        .map_err(|error| Error::Refused(format!("the configuration has no TOML form: {error}")))?;
    let schema = schema();
    let mut out = HEAD.to_owned();
    let (sections, keys): (Vec<_>, Vec<_>) =
        properties(&schema).partition(|(key, _)| defaults.get(*key).is_none_or(|default| default.is_table()));
    for (key, property) in keys {
        describe(&mut out, property);
        let _ = writeln!(out, "{key} = {}", defaults[key]);
    }
    for (key, property) in sections {
        // Lists of further runs have no default to show.
        if let Some(toml::Value::Table(default)) = defaults.get(key) {
            section(&mut out, key, property, default);
        }
    }
    Ok(out)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// A section and those below it.
fn section(out: &mut String, path: &str, schema: &Value, default: &toml::Table) {
    let _ = writeln!(out);
    wrap(out, &one_line(text(schema, "description")));
    let _ = writeln!(out, "#[{path}]");
    let mut own = schema;
    if let Some((tag, kinds)) = variants(schema) {
        let chosen = default.get(tag).and_then(toml::Value::as_str).unwrap_or_default();
        let name = |kind: &Value| kind["properties"][tag]["const"].as_str().unwrap_or_default().to_owned();
        wrap(out, &format!("{tag}: {}", kinds.iter().map(name).collect::<Vec<_>>().join(", ")));
        let _ = writeln!(out, "#{tag} = \"{chosen}\"");
        own = kinds.iter().find(|kind| name(kind) == chosen).unwrap_or(schema);
    }
    let mut below = Vec::new();
    for (key, property) in properties(own) {
        match default.get(key) {
            Some(toml::Value::Table(inner)) => below.push((key, property, inner)),
            // The kind stands above.
            Some(_) if property.get("const").is_some() => {}
            Some(value) => {
                describe(out, property);
                let _ = writeln!(out, "#{key} = {value}");
            }
            None => {
                let what = format!("{key} ({}{}), unset: ", kind_of(property), range_of(property));
                wrap(out, &(what + &one_line(text(property, "description"))));
            }
        }
    }
    for (key, property, inner) in below {
        section(out, &format!("{path}.{key}"), property, inner);
    }
}

fn describe(out: &mut String, property: &Value) {
    let what =
        format!("{} ({}{})", one_line(text(property, "description")), kind_of(property), range_of(property));
    wrap(out, &what);
}

/// Comment lines.
fn wrap(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        Config::read(text.parse().unwrap()).unwrap_or_else(|problem| panic!("{problem}\n{text}")).0
    }

    #[test]
    fn all_that_it_says_are_the_defaults() {
        let written = template().unwrap();
        assert_eq!(read(&written), Config::default());
        let in_force = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        };
        let all: Vec<String> = written.lines().map(in_force).collect();
        assert_eq!(read(&all.join("\n")), Config::default());
        for key in ["#learning_rate = ", "#[network.client_server]", "#[data]", "clients = 10"] {
            assert!(written.contains(key), "{key}");
        }
        assert!(written.lines().all(|line| line.chars().count() <= 110), "{written}");
    }
}
