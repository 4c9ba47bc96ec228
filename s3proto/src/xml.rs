//! A bounded reader and a small writer for the documents of S3.
//!
//! The reader walks one element at a time over a document that is already in memory, and hands out its text without
//! copying it. It refuses what no S3 answer needs and hostile servers use: document types (and with them entities),
//! deep nesting, floods of attributes, and documents beyond [`DOCUMENT_BYTES_MAX`]. It never normalises line ends,
//! because a carriage return may be part of a key, and it accepts references to control characters, which XML forbids
//! and S3 sends.

use quick_xml::{
    Reader,
    events::{BytesEnd, BytesStart, Event},
};
use thiserror::Error;

/// Far above a listing page of 1,000 keys of 1,024 bytes each, three times percent-encoded.
pub const DOCUMENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// S3's deepest answer has five levels.
pub const DEPTH_MAX: usize = 16;
/// S3 uses at most two attributes, both for namespaces.
pub const ATTRIBUTES_MAX: usize = 64;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum XmlError {
    /// Beyond [`DOCUMENT_BYTES_MAX`].
    #[error("the document has {bytes} bytes, more than {DOCUMENT_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not UTF-8, the only encoding S3 uses.
    #[error("the document is not UTF-8")]
    NotUtf8,
    /// A document type declaration.
    #[error("the document declares a document type")]
    DocumentType,
    /// Beyond [`DEPTH_MAX`].
    #[error("elements are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Beyond [`ATTRIBUTES_MAX`].
    #[error("an element has more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
    /// The document ended inside an element, or before any.
    #[error("the document ends before its last element does")]
    Truncated,
    /// Another root element than the one that means success.
    #[error("the document is a `{found}`, not a `{expected}`")]
    Root {
        /// What was looked for.
        expected: &'static str,
        /// What was there, clipped and escaped.
        found: String,
    },
    /// A reference to an entity that is not one of the five, or to no character.
    #[error("the document refers to the unknown entity `{name}`")]
    Reference {
        /// The reference's name, clipped and escaped.
        name: String,
    },
    /// An element that the document needs and does not have, or whose text makes no sense.
    #[error("the element `{element}` is missing or makes no sense")]
    Element {
        /// The element's name.
        element: &'static str,
    },
    /// Not XML.
    #[error("the document is not well-formed: {reason}")]
    Syntax {
        /// The parser's words.
        reason: String,
    },
}

/// A document being read, one element after another.
///
/// After [`Self::child`] has returned an element, exactly one of [`Self::text`], [`Self::skip`] or a loop of
/// [`Self::child`] down to `None` consumes it.
pub struct Document<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    depth: usize,
    /// The element entered last was written as `<name/>`, so its end comes next, though no byte of the document says so.
    empty: bool,
    /// Text that could not be borrowed, because a reference stood in it.
    assembled: String,
}

/// The start of an element.
pub struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// Its name without any namespace prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.0.name().into_inner();
        name.rsplit_once(':').map_or(name, |(_, local)| local)
    }
}

impl<'a> Document<'a> {
    /// Begins to read; leading whitespace, which S3 sends to keep a connection alive, is passed over.
    ///
    /// # Errors
    /// [`XmlError`] when the bytes are too many or not UTF-8.
    pub fn open(bytes: &'a [u8]) -> Result<Self, XmlError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(XmlError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
        let text = text.trim_start();
        Ok(Self { text, reader: Reader::from_str(text), depth: 0, empty: false, assembled: String::new() })
    }

    /// Enters the root element, whatever it is.
    ///
    /// # Errors
    /// [`XmlError`] when there is none.
    pub fn any_root(&mut self) -> Result<Element<'a>, XmlError> {
        self.child()?.ok_or(XmlError::Truncated)
    }

    /// Enters the root element, which has to be `expected`.
    ///
    /// # Errors
    /// [`XmlError::Root`] when it is another: a service reports failures as `Error` even under status 200.
    pub fn root(&mut self, expected: &'static str) -> Result<(), XmlError> {
        self.root_among(&[expected])
    }

    /// Enters the root element, which has to be one of `expected`; the first is its right name.
    ///
    /// # Errors
    /// As [`root`](Self::root).
    pub fn root_among(&mut self, expected: &[&'static str]) -> Result<(), XmlError> {
        let root = self.any_root()?;
        if expected.contains(&root.name()) {
            return Ok(());
        }
        Err(XmlError::Root { expected: expected[0], found: crate::text::shown(root.name()) })
    }

    /// The next element inside the one that was entered last, or `None` at its end. Text between elements is ignored.
    ///
    /// # Errors
    /// [`XmlError`] when the document breaks a rule or ends.
    pub fn child(&mut self) -> Result<Option<Element<'a>>, XmlError> {
        loop {
            match self.event()? {
                Event::Start(start) => return self.enter(start).map(Some),
                Event::Empty(start) => {
                    self.empty = true;
                    return self.enter(start).map(Some);
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(None);
                }
                Event::Eof => return Err(XmlError::Truncated),
                _ => {}
            }
        }
    }

    /// The text of the element just entered, up to its end; elements inside it are passed over.
    ///
    /// # Errors
    /// [`XmlError`] when the document breaks a rule or ends.
    pub fn text(&mut self) -> Result<&str, XmlError> {
        // Nearly every text is one piece, borrowed from the document; pieces around references are joined in a buffer.
        self.assembled.clear();
        let mut single: Option<&'a str> = None;
        loop {
            let event = self.event()?;
            let piece = match event {
                Event::Text(text) => text.into_inner(),
                Event::CData(text) => text.into_inner(),
                Event::GeneralRef(reference) => {
                    self.assembled.push_str(single.take().unwrap_or(""));
                    self.assembled.push(character(&reference)?);
                    continue;
                }
                Event::Start(start) => {
                    self.enter(start)?;
                    self.skip()?;
                    continue;
                }
                Event::Empty(start) => {
                    self.enter(start)?;
                    self.depth -= 1;
                    continue;
                }
                Event::End(_) => break,
                Event::Eof => return Err(XmlError::Truncated),
                _ => continue,
            };
            match piece {
                std::borrow::Cow::Borrowed(piece) if single.is_none() && self.assembled.is_empty() => {
                    single = Some(piece)
                }
                piece => {
                    self.assembled.push_str(single.take().unwrap_or(""));
                    self.assembled.push_str(&piece);
                }
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(match single {
            Some(text) => text,
            None => &self.assembled,
        })
    }

    /// Passes over the element just entered and all inside it.
    ///
    /// # Errors
    /// [`XmlError`] when the document breaks a rule or ends.
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            self.child()?;
        }
        Ok(())
    }

    /// The name and the text of the next element, if it has the plain form in which services write rows by the million:
    /// bare tags around text and references, nothing else. It is then consumed, at a fifth of the cost of [`Self::child`]
    /// and [`Self::text`]. `None` leaves everything to those two, which read any form and find what is wrong.
    ///
    /// Only between elements: after [`Self::child`] has entered one, or after the one before has been consumed.
    pub fn plain_leaf(&mut self) -> Option<(&str, &str)> {
        if self.empty || self.depth == 0 || self.depth == DEPTH_MAX {
            return None;
        }
        let read = self.text.len() - self.reader.get_ref().len();
        let leaf = Leaf::first_in(&self.text[read..])?;
        let mut text = leaf.text;
        if text.contains('&') {
            self.assembled.clear();
            push_resolved(&mut self.assembled, text)?;
            text = &self.assembled;
        }
        let rest = self.reader.get_mut();
        *rest = &rest[leaf.bytes..];
        Some((leaf.name, text))
    }

    fn enter(&mut self, start: BytesStart<'a>) -> Result<Element<'a>, XmlError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(XmlError::TooDeep);
        }
        // Counting the signs that every attribute needs is enough, and costs nothing on the usual bare element.
        if start.attributes_raw().bytes().filter(|&byte| byte == b'=').count() > ATTRIBUTES_MAX {
            return Err(XmlError::TooManyAttributes);
        }
        Ok(Element(start))
    }

    fn event(&mut self) -> Result<Event<'a>, XmlError> {
        if std::mem::take(&mut self.empty) {
            return Ok(Event::End(BytesEnd::new("")));
        }
        match self.reader.read_event() {
            Ok(Event::DocType(_)) => Err(XmlError::DocumentType),
            Ok(event) => Ok(event),
            // Both mean that the input stopped inside something, which is what a cut connection looks like.
            Err(quick_xml::Error::IllFormed(quick_xml::errors::IllFormedError::MissingEndTag(_))) => {
                Err(XmlError::Truncated)
            }
            Err(error) => Err(XmlError::Syntax { reason: crate::text::shown(&error.to_string()) }),
        }
    }
}

/// An element without attributes and with nothing but text in it, and how many bytes it takes with what precedes it.
struct Leaf<'a> {
    name: &'a str,
    text: &'a str,
    bytes: usize,
}

impl<'a> Leaf<'a> {
    /// The leaf with which `document` begins, blanks aside.
    fn first_in(document: &'a str) -> Option<Leaf<'a>> {
        let bytes = document.as_bytes();
        let find = |from: usize, wanted: fn(u8) -> bool| {
            bytes[from..].iter().position(|byte| wanted(*byte)).map(|offset| from + offset)
        };
        let open = find(0, |byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
        let name_end = find(open + 1, |byte| !byte.is_ascii_alphabetic()).filter(|end| *end > open + 1)?;
        if bytes[open] != b'<' || bytes[name_end] != b'>' {
            return None;
        }
        let text_end = find(name_end + 1, |byte| byte == b'<')?;
        let (name, text) = (&document[open + 1..name_end], &document[name_end + 1..text_end]);
        document[text_end..].strip_prefix("</")?.strip_prefix(name)?.strip_prefix('>')?;
        Some(Leaf { name, text, bytes: text_end + "</>".len() + name.len() })
    }
}

/// Appends text with its references resolved; `None` if one of them means nothing.
fn push_resolved(out: &mut String, text: &str) -> Option<()> {
    let mut pieces = text.split('&');
    out.push_str(pieces.next()?);
    for piece in pieces {
        let (reference, plain) = piece.split_once(';')?;
        out.push(character(reference).ok()?);
        out.push_str(plain);
    }
    Some(())
}

/// The character behind `&...;`: one of XML's five, or a number. Numbers of control characters pass, since S3 writes
/// them for keys that hold such characters.
fn character(name: &str) -> Result<char, XmlError> {
    let number = |text: &str, radix| u32::from_str_radix(text, radix).ok().and_then(char::from_u32);
    let found = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => match name.strip_prefix('#') {
            Some(digits) => match digits.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => number(hexadecimal, 16),
                None => number(digits, 10),
            },
            None => None,
        },
    };
    found.ok_or_else(|| XmlError::Reference { name: crate::text::shown(name) })
}

/// Appends text with whatever would be markup escaped. Line ends are written as references, because a reader may turn
/// bare ones into others. Control characters have no form in XML; [`is_writable`] tells beforehand.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            plain => out.push(plain),
        }
    }
}

/// Appends `<name>text</name>`.
pub(crate) fn push_element(out: &mut String, name: &str, text: &str) {
    for piece in ["<", name, ">"] {
        out.push_str(piece);
    }
    push_escaped(out, text);
    for piece in ["</", name, ">"] {
        out.push_str(piece);
    }
}

/// Whether XML 1.0 has a form for every character of the text.
pub(crate) fn is_writable(text: &str) -> bool {
    !text.chars().any(|character| {
        matches!(character, '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every leaf directly under the root, as name and text.
    fn leaves(document: &str) -> Result<Vec<(String, String)>, XmlError> {
        let mut document = Document::open(document.as_bytes())?;
        document.any_root()?;
        let mut out = Vec::new();
        while let Some(element) = document.child()? {
            out.push((element.name().to_owned(), document.text()?.to_owned()));
        }
        Ok(out)
    }

    /// The same, reading what is plain the short way.
    fn leaves_shortly(document: &str) -> Result<Vec<(String, String)>, XmlError> {
        let mut document = Document::open(document.as_bytes())?;
        document.any_root()?;
        let mut out = Vec::new();
        loop {
            while let Some((name, text)) = document.plain_leaf() {
                out.push((name.to_owned(), text.to_owned()));
            }
            let Some(element) = document.child()? else { return Ok(out) };
            out.push((element.name().to_owned(), document.text()?.to_owned()));
        }
    }

    fn leaf(text: &str) -> Result<String, XmlError> {
        Ok(leaves(&format!("<R><a>{text}</a></R>"))?.remove(0).1)
    }

    #[test]
    fn text_comes_as_it_is() {
        for (written, read) in [
            ("plain", "plain"),
            ("", ""),
            (" x ", " x "),
            ("a&amp;b&lt;&gt;&quot;&apos;", "a&b<>\"'"),
            ("&#x1;&#1;&#x41;&#10;", "\u{1}\u{1}A\n"),
            ("a\r\nb\rc\td", "a\r\nb\rc\td"),
            ("x<![CDATA[<&>]]>y", "x<&>y"),
            ("x<b>hidden</b>y", "xy"),
            ("x<!-- c -->y", "xy"),
        ] {
            assert_eq!(leaf(written).unwrap(), read, "{written}");
        }
    }

    #[test]
    fn structure() {
        let text = "\n  <?xml version=\"1.0\"?>\n<s3:R xmlns:s3=\"u\"> <a/> <s3:b>1</s3:b><c><d>2</d></c></s3:R>";
        let found = leaves(text).unwrap();
        let names: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(names, [("a", ""), ("b", "1"), ("c", "")]);
    }

    #[test]
    fn a_plain_leaf_is_read_shortly_and_nothing_else_is() {
        let document = "<R> <a>1 &amp; &#x41;</a>\n<b></b><c/><d x='1'>2</d><e>3<f/></e><s:g>4</s:g><h>&no;</h></R>";
        let mut document = Document::open(document.as_bytes()).unwrap();
        assert_eq!(document.plain_leaf(), None, "the root is entered, not read");
        document.any_root().unwrap();
        assert_eq!(document.plain_leaf(), Some(("a", "1 & A")));
        assert_eq!(document.plain_leaf(), Some(("b", "")));
        for (name, text) in [("c", ""), ("d", "2"), ("e", "3"), ("g", "4")] {
            assert_eq!(document.plain_leaf(), None, "{name}");
            assert_eq!(document.child().unwrap().unwrap().name(), name);
            assert_eq!(document.text().unwrap(), text);
        }
        assert_eq!(document.plain_leaf(), None);
        document.child().unwrap();
        assert!(matches!(document.text(), Err(XmlError::Reference { .. })));
    }

    #[test]
    fn an_empty_element_ends_before_the_leaf_behind_it() {
        let mut document = Document::open(b"<R><row/><a>1</a></R>").unwrap();
        document.any_root().unwrap();
        assert_eq!(document.child().unwrap().unwrap().name(), "row");
        assert_eq!(document.plain_leaf(), None);
        assert!(document.child().unwrap().is_none());
        assert_eq!(document.plain_leaf(), Some(("a", "1")));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = "<a>".repeat(1_000_000);
        assert_eq!(leaves(&deep), Err(XmlError::TooDeep));
        let attributes = format!("<a {}/>", (0..100).map(|n| format!("x{n}='1' ")).collect::<String>());
        assert_eq!(leaves(&attributes), Err(XmlError::TooManyAttributes));
        let bomb = "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>";
        assert_eq!(leaves(bomb), Err(XmlError::DocumentType));
        assert!(matches!(leaf("&x;"), Err(XmlError::Reference { .. })));
        assert!(matches!(leaf("&#xD800;"), Err(XmlError::Reference { .. })));
        assert!(matches!(Document::open(&vec![b' '; DOCUMENT_BYTES_MAX + 1]), Err(XmlError::TooLong { .. })));
        assert!(matches!(Document::open(b"\xff"), Err(XmlError::NotUtf8)));
    }

    #[test]
    fn a_document_cut_anywhere_is_an_error() {
        let whole = "<?xml version=\"1.0\"?><R><a>1</a><b>x&amp;y</b></R>";
        assert!(leaves(whole).is_ok());
        for cut in 0..whole.len() {
            assert!(leaves(&whole[..cut]).is_err(), "{}", &whole[..cut]);
        }
    }

    #[test]
    fn the_root_decides() {
        let mut document = Document::open(b"<Error><Code>SlowDown</Code></Error>").unwrap();
        let found = document.root("CopyObjectResult");
        assert!(matches!(found, Err(XmlError::Root { expected: "CopyObjectResult", .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(mut document) = Document::open(&bytes) {
                while let Ok(Some(_)) = document.child() {}
            }
        }

        #[test]
        fn arbitrary_markup_never_panics(pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "<a>", "</a>", "<b/>", "<c x='1'>", "&amp;", "&#x1;", "&", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>",
                "text", " ", "\r",
            ]),
            0..40,
        )) {
            let text: String = pieces.concat();
            let _ = leaves(&text);
        }

        #[test]
        fn the_short_way_finds_what_the_long_way_finds(pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "<a>", "</a>", "<a>1</a>", "<b>x&amp;y</b>", "<c>&quot;ü</c>", "<d/>", "<e f='1'>z</e>", "<a><b>2</b></a>",
                "<g>1<h>2</h>3</g>", "<s:i>4</s:i>", "<!-- c -->", "<j><![CDATA[k]]></j>", "&amp;", "&", " ", "\n", "t",
            ]),
            0..12,
        )) {
            let text = format!("<R>{}</R>", pieces.concat());
            prop_assert_eq!(leaves_shortly(&text), leaves(&text));
        }

        #[test]
        fn what_is_written_reads_back(text in "\\PC{0,40}[\r\n\t]{0,2}[<>&\"']{0,3}") {
            prop_assume!(is_writable(&text));
            let mut out = String::from("<R>");
            push_element(&mut out, "a", &text);
            out.push_str("</R>");
            prop_assert_eq!(&leaves(&out).unwrap()[0].1, &text);
        }
    }
}
