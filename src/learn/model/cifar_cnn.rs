//! The CIFAR-10 network of McMahan et al. (2017), section 3, which they take from the TensorFlow tutorial
//! *Convolutional Neural Networks* (2016). On the 24×24 crops of the paper it has 1,068,298 parameters,
//! "about 10⁶". The tutorial's local response normalisation is left out, as in later federated work.

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

/// The CIFAR-10 network of McMahan et al. (2017). It has no options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CifarCnnConfig {}

/// Two 5×5 convolutions (64 channels each, same padding), each with ReLU and 3×3 max pooling of stride 2,
/// then 384 and 192 hidden units with ReLU.
#[derive(Module, Debug)]
pub struct CifarCnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    hidden1: Linear,
    hidden2: Linear,
    output: Linear,
}

/// Of an image before the first linear layer, from that of the input.
fn side(side: usize) -> usize {
    side.div_ceil(2).div_ceil(2)
}

impl Architecture for CifarCnnConfig {
    type Model = CifarCnn;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        at_least(4, "cifar-cnn", shape)
    }

    fn size(&self, [channels, height, width]: [usize; 3], classes: usize) -> usize {
        dense(&[25 * channels, 64])
            + dense(&[25 * 64, 64])
            + dense(&[64 * side(height) * side(width), 384, 192, classes])
    }

    fn init(&self, [channels, height, width]: [usize; 3], classes: usize, device: &Device) -> CifarCnn {
        let conv =
            |from, to| Conv2dConfig::new([from, to], [5, 5]).with_padding(PaddingConfig2d::Same).init(device);
        CifarCnn {
            conv1: conv(channels, 64),
            conv2: conv(64, 64),
            pool: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            hidden1: LinearConfig::new(64 * side(height) * side(width), 384).init(device),
            hidden2: LinearConfig::new(384, 192).init(device),
            output: LinearConfig::new(192, classes).init(device),
        }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        graph.conv("conv1", [2, 2], 1).max_pool(3, 2, 1).relu();
        graph.conv("conv2", [2, 2], 1).max_pool(3, 2, 1).relu();
        graph.flatten().linear("hidden1").relu().linear("hidden2").relu().linear("output");
    }
}

impl Classifier for CifarCnn {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = max_pool2d_relu(conv2d(examples, &self.conv1), &self.pool);
        let x = max_pool2d_relu(conv2d(x, &self.conv2), &self.pool);
        let x = linear_relu(x.flatten(1, 3), &self.hidden1);
        linear(linear_relu(x, &self.hidden2), &self.output)
    }
}
