//! What a client trains on.

use std::path::Path;

use super::message::{Welcome, of_server, told};
use crate::config::Config;
use crate::data::{Augmentation, Dataset, DatasetName, Normalisation, Response};
use crate::error::{Error, Result};
use crate::train::shards;

/// The examples of the client that is the `index`-th of all names, and which of them are its own: the part of
/// a published dataset that the configuration gives it, or a file or folder of its own.
///
/// # Errors
/// Data that cannot be read, or is not what the run learns; no example at all.
pub(super) fn examples(
    data: &Path,
    index: usize,
    config: &mut Config,
    welcome: &Welcome,
) -> Result<(Dataset, Vec<usize>)> {
    let published = DatasetName::ALL.iter().find(|name| data.as_os_str() == name.as_str());
    let (dataset, shard) = match published {
        Some(&name) if name == config.data.name => {
            config.data.dir = None;
            let dataset = config.data.load()?;
            let shard = shards(config, &dataset)?.swap_remove(index);
            (dataset, shard)
        }
        Some(name) => {
            let rule = format!("this run learns {}, not {name}; take that", config.data.name);
            return Err(Error::Refused(format!("--data {name}: {rule}")));
        }
        None => {
            let dataset = own(data, config, welcome)?;
            let shard = (0..dataset.train.len()).collect();
            (dataset, shard)
        }
    };
    if shard.is_empty() {
        return Err(Error::Refused(format!("--data {}: no example to train on", data.display())));
    }
    Ok((dataset, shard))
}

/// A client's own examples, in the form of the server's.
fn own(data: &Path, config: &Config, welcome: &Welcome) -> Result<Dataset> {
    let Welcome { classes, shape, mean, std, scale, .. } = welcome;
    // What the server says of columns and classes may stand in the error.
    let refuse = |error: Error| Error::Refused(told(&error.to_string()));
    let train = config.data.load_own(data, classes, *shape).map_err(refuse)?;
    let channels = if shape[..2] == [1, 1] { shape[2] } else { shape[0] };
    let fits = |s: &Vec<f64>| (s.len() == channels || s.len() == shape[0]) && s.iter().all(|x| x.is_finite());
    if !fits(mean) || !fits(std) || std.iter().any(|s| *s <= 0.0) {
        return Err(of_server("its statistics do not fit its examples".into()));
    }
    let scale = match config.data.response {
        Response::Quantity => Normalisation {
            mean: scale.iter().map(|(mean, _)| *mean).collect(),
            std: scale.iter().map(|(_, std)| *std).collect(),
        },
        Response::Class | Response::Labels => Normalisation::identity(classes.len()),
    };
    let are_numbers = scale.mean.iter().chain(&scale.std).all(|x| x.is_finite());
    if scale.mean.len() != classes.len() || !are_numbers || scale.std.iter().any(|s| *s <= 0.0) {
        return Err(of_server("its statistics do not fit the quantities to be learnt".into()));
    }
    if config.data.response != Response::Class && train.responses(0).len() != classes.len() {
        return Err(of_server(
            "it names another number of columns to be learnt than its configuration".into(),
        ));
    }
    Ok(Dataset {
        name: config.data.name.as_str(),
        response: config.data.response,
        scale,
        classes: classes.len(),
        class_names: classes.clone(),
        test: train.subset(&[]),
        train,
        normalisation: Normalisation { mean: mean.clone(), std: std.clone() },
        augmentation: Augmentation { flip: config.data.flip, crop: config.data.crop },
        users: None,
    })
}
