//! Labelled examples in memory, and their statistics.

use std::hint::black_box;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::count;
use crate::{Error, Result};

/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

/// Labelled examples of one shape: images with one byte per pixel and channel, tables of real features, or
/// sequences of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    values: Values,
    labels: Vec<u16>,
    shape: [usize; 3],
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
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
        // One byte a label where that is enough.
        match self.labels.iter().map(|&label| u8::try_from(label)).collect::<Result<Vec<u8>, _>>() {
            Ok(labels) => all.update(&labels),
            Err(_) => self.labels.iter().for_each(|label| all.update(label.to_le_bytes())),
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
        Ok(Self { values: Values::Pixels(pixels), labels, shape })
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
        Ok(Self { values: Values::Features(values), labels, shape })
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
        Ok(Self { values: Values::Tokens(tokens), labels, shape: [vocabulary, 1, length] })
    }

    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// (channels, height, width) of every example; a table's rows are (1, 1, columns).
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class of every example, counted from 0.
    #[must_use]
    pub fn labels(&self) -> &[u16] {
        &self.labels
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
        Self { values, labels: pick(&self.labels, 1, indices), shape: self.shape }
    }

    /// Adds further examples behind these.
    ///
    /// # Errors
    /// [`Error::Refused`] when they are of another shape, or features and not images.
    pub fn append(&mut self, others: &Self) -> Result<()> {
        let fits = self.shape == others.shape;
        match (&mut self.values, &others.values) {
            (Values::Pixels(own), Values::Pixels(more)) if fits => own.extend_from_slice(more),
            (Values::Features(own), Values::Features(more)) if fits => own.extend_from_slice(more),
            (Values::Tokens(own), Values::Tokens(more)) if fits => own.extend_from_slice(more),
            _ => {
                let rule = format!("examples of shape {:?} behind others of {:?}", others.shape, self.shape);
                return Err(Error::Refused(rule));
            }
        }
        self.labels.extend_from_slice(&others.labels);
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

/// The mean and standard deviation of every channel of images, with pixels in [0, 1], or of every feature of
/// a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Mean per channel or feature.
    pub mean: Vec<f64>,
    /// Standard deviation per channel or feature, positive.
    pub std: Vec<f64>,
}

impl Normalisation {
    /// Leaves pixels as x/255 and features as they are.
    #[must_use]
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// The statistics of `examples`; a constant channel or feature gets deviation 1.
    #[must_use]
    pub fn of(examples: &Examples) -> Self {
        match &examples.values {
            Values::Pixels(pixels) => Self::of_pixels(pixels, examples.shape),
            Values::Features(features) => Self::of_features(features, examples.size()),
            Values::Tokens(_) => Self::identity(examples.shape[0]),
        }
    }

    /// From exact integer sums, in single precision as the pixels.
    fn of_pixels(pixels: &[u8], [channels, height, width]: [usize; 3]) -> Self {
        let plane = height * width;
        let mut sums = vec![(0u64, 0u64); channels];
        for (i, chunk) in pixels.chunks_exact(plane).enumerate() {
            // One image plane fits u32 sums (255² · 66,000 pixels), which vectorise; larger ones are cut.
            for piece in chunk.chunks(1 << 15) {
                let sum: u32 = piece.iter().map(|&x| u32::from(x)).sum();
                let squares: u32 = piece.iter().map(|&x| u32::from(x) * u32::from(x)).sum();
                let total = &mut sums[i % channels];
                total.0 += u64::from(sum);
                total.1 += u64::from(squares);
            }
        }
        let count = (pixels.len() / channels).max(1) as f64;
        let mut norm = Self::identity(channels);
        for (c, (sum, squares)) in sums.into_iter().enumerate() {
            let mean = sum as f64 / count;
            let variance = squares as f64 / count - mean * mean;
            norm.mean[c] = f64::from((mean / 255.0) as f32);
            if variance > 0.0 {
                norm.std[c] = f64::from((variance.sqrt() / 255.0) as f32);
            }
        }
        norm
    }

    /// In two passes and from the first value on, so that a feature far from 0 keeps its digits.
    fn of_features(features: &[f64], columns: usize) -> Self {
        let rows = (features.len() / columns).max(1) as f64;
        let mut norm = Self::identity(columns);
        for column in 0..columns {
            let values = || features.iter().skip(column).step_by(columns).copied();
            let first = features.get(column).copied().unwrap_or_default();
            let mean = first + values().map(|x| x - first).sum::<f64>() / rows;
            let deviation = (values().map(|x| (x - mean).powi(2)).sum::<f64>() / rows).sqrt();
            norm.mean[column] = mean;
            if deviation > 0.0 {
                norm.std[column] = deviation;
            }
        }
        norm
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
    fn a_constant_does_not_change_what_is_standardised() {
        let times = |start: f64| {
            let rows = (0..1000).map(|i| start + f64::from(i * 37 % 101)).collect();
            let examples = Examples::of_features(rows, vec![0; 1000], 1).unwrap();
            let mut values = Vec::new();
            examples.extend_batch(&[0, 1, 2, 3, 500, 999], &Normalisation::of(&examples), &mut values);
            values
        };
        // Milliseconds since 1970: single precision has steps of 131,072 there.
        let pairs = times(1_700_000_000_000.0).into_iter().zip(times(0.0));
        assert!(pairs.into_iter().all(|(x, y)| (x - y).abs() < 1e-5));
        let constant = Examples::of_features(vec![0.1; 7], vec![0; 7], 1).unwrap();
        assert_eq!(Normalisation::of(&constant), Normalisation { mean: vec![0.1], std: vec![1.0] });
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
    fn incomplete_examples_are_refused() {
        let error = Examples::new(vec![0; 7], vec![3, 1], [2, 1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "7 pixels are not 2 images of 2×1×2; give every label one whole image");
        assert!(Examples::new(vec![], vec![], [0, 1, 2]).is_err());
        let error = Examples::of_features(vec![0.0; 3], vec![3, 1], 2).unwrap_err();
        assert_eq!(error.to_string(), "3 features are not 2 rows of 2; give every label one whole row");
    }
}
