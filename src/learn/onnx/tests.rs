//! The files are read back by a decoder of their own and computed by the operators' definitions.

use std::collections::BTreeMap;

use super::super::{ModelConfig, learner};
use super::*;
use crate::data::{Augmentation, Dataset, Examples, Normalisation, Response};
use crate::learn::state_dict::Layout;
use crate::learn::{SgdConfig, SolverConfig};
use crate::seed::Seed;

/// The fields of a message: numbers as they are, everything else as bytes.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Read<'a>(Vec<(u64, Field<'a>)>);

impl<'a> Read<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut x = 0;
            for shift in (0..64).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                x |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            x
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let count = match key & 7 {
                0 => {
                    fields.push((key >> 3, Field::Number(varint(&mut bytes))));
                    continue;
                }
                5 => 4,
                2 => varint(&mut bytes) as usize,
                kind => panic!("wire type {kind}"),
            };
            let (head, tail) = bytes.split_at(count);
            bytes = tail;
            fields.push((key >> 3, Field::Bytes(head)));
        }
        Self(fields)
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |(own, _)| *own == number).map(move |(_, field)| match field {
            Field::Bytes(bytes) => *bytes,
            Field::Number(_) => panic!("field {number} is a number"),
        })
    }

    fn one(&self, number: u64) -> &'a [u8] {
        let mut all = self.all(number);
        let first = all.next().unwrap_or_else(|| panic!("no field {number}"));
        assert!(all.next().is_none(), "field {number} twice");
        first
    }

    fn inside(&self, number: u64) -> Read<'a> {
        Read::of(self.one(number))
    }

    fn text(&self, number: u64) -> &'a str {
        std::str::from_utf8(self.one(number)).unwrap()
    }

    fn numbers(&self, number: u64) -> Vec<usize> {
        let of = |(own, field): &(u64, Field<'_>)| match field {
            Field::Number(x) if *own == number => Some(*x as usize),
            _ => None,
        };
        self.0.iter().filter_map(of).collect()
    }
}

#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The batch and the sides of an input or output.
fn declared(value: &Read<'_>) -> (String, Vec<usize>) {
    let tensor = value.inside(2).inside(1);
    assert_eq!(tensor.numbers(1), [FLOAT as usize]);
    let shape = tensor.inside(2);
    let mut sides = shape.all(1).map(Read::of);
    let batch = sides.next().unwrap().text(2).to_owned();
    (batch, sides.map(|side| side.numbers(1)[0]).collect())
}

/// Sums, differences, products and quotients with one number a channel or column, or with as many.
fn each(x: &Array, other: &Array, of: fn(f32, f32) -> f32) -> Array {
    let size: usize = x.shape[1..].iter().product();
    let at = |i: usize| match other.values.len() {
        all if all == x.values.len() => i,
        few => i % size / (size / few),
    };
    let values = x.values.iter().enumerate().map(|(i, x)| of(*x, other.values[at(i)])).collect();
    Array { shape: x.shape.clone(), values }
}

/// Folds every window of every channel; `of` sees the places in the image, or none in the padding.
fn windows(x: &Array, node: &Node<'_>, of: impl Fn(&[Option<f32>]) -> f32) -> Array {
    let [n, c, h, w] = x.shape[..] else { panic!("no images") };
    let (side, pads, stride) = (node.list("kernel_shape"), node.list("pads"), node.list("strides"));
    let after = |own: usize, axis: usize| (own + pads[axis] + pads[axis + 2] - side[axis]) / stride[axis] + 1;
    let shape = vec![n, c, after(h, 0), after(w, 1)];
    let mut values = Vec::new();
    for plane in 0..n * c {
        for i in 0..shape[2] {
            for j in 0..shape[3] {
                let places = (0..side[0]).flat_map(|a| (0..side[1]).map(move |b| (a, b)));
                let seen = places.map(|(a, b)| {
                    let row = (i * stride[0] + a).checked_sub(pads[0]).filter(|row| *row < h)?;
                    let column = (j * stride[1] + b).checked_sub(pads[1]).filter(|column| *column < w)?;
                    Some(x.values[(plane * h + row) * w + column])
                });
                values.push(of(&seen.collect::<Vec<_>>()));
            }
        }
    }
    Array { shape, values }
}

/// LSTM (gates i, o, f, c) or GRU (z, r, h, with r after the product) over `[length, batch, inputs]`, by the
/// operators' definitions: `[length, 1, batch, units]`.
fn recurrent(x: &Array, [w, r, b]: [&Array; 3], gates: usize) -> Array {
    let [length, batch, inputs] = x.shape[..] else { panic!("no sequences") };
    let [1, rows, units] = r.shape[..] else { panic!("one direction") };
    assert_eq!(
        (w.shape.clone(), b.shape.clone(), rows),
        (vec![1, rows, inputs], vec![1, 2 * rows], gates * units)
    );
    let dot = |matrix: &Array, row: usize, v: &[f32]| -> f32 {
        matrix.values[row * v.len()..][..v.len()].iter().zip(v).map(|(a, b)| a * b).sum()
    };
    let sigmoid = |x: f32| (1.0 + (-x).exp()).recip();
    let mut values = vec![0.0; length * batch * units];
    for i in 0..batch {
        let (mut hidden, mut cell) = (vec![0.0; units], vec![0.0; units]);
        for t in 0..length {
            let now = &x.values[(t * batch + i) * inputs..][..inputs];
            let past = hidden.clone();
            for k in 0..units {
                let own = |gate: usize| dot(w, gate * units + k, now) + b.values[gate * units + k];
                let back = |gate: usize| dot(r, gate * units + k, &past) + b.values[rows + gate * units + k];
                let gate = |gate: usize| sigmoid(own(gate) + back(gate));
                hidden[k] = if gates == 4 {
                    cell[k] = gate(2) * cell[k] + gate(0) * (own(3) + back(3)).tanh();
                    gate(1) * cell[k].tanh()
                } else {
                    let new = (own(2) + gate(1) * back(2)).tanh();
                    (1.0 - gate(0)) * new + gate(0) * past[k]
                };
            }
            values[(t * batch + i) * units..][..units].copy_from_slice(&hidden);
        }
    }
    Array { shape: vec![length, 1, batch, units], values }
}

struct Node<'a>(Read<'a>);

impl Node<'_> {
    fn attribute(&self, name: &str) -> Read<'_> {
        self.0.all(5).map(Read::of).find(|own| own.text(1) == name).unwrap()
    }

    fn list(&self, name: &str) -> Vec<usize> {
        self.attribute(name).numbers(8)
    }

    /// The operator's definition.
    fn compute(&self, x: &Array, more: &[Array]) -> Array {
        let map = |of: fn(f32) -> f32| {
            let values = x.values.iter().map(|x| of(*x)).collect();
            Array { shape: x.shape.clone(), values }
        };
        match self.0.text(4) {
            "Sub" => each(x, &more[0], |x, y| x - y),
            "Div" => each(x, &more[0], |x, y| x / y),
            "Mul" => each(x, &more[0], |x, y| x * y),
            "Add" => each(x, &more[0], |x, y| x + y),
            "Relu" => map(|x| x.max(0.0)),
            "Tanh" => map(f32::tanh),
            "Identity" => x.clone(),
            "Flatten" => {
                assert_eq!(self.attribute("axis").numbers(3), [1]);
                let size = x.shape[1..].iter().product();
                Array { shape: vec![x.shape[0], size], values: x.values.clone() }
            }
            "Gemm" => {
                assert_eq!(self.attribute("transB").numbers(3), [1]);
                let [outputs, inputs] = more[0].shape[..] else { panic!("no matrix") };
                assert_eq!(x.shape[1..], [inputs]);
                let rows = x.values.chunks(inputs);
                let values = rows.flat_map(|row| {
                    let dot = move |w: &[f32]| w.iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
                    more[0].values.chunks(inputs).map(dot).zip(&more[1].values).map(|(y, b)| y + b)
                });
                Array { values: values.collect(), shape: vec![x.shape[0], outputs] }
            }
            "Squeeze" => {
                let axis = more[0].values[0] as usize;
                let mut shape = x.shape.clone();
                assert_eq!(shape.remove(axis), 1);
                Array { shape, values: x.values.clone() }
            }
            "Transpose" => {
                assert_eq!(self.list("perm"), [2, 0, 1]);
                let [a, b, c] = x.shape[..] else { panic!("three axes") };
                let value = |place: usize| x.values[place % (a * b) * c + place / (a * b)];
                Array { shape: vec![c, a, b], values: (0..a * b * c).map(value).collect() }
            }
            "MatMul" => {
                let [inputs, outputs] = more[0].shape[..] else { panic!("no matrix") };
                let row = |row: &[f32]| {
                    let of = |j: usize| {
                        row.iter()
                            .zip(&more[0].values[j..].iter().step_by(outputs).collect::<Vec<_>>())
                            .map(|(x, w)| x * **w)
                            .sum::<f32>()
                    };
                    (0..outputs).map(of).collect::<Vec<f32>>()
                };
                let shape = [&x.shape[..x.shape.len() - 1], &[outputs]].concat();
                Array { values: x.values.chunks(inputs).flat_map(row).collect(), shape }
            }
            "LSTM" => recurrent(x, [&more[0], &more[1], &more[2]], 4),
            "GRU" => {
                assert_eq!(self.attribute("linear_before_reset").numbers(3), [1]);
                recurrent(x, [&more[0], &more[1], &more[2]], 3)
            }
            "Gather" => {
                assert_eq!((self.attribute("axis").numbers(3), &more[0].values[..]), (vec![0], &[-1.0][..]));
                let size = x.shape[1..].iter().product::<usize>();
                let last = x.values[x.values.len() - size..].to_vec();
                Array { shape: x.shape[1..].to_vec(), values: last }
            }
            "MaxPool" => windows(x, self, |seen| seen.iter().flatten().copied().fold(f32::MIN, f32::max)),
            "AveragePool" => windows(x, self, |seen| seen.iter().flatten().sum::<f32>() / seen.len() as f32),
            "GlobalAveragePool" => {
                let size: usize = x.shape[2..].iter().product();
                let means = x.values.chunks(size).map(|plane| plane.iter().sum::<f32>() / size as f32);
                Array { values: means.collect(), shape: vec![x.shape[0], x.shape[1], 1, 1] }
            }
            "Conv" => {
                let [outputs, inputs, ..] = more[0].shape[..] else { panic!("no kernels") };
                assert_eq!(x.shape[1], inputs);
                let kernel = more[0].values.len() / outputs;
                let mut found: Vec<Array> = Vec::new();
                for output in 0..outputs {
                    let own = &more[0].values[output * kernel..(output + 1) * kernel];
                    let size = kernel / inputs;
                    // One channel at a time, summed below.
                    let planes: Vec<Array> = (0..inputs)
                        .map(|input| {
                            let image: usize = x.shape[2..].iter().product();
                            let values = x.values.chunks(image).skip(input).step_by(inputs).flatten();
                            let shape = vec![x.shape[0], 1, x.shape[2], x.shape[3]];
                            let plane = Array { values: values.copied().collect(), shape };
                            let weights = &own[input * size..(input + 1) * size];
                            windows(&plane, self, |seen| {
                                seen.iter().zip(weights).map(|(x, w)| x.unwrap_or(0.0) * w).sum()
                            })
                        })
                        .collect();
                    let bias = more.get(1).map_or(0.0, |bias| bias.values[output]);
                    let sum = planes.into_iter().reduce(|a, b| each(&a, &b, |a, b| a + b)).unwrap();
                    let values = sum.values.iter().map(|y| y + bias).collect();
                    found.push(Array { values, ..sum });
                }
                let [n, _, h, w] = found[0].shape[..] else { panic!("no images") };
                let of = |i: usize| found.iter().flat_map(move |own| &own.values[i * h * w..(i + 1) * h * w]);
                Array { values: (0..n).flat_map(of).copied().collect(), shape: vec![n, outputs, h, w] }
            }
            "Reshape" => {
                let (kept, rest) = (x.shape[0], x.values.len() / x.shape[0]);
                assert_eq!(more[0].values[0], 0.0);
                let known: f32 = more[0].values[1..].iter().filter(|side| **side > 0.0).product();
                let side = |side: &f32| if *side < 0.0 { rest / known as usize } else { *side as usize };
                let sides = more[0].values[1..].iter().map(side);
                Array { shape: std::iter::once(kept).chain(sides).collect(), values: x.values.clone() }
            }
            "InstanceNormalization" => {
                let epsilon = f32::from_le_bytes(self.attribute("epsilon").one(2).try_into().unwrap());
                let size: usize = x.shape[2..].iter().product();
                let of = |plane: &[f32]| {
                    let mean = plane.iter().sum::<f32>() / size as f32;
                    let variance = plane.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / size as f32;
                    let scale = (variance + epsilon).sqrt().recip();
                    plane.iter().map(|x| (x - mean) * scale).collect::<Vec<_>>()
                };
                Array { values: x.values.chunks(size).flat_map(of).collect(), shape: x.shape.clone() }
            }
            "Pad" => {
                let pads = &more[0].values;
                assert_eq!([&pads[..5], &pads[6..]].concat(), [0.0; 7]);
                let size: usize = x.shape[1..].iter().product();
                let more = pads[5] as usize;
                let zeros = vec![0.0; more * x.shape[2] * x.shape[3]];
                let values = x.values.chunks(size).flat_map(|image| [image, &zeros].concat()).collect();
                let shape = vec![x.shape[0], x.shape[1] + more, x.shape[2], x.shape[3]];
                Array { values, shape }
            }
            other => panic!("operator {other}"),
        }
    }
}

/// The logits of a model file for these examples.
fn compute(graph: &Read<'_>, examples: Array) -> Array {
    let mut known = BTreeMap::from([("examples", examples)]);
    for tensor in graph.all(5).map(Read::of) {
        let (bytes, shape) = (tensor.one(9), tensor.numbers(1));
        let values: Vec<f32> = match tensor.numbers(2)[0] as i64 {
            FLOAT => bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
            INT64 => bytes.as_chunks::<8>().0.iter().map(|x| i64::from_le_bytes(*x) as f32).collect(),
            kind => panic!("data type {kind}"),
        };
        assert_eq!(values.len(), shape.iter().product::<usize>());
        assert!(known.insert(tensor.text(8), Array { shape, values }).is_none(), "{}", tensor.text(8));
    }
    for node in graph.all(1) {
        let node = Node(Read::of(node));
        let input = |name: &[u8]| known[std::str::from_utf8(name).unwrap()].clone();
        let inputs: Vec<Array> = node.0.all(1).map(input).collect();
        let result = node.compute(&inputs[0], &inputs[1..]);
        assert!(known.insert(std::str::from_utf8(node.0.one(2)).unwrap(), result).is_none());
    }
    ["logits", "quantities"].into_iter().find_map(|name| known.remove(name)).unwrap()
}

fn dataset(train: Examples, classes: usize) -> Dataset {
    Dataset {
        name: "own",
        response: Response::Class,
        classes,
        scale: Normalisation::identity(classes),
        class_names: (0..classes).map(|class| format!("c{class}")).collect(),
        normalisation: Normalisation::of(&train),
        test: train.clone(),
        train,
        augmentation: Augmentation::default(),
        users: None,
    }
}

/// Checks that the file of a model computes what the model computes, and returns the largest difference of a
/// logit, over the largest logit where that is above 1.
fn check(kind: &str, dataset: &Dataset, raw: &[f32]) -> f32 {
    let config: ModelConfig = toml::from_str(kind).unwrap();
    let solver = SolverConfig::Sgd(SgdConfig::default());
    let learner = learner(&config, &solver, dataset, "cpu".parse().unwrap()).unwrap();
    // Far from the start, where every bias is 0 or small and every scale 1.
    let mut flat = learner.init(Seed::new(3));
    flat.iter_mut().enumerate().for_each(|(i, x)| *x += (i % 13) as f32 / 60.0 - 0.1);
    let shape = dataset.train.shape();
    let about = About::of(config.kind().into(), 3, dataset);
    let weights = StateDict::of(Layout::Burn, &learner.layers(), &flat).about(about.clone());
    let bytes = config.onnx(&weights).unwrap();
    let file = Read::of(&bytes);
    assert_eq!((file.numbers(1), file.inside(8).numbers(2)), (vec![8], vec![17]));
    let metadata = file.inside(14);
    assert_eq!(metadata.text(1), "seccogc");
    assert_eq!(serde_json::from_str::<About>(metadata.text(2)).unwrap(), about);
    let graph = file.inside(7);
    let sides = if shape[..2] == [1, 1] { vec![shape[2]] } else { shape.to_vec() };
    let (input, output) = (graph.inside(11), graph.inside(12));
    assert_eq!((input.text(1), declared(&input)), ("examples", ("batch".into(), sides.clone())));
    let name = if dataset.response == Response::Quantity { "quantities" } else { "logits" };
    assert_eq!((output.text(1), declared(&output)), (name, ("batch".into(), vec![dataset.classes])));
    let count = dataset.train.len();
    let examples = Array { shape: [vec![count], sides].concat(), values: raw.to_vec() };
    let logits = compute(&graph, examples);
    assert_eq!(logits.shape, [count, dataset.classes]);
    let mut own = learner.logits(&flat, &dataset.train);
    let Normalisation { mean, std } = &dataset.scale;
    own.iter_mut().enumerate().for_each(|(i, x)| {
        let column = i % dataset.classes;
        *x = *x * std[column] as f32 + mean[column] as f32;
    });
    assert!(own.iter().any(|x| x.abs() > 0.05), "{own:?}");
    let top = own.iter().fold(1.0_f32, |top, x| top.max(x.abs()));
    own.iter().zip(&logits.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / top
}

#[test]
fn every_model_computes_the_same_from_its_file() {
    let images = |shape: [usize; 3], count: u16| {
        let size = usize::from(count) * shape.iter().product::<usize>();
        let pixels: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
        let raw: Vec<f32> = pixels.iter().map(|x| f32::from(*x) / 255.0).collect();
        (dataset(Examples::new(pixels, (0..count).collect(), shape).unwrap(), 4), raw)
    };
    let recurrent = ["char-lstm", "gru"];
    let kinds = ModelConfig::KINDS.iter().filter(|kind| !recurrent.contains(kind));
    let plain = kinds.map(|kind| format!("kind = \"{kind}\""));
    let more = [
        "kind = \"resnet20\"\ngroups = 8",
        "kind = \"vgg11\"\ngroups = 4",
        "kind = \"lenet5\"\nactivation = \"relu\"\npooling = \"max\"\npadded = false",
    ];
    // What computes the file here is slow.
    let (usual, small, large) = (images([2, 16, 17], 3), images([2, 8, 9], 3), images([2, 32, 33], 1));
    for config in plain.chain(more.map(str::to_owned)) {
        let (images, raw) = match &config {
            vgg if vgg.contains("vgg") => &large,
            resnet if resnet.contains("resnet") => &small,
            _ => &usual,
        };
        let difference = check(&config, images, raw);
        assert!(difference < 2e-4, "{config}: {difference}");
    }
    let tokens = vec![2, 0, 1, 4, 4, 3, 0, 0, 2, 1, 3, 4];
    let seen = |i: usize| f32::from(u8::from(usize::from(tokens[i / 20 * 4 + i % 4]) == i % 20 / 4));
    let raw: Vec<f32> = (0..3 * 20).map(seen).collect();
    let texts = dataset(Examples::of_tokens(tokens.clone(), vec![0, 1, 2], 5, 4).unwrap(), 3);
    for layers in [1, 2] {
        for kind in recurrent {
            let text = format!("kind = \"{kind}\"\nhidden = 6\nembedding = 3\nlayers = {layers}");
            let difference = check(&text, &texts, &raw);
            assert!(difference < 1e-5, "{kind}, {layers}: {difference}");
        }
    }
    let rows = vec![1.0f32, -5e5, 2.0, 3.0, 4e5, 1.0];
    let table = dataset(
        Examples::of_features(rows.iter().copied().map(f64::from).collect(), vec![0, 1], 3).unwrap(),
        2,
    );
    for kind in ["kind = \"softmax\"", "kind = \"mlp\"\nhidden = [5, 4]"] {
        let difference = check(kind, &table, &rows);
        assert!(difference < 1e-5, "{kind}: {difference}");
        // Quantities come in their own units.
        let train = table.train.clone().with_responses(vec![1e3, -2.0, 3e3, 5.0], 2).unwrap();
        let scale = Normalisation::of_responses(&train, 2);
        let quantities = Dataset { response: Response::Quantity, scale, train, ..table.clone() };
        let difference = check(kind, &quantities, &rows);
        assert!(difference < 1e-3, "{kind}: {difference}");
    }
}

#[test]
fn weights_that_do_not_say_what_they_are_for_have_no_graph() {
    let error = ModelConfig::default().onnx(&StateDict::default()).unwrap_err();
    assert!(error.to_string().starts_with("the weights do not say what examples they are for"), "{error}");
}
