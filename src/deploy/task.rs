//! What a client of a deployment trains: a model of the server's configuration, or one of a program around
//! this crate.

use std::path::PathBuf;

use super::examples::examples;
use super::message::{Welcome, told};
use super::policy::Policy;
use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::learn::{Device, Learner, learner};
use crate::train::{Trained, Turn, update};

/// What a client brings to a run.
pub enum Work<'a> {
    /// Examples for the model of the server's configuration.
    Data {
        /// A file or folder of own examples, or the name of a published dataset for the part of it that the
        /// configuration gives this client.
        data: PathBuf,
        /// Where the neural network computes.
        device: Device,
    },
    /// A model and examples of another program.
    Own(&'a dyn LocalWork),
}

/// The training of a client that another program carries out.
pub trait LocalWork: Sync {
    /// Names and shapes of the parameters, in the order in which the flat vector holds them: those of the
    /// server's.
    fn layers(&self) -> Vec<(String, Vec<usize>)>;

    /// Training examples n_k.
    fn examples(&self) -> usize;

    /// The local model and its mean loss, if it has one, from the global model; both are d parameters.
    ///
    /// # Errors
    /// [`Error::Own`], which ends the client after it has told the others that it cannot take part.
    fn train(&self, turn: &Turn, global: Vec<f32>) -> Result<(Vec<f32>, Option<f64>)>;
}

/// What a client does in a run.
pub(super) enum Task<'a> {
    Built { dataset: Box<Dataset>, shard: Vec<usize>, learner: Box<dyn Learner> },
    Own(&'a dyn LocalWork),
}

impl<'a> Task<'a> {
    /// The task of the client that is the `index`-th of all names.
    pub fn new(
        work: &Work<'a>,
        policy: &Policy,
        server: &str,
        index: usize,
        config: &mut Config,
        welcome: &Welcome,
    ) -> Result<Self> {
        let refuse = |rule: String| Err(Error::Refused(format!("the run of {server}: {rule}")));
        if config.solver.solver().shared().private.is_some() {
            return refuse(
                "the noise of `solver.private` follows from the configured seed, which the server knows; it is for simulations".into(),
            );
        }
        match work {
            Work::Own(_) if welcome.layers.is_empty() => refuse(format!(
                "its model is the {} of its configuration; serve one of your program, or join with data",
                config.model.kind()
            )),
            Work::Data { .. } if !welcome.layers.is_empty() => {
                refuse("its model is one of another program; take part with that".into())
            }
            Work::Own(work) => {
                if let Some(difference) = difference(&welcome.layers, &work.layers()) {
                    return refuse(format!("{difference}; begin with the server's model"));
                }
                policy.parameters(size(&welcome.layers))?;
                match work.examples() {
                    0 => refuse("no example to train on".into()),
                    _ => Ok(Self::Own(*work)),
                }
            }
            Work::Data { data, device } => {
                let (dataset, shard) = examples(data, index, config, welcome)?;
                policy.work(config, dataset.train.shape(), dataset.classes, shard.len())?;
                let learner = learner(&config.model, &config.solver, &dataset, device.clone())?;
                Ok(Self::Built { dataset: Box::new(dataset), shard, learner })
            }
        }
    }

    /// Number of model parameters d.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Built { learner, .. } => learner.parameters(),
            Self::Own(work) => size(&work.layers()),
        }
    }

    /// Training examples n_k.
    pub fn examples(&self) -> usize {
        match self {
            Self::Built { shard, .. } => shard.len(),
            Self::Own(work) => work.examples(),
        }
    }
}

fn size(layers: &[(String, Vec<usize>)]) -> usize {
    let sizes = layers.iter().map(|(_, shape)| shape.iter().copied().fold(1, usize::saturating_mul));
    sizes.fold(0, usize::saturating_add)
}

/// The first difference between the server's layers and the client's, in words.
fn difference(server: &[(String, Vec<usize>)], own: &[(String, Vec<usize>)]) -> Option<String> {
    let words = |layer: Option<&(String, Vec<usize>)>| {
        layer.map_or_else(|| "nothing".into(), |(name, shape)| format!("{} {shape:?}", told(name)))
    };
    let place = (0..server.len().max(own.len())).find(|&i| server.get(i) != own.get(i))?;
    let (theirs, ours) = (words(server.get(place)), words(own.get(place)));
    Some(format!("tensor {} of its model is {theirs}, and {ours} here", place + 1))
}

/// A round of another program's training.
pub(super) fn own_round(
    work: &dyn LocalWork,
    config: &Config,
    index: usize,
    round: u64,
    global: &[f32],
) -> Result<Trained> {
    let solver = config.solver.solver();
    let (model, loss) = work.train(&Turn::of(config, solver, round, index), global.to_vec())?;
    if model.len() != global.len() {
        let rule = format!("{} parameters came back from {}", model.len(), global.len());
        return Err(Error::Own(rule.into()));
    }
    Ok(Trained::elsewhere(update(solver, model, global), loss, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told() {
        let layers = |all: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> {
            all.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
        };
        let server = layers(&[("w", &[2, 3]), ("b", &[3])]);
        assert_eq!(difference(&server, &server), None);
        assert_eq!(
            difference(&server, &layers(&[("w", &[3, 2]), ("b", &[3])])).unwrap(),
            "tensor 1 of its model is w [2, 3], and w [3, 2] here"
        );
        assert_eq!(
            difference(&server, &layers(&[("w", &[2, 3])])).unwrap(),
            "tensor 2 of its model is b [3], and nothing here"
        );
        assert_eq!(size(&server), 9);
    }
}
