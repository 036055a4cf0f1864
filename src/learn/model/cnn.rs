//! The convolutional network for MNIST of McMahan et al. (2017), section 3.

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Classifier, at_least, dense};
use crate::error::Result;
use crate::learn::kernels::{conv2d, linear, linear_relu, max_pool2d_relu};
use crate::learn::onnx::Graph;

/// The convolutional network of McMahan et al. (2017). It has no options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CnnConfig {}

/// Two 5×5 convolutions (32 and 64 channels, same padding), each with ReLU and 2×2 max pooling, then 512
/// hidden units with ReLU.
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    hidden: Linear,
    output: Linear,
}

impl Architecture for CnnConfig {
    type Model = Cnn;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        at_least(4, "cnn", shape)
    }

    fn size(&self, [channels, height, width]: [usize; 3], classes: usize) -> usize {
        dense(&[25 * channels, 32])
            + dense(&[25 * 32, 64])
            + dense(&[64 * (height / 4) * (width / 4), 512, classes])
    }

    fn init(&self, [channels, height, width]: [usize; 3], classes: usize, device: &Device) -> Cnn {
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

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        graph.conv("conv1", [2, 2], 1).max_pool(2, 2, 0).relu();
        graph.conv("conv2", [2, 2], 1).max_pool(2, 2, 0).relu();
        graph.flatten().linear("hidden").relu().linear("output");
    }
}

impl Classifier for Cnn {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = max_pool2d_relu(conv2d(examples, &self.conv1), &self.pool);
        let x = max_pool2d_relu(conv2d(x, &self.conv2), &self.pool);
        linear(linear_relu(x.flatten(1, 3), &self.hidden), &self.output)
    }
}
