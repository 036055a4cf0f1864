//! Unreliable links: which messages arrive.
//!
//! A link model is a pure function of [`LinkUse`] and its seed. It does not know what is sent nor who asked
//! first, so all protocols of a comparison see the same failures. Models with memory have the training round
//! as their time: all attempts and transfers of a round meet the same state.
//!
//! | file | law | analytic erasure probability |
//! |---|---|---|
//! | [`bernoulli`] | independent uses | p |
//! | [`gilbert_elliott`] | bursts on every link | π_B e_B + (1 − π_B) e_G |
//! | [`rayleigh`] | block fading | 1 − exp(−(2^R − 1)/SNR) |
//! | [`client_outage`] | clients are down for a while | 1 − up(from) up(to) (1 − e) |
//! | [`deadline`] | late messages are lost | exp(−(deadline − latency − bytes/rate)/jitter) |
//! | [`trace`] | replay of a recording | its frequency |
//!
//! What a scheme takes these probabilities for is its own affair ([`assumed`]).

pub mod assumed;
pub mod bernoulli;
mod chain;
pub mod client_outage;
pub mod deadline;
mod downlink;
mod draw;
pub mod gilbert_elliott;
pub mod rayleigh;
mod reciprocal;
pub mod trace;
pub mod values;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use crate::choice::choice;
use crate::error::{Error, Result};
pub use crate::message::LinkUse;
pub use crate::message::Node;
use crate::message::{Expects, Phase, Role};
use crate::seed::Seed;

/// What the losses of a model have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// All uses are independent.
    None,
    /// Distinct links are independent; uses of one link in one round or in neighbouring rounds are not.
    Time,
    /// Distinct links fail together.
    Links,
}

/// A law of message loss on a family of links.
pub trait LinkModel: Send + Sync {
    /// Whether the message of this use arrives.
    fn delivers(&self, link: LinkUse<Node>) -> bool;

    /// The marginal probability, in \[0, 1\], that a message of `bytes` bytes is lost.
    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64;

    /// Whether a party sends nothing at all, so that no link has a message of it.
    fn is_silent(&self, _party: Node) -> bool {
        false
    }

    /// Seconds from the start of the phase until the receiver has the message or gives up waiting; `None`
    /// where messages take no time.
    fn seconds(&self, _link: LinkUse<Node>) -> Option<f64> {
        None
    }

    /// Seconds that a receiver waits for a message that is never sent; `None` where messages take no time.
    fn deadline(&self, _from: Node, _to: Node) -> Option<f64> {
        None
    }

    /// The links on which the server sends the clients its model before a round; `None` where that always
    /// arrives.
    fn downlinks(&self) -> Option<&dyn LinkModel> {
        None
    }

    /// Whether a receiver adds up what it received of several transfers on a link, as if they were copies of
    /// one message.
    fn combines(&self) -> bool {
        false
    }

    /// What the losses have in common: it decides which closed forms hold.
    fn dependence(&self) -> Dependence {
        Dependence::None
    }
}

/// Simulated seconds of a round of `attempts` attempts in these `phases` that sent `uses`; `None` where
/// messages take no time.
///
/// The messages of a phase travel at the same time, and a phase lasts until the last of them has arrived or
/// been given up. Of `parties`, those whom the phase [`Expects`] and who stay silent cost the whole deadline.
/// Computing between them takes no time; that before them is a matter of devices.
#[must_use]
pub fn round_seconds(
    links: &dyn LinkModel,
    phases: &[Phase],
    parties: &[impl Copy + Into<Node>],
    attempts: u32,
    uses: impl IntoIterator<Item = impl Into<LinkUse<Node>>>,
) -> Option<f64> {
    let place: HashMap<(Role, Role, u8), usize> = phases
        .iter()
        .zip(Phase::transfers(phases))
        .enumerate()
        .map(|(i, (phase, transfer))| ((phase.from, phase.to, transfer), i))
        .collect();
    let parties: Vec<Node> = parties.iter().map(|&party| party.into()).collect();
    let mut steps: BTreeMap<(u32, usize), Step> = BTreeMap::new();
    for link in uses.into_iter().map(Into::<LinkUse<Node>>::into) {
        if let Some(&phase) = place.get(&(link.from.role(), link.to.role(), link.transfer)) {
            let step = steps.entry((link.attempt, phase)).or_default();
            step.last = later(step.last, links.seconds(link));
            step.senders.insert(link.from);
            step.receivers.insert(link.to);
        }
    }
    let nobody = Step::default();
    let mut total = None;
    for attempt in 0..attempts {
        let mut addressed = &nobody.receivers;
        for (i, phase) in phases.iter().enumerate() {
            let step = steps.get(&(attempt, i)).unwrap_or(&nobody);
            let is_expected = |party: &&Node| match phase.expects {
                Expects::Everybody => party.role() == phase.from,
                Expects::Addressed => addressed.contains(party),
                Expects::Nobody => false,
            };
            let silent = parties.iter().filter(is_expected).find(|party| !step.senders.contains(party));
            let receiver = |from: Node| parties.iter().find(|to| to.role() == phase.to && **to != from);
            let given_up = silent.and_then(|from| links.deadline(*from, *receiver(*from)?));
            if let Some(seconds) = later(step.last, given_up) {
                total = Some(total.unwrap_or(0.0) + seconds);
            }
            if phase.from == Role::Server {
                addressed = &step.receivers;
            }
        }
    }
    total
}

/// What was sent in a phase of an attempt.
#[derive(Default)]
struct Step {
    /// Seconds until the last message has arrived or been given up.
    last: Option<f64>,
    senders: HashSet<Node>,
    receivers: HashSet<Node>,
}

/// The later of two moments; messages that take no time have none.
fn later(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}

/// Which links a model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every client to every other client.
    Mesh,
    /// Every client to the server.
    Star,
    /// Every client to every helper.
    ToHelpers,
    /// Every helper to the other helpers, or to the server.
    OfHelpers,
}

/// The family of links that a model is built for.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// Number of clients M.
    pub clients: usize,
    /// Rounds that will be asked for.
    pub rounds: u64,
    /// Between which parties.
    pub shape: Shape,
    /// Seed of this family.
    pub seed: Seed,
    /// Seed of what both families have in common: places and outages of clients.
    pub common: Seed,
}

impl Side {
    /// All links, or a single one where all are `alike`.
    fn links(&self, alike: bool) -> impl Iterator<Item = (Node, Node)> {
        let Self { clients, shape, .. } = *self;
        let client = |k: usize| Node::Client(k as u32);
        let links = (0..clients).flat_map(move |k| {
            let receivers = match shape {
                Shape::Mesh => 0..clients,
                _ => 0..1,
            };
            receivers.filter(move |&m| shape != Shape::Mesh || m != k).map(move |m| match shape {
                Shape::Star => (client(k), Node::Server),
                Shape::Mesh => (client(k), client(m)),
                // All helpers are alike.
                Shape::ToHelpers => (client(k), Node::Helper(0)),
                Shape::OfHelpers => (Node::Helper(0), Node::Server),
            })
        });
        links.take(if alike { 1 } else { usize::MAX })
    }
}

/// The section of a law of message loss.
pub trait LinkLaw: Send + Sync {
    /// Makes paths absolute: they are relative to the configuration's `folder`.
    fn resolve_paths(&mut self, folder: &Path);

    /// Builds the model of one family of links.
    ///
    /// # Errors
    /// See [`NetworkConfig::build`]; keys are relative to the section.
    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>>;
}

choice! {
    /// A law of message loss, chosen by `kind`.
    LinkConfig by "kind" or "bernoulli" as law / law_mut: LinkLaw {
        /// Every use of a link fails independently with that link's probability.
        "bernoulli" => Bernoulli(bernoulli::Bernoulli),
        /// Bursts: every link is good or bad for a while.
        "gilbert-elliott" => GilbertElliott(gilbert_elliott::GilbertElliott),
        /// Rayleigh block fading at a given SNR and rate.
        "rayleigh" => Rayleigh(rayleigh::Rayleigh),
        /// Clients are down for a while, with all their links.
        "client-outage" => ClientOutage(client_outage::ClientOutage),
        /// Messages take time and are lost when they are late.
        "deadline" => Deadline(deadline::Deadline),
        /// Replay of recorded losses from a CSV file.
        "trace" => Trace(trace::Trace),
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::Bernoulli(bernoulli::Bernoulli::default())
    }
}

/// What a client does that misses the model of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissedModel {
    /// It trains from the last one that it got, and sends how far it went from there.
    #[default]
    OldModel,
    /// It sends nothing.
    SitOut,
}

/// The links of the system, by their ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Links between clients, used for gradient sharing.
    pub client_client: LinkConfig,
    /// Links from the clients to the server, used for uploads.
    pub client_server: LinkConfig,
    /// Links from the server to the clients, on which it sends its model before every round but the first,
    /// whose model all have; numbers are for all links, or one per client. Without this section the model
    /// always arrives; what the server tells clients within a round always does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_client: Option<LinkConfig>,
    /// What a client does that misses the model of a round: "old-model" trains from the last one that it got,
    /// "sit-out" sends nothing in this round.
    pub missed_model: MissedModel,
    /// Links from the clients to the helpers of a hierarchical protocol. Numbers are for all links, or one
    /// per client.
    pub client_helper: LinkConfig,
    /// Links between the helpers. Numbers are for all links.
    pub helper_helper: LinkConfig,
    /// Links from the helpers to the server. Numbers are for all links.
    pub helper_server: LinkConfig,
    /// Whether what two clients send each other in one step arrives both ways or not at all.
    pub reciprocal: bool,
}

impl NetworkConfig {
    /// Makes the paths of the section absolute: they are relative to the configuration's `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &Path) {
        let helpers = [&mut self.client_helper, &mut self.helper_helper, &mut self.helper_server];
        let clients = [&mut self.client_client, &mut self.client_server];
        for links in clients.into_iter().chain(helpers).chain(&mut self.server_client) {
            links.law_mut().resolve_paths(folder);
        }
    }

    /// Builds the links of a system of `clients` clients for `rounds` rounds.
    ///
    /// # Errors
    /// A number out of its range, a list or matrix of the wrong size, a chain without a stationary law, a
    /// file that cannot be read or a trace that is too short; reciprocal links that differ by direction.
    pub fn build(&self, clients: usize, rounds: u64, seed: Seed) -> Result<Network> {
        let side = |config: &LinkConfig, name: &str, shape| {
            let side = Side { clients, rounds, shape, seed: seed.child(name, 0), common: seed };
            config.law().build(&side).map_err(|error| error.within(name))
        };
        let between = side(&self.client_client, "client_client", Shape::Mesh)?;
        let one_way = between.dependence();
        let down = self.server_client.as_ref().map(|down| side(down, "server_client", Shape::Star));
        if down.is_none() && self.missed_model != MissedModel::default() {
            let rule = "nobody misses the model on links that never fail; give server_client, or remove it";
            return Err(Error::config("missed_model", rule));
        }
        let between = if self.reciprocal { reciprocal::both_ways(between, clients)? } else { between };
        Ok(Network {
            client_client: between,
            server_client: down.transpose()?.map(|down| Box::new(downlink::Downlink(down)) as _),
            reciprocal: self.reciprocal,
            one_way,
            client_server: side(&self.client_server, "client_server", Shape::Star)?,
            client_helper: side(&self.client_helper, "client_helper", Shape::ToHelpers)?,
            helper_helper: side(&self.helper_helper, "helper_helper", Shape::OfHelpers)?,
            helper_server: side(&self.helper_server, "helper_server", Shape::OfHelpers)?,
        })
    }
}

/// The links of one system. Those from the server never fail within a round.
pub struct Network {
    reciprocal: bool,
    /// What losses between clients have in common apart from being reciprocal.
    one_way: Dependence,
    client_client: Box<dyn LinkModel>,
    client_server: Box<dyn LinkModel>,
    server_client: Option<Box<dyn LinkModel>>,
    client_helper: Box<dyn LinkModel>,
    helper_helper: Box<dyn LinkModel>,
    helper_server: Box<dyn LinkModel>,
}

impl Network {
    /// Whether messages of some link are lost for being late.
    #[must_use]
    pub fn has_deadline(&self) -> bool {
        self.families().any(|(model, from, to)| model.deadline(from, to).is_some())
    }

    /// Whether what two clients send each other in one step arrives both ways or not at all.
    #[must_use]
    pub fn is_reciprocal(&self) -> bool {
        self.reciprocal
    }

    /// What shares and uploads have in common, apart from being reciprocal.
    fn dependence_one_way(&self) -> Dependence {
        self.one_way.max(self.client_server.dependence())
    }

    /// The model of a link; `None` for those from the server.
    fn model(&self, from: Node, to: Node) -> Option<&dyn LinkModel> {
        match (from, to) {
            (Node::Client(_), Node::Client(_)) => Some(&*self.client_client),
            (Node::Client(_), Node::Server) => Some(&*self.client_server),
            (Node::Client(_), Node::Helper(_)) => Some(&*self.client_helper),
            (Node::Helper(_), Node::Server) => Some(&*self.helper_server),
            (Node::Helper(_), _) => Some(&*self.helper_helper),
            (Node::Server, _) => None,
        }
    }

    /// The model of every family, with the ends of one of its links.
    fn families(&self) -> impl Iterator<Item = (&dyn LinkModel, Node, Node)> {
        let (client, helper) = (Node::Client, Node::Helper);
        let links = [
            (client(0), client(1)),
            (client(0), Node::Server),
            (client(0), helper(0)),
            (helper(0), helper(1)),
            (helper(0), Node::Server),
        ];
        links.into_iter().filter_map(|(from, to)| Some((self.model(from, to)?, from, to)))
    }
}

impl LinkModel for Network {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.model(link.from, link.to).is_none_or(|model| model.delivers(link))
    }

    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64 {
        self.model(from, to).map_or(0.0, |model| model.erasure(from, to, bytes))
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        self.model(link.from, link.to)?.seconds(link)
    }

    fn deadline(&self, from: Node, to: Node) -> Option<f64> {
        self.model(from, to)?.deadline(from, to)
    }

    fn downlinks(&self) -> Option<&dyn LinkModel> {
        self.server_client.as_deref()
    }

    fn combines(&self) -> bool {
        self.families().any(|(model, ..)| model.combines())
    }

    fn dependence(&self) -> Dependence {
        self.families().map(|(model, ..)| model.dependence()).max().unwrap_or(Dependence::None)
    }
}

/// Links that lose nothing.
#[derive(Clone, Copy, Debug)]
pub struct Perfect;

impl LinkModel for Perfect {
    fn delivers(&self, _: LinkUse<Node>) -> bool {
        true
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.0
    }
}

/// The losses of a round that has been played: an audit with formal symbols, whose messages have no size of
/// their own, meets the same ones. A message that was not sent then is lost.
#[derive(Clone, Debug)]
pub struct Replay(HashMap<(u32, u8, Node, Node), bool>);

impl Replay {
    /// From the messages that were sent, and whether they arrived.
    #[must_use]
    pub fn new(sent: &[(LinkUse, bool)]) -> Self {
        let ends = |l: &LinkUse| (l.attempt, l.transfer, l.from.into(), l.to.into());
        Self(sent.iter().map(|(link, delivered)| (ends(link), *delivered)).collect())
    }
}

impl LinkModel for Replay {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.0.get(&(link.attempt, link.transfer, link.from, link.to)).copied().unwrap_or(false)
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        let uses = self.0.iter().filter(|((.., f, t), _)| (*f, *t) == (from, to));
        let (lost, all) = uses.fold((0u32, 0u32), |(lost, all), (_, ok)| (lost + u32::from(!ok), all + 1));
        if all == 0 { 1.0 } else { f64::from(lost) / f64::from(all) }
    }
}
