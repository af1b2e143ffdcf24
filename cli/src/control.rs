//! A running machine's control socket, `control` in its folder.

pub mod client;
pub mod message;
pub mod server;
pub mod statistics;
