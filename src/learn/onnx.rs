//! Models as ONNX: every architecture draws its graph on a [`Graph`], whose weights are those of a
//! [`StateDict`].
//!
//! The graph takes `examples` [batch, channels, height, width] with pixels in [0, 1], or the rows of a table
//! [batch, columns], standardises them as in training and gives `logits` [batch, classes], of a regression
//! `quantities` [batch, quantities] in the units of the data. The batch may have any size. It uses operators
//! of opset 17 (ONNX 1.12), which every runtime knows; group normalisation, which is none of them, is written
//! as an instance normalisation of the groups, as PyTorch exports it.
//!
//! Numbers of fields are those of `onnx.proto`, IR version 8.

mod protobuf;

use super::state_dict::{About, NamedTensor, StateDict};
use crate::data::Response;
use crate::error::{Error, Result};
use protobuf::Message;

/// The version of the operators.
pub const OPSET: i64 = 17;

const IR_VERSION: i64 = 8;

/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// Largest message of protocol buffers.
const MOST_BYTES: usize = i32::MAX as usize;

/// A value in the graph: its name, and (channels, height, width) of every example in it.
#[derive(Clone, Debug)]
pub struct Value {
    name: String,
    shape: [usize; 3],
}

/// A graph that is being drawn: every method continues from the value that the last one gave.
pub struct Graph<'a> {
    weights: &'a StateDict,
    nodes: Vec<Message>,
    tensors: Vec<Message>,
    now: Value,
}

fn tensor(name: &str, shape: &[usize], kind: i64, data: Vec<u8>) -> Message {
    let sides = shape.iter().map(|side| *side as i64);
    Message::default().each(sides, |m, side| m.int(1, side)).int(2, kind).bytes(8, name).bytes(9, data)
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> Message {
    tensor(name, shape, FLOAT, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn ints(name: &str, values: &[i64]) -> Message {
    tensor(name, &[values.len()], INT64, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A number without an axis.
fn index(name: &str, value: i64) -> Message {
    tensor(name, &[], INT64, value.to_le_bytes().to_vec())
}

/// An attribute of a node.
fn integer(name: &str, value: i64) -> Message {
    Message::default().bytes(1, name).int(3, value).int(20, 2)
}

fn real(name: &str, value: f32) -> Message {
    Message::default().bytes(1, name).float(2, value).int(20, 1)
}

fn integers(name: &str, values: &[usize]) -> Message {
    let values = values.iter().map(|x| *x as i64);
    Message::default().bytes(1, name).each(values, |m, x| m.int(8, x)).int(20, 7)
}

/// `ValueInfoProto` of 32-bit floats, any number of examples of these sides.
fn signature(name: &str, sides: &[usize]) -> Message {
    let batch = Message::default().bytes(2, "batch");
    let sides = sides.iter().map(|side| Message::default().int(1, *side as i64));
    let shape = Message::default().each(std::iter::once(batch).chain(sides), |m, side| m.bytes(1, side));
    let of_tensor = Message::default().int(1, FLOAT).bytes(2, shape);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, of_tensor))
}

impl<'a> Graph<'a> {
    /// The value that the next operation takes.
    #[must_use]
    pub fn now(&self) -> Value {
        self.now.clone()
    }

    /// Goes on from a value that there was before.
    pub fn back_to(&mut self, value: Value) -> &mut Self {
        self.now = value;
        self
    }

    /// A tensor of the model. The dictionary is the model's own, so that it is there.
    fn weight(&self, name: &str) -> &'a NamedTensor {
        self.weights.get(name).unwrap_or_else(|| panic!("the model has no tensor {name}"))
    }

    fn node(&mut self, operator: &str, more: &[&str], attributes: &[Message]) {
        let output = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        let node = Message::default()
            .bytes(1, &self.now.name)
            .each(more, |m, input| m.bytes(1, input))
            .bytes(2, &output)
            .bytes(3, &output)
            .bytes(4, operator)
            .each(attributes, |m, attribute| m.bytes(5, attribute));
        self.nodes.push(node);
        self.now.name = output;
    }

    /// A constant that belongs to the next node, and its name.
    fn constant(&mut self, make: impl FnOnce(&str) -> Message) -> String {
        let name = format!("constant_{}", self.tensors.len());
        self.tensors.push(make(&name));
        name
    }

    /// A tensor of the model under its own name.
    fn parameter(&mut self, name: &str) -> &'a NamedTensor {
        let own = self.weight(name);
        self.tensors.push(floats(name, &own.shape, &own.values));
        own
    }

    /// Sides of an image after windows of `side`×`side` with `padding` (rows, columns) on either end.
    fn windows(&mut self, channels: usize, side: usize, stride: usize, padding: [usize; 2]) {
        let [_, height, width] = self.now.shape;
        let after = |own: usize, padding: usize| (own + 2 * padding - side) / stride + 1;
        self.now.shape = [channels, after(height, padding[0]), after(width, padding[1])];
    }

    /// The convolution of this name with `padding` (rows, columns) on either end.
    pub fn conv(&mut self, layer: &str, padding: [usize; 2], stride: usize) -> &mut Self {
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let shape = &self.parameter(&weight).shape;
        let (channels, side) = (shape[0], shape[3]);
        let has_bias = self.weights.get(&bias).is_some();
        if has_bias {
            self.parameter(&bias);
        }
        let inputs = [weight.as_str(), &bias];
        let [rows, columns] = padding;
        let attributes = [
            integers("kernel_shape", &[side, side]),
            integers("pads", &[rows, columns, rows, columns]),
            integers("strides", &[stride, stride]),
        ];
        self.node("Conv", &inputs[..1 + usize::from(has_bias)], &attributes);
        self.windows(channels, side, stride, padding);
        self
    }

    /// The linear layer of this name.
    pub fn linear(&mut self, layer: &str) -> &mut Self {
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let outputs = self.parameter(&weight).shape[0];
        self.parameter(&bias);
        self.node("Gemm", &[&weight, &bias], &[integer("transB", 1)]);
        self.now.shape = [outputs, 1, 1];
        self
    }

    /// The rows of the embedding of this name that belong to the tokens of `[batch, vocabulary, 1, length]`:
    /// `[length, batch, values]`.
    pub fn embed(&mut self, layer: &str) -> &mut Self {
        let one = self.constant(|name| ints(name, &[2]));
        self.node("Squeeze", &[&one], &[]);
        self.node("Transpose", &[], &[integers("perm", &[2, 0, 1])]);
        let weight = format!("{layer}.weight");
        self.parameter(&weight);
        self.node("MatMul", &[&weight], &[]);
        self
    }

    /// So many layers of PyTorch's `LSTM` of this name over `[length, batch, inputs]`, and of the last one
    /// the last state.
    pub fn lstm(&mut self, name: &str, layers: usize) -> &mut Self {
        // i, f, g, o there; i, o, f, g here.
        self.recurrent("LSTM", name, layers, &[0, 3, 1, 2], &[])
    }

    /// The same of PyTorch's `GRU`.
    pub fn gru(&mut self, name: &str, layers: usize) -> &mut Self {
        // r, z, n there; z, r, n here, and r after the product.
        self.recurrent("GRU", name, layers, &[1, 0, 2], &[integer("linear_before_reset", 1)])
    }

    fn recurrent(
        &mut self,
        operator: &str,
        name: &str,
        layers: usize,
        gates: &[usize],
        more: &[Message],
    ) -> &mut Self {
        for layer in 0..layers {
            let tensor = |field: &str| self.weight(&format!("{name}.{field}_l{layer}"));
            let ordered = |own: &NamedTensor| -> Vec<f32> {
                let block = own.values.len() / gates.len();
                gates
                    .iter()
                    .flat_map(|&gate| &own.values[gate * block..(gate + 1) * block])
                    .copied()
                    .collect()
            };
            let (input, past) = (tensor("weight_ih"), tensor("weight_hh"));
            let biases = [ordered(tensor("bias_ih")), ordered(tensor("bias_hh"))].concat();
            let (inputs, units, rows) = (input.shape[1], past.shape[1], input.shape[0]);
            let (input, past) = (ordered(input), ordered(past));
            let w = self.constant(|name| floats(name, &[1, rows, inputs], &input));
            let r = self.constant(|name| floats(name, &[1, rows, units], &past));
            let b = self.constant(|name| floats(name, &[1, 2 * rows], &biases));
            let hidden = integer("hidden_size", units as i64);
            let attributes = [&[hidden][..], more].concat();
            self.node(operator, &[&w, &r, &b], &attributes);
            let one = self.constant(|name| ints(name, &[1]));
            // [length, directions, batch, units]
            self.node("Squeeze", &[&one], &[]);
            self.now.shape = [units, 1, 1];
        }
        let last = self.constant(|name| index(name, -1));
        self.node("Gather", &[&last], &[integer("axis", 0)]);
        self
    }

    /// All values of an example in one row.
    pub fn flatten(&mut self) -> &mut Self {
        self.node("Flatten", &[], &[integer("axis", 1)]);
        self.now.shape = [self.now.shape.iter().product(), 1, 1];
        self
    }

    /// max(x, 0).
    pub fn relu(&mut self) -> &mut Self {
        self.node("Relu", &[], &[]);
        self
    }

    /// The hyperbolic tangent.
    pub fn tanh(&mut self) -> &mut Self {
        self.node("Tanh", &[], &[]);
        self
    }

    /// Maxima of windows of `side`×`side`, with `padding` on every end.
    pub fn max_pool(&mut self, side: usize, stride: usize, padding: usize) -> &mut Self {
        self.pool("MaxPool", side, stride, padding)
    }

    /// Means of windows of `side`×`side`.
    pub fn avg_pool(&mut self, side: usize, stride: usize) -> &mut Self {
        self.pool("AveragePool", side, stride, 0)
    }

    fn pool(&mut self, operator: &str, side: usize, stride: usize, padding: usize) -> &mut Self {
        let attributes = [
            integers("kernel_shape", &[side, side]),
            integers("pads", &[padding; 4]),
            integers("strides", &[stride, stride]),
        ];
        self.node(operator, &[], &attributes);
        self.windows(self.now.shape[0], side, stride, [padding; 2]);
        self
    }

    /// The mean of every channel.
    pub fn global_avg_pool(&mut self) -> &mut Self {
        self.node("GlobalAveragePool", &[], &[]);
        self.now.shape = [self.now.shape[0], 1, 1];
        self
    }

    /// The group normalisation of this name.
    pub fn group_norm(&mut self, layer: &str, groups: usize, epsilon: f32) -> &mut Self {
        let [channels, height, width] = self.now.shape;
        let of_groups = self.constant(|name| ints(name, &[0, groups as i64, -1]));
        let ones = self.constant(|name| floats(name, &[groups], &vec![1.0; groups]));
        let zeros = self.constant(|name| floats(name, &[groups], &vec![0.0; groups]));
        let of_image = self.constant(|name| ints(name, &[0, channels as i64, height as i64, width as i64]));
        self.node("Reshape", &[&of_groups], &[]);
        self.node("InstanceNormalization", &[&ones, &zeros], &[real("epsilon", epsilon)]);
        self.node("Reshape", &[&of_image], &[]);
        // One number a channel, for every pixel.
        for (operator, field) in [("Mul", "weight"), ("Add", "bias")] {
            let name = format!("{layer}.{field}");
            let values = &self.weight(&name).values;
            self.tensors.push(floats(&name, &[channels, 1, 1], values));
            self.node(operator, &[&name], &[]);
        }
        self
    }

    /// Channels of zeros behind the others, up to this number.
    pub fn pad_channels(&mut self, to: usize) -> &mut Self {
        let more = (to - self.now.shape[0]) as i64;
        let pads = self.constant(|name| ints(name, &[0, 0, 0, 0, 0, more, 0, 0]));
        self.node("Pad", &[&pads], &[]);
        self.now.shape[0] = to;
        self
    }

    /// The sum with another value of the same shape.
    pub fn add(&mut self, other: &Value) -> &mut Self {
        self.node("Add", &[&other.name], &[]);
        self
    }
}

/// Where nothing says what examples the weights are for.
pub(super) fn unknown() -> Error {
    Error::Refused("the weights do not say what examples they are for; export a run folder".into())
}

/// The model that `draw` draws, with these weights and what it was made for, as an ONNX file.
///
/// # Errors
/// More than the 2 GB that the format holds.
pub(super) fn model(
    weights: &StateDict,
    about: &About,
    draw: impl FnOnce(&mut Graph<'_>),
) -> Result<Vec<u8>> {
    let About { shape, response, classes, mean, std, scale_mean, scale_std, .. } = about;
    let [channels, height, width] = *shape;
    let of_table = [channels, height] == [1, 1];
    let sides = if of_table { vec![width] } else { shape.to_vec() };
    let now = Value { name: "examples".into(), shape: *shape };
    let mut graph = Graph { weights, nodes: Vec::new(), tensors: Vec::new(), now };
    for (operator, name, values) in [("Sub", "mean", mean), ("Div", "std", std)] {
        let along: &[usize] = if of_table { &[values.len()] } else { &[values.len(), 1, 1] };
        // The graph takes examples in single precision, and standardises them so.
        let single: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        graph.tensors.push(floats(name, along, &single));
        graph.node(operator, &[name], &[]);
    }
    draw(&mut graph);
    let output = if *response == Response::Quantity { "quantities" } else { "logits" };
    let back = [("Mul", "scale_std", scale_std), ("Add", "scale_mean", scale_mean)];
    for (operator, name, values) in back.into_iter().filter(|(.., values)| !values.is_empty()) {
        let single: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        graph.tensors.push(floats(name, &[values.len()], &single));
        graph.node(operator, &[name], &[]);
    }
    let last = Message::default().bytes(1, &graph.now.name).bytes(2, output).bytes(4, "Identity");
    graph.nodes.push(last);
    let graph = Message::default()
        .each(&graph.nodes, |m, node| m.bytes(1, node))
        .bytes(2, &about.model)
        .each(&graph.tensors, |m, tensor| m.bytes(5, tensor))
        .bytes(11, signature("examples", &sides))
        .bytes(12, signature(output, &[classes.len()]));
    let json = serde_json::to_string(about).map_err(|error| Error::Refused(error.to_string()))?;
    let metadata = Message::default().bytes(1, super::state_dict::METADATA).bytes(2, json);
    let model = Message::default()
        .int(1, IR_VERSION)
        .bytes(2, "seccogc")
        .bytes(3, env!("CARGO_PKG_VERSION"))
        .bytes(7, graph)
        .bytes(8, Message::default().bytes(1, "").int(2, OPSET))
        .bytes(14, metadata)
        .into_bytes();
    if model.len() > MOST_BYTES {
        return Err(Error::Refused(
            "the model has more than the 2 GB of an ONNX file; take safetensors".into(),
        ));
    }
    Ok(model)
}

#[cfg(test)]
mod tests;
