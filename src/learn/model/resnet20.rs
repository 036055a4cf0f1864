//! ResNet-20 for CIFAR (He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, 2016, section
//! 4.2) with shortcuts without parameters (option A) and group normalisation (Wu, He 2018) in place of batch
//! normalisation, which fails when clients hold different classes (Hsieh, Phanishayee, Mutlu, Gibbons, *The
//! Non-IID Data Quagmire of Decentralized Machine Learning*, 2020, section 5).

use burn::{
    module::Module,
    nn::{
        GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AvgPool2d, AvgPool2dConfig},
    },
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Classifier, at_least, dense};
use crate::error::{Error, Result};
use crate::learn::kernels::{add_relu, avg_pool2d, conv2d, group_norm, group_norm_relu, linear};
use crate::learn::onnx::Graph;

/// Channels of the unit at the beginning and of every block.
const WIDTHS: [usize; 10] = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64];

/// Of every normalisation.
const EPSILON: f32 = 1e-5;

/// ResNet-20 with group normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResNet20Config {
    /// Groups of channels of every normalisation: 1, 2, 4, 8 or 16. The number of parameters does not depend
    /// on it.
    #[schemars(range(min = 1, max = 16))]
    pub groups: usize,
}

impl Default for ResNet20Config {
    fn default() -> Self {
        Self { groups: 2 }
    }
}

/// A 3×3 convolution without bias, then group normalisation.
#[derive(Module, Debug)]
struct Unit {
    conv: Conv2d,
    norm: GroupNorm,
}

impl Unit {
    fn new(from: usize, to: usize, stride: usize, groups: usize, device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([from, to], [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device),
            norm: GroupNormConfig::new(groups, to).with_epsilon(EPSILON.into()).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        group_norm(conv2d(x, &self.conv), &self.norm)
    }

    /// The unit with ReLU.
    fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        group_norm_relu(conv2d(x, &self.conv), &self.norm)
    }
}

/// Two units around a shortcut.
#[derive(Module, Debug)]
struct Block {
    first: Unit,
    second: Unit,
    /// Where the block halves the image and doubles the channels: takes every second pixel of the shortcut.
    halve: Option<AvgPool2d>,
}

impl Block {
    fn new(from: usize, to: usize, groups: usize, device: &Device) -> Self {
        let stride = to / from;
        Self {
            first: Unit::new(from, to, stride, groups, device),
            second: Unit::new(to, to, 1, groups, device),
            halve: (stride == 2).then(|| AvgPool2dConfig::new([1, 1]).with_strides([2, 2]).init()),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.second.forward(self.first.forward_relu(x.clone()));
        let shortcut = match &self.halve {
            None => x,
            Some(halve) => {
                let kept = avg_pool2d(x, halve);
                let [batch, channels, height, width] = kept.dims();
                let from = self.first.conv.weight.dims()[1];
                let each = kept.reshape([batch * channels / from, from, height, width]);
                let zeros = each.zeros_like();
                Tensor::cat(vec![each, zeros], 1).reshape([batch, 2 * channels, height, width])
            }
        };
        add_relu(y, shortcut)
    }
}

/// A unit of 16 channels, three blocks each of 16, 32 and 64 channels, the mean over all pixels, and a linear
/// output.
#[derive(Module, Debug)]
pub struct ResNet20 {
    stem: Unit,
    blocks: Vec<Block>,
    output: Linear,
}

impl Architecture for ResNet20Config {
    type Model = ResNet20;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        if self.groups == 0 || !16usize.is_multiple_of(self.groups) {
            let rule = format!("{} does not divide the 16 channels; take 1, 2, 4, 8 or 16", self.groups);
            return Err(Error::config("groups", rule));
        }
        at_least(8, "resnet20", shape)
    }

    fn size(&self, [channels, ..]: [usize; 3], classes: usize) -> usize {
        // A convolution without bias, and two numbers a channel of the norm.
        let unit = |from: usize, to: usize| (9 * from + 2) * to;
        let blocks: usize = WIDTHS.windows(2).map(|w| unit(w[0], w[1]) + unit(w[1], w[1])).sum();
        unit(channels, 16) + blocks + dense(&[64, classes])
    }

    fn init(&self, [channels, ..]: [usize; 3], classes: usize, device: &Device) -> ResNet20 {
        ResNet20 {
            stem: Unit::new(channels, 16, 1, self.groups, device),
            blocks: WIDTHS.windows(2).map(|w| Block::new(w[0], w[1], self.groups, device)).collect(),
            output: LinearConfig::new(64, classes).init(device),
        }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        let unit = |graph: &mut Graph<'_>, name: &str, stride: usize| {
            graph.conv(&format!("{name}.conv"), [1, 1], stride);
            graph.group_norm(&format!("{name}.norm"), self.groups, EPSILON);
        };
        unit(graph, "stem", 1);
        graph.relu();
        for (block, widths) in WIDTHS.windows(2).enumerate() {
            let (start, stride) = (graph.now(), widths[1] / widths[0]);
            unit(graph, &format!("blocks.{block}.first"), stride);
            graph.relu();
            unit(graph, &format!("blocks.{block}.second"), 1);
            let end = graph.now();
            graph.back_to(start);
            if stride == 2 {
                graph.avg_pool(1, 2).pad_channels(widths[1]);
            }
            graph.add(&end).relu();
        }
        graph.global_avg_pool().flatten().linear("output");
    }
}

impl Classifier for ResNet20 {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = self.stem.forward_relu(examples);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let [batch, channels, ..] = x.dims();
        linear(x.mean_dims(&[2, 3]).reshape([batch, channels]), &self.output)
    }
}
