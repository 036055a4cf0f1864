//! Layers of several clients at once. Their parameters lie one after the other along the first axis of each
//! parameter, and their channels beside each other in the input.
//!
//! A convolution is a product of patches with filters for each image of each client: a convolution in groups
//! would be one kernel a client in Burn's backward pass for the weights.

use burn::{
    nn::{GroupNorm, Linear, conv::Conv2d},
    tensor::{Device, Int, Tensor, TensorData, activation::log_softmax},
};

use super::window::Windows;

/// The number of clients, if there are several.
fn several(all: usize, each: usize) -> Option<usize> {
    (each > 0 && all > each && all.is_multiple_of(each)).then(|| all / each)
}

/// The clients whose filters `layer` holds, from the channels of `x`; `None` for a single one.
pub(super) fn of_conv2d(x: &Tensor<4>, layer: &Conv2d) -> Option<usize> {
    several(x.dims()[1], layer.weight.dims()[1] * layer.groups)
}

/// The clients whose weights `layer` holds, from its bias; `None` for a single one.
pub(super) fn of_linear(layer: &Linear) -> Option<usize> {
    several(layer.bias.as_ref()?.dims()[0], layer.weight.dims()[1])
}

/// The clients on whose channels `layer` works; `None` for a single one.
pub(super) fn of_group_norm(x: &Tensor<4>, layer: &GroupNorm) -> Option<usize> {
    several(x.dims()[1], layer.num_channels)
}

/// For each place in a window and each window, the pixel of the padded image.
fn patches(windows: &Windows, device: &Device) -> Tensor<1, Int> {
    let ([rows, columns], [below, beside]) = (windows.size, windows.count);
    let width = windows.padded()[1];
    let mut pixels = Vec::with_capacity(rows * columns * below * beside);
    for place in 0..rows * columns {
        for window in 0..below * beside {
            let row = window / beside * windows.stride[0] + place / columns;
            let column = window % beside * windows.stride[1] + place % columns;
            pixels.push((row * width + column) as i32);
        }
    }
    let count = pixels.len();
    Tensor::from_data(TensorData::new(pixels, [count]), device)
}

/// `x` `[batch, clients · channels, height, width]` to `[batch, clients · filters, height, width]`.
///
/// # Panics
/// For a layer with dilation or groups or a padding as long as its window, and for images smaller than that.
pub(super) fn conv2d(x: Tensor<4>, layer: &Conv2d, clients: usize) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let (weight, device) = (layer.weight.val(), x.device());
    let [filters, depth, rows, columns] = weight.dims();
    assert!(layer.dilation == [1, 1] && layer.groups == 1, "a layer without dilation and groups");
    let windows = Windows::new([height, width], [rows, columns], layer.stride, &layer.padding)
        .expect("images as large as the window, a padding shorter than it");
    let ([top, left], [bottom, right]) = (windows.before, windows.after);
    let x = if windows.padded() == windows.image { x } else { x.pad((left, right, top, bottom), 0.0) };
    let pixels = windows.padded().iter().product::<usize>();
    let patches = x.reshape([batch * channels, pixels]).select(1, patches(&windows, &device));
    let patches = patches.reshape([batch, clients, depth * rows * columns, windows.windows()]);
    let weight = weight.reshape([1, clients, filters / clients, depth * rows * columns]);
    let y = weight.matmul(patches);
    let y = match &layer.bias {
        Some(bias) => y + bias.val().reshape([1, clients, filters / clients, 1]),
        None => y,
    };
    y.reshape([batch, filters, windows.count[0], windows.count[1]])
}

/// `x` `[batch, clients · inputs]` to `[batch, clients · outputs]`.
pub(super) fn linear(x: Tensor<2>, layer: &Linear, clients: usize) -> Tensor<2> {
    let ([batch, inputs], [_, outputs]) = (x.dims(), layer.weight.dims());
    let x = x.reshape([batch, clients, inputs / clients]).swap_dims(0, 1);
    let y = x.matmul(layer.weight.val().reshape([clients, inputs / clients, outputs]));
    let y = match &layer.bias {
        Some(bias) => y + bias.val().reshape([clients, 1, outputs]),
        None => y,
    };
    y.swap_dims(0, 1).reshape([batch, clients * outputs])
}

/// `x` `[batch, clients · channels, height, width]` with each group of each client's channels normalised.
pub(super) fn group_norm(x: Tensor<4>, layer: &GroupNorm, clients: usize) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let groups = clients * layer.num_groups;
    let x = x.reshape([batch, groups, channels / groups * height * width]);
    let x = x.clone() - x.mean_dim(2);
    let variance = x.clone().square().mean_dim(2);
    let y = x / variance.add_scalar(layer.epsilon).sqrt();
    let y = y.reshape([batch, channels, height, width]);
    match (&layer.gamma, &layer.beta) {
        (Some(gamma), Some(beta)) => {
            let each = [1, channels, 1, 1];
            y * gamma.val().reshape(each) + beta.val().reshape(each)
        }
        _ => y,
    }
}

/// See [`super::cross_entropy`].
pub(super) fn cross_entropy(logits: Tensor<2>, labels: &[impl AsRef<[u16]>]) -> Tensor<1> {
    let device = logits.device();
    let ([batch, classes], clients) = (logits.dims(), labels.len());
    let (mut each, mut shares) = (vec![0i32; batch * clients], vec![0.0f32; batch * clients]);
    for (k, labels) in labels.iter().map(AsRef::as_ref).enumerate() {
        for (i, label) in labels.iter().enumerate() {
            each[i * clients + k] = i32::from(*label);
            shares[i * clients + k] = 1.0 / labels.len() as f32;
        }
    }
    let each = Tensor::<2, Int>::from_data(TensorData::new(each, [batch * clients, 1]), &device);
    let shares = Tensor::<2>::from_data(TensorData::new(shares, [batch, clients]), &device);
    let likelihood = log_softmax(logits.reshape([batch * clients, classes / clients]), 1).gather(1, each);
    (likelihood.reshape([batch, clients]) * shares).sum_dim(0).neg().reshape([clients])
}
