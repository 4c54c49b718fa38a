//! Rust sources: `unsafe` only in the reactor, every other crate forbids it, no file over the limit.

use crate::tree::Tree;

/// A file longer than this has two ideas in it.
const MAX_LINES: usize = 1_000;
/// The one crate that may hold `unsafe`.
const UNSAFE_CRATE: &str = "reactor/";
const FORBID: &str = "#![forbid(unsafe_code)]";

/// Findings about the `.rs` files.
pub fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{path}: {lines} lines, the limit is {MAX_LINES}"));
        }
        if path.starts_with(UNSAFE_CRATE) {
            continue;
        }
        for line in lines_with_unsafe(text) {
            findings.push(format!("{path}:{line}: `unsafe` outside {UNSAFE_CRATE}"));
        }
        if is_crate_root(path) && !text.contains(FORBID) {
            findings.push(format!("{path}: a crate root without {FORBID}"));
        }
    }
    findings
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("/src/bin/")
}

/// Numbers of the lines on which `unsafe` stands as a word of the language: not in a comment, not in a
/// string, not as a part of a longer name.
fn lines_with_unsafe(text: &str) -> Vec<usize> {
    let code = blank_comments_and_strings(text);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let holds = |line: &str| {
        line.match_indices("unsafe").any(|(at, word)| {
            let bytes = line.as_bytes();
            let before = at.checked_sub(1).is_some_and(|before| is_word(bytes[before]));
            let after = bytes.get(at + word.len()).is_some_and(|byte| is_word(*byte));
            !before && !after
        })
    };
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(index, _)| index + 1).collect()
}

/// The same text with comments and the insides of literals made blank, so that line numbers stay.
pub fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = skipped_length(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        if length == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            let end = (at + length).min(bytes.len());
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How many bytes from here are a comment or a literal; 0 when none begins here.
fn skipped_length(rest: &[u8], before: Option<u8>) -> usize {
    match rest {
        [b'/', b'/', ..] => position(rest, b"\n").unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => 1 + quoted(&rest[1..], b'"'),
        [b'r', b'"' | b'#', ..]
            if !before.is_some_and(|byte| byte.is_ascii_alphanumeric() && byte != b'b') =>
        {
            raw_string(rest)
        }
        // A character, not a lifetime: a quote closes it after one (possibly escaped) character.
        [b'\'', b'\\', ..] => 3 + quoted(&rest[3.min(rest.len())..], b'\''),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length up to and with the closing quote, minding escapes.
fn quoted(rest: &[u8], close: u8) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == close => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let open = 2 + hashes;
    position(&rest[open..], &close).map_or(rest.len(), |at| open + at + close.len())
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_outside_the_reactor_is_found_with_its_line() {
        let text = "#![forbid(unsafe_code)]\nfn f() {\n    unsafe { g() }\n}\n";
        let findings = check(&Tree::of(&[("client/src/lib.rs", text)]));
        assert_eq!(findings, ["client/src/lib.rs:3: `unsafe` outside reactor/"]);
    }

    #[test]
    fn the_reactor_may_hold_unsafe() {
        assert!(check(&Tree::of(&[("reactor/src/lib.rs", "unsafe fn f() {}\n")])).is_empty());
    }

    #[test]
    fn a_comment_a_string_and_a_longer_name_are_not_unsafe() {
        let text = "// unsafe\n/* unsafe /* nested */ unsafe */ fn f<'a>() { g(\"\\\" unsafe\", r#\"unsafe\"#, '\"', unsafe_code) }\n";
        assert!(lines_with_unsafe(text).is_empty());
    }

    #[test]
    fn code_after_a_literal_is_still_seen() {
        assert_eq!(lines_with_unsafe("let a = '\\''; let b = \"x\"; unsafe {}\n"), [1]);
        assert_eq!(lines_with_unsafe("let a = r##\"x\"##;\n\nunsafe {}\n"), [3]);
    }

    #[test]
    fn a_crate_root_must_forbid_unsafe() {
        assert_eq!(check(&Tree::of(&[("perf/src/main.rs", "fn main() {}\n")])).len(), 1);
        assert!(check(&Tree::of(&[("perf/src/other.rs", "fn f() {}\n")])).is_empty());
    }

    #[test]
    fn a_file_over_the_limit_is_found() {
        let text = "\n".repeat(MAX_LINES + 1);
        assert_eq!(check(&Tree::of(&[("client/src/long.rs", &text)])).len(), 1);
    }
}
