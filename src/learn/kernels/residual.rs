//! Group normalisation and the sum of two paths as operations of Burn's backend `flex`.

use burn::{
    backend::{
        Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops},
        },
    },
    nn::GroupNorm,
    tensor::Tensor,
};

use super::{
    flex::{Plain, elementwise, finish, images, lives, ordered, plain, slice, tensor, together, tracked},
    norm::{self, Norm, Statistics},
    simd,
};

/// `None` where the layer is Burn's to compute.
pub(super) fn group_norm(x: &Tensor<4>, layer: &GroupNorm, relu: bool) -> Option<Tensor<4>> {
    let [_, channels, height, width] = x.dims();
    let (gamma, beta) = (layer.gamma.as_ref()?.val(), layer.beta.as_ref()?.val());
    let place = lives(x)?;
    let usual = channels == layer.num_channels && channels > 0 && height * width > 0;
    if !usual || lives(&gamma)? != place || lives(&beta)? != place {
        return None;
    }
    let norm = |gamma: &Plain, beta: &Plain| Norm {
        groups: layer.num_groups,
        epsilon: layer.epsilon as f32,
        gamma: slice(&ordered(gamma)).to_vec(),
        beta: slice(&ordered(beta)).to_vec(),
        pixels: height * width,
        relu,
    };
    if !place {
        let (y, _) = norm::forward(slice(&together(&plain(x.clone()))), &norm(&plain(gamma), &plain(beta)));
        return Some(Tensor::from_primitive::<Flex>(images(y, channels, [height, width])));
    }
    let (x, x_node) = tracked(x.clone())?.into_parts();
    let (gamma, gamma_node) = tracked(gamma)?.into_parts();
    let (beta, beta_node) = tracked(beta)?.into_parts();
    let (x, norm) = (together(&x), norm(&gamma, &beta));
    let (y, statistics) = norm::forward(slice(&x), &norm);
    let prepared =
        Normalisation.prepare::<NoCheckpointing>([x_node, gamma_node, beta_node]).compute_bound().stateful();
    let y = images(y, channels, [height, width]);
    Some(finish(prepared, (x, norm, statistics, [height, width]), y))
}

#[derive(Debug)]
struct Normalisation;

impl Backward<Flex, 3> for Normalisation {
    /// Input with its channels together, layer, statistics, height and width.
    type State = (Plain, Norm, Statistics, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (x, norm, statistics, image) = ops.state;
        let channels = norm.gamma.len();
        let gradient = together(&gradients.consume::<Flex>(&ops.node));
        let (x, gamma, beta) = norm::backward(slice(&gradient), slice(&x), &statistics, &norm);
        let [to_x, to_gamma, to_beta] = ops.parents;
        if let Some(node) = to_x {
            gradients.register::<Flex>(node.id, images(x, channels, image));
        }
        for (node, gradient) in [(to_gamma, gamma), (to_beta, beta)] {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, tensor(gradient, [channels]));
            }
        }
    }
}

/// `None` where it is Burn's to compute.
pub(super) fn add_relu(x: &Tensor<4>, other: &Tensor<4>) -> Option<Tensor<4>> {
    let place = lives(x)?;
    if lives(other)? != place || x.dims() != other.dims() {
        return None;
    }
    let add = |x: &Plain, other: &Plain| {
        elementwise(x, other, |x, other| {
            let mut y = x.to_vec();
            simd::for_each_pair(&mut y, other, |y, other| {
                let sum = *y + other;
                // NaN, the sign of divergence, must pass.
                *y = if sum <= 0.0 { 0.0 } else { sum };
            });
            y
        })
    };
    if !place {
        let y = add(&plain(x.clone()), &plain(other.clone()));
        return Some(Tensor::from_primitive::<Flex>(y));
    }
    let (x, x_node) = tracked(x.clone())?.into_parts();
    let (other, other_node) = tracked(other.clone())?.into_parts();
    let y = add(&x, &other);
    let prepared = AddRelu.prepare::<NoCheckpointing>([x_node, other_node]).compute_bound().stateful();
    Some(finish(prepared, y.clone(), y))
}

#[derive(Debug)]
struct AddRelu;

impl Backward<Flex, 2> for AddRelu {
    /// The output.
    type State = Plain;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let own = elementwise(&gradient, &ops.state, |gradient, y| {
            let mut own = gradient.to_vec();
            simd::relu_gradient(&mut own, y);
            own
        });
        for node in ops.parents.into_iter().flatten() {
            gradients.register::<Flex>(node.id, own.clone());
        }
    }
}
