use serde::{Deserialize, Serialize};

use super::{Partition, check_least};
use crate::data::users::Users;
use crate::error::{Error, Result, count};
use crate::seed::{Rng, Seed};

/// Every client is a user of the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Natural {
    /// Examples that a user must have to become a client; at least 1, which is the default.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<usize>,
}

impl Natural {
    /// The user who is each of the `clients` clients, ascending: all who have enough examples, or as many of
    /// them drawn at random.
    ///
    /// # Errors
    /// [`Error::Config`] at `least`, or at the section where the users are too few.
    pub fn choose(&self, users: &dyn Users, clients: usize, seed: Seed) -> Result<Vec<u32>> {
        self.check()?;
        let least = self.least.unwrap_or(1);
        let fit: Vec<u32> =
            (0..users.number()).filter(|&user| users.count(user) >= least).map(|user| user as u32).collect();
        if clients == 0 || clients > fit.len() {
            let of = match least {
                1 => String::new(),
                _ => format!(" with {} or more", count(least, "example")),
            };
            let rule = format!(
                "{} for {}, each of whom is one client; take clients = {} or fewer",
                count(clients, "client"),
                count(fit.len(), "user") + &of,
                fit.len()
            );
            return Err(Error::config("", rule));
        }
        if clients == fit.len() {
            return Ok(fit);
        }
        let drawn = rand::seq::index::sample(&mut seed.child("users", 0).rng(), fit.len(), clients);
        let mut chosen: Vec<u32> = drawn.iter().map(|place| fit[place]).collect();
        chosen.sort_unstable();
        Ok(chosen)
    }
}

impl Partition for Natural {
    fn check(&self) -> Result<()> {
        check_least(self.least)
    }

    fn natural(&self) -> Option<&Natural> {
        Some(self)
    }

    fn divide(&self, _: &[u16], _: usize, _: &mut [Vec<usize>], _: &mut Rng) -> Result<()> {
        let rule =
            "these examples belong to no users; take data with users, or another kind, such as \"iid\"";
        Err(Error::config("kind", rule))
    }

    fn least(&self) -> Option<usize> {
        None
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        ("clients", "take fewer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Examples;
    use crate::data::users::Held;

    #[test]
    fn clients_are_users_with_enough_examples() {
        let examples = Examples::of_features(vec![0.0; 9], vec![0; 9], 1).unwrap();
        let users = Held::new(examples, vec![vec![0], vec![1, 2], vec![3, 4, 5], vec![6, 7, 8]]);
        let seed = Seed::new(1);
        let choose = |least, clients| Natural { least }.choose(&users, clients, seed);
        assert_eq!(choose(None, 4).unwrap(), [0, 1, 2, 3]);
        assert_eq!(choose(Some(2), 3).unwrap(), [1, 2, 3]);
        let some = choose(Some(2), 2).unwrap();
        assert!(some.len() == 2 && some.is_sorted() && !some.contains(&0), "{some:?}");
        assert_eq!(
            choose(Some(2), 4).unwrap_err().to_string(),
            ": 4 clients for 3 users with 2 examples or more, each of whom is one client; take clients = 3 or fewer"
        );
        assert_eq!(choose(Some(0), 1).unwrap_err().to_string(), "least: must be at least 1, not 0");
    }
}
