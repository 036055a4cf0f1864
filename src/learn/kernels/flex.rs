//! The kernels as operations of Burn's backend `flex`, with and without automatic differentiation.

use std::sync::Arc;

use super::{
    affine,
    conv::{Conv, Images},
    pool, simd, spare,
    window::Windows,
};
use burn::{
    backend::{
        Autodiff, DispatchDevice, Flex, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        tensor::FloatTensor,
    },
    nn::{
        Linear,
        conv::Conv2d,
        pool::{AvgPool2d, MaxPool2d},
    },
    tensor::{DType, Shape, Tensor, TensorData},
};

/// A tensor without, and one with automatic differentiation.
pub(super) type Plain = FloatTensor<Flex>;
pub(super) type Tracked = FloatTensor<Autodiff<Flex>>;

/// Whether a tensor is one of `flex` in single precision, without automatic differentiation.
pub(super) fn here<const D: usize>(x: &Tensor<D>) -> bool {
    lives(x) == Some(false)
}

/// For a tensor of `flex` in single precision: whether it has automatic differentiation.
pub(super) fn lives<const D: usize>(x: &Tensor<D>) -> Option<bool> {
    #[cfg(test)]
    if super::tests::without_kernels() {
        return None;
    }
    let device = x.device();
    let tracked = device.is_autodiff();
    let flex = matches!(device.inner().as_dispatch(), DispatchDevice::Flex(_));
    (flex && x.dtype() == DType::F32).then_some(tracked)
}

pub(super) fn plain<const D: usize>(x: Tensor<D>) -> Plain {
    x.try_into_primitive::<Flex>().expect("a plain tensor of flex")
}

/// `None` for a tensor whose gradients are recomputed instead of kept.
pub(super) fn tracked<const D: usize>(x: Tensor<D>) -> Option<Tracked> {
    x.try_into_primitive::<Autodiff<Flex>>().ok()
}

/// `values` in the shape `shape`.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Plain {
    Plain::from_data(TensorData::new(values, shape))
}

/// `[batch, height, width, channels]` in memory as `[batch, channels, height, width]`.
pub(super) fn images(values: Vec<f32>, channels: usize, [height, width]: [usize; 2]) -> Plain {
    let batch = values.len() / (channels * height * width).max(1);
    tensor(values, [batch, height, width, channels]).permute(&[0, 3, 1, 2])
}

/// The tensor with its values in the order of its indices.
pub(super) fn ordered(x: &Plain) -> Plain {
    x.to_contiguous()
}

/// Channels together: the tensor `[batch, height, width, channels]` of `[batch, channels, height, width]`.
pub(super) fn together(x: &Plain) -> Plain {
    x.permute(&[0, 2, 3, 1]).to_contiguous()
}

pub(super) fn slice(x: &Plain) -> &[f32] {
    x.as_slice().expect("ordered values in single precision")
}

/// Runs `compute` on the images of `x` as they lie.
fn with_images<T>(x: &Plain, compute: impl FnOnce(Images<'_>) -> T) -> T {
    match x.permute(&[0, 2, 3, 1]).as_slice() {
        Some(values) => compute(Images::Together(values)),
        None => compute(Images::Apart(slice(&ordered(x)))),
    }
}

/// `y` as the outcome of an operation that keeps `state` for its backward pass.
pub(super) fn finish<O: Backward<Flex, N>, C, const N: usize, const D: usize>(
    prepared: OpsKind<O, Flex, O::State, C, N>,
    state: O::State,
    y: Plain,
) -> Tensor<D> {
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(state, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

fn convolve(conv: &Conv, x: &Plain, weight: &Plain, bias: Option<&Plain>) -> Plain {
    let (weight, bias) = (ordered(weight), bias.map(ordered));
    let y = with_images(x, |x| conv.forward(x, slice(&weight), bias.as_ref().map(slice)));
    images(y, conv.filters, conv.windows.count)
}

/// `None` where the layer is Burn's to compute.
pub(super) fn conv2d(x: &Tensor<4>, layer: &Conv2d) -> Option<Tensor<4>> {
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()));
    let [_, channels, height, width] = x.dims();
    let [filters, depth, rows, columns] = weight.dims();
    let windows = Windows::new([height, width], [rows, columns], layer.stride, &layer.padding)?;
    let usual = layer.dilation == [1, 1] && layer.groups == 1 && depth == channels;
    let place = lives(x)?;
    if !usual || lives(&weight)? != place || channels * filters == 0 {
        return None;
    }
    let conv = Conv { windows, channels, filters };
    if !place {
        let bias = bias.map(plain);
        let y = convolve(&conv, &plain(x.clone()), &plain(weight), bias.as_ref());
        return Some(Tensor::from_primitive::<Flex>(y));
    }
    let (x, x_node) = tracked(x.clone())?.into_parts();
    let (weight, weight_node) = tracked(weight)?.into_parts();
    let bias = bias.map(tracked).map_or(Some(None), |bias| bias.map(Some))?;
    let y = convolve(&conv, &x, &weight, bias.as_ref().map(|bias| bias.primitive()));
    let bias_node = bias.unwrap_or_else(|| Tracked::new(tensor(Vec::new(), [0]))).node();
    let prepared =
        Convolution.prepare::<NoCheckpointing>([x_node, weight_node, bias_node]).compute_bound().stateful();
    Some(finish(prepared, (conv, x, weight), y))
}

#[derive(Debug)]
struct Convolution;

impl Backward<Flex, 3> for Convolution {
    type State = (Conv, Plain, Plain);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (conv, x, weight) = ops.state;
        let gradient = together(&gradients.consume::<Flex>(&ops.node));
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_bias {
            let sums = simd::column_sums(slice(&gradient), conv.filters);
            gradients.register::<Flex>(node.id, tensor(sums, [conv.filters]));
        }
        if let Some(node) = to_weight {
            let sum = with_images(&x, |x| conv.weight_gradient(x, slice(&gradient)));
            gradients.register::<Flex>(node.id, tensor(sum, weight.shape()));
        }
        if let Some(node) = to_x {
            let y = conv.image_gradient(slice(&gradient), slice(&ordered(&weight)));
            gradients.register::<Flex>(node.id, images(y, conv.channels, conv.windows.image));
        }
    }
}

/// `None` where the layer is Burn's to compute.
pub(super) fn max_pool2d_relu(x: &Tensor<4>, layer: &MaxPool2d) -> Option<Tensor<4>> {
    let [_, channels, height, width] = x.dims();
    let windows = Windows::new([height, width], layer.kernel_size, layer.stride, &layer.padding)?;
    let places = layer.kernel_size[0] * layer.kernel_size[1];
    let place = lives(x)?;
    if layer.dilation != [1, 1] || layer.ceil_mode || places >= 255 || channels == 0 {
        return None;
    }
    let pool = |x: &Plain| {
        let (y, places) = pool::forward(slice(&together(x)), &windows, channels);
        (images(y, channels, windows.count), places)
    };
    if !place {
        return Some(Tensor::from_primitive::<Flex>(pool(&plain(x.clone())).0));
    }
    let (x, node) = tracked(x.clone())?.into_parts();
    let (y, places) = pool(&x);
    let prepared = MaxPool.prepare::<NoCheckpointing>([node]).compute_bound().stateful();
    Some(finish(prepared, (windows, channels, places.into()), y))
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    type State = (Windows, usize, Arc<Vec<u8>>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (windows, channels, places) = ops.state;
        let gradient = together(&gradients.consume::<Flex>(&ops.node));
        if let [Some(node)] = ops.parents {
            let x = pool::backward(slice(&gradient), &places, &windows, channels);
            gradients.register::<Flex>(node.id, images(x, channels, windows.image));
        }
    }
}

/// `None` where the layer is Burn's to compute.
pub(super) fn avg_pool2d(x: &Tensor<4>, layer: &AvgPool2d) -> Option<Tensor<4>> {
    let [_, channels, height, width] = x.dims();
    let windows = Windows::new([height, width], layer.kernel_size, layer.stride, &layer.padding)?;
    let place = lives(x)?;
    if windows.padded() != windows.image || layer.ceil_mode || channels == 0 {
        return None;
    }
    let pool =
        |x: &Plain| images(pool::mean(slice(&together(x)), &windows, channels), channels, windows.count);
    if !place {
        return Some(Tensor::from_primitive::<Flex>(pool(&plain(x.clone()))));
    }
    let (x, node) = tracked(x.clone())?.into_parts();
    let y = pool(&x);
    let prepared = AvgPool.prepare::<NoCheckpointing>([node]).compute_bound().stateful();
    Some(finish(prepared, (windows, channels), y))
}

#[derive(Debug)]
struct AvgPool;

impl Backward<Flex, 1> for AvgPool {
    type State = (Windows, usize);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (windows, channels) = ops.state;
        let gradient = together(&gradients.consume::<Flex>(&ops.node));
        if let [Some(node)] = ops.parents {
            let x = pool::mean_backward(slice(&gradient), &windows, channels);
            gradients.register::<Flex>(node.id, images(x, channels, windows.image));
        }
    }
}

/// Applies `compute` to the values of `x` and those of `other` in the same order; images in the order that
/// the kernels keep them in.
pub(super) fn elementwise(
    x: &Plain,
    other: &Plain,
    compute: impl FnOnce(&[f32], &[f32]) -> Vec<f32>,
) -> Plain {
    match x.shape()[..] {
        [_, channels, height, width] => {
            images(compute(slice(&together(x)), slice(&together(other))), channels, [height, width])
        }
        _ => tensor(compute(slice(&ordered(x)), slice(&ordered(other))), x.shape()),
    }
}

/// A function of every element, whose derivative is one of its value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Activation {
    Tanh,
    Relu,
}

impl Activation {
    fn apply(self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        match self {
            Self::Tanh => simd::for_each_pair(&mut y, x, |y, x| *y = simd::tanh(x)),
            // Not a maximum: NaN, the sign of divergence, must pass.
            Self::Relu => simd::for_each_pair(&mut y, x, |y, x| *y = if x <= 0.0 { 0.0 } else { x }),
        }
        y
    }

    /// The gradient before the function from the one behind it.
    fn gradient(self, behind: &[f32], y: &[f32]) -> Vec<f32> {
        let mut before = behind.to_vec();
        match self {
            Self::Tanh => simd::for_each_pair(&mut before, y, |gradient, y| *gradient *= 1.0 - y * y),
            Self::Relu => simd::relu_gradient(&mut before, y),
        }
        before
    }
}

/// `None` where it is Burn's to compute.
pub(super) fn activate<const D: usize>(x: &Tensor<D>, activation: Activation) -> Option<Tensor<D>> {
    let place = lives(x)?;
    let forward = |x: &Plain| elementwise(x, x, |x, _| activation.apply(x));
    if !place {
        return Some(Tensor::from_primitive::<Flex>(forward(&plain(x.clone()))));
    }
    let (x, node) = tracked(x.clone())?.into_parts();
    let y = forward(&x);
    let prepared = Activate.prepare::<NoCheckpointing>([node]).compute_bound().stateful();
    Some(finish(prepared, (activation, y.clone()), y))
}

#[derive(Debug)]
struct Activate;

impl Backward<Flex, 1> for Activate {
    /// The function and its values.
    type State = (Activation, Plain);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (activation, y) = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            let x = elementwise(&gradient, &y, |gradient, y| activation.gradient(gradient, y));
            gradients.register::<Flex>(node.id, x);
        }
    }
}

/// `None` where the layer is Burn's to compute.
pub(super) fn linear(x: &Tensor<2>, layer: &Linear, relu: bool) -> Option<Tensor<2>> {
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()));
    let ([batch, width], [inputs, outputs]) = (x.dims(), weight.dims());
    let place = lives(x)?;
    if lives(&weight)? != place || width != inputs || inputs * outputs == 0 {
        return None;
    }
    let forward = |x: &Plain, weight: &Plain, bias: Option<&Plain>| {
        let (weight, bias) = (ordered(weight), bias.map(ordered));
        let bias = bias.as_ref().map(slice);
        tensor(affine::forward(slice(x), slice(&weight), bias, [inputs, outputs], relu), [batch, outputs])
    };
    if !place {
        let bias = bias.map(plain);
        let y = forward(&ordered(&plain(x.clone())), &plain(weight), bias.as_ref());
        return Some(Tensor::from_primitive::<Flex>(y));
    }
    let (x, x_node) = tracked(x.clone())?.into_parts();
    let (weight, weight_node) = tracked(weight)?.into_parts();
    let bias = bias.map(tracked).map_or(Some(None), |bias| bias.map(Some))?;
    let x = ordered(&x);
    let y = forward(&x, &weight, bias.as_ref().map(|bias| bias.primitive()));
    let bias_node = bias.unwrap_or_else(|| Tracked::new(tensor(Vec::new(), [0]))).node();
    let prepared =
        LinearRelu.prepare::<NoCheckpointing>([x_node, weight_node, bias_node]).compute_bound().stateful();
    Some(finish(prepared, (x, weight, relu.then(|| y.clone())), y))
}

#[derive(Debug)]
struct LinearRelu;

impl Backward<Flex, 3> for LinearRelu {
    /// Input, weights and, with ReLU, output.
    type State = (Plain, Plain, Option<Plain>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, y) = ops.state;
        let mut gradient = ordered(&gradients.consume::<Flex>(&ops.node));
        let (batch, shape) = (x.shape()[0], weight.shape());
        let sizes = [shape[0], shape[1]];
        if let Some(y) = y {
            simd::relu_gradient(gradient.storage_mut(), slice(&y));
        }
        let gradient = slice(&gradient);
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_bias {
            gradients.register::<Flex>(node.id, tensor(simd::column_sums(gradient, sizes[1]), [sizes[1]]));
        }
        if let Some(node) = to_weight {
            let sum = affine::weight_gradient(slice(&x), gradient, sizes);
            gradients.register::<Flex>(node.id, tensor(sum, shape));
        }
        if let Some(node) = to_x {
            let x = affine::input_gradient(gradient, slice(&ordered(&weight)), sizes);
            gradients.register::<Flex>(node.id, tensor(x, [batch, sizes[0]]));
        }
    }
}

/// `None` where it is Burn's to compute.
pub(super) fn cross_entropy(logits: &Tensor<2>, labels: &[u16]) -> Option<Tensor<1>> {
    let [batch, classes] = logits.dims();
    if !lives(logits)? || batch == 0 || labels.len() != batch {
        return None;
    }
    let (logits, node) = tracked(logits.clone())?.into_parts();
    // Softmax − one-hot, divided by the size of the batch: the gradient.
    let mut gradient = slice(&ordered(&logits)).to_vec();
    let mut loss = 0.0;
    for (row, &label) in gradient.chunks_exact_mut(classes).zip(labels) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let own = row[usize::from(label)] - top;
        row.iter_mut().for_each(|x| *x = (*x - top).exp());
        let sum: f32 = row.iter().sum();
        loss += sum.ln() - own;
        row.iter_mut().for_each(|x| *x /= sum * batch as f32);
        row[usize::from(label)] -= (batch as f32).recip();
    }
    let loss = tensor(vec![loss / batch as f32], [1]);
    let prepared = CrossEntropy.prepare::<NoCheckpointing>([node]).compute_bound().stateful();
    Some(finish(prepared, tensor(gradient, [batch, classes]), loss))
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Flex, 1> for CrossEntropy {
    /// The gradient of the loss.
    type State = Plain;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let factor = slice(&ordered(&gradients.consume::<Flex>(&ops.node)))[0];
        if let [Some(node)] = ops.parents {
            let mut gradient = ops.state;
            gradient.storage_mut::<f32>().iter_mut().for_each(|x| *x *= factor);
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}

/// Both tensors are here.
pub(super) fn descend(weight: Tensor<1>, rate: f64, gradient: Tensor<1>) -> Tensor<1> {
    let (mut weight, gradient) = (ordered_owned(plain(weight)), ordered(&plain(gradient)));
    let rate = rate as f32;
    simd::for_each_pair(weight.storage_mut(), slice(&gradient), |weight, gradient| {
        *weight -= rate * gradient
    });
    spare::give(gradient);
    Tensor::from_primitive::<Flex>(weight)
}

/// [`ordered`], of the whole memory; it is not shared for it.
fn ordered_owned(x: Plain) -> Plain {
    let whole = x.bytes().len() == size_of_val(slice_or_empty(&x));
    if whole { x } else { x.to_contiguous() }
}

fn slice_or_empty(x: &Plain) -> &[f32] {
    x.as_slice().unwrap_or_default()
}
