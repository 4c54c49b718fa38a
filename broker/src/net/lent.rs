//! Received bytes that another thread looks at, and gives back.

use bytes::Bytes;

/// A batch somewhere in memory that another thread may look at.
pub trait Lent: Send + 'static {
    /// The batch.
    fn batch(&self) -> &[u8];
}

impl Lent for Bytes {
    fn batch(&self) -> &[u8] {
        self
    }
}
