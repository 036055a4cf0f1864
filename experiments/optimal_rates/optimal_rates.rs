//! What the schemes over prime fields send and hold, in symbols per symbol of an update, next to the
//! theorems: messages against the optimal rates of Zhao and Sun (Theorem 1), Wan et al. and the hierarchical
//! scheme, keys against Zhao and Sun's Theorem 2. Everything is counted in the messages and keys of the party
//! code that runs.
//!
//! `cargo run --release --example optimal_rates [FOLDER]` writes `optimal_rates.csv`, `randomness_cost.csv`,
//! their tables and a figure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nalgebra::DMatrix;
use serde::Serialize;

use seccogc::algebra::field::M31;
use seccogc::algebra::linear::rank;
use seccogc::algebra::{LinearForm, Scalar, Unknown};
use seccogc::error::{Error, Result};
use seccogc::keys::FormalKeys;
use seccogc::message::{LinkUse, Observed};
use seccogc::network::Perfect;
use seccogc::protocol::exchange::formal;
use seccogc::protocol::groupwise::Groupwise;
use seccogc::protocol::hierarchical::Hierarchical;
use seccogc::protocol::light_sec_agg::LightSecAgg;
use seccogc::protocol::two_round::Rounds;
use seccogc::protocol::zhao_sun::ZhaoSun;
use seccogc::protocol::{Decoded, PartyId, Protocol, Views};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{markdown, plot_lines};
use seccogc::seed::Seed;

/// One kind of message of one scheme.
#[derive(Serialize)]
struct Rate {
    scheme: &'static str,
    parameters: String,
    message: &'static str,
    /// Largest message, in updates.
    measured: f64,
    /// The optimum, in updates.
    theorem: f64,
}

/// The keys of one scheme.
#[derive(Serialize)]
struct Randomness {
    scheme: &'static str,
    clients: usize,
    parameters: String,
    /// Most symbols that a client holds before the round, in updates.
    per_client: f64,
    /// Rank of all keys together, in updates.
    total: f64,
    /// The least total for any scheme without collusion: K.
    bound: f64,
}

fn views<P: Protocol<LinearForm<M31>>>(protocol: &P, clients: usize) -> Result<Views<M31>> {
    let views = formal(protocol, clients, 1, &FormalKeys, &Perfect, 1);
    match views.decoded {
        Decoded::Sum { .. } => Ok(views),
        _ => Err(Error::Refused("no sum over links that never fail".into())),
    }
}

/// The largest message to the server, the first or the second of a sender, in updates.
fn largest(views: &Views<M31>, transfer: u8) -> f64 {
    let is = |link: &LinkUse| (link.to, link.transfer) == (PartyId::Server, transfer);
    let sizes = views.messages.iter().filter(|message| is(&message.link));
    longest(sizes, views)
}

fn longest<'a>(messages: impl Iterator<Item = &'a Observed<M31>>, views: &Views<M31>) -> f64 {
    messages.map(|message| message.forms.len()).max().unwrap_or(0) as f64 / views.len as f64
}

fn randomness(scheme: &'static str, clients: usize, parameters: &str, views: &Views<M31>) -> Randomness {
    let all: Vec<&LinearForm<M31>> = views.keys.iter().flat_map(|(_, forms)| forms).collect();
    let mut columns: BTreeMap<Unknown, usize> = BTreeMap::new();
    for (unknown, _) in all.iter().flat_map(|form| form.terms()) {
        let next = columns.len();
        columns.entry(unknown).or_insert(next);
    }
    let mut matrix = DMatrix::from_element(all.len(), columns.len(), M31::ZERO);
    for (i, form) in all.iter().enumerate() {
        form.terms().for_each(|(unknown, c)| matrix[(i, columns[&unknown])] = c);
    }
    let of_clients = views.keys.iter().filter(|(id, _)| matches!(id, PartyId::Client(_)));
    let held = of_clients.map(|(_, forms)| forms.len()).max().unwrap_or(0);
    let updates = |symbols: usize| symbols as f64 / views.len as f64;
    Randomness {
        scheme,
        clients,
        parameters: parameters.into(),
        per_client: updates(held),
        total: updates(rank(&matrix)),
        bound: clients as f64,
    }
}

fn binomial(n: usize, k: usize) -> f64 {
    if k > n { 0.0 } else { (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product() }
}

fn rates() -> Result<Vec<Rate>> {
    let mut rates = Vec::new();
    for clients in 3..=8usize {
        for colluders in 0..=2 {
            for survivors in colluders + 1..clients {
                let parameters = format!("K = {clients}, U = {survivors}, T = {colluders}");
                let mut add = |scheme, message, measured, theorem| {
                    rates.push(Rate { scheme, parameters: parameters.clone(), message, measured, theorem });
                };
                let second = 1.0 / (survivors - colluders) as f64;
                let zhao_sun =
                    views(&Rounds::new(ZhaoSun::<M31>::new(clients, survivors, colluders)?), clients)?;
                add("zhao-sun", "R1: upload", largest(&zhao_sun, 0), 1.0);
                add("zhao-sun", "R2: answer", largest(&zhao_sun, 1), second);
                let light =
                    views(&Rounds::new(LightSecAgg::<M31>::new(clients, survivors, colluders)?), clients)?;
                add("light-sec-agg", "R1: upload", largest(&light, 0), 1.0);
                add("light-sec-agg", "R2: answer", largest(&light, 1), second);
            }
        }
    }
    for clients in 3..=6usize {
        for survivors in 1..=clients {
            for size in 2..=clients {
                let Ok(scheme) = Groupwise::<M31>::new(clients, survivors, size, Seed::new(1)) else {
                    continue;
                };
                let views = views(&Rounds::new(scheme), clients)?;
                let all = binomial(clients - 1, size - 1);
                let absent =
                    if clients > survivors { binomial(clients - 1 - survivors, size - 1) } else { 0.0 };
                let parameters = format!("K = {clients}, U = {survivors}, S = {size}");
                let first = all / (all - absent);
                for (message, transfer, theorem) in
                    [("R1: upload", 0, first), ("R2: answer", 1, 1.0 / survivors as f64)]
                {
                    let measured = largest(&views, transfer);
                    let parameters = parameters.clone();
                    rates.push(Rate { scheme: "groupwise", parameters, message, measured, theorem });
                }
            }
        }
    }
    for helpers in 2..=6usize {
        for threshold in 1..=helpers {
            for colluding in 0..threshold {
                let views = views(&Hierarchical::<M31>::new(3, helpers, threshold, colluding)?, 3)?;
                let parameters = format!("K = 3, N = {helpers}, N_r = {threshold}, T = {colluding}");
                let theorem = 1.0 / (threshold - colluding) as f64;
                let to_helper = views.messages.iter().filter(|m| matches!(m.link.to, PartyId::Helper(_)));
                let shares = longest(to_helper.filter(|m| matches!(m.link.from, PartyId::Client(_))), &views);
                for (message, measured) in
                    [("R_X: client to helper", shares), ("R_Y: helper to server", largest(&views, 1))]
                {
                    let parameters = parameters.clone();
                    rates.push(Rate { scheme: "hierarchical", parameters, message, measured, theorem });
                }
            }
        }
    }
    Ok(rates)
}

fn costs() -> Result<Vec<Randomness>> {
    let mut costs = Vec::new();
    for clients in 3..=8usize {
        let survivors = clients.div_ceil(2) + 1;
        for colluders in [0, 1] {
            let parameters = format!("U = {survivors}, T = {colluders}");
            let scheme = Rounds::new(ZhaoSun::<M31>::new(clients, survivors, colluders)?);
            let name = if colluders == 0 { "zhao-sun, T = 0" } else { "zhao-sun, T = 1" };
            costs.push(randomness(name, clients, &parameters, &views(&scheme, clients)?));
        }
        let scheme = Rounds::new(LightSecAgg::<M31>::new(clients, survivors, 1)?);
        let parameters = format!("U = {survivors}, T = 1");
        costs.push(randomness("light-sec-agg, T = 1", clients, &parameters, &views(&scheme, clients)?));
        let scheme = Rounds::new(Groupwise::<M31>::new(clients, survivors, 2, Seed::new(1))?);
        costs.push(randomness(
            "groupwise, S = 2",
            clients,
            &format!("U = {survivors}"),
            &views(&scheme, clients)?,
        ));
    }
    Ok(costs)
}

fn main() -> Result<()> {
    let folder =
        std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs/optimal_rates"), PathBuf::from);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let rates = rates()?;
    write_atomically(&folder.join("optimal_rates.csv"), &to_csv(&rates)?)?;
    let mut kinds: BTreeMap<(&str, &str), (usize, f64)> = BTreeMap::new();
    for rate in &rates {
        let (points, worst) = kinds.entry((rate.scheme, rate.message)).or_default();
        *points += 1;
        *worst = worst.max((rate.measured - rate.theorem).abs());
    }
    let lines: Vec<[String; 4]> = kinds
        .iter()
        .map(|((scheme, message), (points, worst))| {
            [(*scheme).into(), (*message).into(), points.to_string(), format!("{worst:.1e}")]
        })
        .collect();
    let header = ["scheme", "message", "parameter sets", "largest difference to the optimum"];
    let table = markdown(&header, &[0, 1], &lines);
    println!("{table}");
    write_atomically(&folder.join("optimal_rates.md"), table.as_bytes())?;

    let costs = costs()?;
    write_atomically(&folder.join("randomness_cost.csv"), &to_csv(&costs)?)?;
    let lines: Vec<[String; 6]> = costs
        .iter()
        .map(|cost| {
            let number = |x: f64| format!("{x:.2}");
            [
                cost.scheme.into(),
                cost.clients.to_string(),
                cost.parameters.clone(),
                number(cost.per_client),
                number(cost.total),
                number(cost.bound),
            ]
        })
        .collect();
    let header = ["scheme", "K", "parameters", "held by a client", "in all", "least in all (T = 0)"];
    let table = markdown(&header, &[0, 2], &lines);
    println!("{table}");
    write_atomically(&folder.join("randomness_cost.md"), table.as_bytes())?;
    let mut names: Vec<&str> = costs.iter().map(|cost| cost.scheme).collect();
    names.sort_unstable();
    names.dedup();
    let line = |name: &str, of: fn(&Randomness) -> f64| {
        let points = costs.iter().filter(|cost| cost.scheme == name);
        points.map(|cost| (cost.clients as f64, of(cost))).collect::<Vec<_>>()
    };
    let mut curves: Vec<(String, Vec<(f64, f64)>)> =
        names.iter().map(|name| ((*name).to_owned(), line(name, |cost| cost.total))).collect();
    curves.push(("least for T = 0".into(), line(names[0], |cost| cost.bound)));
    plot_lines(
        &curves,
        ["clients K", "independent key symbols (updates)"],
        "Keys in all",
        "U = K/2 + 1, rounded up; ranks of the keys of the running schemes over a prime field",
        &folder.join("randomness_cost"),
    )
}
