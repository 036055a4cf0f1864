//! A [`Classifier`] as a [`Learner`].
//!
//! Several clients of one model are trained in one tensor program by stacking: each parameter holds those of
//! all clients along its first axis, and the channels of the images of all clients lie beside each other, so
//! that every operation on a channel or a pixel is that of the model itself, and [`kernels`] compute each
//! client's part of the layers with weights. That is what a GPU needs: the number of operations does not grow
//! with the number of clients.

use std::sync::Arc;

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    tensor::{Bool, Gradients, Tensor, TensorData},
};
use rand::{RngExt, seq::SliceRandom};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::{
    Classifier, Device, Evaluation, Job, Learner, LocalSolver, LocalUpdate, Objective, Parameter,
    PrivateConfig, Solver, Start, Task, kernels, private, survey,
};
use crate::{
    data::{Augmentation, Dataset, Examples, Normalisation},
    error::Result,
    seed::Seed,
};

/// Examples per forward pass in [`Learner::evaluate`]. Part of the definition of the result: the sums follow
/// it.
const EVALUATION_BATCH: usize = 256;

/// Most clients of one tensor program on a GPU.
const TOGETHER: usize = 32;

/// Numbers that the patches of one convolution of all of them may have: 1 GiB, half of what a buffer can
/// hold.
const PATCHES: usize = 1 << 28;

/// Builds each parameter from its slices of flat vectors, one per client.
struct Load<'a> {
    flats: Vec<&'a [f32]>,
    device: burn::tensor::Device,
}

impl ModuleMapper for Load<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let mut shape = param.lazy_shape().to_vec();
        let size = shape.iter().product();
        let mut values = Vec::with_capacity(self.flats.len() * size);
        for flat in &mut self.flats {
            let (own, rest) = flat.split_at(size);
            *flat = rest;
            values.extend_from_slice(own);
        }
        shape[0] *= self.flats.len();
        let tensor = Tensor::from_data(TensorData::new(values, shape), &self.device);
        // Only a device with automatic differentiation can honour the requirement.
        Param::initialized(param.id, if self.device.is_autodiff() { tensor.require_grad() } else { tensor })
    }
}

/// Appends local − start for each parameter to each client's vector.
struct Subtract<'a> {
    starts: Vec<&'a [f32]>,
    deltas: Vec<Vec<f32>>,
}

impl ModuleVisitor for Subtract<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().inner().into_data();
        let local = values(&data);
        let size = local.len() / self.starts.len();
        for ((start, delta), local) in
            self.starts.iter_mut().zip(&mut self.deltas).zip(local.chunks_exact(size))
        {
            let (own, rest) = start.split_at(size);
            *start = rest;
            delta.extend(local.iter().zip(own).map(|(local, start)| local - start));
        }
    }
}

/// One step of the solver on every parameter that has a gradient.
struct Step<'a> {
    gradients: Gradients,
    solver: &'a mut (dyn LocalSolver + 'a),
    parameter: usize,
    /// The clients that have no more steps, if there are such.
    finished: Option<Tensor<1, Bool>>,
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
        let weight = weight.reshape(size);
        let before = self.finished.as_ref().map(|finished| (finished.clone(), weight.clone()));
        let mut weight = self.solver.step(parameter, weight, gradient.reshape(size));
        if let Some((finished, before)) = before {
            let clients = finished.dims()[0];
            let each = [clients, size[0] / clients];
            let finished = finished.reshape([clients, 1]).expand(each);
            weight = weight.reshape(each).mask_where(finished, before.reshape(each)).reshape(size);
        }
        Param::initialized(id, weight.reshape(shape).autodiff().require_grad())
    }
}

/// The gradient of each parameter that has one, and where it begins.
struct Gradient {
    gradients: Gradients,
    at: usize,
    parts: Vec<(usize, TensorData)>,
}

impl ModuleVisitor for Gradient {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if let Some(gradient) = tensor.grad_remove(&mut self.gradients) {
            self.parts.push((self.at, gradient.into_data()));
        }
        self.at += tensor.shape().num_elements();
    }
}

/// One step of the solver along this gradient.
struct Along<'a> {
    gradient: &'a [f32],
    solver: &'a mut (dyn LocalSolver + 'a),
    parameter: usize,
}

impl ModuleMapper for Along<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, _) = param.consume();
        let (shape, weight) = (tensor.shape(), tensor.inner());
        let size = [shape.num_elements()];
        let (own, rest) = self.gradient.split_at(size[0]);
        self.gradient = rest;
        let gradient = Tensor::from_data(TensorData::new(own.to_vec(), size), &weight.device());
        let weight = self.solver.step(self.parameter, weight.reshape(size), gradient);
        self.parameter += 1;
        Param::initialized(id, weight.reshape(shape).autodiff().require_grad())
    }
}

/// Steps whose losses wait to be read, so that a GPU is not waited for in every step.
const UNREAD: usize = 256;

/// The losses of clients who train together.
struct Losses {
    /// Of some steps, and the examples that each client's is the mean over.
    unread: Vec<(Tensor<1>, Vec<usize>)>,
    /// Of each client, with their number.
    sums: Vec<(f64, usize)>,
}

impl Losses {
    fn push(&mut self, loss: Tensor<1>, counts: Vec<usize>) {
        self.unread.push((loss, counts));
        if self.unread.len() == UNREAD {
            self.read();
        }
    }

    fn read(&mut self) {
        for (loss, counts) in self.unread.drain(..) {
            let loss = loss.into_data();
            let loss = loss.as_slice::<f32>().expect("losses are f32");
            for ((sum, n), loss) in self.sums.iter_mut().zip(counts).zip(loss).filter(|((_, n), _)| *n > 0) {
                sum.0 += f64::from(*loss) * n as f64;
                sum.1 += n;
            }
        }
    }
}

/// The batches of one client in one round.
struct Batches<'a> {
    order: Vec<usize>,
    seed: Seed,
    solver: &'a dyn Solver,
}

impl<'a> Batches<'a> {
    fn new(job: &Job<'_>, solver: &'a dyn Solver) -> Self {
        Self { order: job.shard.to_vec(), seed: job.seed, solver }
    }

    fn steps(&self) -> usize {
        self.solver.steps(self.order.len())
    }

    /// The examples of step number `step`, none after the last; to be asked in order.
    fn batch(&mut self, step: usize) -> &[usize] {
        if step >= self.steps() {
            return &[];
        }
        let (count, size) = (self.order.len(), self.solver.batch_size());
        let per_epoch = count.div_ceil(size);
        let (epoch, at) = (step / per_epoch, step % per_epoch * size);
        if at == 0 {
            self.order.shuffle(&mut self.seed.child("epoch", epoch as u64).rng());
        }
        &self.order[at..count.min(at + size)]
    }
}

/// A [`Classifier`] as a [`Learner`].
pub(super) struct Trainer<M> {
    /// The structure only; its weights are never used, nor initialised where Burn allows.
    model: M,
    layers: Vec<Parameter>,
    parameters: usize,
    solver: Arc<dyn Solver>,
    objective: Arc<dyn Objective>,
    device: Device,
    normalisation: Normalisation,
    augmentation: Augmentation,
    /// Pixels of an image.
    pixels: usize,
}

impl<M: Classifier> Trainer<M> {
    /// Refuses a model with a layer that has no rule for initial weights.
    pub fn new(
        model: M,
        solver: Arc<dyn Solver>,
        objective: Arc<dyn Objective>,
        dataset: &Dataset,
        device: Device,
    ) -> Result<Self> {
        let layers = survey(&model)?;
        Ok(Self {
            parameters: layers.iter().map(Parameter::size).sum(),
            layers,
            model,
            solver,
            objective,
            device,
            normalisation: dataset.normalisation.clone(),
            augmentation: dataset.augmentation,
            pixels: dataset.train.shape()[1..].iter().product(),
        })
    }

    fn load(&self, flats: Vec<&[f32]>, device: burn::tensor::Device) -> M {
        assert!(flats.iter().all(|flat| flat.len() == self.parameters), "weights of another model");
        self.model.clone().map(&mut Load { flats, device })
    }

    /// Whether the model computes several clients at once; a linear layer tells their number by its bias.
    pub(super) fn stacks(&self) -> bool {
        let linear = |field: &str| {
            self.layers.iter().filter(|layer| layer.layer == "Linear" && layer.name.ends_with(field)).count()
        };
        let known = |layer: &Parameter| matches!(&*layer.layer, "Linear" | "Conv2d" | "GroupNorm");
        M::STACKS && self.layers.iter().all(known) && linear("weight") == linear("bias")
    }

    /// The standardised examples `batch` of `data`, with `seed` augmented, one after the other.
    fn values(&self, data: &Examples, batch: &[usize], seed: Option<Seed>) -> Vec<f32> {
        let mut values = Vec::with_capacity(batch.len() * data.shape().iter().product::<usize>());
        data.extend_batch(batch, &self.normalisation, &mut values);
        if let Some(seed) = seed {
            self.augmentation.apply(&mut values, data.shape(), &self.normalisation, seed);
        }
        values
    }

    /// The [`Trainer::values`] of each client's batch, `[longest batch, clients · channels, height, width]`,
    /// zeros after the end of a shorter one.
    fn examples(
        &self,
        data: &Examples,
        batches: &[(&[usize], Option<Seed>)],
        device: &burn::tensor::Device,
    ) -> Tensor<4> {
        let [channels, height, width] = data.shape();
        let longest = batches.iter().map(|(batch, _)| batch.len()).max().unwrap_or(0);
        let values = if let [(batch, seed)] = batches {
            self.values(data, batch, *seed)
        } else {
            let each: Vec<Vec<f32>> =
                batches.par_iter().map(|(batch, seed)| self.values(data, batch, *seed)).collect();
            let size = channels * height * width;
            let mut values = vec![0.0; longest * batches.len() * size];
            let places = (0..longest).flat_map(|i| each.iter().map(move |own| own.chunks_exact(size).nth(i)));
            for (place, image) in values.chunks_exact_mut(size).zip(places) {
                if let Some(image) = image {
                    place.copy_from_slice(image);
                }
            }
            values
        };
        let shape = [longest, batches.len() * channels, height, width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// What `of` makes of the logits of every batch of `data`, in order.
    fn batches<T: Send>(
        &self,
        params: &[f32],
        data: &Examples,
        of: impl Fn(&[usize], &[f32]) -> T + Sync,
    ) -> Vec<T> {
        let device = self.device.plain();
        let model = self.load(vec![params], device.clone());
        let indices: Vec<usize> = (0..data.len()).collect();
        let batches = indices.par_chunks(EVALUATION_BATCH);
        batches
            .map(|batch| {
                let logits = model.forward(self.examples(data, &[(batch, None)], &device)).into_data();
                kernels::forget();
                of(batch, logits.as_slice::<f32>().expect("logits are f32"))
            })
            .collect()
    }

    /// Local training of one client in private steps: every example of a batch is a batch of its own, and
    /// what it adds depends on it alone.
    fn run_privately(&self, job: &Job<'_>, data: &Examples, private: PrivateConfig) -> LocalUpdate {
        let device = self.device.autodiff();
        let (start, shard) = (job.task.start, job.shard);
        let mut model = self.load(vec![start], device.clone());
        let sizes: Vec<usize> = self.layers.iter().map(Parameter::size).collect();
        let mut solver = self.solver.begin(&[job.task], &sizes);
        let (steps, batch_size) = (self.solver.steps(shard.len()), self.solver.batch_size().min(shard.len()));
        let (mut loss, mut examples) = (0.0, 0);
        for step in 0..steps as u64 {
            let mut sum = private::Sum::new(private, self.parameters);
            for i in private::sample(shard, batch_size, job.seed.child("sample", step)) {
                let augmentation = job.seed.child("augmentation", step).child("example", i as u64);
                let image = self.examples(data, &[(&[i], Some(augmentation))], &device);
                let own = self.objective.loss(model.forward(image), data, &[i]);
                let mut gradient = Gradient { gradients: own.backward(), at: 0, parts: Vec::new() };
                model.visit(&mut gradient);
                let parts = gradient.parts.iter().map(|(at, part)| (*at, values(part)));
                sum.add(&parts.collect::<Vec<_>>());
                loss += f64::from(values(&own.inner().into_data())[0]);
                examples += 1;
            }
            let gradient = sum.noisy(batch_size, job.seed.child("private noise", step));
            model = model.map(&mut Along { gradient: &gradient, solver: &mut *solver, parameter: 0 });
        }
        kernels::forget();
        let mut subtract =
            Subtract { starts: vec![start], deltas: vec![Vec::with_capacity(self.parameters)] };
        model.visit(&mut subtract);
        let delta = subtract.deltas.swap_remove(0);
        LocalUpdate { delta, loss: loss / examples as f64, examples, steps }
    }

    /// Local training of clients whose tasks have the same rate; of one, or of a model that stacks.
    fn run(&self, jobs: &[Job<'_>], data: &Examples) -> Vec<LocalUpdate> {
        if let Some(private) = self.solver.shared().private {
            return jobs.iter().map(|job| self.run_privately(job, data, private)).collect();
        }
        let device = self.device.autodiff();
        let starts: Vec<&[f32]> = jobs.iter().map(|job| job.task.start).collect();
        let mut model = self.load(starts.clone(), device.clone());
        let sizes: Vec<usize> = self.layers.iter().map(Parameter::size).collect();
        let tasks: Vec<Task<'_>> = jobs.iter().map(|job| job.task).collect();
        let mut solver = self.solver.begin(&tasks, &sizes);
        let mut clients: Vec<Batches<'_>> = jobs.iter().map(|job| Batches::new(job, &*self.solver)).collect();
        let steps = clients.iter().map(Batches::steps).max().unwrap_or(0);
        let mut losses = Losses { unread: Vec::new(), sums: vec![(0.0, 0); jobs.len()] };
        for step in 0..steps {
            let batches: Vec<(&[usize], Option<Seed>)> = clients
                .iter_mut()
                .zip(jobs)
                .map(|(client, job)| (client.batch(step), Some(job.seed.child("augmentation", step as u64))))
                .collect();
            let own: Vec<&[usize]> = batches.iter().map(|(batch, _)| *batch).collect();
            let outputs = model.forward(self.examples(data, &batches, &device));
            let loss = self.objective.losses(outputs, data, &own);
            let gradients = if jobs.len() == 1 { loss.backward() } else { loss.clone().sum().backward() };
            losses.push(loss.inner(), own.iter().map(|batch| batch.len()).collect());
            let finished = own.iter().any(|batch| batch.is_empty()).then(|| {
                let finished: Vec<bool> = own.iter().map(|batch| batch.is_empty()).collect();
                Tensor::from_data(TensorData::new(finished, [jobs.len()]), &self.device.plain())
            });
            model = model.map(&mut Step { gradients, solver: &mut *solver, parameter: 0, finished });
        }
        kernels::forget();
        let deltas = vec![Vec::with_capacity(self.parameters); jobs.len()];
        let mut subtract = Subtract { starts, deltas };
        model.visit(&mut subtract);
        losses.read();
        let update = |((delta, (loss, examples)), client): ((Vec<f32>, (f64, usize)), &Batches<'_>)| {
            LocalUpdate { delta, loss: loss / examples as f64, examples, steps: client.steps() }
        };
        subtract.deltas.into_iter().zip(losses.sums).zip(&clients).map(update).collect()
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
                Start::Normal => StandardNormal.sample(&mut rng),
            }));
        }
        flat
    }

    fn solve(&self, task: &Task<'_>, data: &Examples, shard: &[usize], seed: Seed) -> LocalUpdate {
        self.run(&[Job { task: *task, shard, seed }], data).remove(0)
    }

    fn solve_together(&self, jobs: &[Job<'_>], data: &Examples) -> Vec<LocalUpdate> {
        let at_once = if self.stacks() { jobs.len().max(1) } else { 1 };
        jobs.chunks(at_once).flat_map(|jobs| self.run(jobs, data)).collect()
    }

    fn together(&self) -> usize {
        if !self.stacks() || self.device.name() != "wgpu" || self.solver.shared().private.is_some() {
            return 1;
        }
        // As if no layer made the images smaller.
        let patches = self.layers.iter().filter(|layer| layer.shape.len() == 4);
        let patches = patches.map(|layer| layer.shape[1..].iter().product::<usize>() * self.pixels).max();
        let each = patches.unwrap_or(0) * self.solver.batch_size();
        (PATCHES / each.max(1)).clamp(1, TOGETHER)
    }

    fn logits(&self, params: &[f32], data: &Examples) -> Vec<f32> {
        self.batches(params, data, |_, logits| logits.to_vec()).concat()
    }

    fn evaluate(&self, params: &[f32], data: &Examples) -> Evaluation {
        let objective = &*self.objective;
        let parts = self.batches(params, data, |batch, outputs| {
            let kept = if objective.needs_outputs() { outputs.to_vec() } else { Vec::new() };
            (objective.score(outputs, data, batch), kept)
        });
        let examples = data.len();
        let loss = parts.iter().map(|(score, _)| score.loss).sum::<f64>() / examples as f64;
        let hits: Option<f64> = parts.iter().map(|(score, _)| score.hits).sum();
        let accuracy = hits.map(|hits| hits / examples as f64);
        let outputs = parts.into_iter().map(|(_, kept)| kept).collect::<Vec<_>>().concat();
        Evaluation { loss, accuracy, metrics: objective.measure(loss, &outputs, data), examples }
    }
}

/// The numbers of a tensor.
fn values(data: &TensorData) -> &[f32] {
    data.as_slice().expect("models compute in f32")
}

/// The class of the highest score, the first of equal ones; none where a score is NaN.
pub(crate) fn predicted(scores: &[f32]) -> Option<usize> {
    scores.iter().position(|x| scores.iter().all(|y| x >= y))
}

/// Summed cross-entropy and number of hits of logits `[batch, classes]`. The first of equal scores counts as
/// the highest; a row with NaN is a miss.
pub(crate) fn score(logits: &[f32], labels: impl ExactSizeIterator<Item = usize>) -> (f64, usize) {
    let classes = logits.len() / labels.len().max(1);
    let (mut loss, mut hits) = (0.0, 0);
    for (row, label) in logits.chunks_exact(classes.max(1)).zip(labels) {
        let best = predicted(row);
        hits += usize::from(best == Some(label));
        let top = best.map_or(f64::NAN, |best| f64::from(row[best]));
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        loss += sum.ln() + top - f64::from(row[label]);
    }
    (loss, hits)
}
