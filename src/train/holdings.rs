//! Which training examples each client has.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::data::partition::{self, Partition, class_table};
use crate::data::{Dataset, Examples, Response, Users};
use crate::error::{Error, Result, count};
use crate::seed::Seed;

/// Which training examples each client has, and which of them it keeps out of training.
pub(crate) enum Holdings {
    /// Parts of the training set.
    Shards {
        /// Indices of the examples on which each client trains.
        shards: Vec<Vec<usize>>,
        /// Indices of those on which each client is tested; empty when none is.
        held_out: Vec<Vec<usize>>,
    },
    /// What users have.
    Users(OfUsers),
}

/// Clients who are users of the data.
pub(crate) struct OfUsers {
    users: Arc<dyn Users>,
    /// The user who is each client.
    of: Vec<u32>,
    /// The share that a client keeps out of training; 0 when no client is tested.
    share: f64,
    seed: Seed,
    /// Examples of a client's training at most.
    most: usize,
}

/// Examples, and which of them are meant.
pub(crate) struct Own<'a> {
    pub examples: Cow<'a, Examples>,
    pub shard: Cow<'a, [usize]>,
}

/// Examples, and which of them are each client's.
type Several<'a> = (Cow<'a, Examples>, Vec<Cow<'a, [usize]>>);

impl Own<'_> {
    /// Those that are meant, by themselves.
    pub fn subset(&self) -> Examples {
        self.examples.subset(&self.shard)
    }
}

impl Holdings {
    /// Divides the training set over the clients, and each client's share into training and test.
    pub fn of(config: &Config, partition: &dyn Partition, dataset: &Dataset) -> Result<Self> {
        let seed = Seed::new(config.seed);
        let within = |error: Error| error.within("partition");
        match (&dataset.users, partition.natural()) {
            (Some(users), Some(natural)) => {
                let drawn = seed.child("partition", 0);
                let of = natural.choose(&**users, config.clients, drawn).map_err(within)?;
                let share = config.evaluation.client_share;
                let own = OfUsers { users: Arc::clone(users), of, share, seed, most: usize::MAX };
                own.check()?;
                Ok(Self::Users(own))
            }
            (Some(_), None) => {
                let rule = "these examples belong to users, who cannot be divided anew; take \"natural\"";
                Err(within(Error::config("kind", rule)))
            }
            (None, _) => {
                let has_classes = dataset.response == Response::Class;
                if partition.needs_classes() && !has_classes {
                    let rule = "divides examples by class, and these have none; take \"iid\", \"quantity\" or \"natural\"";
                    return Err(within(Error::config("kind", rule)));
                }
                let (alike, train) = (vec![0; dataset.train.len()], &dataset.train);
                let (labels, classes) =
                    if has_classes { (train.labels(), dataset.classes) } else { (&alike[..], 1) };
                let shards = partition::split_by(
                    partition,
                    labels,
                    classes,
                    config.clients,
                    seed.child("partition", 0),
                    &format!(" with seed {}", config.seed),
                )
                .map_err(within)?;
                Self::of_shards(config, shards)
            }
        }
    }

    /// Of these parts of the training set.
    pub fn of_shards(config: &Config, mut shards: Vec<Vec<usize>>) -> Result<Self> {
        let seed = Seed::new(config.seed);
        let mut held_out = Vec::new();
        let share = config.evaluation.client_share;
        if share > 0.0 {
            for (k, shard) in shards.iter_mut().enumerate() {
                check_share(k, shard.len(), "use fewer clients")?;
                let (kept, held) = partition::hold_out(shard, share, of_client(seed, k));
                *shard = kept;
                held_out.push(held);
            }
        }
        Ok(Self::Shards { shards, held_out })
    }

    /// Number of clients.
    pub fn clients(&self) -> usize {
        match self {
            Self::Shards { shards, .. } => shards.len(),
            Self::Users(own) => own.of.len(),
        }
    }

    /// Training examples n_k of a client.
    pub fn count(&self, client: usize) -> usize {
        match self {
            Self::Shards { shards, .. } => shards[client].len(),
            Self::Users(own) => own.count(client),
        }
    }

    /// n_k · M / N for each client.
    pub fn weights(&self) -> Vec<f64> {
        weights_of((0..self.clients()).map(|client| self.count(client)))
    }

    /// The parts of the training set; nothing where users hold the examples.
    pub fn shards(&self) -> Option<&[Vec<usize>]> {
        match self {
            Self::Shards { shards, .. } => Some(shards),
            Self::Users(_) => None,
        }
    }

    /// The training examples of a client of `dataset`.
    ///
    /// # Errors
    /// Examples that cannot be read any more.
    pub fn own<'a>(&'a self, dataset: &'a Dataset, client: usize) -> Result<Own<'a>> {
        match self {
            Self::Shards { shards, .. } => {
                Ok(Own { examples: Cow::Borrowed(&dataset.train), shard: Cow::Borrowed(&shards[client]) })
            }
            Self::Users(own) => Ok(own.read(client)?.0),
        }
    }

    /// The training examples of several clients among each other, and where each one's are.
    ///
    /// # Errors
    /// As [`Holdings::own`].
    pub fn of_several<'a>(&'a self, dataset: &'a Dataset, clients: &[u32]) -> Result<Several<'a>> {
        if let Self::Shards { shards, .. } = self {
            let own = clients.iter().map(|&client| Cow::Borrowed(&*shards[client as usize]));
            return Ok((Cow::Borrowed(&dataset.train), own.collect()));
        }
        let mut all = dataset.train.subset(&[]);
        let mut places = Vec::with_capacity(clients.len());
        for &client in clients {
            let own = self.own(dataset, client as usize)?.subset();
            places.push(Cow::Owned((all.len()..all.len() + own.len()).collect()));
            all.append(&own)?;
        }
        Ok((Cow::Owned(all), places))
    }

    /// Whether clients are tested.
    pub fn are_tested(&self) -> bool {
        match self {
            Self::Shards { held_out, .. } => !held_out.is_empty(),
            Self::Users(own) => own.share > 0.0,
        }
    }

    /// The examples that a client keeps out of training.
    ///
    /// # Errors
    /// As [`Holdings::own`].
    pub fn held_out(&self, dataset: &Dataset, client: usize) -> Result<Examples> {
        match self {
            Self::Shards { held_out, .. } => Ok(held_out
                .get(client)
                .map_or_else(|| dataset.train.subset(&[]), |own| dataset.train.subset(own))),
            Self::Users(own) => own.read(client).map(|(_, held)| held),
        }
    }

    /// Leaves every client its first `examples` training examples.
    pub fn truncate(&mut self, examples: usize) {
        match self {
            Self::Shards { shards, .. } => shards.iter_mut().for_each(|shard| shard.truncate(examples)),
            Self::Users(own) => own.most = examples,
        }
    }

    /// Feeds the examples and whose they are to a hash.
    pub fn digest(&self, all: &mut Sha256) {
        let mut number = |n: usize| all.update((n as u64).to_le_bytes());
        match self {
            Self::Shards { shards, .. } => {
                for shard in shards {
                    number(shard.len());
                    shard.iter().for_each(|&i| number(i));
                }
            }
            Self::Users(own) => {
                own.of.iter().for_each(|&user| number(user as usize));
                all.update(own.users.digest());
            }
        }
    }

    /// Who has what, for a reader: the class-by-client table, or for users how many examples they have.
    pub fn table(&self, dataset: &Dataset) -> String {
        match self {
            Self::Shards { shards, .. } if dataset.response != Response::Class => {
                let alike = vec![0; dataset.train.len()];
                class_table(&alike, &["examples".into()], shards).to_string()
            }
            Self::Shards { shards, .. } => {
                class_table(dataset.train.labels(), &dataset.class_names, shards).to_string()
            }
            Self::Users(own) => own.summary(),
        }
    }
}

impl OfUsers {
    fn check(&self) -> Result<()> {
        if self.share > 0.0 {
            for (client, &user) in self.of.iter().enumerate() {
                check_share(client, self.users.count(user as usize), "take partition.least = 2")?;
            }
        }
        Ok(())
    }

    fn count(&self, client: usize) -> usize {
        let all = self.users.count(self.of[client] as usize);
        let held = if self.share > 0.0 { partition::held_of(all, self.share) } else { 0 };
        (all - held).min(self.most)
    }

    /// What a client trains on, and what it keeps out of that.
    fn read(&self, client: usize) -> Result<(Own<'static>, Examples)> {
        let examples = self.users.read(self.of[client] as usize)?;
        let all: Vec<usize> = (0..examples.len()).collect();
        let (mut kept, held) = match self.share > 0.0 {
            true => partition::hold_out(&all, self.share, of_client(self.seed, client)),
            false => (all, Vec::new()),
        };
        kept.truncate(self.most);
        let held = examples.subset(&held);
        Ok((Own { examples: Cow::Owned(examples), shard: Cow::Owned(kept) }, held))
    }

    /// How many examples the clients have.
    fn summary(&self) -> String {
        let mut counts: Vec<usize> = (0..self.of.len()).map(|client| self.count(client)).collect();
        counts.sort_unstable();
        let at = |share: f64| counts[(share * (counts.len() - 1) as f64).round() as usize];
        format!(
            "{} of {} take part, with {}: {} to {} each, {} in the middle, {} at 90 %",
            self.of.len(),
            count(self.users.number(), "user"),
            count(counts.iter().sum::<usize>(), "training example"),
            at(0.0),
            at(1.0),
            at(0.5),
            at(0.9)
        )
    }
}

/// n_k · M / N for each client.
pub(super) fn weights_of(counts: impl ExactSizeIterator<Item = usize> + Clone) -> Vec<f64> {
    let (clients, examples) = (counts.len() as f64, counts.clone().sum::<usize>() as f64);
    counts.map(|count| count as f64 * clients / examples).collect()
}

/// The stream that says what a client keeps out of training.
fn of_client(seed: Seed, client: usize) -> Seed {
    seed.child("client test", client as u64)
}

fn check_share(client: usize, examples: usize, remedy: &str) -> Result<()> {
    if examples >= 2 {
        return Ok(());
    }
    let rule = format!("client {} has one example and cannot be tested too; {remedy} or 0", client + 1);
    Err(Error::config("evaluation.client_share", rule))
}
