//! The verbs `export`, `predict` and `evaluate`: what becomes of a run's model.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{print, show_warnings};
use crate::data::Response;
use crate::error::{Error, Result};
use crate::inference::{Evaluated, Format, Group, Part, TrainedModel, Which};
use crate::record::write_named;
use crate::report::markdown;
use crate::say::say;

const EXPORT_EXAMPLES: &str = "Examples:\n  \
    seccogc export runs/s5 --format safetensors\n  \
    seccogc export runs/s5 --format onnx --best --out model.onnx\n\n\
    safetensors and npz hold the weights with the names and layouts of a PyTorch module whose fields are called as\n\
    `seccogc model show` lists them (linear weights [out, in]); a safetensors file says in its metadata, under\n\
    `seccogc`, how examples are standardised and which class each logit is. An ONNX file standardises by itself:\n\
    it takes pixels in [0, 1], or features as they are.";

const PREDICT_EXAMPLES: &str = "Examples:\n  \
    seccogc predict runs/flowers new.csv\n  \
    seccogc predict runs/pictures photos --best --out labels.csv\n  \
    seccogc predict runs/mnist digit.png --logits";

const EVALUATE_EXAMPLES: &str = "Examples:\n  \
    seccogc evaluate runs/s5\n  \
    seccogc evaluate runs/s5 --best --csv > evaluation.csv\n  \
    seccogc evaluate runs/flowers --data more.csv          on other examples with classes";

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Write the model of a run for PyTorch, NumPy, ONNX or as a table
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Print what the model of a run says of new examples: a CSV file, an image or a folder of images
    #[command(after_help = PREDICT_EXAMPLES)]
    Predict(Predict),
    /// Measure the model of a run: accuracy, loss, confusion matrix, and what every client has of it
    #[command(after_help = EVALUATE_EXAMPLES)]
    Evaluate(Evaluate),
}

/// The model of a run.
#[derive(Args)]
struct Model {
    /// The run folder
    run: PathBuf,
    /// The model of the highest test accuracy (`record.best`) instead of the last one
    #[arg(long)]
    best: bool,
    /// Where the neural network computes: cpu (flex), ndarray or wgpu, as built in
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Model {
    fn load(&self) -> Result<TrainedModel> {
        show_warnings(false);
        let which = if self.best { Which::Best } else { Which::Last };
        TrainedModel::load(&self.run, which, self.device.parse()?, self.data_dir.as_deref())
    }
}

#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    model: Model,
    /// The kind of file
    #[arg(long)]
    format: Format,
    /// The file [default: model.EXTENSION, or model-best.EXTENSION, in the run folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub(super) struct Predict {
    #[command(flatten)]
    model: Model,
    /// A CSV file with the columns of the training table (the class may be missing); or a PNG or JPEG file,
    /// or a folder of them, of the size of the training images
    examples: PathBuf,
    /// Scores before the softmax instead of probabilities
    #[arg(long)]
    logits: bool,
    /// The CSV file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub(super) struct Evaluate {
    #[command(flatten)]
    model: Model,
    /// Other examples with classes than the run's test data: a CSV file for a table, else a folder with a
    /// subfolder of images per class
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Print one table as CSV instead
    #[arg(long)]
    csv: bool,
}

pub(super) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Export(args) => export(args),
        Verb::Predict(args) => predict(args),
        Verb::Evaluate(args) => evaluate(args),
    }
}

/// Refuses a file that exists, unless it is to be written over.
fn check_free(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        return Err(Error::file(path, "exists already; name another file with --out, or say --force"));
    }
    Ok(())
}

fn export(args: &Export) -> Result<()> {
    let Export { model, format, out, force } = args;
    let name = if model.best { "model-best" } else { "model" };
    let beside = || model.run.join(name).with_extension(format.extension());
    let path = out.clone().unwrap_or_else(beside);
    check_free(&path, *force)?;
    write_named(&path, &model.load()?.export(*format)?)?;
    say!("model in {}", path.display());
    Ok(())
}

fn predict(args: &Predict) -> Result<()> {
    let Predict { model, examples, logits, out, force } = args;
    out.iter().try_for_each(|path| check_free(path, *force))?;
    let table = model.load()?.predict(examples)?.to_csv(*logits)?;
    match out {
        Some(path) => write_named(path, &table),
        None => print(&String::from_utf8_lossy(&table)),
    }
}

fn evaluate(args: &Evaluate) -> Result<()> {
    let Evaluate { model, data, csv } = args;
    let model = model.load()?;
    let evaluated = model.evaluate(data.as_deref())?;
    if *csv {
        return print(&String::from_utf8_lossy(&evaluated.to_csv()?));
    }
    let about = model.weights().about.clone().unwrap_or_default();
    let whole: String = evaluated.of(Part::Test).map(|test| whole(test, evaluated.response)).collect();
    let plural = if about.round == 1 { "" } else { "s" };
    let model = format!("{} after {} round{plural} on {}", about.model, about.round, about.data);
    print(&format!("{model}: {whole}\n\n"))?;
    let classes = if evaluated.classes.is_empty() { String::new() } else { classes(&evaluated) };
    let tables = [classes, clients(&evaluated)];
    let tables: Vec<&str> = tables.iter().map(String::as_str).filter(|table| !table.is_empty()).collect();
    print(&tables.join("\n"))
}

/// The test examples in a few words.
fn whole(test: &Group, response: Response) -> String {
    let Group { examples, loss, metrics, .. } = test;
    let loss = match response {
        Response::Class => format!("accuracy {} % and loss {loss:.4} nats", percent(test)),
        Response::Labels => format!("{} % of the labels right and loss {loss:.4} nats", percent(test)),
        Response::Quantity => format!("loss {loss:.4}"),
    };
    let metrics: String = metrics.iter().map(|(name, value)| format!(", {name} {value:.4}")).collect();
    format!("{loss}{metrics} on {examples} test examples")
}

fn percent(group: &Group) -> String {
    if group.examples == 0 { "–".into() } else { format!("{:.2}", 100.0 * group.accuracy) }
}

/// Classes down, what they are taken for across.
fn classes(evaluated: &Evaluated) -> String {
    let taken = evaluated.classes.iter().map(|class| format!("as {class}"));
    let ends = ["examples", "accuracy (%)"].map(str::to_owned);
    let header: Vec<String> = std::iter::once("class".to_owned()).chain(taken).chain(ends).collect();
    let line = |group: &Group| {
        let counts = group.predicted.iter().map(usize::to_string);
        let ends = [group.examples.to_string(), percent(group)];
        std::iter::once(group.name.clone()).chain(counts).chain(ends).collect::<Vec<_>>()
    };
    let lines: Vec<_> = evaluated.of(Part::Class).map(line).collect();
    markdown(&header, &[0], &lines)
}

/// What every client trains on, and what it keeps out of its training if it does.
fn clients(evaluated: &Evaluated) -> String {
    let held_out: Vec<&Group> = evaluated.of(Part::HeldOut).collect();
    let has_accuracy = evaluated.response != Response::Quantity;
    let mut header = vec!["client", "examples", "loss"];
    header.extend(has_accuracy.then_some("accuracy (%)"));
    if !held_out.is_empty() {
        header.extend(["held out", "accuracy there (%)"]);
    }
    let line = |(k, group): (usize, &Group)| {
        let own = [group.name.clone(), group.examples.to_string(), format!("{:.4}", group.loss)];
        let own = own.into_iter().chain(has_accuracy.then(|| percent(group)));
        let kept = held_out.get(k).map(|group| [group.examples.to_string(), percent(group)]);
        own.chain(kept.into_iter().flatten()).collect::<Vec<_>>()
    };
    let lines: Vec<_> = evaluated.of(Part::Client).enumerate().map(line).collect();
    if lines.is_empty() { String::new() } else { markdown(&header, &[], &lines) }
}
