//! Who may depend on whom: each row may use only rows above it, and only those that it lists. Development
//! dependencies count as well: a test that reaches around a layer is how the layer is lost.

use crate::tree::Tree;

/// What decoders are tested with knows nothing of this workspace, so everything may use it.
const FUZZ: &str = "ringlog-fuzz";

/// Folder of the crate, its package, and the packages of this workspace that it may use.
const LAYERS: &[(&str, &str, &[&str])] = &[
    ("fuzz", FUZZ, &[]),
    ("reactor", "ringlog-reactor", &[]),
    ("protocol", "ringlog-protocol", &[]),
    ("replication", "ringlog-replication", &["ringlog-protocol"]),
    ("storage", "ringlog-storage", &["ringlog-reactor", "ringlog-protocol"]),
    ("client", "ringlog-client", &["ringlog-reactor", "ringlog-protocol"]),
    (
        "broker",
        "ringlog",
        &["ringlog-reactor", "ringlog-protocol", "ringlog-replication", "ringlog-storage", "ringlog-client"],
    ),
    (
        "sim",
        "ringlog-sim",
        &["ringlog-reactor", "ringlog-protocol", "ringlog-storage", "ringlog-client", "ringlog"],
    ),
    ("loadgen", "ringlog-loadgen", &["ringlog-reactor", "ringlog-protocol", "ringlog-client"]),
    (
        "perf",
        "ringlog-perf",
        &[
            "ringlog-reactor",
            "ringlog-protocol",
            "ringlog-replication",
            "ringlog-storage",
            "ringlog-client",
            "ringlog",
            "ringlog-loadgen",
        ],
    ),
    ("scripts/tidy", "ringlog-tidy", &[]),
];

/// Findings about the manifests.
pub fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("/Cargo.toml") {
        let folder = path.trim_end_matches("/Cargo.toml");
        let Some((_, package, allowed)) = LAYERS.iter().find(|(known, _, _)| *known == folder) else {
            findings
                .push(format!("{path}: a crate without a row in the table of scripts/tidy/src/layers.rs"));
            continue;
        };
        for dependency in workspace_dependencies(text) {
            if !allowed.contains(&dependency) && dependency != FUZZ {
                findings.push(format!("{path}: {package} must not use {dependency}"));
            }
        }
    }
    findings
}

/// The packages of this workspace that a manifest names in any of its dependency tables.
fn workspace_dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let mut parts = section.rsplit('.');
            let last = parts.next().unwrap_or_default();
            inside = last.ends_with("dependencies");
            // `[dependencies.ringlog-client]` names its package in the heading.
            if parts.next().is_some_and(|part| part.ends_with("dependencies")) && is_ours(last) {
                found.push(last);
            }
        } else if inside {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if is_ours(name) {
                found.push(name);
            }
        }
    }
    found
}

fn is_ours(name: &str) -> bool {
    LAYERS.iter().any(|(_, package, _)| *package == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_may_use_the_rows_it_lists() {
        let manifest =
            "[package]\nname = \"ringlog-storage\"\n[dependencies]\nringlog-reactor.workspace = true\n";
        assert!(check(&Tree::of(&[("storage/Cargo.toml", manifest)])).is_empty());
    }

    #[test]
    fn a_layer_that_reaches_up_is_found() {
        let manifest = "[dependencies]\nringlog-client.workspace = true\n";
        let findings = check(&Tree::of(&[("storage/Cargo.toml", manifest)]));
        assert_eq!(findings, ["storage/Cargo.toml: ringlog-storage must not use ringlog-client"]);
    }

    #[test]
    fn a_development_dependency_counts() {
        let manifest = "[dev-dependencies]\nringlog = { path = \"../broker\" }\n";
        assert_eq!(check(&Tree::of(&[("client/Cargo.toml", manifest)])).len(), 1);
    }

    #[test]
    fn a_dependency_with_its_own_heading_counts() {
        let manifest = "[dependencies.ringlog]\npath = \"../broker\"\n";
        assert_eq!(check(&Tree::of(&[("reactor/Cargo.toml", manifest)])).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(check(&Tree::of(&[("extra/Cargo.toml", "[package]\n")])).len(), 1);
    }
}
