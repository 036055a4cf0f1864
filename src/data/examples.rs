//! Labelled examples in memory, and their statistics.

use std::hint::black_box;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Normalisation;
use crate::error::count;
use crate::{Error, Result};

/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

/// Examples of one shape, each with a class or with response values: images with one byte per pixel and
/// channel, tables of real features, or sequences of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    pub(super) values: Values,
    pub(super) labels: Labels,
    shape: [usize; 3],
}

/// What is to be told of each example.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Labels {
    /// Its class.
    Classes(Vec<u16>),
    /// So many numbers.
    Values { values: Vec<f64>, each: usize },
}

impl Labels {
    fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values { values, each } => values.len() / each,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Pixels(Vec<u8>),
    Features(Vec<f64>),
    /// One number a position, below the vocabulary's size.
    Tokens(Vec<u16>),
}

/// Bytes that are hashed at a time: blocks are hashed in parallel, and their hashes together.
const BLOCK: usize = 1 << 20;

/// Pixels times `scale` plus `offset`, with the widest vectors of the processor.
struct Scaled<'a> {
    from: &'a [u8],
    to: &'a mut [f32],
    scale: f32,
    offset: f32,
}

impl WithSimd for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { from, to, scale, offset } = self;
        for (to, &from) in to.iter_mut().zip(from) {
            *to = f32::from(from) * scale + offset;
        }
    }
}

impl Examples {
    /// SHA-256 of the shape, the labels and the values, these in blocks.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let hash = |block: &[u8]| <[u8; 32]>::from(Sha256::digest(block));
        let blocks: Vec<[u8; 32]> = match &self.values {
            Values::Pixels(bytes) => bytes.par_chunks(BLOCK).map(hash).collect(),
            Values::Features(values) => values
                .par_chunks(BLOCK / 4)
                .map(|block| hash(&block.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
                .collect(),
            Values::Tokens(tokens) => tokens
                .par_chunks(BLOCK)
                .map(|block| hash(&block.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
                .collect(),
        };
        let mut all = Sha256::new();
        all.update(format!("{:?} {}", self.shape, self.labels.len()));
        match &self.labels {
            // One byte a label where that is enough.
            Labels::Classes(classes) => {
                match classes.iter().map(|&label| u8::try_from(label)).collect::<Result<Vec<u8>, _>>() {
                    Ok(labels) => all.update(&labels),
                    Err(_) => classes.iter().for_each(|label| all.update(label.to_le_bytes())),
                }
            }
            Labels::Values { values, .. } => values.iter().for_each(|x| all.update(x.to_le_bytes())),
        }
        blocks.iter().for_each(|block| all.update(block));
        all.finalize().into()
    }

    /// `pixels` holds `labels.len()` images one after another, each channel by channel, row by row;
    /// `shape` is (channels, height, width).
    ///
    /// # Errors
    /// [`Error::Refused`] when the number of pixels is not the number of labels times the image size, or
    /// when an image has no pixel.
    pub fn new(pixels: Vec<u8>, labels: Vec<u16>, shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = shape;
        let size: usize = shape.iter().product();
        if size == 0 || pixels.len() != labels.len() * size {
            return Err(Error::Refused(format!(
                "{} are not {} of {channels}×{height}×{width}; give every label one whole image",
                count(pixels.len(), "pixel"),
                count(labels.len(), "image")
            )));
        }
        Ok(Self { values: Values::Pixels(pixels), labels: Labels::Classes(labels), shape })
    }

    /// Rows of a table: `features` holds the `columns` features of every example one after another. Their
    /// shape is (1, 1, `columns`).
    ///
    /// # Errors
    /// [`Error::Refused`] when the number of features is not the number of labels times `columns`, or when
    /// there is no column.
    pub fn of_features(features: Vec<f64>, labels: Vec<u16>, columns: usize) -> Result<Self> {
        if columns == 0 || features.len() != labels.len() * columns {
            return Err(Error::Refused(format!(
                "{} are not {} of {columns}; give every label one whole row",
                count(features.len(), "feature"),
                count(labels.len(), "row")
            )));
        }
        Self::of_values(features, labels, [1, 1, columns])
    }

    /// Examples of real values, such as images that are no bytes: `values` holds those of every example one
    /// after another, each of this shape (channels, height, width).
    ///
    /// # Errors
    /// [`Error::Refused`] when the number of values is not the number of labels times the size of the shape,
    /// or when that is 0.
    pub fn of_values(values: Vec<f64>, labels: Vec<u16>, shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = shape;
        let size: usize = shape.iter().product();
        if size == 0 || values.len() != labels.len() * size {
            return Err(Error::Refused(format!(
                "{} are not {} of {channels}×{height}×{width}; give every label one whole example",
                count(values.len(), "value"),
                count(labels.len(), "example")
            )));
        }
        Ok(Self { values: Values::Features(values), labels: Labels::Classes(labels), shape })
    }

    /// Sequences of `length` tokens each, one after another, of a vocabulary of so many. A model sees every
    /// position as `vocabulary` channels, of which that of its token is 1: their shape is
    /// (`vocabulary`, 1, `length`).
    ///
    /// # Errors
    /// [`Error::Refused`] when the number of tokens is not the number of labels times `length`, when a
    /// sequence has no token, or a token is not of the vocabulary.
    pub fn of_tokens(tokens: Vec<u16>, labels: Vec<u16>, vocabulary: usize, length: usize) -> Result<Self> {
        if length == 0 || tokens.len() != labels.len() * length {
            return Err(Error::Refused(format!(
                "{} are not {} of {length}; give every label one whole sequence",
                count(tokens.len(), "token"),
                count(labels.len(), "sequence")
            )));
        }
        if let Some(token) = tokens.iter().find(|token| usize::from(**token) >= vocabulary) {
            let rule = format!("token {token} of a vocabulary of {vocabulary}; tokens begin with 0");
            return Err(Error::Refused(rule));
        }
        let labels = Labels::Classes(labels);
        Ok(Self { values: Values::Tokens(tokens), labels, shape: [vocabulary, 1, length] })
    }

    /// The same examples with `each` response values in the place of a class: quantities, or 0 and 1 for
    /// labels of which an example may have several. `responses` holds those of every example one after
    /// another.
    ///
    /// # Errors
    /// [`Error::Refused`] when their number is not that of the examples times `each`, or one is not finite.
    pub fn with_responses(self, responses: Vec<f64>, each: usize) -> Result<Self> {
        if each == 0 || responses.len() != self.len() * each {
            return Err(Error::Refused(format!(
                "{} are not {each} for each of {}; give every example as many",
                count(responses.len(), "response"),
                count(self.len(), "example")
            )));
        }
        if let Some(place) = responses.iter().position(|x| !x.is_finite()) {
            let rule = format!("response {} is {}; give finite numbers", place + 1, responses[place]);
            return Err(Error::Refused(rule));
        }
        Ok(Self { labels: Labels::Values { values: responses, each }, ..self })
    }

    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// (channels, height, width) of every example; a table's rows are (1, 1, columns).
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class of every example, counted from 0; nothing where they have response values.
    #[must_use]
    pub fn labels(&self) -> &[u16] {
        match &self.labels {
            Labels::Classes(classes) => classes,
            Labels::Values { .. } => &[],
        }
    }

    /// The response values of an example; nothing where examples have classes. Panics when there is no such
    /// example.
    #[must_use]
    pub fn responses(&self, i: usize) -> &[f64] {
        match &self.labels {
            Labels::Classes(_) => &[],
            Labels::Values { values, each } => &values[i * each..(i + 1) * each],
        }
    }

    /// Whether the examples are images.
    #[must_use]
    pub fn are_images(&self) -> bool {
        matches!(self.values, Values::Pixels(_))
    }

    /// Whether the examples are sequences of tokens.
    #[must_use]
    pub fn are_sequences(&self) -> bool {
        matches!(self.values, Values::Tokens(_))
    }

    /// The channels × height × width bytes of image `i`; panics when there is no such example or the examples
    /// are no images.
    #[must_use]
    pub fn pixels(&self, i: usize) -> &[u8] {
        let size = self.size();
        match &self.values {
            Values::Pixels(pixels) => &pixels[i * size..(i + 1) * size],
            Values::Features(_) | Values::Tokens(_) => panic!("only images have pixels"),
        }
    }

    /// The examples `indices`, in that order. Panics when there is no such example.
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        fn pick<T: Copy>(values: &[T], size: usize, indices: &[usize]) -> Vec<T> {
            indices.iter().flat_map(|&i| &values[i * size..(i + 1) * size]).copied().collect()
        }
        let values = match &self.values {
            Values::Pixels(pixels) => Values::Pixels(pick(pixels, self.size(), indices)),
            Values::Features(features) => Values::Features(pick(features, self.size(), indices)),
            Values::Tokens(tokens) => Values::Tokens(pick(tokens, self.shape[2], indices)),
        };
        let labels = match &self.labels {
            Labels::Classes(classes) => Labels::Classes(pick(classes, 1, indices)),
            Labels::Values { values, each } => {
                Labels::Values { values: pick(values, *each, indices), each: *each }
            }
        };
        Self { values, labels, shape: self.shape }
    }

    /// Adds further examples behind these.
    ///
    /// # Errors
    /// [`Error::Refused`] when they are of another shape, features and not images, or have responses and not
    /// classes.
    pub fn append(&mut self, others: &Self) -> Result<()> {
        let alike = match (&self.labels, &others.labels) {
            (Labels::Classes(_), Labels::Classes(_)) => true,
            (Labels::Values { each, .. }, Labels::Values { each: more, .. }) => each == more,
            _ => false,
        };
        let fits = self.shape == others.shape && alike;
        match (&mut self.values, &others.values) {
            (Values::Pixels(own), Values::Pixels(more)) if fits => own.extend_from_slice(more),
            (Values::Features(own), Values::Features(more)) if fits => own.extend_from_slice(more),
            (Values::Tokens(own), Values::Tokens(more)) if fits => own.extend_from_slice(more),
            _ => {
                let rule = format!("examples of shape {:?} behind others of {:?}", others.shape, self.shape);
                return Err(Error::Refused(rule));
            }
        }
        match (&mut self.labels, &others.labels) {
            (Labels::Classes(own), Labels::Classes(more)) => own.extend_from_slice(more),
            (Labels::Values { values: own, .. }, Labels::Values { values: more, .. }) => {
                own.extend_from_slice(more);
            }
            _ => {}
        }
        Ok(())
    }

    /// Appends the standardised values (x − mean)/std of the examples `indices` to `out`, in that order:
    /// `indices.len()` × channels × height × width values, x being a feature, a pixel divided by 255, or
    /// whether a token is that of the channel.
    /// Features are rounded to single precision after they are standardised.
    /// Panics when there is no such example, or when `norm` is for another shape.
    pub fn extend_batch(&self, indices: &[usize], norm: &Normalisation, out: &mut Vec<f32>) {
        let size = self.size();
        let group = size / norm.mean.len();
        assert_eq!(group * norm.mean.len(), size, "one mean per channel or feature");
        let statistics = || norm.mean.iter().zip(&norm.std);
        out.reserve(indices.len() * size);
        if let Values::Pixels(pixels) = &self.values {
            // The images of a batch lie anywhere in memory: all their lines are asked for before the first is
            // needed.
            let lines = indices.iter().flat_map(|i| pixels[i * size..(i + 1) * size].iter().step_by(LINE));
            black_box(lines.fold(0, |all, pixel| all ^ pixel));
        }
        for &i in indices {
            let place = i * size..(i + 1) * size;
            match &self.values {
                Values::Pixels(pixels) => {
                    for (plane, (&mean, &std)) in pixels[place].chunks_exact(group).zip(statistics()) {
                        let (mean, std) = (mean as f32, std as f32);
                        let (scale, offset) = (1.0 / (255.0 * std), -mean / std);
                        let start = out.len();
                        out.resize(start + plane.len(), 0.0);
                        Arch::new().dispatch(Scaled { from: plane, to: &mut out[start..], scale, offset });
                    }
                }
                Values::Features(features) => {
                    for (plane, (&mean, &std)) in features[place].chunks_exact(group).zip(statistics()) {
                        out.extend(plane.iter().map(|&x| ((x - mean) / std) as f32));
                    }
                }
                Values::Tokens(tokens) => {
                    let own = &tokens[i * group..(i + 1) * group];
                    for (channel, (&mean, &std)) in statistics().enumerate() {
                        let x = |token: &u16| f64::from(u8::from(usize::from(*token) == channel));
                        out.extend(own.iter().map(|token| ((x(token) - mean) / std) as f32));
                    }
                }
            }
        }
    }

    fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Examples {
        // Two images of two channels, 1×2: channel 0 holds 0, 255, 255, 0; channel 1 is constant.
        Examples::new(vec![0, 255, 51, 51, 255, 0, 51, 51], vec![3, 1], [2, 1, 2]).unwrap()
    }

    #[test]
    fn batches_are_standardised_per_channel_in_the_order_asked() {
        let examples = tiny();
        let norm = Normalisation::of(&examples);
        assert_eq!(norm, Normalisation { mean: vec![0.5, f64::from(0.2f32)], std: vec![0.5, 1.0] });
        let mut batch = vec![9.0];
        examples.extend_batch(&[1, 0, 1], &norm, &mut batch);
        let expected = [9.0, 1.0, -1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0];
        assert_eq!(batch.len(), expected.len());
        for (x, y) in batch.iter().zip(expected) {
            assert!((x - y).abs() < 1e-6, "{x} is not {y}");
        }
        let mut plain = Vec::new();
        examples.extend_batch(&[0], &Normalisation::identity(2), &mut plain);
        assert!(plain.iter().zip([0.0, 1.0, 0.2, 0.2]).all(|(x, y): (&f32, f32)| (x - y).abs() < 1e-6));
    }

    #[test]
    fn features_are_standardised_each_by_itself() {
        // The third feature is constant; the second is far from 0.
        let rows = vec![1.0, 4_000_000.0, 7.0, 3.0, 4_000_004.0, 7.0];
        let examples = Examples::of_features(rows, vec![0, 1], 3).unwrap();
        assert_eq!(examples.shape(), [1, 1, 3]);
        let norm = Normalisation::of(&examples);
        assert_eq!(norm, Normalisation { mean: vec![2.0, 4_000_002.0, 7.0], std: vec![1.0, 2.0, 1.0] });
        let mut batch = Vec::new();
        examples.extend_batch(&[1, 0], &norm, &mut batch);
        assert_eq!(batch, [1.0, 1.0, 0.0, -1.0, -1.0, 0.0]);
        let mut plain = Vec::new();
        examples.extend_batch(&[0], &Normalisation::identity(1), &mut plain);
        assert_eq!(plain, [1.0, 4_000_000.0, 7.0]);
    }

    #[test]
    fn subsets_keep_values_and_labels_together() {
        let images = tiny().subset(&[1, 1]);
        assert_eq!((images.labels(), images.pixels(1)), (&[1, 1][..], &[255, 0, 51, 51][..]));
        let rows = Examples::of_features(vec![1.0, 2.0, 3.0, 4.0], vec![5, 6], 2).unwrap();
        assert_eq!(rows.subset(&[1]), Examples::of_features(vec![3.0, 4.0], vec![6], 2).unwrap());
        assert!(!rows.are_images() && images.are_images() && rows.subset(&[]).is_empty());
    }

    #[test]
    fn tokens_are_seen_as_channels() {
        let examples = Examples::of_tokens(vec![2, 0, 1, 1], vec![5, 6], 3, 2).unwrap();
        assert_eq!((examples.shape(), examples.len(), examples.are_sequences()), ([3, 1, 2], 2, true));
        let norm = Normalisation::of(&examples);
        assert_eq!(norm, Normalisation::identity(3));
        let mut batch = Vec::new();
        examples.extend_batch(&[1, 0], &norm, &mut batch);
        assert_eq!(batch, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let mut twice = examples.subset(&[1]);
        twice.append(&examples.subset(&[0])).unwrap();
        assert_eq!(twice, Examples::of_tokens(vec![1, 1, 2, 0], vec![6, 5], 3, 2).unwrap());
        assert_ne!(twice.digest(), examples.digest());
        let error = Examples::of_tokens(vec![3], vec![0], 3, 1).unwrap_err().to_string();
        assert_eq!(error, "token 3 of a vocabulary of 3; tokens begin with 0");
        let error = Examples::of_tokens(vec![0; 3], vec![0], 3, 2).unwrap_err().to_string();
        assert_eq!(error, "3 tokens are not 1 sequence of 2; give every label one whole sequence");
    }

    #[test]
    fn responses_stand_in_the_place_of_classes() {
        let rows = || Examples::of_features(vec![1.0, 2.0, 3.0], vec![0; 3], 1).unwrap();
        let all = rows().with_responses(vec![10.0, 1.0, 20.0, 2.0, 60.0, 3.0], 2).unwrap();
        assert_eq!((all.len(), all.labels(), all.responses(1)), (3, &[][..], &[20.0, 2.0][..]));
        assert_eq!((rows().responses(1), rows().labels()), (&[][..], &[0, 0, 0][..]));
        assert_ne!(all.digest(), rows().digest());
        let mut some = all.subset(&[2]);
        some.append(&all.subset(&[0])).unwrap();
        assert_eq!((some.responses(0), some.responses(1)), (&[60.0, 3.0][..], &[10.0, 1.0][..]));
        assert!(some.append(&rows()).is_err());
        let scale = Normalisation::of_responses(&all, 2);
        assert_eq!((scale.mean, scale.std[1]), (vec![30.0, 2.0], (2.0f64 / 3.0).sqrt()));
        assert_eq!(Normalisation::of_responses(&rows(), 1), Normalisation::identity(1));
        let error = rows().with_responses(vec![1.0; 4], 1).unwrap_err().to_string();
        assert_eq!(error, "4 responses are not 1 for each of 3 examples; give every example as many");
        let error = rows().with_responses(vec![1.0, f64::NAN, 2.0], 1).unwrap_err().to_string();
        assert_eq!(error, "response 2 is NaN; give finite numbers");
    }

    #[test]
    fn incomplete_examples_are_refused() {
        let error = Examples::new(vec![0; 7], vec![3, 1], [2, 1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "7 pixels are not 2 images of 2×1×2; give every label one whole image");
        assert!(Examples::new(vec![], vec![], [0, 1, 2]).is_err());
        let error = Examples::of_features(vec![0.0; 3], vec![3, 1], 2).unwrap_err();
        assert_eq!(error.to_string(), "3 features are not 2 rows of 2; give every label one whole row");
    }
}
