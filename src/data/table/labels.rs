//! The names of classes: how many, in which order, and what in them is in doubt.

use std::collections::BTreeMap;

use crate::error::count;

/// Labels are two bytes, and the number of classes fits into two as well.
pub(in crate::data) const MOST_CLASSES: usize = 65_535;

/// Classes up to here are not too many for any number of examples.
const FEW: usize = 10;

/// Whether there are at least two classes, and few enough.
pub(in crate::data) fn check_classes(names: &[String]) -> Result<(), String> {
    match names.len() {
        0 => Err("no class; a classification needs at least two".into()),
        1 => Err(format!("every example is of class `{}`; a classification needs at least two", names[0])),
        2..=MOST_CLASSES => Ok(()),
        n => Err(format!("{n} classes are more than {MOST_CLASSES}; is this the column of the class?")),
    }
}

fn number(name: &str) -> Option<f64> {
    name.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Puts classes in order: by value when all are numbers, else by letters.
pub(in crate::data) fn sort(names: &mut [String]) {
    names.sort_unstable();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    } else if names.iter().all(|name| number(name).is_some()) {
        let value = |name: &String| number(name).unwrap_or_default();
        names.sort_by(|one, other| value(one).total_cmp(&value(other)));
    }
}

/// Whether these may be values of a quantity instead of classes: what speaks for it.
///
/// # Errors
/// Where it is beyond doubt: fractional numbers, most of them of one example only.
pub(super) fn check_kind(names: &[String], examples: usize) -> Result<Option<String>, String> {
    let numbers: Vec<f64> = names.iter().filter_map(|name| number(name)).collect();
    let fractional = numbers.len() == names.len() && numbers.iter().any(|value| value.fract() != 0.0);
    let too_many = names.len() > FEW && 2 * names.len() > examples;
    let found = format!("{} among {}", count(names.len(), "class"), count(examples, "example"));
    match (fractional, too_many) {
        (true, true) => Err(format!(
            "{found}, all of them numbers: a quantity, which data.response = \"quantity\" learns; or name the column \
             of the class with data.label"
        )),
        (false, true) => Ok(Some(format!("{found}; is this the column of the class?"))),
        (true, false) => {
            Ok(Some(format!("{found}, with fractional numbers: each number is a class of its own")))
        }
        (false, false) => Ok(None),
    }
}

/// What two ways of writing one class have in common.
fn essence(name: &str) -> String {
    match number(name) {
        // Minus nought is nought.
        Some(value) => (value + 0.0).to_string(),
        None => name.to_lowercase(),
    }
}

/// Another way of writing `name` among `names`.
pub(super) fn twin<'a>(name: &str, names: &'a [String]) -> Option<&'a String> {
    names.iter().find(|other| essence(other) == essence(name))
}

/// Classes that differ in writing only, such as `1` and `1.0`, or `a` and `A`: a sentence that names them.
pub(in crate::data) fn alike(names: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        groups.entry(essence(name)).or_default().push(name);
    }
    let quoted =
        |group: Vec<&str>| group.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    let all: Vec<String> = groups.into_values().filter(|group| group.len() > 1).map(quoted).collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    (!all.is_empty()).then(|| {
        format!("classes that differ in writing only: {shown}{more}; write them alike if they are one")
    })
}
