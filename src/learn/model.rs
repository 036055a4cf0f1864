//! Models as Burn modules.
//!
//! | kind | layers | parameters on MNIST, CIFAR-10 | source |
//! |---|---|---|---|
//! | `softmax` | one linear layer | 7,850; 30,730 | |
//! | `mlp` | hidden layers with ReLU | 159,010; 616,610 | McMahan et al. 2017, section 3, with one hidden layer for two |
//! | `cnn` | two convolutions, one hidden layer | 1,663,370; 2,156,490 | McMahan et al. 2017, section 3 |
//! | `lenet5` | two convolutions, two hidden layers, tanh | 61,706; 62,006 | LeCun et al. 1998, section II-B |
//! | `lenet5` with ReLU, maxima, unpadded | the same | 44,426; 62,006 | the simple CNN of Li et al. 2022 (NIID-Bench), section 5 |
//! | `cifar-cnn` | two convolutions, two hidden layers | 1,384,586; 1,756,426 | McMahan et al. 2017, section 3 |
//! | `resnet20` | three stages of three residual blocks, group norm | 269,434; 269,722 | He et al. 2016, section 4.2 |
//! | `resnet18` | four stages of two residual blocks, group norm | 11,172,810; 11,173,962 | He et al. 2016, table 1 |
//! | `vgg11` | eight convolutions, one linear layer | –; 9,225,610 | Simonyan, Zisserman 2015, table 1 |
//! | `char-lstm` | embedding, two layers with long short-term memory | texts: 819,920 with 80 tokens and classes | McMahan et al. 2017, section 3 |
//! | `gru` | embedding, a layer of gated units | texts: 63,952 with 80 tokens and classes | Cho et al. 2014 |
//!
//! A model of this crate is one file with a configuration that implements [`Architecture`], and one line in
//! the list below. A user's own model is a struct that derives [`Module`] and implements [`Classifier`]; hand
//! it to [`crate::learn::learner_of`].

mod char_lstm;
mod cifar_cnn;
mod cnn;
mod gru;
mod lenet5;
mod mlp;
mod recurrent;
mod resnet;
mod resnet18;
mod resnet20;
mod softmax;
mod unit;
mod vgg11;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

pub use char_lstm::{CharLstm, CharLstmConfig};
pub use cifar_cnn::{CifarCnn, CifarCnnConfig};
pub use cnn::{Cnn, CnnConfig};
pub use gru::{Gru, GruConfig};
pub use lenet5::{Activation, LeNet5, LeNet5Config, Pooling};
pub use mlp::{Hidden, Mlp, MlpConfig};
pub use resnet::ResNet;
pub use resnet18::ResNet18Config;
pub use resnet20::ResNet20Config;
pub use softmax::{Softmax, SoftmaxConfig};
pub use vgg11::{Vgg11, Vgg11Config};

use std::sync::Arc;

use super::objective::Objective;
use super::onnx::{self, Graph};
use super::solver::Solver;
use super::state_dict::StateDict;
use super::{Learner, Parameter, learner_toward, survey};
use crate::{
    choice::choice,
    data::{DataConfig, Dataset},
    error::{Error, Result},
};

/// A model that maps examples to outputs: the scores of classes or labels, or quantities.
///
/// The forward pass must be a deterministic function of weights and examples: no dropout, and no state
/// outside the weights such as the running statistics of a batch normalisation.
pub trait Classifier: Module + Sync + 'static {
    /// Whether [`Classifier::forward`] also computes several clients at once, so that a GPU trains them in
    /// one tensor program: from examples `[batch, clients · channels, height, width]`, with each parameter
    /// those of all clients along its first axis, logits `[batch, clients · classes]`. It does where every
    /// layer with weights goes through [`kernels`](super::kernels), linear ones with a bias, convolutions
    /// without dilation and groups and with a padding shorter than the window, and nothing else mixes
    /// channels.
    const STACKS: bool = false;

    /// Examples `[batch, channels, height, width]` to logits `[batch, classes]`, or as many labels or
    /// quantities.
    fn forward(&self, examples: Tensor<4>) -> Tensor<2>;
}

/// The configuration of a model: what it refuses and what it builds.
pub trait Architecture {
    /// The module.
    type Model: Classifier;

    /// Checks the values, and whether the model fits examples of `shape` (channels, height, width).
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    fn check(&self, shape: [usize; 3]) -> Result<()>;

    /// Number of parameters for examples of `shape`, once they are checked: without memory for them.
    fn size(&self, shape: [usize; 3], classes: usize) -> usize;

    /// The model for examples of `shape`, once they are checked.
    fn init(&self, shape: [usize; 3], classes: usize, device: &Device) -> Self::Model;

    /// Draws the model for examples of `shape`: what [`Classifier::forward`] computes, layer by layer.
    fn draw(&self, shape: [usize; 3], graph: &mut Graph<'_>);
}

/// Declares [`ModelConfig`] and what is done with every model.
macro_rules! models {
    ($($(#[$doc:meta])* $kind:literal => $variant:ident($config:ty)),+ $(,)?) => {
        choice! {
            /// The model that every client trains.
            ModelConfig by "kind" or "mlp" { $($(#[$doc])* $kind => $variant($config)),+ }
        }

        impl ModelConfig {
            /// Checks the values, and whether the model fits examples of `shape` (channels, height, width).
            ///
            /// # Errors
            /// [`Error::Config`] with a key relative to the section.
            pub fn check(&self, shape: [usize; 3]) -> Result<()> {
                match self { $(Self::$variant(config) => config.check(shape)),+ }
            }

            /// The number of parameters of the model for examples of `shape` (channels, height, width),
            /// without memory for them; the largest number where there are more.
            ///
            /// # Errors
            /// Those of [`ModelConfig::check`].
            pub fn size(&self, shape: [usize; 3], classes: usize) -> Result<usize> {
                self.check(shape)?;
                Ok(match self { $(Self::$variant(config) => config.size(shape, classes)),+ })
            }

            /// The parameter tensors of the model for examples of `shape` (channels, height, width), in the
            /// order of the flat vector.
            ///
            /// # Errors
            /// Those of [`ModelConfig::check`].
            pub fn layers(&self, shape: [usize; 3], classes: usize, device: &super::Device) -> Result<Vec<Parameter>> {
                self.check(shape)?;
                match self { $(Self::$variant(config) => survey(&config.init(shape, classes, &device.plain()))),+ }
            }

            /// The model with these weights as an ONNX file.
            ///
            /// # Errors
            /// Weights that do not say what they were made for; a model beyond the format's 2 GB.
            pub fn onnx(&self, weights: &StateDict) -> Result<Vec<u8>> {
                let about = weights.about.as_ref().ok_or_else(onnx::unknown)?;
                match self {
                    $(Self::$variant(config) => {
                        onnx::model(weights, about, |graph| config.draw(about.shape, graph))
                    }),+
                }
            }

            /// The learner of the model, once it is checked.
            pub(crate) fn learner(
                &self,
                solver: Arc<dyn Solver>,
                objective: Arc<dyn Objective>,
                dataset: &Dataset,
                device: super::Device,
            ) -> Result<Box<dyn Learner>> {
                let (shape, classes) = (dataset.train.shape(), dataset.classes);
                match self {
                    $(Self::$variant(config) => {
                        let model = config.init(shape, classes, &device.plain());
                        learner_toward(model, solver, objective, dataset, device)
                    }),+
                }
            }
        }
    };
}

models! {
    /// Multinomial logistic regression; 7,850 parameters on MNIST.
    "softmax" => Softmax(SoftmaxConfig),
    /// Hidden layers with ReLU; 159,010 parameters on MNIST with 200 hidden units.
    "mlp" => Mlp(MlpConfig),
    /// The convolutional network of McMahan et al. (2017), section 3; 1,663,370 parameters on MNIST.
    "cnn" => Cnn(CnnConfig),
    /// LeNet-5 (LeCun et al. 1998) with average pooling and tanh, 61,706 parameters on MNIST; or with ReLU
    /// and maxima, NIID-Bench's simple CNN.
    "lenet5" => LeNet5(LeNet5Config),
    /// The CIFAR-10 network of McMahan et al. (2017), from the TensorFlow tutorial; 1,756,426 parameters on
    /// CIFAR-10.
    "cifar-cnn" => CifarCnn(CifarCnnConfig),
    /// ResNet-20 (He et al. 2016) with group normalisation; 269,722 parameters on CIFAR-10.
    "resnet20" => ResNet20(ResNet20Config),
    /// ResNet-18 (He et al. 2016) with group normalisation; 11,173,962 parameters on CIFAR-10.
    "resnet18" => ResNet18(ResNet18Config),
    /// VGG-11 (Simonyan, Zisserman 2015) with one linear layer; 9,225,610 parameters on CIFAR-10.
    "vgg11" => Vgg11(Vgg11Config),
    /// The recurrent network for Shakespeare of McMahan et al. (2017), over texts; 819,920 parameters with 80
    /// tokens and 80 classes.
    "char-lstm" => CharLstm(CharLstmConfig),
    /// A layer of gated recurrent units over texts; 63,952 parameters with 80 tokens and 80 classes.
    "gru" => Gru(GruConfig),
}

impl ModelConfig {
    /// The number of parameters on a dataset; only own data is read for it.
    ///
    /// # Errors
    /// Data that cannot be read, a model that does not fit it; keyed relative to the configuration.
    pub fn parameters(&self, data: &DataConfig) -> Result<usize> {
        Ok(self.tensors(data)?.iter().map(|shape| shape.iter().product::<usize>()).sum())
    }

    /// The shapes of the parameter tensors on a dataset; only own data is read for it.
    ///
    /// # Errors
    /// As [`ModelConfig::parameters`].
    pub fn tensors(&self, data: &DataConfig) -> Result<Vec<Vec<usize>>> {
        let (shape, classes) = data.shape().map_err(|error| error.within("data"))?;
        let layers = self.layers(shape, classes, &"cpu".parse()?).map_err(|error| error.within("model"))?;
        Ok(layers.into_iter().map(|layer| layer.shape).collect())
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::default())
    }
}

/// Parameters of fully connected layers of these widths, with biases.
fn dense(widths: &[usize]) -> usize {
    let layer = |pair: &[usize]| pair[0].saturating_add(1).saturating_mul(pair[1]);
    widths.windows(2).map(layer).fold(0, usize::saturating_add)
}

/// Refuses images with a side below `least`.
fn at_least(least: usize, kind: &str, [_, height, width]: [usize; 3]) -> Result<()> {
    if height >= least && width >= least {
        return Ok(());
    }
    let rule = format!(
        "{kind} needs images of at least {least}×{least} pixels, not {height}×{width}; use mlp or softmax"
    );
    Err(Error::config("kind", rule))
}

#[cfg(test)]
mod tests;
