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

/// A stream for writers that take a refusal badly: it takes everything.
pub(crate) struct Patient<W>(pub W);

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}
