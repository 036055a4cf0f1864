//! Data that comes in users, and populations of which few take part.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crate::own_data::Folder;
use seccogc::config::Config;
use seccogc::data::users::{Held, Users};
use seccogc::data::{Dataset, Normalisation};
use seccogc::record::{ClientRow, Outcome, Row};
use seccogc::train::{Experiment, Setting};

const LOSSY: &str = "[network]\nclient_client = { kind = \"bernoulli\", erasure = 0.05 }\n\
    client_server = { kind = \"bernoulli\", erasure = 0.1 }\n";

fn config(toml: &str) -> Config {
    toml::from_str(&format!("model = {{ kind = \"softmax\" }}\n{toml}\n{LOSSY}")).unwrap()
}

/// Rounds and clients of a run, times aside.
fn play(setting: &Setting) -> Vec<(Row, Vec<ClientRow>)> {
    let run = setting.run(&setting.config().protocol).unwrap();
    let mut state = run.start();
    let mut rounds = Vec::new();
    while state.round < setting.config().rounds {
        let (row, clients) = run.round(&mut state).unwrap();
        let row = Row { seconds_local: 0.0, seconds_coding: 0.0, seconds_evaluation: 0.0, ..row };
        rounds.push((row, clients));
    }
    rounds
}

fn population(users: usize, more: &str) -> Config {
    config(&format!(
        "clients = {users}\nrounds = 3\npartition = {{ kind = \"natural\" }}\ncohort = {{ sample = 12 }}\n\
         protocol = {{ kind = \"sec-cogc\", stragglers = 4 }}\nsolver = {{ kind = \"sgd\", learning_rate = 0.1 }}\n\
         [data]\nname = \"synthetic\"\nsynthetic = {{ users = {users}, features = 8, classes = 3, most = 40{more} }}"
    ))
}

#[test]
fn clients_beyond_two_bytes_take_part_and_are_told_apart() {
    let config = population(300_000, "");
    config.check().unwrap();
    let setting = Experiment::new(config.clone()).build().unwrap();
    let rounds = play(&setting);
    assert!(rounds.iter().any(|(row, _)| row.outcome == Outcome::Recovered));
    let numbers: Vec<usize> =
        rounds.iter().flat_map(|(_, clients)| clients.iter().map(|c| c.client)).collect();
    assert_eq!(numbers.len(), 36);
    // Of 36 drawn from 300,000 all lie among the first 65,536 with probability 0.22³⁶.
    assert!(numbers.iter().any(|k| *k > 65_536), "{numbers:?}");
    for (_, clients) in &rounds {
        for client in clients {
            assert!((10..=40).contains(&client.examples) && client.train_loss.is_finite());
        }
    }
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let again = alone.install(|| play(&Experiment::new(config).build().unwrap()));
    assert_eq!(format!("{rounds:?}"), format!("{again:?}"), "whatever the number of threads");
}

#[test]
fn every_scheme_takes_its_cohort_from_a_population() {
    for protocol in ["fedavg", "ideal", "cogc", "sec-cogc", "light-sec-agg", "groupwise", "zero-sum"] {
        let text = format!(
            "clients = 100000\nrounds = 1\npartition = {{ kind = \"natural\" }}\ncohort = {{ sample = 12 }}\n\
             protocol = {{ kind = \"{protocol}\" }}\n[data]\nname = \"synthetic\"\n\
             synthetic = {{ users = 100000, features = 4, classes = 2, most = 20 }}"
        );
        let setting = Experiment::new(config(&text)).build().unwrap();
        let rounds = play(&setting);
        assert_eq!(rounds[0].0.cohort, 12, "{protocol}");
    }
}

#[test]
fn a_poisson_cohort_of_a_population_has_a_scheme() {
    let mut config = population(100_000, "");
    config.cohort = toml::from_str("rate = 2e-4\nleast = 3").unwrap();
    config.check().unwrap();
    let rounds = play(&Experiment::new(config).build().unwrap());
    let sizes: Vec<usize> = rounds.iter().map(|(row, _)| row.cohort).collect();
    // 20 on average; outside 1 to 60 with probability below 10⁻⁸ each.
    assert!(sizes.iter().all(|n| (1..60).contains(n)), "{sizes:?}");
}

/// The same examples as users and as parts of a training set train alike, bit for bit.
#[test]
fn users_train_as_the_same_parts_of_a_training_set_do() {
    for share in [0.0, 0.25] {
        let text = format!(
            "clients = 6\nrounds = 4\nevaluation = {{ client_share = {share} }}\n\
             protocol = {{ kind = \"sec-cogc\", stragglers = 3 }}\nsolver = {{ kind = \"scaffold\", steps = 3, learning_rate = 0.05 }}"
        );
        let mut config = config(&text);
        let data = config.data.load().unwrap();
        let shards: Vec<Vec<usize>> = (0..6).map(|k| (50 * k..50 * k + 20 + 5 * k).collect()).collect();
        let parts =
            Experiment::new(config.clone()).data(data.clone()).shards(shards.clone()).build().unwrap();
        let users: Arc<dyn Users> = Arc::new(Held::new(data.train.clone(), shards));
        let own = Dataset { train: data.train.subset(&[]), users: Some(users), ..data };
        config.partition = toml::from_str("kind = \"natural\"").unwrap();
        let natural = Experiment::new(config).data(own).build().unwrap();
        assert_eq!(format!("{:?}", play(&parts)), format!("{:?}", play(&natural)), "{share}");
    }
}

/// A file in LEAF's form with as many users, whose examples follow from a line; the classes are 0 to 3.
fn leaf(users: usize, first: usize) -> String {
    let user = |k: usize| {
        let n = 6 + k % 5;
        let example = |i: usize| {
            let class = (i + k) % 4;
            let x: Vec<String> = (0..16)
                .map(|j| format!("{:.3}", if j / 4 == class { 0.9 } else { 0.01 * ((i * j + k) % 9) as f64 }))
                .collect();
            (format!("[{}]", x.join(", ")), class.to_string())
        };
        let (x, y): (Vec<String>, Vec<String>) = (0..n).map(example).unzip();
        format!("\"f{k:04}_{k}\": {{\"x\": [{}], \"y\": [{}]}}", x.join(", "), y.join(", "))
    };
    let all: Vec<String> = (first..first + users).map(user).collect();
    format!("{{\"users\": [], \"num_samples\": [], \"user_data\": {{{}}}}}", all.join(", "))
}

fn run(folder: &Folder, text: &str, args: &[&str]) -> Output {
    let path = folder.write("run.toml", text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
    command.arg("train").arg(path).args(args).output().unwrap()
}

fn last_accuracy(run: &Path) -> f64 {
    let text = fs::read_to_string(run.join("rounds.csv")).unwrap();
    let mut lines = text.lines();
    let at = lines.next().unwrap().split(',').position(|name| name == "test_accuracy").unwrap();
    lines.next_back().unwrap().split(',').nth(at).unwrap().parse().unwrap()
}

#[test]
fn files_of_leaf_train_from_end_to_end() {
    let folder = Folder::new();
    folder.write("train/all_data_0.json", leaf(8, 0));
    folder.write("train/all_data_1.json", leaf(8, 8));
    folder.write("train/notes.txt", "no data");
    folder.write("test.json", leaf(3, 30));
    let text = format!(
        "clients = 10\nrounds = 12\npartition = {{ kind = \"natural\", least = 7 }}\nmodel = {{ kind = \"softmax\" }}\n\
         solver = {{ kind = \"sgd\", learning_rate = 0.5, epochs = 2, batch_size = 4 }}\n\
         protocol = {{ kind = \"sec-cogc\", stragglers = 5 }}\nevaluation = {{ client_share = 0.2 }}\n\
         [data]\nname = \"leaf\"\ntrain = \"train\"\ntest = \"test.json\"\nshape = [1, 4, 4]\n{LOSSY}"
    );
    let out = folder.path("out");
    let output = run(&folder, &text, &["--out", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("10 of 16 users take part, with 67 training examples: 6 to 8 each"), "{said}");
    assert!(last_accuracy(&out) > 0.9, "{said}");
    let evaluated =
        Command::new(env!("CARGO_BIN_EXE_seccogc")).args(["evaluate", out.to_str().unwrap()]).output();
    let evaluated = evaluated.unwrap();
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let resumed = run(&folder, &text, &["--out", out.to_str().unwrap(), "--set", "rounds=14"]);
    assert!(!resumed.status.success(), "a folder that is there is not overwritten");
    let other = folder.path("train/all_data_0.json");
    fs::write(&other, leaf(8, 0).replace("0.900", "0.800")).unwrap();
    let more = ["train", "--resume", out.to_str().unwrap(), "--set", "rounds=14"];
    let changed = Command::new(env!("CARGO_BIN_EXE_seccogc")).args(more).output().unwrap();
    assert_eq!(changed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&changed.stderr).contains("data"), "{changed:?}");
}

#[test]
fn users_without_a_test_file_are_set_aside() {
    let folder = Folder::new();
    folder.write("all.json", leaf(10, 0));
    let data = folder.load("name = \"leaf\"\ntrain = \"all.json\"\ntest_share = 0.3").unwrap();
    let users = data.users.unwrap();
    assert_eq!((users.number(), data.train.len(), data.train.shape()), (7, 0, [1, 1, 16]));
    let all: usize = (0..10).map(|k| 6 + k % 5).sum();
    let trained: usize = (0..7).map(|user| users.count(user)).sum();
    assert_eq!(trained + data.test.len(), all);
    assert_eq!(data.class_names, ["0", "1", "2", "3"]);
}

#[test]
fn a_column_says_whose_each_row_is() {
    let folder = Folder::new();
    let rows: Vec<String> = (0..60)
        .map(|i| format!("{},{},{},{}", i % 7, i * i % 11, ["ann", "bo", "cy"][i % 3], i % 2))
        .collect();
    folder.write("rows.csv", format!("a,b,who,class\n{}\n", rows.join("\n")));
    let data =
        folder.load("name = \"table\"\ntrain = \"rows.csv\"\nuser = \"who\"\ntest_share = 0.25").unwrap();
    let users = data.users.clone().unwrap();
    assert_eq!((users.number(), data.test.len(), data.train.shape()), (3, 15, [1, 1, 2]));
    assert_eq!((0..3).map(|user| users.count(user)).sum::<usize>(), 45);
    // The first user is that of the first row: a = i mod 7 and b = i² mod 11 for multiples i of three.
    let own = users.read(0).unwrap();
    let mut values = Vec::new();
    own.extend_batch(&(0..own.len()).collect::<Vec<_>>(), &Normalisation::identity(2), &mut values);
    for row in values.chunks(2) {
        assert!((0..60).step_by(3).any(|i| [(i % 7) as f32, (i * i % 11) as f32] == *row), "{row:?}");
    }
    let table = "name = \"table\"\ntrain = \"rows.csv\"\n";
    assert_eq!(
        folder.refusal(&format!("{table}user = \"whom\"")),
        "rows.csv: data.user: no column `whom`; the header has a, b, who, class"
    );
    assert_eq!(
        folder.refusal(&format!("{table}user = 4")),
        "rows.csv: data.user names column 4, which is that of the class"
    );
    assert_eq!(
        folder.refusal(&format!("{table}user = \"who\"\nignore = [\"who\"]")),
        "rows.csv: data.user names column 3, which is that of data.ignore"
    );
    folder.write("rows.csv", "a,who,class\n1,ann,0\n2,,1\n");
    assert_eq!(
        folder.refusal(&format!("{table}user = \"who\"")),
        "rows.csv: line 3, column 2 (`who`): no user; name one"
    );
}

#[test]
fn a_folder_for_every_user() {
    let folder = Folder::new();
    let pixel = |value| crate::own_data::images::grey(4, value);
    for (user, class, values) in
        [("ann", "x", 0..4), ("ann", "y", 200..204), ("bo", "y", 210..213), ("cy", "x", 8..10)]
    {
        for value in values {
            folder.write(&format!("users/{user}/{class}/{value}.png"), pixel(value));
        }
    }
    fs::create_dir_all(folder.path("users/dee/x")).unwrap();
    let text = "name = \"user-folders\"\ntrain = \"users\"";
    let data = folder.load(&format!("{text}\ntest_share = 0.3")).unwrap();
    let users = data.users.unwrap();
    let sizes: Vec<usize> = (0..users.number()).map(|user| users.count(user)).collect();
    assert_eq!(
        (users.number(), data.class_names, data.train.shape()[0]),
        (2, vec!["x".into(), "y".into()], 1)
    );
    assert_eq!(sizes.iter().sum::<usize>() + data.test.len(), 13);
    for user in 0..2 {
        let own = users.read(user).unwrap();
        for (i, label) in own.labels().iter().enumerate() {
            assert_eq!(own.pixels(i)[0] > 100, *label == 1);
        }
    }
    fs::remove_file(folder.path("users/ann/x/1.png")).unwrap();
    fs::remove_file(folder.path("users/bo/y/211.png")).unwrap();
    fs::remove_file(folder.path("users/cy/x/8.png")).unwrap();
    let error = users.read(0).unwrap_err().to_string();
    assert!(error.ends_with("the images have changed since the run began"), "{error}");
}

#[test]
fn what_does_not_go_together_is_one_line() {
    let line =
        |config: Config| match config.check().and_then(|()| Experiment::new(config).build().map(|_| ())) {
            Err(error) => error.to_string(),
            Ok(()) => panic!("nothing was refused"),
        };
    let mut many = population(100_000, "");
    many.cohort = toml::from_str("").unwrap();
    assert_eq!(
        line(many),
        "clients: 100000 in one round are too many, the limit is 65535; let cohort.sample or cohort.rate draw fewer"
    );
    let mut divided = population(20, "");
    divided.partition = toml::from_str("kind = \"iid\"").unwrap();
    assert_eq!(
        line(divided),
        "partition.kind: these examples belong to users, who cannot be divided anew; take \"natural\""
    );
    let mut few = population(20, "");
    few.clients = 21;
    assert_eq!(
        line(few),
        "partition: 21 clients for 20 users, each of whom is one client; take clients = 20 or fewer"
    );
    assert_eq!(
        line(config("partition = { kind = \"natural\" }")),
        "partition.kind: these examples belong to no users; take data with users, or another kind, such as \"iid\""
    );
    let mut tested = population(20, ", least = 1");
    tested.evaluation.client_share = 0.5;
    let error = line(tested);
    assert!(
        error.ends_with("has one example and cannot be tested too; take partition.least = 2 or 0"),
        "{error}"
    );
    let shaped = config("[data]\nname = \"leaf\"\ntrain = \"x\"\nshape = [1, 0, 4]");
    assert_eq!(line(shaped), "data.shape: [1, 0, 4] is no shape; give channels, height and width");
    let mut reciprocal = population(70_000, "");
    reciprocal.network.reciprocal = true;
    assert_eq!(
        line(reciprocal),
        "network.reciprocal: whether links are the same both ways is looked up pair by pair, which 70000 clients take too long \
         for; give at most 65535, or false"
    );
}

/// Texts of five letters out of four whose class is the first: a state has to carry it to the end.
fn texts(users: usize, first: usize) -> String {
    let user = |k: usize| {
        let example = |i: usize| {
            let place = |t: usize| (i * 7 + k * 3 + t * t * (i + 1) + t * k) % 4;
            let text: String = (0..5).map(|t| ['a', 'b', 'c', 'd'][place(t)]).collect();
            (format!("\"{text}\""), format!("\"{}\"", &text[..1]))
        };
        let (x, y): (Vec<String>, Vec<String>) = (0..30).map(example).unzip();
        format!("\"role {k}\": {{\"x\": [{}], \"y\": [{}]}}", x.join(", "), y.join(", "))
    };
    let all: Vec<String> = (first..first + users).map(user).collect();
    format!("{{\"user_data\": {{{}}}}}", all.join(", "))
}

#[test]
fn recurrent_models_learn_from_texts_of_users() {
    for kind in ["gru", "char-lstm"] {
        let folder = Folder::new();
        folder.write("train.json", texts(6, 0));
        folder.write("test.json", texts(2, 40));
        let text = format!(
            "clients = 6\nrounds = 25\npartition = {{ kind = \"natural\" }}\n\
             model = {{ kind = \"{kind}\", hidden = 16, layers = 1 }}\n\
             solver = {{ kind = \"adam\", learning_rate = 0.02, epochs = 2, batch_size = 10 }}\n\
             protocol = {{ kind = \"sec-cogc\", stragglers = 3 }}\nevaluation = {{ every = 5 }}\n\
             [data]\nname = \"leaf\"\ntrain = \"train.json\"\ntest = \"test.json\"\n{LOSSY}"
        );
        let out = folder.path("out");
        let output = run(&folder, &text, &["--out", out.to_str().unwrap(), "--quiet"]);
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(last_accuracy(&out) > 0.9, "{kind}: {}", last_accuracy(&out));
        let rows = fs::read_to_string(out.join("rounds.csv")).unwrap();
        let header: Vec<&str> = rows.lines().next().unwrap().split(',').collect();
        let last: Vec<&str> = rows.lines().last().unwrap().split(',').collect();
        let value = |name: &str| -> f64 {
            last[header.iter().position(|own| *own == name).unwrap()].parse().unwrap()
        };
        assert!((value("test_perplexity") - value("test_loss").exp()).abs() < 1e-9);
        folder.write("new.json", "{\"user_data\": {\"x\": {\"x\": [\"abcde\", \"zzzzz\"]}}}");
        let new = folder.path("new.json");
        let program = env!("CARGO_BIN_EXE_seccogc");
        let said = Command::new(program)
            .args(["predict".as_ref(), out.as_os_str(), new.as_os_str()])
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(
            said.lines().count() == 3 && said.lines().nth(1).unwrap().starts_with("1,a"),
            "{kind}: {said}"
        );
        let exported =
            Command::new(program).args(["export", out.to_str().unwrap(), "--format", "onnx"]).output();
        assert!(exported.unwrap().status.success(), "{kind}");
    }
}

#[test]
fn recurrent_models_are_for_sequences() {
    let error = |toml: &str| match Experiment::new(config_of(toml)).build() {
        Err(error) => error.to_string(),
        Ok(_) => panic!("nothing was refused"),
    };
    assert_eq!(
        error("model = { kind = \"gru\" }"),
        "model.kind: gru reads sequences, and these examples are 1×28×28; take texts (data.name = \"leaf\"), or mlp or softmax"
    );
    assert_eq!(
        error("model = { kind = \"char-lstm\", layers = 0 }"),
        "model.layers: must be at least 1, not 0"
    );
    assert_eq!(
        error("model = { kind = \"gru\", layers = 9 }"),
        "model.layers: 9 are too many; give at most 8"
    );
}

fn config_of(toml: &str) -> Config {
    toml::from_str(toml).unwrap()
}
