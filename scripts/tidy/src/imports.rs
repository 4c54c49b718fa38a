//! What each Rust file of a crate imports from which other: modules, `use` trees, paths, re-exports, as far as names alone tell.
//!
//! An item that a parent re-exports counts as imported from the file that defines it. Declaring a module, or re-exporting from
//! it, is no import. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::blank_comments_and_strings;
use crate::tree::Tree;

/// How often a re-export may lead to another.
const MAX_REEXPORTS: usize = 8;

/// One file as a module.
struct Module<'a> {
    file: String,
    parent: Option<usize>,
    children: BTreeMap<&'a str, usize>,
    /// Names that `use` brings in, and where from. The public ones are re-exports.
    names: BTreeMap<&'a str, Import<'a>>,
    paths: Vec<Vec<&'a str>>,
}

#[derive(Clone)]
struct Import<'a> {
    path: Vec<&'a str>,
    is_public: bool,
}

/// An import between two files of a crate, and the item's name.
pub type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// The imports between the files below `root` (`src/lib.rs` or `src/main.rs` of a crate), tests left out.
pub fn of(tree: &Tree, root: &str) -> Edges {
    let codes: BTreeMap<&str, String> =
        tree.texts(".rs").map(|(path, text)| (path, blank_comments_and_strings(text))).collect();
    let mut modules = Vec::new();
    add(&codes, root, None, &mut modules);
    let mut edges = Edges::new();
    for (index, module) in modules.iter().enumerate() {
        for path in &module.paths {
            let Some((target, item)) = resolve(&modules, index, path, MAX_REEXPORTS) else { continue };
            if target != index {
                let from = edges.entry(module.file.clone()).or_default();
                from.entry(modules[target].file.clone()).or_insert_with(|| item.to_owned());
            }
        }
    }
    edges
}

fn add<'a>(
    codes: &'a BTreeMap<&str, String>,
    file: &str,
    parent: Option<usize>,
    modules: &mut Vec<Module<'a>>,
) -> Option<usize> {
    let parsed = Parser::parse(tokens(codes.get(file)?));
    let index = modules.len();
    modules.push(Module {
        file: file.to_owned(),
        parent,
        children: BTreeMap::new(),
        names: parsed.names,
        paths: parsed.paths,
    });
    let folder = match file.rsplit_once('/') {
        Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder.to_owned(),
        _ => file.trim_end_matches(".rs").to_owned(),
    };
    for name in parsed.children {
        let flat = format!("{folder}/{name}.rs");
        let nested = format!("{folder}/{name}/mod.rs");
        let found = if codes.contains_key(flat.as_str()) { flat } else { nested };
        if let Some(child) = add(codes, &found, Some(index), modules) {
            modules[index].children.insert(name, child);
        }
    }
    Some(index)
}

/// The module that defines what `path`, written in module `from`, names, and the item's name. None for what comes from
/// elsewhere, and for a module itself.
fn resolve<'a>(
    modules: &[Module<'a>],
    from: usize,
    path: &[&'a str],
    reexports: usize,
) -> Option<(usize, &'a str)> {
    let (first, rest) = path.split_first()?;
    let module = &modules[from];
    match *first {
        "crate" => descend(modules, 0, rest, reexports),
        "self" => descend(modules, from, rest, reexports),
        "super" => match rest.first() {
            Some(&"super") => resolve(modules, module.parent?, rest, reexports),
            _ => descend(modules, module.parent?, rest, reexports),
        },
        name => {
            if let Some(child) = module.children.get(name) {
                return descend(modules, *child, rest, reexports);
            }
            let import = module.names.get(name).filter(|import| import.path != path)?;
            let whole: Vec<_> = import.path.iter().chain(rest).copied().collect();
            resolve(modules, from, &whole, reexports.checked_sub(1)?)
        }
    }
}

fn descend<'a>(
    modules: &[Module<'a>],
    at: usize,
    path: &[&'a str],
    reexports: usize,
) -> Option<(usize, &'a str)> {
    let (first, rest) = path.split_first()?;
    let module = &modules[at];
    if let Some(child) = module.children.get(first) {
        return descend(modules, *child, rest, reexports);
    }
    if let Some(import) = module.names.get(first).filter(|import| import.is_public) {
        let whole: Vec<_> = import.path.iter().chain(rest).copied().collect();
        return resolve(modules, at, &whole, reexports.checked_sub(1)?);
    }
    Some((at, first))
}

#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum Token<'a> {
    Name(&'a str),
    /// `::`
    Sep,
    Mark(u8),
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        at += 1;
        match bytes[start] {
            byte if is_name(byte) => {
                at += bytes[at..].iter().take_while(|byte| is_name(**byte)).count();
                out.push(Token::Name(&code[start..at]));
            }
            b':' if bytes.get(at) == Some(&b':') => {
                at += 1;
                out.push(Token::Sep);
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => out.push(Token::Mark(byte)),
        }
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    children: Vec<&'a str>,
    names: BTreeMap<&'a str, Import<'a>>,
    paths: Vec<Vec<&'a str>>,
}

impl<'a> Parser<'a> {
    fn parse(tokens: Vec<Token<'a>>) -> Parser<'a> {
        let mut parser =
            Parser { tokens, at: 0, children: Vec::new(), names: BTreeMap::new(), paths: Vec::new() };
        while parser.at < parser.tokens.len() {
            parser.item();
        }
        parser
    }

    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn item(&mut self) {
        use Token::{Mark, Name};
        let test = [Mark(b'#'), Mark(b'['), Name("cfg"), Mark(b'('), Name("test"), Mark(b')'), Mark(b']')];
        if self.tokens[self.at..].starts_with(&test) {
            self.at += test.len();
            return self.skip_item();
        }
        match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some(Name("use")), ..) => {
                let is_public = self.is_public();
                self.at += 1;
                self.use_tree(&[], is_public);
            }
            (Some(Name("mod")), Some(Name(child)), Some(Mark(b';'))) => {
                self.children.push(child);
                self.at += 3;
            }
            (Some(Name(_)), Some(Token::Sep), _) => {
                let path = self.path();
                self.paths.push(path);
            }
            _ => self.at += 1,
        }
    }

    /// Whether `pub`, or `pub(..)`, stands before.
    fn is_public(&self) -> bool {
        let before = &self.tokens[..self.at];
        match before.last() {
            Some(Token::Mark(b')')) => before.iter().rev().nth(3) == Some(&Token::Name("pub")),
            last => last == Some(&Token::Name("pub")),
        }
    }

    /// Passes over what follows an attribute: to its `;`, or the end of its braces.
    fn skip_item(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.peek(0) {
            self.at += 1;
            match token {
                Token::Mark(b'{') => depth += 1,
                Token::Mark(b'}') => depth -= 1,
                Token::Mark(b';') => {}
                _ => continue,
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// `a::b::c`, without what follows a `::` that is no name.
    fn path(&mut self) -> Vec<&'a str> {
        let mut path = Vec::new();
        while let Some(Token::Name(name)) = self.peek(0) {
            path.push(name);
            self.at += 1;
            match (self.peek(0), self.peek(1)) {
                (Some(Token::Sep), Some(Token::Name(_))) => self.at += 1,
                _ => break,
            }
        }
        path
    }

    fn use_tree(&mut self, prefix: &[&'a str], is_public: bool) {
        let mut path = prefix.to_vec();
        path.extend(self.path());
        match self.peek(0) {
            Some(Token::Sep) if self.peek(1) == Some(Token::Mark(b'{')) => {
                self.at += 2;
                while self.peek(0).is_some_and(|token| token != Token::Mark(b'}')) {
                    self.use_tree(&path, is_public);
                    if self.peek(0) == Some(Token::Mark(b',')) {
                        self.at += 1;
                    }
                }
                self.at += 1;
            }
            // `::*`: which names come in is not known.
            Some(Token::Sep) => self.at += 2,
            _ => self.bring_in(path, is_public),
        }
    }

    fn bring_in(&mut self, mut path: Vec<&'a str>, is_public: bool) {
        if path.last() == Some(&"self") {
            path.pop();
        }
        let Some(mut name) = path.last().copied() else {
            // Nothing that is read here: go on behind it.
            self.at += 1;
            return;
        };
        if let (Some(Token::Name("as")), Some(Token::Name(other))) = (self.peek(0), self.peek(1)) {
            name = other;
            self.at += 2;
        }
        if !is_public {
            self.paths.push(path.clone());
        }
        self.names.insert(name, Import { path, is_public });
    }
}

/// The groups of files that import each other in a circle, each sorted.
pub fn circles(edges: &Edges) -> Vec<Vec<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|file| (file.as_str(), reachable(edges, file))).collect();
    let mut circles: Vec<Vec<&str>> = Vec::new();
    for (file, reaches) in &reached {
        if !reaches.contains(file) || circles.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        let back = |other: &&&str| reached.get(**other).is_some_and(|reaches| reaches.contains(file));
        circles.push(reaches.iter().filter(back).copied().collect());
    }
    circles
}

fn reachable<'a>(edges: &'a Edges, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut left = vec![from];
    while let Some(file) = left.pop() {
        for target in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(target.as_str()) {
                left.push(target);
            }
        }
    }
    found
}
