//! A fixed number of classes for each client.

use serde::{Deserialize, Serialize};

use super::{Partition, of_class, shuffled};
use crate::error::{Error, Result};
use crate::seed::Rng;

/// Every client holds examples of `classes` different classes; each class is divided evenly among its
/// holders.
///
/// Classes are dealt to the clients in turn, from a random order of all classes, so that the numbers of
/// holders of two classes differ by one at most. With fewer than (number of classes / `classes`) clients some
/// classes have no holder and their examples are not used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassesPerClient {
    /// Classes per client, from 1 (the extreme) to the number of classes of the dataset. Default 1.
    #[schemars(range(min = 1))]
    pub classes: usize,
}

impl Default for ClassesPerClient {
    fn default() -> Self {
        Self { classes: 1 }
    }
}

impl Partition for ClassesPerClient {
    fn check(&self) -> Result<()> {
        match self.classes {
            0 => Err(Error::config("classes", "must be at least 1, not 0")),
            _ => Ok(()),
        }
    }

    fn needs_classes(&self) -> bool {
        true
    }

    fn divide(&self, labels: &[u16], classes: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()> {
        let held = self.classes;
        if held > classes {
            return Err(Error::config("classes", format!("must be at most {classes}, not {held}")));
        }
        // `held` consecutive slots of the repeated order are different classes.
        let order = shuffled(0..classes, rng);
        let mut holders = vec![Vec::new(); classes];
        for slot in 0..parts.len() * held {
            holders[order[slot % classes]].push(slot / held);
        }
        for (class, holders) in holders.iter().enumerate().filter(|(_, holders)| !holders.is_empty()) {
            for (i, example) in shuffled(of_class(labels, class), rng).into_iter().enumerate() {
                parts[holders[i % holders.len()]].push(example);
            }
        }
        Ok(())
    }

    fn least(&self) -> Option<usize> {
        None
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        ("classes", "raise classes or use fewer clients")
    }
}
