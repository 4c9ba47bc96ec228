//! Sizes and durations as people write them. Sizes are plain bytes, or KB/KiB/MB/MiB/GB/GiB/TB/TiB, decimal and binary told
//! apart as s3sync does. Durations are a whole number and its unit: 20ms, 45s, 30m, 12h or 7d.

use std::time::Duration;

/// Parses a size in bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        _ => return Err(format!("`{unit}` is not a unit; write B, KB, KiB, MB, MiB, GB, GiB, TB or TiB")),
    };
    let number: u64 = number.parse().map_err(|_| "a size begins with a whole number, as in 8MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "more bytes than any disk has".to_owned())
}

/// Parses a duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| "a duration begins with a whole number, as in 20ms or 7d".to_owned())?;
    let factor_s = match unit.trim_start() {
        "ms" => return Ok(Duration::from_millis(number)),
        "" if number == 0 => 1,
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "" => return Err("a duration needs its unit: ms, s, m, h or d".to_owned()),
        _ => return Err(format!("`{unit}` is not a unit of time; write ms, s, m, h or d")),
    };
    number.checked_mul(factor_s).map(Duration::from_secs).ok_or_else(|| "longer than the world is old".to_owned())
}

/// Bytes for people, in binary units.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        let table = [
            ("0", Ok(0)),
            ("8388608", Ok(8 << 20)),
            ("8MiB", Ok(8 << 20)),
            ("8 MiB", Ok(8 << 20)),
            ("5MB", Ok(5_000_000)),
            ("2GiB", Ok(2 << 30)),
            ("1TB", Ok(1_000_000_000_000)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text), expected, "{text}");
        }
        for bad in ["", "MiB", "8M", "8mib", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        for (text, seconds) in [("0", 0), ("1s", 1), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("1 d", 86_400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "20", "ms", "d", "7w", "-1d", "1.5h", "99999999999999999999d", "999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1 << 20), "1.0 MiB");
        assert_eq!(show_size((1 << 30) - 1), "1.0 GiB");
        assert_eq!(show_size(3 << 30), "3.0 GiB");
    }
}
