//! Layers at the speed of the processor.
//!
//! Every function here computes what Burn's own layers compute, and is that on every device but the CPU
//! backend `flex`. There, images keep their channels together in memory, layers are products in registers
//! (`product`), of which 3×3 convolutions take a quarter (`winograd`), bias, pooling and ReLU are part of the
//! layer before or after them, and each layer is one node of Burn's graph with a backward pass of its own. A
//! kernel runs on the calling thread: clients, not layers, are what is computed in parallel.
//!
//! | function | is |
//! |---|---|
//! | [`conv2d`] | `layer.forward(x)` |
//! | [`max_pool2d_relu`] | `relu(layer.forward(x))` |
//! | [`avg_pool2d`] | `layer.forward(x)` |
//! | [`tanh`], [`relu`] | `activation::tanh(x)`, `activation::relu(x)` |
//! | [`linear`], [`linear_relu`] | `layer.forward(x)`, and `relu` of it |
//! | [`group_norm`], [`group_norm_relu`] | `layer.forward(x)`, and `relu` of it |
//! | [`add_relu`] | `relu(x + y)` |
//! | [`cross_entropy`] | the mean of `-log_softmax(logits)` at the labels |
//! | [`descend`] | `weight - gradient * rate` |
//!
//! A layer whose parameters are those of several clients along their first axis computes all of them, on the
//! channels of `x` that are each client's (`stack`): one operation each, on every device.
//!
//! Layers with dilation or groups, and weights of another precision than `f32`, are left to Burn.

#[cfg(feature = "flex")]
mod affine;
#[cfg(feature = "flex")]
mod conv;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod norm;
#[cfg(feature = "flex")]
mod pool;
#[cfg(feature = "flex")]
mod product;
#[cfg(feature = "flex")]
mod residual;
#[cfg(feature = "flex")]
mod simd;
#[cfg(feature = "flex")]
mod spare;
mod stack;
mod window;
#[cfg(feature = "flex")]
mod winograd;

use burn::{
    nn::{
        GroupNorm, Linear,
        conv::Conv2d,
        pool::{AvgPool2d, MaxPool2d},
    },
    tensor::{Tensor, activation},
};

/// The convolution `layer` of `x` `[batch, channels, height, width]`.
#[must_use]
pub fn conv2d(x: Tensor<4>, layer: &Conv2d) -> Tensor<4> {
    if let Some(clients) = stack::of_conv2d(&x, layer) {
        return stack::conv2d(x, layer, clients);
    }
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
    if let Some(y) = flex::activate(&x, flex::Activation::Tanh) {
        return y;
    }
    activation::tanh(x)
}

/// The maximum of every element and 0.
#[must_use]
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::activate(&x, flex::Activation::Relu) {
        return y;
    }
    activation::relu(x)
}

/// The linear `layer` of `x` `[batch, inputs]`.
#[must_use]
pub fn linear(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    if let Some(clients) = stack::of_linear(layer) {
        return stack::linear(x, layer, clients);
    }
    #[cfg(feature = "flex")]
    if let Some(y) = flex::linear(&x, layer, false) {
        return y;
    }
    layer.forward(x)
}

/// ReLU of the linear `layer` of `x` `[batch, inputs]`.
#[must_use]
pub fn linear_relu(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    if let Some(clients) = stack::of_linear(layer) {
        return relu(stack::linear(x, layer, clients));
    }
    #[cfg(feature = "flex")]
    if let Some(y) = flex::linear(&x, layer, true) {
        return y;
    }
    relu(layer.forward(x))
}

/// The group normalisation `layer` of `x` `[batch, channels, height, width]`.
#[must_use]
pub fn group_norm(x: Tensor<4>, layer: &GroupNorm) -> Tensor<4> {
    if let Some(clients) = stack::of_group_norm(&x, layer) {
        return stack::group_norm(x, layer, clients);
    }
    #[cfg(feature = "flex")]
    if let Some(y) = residual::group_norm(&x, layer, false) {
        return y;
    }
    layer.forward(x)
}

/// ReLU of the group normalisation `layer` of `x` `[batch, channels, height, width]`.
#[must_use]
pub fn group_norm_relu(x: Tensor<4>, layer: &GroupNorm) -> Tensor<4> {
    if let Some(clients) = stack::of_group_norm(&x, layer) {
        return relu(stack::group_norm(x, layer, clients));
    }
    #[cfg(feature = "flex")]
    if let Some(y) = residual::group_norm(&x, layer, true) {
        return y;
    }
    relu(layer.forward(x))
}

/// ReLU of the sum of two paths `[batch, channels, height, width]`.
#[must_use]
pub fn add_relu(x: Tensor<4>, other: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = residual::add_relu(&x, &other) {
        return y;
    }
    relu(x + other)
}

/// Each client's mean cross-entropy in nats, shape `[clients]`, of `logits`
/// `[longest batch, clients · classes]` and the classes `labels` of each client's batch; that of a client
/// without labels means nothing and has no gradient.
#[must_use]
pub fn cross_entropy(logits: Tensor<2>, labels: &[impl AsRef<[u16]>]) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if let [labels] = labels
        && let Some(loss) = flex::cross_entropy(&logits, labels.as_ref())
    {
        return loss;
    }
    stack::cross_entropy(logits, labels)
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

/// Gives up the memory that this thread keeps for the next step.
pub(super) fn forget() {
    #[cfg(feature = "flex")]
    spare::clear();
}

#[cfg(all(test, feature = "flex"))]
pub(super) mod tests;
