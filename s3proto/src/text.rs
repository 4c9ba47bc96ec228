//! Text as the protocol writes it: hexadecimal digests, percent-encoding, and words that are safe to show to a person.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Everything but RFC 3986's unreserved characters: what SigV4 encodes in a query's names and values.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, but `/` separates the segments of a path and stays.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The longest piece of a service's own words that we repeat, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// Appends a path whose every byte but the unreserved and `/` is percent-encoded; nothing is normalised.
pub(crate) fn push_path(out: &mut String, bytes: &[u8]) {
    out.extend(percent_encode(bytes, PATH));
}

/// Appends one name or value of a query.
pub(crate) fn push_query(out: &mut String, bytes: &[u8]) {
    out.extend(percent_encode(bytes, QUERY));
}

/// A name or value of a query, and of whatever else is written like one.
#[must_use]
pub fn encoded(text: &str) -> std::borrow::Cow<'_, str> {
    percent_encode(text.as_bytes(), QUERY).into()
}

/// Appends bytes as lower-case hexadecimal digits.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push(HEX_DIGITS[usize::from(byte >> 4)] as char);
        out.push(HEX_DIGITS[usize::from(byte & 15)] as char);
    }
}

/// Writes bytes as lower-case hexadecimal digits into room for exactly those.
pub(crate) fn hex<'a>(bytes: &[u8], out: &'a mut [u8]) -> &'a str {
    assert_eq!(out.len(), 2 * bytes.len());
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
        pair[1] = HEX_DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(out).expect("hexadecimal digits are ASCII")
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Reads 16 bytes from exactly 32 lower-case hexadecimal digits.
pub(crate) fn lower_hex_16(text: &str) -> Option<[u8; 16]> {
    let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = lower_hex_digit(pair[0])? << 4 | lower_hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn lower_hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Undoes form encoding in place: `bytes[from..to]` is decoded to `bytes[at..]`, and the end of what was written is
/// returned. Decoding never lengthens, so `at <= from` is all it takes. A `%` without two digits stays as it is.
pub(crate) fn decode_form_in_place(bytes: &mut [u8], from: usize, to: usize, at: usize) -> usize {
    let (mut read, mut write) = (from, at);
    while read < to {
        let escaped = match bytes[read] {
            b'%' if read + 2 < to => {
                let digit = |byte: u8| (byte as char).to_digit(16);
                digit(bytes[read + 1]).zip(digit(bytes[read + 2])).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        bytes[write] = match (escaped, bytes[read]) {
            (Some(byte), _) => byte,
            (None, b'+') => b' ',
            (None, byte) => byte,
        };
        read += if escaped.is_some() { 3 } else { 1 };
        write += 1;
    }
    write
}

/// Undoes form encoding of a whole name.
pub(crate) fn decode_form(bytes: &mut Vec<u8>) {
    let to = bytes.len();
    let end = decode_form_in_place(bytes, 0, to, 0);
    bytes.truncate(end);
}

/// Somebody else's words, fit for a terminal or a log: one line, no control character, at most 200 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (chars, character) in text.trim().chars().enumerate() {
        if chars >= SHOWN_CHARS_MAX - 1 {
            out.push('\u{2026}');
            break;
        }
        match character {
            '\t' | '\r' | '\n' => out.push(' '),
            unseen if is_unseen(unseen) => out.push('\u{FFFD}'),
            plain => out.push(plain),
        }
    }
    out
}

/// Control characters, and those without width or that turn the direction of writing, with which a terminal can be
/// made to show another text.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        decode_form(&mut bytes);
        bytes
    }

    #[test]
    fn form_decoding() {
        assert_eq!(decoded("a+b%20c%2Bd%2f"), b"a b c+d/");
        assert_eq!(decoded("%zz%4%"), b"%zz%4%");
        assert_eq!(decoded("%ff%00"), b"\xff\x00");
    }

    #[test]
    fn shown_text_is_one_short_line() {
        assert_eq!(shown(" a\nb\x1b[31m "), "a b\u{FFFD}[31m");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), 200);
    }

    proptest! {
        #[test]
        fn query_encoding_is_undone_by_form_decoding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = String::new();
            push_query(&mut out, &bytes);
            prop_assert_eq!(decoded(&out), bytes);
        }

        #[test]
        fn hexadecimal_round_trips(bytes in any::<[u8; 16]>()) {
            let mut out = String::new();
            push_hex(&mut out, &bytes);
            prop_assert_eq!(lower_hex_16(&out), Some(bytes));
        }

        #[test]
        fn shown_never_panics(text in any::<String>()) {
            prop_assert!(shown(&text).chars().count() <= SHOWN_CHARS_MAX);
        }
    }
}
