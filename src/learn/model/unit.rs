//! A convolution with what normalises it: what residual networks and VGG are made of.

use burn::{
    module::Module,
    nn::{
        GroupNorm, GroupNormConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor},
};

use crate::error::{Error, Result};
use crate::learn::kernels::{conv2d, group_norm, group_norm_relu, relu};
use crate::learn::onnx::Graph;

/// Of every normalisation.
const EPSILON: f32 = 1e-5;

/// A convolution that keeps the size of the image but for its stride, then group normalisation; without one,
/// a bias.
#[derive(Module, Debug)]
pub(super) struct Unit {
    conv: Conv2d,
    norm: Option<GroupNorm>,
}

/// A unit's layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Of the window, odd.
    pub side: usize,
    pub stride: usize,
    /// Of channels, where they are normalised.
    pub groups: Option<usize>,
}

impl Form {
    /// From `from` channels to `to`.
    pub fn init(self, from: usize, to: usize, device: &Device) -> Unit {
        let Self { side, stride, groups } = self;
        let padding = side / 2;
        Unit {
            conv: Conv2dConfig::new([from, to], [side, side])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                .with_bias(groups.is_none())
                .init(device),
            norm: groups
                .map(|groups| GroupNormConfig::new(groups, to).with_epsilon(EPSILON.into()).init(device)),
        }
    }

    /// Parameters: beside the weights two numbers a channel of the norm, or one of the bias.
    pub fn size(self, from: usize, to: usize) -> usize {
        (self.side * self.side * from + 1 + usize::from(self.groups.is_some())) * to
    }

    pub fn draw(self, name: &str, graph: &mut Graph<'_>) {
        graph.conv(&format!("{name}.conv"), [self.side / 2; 2], self.stride);
        if let Some(groups) = self.groups {
            graph.group_norm(&format!("{name}.norm"), groups, EPSILON);
        }
    }
}

impl Unit {
    /// Channels of its input.
    pub fn channels(&self) -> usize {
        self.conv.weight.dims()[1]
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = conv2d(x, &self.conv);
        match &self.norm {
            Some(norm) => group_norm(y, norm),
            None => y,
        }
    }

    /// The unit with ReLU.
    pub fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        let y = conv2d(x, &self.conv);
        match &self.norm {
            Some(norm) => group_norm_relu(y, norm),
            None => relu(y),
        }
    }
}

/// Refuses groups that do not divide `channels`, the least of a model, a power of two that divides the rest.
pub(super) fn check_groups(groups: usize, channels: usize) -> Result<()> {
    if groups > 0 && channels.is_multiple_of(groups) {
        return Ok(());
    }
    let known = |power: &u32| channels.is_multiple_of(1 << power);
    let mut powers: Vec<String> = (0..).take_while(known).map(|power| (1 << power).to_string()).collect();
    let last = powers.pop().unwrap_or_default();
    let rule =
        format!("{groups} does not divide the {channels} channels; take {} or {last}", powers.join(", "));
    Err(Error::config("groups", rule))
}
