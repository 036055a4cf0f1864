//! The multilayer perceptron. With `hidden = [200, 200]` it is the "2NN" of McMahan et al. (2017), section 3.

use std::fmt;

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Architecture, Classifier, dense};
use crate::error::{Error, Result};
use crate::learn::kernels::{linear, linear_relu};
use crate::learn::onnx::Graph;

/// Most parameters of the hidden layers.
const MOST: usize = 1 << 28;

/// A perceptron with hidden layers and ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Units of the hidden layer, at least 1; or a list such as [200, 200] with the units of every hidden
    /// layer from input to output.
    pub hidden: Hidden,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: Hidden::One(200) }
    }
}

/// The units of the hidden layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Hidden {
    /// One hidden layer.
    One(#[schemars(range(min = 1))] usize),
    /// Any number of hidden layers, from input to output.
    Several(Vec<usize>),
}

impl Hidden {
    /// The units of every hidden layer, from input to output.
    #[must_use]
    pub fn units(&self) -> &[usize] {
        match self {
            Self::One(units) => std::slice::from_ref(units),
            Self::Several(units) => units,
        }
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Hidden;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of hidden units, or a list of them")
            }

            fn visit_i64<E: de::Error>(self, units: i64) -> Result<Hidden, E> {
                let units = usize::try_from(units);
                units.map(Hidden::One).map_err(|_| E::custom("the number of hidden units is negative"))
            }

            fn visit_u64<E: de::Error>(self, units: u64) -> Result<Hidden, E> {
                let units = usize::try_from(units);
                units.map(Hidden::One).map_err(|_| E::custom("the number of hidden units is too large"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hidden, A::Error> {
                let mut units = Vec::new();
                while let Some(layer) = seq.next_element()? {
                    units.push(layer);
                }
                Ok(Hidden::Several(units))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Linear and ReLU for every hidden layer, then linear.
#[derive(Module, Debug)]
pub struct Mlp {
    hidden: Vec<Linear>,
    output: Linear,
}

impl Architecture for MlpConfig {
    type Model = Mlp;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        let parameters = dense(&[&[shape.iter().product()], self.hidden.units()].concat());
        match self.hidden.units() {
            _ if parameters > MOST => {
                let rule = format!("{parameters} parameters are too many; the limit is {MOST}, 1 GB of them");
                Err(Error::config("hidden", rule))
            }
            [] => Err(Error::config("hidden", "must name at least one layer; use softmax for none")),
            units if units.contains(&0) => {
                Err(Error::config("hidden", "must be at least 1; set the number of hidden units"))
            }
            _ => Ok(()),
        }
    }

    fn size(&self, shape: [usize; 3], classes: usize) -> usize {
        dense(&[&[shape.iter().product()], self.hidden.units(), &[classes]].concat())
    }

    fn init(&self, shape: [usize; 3], classes: usize, device: &Device) -> Mlp {
        let mut width = shape.iter().product();
        let mut linear = |units| LinearConfig::new(std::mem::replace(&mut width, units), units).init(device);
        Mlp {
            hidden: self.hidden.units().iter().map(|&units| linear(units)).collect(),
            output: linear(classes),
        }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        graph.flatten();
        for layer in 0..self.hidden.units().len() {
            graph.linear(&format!("hidden.{layer}")).relu();
        }
        graph.linear("output");
    }
}

impl Classifier for Mlp {
    const STACKS: bool = true;

    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = self.hidden.iter().fold(examples.flatten(1, 3), linear_relu);
        linear(x, &self.output)
    }
}
