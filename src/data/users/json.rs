//! Walks through JSON text that is larger than the memory: an object's entries one by one, and where they
//! stand.

use std::io::BufRead;

/// Most bytes of a name.
const NAME: usize = 1 << 12;

/// A JSON text from its beginning on. Errors are sentences without a place.
pub(super) struct Walk<R> {
    text: R,
    /// Bytes that are behind.
    at: u64,
    peeked: Option<u8>,
}

impl<R: BufRead> Walk<R> {
    pub fn new(text: R) -> Self {
        Self { text, at: 0, peeked: None }
    }

    /// Bytes from the beginning to the next one.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Visits the entries of the object that comes: `entry` hears the name of each when its value comes,
    /// which it has to read or [`Walk::skip`].
    ///
    /// # Errors
    /// No object, or one that is damaged; what `entry` says.
    pub fn object<E: From<String>>(
        &mut self,
        mut entry: impl FnMut(&mut Self, String) -> Result<(), E>,
    ) -> Result<(), E> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return Ok(self.take(b'}')?);
        }
        loop {
            let name = self.name()?;
            self.take(b':')?;
            self.peek()?;
            entry(self, name)?;
            match self.peek()? {
                b',' => self.take(b',')?,
                _ => return Ok(self.take(b'}')?),
            }
        }
    }

    /// Passes over the value that comes.
    ///
    /// # Errors
    /// Text that ends within it.
    pub fn skip(&mut self) -> Result<(), String> {
        self.value(usize::MAX, |_| ())
    }

    /// The text of the value that comes, of at most `most` bytes.
    ///
    /// # Errors
    /// Text that ends within it, or a longer value.
    pub fn raw(&mut self, most: usize) -> Result<Vec<u8>, String> {
        let mut raw = Vec::new();
        self.value(most, |byte| raw.push(byte))?;
        Ok(raw)
    }

    /// Hands out the bytes of the value that comes.
    fn value(&mut self, most: usize, mut give: impl FnMut(u8)) -> Result<(), String> {
        self.peek()?;
        let (mut depth, mut quoted, mut escaped, mut length) = (0usize, false, false, 0usize);
        loop {
            let byte = match self.front()? {
                Some(byte) => byte,
                None if depth == 0 && !quoted && length > 0 => return Ok(()),
                None => return Err("the text ends within a value".into()),
            };
            if !quoted && depth == 0 && length > 0 && matches!(byte, b',' | b'}' | b']' | b':') {
                return Ok(());
            }
            self.next();
            length += 1;
            if length > most {
                return Err(format!("a value of more than {most} bytes"));
            }
            give(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
                _ => continue,
            }
            if depth == 0 && !quoted && matches!(byte, b'}' | b']' | b'"') {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        if self.peek()? != b'"' {
            return Err("a name in quotes is missing".into());
        }
        let raw = self.raw(NAME)?;
        serde_json::from_slice(&raw).map_err(|error| error.to_string())
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Result<u8, String> {
        loop {
            match self.front()? {
                Some(byte) if byte.is_ascii_whitespace() => self.next(),
                Some(byte) => return Ok(byte),
                None => return Err("the text ends too early".into()),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> Result<(), String> {
        let found = self.peek()?;
        if found != wanted {
            return Err(format!("{:?} where {:?} belongs", char::from(found), char::from(wanted)));
        }
        self.next();
        Ok(())
    }

    fn front(&mut self) -> Result<Option<u8>, String> {
        if self.peeked.is_none() {
            let mut byte = [0];
            let n = self.text.read(&mut byte).map_err(|error| error.to_string())?;
            self.peeked = (n > 0).then_some(byte[0]);
        }
        Ok(self.peeked)
    }

    fn next(&mut self) {
        if self.peeked.take().is_some() {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, place and text of every entry.
    fn entries(text: &str) -> Result<Vec<(String, u64, String)>, String> {
        let mut found = Vec::new();
        let mut walk = Walk::new(text.as_bytes());
        walk.object(|walk, name| {
            let at = walk.at();
            found.push((name, at, String::from_utf8(walk.raw(100)?).unwrap()));
            Ok::<(), String>(())
        })?;
        Ok(found)
    }

    #[test]
    fn entries_are_found_where_they_stand() {
        let text = r#" {"a" : [1, {"b": "}\""}], "\u0062": "x,\\", "c":-1e3 , "d": {}} "#;
        let found = entries(text).unwrap();
        let raw = ["[1, {\"b\": \"}\\\"\"}]", "\"x,\\\\\"", "-1e3 ", "{}"];
        for ((name, at, own), (wanted, expected)) in found.iter().zip(["a", "b", "c", "d"].iter().zip(raw)) {
            assert_eq!((name.as_str(), own.as_str()), (*wanted, expected));
            assert_eq!(&text[*at as usize..][..own.len()], own);
        }
        assert_eq!(found.len(), 4);
        assert_eq!(entries("{}").unwrap(), []);
    }

    #[test]
    fn damage_is_a_sentence() {
        let line = |text: &str| entries(text).unwrap_err();
        assert_eq!(line("[1]"), "'[' where '{' belongs");
        assert_eq!(line(r#"{"a": [1, 2"#), "the text ends within a value");
        assert_eq!(line(r#"{"a": 1"#), "the text ends too early");
        assert_eq!(line(r#"{a: 1}"#), "a name in quotes is missing");
        assert_eq!(line(&format!("{{\"a\": [{}]}}", "1,".repeat(60))), "a value of more than 100 bytes");
        for cut in 0..60 {
            let text = r#"{"a" : [1, {"b": "}\""}], "\u0062": "x,\\", "c":-1e3 , "d": {}}"#;
            assert!(entries(&text[..cut]).is_err(), "{cut}");
        }
    }
}
