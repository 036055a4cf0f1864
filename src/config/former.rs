//! Names that configurations had before: they are read, and said how they are written now.

use toml::{Table, Value};

/// Rules of `[participation]` that were kinds of `[protocol]`: `fedavg` with that rule.
const RULES: [&str; 3] = ["mifa", "fedvarp", "fedau"];

/// Writes all that has a former name as it is written now. Returns what to write instead, a line each.
///
/// # Errors
/// What stands under both names.
pub(crate) fn renew(table: &mut Table) -> Result<Vec<String>, String> {
    let mut notes: Vec<String> = renew_rule(table, "")?.into_iter().collect();
    let of_all = !notes.is_empty();
    let contenders = table.get_mut("compare").and_then(Value::as_array_mut);
    for (i, contender) in contenders.into_iter().flatten().enumerate() {
        let Some(contender) = contender.as_table_mut() else { continue };
        notes.extend(renew_rule(contender, &format!("compare[{i}]."))?);
        // `[protocol]` was nothing to contenders, and no more are its rules.
        if of_all && !contender.contains_key("participation") {
            contender.insert("participation".into(), section("none").into());
        }
    }
    Ok(notes)
}

fn section(kind: &str) -> Table {
    Table::from_iter([("kind".to_owned(), Value::from(kind))])
}

/// Takes the rule out of the protocol of a section that holds both, `at` this place. Returns what to write
/// instead.
fn renew_rule(holder: &mut Table, at: &str) -> Result<Option<String>, String> {
    let Some(protocol) = holder.get_mut("protocol").and_then(Value::as_table_mut) else { return Ok(None) };
    let kind = protocol.get("kind").and_then(Value::as_str);
    let Some(rule) = RULES.into_iter().find(|rule| kind == Some(rule)) else { return Ok(None) };
    let mut participation = section(rule);
    if let Some(cutoff) = protocol.remove("cutoff") {
        participation.insert("cutoff".into(), cutoff);
    }
    protocol.insert("kind".into(), "fedavg".into());
    let now = Value::from(participation.clone());
    let was = holder.insert("participation".into(), participation.into());
    let is = was.as_ref().and_then(|section| section.get("kind")).and_then(Value::as_str);
    let advice = format!("\"{rule}\" is a rule of participation now; write protocol.kind = \"fedavg\"");
    match is {
        None | Some("none") => Ok(Some(format!("{at}protocol.kind: {advice} and participation = {now}"))),
        Some(is) => Err(format!("{at}protocol.kind: {advice}, as participation.kind is \"{is}\"")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// What a configuration means, and what is said about it.
    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        Config::read(text.parse().unwrap())
    }

    #[test]
    fn a_former_protocol_is_fedavg_with_that_rule() {
        for (kind, more) in [("mifa", ""), ("fedvarp", ""), ("fedau", "cutoff = 7\n")] {
            let keys = "arithmetic = \"f64\"\nleast_included = 2\n";
            let (old, notes) = read(&format!("[protocol]\nkind = \"{kind}\"\n{keys}{more}")).unwrap();
            let now =
                format!("[protocol]\nkind = \"fedavg\"\n{keys}[participation]\nkind = \"{kind}\"\n{more}");
            assert_eq!((old, vec![]), read(&now).unwrap());
            let rule = if more.is_empty() { "" } else { ", cutoff = 7" };
            let note = format!(
                "protocol.kind: \"{kind}\" is a rule of participation now; write protocol.kind = \"fedavg\" and participation = \
                 {{ kind = \"{kind}\"{rule} }}"
            );
            assert_eq!(notes, [note]);
        }
    }

    #[test]
    fn contenders_have_the_rules_that_they_had() {
        let (config, notes) = read(
            "[protocol]\nkind = \"mifa\"\n[[compare]]\nname = \"A\"\nprotocol = { kind = \"fedau\", cutoff = 3 }\n\
             [[compare]]\nname = \"B\"\nprotocol = { kind = \"sec-cogc\" }\n",
        )
        .unwrap();
        let kinds = config.compare.iter().map(|one| {
            let rule = one.participation.as_ref().map(|rule| rule.kind());
            (one.protocol.kind(), rule)
        });
        assert_eq!(kinds.collect::<Vec<_>>(), [("fedavg", Some("fedau")), ("sec-cogc", Some("none"))]);
        assert_eq!(config.participation.kind(), "mifa");
        assert!(
            notes.len() == 2 && notes[1].starts_with("compare[0].protocol.kind: \"fedau\" is"),
            "{notes:?}"
        );
        // A rule for all, in the form of now, is for all.
        let (config, notes) = read(
            "[participation]\nkind = \"mifa\"\n[[compare]]\nname = \"A\"\nprotocol = { kind = \"fedavg\" }\n",
        )
        .unwrap();
        assert_eq!((config.compare[0].participation.as_ref(), notes.len()), (None, 0));
    }

    #[test]
    fn both_names_at_once_are_refused() {
        let both =
            |rule: &str| read(&format!("[protocol]\nkind = \"mifa\"\n[participation]\nkind = \"{rule}\""));
        assert_eq!(
            both("fedau").unwrap_err(),
            "protocol.kind: \"mifa\" is a rule of participation now; write protocol.kind = \"fedavg\", as participation.kind is \"fedau\""
        );
        assert_eq!(both("none").unwrap().0.participation.kind(), "mifa");
        let error = read("[protocol]\nkind = \"mifa\"\ncutof = 3").unwrap_err();
        assert!(error.contains("protocol.cutof: unknown field `cutof`"), "{error}");
    }
}
