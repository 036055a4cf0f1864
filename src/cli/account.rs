//! `seccogc account`: what many noisy releases tell together, and how much noise a target takes.

use clap::{Args, ValueEnum};

use super::print;
use crate::account::{
    Accountant, Adjacency, Bounds, Integers, Noise, Sampling, Step, least_multiplier, most_rounds,
};
use crate::error::{Error, Result, count};
use crate::report::markdown;

pub(super) const EXAMPLES: &str = "Examples:\n  \
    seccogc account --noise-multiplier 1.1 --sample-rate 0.01 --rounds 1000 --delta 1e-5\n  \
    seccogc account --epsilon 8 --sample-rate 0.01 --rounds 1000 --delta 1e-5            the least noise\n  \
    seccogc account --epsilon 8 --noise-multiplier 1.1 --sample-rate 0.01 --delta 1e-5   the most rounds\n  \
    seccogc account --noise-multiplier 2 --cohort 10 --clients 100 --rounds 500 --delta 1e-6\n  \
    seccogc account --mechanism skellam --l2 1026 --dimension 8192 --shares 10 \\\n      \
    --noise-multiplier 5 --rounds 100 --delta 1e-5\n\n\
    Every ε is an upper bound. Who is told apart from whom, and who looks: docs/src/privacy-numbers.md.";

/// Most rounds that are asked about.
const MOST_ROUNDS: u64 = 1_000_000_000;

#[derive(Args)]
pub(super) struct Account {
    /// Standard deviation of the noise in a sum over the clipping norm of one client (for integers: over
    /// --l2)
    #[arg(long, value_name = "Z", required_unless_present = "epsilon")]
    noise_multiplier: Option<f64>,
    /// A target: without --noise-multiplier the least noise that meets it, without --rounds the most rounds
    #[arg(long, value_name = "EPSILON")]
    epsilon: Option<f64>,
    /// Probability with which the bound by ε may fail, from 0 to below 1
    #[arg(long, value_name = "DELTA")]
    delta: f64,
    /// Releases
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u64).range(0..=MOST_ROUNDS), required_unless_present = "epsilon")]
    rounds: Option<u64>,
    /// The noise
    #[arg(long, value_enum, default_value_t = Mechanism::Gaussian)]
    mechanism: Mechanism,
    /// How those are drawn who take part [default: poisson with --sample-rate, fixed with --cohort, else
    /// none]
    #[arg(long, value_enum)]
    sampling: Option<Draw>,
    /// Probability with which a client takes part in a round
    #[arg(long, value_name = "Q", conflicts_with_all = ["cohort", "clients"])]
    sample_rate: Option<f64>,
    /// Members of a cohort; with --sampling poisson on average
    #[arg(long, value_name = "N", requires = "clients")]
    cohort: Option<u64>,
    /// Clients among whom a cohort is drawn
    #[arg(long, value_name = "N", requires = "cohort")]
    clients: Option<u64>,
    /// Which inputs are told apart [default: replace-one with fixed cohorts, else add-or-remove]
    #[arg(long, value_enum)]
    adjacency: Option<Neighbours>,
    /// Largest Euclidean norm of one client's integer vector, for skellam and discrete-gaussian
    #[arg(long, value_name = "NORM")]
    l2: Option<f64>,
    /// Its largest ℓ₁ norm [default: what --l2 and --dimension allow]
    #[arg(long, value_name = "NORM")]
    l1: Option<f64>,
    /// Coordinates of such a vector
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(1..))]
    dimension: Option<u64>,
    /// Clients whose shares of noise a sum holds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    shares: Option<u64>,
    /// Print the table as CSV
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mechanism {
    /// Real numbers
    Gaussian,
    /// Integers: differences of Poisson variables
    Skellam,
    /// Integers: sums of discrete Gaussians
    DiscreteGaussian,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Draw {
    /// Everybody takes part
    None,
    /// Everybody with the same probability, independently
    Poisson,
    /// Cohorts of a fixed size
    Fixed,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Neighbours {
    /// One client more or less
    AddOrRemove,
    /// One client with another update
    ReplaceOne,
    /// One client's update or zero
    ZeroOut,
}

impl Account {
    fn sampling(&self) -> Result<Sampling> {
        let cohort = self.cohort.zip(self.clients);
        let draw = self.sampling.unwrap_or(match (self.sample_rate, cohort) {
            (Some(_), _) => Draw::Poisson,
            (None, Some(_)) => Draw::Fixed,
            (None, None) => Draw::None,
        });
        let refuse = |rule: &str| Err(Error::Refused(format!("--sampling {rule}")));
        match (draw, self.sample_rate, cohort) {
            (Draw::None, None, None) => Ok(Sampling::None),
            (Draw::None, ..) => refuse("none: leave out --sample-rate, --cohort and --clients"),
            (Draw::Poisson, Some(rate), _) => Ok(Sampling::Poisson { rate }),
            (Draw::Poisson, None, Some((cohort, clients))) if clients > 0 && cohort <= clients => {
                Ok(Sampling::Poisson { rate: cohort as f64 / clients as f64 })
            }
            (Draw::Poisson, None, Some(_)) => refuse("poisson: --cohort is more than --clients"),
            (Draw::Poisson, None, None) => refuse("poisson: give --sample-rate, or --cohort and --clients"),
            (Draw::Fixed, _, Some((cohort, clients))) => Ok(Sampling::Fixed { cohort, clients }),
            (Draw::Fixed, _, None) => refuse("fixed: give --cohort and --clients"),
        }
    }

    fn adjacency(&self, sampling: Sampling) -> Adjacency {
        match (self.adjacency, sampling) {
            (Some(Neighbours::AddOrRemove), _) => Adjacency::AddOrRemove,
            (Some(Neighbours::ReplaceOne), _) | (None, Sampling::Fixed { .. }) => Adjacency::ReplaceOne,
            (Some(Neighbours::ZeroOut), _) => Adjacency::ZeroOut,
            (None, _) => Adjacency::AddOrRemove,
        }
    }

    /// The integers that noise is added to, by its multiplier; none for real numbers.
    fn integers(&self) -> Result<Option<impl Fn(f64) -> Integers>> {
        let refuse = |rule: &str| Err(Error::Refused(rule.into()));
        match (self.mechanism, self.l2, self.dimension, self.shares) {
            (Mechanism::Gaussian, None, None, None) if self.l1.is_none() => Ok(None),
            (Mechanism::Gaussian, ..) => refuse(
                "--l2, --l1, --dimension and --shares are for integers: take --mechanism skellam or discrete-gaussian",
            ),
            (_, Some(l2), Some(dimension), Some(shares)) => {
                let l1 = self.l1.unwrap_or(Integers::l1_of(l2, dimension));
                Ok(Some(move |z: f64| Integers { l2, l1, variance: (z * l2).powi(2), shares, dimension }))
            }
            _ => refuse("--mechanism: noise of integers needs --l2, --dimension and --shares"),
        }
    }
}

pub(super) fn account(args: &Account) -> Result<()> {
    let sampling = args.sampling()?;
    let adjacency = args.adjacency(sampling);
    let integers = args.integers()?;
    let after = |z: f64, rounds: u64| {
        let step = match (&integers, args.mechanism) {
            (Some(integers), Mechanism::Skellam) => {
                Step::new(Noise::Skellam(integers(z)), sampling, adjacency)?
            }
            (Some(integers), _) => Step::new(Noise::DiscreteGaussian(integers(z)), sampling, adjacency)?,
            (None, _) => Step::gaussian(z, sampling, adjacency)?,
        };
        let mut accountant = Accountant::new(adjacency);
        accountant.add(&step, rounds)?;
        Ok(accountant)
    };
    let (z, rounds) = match (args.noise_multiplier, args.rounds, args.epsilon) {
        (Some(z), Some(rounds), None) => (z, rounds),
        (Some(_), Some(_), Some(_)) => {
            return Err(Error::Refused("--epsilon: leave out it, --noise-multiplier or --rounds".into()));
        }
        (None, Some(rounds), Some(epsilon)) => {
            (least_multiplier(epsilon, args.delta, |z| after(z, rounds))?, rounds)
        }
        (Some(z), None, Some(epsilon)) => {
            (z, most_rounds(epsilon, args.delta, MOST_ROUNDS, |rounds| after(z, rounds))?)
        }
        _ => return Err(Error::Refused("--epsilon: give --noise-multiplier or --rounds with it".into())),
    };
    let bounds = after(z, rounds)?.epsilon(args.delta)?;
    if args.csv {
        return print(&csv(args, z, rounds, &bounds));
    }
    print(&page(args, z, rounds, sampling, adjacency, &bounds))
}

/// The bounds that there are: path, ε, and how far it may be above the exact one.
fn paths(bounds: &Bounds, sampled: bool) -> Vec<(String, f64, Option<f64>)> {
    let mut paths = Vec::new();
    if let Some(epsilon) = bounds.gaussian {
        let name = if sampled { "Gaussian curve, sampling not counted" } else { "Gaussian curve" };
        paths.push((name.to_owned(), epsilon, (!sampled).then_some(0.0)));
    }
    if let Some(composed) = bounds.composed {
        paths.push(("privacy-loss distributions".into(), composed.value, Some(composed.error)));
    }
    let (epsilon, order) = bounds.renyi;
    if order.is_finite() {
        paths.push((format!("Rényi divergence of order {order}"), epsilon, None));
    }
    paths
}

fn csv(args: &Account, z: f64, rounds: u64, bounds: &Bounds) -> String {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    format!(
        "noise_multiplier,rounds,delta,epsilon,gaussian,composed,composed_error,renyi,order\n{z},{rounds},{},{},{},{},{},{},{}\n",
        args.delta,
        bounds.least(),
        number(bounds.gaussian),
        number(bounds.composed.map(|composed| composed.value)),
        number(bounds.composed.map(|composed| composed.error)),
        bounds.renyi.0,
        number(Some(bounds.renyi.1).filter(|order| order.is_finite())),
    )
}

fn page(
    args: &Account,
    z: f64,
    rounds: u64,
    sampling: Sampling,
    adjacency: Adjacency,
    bounds: &Bounds,
) -> String {
    let sampled = sampling.rate() < 1.0;
    let paths = paths(bounds, sampled);
    let lines: Vec<[String; 3]> = paths
        .iter()
        .map(|(name, epsilon, error)| {
            let error = match error {
                Some(0.0) => "exact".into(),
                Some(error) => format!("{error:.1e}"),
                None => "–".into(),
            };
            [name.clone(), real(*epsilon), error]
        })
        .collect();
    let least = bounds.least();
    let by = paths.iter().find(|path| path.1 == least).map_or("nothing is released", |path| path.0.as_str());
    let noise = match args.mechanism {
        Mechanism::Gaussian => "Gaussian noise",
        Mechanism::Skellam => "Skellam noise",
        Mechanism::DiscreteGaussian => "discrete Gaussian noise",
    };
    let drawn = match sampling {
        Sampling::None => "everybody takes part".to_owned(),
        Sampling::Poisson { rate } => format!("everybody takes part with probability {rate}, independently"),
        Sampling::Fixed { cohort, clients } => format!("cohorts of {cohort} of {clients} clients"),
    };
    let neighbours = match adjacency {
        Adjacency::AddOrRemove => "all inputs, and those with one client more or less",
        Adjacency::ReplaceOne => "all inputs, and those with another update of one client",
        Adjacency::ZeroOut => "all inputs, and those with zero in the place of one client's update",
    };
    let adversary = match sampled {
        true => {
            "whoever sees every released sum or model, but not who took part; to a server that knows it, count no sampling"
        }
        false => "whoever sees every released sum or model, the server included",
    };
    let assumption = match (args.mechanism, sampled) {
        (Mechanism::Gaussian, _) => {
            "real numbers, updates clipped, noise fresh in every round and complete in every released sum"
        }
        _ => {
            "updates within --l2 after rounding, noise fresh in every round, all its shares in every released sum, no wrap-around"
        }
    };
    format!(
        "{} with {noise} of multiplier {z}; {drawn}\n\n{}\n\
        ε ≤ {} at δ = {} ({by})\n\n\
        told apart: {neighbours} ({})\nadversary: {adversary}\nassumes: {assumption}\n",
        count(rounds, "round"),
        markdown(&["path", "ε", "stated error"], &[0], &lines),
        real(least),
        args.delta,
        adjacency.name(),
    )
}

/// Upwards to six decimals, so that what is printed is a bound too.
fn real(epsilon: f64) -> String {
    if epsilon.is_infinite() { "∞".into() } else { format!("{:.6}", (epsilon * 1e6).ceil() / 1e6) }
}
