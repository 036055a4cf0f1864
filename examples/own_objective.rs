//! An objective of one's own: cross-entropy with smoothed labels (Szegedy et al. 2016, section 7).

use burn::tensor::{Tensor, TensorData, activation::log_softmax};
use seccogc::config::Config;
use seccogc::data::Examples;
use seccogc::learn::{Objective, Score};
use seccogc::train::Experiment;

/// What is taken from the right class and given to all alike.
struct Smoothed(f32);

impl Smoothed {
    fn wanted(&self, label: u16, class: usize, classes: usize) -> f32 {
        let right = if usize::from(label) == class { 1.0 - self.0 } else { 0.0 };
        right + self.0 / classes as f32
    }
}

impl Objective for Smoothed {
    fn loss(&self, outputs: Tensor<2>, examples: &Examples, batch: &[usize]) -> Tensor<1> {
        let [count, classes] = outputs.dims();
        let of = |&i: &usize| (0..classes).map(move |c| self.wanted(examples.labels()[i], c, classes));
        let wanted = TensorData::new(batch.iter().flat_map(of).collect::<Vec<f32>>(), [count, classes]);
        let wanted = Tensor::from_data(wanted, &outputs.device());
        (log_softmax(outputs, 1) * wanted).sum().neg() / count as f32
    }

    fn score(&self, outputs: &[f32], examples: &Examples, batch: &[usize]) -> Score {
        let classes = outputs.len() / batch.len().max(1);
        let (mut loss, mut hits) = (0.0, 0.0);
        for (scores, &i) in outputs.chunks_exact(classes).zip(batch) {
            let label = examples.labels()[i];
            let sum: f64 = scores.iter().map(|x| f64::from(*x).exp()).sum();
            for (class, x) in scores.iter().enumerate() {
                loss -= f64::from(self.wanted(label, class, classes)) * (f64::from(*x) - sum.ln());
            }
            hits += f64::from(u8::from(scores.iter().all(|x| *x <= scores[usize::from(label)])));
        }
        Score { loss, hits: Some(hits) }
    }

    fn needs_outputs(&self) -> bool {
        false
    }
}

pub fn main() -> seccogc::Result<()> {
    let config = Config { rounds: 3, ..Config::default() };
    let setting = Experiment::new(config).objective(Smoothed(0.1)).build()?;
    let rows = setting.run(&setting.config().protocol)?.rounds().collect::<seccogc::Result<Vec<_>>>()?;
    println!("loss {:?}, accuracy {:?} after three rounds", rows[2].test_loss, rows[2].test_accuracy);
    // Nobody can do better than the entropy of a smoothed label, 0.5 nats.
    assert!(rows[2].test_accuracy > Some(0.8) && rows[2].test_loss > Some(0.5));
    Ok(())
}
