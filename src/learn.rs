//! Local training and evaluation. Only this module knows Burn.
//!
//! The rest of the crate sees a model as one flat vector of `f32` and learning as the object-safe trait
//! [`Learner`]: a client receives the global weights, runs its local solver over its own examples and
//! returns the difference (FederatedAveraging, McMahan et al. 2017, algorithm 1, `ClientUpdate`). What of it is sent, and
//! what the server makes of the sum, is the business of the [`solver`].
//!
//! A model of your own is a Burn module (`burn = "=0.22.1"` beside this crate) that implements [`Classifier`]:
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
//! use burn::tensor::{Tensor, activation::gelu};
//! use seccogc::{config::Config, learn::{Classifier, Device, learner_of}, train::Setting};
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
//!     let (data, device) = (config.data.load()?, "cpu".parse::<Device>()?);
//!     let (inputs, place) = (data.train.shape().iter().product(), device.plain());
//!     let model = Normed {
//!         hidden: LinearConfig::new(inputs, 64).init(&place),
//!         norm: LayerNormConfig::new(64).init(&place),
//!         output: LinearConfig::new(64, data.classes).init(&place),
//!     };
//!     let learner = learner_of(model, &config.solver, &data, device)?;
//!     let setting = Setting::of(&config, data, learner)?;
//!     let run = setting.run(&config.protocol)?;
//!     let mut state = run.start();
//!     let rows = (0..3).map(|_| Ok(run.round(&mut state)?.0)).collect::<seccogc::Result<Vec<_>>>()?;
//!     assert!(rows[2].test_accuracy > Some(0.8));
//!     Ok(())
//! }
//! ```

mod device;
pub mod kernels;
mod model;
mod schedule;
pub mod solver;

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    tensor::{Gradients, Tensor, TensorData},
};
use rand::{RngExt, seq::SliceRandom};
use rayon::prelude::*;

pub use device::Device;
pub use model::{
    Architecture, CifarCnn, CifarCnnConfig, Classifier, Cnn, CnnConfig, Hidden, LeNet5, LeNet5Config, Mlp,
    MlpConfig, ModelConfig, ResNet20, ResNet20Config, Softmax, SoftmaxConfig,
};
pub use schedule::{ConstantDecay, CosineDecay, DecayConfig, ExponentialDecay, ScheduleConfig, StepDecay};
pub use solver::{LocalSolver, SolverConfig, Task, Work, clip, sgd::SgdConfig};

use crate::{
    data::{Augmentation, Dataset, Examples, Normalisation},
    error::{Error, Result},
    seed::Seed,
};

/// Examples per forward pass in [`Learner::evaluate`]. Part of the definition of the result: the sums follow it.
const EVALUATION_BATCH: usize = 256;

/// What a client returns from one round of local training.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalUpdate {
    /// Local model − global model, length d.
    pub delta: Vec<f32>,
    /// Mean training loss in nats over the examples seen, each measured just before the step that used
    /// it. NaN when training diverged, and when there was no example.
    pub loss: f64,
    /// Examples seen, counted again in every epoch.
    pub examples: usize,
    /// Steps taken.
    pub steps: usize,
}

/// How well a model does on a set of examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of examples whose highest score is that of their label, in [0, 1].
    pub accuracy: f64,
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
    /// uniform with a = √5, the default of PyTorch and Burn), ones and zeros for normalisation layers.
    fn init(&self, seed: Seed) -> Vec<f32>;

    /// Carries out `task` on the examples `shard` of `data`, on the calling thread; `seed` orders the batches and draws
    /// the augmentation. The update is not clipped.
    ///
    /// # Panics
    /// When a vector of `task` is not d long, or an index of `shard` or the shape of `data` is not the dataset's.
    fn solve(&self, task: &Task<'_>, data: &Examples, shard: &[usize], seed: Seed) -> LocalUpdate;

    /// [`Learner::solve`] from the global model `start` (length d), without correction.
    ///
    /// # Panics
    /// As [`Learner::solve`].
    fn train(&self, start: &[f32], data: &Examples, shard: &[usize], seed: Seed) -> LocalUpdate {
        self.solve(&Task::new(start), data, shard, seed)
    }

    /// Loss and accuracy of `params` (length d) on all of `data`, on rayon's threads.
    ///
    /// # Panics
    /// When `params` is not d long, or the shape of `data` is not the dataset's.
    fn evaluate(&self, params: &[f32], data: &Examples) -> Evaluation;
}

/// The learner for a configured model and solver.
///
/// # Errors
/// [`Error::Config`] with a key under `model` or `solver` when a value breaks a rule or the model does not fit the
/// dataset's examples.
pub fn learner(
    model: &ModelConfig,
    solver: &SolverConfig,
    dataset: &Dataset,
    device: Device,
) -> Result<Box<dyn Learner>> {
    model.check(dataset.train.shape()).map_err(|e| e.within("model"))?;
    model.learner(solver, dataset, device)
}

/// The learner for a user's own model. The weights that `model` holds are not used.
///
/// # Errors
/// [`Error::Config`] with a key under `solver` when a value breaks a rule; [`Error::Refused`] when `model` holds a
/// kind of layer that [`Learner::init`] has no rule for.
pub fn learner_of<M: Classifier>(
    model: M,
    solver: &SolverConfig,
    dataset: &Dataset,
    device: Device,
) -> Result<Box<dyn Learner>> {
    solver.check().map_err(|e| e.within("solver"))?;
    let layers = survey(&model)?;
    Ok(Box::new(Trainer {
        parameters: layers.iter().map(Parameter::size).sum(),
        layers,
        model,
        solver: solver.clone(),
        device,
        normalisation: dataset.normalisation.clone(),
        augmentation: dataset.augmentation,
    }))
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
            (owner, _) => {
                self.refusal.get_or_insert_with(|| {
                    format!("the model's parameter `{name}` belongs to a layer of kind {owner}, which has no rule for initial weights; use Linear, Conv1d, Conv2d, LayerNorm or GroupNorm")
                });
                Start::Constant(0.0)
            }
        };
        self.layers.push(Parameter { name, layer: self.owner.clone(), shape, start });
    }
}

/// Builds each parameter from its slice of the flat vector.
struct Load<'a> {
    flat: &'a [f32],
    device: burn::tensor::Device,
}

impl ModuleMapper for Load<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let (values, rest) = self.flat.split_at(shape.num_elements());
        self.flat = rest;
        let tensor = Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device);
        // Only a device with automatic differentiation can honour the requirement.
        Param::initialized(param.id, if self.device.is_autodiff() { tensor.require_grad() } else { tensor })
    }
}

/// Appends local − start for each parameter.
struct Subtract<'a> {
    start: &'a [f32],
    delta: Vec<f32>,
}

impl ModuleVisitor for Subtract<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().inner().into_data();
        let local = data.as_slice::<f32>().expect("parameters are f32");
        let (start, rest) = self.start.split_at(local.len());
        self.start = rest;
        self.delta.extend(local.iter().zip(start).map(|(local, start)| local - start));
    }
}

/// One step of the solver on every parameter that has a gradient.
struct Step<'a> {
    gradients: Gradients,
    solver: &'a mut (dyn LocalSolver + 'a),
    parameter: usize,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let parameter = self.parameter;
        self.parameter += 1;
        let (id, tensor, _) = param.consume();
        let Some(gradient) = tensor.grad_remove(&mut self.gradients) else {
            return Param::initialized(id, tensor);
        };
        let (shape, weight) = (tensor.shape(), tensor.inner());
        let size = [shape.num_elements()];
        let weight = self.solver.step(parameter, weight.reshape(size), gradient.reshape(size));
        Param::initialized(id, weight.reshape(shape).autodiff().require_grad())
    }
}

/// A [`Classifier`] as a [`Learner`].
struct Trainer<M> {
    /// The structure only; its weights are never used, nor initialised where Burn allows.
    model: M,
    layers: Vec<Parameter>,
    parameters: usize,
    solver: SolverConfig,
    device: Device,
    normalisation: Normalisation,
    augmentation: Augmentation,
}

impl<M: Classifier> Trainer<M> {
    fn load(&self, flat: &[f32], device: burn::tensor::Device) -> M {
        assert_eq!(flat.len(), self.parameters, "weights of another model");
        self.model.clone().map(&mut Load { flat, device })
    }

    /// The standardised examples `batch` of `data`; with `seed`, augmented.
    fn examples(
        &self,
        data: &Examples,
        batch: &[usize],
        seed: Option<Seed>,
        device: &burn::tensor::Device,
    ) -> Tensor<4> {
        let [channels, height, width] = data.shape();
        let mut values = Vec::with_capacity(batch.len() * channels * height * width);
        data.extend_batch(batch, &self.normalisation, &mut values);
        if let Some(seed) = seed {
            self.augmentation.apply(&mut values, data.shape(), &self.normalisation, seed);
        }
        Tensor::from_data(TensorData::new(values, [batch.len(), channels, height, width]), device)
    }
}

impl<M: Classifier> Learner for Trainer<M> {
    fn parameters(&self) -> usize {
        self.parameters
    }

    fn layers(&self) -> Vec<(String, Vec<usize>)> {
        self.layers.iter().map(|layer| (layer.name.clone(), layer.shape.clone())).collect()
    }

    fn init(&self, seed: Seed) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.parameters);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut rng = seed.child("weights", index as u64).rng();
            flat.extend((0..layer.size()).map(|_| match layer.start {
                Start::Uniform(bound) => rng.random_range(-bound..bound),
                Start::Constant(value) => value,
            }));
        }
        flat
    }

    fn solve(&self, task: &Task<'_>, data: &Examples, shard: &[usize], seed: Seed) -> LocalUpdate {
        let device = self.device.autodiff();
        let mut model = self.load(task.start, device.clone());
        let sizes: Vec<usize> = self.layers.iter().map(Parameter::size).collect();
        let mut solver = self.solver.begin(task, &sizes);
        let steps = self.solver.steps(shard.len());
        let mut order = shard.to_vec();
        let per_epoch = shard.len().div_ceil(self.solver.batch_size());
        let mut losses = Vec::with_capacity(steps);
        let mut examples = 0;
        for step in 0..steps {
            let (epoch, at) = (step / per_epoch, step % per_epoch * self.solver.batch_size());
            if at == 0 {
                order.shuffle(&mut seed.child("epoch", epoch as u64).rng());
            }
            let batch = &order[at..shard.len().min(at + self.solver.batch_size())];
            let labels: Vec<u8> = batch.iter().map(|&i| data.labels()[i]).collect();
            let augmentation = Some(seed.child("augmentation", step as u64));
            let logits = model.forward(self.examples(data, batch, augmentation, &device));
            let loss = kernels::cross_entropy(logits, &labels);
            let gradients = loss.backward();
            losses.push((loss.inner(), batch.len()));
            examples += batch.len();
            model = model.map(&mut Step { gradients, solver: &mut *solver, parameter: 0 });
        }
        let mut subtract = Subtract { start: task.start, delta: Vec::with_capacity(self.parameters) };
        model.visit(&mut subtract);
        let delta = subtract.delta;
        // Read only now, so that a GPU is not waited for in every step.
        let total: f64 =
            losses.into_iter().map(|(loss, n)| f64::from(loss.into_scalar::<f32>()) * n as f64).sum();
        LocalUpdate { delta, loss: total / examples as f64, examples, steps }
    }

    fn evaluate(&self, params: &[f32], data: &Examples) -> Evaluation {
        let device = self.device.plain();
        let model = self.load(params, device.clone());
        let indices: Vec<usize> = (0..data.len()).collect();
        let parts: Vec<(f64, usize)> = indices
            .par_chunks(EVALUATION_BATCH)
            .map(|batch| {
                let logits = model.forward(self.examples(data, batch, None, &device)).into_data();
                let logits = logits.as_slice::<f32>().expect("logits are f32");
                score(logits, batch.iter().map(|&i| data.labels()[i].into()))
            })
            .collect();
        let (loss, correct) = parts.iter().fold((0.0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let examples = data.len();
        Evaluation { loss: loss / examples as f64, accuracy: correct as f64 / examples as f64, examples }
    }
}

/// Summed cross-entropy and number of hits of logits `[batch, classes]`. The first of equal scores counts as
/// the highest; a row with NaN is a miss.
fn score(logits: &[f32], labels: impl ExactSizeIterator<Item = usize>) -> (f64, usize) {
    let classes = logits.len() / labels.len().max(1);
    let (mut loss, mut hits) = (0.0, 0);
    for (row, label) in logits.chunks_exact(classes.max(1)).zip(labels) {
        let best = row.iter().position(|x| row.iter().all(|y| x >= y));
        hits += usize::from(best == Some(label));
        let top = best.map_or(f64::NAN, |best| f64::from(row[best]));
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        loss += sum.ln() + top - f64::from(row[label]);
    }
    (loss, hits)
}

#[cfg(test)]
mod tests;
