//! What is wrong with the arguments of a call: one line, as every other failure.

use clap::CommandFactory;
use clap::error::{ContextValue, ErrorKind};

use super::Cli;
use crate::error::plain;
use crate::say::say;

/// Prints help and the version as they are, everything else as one line.
pub fn answer(error: clap::Error) -> u8 {
    let code = error.exit_code() as u8;
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed pipe is not an error.
            let _ = error.print();
        }
        _ => say!("{}; see `{} --help`", line(error), verbs()),
    }
    code
}

/// The lines of an error before it repeats the usage, in one.
fn line(mut error: clap::Error) -> String {
    let context: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in context {
        // A line end of an argument would pass for one of the message.
        let escaped = match value {
            ContextValue::String(text) => ContextValue::String(plain(text).to_string()),
            ContextValue::Strings(texts) => {
                ContextValue::Strings(texts.iter().map(|text| plain(text).to_string()).collect())
            }
            ContextValue::StyledStrs(tips) => {
                ContextValue::StyledStrs(tips.iter().map(|tip| plain(tip).to_string().into()).collect())
            }
            _ => continue,
        };
        error.insert(kind, escaped);
    }
    let text = error.render().to_string();
    let end = ["\n\nUsage: ", "\n\nFor more information"].iter().filter_map(|end| text.find(end)).min();
    let mut line = String::new();
    for part in text[..end.unwrap_or(text.len())].lines().map(str::trim).filter(|part| !part.is_empty()) {
        line += match part {
            _ if line.is_empty() => "",
            tip if tip.starts_with("tip:") => "; ",
            _ => " ",
        };
        line += part;
    }
    plain(line).to_string()
}

/// The verb that was called, as far as there is such a one.
fn verbs() -> String {
    let (mut command, mut called) = (Cli::command(), "seccogc".to_owned());
    for argument in std::env::args_os().skip(1) {
        if let Some(verb) = command.find_subcommand(&argument).cloned() {
            called = format!("{called} {}", verb.get_name());
            command = verb;
        }
    }
    called
}
