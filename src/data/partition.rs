//! Ways to divide the training examples among clients.
//!
//! | kind | clients differ in | source |
//! |---|---|---|
//! | `iid` | nothing | McMahan et al. 2017, section 3 |
//! | `dirichlet` | class proportions and sizes | Yurochkin et al. 2019, section 4 |
//! | `dirichlet`, `balanced` | class proportions | Hsu et al. 2019, section 3 |
//! | `classes-per-client` | the classes they hold | McMahan et al. 2017 (2 classes); 1 class is the extreme |
//! | `quantity` | sizes | Li et al. 2022, section IV-C |
//! | `natural` | whatever users differ in: every client is one of the data's own | Caldas et al. 2018 |
//!
//! No example goes to two clients.

mod classes_per_client;
mod iid;
mod label_dirichlet;
mod natural;
mod quantity;

use std::fmt;

use rand::seq::SliceRandom;
use rand_distr::{Distribution, Gamma, OpenClosed01};

use crate::choice::choice;
use crate::error::{Error, Result, count, plain};
use crate::seed::{Rng, Seed};
pub use classes_per_client::ClassesPerClient;
pub use iid::Iid;
pub use label_dirichlet::Dirichlet;
pub use natural::Natural;
pub use quantity::Quantity;

/// How the training examples are divided among clients.
pub trait Partition: Send + Sync {
    /// Checks the section by itself.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    fn check(&self) -> Result<()>;

    /// Whether [`Partition::divide`] goes by the classes of examples; where they have none, all labels are 0.
    fn needs_classes(&self) -> bool {
        false
    }

    /// The section itself, where every client is a user of the data ([`crate::data::Users`]).
    fn natural(&self) -> Option<&Natural> {
        None
    }

    /// Gives each of `parts` some indices into `labels`, of which there are `classes` kinds; [`split`] puts
    /// them in order.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section, where the data does not allow it.
    fn divide(&self, labels: &[u16], classes: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()>;

    /// Examples that every client has to get: draws that give one fewer are thrown away, up to a bound.
    /// `None` for one draw, which gives everybody something or fails.
    fn least(&self) -> Option<usize>;

    /// Key and advice for who would leave a client without examples.
    fn remedy(&self) -> (&'static str, &'static str);
}

choice! {
    /// How the training examples are divided among clients.
    PartitionConfig by "kind" or "iid" as partition: Partition {
        /// Every client gets a random share of equal size.
        "iid" => Iid(Iid),
        /// Every class is divided among the clients in Dirichlet proportions.
        "dirichlet" => Dirichlet(Dirichlet),
        /// Every client holds examples of a fixed number of classes.
        "classes-per-client" => ClassesPerClient(ClassesPerClient),
        /// Client sizes have Dirichlet proportions; classes are mixed at random.
        "quantity" => Quantity(Quantity),
        /// Every client is a user of the data, which says whose each example is.
        "natural" => Natural(Natural),
    }
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self::Iid(Iid {})
    }
}

/// Most draws for [`Partition::least`].
const DRAWS: u64 = 1000;

/// The examples of every client: `clients` lists of ascending indices into `labels`.
///
/// `classes` is the number of classes of the dataset; every label is smaller. The result depends on nothing
/// but the arguments.
///
/// # Errors
/// [`Error::Config`], relative to the section of the partition: from [`Partition::check`]; at `classes`
/// when more are asked for than exist; at `alpha` or `classes` when a client would get no example; at
/// `least` when no draw gives every client as many; at the section itself when `clients` is 0 or exceeds the
/// number of examples.
pub fn split(
    partition: &dyn Partition,
    labels: &[u16],
    classes: usize,
    clients: usize,
    seed: Seed,
) -> Result<Vec<Vec<usize>>> {
    split_by(partition, labels, classes, clients, seed, "")
}

/// [`split`], with words for the seed in what depends on it.
pub(crate) fn split_by(
    partition: &dyn Partition,
    labels: &[u16],
    classes: usize,
    clients: usize,
    seed: Seed,
    words: &str,
) -> Result<Vec<Vec<usize>>> {
    partition.check()?;
    let all = count(labels.len(), "example");
    if clients == 0 || clients > labels.len() {
        let rule =
            format!("{all} cannot be divided among {}; use 1 to {}", count(clients, "client"), labels.len());
        return Err(Error::config("", rule));
    }
    let least = partition.least();
    let wanted = least.unwrap_or(1);
    if wanted > labels.len() / clients {
        let most = labels.len() / clients;
        let each = count(clients, "client");
        let rule = format!("{wanted} for each of {each} are more than {all}; give at most {most}");
        return Err(Error::config("least", rule));
    }
    let mut best = 0;
    for draw in 0..if least.is_some() { DRAWS } else { 1 } {
        let mut parts = vec![Vec::new(); clients];
        partition.divide(labels, classes, &mut parts, &mut seed.child("partition", draw).rng())?;
        let smallest = parts.iter().map(Vec::len).min().unwrap_or_default();
        if smallest >= wanted {
            parts.iter_mut().for_each(|part| part.sort_unstable());
            return Ok(parts);
        }
        best = best.max(smallest);
        if let (None, Some(empty)) = (least, parts.iter().position(Vec::is_empty)) {
            let (key, remedy) = partition.remedy();
            let rule = format!("client {} would get no example{words}; {remedy}", empty + 1);
            return Err(Error::config(key, rule));
        }
    }
    let (key, remedy) = partition.remedy();
    let wanted = count(wanted, "example");
    let rule = format!(
        "none of {DRAWS} draws{words} gives every client {wanted}, the best one {best}; lower it, or at {key}: {remedy}"
    );
    Err(Error::config("least", rule))
}

/// Whether as many examples as `least` can be asked for.
fn check_least(least: Option<usize>) -> Result<()> {
    match least {
        Some(0) => Err(Error::config("least", "must be at least 1, not 0")),
        _ => Ok(()),
    }
}

/// Divides `examples` at random into those that stay and the `share` that is held out, both ascending: the
/// nearest whole number of examples, but at least one and not all.
///
/// # Panics
/// With fewer than two examples.
pub(crate) fn hold_out(examples: &[usize], share: f64, seed: Seed) -> (Vec<usize>, Vec<usize>) {
    let mut held = shuffled(examples.iter().copied(), &mut seed.rng());
    let mut kept = held.split_off(held_of(examples.len(), share));
    held.sort_unstable();
    kept.sort_unstable();
    (kept, held)
}

/// How many of so many `examples`, two at least, [`hold_out`] holds out.
pub(crate) fn held_of(examples: usize, share: f64) -> usize {
    ((share * examples as f64).round() as usize).clamp(1, examples - 1)
}

fn check_alpha(alpha: f64) -> Result<()> {
    if alpha.is_finite() && alpha > 0.0 {
        Ok(())
    } else {
        Err(Error::config("alpha", format!("must be a positive number, not {alpha}; try 0.5")))
    }
}

fn of_class(labels: &[u16], class: usize) -> impl Iterator<Item = usize> {
    labels.iter().enumerate().filter(move |(_, label)| usize::from(**label) == class).map(|(i, _)| i)
}

fn shuffled(items: impl Iterator<Item = usize>, rng: &mut Rng) -> Vec<usize> {
    let mut items: Vec<usize> = items.collect();
    items.shuffle(rng);
    items
}

/// Cuts `examples` at the rounded cumulative `proportions`, one piece per part.
fn deal(examples: &[usize], parts: &mut [Vec<usize>], proportions: &[f64]) {
    let (mut cumulative, mut start) = (0.0, 0);
    for (i, (part, proportion)) in parts.iter_mut().zip(proportions).enumerate() {
        cumulative += proportion;
        let end = if i + 1 == proportions.len() {
            examples.len()
        } else {
            ((cumulative * examples.len() as f64).round() as usize).clamp(start, examples.len())
        };
        part.extend_from_slice(&examples[start..end]);
        start = end;
    }
}

/// A class of which there are examples left, drawn in these proportions, or in those of what is left where a
/// client wants none of it.
fn draw_class(proportions: &[f64], stock: &[Vec<usize>], rng: &mut Rng) -> usize {
    let wanted = |class: usize| if stock[class].is_empty() { 0.0 } else { proportions[class] };
    let left = |class: usize| stock[class].len() as f64;
    let total: f64 = (0..stock.len()).map(wanted).sum();
    let pick = |weight: &dyn Fn(usize) -> f64, total: f64, rng: &mut Rng| {
        let uniform: f64 = OpenClosed01.sample(rng);
        let mut rest = uniform * total;
        let crossed = |class: &usize| {
            rest -= weight(*class);
            rest <= 0.0 && weight(*class) > 0.0
        };
        // Rounding may leave a trace of `rest` behind the last class.
        (0..stock.len()).find(crossed).or_else(|| (0..stock.len()).rfind(|&class| weight(class) > 0.0))
    };
    let class = if total > 0.0 { pick(&wanted, total, rng) } else { None };
    class.or_else(|| pick(&left, (0..stock.len()).map(left).sum(), rng)).unwrap_or_default()
}

/// `n` proportions from the symmetric Dirichlet distribution.
fn dirichlet(alpha: f64, n: usize, rng: &mut Rng) -> Vec<f64> {
    // In logarithms, with Gamma(α) = Gamma(α+1)·U^(1/α): for small α the gamma variates themselves underflow.
    let gamma = Gamma::new(alpha + 1.0, 1.0).expect("a positive shape");
    let mut draw = || {
        let uniform: f64 = OpenClosed01.sample(rng);
        gamma.sample(rng).ln() + uniform.ln() / alpha
    };
    let logarithms: Vec<f64> = (0..n).map(|_| draw()).collect();
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logarithms.iter().map(|x| (x - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// How many examples of every class every client holds, with totals; printed as an aligned table, clients
/// from 1. `parts` are indices into `labels`, which are indices into the names of the classes.
#[must_use]
pub fn class_table(labels: &[u16], class_names: &[String], parts: &[Vec<usize>]) -> ClassTable {
    let count = |part: &Vec<usize>| {
        let mut counts = vec![0; class_names.len()];
        for &example in part {
            counts[usize::from(labels[example])] += 1;
        }
        counts
    };
    // Names may come from files.
    let class_names = class_names.iter().map(|name| plain(name).to_string()).collect();
    ClassTable { counts: parts.iter().map(count).collect(), class_names }
}

/// The result of [`class_table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTable {
    /// Per client, per class.
    counts: Vec<Vec<usize>>,
    class_names: Vec<String>,
}

impl fmt::Display for ClassTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals: Vec<usize> =
            (0..self.class_names.len()).map(|class| self.counts.iter().map(|row| row[class]).sum()).collect();
        let all: usize = totals.iter().sum();
        let first = self.counts.len().to_string().len().max("client".len());
        // A column is as wide as its widest cell, its total or its heading.
        let width =
            |class: usize| totals[class].to_string().len().max(self.class_names[class].chars().count());
        let last = all.to_string().len().max("total".len());
        write!(f, "{:>first$}", "client")?;
        let mut names = self.class_names.iter().enumerate();
        names.try_for_each(|(class, name)| write!(f, "  {name:>0$}", width(class)))?;
        write!(f, "  {:>last$}", "total")?;
        let clients = self.counts.iter().enumerate().map(|(i, row)| ((i + 1).to_string(), row));
        for (name, row) in clients.chain([("total".to_owned(), &totals)]) {
            write!(f, "\n{name:>first$}")?;
            row.iter().enumerate().try_for_each(|(class, n)| write!(f, "  {n:>0$}", width(class)))?;
            write!(f, "  {:>last$}", row.iter().sum::<usize>())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
