//! Damages files at random, as media and people do: bits flip, blocks are zeroed, land in another place, or change places, ends are
//! lost, garbage is added, a folder or a link stands in a file's place, a cache is gone. The same seed does the same.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

const BLOCK: usize = 4096;

/// A small generator that needs nothing (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What was done to a file.
#[derive(Debug)]
pub struct Wound {
    pub path: PathBuf,
    pub what: &'static str,
    /// A place whose bytes are not what was written there, and the bytes. None where the file is gone, or ends early.
    pub offset: usize,
    pub bytes: Vec<u8>,
}

/// Every file below a folder that may be damaged, in an order that is always the same.
pub fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files_of(&path)),
            false if path.ends_with("LOCK") => {}
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Damages one of the files. None if what was drawn changes nothing.
pub fn damage(files: &[PathBuf], random: &mut Random) -> Option<Wound> {
    let path = files[random.below(files.len())].clone();
    let before = fs::read(&path).ok()?;
    let mut bytes = before.clone();
    let blocks = used_blocks(&bytes);
    if blocks.is_empty() {
        return None;
    }
    let at = blocks[random.below(blocks.len())];
    let other = blocks[random.below(blocks.len())];
    let end = bytes.len().min(at + BLOCK);
    let what = match random.below(10) {
        0 | 1 => {
            let byte = at + random.below(end - at);
            bytes[byte] ^= 1 << random.below(8);
            "a bit flipped"
        }
        2 => {
            bytes[at..end].fill(0);
            "a block zeroed"
        }
        3 => {
            let stray = stray_block(files, random)?;
            let len = stray.len().min(end - at);
            bytes[at..at + len].copy_from_slice(&stray[..len]);
            "a block of any file over a block"
        }
        4 => {
            let block = bytes[other..bytes.len().min(other + BLOCK)].to_vec();
            let len = block.len().min(end - at);
            bytes[at..at + len].copy_from_slice(&block[..len]);
            "a block of the same file over a block"
        }
        5 => {
            bytes.truncate(at + random.below(BLOCK).min(end - at));
            "cut short"
        }
        6 if at + BLOCK <= bytes.len() && other + BLOCK <= bytes.len() => {
            let (one, two) = (bytes[at..at + BLOCK].to_vec(), bytes[other..other + BLOCK].to_vec());
            bytes[at..at + BLOCK].copy_from_slice(&two);
            bytes[other..other + BLOCK].copy_from_slice(&one);
            "two blocks changed places"
        }
        7 => {
            fs::remove_file(&path).expect("removed");
            fs::create_dir(&path).expect("made");
            return Some(Wound { path, what: "a folder in its place", offset: 0, bytes: Vec::new() });
        }
        8 => {
            fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink("/nowhere", &path).expect("made");
            return Some(Wound { path, what: "a link in its place", offset: 0, bytes: Vec::new() });
        }
        _ if path.extension().is_some_and(|extension| extension == "index") => {
            fs::remove_file(&path).expect("removed");
            return Some(Wound { path, what: "removed", offset: 0, bytes: Vec::new() });
        }
        _ => {
            let garbage = stray_block(files, random)?;
            bytes.extend_from_slice(&garbage[..1 + random.below(garbage.len())]);
            "garbage behind the end"
        }
    };
    if bytes == before {
        return None;
    }
    fs::write(&path, &bytes).expect("written");
    let changed = before.iter().zip(&bytes).position(|(one, other)| one != other);
    let offset = changed.unwrap_or(before.len().min(bytes.len()));
    let bytes = bytes[offset..bytes.len().min(offset + 16)].to_vec();
    Some(Wound { path, what, offset, bytes })
}

/// Where there is something: most of a journal file is zeros, and damage there shows nothing.
fn used_blocks(bytes: &[u8]) -> Vec<usize> {
    let blocks = bytes.chunks(BLOCK).enumerate();
    blocks
        .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        .map(|(number, _)| number * BLOCK)
        .collect()
}

fn stray_block(files: &[PathBuf], random: &mut Random) -> Option<Vec<u8>> {
    let bytes = fs::read(&files[random.below(files.len())]).ok()?;
    let blocks = used_blocks(&bytes);
    let at = *blocks.get(random.below(blocks.len().max(1)))?;
    Some(bytes[at..bytes.len().min(at + BLOCK)].to_vec())
}

/// Whether what the wound has left is still in a file of that name, wherever it was moved to. Where there are no bytes, there is
/// nothing to keep.
pub fn is_kept(dir: &Path, wound: &Wound) -> bool {
    if wound.bytes.is_empty() {
        return true;
    }
    let until = wound.offset + wound.bytes.len();
    files_of(dir).iter().filter(|path| path.file_name() == wound.path.file_name()).any(|path| {
        fs::read(path).is_ok_and(|bytes| bytes.get(wound.offset..until) == Some(&wound.bytes[..]))
    })
}
