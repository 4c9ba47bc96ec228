//! Sizes and durations as people write them. Sizes are plain bytes, or KB/KiB/MB/MiB/GB/GiB/TB/TiB, decimal and binary told
//! apart as s3sync does.

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

/// Parses a duration of whole milliseconds or seconds, as in `20ms` or `1s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a duration begins with a whole number, as in 20ms".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(format!("`{unit}` is not a unit of time; write ms or s, as in 20ms")),
    }
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
    fn durations_have_their_unit() {
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("1s"), Ok(Duration::from_secs(1)));
        for bad in ["", "20", "ms", "-1s", "1h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

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
    fn sizes_for_people() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1 << 20), "1.0 MiB");
        assert_eq!(show_size((1 << 30) - 1), "1.0 GiB");
        assert_eq!(show_size(3 << 30), "3.0 GiB");
    }
}
