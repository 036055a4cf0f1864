//! `seccogc join`: one client, whose data never leaves it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use zenoh::query::Query;
use zenoh::{Session, Wait};

use super::agreement::KeyPair;
use super::message::{DIVERGED, Hex, Member, Order, Ready, VERSION, Welcome, from_json, to_json};
use super::play::{OfClient, Round, deadlines};
use super::seat::{Scheme, scheme};
use super::transport::{Identity, Place, Pulled, ROOT, Shelf, ask, open, pull};
use crate::algebra::grid::Public;
use crate::config::{Config, is_name};
use crate::data::{Dataset, DatasetName, Normalisation};
use crate::error::{Error, Result};
use crate::learn::{Device, Learner, LocalUpdate, learner};
use crate::protocol::{ProtocolConfig, Update};
use crate::seed::Seed;
use crate::train::{LocalRound, divide, mean_count, not_finite};

/// What `seccogc join` was asked for.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where the server listens, HOST:PORT.
    pub server: String,
    /// The client's name, as in its certificate.
    pub name: String,
    /// Folder with `ca.crt`, `NAME.crt` and `NAME.key`.
    pub pki: PathBuf,
    /// A file or folder of own examples, or the name of a published dataset for the part of it that the
    /// configuration gives this client.
    pub data: PathBuf,
    /// Where other clients may connect directly, HOST:PORT.
    pub listen: Option<String>,
    /// Where the neural network computes.
    pub device: Device,
    /// How long the server may be silent.
    pub patience: Duration,
}

/// Takes part in a run until the server says that it is over.
///
/// # Errors
/// A server that stays silent or speaks another version, certificates or data that cannot be read, a
/// configuration that breaks a rule.
pub fn join(options: &Join) -> Result<()> {
    if !is_name(&options.name) {
        let rule = "is not a name; give 1 to 63 letters, digits, \"-\" and \"_\"";
        return Err(Error::Refused(format!("--name {}: {rule}", options.name)));
    }
    let identity = Identity { folder: &options.pki, name: &options.name };
    let place = match &options.listen {
        None => Place::Client(&options.server),
        Some(own) => Place::Peer(&options.server, own),
    };
    let session = open(&identity, &place, options.patience)?;
    let transport = |error: zenoh::Error| Error::Refused(format!("the transport refuses: {error}"));
    let shelf = Shelf::default();
    // Two, because others than the server may ask for shares only.
    let answers = |what: &str| {
        let held = shelf.clone();
        session
            .declare_queryable(format!("{ROOT}/client/{}/{what}/**", options.name))
            .callback(move |question: Query| held.question(question))
            .wait()
            .map_err(transport)
    };
    let _questions = (answers("share")?, answers("sum")?);
    let _alive = session
        .liveliness()
        .declare_token(format!("{ROOT}/alive/{}", options.name))
        .wait()
        .map_err(transport)?;
    let line = Line { session: &session, options };
    loop {
        let welcome: Welcome =
            line.question("welcome", None)?.and_then(|answer| from_json(&answer)).map_err(of_server)?;
        let member = Participant::new(&line, &shelf, welcome)?;
        if member.take_part()? == End::Over {
            // The server's last questions may still be under way.
            std::thread::sleep(Duration::from_millis(300));
            return Ok(());
        }
    }
}

/// The way to the server.
struct Line<'a> {
    session: &'a Session,
    options: &'a Join,
}

impl Line<'_> {
    /// Asks the server until it answers: with a message, or why it has none.
    fn question(&self, what: &str, payload: Option<Vec<u8>>) -> Result<Result<Vec<u8>, String>> {
        let selector = format!("{ROOT}/server/{}/{what}", self.options.name);
        let end = Instant::now() + self.options.patience;
        let mut warned = Instant::now();
        loop {
            let until = end.min(Instant::now() + Duration::from_secs(3));
            match ask(self.session, &selector, payload.clone(), until, &AtomicBool::new(false)) {
                Some((answer, _)) => return Ok(answer),
                None if Instant::now() >= end => {
                    return Err(Error::Refused(format!(
                        "no answer from the server at {} for {} s; does it run, and is `{}` in its deploy.names?",
                        self.options.server,
                        self.options.patience.as_secs(),
                        self.options.name
                    )));
                }
                None => {
                    if warned.elapsed() > Duration::from_secs(10) {
                        warned = Instant::now();
                        tracing::warn!("no answer from the server at {} yet", self.options.server);
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }
}

/// Why a client stops to take part.
#[derive(PartialEq)]
enum End {
    /// There are no more rounds.
    Over,
    /// The server has begun another run.
    OtherRun,
}

/// A client in one run.
struct Participant<'a> {
    line: &'a Line<'a>,
    shelf: &'a Shelf,
    run: Hex,
    config: Config,
    /// The place of the client among all names.
    index: usize,
    dataset: Dataset,
    shard: Vec<usize>,
    learner: Box<dyn Learner>,
}

impl<'a> Participant<'a> {
    fn new(line: &'a Line<'a>, shelf: &'a Shelf, welcome: Welcome) -> Result<Self> {
        if welcome.version != VERSION {
            let problem = format!(
                "version {} of the conversation, here {VERSION}; bring both to one release",
                welcome.version
            );
            return Err(of_server(problem));
        }
        let mut config: Config = toml::from_str(&welcome.config)
            .map_err(|error| of_server(format!("its configuration: {}", error.message())))?;
        config.check().map_err(|error| of_server(format!("its configuration: {error}")))?;
        let options = line.options;
        let index = config.deploy.names.iter().position(|name| *name == options.name);
        let index =
            index.ok_or_else(|| of_server(format!("its configuration does not know `{}`", options.name)))?;
        let published = DatasetName::ALL.iter().find(|name| options.data.as_os_str() == name.as_str());
        let (dataset, shard) = match published {
            Some(&name) if name == config.data.name => {
                config.data.dir = None;
                let dataset = config.data.load()?;
                let shard = divide(&config, &dataset)?.shards.swap_remove(index);
                (dataset, shard)
            }
            Some(name) => {
                let rule = format!("this run learns {}, not {name}; take that", config.data.name);
                return Err(Error::Refused(format!("--data {name}: {rule}")));
            }
            None => {
                let train = config.data.load_own(&options.data, &welcome.classes, welcome.shape)?;
                let shard = (0..train.len()).collect();
                let normalisation = Normalisation { mean: welcome.mean, std: welcome.std };
                let statistics = [&normalisation.mean, &normalisation.std];
                let channels = if welcome.shape[..2] == [1, 1] { welcome.shape[2] } else { welcome.shape[0] };
                if statistics.iter().any(|s| s.len() != channels && s.len() != welcome.shape[0])
                    || statistics.iter().any(|s| s.iter().any(|x| !x.is_finite()))
                    || normalisation.std.iter().any(|s| *s <= 0.0)
                {
                    return Err(of_server("its statistics do not fit its examples".into()));
                }
                let dataset = Dataset {
                    name: config.data.name.as_str(),
                    classes: welcome.classes.len(),
                    class_names: welcome.classes,
                    test: train.subset(&[]),
                    train,
                    normalisation,
                    augmentation: crate::data::Augmentation {
                        flip: config.data.flip,
                        crop: config.data.crop,
                    },
                };
                (dataset, shard)
            }
        };
        if shard.is_empty() {
            return Err(Error::Refused(format!("--data {}: no example to train on", options.data.display())));
        }
        let learner = learner(&config.model, &config.solver, &dataset, options.device.clone())?;
        tracing::info!("joined as {} with {} examples", options.name, shard.len());
        Ok(Self { line, shelf, run: welcome.run, config, index, dataset, shard, learner })
    }

    fn take_part(&self) -> Result<End> {
        let mut after = 0;
        let mut keys = KeyPair::generate()?;
        loop {
            let ready =
                Ready { run: self.run, after, public: Hex(keys.public()), examples: self.shard.len() as u64 };
            let answer = match self.line.question("ready", Some(to_json(&ready)))? {
                Err(problem) if problem == super::OTHER_RUN => return Ok(End::OtherRun),
                answer => answer.map_err(of_server)?,
            };
            let start = Instant::now();
            let order = match from_json::<Order>(&answer) {
                Ok(Order::Over) => return Ok(End::Over),
                Ok(Order::Round { run, round, members }) => self.check(run, round, after, &keys, members),
                Err(problem) => Err(problem),
            };
            let (round, members, own) = match order {
                Ok(order) => order,
                Err(problem) => {
                    tracing::warn!("refused from server: {problem}");
                    std::thread::sleep(Duration::from_millis(500));
                    continue;
                }
            };
            after = round;
            // The key pair serves this round only, whatever becomes of it.
            let used = std::mem::replace(&mut keys, KeyPair::generate()?);
            self.shelf.begin(round);
            if let Err(error) = self.round(round, &members, own, &used, start) {
                tracing::warn!("round {round}: {error}");
            }
        }
    }

    /// The round, its cohort and this client's place in it, if the order may be followed.
    fn check(
        &self,
        run: Hex,
        round: u64,
        after: u64,
        keys: &KeyPair,
        members: Vec<Member>,
    ) -> Result<(u64, Vec<Member>, u16), String> {
        let refuse = |problem: String| Err(problem);
        if run != self.run {
            return refuse("an order of another run".into());
        }
        if round <= after || round > self.config.rounds {
            return refuse(format!("round {round} after round {after}: it is over, or does not exist"));
        }
        let places: Vec<_> = members
            .iter()
            .map(|m| self.config.deploy.names.iter().position(|name| *name == m.name))
            .collect();
        if places.contains(&None) || !places.is_sorted_by(|a, b| a < b) {
            return refuse(format!("round {round}: its cohort is not made of the run's clients in order"));
        }
        if members.iter().any(|m| m.examples == 0) {
            return refuse(format!("round {round}: a client without examples"));
        }
        if let Some(weight) = self.config.deploy.outside(&weights(&members)) {
            return refuse(format!("round {round}: a client of weight {weight:.3}, outside deploy.weights"));
        }
        match places.iter().position(|place| *place == Some(self.index)) {
            Some(own) if members[own].public == Hex(keys.public()) => Ok((round, members, own as u16)),
            _ => refuse(format!("round {round}: its cohort does not have this client and its key")),
        }
    }

    fn round(&self, round: u64, members: &[Member], own: u16, keys: &KeyPair, start: Instant) -> Result<()> {
        let len = self.config.solver.solver().coordinates(self.learner.parameters());
        let scheme = scheme_of(&self.config, members.len(), &public_of(&self.config, members, len))?;
        let deadlines = deadlines(scheme.phases(), start, &self.config.deploy);
        let session = self.line.session;
        let common = Round { session, scheme: &*scheme, number: round, members, len, deadlines };
        let client = OfClient { round: common, shelf: self.shelf, own };
        let played = self.play(&client, keys, start);
        if played.is_err() {
            client.is_silent("the client could not take part");
        }
        played
    }

    fn play(&self, client: &OfClient<'_>, keys: &KeyPair, start: Instant) -> Result<()> {
        let (&Round { scheme, number: round, members, .. }, own) = (&client.round, client.own);
        let deadline = start + Duration::from_secs_f64(self.config.deploy.share_deadline);
        let public: Vec<[u8; 32]> = members.iter().map(|member| member.public.0).collect();
        let context = [&b"seccogc"[..], &self.run.0, &round.to_le_bytes()].concat();
        let secrets = keys.agree(own, &public, &context)?;

        let Some(global) = self.model(round, deadline)? else {
            tracing::warn!("round {round}: the model did not come in time");
            client.is_silent("the model did not come in time");
            return Ok(());
        };
        let (update, how) = self.train(round, &global, members, own);
        if let Some(what) = not_finite(&update.delta, &how) {
            let remedy = what.remedy();
            tracing::warn!(
                "round {round}: {what} is not finite, so nothing is sent; the server should {remedy}"
            );
            client.is_silent(DIVERGED);
            return Ok(());
        }
        let mut seat = scheme.client(own, round, &update, &secrets)?;
        let (arrived, expected) = client.play(&mut *seat, &secrets);
        let seconds = start.elapsed().as_secs_f64();
        tracing::info!("round {round}: {arrived} of {expected} shares, {seconds:.1} s");
        Ok(())
    }

    /// The global model, `None` when it is late.
    fn model(&self, round: u64, deadline: Instant) -> Result<Option<Vec<f32>>> {
        let d = self.learner.parameters();
        let key = format!("{ROOT}/server/{}/model/{round}", self.line.options.name);
        let refuse = |problem: String| Err(of_server(problem));
        let bytes = match pull(self.line.session, &key, 4 * d, deadline, &AtomicBool::new(false)) {
            Pulled::Whole(bytes) => bytes,
            Pulled::Late => return Ok(None),
            Pulled::Nothing(reason) | Pulled::Refused(reason) => return refuse(reason),
        };
        if bytes.len() != 4 * d {
            return refuse(format!("a model of {} bytes instead of {d} parameters of 4", bytes.len()));
        }
        let (words, _) = bytes.as_chunks::<4>();
        let model: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        if model.iter().all(|x| x.is_finite()) {
            Ok(Some(model))
        } else {
            refuse("a model with a parameter that is not a finite number".into())
        }
    }

    /// What the client would send, and how its training went.
    fn train(&self, round: u64, global: &[f32], members: &[Member], own: u16) -> (Update, LocalUpdate) {
        let weights = weights(members);
        let examples = members.iter().map(|member| member.examples as usize);
        let solver = self.config.solver.solver();
        let work = LocalRound {
            config: &self.config,
            solver,
            learner: &*self.learner,
            examples: &self.dataset.train,
            shard: &self.shard,
            client: self.index,
            round,
            global,
            carried: None,
            control: &[],
            own_control: None,
            mean_count: mean_count(solver, examples, &weights),
            copies: 1,
        };
        let (sent, how) = work.train();
        (Update { weight: weights[usize::from(own)], delta: Arc::new(sent) }, how)
    }
}

fn of_server(problem: String) -> Error {
    Error::Refused(format!("message from the server: {problem}"))
}

/// n_k · M / N for each client of a cohort.
pub(super) fn weights(members: &[Member]) -> Vec<f64> {
    let total: f64 = members.iter().map(|member| member.examples as f64).sum();
    members.iter().map(|member| member.examples as f64 * members.len() as f64 / total).collect()
}

/// What everybody knows of the updates of a cohort, vectors of `coordinates` numbers.
pub(super) fn public_of(config: &Config, members: &[Member], coordinates: usize) -> Public {
    Public {
        clip: config.solver.solver().clip_norm(),
        weight: weights(members).into_iter().fold(0.0, f64::max),
        coordinates: Some(coordinates),
        tolerance: config.outage.recovery_tolerance,
    }
}

/// The scheme of a cohort of `members` clients, of whose updates this is known; server and clients make the
/// same one.
pub(super) fn scheme_of(config: &Config, members: usize, public: &Public) -> Result<Box<dyn Scheme>> {
    let protocol: ProtocolConfig =
        if members == config.clients { config.protocol.clone() } else { config.protocol.fitted(members) };
    let seed = Seed::new(config.seed).child("protocol", 0);
    scheme(&protocol, members, seed, public, config.deploy.largest).map_err(|error| error.within("protocol"))
}
