//! The linear layer x·W + b with and without ReLU, and its gradients.

use super::product::{Product, Rows, Start};
use super::spare;

/// `[batch, outputs]` of `x` `[batch, inputs]`, `weight` `[inputs, outputs]` and `bias` `[outputs]`; with
/// `relu`, its maximum with 0.
pub(super) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [inputs, outputs]: [usize; 2],
    relu: bool,
) -> Vec<f32> {
    let starts: Vec<usize> = (0..x.len() / inputs).map(|example| example * inputs).collect();
    let mut y = vec![0.0; starts.len() * outputs];
    Product {
        a: x,
        rows: Rows::At(&starts),
        runs: &[0],
        terms: inputs,
        b: weight,
        c: &mut y,
        columns: outputs,
        start: bias.map_or(Start::Zero, Start::Bias),
        relu,
    }
    .run();
    y
}

/// The gradient of the weights, `[inputs, outputs]`.
pub(super) fn weight_gradient(x: &[f32], gradient: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let mut sum = spare::take(inputs * outputs);
    Product {
        a: x,
        rows: Rows::Beside { rows: inputs, step: inputs },
        runs: &[0],
        terms: x.len() / inputs,
        b: gradient,
        c: &mut sum,
        columns: outputs,
        start: Start::Zero,
        relu: false,
    }
    .run();
    sum
}

/// The gradient of `x`, `[batch, inputs]`.
pub(super) fn input_gradient(gradient: &[f32], weight: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let batch = gradient.len() / outputs;
    // Both operands are read along the outputs. Of one the transpose must be written first: of W, or of the
    // gradient and what comes out.
    if inputs * outputs < batch * (inputs + outputs) {
        forward(gradient, &transposed(weight, outputs), None, [outputs, inputs], false)
    } else {
        transposed(&forward(weight, &transposed(gradient, outputs), None, [outputs, batch], false), batch)
    }
}

/// The transpose of a matrix with that many columns, in blocks that fit the cache.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let rows = matrix.len() / columns.max(1);
    let mut transpose = vec![0.0; matrix.len()];
    for first in (0..rows).step_by(BLOCK) {
        let last = rows.min(first + BLOCK);
        for (column, transpose) in transpose.chunks_exact_mut(rows).enumerate() {
            for (row, value) in (first..last).zip(&mut transpose[first..last]) {
                *value = matrix[row * columns + column];
            }
        }
    }
    transpose
}
