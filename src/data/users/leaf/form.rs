//! What the examples of LEAF's files are.

use serde::Deserialize;

use crate::data::Examples;
use crate::error::count;
use crate::{Error, Result};

/// Most characters that are told apart.
const VOCABULARY: usize = 4096;

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of numbers, or a text")]
pub(super) enum Example {
    Values(Vec<f64>),
    Text(String),
}

/// What examples are asked to be.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::data) struct Wanted {
    /// Channels, height and width of lists; a row of as many features as the first has without it.
    pub shape: Option<[usize; 3]>,
    /// Characters of a text: longer ones lose their beginning, shorter ones get another before it. As many as
    /// the first has without it, and then all have as many.
    pub length: Option<usize>,
}

/// What examples are.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Lists of numbers of this shape.
    Values([usize; 3]),
    /// Texts.
    Text {
        /// Ascending.
        vocabulary: Vec<char>,
        length: usize,
        /// Whether texts are brought to this length.
        cut: bool,
    },
}

impl Form {
    /// Of an example like this one.
    pub fn of(first: &Example, wanted: Wanted) -> Result<Self, String> {
        match (first, wanted) {
            (Example::Values(_), Wanted { length: Some(_), .. }) => {
                Err("lists of numbers have a shape, no length; remove data.length".into())
            }
            (Example::Text(_), Wanted { shape: Some(_), .. }) => {
                Err("texts have a length, no shape; remove data.shape".into())
            }
            (Example::Values(own), _) => Ok(Self::Values(wanted.shape.unwrap_or([1, 1, own.len()]))),
            (Example::Text(own), _) => {
                let length = wanted.length.unwrap_or_else(|| own.chars().count());
                Ok(Self::Text { vocabulary: Vec::new(), length, cut: wanted.length.is_some() })
            }
        }
    }

    /// As a model sees the examples.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Values(shape) => *shape,
            Self::Text { vocabulary, length, .. } => [vocabulary.len() + 1, 1, *length],
        }
    }

    /// Channels or features that are standardised each by itself; of texts none is.
    pub fn channels(&self) -> Option<usize> {
        match *self {
            Self::Values([1, 1, features]) => Some(features),
            Self::Values([channels, ..]) => Some(channels),
            Self::Text { .. } => None,
        }
    }

    /// Takes the characters of a text into the vocabulary.
    pub fn learn(&mut self, example: &Example) -> Result<(), String> {
        let (Self::Text { vocabulary, .. }, Example::Text(own)) = (self, example) else { return Ok(()) };
        for c in own.chars() {
            if let Err(place) = vocabulary.binary_search(&c) {
                vocabulary.insert(place, c);
            }
        }
        match vocabulary.len() >= VOCABULARY {
            true => Err(format!("{VOCABULARY} different characters or more, which are the tokens")),
            false => Ok(()),
        }
    }

    /// Bytes of an example.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Values(shape) => 8 * shape.iter().product::<usize>() as u64,
            Self::Text { length, .. } => 2 * *length as u64,
        }
    }

    /// Checks an example, the first or a later one.
    pub fn check(&self, example: &Example) -> Result<(), String> {
        match (self, example) {
            (Self::Values(shape), Example::Values(own)) => {
                let size: usize = shape.iter().product();
                if own.len() != size || size == 0 {
                    let values = count(own.len(), "value");
                    return Err(format!("has {values} where {size} belong; is data.shape right?"));
                }
                match own.iter().all(|value| (*value as f32).is_finite()) {
                    true => Ok(()),
                    false => Err("has a value that is no finite number".into()),
                }
            }
            (Self::Text { length, cut, .. }, Example::Text(own)) => {
                let characters = own.chars().count();
                if (*cut || characters == *length) && *length > 0 {
                    return Ok(());
                }
                let characters = count(characters, "character");
                Err(format!("has {characters} where {length} belong; data.length = N brings all to N"))
            }
            (Self::Values(_), Example::Text(_)) => Err("is a text among lists of numbers".into()),
            (Self::Text { .. }, Example::Values(_)) => Err("is a list among texts".into()),
        }
    }

    /// Examples of this form, each checked.
    pub fn examples(&self, x: Vec<Example>, labels: Vec<u16>) -> Result<Examples> {
        for example in &x {
            self.check(example).map_err(Error::Refused)?;
        }
        match self {
            Self::Values(shape) => {
                let values = |example| if let Example::Values(own) = example { own } else { Vec::new() };
                Examples::of_values(x.into_iter().flat_map(values).collect(), labels, *shape)
            }
            Self::Text { vocabulary, length, .. } => {
                let tokens = |example: &Example| match example {
                    Example::Text(own) => tokens(own, vocabulary, *length),
                    Example::Values(_) => Vec::new(),
                };
                let all = x.iter().flat_map(tokens).collect();
                Examples::of_tokens(all, labels, vocabulary.len() + 1, *length)
            }
        }
    }
}

/// The last `length` characters by their places in the vocabulary; behind it stand all others, also before
/// the beginning of a shorter text.
fn tokens(text: &str, vocabulary: &[char], length: usize) -> Vec<u16> {
    let other = vocabulary.len() as u16;
    let place = |c: char| vocabulary.binary_search(&c).map_or(other, |place| place as u16);
    let mut last: Vec<u16> = text.chars().rev().take(length).map(place).collect();
    last.resize(length, other);
    last.reverse();
    last
}
