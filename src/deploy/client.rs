//! `seccogc join`: one client, whose data never leaves it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zenoh::query::Query;
use zenoh::{Session, Wait};

use super::ledger::Ledger;
use super::message::{
    DIVERGED, Entry, Hex, Order, Signed, VERSION, Welcome, digest, from_json, of_server, to_json, told,
};
use super::play::{OfClient, Round, deadlines};
use super::policy::Policy;
use super::roster::{About, Member, Roster, weights};
use super::server::check;
use super::shelf::Shelf;
use super::statement::{Authority, Signer, Topic};
use super::task::{Task, Work, own_round};
use super::transport::{Identity, Place, Pulled, ROOT, ask, open, peer_name, pull};
use crate::config::{Config, is_name};
use crate::error::{Error, Result, count};
use crate::learn::LocalUpdate;
use crate::party::agreement::{KeyPair, entropy};
use crate::party::seat::{public_of, scheme_of};
use crate::protocol::Update;
use crate::train::{LocalRound, Trained, mean_count, not_finite};

/// What `seccogc join` was asked for.
pub struct Join<'a> {
    /// Where the server listens, HOST:PORT.
    pub server: String,
    /// The client's name, as in its certificate.
    pub name: String,
    /// Folder with `ca.crt`, `NAME.crt` and `NAME.key`.
    pub pki: PathBuf,
    /// What the client trains, and on what.
    pub work: Work<'a>,
    /// Where other clients may connect directly, HOST:PORT.
    pub listen: Option<String>,
    /// How long the server may be silent.
    pub patience: Duration,
    /// What the client insists on.
    pub policy: Policy,
    /// Where the client writes down what it took part in; by default `NAME.ledger.json` beside its
    /// certificate.
    pub ledger: Option<PathBuf>,
    /// Set when the client is to end, after the round under way.
    pub stop: &'a AtomicBool,
}

/// Takes part in a run until the server says that it is over.
///
/// # Errors
/// A server that stays silent, speaks another version, does not prove its name or asks for what the policy
/// forbids; an announcement that its members did not sign; certificates or data that cannot be read; a
/// configuration that breaks a rule.
pub fn join(options: &Join<'_>) -> Result<()> {
    if !is_name(&options.name) {
        let rule = "is not a name; give 1 to 63 letters, digits, \"-\" and \"_\"";
        return Err(Error::Refused(format!("--name {}: {rule}", options.name)));
    }
    let identity = Identity { folder: &options.pki, name: &options.name };
    let place = match &options.listen {
        None => Place::Client(&options.server),
        Some(own) => Place::Peer(&options.server, own),
    };
    let (signer, authority) = (Signer::load(&identity)?, Authority::load(&options.pki)?);
    let path =
        options.ledger.clone().unwrap_or_else(|| options.pki.join(format!("{}.ledger.json", options.name)));
    let mut ledger = Ledger::open(&path)?;
    let session = connect(&identity, &place, options)?;
    if options.listen.is_none() {
        // Others that connect have names of their own; then the welcome alone proves who the server is.
        let name = peer_name(&session)?;
        if name.as_deref() != Some("server") {
            let name = name.map_or("no name".into(), |name| format!("the name `{}`", told(&name)));
            let rule = format!("{} proves {name}, not `server`; nothing was sent to it", options.server);
            return Err(Error::Refused(rule));
        }
    }
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
    let line = Line { session: &session, options, signer, authority };
    let mut last = None;
    loop {
        let answer = line.question("welcome", None)?.map_err(of_server)?;
        let signed: Signed = from_json(&answer).map_err(of_server)?;
        let (_, welcome) = line.authority.verify(Topic::Welcome, &signed).map_err(of_server)?;
        if last.replace(signed.digest()) == Some(signed.digest()) {
            return Err(of_server("another run has begun, and it is the same".into()));
        }
        let member = Participant::new(&line, &shelf, welcome, signed.digest(), &ledger)?;
        if member.take_part(&mut ledger)? == End::Over {
            // The server's last questions may still be under way.
            std::thread::sleep(Duration::from_millis(300));
            return Ok(());
        }
    }
}

/// How long one attempt to connect lasts: a wish to stop is heard between two of them.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Opens a session, again and again for as long as the server may be silent.
fn connect(identity: &Identity<'_>, place: &Place<'_>, options: &Join<'_>) -> Result<Session> {
    let begun = Instant::now();
    loop {
        let (attempt, left) = (Instant::now(), options.patience.saturating_sub(begun.elapsed()));
        let slice = ATTEMPT.min(left);
        match open(identity, place, slice) {
            _ if options.stop.load(Ordering::Relaxed) => return Err(Error::Stopped),
            // What is refused at once will be refused again.
            Err(_) if left > slice && attempt.elapsed() >= slice => {}
            answer => return answer,
        }
    }
}

/// The way to the server.
struct Line<'a> {
    session: &'a Session,
    options: &'a Join<'a>,
    signer: Signer,
    authority: Authority,
}

impl Line<'_> {
    /// Asks the server until it answers: with a message, or why it has none.
    fn question(&self, what: &str, payload: Option<Vec<u8>>) -> Result<Result<Vec<u8>, String>> {
        let selector = format!("{ROOT}/server/{}/{what}", self.options.name);
        let end = Instant::now() + self.options.patience;
        let mut warned = Instant::now();
        loop {
            let until = end.min(Instant::now() + Duration::from_secs(3));
            match ask(self.session, &selector, payload.clone(), until, self.options.stop) {
                Some((answer, _)) => return Ok(answer),
                None if self.options.stop.load(Ordering::Relaxed) => return Err(Error::Stopped),
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

/// Rounds in a row that break a rule of the policy before a client ends; it sits the ones before out.
pub const SITS_OUT: u32 = 3;

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
    about: About,
    config: Config,
    /// The place of the client among all names.
    index: usize,
    task: Task<'a>,
    /// What the run may cost beyond its sums, where the policy asks.
    epsilon: Option<f64>,
}

impl<'a> Participant<'a> {
    fn new(
        line: &'a Line<'a>,
        shelf: &'a Shelf,
        welcome: Welcome,
        digest: Hex,
        ledger: &Ledger,
    ) -> Result<Self> {
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
        options.policy.run(&config)?;
        check(&config).map_err(|error| of_server(format!("its configuration: {error}")))?;
        let index = config.deploy.names.iter().position(|name| *name == options.name);
        let index =
            index.ok_or_else(|| of_server(format!("its configuration does not know `{}`", options.name)))?;
        let task = Task::new(&options.work, &options.policy, &options.server, index, &mut config, &welcome)?;
        let coordinates = config.solver.solver().coordinates(task.parameters());
        let about = About { run: welcome.run, digest };
        let epsilon = options.policy.cost(&config, about, coordinates, ledger)?;
        tracing::info!(
            "joined as {} with {}: {}",
            options.name,
            count(task.examples(), "example"),
            agreed(&config, epsilon, options.policy.delta)
        );
        Ok(Self { line, shelf, about, config, index, task, epsilon })
    }

    /// A fresh key pair for a round, and the entry that says so.
    fn enter(&self, round: u64) -> Result<(KeyPair, Signed)> {
        let keys = KeyPair::generate()?;
        let About { run, digest } = self.about;
        let entry = Entry {
            run,
            digest,
            round,
            nonce: Hex(*entropy()?.bytes()),
            name: self.line.options.name.clone(),
            public: Hex(keys.public()),
            examples: self.task.examples() as u64,
        };
        Ok((keys, self.line.signer.sign(Topic::Entry, &entry)?))
    }

    fn take_part(&self, ledger: &mut Ledger) -> Result<End> {
        let About { run, .. } = self.about;
        let options = self.line.options;
        let mut round = ledger.last(run) + 1;
        let (mut keys, mut own) = self.enter(round)?;
        let mut ahead: Option<Instant> = None;
        let mut sat_out = 0;
        loop {
            let answer = match self.line.question("ready", Some(to_json(&own)))? {
                Err(problem) if problem == super::OTHER_RUN => return Ok(End::OtherRun),
                answer => answer.map_err(of_server)?,
            };
            let start = Instant::now();
            let announced = match from_json::<Order>(&answer).map_err(of_server)? {
                Order::Over => return Ok(End::Over),
                Order::Round(announced) => announced,
                Order::Next(next) if next > self.config.rounds + 1 => {
                    return Err(of_server(format!("round {next} of {}", self.config.rounds)));
                }
                Order::Next(next) if next > round => {
                    round = next;
                    (keys, own) = self.enter(round)?;
                    continue;
                }
                Order::Next(next) => {
                    // Nothing is sent twice for a round, whatever the server says.
                    if ahead.get_or_insert(start).elapsed() > options.patience {
                        let rule = format!("round {next} comes next, but round {} was played", round - 1);
                        return Err(of_server(rule));
                    }
                    std::thread::sleep(Duration::from_millis(500));
                    continue;
                }
            };
            ahead = None;
            options.policy.spent(ledger)?;
            let roster = Roster::read(&announced, &own, self.about, &self.config, &self.line.authority)
                .map_err(of_server)?;
            let names = roster.names();
            if let Err(rule) = options.policy.round(&names, &roster.examples(), ledger) {
                sat_out += 1;
                if sat_out == SITS_OUT {
                    return Err(rule);
                }
                tracing::warn!("round {round}: {rule}; this client sits the round out");
                self.shelf.begin(round);
                let said = self.in_round(&roster, start, |client| {
                    client.is_silent("its policy forbids the round");
                    Ok(())
                });
                // A cohort without a scheme waits for nobody.
                if let Err(error) = said {
                    tracing::warn!("round {round}: {error}");
                }
                round += 1;
                (keys, own) = self.enter(round)?;
                continue;
            }
            sat_out = 0;
            if ledger.play(self.about, round, &names, self.epsilon)? {
                let times = ledger.singled_out(run);
                tracing::warn!(
                    "round {round}: its cohort differs from an earlier one by a single client, {times} times in this run"
                );
            }
            self.shelf.begin(round);
            let played = self.in_round(&roster, start, |client| self.play(client, &roster, &keys, start));
            match played {
                // The client's own program has failed, or wants an end.
                Err(error @ (Error::Own(_) | Error::Stopped)) => return Err(error),
                Err(error) => tracing::warn!("round {round}: {error}"),
                Ok(()) => {}
            }
            round += 1;
            // The key pair served this round only, whatever became of it.
            (keys, own) = self.enter(round)?;
        }
    }

    /// Does something as a client of a round; when it fails, tells the others.
    fn in_round(
        &self,
        roster: &Roster,
        start: Instant,
        act: impl FnOnce(&OfClient<'_>) -> Result<()>,
    ) -> Result<()> {
        let &Roster { round, ref members, own, .. } = roster;
        let len = self.config.solver.solver().coordinates(self.task.parameters());
        let scheme =
            scheme_of(&self.config, members.len(), &public_of(&self.config, &weights(members), len))?;
        let deadlines = deadlines(scheme.phases(), start, &self.config.deploy);
        let session = self.line.session;
        let electorate = &roster.electorate();
        let common = Round { session, scheme: &*scheme, number: round, members, electorate, len, deadlines };
        let (signer, authority) = (&self.line.signer, &self.line.authority);
        let client = OfClient { round: common, shelf: self.shelf, signer, authority, own };
        let played = act(&client);
        if played.is_err() {
            client.is_silent("the client could not take part");
        }
        played
    }

    fn play(&self, client: &OfClient<'_>, roster: &Roster, keys: &KeyPair, start: Instant) -> Result<()> {
        let (&Round { scheme, number: round, members, .. }, own) = (&client.round, client.own);
        let deadline = start + Duration::from_secs_f64(self.config.deploy.share_deadline);
        let public: Vec<[u8; 32]> = members.iter().map(|member| member.public.0).collect();
        let secrets = keys.agree(own, &public, &roster.context())?;

        let Some(global) = self.model(round, roster.model, deadline)? else {
            tracing::warn!("round {round}: the model did not come in time");
            client.is_silent("the model did not come in time");
            return Ok(());
        };
        let (update, how) = self.train(round, &global, members, own)?;
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
    fn model(&self, round: u64, announced: Hex, deadline: Instant) -> Result<Option<Vec<f32>>> {
        let d = self.task.parameters();
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
        if digest(&bytes) != announced {
            return refuse("a model that is not the one that was announced to all".into());
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
    fn train(
        &self,
        round: u64,
        global: &[f32],
        members: &[Member],
        own: u16,
    ) -> Result<(Update, LocalUpdate)> {
        let weights = weights(members);
        let examples = members.iter().map(|member| member.examples as usize);
        let (config, index) = (&self.config, self.index);
        let Trained { sent, how, .. } = match &self.task {
            Task::Own(work) => own_round(*work, config, index, round, global)?,
            Task::Built { dataset, shard, learner } => LocalRound {
                config,
                solver: config.solver.solver(),
                learner: &**learner,
                examples: &dataset.train,
                shard,
                client: index,
                round,
                global,
                carried: None,
                control: &[],
                own_control: None,
                mean_count: mean_count(config.solver.solver(), examples, &weights),
                copies: 1,
            }
            .train(),
        };
        Ok((Update { weight: weights[usize::from(own)], delta: Arc::new(sent) }, how))
    }
}

/// What a client takes part in, for its log.
fn agreed(config: &Config, epsilon: Option<f64>, delta: f64) -> String {
    let protocol = &config.protocol;
    let mut text = format!(
        "{}, {} of {} at most",
        protocol.kind(),
        count(config.rounds, "round"),
        count(config.clients, "client")
    );
    if let Some(std) = protocol.key_std() {
        text += &format!(", key_std {std}");
    }
    match config.solver.solver().clip_norm() {
        Some(clip) => text += &format!(", clip_norm {clip}"),
        None => text += ", no clipping",
    }
    if let Some(epsilon) = epsilon {
        text += &format!(", ε ≤ {epsilon:.3} beyond the sums at δ = {delta:e}");
    }
    text
}
