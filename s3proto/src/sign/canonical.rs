//! The canonical request: the text, the same at both ends, over which a signature is made.

use crate::head::HeadText;

/// Headers that something between us and the service may add, drop or rewrite: those of one hop, those that HTTP
/// libraries fill in, and `accept-encoding`, which Google's front end rewrites.
const UNTOUCHED: [&str; 15] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-amzn-trace-id",
];

/// How many headers or query pairs are sorted without touching the heap; objects with more metadata exist and are rare.
const INLINE: usize = 32;

/// Nearly every name that is signed can be told by how it begins.
fn is_signed(name: &str) -> bool {
    name.starts_with("x-amz-") || !UNTOUCHED.contains(&name)
}

/// Writes the canonical request to `out`, and the names of the signed headers, joined by `;`, to `signed_names` too.
pub(super) fn write(out: &mut String, signed_names: &mut String, head: &HeadText, payload: &str) {
    let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
    out.push_str(head.method());
    out.push('\n');
    out.push_str(path);
    out.push('\n');
    write_query(out, query);
    out.push('\n');
    let names_start = signed_names.len();
    write_headers(out, signed_names, head);
    out.push('\n');
    out.push_str(&signed_names[names_start..]);
    out.push('\n');
    out.push_str(payload);
}

/// The pairs in the order of their names, then of their values; a name alone gets its `=`.
fn write_query(out: &mut String, query: &str) {
    if query.is_empty() {
        return;
    }
    let pieces = query.split('&');
    let pairs = pieces.clone().filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    with_sorted(pieces.count(), pairs, ("", ""), |sorted| {
        for (index, (name, value)) in sorted.iter().enumerate() {
            if index > 0 {
                out.push('&');
            }
            out.push_str(name);
            out.push('=');
            out.push_str(value);
        }
    });
}

/// The headers in the order of their names; several values of one name keep their own order and share a line.
fn write_headers(out: &mut String, signed_names: &mut String, head: &HeadText) {
    let signed = head.lines().filter(|(name, _)| is_signed(name));
    let entries = signed.enumerate().map(|(index, (name, value))| (name, index, value));
    with_sorted(head.lines().count(), entries, ("", 0, ""), |sorted| {
        let mut previous = "";
        for &(name, _, value) in sorted {
            if name == previous {
                // The line is still open but for its end.
                out.pop();
                out.push(',');
            } else {
                if !previous.is_empty() {
                    signed_names.push(';');
                }
                signed_names.push_str(name);
                out.push_str(name);
                out.push(':');
            }
            write_value(out, value);
            out.push('\n');
            previous = name;
        }
    });
}

/// A value without the blanks around it, and with runs of blanks inside as one.
fn write_value(out: &mut String, value: &str) {
    // Nearly every value is in this form already.
    if !value.starts_with(' ') && !value.ends_with(' ') && !value.as_bytes().windows(2).any(|pair| pair == b"  ") {
        return out.push_str(value);
    }
    for (index, word) in value.split(' ').filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// Hands the items, of which there are at most `count_max`, to `then` in ascending order; usual counts stay on the stack.
fn with_sorted<T: Ord + Copy>(count_max: usize, items: impl Iterator<Item = T>, blank: T, then: impl FnOnce(&[T])) {
    let mut inline = [blank; INLINE];
    let mut spilled = Vec::new();
    let room = if count_max <= INLINE {
        &mut inline[..]
    } else {
        spilled.resize(count_max, blank);
        &mut spilled[..]
    };
    let mut count = 0;
    for (slot, item) in room.iter_mut().zip(items) {
        *slot = item;
        count += 1;
    }
    let room = &mut room[..count];
    // The operations write their queries in order, so there is often nothing to do.
    if !room.is_sorted() {
        room.sort_unstable();
    }
    then(room);
}
