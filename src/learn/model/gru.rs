//! A network of gated recurrent units (Cho et al. 2014) over the tokens of a sequence, with three quarters of
//! the weights of one with long short-term memory.

use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use super::recurrent::{self, GruCell, Stack, over_tokens};
use super::{Architecture, Classifier, dense};
use crate::error::Result;
use crate::learn::kernels::linear;
use crate::learn::onnx::Graph;

over_tokens! {
    "gru",
    /// A recurrent network of gated units over the tokens of a sequence.
    GruConfig,
    /// Embedding, recurrent layers, linear.
    Gru,
    gru: GruCell, embedding 8, hidden 128, layers 1
}
