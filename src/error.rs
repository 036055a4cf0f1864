//! The one error type of the crate.
//!
//! Every variant prints as a single line that names what is wrong, where, which rule it breaks and,
//! where it helps, what to do. An *outage* is not an error: it is a result
//! ([`crate::message::Decoded::Outage`]).

mod diverged;
mod plain;

use std::path::{Path, PathBuf};

pub use diverged::{Diverged, NotFinite};
pub(crate) use plain::{count, plain};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can stop a run; [`Error::exit_code`] is that of the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value breaks a rule. `key` is its dotted path.
    #[error("{}: {}", plain(key), plain(rule))]
    Config {
        /// Dotted path of the value, e.g. `protocol.stragglers`.
        key: String,
        /// The broken rule and what to do.
        rule: String,
    },
    /// A gradient code does not exist for these numbers of clients and stragglers, or over these symbols, or
    /// is too badly conditioned. Whoever tries several codes goes on with the next.
    #[error("{}: {}", plain(key), plain(rule))]
    NoCode {
        /// Dotted path of the code, e.g. `protocol.code`.
        key: String,
        /// Why there is none and what to take instead.
        rule: String,
    },
    /// A data, configuration or run file is missing, damaged or of the wrong kind.
    #[error("{}: {}", plain(path.display()), plain(problem))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The operating system refused an operation on a file.
    #[error("{}: cannot {action}: {source}", plain(path.display()))]
    Io {
        /// A verb phrase: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A run met what is not finite. That is an outcome, which a run directory keeps as
    /// [`crate::record::End`].
    #[error("{diverged}; {remedy}")]
    Diverged {
        /// When, who and what.
        diverged: Diverged,
        /// What to change.
        remedy: String,
    },
    /// A protocol does what no protocol may: a defect of its code, which no setting of a run mends.
    #[error(
        "{protocol}: {}; this breaks the contract of a protocol and is a defect of its code",
        plain(what)
    )]
    Broken {
        /// The type that implements the protocol.
        protocol: String,
        /// What it did.
        what: String,
    },
    /// The user, or the program around this one, asked for an end.
    #[error("stopped")]
    Stopped,
    /// A part of one's own failed, such as a learner or whoever watches a run.
    #[error("{}", plain(.0))]
    Own(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else that the user asked for and cannot have.
    #[error("{}", plain(.0))]
    Refused(String),
}

impl Error {
    /// A configuration error at the dotted path `key`.
    pub fn config(key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Config { key: key.into(), rule: short(&rule.into()) }
    }

    /// A missing code at the key `code` of its section.
    pub(crate) fn no_code(rule: impl Into<String>) -> Self {
        Self::NoCode { key: "code".into(), rule: rule.into() }
    }

    /// A file whose content is wrong.
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// The one line that a program prints of this: with its causes, and without what a terminal would obey.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let text = plain(cause).to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            source = cause.source();
        }
        plain(line).to_string()
    }

    /// The exit code of a program that ends with this: 3 for divergence, 130 where it was stopped, as shells
    /// have it, 2 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Diverged { .. } => 3,
            Self::Stopped => 130,
            _ => 2,
        }
    }

    /// A broken contract of the protocol `P`.
    pub fn broken<P>(what: impl Into<String>) -> Self {
        let name = std::any::type_name::<P>();
        let plain = name.split('<').next().unwrap_or(name);
        Self::Broken { protocol: plain.rsplit("::").next().unwrap_or(plain).into(), what: what.into() }
    }

    /// A closure for `map_err` on I/O results.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Prefixes the key of an [`Error::Config`] or [`Error::NoCode`], so that a section can check itself
    /// without knowing where it stands.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        if let Self::Config { key, .. } | Self::NoCode { key, .. } = &mut self {
            *key = if key.is_empty() { section.into() } else { format!("{section}.{key}") };
        }
        self
    }
}

/// Longest number that a message spells out, in characters: whole numbers of 64 bits are not longer.
const DIGITS: usize = 20;

/// A message with numbers that can be read: those of more digits in scientific notation.
pub(crate) fn short(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(from.len());
        let number = from[..end].trim_end_matches('.');
        out += before;
        match number.parse::<f64>() {
            Ok(value) if number.len() > DIGITS => out += &format!("{value:e}"),
            _ => out += number,
        }
        rest = &from[number.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_short() {
        let cases = [
            ("1000000000000000019884624838656 is too large", "1e30 is too large"),
            ("0.000000000000000000000000000001", "1e-30"),
            ("from 0.125 to 18446744073709551615.", "from 0.125 to 18446744073709551615."),
            ("1.2.3.4.5.6.7.8.9.10.11.12.13.14", "1.2.3.4.5.6.7.8.9.10.11.12.13.14"),
            ("none", "none"),
        ];
        for (long, readable) in cases {
            assert_eq!(short(long), readable);
        }
    }

    #[test]
    fn sections_prefix_keys_and_nothing_else() {
        let line = |error: Error| error.within("protocol").within("compare[1]").to_string();
        assert_eq!(line(Error::config("code", "is odd")), "compare[1].protocol.code: is odd");
        assert_eq!(line(Error::config("", "is odd")), "compare[1].protocol: is odd");
        let missing = Error::no_code("does not exist").within("protocol");
        assert!(matches!(&missing, Error::NoCode { key, .. } if key == "protocol.code"));
        assert_eq!(missing.to_string(), "protocol.code: does not exist");
        assert_eq!(line(Error::Refused("no".into())), "no");
    }

    #[test]
    fn control_characters_stay_out_of_every_line() {
        let raw = "a\u{1b}[2J\nb\u{202e}";
        let seen = "a\\u{1b}[2J b\\u{202e}";
        let system = || std::io::Error::from(std::io::ErrorKind::NotFound);
        for (error, want) in [
            (Error::config(raw, raw), format!("{seen}: {seen}")),
            (Error::NoCode { key: raw.into(), rule: raw.into() }, format!("{seen}: {seen}")),
            (Error::file(raw, raw), format!("{seen}: {seen}")),
            (Error::io("read", raw)(system()), format!("{seen}: cannot read: entity not found")),
            (Error::Refused(raw.into()), seen.to_owned()),
        ] {
            assert_eq!(error.to_string(), want);
        }
    }
}
