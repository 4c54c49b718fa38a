//! What stands in a record behind its stamp.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::Random;

/// Bytes of a payload are made in pieces of this size, each in part random and in part zero.
const PIECE_BYTES: usize = 256;
/// A file of payloads is held in memory; a larger one would be most of what the generator uses.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Where payloads come from, as a flag says it.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Random bytes, of which a good codec can remove this share (0 to 1).
    Compressible(f64),
    /// The lines of a file in turn; their lengths then are the sizes.
    Lines(PathBuf),
}

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("lines:") {
            return Ok(Payload::Lines(PathBuf::from(path)));
        }
        match text {
            "random" => Ok(Payload::Compressible(0.0)),
            "zeros" => Ok(Payload::Compressible(1.0)),
            _ => {
                let share = text.strip_prefix("compressible:").and_then(|share| share.parse().ok());
                match share {
                    Some(share) if (0.0..=1.0).contains(&share) => Ok(Payload::Compressible(share)),
                    _ => Err(format!(
                        "`{text}` is no payload: want `random`, `zeros`, `compressible:SHARE` (0 to 1) or `lines:FILE`"
                    )),
                }
            }
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Compressible(share) => write!(f, "compressible:{share}"),
            Payload::Lines(path) => write!(f, "lines:{}", path.display()),
        }
    }
}

/// Makes payloads. Clones share the file.
#[derive(Clone, Debug)]
pub enum PayloadSource {
    /// See [`Payload::Compressible`]: how many bytes of each piece are random.
    Compressible(usize),
    /// See [`Payload::Lines`].
    Lines(Arc<Lines>),
}

/// A file and where its lines are.
#[derive(Debug)]
pub struct Lines {
    text: Vec<u8>,
    /// Begin and end of each line.
    places: Vec<(usize, usize)>,
}

impl PayloadSource {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// In words for a person, if the file cannot be used.
    pub fn open(payload: &Payload) -> Result<PayloadSource, String> {
        match payload {
            Payload::Compressible(share) => {
                Ok(PayloadSource::Compressible(((1.0 - share) * PIECE_BYTES as f64).round() as usize))
            }
            Payload::Lines(path) => {
                let lines =
                    read_lines(path).map_err(|error| format!("--payload {}: {error}", path.display()))?;
                Ok(PayloadSource::Lines(Arc::new(lines)))
            }
        }
    }

    /// The length that record `number` must have behind its stamp; none if the sizes say so.
    pub fn length(&self, number: u64) -> Option<usize> {
        match self {
            PayloadSource::Compressible(_) => None,
            PayloadSource::Lines(lines) => Some(lines.line(number).len()),
        }
    }

    /// Writes the payload of record `number`.
    pub fn fill(&self, number: u64, random: &mut Random, into: &mut [u8]) {
        match self {
            PayloadSource::Compressible(random_bytes) => {
                for piece in into.chunks_mut(PIECE_BYTES) {
                    let (noise, zeros) = piece.split_at_mut((*random_bytes).min(piece.len()));
                    random.fill(noise);
                    zeros.fill(0);
                }
            }
            PayloadSource::Lines(lines) => into.copy_from_slice(lines.line(number)),
        }
    }
}

impl Lines {
    fn line(&self, number: u64) -> &[u8] {
        let (begin, end) = self.places[(number % self.places.len() as u64) as usize];
        &self.text[begin..end]
    }
}

fn read_lines(path: &Path) -> io::Result<Lines> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE_BYTES {
        let words = format!("{size} bytes are too many: want at most {MAX_FILE_BYTES}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    let text = std::fs::read(path)?;
    let mut places = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let end = begin + line.strip_suffix(b"\n").unwrap_or(line).len();
        places.push((begin, end));
        begin += line.len();
    }
    if places.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
    }
    Ok(Lines { text, places })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, len: usize) -> Vec<u8> {
        let payload: Payload = text.parse().expect("a good payload");
        let source = PayloadSource::open(&payload).expect("no file is needed");
        let mut bytes = vec![1; len];
        source.fill(0, &mut Random::new(5, 0), &mut bytes);
        bytes
    }

    #[test]
    fn the_share_that_can_be_removed_is_what_was_asked_for() {
        for (text, share) in [("random", 0.0), ("compressible:0.25", 0.25), ("zeros", 1.0)] {
            let zeros = filled(text, 64 << 10).iter().filter(|byte| **byte == 0).count() as f64 / 65536.0;
            // One random byte in 256 is zero as well.
            assert!((zeros - share).abs() < 0.01, "{text}: {zeros}");
        }
    }

    #[test]
    fn lines_come_in_turn_without_their_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "first\n\nthird").expect("it can be written");
        let source = PayloadSource::open(&Payload::Lines(path)).expect("it can be read");
        let line = |number| {
            let mut bytes = vec![0; source.length(number).expect("lines have lengths")];
            source.fill(number, &mut Random::new(0, 0), &mut bytes);
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!([line(0), line(1), line(2), line(3)], ["first", "", "third", "first"]);
    }

    #[test]
    fn a_missing_or_empty_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("empty");
        let error = PayloadSource::open(&Payload::Lines(path.clone())).expect_err("it is missing");
        assert!(error.contains("empty"), "{error}");
        std::fs::write(&path, "").expect("it can be written");
        assert!(
            PayloadSource::open(&Payload::Lines(path))
                .expect_err("it is empty")
                .contains("the file is empty")
        );
    }

    #[test]
    fn nonsense_is_told_what_is_allowed() {
        for text in ["", "compressible:2", "compressible:x", "file"] {
            assert!(text.parse::<Payload>().is_err_and(|error| error.contains("lines:FILE")), "{text:?}");
        }
    }
}
