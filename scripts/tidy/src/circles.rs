//! Files of a crate that import each other in a circle: none can be read, or changed, without the others.

use crate::imports::{self, Edges};
use crate::tree::Tree;

/// Circles that are accepted. A row may lose files, and go; none may come, and none may grow. In the reactor each world knows the
/// other: one API over two, chosen at run time.
const ACCEPTED: &[&[&str]] = &[&[
    "reactor/src/clock.rs",
    "reactor/src/core.rs",
    "reactor/src/descriptor.rs",
    "reactor/src/driver/mod.rs",
    "reactor/src/driver/scratch.rs",
    "reactor/src/driver/uring.rs",
    "reactor/src/executor.rs",
    "reactor/src/fs/file.rs",
    "reactor/src/fs/folder.rs",
    "reactor/src/fs/lock.rs",
    "reactor/src/net.rs",
    "reactor/src/op.rs",
    "reactor/src/runtime.rs",
    "reactor/src/shared.rs",
    "reactor/src/sim/describe.rs",
    "reactor/src/sim/disk/content.rs",
    "reactor/src/sim/disk/faults.rs",
    "reactor/src/sim/disk/mod.rs",
    "reactor/src/sim/disk/tree.rs",
    "reactor/src/sim/driver.rs",
    "reactor/src/sim/files.rs",
    "reactor/src/sim/host.rs",
    "reactor/src/sim/machine.rs",
    "reactor/src/sim/marks.rs",
    "reactor/src/sim/net/links.rs",
    "reactor/src/sim/net/mod.rs",
    "reactor/src/sim/net/stream.rs",
    "reactor/src/sim/process.rs",
    "reactor/src/sim/world.rs",
    "reactor/src/sys.rs",
    "reactor/src/timer.rs",
]];

/// Findings about the imports between files.
pub fn check(tree: &Tree) -> Vec<String> {
    check_but_for(ACCEPTED, tree)
}

fn check_but_for(accepted: &[&[&str]], tree: &Tree) -> Vec<String> {
    let roots =
        tree.texts(".rs").filter(|(path, _)| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"));
    let all: Vec<Edges> = roots.map(|(path, _)| imports::of(tree, path)).collect();
    let circles: Vec<(&Edges, Vec<&str>)> = all
        .iter()
        .flat_map(|edges| imports::circles(edges).into_iter().map(move |circle| (edges, circle)))
        .collect();
    let mut findings = Vec::new();
    for (edges, circle) in &circles {
        if !accepted.iter().any(|row| circle.iter().all(|file| row.contains(file))) {
            findings.push(format!("files import each other in a circle:{}", described(edges, circle)));
        }
    }
    for row in accepted {
        if !circles.iter().any(|(_, circle)| circle == row) {
            findings.push(format!(
                "the circle of {} and {} more is smaller than scripts/tidy/src/circles.rs accepts; write down what is left of it",
                row[0],
                row.len() - 1
            ));
        }
    }
    findings
}

/// A line for each import within the circle.
fn described(edges: &Edges, circle: &[&str]) -> String {
    let mut lines = String::new();
    for from in circle {
        for (to, item) in
            edges.get(*from).into_iter().flatten().filter(|(to, _)| circle.contains(&to.as_str()))
        {
            lines.push_str(&format!("\n  {from} takes {item} from {to}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(accepted: &[&[&str]], files: &[(&str, &str)]) -> Vec<String> {
        check_but_for(accepted, &Tree::of(files))
    }

    const TWO: &[(&str, &str)] = &[
        ("a/src/lib.rs", "mod one;\nmod two;\n"),
        ("a/src/one.rs", "use crate::two::Two;\n"),
        ("a/src/two.rs", "fn f() { super::one::g() }\n"),
    ];

    #[test]
    fn a_circle_is_found_with_what_closes_it() {
        let found = findings(&[], TWO);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("a/src/one.rs takes Two from a/src/two.rs"), "{found:?}");
        assert!(found[0].contains("a/src/two.rs takes g from a/src/one.rs"), "{found:?}");
    }

    #[test]
    fn an_accepted_circle_is_not_found_and_one_that_has_become_smaller_is() {
        assert!(findings(&[&["a/src/one.rs", "a/src/two.rs"]], TWO).is_empty());
        assert_eq!(findings(&[&["a/src/one.rs", "a/src/three.rs", "a/src/two.rs"]], TWO).len(), 1);
    }

    #[test]
    fn an_item_comes_from_the_file_that_defines_it() {
        let files = &[
            ("a/src/lib.rs", "mod parent;\npub use parent::Child;\n"),
            ("a/src/parent/mod.rs", "mod child;\nmod user;\npub use child::Child;\n"),
            ("a/src/parent/child.rs", "pub struct Child;\n"),
            ("a/src/parent/user.rs", "use crate::Child;\nuse super::Child as Other;\n"),
        ];
        assert!(findings(&[], files).is_empty());
    }

    #[test]
    fn a_parent_that_calls_its_child_and_defines_what_that_needs_is_found() {
        let files = &[
            ("a/src/lib.rs", "mod child;\npub struct Shared;\nfn f() { child::run() }\n"),
            ("a/src/child.rs", "use crate::Shared;\npub fn run() {}\n"),
        ];
        assert_eq!(findings(&[], files).len(), 1);
    }

    #[test]
    fn tests_and_comments_do_not_count() {
        let files = &[
            ("a/src/lib.rs", "mod one;\nmod two;\n"),
            ("a/src/one.rs", "use crate::two::Two;\n// crate::one::X\n"),
            (
                "a/src/two.rs",
                "#[cfg(test)]\nmod tests { use crate::one::One; }\n#[cfg(test)]\nuse crate::one::X;\n",
            ),
        ];
        assert!(findings(&[], files).is_empty());
    }
}
