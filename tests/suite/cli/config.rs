//! `seccogc config`.

use super::*;

#[test]
fn the_reference_lists_every_key_with_its_default() {
    let output = seccogc(&["config", "explain"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "seed = 1    # integer",
        "stragglers = 7",
        "erasure = 0.0",
        "policy = \"skip\"    # \"skip\" | \"retry\" | \"accumulate\"",
        "alpha = 0.5",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let config: toml::Table = fs::read_to_string("configs/mnist_compare.toml").unwrap().parse().unwrap();
    let mut keys = Vec::new();
    fn collect(table: &toml::Table, keys: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => collect(inner, keys),
                _ => keys.push(key.clone()),
            }
        }
    }
    collect(&config, &mut keys);
    assert!(keys.len() > 10);
    for key in keys {
        assert!(
            text.contains(&format!("{key} = ")) || text.contains(&format!("[[{key}]]")),
            "{key} is not explained"
        );
    }
}

#[test]
fn every_configuration_of_the_repository_is_accepted() {
    let mut names = 0;
    for entry in fs::read_dir("configs").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "toml") {
            if let Err(error) = seccogc::config::Config::load(&path, &[]) {
                panic!("{error}");
            }
            names += 1;
        }
    }
    assert!(names > 5, "{names}");
}
