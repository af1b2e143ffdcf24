//! What runs inside a guest, and the protocol that its host speaks with it.
//!
//! [`protocol`] is compiled by both sides. [`agent`] runs programs for a host over any byte stream,
//! and needs no machine. [`init`] adds the duties of process 1 to it, [`visit`] is the
//! process that serves one more connection, [`roles`] what else the host has it do, and [`archive`]
//! how files come and go, [`processes`] what is told of those that run, [`probe`] how a service is
//! looked at, [`notify`] how it speaks for itself, [`memory`] whether there
//! was enough, [`system`] what a NixOS system needs before it starts. [`outbox`], [`inlet`] and [`endpoint`] are what both sides carry connections with.

pub mod agent;
pub mod archive;
pub mod descriptors;
pub mod endpoint;
pub mod init;
pub mod inlet;
pub mod memory;
pub mod notify;
pub mod outbox;
pub mod probe;
pub mod processes;
pub mod protocol;
pub mod registration;
pub mod renewal;
pub mod roles;
pub mod system;
pub mod visit;
