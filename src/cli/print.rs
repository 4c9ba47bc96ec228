//! The one printer. Results go to stdout, everything else to stderr. A pipe that was closed is not an error; a disk that is
//! full is, and is remembered.

use std::io::{self, Write};
use std::sync::OnceLock;

/// One line on stdout.
pub(super) fn out(line: &str) {
    if let Err(error) = writeln!(io::stdout().lock(), "{line}")
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error.to_string());
    }
}

/// Why a result did not reach stdout, if one did not.
pub(super) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

static LOST: OnceLock<String> = OnceLock::new();

/// One line on stderr.
pub(super) fn err(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Text that came from elsewhere, with control characters escaped, so that no key can steer a terminal
/// (reliability.md S16).
pub(super) fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(|c| c.is_control() && c != '\n') {
        let escape = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
        return text.chars().map(escape).collect::<String>().into();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_steers_the_terminal() {
        assert_eq!(clean("plain ü"), "plain ü");
        assert_eq!(clean("a\x1b[31mb\r"), "a\\u{1b}[31mb\\r");
    }
}
