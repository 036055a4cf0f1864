use std::cell::Cell;

use burn::{
    module::{Param, ParamId},
    nn::{
        GroupNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor, TensorData},
};
use chacha20::ChaCha8Rng;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, seq::SliceRandom};

use super::*;

thread_local! { static OFF: Cell<bool> = const { Cell::new(false) }; }

/// Whether this thread computes with Burn's own operations.
pub(in crate::learn) fn without_kernels() -> bool {
    OFF.get()
}

/// What `compute` returns with the kernels and with Burn's own operations.
pub(in crate::learn) fn both<T>(compute: impl Fn() -> T) -> (T, T) {
    let fast = compute();
    OFF.set(true);
    let slow = compute();
    OFF.set(false);
    (fast, slow)
}

/// Equidistant values from −1 to 1 in random order: no two are equal, so no maximum is a tie.
fn values(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let step = 2.0 / count as f32;
    let mut values: Vec<f32> = (0..count).map(|i| (i as f32 + 0.5) * step - 1.0).collect();
    values.shuffle(rng);
    values
}

fn random<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values(shape.iter().product(), rng), shape), &device)
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// Values of a layer and gradients, of its inputs and weights, of the values' sum with random weights.
#[derive(Debug)]
struct Outcome(Vec<Vec<f32>>);

impl Outcome {
    fn of<const A: usize, const B: usize>(
        x: Tensor<A>,
        parameters: Vec<Tensor<1>>,
        seed: u64,
        layer: impl Fn(Tensor<A>, &[Tensor<1>]) -> Tensor<B>,
    ) -> Self {
        let x = x.require_grad();
        let parameters: Vec<Tensor<1>> = parameters.into_iter().map(Tensor::require_grad).collect();
        let y = layer(x.clone(), &parameters);
        let gradients = (y.clone() * random(y.dims(), &mut ChaCha8Rng::seed_from_u64(seed))).sum().backward();
        let mut outcome = vec![read(y), read(x.grad(&gradients).unwrap())];
        outcome.extend(parameters.iter().map(|p| read(p.grad(&gradients).unwrap())));
        Self(outcome)
    }

    /// Agrees to 10⁻⁵ of the largest value of each part, or of 1 where that is less: sums may cancel. Where
    /// rounding puts a value on the other side of 0, the gradients are those of either side, and only values
    /// are compared.
    fn agrees(&self, other: &Self) -> bool {
        let kink = self.0[0].iter().zip(&other.0[0]).any(|(a, b)| (*a > 0.0) != (*b > 0.0));
        let compared = if kink { 1 } else { self.0.len() };
        self.0.len() == other.0.len()
            && self.0[..compared].iter().zip(&other.0).all(|(a, b)| {
                let top = b.iter().fold(1.0_f32, |top, x| top.max(x.abs()));
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * top)
            })
    }
}

fn padding() -> impl Strategy<Value = PaddingConfig2d> {
    prop_oneof![
        Just(PaddingConfig2d::Valid),
        Just(PaddingConfig2d::Same),
        (0..3_usize, 0..3_usize).prop_map(|(y, x)| PaddingConfig2d::Explicit(y, x, y, x)),
    ]
}

fn convolution(
    [filters, channels, height, width]: [usize; 4],
    stride: [usize; 2],
    padding: &PaddingConfig2d,
    parameters: &[Tensor<1>],
) -> Conv2d {
    let config = Conv2dConfig::new([channels, filters], [height, width]);
    let mut layer = config.with_stride(stride).with_padding(padding.clone()).init(&Device::flex().autodiff());
    layer.weight =
        Param::initialized(ParamId::new(), parameters[0].clone().reshape([filters, channels, height, width]));
    layer.bias = parameters.get(1).cloned().map(|bias| Param::initialized(ParamId::new(), bias));
    layer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn convolution_equals_burns(
        (batch, channels, filters) in (1..4_usize, 1..20_usize, 1..40_usize),
        image in [1..14_usize, 1..14_usize],
        size in [1..6_usize, 1..6_usize],
        stride in [1..4_usize, 1..4_usize],
        padding in padding(),
        bias: bool,
        apart: bool,
        seed: u64,
    ) {
        prop_assume!(window::Windows::new(image, size, stride, &padding).is_some());
        let (fast, slow) = both(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x = random([batch, channels, image[0], image[1]], &mut rng);
            // The same values, channels together in memory.
            let x = if apart { x } else { Tensor::from_inner(together_in_memory(x.inner())) };
            let shape = [filters, channels, size[0], size[1]];
            let mut parameters = vec![random([shape.iter().product()], &mut rng)];
            parameters.extend(bias.then(|| random([filters], &mut rng)));
            Outcome::of(x, parameters, seed, |x, parameters| {
                conv2d(x, &convolution(shape, stride, &padding, parameters))
            })
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn pooling_equals_burns(
        (batch, channels) in (1..4_usize, 1..20_usize),
        image in [1..14_usize, 1..14_usize],
        size in [1..5_usize, 1..5_usize],
        stride in [1..4_usize, 1..4_usize],
        padding in padding(),
        seed: u64,
    ) {
        prop_assume!(window::Windows::new(image, size, stride, &padding).is_some());
        let layer: MaxPool2d = MaxPool2dConfig::new(size).with_strides(stride).with_padding(padding).init();
        let (fast, slow) = both(|| {
            let x = random([batch, channels, image[0], image[1]], &mut ChaCha8Rng::seed_from_u64(seed));
            Outcome::of(x, vec![], seed, |x, _| max_pool2d_relu(x, &layer))
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn mean_pooling_equals_burns(
        (batch, channels) in (1..4_usize, 1..20_usize),
        image in [1..14_usize, 1..14_usize],
        size in [1..5_usize, 1..5_usize],
        stride in [1..4_usize, 1..4_usize],
        seed: u64,
    ) {
        prop_assume!(size[0] <= image[0] && size[1] <= image[1]);
        let layer: AvgPool2d = AvgPool2dConfig::new(size).with_strides(stride).init();
        let (fast, slow) = both(|| {
            let x = random([batch, channels, image[0], image[1]], &mut ChaCha8Rng::seed_from_u64(seed));
            Outcome::of(x, vec![], seed, |x, _| avg_pool2d(x, &layer))
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn activations_equal_burns(shape in [1..4_usize, 1..7_usize, 1..9_usize, 1..9_usize], factor in 0.01..30.0, seed: u64) {
        let (fast, slow) = both(|| {
            let x = random(shape, &mut ChaCha8Rng::seed_from_u64(seed)).mul_scalar(factor);
            let x = Tensor::from_inner(together_in_memory(x.inner()));
            let of_images = Outcome::of(x.clone(), vec![], seed, |x, _| tanh(x));
            let of_rows = Outcome::of(x.clone().flatten::<2>(1, 3), vec![], seed, |x, _| tanh(x));
            let cut = Outcome::of(x, vec![], seed, |x, _| relu(x));
            Outcome([of_images.0, of_rows.0, cut.0].concat())
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn group_normalisation_equals_burns(
        (batch, groups, each) in (1..4_usize, 1..4_usize, 1..9_usize),
        image in [1..9_usize, 1..9_usize],
        (relu, turned) in any::<(bool, bool)>(),
        seed: u64,
    ) {
        let channels = groups * each;
        // The normal form of two values has a derivative that rounding decides.
        prop_assume!(each * image[0] * image[1] > 3);
        let (fast, slow) = both(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x = random([batch, channels, image[0], image[1]], &mut rng).add_scalar(1.5);
            let x = if turned { Tensor::from_inner(together_in_memory(x.inner())) } else { x };
            let parameters = vec![random([channels], &mut rng), random([channels], &mut rng)];
            Outcome::of(x, parameters, seed, |x, parameters| {
                let mut layer = GroupNormConfig::new(groups, channels).init(&Device::flex().autodiff());
                let part = |i: usize| Some(Param::initialized(ParamId::new(), parameters[i].clone()));
                (layer.gamma, layer.beta) = (part(0), part(1));
                if relu { group_norm_relu(x, &layer) } else { group_norm(x, &layer) }
            })
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn sums_of_paths_equal_burns(shape in [1..4_usize, 1..7_usize, 1..9_usize, 1..9_usize], seed: u64) {
        let (fast, slow) = both(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x = random(shape, &mut rng);
            let x = Tensor::from_inner(together_in_memory(x.inner()));
            let other = random([shape.iter().product()], &mut rng);
            Outcome::of(x, vec![other], seed, |x, other| add_relu(x, other[0].clone().reshape(shape)))
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn linear_layers_equal_burns(
        (batch, inputs, outputs) in (1..70_usize, 1..300_usize, 1..70_usize),
        (bias, relu) in any::<(bool, bool)>(),
        seed: u64,
    ) {
        let (fast, slow) = both(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x = random([batch, inputs], &mut rng);
            let mut parameters = vec![random([inputs * outputs], &mut rng)];
            parameters.extend(bias.then(|| random([outputs], &mut rng)));
            Outcome::of(x, parameters, seed, |x, parameters| {
                let mut layer: Linear = LinearConfig::new(inputs, outputs).init(&Device::flex().autodiff());
                layer.weight = Param::initialized(ParamId::new(), parameters[0].clone().reshape([inputs, outputs]));
                layer.bias = parameters.get(1).cloned().map(|bias| Param::initialized(ParamId::new(), bias));
                if relu { linear_relu(x, &layer) } else { linear(x, &layer) }
            })
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn cross_entropy_equals_burns((batch, classes) in (1..40_usize, 1..12_usize), seed: u64) {
        let (fast, slow) = both(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x = random([batch, classes], &mut rng).mul_scalar(20.0);
            let labels: Vec<u16> = (0..batch).map(|_| rng.random_range(0..classes) as u16).collect();
            let x = Tensor::<2>::from_inner(x.inner());
            Outcome::of(x, vec![], seed, |x, _| cross_entropy(x, &[&labels]))
        });
        prop_assert!(fast.agrees(&slow), "{fast:?} {slow:?}");
    }

    #[test]
    fn descent_equals_burns(count in 1..3000_usize, shared: bool, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (x, g) = (random([count], &mut rng).inner(), random([count], &mut rng).inner());
        let kept = shared.then(|| x.clone());
        let before = read(x.clone());
        let want: Vec<f32> = before.iter().zip(read(g.clone())).map(|(x, g)| x - 0.3 * g).collect();
        prop_assert_eq!(read(descend(x, 0.3, g)), want);
        prop_assert!(kept.is_none_or(|kept| read(kept) == before));
    }
}

/// The same tensor, its channels together in memory.
fn together_in_memory(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let together = x.permute([0, 2, 3, 1]).reshape([batch, height * width * channels]);
    let together = Tensor::<2>::from_data(together.into_data(), &Device::flex());
    together.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
}

/// Every supported layer is computed by the kernels, so that the comparisons above are of two things.
#[test]
fn kernels_serve_plain_and_tracked_tensors() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let x = random([2, 3, 5, 5], &mut rng);
    let shape = [4, 3, 3, 3];
    let parameters = [random([108], &mut rng), random([4], &mut rng)];
    let layer = convolution(shape, [1, 1], &PaddingConfig2d::Same, &parameters);
    let y = flex::conv2d(&x, &layer).unwrap();
    assert!(flex::max_pool2d_relu(&y, &MaxPool2dConfig::new([2, 2]).init()).is_some());
    assert!(flex::avg_pool2d(&y, &AvgPool2dConfig::new([2, 2]).init()).is_some());
    assert!(flex::activate(&y, flex::Activation::Tanh).is_some());
    let norm = GroupNormConfig::new(2, 4).init(&Device::flex().autodiff());
    assert!(residual::group_norm(&y, &norm, true).is_some());
    assert!(residual::add_relu(&y, &y).is_some());
    let linear: Linear = LinearConfig::new(75, 2).init(&Device::flex().autodiff());
    let logits = flex::linear(&x.clone().reshape([2, 75]), &linear, true).unwrap();
    assert!(flex::cross_entropy(&logits, &[0, 1]).is_some());
    let plain = Conv2dConfig::new([3, 4], [3, 3]).init(&Device::flex());
    assert!(flex::conv2d(&x.clone().inner(), &plain).is_some());
    // Differentiable weights on plain images are Burn's business, dilation too.
    assert!(flex::conv2d(&x.clone().inner(), &layer).is_none());
    let dilated = Conv2dConfig::new([3, 4], [3, 3]).with_dilation([2, 2]).init(&Device::flex().autodiff());
    assert!(flex::conv2d(&x, &dilated).is_none());
}

/// Two 2×2 windows of one channel by hand: the first has its maximum 4 last, in the second nothing is
/// above 0.
#[test]
fn pooling_by_hand() {
    let device = Device::flex().autodiff();
    let x = [[1.0, 2.0, -1.0, -2.0], [3.0, 4.0, -3.0, 0.0]];
    let x = Tensor::<4>::from_data([[x]], &device).require_grad();
    let y = max_pool2d_relu(x.clone(), &MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init());
    let gradients = y.clone().sum().backward();
    assert_eq!(read(y), [4.0, 0.0]);
    assert_eq!(read(x.grad(&gradients).unwrap()), [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn tanh_by_known_values() {
    for (x, want) in
        [(0.0_f64, 0.0_f64), (0.5, 0.462_117_157), (1.0, 0.761_594_156), (-3.0, -0.995_054_754), (40.0, 1.0)]
    {
        assert!((f64::from(simd::tanh(x as f32)) - want).abs() < 2e-7, "{x}");
    }
    for i in -200_000..200_000 {
        let x = f64::from(i) * 5e-5;
        let (got, want) = (f64::from(simd::tanh(x as f32)), f64::from(x as f32).tanh());
        assert!((got - want).abs() <= 4.0 * f64::from(f32::EPSILON) * want.abs(), "{x}: {got} {want}");
    }
}

#[test]
fn nan_passes() {
    let device = Device::flex();
    assert!(simd::tanh(f32::NAN).is_nan());
    let x = Tensor::<4>::full([1, 1, 2, 2], f32::NAN, &device);
    assert!(read(max_pool2d_relu(x.clone(), &MaxPool2dConfig::new([2, 2]).init()))[0].is_nan());
    assert!(read(relu(x.clone())).iter().all(|y| y.is_nan()));
    let layer = LinearConfig::new(4, 3).init(&device);
    assert!(read(linear_relu(x.flatten(1, 3), &layer)).iter().all(|y| y.is_nan()));
}
