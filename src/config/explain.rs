//! `seccogc config explain`: every key with its type, default and meaning, read off the types themselves.

use std::fmt::Write as _;

use serde_json::Value;

use super::Config;
use crate::error::{Error, Result};

/// The reference of all configuration keys as plain text, or only of the section that starts with `prefix`,
/// or of the one key that it names.
///
/// Types, defaults, ranges and texts come from the configuration structs: a key that is added there appears
/// here.
///
/// # Errors
/// A section or key that there is not.
pub fn explain(prefix: &str) -> Result<String> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or(Value::Null);
    let mut out = String::new();
    describe(&mut out, "", &schema(), &defaults, prefix);
    // A key's section needs no distance from one before.
    let of_key = !out.contains(&format!("[{prefix}"));
    match out.is_empty() {
        true => {
            let rule = "`seccogc config explain` lists them all";
            Err(Error::Refused(format!("no section or key `{prefix}`; {rule}")))
        }
        false => Ok(if of_key { out.trim_start().to_owned() } else { out }),
    }
}

/// The JSON schema of all keys.
#[must_use]
pub fn schema() -> Value {
    let generator =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    generator.into_generator().into_root_schema_for::<Config>().to_value()
}

pub(super) fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Lists the properties of an object schema below `path`.
fn describe(out: &mut String, path: &str, schema: &Value, defaults: &Value, prefix: &str) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (key, property) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let default = defaults.get(key).unwrap_or(&Value::Null);
        let variants = variants(property);
        if let Some((tag, variants)) = variants {
            let asked = |variant: &Value| names(&path, variant, prefix);
            section(out, &path, property, prefix, variants.iter().any(asked));
            for variant in variants {
                let kind = variant["properties"][tag]["const"].as_str().unwrap_or_default();
                let chosen = default.get(tag).and_then(Value::as_str) == Some(kind);
                if shown(&path, prefix) || asked(variant) {
                    let mark = if chosen { "  (default)" } else { "" };
                    let _ = writeln!(
                        out,
                        "  {tag} = \"{kind}\"{mark}: {}",
                        one_line(text(variant, "description"))
                    );
                }
                let own = variant_defaults(&path, tag, kind).unwrap_or_else(|| default.clone());
                let mut inner = variant.clone();
                if let Some(properties) = inner.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.shift_remove(tag);
                }
                describe_values(out, "      ", &path, &inner, &own, prefix);
            }
        } else if property.get("properties").is_some() {
            section(out, &path, property, prefix, names(&path, property, prefix));
            describe_values(out, "  ", &path, property, default, prefix);
        } else if let Some(items) = property.get("items").filter(|items| items.get("properties").is_some()) {
            section(out, &format!("[{path}]"), property, prefix, false);
            for (name, item) in items["properties"].as_object().into_iter().flatten() {
                if shown(&path, prefix) {
                    let _ = writeln!(out, "  {name}: {}", one_line(text(item, "description")));
                }
            }
        } else if shown(&path, prefix) {
            value(out, "", key, property, default);
        }
    }
}

/// Lists plain values, and nested sections after them.
fn describe_values(
    out: &mut String,
    indent: &str,
    path: &str,
    schema: &Value,
    defaults: &Value,
    prefix: &str,
) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (key, property) in properties {
        if is_section(property) {
            let nested = serde_json::json!({ "properties": { key: property } });
            describe(out, path, &nested, defaults, prefix);
        } else if shown(path, prefix) || prefix == format!("{path}.{key}") {
            value(out, indent, key, property, defaults.get(key).unwrap_or(&Value::Null));
        }
    }
}

fn shown(path: &str, prefix: &str) -> bool {
    prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}."))
}

/// Whether `prefix` is that of a value which stands directly in the section at `path`.
fn names(path: &str, section: &Value, prefix: &str) -> bool {
    let key = prefix.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'));
    let property = key.and_then(|key| section.get("properties")?.get(key));
    property.is_some_and(|property| !is_section(property))
}

fn is_section(property: &Value) -> bool {
    let items = property.get("items").and_then(|items| items.get("properties"));
    variants(property).is_some() || property.get("properties").is_some() || items.is_some()
}

/// The head of a section that is shown, or of which a key is `asked` for.
fn section(out: &mut String, path: &str, schema: &Value, prefix: &str, asked: bool) {
    if asked || shown(path.trim_matches(['[', ']']), prefix) {
        let _ = writeln!(out, "\n[{path}]  {}", one_line(text(schema, "description")));
    }
}

fn value(out: &mut String, indent: &str, key: &str, schema: &Value, default: &Value) {
    let shown = match default {
        Value::Null => "unset".to_owned(),
        other => other.to_string(),
    };
    let _ = writeln!(out, "{indent}{key} = {shown}    # {}{}", kind_of(schema), range_of(schema));
    let _ = writeln!(out, "{indent}    {}", one_line(text(schema, "description")));
}

/// The tag and the variants of a section that is chosen by one of its keys.
pub(super) fn variants(schema: &Value) -> Option<(&'static str, &Vec<Value>)> {
    let variants = schema.get("oneOf")?.as_array()?;
    let tag = super::TAGS
        .into_iter()
        .find(|tag| variants.iter().all(|v| v["properties"][tag].get("const").is_some()))?;
    Some((tag, variants))
}

/// The defaults of one variant: what an otherwise empty section of that kind means.
fn variant_defaults(path: &str, tag: &str, kind: &str) -> Option<Value> {
    let kind = (format!("{path}.{tag}"), toml::Value::from(kind));
    let config = super::with(&toml::Table::new(), &[kind]).ok()?.config;
    let value = serde_json::to_value(config).ok()?;
    path.split('.').try_fold(&value, |value, key| value.get(key)).cloned()
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn kind_of(schema: &Value) -> String {
    let name = |kind: &str| {
        match kind {
            "integer" => "integer",
            "number" => "number",
            "boolean" => "true or false",
            "string" => "text",
            "array" => "list",
            "object" => "table",
            other => return other.to_owned(),
        }
        .to_owned()
    };
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        return choices.iter().filter(|c| !c.is_null()).map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    for group in ["oneOf", "anyOf"] {
        if let Some(variants) = schema.get(group).and_then(Value::as_array) {
            let kinds: Vec<String> = variants
                .iter()
                .filter(|v| text(v, "type") != "null")
                .map(|v| v.get("const").map_or_else(|| kind_of(v), Value::to_string))
                .collect();
            return kinds.join(" | ");
        }
    }
    match schema.get("type") {
        Some(Value::String(kind)) => name(kind),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .filter(|kind| *kind != "null")
            .map(name)
            .collect::<Vec<_>>()
            .join(" | "),
        _ => "value".into(),
    }
}

pub(super) fn range_of(schema: &Value) -> String {
    let bound = |key: &str| schema.get(key).map(Value::to_string);
    match (bound("minimum"), bound("maximum")) {
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        (Some(min), None) => format!(", at least {min}"),
        (None, Some(max)) => format!(", at most {max}"),
        (None, None) => String::new(),
    }
}
