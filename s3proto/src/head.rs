//! The heads of messages: requests as the text that is sent, answers as the lines that came.
//!
//! A sync sends a request for nearly every object, so neither side is built out of maps of names and values. A
//! [`HeadText`] is written once, front to back, into memory that the request before it left, and the signature is made
//! over that very text; a [`Headers`] keeps the lines of an answer back to back. What cannot be in a head does not get
//! into one: every target and every value passes the same test as in the `http` crate.

use std::fmt::{self, Write};

use http::Method;

/// A request's head: its line and its headers, as they go over the wire.
#[derive(Default)]
pub struct HeadText {
    text: String,
    method: Span,
    target: Span,
    lines: Vec<Line>,
    /// Bytes and lines before the signature's own, once there are some.
    unsigned: Option<(usize, usize)>,
}

/// The header lines of an answer, names in lower case.
#[derive(Default, Clone)]
pub struct Headers {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

/// A value that no header can carry, or a name that no header can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit;

#[derive(Debug, Default, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    name: Span,
    value: Span,
}

impl Span {
    /// # Panics
    /// Beyond 4 GiB, where no head comes.
    fn new(start: usize, end: usize) -> Self {
        let offset = |bytes: usize| u32::try_from(bytes).expect("a head is far below 4 GiB");
        Self { start: offset(start), end: offset(end) }
    }

    fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    fn of_bytes(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

impl HeadText {
    /// An empty one, for an operation to write into.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The method, as text.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.of(&self.text)
    }

    /// Path and query, encoded.
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.of(&self.text)
    }

    /// Names, in lower case, and values, in the order in which they are sent.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|line| (line.name.of(&self.text), line.value.of(&self.text)))
    }

    /// The first value of a name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Ends the head and gives its bytes, the blank line included. It is complete then: nothing may be added.
    pub fn end(&mut self) -> &[u8] {
        self.text.push_str("\r\n");
        self.text.as_bytes()
    }

    /// Begins a head, whatever was here before; `write_target` appends path and query.
    ///
    /// # Panics
    /// If the target holds anything but visible ASCII, with which it could end its line.
    pub(crate) fn begin(&mut self, method: &Method, write_target: impl FnOnce(&mut String)) {
        self.text.clear();
        self.lines.clear();
        self.unsigned = None;
        self.text.push_str(method.as_str());
        self.method = Span::new(0, self.text.len());
        self.text.push(' ');
        let start = self.text.len();
        write_target(&mut self.text);
        self.target = Span::new(start, self.text.len());
        assert!(is_target(self.target()), "a target is encoded before it gets here");
        self.text.push_str(" HTTP/1.1\r\n");
    }

    /// Adds a header that this crate composed itself.
    ///
    /// # Panics
    /// If no header can carry the value: whatever comes from outside was checked before, or goes through
    /// [`Self::try_header`].
    pub(crate) fn header(&mut self, name: &str, value: &str) {
        debug_assert!(is_name(name), "{name} is no header's name");
        assert!(is_value(value), "names and encoded values hold only visible ASCII");
        self.line("", name, |text| text.push_str(value));
    }

    /// Adds a header whose value is a number.
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.line("", name, |text| {
            write!(text, "{value}").expect("writing to a String cannot fail");
        });
    }

    /// Adds a header with somebody else's words in its name, after `prefix`, and in its value, only if a header can carry
    /// them unchanged: no control character, and so no end of a line, ever gets into a head. The name is written in
    /// lower case.
    pub(crate) fn try_header(&mut self, prefix: &str, name: &str, value: &str) -> Result<(), Unfit> {
        let named = is_name(name) || (name.is_empty() && !prefix.is_empty());
        if !named || !is_value(value) {
            return Err(Unfit);
        }
        self.line(prefix, name, |text| text.push_str(value));
        Ok(())
    }

    /// Notes that what follows belongs to the signature; what an earlier signature added goes.
    pub(crate) fn begin_signature(&mut self) {
        let (bytes, lines) = *self.unsigned.get_or_insert((self.text.len(), self.lines.len()));
        self.text.truncate(bytes);
        self.lines.truncate(lines);
    }

    fn line(&mut self, prefix: &str, name: &str, write_value: impl FnOnce(&mut String)) {
        let text = &mut self.text;
        let name_start = text.len();
        text.push_str(prefix);
        text.push_str(name);
        text[name_start..].make_ascii_lowercase();
        let name = Span::new(name_start, text.len());
        text.push_str(": ");
        let value_start = text.len();
        write_value(text);
        self.lines.push(Line { name, value: Span::new(value_start, text.len()) });
        text.push_str("\r\n");
    }
}

/// The request's line and the names of its headers: values may be secrets.
impl fmt::Debug for HeadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.lines().map(|(name, _)| name).collect();
        f.debug_struct("HeadText")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("names", &names)
            .finish()
    }
}

impl Headers {
    /// Without a line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all lines and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
    }

    /// Adds a line as it came.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let name_start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        let name_end = self.bytes.len();
        self.bytes[name_start..].make_ascii_lowercase();
        self.bytes.extend_from_slice(value);
        let value = Span::new(name_end, self.bytes.len());
        self.lines.push(Line { name: Span::new(name_start, name_end), value });
    }

    /// All lines of this name, given in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = |line: &&Line| line.name.of_bytes(&self.bytes) == name.as_bytes();
        self.lines.iter().filter(named).map(|line| line.value.of_bytes(&self.bytes))
    }

    /// The first line of this name, given in lower case.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let line = self.lines.iter().find(|line| line.name.of_bytes(&self.bytes) == name.as_bytes())?;
        Some(line.value.of_bytes(&self.bytes))
    }

    /// The same, if it is text of visible ASCII, blanks and tabs.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.value(name)?).ok().filter(|text| is_value(text))
    }

    /// Whether there is such a line.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Names, in lower case, and values, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| {
            let name = std::str::from_utf8(line.name.of_bytes(&self.bytes)).expect("names were pushed as text");
            (name, line.value.of_bytes(&self.bytes))
        })
    }
}

/// The names alone: a service's words are cleaned before they are shown.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

fn is_target(target: &str) -> bool {
    !target.is_empty() && all(target, |byte| matches!(byte, b'!'..=b'~'))
}

/// RFC 9110's token.
fn is_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Visible ASCII, blanks and tabs.
pub(crate) fn is_value(value: &str) -> bool {
    all(value, |byte| matches!(byte, b' '..=b'~' | b'\t'))
}

/// Looks at every byte, whatever the ones before it are, so that many are looked at in one instruction.
fn all(text: &str, passes: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, byte| all & passes(byte))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A head as a test wants it.
    pub(crate) fn written(method: Method, target: &str, headers: &[(&str, &str)]) -> HeadText {
        let mut head = HeadText::new();
        head.begin(&method, |text| text.push_str(target));
        for (name, value) in headers {
            head.header(name, value);
        }
        head
    }

    /// The lines of a request as if they had come in an answer.
    pub(crate) fn echoed(head: &HeadText) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in head.lines() {
            headers.push(name, value.as_bytes());
        }
        headers
    }

    #[test]
    fn a_head_is_its_text() {
        let mut head = written(Method::PUT, "/b/k?x=1", &[("host", "h:9"), ("X-A", "b c")]);
        head.number("content-length", 12);
        assert_eq!((head.method(), head.target(), head.value("x-a")), ("PUT", "/b/k?x=1", Some("b c")));
        let text = "PUT /b/k?x=1 HTTP/1.1\r\nhost: h:9\r\nx-a: b c\r\ncontent-length: 12\r\n\r\n";
        assert_eq!(head.end(), text.as_bytes());
        head.begin(&Method::GET, |text| text.push('/'));
        assert_eq!(head.end(), b"GET / HTTP/1.1\r\n\r\n", "nothing is left of the one before");
    }

    #[test]
    fn a_new_signature_takes_the_place_of_the_old() {
        let mut head = written(Method::GET, "/", &[("host", "h")]);
        for value in ["one", "two"] {
            head.begin_signature();
            head.header("authorization", value);
        }
        assert_eq!(head.lines().collect::<Vec<_>>(), [("host", "h"), ("authorization", "two")]);
    }

    #[test]
    fn no_value_ends_its_line() {
        let mut head = written(Method::GET, "/", &[]);
        for evil in ["a\r\nb: c", "a\nb", "a\rb", "\0", "\u{7f}", "\u{e9}"] {
            assert_eq!(head.try_header("", "x", evil), Err(Unfit), "{evil:?}");
        }
        for evil in ["", "a b", "a:b", "a\r\nb", "\u{e9}"] {
            assert_eq!(head.try_header("", evil, "x"), Err(Unfit), "{evil:?}");
        }
        assert_eq!(head.end(), b"GET / HTTP/1.1\r\n\r\n");
    }

    #[test]
    #[should_panic(expected = "a target is encoded")]
    fn no_target_ends_its_line() {
        written(Method::GET, "/a HTTP/1.1\r\nx: y", &[]);
    }

    #[test]
    fn the_lines_of_an_answer() {
        let mut headers = Headers::new();
        for (name, value) in [("ETag", "\"x\""), ("X-A", "1"), ("x-a", "2")] {
            headers.push(name, value.as_bytes());
        }
        headers.push("x-b", b"\xff");
        assert_eq!((headers.text("etag"), headers.value("x-a")), (Some("\"x\""), Some(&b"1"[..])));
        assert_eq!(headers.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((headers.text("x-b"), headers.contains("x-b"), headers.contains("x")), (None, true, false));
        headers.clear();
        assert_eq!(headers.iter().count(), 0);
    }

    proptest! {
        #[test]
        fn values_pass_as_they_do_in_the_http_crate(value in any::<String>(), ascii in "[ -~\t]{0,20}") {
            for value in [value, ascii] {
                // It also takes what is not ASCII, which no header carries unchanged.
                let passes = http::HeaderValue::from_str(&value).is_ok() && value.is_ascii();
                prop_assert_eq!(is_value(&value), passes);
            }
        }

        #[test]
        fn names_pass_as_they_do_in_the_http_crate(name in "\\PC{0,6}|[!-~]{0,6}") {
            prop_assert_eq!(is_name(&name), http::HeaderName::try_from(name.as_str()).is_ok());
        }
    }
}
