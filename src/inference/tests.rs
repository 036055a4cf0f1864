use super::*;
use crate::record::Row;

/// Three classes of points; the model learns them in a few rounds.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..90).map(|i| {
        let (class, a, b) = (i % 3, f64::from(i * 37 % 60) / 60.0, f64::from(i * 53 % 60) / 60.0);
        let (x, y) = [(0.0, 0.0), (3.0, 1.0), (-1.0, 4.0)][class as usize];
        format!("{},{},{}\n", x + a, 1e4 * (y + b), ["a", "b", "c"][class as usize])
    });
    let table = format!("x,y,kind\n{}", rows.collect::<String>());
    std::fs::write(folder.path().join("points.csv"), table).unwrap();
    folder
}

/// A finished run with these keys beside the table's.
fn run(folder: &Path, name: &str, more: &str) -> std::path::PathBuf {
    let text = format!(
        "clients = 3\nrounds = 6\n{more}\n[data]\nname = 'table'\ntrain = 'points.csv'\n\
         [model]\nkind = 'mlp'\nhidden = [5]\n[protocol]\nkind = 'ideal'\n[privacy]\nmeasure = false\n"
    );
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, &[]).unwrap();
    let setting = Setting::build(&config, "cpu".parse().unwrap()).unwrap();
    let run = setting.run(&config.protocol).unwrap();
    let out = folder.join(name);
    let (state, mut directory) = run.create(&out).unwrap();
    run.record(state, &mut directory, &mut |_| Ok(())).unwrap();
    out
}

fn load(run: &Path, which: Which) -> Result<TrainedModel> {
    TrainedModel::load(run, which, "cpu".parse()?, None)
}

fn rows(run: &Path) -> Vec<Row> {
    crate::record::read_rows(&run.join("rounds.csv")).unwrap()
}

const TESTED: &str = "evaluation = { every = 1, client_share = 0.25 }\nrecord = { best = true }";

#[test]
fn a_model_measures_what_its_run_measured() {
    let folder = folder();
    let run = run(folder.path(), "run", TESTED);
    let last = rows(&run).pop().unwrap();
    let model = load(&run, Which::Last).unwrap();
    assert_eq!(model.round(), 6);
    let evaluated = model.evaluate(None).unwrap();
    let [test] = evaluated.of(Part::Test).collect::<Vec<_>>()[..] else { panic!("one group") };
    assert_eq!((test.examples, Some(test.accuracy)), (18, last.test_accuracy));
    assert!((test.loss - last.test_loss.unwrap()).abs() < 1e-12);
    // The confusion matrix: rows sum to the classes, its diagonal to the hits.
    let classes: Vec<&Group> = evaluated.of(Part::Class).collect();
    assert_eq!(classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let hits: usize = classes.iter().enumerate().map(|(i, class)| class.predicted[i]).sum();
    assert_eq!(hits as f64, (test.accuracy * 18.0).round());
    for class in &classes {
        assert_eq!(class.predicted.iter().sum::<usize>(), class.examples);
    }
    // Clients: 72 training examples, of which each keeps a quarter out.
    let held: Vec<&Group> = evaluated.of(Part::HeldOut).collect();
    assert_eq!(held.len(), 3);
    let worst = held.iter().map(|group| group.accuracy).fold(1.0, f64::min);
    assert_eq!(Some(worst), last.client_accuracy_worst);
    let trained: usize = evaluated.of(Part::Client).map(|group| group.examples).sum();
    assert_eq!(trained + held.iter().map(|group| group.examples).sum::<usize>(), 72);
    let table = String::from_utf8(evaluated.to_csv().unwrap()).unwrap();
    assert!(
        table.starts_with("of,name,examples,loss,accuracy,predicted a,predicted b,predicted c\ntest,all,18,")
    );
    assert_eq!(table.lines().count(), 1 + 1 + 3 + 3 + 3);

    // The same file as other data: all 90 points, and no clients.
    let path = folder.path().join("points.csv");
    let other = model.evaluate(Some(&path)).unwrap();
    assert_eq!(other.groups.iter().map(|group| group.examples).collect::<Vec<_>>(), [90, 30, 30, 30]);
    let predicted = model.predict(&path).unwrap();
    let labels: Vec<String> = String::from_utf8(predicted.to_csv(false).unwrap())
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().to_owned())
        .collect();
    let counted = |class: &&Group| labels.iter().filter(|label| **label == class.name).count();
    let counts: Vec<usize> = other.of(Part::Class).map(|class| counted(&class)).collect();
    assert_eq!(counts, other.groups[0].predicted);
}

#[test]
fn the_best_model_is_that_of_the_best_test() {
    let folder = folder();
    // A rate at which the loss goes up and down.
    let wild = format!("{TESTED}\n[solver]\nkind = 'sgd'\nlearning_rate = 3.0");
    let run = run(folder.path(), "wild", &wild);
    let rows = rows(&run);
    let best = crate::record::best(&rows).unwrap();
    assert!(best.round < 6, "{rows:?}");
    let model = load(&run, Which::Best).unwrap();
    assert_eq!(model.round(), best.round);
    assert_eq!(Some(model.evaluate(None).unwrap().groups[0].accuracy), best.test_accuracy);
    std::fs::remove_file(run.join(BEST)).unwrap();
    let error = load(&run, Which::Best).err().unwrap().to_string();
    assert!(
        error.ends_with("wild: holds no best model; train with record.best = true, or take the last one")
    );
}

#[test]
fn an_exported_model_is_where_another_run_starts() {
    let folder = folder();
    let first = run(folder.path(), "first", TESTED);
    let model = load(&first, Which::Last).unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, model.export(Format::Safetensors).unwrap()).unwrap();
    let from_file = run(folder.path(), "file", &format!("start = 'model.safetensors'\n{TESTED}"));
    let from_folder = run(folder.path(), "folder", &format!("start = 'first'\n{TESTED}"));
    let read = |run: &Path, name: &str| std::fs::read(run.join(name)).unwrap();
    assert_eq!(read(&from_file, "checkpoint.bin"), read(&from_folder, "checkpoint.bin"));
    assert_ne!(read(&from_file, "checkpoint.bin"), read(&first, "checkpoint.bin"));
    let start = StateDict::from_safetensors(&read(&from_file, "start.safetensors")).unwrap();
    let layers = model.setting.learner().layers();
    assert_eq!(start.flat(Layout::Burn, &layers).unwrap(), model.parameters);
    // The folder holds its start: it can be repeated, though the file is another one now.
    std::fs::write(&file, "gone").unwrap();
    let config = Config::load(&from_file.join("config.toml"), &[]).unwrap();
    assert_eq!(config.start, Some(from_file.join("start.safetensors")));
    let setting = Setting::build(&config, "cpu".parse().unwrap()).unwrap();
    let again = setting.run(&config.protocol).unwrap();
    assert_eq!(again.start().server.parameters, model.parameters);

    let other = Config { start: Some(first.clone()), ..Config::default() };
    let error = Setting::build(&other, "cpu".parse().unwrap()).err().unwrap().to_string();
    let wrong = "tensor `hidden.0.weight` is 5×2 where this model has 200×784";
    assert_eq!(error, format!("{}: {wrong}", first.display()));
}

#[test]
fn new_rows_need_the_columns_of_the_training_table() {
    let folder = folder();
    let run = run(folder.path(), "run", "");
    let model = load(&run, Which::Last).unwrap();
    let path = folder.path().join("new.csv");
    let predict = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let found = model.predict(&path).and_then(|found| found.to_csv(true));
        found.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string())
    };
    let bare = predict("x,y\n0.5,5000\n3.5,15000\n").unwrap();
    assert!(bare.starts_with("example,label,logit(a),logit(b),logit(c)\n1,"), "{bare}");
    assert_eq!(predict("x,y,kind\n0.5,5000,?\n3.5,15000,b\n").unwrap(), bare);
    let refusal = |text: &str| predict(text).unwrap_err().replace(&path.display().to_string(), "new.csv");
    assert_eq!(
        refusal("x\n1\n"),
        "new.csv: 1 column; give the 2 of the training table without that of the class, or with it"
    );
    assert_eq!(refusal("x,z\n1,2\n"), "new.csv: a column `z` where the training table has `y`");
    assert_eq!(
        refusal("x,y\n1,many\n"),
        "new.csv: line 2, column 2 (`y`): `many` is not a finite number; features must be numbers, and other columns named in data.ignore"
    );
}

#[test]
fn probabilities_add_up_however_large_the_logits_are() {
    let found = Predictions {
        response: Response::Class,
        classes: vec!["no".into(), "yes, \"sure\"".into()],
        names: vec!["1".into(), "2".into(), "3".into()],
        outputs: vec![0.0, 0.0, -3e38, 3e38, f32::NAN, 1.0],
    };
    let csv = |found: &Predictions, logits| String::from_utf8(found.to_csv(logits).unwrap()).unwrap();
    let labels = Predictions {
        response: Response::Labels,
        classes: vec!["old".into(), "red".into()],
        names: vec!["1".into(), "2".into()],
        outputs: vec![0.0, 0.5, 1.0, 1e30],
    };
    let likely = 1.0 / (1.0 + (-0.5f64).exp());
    let sure = 1.0 / (1.0 + (-1f64).exp());
    assert_eq!(
        csv(&labels, false),
        format!("example,label,p(old),p(red)\n1,red,0.5,{likely}\n2,old red,{sure},1\n")
    );
    let quantities = Predictions { response: Response::Quantity, ..labels };
    assert_eq!(csv(&quantities, true), format!("example,old,red\n1,0,0.5\n2,1,{}\n", 1e30f32));
    assert_eq!(
        csv(&found, false),
        "example,label,p(no),\"p(yes, \"\"sure\"\")\"\n1,no,0.5,0.5\n2,\"yes, \"\"sure\"\"\",0,1\n3,,NaN,NaN\n"
    );
}
