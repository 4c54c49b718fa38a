//! The repository's own checks, those that no compiler makes: who may depend on whom, which files
//! import each other, where `unsafe` may stand, how long a file may be, and that the pages name only files which exist.
//!
//! Run from the workspace root (`cargo run -p ringlog-tidy`). Prints `tidy: ok`, or every finding, and then
//! exits with 1.
#![forbid(unsafe_code)]

mod circles;
mod docs;
mod imports;
mod layers;
mod rooms;
mod source;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let tree = match tree::Tree::read(&root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy: cannot read {}: {error}", root.display());
            return ExitCode::FAILURE;
        }
    };
    let mut findings = layers::check(&tree);
    findings.extend(circles::check(&tree));
    findings.extend(rooms::check(&tree));
    findings.extend(source::check(&tree));
    findings.extend(docs::check(&tree));
    if findings.is_empty() {
        println!("tidy: ok");
        return ExitCode::SUCCESS;
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    ExitCode::FAILURE
}
