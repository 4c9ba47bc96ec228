//! How S3 writes names and tags in headers, queries and XML, and how they are read back. Pure.

use super::checksums::encode_hex;
use s3s::dto::EncodingType;
use s3s::{S3Result, s3_error};

/// A key as the listing spells it: percent-encoded if the client asked for it, which it must for characters that XML
/// cannot carry.
pub(super) fn spell(text: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_none() {
        return text.to_owned();
    }
    let mut spelt = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/*".contains(&byte) {
            spelt.push(char::from(byte));
        } else {
            spelt.push('%');
            spelt.push_str(&encode_hex(&[byte]).to_ascii_uppercase());
        }
    }
    spelt
}

/// Whether XML 1.0 has a way to write this text at all; most control characters have none.
pub(super) fn fits_xml(text: &str) -> bool {
    text.chars().all(
        |character| !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}'),
    )
}

/// A continuation token is the last name shown, in base64 because clients must not make sense of it.
pub(super) fn decode_token(token: &str) -> S3Result<String> {
    let bytes = base64_simd::STANDARD.decode_to_vec(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

pub(super) fn parse_tagging(header: Option<&str>) -> S3Result<Vec<(String, String)>> {
    let Some(header) = header else { return Ok(Vec::new()) };
    let invalid =
        || s3_error!(InvalidArgument, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded.");
    let word = |text: &str| percent_decode(text).ok_or_else(invalid);
    let pairs = header.split('&').filter(|pair| !pair.is_empty());
    let tags = pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((word(key)?, word(value)?))
        })
        .collect::<S3Result<Vec<_>>>()?;
    check_tags(tags)
}

/// S3's own limits: ten tags, distinct names.
pub(super) fn check_tags(tags: Vec<(String, String)>) -> S3Result<Vec<(String, String)>> {
    const TAGS_MAX: usize = 10;
    if tags.len() > TAGS_MAX {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than 10"));
    }
    let repeated = |(at, (key, _)): (usize, &(String, String))| tags[..at].iter().any(|(other, _)| other == key);
    if tags.iter().any(|(key, _)| key.is_empty()) || tags.iter().enumerate().any(repeated) {
        return Err(s3_error!(InvalidTag));
    }
    Ok(tags)
}

pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `aws-chunked` says how the body travelled, not what it is.
pub(super) fn without_transfer_coding(encoding: String) -> Option<String> {
    let kept: Vec<_> = encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_follow_the_table() {
        type Tags = &'static [(&'static str, &'static str)];
        let cases: [(&str, Option<Tags>); 7] = [
            ("", Some(&[])),
            ("a=1&b=x%20y+z", Some(&[("a", "1"), ("b", "x y z")])),
            ("a", Some(&[("a", "")])),
            ("a=1&a=2", None),
            ("=1", None),
            ("a=%zz", None),
            ("a=%FF", None),
        ];
        for (header, expected) in cases {
            let owned = |tags: Tags| tags.iter().map(|&(key, value)| (key.into(), value.into())).collect();
            assert_eq!(parse_tagging(Some(header)).ok(), expected.map(owned), "{header}");
        }
        let eleven: Vec<_> = (0..11).map(|number| format!("k{number}=")).collect();
        assert!(parse_tagging(Some(&eleven.join("&"))).is_err());
    }

    #[test]
    fn only_the_transfer_coding_is_dropped() {
        let cases =
            [("aws-chunked", None), ("gzip,aws-chunked", Some("gzip")), ("br, gzip", Some("br,gzip")), ("", None)];
        for (header, expected) in cases {
            assert_eq!(without_transfer_coding(header.into()).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn xml_has_no_place_for_control_characters() {
        for (text, fits) in
            [("a\tb\nc\rd", true), ("\u{1}", false), ("\u{b}", false), ("\u{ffff}", false), ("😀", true)]
        {
            assert_eq!(fits_xml(text), fits, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_percent_encoded_is_read_back(text in any::<String>()) {
            let spelt = spell(&text, Some(&EncodingType::from_static(EncodingType::URL)));
            prop_assert!(spelt.is_ascii());
            prop_assert_eq!(percent_decode(&spelt), Some(text));
        }
    }
}
