//! A member with a valid certificate, of whose messages a test decides.

use zenoh::Session;
use zenoh::liveliness::LivelinessToken;
use zenoh::query::Queryable;

use super::*;

pub(super) struct Member<'a> {
    name: &'a str,
    session: Session,
    signer: Signer,
    welcome: Signed,
    run: Hex,
    /// What the others get of it.
    pub(super) shelf: Shelf,
    _questions: Queryable<()>,
    _alive: LivelinessToken,
}

impl<'a> Member<'a> {
    pub(super) fn join(trial: &Trial, name: &'a str) -> Self {
        let pki = trial.path("pki");
        let identity = Identity { folder: &pki, name };
        let address = format!("localhost:{}", trial.port);
        let session = open(&identity, &Place::Client(&address), Duration::from_secs(20)).unwrap();
        let shelf = Shelf::default();
        let held = shelf.clone();
        let questions = session.declare_queryable(format!("seccogc/client/{name}/**"));
        let questions = questions.callback(move |question| held.question(question)).wait().unwrap();
        let alive = session.liveliness().declare_token(format!("seccogc/alive/{name}")).wait().unwrap();
        let welcome = asked(&session, name, "welcome", Vec::new(), 20).unwrap().unwrap();
        let welcome: Signed = from_json(&welcome).unwrap();
        let Welcome { run, .. } = from_json(welcome.body.as_bytes()).unwrap();
        let signer = Signer::load(&identity).unwrap();
        Self { name, session, signer, welcome, run, shelf, _questions: questions, _alive: alive }
    }

    /// The server's answer within three seconds.
    pub(super) fn ask(&self, what: &str, payload: Vec<u8>) -> Option<Result<Vec<u8>, String>> {
        asked(&self.session, self.name, what, payload, 3)
    }

    /// Asks for a model of a round that never comes, with so many bytes, and does not wait.
    pub(super) fn flood(&self, bytes: usize) {
        let selector = format!("seccogc/server/{}/model/{}", self.name, u64::MAX);
        let soon = Instant::now() + Duration::from_millis(20);
        ask(&self.session, &selector, Some(vec![b'x'; bytes]), soon, &AtomicBool::new(false));
    }

    /// Enters a round; `None` while the question stays open.
    pub(super) fn enter(&self, round: u64) -> Option<Order> {
        let public = Hex(KeyPair::generate().unwrap().public());
        let (run, digest, nonce) = (self.run, self.welcome.digest(), public);
        let entry = Entry { run, digest, round, nonce, name: self.name.into(), public, examples: 600 };
        let entry = to_json(&self.signer.sign(Topic::Entry, &entry).unwrap());
        self.ask("ready", entry).map(|answer| from_json(&answer.unwrap()).unwrap())
    }
}

fn asked(
    session: &Session,
    name: &str,
    what: &str,
    payload: Vec<u8>,
    seconds: u64,
) -> Option<Result<Vec<u8>, String>> {
    let (end, go) = (Instant::now() + Duration::from_secs(seconds), AtomicBool::new(false));
    while Instant::now() < end {
        let key = format!("seccogc/server/{name}/{what}");
        if let Some((answer, _)) = ask(session, &key, Some(payload.clone()), end, &go) {
            return Some(answer);
        }
    }
    None
}
