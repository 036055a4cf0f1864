//! Calls that the program does not understand.

use super::{Folder, refusal, seccogc};

#[test]
fn a_call_that_is_not_understood_is_refused_in_one_line() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["audit", "x.toml", "--formt", "csv"],
            "error: unexpected argument '--formt' found; tip: a similar argument exists: '--format'; see `seccogc audit --help`",
        ),
        (
            &["audit", "x.toml", "--format", "yaml"],
            "error: invalid value 'yaml' for '--format <FORMAT>' [possible values: table, csv, json]; see `seccogc audit --help`",
        ),
        (
            &["--threads", "0", "train", "x.toml"],
            "error: invalid value '0' for '--threads <N>': 0 is not in 1..=1024; see `seccogc train --help`",
        ),
        (
            &["audit"],
            "error: the following required arguments were not provided: <CONFIG>; see `seccogc audit --help`",
        ),
        (
            &["trian", "x.toml"],
            "error: unrecognized subcommand 'trian'; tip: a similar subcommand exists: 'train'; see `seccogc --help`",
        ),
        (
            &["train", "x.toml", "--quiet", "--dashboard"],
            "error: the argument '--quiet' cannot be used with '--dashboard'; see `seccogc train --help`",
        ),
        (
            &["train", "x.toml", "--fo\u{1b}[31mo\n\nUsage: nothing\u{202e}"],
            "error: unexpected argument '--fo\\u{1b}[31mo  Usage: nothing\\u{202e}' found; tip: to pass \
             '--foo  Usage: nothing\\u{202e}' as a value, use '-- --foo  Usage: nothing\\u{202e}'; see `seccogc train --help`",
        ),
        (
            &["train", "x.toml", "--seed", "a\r\nb"],
            "error: invalid value 'a\\r b' for '--seed <N>': invalid digit found in string; see `seccogc train --help`",
        ),
    ];
    for (args, line) in cases {
        assert_eq!(refusal(args), line, "{args:?}");
    }
}

#[test]
fn help_and_version_stay_what_they_are() {
    for args in [&["--help"][..], &["help", "audit"], &["audit", "-h"], &["--version"]] {
        let output = seccogc(args);
        assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "{args:?}");
    }
    let text = |args: &[&str]| String::from_utf8(seccogc(args).stdout).unwrap();
    assert!(text(&["audit", "-h"]).contains("\n\nUsage: seccogc audit [OPTIONS] <CONFIG>\n\n"));
    assert_eq!(text(&["--version"]).trim_end(), format!("seccogc {}", env!("CARGO_PKG_VERSION")));
    let nothing = seccogc(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8(nothing.stderr).unwrap().contains("Usage: seccogc"), "the help, and code 2");
}

/// A tenth of a minute where the whole would take hours.
#[test]
fn every_long_verb_has_a_short_look() {
    for verb in ["train", "compare", "sweep", "privacy", "attack", "recover", "plan", "experiment"] {
        let help = String::from_utf8(seccogc(&[verb, "--help"]).stdout).unwrap();
        assert!(help.contains("--quick"), "{verb}");
    }
    let folder = Folder::new();
    let config =
        folder.file("long.toml", "rounds = 5000\nclients = 4\n[model]\nhidden = 4\n[solver]\nsteps = 1\n");
    let out = folder.path("short");
    let run = seccogc(&["train", &config, "--quick", "--quiet", "--out", &out]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(std::fs::read_to_string(format!("{out}/rounds.csv")).unwrap().lines().count(), 11);
    let out = folder.path("table");
    let more = ["--stragglers", "1", "--parameters", "10", "--csv", "--out", &out];
    let table = seccogc(&[&["recover", &config, "--quick"][..], &more].concat());
    let table = String::from_utf8(table.stdout).unwrap();
    let column = |name: &str| table.lines().next().unwrap().split(',').position(|one| one == name).unwrap();
    assert_eq!(table.lines().nth(1).unwrap().split(',').nth(column("rounds")), Some("1000"), "{table}");
    let both = seccogc(&["plan", &config, "--quick", "--rounds", "5"]);
    assert_eq!(both.status.code(), Some(2));
}
