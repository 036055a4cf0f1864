//! Recurrent layers over sequences, with the weights of PyTorch's `LSTM` and `GRU`.

use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Tensor, activation::sigmoid},
};

use crate::error::{Error, Result};

/// Most parameters of the recurrent layers.
const MOST: usize = 1 << 28;

/// One layer with long short-term memory (Hochreiter, Schmidhuber 1997; with forget gates, Gers et al. 2000);
/// gates in the order i, f, g, o.
#[derive(Module, Debug)]
pub struct LstmCell {
    weight_ih: Param<Tensor<2>>,
    weight_hh: Param<Tensor<2>>,
    bias_ih: Param<Tensor<1>>,
    bias_hh: Param<Tensor<1>>,
}

/// One layer of gated units (Cho et al. 2014); gates in the order r, z, n, with r after the product, as
/// cuDNN and PyTorch have it.
#[derive(Module, Debug)]
pub struct GruCell {
    weight_ih: Param<Tensor<2>>,
    weight_hh: Param<Tensor<2>>,
    bias_ih: Param<Tensor<1>>,
    bias_hh: Param<Tensor<1>>,
}

/// A layer over a sequence.
pub(super) trait Cell: Module {
    /// Gates of a unit.
    const GATES: usize;

    /// A layer of so many inputs and units. The weights are drawn elsewhere.
    fn new(inputs: usize, units: usize, device: &Device) -> Self;

    /// `x` `[batch, length, inputs]` to the states after every position, `[batch, length, units]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;
}

type Weights = (Param<Tensor<2>>, Param<Tensor<2>>, Param<Tensor<1>>, Param<Tensor<1>>);

fn weights(gates: usize, inputs: usize, units: usize, device: &Device) -> Weights {
    let all = gates * units;
    let zeros = Initializer::Zeros;
    (
        zeros.init([all, inputs], device),
        zeros.init([all, units], device),
        zeros.init([all], device),
        zeros.init([all], device),
    )
}

/// x Wᵀ + b for every position of `[batch, length, inputs]`.
fn along(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    let [batch, length, inputs] = x.dims();
    let [outputs, _] = weight.dims();
    let y = x.reshape([batch * length, inputs]).matmul(weight.transpose()) + bias.unsqueeze();
    y.reshape([batch, length, outputs])
}

/// Position `t` of `[batch, length, values]`.
fn at(x: &Tensor<3>, t: usize) -> Tensor<2> {
    let [batch, _, values] = x.dims();
    x.clone().narrow(1, t, 1).reshape([batch, values])
}

impl Cell for LstmCell {
    const GATES: usize = 4;

    fn new(inputs: usize, units: usize, device: &Device) -> Self {
        let (weight_ih, weight_hh, bias_ih, bias_hh) = weights(Self::GATES, inputs, units, device);
        Self { weight_ih, weight_hh, bias_ih, bias_hh }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let [_, units] = self.weight_hh.dims();
        let inputs = along(x, self.weight_ih.val(), self.bias_ih.val() + self.bias_hh.val());
        let turned = self.weight_hh.val().transpose();
        let mut hidden = Tensor::<2>::zeros([batch, units], &inputs.device());
        let mut cell = hidden.clone();
        let mut states = Vec::with_capacity(length);
        for t in 0..length {
            let gates = at(&inputs, t) + hidden.matmul(turned.clone());
            let gate = |i: usize| gates.clone().narrow(1, i * units, units);
            cell = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * gate(2).tanh();
            hidden = sigmoid(gate(3)) * cell.clone().tanh();
            states.push(hidden.clone());
        }
        Tensor::stack(states, 1)
    }
}

impl Cell for GruCell {
    const GATES: usize = 3;

    fn new(inputs: usize, units: usize, device: &Device) -> Self {
        let (weight_ih, weight_hh, bias_ih, bias_hh) = weights(Self::GATES, inputs, units, device);
        Self { weight_ih, weight_hh, bias_ih, bias_hh }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let [_, units] = self.weight_hh.dims();
        let inputs = along(x, self.weight_ih.val(), self.bias_ih.val());
        let turned = self.weight_hh.val().transpose();
        let mut hidden = Tensor::<2>::zeros([batch, units], &inputs.device());
        let mut states = Vec::with_capacity(length);
        for t in 0..length {
            let own = at(&inputs, t);
            let past = hidden.clone().matmul(turned.clone()) + self.bias_hh.val().unsqueeze();
            let gate = |of: &Tensor<2>, i: usize| of.clone().narrow(1, i * units, units);
            let reset = sigmoid(gate(&own, 0) + gate(&past, 0));
            let update = sigmoid(gate(&own, 1) + gate(&past, 1));
            let new = (gate(&own, 2) + reset * gate(&past, 2)).tanh();
            hidden = new.clone() + update * (hidden - new);
            states.push(hidden.clone());
        }
        Tensor::stack(states, 1)
    }
}

/// A stack of layers.
#[derive(Module, Debug)]
pub struct Stack<C: Module> {
    layers: Vec<C>,
}

impl<C: Cell> Stack<C> {
    pub(super) fn new(inputs: usize, units: usize, layers: usize, device: &Device) -> Self {
        let inputs = std::iter::once(inputs).chain(std::iter::repeat(units));
        Self { layers: inputs.take(layers).map(|inputs| C::new(inputs, units, device)).collect() }
    }

    /// `x` `[batch, length, inputs]` to the last state of the last layer, `[batch, units]`.
    pub(super) fn last(&self, x: Tensor<3>) -> Tensor<2> {
        let states = self.layers.iter().fold(x, |x, layer| layer.forward(x));
        let [_, length, _] = states.dims();
        at(&states, length - 1)
    }
}

/// Parameters of such a stack.
pub(super) fn size<C: Cell>(inputs: usize, units: usize, layers: usize) -> usize {
    let each = |inputs: usize| {
        let row = inputs.saturating_add(units).saturating_add(2);
        C::GATES.saturating_mul(units).saturating_mul(row)
    };
    let later = layers.saturating_sub(1).saturating_mul(each(units));
    each(inputs).saturating_add(later)
}

/// `examples` `[batch, vocabulary, 1, length]` to the rows of `weight` `[vocabulary, values]` that belong to
/// their tokens, `[batch, length, values]`.
pub(super) fn embed(examples: Tensor<4>, weight: Tensor<2>) -> Tensor<3> {
    let [batch, vocabulary, _, length] = examples.dims();
    let [_, values] = weight.dims();
    let tokens = examples.squeeze_dim::<3>(2).swap_dims(1, 2).reshape([batch * length, vocabulary]);
    tokens.matmul(weight).reshape([batch, length, values])
}

/// Checks what recurrent models have in common.
pub(super) fn check<C: Cell>(
    kind: &str,
    shape: [usize; 3],
    [embedding, hidden, layers]: [usize; 3],
) -> Result<()> {
    for (key, value) in [("embedding", embedding), ("hidden", hidden), ("layers", layers)] {
        if value == 0 {
            return Err(Error::config(key, "must be at least 1, not 0"));
        }
    }
    if layers > 8 {
        return Err(Error::config("layers", format!("{layers} are too many; give at most 8")));
    }
    if size::<C>(embedding, hidden, layers) > MOST {
        let rule = format!("the recurrent layers have more than {MOST} parameters; take fewer units");
        return Err(Error::config("hidden", rule));
    }
    let [vocabulary, height, length] = shape;
    if height != 1 || vocabulary < 2 {
        let rule = format!(
            "{kind} reads sequences, and these examples are {vocabulary}×{height}×{length}; take texts (data.name = \"leaf\"), \
             or mlp or softmax"
        );
        return Err(Error::config("kind", rule));
    }
    Ok(())
}

/// Declares a model of an embedding, recurrent layers and one output a class after the last token: its
/// configuration and its module, whose layers lie in the field `$layers`, which is also what
/// [`Graph`](crate::learn::onnx::Graph) calls them.
macro_rules! over_tokens {
    (
        $kind:literal, $(#[$doc:meta])* $config:ident, $(#[$module:meta])* $model:ident,
        $layers:ident: $cell:ident, embedding $embedding:literal, hidden $hidden:literal, layers $depth:literal
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $config {
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

        impl Default for $config {
            fn default() -> Self {
                Self { embedding: $embedding, hidden: $hidden, layers: $depth }
            }
        }

        $(#[$module])*
        #[derive(Module, Debug)]
        pub struct $model {
            embedding: Embedding,
            $layers: Stack<$cell>,
            output: Linear,
        }

        impl Architecture for $config {
            type Model = $model;

            fn check(&self, shape: [usize; 3]) -> Result<()> {
                recurrent::check::<$cell>($kind, shape, [self.embedding, self.hidden, self.layers])
            }

            fn size(&self, [vocabulary, ..]: [usize; 3], classes: usize) -> usize {
                let Self { embedding, hidden, layers } = *self;
                let recurrent = recurrent::size::<$cell>(embedding, hidden, layers);
                vocabulary.saturating_mul(embedding).saturating_add(recurrent) + dense(&[hidden, classes])
            }

            fn init(&self, [vocabulary, ..]: [usize; 3], classes: usize, device: &Device) -> $model {
                $model {
                    embedding: EmbeddingConfig::new(vocabulary, self.embedding).init(device),
                    $layers: Stack::new(self.embedding, self.hidden, self.layers, device),
                    output: LinearConfig::new(self.hidden, classes).init(device),
                }
            }

            fn draw(&self, _: [usize; 3], graph: &mut Graph<'_>) {
                graph.embed("embedding").$layers(stringify!($layers), self.layers).linear("output");
            }
        }

        impl Classifier for $model {
            fn forward(&self, examples: Tensor<4>) -> Tensor<2> {
                let x = recurrent::embed(examples, self.embedding.weight.val());
                linear(self.$layers.last(x), &self.output)
            }
        }
    };
}
pub(super) use over_tokens;
