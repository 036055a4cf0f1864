//! How good a model is: on test data as a whole and by class, and on what every client holds.

use std::path::Path;
use std::sync::Arc;

use super::{TrainedModel, csv_of};
use crate::data::{Dataset, Examples, Response};
use crate::error::Result;
use crate::learn::{Metrics, Objective, Score, objective, predicted as highest};

/// What a group of examples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All test examples.
    Test,
    /// The test examples of a class.
    Class,
    /// The examples that a client trains on.
    Client,
    /// The examples that a client keeps out of its training (`evaluation.client_share`).
    HeldOut,
}

impl Part {
    /// As tables call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Class => "class",
            Self::Client => "client",
            Self::HeldOut => "held-out",
        }
    }
}

/// A model on a group of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What the examples are.
    pub part: Part,
    /// The class, or the client from 1; "all" for [`Part::Test`].
    pub name: String,
    /// Their number.
    pub examples: usize,
    /// Mean loss, of classes the cross-entropy in nats; NaN without examples.
    pub loss: f64,
    /// Share of them, or of their labels, that is told rightly; NaN without examples, and of quantities.
    pub accuracy: f64,
    /// What else is measured, by name.
    pub metrics: Metrics,
    /// How many are taken for each class: for the groups of classes, the confusion matrix. Nothing where
    /// examples have no class.
    pub predicted: Vec<usize>,
}

impl Group {
    /// What is measured under this name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }
}

/// A model on its test data and its clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// What the model tells.
    pub response: Response,
    /// The classes in the order of [`Group::predicted`]; nothing where examples have none.
    pub classes: Vec<String>,
    /// All test examples, those of each class, and what each client holds.
    pub groups: Vec<Group>,
}

impl Evaluated {
    /// The groups of one kind.
    pub fn of(&self, part: Part) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.part == part)
    }

    /// As CSV, one group a line: `of,name,examples,loss,accuracy`, what else is measured, and how many
    /// examples are `predicted CLASS`.
    ///
    /// # Errors
    /// None but a defect.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let columns = self.classes.iter().map(|class| format!("predicted {class}"));
        let header = ["of", "name", "examples", "loss", "accuracy"].map(str::to_owned);
        let mut metrics: Vec<&String> = Vec::new();
        for (name, _) in self.groups.iter().flat_map(|group| &group.metrics) {
            if !metrics.contains(&name) {
                metrics.push(name);
            }
        }
        let line = |group: &Group| {
            let Group { part, name, examples, loss, accuracy, predicted, .. } = group;
            let metric = |name: &&String| group.metric(name).map_or_else(String::new, |x| x.to_string());
            let further = metrics.iter().map(metric);
            let own = [part.as_str().into(), name.clone(), examples.to_string()];
            let own = own.into_iter().chain([loss.to_string(), accuracy.to_string()]);
            own.chain(further).chain(predicted.iter().map(usize::to_string)).collect()
        };
        let header = header.into_iter().chain(metrics.iter().map(|name| (*name).clone())).chain(columns);
        let header = header.collect();
        csv_of(std::iter::once(header).chain(self.groups.iter().map(line)))
    }
}

impl TrainedModel {
    /// Measures the model on the run's test examples and on every client's examples; or only on labelled
    /// examples in another file or folder.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another form.
    pub fn evaluate(&self, data: Option<&Path>) -> Result<Evaluated> {
        let Dataset { response, train, test, class_names, .. } = self.dataset();
        let setting = &self.setting;
        let read = |path| setting.config().data.labelled(path, class_names, train.shape());
        let own = data.map(read).transpose()?;
        let test = own.as_ref().unwrap_or(test);
        let classes = if *response == Response::Class { class_names.clone() } else { Vec::new() };
        let measure = Measure { objective: objective::of(self.dataset()), classes: classes.len() };
        let outputs = self.outputs(test);
        let mut groups = vec![measure.group((Part::Test, "all".into()), &outputs, test)];
        for (class, name) in classes.iter().enumerate() {
            let own = |i: &usize| usize::from(test.labels()[*i]) == class;
            let places: Vec<usize> = (0..test.len()).filter(own).collect();
            let rows = places.iter().flat_map(|i| &outputs[i * classes.len()..(i + 1) * classes.len()]);
            let rows: Vec<f32> = rows.copied().collect();
            groups.push(measure.group((Part::Class, name.clone()), &rows, &test.subset(&places)));
        }
        if own.is_none() {
            let holdings = setting.holdings();
            let mut of_client = |part, k: usize, own: &Examples| {
                groups.push(measure.group((part, (k + 1).to_string()), &self.outputs(own), own));
            };
            for k in 0..holdings.clients() {
                of_client(Part::Client, k, &setting.own(k)?.subset());
            }
            for k in (0..holdings.clients()).filter(|_| holdings.are_tested()) {
                of_client(Part::HeldOut, k, &holdings.held_out(self.dataset(), k)?);
            }
        }
        Ok(Evaluated { response: *response, classes, groups })
    }

    fn outputs(&self, examples: &Examples) -> Vec<f32> {
        self.setting.learner().logits(&self.parameters, examples)
    }
}

/// What is measured of outputs.
struct Measure {
    objective: Arc<dyn Objective>,
    /// 0 where examples have no class.
    classes: usize,
}

impl Measure {
    fn group(&self, (part, name): (Part, String), outputs: &[f32], examples: &Examples) -> Group {
        let all: Vec<usize> = (0..examples.len()).collect();
        let Score { loss, hits } = self.objective.score(outputs, examples, &all);
        let mut predicted = vec![0; self.classes];
        if self.classes > 0 {
            outputs.chunks_exact(self.classes).filter_map(highest).for_each(|class| predicted[class] += 1);
        }
        let count = examples.len() as f64;
        let (loss, accuracy) = (loss / count, hits.unwrap_or(f64::NAN) / count);
        let metrics = self.objective.measure(loss, outputs, examples);
        Group { part, name, examples: examples.len(), loss, accuracy, metrics, predicted }
    }
}
