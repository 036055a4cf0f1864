//! LeNet-5 (LeCun, Bottou, Bengio, Haffner, *Gradient-Based Learning Applied to Document Recognition*, 1998,
//! section II-B) as it is used today: C3 sees all maps, pooling has no weights, and the output is linear.

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AvgPool2d, AvgPool2dConfig},
    },
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Classifier, at_least, dense};
use crate::error::Result;
use crate::learn::kernels::{avg_pool2d, conv2d, linear, tanh};
use crate::learn::onnx::Graph;

/// LeNet-5. It has no options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeNet5Config {}

/// Two 5×5 convolutions (6 and 16 channels), each with tanh and 2×2 average pooling, then 120 and 84 hidden
/// units with tanh. Sides below 32 are padded by 2 on either end, so that 28×28 images become the 32×32 of
/// the paper.
#[derive(Module, Debug)]
pub struct LeNet5 {
    c1: Conv2d,
    c3: Conv2d,
    pool: AvgPool2d,
    c5: Linear,
    f6: Linear,
    output: Linear,
}

fn padding(side: usize) -> usize {
    if side < 32 { 2 } else { 0 }
}

/// Of an image before the first linear layer, from that of the input.
fn side(side: usize) -> usize {
    ((side + 2 * padding(side) - 4) / 2 - 4) / 2
}

impl Architecture for LeNet5Config {
    type Model = LeNet5;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        at_least(12, "lenet5", shape)
    }

    fn size(&self, [channels, height, width]: [usize; 3], classes: usize) -> usize {
        dense(&[25 * channels, 6])
            + dense(&[25 * 6, 16])
            + dense(&[16 * side(height) * side(width), 120, 84, classes])
    }

    fn init(&self, [channels, height, width]: [usize; 3], classes: usize, device: &Device) -> LeNet5 {
        let (rows, columns) = (padding(height), padding(width));
        let conv = |from, to| Conv2dConfig::new([from, to], [5, 5]);
        LeNet5 {
            c1: conv(channels, 6)
                .with_padding(PaddingConfig2d::Explicit(rows, columns, rows, columns))
                .init(device),
            c3: conv(6, 16).init(device),
            pool: AvgPool2dConfig::new([2, 2]).init(),
            c5: LinearConfig::new(16 * side(height) * side(width), 120).init(device),
            f6: LinearConfig::new(120, 84).init(device),
            output: LinearConfig::new(84, classes).init(device),
        }
    }

    fn draw(&self, [_, height, width]: [usize; 3], graph: &mut Graph<'_>) {
        graph.conv("c1", [padding(height), padding(width)], 1).tanh().avg_pool(2, 2);
        graph.conv("c3", [0, 0], 1).tanh().avg_pool(2, 2);
        graph.flatten().linear("c5").tanh().linear("f6").tanh().linear("output");
    }
}

impl Classifier for LeNet5 {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = avg_pool2d(tanh(conv2d(examples, &self.c1)), &self.pool);
        let x = avg_pool2d(tanh(conv2d(x, &self.c3)), &self.pool);
        let x = tanh(linear(x.flatten(1, 3), &self.c5));
        linear(tanh(linear(x, &self.f6)), &self.output)
    }
}
