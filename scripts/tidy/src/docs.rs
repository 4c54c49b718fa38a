//! The pages: a path of this repository that a page names, in backticks or as a link, must exist.

use crate::tree::Tree;

/// Findings about the `.md` files.
pub fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (page, text) in tree.texts(".md") {
        for (index, line) in lines_outside_code_blocks(text) {
            let named = backticked(line).filter(|name| names_a_path(tree, name));
            for name in named.chain(links(line)) {
                if !exists(tree, page, name) {
                    findings.push(format!("{page}:{}: names `{name}`, which does not exist", index + 1));
                }
            }
        }
    }
    findings
}

/// What stands between ``` fences is output and commands, not names of files.
fn lines_outside_code_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn backticked(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Targets of `[text](target)` within the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()).filter(|target| {
        let outside = target.contains("://") || target.starts_with("mailto:") || target.starts_with('#');
        !outside && !target.is_empty()
    })
}

/// Whether a word in backticks means a path of the repository: it looks like one, and either begins with one of
/// the root's folders or is a source file or a page by its ending. `a/<name>/b` and `*.log` are patterns.
fn names_a_path(tree: &Tree, name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-:#@".contains(&byte));
    if !plain || name.starts_with(['/', '-']) || name.contains("..") {
        return false;
    }
    let path = path_of(name);
    let source = [".rs", ".md"].iter().any(|ending| path.len() > ending.len() && path.ends_with(ending));
    let below_root = path.split_once('/').is_some_and(|(first, _)| tree.has(first));
    source || below_root
}

/// `broker/src/lib.rs:12`, `lib.rs::name` and `page.md#part` name the file before the mark.
fn path_of(name: &str) -> &str {
    name.split([':', '#']).next().unwrap_or_default().trim_end_matches('/')
}

fn exists(tree: &Tree, page: &str, name: &str) -> bool {
    let path = path_of(name).trim_start_matches("./");
    let mut folder: Vec<&str> = page.split('/').collect();
    folder.pop();
    let mut rest = path;
    while let Some(above) = rest.strip_prefix("../") {
        folder.pop();
        rest = above;
    }
    folder.push(rest);
    tree.has_suffix(path) || tree.has(&folder.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(page: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(page, text), ("docs/wire.md", ""), ("broker/src/handlers/produce.rs", "")]))
    }

    #[test]
    fn paths_that_exist_are_fine() {
        let text =
            "see `docs/wire.md`, `broker/src/handlers/`, `handlers/produce.rs:12` and `wire.md#frame`\n";
        assert!(findings("README.md", text).is_empty());
    }

    #[test]
    fn a_path_that_does_not_exist_is_found_with_its_line() {
        let found = findings("README.md", "\nsee `docs/nowhere.md`\n");
        assert_eq!(found, ["README.md:2: names `docs/nowhere.md`, which does not exist"]);
    }

    #[test]
    fn a_missing_source_file_is_found_by_its_ending() {
        assert_eq!(findings("README.md", "`handlers/consume.rs`\n").len(), 1);
    }

    #[test]
    fn a_broken_link_is_found_and_a_link_beside_the_page_is_not() {
        assert_eq!(findings("README.md", "[x](docs/gone.md)\n").len(), 1);
        assert!(
            findings("docs/on_disk.md", "[x](wire.md) [y](../docs/wire.md) [z](https://a.b/c.md)\n")
                .is_empty()
        );
    }

    #[test]
    fn commands_patterns_and_code_blocks_are_not_paths() {
        let text = "`--file F` `topics/<name>/x.rs` `a/b` `docs/*.md`\n```\n`docs/nowhere.md`\n```\n";
        assert!(findings("README.md", text).is_empty());
    }
}
