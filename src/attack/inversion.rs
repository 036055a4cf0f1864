//! Gradient inversion: the image behind a gradient of the `mlp` model on one image.
//!
//! Two attacks. *Closed form* (Geiping et al. 2020, *Inverting Gradients*, Prop. 3.1): a layer with bias has
//! ∂L/∂W = x δᵀ and ∂L/∂b = δ, so that x = (∂L/∂W) δ / ‖δ‖². *iDLG* (Zhu et al. 2019, *Deep Leakage from
//! Gradients*; Zhao et al. 2020): the label is the only negative entry of the last bias gradient, then
//! gradient matching, min over x of ‖∇L(x) − g‖², from a random start by Adam. The matching distance is
//! differentiated by hand: it needs one pass, and no second-order automatic differentiation.

use nalgebra::{DMatrix, DVector};
use rand_distr::{Distribution, StandardNormal};

use crate::seed::Seed;

/// Weights of the `mlp` model, as the flat vector holds them.
pub struct Mlp {
    /// Pixels × hidden units.
    w1: DMatrix<f64>,
    b1: DVector<f64>,
    /// Hidden units × classes.
    w2: DMatrix<f64>,
    b2: DVector<f64>,
}

impl Mlp {
    /// Takes the flat vector apart: W₁ `[pixels, hidden]`, b₁, W₂ `[hidden, classes]`, b₂, row by row.
    ///
    /// # Panics
    /// When `flat` has another length.
    #[must_use]
    pub fn new(flat: &[f64], pixels: usize, hidden: usize, classes: usize) -> Self {
        assert_eq!(flat.len(), (pixels + 1) * hidden + (hidden + 1) * classes, "weights of another model");
        let (w1, rest) = flat.split_at(pixels * hidden);
        let (b1, rest) = rest.split_at(hidden);
        let (w2, b2) = rest.split_at(hidden * classes);
        Self {
            w1: DMatrix::from_row_slice(pixels, hidden, w1),
            b1: DVector::from_column_slice(b1),
            w2: DMatrix::from_row_slice(hidden, classes, w2),
            b2: DVector::from_column_slice(b2),
        }
    }

    /// Half the matching distance between the gradient at (x, label) and `seen`, and its gradient in x.
    fn mismatch(&self, x: &DVector<f64>, label: usize, seen: &Mlp) -> (f64, DVector<f64>) {
        let z1 = self.w1.tr_mul(x) + &self.b1;
        let active = z1.map(|z| f64::from(u8::from(z > 0.0)));
        let h = z1.component_mul(&active);
        let logits = self.w2.tr_mul(&h) + &self.b2;
        let p = softmax(&logits);
        let mut r = p.clone();
        r[label] -= 1.0;
        let delta = (&self.w2 * &r).component_mul(&active);

        let e1 = x * delta.transpose() - &seen.w1;
        let f1 = &delta - &seen.b1;
        let e2 = &h * r.transpose() - &seen.w2;
        let f2 = &r - &seen.b2;
        let distance = 0.5 * (e1.norm_squared() + f1.norm_squared() + e2.norm_squared() + f2.norm_squared());

        let to_delta = (e1.tr_mul(x) + f1).component_mul(&active);
        let to_r = e2.tr_mul(&h) + f2 + self.w2.tr_mul(&to_delta);
        let to_logits = p.component_mul(&to_r) - &p * p.dot(&to_r);
        let to_h = (&e2 * &r + &self.w2 * to_logits).component_mul(&active);
        (distance, &e1 * &delta + &self.w1 * to_h)
    }
}

fn softmax(logits: &DVector<f64>) -> DVector<f64> {
    let top = logits.max();
    let p = logits.map(|z| (z - top).exp());
    let sum = p.sum();
    p / sum
}

/// The image by the closed form; pixels in the unit of the model's input.
#[must_use]
pub fn closed_form(gradient: &Mlp) -> Vec<f64> {
    let norm = gradient.b1.norm_squared().max(f64::MIN_POSITIVE);
    (&gradient.w1 * &gradient.b1 / norm).as_slice().to_vec()
}

/// The label that iDLG reads off a gradient: the smallest entry of the last bias gradient.
#[must_use]
pub fn label(gradient: &Mlp) -> usize {
    gradient.b2.imin()
}

/// The image by iDLG after `iterations` steps of Adam from a random start; pixels in the unit of the model's
/// input.
#[must_use]
pub fn idlg(model: &Mlp, gradient: &Mlp, iterations: usize, seed: Seed) -> Vec<f64> {
    const RATE: f64 = 0.1;
    let label = label(gradient);
    let mut rng = seed.rng();
    let pixels = model.w1.nrows();
    let mut x = DVector::from_fn(pixels, |_, _| StandardNormal.sample(&mut rng));
    let (mut mean, mut square) = (DVector::zeros(pixels), DVector::<f64>::zeros(pixels));
    let (mut best, mut least) = (x.clone(), f64::INFINITY);
    for step in 1..=iterations {
        let (distance, slope) = model.mismatch(&x, label, gradient);
        if distance < least {
            least = distance;
            best.copy_from(&x);
        }
        mean = 0.9 * mean + 0.1 * &slope;
        square = 0.999 * square + 0.001 * slope.component_mul(&slope);
        let (c1, c2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.999f64.powi(step as i32));
        // The step shrinks towards the end, so that the image settles.
        let rate = RATE * (1.0 - step as f64 / iterations as f64).max(0.05);
        x -= mean.zip_map(&square, |m, s| rate * (m / c1) / ((s / c2).sqrt() + 1e-12));
    }
    best.as_slice().to_vec()
}

/// Peak signal-to-noise ratio in dB of two images with values in \[0, 1\]; infinite when they are equal.
#[must_use]
pub fn psnr(a: &[f64], b: &[f64]) -> f64 {
    let mse = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64;
    -10.0 * mse.log10()
}

/// Mean structural similarity (Wang et al. 2004) of two images of `width` pixels a row with values in
/// \[0, 1\], over all 7 × 7 windows with uniform weights, K₁ = 0.01, K₂ = 0.03.
#[must_use]
pub fn ssim(a: &[f64], b: &[f64], width: usize) -> f64 {
    const SIDE: usize = 7;
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    let height = a.len() / width;
    let n = (SIDE * SIDE) as f64;
    let (mut total, mut windows) = (0.0, 0.0);
    for top in 0..=height.saturating_sub(SIDE) {
        for left in 0..=width.saturating_sub(SIDE) {
            let places =
                (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (top + row) * width + left + column));
            let (mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for i in places {
                sa += a[i];
                sb += b[i];
                saa += a[i] * a[i];
                sbb += b[i] * b[i];
                sab += a[i] * b[i];
            }
            let (ma, mb) = (sa / n, sb / n);
            let (va, vb, cov) = (saa / n - ma * ma, sbb / n - mb * mb, sab / n - ma * mb);
            total += (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
            windows += 1.0;
        }
    }
    total / windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn random(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed::new(seed).rng();
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// ∇L(x) of the model at (x, label), worked forward.
    fn gradient(model: &Mlp, x: &DVector<f64>, label: usize) -> Mlp {
        let z = model.w1.tr_mul(x) + &model.b1;
        let active = z.map(|z| f64::from(u8::from(z > 0.0)));
        let h = z.component_mul(&active);
        let mut r = softmax(&(model.w2.tr_mul(&h) + &model.b2));
        r[label] -= 1.0;
        let delta = (&model.w2 * &r).component_mul(&active);
        Mlp { w1: x * delta.transpose(), b1: delta, w2: &h * r.transpose(), b2: r }
    }

    fn case() -> (Mlp, DVector<f64>, Mlp) {
        let model = Mlp::new(&random(9 * 8 + 9 * 4, 1), 8, 8, 4);
        let x = DVector::from_vec(random(8, 2));
        let seen = gradient(&model, &x, 2);
        (model, x, seen)
    }

    #[test]
    fn the_slope_of_the_mismatch_is_its_finite_difference() {
        let (model, _, seen) = case();
        let x = DVector::from_vec(random(8, 3));
        let (_, slope) = model.mismatch(&x, 2, &seen);
        for i in 0..8 {
            let at = |step: f64| {
                let mut moved = x.clone();
                moved[i] += step;
                model.mismatch(&moved, 2, &seen).0
            };
            let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((numeric - slope[i]).abs() < 1e-6 * (1.0 + slope[i].abs()), "{numeric} for {}", slope[i]);
        }
    }

    #[test]
    fn both_attacks_recover_the_input_of_an_exact_gradient() {
        let (model, x, seen) = case();
        assert_eq!(label(&seen), 2);
        let distance = |found: &[f64]| (DVector::from_column_slice(found) - &x).amax();
        assert!(distance(&closed_form(&seen)) < 1e-12);
        assert!(distance(&idlg(&model, &seen, 2000, Seed::new(4))) < 0.05);
    }

    #[test]
    fn image_measures_worked_by_hand() {
        let a = vec![0.5; 49];
        let b = vec![0.6; 49];
        assert!((psnr(&a, &b) - 20.0).abs() < 1e-9);
        assert_eq!(psnr(&a, &a), f64::INFINITY);
        assert!((ssim(&a, &a, 7) - 1.0).abs() < 1e-12);
        // Flat images differ in luminance only: (2·0.5·0.6 + c₁) / (0.25 + 0.36 + c₁).
        assert!((ssim(&a, &b, 7) - 0.6001 / 0.6101).abs() < 1e-9);
        let checker: Vec<f64> = (0..49).map(|i| f64::from(u8::from(i % 2 == 0))).collect();
        let inverse: Vec<f64> = checker.iter().map(|x| 1.0 - x).collect();
        assert!(ssim(&checker, &inverse, 7) < -0.9);
    }
}
