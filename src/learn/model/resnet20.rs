//! ResNet-20 for CIFAR (He et al. 2016, section 4.2), its shortcuts without parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resnet::{Plan, Residual, Shortcut};

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

impl Residual for ResNet20Config {
    const KIND: &'static str = "resnet20";

    fn plan(&self) -> Plan {
        Plan { widths: &WIDTHS, groups: self.groups, shortcut: Shortcut::Zeros }
    }
}
