//! The section `[sweep]`.

use serde::{Deserialize, Serialize};

use super::slug;
use crate::error::{Error, Result};

/// Sections that a training run does not read, and the key that has its own list.
const NOT_SWEPT: [&str; 5] = ["seed", "sweep", "compare", "study", "attack"];

/// Runs of `seccogc sweep`: all combinations of variants, grid values and seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SweepConfig {
    /// Every run is repeated with each of these seeds; with `seed` alone when the list is empty. All runs are
    /// built before the first begins: seeds that fail, such as by a partition that leaves a client without
    /// examples, are named.
    pub seeds: Vec<u64>,
    /// Dotted keys of the configuration, each with the list of its values, e.g.
    /// `"protocol.key_std" = [1.0, 10.0]`.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<serde_json::Value>>")]
    pub grid: toml::Table,
    /// Settings under a name, for what a plain grid cannot say, such as protocols that have different keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// All that was written, under former names too: values are put into that, so that another kind of a
    /// section begins with its own defaults.
    #[serde(skip)]
    pub written: Option<toml::Table>,
}

/// One named setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The name in tables and figures, and of the runs' folder.
    pub name: String,
    /// Dotted keys and their values, e.g. `{ "protocol.kind" = "sec-cogc", "protocol.stragglers" = 7 }`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub set: toml::Table,
    /// A grid for this variant alone, beside the common one.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Vec<serde_json::Value>>")]
    pub grid: toml::Table,
}

/// A key and its values.
pub(crate) type Axis = (String, Vec<toml::Value>);

impl SweepConfig {
    /// Whether nothing is swept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seeds.is_empty() && self.grid.is_empty() && self.variants.is_empty()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(i) = (1..self.seeds.len()).find(|&i| self.seeds[..i].contains(&self.seeds[i])) {
            return Err(Error::config("seeds", format!("{} stands there twice", self.seeds[i])));
        }
        let common = axes(&self.grid).map_err(|error| error.within("grid"))?;
        for (i, variant) in self.variants.iter().enumerate() {
            let at = format!("variants[{i}]");
            let name = slug(&variant.name);
            if name.is_empty() || self.variants[..i].iter().any(|other| slug(&other.name) == name) {
                let rule = format!(
                    "`{}` must contain letters or digits and differ from the other names",
                    variant.name
                );
                return Err(Error::config(format!("{at}.name"), rule));
            }
            for (key, _) in leaves(&variant.set) {
                may_be_swept(&key).map_err(|error| error.within(&format!("{at}.set")))?;
            }
            for (key, _) in axes(&variant.grid).map_err(|error| error.within(&format!("{at}.grid")))? {
                if common.iter().any(|(other, _)| *other == key) {
                    let rule = "stands in sweep.grid too; give it in one of them";
                    return Err(Error::config(format!("{at}.grid.{key}"), rule));
                }
            }
        }
        Ok(())
    }
}

/// The dotted keys of a table and their values, whether they were written as `"a.b" = 1` or as `a.b = 1`.
pub(crate) fn leaves(table: &toml::Table) -> Vec<(String, toml::Value)> {
    let below = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(inner) => {
            leaves(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)).collect()
        }
        value => vec![(key.clone(), value.clone())],
    };
    table.iter().flat_map(below).collect()
}

/// The axes of a grid; errors are relative to it.
pub(crate) fn axes(grid: &toml::Table) -> Result<Vec<Axis>> {
    leaves(grid)
        .into_iter()
        .map(|(key, value)| {
            may_be_swept(&key)?;
            match value {
                toml::Value::Array(values) if !values.is_empty() => {
                    if let Some(i) = (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
                        return Err(Error::config(key, format!("{} stands there twice", values[i])));
                    }
                    Ok((key, values))
                }
                other => {
                    let rule = format!("{other} is not a list of values; give for example [1.0, 10.0]");
                    Err(Error::config(key, rule))
                }
            }
        })
        .collect()
}

fn may_be_swept(key: &str) -> Result<()> {
    let first = key.split('.').next().unwrap_or_default();
    if !NOT_SWEPT.contains(&first) {
        return Ok(());
    }
    let rule = match first {
        "seed" => "cannot be swept; list the seeds in sweep.seeds",
        _ => "cannot be swept; a training run does not read this section",
    };
    Err(Error::config(key, rule))
}
