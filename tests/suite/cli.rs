//! The program as a user meets it: golden error lines with exit code 2, quiet and CSV output. Here `train`,
//! by which configurations are tested, and what all verbs have in common.

mod account;
mod arguments;
mod attack;
mod config;
mod going_on;
mod inference;
mod listeners;
mod model;
mod sets;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn seccogc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap()
}

/// The single line on standard error of a refused call.
fn refusal(args: &[&str]) -> String {
    let output = seccogc(args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    assert!(output.stdout.is_empty());
    line.trim_end().to_owned()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, content: &str) -> String {
        fs::write(self.0.path().join(name), content).unwrap();
        self.path(name)
    }

    /// The refusal of training with this configuration, without the path of the file.
    fn refusal_of(&self, config: &str) -> String {
        let path = self.file("run.toml", config);
        refusal(&["train", &path, "--out", &self.path("out")]).replace(&self.path("run.toml"), "run.toml")
    }
}

#[test]
fn wrong_configurations_are_refused_in_one_line() {
    let folder = Folder::new();
    let cases = [
        (
            "[protocol]\nkind = \"sec-cogc\"\nstraglers = 5",
            "error: run.toml: protocol.straglers: unknown key `straglers`, expected one of `keys`, `key_std`, `link_key_std`, `code`, `stragglers`, `decoder`, `arithmetic`, `quantisation`, `grid`, `optimise`",
        ),
        (
            "round = 5",
            "error: run.toml: round: unknown key `round`, expected one of `seed`, `rounds`, `clients`, `start`, `data`, `partition`, `model`, `solver`, `schedule`, `server`, `participation`, `compression`, `evaluation`, `network`, `devices`, `cohort`, `outage`, `privacy`, `record`, `deploy`, `attack`, `protocol`, `study`, `sweep`, `compare`",
        ),
        (
            "rounds = \"many\"",
            "error: run.toml: rounds: invalid type: string \"many\", expected a whole number from 0 on",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\nstragglers = \"few\"",
            "error: run.toml: protocol.stragglers: invalid value: string \"few\", expected a whole number from 0 on, \"default\" or \"auto\"",
        ),
        (
            "[protocol]\nkind = \"secure\"",
            "error: run.toml: protocol.kind: \"secure\" is not one of ideal, fedavg, gaussian, zero-sum, cogc, sec-cogc, coffee, mds-relay, zhao-sun, light-sec-agg, groupwise, sec-agg, sec-agg-plus, hierarchical, secure-gc, colrel, pricer, fedacs, dsa",
        ),
        ("rounds = 0", "error: run.toml: rounds: 0 is too small; give at least 1"),
        (
            "[solver]\nclip_norm = 1.0\n[privacy.release]\nepsilon = 1.0\nadaptive_clip = { quantile = 1.5 }",
            "error: run.toml: privacy.release.adaptive_clip.quantile: 1.5 must be greater than 0 and below 1",
        ),
        (
            "rounds = ",
            "error: run.toml: line 1, column 10: string values must be quoted, expected literal string",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\nstragglers = 10",
            "error: protocol.stragglers: 10 stragglers of 10 clients leave nobody to decode from; take at most 9",
        ),
        (
            "[protocol]\nkind = \"cogc\"\ncode = \"fractional-repetition\"\nstragglers = 6",
            "error: protocol.code: fractional-repetition needs stragglers + 1 to divide the number of clients, not 10 and 6; take code = \"cyclic-random\" or stragglers = 4",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\nkey_std = -1.0",
            "error: protocol.key_std: -1 is not a standard deviation; give a finite number ≥ 0",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\ndecoder = \"gc-plus\"\nlink_key_std = 0.5",
            "error: protocol.link_key_std: link keys cancel in complete sums only, and gc-plus sends incomplete ones; take 0 or decoder = \"standard\"",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\narithmetic = \"field\"\nlink_key_std = 0.5",
            "error: protocol.link_key_std: keys over the field hide every share completely; leave link keys out",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\narithmetic = \"field\"\ncode = \"cyclic-mds\"",
            "error: protocol.code: cyclic-mds is made of real roots of unity; with arithmetic = \"field\" take cyclic-random, which has the same supports",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\narithmetic = \"field\"\nquantisation = { bits = 29, modulus = \"2^31-1\" }",
            "error: protocol.quantisation.bits: 29 bits overflow: 10 updates of up to 268435455 steps exceed (p − 1)/2 = 1073741823; take at most 27 bits or a larger modulus",
        ),
        (
            "[protocol]\nkind = \"sec-cogc\"\nquantisation = { bits = 20 }",
            "error: protocol.quantisation: belongs to arithmetic = \"field\"; set that or remove it",
        ),
        (
            "[protocol]\nkind = \"gaussian\"\narithmetic = \"field\"",
            "error: protocol.arithmetic: Gaussian noise does not exist over a field; take \"f32\" or \"f64\"",
        ),
        (
            "clients = 1000",
            "error: run.toml: privacy.measure: the leakage among 1000 clients would take minutes a round; set it to false, and audit a cohort of at most 200",
        ),
        (
            "[cohort]\nsample = 11",
            "error: run.toml: cohort.sample: 11 is out of range; give 3 (`least`) to 10 (`clients`)",
        ),
        (
            "[cohort]\ndrop_after = 2\n[outage]\npolicy = \"accumulate\"",
            "error: run.toml: cohort.drop_after: a client that is not in the cohort has nothing to carry on from; take outage.policy = \"skip\" or \"retry\"",
        ),
        (
            "[protocol]\nkind = \"hierarchical\"\nthreshold = 3\ncolluding = 3",
            "error: protocol.colluding: 3 helpers that may collude could decode from the 3 shares that must suffice (threshold); take fewer than 3",
        ),
        (
            "[protocol]\nkind = \"hierarchical\"\nhelpers = 3",
            "error: protocol.threshold: 4 is out of range; of 3 helpers give 1 to 3",
        ),
        (
            "[protocol]\nkind = \"secure-gc\"\nresponders = 11",
            "error: protocol.responders: 11 is out of range; of 10 clients give 1 to 10",
        ),
        (
            "[protocol]\nkind = \"secure-gc\"\nreduction = 9",
            "error: protocol.reduction: 9 needs 11 copies of every dataset among 10 clients; give 1 to 8 (responders)",
        ),
        (
            "[protocol]\nkind = \"secure-gc\"\nassignment = \"fractional-repetition\"",
            "error: protocol.assignment: fractional-repetition needs the copies, clients − responders + reduction = 4, to divide the number of clients 10; take \"combined\"",
        ),
        (
            "[network.helper_server]\nkind = \"bernoulli\"\nerasure = [0.1, 0.2]",
            "error: network.helper_server.erasure: links of helpers take one number for all",
        ),
        (
            "[network.client_helper]\nkind = \"rayleigh\"\nradius = 2.0",
            "error: network.client_helper.radius: helpers have no place; take 0 for their links",
        ),
        (
            "[network.helper_helper]\nkind = \"client-outage\"",
            "error: network.helper_helper: helpers are always up; take another kind for their links",
        ),
        (
            "[protocol]\nkind = \"zhao-sun\"\nsurvivors = 3\ncolluders = 3",
            "error: protocol.colluders: 3 colluders could answer in the place of 3 survivors, so that no scheme is secure; take fewer colluders or more survivors",
        ),
        (
            "[protocol]\nkind = \"zhao-sun\"\nsurvivors = 11",
            "error: protocol.survivors: 11 survivors of 10 clients do not exist; give 1 to 10",
        ),
        (
            "[protocol]\nkind = \"zhao-sun\"\nquantisation = { bits = 30, modulus = \"2^31-1\" }",
            "error: protocol.quantisation.bits: 30 bits overflow: 10 updates of up to 536870911 steps exceed (p − 1)/2 = 1073741823; take at most 27 bits or a larger modulus",
        ),
        (
            "[protocol]\nkind = \"groupwise\"\ngroup_size = 1",
            "error: protocol.group_size: a key of one client alone cannot cancel, so that no scheme is secure; give at least 2",
        ),
        (
            "[protocol]\nkind = \"sec-agg\"\nthreshold = 11",
            "error: protocol.threshold: 11 is out of range; of 10 clients give 2 to 10: one share must not unmask, and more shares do not exist",
        ),
        (
            "[protocol]\nkind = \"sec-agg\"\nkeys = \"shared\"",
            "error: run.toml: protocol.keys: unknown variant `shared`, expected `agreement` or `uniform`",
        ),
        (
            "clients = 9\n[protocol]\nkind = \"sec-agg-plus\"\nneighbours = 3",
            "error: protocol.neighbours: no graph of 9 clients has 3 neighbours everywhere; take an even number",
        ),
        (
            "[protocol]\nkind = \"groupwise\"\ngroup_size = 11",
            "error: protocol.group_size: groups of 11 among 10 clients do not exist; give 2 to 10",
        ),
        (
            "clients = 20\n[protocol]\nkind = \"groupwise\"\nsurvivors = 10\ngroup_size = 5",
            "error: protocol.group_size: 15504 group keys, 3876 of them a client, and decoding matrices of 37500 × 37500 cannot be built; the limits are 65536, 512 and 2048; take smaller groups or fewer survivors",
        ),
        (
            "[protocol]\nkind = \"groupwise\"\ngroup_size = 5",
            "error: privacy.measure: formal inputs of `groupwise` have 6250 coordinates here, and ranks of more than 1024 take too long in every round; set it to false",
        ),
        (
            "[network.client_client]\nkind = \"bernoulli\"\nerasure = 1.5",
            "error: network.client_client.erasure: probability 1.5 is outside [0, 1]",
        ),
        (
            "[network.client_server]\nkind = \"bernoulli\"\nerasure = [0.1, 0.2]",
            "error: network.client_server.erasure: the list has 2 numbers for 10 clients; give one per client, or one number for all",
        ),
        (
            "[network.client_server]\nkind = \"bernoulli\"\nerasure = true",
            "error: run.toml: network.client_server.erasure: invalid type: boolean `true`, expected a number, a list of numbers or of rows, or the path of a CSV matrix",
        ),
        (
            "[solver]\nkind = \"sgd\"\nlearning_rate = 0.0",
            "error: solver.learning_rate: must be a finite number above 0, not 0; try 0.05",
        ),
        (
            "[solver]\nkind = \"fedprox\"\nmu = 0.1",
            "error: run.toml: solver.mu: unknown key `mu`, expected one of `learning_rate`, `proximal`, `momentum`, `weight_decay`, `epochs`, `steps`, `batch_size`, `clip_norm`, `private`",
        ),
        (
            "[solver]\nkind = \"scaffold\"\n[outage]\npolicy = \"accumulate\"",
            "error: run.toml: outage.policy: accumulate goes on from local models, but scaffold starts every round from the global model; take skip or retry",
        ),
        (
            "[solver]\nkind = \"feddyn\"\n[protocol]\nkind = \"fedavg\"\n[participation]\nkind = \"mifa\"",
            "error: participation.kind: mifa mixes updates of different rounds, which would unbalance the control vectors of feddyn; take another solver or \"none\"",
        ),
        (
            "[participation]\nkind = \"mifa\"",
            "error: participation.kind: mifa reads single updates, and sec-cogc shows the server a sum only; take \"none\", or a protocol that shows them: ideal, fedavg, gaussian or mds-relay",
        ),
        (
            "[protocol]\nkind = \"zero-sum\"\n[participation]\nkind = \"fedau\"",
            "error: participation.kind: fedau reads single updates, and zero-sum shows the server a sum only; take \"none\", or a protocol that shows them: ideal, fedavg, gaussian or mds-relay",
        ),
        (
            "[participation]\nkind = \"fedau\"\ncutoff = 0",
            "error: run.toml: participation.cutoff: 0 is too small; give at least 1",
        ),
        (
            "[participation]\nkind = \"scaffold\"",
            "error: run.toml: participation.kind: \"scaffold\" is not one of none, mifa, fedvarp, fedau",
        ),
        (
            "[protocol]\nkind = \"mifa\"\n[participation]\nkind = \"fedau\"",
            "error: run.toml: protocol.kind: \"mifa\" is a rule of participation now; write protocol.kind = \"fedavg\", as participation.kind is \"fedau\"",
        ),
        (
            "[compression]\nkind = \"top-k\"",
            "error: run.toml: compression.kind: \"top-k\" is not one of none, random-coordinates, count-sketch, low-rank",
        ),
        (
            "[compression]\nkind = \"low-rank\"\nratio = 0.0",
            "error: run.toml: compression.ratio: must be greater than 0 and at most 1, not 0",
        ),
        (
            "[compression]\nkind = \"low-rank\"\n[solver]\nkind = \"scaffold\"",
            "error: compression.kind: control vectors must move by exactly what arrives; take a solver without them, or \"none\"",
        ),
        (
            "[compression]\nkind = \"random-coordinates\"\n[outage]\npolicy = \"accumulate\"",
            "error: compression.error_feedback: clients keep what did not arrive, and with outage.policy = \"accumulate\" it would count twice; take false, or skip or retry",
        ),
        (
            "[compression]\nkind = \"count-sketch\"\n[protocol]\nkind = \"fedavg\"\n[participation]\nkind = \"mifa\"",
            "error: participation.kind: mifa remembers single updates, and the server takes parts of sums only here; take compression.error_feedback = false, another compression, or \"none\"",
        ),
        (
            "[devices.compute]\nkind = \"exponential\"",
            "error: run.toml: devices.compute.kind: \"exponential\" is not one of instant, log-normal, pareto, trace",
        ),
        (
            "[devices.compute]\nkind = \"pareto\"\nshape = 0.0",
            "error: devices.compute.shape: 0 is outside [0.1, ∞)",
        ),
        (
            "[devices.availability]\nkind = \"diurnal\"",
            "error: devices.availability.kind: no time passes in which clients come and go; give devices.compute, or links with a deadline",
        ),
        (
            "[cohort]\nover_select = 1.3",
            "error: run.toml: cohort.over_select: says by how much a sample is exceeded; give sample",
        ),
        (
            "[cohort]\nsample = 5\nover_select = 0.9",
            "error: run.toml: cohort.over_select: 0.9 is too small; give a number above 1",
        ),
        (
            "[cohort]\nsample = 9\nover_select = 1.3",
            "error: run.toml: cohort.over_select: 1.3 times 9 (`sample`) is more than the 10 clients; give less",
        ),
        (
            "[cohort]\nsample = 5\nover_select = 1.3",
            "error: run.toml: cohort.over_select: who computes fastest stays, and computing takes no time; give devices.compute, or remove it",
        ),
        (
            "[cohort.buffered]\nsize = 2",
            "error: run.toml: cohort.buffered.size: 2 is out of range; give 3 (`least`) to 10 (`concurrency`)",
        ),
        (
            "[cohort.buffered]\nconcurrency = 11",
            "error: run.toml: cohort.buffered.concurrency: 11 is out of range; give 5 (`size`) to 10 (`clients`)",
        ),
        (
            "[cohort]\nsample = 5\n[cohort.buffered]",
            "error: run.toml: cohort.buffered: who has computed is in the next round; remove sample, rate and drop_after",
        ),
        (
            "[cohort.buffered]",
            "error: run.toml: cohort.buffered: who has computed first is in the round first, and computing takes no time; give devices.compute",
        ),
        (
            "[cohort.buffered]\n[devices.compute]\nkind = \"pareto\"\n[solver]\nkind = \"scaffold\"",
            "error: cohort.buffered: the control vectors of scaffold belong to the last model; take another solver, or remove it",
        ),
        (
            "[cohort.buffered]\n[devices.compute]\nkind = \"pareto\"\n[protocol]\nkind = \"fedavg\"\n[participation]\nkind = \"mifa\"",
            "error: cohort.buffered: late updates have a weight already; take participation.kind = \"none\", or remove it",
        ),
        (
            "[devices.availability]\nkind = \"diurnal\"\n[cohort]\nrate = 0.5",
            "error: run.toml: cohort.rate: the sum is divided by the weight that is expected of all clients, and not all are there; take sample",
        ),
        (
            "[devices.availability]\nkind = \"diurnal\"\n[devices.compute]\nkind = \"pareto\"\n[protocol]\nkind = \"secure-gc\"",
            "error: cohort: secure-gc replicates data among all clients; remove sample, rate, drop_after, buffered and devices.availability",
        ),
        (
            "rounds = 10\n[schedule]\nwarm_up = 10",
            "error: run.toml: schedule.warm_up: 10 must be fewer than the 10 rounds",
        ),
        (
            "[server]\nlearning_rate = 0.0",
            "error: run.toml: server.learning_rate: 0 must be a finite number greater than 0",
        ),
        (
            "[server]\nkind = \"fedsgd\"",
            "error: run.toml: server.kind: \"fedsgd\" is not one of fedavg, fedavgm, fedadagrad, fedadam, fedyogi, amplified",
        ),
        (
            "[model]\nkind = \"resnet\"",
            "error: run.toml: model.kind: \"resnet\" is not one of softmax, mlp, cnn, lenet5, cifar-cnn, resnet20, resnet18, vgg11, char-lstm, gru",
        ),
        (
            "[model]\nkind = \"mlp\"\nhidden = \"wide\"",
            "error: run.toml: model.hidden: invalid type: string \"wide\", expected a number of hidden units, or a list of them",
        ),
        (
            "[model]\nkind = \"lenet5\"\npooling = \"mean\"",
            "error: run.toml: model.pooling: unknown variant `mean`, expected `average` or `max`",
        ),
        (
            "[model]\nkind = \"resnet20\"\ngroups = 3",
            "error: model.groups: 3 does not divide the 16 channels; take 1, 2, 4, 8 or 16",
        ),
        (
            "[data]\nname = \"imagenet\"",
            "error: run.toml: data.name: unknown variant `imagenet`, expected one of `mnist-subset`, `mnist`, `fashion-mnist`, `cifar10`, `table`, `image-folder`, `user-folders`, `leaf`, `synthetic`",
        ),
        (
            "[data]\nname = \"table\"",
            "error: run.toml: data.train: is missing; name the CSV file of the training examples",
        ),
        (
            "[data]\nlabel = \"species\"",
            "error: run.toml: data.label: is for name = \"table\", not mnist-subset; remove it",
        ),
        ("[data]\ncrop = 28", "error: data.crop: 28 is not below the sides of 28×28 images; try 4"),
        ("[evaluation]\nevery = 0", "error: run.toml: evaluation.every: 0 is too small; give at least 1"),
        (
            "[evaluation]\nclient_share = 1.0",
            "error: run.toml: evaluation.client_share: 1 must be at least 0 and below 1; try 0.2, or 0 for no test",
        ),
        (
            "[partition]\nkind = \"classes-per-client\"\nclasses = 11",
            "error: partition.classes: must be at most 10, not 11",
        ),
    ];
    for (config, want) in cases {
        assert_eq!(folder.refusal_of(config), want, "{config}");
        assert!(!Path::new(&folder.path("out")).exists(), "a refused run leaves nothing behind");
    }
}

#[test]
fn a_matrix_of_the_wrong_size_is_refused_with_its_place() {
    let folder = Folder::new();
    let matrix = folder.file("links.csv", "0,0.1,0.1\n0.1,0,0.1\n0.1,0.1\n");
    let config = "clients = 3\n[network.client_client]\nkind = \"bernoulli\"\nerasure = \"links.csv\"\n[protocol]\nkind = \"cogc\"\nstragglers = 1";
    assert_eq!(
        folder.refusal_of(config),
        format!("error: {matrix}: line 3 has 2 values for 3 clients; the matrix is 3 × 3")
    );
    folder.file("links.csv", "0,0.1,0.1\n0.1,0,0.1\n");
    assert_eq!(
        folder.refusal_of(config),
        format!("error: {matrix}: 2 lines for 3 clients; the matrix is 3 × 3")
    );
    folder.file("links.csv", "0,0.1,0.1\n0.1,0,two\n0.1,0.1,0\n");
    assert_eq!(
        folder.refusal_of(config),
        format!("error: {matrix}: line 2, column 3: `two` is not a probability in [0, 1]")
    );
}

#[test]
fn overrides_are_checked_like_the_file() {
    let refusal = |set: &str| refusal(&["train", "configs/mnist.toml", "--set", set]);
    assert_eq!(
        refusal("protocol.straglers=5"),
        "error: --set protocol.straglers=5: protocol.straglers: unknown key `straglers`, expected one of `keys`, `key_std`, `link_key_std`, `code`, `stragglers`, `decoder`, `arithmetic`, `quantisation`, `grid`, `optimise`"
    );
    assert_eq!(
        refusal("protocol.stragglers=few"),
        "error: --set protocol.stragglers=few: protocol.stragglers: invalid value: string \"few\", expected a whole number from 0 on, \"default\" or \"auto\""
    );
    assert_eq!(refusal("seed.x=1"), "error: --set seed.x=1: `seed` is a value, not a section");
    assert_eq!(
        refusal("rounds"),
        "error: --set rounds: give it as key=value, for example protocol.stragglers=5"
    );
}

#[test]
fn files_and_folders_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    assert_eq!(
        refusal(&["train", "missing.toml"]),
        "error: missing.toml: cannot read: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal(&["train", "/dev/zero"]),
        "error: /dev/zero: longer than 16 MiB, the most that a configuration may have"
    );
    assert_eq!(refusal(&["train", "src"]), "error: src: a folder, not a file; name a regular file");
    let raw = refusal(&["train", &folder.file("raw.toml", "\"\\u001b[2J\" = 1\n")]);
    assert!(!raw.contains('\u{1b}') && raw.contains("unknown key `\\u{1b}[2J`"), "{raw:?}");
    let blocker = folder.file("blocker", "");
    assert_eq!(
        refusal(&["train", "configs/mnist.toml", "--out", &format!("{blocker}/run")]),
        format!("error: {blocker}/run: cannot create: Not a directory (os error 20)")
    );
    fs::create_dir(folder.path("full")).unwrap();
    folder.file("full/file", "");
    assert_eq!(
        refusal(&["train", "configs/mnist.toml", "--out", &folder.path("full")]),
        format!(
            "error: {}: the output folder is not empty; name another with --out, or go on in it with --resume",
            folder.path("full")
        )
    );
    assert_eq!(
        refusal(&["compare", "configs/mnist.toml"]),
        "error: configs/mnist.toml: nothing to compare; add [[compare]] sections, each with a name and a protocol"
    );
    let data = folder.path("data");
    assert_eq!(
        refusal(&["train", "configs/mnist.toml", "--set", "data.name=mnist", "--data-dir", &data]),
        format!(
            "error: {data}/mnist/train-images-idx3-ubyte: missing; run `seccogc data fetch mnist` or put the file there by hand"
        )
    );
    assert_eq!(
        refusal(&["train", "configs/mnist.toml", "--device", "abacus"]),
        "error: device: `abacus` is not one of cpu, flex, ndarray, wgpu"
    );
    assert!(refusal(&["plot", &folder.path("nowhere")]).contains("no such folder"));
    assert_eq!(
        refusal(&["config", "explain", "protocoll"]),
        "error: no section or key `protocoll`; `seccogc config explain` lists them all"
    );
}

#[test]
fn damaged_dataset_files_are_refused() {
    let folder = Folder::new();
    let data = folder.path("data");
    let raw = Path::new(&data).join("mnist");
    fs::create_dir_all(&raw).unwrap();
    let image = |n: u32| {
        let header = [0x803u32, n, 28, 28].map(u32::to_be_bytes).concat();
        [header, vec![7u8; 784 * n as usize]].concat()
    };
    let labels =
        |n: u32, label: u8| [[0x801u32, n].map(u32::to_be_bytes).concat(), vec![label; n as usize]].concat();
    let write = |name: &str, bytes: &[u8]| fs::write(raw.join(name), bytes).unwrap();
    let whole = || {
        write("train-images-idx3-ubyte", &image(20));
        write("train-labels-idx1-ubyte", &labels(20, 3));
        write("t10k-images-idx3-ubyte", &image(4));
        write("t10k-labels-idx1-ubyte", &labels(4, 3));
    };
    let args = |out: &str| {
        let iid = ["--set", "partition.kind=iid", "--set", "rounds=1", "--quiet"].map(str::to_owned);
        let mut args =
            ["train", "configs/mnist.toml", "--set", "data.name=mnist", "--data-dir", &data, "--out", out]
                .map(str::to_owned)
                .to_vec();
        args.extend(iid);
        args
    };
    let call = |out: &str| {
        let args = args(out);
        refusal(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let out = folder.path("out");
    whole();
    write("train-images-idx3-ubyte", &image(20)[..1000]);
    let line = call(&out);
    assert!(
        line.contains("train-images-idx3-ubyte: ") && line.contains("seccogc data fetch mnist"),
        "{line}"
    );
    whole();
    write("train-labels-idx1-ubyte", &labels(20, 200));
    let line = call(&out);
    assert!(line.contains("train-labels-idx1-ubyte: ") && line.contains("200"), "{line}");
    whole();
    write("t10k-labels-idx1-ubyte", b"not an IDX file at all");
    let line = call(&out);
    assert!(line.contains("t10k-labels-idx1-ubyte: "), "{line}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let folder = Folder::new();
    let run = folder.path("run");
    let short = ["--set", "rounds=2", "--set", "solver.steps=1", "--quiet"];
    let args = [&["train", "configs/mnist.toml", "--out", &run][..], &short].concat();
    assert!(seccogc(&args).status.success());
    let path = Path::new(&run).join("config.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("kind = \"mlp\"\nhidden = 200", "kind = \"softmax\"")).unwrap();
    let line = refusal(&["train", "--resume", &run]);
    assert_eq!(
        line,
        format!(
            "error: {run}/config.toml: model.kind: the run was played with \"mlp\", not with \"softmax\", and its tables would mix both; write the former value, or start a new run"
        )
    );
}

#[test]
fn quiet_is_quiet_and_csv_is_data() {
    let folder = Folder::new();
    let run = folder.path("run");
    let short = ["--set", "rounds=2", "--set", "solver.steps=1", "--quiet", "--csv"];
    let args = [&["train", "configs/mnist.toml", "--out", &run][..], &short].concat();
    let output = seccogc(&args);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table, fs::read_to_string(folder.path("run/rounds.csv")).unwrap());
    assert_eq!(table.lines().count(), 3);
    for name in ["config.toml", "run.json", "clients.csv", "checkpoint.bin", "accuracy.svg", "accuracy.png"] {
        assert!(Path::new(&folder.path("run")).join(name).is_file(), "{name}");
    }
}

#[test]
fn every_verb_has_help_with_examples() {
    for verb in ["train", "compare", "sweep", "table", "report", "data", "model", "plot", "config"] {
        let output = seccogc(&[verb, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Examples:") && text.contains("seccogc "), "{verb}");
    }
}
