//! The two ways in which S3 writes a moment, read without allocation: a listing brings one per object.

use time::{Date, Month, OffsetDateTime};

/// Reads `2009-10-12T17:50:30.123Z`, with any number of fractional digits or none, as Unix nanoseconds. A moment that
/// 64 bits cannot hold becomes the nearest that they can, so that a clock far in the future still compares as later.
pub(crate) fn iso_to_unix_ns(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if bytes.len() < 20 || separators.iter().any(|&(at, byte)| bytes[at] != byte) || !matches!(bytes[10], b'T' | b' ') {
        return None;
    }
    let clock = (number(&bytes[11..13])?, number(&bytes[14..16])?, number(&bytes[17..19])?);
    let seconds = unix_seconds(number(&bytes[..4])?, number(&bytes[5..7])?, number(&bytes[8..10])?, clock)?;
    let (fraction, zone) = match bytes[19] {
        b'.' => {
            let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            (fraction_ns(&bytes[20..20 + digits])?, &bytes[20 + digits..])
        }
        _ => (0, &bytes[19..]),
    };
    let offset_seconds = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            let offset = i64::from(number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60);
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    Some((seconds - offset_seconds).saturating_mul(1_000_000_000).saturating_add(fraction))
}

/// Reads `Wed, 12 Oct 2009 17:50:00 GMT`, the form of `Date` and `Last-Modified`, as Unix seconds.
pub(crate) fn http_to_unix_seconds(text: &str) -> Option<i64> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let (_weekday, rest) = text.split_once(", ")?;
    let bytes: &[u8; 24] = rest.as_bytes().try_into().ok()?;
    if &bytes[20..] != b" GMT" || [bytes[2], bytes[6], bytes[11]] != *b"   " || [bytes[14], bytes[17]] != *b"::" {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == &bytes[3..6])? as u32 + 1;
    let clock = (number(&bytes[12..14])?, number(&bytes[15..17])?, number(&bytes[18..20])?);
    unix_seconds(number(&bytes[7..11])?, month, number(&bytes[..2])?, clock)
}

/// The moment that RFC 3339 writes as `2055-05-20T00:00:00+00:00`, as a header has it: `Thu, 20 May 2055 00:00:00 GMT`. None
/// if it is not written so, or no header can name its year.
#[must_use]
pub fn http_of_rfc3339(text: &str) -> Option<String> {
    // The last moment that nanoseconds can name stands for all later ones.
    let seconds = iso_to_unix_ns(text).filter(|ns| *ns < i64::MAX)?.div_euclid(1_000_000_000);
    let moment =
        OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|moment| (1..=9999).contains(&moment.year()))?;
    let (weekday, month) = (moment.weekday().to_string(), moment.month().to_string());
    let (hour, minute, second) = moment.to_hms();
    let (weekday, month, year, day) = (&weekday[..3], &month[..3], moment.year(), moment.day());
    Some(format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"))
}

/// A moment as RFC 3339 writes it, in whole seconds of UTC: `2009-10-12T17:50:30+00:00`. None outside the years that it can
/// name.
#[must_use]
pub fn rfc3339_of_unix_ns(ns: i64) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp(ns.div_euclid(1_000_000_000)).ok()?;
    let (year, month, day) = (moment.year(), u8::from(moment.month()), moment.day());
    let (hour, minute, second) = moment.to_hms();
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00"))
}

/// The day and the second that a signature names: `20130524` and `20130524T000000Z`. A moment outside the years 0 to
/// 9999 has no such name and is taken as the epoch; no clock that runs says so.
pub(crate) fn sigv4_stamp(unix_seconds: i64) -> ([u8; 8], [u8; 16]) {
    let moment = OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .filter(|moment| moment.year() >= 0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut stamp = *b"00000000T000000Z";
    write_number(&mut stamp[..4], moment.year().unsigned_abs());
    write_number(&mut stamp[4..6], u32::from(u8::from(moment.month())));
    write_number(&mut stamp[6..8], u32::from(moment.day()));
    write_number(&mut stamp[9..11], u32::from(moment.hour()));
    write_number(&mut stamp[11..13], u32::from(moment.minute()));
    write_number(&mut stamp[13..15], u32::from(moment.second()));
    let day = std::array::from_fn(|index| stamp[index]);
    (day, stamp)
}

fn unix_seconds(year: u32, month: u32, day: u32, (hour, minute, second): (u32, u32, u32)) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    // 60 is a leap second; Unix time has no name for it and the next second will do.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(date.midnight().assume_utc().unix_timestamp() + i64::from(hour * 3600 + minute * 60 + second))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
}

/// Digits after the point as nanoseconds; those beyond the ninth are below what we keep.
fn fraction_ns(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let kept = &digits[..digits.len().min(9)];
    let scale = 10_i64.pow(9 - kept.len() as u32);
    number(kept).map(|value| i64::from(value) * scale)
}

fn write_number(out: &mut [u8], mut value: u32) {
    for slot in out.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn listing_timestamps() {
        let second = 1_255_369_830_000_000_000;
        for (text, expected) in [
            ("2009-10-12T17:50:30Z", second),
            ("2009-10-12T17:50:30.5Z", second + 500_000_000),
            ("2009-10-12T17:50:30.000Z", second),
            ("2009-10-12T17:50:30.123456789123Z", second + 123_456_789),
            ("2009-10-12T19:50:30+02:00", second),
            ("2009-10-12T17:50:30.000+0000", second),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1_000_000_000),
            ("9999-12-31T23:59:59Z", i64::MAX),
            ("0000-01-01T00:00:00Z", i64::MIN),
        ] {
            assert_eq!(iso_to_unix_ns(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "2009-10-12",
            "2009-13-12T17:50:30Z",
            "2009-02-30T17:50:30Z",
            "99999-01-01T00:00:00Z",
            "2009-10-12T17:50:30",
            "2009-10-12T25:50:30Z",
            "2009-10-12T17:50:30.Z",
            "2009-10-12T17:50:30Zx",
        ] {
            assert_eq!(iso_to_unix_ns(bad), None, "{bad}");
        }
    }

    #[test]
    fn header_dates() {
        assert_eq!(http_to_unix_seconds("Mon, 12 Oct 2009 17:50:30 GMT"), Some(1_255_369_830));
        for bad in ["", "Mon, 12 Oct 2009", "Mon, 12 Foo 2009 17:50:30 GMT", "Mon, 1a Oct 2009 17:50:30 GMT"] {
            assert_eq!(http_to_unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_for_headers_and_metadata() {
        let header = http_of_rfc3339("2055-05-20T02:00:00.9+02:00").unwrap();
        assert_eq!(header, "Thu, 20 May 2055 00:00:00 GMT");
        assert_eq!(http_to_unix_seconds(&header), iso_to_unix_ns("2055-05-20T00:00:00Z").map(|ns| ns / 1_000_000_000));
        assert_eq!(http_of_rfc3339("2055-05-20"), None);
        assert_eq!(rfc3339_of_unix_ns(1_255_369_830_999_999_999).as_deref(), Some("2009-10-12T17:50:30+00:00"));
        assert_eq!(rfc3339_of_unix_ns(-1).as_deref(), Some("1969-12-31T23:59:59+00:00"));
    }

    #[test]
    fn stamps() {
        assert_eq!(sigv4_stamp(1_369_353_600), (*b"20130524", *b"20130524T000000Z"));
        assert_eq!(sigv4_stamp(i64::MAX).0, *b"19700101");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in any::<String>(), close in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.Z+-]{0,20}") {
            let _ = (iso_to_unix_ns(&text), http_to_unix_seconds(&text), iso_to_unix_ns(&close));
        }

        #[test]
        fn a_stamp_reads_back(seconds in 0_i64..253_402_300_799) {
            let (_, stamp) = sigv4_stamp(seconds);
            let digits = std::str::from_utf8(&stamp).unwrap();
            let iso = format!("{}-{}-{}T{}:{}:{}Z", &digits[..4], &digits[4..6], &digits[6..8], &digits[9..11],
                &digits[11..13], &digits[13..15]);
            prop_assert_eq!(iso_to_unix_ns(&iso), Some(seconds.saturating_mul(1_000_000_000)));
        }
    }
}
