//! `--quick`: a short look at what a verb does, with everything as configured but less of it.

use crate::config::Config;

/// Rounds that are trained at most.
const ROUNDS: u64 = 10;

/// Steps of gradient matching for one image, and runs whose models are attacked, at most.
const ITERATIONS: usize = 20;
const RUNS: usize = 4;

/// Rounds that are played at every point of a table, at most.
pub(super) const PLAYED: u64 = 1000;

/// The same configuration, of which the verbs do less.
pub(super) fn shortened(mut config: Config) -> Config {
    config.rounds = config.rounds.min(ROUNDS);
    config.attack.iterations = config.attack.iterations.min(ITERATIONS);
    config.attack.runs = config.attack.runs.min(RUNS);
    config
}
