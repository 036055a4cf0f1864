//! What a party holds for others to pull, and the questions that wait for it: bounded in number, bytes and
//! age, whoever asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use zenoh::Wait;
use zenoh::query::{Parameters, Query};

use super::transport::{PATIENCE, PIECE, REASON};

/// Questions that may wait for items at the same time, and answers that may be under way.
const WAITING: usize = 4096;

/// Questions of one party that may wait: it asks for an item once at a time, and anew when it lost patience.
const WAITING_OF_ONE: usize = 16;

/// Most bytes of a question's key and parameters.
const QUESTION: usize = 512;

/// What a party holds for others to pull.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    round: u64,
    items: BTreeMap<String, Item>,
    /// Questions for what is not there yet, by selector, and since when.
    waiting: BTreeMap<String, (Instant, Query)>,
}

#[derive(Clone)]
enum Item {
    Message(Arc<Vec<u8>>),
    Nothing(&'static str),
}

impl Shelf {
    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what belongs to other rounds.
    pub fn begin(&self, round: u64) {
        let mut held = self.lock();
        held.round = round;
        held.items.retain(|key, _| round_of(key) == Some(round));
        held.waiting.retain(|key, _| round_of(key) >= Some(round));
    }

    /// Puts a message at `key`; whoever waits for it gets it. What is there already stays.
    pub fn put(&self, key: String, message: Vec<u8>) {
        self.place(key, Item::Message(Arc::new(message)));
    }

    /// Tells everybody who asks for `key` why there is nothing.
    pub fn put_nothing(&self, key: String, reason: &'static str) {
        self.place(key, Item::Nothing(reason));
    }

    fn place(&self, key: String, item: Item) {
        let mut held = self.lock();
        let mut waiting = std::mem::take(&mut held.waiting);
        held.waiting = waiting.split_off(&format!("{key}@"));
        let questions = waiting.split_off(&format!("{key}?"));
        held.waiting.append(&mut waiting);
        let item = held.items.entry(key).or_insert(item).clone();
        drop(held);
        questions.into_values().for_each(|(_, question)| answer(question, &item));
    }

    /// Answers a question now, or when its item is there. What it carries beside its key is dropped:
    /// questions for items carry nothing.
    pub fn question(&self, mut question: Query) {
        without_payload(&mut question);
        let key = question.key_expr().to_string();
        let mut held = self.lock();
        if let Some(item) = held.items.get(&key).cloned() {
            drop(held);
            return answer(question, &item);
        }
        let refusal = match round_of(&key) {
            Some(round) if round >= held.round => None,
            _ => Some("there is no such message any more"),
        };
        let selector = format!("{key}?{}", question.parameters().as_str());
        if let Some(reason) = refusal.or((selector.len() > QUESTION).then_some("the question is too long")) {
            drop(held);
            return answer(question, &Item::Nothing(reason));
        }
        // Who asked before has asked anew since.
        held.waiting.retain(|_, (since, _)| since.elapsed() < 2 * PATIENCE);
        let asker = asker(&key);
        let same = held.waiting.keys().filter(|other| self::asker(other) == asker).count();
        if same < WAITING_OF_ONE && held.waiting.len() < WAITING {
            held.waiting.insert(selector, (Instant::now(), question));
        }
    }
}

/// Frees what a question carries.
pub fn without_payload(question: &mut Query) {
    if let Some(payload) = question.payload_mut() {
        *payload = zenoh::bytes::ZBytes::new();
    }
    if let Some(attachment) = question.attachment_mut() {
        *attachment = zenoh::bytes::ZBytes::new();
    }
}

/// The round in a key: its fifth chunk.
fn round_of(key: &str) -> Option<u64> {
    key.split(['/', '?']).nth(4)?.parse().ok()
}

/// Who may ask for a key: the list of access sees to it that nobody else does.
fn asker(key: &str) -> &str {
    let mut chunks = key.split(['/', '?']).skip(1);
    match (chunks.next(), chunks.next(), chunks.next()) {
        (Some("server"), Some(name), _) => name,
        (Some("client"), _, Some("share")) => chunks.nth(2).unwrap_or_default(),
        _ => "server",
    }
}

/// Answers in a thread of its own, lest one dead receiver starve the others; not at all when too many are
/// under way, as the receiver asks again.
fn answer(question: Query, item: &Item) {
    let item = item.clone();
    aside(question, move |question| match item {
        Item::Message(message) => {
            let piece = piece(&message, question.parameters().as_str());
            let total = (message.len() as u64).to_le_bytes();
            question.reply(question.key_expr(), piece).attachment(total.to_vec()).wait()
        }
        Item::Nothing(reason) => question.reply_err(reason).encoding(REASON).wait(),
    });
}

/// The piece of a message that a question's parameters ask for: `from=0;bytes=8192`.
#[must_use]
pub fn piece<'a>(message: &'a [u8], parameters: &str) -> &'a [u8] {
    let parameters = Parameters::from(parameters);
    let number = |name| parameters.get(name).and_then(|n| n.parse::<usize>().ok());
    let start = number("from").unwrap_or(0).min(message.len());
    let bytes = number("bytes").unwrap_or(PIECE).min(PIECE);
    &message[start..message.len().min(start + bytes)]
}

fn aside(question: Query, reply: impl FnOnce(&Query) -> zenoh::Result<()> + Send + 'static) {
    static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
    if UNDER_WAY.fetch_add(1, Ordering::Relaxed) >= WAITING {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let started = std::thread::Builder::new().spawn(move || {
        if let Err(error) = reply(&question) {
            tracing::debug!("{}: {error}", question.key_expr());
        }
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    });
    // Whoever gets no answer asks again.
    if started.is_err() {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers with a small message.
pub fn reply(question: Query, message: Arc<Vec<u8>>) {
    aside(question, move |question| question.reply(question.key_expr(), message.as_slice()).wait());
}

/// Answers that there is nothing, and why.
pub fn refuse(question: Query, reason: String) {
    aside(question, move |question| question.reply_err(reason).encoding(REASON).wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_their_round() {
        assert_eq!(round_of("seccogc/client/ann/share/12/0/bob"), Some(12));
        assert_eq!(round_of("seccogc/client/ann/sum/7/1?part=3"), Some(7));
        assert_eq!(round_of("seccogc/server/ann/relay/4/2"), Some(4));
        assert_eq!(round_of("seccogc/server/ann/model/3"), Some(3));
        assert_eq!(round_of("seccogc/client/ann/sum"), None);
        assert_eq!(round_of("seccogc/client/ann/sum/x"), None);
    }

    #[test]
    fn pieces_lie_within_the_message() {
        let message: Vec<u8> = (0..10).collect();
        assert_eq!(piece(&message, "from=2;bytes=3"), [2, 3, 4]);
        assert_eq!(piece(&message, "bytes=3;from=8"), [8, 9]);
        assert_eq!(piece(&message, ""), message);
        assert_eq!(piece(&message, "from=-1;bytes=x"), message);
        for nothing in ["from=10", "from=18446744073709551615;bytes=18446744073709551615", "bytes=0"] {
            assert!(piece(&message, nothing).is_empty(), "{nothing}");
        }
        let long = vec![0; PIECE + 1];
        assert_eq!(piece(&long, "bytes=18446744073709551615").len(), PIECE);
    }

    #[test]
    fn keys_tell_who_may_ask() {
        assert_eq!(asker("seccogc/client/ann/share/12/0/bob"), "bob");
        assert_eq!(asker("seccogc/client/ann/share/12/0/bob?from=0;bytes=8192"), "bob");
        assert_eq!(asker("seccogc/client/ann/sum/7/1"), "server");
        assert_eq!(asker("seccogc/server/ann/model/3?from=0"), "ann");
    }
}
