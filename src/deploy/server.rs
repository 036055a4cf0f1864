//! `seccogc serve`: the server of a run, with the router that its clients connect to.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zenoh::query::Query;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use super::hub::{Hub, Lobby};
use super::message::{DONE, Hex, VERSION, Welcome, digest, to_json};
use super::page::Page;
use super::play::{self, Heard, OfServer, deadlines};
use super::roster::{About, Member, weights};
use super::shelf::Shelf;
use super::statement::{Authority, Signer, Topic};
use super::transport::{Identity, Place, ROOT, open};
use super::vote::Electorate;
use crate::algebra::grid::Public;
use crate::config::{Config, OutagePolicy};
use crate::crypto::TAG_BYTES;
use crate::data::{Normalisation, Response};
use crate::error::{Diverged, Error, NotFinite, Result, count};
use crate::message::{Phase, Role};
use crate::party::agreement::entropy;
use crate::party::seat::{public_of, scheme_of};
use crate::precision;
use crate::protocol::{Decoded, Reason};
use crate::record::{End, Outcome, Row, RunDir, write_durably};
use crate::train::{Run, State, Tested};

/// What the server writes down before it announces a round: a round number is announced once, even by a
/// server that is killed and started again, so that no client answers for one round in two cohorts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    version: u32,
    run: Hex,
    announced: u64,
}

impl Journal {
    const FILE: &str = "deploy.json";

    fn begin(folder: &Path) -> Result<Self> {
        let journal = Self { version: 1, run: Hex(*entropy()?.bytes()), announced: 0 };
        journal.save(folder)?;
        Ok(journal)
    }

    fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let journal: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::file(&path, format!("not the journal of `seccogc serve`: {error}")))?;
        match journal.version {
            1 => Ok(journal),
            other => Err(Error::file(&path, format!("version {other} of the journal, here 1"))),
        }
    }

    fn save(&self, folder: &Path) -> Result<()> {
        write_durably(&folder.join(Self::FILE), &to_json(self))
    }
}

/// Most clients: their entries, about 1.5 kB each, fit into one announcement.
const CLIENTS: usize = 2000;

/// What `seccogc serve` found at the start.
pub enum Begin<'a> {
    /// A new run in this folder.
    New(&'a Path),
    /// The run in this folder goes on.
    Resume(&'a Path),
}

const UNCOMPRESSED: &str = "compression runs in simulation only; take \"none\"";

/// Checks what a deployment cannot do.
///
/// # Errors
/// The key and the rule.
pub fn check(config: &Config) -> Result<()> {
    let refuse = |key: &str, rule: &str| Err(Error::config(key, rule));
    if config.deploy.names.len() != config.clients {
        let rule = format!(
            "{} for {} (`clients`); name every client that may take part",
            count(config.deploy.names.len(), "name"),
            count(config.clients, "client")
        );
        return Err(Error::config("deploy.names", rule));
    }
    if config.clients > CLIENTS {
        let rule = format!("{} are too many for one deployment; give at most {CLIENTS}", config.clients);
        return Err(Error::config("clients", rule));
    }
    if config.solver.solver().has_controls() {
        return refuse(
            "solver.kind",
            "solvers with control vectors run in simulation only; take another one",
        );
    }
    if config.privacy.release.is_some() {
        let rule = "noise in what is released is added in simulation only; remove the section, or take protocol.kind = \"gaussian\"";
        return refuse("privacy.release", rule);
    }
    if config.participation.chosen().is_some() {
        return refuse("participation.kind", "rules of participation run in simulation only; take \"none\"");
    }
    if config.compression.chosen().is_some() {
        return refuse("compression.kind", UNCOMPRESSED);
    }
    if config.outage.policy != OutagePolicy::Skip {
        return refuse("outage.policy", "a deployed round has one attempt; take \"skip\"");
    }
    if !config.cohort.is_everybody() {
        let rule = "who takes part is decided by who is connected; remove sample, rate, drop_after and buffered, `least` counts";
        return refuse("cohort", rule);
    }
    if !config.devices.is_none() {
        return refuse("devices", "devices are what they are in a deployment; remove the section");
    }
    if config.evaluation.client_share > 0.0 {
        return refuse("evaluation.client_share", "the server has no examples of clients to test on; take 0");
    }
    scheme_of(config, config.clients, &Public::default()).map(drop)
}

/// Serves a run to its end; `observe` sees every row.
///
/// # Errors
/// A configuration that cannot be deployed, certificates or run folders that cannot be read or written, an
/// address in use.
pub fn serve(run: &Run<'_>, begin: &Begin<'_>, observe: &mut dyn FnMut(&Row) -> Result<()>) -> Result<End> {
    let config = run.config();
    check(&config)?;
    if run.setting().compresses() {
        return Err(Error::config("compression", UNCOMPRESSED));
    }
    let (state, directory, journal) = match begin {
        Begin::New(folder) => {
            let (state, directory) = run.create(folder)?;
            (state, directory, Journal::begin(folder)?)
        }
        Begin::Resume(folder) => {
            let (state, directory) = run.resume(folder)?;
            (state, directory, Journal::load(folder)?)
        }
    };
    let identity = Identity { folder: &config.deploy.pki, name: "server" };
    let (signer, authority) = (Signer::load(&identity)?, Authority::load(identity.folder)?);
    let welcome = signer.sign(Topic::Welcome, &welcome(run, &config, journal.run)?)?;
    let page = Page::open(&config, journal.run)?;
    let hub = Arc::new(Hub {
        about: About { run: journal.run, digest: welcome.digest() },
        deploy: config.deploy.clone(),
        authority,
        signer,
        welcome: Arc::new(to_json(&welcome)),
        lobby: Mutex::new(Lobby::new(journal.announced + 1)),
        changed: Condvar::new(),
        models: Shelf::default(),
        page,
    });
    let place = Place::Router(&config.deploy.listen, &config.deploy.names);
    let session = open(&identity, &place, Duration::from_secs(1))?;
    let transport = |error: zenoh::Error| Error::Refused(format!("the transport refuses: {error}"));
    let listener = Arc::clone(&hub);
    let _questions = session
        .declare_queryable(format!("{ROOT}/server/**"))
        .callback(move |question: Query| listener.question(question))
        .wait()
        .map_err(transport)?;
    let listener = Arc::clone(&hub);
    let _members = session
        .liveliness()
        .declare_subscriber(format!("{ROOT}/alive/*"))
        .history(true)
        .callback(move |sample| {
            if let Some(name) = sample.key_expr().as_str().rsplit('/').next() {
                listener.lives(name, sample.kind() == SampleKind::Put);
            }
        })
        .wait()
        .map_err(transport)?;
    let listener = Arc::clone(&hub);
    let _connections = session
        .info()
        .link_events_listener()
        .callback(move |event| {
            if let (SampleKind::Put, Some(name)) = (event.kind(), event.link().auth_identifier()) {
                listener.connected(name);
            }
        })
        .wait()
        .map_err(transport)?;
    tracing::info!("listening on {}", config.deploy.listen);
    let mut server =
        Server { run, least: smallest(&config), config, hub, session: &session, directory, journal };
    let end = server.rounds(state, observe)?;
    server.hub.close();
    // Whoever is in its last round asks once more.
    std::thread::sleep(Duration::from_secs(1));
    session.close().wait().map_err(transport)?;
    Ok(end)
}

fn welcome(run: &Run<'_>, config: &Config, id: Hex) -> Result<Welcome> {
    let setting = run.setting();
    let mut config = config.clone();
    // Where the server keeps its own files is nobody's business.
    config.data.dir = None;
    for path in [&mut config.data.train, &mut config.data.test].into_iter().flatten() {
        *path = "own".into();
    }
    config.deploy.pki = "pki".into();
    let blank = Welcome { version: VERSION, run: id, config: config.to_toml()?, ..Welcome::default() };
    let Some(dataset) = setting.examples_here() else {
        return Ok(Welcome { layers: setting.layers(), ..blank });
    };
    Ok(Welcome {
        classes: dataset.class_names.clone(),
        shape: dataset.train.shape(),
        mean: dataset.normalisation.mean.clone(),
        std: dataset.normalisation.std.clone(),
        scale: match dataset.response {
            Response::Quantity => {
                let Normalisation { mean, std } = &dataset.scale;
                mean.iter().copied().zip(std.iter().copied()).collect()
            }
            Response::Class | Response::Labels => Vec::new(),
        },
        ..blank
    })
}

/// Fewest clients of a round: `cohort.least`, or as many more as the scheme cannot do without.
fn smallest(config: &Config) -> usize {
    let wanted = config.cohort.least.min(config.clients);
    let exists = |members: &usize| scheme_of(config, *members, &Public::default()).is_ok();
    let least = (wanted..config.clients).find(exists).unwrap_or(config.clients);
    if least > wanted {
        tracing::info!(
            "a round waits for {least} clients: {} has no cohort of fewer",
            config.protocol.kind()
        );
    }
    least
}

struct Server<'a> {
    run: &'a Run<'a>,
    config: Config,
    /// Fewest clients of a round.
    least: usize,
    hub: Arc<Hub>,
    session: &'a Session,
    directory: RunDir,
    journal: Journal,
}

/// What became of a round on the links.
struct Exchange {
    decoded: Decoded<f64>,
    arrivals: u64,
    /// Clients that said that their update is not finite.
    diverged: usize,
    /// Bytes of shares that the cohort sent, if all of it did.
    bytes_shares: u64,
    /// Bytes of what came to the server, refused messages included.
    bytes_sums: u64,
}

impl Exchange {
    fn nothing(reason: Reason) -> Self {
        let decoded = Decoded::Outage(reason);
        Self { decoded, arrivals: 0, diverged: 0, bytes_shares: 0, bytes_sums: 0 }
    }
}

impl Server<'_> {
    fn rounds(&mut self, mut state: State, observe: &mut dyn FnMut(&Row) -> Result<()>) -> Result<End> {
        let stop = self.config.evaluation.stop();
        let mut rows = self.directory.rows()?;
        // The last process may have been killed between the checkpoint and the best model.
        self.run.keep_best(&state, &rows, &self.directory)?;
        self.hub.page.update(|status| status.round = state.round);
        for row in &rows {
            self.hub.page.update(|status| status.row(row.clone()));
        }
        // A round that was announced and not finished is lost: it is never announced again.
        while state.round < self.journal.announced {
            state.round += 1;
            tracing::warn!("round {} was interrupted: an outage", state.round);
            let row = self.row(&state, 0, None, (Outcome::Outage, Some(Reason::Links)), 0.0)?;
            rows.push(row);
            self.keep(&state, &rows, observe)?;
        }
        let mut over = state.round >= self.config.rounds || stop.ends(&rows);
        let mut first = state.round == 0;
        while !over {
            let before = state.of_server();
            let row = match self.round(&mut state, first) {
                Err(Error::Diverged { diverged, .. }) => {
                    state.restore(before);
                    return self.diverge(&state, diverged);
                }
                played => played?,
            };
            first = false;
            rows.push(row);
            over = state.round >= self.config.rounds || stop.ends(&rows);
            self.keep(&state, &rows, observe)?;
        }
        self.directory.finish(&stop, None, None)
    }

    /// Ends the run with the state before the round that diverged.
    fn diverge(&mut self, state: &State, diverged: Diverged) -> Result<End> {
        state.save(&self.directory.path().join("checkpoint.bin"), &self.run.fingerprint())?;
        self.hub.page.update(|status| status.diverged = Some(diverged.to_string()));
        self.directory.finish(&self.config.evaluation.stop(), Some(diverged), None)
    }

    /// Keeps the last of the rows, and the state after it.
    fn keep(
        &mut self,
        state: &State,
        rows: &[Row],
        observe: &mut dyn FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        let Some(row) = rows.last() else { return Ok(()) };
        self.directory.append(row, &[])?;
        state.save(&self.directory.path().join("checkpoint.bin"), &self.run.fingerprint())?;
        self.run.keep_best(state, rows, &self.directory)?;
        self.hub.page.update(|status| status.row(row.clone()));
        observe(row)
    }

    fn round(&mut self, state: &mut State, first: bool) -> Result<Row> {
        let deploy = &self.config.deploy;
        let cohort = self.hub.gather(first, self.least, Duration::from_secs_f64(deploy.gather));
        let members = &cohort.members;
        state.round += 1;
        let round = state.round;
        self.journal.announced = round;
        self.journal.save(self.directory.path())?;

        let clock = Instant::now();
        self.hub.page.update(|status| {
            status.round = round;
            status.cohort = members.iter().map(|member| member.name.clone()).collect();
        });
        let model: Vec<u8> = state.parameters.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.hub.models.begin(round);
        for member in members {
            self.hub.models.put(format!("{ROOT}/server/{}/model/{round}", member.name), model.clone());
        }
        let said = self.hub.announce(round, digest(&model), &cohort)?;
        let exchange = self.exchange(round, members, &cohort.electorate(said), clock)?;
        for member in members {
            self.hub.models.put(format!("{ROOT}/server/{}/done/{round}", member.name), DONE.to_vec());
        }
        self.hub.lobby().announced = None;
        let seconds = clock.elapsed().as_secs_f64();

        let diverged = |what| Diverged { round, client: None, what };
        if exchange.diverged == members.len() {
            return Err(diverged(NotFinite::Update).into());
        }
        let reason = exchange.decoded.reason();
        let outcome = match &exchange.decoded {
            Decoded::Outage(_) => Outcome::Outage,
            Decoded::Estimate { sum, .. } => {
                let weight: f64 = weights(members).iter().sum();
                let mean = sum.iter().map(|s| weight.recip() * s).collect();
                self.run.step(state, mean, 1.0).map_err(diverged)?;
                Outcome::Estimate
            }
            Decoded::Sum { sum, included, .. } => {
                let weights = weights(members);
                let weight: f64 = included.iter().map(|&k| weights[usize::from(k)]).sum();
                let mean = sum.iter().map(|s| weight.recip() * s).collect();
                let share = weight / weights.iter().sum::<f64>();
                self.run.step(state, mean, share).map_err(diverged)?;
                if included.len() == members.len() { Outcome::Recovered } else { Outcome::Partial }
            }
        };
        self.row(state, members.len(), Some(exchange), (outcome, reason), seconds)
    }

    /// Plays the phases of a round among its cohort.
    fn exchange(
        &self,
        round: u64,
        members: &[Member],
        electorate: &Electorate,
        start: Instant,
    ) -> Result<Exchange> {
        let len = self.run.setting().coordinates();
        let public = public_of(&self.config, &weights(members), len);
        let scheme = match scheme_of(&self.config, members.len(), &public) {
            Ok(scheme) => scheme,
            Err(error) => {
                tracing::warn!("round {round}: no scheme for a cohort of {}: {error}", members.len());
                // The next cohort may be another one.
                std::thread::sleep(Duration::from_secs_f64(self.config.deploy.gather));
                return Ok(Exchange::nothing(Reason::TooFew));
            }
        };
        let deadlines = deadlines(scheme.phases(), start, &self.config.deploy);
        let mut seat = scheme.server(round, len);
        let common = play::Round {
            session: self.session,
            scheme: &*scheme,
            number: round,
            members,
            electorate,
            len,
            deadlines,
        };
        let heard = OfServer { round: common, hub: &self.hub }.play(&mut *seat);
        let decoded = precision::checked(seat.decoded().unwrap_or(Decoded::lost()), public.tolerance);
        let shares = |phase: usize| -> usize {
            let number: usize = (0..members.len() as u16).map(|k| scheme.sources(phase, k).len()).sum();
            number * (scheme.envelope_bytes(phase, len) + TAG_BYTES)
        };
        let among = |phase: &Phase| (phase.from, phase.to) == (Role::Client, Role::Client);
        let phases = scheme.phases().iter().enumerate().filter(|(_, phase)| among(phase));
        let bytes_shares = phases.map(|(i, _)| shares(i) as u64).sum();
        let Heard { arrivals, diverged, bytes, present, late } = heard;
        let name = |k: &u16| members[usize::from(*k)].name.as_str();
        // Whose update is in the sum was heard by others, and loses nothing.
        let is_silent = |k: &&u16| !present.contains(k) && !decoded.included().contains(k);
        let silent: Vec<&str> = late.iter().filter(is_silent).map(name).collect();
        self.hub.heard(round, &present.iter().map(name).collect::<Vec<_>>(), &silent);
        Ok(Exchange { decoded, arrivals, diverged: diverged.len(), bytes_shares, bytes_sums: bytes })
    }

    fn row(
        &self,
        state: &State,
        cohort: usize,
        exchange: Option<Exchange>,
        (outcome, reason): (Outcome, Option<Reason>),
        seconds: f64,
    ) -> Result<Row> {
        let round = state.round;
        let clock = Instant::now();
        // An outage of a server that was not there is not tested.
        let tested = if exchange.is_some() { self.run.test(state)? } else { Tested::default() };
        Ok(Row {
            outcome,
            reason,
            cohort,
            diverged: exchange.as_ref().map_or(0, |exchange| exchange.diverged),
            arrivals: exchange.as_ref().map_or(0, |exchange| exchange.arrivals),
            bytes_client_client: exchange.as_ref().map_or(0, |exchange| exchange.bytes_shares),
            bytes_client_server: exchange.as_ref().map_or(0, |exchange| exchange.bytes_sums),
            // Clients do not tell.
            train_loss: f64::NAN,
            metrics: self.run.metrics(&[], &[], &tested)?,
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
            seconds_coding: seconds,
            seconds_evaluation: clock.elapsed().as_secs_f64(),
            ..Row::blank(round)
        })
    }
}
