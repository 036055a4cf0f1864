use super::*;

fn sweep(text: &str) -> Result<Sweep> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.toml");
    std::fs::write(&path, text).unwrap();
    Sweep::of(&Config::load(&path, &[])?, folder.path())
}

/// The refusal of this configuration without the path of its file.
fn refusal(text: &str) -> String {
    let line = sweep(text).unwrap_err().to_string();
    assert_eq!(line.lines().count(), 1);
    line.split_once("sweep.toml: ").map_or(line.clone(), |(_, rest)| rest.to_owned())
}

fn folders(sweep: &Sweep) -> Vec<String> {
    sweep.runs.iter().map(|run| run.folder.to_str().unwrap().to_owned()).collect()
}

#[test]
fn runs_are_all_combinations_with_stable_readable_names() {
    let sweep = sweep(
        "rounds = 7\n\
         [sweep]\nseeds = [1, 5]\n\
         grid = { \"network.client_client.erasure\" = [0.0, 0.25] }\n\
         [[sweep.variants]]\nname = \"Fair SecCoGC\"\n\
         set = { \"protocol.stragglers\" = 3, \"protocol.kind\" = \"sec-cogc\" }\n\
         grid = { \"protocol.key_std\" = [1, 10.0] }\n\
         [[sweep.variants]]\nname = \"FedAvg\"\nset.protocol.kind = \"fedavg\"\n",
    )
    .unwrap();
    assert_eq!(sweep.keys, ["variant", "protocol.key_std", "network.client_client.erasure"]);
    assert_eq!(
        folders(&sweep),
        [
            "fair-seccogc/key_std=1,erasure=0.0/seed-1",
            "fair-seccogc/key_std=1,erasure=0.0/seed-5",
            "fair-seccogc/key_std=1,erasure=0.25/seed-1",
            "fair-seccogc/key_std=1,erasure=0.25/seed-5",
            "fair-seccogc/key_std=10.0,erasure=0.0/seed-1",
            "fair-seccogc/key_std=10.0,erasure=0.0/seed-5",
            "fair-seccogc/key_std=10.0,erasure=0.25/seed-1",
            "fair-seccogc/key_std=10.0,erasure=0.25/seed-5",
            "fedavg/erasure=0.0/seed-1",
            "fedavg/erasure=0.0/seed-5",
            "fedavg/erasure=0.25/seed-1",
            "fedavg/erasure=0.25/seed-5",
        ]
    );
    let run = &sweep.runs[7];
    assert_eq!(run.values, ["Fair SecCoGC", "10.0", "0.25"].map(|value| Some(value.to_owned())));
    assert_eq!((run.config.seed, run.config.rounds), (5, 7));
    // The kind comes first, although it was written last: it would start the section anew.
    let crate::protocol::ProtocolConfig::SecCoGc(protocol) = &run.config.protocol else { panic!() };
    assert_eq!((protocol.stragglers, protocol.key_std), (3.into(), 10.0));
    assert_eq!(sweep.runs[9].values[1], None, "FedAvg has no keys");
    assert!(sweep.runs.iter().all(|run| run.config.sweep.is_empty()));
}

#[test]
fn seeds_alone_and_values_that_are_lists_are_swept() {
    assert_eq!(folders(&sweep("[sweep]\nseeds = [4, 3]").unwrap()), ["seed-4", "seed-3"]);
    let lists = sweep(
        "seed = 9\nclients = 2\n[protocol]\nkind = \"fedavg\"\n[network.client_server]\nkind = \"bernoulli\"\n\
         [sweep.grid]\nnetwork.client_server.erasure = [[0.0, 0.1], [0.0, 0.2], 0.0]",
    )
    .unwrap();
    let [one, other, number] = &folders(&lists)[..] else { panic!() };
    assert!(one.starts_with("erasure=0-0-0-1-") && one.ends_with("/seed-9"), "{one}");
    assert!(one != other && number == "erasure=0.0/seed-9", "{other} {number}");
    assert_eq!(lists.runs[0].values, [Some("[0.0, 0.1]".to_owned())]);
}

#[test]
fn equal_last_parts_of_keys_are_told_apart_in_names() {
    let both = sweep(
        "[sweep.grid]\nnetwork.client_client.erasure = [0.1]\nnetwork.client_server.erasure = [0.2, 0.3]",
    )
    .unwrap();
    assert_eq!(
        folders(&both)[1],
        "network.client_client.erasure=0.1,network.client_server.erasure=0.3/seed-1"
    );
}

#[test]
fn names_hold_no_separators() {
    assert_eq!(name("sec-cogc"), "sec-cogc");
    assert_eq!(name("-0.5"), "-0.5");
    for odd in ["a/b", "../x", "", "a b", "0,1", ".hidden", "σ"] {
        let name = name(odd);
        assert!(!name.contains(['/', ' ', ',']) && !name.starts_with('.'), "{odd} became {name}");
    }
    assert_ne!(name("a/b"), name("a b"));
}

#[test]
fn wrong_grids_are_refused_in_one_line_that_names_the_key() {
    let secure = "[protocol]\nkind = \"sec-cogc\"\n";
    let cases = [
        (
            "[sweep.grid]\nrounds = 5",
            "sweep.grid.rounds: 5 is not a list of values; give for example [1.0, 10.0]",
        ),
        (
            "[sweep.grid]\nrounds = []",
            "sweep.grid.rounds: [] is not a list of values; give for example [1.0, 10.0]",
        ),
        ("[sweep.grid]\nrounds = [5, 6, 5]", "sweep.grid.rounds: 5 stands there twice"),
        ("[sweep.grid]\nseed = [1, 2]", "sweep.grid.seed: cannot be swept; list the seeds in sweep.seeds"),
        ("[sweep]\nseeds = [1, 2, 1]", "sweep.seeds: 1 stands there twice"),
        (
            "[sweep.grid]\nstudy.key_stds = [[1.0]]",
            "sweep.grid.study.key_stds: cannot be swept; a training run does not read this section",
        ),
        ("[sweep.grid]\nrounds = [5, 0]", "sweep.grid.rounds = 0: rounds: 0 is too small; give at least 1"),
        (
            "[sweep.grid]\nrounds = [5, \"many\"]",
            "sweep.grid.rounds = \"many\": rounds: invalid type: string \"many\", expected a whole number from 0 on",
        ),
        ("[sweep.grid]\nround = [5]\nclients = [3, 4]", "sweep.grid.round = 5: round: unknown key `round`"),
        (
            &format!("{secure}[sweep.grid]\nrounds = [3, 4]\nprotocol.straglers = [1, 2]"),
            "sweep.grid.protocol.straglers = 1: protocol.straglers: unknown key `straglers`",
        ),
        (
            "[[sweep.variants]]\nname = \"A\"\n[[sweep.variants]]\nname = \" a \"",
            "sweep.variants[1].name: ` a ` must contain letters or digits and differ from the other names",
        ),
        (
            "[sweep.grid]\nrounds = [1]\n[[sweep.variants]]\nname = \"A\"\ngrid.rounds = [2]",
            "sweep.variants[0].grid.rounds: stands in sweep.grid too; give it in one of them",
        ),
        (
            "[[sweep.variants]]\nname = \"A\"\nset.seed = 4",
            "sweep.variants[0].set.seed: cannot be swept; list the seeds in sweep.seeds",
        ),
        (
            "[[sweep.variants]]\nname = \"A\"\nset.rounds = 0\ngrid.clients = [3]",
            "sweep.variants[0].set.rounds = 0: rounds: 0 is too small; give at least 1",
        ),
        (
            "[[sweep.variants]]\nname = \"A\"\n[[sweep.variants]]\nname = \"B\"",
            "sweep: a/seed-1 and b/seed-1 are the same run; take one away",
        ),
        (
            "[sweep.grid]\nprivacy.update_std = [1, 1.0]",
            "sweep: update_std=1/seed-1 and update_std=1.0/seed-1 are the same run; take one away",
        ),
    ];
    for (text, want) in cases {
        let line = refusal(text);
        // The list of all keys is that of the configuration's own golden lines.
        assert_eq!(line.split(", expected one of ").next(), Some(want), "{text}");
    }
}

#[test]
fn values_that_break_a_rule_of_the_scheme_are_found_before_anything_runs() {
    let text =
        "[protocol]\nkind = \"sec-cogc\"\n[sweep.grid]\nrounds = [2, 3]\nprotocol.stragglers = [3, 10]";
    let sweep = sweep(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(&sweep, folder.path(), "cpu".parse().unwrap(), (0, 1));
    assert_eq!(
        plan.err().unwrap().to_string(),
        "sweep.grid.protocol.stragglers = 10: protocol.stragglers: 10 stragglers of 10 clients leave nobody to decode from; take at most 9"
    );
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    // A rule that joins two values names what was swept.
    let text = "clients = 2\n[network.client_server]\nkind = \"bernoulli\"\nerasure = [0.1, 0.2]\n\
                [protocol]\nkind = \"fedavg\"\n[sweep.grid]\nclients = [2, 3]";
    let plan = Plan::new(&self::sweep(text).unwrap(), folder.path(), "cpu".parse().unwrap(), (0, 1)).err();
    assert_eq!(
        plan.unwrap().to_string(),
        "sweep of clients = 3: network.client_server.erasure: the list has 2 numbers for 3 clients; give one per client, or one number for all"
    );
}

#[test]
fn shards_divide_the_runs() {
    let sweep = sweep("[sweep]\nseeds = [1, 2, 3, 4, 5]").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sizes =
        (0..3).map(|i| Plan::new(&sweep, folder.path(), "cpu".parse().unwrap(), (i, 3)).unwrap().runs());
    assert_eq!(sizes.collect::<Vec<_>>(), [2, 2, 1]);
}

/// What every point of a sweep says of protocol and rule of participation.
fn kinds(sweep: &Sweep) -> Vec<(&'static str, &'static str)> {
    sweep.runs.iter().map(|run| (run.config.protocol.kind(), run.config.participation.kind())).collect()
}

/// Values of `protocol.kind` that are rules of `[participation]` now, over a base of now and one of then.
#[test]
fn former_names_are_swept_as_ever() {
    let both = [("fedavg", "mifa"), ("fedavg", "fedau"), ("gaussian", "none"), ("sec-cogc", "none")];
    let grid = "[sweep.grid]\nprotocol.kind = [\"mifa\", \"fedau\", \"gaussian\", \"sec-cogc\"]\n";
    for base in
        ["", "[protocol]\nkind = \"fedvarp\"\n", "[protocol]\nkind = \"mifa\"\narithmetic = \"f64\"\n"]
    {
        let found = sweep(&format!("{base}{grid}")).unwrap();
        assert_eq!(kinds(&found), both, "{base}");
        assert_eq!(folders(&found)[0], "kind=mifa/seed-1");
        assert_eq!(found.runs[0].values, [Some("mifa".to_owned())]);
    }
    // Every kind keeps those of the base's other keys that it has.
    let found = sweep(&format!("[protocol]\nkind = \"mifa\"\nleast_included = 2\n{grid}")).unwrap();
    let least: Vec<Option<usize>> = found
        .runs
        .iter()
        .filter_map(|run| match &run.config.protocol {
            crate::protocol::ProtocolConfig::FedAvg(config) => Some(config.least_included),
            _ => None,
        })
        .collect();
    assert_eq!(least, [Some(2), Some(2)]);

    let cutoffs = |text: &str| -> Vec<u32> {
        let cutoff = |run: SweepRun| match run.config.participation {
            crate::participation::ParticipationConfig::FedAu(rule) => rule.cutoff,
            other => panic!("{other:?}"),
        };
        sweep(text).unwrap().runs.into_iter().map(cutoff).collect()
    };
    let then = "[protocol]\nkind = \"fedau\"\n[sweep.grid]\nprotocol.cutoff = [10, 50]";
    let now = "[protocol]\nkind = \"fedavg\"\n[participation]\nkind = \"fedau\"\n[sweep.grid]\nparticipation.cutoff = [10, 50]";
    assert_eq!((cutoffs(then), cutoffs(now)), (vec![10, 50], vec![10, 50]));
    let variant = "[[sweep.variants]]\nname = \"A\"\nset = { protocol.kind = \"fedau\", protocol.cutoff = 7 }\n\
                   [[sweep.variants]]\nname = \"B\"\nset = { participation.kind = \"fedau\", protocol.kind = \"gaussian\" }";
    assert_eq!(cutoffs(variant), [7, 50]);
    // The file of a sweep's folder says the same sweep.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.toml");
    std::fs::write(&path, then).unwrap();
    let config = Config::load(&path, &[]).unwrap();
    std::fs::write(&path, config.to_toml().unwrap()).unwrap();
    assert_eq!(Config::load(&path, &[]).unwrap(), config);
}

#[test]
fn a_rule_beside_a_former_name_is_refused_by_the_value_at_fault() {
    let line = refusal(
        "[protocol]\nkind = \"fedavg\"\n[participation]\nkind = \"mifa\"\n[sweep.grid]\nprotocol.kind = [\"fedavg\", \"fedau\"]",
    );
    assert_eq!(
        line,
        "sweep.grid.protocol.kind = \"fedau\": protocol.kind: \"fedau\" is a rule of participation now; write protocol.kind = \
         \"fedavg\", as participation.kind is \"mifa\""
    );
}
