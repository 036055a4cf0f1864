//! What a run is for: its model, exported to other programs, asked about new examples, measured.
//!
//! A [`TrainedModel`] is the last or the best model of a run folder. Statistics of the training examples,
//! classes and shards are those of the run's configuration, whose data must still be there.

mod evaluate;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use evaluate::{Evaluated, Group, Part};

use crate::config::Config;
use crate::data::{Dataset, Response};
use crate::error::{Error, Result};
use crate::learn::state_dict::{Layout, StateDict};
use crate::learn::{Device, predicted};
use crate::record::{RunInfo, csv_of};
use crate::train::{BEST, Setting, last_weights, weights};

/// The files that a model can be exported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Weights with the names and shapes of PyTorch: `safetensors.torch.load_file`.
    Safetensors,
    /// The same tensors for NumPy: `numpy.load`.
    Npz,
    /// The model as a graph, with the standardisation of its input: `onnxruntime.InferenceSession`.
    Onnx,
    /// The same tensors as a table, one number a line.
    Csv,
}

impl Format {
    /// The extension of its files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
            Self::Onnx => "onnx",
            Self::Csv => "csv",
        }
    }
}

/// Which model of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// That of the last checkpoint.
    #[default]
    Last,
    /// That of the highest test accuracy, which `record.best` keeps.
    Best,
}

/// A model of a run folder, with the setting that it was trained in.
pub struct TrainedModel {
    setting: Setting,
    weights: StateDict,
    parameters: Vec<f32>,
}

impl TrainedModel {
    /// Reads a model of the folder `run`, and the data that it was trained with; complete datasets lie in
    /// `data_dir`, if that is given.
    ///
    /// # Errors
    /// A folder without such a model, with one that an own program made, or whose data is not there any more.
    pub fn load(run: &Path, which: Which, device: Device, data_dir: Option<&Path>) -> Result<Self> {
        let mut config = Config::load(&run.join("config.toml"), &[])?;
        if let Some(dir) = data_dir {
            config.data.dir = Some(dir.to_owned());
        }
        let own = RunInfo::load(&run.join("run.json"))?.own;
        if let Some(part) =
            own.iter().find(|part| ["data", "partition", "model", "objective"].contains(&part.as_str()))
        {
            let problem =
                format!("the run has a {part} of its own program; ask that program about its model");
            return Err(Error::file(run, problem));
        }
        let (round, weights) = match which {
            Which::Last => last_weights(run)?,
            Which::Best => best_weights(run)?,
        };
        // Weights are read already, so that nothing is built for a folder without.
        let setting = Setting::build(&Config { start: None, ..config }, device)?;
        let layers = setting.learner().layers();
        let parameters = weights.flat(Layout::Burn, &layers).map_err(|problem| Error::file(run, problem))?;
        let weights = setting.state_dict(&parameters, round);
        Ok(Self { setting, weights, parameters })
    }

    /// The rounds that it was trained for.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.weights.about.as_ref().map_or(0, |about| about.round)
    }

    /// Its weights.
    #[must_use]
    pub fn weights(&self) -> &StateDict {
        &self.weights
    }

    fn dataset(&self) -> &Dataset {
        self.setting.dataset()
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// A model that is too large for the format.
    pub fn export(&self, format: Format) -> Result<Vec<u8>> {
        match format {
            Format::Safetensors => self.weights.to_safetensors(),
            Format::Npz => self.weights.to_npz(),
            Format::Onnx => self.setting.config().model.onnx(&self.weights),
            Format::Csv => Ok(self.weights.to_csv()),
        }
    }

    /// The scores of examples in a file or folder: for a table a CSV file with the columns of the training
    /// table, of which the class may be missing, else images of the size of the training images.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another form.
    pub fn predict(&self, path: &Path) -> Result<Predictions> {
        let Dataset { train, class_names, response, scale, .. } = self.dataset();
        let (names, examples) = self.setting.config().data.unlabelled(path, train.shape())?;
        let mut outputs = self.setting.learner().logits(&self.parameters, &examples);
        for example in outputs.chunks_exact_mut(class_names.len()) {
            example.iter_mut().enumerate().for_each(|(output, x)| *x = scale.restore(output, *x) as f32);
        }
        Ok(Predictions { response: *response, classes: class_names.clone(), names, outputs })
    }
}

/// The best model of a run folder, and the rounds that it was trained for.
fn best_weights(run: &Path) -> Result<(u64, StateDict)> {
    let path = run.join(BEST);
    if !path.is_file() {
        let problem = "holds no best model; train with record.best = true, or take the last one";
        return Err(Error::file(run, problem));
    }
    let weights = weights(&path)?;
    match &weights.about {
        Some(about) => Ok((about.round, weights)),
        None => Err(Error::file(path, "does not say of which round it is")),
    }
}

/// What a model says of some examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// What the model tells.
    pub response: Response,
    /// The classes, quantities or labels in the order of the outputs.
    pub classes: Vec<String>,
    /// What each example is called.
    pub names: Vec<String>,
    /// The scores (logits) of every class or label, or the quantities in the units of the data, example by
    /// example.
    pub outputs: Vec<f32>,
}

/// The softmax of the logits of one example; they may be large.
fn probabilities(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let parts: Vec<f64> = logits.iter().map(|x| (f64::from(*x) - f64::from(top)).exp()).collect();
    let sum: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / sum).collect()
}

/// The probability of a label with this score.
fn likelihood(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

impl Predictions {
    /// As CSV, one example a line: its name, then of classes the predicted one (empty where the scores are
    /// not numbers) and the probability `p(CLASS)` of every class, or the `logit(CLASS)`; of labels those
    /// that are likelier than not, with spaces between, and the same columns; of quantities a column each.
    ///
    /// # Errors
    /// None but a defect.
    pub fn to_csv(&self, logits: bool) -> Result<Vec<u8>> {
        let what = if logits { "logit" } else { "p" };
        let column = |class: &String| match self.response {
            Response::Quantity => class.clone(),
            Response::Class | Response::Labels => format!("{what}({class})"),
        };
        let label = (self.response != Response::Quantity).then(|| "label".to_owned());
        let columns = self.classes.iter().map(column);
        let header = std::iter::once("example".to_owned()).chain(label).chain(columns).collect();
        let line = |(name, scores): (&String, &[f32])| {
            let as_they_are = || scores.iter().map(f32::to_string).collect();
            let numbers: Vec<String> = match (self.response, logits) {
                (Response::Quantity, _) | (_, true) => as_they_are(),
                (Response::Class, false) => probabilities(scores).iter().map(f64::to_string).collect(),
                (Response::Labels, false) => scores.iter().map(|z| likelihood(*z).to_string()).collect(),
            };
            std::iter::once(name.clone()).chain(self.told(scores)).chain(numbers).collect()
        };
        let scores = self.outputs.chunks_exact(self.classes.len());
        csv_of(std::iter::once(header).chain(self.names.iter().zip(scores).map(line)))
    }

    /// The class or the labels that these scores tell; nothing for quantities.
    fn told(&self, scores: &[f32]) -> Option<String> {
        match self.response {
            Response::Class => {
                Some(predicted(scores).map_or_else(String::new, |class| self.classes[class].clone()))
            }
            Response::Labels => {
                let likely = self.classes.iter().zip(scores).filter(|(_, z)| **z > 0.0);
                Some(likely.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" "))
            }
            Response::Quantity => None,
        }
    }
}

#[cfg(test)]
mod tests;
