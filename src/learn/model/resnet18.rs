//! ResNet-18 (He et al. 2016, table 1) for small images: the 7×7 convolution and the pooling at its beginning
//! are one 3×3 convolution, and its shortcuts project. Two groups a normalisation are those of Reddi,
//! Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan, *Adaptive Federated Optimization*, 2021, for
//! CIFAR-100.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resnet::{Plan, Residual, Shortcut};

/// Two blocks each of 64, 128, 256 and 512 channels.
const WIDTHS: [usize; 9] = [64, 64, 64, 128, 128, 256, 256, 512, 512];

/// ResNet-18 with group normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResNet18Config {
    /// Groups of channels of every normalisation: 1, 2, 4, 8, 16, 32 or 64. The number of parameters does not
    /// depend on it.
    #[schemars(range(min = 1, max = 64))]
    pub groups: usize,
}

impl Default for ResNet18Config {
    fn default() -> Self {
        Self { groups: 2 }
    }
}

impl Residual for ResNet18Config {
    const KIND: &'static str = "resnet18";

    fn plan(&self) -> Plan {
        Plan { widths: &WIDTHS, groups: self.groups, shortcut: Shortcut::Projection }
    }
}
