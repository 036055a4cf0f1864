//! `seccogc export`, `predict` and `evaluate`, and what a run keeps for them.

use seccogc::learn::state_dict::StateDict;
use seccogc::record::RunInfo;

use super::*;

/// What a call printed on standard output and on standard error.
fn shown(args: &[&str]) -> (String, String) {
    let output = seccogc(args);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{args:?}: {}", text[1]);
    text.into()
}

const QUICK: &str = "rounds = 2\nclients = 3\n[model]\nkind = \"softmax\"\n[solver]\nkind = \"sgd\"\nsteps = 2\n\
    [protocol]\nkind = \"ideal\"\n[evaluation]\nevery = 1\n";

impl Folder {
    /// Trains with these arguments beside the configuration's file, and returns the run folder and what was
    /// shown.
    fn train(&self, config: &str, name: &str, more: &[&str]) -> (String, String) {
        let (path, out) = (self.file("run.toml", config), self.path(name));
        let (_, shown) = shown(&[&["train", &path, "--out", &out], more].concat());
        (out, shown)
    }
}

/// A PNG of 28×28 pixels.
fn digit(colour: png::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 28, 28);
    encoder.set_color(colour);
    let pixels: Vec<u8> = (0..28 * 28 * colour.samples()).map(|i| (i * 7 % 256) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

#[test]
fn a_model_is_exported_once_asked_and_measured() {
    let folder = Folder::new();
    let (run, _) = folder.train(QUICK, "run", &[]);
    for format in ["safetensors", "npz", "onnx", "csv"] {
        let (_, said) = shown(&["export", &run, "--format", format]);
        assert_eq!(said, format!("model in {run}/model.{format}\n"));
    }
    let path = format!("{run}/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let weights = StateDict::from_safetensors(&bytes).unwrap();
    let about = weights.about.as_ref().unwrap();
    assert_eq!((about.round, about.shape, about.classes.len()), (2, [1, 28, 28], 10));
    assert_eq!(weights.get("output.weight").unwrap().shape, [10, 784]);
    fs::write(&path, "mine").unwrap();
    let again = ["export", &run, "--format", "safetensors"];
    assert_eq!(
        refusal(&again),
        format!("error: {path}: exists already; name another file with --out, or say --force")
    );
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    shown(&[&again[..], &["--force"]].concat());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(
        refusal(&["export", &run, "--format", "npz", "--best"]),
        format!("error: {run}: holds no best model; train with record.best = true, or take the last one")
    );
    assert_eq!(
        refusal(&["export", &folder.path("no"), "--format", "npz"]),
        format!(
            "error: {}/config.toml: cannot read: No such file or directory (os error 2)",
            folder.path("no")
        )
    );

    let (text, _) = shown(&["evaluate", &run]);
    let rounds = fs::read_to_string(format!("{run}/rounds.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(rounds.as_bytes());
    let rows: Vec<seccogc::record::Row> = rows.deserialize().collect::<Result<_, _>>().unwrap();
    let accuracy = 100.0 * rows[1].test_accuracy.unwrap();
    let first = format!("softmax after 2 rounds on mnist-subset: accuracy {accuracy:.2} % and loss ");
    assert!(text.starts_with(&first), "{text}");
    assert!(
        text.contains("\n| class | as 0 | as 1 |") && text.contains("\n| client | examples | "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2 + 12 + 1 + 5);
    let (table, _) = shown(&["evaluate", &run, "--csv"]);
    assert!(table.starts_with("of,name,examples,loss,accuracy,predicted 0,"), "{table}");

    let photos = folder.path("photos");
    fs::create_dir_all(format!("{photos}/seven")).unwrap();
    fs::write(format!("{photos}/a.png"), digit(png::ColorType::Grayscale)).unwrap();
    fs::write(format!("{photos}/seven/b.png"), digit(png::ColorType::Grayscale)).unwrap();
    let (all, _) = shown(&["predict", &run, &photos]);
    let lines: Vec<Vec<&str>> = all.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0][..4], ["example", "label", "p(0)", "p(1)"]);
    assert_eq!([lines[1][0], lines[2][0]], [format!("{photos}/a.png"), format!("{photos}/seven/b.png")]);
    let sum: f64 = lines[1][2..].iter().map(|p| p.parse::<f64>().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-12 && lines[1][1..] == lines[2][1..], "{all}");
    let out = folder.path("made/for/it/labels.csv");
    shown(&["predict", &run, &format!("{photos}/a.png"), "--out", &out]);
    assert_eq!(
        fs::read_to_string(&out).unwrap().lines().collect::<Vec<_>>(),
        all.lines().collect::<Vec<_>>()[..2]
    );
    let nowhere = folder.path("nowhere");
    assert_eq!(
        refusal(&["predict", &run, &nowhere]),
        format!("error: {nowhere}: cannot read: No such file or directory (os error 2)")
    );
    let coloured = folder.path("coloured.png");
    fs::write(&coloured, digit(png::ColorType::Rgb)).unwrap();
    assert_eq!(
        refusal(&["predict", &run, &coloured]),
        format!(
            "error: {coloured}: not all images are grey, as those are that the model learnt from; convert them"
        )
    );
}

#[test]
fn patience_ends_a_run_and_survives_an_interruption() {
    let folder = Folder::new();
    // Steps that change nothing: the first test is the best one.
    let still = format!("{QUICK}patience = 3\n[record]\nbest = true\n");
    let sets = ["--set", "solver.learning_rate=1e-12", "--set", "rounds=9"];
    let (run, said) = folder.train(&still, "run", &sets);
    let rounds = |run: &str| fs::read_to_string(format!("{run}/rounds.csv")).unwrap().lines().count() - 1;
    assert_eq!(rounds(&run), 4);
    let ended = "patience exhausted by 3 tests no better than ";
    assert!(said.contains(ended) && said.contains(" % in round 1, "), "{said}");
    let end = RunInfo::load(Path::new(&run).join("run.json").as_path()).unwrap().end.unwrap();
    assert_eq!(end.exhausted.map(|own| (own.tests, own.round)), Some((3, 1)));

    // Two rounds, then the rest.
    let (cut, said) = folder.train(&still, "cut", &[&sets[..], &["--set", "rounds=2"]].concat());
    assert!(!said.contains(ended) && rounds(&cut) == 2, "{said}");
    let config = format!("{cut}/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("rounds = 2\n", "rounds = 9\n")).unwrap();
    fs::remove_file(format!("{cut}/best.safetensors")).unwrap();
    let (_, said) = shown(&["train", "--resume", &cut]);
    assert!(said.contains(ended) && rounds(&cut) == 4, "{said}");
    assert_eq!(
        folder.refusal_of("[evaluation]\npatience = 0"),
        "error: run.toml: evaluation.patience: 0 is too small; give at least 1, or leave the key out to play all rounds"
    );
}

#[test]
fn a_run_starts_from_another_and_resumes_so() {
    let folder = Folder::new();
    let (first, _) = folder.train(QUICK, "first", &[]);
    let (second, _) = folder.train(QUICK, "second", &["--start", &first]);
    let model = |run: &str| fs::read(format!("{run}/checkpoint.bin")).unwrap();
    let trained = model(&second);
    assert_ne!(trained, model(&first));
    // Neither the other run nor a checkpoint is needed to go on.
    fs::remove_dir_all(&first).unwrap();
    fs::remove_file(format!("{second}/checkpoint.bin")).unwrap();
    shown(&["train", "--resume", &second]);
    assert_eq!(model(&second), trained);

    let start = format!("{second}/start.safetensors");
    let grid = format!(
        "start = \"{start}\"\n{QUICK}patience = 1\n[sweep.grid]\n\"solver.learning_rate\" = [0.1, 1e-12]\n"
    );
    let (sweep, out) = (folder.file("sweep.toml", &grid), folder.path("sweep"));
    let (_, said) = shown(&["sweep", &sweep, "--out", &out]);
    assert!(said.starts_with("2 runs, 0 of them finished"), "{said}");
    let (_, said) = shown(&["sweep", &sweep, "--out", &out, "--resume"]);
    assert!(said.starts_with("2 runs, 2 of them finished"), "{said}");

    let contenders = format!("{QUICK}[[compare]]\nname = \"one\"\nprotocol = {{ kind = \"ideal\" }}\n");
    let (config, out) = (folder.file("compare.toml", &contenders), folder.path("compared"));
    shown(&["compare", &config, "--start", &second, "--out", &out]);
    assert!(Path::new(&out).join("one/seed-1/start.safetensors").is_file());

    let wrong = QUICK.replace("softmax", "mlp");
    let path = folder.file("wrong.toml", &wrong);
    assert_eq!(
        refusal(&["train", &path, "--start", &start, "--out", &folder.path("wrong")]),
        format!("error: {start}: no tensor `hidden.0.weight`, which is 200×784 in this model")
    );
    assert_eq!(
        refusal(&["train", &path, "--start", &folder.path(""), "--out", &folder.path("wrong")]),
        format!("error: {}: holds no checkpoint; name a run folder that has one", folder.path(""))
    );
}
