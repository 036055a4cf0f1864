//! `seccogc serve`: the server of a run, with the router that its clients connect to.

use std::path::{Path, PathBuf};
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
use crate::bounds;
use crate::config::{Config, OutagePolicy};
use crate::crypto::TAG_BYTES;
use crate::data::{Normalisation, Response};
use crate::error::{Diverged, Error, NotFinite, Result, count};
use crate::message::{Phase, Role};
use crate::party::agreement::entropy;
use crate::party::seat::{public_of, scheme_of};
use crate::precision;
use crate::protocol::{Aggregate, Decoded, Reason, Traffic};
use crate::record::{End, Row, write_durably};
use crate::train::carrier::{Carried, Carrier};
use crate::train::observer::{Checkpoints, Observer, Over};
use crate::train::{Run, State};

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

    /// That of a run of so many rounds.
    fn load(folder: &Path, rounds: u64) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let bytes = bounds::whole(&path, "a journal")?;
        let journal: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::file(&path, format!("not the journal of `seccogc serve`: {error}")))?;
        match journal.version {
            1 if journal.announced <= rounds => Ok(journal),
            1 => {
                let rule = format!("round {} was announced, and the run has {rounds}", journal.announced);
                Err(Error::file(&path, rule))
            }
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
    config.solver.solver().check_all().map_err(|error| error.within("solver"))?;
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
pub fn serve(
    run: &Run<'_>,
    begin: &Begin<'_>,
    mut observe: &mut dyn FnMut(&Row) -> Result<()>,
) -> Result<End> {
    let config = run.config();
    check(&config)?;
    if run.setting().compresses() {
        return Err(Error::config("compression", UNCOMPRESSED));
    }
    let (mut state, mut directory, journal) = match begin {
        Begin::New(folder) => {
            let (state, directory) = run.create(folder)?;
            (state, directory, Journal::begin(folder)?)
        }
        Begin::Resume(folder) => {
            let (state, directory) = run.resume(folder)?;
            (state, directory, Journal::load(folder, config.rounds)?)
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
    // A round that was announced is never announced again, so that each is kept at once.
    let mut checkpoints = Checkpoints::new(&directory, &state, 1);
    let mut page = Shown(Arc::clone(&hub));
    let mut server = Server {
        least: smallest(&config),
        config,
        hub,
        session: &session,
        folder: directory.path().into(),
        journal,
    };
    let end = run.record_by(
        &mut server,
        &mut state,
        &mut directory,
        &mut [&mut checkpoints, &mut page, &mut observe],
    )?;
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
    config: Config,
    /// Fewest clients of a round.
    least: usize,
    hub: Arc<Hub>,
    session: &'a Session,
    /// Where the journal lies.
    folder: PathBuf,
    journal: Journal,
}

/// The page, which shows the rounds.
struct Shown(Arc<Hub>);

impl Observer for Shown {
    fn begin(&mut self, _: &Run<'_>, state: &State, rows: &[Row]) -> Result<()> {
        self.0.page.update(|status| {
            status.round = state.round;
            rows.iter().cloned().for_each(|row| status.row(row));
        });
        Ok(())
    }

    fn round(&mut self, over: &Over<'_>) -> Result<()> {
        self.0.page.update(|status| status.row(over.row.clone()));
        Ok(())
    }

    fn cut_off(&mut self, _: &Run<'_>, _: &State, diverged: Option<&Diverged>) -> Result<()> {
        self.0.page.update(|status| status.diverged = diverged.map(Diverged::to_string));
        Ok(())
    }
}

/// What became of a round on the links.
struct Exchange {
    aggregate: Aggregate,
    /// Clients that said that their update is not finite.
    diverged: usize,
}

impl Carrier for Server<'_> {
    fn carry(&mut self, run: &Run<'_>, state: &mut State) -> Result<Option<Carried>> {
        let round = state.round;
        if round <= self.journal.announced {
            tracing::warn!("round {round} was interrupted: an outage");
            return Ok(None);
        }
        let deploy = &self.config.deploy;
        let cohort = self.hub.gather(round == 1, self.least, Duration::from_secs_f64(deploy.gather));
        let members = &cohort.members;
        self.journal.announced = round;
        self.journal.save(&self.folder)?;

        let clock = Instant::now();
        self.hub.page.update(|status| {
            status.round = round;
            status.cohort = members.iter().map(|member| member.name.clone()).collect();
        });
        let model: Vec<u8> = state.server.parameters.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.hub.models.begin(round);
        for member in members {
            self.hub.models.put(format!("{ROOT}/server/{}/model/{round}", member.name), model.clone());
        }
        let said = self.hub.announce(round, digest(&model), &cohort)?;
        let exchange = self.exchange(run, round, members, &cohort.electorate(said), clock)?;
        for member in members {
            self.hub.models.put(format!("{ROOT}/server/{}/done/{round}", member.name), DONE.to_vec());
        }
        self.hub.lobby().announced = None;
        let seconds = clock.elapsed().as_secs_f64();

        let Exchange { aggregate, diverged } = exchange;
        if diverged == members.len() {
            return Err(Diverged { round, client: None, what: NotFinite::Update }.into());
        }
        let place = |member: &Member| deploy.names.iter().position(|name| *name == member.name);
        let places = members.iter().filter_map(place).map(|place| place as u32).collect();
        Ok(Some(Carried::untold(places, &weights(members), diverged, aggregate, seconds)))
    }
}

impl Server<'_> {
    /// Plays the phases of a round among its cohort.
    fn exchange(
        &self,
        run: &Run<'_>,
        round: u64,
        members: &[Member],
        electorate: &Electorate,
        start: Instant,
    ) -> Result<Exchange> {
        let len = run.setting().coordinates();
        let public = public_of(&self.config, &weights(members), len);
        let scheme = match scheme_of(&self.config, members.len(), &public) {
            Ok(scheme) => scheme,
            Err(error) => {
                tracing::warn!("round {round}: no scheme for a cohort of {}: {error}", members.len());
                // The next cohort may be another one.
                std::thread::sleep(Duration::from_secs_f64(self.config.deploy.gather));
                let aggregate = Aggregate { attempts: 1, ..Aggregate::nothing(Reason::TooFew) };
                return Ok(Exchange { aggregate, diverged: 0 });
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
        // Of shares what the cohort sends if all of it does; to the server what came, refused messages
        // included.
        let traffic = Traffic { client_client: bytes_shares, client_server: bytes, ..Traffic::default() };
        let nothing = Aggregate { attempts: 1, arrivals, traffic, ..Aggregate::nothing(Reason::Links) };
        Ok(Exchange { aggregate: Aggregate { decoded, ..nothing }, diverged: diverged.len() })
    }
}
