//! What many releases tell together: (ε, δ) of a whole run, composed from its rounds.
//!
//! A [`Step`] is one release: a noisy sum over clients, and how those were drawn. An [`Accountant`] adds
//! steps up and bounds ε for a given δ, or δ for a given ε, along up to three independent paths; each is an
//! upper bound, so that the least of them is one.
//!
//! | path | for | error |
//! |---|---|---|
//! | Gaussian curve ([`crate::privacy::ldp`]) | Gaussian steps; sampling is not counted | rounding |
//! | privacy-loss distributions ([`pld`]) | Gaussian steps, sampled or not | stated with every number |
//! | Rényi divergences ([`rdp`]) | all steps | some per cent to tens of them above the exact ε, never below |
//!
//! # Who is told apart from whom
//!
//! Neighbouring inputs, over which the adversary is in doubt, are those of an [`Adjacency`]. Everything
//! else is known to it, and all steps of one accountant have the same: numbers of different adjacencies do
//! not add up.
//!
//! # Who looks
//!
//! Without sampling everybody who sees the released sums or models, and knows who took part. With sampling
//! the same, but for who took part: a server that draws the cohort itself, or sees who uploads, is told as
//! much as without sampling.

mod accountant;
mod calibrate;
mod loss;
pub mod pld;
pub mod rdp;
mod step;

pub use accountant::{Accountant, Bounds};
pub use calibrate::{least_multiplier, most_rounds};
pub use step::{Adjacency, Integers, Noise, Sampling, Step};
