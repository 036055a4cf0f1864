//! The house has floors: a room imports what lies below it, never what lies above or beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up; rooms of one floor do not know each other. `lib` and `main` stand outside.
const FLOORS: [&[&str]; 21] = [
    &["error", "parallel", "say"],
    &["bounds", "choice", "paths", "seed"],
    &["algebra"],
    &["message"],
    &["coding", "devices", "keys", "network", "noise", "wire"],
    &["compress", "crypto", "precision"],
    &["privacy"],
    &["account"],
    &["protocol"],
    &["audit", "cohort", "data", "participation", "release", "server_rule"],
    &["learn"],
    &["record"],
    &["config"],
    &["conformance", "party", "recover"],
    &["plan"],
    &["train"],
    &["attack", "audits", "experiment", "inference", "privacy_levels", "sweep"],
    &["report"],
    &["compare", "deploy", "verbs"],
    &["cli"],
    &["lib", "main"],
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its tests, comments and documentation.
fn code(path: &Path) -> String {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    if name.ends_with("tests") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that code names as `crate::room`, alone or in a list.
fn rooms(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.extend([word(rest)]),
            Some(list) => {
                let (mut depth, mut start) = (0, true);
                for (at, c) in list.char_indices() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.insert(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    // The error type, its result and macros are named at the root.
    found.retain(|room| !["", "Error", "Result"].contains(&room.as_str()));
    found
}

fn floor(room: &str) -> usize {
    FLOORS.iter().position(|floor| floor.contains(&room)).unwrap_or_else(|| panic!("`{room}` is on no floor"))
}

#[test]
fn imports_go_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&root, &mut sources);
    let (mut upward, mut imports) = (Vec::new(), 0);
    for source in &sources {
        let inside = source.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs");
        for other in rooms(&code(source)).into_iter().filter(|other| other != room) {
            imports += 1;
            if floor(&other) >= floor(room) {
                upward.push(format!("{}: {room} imports {other}", inside.display()));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    assert!(imports > 200, "only {imports} imports were seen");
    // Every room of the table exists.
    for room in FLOORS.concat() {
        assert!(root.join(format!("{room}.rs")).is_file(), "{room}");
    }
}

#[test]
fn the_reader_sees_lists_and_skips_tests() {
    let found = rooms("use crate::{Error, data::{A, B}, learn::C};\nlet x = crate::seed::Seed::new(1);");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["data", "learn", "seed"]);
    let own = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seed.rs"));
    assert!(own.contains("pub struct Seed") && !own.contains("names_and_indices"));
}

/// The names in code spans of a text, such as `Run::play` or `train`.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// ARCHITECTURE.md draws these floors, and every function that it names exists.
#[test]
fn the_architecture_page_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut picture = page.split("```").nth(1).unwrap().lines().skip(1);
    let drawn: Vec<Vec<&str>> = picture
        .by_ref()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_whitespace().take_while(|word| FLOORS.concat().contains(word)).collect())
        .collect();
    let floors: Vec<Vec<&str>> =
        FLOORS[..FLOORS.len() - 1].iter().rev().map(|floor| floor.to_vec()).collect();
    assert_eq!(drawn, floors);

    let mut sources = Vec::new();
    files(&root.join("src"), &mut sources);
    let all: String = sources.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let defined = |name: &str| {
        let is_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        ["fn ", "struct ", "trait ", "enum ", "mod ", "macro_rules! ", "    "].iter().any(|kind| {
            all.match_indices(&format!("{kind}{name}")).any(|(at, found)| is_word(&all[at + found.len()..]))
        })
    };
    let walk = page.split("## The life of one update").nth(1).unwrap();
    let mut names = 0;
    for span in spans(walk).into_iter().filter(|span| !span.contains(['/', '.', ' '])) {
        for name in span.trim_end_matches('!').split("::") {
            assert!(defined(name), "`{span}`: nothing is called {name}");
            names += 1;
        }
    }
    assert!(names > 50, "only {names} names");
}

/// No file is longer than a reader can hold.
#[test]
fn files_stay_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&root, &mut sources);
    let long: Vec<String> = sources
        .iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(path).unwrap().lines().count();
            (lines > 500).then(|| format!("{}: {lines}", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Prose is as wide as code; tables and what cannot be broken are not prose.
#[test]
fn comments_fit_the_width() {
    const WIDTH: usize = 110;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    ["src", "tests", "examples", "benches"].iter().for_each(|folder| files(&root.join(folder), &mut sources));
    let mut wide = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        for (line, text) in (1..).zip(text.lines()) {
            let prose = text.trim_start().trim_start_matches(['/', '!']).trim_start();
            let is_comment = text.trim_start().starts_with("//");
            if is_comment && text.chars().count() > WIDTH && !prose.starts_with('|') && prose.contains(' ') {
                wide.push(format!("{}:{line}", path.display()));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}
