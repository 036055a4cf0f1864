//! Empirical attacks: what the leakage metrics mean for real images.
//!
//! Both attacks work on what a party really receives under the configured protocol. The adversary first forms
//! its best linear guess of the victim's update ([`crate::privacy::best_estimate`], with the formal view of
//! the same code), then
//!
//! - **inverts** it: the victim trained one step on one image, and the guess is turned into an image
//!   ([`inversion`]);
//! - **tests membership** (Yeom et al. 2018 for the final model): does the guess point along the update that
//!   a candidate image would cause, or is the loss of the final model small on it ([`roc`])?
//!
//! Without keys and at every σ of `[attack] key_stds`, for a neighbour and for the server. No message is
//! lost: the case that tells most. A neighbour uses the shares that it received and its own update; its own
//! key would tell it slightly more.
//!
//! What whole runs release, their models, is attacked for itself, beside what `[privacy.release]` promises
//! ([`released`]).

pub mod inversion;
pub mod released;
pub mod roc;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF};

use crate::algebra::{LinearForm, Unknown};
use crate::config::Config;
use crate::data::{Augmentation, Dataset, Examples};
use crate::error::{Error, Result, count};
use crate::learn::{Device, ModelConfig, SgdConfig, SolverConfig, learner};
use crate::network::Perfect;
use crate::parallel::goes_on;
use crate::privacy::{best_estimate, lmip};
use crate::protocol::cogc::{CoGcConfig, SecCoGcConfig};
use crate::protocol::{Aggregator, PartyId, ProtocolConfig, Update, Views};
use crate::seed::Seed;
use crate::train::Setting;
use inversion::{Mlp, closed_form, idlg, psnr, ssim};
use roc::{Roc, Scores};

/// One attacked image: a line of `inversion.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InversionRow {
    /// `neighbour` or `server`.
    pub adversary: String,
    /// σ of the keys; empty without keys.
    pub key_std: Option<f64>,
    /// `closed-form` or `idlg`.
    pub method: String,
    /// The victim, from 1.
    pub client: usize,
    /// Leakage of the victim to the adversary, bits per coordinate.
    pub lmip_bits: f64,
    /// The same for the whole update of d coordinates, were they independent: what a matched filter can use.
    pub update_bits: f64,
    /// Peak signal-to-noise ratio of the reconstruction, dB.
    pub psnr: f64,
    /// Structural similarity of the reconstruction.
    pub ssim: f64,
    /// Whether, of all clients' images, the victim's own correlates best with the reconstruction.
    pub identified: bool,
}

/// One membership test: a line of `membership.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipRow {
    /// `neighbour`, `server` or `final model`.
    pub adversary: String,
    /// σ of the keys; empty without keys.
    pub key_std: Option<f64>,
    /// Largest leakage of a client to the adversary, bits per coordinate; empty for the final model.
    pub lmip_bits: Option<f64>,
    /// The same for the whole update of d coordinates, were they independent: what a matched filter can use.
    pub update_bits: Option<f64>,
    /// Members tried, and as many non-members.
    pub members: usize,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Lower end of its 95 % confidence interval.
    pub auc_low: f64,
    /// Upper end of its 95 % confidence interval.
    pub auc_high: f64,
    /// Whether the interval holds ½: no edge was seen in this run.
    pub at_chance: bool,
}

/// A row of reconstructed images for the grid, values in \[0, 1\].
pub struct Strip {
    /// What the row shows.
    pub label: String,
    /// One image per client.
    pub images: Vec<Vec<f64>>,
}

/// One protocol under attack.
struct Target {
    key_std: Option<f64>,
    scheme: Box<dyn Aggregator>,
    /// What its messages are, in formal symbols.
    views: Views,
}

/// CoGC and the configured SecCoGC at every σ, with the same code.
fn targets(config: &Config) -> Result<Vec<Target>> {
    let ProtocolConfig::SecCoGc(template) = &config.protocol else {
        let rule = format!("`{}` has no keys to attack; take sec-cogc", config.protocol.kind());
        return Err(Error::config("protocol.kind", rule));
    };
    let SecCoGcConfig { code, stragglers, decoder, arithmetic, grid, .. } = *template;
    let without = ProtocolConfig::CoGc(CoGcConfig {
        code,
        stragglers,
        decoder,
        arithmetic,
        grid,
        ..CoGcConfig::default()
    });
    let with = config.attack.key_stds.iter().map(|&key_std| {
        (Some(key_std), ProtocolConfig::SecCoGc(SecCoGcConfig { key_std, ..template.clone() }))
    });
    let build = |(key_std, protocol): (Option<f64>, ProtocolConfig)| {
        let scheme = protocol.build(config.clients, Seed::new(config.seed).child("protocol", 0));
        let scheme = scheme.map_err(|error| error.within("protocol"))?;
        let views = scheme.views(1, &Perfect, 1).map_err(|error| error.within("protocol"))?;
        Ok(Target { key_std, scheme, views })
    };
    std::iter::once((None, without)).chain(with).map(build).collect()
}

/// What `adversary` makes of `victim`'s update: its best linear guess (d coordinates), and the leakage in
/// bits per coordinate.
fn guess(
    config: &Config,
    target: &Target,
    updates: &[Update],
    adversary: PartyId,
    victim: usize,
) -> Result<(Vec<f64>, f64)> {
    let seen =
        target.views.messages.iter().filter(|message| message.delivered && message.link.to == adversary);
    let mut view: Vec<LinearForm> = seen.flat_map(|message| message.forms.iter().cloned()).collect();
    let mut vectors = target.scheme.received(1, updates, &Perfect, 1, adversary)?;
    if let PartyId::Client(own) = adversary {
        view.push(LinearForm::unknown(Unknown::Input(own, 0)));
        let update = &updates[usize::from(own)];
        vectors.push(update.delta.iter().map(|x| update.weight * f64::from(*x)).collect());
    }
    // The attacks give every client the weight 1.
    let stds = vec![config.privacy.update_std; config.clients];
    let leak = lmip(&view, &stds)?[victim] / std::f64::consts::LN_2;
    let d = updates[victim].delta.len();
    let Some(weights) = best_estimate(&view, &stds, victim)? else {
        return Ok((vec![0.0; d], leak));
    };
    let mut sum = vec![0.0; d];
    for (a, vector) in weights.iter().zip(&vectors) {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += a / updates[victim].weight * x);
    }
    Ok((sum, leak))
}

/// A client that receives the victim's share, and the server.
fn adversaries(scheme: &dyn Aggregator, victim: usize) -> Vec<(&'static str, PartyId)> {
    let holders = scheme.code().map_or(&[][..], |code| code.holders(victim));
    let neighbour = holders.iter().find(|&&m| m != victim).map(|&m| ("neighbour", PartyId::Client(m as u16)));
    neighbour.into_iter().chain([("server", PartyId::Server)]).collect()
}

/// Inverts every client's one-image update, seen by a neighbour and by the server, at every level of keys.
/// Returns the measures and the images, the originals first.
///
/// # Errors
/// A protocol without keys, another model than `mlp` with one hidden layer, or examples that are no images or
/// are randomly changed. [`Error::Stopped`] once `stop` is set.
pub fn invert(
    config: &Config,
    setting: &Setting,
    stop: &AtomicBool,
) -> Result<(Vec<InversionRow>, Vec<Strip>)> {
    let ModelConfig::Mlp(mlp) = &config.model else {
        let rule =
            format!("the inversion is for mlp, not {}; take model.kind = \"mlp\"", config.model.kind());
        return Err(Error::config("model.kind", rule));
    };
    let &[hidden] = mlp.hidden.units() else {
        let rule = "the inversion is for one hidden layer; take a number instead of a list";
        return Err(Error::config("model.hidden", rule));
    };
    let dataset = setting.dataset();
    check_augmentation(dataset)?;
    check_whole(config)?;
    if !dataset.train.are_images() {
        let rule = format!("the inversion is for images, and {} has none", dataset.name);
        return Err(Error::config("data.name", rule));
    }
    let [channels, height, width] = dataset.train.shape();
    let pixels = channels * height * width;
    let rate = 0.1;
    let solver = SolverConfig::Sgd(SgdConfig {
        learning_rate: rate,
        steps: Some(1),
        batch_size: 1,
        ..SgdConfig::default()
    });
    let device: Device = "cpu".parse()?;
    let learner = learner(&config.model, &solver, dataset, device)?;
    let seed = Seed::new(config.seed);
    let start = learner.init(seed.child("model", 0));
    let model =
        Mlp::new(&start.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), pixels, hidden, dataset.classes);
    let shards = in_memory(setting)?;
    let chosen: Vec<usize> = shards.iter().map(|shard| shard[0]).collect();
    let updates: Vec<Update> = chosen
        .iter()
        .map(|&image| {
            let trained = learner.train(&start, &dataset.train, &[image], seed);
            Update { weight: 1.0, delta: Arc::new(trained.delta) }
        })
        .collect();

    // Standardised pixels and back, per channel.
    let norm = &dataset.normalisation;
    let plane = height * width;
    let visible = |x: &[f64]| -> Vec<f64> {
        let shown = |(i, x): (usize, &f64)| {
            let channel = i / plane;
            (x * norm.std[channel] + norm.mean[channel]).clamp(0.0, 1.0)
        };
        x.iter().enumerate().map(shown).collect()
    };
    let originals: Vec<Vec<f64>> = chosen
        .iter()
        .map(|&image| dataset.train.pixels(image).iter().map(|p| f64::from(*p) / 255.0).collect())
        .collect();

    let mut rows = Vec::new();
    let mut strips = vec![Strip { label: "original".into(), images: originals.clone() }];
    let targets = targets(config)?;
    for name in ["neighbour", "server"] {
        for target in &targets {
            let scheme = &*target.scheme;
            type Found = (f64, [(&'static str, Vec<f64>); 2]);
            let found: Vec<Found> = (0..config.clients)
                .into_par_iter()
                .map(|victim| {
                    goes_on(stop)?;
                    let who = adversaries(scheme, victim).into_iter().find(|(known, _)| *known == name);
                    let Some((_, who)) = who else {
                        return Err(Error::config(
                            "protocol.stragglers",
                            "0 gives no client a neighbour's share; give at least 1",
                        ));
                    };
                    let (update, leak) = guess(config, target, &updates, who, victim)?;
                    let gradient: Vec<f64> = update.iter().map(|x| -x / rate).collect();
                    let gradient = Mlp::new(&gradient, pixels, hidden, dataset.classes);
                    let start = seed.child("inversion", victim as u64);
                    let matched = idlg(&model, &gradient, config.attack.iterations, start);
                    let direct = closed_form(&gradient);
                    Ok((leak, [("closed-form", visible(&direct)), ("idlg", visible(&matched))]))
                })
                .collect::<Result<_>>()?;
            for (victim, (leak, images)) in found.iter().enumerate() {
                for (method, image) in images {
                    let best = originals
                        .iter()
                        .map(|original| correlation(original, image))
                        .enumerate()
                        .max_by(|a, b| a.1.total_cmp(&b.1));
                    rows.push(InversionRow {
                        adversary: name.into(),
                        key_std: target.key_std,
                        method: (*method).into(),
                        client: victim + 1,
                        lmip_bits: *leak,
                        update_bits: leak * start.len() as f64,
                        psnr: psnr(&originals[victim], image),
                        ssim: ssim(&originals[victim][..plane], &image[..plane], width),
                        identified: best.is_some_and(|(k, _)| k == victim),
                    });
                }
            }
            let keys = target.key_std.map_or_else(|| "no keys".into(), |std| format!("σ = {std}"));
            let images = found.into_iter().map(|(_, [_, (_, matched)])| matched).collect();
            strips.push(Strip { label: format!("{name}, {keys}"), images });
        }
    }
    Ok((rows, strips))
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - ma) * (b - mb);
        aa += (a - ma).powi(2);
        bb += (b - mb).powi(2);
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

/// The exact 95 % confidence interval of a proportion (Clopper & Pearson 1934).
#[must_use]
pub fn proportion_interval(hits: usize, trials: usize) -> (f64, f64) {
    let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    let (k, n) = (hits as f64, trials as f64);
    let low = if hits == 0 { 0.0 } else { quantile(k, n - k + 1.0, 0.025) };
    let high = if hits == trials { 1.0 } else { quantile(k + 1.0, n - k, 0.975) };
    (low, high)
}

/// Refuses random changes of the training images: the attacks compare gradients of the images as they are.
fn check_augmentation(dataset: &Dataset) -> Result<()> {
    if dataset.augmentation == Augmentation::default() {
        return Ok(());
    }
    let key = if dataset.augmentation.flip { "data.flip" } else { "data.crop" };
    Err(Error::config(key, "the attacks work on unchanged images; remove it"))
}

/// The clients' examples, among each other in memory.
fn in_memory(setting: &Setting) -> Result<&[Vec<usize>]> {
    let rule =
        "the attacks look at many clients' examples at once, which users hold here; take data without users";
    setting.holdings().shards().ok_or_else(|| Error::config("partition.kind", rule))
}

fn check_whole(config: &Config) -> Result<()> {
    match config.compression.is_none() {
        true => Ok(()),
        false => Err(Error::config("compression.kind", "the attacks work on whole updates; take \"none\"")),
    }
}

/// Tests membership on the first round's messages at every level of keys, and on the final model after
/// `rounds` rounds. Returns the areas and the curves, in the same order.
///
/// Members are training images and non-members test images, so that a difference between the two sets would
/// count as membership. The scores of all victims are pooled, and those of one victim share its key: the
/// intervals count victims, not scores ([`Roc::interval`]). What all victims share in one run, such as the
/// server's view of one round, no interval of one run shows. "At chance" in one run says that no edge was
/// seen, not that there is none.
///
/// # Errors
/// A protocol without keys, or randomly changed images. [`Error::Stopped`] once `stop` is set.
pub fn membership(
    config: &Config,
    setting: &Setting,
    stop: &AtomicBool,
) -> Result<(Vec<MembershipRow>, Vec<Roc>)> {
    let dataset = setting.dataset();
    check_augmentation(dataset)?;
    check_whole(config)?;
    let learner = setting.learner();
    let seed = Seed::new(config.seed);
    let start = learner.init(seed.child("model", 0));
    let shards = in_memory(setting)?;
    let updates: Vec<Update> = shards
        .par_iter()
        .enumerate()
        .map(|(k, shard)| {
            let mut trained = learner.train(&start, &dataset.train, shard, seed.child("client", k as u64));
            config.solver.solver().shared().clip(&mut trained.delta);
            Update { weight: 1.0, delta: Arc::new(trained.delta) }
        })
        .collect();
    let per_client = shards.iter().map(Vec::len).min().unwrap_or(0).min(dataset.test.len() / config.clients);
    if per_client == 0 {
        let rule = format!(
            "{}, but only {} to serve as non-members; take fewer clients",
            count(config.clients, "client"),
            count(dataset.test.len(), "test image")
        );
        return Err(Error::config("clients", rule));
    }
    let mut rows = Vec::new();
    let mut curves = Vec::new();
    let targets = targets(config)?;
    for name in ["neighbour", "server"] {
        for target in &targets {
            let scheme = &*target.scheme;
            let scored: Vec<(f64, Scores)> = (0..config.clients)
                .into_par_iter()
                .filter_map(|victim| {
                    let who = adversaries(scheme, victim).into_iter().find(|(known, _)| *known == name)?.1;
                    let guessed = goes_on(stop).and_then(|()| guess(config, target, &updates, who, victim));
                    Some(guessed.map(|(guess, leak)| {
                        let along = |data, example: usize| {
                            let trained = learner.train(&start, data, &[example], seed);
                            cosine(&guess, &trained.delta)
                        };
                        let members = shards[victim][..per_client].iter().map(|&i| along(&dataset.train, i));
                        let others =
                            (victim * per_client..(victim + 1) * per_client).map(|i| along(&dataset.test, i));
                        (leak, Scores { members: members.collect(), others: others.collect() })
                    }))
                })
                .collect::<Result<_>>()?;
            let leak = scored.iter().map(|(leak, _)| *leak).fold(0.0, f64::max);
            let draws: Vec<Scores> = scored.into_iter().map(|(_, scores)| scores).collect();
            let roc = Roc::of(&draws);
            let members = draws.len() * per_client;
            rows.push(row(name, target.key_std, Some((leak, start.len())), members, &roc));
            curves.push(roc);
        }
    }

    let run = setting.run(&config.protocol)?;
    let mut state = run.start();
    while state.round < config.rounds {
        goes_on(stop)?;
        run.round(&mut state)?;
    }
    let score =
        |data: &Examples, i: usize| -learner.evaluate(&state.server.parameters, &data.subset(&[i])).loss;
    let of_client = |(k, shard): (usize, &Vec<usize>)| Scores {
        members: shard[..per_client].iter().map(|&i| score(&dataset.train, i)).collect(),
        others: (k * per_client..(k + 1) * per_client).map(|i| score(&dataset.test, i)).collect(),
    };
    let clients: Vec<Scores> = shards.iter().enumerate().map(of_client).collect();
    let roc = Roc::of(&clients);
    rows.push(row("final model", run.aggregator().scheme().key_std, None, shards.len() * per_client, &roc));
    curves.push(roc);
    Ok((rows, curves))
}

fn row(
    adversary: &str,
    key_std: Option<f64>,
    leak: Option<(f64, usize)>,
    members: usize,
    roc: &Roc,
) -> MembershipRow {
    let (auc_low, auc_high) = roc.interval();
    MembershipRow {
        adversary: adversary.into(),
        key_std,
        lmip_bits: leak.map(|(bits, _)| bits),
        update_bits: leak.map(|(bits, d)| bits * d as f64),
        members,
        auc: roc.auc,
        auc_low,
        auc_high,
        at_chance: roc.at_chance(),
    }
}

fn cosine(a: &[f64], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let b = f64::from(*b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}
