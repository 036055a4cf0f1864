//! A network of gated recurrent units (Cho et al. 2014) over the tokens of a sequence, with three quarters of
//! the weights of one with long short-term memory.

use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recurrent::{self, GruCell, Stack};
use super::{Architecture, Classifier, dense};
use crate::error::Result;
use crate::learn::kernels::linear;
use crate::learn::onnx::Graph;

/// A recurrent network of gated units over the tokens of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GruConfig {
    /// Numbers that a token is embedded in, at least 1.
    #[schemars(range(min = 1))]
    pub embedding: usize,
    /// Units of each layer, at least 1.
    #[schemars(range(min = 1))]
    pub hidden: usize,
    /// Layers, 1 to 8.
    #[schemars(range(min = 1, max = 8))]
    pub layers: usize,
}

impl Default for GruConfig {
    fn default() -> Self {
        Self { embedding: 8, hidden: 128, layers: 1 }
    }
}

/// Embedding, recurrent layers, linear.
#[derive(Module, Debug)]
pub struct Gru {
    embedding: Embedding,
    gru: Stack<GruCell>,
    output: Linear,
}

impl Architecture for GruConfig {
    type Model = Gru;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        recurrent::check::<GruCell>("gru", shape, [self.embedding, self.hidden, self.layers])
    }

    fn size(&self, [vocabulary, ..]: [usize; 3], classes: usize) -> usize {
        let Self { embedding, hidden, layers } = *self;
        let recurrent = recurrent::size::<GruCell>(embedding, hidden, layers);
        vocabulary.saturating_mul(embedding).saturating_add(recurrent) + dense(&[hidden, classes])
    }

    fn init(&self, [vocabulary, ..]: [usize; 3], classes: usize, device: &Device) -> Gru {
        Gru {
            embedding: EmbeddingConfig::new(vocabulary, self.embedding).init(device),
            gru: Stack::new(self.embedding, self.hidden, self.layers, device),
            output: LinearConfig::new(self.hidden, classes).init(device),
        }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        graph.embed("embedding").gru("gru", self.layers).linear("output");
    }
}

impl Classifier for Gru {
    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = recurrent::embed(examples, self.embedding.weight.val());
        linear(self.gru.last(x), &self.output)
    }
}
