//! A server with the certificate of `server` that says what a test wants it to say.

use std::collections::BTreeMap;
use std::sync::Mutex;

use seccogc::deploy::shelf::reply;
use zenoh::Session;
use zenoh::query::{Query, Queryable};

use super::*;

pub(super) const NAMES: [&str; 4] = ["ann", "bob", "cleo", "dan"];

/// The parameters of the model that these clients train.
pub(super) const D: usize = 7850;

/// A signed welcome to the configuration of a trial, and its run.
pub(super) fn welcome(trial: &Trial, config: &str, signer: &Signer) -> (Signed, Hex) {
    let run = Hex([trial.port as u8; 32]);
    let (config, classes) = (config.to_owned(), Vec::new());
    let (shape, mean, std) = ([1, 28, 28], vec![0.0], vec![1.0]);
    let welcome = Welcome {
        version: VERSION,
        run,
        config,
        classes,
        shape,
        mean,
        std,
        scale: Vec::new(),
        layers: Vec::new(),
    };
    (signer.sign(Topic::Welcome, &welcome).unwrap(), run)
}

/// A session that listens, as soon as the one before has let the port go.
pub(super) fn listen(identity: &Identity<'_>, address: &str) -> Session {
    let names = NAMES.map(String::from);
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match open(identity, &Place::Router(address, &names), Duration::from_secs(1)) {
            Ok(session) => return session,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a deviating server knows of the clients that wait.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) entries: BTreeMap<String, (Signed, Query)>,
    pub(super) model: Shelf,
}

/// A server that says what a test wants it to say, with the certificate of `server`.
pub(super) struct Rogue<'a> {
    pub(super) trial: &'a Trial,
    pub(super) signer: Signer,
    pub(super) run: Hex,
    pub(super) digest: Hex,
    pub(super) waiting: Arc<Mutex<Waiting>>,
    session: Session,
    _questions: Queryable<()>,
}

impl<'a> Rogue<'a> {
    pub(super) fn start(trial: &'a Trial, config: &str) -> Self {
        let pki = trial.path("pki");
        let identity = Identity { folder: &pki, name: "server" };
        let signer = Signer::load(&identity).unwrap();
        let (welcome, run) = welcome(trial, config, &signer);
        let digest = welcome.digest();
        let welcome = Arc::new(to_json(&welcome));
        let address = format!("127.0.0.1:{}", trial.port);
        let session = listen(&identity, &address);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let shared = Arc::clone(&waiting);
        let answer = move |question: Query| {
            let key = question.key_expr().to_string();
            let chunks: Vec<&str> = key.split('/').collect();
            match chunks[3] {
                "welcome" => reply(question, Arc::clone(&welcome)),
                "ready" => {
                    let entry = from_json(&question.payload().unwrap().to_bytes()).unwrap();
                    shared.lock().unwrap().entries.insert(chunks[2].to_owned(), (entry, question));
                }
                _ => shared.lock().unwrap().model.question(question),
            }
        };
        let questions = session.declare_queryable("seccogc/server/**").callback(answer).wait().unwrap();
        Self { trial, signer, run, digest, waiting, session, _questions: questions }
    }

    /// The entry that a client sent, when it is there.
    pub(super) fn entry(&self, name: &str) -> Signed {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some((entry, _)) = self.waiting.lock().unwrap().entries.get(name) {
                return entry.clone();
            }
            assert!(Instant::now() < end, "no entry; {}", self.trial.log(&format!("{name}.log")));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `name` signs for `round` if it follows the protocol, or is what `change` makes of it.
    pub(super) fn signed(&self, name: &str, round: u64, change: impl Fn(&mut Entry)) -> Signed {
        let public = Hex(KeyPair::generate().unwrap().public());
        let (run, digest, nonce) = (self.run, self.digest, public);
        let mut entry = Entry { run, digest, round, nonce, name: name.into(), public, examples: 2500 };
        change(&mut entry);
        let pki = self.trial.path("pki");
        Signer::load(&Identity { folder: &pki, name }).unwrap().sign(Topic::Entry, &entry).unwrap()
    }

    pub(super) fn announcement(&self, round: u64, members: &[Signed]) -> Signed {
        let (run, digest, members) = (self.run, self.digest, members.to_vec());
        let model = seccogc::deploy::message::digest(&[0; 4 * D]);
        let announcement = Announcement { run, digest, round, model, members };
        self.signer.sign(Topic::Announcement, &announcement).unwrap()
    }

    pub(super) fn answer(&self, name: &str, order: &Order) {
        let (_, question) = self.waiting.lock().unwrap().entries.remove(name).unwrap();
        reply(question, Arc::new(to_json(order)));
    }

    /// Announces `round` to ann alone.
    pub(super) fn announce(&self, round: u64, members: &[Signed]) {
        self.answer("ann", &Order::Round(self.announcement(round, members)));
    }

    pub(super) fn put_models(&self, round: u64) {
        let waiting = self.waiting.lock().unwrap();
        for name in NAMES {
            waiting.model.put(format!("seccogc/server/{name}/model/{round}"), vec![0; 4 * D]);
        }
    }

    pub(super) fn put(&self, key: String, message: Vec<u8>) {
        self.waiting.lock().unwrap().model.put(key, message);
    }

    /// What `key` brings within two seconds.
    pub(super) fn pull(&self, key: &str) -> Pulled {
        self.pull_within(key, 2)
    }

    /// The same within so many.
    pub(super) fn pull_within(&self, key: &str, seconds: u64) -> Pulled {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        pull(&self.session, key, 1 << 20, deadline, &AtomicBool::new(false))
    }
}

impl Drop for Rogue<'_> {
    /// The next one listens on the same port.
    fn drop(&mut self) {
        let _ = self.session.close().wait();
    }
}

pub(super) fn trial(protocol: &str) -> Trial {
    Trial::new(&NAMES, protocol, 9, "")
}

pub(super) fn config(trial: &Trial) -> String {
    fs::read_to_string(trial.path("run.toml")).unwrap()
}

/// The first line with these words in a client's log, when it is there.
pub(super) fn logged(trial: &Trial, name: &str, words: &str) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let log = trial.log(&format!("{name}.log"));
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        assert!(Instant::now() < end, "{words} in\n{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
