//! VGG-11 (Simonyan, Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2015,
//! table 1, column A) for small images: one linear layer instead of three, and no dropout. Wang, Liu, Liang,
//! Joshi, Poor, *Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization*, 2020,
//! section 5, train a VGG-11 on CIFAR-10.

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig,
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit::{Form, Unit, check_groups};
use super::{Architecture, Classifier, at_least, dense};
use crate::error::Result;
use crate::learn::kernels::{linear, max_pool2d_relu};
use crate::learn::onnx::Graph;

/// Channels of every convolution, and whether its image is pooled.
const LAYERS: [(usize, bool); 8] = [
    (64, true),
    (128, true),
    (256, false),
    (256, true),
    (512, false),
    (512, true),
    (512, false),
    (512, true),
];

/// VGG-11.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Vgg11Config {
    /// Groups of channels of a normalisation behind every convolution: 1, 2, 4, 8, 16, 32 or 64. By default
    /// there is none, as in the paper; then each layer passes on a sixth of the mean square of its input at
    /// the start, and learning begins slowly.
    #[schemars(range(min = 1, max = 64))]
    pub groups: Option<usize>,
}

/// Eight 3×3 convolutions with ReLU, five of them with 2×2 max pooling, the mean over all pixels that are
/// left (one of 32×32), and a linear output.
#[derive(Module, Debug)]
pub struct Vgg11 {
    units: Vec<Unit>,
    pool: MaxPool2d,
    output: Linear,
}

impl Vgg11Config {
    fn form(&self) -> Form {
        Form { side: 3, stride: 1, groups: self.groups }
    }
}

/// Channels before and behind every convolution.
fn widths(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let behind = LAYERS.iter().map(|(channels, _)| *channels);
    std::iter::once(channels).chain(behind.clone()).zip(behind)
}

impl Architecture for Vgg11Config {
    type Model = Vgg11;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        self.groups.map_or(Ok(()), |groups| check_groups(groups, LAYERS[0].0))?;
        at_least(32, "vgg11", shape)
    }

    fn size(&self, [channels, ..]: [usize; 3], classes: usize) -> usize {
        let units = widths(channels).map(|(from, to)| self.form().size(from, to));
        units.sum::<usize>() + dense(&[512, classes])
    }

    fn init(&self, [channels, ..]: [usize; 3], classes: usize, device: &Device) -> Vgg11 {
        Vgg11 {
            units: widths(channels).map(|(from, to)| self.form().init(from, to, device)).collect(),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            output: LinearConfig::new(512, classes).init(device),
        }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        for (layer, (_, pooled)) in LAYERS.into_iter().enumerate() {
            self.form().draw(&format!("units.{layer}"), graph);
            graph.relu();
            if pooled {
                graph.max_pool(2, 2, 0);
            }
        }
        graph.global_avg_pool().flatten().linear("output");
    }
}

impl Classifier for Vgg11 {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let layer = |x, (unit, (_, pooled)): (&Unit, (usize, bool))| match pooled {
            true => max_pool2d_relu(unit.forward(x), &self.pool),
            false => unit.forward_relu(x),
        };
        let x = self.units.iter().zip(LAYERS).fold(examples, layer);
        let [batch, channels, ..] = x.dims();
        linear(x.mean_dims(&[2, 3]).reshape([batch, channels]), &self.output)
    }
}
