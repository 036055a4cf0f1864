//! Models: image classifiers as Burn modules.
//!
//! A user's own model is a struct that derives [`Module`] and implements [`Classifier`]; hand its
//! constructor to [`crate::learn::learner_of`].

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::choice,
    error::{Error, Result},
};

/// A model that maps images to class scores.
///
/// The forward pass must be a deterministic function of weights and images: no dropout, and no state
/// outside the weights such as the running statistics of a batch normalisation.
pub trait Classifier: Module + Sync + 'static {
    /// Images `[batch, channels, height, width]` to logits `[batch, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;
}

choice! {
    /// The model that every client trains.
    ModelConfig by "kind" {
        /// Multinomial logistic regression, 7,850 parameters on MNIST.
        "softmax" => Softmax(SoftmaxConfig),
        /// One hidden layer with ReLU, 159,010 parameters on MNIST with 200 hidden units.
        "mlp" => Mlp(MlpConfig),
        /// The convolutional network of McMahan et al. (2017), section 3; 1,663,370 parameters on MNIST.
        "cnn" => Cnn(CnnConfig),
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::default())
    }
}

impl ModelConfig {
    /// Checks the rules that need no dataset.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Mlp(MlpConfig { hidden: 0 }) => {
                Err(Error::config("hidden", "must be at least 1; set the number of hidden units"))
            }
            _ => Ok(()),
        }
    }

    /// Checks the rules that need the image shape `[channels, height, width]`.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check_images(&self, [_, height, width]: [usize; 3]) -> Result<()> {
        match self {
            Self::Cnn(_) if height < 4 || width < 4 => Err(Error::config(
                "kind",
                format!(
                    "cnn halves each side twice and needs images of at least 4×4 pixels, not {height}×{width}; use mlp or softmax"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// Multinomial logistic regression. It has no options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoftmaxConfig {}

/// A perceptron with one hidden layer and ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Hidden units, at least 1.
    #[schemars(range(min = 1))]
    pub hidden: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: 200 }
    }
}

/// The convolutional network of McMahan et al. (2017). It has no options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CnnConfig {}

/// Multinomial logistic regression on the pixels.
#[derive(Module, Debug)]
pub struct Softmax {
    output: Linear,
}

impl SoftmaxConfig {
    /// The model for images `[channels, height, width]`.
    #[must_use]
    pub fn init(&self, shape: [usize; 3], classes: usize, device: &Device) -> Softmax {
        Softmax { output: LinearConfig::new(shape.iter().product(), classes).init(device) }
    }
}

impl Classifier for Softmax {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.output.forward(images.flatten(1, 3))
    }
}

/// Linear, ReLU, linear.
#[derive(Module, Debug)]
pub struct Mlp {
    hidden: Linear,
    output: Linear,
}

impl MlpConfig {
    /// The model for images `[channels, height, width]`.
    #[must_use]
    pub fn init(&self, shape: [usize; 3], classes: usize, device: &Device) -> Mlp {
        Mlp {
            hidden: LinearConfig::new(shape.iter().product(), self.hidden).init(device),
            output: LinearConfig::new(self.hidden, classes).init(device),
        }
    }
}

impl Classifier for Mlp {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(images.flatten(1, 3))))
    }
}

/// Two 5×5 convolutions (32 and 64 channels, same padding), each with ReLU and 2×2 max pooling, then 512
/// hidden units with ReLU: McMahan et al. (2017), section 3.
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    hidden: Linear,
    output: Linear,
}

impl CnnConfig {
    /// The model for images `[channels, height, width]`.
    #[must_use]
    pub fn init(&self, [channels, height, width]: [usize; 3], classes: usize, device: &Device) -> Cnn {
        let conv =
            |from, to| Conv2dConfig::new([from, to], [5, 5]).with_padding(PaddingConfig2d::Same).init(device);
        Cnn {
            conv1: conv(channels, 32),
            conv2: conv(32, 64),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            hidden: LinearConfig::new(64 * (height / 4) * (width / 4), 512).init(device),
            output: LinearConfig::new(512, classes).init(device),
        }
    }
}

impl Classifier for Cnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        // ReLU and maximum commute; after pooling ReLU has a quarter of the work.
        let x = relu(self.pool.forward(self.conv1.forward(images)));
        let x = relu(self.pool.forward(self.conv2.forward(x)));
        self.output.forward(relu(self.hidden.forward(x.flatten(1, 3))))
    }
}
