//! LeNet-5 (LeCun, Bottou, Bengio, Haffner, *Gradient-Based Learning Applied to Document Recognition*, 1998,
//! section II-B) as it is used today: C3 sees all maps, pooling has no weights, and the output is linear.
//! With ReLU, maxima and no padding it is the simple CNN of NIID-Bench (Li, Diao, Chen, He, *Federated
//! Learning on Non-IID Data Silos: An Experimental Study*, 2022, section 5).

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Classifier, at_least, dense};
use crate::error::Result;
use crate::learn::kernels::{avg_pool2d, conv2d, linear, linear_relu, max_pool2d_relu, relu, tanh};
use crate::learn::onnx::Graph;

/// LeNet-5. NIID-Bench's simple CNN is `activation = "relu"`, `pooling = "max"`, `padded = false`: 44,426
/// parameters on MNIST, 62,006 on CIFAR-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeNet5Config {
    /// After every layer but the last: "tanh" or "relu".
    pub activation: Activation,
    /// Of windows of 2×2 pixels: "average" or "max".
    pub pooling: Pooling,
    /// Whether sides below 32 are padded by 2 on either end, so that 28×28 images become the 32×32 of the
    /// paper.
    pub padded: bool,
}

impl Default for LeNet5Config {
    fn default() -> Self {
        Self { activation: Activation::default(), pooling: Pooling::default(), padded: true }
    }
}

/// What follows a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// max(x, 0).
    Relu,
}

/// What becomes of the pixels of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their mean.
    #[default]
    Average,
    /// Their maximum.
    Max,
}

/// Two 5×5 convolutions (6 and 16 channels), each with its activation and 2×2 pooling, then 120 and 84 hidden
/// units with their activations.
#[derive(Module, Debug)]
pub struct LeNet5 {
    c1: Conv2d,
    c3: Conv2d,
    mean: AvgPool2d,
    max: MaxPool2d,
    c5: Linear,
    f6: Linear,
    output: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    pooling: Pooling,
}

impl LeNet5Config {
    fn padding(&self, side: usize) -> usize {
        if self.padded && side < 32 { 2 } else { 0 }
    }

    /// Of an image before the first linear layer, from that of the input.
    fn side(&self, side: usize) -> usize {
        ((side + 2 * self.padding(side) - 4) / 2 - 4) / 2
    }

    fn activate(&self, graph: &mut Graph<'_>) {
        match self.activation {
            Activation::Tanh => graph.tanh(),
            Activation::Relu => graph.relu(),
        };
    }
}

impl Architecture for LeNet5Config {
    type Model = LeNet5;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        at_least(if self.padded { 12 } else { 16 }, "lenet5", shape)
    }

    fn size(&self, [channels, height, width]: [usize; 3], classes: usize) -> usize {
        dense(&[25 * channels, 6])
            + dense(&[25 * 6, 16])
            + dense(&[16 * self.side(height) * self.side(width), 120, 84, classes])
    }

    fn init(&self, [channels, height, width]: [usize; 3], classes: usize, device: &Device) -> LeNet5 {
        let (rows, columns) = (self.padding(height), self.padding(width));
        let conv = |from, to| Conv2dConfig::new([from, to], [5, 5]);
        LeNet5 {
            c1: conv(channels, 6)
                .with_padding(PaddingConfig2d::Explicit(rows, columns, rows, columns))
                .init(device),
            c3: conv(6, 16).init(device),
            mean: AvgPool2dConfig::new([2, 2]).init(),
            max: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            c5: LinearConfig::new(16 * self.side(height) * self.side(width), 120).init(device),
            f6: LinearConfig::new(120, 84).init(device),
            output: LinearConfig::new(84, classes).init(device),
            activation: self.activation,
            pooling: self.pooling,
        }
    }

    fn draw(&self, [_, height, width]: [usize; 3], graph: &mut Graph<'_>) {
        for (layer, padding) in [("c1", [self.padding(height), self.padding(width)]), ("c3", [0, 0])] {
            self.activate(graph.conv(layer, padding, 1));
            match self.pooling {
                Pooling::Average => graph.avg_pool(2, 2),
                Pooling::Max => graph.max_pool(2, 2, 0),
            };
        }
        graph.flatten();
        for layer in ["c5", "f6"] {
            self.activate(graph.linear(layer));
        }
        graph.linear("output");
    }
}

impl LeNet5 {
    /// The activations of `x`, pooled. Both activations are monotone and commute with the maximum.
    fn pooled(&self, x: Tensor<4>) -> Tensor<4> {
        match (self.activation, self.pooling) {
            (Activation::Tanh, Pooling::Average) => avg_pool2d(tanh(x), &self.mean),
            (Activation::Relu, Pooling::Average) => avg_pool2d(relu(x), &self.mean),
            (Activation::Tanh, Pooling::Max) => tanh(self.max.forward(x)),
            (Activation::Relu, Pooling::Max) => max_pool2d_relu(x, &self.max),
        }
    }

    fn hidden(&self, x: Tensor<2>, layer: &Linear) -> Tensor<2> {
        match self.activation {
            Activation::Tanh => tanh(linear(x, layer)),
            Activation::Relu => linear_relu(x, layer),
        }
    }
}

impl Classifier for LeNet5 {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = self.pooled(conv2d(examples, &self.c1));
        let x = self.pooled(conv2d(x, &self.c3));
        let x = self.hidden(x.flatten(1, 3), &self.c5);
        linear(self.hidden(x, &self.f6), &self.output)
    }
}
