//! Multinomial logistic regression.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Classifier, dense};
use crate::error::Result;
use crate::learn::kernels::linear;
use crate::learn::onnx::Graph;

/// Multinomial logistic regression. It has no options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoftmaxConfig {}

/// One linear layer on all values.
#[derive(Module, Debug)]
pub struct Softmax {
    output: Linear,
}

impl Architecture for SoftmaxConfig {
    type Model = Softmax;

    fn check(&self, _shape: [usize; 3]) -> Result<()> {
        Ok(())
    }

    fn size(&self, shape: [usize; 3], classes: usize) -> usize {
        dense(&[shape.iter().product(), classes])
    }

    fn init(&self, shape: [usize; 3], classes: usize, device: &Device) -> Softmax {
        Softmax { output: LinearConfig::new(shape.iter().product(), classes).init(device) }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        graph.flatten().linear("output");
    }
}

impl Classifier for Softmax {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        linear(examples.flatten(1, 3), &self.output)
    }
}
