//! The linear layer x·W + b with and without ReLU, and its gradients.

use super::product::{Product, Rows, Start};

/// `[batch, outputs]` of `x` `[batch, inputs]`, `weight` `[inputs, outputs]` and `bias` `[outputs]`; with `relu`, its maximum
/// with 0.
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
    let mut sum = vec![0.0; inputs * outputs];
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
    // Rows of W are read along the outputs: its transpose would have to be written first, that of the gradient is short.
    let starts: Vec<usize> = (0..inputs).map(|input| input * outputs).collect();
    let mut across = vec![0.0; inputs * batch];
    Product {
        a: weight,
        rows: Rows::At(&starts),
        runs: &[0],
        terms: outputs,
        b: &transposed(gradient, outputs),
        c: &mut across,
        columns: batch,
        start: Start::Zero,
        relu: false,
    }
    .run();
    transposed(&across, batch)
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
