//! What each request does, a file a kind: decode, one operation, encode. The table calls them, on the shard that owns what is
//! asked for.

pub mod fetch;
pub mod metadata;
pub mod offsets;
pub mod open;
pub mod produce;
pub mod subscribe;
pub mod topics;
