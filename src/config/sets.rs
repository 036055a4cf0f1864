//! `--set key=value` and the values of a sweep: what is put into a configuration that was written.

use toml::{Table, Value};

use super::Config;
use crate::choice::{lies_in, readable};
use crate::error::{Error, Result};

/// Keys that choose the kind of their section.
pub(crate) const TAGS: [&str; 1] = ["kind"];

/// A dotted key and its value.
pub(crate) type Assignment = (String, Value);

/// Reads one `--set`: a dotted key, `=`, and a TOML value, where a bare word is a string.
pub(crate) fn assignment(set: &str) -> Result<Assignment> {
    let Some((key, value)) = set.split_once('=') else {
        let problem = "give it as key=value, for example protocol.stragglers=5";
        return Err(Error::Refused(format!("--set {set}: {problem}")));
    };
    let parsed = format!("value = {value}").parse::<Table>().ok();
    let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| value.into());
    let keys: Vec<&str> = key.split('.').map(str::trim).collect();
    Ok((keys.join("."), value))
}

/// A configuration in which something was put.
pub(crate) struct Changed {
    pub config: Config,
    /// As it is written now.
    pub table: Table,
    /// What has another name now.
    pub former: Vec<String>,
    /// What belonged to the former kind of a section.
    pub fallen: Vec<String>,
}

/// The configuration that a table says with these assignments, in whatever order they stand. Where one of
/// them chooses another kind of a section, the keys that both kinds have stay, and the others fall away.
///
/// # Errors
/// The key and the rule.
pub(crate) fn with(base: &Table, assignments: &[Assignment]) -> Result<Changed, String> {
    let mut table = base.clone();
    let mut renewed: Vec<(String, &Value)> = Vec::new();
    // A section before what lies in it.
    let mut ordered: Vec<&Assignment> = assignments.iter().collect();
    ordered.sort_by_key(|(key, _)| key.matches('.').count());
    for (key, value) in ordered {
        let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
        let holder = enter(&mut table, section)?;
        let was = holder.insert(last.into(), value.clone());
        if TAGS.contains(&last) && was.as_ref() != Some(value) {
            renewed.push((section.into(), value));
        }
    }
    let mut fallen = Vec::new();
    loop {
        let problem = match Config::read(table.clone()) {
            Ok((config, former)) => return Ok(Changed { config, table, former, fallen }),
            Err(problem) => readable(&problem),
        };
        // The key of a section with another kind that the new kind does not have, or not with this value.
        let (path, rule) = problem.split_once(": ").unwrap_or_default();
        let of_section = |(section, kind): &(String, &Value)| {
            let rest = path.strip_prefix(section.as_str())?.strip_prefix('.')?;
            let key = rest.split(['.', '[']).next().unwrap_or_default();
            let assigned = assignments.iter().any(|(own, _)| lies_in(own, &format!("{section}.{key}")));
            (!assigned).then(|| (section.clone(), key.to_owned(), kind.to_string()))
        };
        let Some((section, key, kind)) = renewed.iter().find_map(of_section) else { return Err(problem) };
        let Some(old) = enter(&mut table, &section)?.remove(&key) else { return Err(problem) };
        let why = if rule.starts_with("unknown key") { "has no such key" } else { "takes others" };
        fallen.push(format!("{section}.{key} = {old} falls away: kind = {kind} {why}"));
    }
}

/// Gives what is written in a section the values that it has in another.
pub(crate) fn refresh(written: &mut Value, now: &Value) {
    match (written, now) {
        (Value::Table(written), Value::Table(now)) => {
            let known = written.iter_mut().filter_map(|(key, own)| Some((own, now.get(key)?)));
            known.for_each(|(own, now)| refresh(own, now));
        }
        (written, now) => *written = now.clone(),
    }
}

/// The section at a dotted path, made where there is none.
fn enter<'a>(table: &'a mut Table, path: &str) -> Result<&'a mut Table, String> {
    path.split('.').filter(|key| !key.is_empty()).try_fold(table, |section, key| {
        let inner = section.entry(key).or_insert_with(|| Value::Table(Table::new()));
        inner.as_table_mut().ok_or_else(|| format!("`{key}` is a value, not a section"))
    })
}

/// Which of several assignments a problem comes from: one without which it is another, the one that holds the
/// key of the message before others. `outcome` is what some of the assignments lead to.
pub(crate) fn culprit(
    assignments: &[Assignment],
    problem: &str,
    outcome: impl Fn(&[Assignment]) -> Result<(), String>,
) -> Option<usize> {
    let path = problem.split(": ").next().unwrap_or_default();
    let without = |i: usize| {
        let rest: Vec<Assignment> = [&assignments[..i], &assignments[i + 1..]].concat();
        outcome(&rest)
    };
    let guilty: Vec<usize> =
        (0..assignments.len()).filter(|&i| without(i).err().as_deref() != Some(problem)).collect();
    let named = |i: &&usize| lies_in(path, &assignments[**i].0);
    guilty.iter().find(named).or(guilty.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(base: &str, sets: &[&str]) -> Result<Changed, String> {
        let sets: Vec<Assignment> = sets.iter().map(|set| assignment(set).unwrap()).collect();
        with(&base.parse().unwrap(), &sets)
    }

    #[test]
    fn another_kind_keeps_the_keys_that_both_have() {
        let base = "[solver]\nkind = \"sgd\"\nlearning_rate = 0.3\nmomentum = 0.9\n";
        for sets in [&["solver.kind=fedprox"][..], &["solver.kind=fedprox", "solver.learning_rate=0.3"]] {
            let Changed { config, fallen, .. } = changed(base, sets).unwrap();
            let text = config.to_toml().unwrap();
            assert!(text.contains("kind = \"fedprox\"") && text.contains("learning_rate = 0.3"), "{text}");
            assert_eq!(fallen.len(), usize::from(!text.contains("momentum = 0.9")), "{fallen:?}");
        }
    }

    #[test]
    fn the_order_of_assignments_is_nothing_to_them() {
        let sets = [
            "solver.learning_rate=0.3",
            "protocol.kind=cogc",
            "protocol.stragglers=1",
            "solver.kind=fedprox",
        ];
        let base = "[protocol]\nkind = \"sec-cogc\"\nkey_std = 3.0\n";
        let first = changed(base, &sets).unwrap();
        assert_eq!(first.fallen, ["protocol.key_std = 3.0 falls away: kind = \"cogc\" has no such key"]);
        let mut turned = sets;
        for turn in 1..sets.len() {
            turned.rotate_left(1);
            assert_eq!(changed(base, &turned).unwrap().config, first.config, "{turn}");
        }
        let text = first.config.to_toml().unwrap();
        assert!(text.contains("stragglers = 1") && text.contains("learning_rate = 0.3"), "{text}");
    }

    #[test]
    fn values_that_the_new_kind_does_not_take_fall_away() {
        let base = "[protocol]\nkind = \"sec-cogc\"\nkeys = \"fair\"\n";
        let fallen = changed(base, &["protocol.kind=sec-agg"]).unwrap().fallen;
        assert_eq!(fallen, ["protocol.keys = \"fair\" falls away: kind = \"sec-agg\" takes others"]);
        assert!(changed(base, &["protocol.kind=sec-agg", "protocol.keys=fair"]).is_err());
    }

    #[test]
    fn what_was_assigned_never_falls_away() {
        let problem = changed("", &["protocol.kind=fedavg", "protocol.key_std=2.0"]).err().unwrap();
        assert!(problem.starts_with("protocol.key_std: unknown key `key_std`"), "{problem}");
        // Without another kind a wrong key of the file stays one.
        assert!(changed("[protocol]\nkind = \"cogc\"\nkeys = \"fair\"", &["rounds=3"]).is_err());
    }
}
