//! ResNet-20 for CIFAR (He et al. 2016, section 4.2), its shortcuts without parameters.

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resnet::{Plan, ResNet, Shortcut};
use super::unit::check_groups;
use super::{Architecture, at_least};
use crate::error::Result;
use crate::learn::onnx::Graph;

/// Three blocks each of 16, 32 and 64 channels.
const WIDTHS: [usize; 10] = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64];

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

impl ResNet20Config {
    fn plan(&self) -> Plan {
        Plan { widths: &WIDTHS, groups: self.groups, shortcut: Shortcut::Zeros }
    }
}

impl Architecture for ResNet20Config {
    type Model = ResNet;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        check_groups(self.groups, WIDTHS[0])?;
        at_least(8, "resnet20", shape)
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
