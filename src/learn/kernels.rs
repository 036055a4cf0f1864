//! Layers at the speed of the processor.
//!
//! Every function here computes what Burn's own layers compute, and is that on every device but the CPU backend `flex`. There,
//! images keep their channels together in memory, layers are products in registers (`product`), bias, pooling and ReLU
//! are part of the layer before or after them, and each layer is one node of Burn's graph with a backward pass of its own.
//! A kernel runs on the calling thread: clients, not layers, are what is computed in parallel.
//!
//! | function | is |
//! |---|---|
//! | [`conv2d`] | `layer.forward(x)` |
//! | [`max_pool2d_relu`] | `relu(layer.forward(x))` |
//! | [`avg_pool2d`] | `layer.forward(x)` |
//! | [`tanh`] | `activation::tanh(x)` |
//! | [`linear`], [`linear_relu`] | `layer.forward(x)`, and `relu` of it |
//! | [`cross_entropy`] | the mean of `-log_softmax(logits)` at the labels |
//! | [`descend`] | `weight - gradient * rate` |
//!
//! Layers with dilation or groups, and weights of another precision than `f32`, are left to Burn.

#[cfg(feature = "flex")]
mod affine;
#[cfg(feature = "flex")]
mod conv;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod pool;
#[cfg(feature = "flex")]
mod product;
#[cfg(feature = "flex")]
mod simd;
#[cfg(feature = "flex")]
mod window;

use burn::{
    nn::{
        Linear,
        conv::Conv2d,
        pool::{AvgPool2d, MaxPool2d},
    },
    tensor::{
        Int, Tensor, TensorData,
        activation::{self, log_softmax, relu},
    },
};

/// The convolution `layer` of `x` `[batch, channels, height, width]`.
#[must_use]
pub fn conv2d(x: Tensor<4>, layer: &Conv2d) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::conv2d(&x, layer) {
        return y;
    }
    layer.forward(x)
}

/// ReLU of the pooling `layer` of `x` `[batch, channels, height, width]`. ReLU and maximum commute.
#[must_use]
pub fn max_pool2d_relu(x: Tensor<4>, layer: &MaxPool2d) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::max_pool2d_relu(&x, layer) {
        return y;
    }
    relu(layer.forward(x))
}

/// The mean pooling `layer` of `x` `[batch, channels, height, width]`.
#[must_use]
pub fn avg_pool2d(x: Tensor<4>, layer: &AvgPool2d) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::avg_pool2d(&x, layer) {
        return y;
    }
    layer.forward(x)
}

/// The hyperbolic tangent of every element.
#[must_use]
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::tanh(&x) {
        return y;
    }
    activation::tanh(x)
}

/// The linear `layer` of `x` `[batch, inputs]`.
#[must_use]
pub fn linear(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::linear(&x, layer, false) {
        return y;
    }
    layer.forward(x)
}

/// ReLU of the linear `layer` of `x` `[batch, inputs]`.
#[must_use]
pub fn linear_relu(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::linear(&x, layer, true) {
        return y;
    }
    relu(layer.forward(x))
}

/// The mean cross-entropy in nats, shape `[1]`, of `logits` `[batch, classes]` and the classes `labels` `[batch]`.
#[must_use]
pub fn cross_entropy(logits: Tensor<2>, labels: &[u8]) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if let Some(loss) = flex::cross_entropy(&logits, labels) {
        return loss;
    }
    let (device, count) = (logits.device(), labels.len());
    let labels = labels.iter().map(|&label| i32::from(label)).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new::<i32, _>(labels, [count, 1]), &device);
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

/// `weight` − `rate` · `gradient`, in the memory of `weight` where nothing else uses it.
#[must_use]
pub fn descend(weight: Tensor<1>, rate: f64, gradient: Tensor<1>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if flex::here(&weight) && flex::here(&gradient) {
        return flex::descend(weight, rate, gradient);
    }
    weight - gradient.mul_scalar(rate)
}

#[cfg(all(test, feature = "flex"))]
pub(super) mod tests;
