//! Lines for the user on standard error. A reader that went away, or a full disk behind it, ends no run: what
//! cannot be printed is dropped.

use std::fmt::Arguments;
use std::io::{self, Write};

/// One line on standard error, as `eprintln!`, which would panic where nobody listens.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::line(format_args!($($text)*)) };
}
pub(crate) use say;

pub(crate) fn line(text: Arguments<'_>) {
    // In one piece, so that processes which share a file do not mix their lines.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Standard error for writers that take a refusal badly: it takes everything.
pub(crate) struct Stderr;

/// Standard output, likewise.
pub(crate) struct Stdout;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stdout().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stdout().flush();
        Ok(())
    }
}
