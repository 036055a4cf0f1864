//! The guide: every command in it does what the guide does with it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The blocks of a chapter that are scripts: those marked so, `sh` or `sh deploy`, say.
fn script(chapter: &str, mark: &str) -> String {
    let mut script = String::from("set -eu\n");
    let mut inside = false;
    for line in chapter.lines() {
        match line.strip_prefix("```") {
            Some(language) => inside = !inside && language == mark,
            None if inside => script += &format!("{line}\n"),
            None => {}
        }
    }
    script
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(fs::copy(entry.path(), target))
        }
    }
}

/// Runs the marked blocks of a chapter in a folder that has the repository's configurations.
fn run(chapter: &str, mark: &str) {
    let text = fs::read_to_string(format!("docs/src/{chapter}.md")).unwrap();
    let script = script(&text, mark);
    assert!(script.contains("seccogc "), "{chapter} has no command");
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new("configs"), &folder.path().join("configs"));
    let program = Path::new(env!("CARGO_BIN_EXE_seccogc")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("sh").args(["-c", &script]).current_dir(folder.path()).env("PATH", path).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{chapter}: {said}");
    assert!(!said.contains("error:"), "{chapter}: {said}");
}

#[test]
fn first_run() {
    run("first-run", "sh");
}

#[test]
fn compression() {
    run("compression", "sh");
}

#[test]
fn devices() {
    run("devices", "sh");
}

#[test]
fn released() {
    run("released", "sh");
}

#[test]
fn other_schemes() {
    run("other-schemes", "sh");
}

#[test]
fn your_data() {
    run("your-data", "sh");
}

#[test]
fn links() {
    run("links", "sh");
}

#[test]
fn choosing_a_code() {
    run("choosing-a-code", "sh");
}

#[test]
fn privacy_numbers() {
    run("privacy-numbers", "sh");
}

#[test]
fn the_model() {
    run("the-model", "sh");
}

#[test]
fn sweeps_and_figures() {
    run("sweeps-and-figures", "sh");
}

#[test]
fn cluster() {
    run("cluster", "sh");
}

#[cfg(feature = "deploy")]
#[test]
fn deployment() {
    run("deployment", "sh deploy");
}

#[test]
fn every_chapter_is_in_the_summary_and_every_example_exists() {
    let summary = fs::read_to_string("docs/src/SUMMARY.md").unwrap();
    for entry in fs::read_dir("docs/src").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name}");
    }
    let extending = fs::read_to_string("docs/src/extending.md").unwrap();
    for line in extending.lines().filter_map(|line| line.strip_prefix("| `")) {
        let names = line.split(" | ").next().unwrap();
        for name in names.split(['`', ',', ' ']).filter(|name| !name.is_empty()) {
            assert!(Path::new(&format!("examples/{name}.rs")).is_file(), "{name}");
        }
    }
}

/// A book's reader follows links; those of a chapter stand in parentheses behind their words.
#[test]
fn every_link_of_the_guide_leads_somewhere() {
    let mut links = 0;
    for entry in fs::read_dir("docs/src").unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.starts_with("https://") {
                assert!(Path::new("docs/src").join(target).is_file(), "{:?}: {link}", entry.file_name());
                links += 1;
            }
        }
    }
    assert!(links > 15, "{links}");
}
