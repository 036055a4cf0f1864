//! `seccogc model`: the layers of a model and the number of its parameters.

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::print;
use crate::config::Config;
use crate::data::{DataConfig, DatasetName};
use crate::error::{Error, Result};
use crate::learn::{ModelConfig, Parameter};
use crate::report::markdown;

pub(super) const EXAMPLES: &str = "Examples:\n  \
    seccogc model list\n  \
    seccogc model show configs/mnist.toml\n  \
    seccogc model show configs/mnist.toml --set model.hidden=[200,200]\n  \
    seccogc model show --kind resnet20 --data cifar10";

#[derive(Subcommand)]
pub(super) enum Model {
    /// List the models with their numbers of parameters
    List,
    /// Print the layers of a model, with the shapes and numbers of their parameters
    Show(Show),
}

#[derive(Args)]
pub(super) struct Show {
    /// The configuration, a TOML file
    #[arg(required_unless_present = "kind")]
    config: Option<PathBuf>,
    /// A kind of model, with its defaults, instead of the configuration's
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(ModelConfig::KINDS))]
    kind: Option<String>,
    /// A dataset whose shape decides, instead of the configuration's
    #[arg(long, value_name = "NAME")]
    data: Option<DatasetName>,
    /// Override one key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "config")]
    sets: Vec<String>,
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Shape and classes of texts such as Shakespeare's in LEAF.
const TEXTS: ([usize; 3], usize) = ([80, 1, 80], 80);

fn of_kind(kind: &str) -> Result<ModelConfig> {
    toml::from_str(&format!("kind = \"{kind}\""))
        .map_err(|error| Error::Refused(format!("model {kind}: {}", error.message())))
}

pub(super) fn run(verb: &Model) -> Result<()> {
    match verb {
        Model::List => list(),
        Model::Show(args) => show(args),
    }
}

fn list() -> Result<()> {
    let lines = ModelConfig::KINDS
        .iter()
        .map(|kind| {
            let model = of_kind(kind)?;
            // Of examples that it does not take it has none.
            let count = |(shape, classes)| model.size(shape, classes).map_or("–".into(), grouped);
            let [mnist, cifar, texts] = [([1, 28, 28], 10), ([3, 32, 32], 10), TEXTS].map(count);
            Ok([(*kind).to_owned(), mnist, cifar, texts])
        })
        .collect::<Result<Vec<_>>>()?;
    let header = ["model", "parameters on MNIST", "on CIFAR-10", "on texts of 80 characters out of 80"];
    print(&markdown(&header, &[0], &lines))
}

fn show(args: &Show) -> Result<()> {
    let mut config = match &args.config {
        Some(path) => Config::load(path, &args.sets)?,
        None => Config::default(),
    };
    if let Some(kind) = &args.kind {
        config.model = of_kind(kind)?;
    }
    if let Some(name) = args.data {
        config.data = DataConfig { name, ..DataConfig::default() };
    }
    if let Some(dir) = &args.data_dir {
        config.data.dir = Some(dir.clone());
    }
    let (shape, classes) = config.data.shape().map_err(|error| error.within("data"))?;
    let parameters =
        config.model.layers(shape, classes, &"cpu".parse()?).map_err(|error| error.within("model"))?;
    print(&table(&config, shape, classes, &parameters))
}

fn table(config: &Config, shape: [usize; 3], classes: usize, parameters: &[Parameter]) -> String {
    let layer_of = |parameter: &Parameter| {
        parameter.name.rsplit_once('.').map_or(String::new(), |(layer, _)| layer.to_owned())
    };
    let lines: Vec<[String; 4]> = parameters
        .chunk_by(|a, b| layer_of(a) == layer_of(b))
        .map(|layer| {
            let tensors: Vec<String> = layer
                .iter()
                .map(|tensor| {
                    let field = tensor.name.rsplit('.').next().unwrap_or_default();
                    format!("{field} {}", product(&tensor.shape))
                })
                .collect();
            let size = layer.iter().map(Parameter::size).sum();
            [layer_of(&layer[0]), layer[0].layer.clone(), tensors.join(", "), grouped(size)]
        })
        .collect();
    let total: usize = parameters.iter().map(Parameter::size).sum();
    format!(
        "{} on {}: {} → {classes} classes\n\n{}\n{} parameters, {:.2} MB as 32-bit numbers\n",
        config.model.kind(),
        config.data.name,
        product(&shape),
        markdown(&["layer", "kind", "shapes", "parameters"], &[0, 1, 2], &lines),
        grouped(total),
        4.0 * total as f64 / 1e6
    )
}

fn product(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}
