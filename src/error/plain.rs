//! Words of files and of the user inside messages.

use std::fmt::{self, Display, Write};

/// `text` on one line and without what a terminal would obey: line ends are spaces, other control characters
/// and those that turn the direction of writing are escaped.
pub(crate) fn plain(text: impl Display) -> impl Display {
    Plain(text)
}

struct Plain<T>(T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '\n' => self.0.write_char(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => write!(self.0, "{}", c.escape_unicode()),
            c if c.is_control() => write!(self.0, "{}", c.escape_default()),
            c => self.0.write_char(c),
        })
    }
}

/// `n` of something that has a regular plural: "1 example", "2 examples", "2 classes".
pub(crate) fn count(n: impl Display, singular: &str) -> String {
    let n = n.to_string();
    let ending = match singular {
        _ if n == "1" => "",
        word if word.ends_with('s') => "es",
        _ => "s",
    };
    format!("{n} {singular}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_line_and_letters_stay() {
        assert_eq!(plain("größe “1\tx”\r\n").to_string(), "größe “1\\tx”\\r ");
        assert_eq!(plain("\u{7}\u{9b}31m").to_string(), "\\u{7}\\u{9b}31m");
    }

    #[test]
    fn plurals_follow_the_number() {
        let all = [count(0, "class"), count(1, "class"), count(2, "class"), count(1, "run"), count(3, "run")];
        assert_eq!(all, ["0 classes", "1 class", "2 classes", "1 run", "3 runs"]);
    }
}
