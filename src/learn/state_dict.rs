//! The weights of a model as PyTorch names and lays them out, and the files that hold them.
//!
//! A tensor is called as its field in the module: `hidden.0.weight`, `conv1.bias`,
//! `blocks.3.first.norm.weight` (`seccogc model show` lists them). A module of PyTorch whose fields have
//! these names takes the dictionary as it is, with `load_state_dict`:
//!
//! | layer | tensors here | in the flat vector |
//! |---|---|---|
//! | `Linear` | `weight` \[out, in\], `bias` \[out\] | `weight` \[in, out\] |
//! | `Conv1d`, `Conv2d` | `weight` \[out, in, height, width\], `bias` \[out\] | the same |
//! | `GroupNorm`, `LayerNorm` | `weight`, `bias` \[channels\] | called `gamma`, `beta` |
//! | `LSTM`, `GRU` | `weight_ih_l0` \[gates · units, inputs\], `weight_hh_l0`, `bias_ih_l0`, … | called `layers.0.weight_ih`, … |
//! | `Embedding`, as field `embedding` | `weight` \[tokens, values\] | the same |
//!
//! No model keeps running statistics. The tensors of a model that another program trains are called, and lie,
//! as they do there.

mod npz;

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Response};
use crate::error::{Error, Result};

/// The key of the metadata of a safetensors file under which [`About`] stands, as JSON.
pub const METADATA: &str = "seccogc";

/// What a model was made for, which goes with its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Kind of the model.
    pub model: String,
    /// Rounds that it was trained for.
    pub round: u64,
    /// The name of the dataset.
    pub data: String,
    /// (channels, height, width) of an example; a table's rows are (1, 1, columns).
    pub shape: [usize; 3],
    /// What the model tells of an example.
    #[serde(default)]
    pub response: Response,
    /// The classes, labels or quantities in the order of the outputs.
    pub classes: Vec<String>,
    /// The model sees (x − mean)/std, x being a pixel in [0, 1] or a feature: one mean per channel or
    /// feature.
    pub mean: Vec<f64>,
    /// One deviation per channel or feature.
    pub std: Vec<f64>,
    /// Quantities are the outputs times a deviation plus a mean: the mean of each; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scale_mean: Vec<f64>,
    /// The deviation of each quantity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scale_std: Vec<f64>,
}

impl About {
    /// Of a model of this kind after so many rounds on a dataset.
    #[must_use]
    pub fn of(model: String, round: u64, dataset: &Dataset) -> Self {
        let Dataset { response, scale, normalisation, .. } = dataset;
        let is_scaled = *response == Response::Quantity;
        let of_scale = |values: &Vec<f64>| if is_scaled { values.clone() } else { Vec::new() };
        Self {
            model,
            round,
            data: dataset.name.into(),
            shape: dataset.train.shape(),
            response: *response,
            classes: dataset.class_names.clone(),
            mean: normalisation.mean.clone(),
            std: normalisation.std.clone(),
            scale_mean: of_scale(&scale.mean),
            scale_std: of_scale(&scale.std),
        }
    }
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name, e.g. `hidden.0.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, the last axis fastest.
    pub values: Vec<f32>,
}

/// The weights of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    /// The tensors in the order of the flat vector.
    pub tensors: Vec<NamedTensor>,
    /// What the model was made for, where it is known.
    pub about: Option<About>,
}

/// Whose names and shapes those of a flat vector's parameters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Burn's: they have other names in PyTorch, and matrices lie the other way round.
    Burn,
    /// Those of the tensors themselves.
    Own,
}

impl Layout {
    /// The tensor of a parameter: its name, its shape, and whether it lies the other way round.
    fn tensor(self, parameter: &str, shape: &[usize]) -> (String, Vec<usize>, bool) {
        match self {
            Self::Burn => {
                let name = name_of(parameter);
                let (own, turned) = (shape_of(&name, shape), is_turned(&name, shape));
                (name, own, turned)
            }
            Self::Own => (parameter.to_owned(), shape.to_vec(), false),
        }
    }
}

/// The name of a parameter in PyTorch.
fn name_of(parameter: &str) -> String {
    if let Some((stack, cell)) = parameter.split_once(".layers.")
        && let Some((layer, weight)) = cell.split_once('.')
        && RECURRENT.contains(&weight)
    {
        return format!("{stack}.{weight}_l{layer}");
    }
    let renamed = [(".gamma", ".weight"), (".beta", ".bias")];
    let found = renamed.into_iter().find_map(|(own, other)| Some((parameter.strip_suffix(own)?, other)));
    found.map_or_else(|| parameter.to_owned(), |(layer, other)| format!("{layer}{other}"))
}

/// Tensors of a recurrent layer.
const RECURRENT: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

/// The matrix of a linear layer lies the other way round in PyTorch.
fn is_turned(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && name.ends_with("weight") && !name.ends_with("embedding.weight")
}

fn shape_of(name: &str, shape: &[usize]) -> Vec<usize> {
    let turned = is_turned(name, shape);
    if turned { shape.iter().rev().copied().collect() } else { shape.to_vec() }
}

/// The transpose of a matrix of `rows` rows.
fn turned(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// Sides of a tensor as text.
fn sides(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

impl StateDict {
    /// The flat vector of a model whose parameters have these names and shapes. Panics when it has another
    /// length.
    #[must_use]
    pub fn of(layout: Layout, layers: &[(String, Vec<usize>)], mut flat: &[f32]) -> Self {
        let tensor = |(parameter, shape): &(String, Vec<usize>)| {
            let (own, rest) = flat.split_at(shape.iter().product());
            flat = rest;
            let (name, lies, is_turned) = layout.tensor(parameter, shape);
            let values = if is_turned { turned(own, shape[0]) } else { own.to_vec() };
            NamedTensor { name, shape: lies, values }
        };
        let tensors = layers.iter().map(tensor).collect();
        assert!(flat.is_empty(), "weights of another model");
        Self { tensors, about: None }
    }

    /// With what the model was made for.
    #[must_use]
    pub fn about(self, about: About) -> Self {
        Self { about: Some(about), ..self }
    }

    /// The flat vector for a model whose parameters have these names and shapes.
    ///
    /// # Errors
    /// The first tensor that is missing, has another shape, holds what is not finite or has no place, in a
    /// few words.
    pub fn flat(&self, layout: Layout, layers: &[(String, Vec<usize>)]) -> Result<Vec<f32>, String> {
        let mut flat = Vec::new();
        for (parameter, shape) in layers {
            let (name, wanted, is_turned) = layout.tensor(parameter, shape);
            let Some(own) = self.get(&name) else {
                return Err(format!("no tensor `{name}`, which is {} in this model", sides(&wanted)));
            };
            if own.shape != wanted {
                let (own, wanted) = (sides(&own.shape), sides(&wanted));
                return Err(format!("tensor `{name}` is {own} where this model has {wanted}"));
            }
            if !own.values.iter().all(|x| x.is_finite()) {
                return Err(format!("tensor `{name}` holds numbers that are not finite"));
            }
            if is_turned {
                flat.extend(turned(&own.values, wanted[0]));
            } else {
                flat.extend_from_slice(&own.values);
            }
        }
        let known = |name: &str| layers.iter().any(|(parameter, _)| name_of(parameter) == name);
        match self.tensors.iter().find(|tensor| !known(&tensor.name)) {
            Some(tensor) => Err(format!("tensor `{}` has no place in this model", tensor.name)),
            None => Ok(flat),
        }
    }

    /// The tensor of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// As a safetensors file, with [`About`] in its metadata.
    ///
    /// # Errors
    /// None but a defect.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let refuse = |error: String| Error::Refused(format!("cannot write safetensors: {error}"));
        // One entry, so that the same model gives the same bytes: the crate keeps them in a hash map.
        let about = self.about.as_ref().map(serde_json::to_string).transpose();
        let about = about.map_err(|error| refuse(error.to_string()))?;
        let metadata = about.map(|json| HashMap::from([(METADATA.to_owned(), json)]));
        let tensors = self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
        safetensors::serialize(tensors, metadata).map_err(|error| refuse(error.to_string()))
    }

    /// Reads a safetensors file of 32-bit floats, by whatever program it was written.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |error: safetensors::SafeTensorError| format!("not a safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let json = header.metadata().as_ref().and_then(|entries| entries.get(METADATA));
        let about = json.and_then(|json| serde_json::from_str(json).ok());
        let read = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
            if view.dtype() != Dtype::F32 {
                return Err(format!("tensor `{name}` is {:?}; save it as 32-bit floats", view.dtype()));
            }
            let values = view.data().as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
            Ok(NamedTensor { name: name.into(), shape: view.shape().to_vec(), values: values.collect() })
        };
        let mut tensors = read.iter().map(tensor).collect::<Result<Vec<_>, String>>()?;
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { tensors, about })
    }

    /// As a file of NumPy, `numpy.load(file)[name]`.
    ///
    /// # Errors
    /// More than the 4 GB that the format holds.
    pub fn to_npz(&self) -> Result<Vec<u8>> {
        npz::archive(&self.tensors)
    }

    /// As CSV: `tensor,index,value`, an index being the place along every axis from 0, with spaces between.
    #[must_use]
    pub fn to_csv(&self) -> Vec<u8> {
        let mut text = String::from("tensor,index,value\n");
        for NamedTensor { name, shape, values } in &self.tensors {
            let mut index = vec![0; shape.len()];
            for value in values {
                let place = index.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
                text += &format!("{name},{place},{value}\n");
                for (at, side) in index.iter_mut().zip(shape).rev() {
                    *at += 1;
                    if *at < *side {
                        break;
                    }
                    *at = 0;
                }
            }
        }
        text.into_bytes()
    }
}

impl View for &NamedTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

#[cfg(test)]
mod tests;
