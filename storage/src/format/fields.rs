//! What the formats share: fields at fixed places, a version, and why bytes are refused.

/// The version of every file format here. A file of another version is refused, never guessed at.
pub const FORMAT_VERSION: u32 = 1;

/// Why a file's header or contents were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end early.
    #[error("cut short")]
    Short,
    /// The first bytes are not this format's.
    #[error("not a file of this kind")]
    Magic,
    /// Another version wrote it.
    #[error("format version {0}, this program knows {FORMAT_VERSION}")]
    Version(u32),
    /// A checksum does not fit its bytes.
    #[error("checksum does not match")]
    Checksum,
    /// A field has a value that nothing writes.
    #[error("impossible {0}")]
    Field(&'static str),
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(super) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array_at(bytes, at))
}

/// The caller has checked that the bytes are there: every format checks its length once, at the front.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(super) fn put(out: &mut [u8], at: usize, field: &[u8]) {
    out[at..at + field.len()].copy_from_slice(field);
}
