//! The examples run, and each adds a part of its own in one file, outside the crate, of at most 60 lines.

use std::fs;
use std::path::Path;

#[path = "../../examples/aggregate.rs"]
mod aggregate;
#[path = "../../examples/audit.rs"]
mod audit;
#[path = "../../examples/own_compression.rs"]
mod own_compression;
#[path = "../../examples/own_links.rs"]
mod own_links;
#[path = "../../examples/own_model.rs"]
mod own_model;
#[path = "../../examples/own_objective.rs"]
mod own_objective;
#[path = "../../examples/own_observer.rs"]
mod own_observer;
#[path = "../../examples/own_participation.rs"]
mod own_participation;
#[path = "../../examples/own_partition.rs"]
mod own_partition;
#[path = "../../examples/own_protocol.rs"]
mod own_protocol;
#[path = "../../examples/own_server_rule.rs"]
mod own_server_rule;
#[path = "../../examples/own_solver.rs"]
mod own_solver;
#[path = "../../examples/train.rs"]
mod train;

type Main = fn() -> seccogc::Result<()>;

const ALL: [(&str, Main); 13] = [
    ("aggregate", aggregate::main),
    ("audit", audit::main),
    ("train", train::main),
    ("own_links", own_links::main),
    ("own_model", own_model::main),
    ("own_compression", own_compression::main),
    ("own_objective", own_objective::main),
    ("own_observer", own_observer::main),
    ("own_participation", own_participation::main),
    ("own_partition", own_partition::main),
    ("own_protocol", own_protocol::main),
    ("own_server_rule", own_server_rule::main),
    ("own_solver", own_solver::main),
];

#[test]
fn every_example_runs() {
    for (name, run) in ALL {
        run().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A part of each kind is one file that touches no other.
#[test]
fn a_part_of_ones_own_is_one_short_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_string_lossy().strip_suffix(".rs").map(str::to_owned)
        })
        .collect();
    files.sort_unstable();
    let mut listed: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(files, listed);
    let own = files.iter().filter(|name| name.starts_with("own_"));
    assert_eq!(
        own.clone().count(),
        10,
        "protocol, links, partition, objective, solver, server rule, participation, compression, model, observer"
    );
    for name in own {
        let text = fs::read_to_string(folder.join(name).with_extension("rs")).unwrap();
        assert!(text.lines().count() <= 60, "{name}: {} lines", text.lines().count());
        assert!(!text.contains("\nmod ") && !text.contains("include!"), "{name} stands alone");
    }
}

/// What audits and keys are told of a solver is its own word.
#[test]
fn a_solver_of_ones_own_is_audited_as_it_clips() {
    use seccogc::config::Config;
    use seccogc::learn::SgdConfig;
    use seccogc::train::Experiment;
    let config = Config { rounds: 1, ..Config::default() };
    assert_eq!(config.solver.solver().shared().clip_norm, None);
    let setting = Experiment::new(config).solver(SgdConfig { clip_norm: Some(0.5), ..Default::default() });
    let setting = setting.build().unwrap();
    assert_eq!((setting.assumptions().clip, setting.public().clip), (Some(0.5), Some(0.5)));
    let short = Experiment::new(Config::default()).shards(vec![vec![0]; 3]).build();
    let line = short.err().unwrap().to_string();
    assert_eq!(line, "partition: 3 shards for 10 clients; give one to each");
    let beyond = Experiment::new(Config::default()).shards(vec![vec![10_000]; 10]).build();
    let line = beyond.err().unwrap().to_string();
    assert_eq!(line, "partition: example 10000 of 10000; indices begin with 0");
}
