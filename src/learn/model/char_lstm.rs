//! The network for Shakespeare of McMahan et al. (2017), section 3: characters embedded in 8 dimensions, two
//! layers of 256 units with long short-term memory, and one output a class after the last character.

use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use super::recurrent::{self, LstmCell, Stack, over_tokens};
use super::{Architecture, Classifier, dense};
use crate::error::Result;
use crate::learn::kernels::linear;
use crate::learn::onnx::Graph;

over_tokens! {
    "char-lstm",
    /// A recurrent network with long short-term memory over the tokens of a sequence.
    CharLstmConfig,
    /// Embedding, recurrent layers, linear.
    CharLstm,
    lstm: LstmCell, embedding 8, hidden 256, layers 2
}
