//! Data in tables.

use std::sync::Arc;

use super::DataConfig;
use crate::Result;
use crate::data::table::{Columns, Format, Table};
use crate::data::users::{Held, Places};
use crate::data::{Dataset, Examples, Normalisation, Response};

impl DataConfig {
    /// The training table, and the means of its features over the examples to train on; without missing
    /// values nobody asks for them.
    pub(super) fn training_table(&self, format: &Format) -> Result<(Table, Vec<f64>)> {
        let path = self.own();
        let mut table = Table::read(path, format)?;
        let rows = match &self.test {
            Some(_) => (0..table.len()).collect(),
            None => self.set_aside(table.len())?.0,
        };
        let means = table.fill_by(&rows, path)?;
        Ok((table, means))
    }

    pub(super) fn format(&self) -> Format<'_> {
        Format {
            header: self.header,
            delimiter: self.delimiter.map_or(b',', |delimiter| delimiter as u8),
            response: self.response,
            labels: self.label.as_ref().map_or(&[], Columns::all),
            ignore: &self.ignore,
            user: self.user.as_ref(),
            missing: self.missing.as_deref(),
            on_missing: self.on_missing.unwrap_or_default(),
        }
    }

    /// The dataset of a table.
    pub(super) fn load_rows(&self) -> Result<Dataset> {
        let (classes, train, test, places) = self.load_table()?;
        let is_scaled = self.standardise && self.response == Response::Quantity;
        let scale = is_scaled.then(|| Normalisation::of_responses(&train, classes.len()));
        let statistics = Normalisation::of(&train);
        let dataset = match places {
            Some(places) => self.of_users(classes, test, statistics, Arc::new(Held::new(train, places)))?,
            None => self.dataset(classes, train, test, self.standardise.then_some(statistics))?,
        };
        Ok(Dataset { scale: scale.unwrap_or_else(|| dataset.scale.clone()), ..dataset })
    }

    /// Classes, training and test examples of a table, and which of the training examples each user has.
    fn load_table(&self) -> Result<(Vec<String>, Examples, Examples, Option<Places>)> {
        let format = self.format();
        let path = self.own();
        let mut table = Table::read(path, &format)?;
        let classes = table.classes(path)?;
        let Some(test_path) = &self.test else {
            let (train, test) = self.set_aside(table.len())?;
            table.fill_by(&train, path)?;
            let places = table.users(&train);
            let examples = table.examples(path, &classes)?;
            return Ok((classes, examples.subset(&train), examples.subset(&test), places));
        };
        let mut test = Table::read(test_path, &format)?;
        test.check_beside(&table, test_path)?;
        let all: Vec<usize> = (0..table.len()).collect();
        let means = table.fill_by(&all, path)?;
        test.fill(&means);
        let places = table.users(&all);
        let (train, test) = (table.examples(path, &classes)?, test.examples(test_path, &classes)?);
        Ok((classes, train, test, places))
    }
}
