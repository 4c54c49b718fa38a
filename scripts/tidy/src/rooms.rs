//! The folders of `broker/src`, in their order: a file may use those of its own folder and of the ones above it in this table.

use crate::imports;
use crate::tree::Tree;

const ROOT: &str = "broker/src/lib.rs";
/// Lowest first. A file that stands in no folder has its own name here.
const ROOMS: &[&str] = &[
    "limits", "config", "metadata", "net", "peers", "control", "shard", "ops", "native", "node", "check",
    "doctor", "offline",
];
/// Findings about imports that go up.
pub fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, targets) in imports::of(tree, ROOT) {
        for (to, item) in targets {
            let (Some(own), Some(other)) = (rank(&from), rank(&to)) else {
                findings.push(format!("{from}, {to}: a folder without a row in scripts/tidy/src/rooms.rs"));
                continue;
            };
            if other > own {
                findings.push(format!(
                    "{from}: takes {item} from {to}, which is above it: see scripts/tidy/src/rooms.rs"
                ));
            }
        }
    }
    findings
}

fn rank(file: &str) -> Option<usize> {
    let room = file.strip_prefix("broker/src/")?.split(['/', '.']).next()?;
    ROOMS.iter().position(|known| *known == room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_may_use_those_below_it_and_none_above() {
        let of = |net: &'static str, native: &'static str| {
            check(&Tree::of(&[
                (ROOT, "mod net;\nmod native;\n"),
                ("broker/src/net/mod.rs", "pub mod outbox;\n"),
                ("broker/src/net/outbox.rs", net),
                ("broker/src/native/mod.rs", "pub mod session;\n"),
                ("broker/src/native/session.rs", native),
            ]))
        };
        assert!(of("pub struct Outbox;\n", "use crate::net::outbox::Outbox;\n").is_empty());
        assert_eq!(of("use crate::native::session::Session;\n", "pub struct Session;\n").len(), 1);
    }

    #[test]
    fn a_folder_that_is_not_in_the_table_is_found() {
        let files = [
            (ROOT, "mod attic;\nmod config;\n"),
            ("broker/src/attic.rs", "use crate::config::C;\n"),
            ("broker/src/config.rs", ""),
        ];
        assert_eq!(check(&Tree::of(&files)).len(), 1);
    }
}
