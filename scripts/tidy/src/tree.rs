//! The files of the repository, read once: paths relative to the root, with `/`, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

/// Build output and what belongs to other tools.
const SKIPPED: &[&str] = &["target", ".git"];

/// Every file by path, every folder, and the text of those that the checks read.
#[derive(Default)]
pub struct Tree {
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// Walks `root`. Symbolic links are not followed.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut tree = Tree::default();
        tree.walk(root, "")?;
        if !tree.files.contains("Cargo.toml") {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no Cargo.toml: not a workspace root"));
        }
        Ok(tree)
    }

    fn walk(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"))?;
                self.folders.insert(path);
            } else if kind.is_file() {
                if has_text(&path) {
                    self.texts.insert(path.clone(), fs::read_to_string(entry.path())?);
                }
                self.files.insert(path);
            }
        }
        Ok(())
    }

    /// A tree for a test: nothing is read from disk.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let mut folder = *path;
            while let Some((parent, _)) = folder.rsplit_once('/') {
                tree.folders.insert(parent.to_owned());
                folder = parent;
            }
            tree.files.insert((*path).to_owned());
            tree.texts.insert((*path).to_owned(), (*text).to_owned());
        }
        tree
    }

    /// The texts whose path ends with `suffix`.
    pub fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file or folder stands at this path from the root.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains(path) || self.folders.contains(path)
    }

    /// Whether some file or folder ends with this path: `handlers/produce.rs` names
    /// `broker/src/handlers/produce.rs`.
    pub fn has_suffix(&self, path: &str) -> bool {
        let tail = format!("/{path}");
        self.has(path) || self.files.iter().chain(&self.folders).any(|known| known.ends_with(&tail))
    }
}

fn has_text(path: &str) -> bool {
    [".rs", ".md", ".toml"].iter().any(|suffix| path.ends_with(suffix))
}
