//! The client against a broker made for tests, over real sockets.
#![forbid(unsafe_code)]

mod consuming;
mod producing;
mod support;
