//! What server and clients say to each other beside envelopes and models: small, in JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Most bytes of one of these messages.
pub const MOST: usize = 1 << 22;

/// The version of the conversation; others are refused.
pub const VERSION: u32 = 5;

/// What the server holds for the cohort of a round that is over: nobody need wait for shares any more.
pub const DONE: &[u8] = b"done";

/// Why a client has neither shares nor a sum, when training brought what is not finite.
pub const DIVERGED: &str = "its update is not finite";

/// 32 bytes, written in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub [u8; 32]);

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        to_hex(&hex.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        from_hex(&text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or("64 hexadecimal digits are expected")
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal, two digits each.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: &u8| char::from(*c).to_digit(16).map(|digit| digit as u8);
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Most characters of what a peer says that go into a log or a message.
const TOLD: usize = 160;

/// What a peer says, as it may stand in a line of a log: without control characters, and not too long.
#[must_use]
pub fn told(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= TOLD {
            line.push('…');
            break;
        }
        if c.is_control()
            || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// What a client ends with when the server's message breaks a rule.
#[must_use]
pub fn of_server(problem: String) -> Error {
    Error::Refused(format!("message from the server: {}", told(&problem)))
}

/// A message under somebody's name; see [`super::statement`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// What is said, JSON.
    pub body: String,
    /// The certificate of the signer and those between it and the authority, PEM.
    pub chain: String,
    /// The signature scheme, by its number in TLS.
    pub scheme: u16,
    /// The signature, hexadecimal.
    pub signature: String,
}

impl Signed {
    /// SHA-256 of what is said.
    #[must_use]
    pub fn digest(&self) -> Hex {
        digest(self.body.as_bytes())
    }
}

/// SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> Hex {
    Hex(Sha256::digest(bytes).into())
}

/// What a client must know before its first round. Its digest stands for the protocol: clients that were
/// welcomed to different things do not play together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// [`VERSION`].
    pub version: u32,
    /// Names the run.
    pub run: Hex,
    /// The configuration, TOML.
    pub config: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Shape of an example.
    pub shape: [usize; 3],
    /// Mean per channel or feature, of the server's examples.
    pub mean: Vec<f64>,
    /// Standard deviation per channel or feature, of the server's examples.
    pub std: Vec<f64>,
    /// Mean and standard deviation by which quantities are standardised before they are learnt, one pair a
    /// quantity; empty for classes and labels.
    pub scale: Vec<(f64, f64)>,
    /// Names and shapes of the parameters of a model that the clients' own programs train, of whose examples
    /// the server knows nothing; empty for a model of the configuration.
    pub layers: Vec<(String, Vec<usize>)>,
}

/// A client is ready for a round: signed by it, and handed on to the others of the cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The run that the client was welcomed to.
    pub run: Hex,
    /// SHA-256 of the welcome.
    pub digest: Hex,
    /// The round; its client has sent nothing in it yet.
    pub round: u64,
    /// Fresh for every entry.
    pub nonce: Hex,
    /// The client's name.
    pub name: String,
    /// Its public key for this round.
    pub public: Hex,
    /// Its number of training examples, at least 1.
    pub examples: u64,
}

/// The roster of a round: signed by the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The run.
    pub run: Hex,
    /// SHA-256 of the welcome.
    pub digest: Hex,
    /// The round; never announced before.
    pub round: u64,
    /// SHA-256 of the global model, as it travels: all members train from the same one.
    pub model: Hex,
    /// The entries of its cohort, in the order of the names in the configuration.
    pub members: Vec<Signed>,
}

/// What the server answers to a client that is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// A round begins: an [`Announcement`].
    Round(Signed),
    /// The entry is for a round that is over or not the next one; this is the next one.
    Next(u64),
    /// There are no more rounds.
    Over,
}

/// A message as bytes.
pub fn to_json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("these messages have a JSON form")
}

/// A message from bytes.
///
/// # Errors
/// The place and the rule.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MOST {
        return Err(format!("{} bytes where at most {MOST} are expected", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| told(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_garbage_is_refused_in_one_line() {
        let key = Hex(std::array::from_fn(|i| 7 * i as u8));
        let signed =
            Signed { body: "{}".into(), chain: String::new(), scheme: 0x0403, signature: "00ff".into() };
        let members = vec![signed.clone(), signed.clone()];
        let announcement = Announcement { run: key, digest: key, round: 4, model: key, members };
        assert_eq!(from_json::<Announcement>(&to_json(&announcement)).unwrap(), announcement);
        let order = Order::Round(signed);
        assert_eq!(from_json::<Order>(&to_json(&order)).unwrap(), order);
        assert_eq!(to_json(&Order::Over), br#""over""#);
        assert_eq!(to_json(&Order::Next(3)), br#"{"next":3}"#);
        for bad in ["", "{", "[]", "\"round\"", "{\"round\":{\"body\":\"00\"}}", "\u{1}\n\n"] {
            let error = from_json::<Order>(bad.as_bytes()).unwrap_err();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let entry = Entry {
            run: key,
            digest: key,
            round: 2,
            nonce: key,
            name: "ann".into(),
            public: key,
            examples: 1,
        };
        let text = String::from_utf8(to_json(&entry)).unwrap();
        for (from, to) in
            [("\"round\":2", "\"round\":-1"), ("0007", "07"), ("0007", "é7"), ("{", "{\"x\":1,")]
        {
            assert!(from_json::<Entry>(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}");
        }
        assert!(from_json::<Entry>(&vec![b' '; MOST + 1]).is_err());
    }

    #[test]
    fn bytes_in_hexadecimal_by_hand() {
        assert_eq!(to_hex(&[0, 0x1f, 0xa0]), "001fa0");
        assert_eq!(from_hex("001FA0"), Some(vec![0, 0x1f, 0xa0]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for bad in ["0", "001", "0g", "é"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_peers_say_forges_no_line_and_fills_no_log() {
        assert_eq!(told("ann, 3 µs"), "ann, 3 µs");
        assert_eq!(told("x\n2026 INFO all is well\u{1b}[2J"), "x\\n2026 INFO all is well\\u{1b}[2J");
        assert_eq!(told("a\u{202e}b\u{2028}c"), "a\\u{202e}b\\u{2028}c");
        assert!(told(&"x".repeat(3_000_000)).len() < 2 * TOLD);
        assert!(told(&"\n".repeat(3_000_000)).len() < 2 * TOLD);
    }
}
