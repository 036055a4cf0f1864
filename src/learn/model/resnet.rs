//! Residual networks (He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, 2016) with group
//! normalisation (Wu, He 2018) in place of batch normalisation, which fails when clients hold different
//! classes (Hsieh, Phanishayee, Mutlu, Gibbons, *The Non-IID Data Quagmire of Decentralized Machine
//! Learning*, 2020, section 5).

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig,
        pool::{AvgPool2d, AvgPool2dConfig},
    },
    tensor::{Device, Tensor},
};

use super::unit::{Form, Unit, check_groups};
use super::{Architecture, Classifier, at_least, dense};
use crate::error::Result;
use crate::learn::kernels::{add_relu, avg_pool2d, linear};
use crate::learn::onnx::Graph;

/// How a shortcut reaches twice the channels at half the sides (He et al. 2016, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shortcut {
    /// Option A: every second pixel, and channels of zeros.
    Zeros,
    /// Option B: a convolution of 1×1 pixel.
    Projection,
}

/// What a residual network looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Channels of the unit at the beginning and of every block; a block that doubles them halves the sides.
    pub widths: &'static [usize],
    pub groups: usize,
    pub shortcut: Shortcut,
}

/// The configuration of a residual network.
pub(super) trait Residual {
    /// What configurations call it.
    const KIND: &'static str;

    fn plan(&self) -> Plan;
}

impl<R: Residual> Architecture for R {
    type Model = ResNet;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        let Plan { widths, groups, .. } = self.plan();
        check_groups(groups, widths[0])?;
        at_least(8, R::KIND, shape)
    }

    fn size(&self, [channels, ..]: [usize; 3], classes: usize) -> usize {
        self.plan().size(channels, classes)
    }

    fn init(&self, [channels, ..]: [usize; 3], classes: usize, device: &Device) -> ResNet {
        self.plan().init(channels, classes, device)
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        self.plan().draw(graph);
    }
}

/// Two units around a shortcut.
#[derive(Module, Debug)]
struct Block {
    first: Unit,
    second: Unit,
    /// Takes every second pixel of a shortcut without parameters.
    halve: Option<AvgPool2d>,
    projection: Option<Unit>,
}

/// A unit, blocks, the mean over all pixels, and a linear output.
#[derive(Module, Debug)]
pub struct ResNet {
    stem: Unit,
    blocks: Vec<Block>,
    output: Linear,
}

impl Plan {
    fn form(&self, side: usize, stride: usize) -> Form {
        Form { side, stride, groups: Some(self.groups) }
    }

    /// Channels before and in every block.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.widths.windows(2).map(|widths| (widths[0], widths[1]))
    }

    fn projects(&self, from: usize, to: usize) -> bool {
        self.shortcut == Shortcut::Projection && to != from
    }

    /// Channels before the output.
    fn last(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    pub fn size(&self, channels: usize, classes: usize) -> usize {
        let unit = |from: usize, to: usize| self.form(3, 1).size(from, to);
        let block = |(from, to): (usize, usize)| {
            let projection = if self.projects(from, to) { self.form(1, 2).size(from, to) } else { 0 };
            unit(from, to) + unit(to, to) + projection
        };
        unit(channels, self.widths[0])
            + self.blocks().map(block).sum::<usize>()
            + dense(&[self.last(), classes])
    }

    fn block(&self, from: usize, to: usize, device: &Device) -> Block {
        let stride = to / from;
        let zeros = self.shortcut == Shortcut::Zeros && stride == 2;
        Block {
            first: self.form(3, stride).init(from, to, device),
            second: self.form(3, 1).init(to, to, device),
            halve: zeros.then(|| AvgPool2dConfig::new([1, 1]).with_strides([2, 2]).init()),
            projection: self.projects(from, to).then(|| self.form(1, stride).init(from, to, device)),
        }
    }

    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> ResNet {
        ResNet {
            stem: self.form(3, 1).init(channels, self.widths[0], device),
            blocks: self.blocks().map(|(from, to)| self.block(from, to, device)).collect(),
            output: LinearConfig::new(self.last(), classes).init(device),
        }
    }

    pub fn draw(&self, graph: &mut Graph<'_>) {
        self.form(3, 1).draw("stem", graph);
        graph.relu();
        for (block, (from, to)) in self.blocks().enumerate() {
            let (start, stride) = (graph.now(), to / from);
            self.form(3, stride).draw(&format!("blocks.{block}.first"), graph);
            graph.relu();
            self.form(3, 1).draw(&format!("blocks.{block}.second"), graph);
            let end = graph.now();
            graph.back_to(start);
            if self.projects(from, to) {
                self.form(1, stride).draw(&format!("blocks.{block}.projection"), graph);
            } else if stride == 2 {
                graph.avg_pool(1, 2).pad_channels(to);
            }
            graph.add(&end).relu();
        }
        graph.global_avg_pool().flatten().linear("output");
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.second.forward(self.first.forward_relu(x.clone()));
        let shortcut = match (&self.halve, &self.projection) {
            (Some(halve), _) => doubled(avg_pool2d(x, halve), self.first.channels()),
            (None, Some(projection)) => projection.forward(x),
            (None, None) => x,
        };
        add_relu(y, shortcut)
    }
}

/// `x` with as many channels of zeros behind every `channels` of its own, which are one client's.
fn doubled(x: Tensor<4>, channels: usize) -> Tensor<4> {
    let [batch, all, height, width] = x.dims();
    let each = x.reshape([batch * all / channels, channels, height, width]);
    let zeros = each.zeros_like();
    Tensor::cat(vec![each, zeros], 1).reshape([batch, 2 * all, height, width])
}

impl Classifier for ResNet {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = self.stem.forward_relu(examples);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let [batch, channels, ..] = x.dims();
        linear(x.mean_dims(&[2, 3]).reshape([batch, channels]), &self.output)
    }
}
