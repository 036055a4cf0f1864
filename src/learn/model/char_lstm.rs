//! The network for Shakespeare of McMahan et al. (2017), section 3: characters embedded in 8 dimensions, two
//! layers of 256 units with long short-term memory, and one output a class after the last character.

use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recurrent::{self, LstmCell, Stack};
use super::{Architecture, Classifier, dense};
use crate::error::Result;
use crate::learn::kernels::linear;
use crate::learn::onnx::Graph;

/// A recurrent network with long short-term memory over the tokens of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CharLstmConfig {
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

impl Default for CharLstmConfig {
    fn default() -> Self {
        Self { embedding: 8, hidden: 256, layers: 2 }
    }
}

/// Embedding, recurrent layers, linear.
#[derive(Module, Debug)]
pub struct CharLstm {
    embedding: Embedding,
    lstm: Stack<LstmCell>,
    output: Linear,
}

impl Architecture for CharLstmConfig {
    type Model = CharLstm;

    fn check(&self, shape: [usize; 3]) -> Result<()> {
        recurrent::check::<LstmCell>("char-lstm", shape, [self.embedding, self.hidden, self.layers])
    }

    fn size(&self, [vocabulary, ..]: [usize; 3], classes: usize) -> usize {
        let Self { embedding, hidden, layers } = *self;
        let recurrent = recurrent::size::<LstmCell>(embedding, hidden, layers);
        vocabulary.saturating_mul(embedding).saturating_add(recurrent) + dense(&[hidden, classes])
    }

    fn init(&self, [vocabulary, ..]: [usize; 3], classes: usize, device: &Device) -> CharLstm {
        CharLstm {
            embedding: EmbeddingConfig::new(vocabulary, self.embedding).init(device),
            lstm: Stack::new(self.embedding, self.hidden, self.layers, device),
            output: LinearConfig::new(self.hidden, classes).init(device),
        }
    }

    fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
        graph.embed("embedding").lstm("lstm", self.layers).linear("output");
    }
}

impl Classifier for CharLstm {
    fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
        let x = recurrent::embed(examples, self.embedding.weight.val());
        linear(self.lstm.last(x), &self.output)
    }
}
