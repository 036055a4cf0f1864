//! Local training and evaluation. Only this module knows Burn.
//!
//! The rest of the crate sees a model as one flat vector of `f32` and learning as the object-safe trait
//! [`Learner`]: a client receives the global weights, runs its local solver over its own examples and returns
//! the difference (FederatedAveraging, McMahan et al. 2017, algorithm 1, `ClientUpdate`). What of it is sent,
//! and what the server makes of the sum, is the business of the [`solver`].
//!
//! A model of your own is a Burn module (`burn = "=0.22.1"` beside this crate) that implements
//! [`Classifier`]:
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
//! use burn::tensor::{Tensor, activation::gelu};
//! use seccogc::{config::Config, data::Dataset, learn::{Classifier, Device}, train::Experiment};
//!
//! #[derive(Module, Debug)]
//! struct Normed {
//!     hidden: Linear,
//!     norm: LayerNorm,
//!     output: Linear,
//! }
//!
//! impl Classifier for Normed {
//!     fn forward(&self, images: Tensor<4>) -> Tensor<2> {
//!         let x = self.norm.forward(self.hidden.forward(images.flatten(1, 3)));
//!         self.output.forward(gelu(x))
//!     }
//! }
//!
//! fn main() -> seccogc::Result<()> {
//!     let config = Config { rounds: 3, ..Config::default() }; // ten clients, IID, the MNIST subset
//!     let normed = |data: &Dataset, device: &Device| {
//!         let (inputs, place) = (data.train.shape().iter().product(), device.plain());
//!         Normed {
//!             hidden: LinearConfig::new(inputs, 64).init(&place),
//!             norm: LayerNormConfig::new(64).init(&place),
//!             output: LinearConfig::new(64, data.classes).init(&place),
//!         }
//!     };
//!     let setting = Experiment::new(config).model(normed).build()?;
//!     let run = setting.run(&setting.config().protocol)?;
//!     let rows = run.rounds().collect::<seccogc::Result<Vec<_>>>()?;
//!     assert!(rows[2].test_accuracy > Some(0.8));
//!     Ok(())
//! }
//! ```

mod device;
pub mod kernels;
mod model;
pub mod objective;
pub mod onnx;
mod private;
mod schedule;
pub mod solver;
pub mod state_dict;
mod trainer;

use std::sync::Arc;

use burn::{
    module::{ModuleVisitor, Param},
    tensor::Tensor,
};

pub use device::Device;
pub use model::{
    Activation, Architecture, CharLstm, CharLstmConfig, CifarCnn, CifarCnnConfig, Classifier, Cnn, CnnConfig,
    Gru, GruConfig, Hidden, LeNet5, LeNet5Config, Mlp, MlpConfig, ModelConfig, Pooling, ResNet,
    ResNet18Config, ResNet20Config, Softmax, SoftmaxConfig, Vgg11, Vgg11Config,
};
pub use objective::{Metrics, Objective, Score};
pub use private::{PrivateConfig, SampledGaussian};
pub use schedule::{ConstantDecay, CosineDecay, DecayConfig, ExponentialDecay, ScheduleConfig, StepDecay};
pub use solver::{LocalSolver, Solver, SolverConfig, Task, Work, clip, sgd::SgdConfig};

use crate::{
    data::{Dataset, Examples},
    error::{Error, Result},
    seed::Seed,
};
pub(crate) use trainer::predicted;

use trainer::Trainer;

/// What a client returns from one round of local training.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalUpdate {
    /// Local model − global model, length d.
    pub delta: Vec<f32>,
    /// Mean training loss, of classes in nats, over the examples seen, each measured just before the step
    /// that used it. NaN when training diverged, and when there was no example.
    pub loss: f64,
    /// Examples seen, counted again in every epoch.
    pub examples: usize,
    /// Steps taken.
    pub steps: usize,
}

/// The local training of one client of several.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What is asked of it.
    pub task: Task<'a>,
    /// Indices of its examples.
    pub shard: &'a [usize],
    /// Orders its batches and draws its augmentation.
    pub seed: Seed,
}

/// How well a model does on a set of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss, of classes the cross-entropy in nats.
    pub loss: f64,
    /// Share that is told rightly, in [0, 1], of classes that of the examples whose highest score is that of
    /// their label; `None` where nothing is right or wrong.
    pub accuracy: Option<f64>,
    /// What else the [`Objective`] measures.
    pub metrics: Metrics,
    /// Number of examples.
    pub examples: usize,
}

/// What the round loop needs to know of learning.
///
/// Every method is a pure function of its arguments: the same bytes on the same device, whatever the
/// number of threads.
pub trait Learner: Send + Sync {
    /// The number of parameters, d.
    fn parameters(&self) -> usize;

    /// Names and shapes of the parameters, in the order in which the flat vector holds them.
    fn layers(&self) -> Vec<(String, Vec<usize>)>;

    /// Initial weights, length d: uniform on ±1/√(fan-in) for linear and convolutional layers (Kaiming
    /// uniform with a = √5, the default of PyTorch and Burn), ones and zeros for normalisation layers,
    /// ±1/√units for recurrent ones, standard normal for embeddings.
    fn init(&self, seed: Seed) -> Vec<f32>;

    /// Carries out `task` on the examples `shard` of `data`, on the calling thread; `seed` orders the batches
    /// and draws the augmentation. The update is not clipped.
    ///
    /// # Panics
    /// When a vector of `task` is not d long, or an index of `shard` or the shape of `data` is not the
    /// dataset's.
    fn solve(&self, task: &Task<'_>, data: &Examples, shard: &[usize], seed: Seed) -> LocalUpdate;

    /// [`Learner::solve`] of several clients, in their order; as one tensor program where the model allows
    /// it.
    ///
    /// # Panics
    /// As [`Learner::solve`], and when the tasks' rates differ.
    fn solve_together(&self, jobs: &[Job<'_>], data: &Examples) -> Vec<LocalUpdate> {
        jobs.iter().map(|job| self.solve(&job.task, data, job.shard, job.seed)).collect()
    }

    /// How many clients [`Learner::solve_together`] should be given at a time; 1 where they are better
    /// trained one per thread.
    fn together(&self) -> usize {
        1
    }

    /// [`Learner::solve`] from the global model `start` (length d), without correction.
    ///
    /// # Panics
    /// As [`Learner::solve`].
    fn train(&self, start: &[f32], data: &Examples, shard: &[usize], seed: Seed) -> LocalUpdate {
        self.solve(&Task::new(start), data, shard, seed)
    }

    /// The outputs that `params` (length d) give for all of `data`, example by example, on rayon's threads:
    /// the scores of every class or label, or standardised quantities.
    ///
    /// # Panics
    /// When `params` is not d long, or the shape of `data` is not the dataset's.
    fn logits(&self, params: &[f32], data: &Examples) -> Vec<f32>;

    /// Loss, accuracy and further metrics of `params` (length d) on all of `data`, on rayon's threads.
    ///
    /// # Panics
    /// When `params` is not d long, or the shape of `data` is not the dataset's.
    fn evaluate(&self, params: &[f32], data: &Examples) -> Evaluation;
}

/// The learner for a configured model and solver.
///
/// # Errors
/// [`Error::Config`] with a key under `model` or `solver` when a value breaks a rule or the model does not
/// fit the dataset's examples.
pub fn learner(
    model: &ModelConfig,
    solver: &SolverConfig,
    dataset: &Dataset,
    device: Device,
) -> Result<Box<dyn Learner>> {
    model.check(dataset.train.shape()).map_err(|e| e.within("model"))?;
    model.learner(solver.clone().into(), objective::of(dataset), dataset, device)
}

/// The learner for a user's own model, of what the dataset wants to be told. The weights that `model` holds
/// are not used.
///
/// # Errors
/// [`Error::Config`] with a key under `solver` when a value breaks a rule; [`Error::Refused`] when `model`
/// holds a kind of layer that [`Learner::init`] has no rule for.
pub fn learner_of<M: Classifier>(
    model: M,
    solver: Arc<dyn Solver>,
    dataset: &Dataset,
    device: Device,
) -> Result<Box<dyn Learner>> {
    learner_toward(model, solver, objective::of(dataset), dataset, device)
}

/// [`learner_of`] with an objective of one's own.
///
/// # Errors
/// As there.
pub fn learner_toward<M: Classifier>(
    model: M,
    solver: Arc<dyn Solver>,
    objective: Arc<dyn Objective>,
    dataset: &Dataset,
    device: Device,
) -> Result<Box<dyn Learner>> {
    solver.check_all().map_err(|e| e.within("solver"))?;
    Ok(Box::new(Trainer::new(model, solver, objective, dataset, device)?))
}

/// One parameter tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The path of its field in the module, e.g. `conv1.weight`.
    pub name: String,
    /// The kind of its layer, e.g. `Conv2d`.
    pub layer: String,
    /// Its shape.
    pub shape: Vec<usize>,
    start: Start,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    /// Uniform on ± this bound.
    Uniform(f32),
    /// Everywhere this value.
    Constant(f32),
    /// Standard normal.
    Normal,
}

impl Parameter {
    /// The number of values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The parameters of a model in the order of the flat vector.
fn survey(model: &impl Classifier) -> Result<Vec<Parameter>> {
    let mut survey = Survey::default();
    model.visit(&mut survey);
    match survey.refusal {
        Some(refusal) => Err(Error::Refused(refusal)),
        None => Ok(survey.layers),
    }
}

/// Lists the parameters in visiting order without initialising them.
#[derive(Default)]
struct Survey {
    path: Vec<String>,
    owner: String,
    fan_in: usize,
    layers: Vec<Parameter>,
    refusal: Option<String>,
}

impl ModuleVisitor for Survey {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.owner = container_type.trim_start_matches("Struct:").to_owned();
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().to_vec();
        let name = self.path.join(".");
        let field = self.path.last().map_or("", String::as_str);
        let start = match (self.owner.as_str(), field) {
            // The bias follows its weight and shares its fan-in.
            ("Linear" | "Conv1d" | "Conv2d", "bias") => Start::Uniform((self.fan_in as f32).sqrt().recip()),
            (owner @ ("Linear" | "Conv1d" | "Conv2d"), "weight") => {
                self.fan_in = match owner {
                    "Linear" => shape[0],
                    _ => shape[1..].iter().product(),
                };
                Start::Uniform((self.fan_in as f32).sqrt().recip())
            }
            ("LayerNorm" | "GroupNorm", "gamma") => Start::Constant(1.0),
            ("LayerNorm" | "GroupNorm", "beta") => Start::Constant(0.0),
            ("Embedding", "weight") => Start::Normal,
            // ± 1/√units: every gate has its rows.
            (owner @ ("LstmCell" | "GruCell"), _) => {
                let gates = if owner == "LstmCell" { 4 } else { 3 };
                Start::Uniform(((shape[0] / gates) as f32).sqrt().recip())
            }
            ("BatchNorm", _) => {
                self.refusal.get_or_insert_with(|| {
                    format!("the model's parameter `{name}` belongs to a batch normalisation, whose means and variances are statistics of each client's examples that are in no sum of updates; use GroupNorm or LayerNorm")
                });
                Start::Constant(0.0)
            }
            (owner, _) => {
                self.refusal.get_or_insert_with(|| {
                    format!("the model's parameter `{name}` belongs to a layer of kind {owner}, which has no rule for initial weights; use Linear, Conv1d, Conv2d, LayerNorm, GroupNorm or Embedding")
                });
                Start::Constant(0.0)
            }
        };
        self.layers.push(Parameter { name, layer: self.owner.clone(), shape, start });
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trainer_tests;
