//! What a person who waits sees.

use std::io::{IsTerminal, Write};

/// One line on a terminal, written over again and again, and empty at the end; nothing where nobody looks.
pub fn progress(line: &str) {
    let mut to = std::io::stderr();
    if to.is_terminal() {
        let _ = write!(to, "\r\x1b[K{line}");
        let _ = to.flush();
    }
}
