//! Models that clients keep while the server does not hear them: "postpone" (FedPBC) and "echo" (FedAWE).
//!
//! Xiang, Ioannidis, Yeh, Joe-Wong, Su, *Empowering Federated Learning with Implicit Gossiping: Mitigating
//! Connection Unreliability amidst Unknown and Arbitrary Dynamics*, arXiv 2404.10091; Xiang, Ioannidis, Yeh,
//! Joe-Wong, Su, *Efficient Federated Learning against Heterogeneous and Non-stationary Client
//! Unavailability*, NeurIPS 2024.
//!
//! With z_k the model of client k, Δ_k what it learns in the round, S those in the sum and c_k the rounds
//! since k was last in one:
//!
//! | | new model g of the server | z_k of k ∈ S | z_k of the others |
//! |---|---|---|---|
//! | `postpone` | mean over S of z_k + Δ_k | g | z_k + Δ_k |
//! | `echo` | mean over S of z_k + c_k Δ_k | g | z_k |
//!
//! Both are sums over S: any protocol whose sums are over who arrived carries them, and clients send the
//! difference to the last g, so that server rules apply. The mean is weighted as everywhere. FedAWE's
//! program clips the mean of the c_k Δ_k; here `solver.clip_norm` bounds what each client sends.

use rayon::prelude::*;

use super::carrier::Carried;
use super::{Run, State};
use crate::algebra::CHUNK;
use crate::config::OutagePolicy;
use crate::protocol::Update;

impl Run<'_> {
    /// Under `echo`, counts what client `k` learned once for every round since it was last in a sum; `sent`
    /// is its model before + what it learned − the global model.
    pub(super) fn echo(&self, state: &State, k: u32, sent: &mut [f32]) {
        let k = k as usize;
        let silent = state.presence.misses.get(k).copied().unwrap_or(0);
        if self.setting.config.outage.policy != OutagePolicy::Echo || silent == 0 {
            return;
        }
        let times = silent as f32;
        match state.clients.carried.get(k) {
            Some(kept) => sent.iter_mut().zip(kept).for_each(|(x, kept)| *x += times * (*x - kept)),
            None => sent.iter_mut().for_each(|x| *x += times * *x),
        }
        self.setting.solver.shared().clip(sent);
    }

    /// Each client's model after the round − the global model of `state`, which was another `before` the
    /// round. Empty where all have the global one; `None` where all always have.
    pub(super) fn kept(&self, state: &State, before: &[f32], carried: &Carried) -> Option<Vec<Vec<f32>>> {
        if !self.setting.config.outage.is_per_client() {
            return None;
        }
        let (updates, included) = (&carried.updates, carried.aggregate.decoded.included());
        if included.len() == updates.len() {
            return Some(Vec::new());
        }
        let echoes = self.setting.config.outage.policy == OutagePolicy::Echo;
        let moved: Vec<f32> =
            state.server.parameters.iter().zip(before).map(|(new, old)| new - old).collect();
        let keep = |(i, update): (usize, &Update)| {
            let own: &[f32] = match state.clients.carried.get(i) {
                _ if included.binary_search(&(i as u16)).is_ok() => return vec![0.0; moved.len()],
                _ if !echoes => &update.delta,
                Some(kept) => kept,
                None => return moved.iter().map(|moved| -moved).collect(),
            };
            own.iter().zip(&moved).map(|(own, moved)| own - moved).collect()
        };
        Some(updates.par_iter().enumerate().map(keep).collect())
    }

    /// Lets the clients keep these models, and counts the rounds since each was last in a sum.
    pub(super) fn keep(&self, state: &mut State, kept: Vec<Vec<f32>>, included: &[u16]) {
        state.clients.carried = kept;
        if self.setting.config.outage.policy == OutagePolicy::Echo {
            for (k, silent) in (0..).zip(&mut state.presence.misses) {
                *silent = if included.binary_search(&k).is_ok() { 0 } else { silent.saturating_add(1) };
            }
        }
    }

    /// The mean of the local models, global model + Σ w_k (local − global) / Σ w_k.
    pub(super) fn mean_of_locals(&self, state: &State, kept: &[Vec<f32>]) -> Vec<f32> {
        let total: f64 = self.setting.weights.iter().sum();
        let mut mean = state.server.parameters.clone();
        mean.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, mean)| {
            for (own, weight) in kept.iter().zip(&self.setting.weights) {
                let own = &own[chunk * CHUNK..][..mean.len()];
                let share = (weight / total) as f32;
                mean.iter_mut().zip(own).for_each(|(mean, own)| *mean += share * own);
            }
        });
        mean
    }
}
