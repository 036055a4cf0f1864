//! What server and clients say to each other beside envelopes and models: small, in JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most bytes of one of these messages.
pub const MOST: usize = 1 << 22;

/// The version of the conversation; others are refused.
pub const VERSION: u32 = 1;

/// What the server holds for the cohort of a round that is over: nobody need wait for shares any more.
pub const DONE: &[u8] = b"done";

/// Why a client has neither shares nor a sum, when training brought what is not finite.
pub const DIVERGED: &str = "its update is not finite";

/// 32 bytes, written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub [u8; 32]);

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        hex.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit = |c: &u8| char::from(*c).to_digit(16).map(|digit| digit as u8);
        let digits: Option<Vec<u8>> = text.as_bytes().iter().map(digit).collect();
        let bytes: Option<Vec<u8>> = digits.map(|digits| {
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | d)).collect()
        });
        bytes
            .filter(|_| text.len() == 64)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or("64 hexadecimal digits are expected")
    }
}

/// What a client must know before its first round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub mean: Vec<f32>,
    /// Standard deviation per channel or feature, of the server's examples.
    pub std: Vec<f32>,
}

/// A client is ready for a round after `after`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The run that the client was welcomed to.
    pub run: Hex,
    /// The last round that it took part in.
    pub after: u64,
    /// Its public key for the next round.
    pub public: Hex,
    /// Its number of training examples, at least 1.
    pub examples: u64,
}

/// One client of a round's cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its public key for this round.
    pub public: Hex,
    /// Its number of training examples.
    pub examples: u64,
}

/// What the server answers to a client that is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// A round begins.
    Round {
        /// The run.
        run: Hex,
        /// The round; never announced before.
        round: u64,
        /// Its cohort, in the order of the names in the configuration.
        members: Vec<Member>,
    },
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
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_garbage_is_refused_in_one_line() {
        let key = Hex(std::array::from_fn(|i| 7 * i as u8));
        let members = vec![Member { name: "ann".into(), public: key, examples: 3 }];
        let order = Order::Round { run: key, round: 4, members };
        assert_eq!(from_json::<Order>(&to_json(&order)).unwrap(), order);
        assert_eq!(to_json(&Order::Over), br#""over""#);
        for bad in ["", "{", "[]", "\"round\"", "{\"round\":{\"run\":\"00\"}}", "\u{1}\n\n"] {
            let error = from_json::<Order>(bad.as_bytes()).unwrap_err();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let ready = Ready { run: key, after: 0, public: key, examples: 1 };
        let text = String::from_utf8(to_json(&ready)).unwrap();
        for (from, to) in
            [("\"after\":0", "\"after\":-1"), ("0007", "07"), ("0007", "é7"), ("{", "{\"x\":1,")]
        {
            assert!(from_json::<Ready>(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}");
        }
        assert!(from_json::<Ready>(&vec![b' '; MOST + 1]).is_err());
    }
}
