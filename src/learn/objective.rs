//! What a model is to learn: the loss that local steps descend, and what is measured of a global model.
//!
//! | response | loss of an example | measured beside the mean loss |
//! |---|---|---|
//! | a class | cross-entropy in nats | accuracy; of two classes `auc`; of sequences `perplexity` |
//! | quantities | mean squared error, standardised | `mse`, `mae` in the units of the data, `r2` |
//! | labels | mean binary cross-entropy in nats | accuracy (share of the labels that are right), `auc` |
//!
//! `auc` is the area under the receiver operating characteristic, of several labels the mean over those that
//! some examples have and some have not. `perplexity` is e to the power of the mean loss. `r2` is 1 − mse/v,
//! v being the variance of the quantity over the examples that are tested, of several quantities the mean
//! over those that vary.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, activation::log_sigmoid};

use super::kernels;
use super::trainer::score;
use crate::data::{Dataset, Examples, Normalisation, Response};

/// What a learner measured beside loss and accuracy, by name.
pub type Metrics = Vec<(String, f64)>;

/// Sums over some examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Of the losses.
    pub loss: f64,
    /// Of the shares that are told rightly; `None` where nothing can be right or wrong.
    pub hits: Option<f64>,
}

/// What a model is to learn.
///
/// The loss of an example is a function of its own outputs and what is to be told of it, not of the rest of a
/// batch: the accounting of private steps depends on it.
pub trait Objective: Send + Sync {
    /// The mean loss, shape \[1\], of the outputs \[examples, outputs\] for the examples `batch` of
    /// `examples`, one at least, where gradients come from.
    fn loss(&self, outputs: Tensor<2>, examples: &Examples, batch: &[usize]) -> Tensor<1>;

    /// [`Objective::loss`] of several clients' batches, shape \[clients\], of outputs
    /// \[longest batch, clients · outputs\]. That of an empty batch means nothing and has no gradient.
    fn losses(&self, outputs: Tensor<2>, examples: &Examples, batches: &[&[usize]]) -> Tensor<1> {
        if let [batch] = batches {
            return self.loss(outputs, examples, batch);
        }
        let each = outputs.dims()[1] / batches.len();
        let of_client = |(k, batch): (usize, &&[usize])| {
            if batch.is_empty() {
                return Tensor::zeros([1], &outputs.device());
            }
            let own = outputs.clone().slice([0..batch.len(), k * each..(k + 1) * each]);
            self.loss(own, examples, batch)
        };
        Tensor::cat(batches.iter().enumerate().map(of_client).collect(), 0)
    }

    /// How outputs, example by example, do on the examples `batch` of `examples`.
    fn score(&self, outputs: &[f32], examples: &Examples, batch: &[usize]) -> Score;

    /// What else is told of a model with this mean loss on `examples`: columns `test_NAME` of `rounds.csv`.
    /// `outputs` are those of all examples where [`Objective::needs_outputs`] says so, else nothing.
    fn measure(&self, _loss: f64, _outputs: &[f32], _examples: &Examples) -> Metrics {
        Vec::new()
    }

    /// Whether [`Objective::measure`] looks at outputs.
    fn needs_outputs(&self) -> bool {
        true
    }
}

/// The objective of a dataset.
#[must_use]
pub fn of(dataset: &Dataset) -> Arc<dyn Objective> {
    match dataset.response {
        Response::Class => Arc::new(Classification { classes: dataset.classes }),
        Response::Quantity => Arc::new(Regression { scale: dataset.scale.clone() }),
        Response::Labels => Arc::new(Labelling { labels: dataset.classes }),
    }
}

/// One class an example.
struct Classification {
    classes: usize,
}

impl Objective for Classification {
    fn loss(&self, outputs: Tensor<2>, examples: &Examples, batch: &[usize]) -> Tensor<1> {
        self.losses(outputs, examples, &[batch])
    }

    fn losses(&self, outputs: Tensor<2>, examples: &Examples, batches: &[&[usize]]) -> Tensor<1> {
        let own = |batch: &&[usize]| batch.iter().map(|&i| examples.labels()[i]).collect();
        let labels: Vec<Vec<u16>> = batches.iter().map(own).collect();
        kernels::cross_entropy(outputs, &labels)
    }

    fn score(&self, outputs: &[f32], examples: &Examples, batch: &[usize]) -> Score {
        let (loss, hits) = score(outputs, batch.iter().map(|&i| examples.labels()[i].into()));
        Score { loss, hits: Some(hits as f64) }
    }

    fn measure(&self, loss: f64, outputs: &[f32], examples: &Examples) -> Metrics {
        let mut metrics = Metrics::new();
        if examples.are_sequences() {
            metrics.push(("perplexity".into(), loss.exp()));
        }
        if self.needs_outputs() {
            let second = outputs.as_chunks::<2>().0.iter().zip(examples.labels());
            let scores = second.map(|([no, yes], label)| (yes - no, *label == 1)).collect();
            metrics.extend(area(scores).map(|area| ("auc".to_owned(), area)));
        }
        metrics
    }

    fn needs_outputs(&self) -> bool {
        self.classes == 2
    }
}

/// Quantities: the mean squared error of what a model tells after it is standardised by `scale`.
struct Regression {
    scale: Normalisation,
}

impl Regression {
    /// What a model should tell of an example.
    fn wanted<'a>(&'a self, examples: &'a Examples, i: usize) -> impl Iterator<Item = f64> + 'a {
        let scale = self.scale.mean.iter().zip(&self.scale.std);
        examples.responses(i).iter().zip(scale).map(|(x, (mean, std))| (x - mean) / std)
    }
}

impl Objective for Regression {
    fn loss(&self, outputs: Tensor<2>, examples: &Examples, batch: &[usize]) -> Tensor<1> {
        let wanted = batch.iter().flat_map(|&i| self.wanted(examples, i)).map(|x| x as f32).collect();
        let apart = outputs.clone() - like(&outputs, wanted);
        (apart.clone() * apart).mean()
    }

    fn score(&self, outputs: &[f32], examples: &Examples, batch: &[usize]) -> Score {
        let each = self.scale.mean.len();
        let squares = |(own, &i): (&[f32], &usize)| {
            let apart = own.iter().zip(self.wanted(examples, i)).map(|(x, wanted)| f64::from(*x) - wanted);
            apart.map(|x| x * x).sum::<f64>() / each as f64
        };
        Score { loss: outputs.chunks_exact(each).zip(batch).map(squares).sum(), hits: None }
    }

    fn measure(&self, _: f64, outputs: &[f32], examples: &Examples) -> Metrics {
        let each = self.scale.mean.len();
        let count = examples.len() as f64;
        let (mut squares, mut sizes, mut explained) = (0.0, 0.0, Vec::new());
        for column in 0..each {
            let truth = |i: usize| examples.responses(i)[column];
            let told = |own: &[f32]| self.scale.restore(column, own[column]);
            let apart = || outputs.chunks_exact(each).enumerate().map(|(i, own)| told(own) - truth(i));
            let square = apart().map(|x| x * x).sum::<f64>() / count;
            squares += square;
            sizes += apart().map(f64::abs).sum::<f64>() / count;
            let mean = (0..examples.len()).map(truth).sum::<f64>() / count;
            let variance = (0..examples.len()).map(|i| (truth(i) - mean).powi(2)).sum::<f64>() / count;
            if variance > 0.0 {
                explained.push(1.0 - square / variance);
            }
        }
        let mut metrics =
            vec![("mse".to_owned(), squares / each as f64), ("mae".into(), sizes / each as f64)];
        metrics.extend(mean(&explained).map(|share| ("r2".to_owned(), share)));
        metrics
    }
}

/// So many labels, of which an example may have several.
struct Labelling {
    labels: usize,
}

impl Objective for Labelling {
    fn loss(&self, outputs: Tensor<2>, examples: &Examples, batch: &[usize]) -> Tensor<1> {
        let sign = |&has: &f64| if has == 1.0 { 1.0 } else { -1.0 };
        let signs = batch.iter().flat_map(|&i| examples.responses(i)).map(sign).collect();
        let signs = like(&outputs, signs);
        log_sigmoid(outputs * signs).mean().neg()
    }

    fn score(&self, outputs: &[f32], examples: &Examples, batch: &[usize]) -> Score {
        let (mut loss, mut hits) = (0.0, 0.0);
        for (own, &i) in outputs.chunks_exact(self.labels).zip(batch) {
            for (&z, &has) in own.iter().zip(examples.responses(i)) {
                let margin = f64::from(z) * if has == 1.0 { 1.0 } else { -1.0 };
                loss += (-margin.abs()).exp().ln_1p() + (-margin).max(0.0);
                hits += f64::from(u8::from((z > 0.0) == (has == 1.0)));
            }
        }
        let each = self.labels as f64;
        Score { loss: loss / each, hits: Some(hits / each) }
    }

    fn measure(&self, _: f64, outputs: &[f32], examples: &Examples) -> Metrics {
        let of_label = |label: usize| {
            let own = outputs.chunks_exact(self.labels).enumerate();
            area(own.map(|(i, own)| (own[label], examples.responses(i)[label] == 1.0)).collect())
        };
        let areas: Vec<f64> = (0..self.labels).filter_map(of_label).collect();
        mean(&areas).map(|area| ("auc".to_owned(), area)).into_iter().collect()
    }
}

/// Numbers as a tensor of the shape and on the device of `outputs`.
fn like(outputs: &Tensor<2>, values: Vec<f32>) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, outputs.dims()), &outputs.device())
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The chance that a random example of those that are it scores above a random one of those that are not,
/// ties counting half (Mann, Whitney 1947); nothing where all are or none is, or where a score is no number.
fn area(mut scores: Vec<(f32, bool)>) -> Option<f64> {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut yes, mut no, mut above) = (0.0, 0.0, 0.0);
    for tied in scores.chunk_by(|a, b| a.0 == b.0) {
        let own = tied.iter().filter(|(_, is)| *is).count() as f64;
        let others = tied.len() as f64 - own;
        above += own * (no + others / 2.0);
        (yes, no) = (yes + own, no + others);
    }
    let defined = yes * no > 0.0 && !scores.iter().any(|(score, _)| score.is_nan());
    defined.then(|| above / (yes * no))
}

#[cfg(test)]
mod tests;
