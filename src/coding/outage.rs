//! The probability that a round decodes, when links fail independently and only complete sums are sent.
//!
//! Row m reaches the server complete if all s shares and the upload do, which happens with probability
//! π_m = (1−q_m) Π_{k∈N(m)∖m} (1−p_mk). Distinct rows use distinct links, so these events are independent and
//! the number of arrivals is Poisson-binomial in π (Le Cam 1960).

use super::{Code, CodeKind};

/// Up to this number of clients [`success_probability`] looks at every set of arrivals of a `cyclic-mds`
/// code.
pub const EXACT_CLIENTS: usize = 12;

/// π_m for every row m: the probability that client m's sum is complete and arrives. `p(to, from)` is the
/// erasure probability of the link from client `from` to client `to`, `q(m)` that of the link from client m
/// to the server.
#[must_use]
pub fn complete_probability(
    code: &dyn Code,
    p: impl Fn(usize, usize) -> f64,
    q: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let shares = |m: usize| code.support(m).iter().filter(move |&&k| k != m);
    (0..code.clients()).map(|m| shares(m).fold(1.0 - q(m), |pi, &k| pi * (1.0 - p(m, k)))).collect()
}

/// The same in one of the code's repeats, which are independent.
fn complete_in_attempt(
    code: &dyn Code,
    p: impl Fn(usize, usize) -> f64,
    q: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let once = complete_probability(code, p, q);
    let repeats = code.repeats() as i32;
    if repeats == 1 { once } else { once.into_iter().map(|pi| 1.0 - (1.0 - pi).powi(repeats)).collect() }
}

/// The distribution of the number of successes in independent trials with success probabilities `pi`: entry n
/// of the result (of length `pi.len()` + 1) is the probability of exactly n.
#[must_use]
pub fn poisson_binomial(pi: &[f64]) -> Vec<f64> {
    let mut pmf = vec![1.0];
    for &p in pi {
        pmf.push(0.0);
        for n in (0..pmf.len()).rev() {
            pmf[n] = pmf[n] * (1.0 - p) + if n > 0 { pmf[n - 1] * p } else { 0.0 };
        }
    }
    pmf
}

/// The probability that at least M−s complete sums arrive in one attempt: what every code guarantees to
/// decode.
#[must_use]
pub fn guaranteed_probability(
    code: &dyn Code,
    p: impl Fn(usize, usize) -> f64,
    q: impl Fn(usize) -> f64,
) -> f64 {
    let pmf = poisson_binomial(&complete_in_attempt(code, p, q));
    pmf[code.clients() - code.stragglers()..].iter().sum()
}

/// The probability that one attempt decodes, with luck included: some codes decode from fewer than M−s rows.
///
/// - `fractional-repetition`: every group needs one arrival, Π_groups (1 − Π_{m∈group} (1−π_m)); exact.
/// - `cyclic-random`: [`guaranteed_probability`]; exact, since almost surely no smaller set spans 1ᵀ.
/// - `cyclic-mds`: some smaller sets span 1ᵀ (every second row, if s = 1 and M is even). Exact up to
///   [`EXACT_CLIENTS`] clients, by trying all of them; for more clients [`guaranteed_probability`], a lower
///   bound.
#[must_use]
pub fn success_probability(
    code: &dyn Code,
    p: impl Fn(usize, usize) -> f64,
    q: impl Fn(usize) -> f64,
) -> f64 {
    decoding_probability(code, &complete_in_attempt(code, p, q))
}

/// The same where row m is complete and arrives with probability `pi`\[m\], independently of the others.
pub(super) fn decoding_probability(code: &dyn Code, pi: &[f64]) -> f64 {
    let clients = code.clients();
    let enough = clients - code.stragglers();
    if code.kind() == CodeKind::FractionalRepetition {
        return pi
            .chunks(code.stragglers() + 1)
            .map(|group| 1.0 - group.iter().map(|p| 1.0 - p).product::<f64>())
            .product();
    }
    let guaranteed: f64 = poisson_binomial(pi)[enough..].iter().sum();
    if code.kind() == CodeKind::CyclicRandom || clients > EXACT_CLIENTS {
        return guaranteed;
    }
    let lucky: f64 = (0_u32..1 << clients)
        .filter(|set| (set.count_ones() as usize) < enough)
        .map(|set| {
            let (rows, missing): (Vec<usize>, Vec<usize>) = (0..clients).partition(|m| set >> m & 1 == 1);
            let chance = rows.iter().map(|&m| pi[m]).product::<f64>()
                * missing.iter().map(|&m| 1.0 - pi[m]).product::<f64>();
            if chance > 0.0 && code.decodes(&rows) { chance } else { 0.0 }
        })
        .sum();
    guaranteed + lucky
}
