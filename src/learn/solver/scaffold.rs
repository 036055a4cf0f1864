//! SCAFFOLD: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, *SCAFFOLD: Stochastic Controlled Averaging for
//! Federated Learning*, ICML 2020, algorithm 1 with option II of eq. 4.
//!
//! | paper | here |
//! |---|---|
//! | local step y ← y − η_l (g_i(y) − c_i + c), eq. 3 | [`Solver::correction`] is c − c_k |
//! | c_i⁺ = c_i − c + (x − y_i)/(K η_l), eq. 4 (II) | Δc_k = −c − Δ_k/(Kη), after K steps |
//! | x ← x + η_g mean Δy, c ← c + \|S\|/N mean Δc, eq. 5 | [`Solver::direction`] |
//!
//! The client sends \[Δ_k ‖ η·Δc_k\], 2d coordinates: with the factor η, which everybody knows, both halves
//! have the unit of an update, so that keys of one strength mask both and a clip bounds both together.
//!
//! Δc_k follows from Δ_k and from what everybody knows: the two halves show the same numbers under
//! independent keys. ε, which rests on the common clip, accounts for that; LMIP is per coordinate and has to
//! be counted for all 2d.

use super::sgd::Sgd;
use super::{LocalSolver, Section, Solver, Work, section};
use crate::error::Result;

section! {
    /// SCAFFOLD.
    ScaffoldConfig at 0.05 {}
}

impl Solver for ScaffoldConfig {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        Box::new(Sgd::new(rate, 0.0))
    }

    fn has_controls(&self) -> bool {
        true
    }

    fn coordinates(&self, d: usize) -> usize {
        2 * d
    }

    fn correction(&self, server: &[f32], own: &[f32]) -> Vec<f32> {
        server.iter().zip(own).map(|(c, own)| c - own).collect()
    }

    fn encode(&self, mut delta: Vec<f32>, work: Work, server: &[f32]) -> Vec<f32> {
        let Work { steps, rate, .. } = work;
        // A client without examples takes no step and learns nothing of its gradient.
        let per_step = if steps == 0 { 0.0 } else { 1.0 / steps as f64 };
        for (i, c) in server.iter().enumerate() {
            let control = -rate * f64::from(*c) - f64::from(delta[i]) * per_step;
            delta.push(if steps == 0 { 0.0 } else { control as f32 });
        }
        self.shared().clip(&mut delta);
        delta
    }

    fn advance(&self, own: &mut [f32], sent: &[f32], rate: f64) {
        let sent = &sent[own.len()..];
        own.iter_mut().zip(sent).for_each(|(c, x)| *c = (f64::from(*c) + f64::from(*x) / rate) as f32);
    }

    fn direction(&self, server: &mut [f32], mut mean: Vec<f64>, share: f64, rate: f64) -> Vec<f64> {
        let control = mean.split_off(server.len());
        server.iter_mut().zip(control).for_each(|(c, x)| *c = (f64::from(*c) + share / rate * x) as f32);
        mean
    }
}
