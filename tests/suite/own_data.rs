//! The user's own data as a user meets it: tables that train, and one line for every damage. Images are in
//! [`images`].

pub mod images;
mod responses;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use seccogc::config::Config;
use seccogc::data::Dataset;

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The dataset of a `[data]` section in a configuration of this folder.
    pub fn load(&self, data: &str) -> Result<Dataset, String> {
        let path = self.write("run.toml", format!("clients = 2\n[data]\n{data}"));
        let config = Config::load(&path, &[]).map_err(|error| self.shorten(&error.to_string()))?;
        config.data.load().map_err(|error| self.shorten(&error.to_string()))
    }

    pub fn refusal(&self, data: &str) -> String {
        self.load(data).err().unwrap()
    }

    /// `text` without the path of the folder.
    pub fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

pub fn seccogc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap()
}

/// Three classes of points around three centres, 60 each; the second feature has a unit a million times
/// larger.
fn blobs() -> String {
    let mut table = String::from("x,y,species\n");
    for i in 0..180 {
        let class = i % 3;
        let (a, b) = (f64::from(i * 37 % 60) / 60.0 - 0.5, f64::from(i * 53 % 60) / 60.0 - 0.5);
        let (x, y) = [(0.0, 0.0), (2.0, 1.0), (-1.0, 3.0)][class as usize];
        let species = ["setosa", "versicolor", "virginica"][class as usize];
        table += &format!("{},{},{species}\n", x + a, 1e6 * (y + b));
    }
    table
}

#[test]
fn a_table_trains_a_model_over_failing_links() {
    let folder = Folder::new();
    folder.write("flowers.csv", blobs());
    let config = "rounds = 20\nclients = 3\n[evaluation]\nevery = 20\nclient_share = 0.25\n\
        [data]\nname = \"table\"\ntrain = \"flowers.csv\"\nlabel = \"species\"\n\
        [model]\nkind = \"mlp\"\nhidden = [8, 8]\n[solver]\nkind = \"sgd\"\nlearning_rate = 0.2\nepochs = 4\n\
        [protocol]\nkind = \"sec-cogc\"\nstragglers = 1\n";
    let path = folder.write("flowers.toml", config);
    let out = folder.path("run");
    let output = seccogc(&["train", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.starts_with("client  setosa  versicolor  virginica  total\n"), "{shown}");

    let mut rounds = csv::Reader::from_path(out.join("rounds.csv")).unwrap();
    let rows: Vec<seccogc::record::Row> = rounds.deserialize().collect::<Result<_, _>>().unwrap();
    let last = rows.last().unwrap();
    assert!(last.test_accuracy > Some(0.95), "{last:?}");
    assert!(rows[..19].iter().all(|row| row.client_accuracy_worst.is_none()));

    // The figures of the round are those of its clients, and the final line shows them.
    let mut clients = csv::Reader::from_path(out.join("clients.csv")).unwrap();
    let rows: Vec<seccogc::record::ClientRow> = clients.deserialize().collect::<Result<_, _>>().unwrap();
    let accuracies: Vec<f64> = rows.iter().filter_map(|row| row.test_accuracy).collect();
    assert_eq!((rows.len(), accuracies.len()), (60, 3));
    // 144 of 180 examples are for training, 48 a client, 12 of them held out.
    assert!(rows.iter().all(|row| row.examples == 36));
    assert!(accuracies.iter().all(|a| (a * 12.0).fract() == 0.0), "{accuracies:?}");
    let worst = accuracies.iter().copied().fold(f64::INFINITY, f64::min);
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    assert_eq!((last.client_accuracy_worst, last.client_accuracy_best), (Some(worst), Some(best)));
    let line = format!("(clients {:.2} to {:.2} %, std ", 100.0 * worst, 100.0 * best);
    assert!(shown.contains(&line), "{shown}");

    // The resolved configuration still finds the table.
    let resumed = seccogc(&["train", "--resume", out.to_str().unwrap(), "--quiet"]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
}

#[test]
fn rows_set_aside_are_a_fifth_and_the_same_for_every_run() {
    let folder = Folder::new();
    folder.write("flowers.csv", blobs());
    let section = "name = \"table\"\ntrain = \"flowers.csv\"\n";
    let data = folder.load(section).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.classes), (144, 36, 3));
    assert_eq!(data.class_names, ["setosa", "versicolor", "virginica"]);
    assert_eq!(data.train.shape(), [1, 1, 2]);
    assert_eq!(folder.load(section).unwrap().test, data.test);
    assert_ne!(folder.load(&format!("{section}test_seed = 2")).unwrap().test, data.test);
    let half = folder.load(&format!("{section}test_share = 0.5\nstandardise = false")).unwrap();
    assert_eq!((half.train.len(), half.test.len()), (90, 90));
    assert_eq!(half.normalisation.std, [1.0]);
    // The statistics are those of the training rows alone.
    let mut values = Vec::new();
    let all: Vec<usize> = (0..144).collect();
    data.train.extend_batch(&all, &data.normalisation, &mut values);
    for column in 0..2 {
        let column: Vec<f64> = values.iter().skip(column).step_by(2).map(|x| f64::from(*x)).collect();
        let mean = column.iter().sum::<f64>() / 144.0;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 144.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
    }
}

/// What training on a table says on standard error, and its rows.
fn trained(folder: &Folder, table: &str, keys: &str) -> (String, Vec<seccogc::record::Row>) {
    folder.write("own.csv", table);
    let config = format!(
        "rounds = 6\nclients = 3\n[data]\nname = \"table\"\ntrain = \"own.csv\"\n{keys}\n[model]\nkind = \"softmax\"\n\
         [solver]\nkind = \"sgd\"\nlearning_rate = 0.1\nsteps = 5\nbatch_size = 8\n\
         [protocol]\nkind = \"sec-cogc\"\nstragglers = 1\n"
    );
    let path = folder.write("own.toml", config);
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("run");
    let output = seccogc(&["train", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let shown = folder.shorten(&String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{shown}");
    let rows =
        csv::Reader::from_path(out.join("rounds.csv")).unwrap().deserialize().collect::<Result<_, _>>();
    (shown, rows.unwrap())
}

/// 120 rows of three classes, each around a time of its own, from `start` on.
fn times(start: i64) -> String {
    let row = |i: i64| {
        format!("{},{}\n", start + 20_000 * (i % 3) + i * 37 % 4000, ["a", "b", "c"][i as usize % 3])
    };
    format!("t_ms,kind\n{}", (0..120).map(row).collect::<String>())
}

#[test]
fn milliseconds_since_1970_are_learnt_as_well_as_small_numbers() {
    let folder = Folder::new();
    let (shown, rows) = trained(&folder, &times(1_700_000_000_000), "");
    let (_, shifted) = trained(&folder, &times(0), "");
    let accuracies =
        |rows: &[seccogc::record::Row]| rows.iter().map(|row| row.test_accuracy).collect::<Vec<_>>();
    assert_eq!(accuracies(&rows), accuracies(&shifted));
    assert!(rows.last().unwrap().test_accuracy > Some(0.9), "{shown}");
    assert!(!shown.contains("WARN"), "{shown}");
}

#[test]
fn what_is_in_doubt_about_a_table_is_said() {
    let folder = Folder::new();
    let blobs = blobs();
    let (_, rows) = blobs.split_once('\n').unwrap();
    let warning = |table: &str, keys: &str, want: &str| {
        let (shown, _) = trained(&folder, table, keys);
        let warnings: Vec<&str> = shown.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings, [format!(" WARN own.csv: {want}")], "{shown}");
    };
    warning(rows, "", "line 1 is taken for an example, as it holds numbers; data.header = false says so");
    warning(
        rows,
        "header = true",
        "line 1 looks like an example, but data.header = true takes it for the header",
    );
    let mixed = blobs.replacen("setosa", "Setosa", 5).replacen("virginica", "VIRGINICA", 1);
    warning(
        &mixed,
        "",
        "classes that differ in writing only: `Setosa` and `setosa`, `VIRGINICA` and `virginica`; write them alike if they are one",
    );
    let gaps = format!("{blobs},3,setosa\nNA,2,setosa\n");
    warning(&gaps, "on_missing = \"drop\"", "2 of 182 examples left out for missing values");
    assert!(!trained(&folder, rows, "header = false").0.contains("WARN"));
    assert!(!trained(&folder, &gaps, "on_missing = \"mean\"").0.contains("WARN"));
}

#[test]
fn tabulators_have_a_name_and_columns_can_be_left_out() {
    let folder = Folder::new();
    folder.write("own.tsv", "id\tx\tc\nk1\t1\ta\nk2\t2\tb\nk3\t3\tb\n");
    for delimiter in ["\"tab\"", "\"\\t\"", "'\\t'"] {
        let section = format!(
            "name = \"table\"\ntrain = \"own.tsv\"\nignore = [\"id\"]\ndelimiter = {delimiter}\nstandardise = false"
        );
        let data = folder.load(&section).unwrap();
        assert_eq!((data.train.len() + data.test.len(), data.train.shape()), (3, [1, 1, 1]), "{delimiter}");
    }
    let written = "name = \"table\"\ntrain = \"own.tsv\"\ndelimiter = \"tabulator\"";
    assert_eq!(
        folder.refusal(written),
        "run.toml: data.delimiter: \"tabulator\" is not one character; take \";\" or \"tab\""
    );
}

#[test]
fn means_are_those_of_the_training_examples() {
    let folder = Folder::new();
    folder.write("train.csv", "x,c\n1,a\nNA,b\n3,a\n");
    folder.write("test.csv", "x,c\n100,a\n,b\n");
    let section = "name = \"table\"\ntrain = \"train.csv\"\ntest = \"test.csv\"\nstandardise = false\non_missing = \"mean\"";
    let data = folder.load(section).unwrap();
    let mut values = Vec::new();
    data.train.extend_batch(&[0, 1, 2], &data.normalisation, &mut values);
    data.test.extend_batch(&[0, 1], &data.normalisation, &mut values);
    assert_eq!(values, [1.0, 2.0, 3.0, 100.0, 2.0]);
}

#[test]
fn a_test_table_of_its_own_is_used_whole() {
    let folder = Folder::new();
    folder.write("train.csv", "4;1\n5;2\n6;3\n7;1\n");
    folder.write("test.csv", "8;3\n9;1\n");
    let section =
        "name = \"table\"\ntrain = \"train.csv\"\ntest = \"test.csv\"\nheader = false\ndelimiter = \";\"";
    let data = folder.load(section).unwrap();
    assert_eq!((data.train.labels(), data.test.labels()), (&[0, 1, 2, 0][..], &[2, 0][..]));
    folder.write("test.csv", "8;4\n");
    assert_eq!(folder.refusal(section), "test.csv: line 1: no training example is of class `4`");
    folder.write("test.csv", "8;9;4\n");
    assert_eq!(folder.refusal(section), "test.csv: 3 columns where the training table has 2");
    fs::remove_file(folder.path("test.csv")).unwrap();
    assert_eq!(folder.refusal(section), "test.csv: cannot read: No such file or directory (os error 2)");
}

#[test]
fn keys_that_a_dataset_has_no_use_for_are_refused() {
    let folder = Folder::new();
    let table = "name = \"table\"\ntrain = \"t.csv\"\n";
    for (section, want) in [
        ("name = \"table\"", "train: is missing; name the CSV file of the training examples"),
        ("name = \"image-folder\"", "train: is missing; name the folder of the training examples"),
        (
            "train = \"t.csv\"",
            "train: is for name = \"table\", \"image-folder\", \"user-folders\" and \"leaf\", not mnist-subset; remove it",
        ),
        (
            "name = \"image-folder\"\ntrain = \"t\"\nlabel = 1",
            "label: is for name = \"table\", not image-folder; remove it",
        ),
        (
            &format!("{table}test = \"u.csv\"\ntest_share = 0.5"),
            "test_share: cannot stand beside `test`; remove one of the two",
        ),
        (&format!("{table}test_share = 1.0"), "test_share: 1 must be above 0 and below 1; try 0.2"),
        (
            &format!("{table}delimiter = \"é\""),
            "delimiter: 'é' cannot separate fields; take one ASCII character such as \";\"",
        ),
        (&format!("{table}flip = true"), "flip: a table's rows cannot be mirrored; remove it"),
        (
            &format!("{table}bits = 12"),
            "bits: is for name = \"image-folder\" and \"user-folders\", not table; remove it",
        ),
        ("name = \"image-folder\"\ntrain = \"t\"\nbits = 7", "bits: 7 is out of range; give 8 to 16"),
        (
            "name = \"image-folder\"\ntrain = \"t\"\nignore = [1]",
            "ignore: is for name = \"table\", not image-folder; remove it",
        ),
        (&format!("{table}crop = 1"), "crop: a table's rows cannot be cropped; remove it"),
    ] {
        assert_eq!(folder.refusal(section), format!("run.toml: data.{want}"), "{section}");
    }
    assert_eq!(
        folder.refusal(&format!("{table}label = true")),
        "run.toml: data.label: invalid type: boolean `true`, expected the name of a column, its number from 1, or a list of these"
    );
    assert_eq!(folder.refusal("crop = 28"), "crop: 28 is not below the sides of 28×28 images; try 4");
}
