//! Quantities and labels instead of classes: tables that train by them, and what is told of such models.

use burn::tensor::{Tensor, TensorData};

use seccogc::config::Config;
use seccogc::data::Examples;
use seccogc::learn::{Metrics, Objective, Score};
use seccogc::record::{Row, read_rounds};
use seccogc::train::Experiment;

use super::{Folder, seccogc};

/// Two features, then price = 500,000 + 300,000 x − 100,000 y and rent = price/1000 + 7, then a user.
fn houses() -> String {
    let mut table = String::from("x,y,price,rent,owner\n");
    for i in 0..240u32 {
        let (x, y) = (f64::from(i * 37 % 60) / 60.0 - 0.5, f64::from(i * 53 % 61) / 61.0 - 0.5);
        let price = 5e5 + 3e5 * x - 1e5 * y;
        table += &format!("{x},{y},{price},{},owner {}\n", price / 1000.0 + 7.0, i % 6);
    }
    table
}

const TRAINING: &str = "[model]\nkind = \"softmax\"\n[solver]\nkind = \"sgd\"\nlearning_rate = 0.1\nsteps = 10\n\
    batch_size = 16\n[protocol]\nkind = \"sec-cogc\"\nstragglers = 1\n";

fn written(folder: &Folder, data: &str, rest: &str) -> std::path::PathBuf {
    let config =
        format!("rounds = 15\nclients = 4\n[data]\nname = \"table\"\ntrain = \"own.csv\"\n{data}\n{rest}\n");
    folder.write("own.toml", config + TRAINING)
}

/// A command that succeeds, what it says, and what it prints.
fn ran(args: &[&str]) -> (String, String) {
    let output = seccogc(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    (said, String::from_utf8(output.stdout).unwrap())
}

fn metric(row: &Row, name: &str) -> f64 {
    row.metrics.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no {name}: {row:?}")).1
}

#[test]
fn quantities_are_learnt_over_failing_links_and_told_in_their_units() {
    let folder = Folder::new();
    folder.write("own.csv", houses());
    let data = "response = \"quantity\"\nlabel = [\"price\", \"rent\"]\nignore = [\"owner\"]";
    let path = written(&folder, data, "[record]\nbest = true\n[evaluation]\npatience = 3");
    let out = folder.path("run");
    let (path, run) = (path.to_str().unwrap(), out.to_str().unwrap());
    let (said, _) = ran(&["train", path, "--out", run]);
    assert!(said.starts_with("client  examples  total\n"), "{said}");
    let rows = read_rounds(&out.join("rounds.csv")).unwrap();
    let last = rows.last().unwrap();
    assert!(last.test_accuracy.is_none() && last.test_loss < Some(1e-3), "{last:?}");
    // Prices vary by about 10⁵, so that the mean of the squares of both is about half of that squared.
    assert!(metric(last, "test_r2") > 0.999 && metric(last, "test_mse") < 1e8, "{last:?}");
    assert!(said.contains(&format!(": loss {:.4}, recovered", last.test_loss.unwrap())), "{said}");
    assert!(out.join("accuracy.svg").is_file() && out.join("best.safetensors").is_file());

    let new = folder.write("new.csv", "x,y,owner\n0.5,-0.5,a\n-0.5,0,b\n");
    let (_, told) = ran(&["predict", run, new.to_str().unwrap()]);
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told[0], "example,price,rent");
    for (line, price) in told[1..].iter().zip([7e5, 3.5e5]) {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let apart = [cells[1] - price, cells[2] - price / 1000.0 - 7.0];
        assert!(apart[0].abs() < 6000.0 && apart[1].abs() < 6.0, "{line}");
    }
    let (_, measured) = ran(&["evaluate", run]);
    assert!(measured.starts_with("softmax after "), "{measured}");
    let line = format!("loss {:.4}, mse {:.4}, mae ", last.test_loss.unwrap(), metric(last, "test_mse"));
    assert!(measured.contains(&line) && measured.contains("| client | examples |"), "{measured}");
    let (_, table) = ran(&["evaluate", run, "--csv"]);
    assert!(table.starts_with("of,name,examples,loss,accuracy,mse,mae,r2\ntest,all,48,"), "{table}");
    let onnx = folder.path("model.onnx");
    ran(&["export", run, "--format", "onnx", "--out", onnx.to_str().unwrap()]);
    assert!(std::fs::read(onnx).unwrap().windows(10).any(|name| name == b"quantities"));

    let compared = format!(
        "[[compare]]\nname = \"ideal\"\nprotocol.kind = \"ideal\"\n{}",
        std::fs::read_to_string(path).unwrap()
    );
    // Tables of a list go last.
    let (list, rest) = compared.split_once("\nrounds").unwrap();
    let path = folder.write("compare.toml", format!("rounds{rest}\n{list}\n"));
    let folder = folder.path("compared");
    let (_, table) = ran(&["compare", path.to_str().unwrap(), "--out", folder.to_str().unwrap()]);
    assert!(table.contains("| final loss |") && !table.contains("accuracy"), "{table}");
}

#[test]
fn owners_are_clients_who_learn_quantities() {
    let folder = Folder::new();
    folder.write("own.csv", houses());
    let data = "response = \"quantity\"\nlabel = \"price\"\nignore = [\"rent\"]\nuser = \"owner\"";
    let path = written(&folder, data, "[partition]\nkind = \"natural\"");
    let setting = Experiment::new(Config::load(&path, &[]).unwrap()).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    let rows: Vec<Row> = run.rounds().collect::<Result<_, _>>().unwrap();
    let last = rows.iter().rev().find(|row| row.test_loss.is_some()).unwrap();
    assert!(metric(last, "test_r2") > 0.99, "{last:?}");
}

#[test]
fn examples_have_several_labels() {
    let folder = Folder::new();
    let mut table = String::from("big,positive,x,y\n");
    for i in 0..240u32 {
        let (x, y) = (f64::from(i * 37 % 60) / 60.0 - 0.5, f64::from(i * 53 % 61) / 61.0 - 0.5);
        table += &format!("{},{},{x},{y}\n", u8::from(x + y > 0.3), x > 0.0);
    }
    folder.write("own.csv", table);
    let data = "response = \"labels\"\nlabel = [\"big\", \"positive\"]";
    let path = written(&folder, data, "[evaluation]\nclient_share = 0.2\ntarget = 0.85");
    let out = folder.path("run");
    let run = out.to_str().unwrap();
    ran(&["train", path.to_str().unwrap(), "--out", run, "--set", "solver.learning_rate=1.0", "--quiet"]);
    let rows = read_rounds(&out.join("rounds.csv")).unwrap();
    let last = rows.last().unwrap();
    assert!(last.test_accuracy > Some(0.9) && metric(last, "test_auc") > 0.98, "{last:?}");
    assert!(last.client_accuracy_worst > Some(0.5), "{last:?}");
    let new = folder.write("new.csv", "x,y\n0.45,0.45\n-0.4,-0.4\n0.4,-0.4\n");
    let (_, told) = ran(&["predict", run, new.to_str().unwrap()]);
    let told: Vec<&str> = told.lines().map(|line| &line[..line.len().min(15)]).collect();
    assert_eq!(told[0], "example,label,p");
    assert!(told[1].starts_with("1,big positive,") && told[2].starts_with("2,,0"), "{told:?}");
    assert!(told[3].starts_with("3,positive,"), "{told:?}");
}

/// The mean absolute error of one quantity: outliers pull at it no more than others do.
struct AbsoluteError;

impl AbsoluteError {
    fn wanted(examples: &Examples, batch: &[usize]) -> Vec<f32> {
        batch.iter().map(|&i| (examples.responses(i)[0] / 1e5) as f32).collect()
    }
}

impl Objective for AbsoluteError {
    fn loss(&self, outputs: Tensor<2>, examples: &Examples, batch: &[usize]) -> Tensor<1> {
        let wanted = TensorData::new(Self::wanted(examples, batch), outputs.dims());
        (outputs.clone() - Tensor::from_data(wanted, &outputs.device())).abs().mean()
    }

    fn score(&self, outputs: &[f32], examples: &Examples, batch: &[usize]) -> Score {
        let apart = outputs.iter().zip(Self::wanted(examples, batch)).map(|(x, wanted)| x - wanted);
        Score { loss: apart.map(|x| f64::from(x.abs())).sum(), hits: None }
    }

    fn measure(&self, loss: f64, outputs: &[f32], examples: &Examples) -> Metrics {
        // Prices of the law are 200,000 to 700,000.
        let right: Vec<usize> = (0..examples.len()).filter(|&i| examples.responses(i)[0] < 1e6).collect();
        let told: Vec<f32> = right.iter().map(|&i| outputs[i]).collect();
        let score = self.score(&told, examples, &right);
        vec![("thousands".into(), 100.0 * loss), ("right".into(), score.loss / right.len() as f64)]
    }
}

#[test]
fn a_loss_of_ones_own_is_descended_and_measured() {
    let folder = Folder::new();
    // One price in twenty is wrong by a factor.
    let table: Vec<String> = houses()
        .lines()
        .enumerate()
        .map(|(i, line)| match line.split(',').collect::<Vec<_>>()[..] {
            [x, y, price, rent, owner] if i % 20 == 7 => {
                format!("{x},{y},{},{rent},{owner}", 10.0 * price.parse::<f64>().unwrap())
            }
            _ => line.to_owned(),
        })
        .collect();
    folder.write("own.csv", table.join("\n"));
    let data = "response = \"quantity\"\nlabel = \"price\"\nignore = [\"rent\", \"owner\"]";
    let path = written(&folder, data, "");
    let config = Config::load(&path, &["rounds=60".into()]).unwrap();
    let setting = Experiment::new(config).objective(AbsoluteError).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    assert_eq!(run.info().own, ["objective"]);
    let rows: Vec<Row> = run.rounds().collect::<Result<_, _>>().unwrap();
    let last = rows.iter().rev().find(|row| row.test_loss.is_some()).unwrap();
    assert!((metric(last, "test_thousands") - 100.0 * last.test_loss.unwrap()).abs() < 1e-9);
    // What is wrong does not move the model far from the law.
    assert!(metric(last, "test_right") < 0.25 && last.test_loss > Some(0.5), "{last:?}");
}

#[test]
fn what_needs_classes_is_refused() {
    let folder = Folder::new();
    folder.write("own.csv", houses());
    let quantity = "response = \"quantity\"\nlabel = \"price\"\nignore = [\"rent\", \"owner\"]";
    for (data, rest, want) in [
        (
            quantity,
            "[partition]\nkind = \"dirichlet\"",
            "partition.kind: divides examples by class, and these have none; take \"iid\", \"quantity\" or \"natural\"",
        ),
        (
            quantity,
            "[evaluation]\ntarget = 0.9",
            "evaluation.target: is about accuracy, and quantities (data.response) have none; remove it",
        ),
        (
            quantity,
            "[evaluation]\nclient_share = 0.2",
            "evaluation.client_share: is about accuracy, and quantities (data.response) have none; remove it",
        ),
        (
            "label = [\"price\", \"rent\"]\nignore = [\"owner\"]",
            "",
            "data.label: 2 columns, but an example has one class; take response = \"quantity\" or \"labels\"",
        ),
        ("label = []", "", "an empty list; name one column at least"),
    ] {
        let path = written(&folder, data, rest);
        let output =
            seccogc(&["train", path.to_str().unwrap(), "--out", folder.path("no").to_str().unwrap()]);
        let said = folder.shorten(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().last().unwrap_or_default().contains(want), "{said}");
        assert!(!folder.path("no").exists());
    }
    let path = folder.write("images.toml", "clients = 3\n[data]\nresponse = \"quantity\"\n");
    let output = seccogc(&["train", path.to_str().unwrap(), "--out", folder.path("no").to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("data.response: is for name = \"table\", not mnist-subset; remove it"), "{said}");
}
