//! Data that says whose each example is.

use std::path::Path;
use std::sync::Arc;

use super::DataConfig;
use crate::data::users::{Folders, Leaf, Users, Wanted};
use crate::data::{Dataset, DatasetName, Examples, Normalisation};
use crate::{Error, Result};

/// Users without those whose examples are the test set.
#[derive(Debug)]
struct Others {
    all: Arc<dyn Users>,
    /// Those who are left.
    left: Vec<usize>,
}

impl Users for Others {
    fn number(&self) -> usize {
        self.left.len()
    }

    fn count(&self, user: usize) -> usize {
        self.all.count(self.left[user])
    }

    fn read(&self, user: usize) -> Result<Examples> {
        self.all.read(self.left[user])
    }

    fn digest(&self) -> [u8; 32] {
        // The test set, which has a digest of its own, says who is left.
        self.all.digest()
    }
}

/// Whether examples can have this shape.
pub(super) fn check_shape(shape: [usize; 3]) -> bool {
    let size = shape.iter().try_fold(1usize, |size, &side| size.checked_mul(side));
    size.is_some_and(|size| (1..=1 << 28).contains(&size))
}

impl DataConfig {
    /// Reads what is to be known of a population, and its test set.
    pub(super) fn load_users(&self) -> Result<Dataset> {
        match self.name {
            DatasetName::Synthetic => self.load_synthetic(),
            DatasetName::Leaf => self.load_leaf(),
            _ => self.load_folders(),
        }
    }

    fn load_synthetic(&self) -> Result<Dataset> {
        let law = self.synthetic.clone().unwrap_or_default();
        let within = |error: Error| error.within("synthetic");
        let population = law.population().map_err(within)?;
        let test = population.test().map_err(within)?;
        let classes = (0..law.classes).map(|class| class.to_string()).collect();
        self.of_users(classes, test, law.statistics(), Arc::new(population))
    }

    /// What is to be known of LEAF's training files.
    pub(super) fn leaf(&self) -> Result<Leaf> {
        Leaf::survey(self.own(), Wanted { shape: self.shape, length: self.length })
    }

    fn load_leaf(&self) -> Result<Dataset> {
        let leaf = self.leaf()?;
        let statistics = leaf.normalisation().clone();
        match &self.test {
            Some(test) => {
                let (leaf, test) = leaf.with_test(test)?;
                self.of_users(leaf.classes().to_vec(), test, statistics, Arc::new(leaf))
            }
            None => {
                let (left, aside) = self.set_users_aside(&leaf, self.own())?;
                let (classes, test) = (leaf.classes().to_vec(), leaf.of_several(&aside)?);
                self.of_users(classes, test, statistics, Arc::new(Others { all: Arc::new(leaf), left }))
            }
        }
    }

    fn load_folders(&self) -> Result<Dataset> {
        let path = self.own();
        let folders = Arc::new(Folders::survey(path, self.bits)?);
        let classes = folders.classes().to_vec();
        let statistics = folders.normalisation().clone();
        match &self.test {
            Some(test) => {
                let other = Folders::survey(test, self.bits)?;
                if other.classes() != classes {
                    let rule = "other classes than the training folders; give both the same, if need be as empty folders";
                    return Err(Error::file(test, rule));
                }
                let test = other.gather(0..other.number())?;
                self.of_users(classes, test, statistics, folders)
            }
            None => {
                let (left, aside) = self.set_users_aside(&*folders, path)?;
                let test = folders.gather(aside.into_iter())?;
                self.of_users(classes, test, statistics, Arc::new(Others { all: folders, left }))
            }
        }
    }

    /// The dataset of these users.
    pub(super) fn of_users(
        &self,
        classes: Vec<String>,
        test: Examples,
        statistics: Normalisation,
        users: Arc<dyn Users>,
    ) -> Result<Dataset> {
        let nobody = test.subset(&[]);
        let dataset = self.dataset(classes, nobody, test, self.standardise.then_some(statistics))?;
        Ok(Dataset { users: Some(users), ..dataset })
    }

    /// The users who stay, and those whose examples are the test set.
    fn set_users_aside(&self, users: &dyn Users, path: &Path) -> Result<(Vec<usize>, Vec<usize>)> {
        match users.number() {
            0 | 1 => {
                Err(Error::file(path, "one user; training and testing need one each, or give data.test"))
            }
            number => self.set_aside(number),
        }
    }
}
